"""Moving the money of one verified permit, to an end that the chain proves.

Theory of operation.  A settlement is a short list of contract calls (one for EIP-3009, two for EIP-2612) sent as transactions
of one account with rising numbers.  It is journaled at every step, in this order: the intent before anything is signed, the
signed bytes before anything is broadcast, the outcome before it is reported.  Whatever crashes in between is taken up from the
journal, with :class:`Resume`, at the place the journal shows.

Rules:

* The question is never "did our transaction succeed?" but "did the chain execute this permit?"  Receipts are judged by their
  logs; a revert, an expiry or a rejection is taken to the token contract (CLOSING) before anything is said (law 7).
* An answer that was lost counts as sent.  Once sent, a settlement ends CONFIRMED or VOID, never NOT_SENT.
* A second transaction for the same permit is safe: the contract executes it once.  So a stuck one is replaced, both fees
  raised by an eighth, and one whose number was taken gets a new number.
* Every receipt is fetched anew at every look.  A reorganisation is nothing special: the receipt is absent again.
* Where one permit takes two transactions, two transfers must never be alive at once: such a bundle gets new numbers only
  when nothing of it was ever sent, or when every transfer of it was mined and failed.
* Numbers that will never be mined are filled with a transaction that does nothing, so that no later payment waits for them.

Not its business: who waits for it (the settler answers Pending when patience ends), which account signs, what fees are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import auto
from typing import Any, ClassVar, NamedTuple

from x402core.commands import (
    AllocateTxNumbers,
    Broadcast,
    Command,
    FillTxNumbers,
    GetReceipts,
    Lane,
    PersistIntent,
    PersistOutcome,
    PersistSent,
    PersistSignedTx,
    ReadChain,
    Rebroadcast,
    Receipts,
    Report,
    ReturnTxNumbers,
    Sent,
    SignTransactions,
    WakeAt,
)
from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.events import Failed, Pending, Resume, Settle, Settled, Settlement, Unsettled, same_payment
from x402core.evm.transaction import Transaction, transaction_hash
from x402core.ledger import Attempt, SettlementRecord
from x402core.reads import Facts, TxReceipt
from x402core.schemes import Closing, of
from x402core.values import Address, Hash32, Millis, Seconds, chain_id, seconds

from .machine import Commands, Input, Machine, Row, State, Trace

__all__ = ["SettlementInput", "SettlementMachine", "SettlementPolicy", "SettlementState"]


@dataclass(frozen=True, slots=True)
class SettlementPolicy:
    """How patient and how thorough a settlement is.

    ``confirmations``: blocks on top of and including the one that paid.  ``look_first`` and ``look_most``: milliseconds
    between looks, doubling from the first to the second.  ``stuck_after``: milliseconds without a receipt before both fees
    are raised by an eighth.  ``fee_most``: wei per gas that no transaction ever offers more than.  ``most_attempts``:
    signings after which a permit whose own transactions all failed is given up.  ``grace``: seconds past a permit's end
    before it is given up.
    """

    confirmations: int = 1
    look_first: Millis = Millis(10)
    look_most: Millis = Millis(4000)
    stuck_after: Millis = Millis(45_000)
    most_attempts: int = 8
    fee_most: int = 500 * 10**9
    grace: Seconds = Seconds(30)

    def __post_init__(self) -> None:
        for name in ("confirmations", "look_first", "look_most", "stuck_after", "most_attempts", "fee_most"):
            if getattr(self, name) <= 0:
                raise LocalProtocolError("must be positive", field=name)


class SettlementState(State):
    """Where a settlement stands."""

    NEW = auto()
    RECORDING = auto()
    RESTING = auto()
    NUMBERING = auto()
    SIGNING = auto()
    JOURNALING = auto()
    SENDING = auto()
    WATCHING = auto()
    LOOKING = auto()
    RESIGNING = auto()
    REJOURNALING = auto()
    CLOSING = auto()
    PROVING = auto()
    CONFIRMED = auto()
    VOID = auto()
    NOT_SENT = auto()


class SettlementInput(Input):
    """What happened, named by outcome."""

    BEGIN = auto()
    FRESH = auto()
    JOURNALED = auto()
    ENDED_PAID = auto()
    ENDED_UNPAID = auto()
    STORED = auto()
    ANOTHERS = auto()
    NUMBERED = auto()
    UNUSABLE = auto()
    SIGNED = auto()
    ACCEPTED = auto()
    UNCLEAR = auto()
    NUMBER_TAKEN = auto()
    REJECTED = auto()
    TICK = auto()
    EXPIRED = auto()
    RECEIPT_ABSENT = auto()
    RECEIPT_ABSENT_NUMBER_TAKEN = auto()
    STUCK = auto()
    RECEIPT_SHALLOW = auto()
    RECEIPT_PAID = auto()
    RECEIPT_PAID_OURS_UNMINED = auto()
    RECEIPT_UNPAID = auto()
    USED = auto()
    USED_OURS_UNMINED = auto()
    UNUSED_FOR_GOOD = auto()
    UNUSED_FOR_GOOD_UNSENT = auto()
    UNUSED_YET = auto()
    UNUSED_YET_UNSENT = auto()
    UNUSED_RETRY = auto()
    NONE_PAID = auto()
    NONE_PAID_UNMINED = auto()
    FAILED = auto()


S, I = SettlementState, SettlementInput  # noqa: E741


class _Signed(NamedTuple):
    raws: tuple[bytes, ...]
    hashes: tuple[Hash32, ...]


class SettlementMachine(Machine[SettlementState, SettlementInput]):
    """One settlement by ``account``; begin with ``Settle(proof)`` or ``Resume(record)``.  It is never cancelled."""

    __slots__ = ("account", "candidate", "failed", "lane", "looks", "mined", "number_taken", "ours", "policy", "record", "sent")

    TABLE: ClassVar[tuple[Row, ...]] = (
        Row(S.NEW, I.BEGIN, S.RECORDING, "do_record", (PersistIntent,)),
        Row(S.NEW, I.FRESH, S.NUMBERING, "do_take_up", (AllocateTxNumbers,)),
        Row(S.NEW, I.JOURNALED, S.LOOKING, "do_take_up_sent", (GetReceipts,)),
        Row(S.NEW, I.ENDED_PAID, S.CONFIRMED, "do_report_stored", (Report,)),
        Row(S.NEW, I.ENDED_UNPAID, S.VOID, "do_report_stored", (Report,)),
        Row(S.RECORDING, I.STORED, S.NUMBERING, "do_number", (AllocateTxNumbers,)),
        Row(S.RECORDING, I.FRESH, S.NUMBERING, "do_take_up", (AllocateTxNumbers,)),
        Row(S.RECORDING, I.JOURNALED, S.LOOKING, "do_take_up_sent", (GetReceipts,)),
        Row(S.RECORDING, I.ENDED_PAID, S.CONFIRMED, "do_report_stored", (Report,)),
        Row(S.RECORDING, I.ENDED_UNPAID, S.VOID, "do_report_stored", (Report,)),
        Row(S.RECORDING, I.ANOTHERS, S.NOT_SENT, "do_report_anothers", (Report,)),
        Row(S.RECORDING, I.FAILED, S.NOT_SENT, "do_report_unrecorded", (Report,)),
        Row(S.NUMBERING, I.NUMBERED, S.SIGNING, "do_sign", (SignTransactions,)),
        Row(S.NUMBERING, I.UNUSABLE, S.RESTING, "do_return_rest", (ReturnTxNumbers, WakeAt)),
        Row(S.NUMBERING, I.FAILED, S.RESTING, "do_rest", (WakeAt,)),
        Row(S.SIGNING, I.SIGNED, S.JOURNALING, "do_journal", (PersistSignedTx,)),
        Row(S.SIGNING, I.FAILED, S.RESTING, "do_return_rest", (ReturnTxNumbers, WakeAt)),
        Row(S.JOURNALING, I.STORED, S.SENDING, "do_send", (Broadcast,)),
        Row(S.JOURNALING, I.FAILED, S.RESTING, "do_rest", (WakeAt,)),
        Row(S.RESTING, I.TICK, S.NUMBERING, "do_number", (AllocateTxNumbers,)),
        Row(S.RESTING, I.EXPIRED, S.CLOSING, "do_ask_contract", (ReadChain,)),
        Row(S.SENDING, I.ACCEPTED, S.WATCHING, "do_watch_sent", (PersistSent, WakeAt)),
        Row(S.SENDING, I.UNCLEAR, S.WATCHING, "do_watch_sent", (PersistSent, WakeAt)),
        Row(S.SENDING, I.NUMBER_TAKEN, S.LOOKING, "do_look_for_own", (GetReceipts,)),
        Row(S.SENDING, I.REJECTED, S.CLOSING, "do_ask_contract", (ReadChain,)),
        Row(S.WATCHING, I.TICK, S.LOOKING, "do_look", (GetReceipts,)),
        Row(S.LOOKING, I.RECEIPT_ABSENT, S.WATCHING, "do_rebroadcast", (Rebroadcast, WakeAt)),
        Row(S.LOOKING, I.RECEIPT_ABSENT_NUMBER_TAKEN, S.RESTING, "do_return_rest", (ReturnTxNumbers, WakeAt)),
        Row(S.LOOKING, I.STUCK, S.RESIGNING, "do_raise_fees", (SignTransactions,)),
        Row(S.LOOKING, I.RECEIPT_SHALLOW, S.WATCHING, "do_watch", (WakeAt,)),
        Row(S.LOOKING, I.RECEIPT_PAID, S.CONFIRMED, "do_confirm", (PersistOutcome, Report)),
        Row(S.LOOKING, I.RECEIPT_PAID_OURS_UNMINED, S.CONFIRMED, "do_confirm_fill", (FillTxNumbers, PersistOutcome, Report)),
        Row(S.LOOKING, I.RECEIPT_UNPAID, S.CLOSING, "do_ask_contract_mined", (ReadChain,)),
        Row(S.LOOKING, I.EXPIRED, S.CLOSING, "do_ask_contract", (ReadChain,)),
        Row(S.LOOKING, I.FAILED, S.WATCHING, "do_watch", (WakeAt,)),
        Row(S.RESIGNING, I.SIGNED, S.REJOURNALING, "do_journal", (PersistSignedTx,)),
        Row(S.RESIGNING, I.FAILED, S.WATCHING, "do_watch", (WakeAt,)),
        Row(S.REJOURNALING, I.STORED, S.SENDING, "do_send", (Broadcast,)),
        Row(S.REJOURNALING, I.FAILED, S.WATCHING, "do_watch", (WakeAt,)),
        Row(S.CLOSING, I.USED, S.CONFIRMED, "do_confirm", (PersistOutcome, Report)),
        Row(S.CLOSING, I.USED_OURS_UNMINED, S.CONFIRMED, "do_confirm_fill", (FillTxNumbers, PersistOutcome, Report)),
        Row(S.CLOSING, I.UNUSED_FOR_GOOD, S.PROVING, "do_look", (GetReceipts,)),
        Row(S.CLOSING, I.UNUSED_FOR_GOOD_UNSENT, S.NOT_SENT, "do_give_up", (ReturnTxNumbers, PersistOutcome, Report)),
        Row(S.CLOSING, I.UNUSED_YET, S.WATCHING, "do_rebroadcast", (Rebroadcast, WakeAt)),
        Row(S.CLOSING, I.UNUSED_YET_UNSENT, S.RESTING, "do_return_rest", (ReturnTxNumbers, WakeAt)),
        Row(S.CLOSING, I.UNUSED_RETRY, S.RESTING, "do_rest", (WakeAt,)),
        Row(S.CLOSING, I.FAILED, S.WATCHING, "do_watch", (WakeAt,)),
        Row(S.PROVING, I.RECEIPT_PAID, S.CONFIRMED, "do_confirm", (PersistOutcome, Report)),
        Row(S.PROVING, I.RECEIPT_PAID_OURS_UNMINED, S.CONFIRMED, "do_confirm_fill", (FillTxNumbers, PersistOutcome, Report)),
        Row(S.PROVING, I.RECEIPT_SHALLOW, S.WATCHING, "do_watch", (WakeAt,)),
        Row(S.PROVING, I.NONE_PAID, S.VOID, "do_void", (PersistOutcome, Report)),
        Row(S.PROVING, I.NONE_PAID_UNMINED, S.VOID, "do_void_fill", (FillTxNumbers, PersistOutcome, Report)),
        Row(S.PROVING, I.FAILED, S.WATCHING, "do_watch", (WakeAt,)),
    )
    START = S.NEW
    ENDS = frozenset({S.CONFIRMED, S.VOID, S.NOT_SENT})
    BEGINS: ClassVar[Mapping[type, str]] = {Settle: "on_begin", Resume: "on_resume"}
    ANSWERS: ClassVar[Mapping[type[Command[Any]], str]] = {
        PersistIntent: "on_recorded",
        AllocateTxNumbers: "on_numbered",
        SignTransactions: "on_signed",
        PersistSignedTx: "on_journaled",
        Broadcast: "on_sent",
        WakeAt: "on_tick",
        GetReceipts: "on_receipts",
        ReadChain: "on_facts",
    }
    FAILURES: ClassVar[Mapping[type[Command[Any]], Input]] = {
        PersistIntent: I.FAILED,
        AllocateTxNumbers: I.FAILED,
        SignTransactions: I.FAILED,
        PersistSignedTx: I.FAILED,
        Broadcast: I.UNCLEAR,
        WakeAt: I.TICK,
        GetReceipts: I.FAILED,
        ReadChain: I.FAILED,
    }

    def __init__(self, policy: SettlementPolicy, account: Address, *, trace: Trace | None = None) -> None:
        super().__init__(trace=trace)
        self.policy = policy
        self.account = account
        self.record: SettlementRecord | None = None
        self.lane: Lane | None = None
        self.sent = False  # true once a broadcast may have reached any node
        self.number_taken = False
        self.failed: TxReceipt | None = None  # our own money-moving transaction, mined and not paid
        self.ours: frozenset[int] = frozenset()  # numbers handed to us and not given back
        self.mined: frozenset[int] = frozenset()  # those of them the last look saw mined
        self.candidate: SettlementRecord | None = None  # signed, but not yet known to be journaled
        self.looks = 0

    @property
    def outlook(self) -> Settlement:
        """What can be said of the money right now: the outcome once there is one, else Pending or a failure so far."""
        record = self._record
        if record.outcome is not None:
            return record.outcome
        permit = record.permit
        if self.failed is not None:
            return Unsettled(Reason.TRANSACTION_FAILED, permit.network, permit.payer, (self.failed.transaction,), final=False)
        return Pending(permit.network, permit.payer, record.hashes if self.sent else ())

    @property
    def _record(self) -> SettlementRecord:
        assert self.record is not None
        return self.record

    # ------------------------------------------------------------------------------------------------------- classify

    def on_begin(self, event: Settle, _now: Millis) -> tuple[SettlementInput, object]:
        """A verified permit is to be settled."""
        return I.BEGIN, event

    def on_resume(self, event: Resume, _now: Millis) -> tuple[SettlementInput, object]:
        """A journaled settlement is taken up again."""
        return _stored(event.record), event.record

    def on_recorded(self, stored: SettlementRecord | None, _now: Millis) -> tuple[SettlementInput, object]:
        """The intent is journaled, or was already."""
        if stored is None:
            return I.STORED, None
        if not same_payment(stored.offer, self._record.offer):  # a permit alone does not always say whom it pays
            return I.ANOTHERS, None
        return _stored(stored), stored

    def on_numbered(self, lane: Lane, now: Millis) -> tuple[SettlementInput, object]:
        """Numbers and fees are in hand: too late, where the permit has ended since; fees above the policy's are waited out."""
        late = self._expired(seconds(now))
        return (I.UNUSABLE if late or lane.max_fee > self.policy.fee_most else I.NUMBERED), lane

    def on_signed(self, signatures: tuple[bytes, ...], _now: Millis) -> tuple[SettlementInput, object]:
        """The account has signed; what is no signature counts as a failure to sign."""
        assert isinstance(self.awaiting, SignTransactions)
        transactions = self.awaiting.transactions
        try:
            raws = tuple(tx.sign_with(signature) for tx, signature in zip(transactions, signatures, strict=True))
        except (RemoteProtocolError, ValueError):
            return I.FAILED, None
        return I.SIGNED, _Signed(raws, tuple(transaction_hash(raw) for raw in raws))

    def on_journaled(self, _answer: None, _now: Millis) -> tuple[SettlementInput, object]:
        """The signed bytes are journaled: only now may they be broadcast."""
        return I.STORED, None

    def on_sent(self, sent: Sent, _now: Millis) -> tuple[SettlementInput, object]:
        """A node has answered a broadcast."""
        return _SENT[sent], None

    def on_tick(self, _answer: None, now: Millis) -> tuple[SettlementInput, object]:
        """Time has passed."""
        resting = self.state is S.RESTING
        return (I.EXPIRED if resting and self._expired(seconds(now)) else I.TICK), None

    def on_receipts(self, seen: Receipts, now: Millis) -> tuple[SettlementInput, object]:
        """Receipts were fetched: what do their logs prove?"""
        record, scheme = self._record, of(self._record.offer)
        receipts = [receipt for receipt in seen.receipts if receipt is not None]
        hashes = {receipt.transaction for receipt in receipts}
        self.mined = frozenset(n for a in record.attempts for n, h in zip(a.numbers, a.hashes, strict=True) if h in hashes)
        for receipt in receipts:
            if scheme.paid(record.permit, record.offer, receipt):
                if not self._deep(receipt.block, seen.head):
                    return I.RECEIPT_SHALLOW, None
                return (I.RECEIPT_PAID_OURS_UNMINED if self._unmined else I.RECEIPT_PAID), receipt
        if self.state is S.PROVING:
            return (I.NONE_PAID_UNMINED if self._unmined else I.NONE_PAID), None
        if not record.attempts:
            return I.EXPIRED, None
        movers = {attempt.hashes[-1] for attempt in record.attempts}
        failed = [receipt for receipt in receipts if receipt.transaction in movers]
        if failed and all(attempt.numbers[-1] in self.mined for attempt in record.attempts):  # no transfer is left alive
            deep = self._deep(failed[-1].block, seen.head)
            return (I.RECEIPT_UNPAID if deep else I.RECEIPT_SHALLOW), (failed[-1] if deep else None)
        return self._absent(receipts, seen, now), None

    def _absent(self, receipts: list[TxReceipt], seen: Receipts, now: Millis) -> SettlementInput:
        """Name the case of a payment that no receipt decides."""
        attempt = self._record.attempts[-1]
        single = len(attempt.hashes) == 1
        stuck = self._stuck(attempt, now)
        if self._expired(seconds(now)) and self._expired(seen.time):
            return I.STUCK if stuck and receipts else I.EXPIRED  # half a bundle is mined: its end no longer expires
        if self.number_taken and not receipts and (single or not self.sent):
            return I.RECEIPT_ABSENT_NUMBER_TAKEN
        return I.STUCK if stuck else I.RECEIPT_ABSENT

    def _stuck(self, attempt: Attempt, now: Millis) -> bool:
        alive = attempt.numbers[-1] not in self.mined
        late = now >= attempt.at + self.policy.stuck_after
        return self.sent and alive and late and _raise(attempt.max_fee) <= self.policy.fee_most

    @property
    def _unmined(self) -> tuple[int, ...]:
        return tuple(sorted(self.ours - self.mined))

    def on_facts(self, facts: Facts, _now: Millis) -> tuple[SettlementInput, object]:
        """The token contract has been asked what became of the permit."""
        record = self._record
        closing, proof = of(record.offer).close(record.permit, record.offer, facts, self.failed)
        deep = proof is not None and self._deep(proof.block, facts.number)
        if closing is Closing.USED and deep:
            return (I.USED_OURS_UNMINED if self._unmined else I.USED), proof
        final = closing is Closing.UNUSED_FINAL or (closing is Closing.CANCELLED and deep)
        final = final or (closing is Closing.UNUSED_RETRY and len(record.attempts) >= self.policy.most_attempts)
        if not self.sent and (final or closing is Closing.UNUSED_ALLOWED):
            return I.UNUSED_FOR_GOOD_UNSENT, None
        if final:
            return I.UNUSED_FOR_GOOD, None
        if closing is Closing.UNUSED_RETRY:
            return I.UNUSED_RETRY, None
        return (I.UNUSED_YET if self.sent else I.UNUSED_YET_UNSENT), None

    def _deep(self, block: int, head: int) -> bool:
        return head - block + 1 >= self.policy.confirmations

    def _expired(self, now: Seconds) -> bool:
        return now > self._record.permit.expires + self.policy.grace

    # -------------------------------------------------------------------------------------------------------- actions

    def do_record(self, event: Settle, now: Millis) -> Commands:
        """Journal the intent."""
        proof = event.proof
        record = SettlementRecord(proof.permit, proof.offer, since=proof.block, created=now)
        self.record = replace(record, suffix=event.suffix, note=event.note)
        return (PersistIntent(self.record),)

    def do_take_up(self, record: SettlementRecord, now: Millis) -> Commands:
        """Go on from an intent that was never signed."""
        self.record = record
        return self.do_number(None, now)

    def do_take_up_sent(self, record: SettlementRecord, now: Millis) -> Commands:
        """Go on from signed bytes: nobody knows whether they were sent, so they were."""
        self.record = record
        self.sent = True
        attempt = record.attempts[-1]
        self.ours = frozenset(attempt.numbers)
        self.lane = Lane(attempt.numbers, attempt.max_fee, attempt.max_priority_fee)
        return self.do_look(None, now)

    def do_report_stored(self, record: SettlementRecord, _now: Millis) -> Commands:
        """Report the outcome the journal holds."""
        self.record = record
        assert record.outcome is not None
        return (Report(record.outcome),)

    def do_report_unrecorded(self, _why: Failed, _now: Millis) -> Commands:
        """Report that the journal could not be written; whether the intent is in it, nobody knows, so it is not final."""
        permit = self._record.permit
        return (Report(Unsettled(Reason.UNAVAILABLE, permit.network, permit.payer, final=False)),)

    def do_report_anothers(self, _data: None, _now: Millis) -> Commands:
        """Report that the permit is being settled for another offer: it pays nobody here."""
        permit = self._record.permit
        return (Report(Unsettled(Reason.PAYMENT_SPENT, permit.network, permit.payer)),)

    def do_number(self, _data: None, _now: Millis) -> Commands:
        """Ask for as many numbers as there are calls."""
        record = self._record
        return (AllocateTxNumbers(record.permit.network, record.key, len(of(record.offer).calls(record.permit, record.offer))),)

    def do_rest(self, _why: object, now: Millis) -> Commands:
        """Wait before asking for numbers: nothing of ours is in any node's pool."""
        return (self._wake(now),)

    def do_return_rest(self, _why: object, now: Millis) -> Commands:
        """Give the numbers back, which no node has a transaction of ours for, and wait before asking for new ones."""
        return (self._return(), self._wake(now))

    def _return(self) -> ReturnTxNumbers:
        self.ours = frozenset()
        return ReturnTxNumbers(self._record.permit.network, self._record.key)

    def do_sign(self, lane: Lane, _now: Millis) -> Commands:
        """Have the calls signed."""
        self.lane = lane
        self.ours |= frozenset(lane.numbers)
        return self._sign(lane)

    def do_raise_fees(self, _data: None, _now: Millis) -> Commands:
        """Have the same calls signed with the same numbers and both fees raised by an eighth."""
        attempt = self._record.attempts[-1]
        self.lane = Lane(attempt.numbers, _raise(attempt.max_fee), _raise(attempt.max_priority_fee))
        return self._sign(self.lane)

    def _sign(self, lane: Lane) -> Commands:
        record = self._record
        *first, last = of(record.offer).calls(record.permit, record.offer)
        calls = (*first, replace(last, data=last.data + record.suffix))
        chain = chain_id(record.permit.network)
        transactions = tuple(
            Transaction(chain, number, lane.max_priority_fee, lane.max_fee, call.gas, call.to, 0, call.data)
            for number, call in zip(lane.numbers, calls, strict=True)
        )
        return (SignTransactions(record.permit.network, transactions),)

    def do_journal(self, signed: _Signed, now: Millis) -> Commands:
        """Journal the signed bytes."""
        assert self.lane is not None
        attempt = Attempt(self.lane.numbers, self.lane.max_fee, self.lane.max_priority_fee, signed.raws, signed.hashes, now)
        self.candidate = self._record.with_attempt(attempt)
        return (PersistSignedTx(self.candidate),)

    def do_send(self, _data: None, _now: Millis) -> Commands:
        """Broadcast what is journaled, and nothing else ever."""
        assert self.candidate is not None
        record = self.record = self.candidate
        self.number_taken = False
        preludes = of(record.offer).preludes(record.permit)
        return (Broadcast(record.permit.network, record.attempts[-1].raws, preludes),)

    def do_watch_sent(self, _data: object, now: Millis) -> Commands:
        """Watch what was, or may have been, sent."""
        self.sent = True
        self.looks = 0
        self.record = replace(self._record, sent=True)
        return (PersistSent(self.record), self._wake(now))

    def do_watch(self, _data: object, now: Millis) -> Commands:
        """Look again later."""
        return (self._wake(now),)

    def do_look_for_own(self, _data: None, now: Millis) -> Commands:
        """Look whether it was our own transaction that took the number."""
        self.number_taken = True
        return self.do_look(None, now)

    def do_look(self, _data: None, _now: Millis) -> Commands:
        """Fetch the receipts of everything ever signed for this permit."""
        record = self._record
        self.failed = None  # a reorganisation may have taken it back
        return (GetReceipts(record.permit.network, record.hashes),)

    def do_rebroadcast(self, _mined: object, now: Millis) -> Commands:
        """Send it once more, in case it was dropped, and look again later."""
        record = self._record
        self.sent = True
        preludes = of(record.offer).preludes(record.permit)
        return (Rebroadcast(record.permit.network, (*preludes, *record.attempts[-1].raws)), self._wake(now))

    def do_ask_contract(self, _data: object, _now: Millis) -> Commands:
        """Ask the token contract what became of the permit."""
        record = self._record
        return (ReadChain(record.permit.network, of(record.offer).closing(record.permit, record.offer, record.since)),)

    def do_ask_contract_mined(self, failed: TxReceipt, now: Millis) -> Commands:
        """Ask the token contract, our own transaction having failed."""
        self.failed = failed
        return self.do_ask_contract(None, now)

    def do_confirm(self, proof: TxReceipt, _now: Millis) -> Commands:
        """Persist and report that the permit was executed, by whomever."""
        return self._end(self._settled(proof))

    def do_confirm_fill(self, proof: TxReceipt, _now: Millis) -> Commands:
        """As ``do_confirm``, filling our own numbers, which the other's transaction made pointless."""
        return (self._fillers(), *self._end(self._settled(proof)))

    def _settled(self, proof: TxReceipt) -> Settled:
        record = self._record
        permit = record.permit
        ours = next((a.hashes for a in record.attempts if proof.transaction in a.hashes), ())
        return Settled(
            transaction=proof.transaction,
            network=permit.network,
            payer=permit.payer,
            amount=record.offer.amount,
            block=proof.block,
            transactions=ours or (proof.transaction,),
            foreign=not ours,
        )

    def do_void(self, _data: object, _now: Millis) -> Commands:
        """Persist and report that the permit was not executed and never will be."""
        permit = self._record.permit
        reason = Reason.TRANSACTION_FAILED if self.mined else of(self._record.offer).expired
        return self._end(Unsettled(reason, permit.network, permit.payer, self._record.hashes))

    def do_void_fill(self, _data: object, now: Millis) -> Commands:
        """As ``do_void``, filling the numbers that were never mined."""
        return (self._fillers(), *self.do_void(None, now))

    def do_give_up(self, _data: object, _now: Millis) -> Commands:
        """Persist and report that nothing was ever sent, and give the numbers back."""
        permit = self._record.permit
        return (self._return(), *self._end(Unsettled(Reason.UNAVAILABLE, permit.network, permit.payer)))

    def _end(self, outcome: Settlement) -> Commands:
        self.record = replace(self._record, outcome=outcome)
        return (PersistOutcome(self.record), Report(outcome))

    def _fillers(self) -> FillTxNumbers:
        """Return transactions that use up our unmined numbers, at fees that replace what may be waiting under them.

        They go out before the outcome is stored, because an end sets numbers free that were never signed with.
        """
        record = self._record
        assert self.lane is not None
        fee, tip = _raise(self.lane.max_fee), _raise(self.lane.max_priority_fee)
        chain = chain_id(record.permit.network)
        fillers = tuple(Transaction(chain, number, tip, fee, 21_000, self.account) for number in self._unmined)
        return FillTxNumbers(record.permit.network, record.key, fillers)

    def _wake(self, now: Millis) -> WakeAt:
        wait = min(self.policy.look_first << min(self.looks, 16), self.policy.look_most)
        self.looks += 1
        return WakeAt(Millis(now + wait))


_SENT: Mapping[Sent, SettlementInput] = {
    Sent.ACCEPTED: I.ACCEPTED,
    Sent.UNCLEAR: I.UNCLEAR,
    Sent.NUMBER_TAKEN: I.NUMBER_TAKEN,
    Sent.REJECTED: I.REJECTED,
}


def _stored(record: SettlementRecord) -> SettlementInput:
    match record.outcome:
        case Settled():
            return I.ENDED_PAID
        case Unsettled():
            return I.ENDED_UNPAID
        case _:
            return I.JOURNALED if record.attempts else I.FRESH


def _raise(fee: int) -> int:
    """Raise a fee by an eighth: nodes replace a waiting transaction for a tenth more."""
    return fee * 9 // 8 + 1
