"""Having a facilitator move the money of one verified permit, to an end that is its definite word, or the chain's.

Theory of operation.  The intent is journaled, then the facilitator is asked to settle, again and again until it gives a
definite answer about this very payment: asking twice is safe, because a permit is executed once.  A process that dies is
taken up from the journal with :class:`Resume`.

Rules:

* An answer that was lost counts as settled until the opposite is known: from then on a refusal is doubted, because "already
  used" is what a facilitator says of the payment it settled a moment ago.  The chain is asked, where one is configured.
* Only a refusal of what is checked before anything is sent, given without a transaction, is an end by itself.  Any other may
  mean that somebody else executed the permit (its nonce is used, its transaction failed): paid is paid, whoever did it.  With
  a chain the contract is asked, and it is void only when the contract says that it never was and never can be executed;
  until then the facilitator is asked again, which may yet succeed.
* Where policy asks for proof, a facilitator's success is believed when the token contract, asked, says so too; not before.
  (A delegation leaves nothing to ask the chain about; there the facilitator's word is all there is.)
* After the permit's end and a grace nothing can settle it any more; without a chain to ask, that and the facilitator's last
  word are all that can be known.

Not its business: which facilitator is asked, and what happens when one is down (``translate/facilitator.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import auto
from typing import Any, ClassVar, Final

from x402core.commands import (
    AskFacilitator,
    Command,
    PersistIntent,
    PersistOutcome,
    PersistSent,
    ReadChain,
    Report,
    WakeAt,
)
from x402core.errors import LocalProtocolError, Reason
from x402core.events import Failed, Method, Pending, Resume, Settle, Settled, Settlement, Unsettled, same_payment
from x402core.ledger import SettlementRecord
from x402core.reads import Facts, TxReceipt
from x402core.schemes import Closing, of
from x402core.schemes.remote import BEFORE_SENDING
from x402core.values import Hash32, Millis, Seconds, seconds

from .machine import Commands, Input, Machine, Row, State, Trace

__all__ = ["RemoteInput", "RemotePolicy", "RemoteSettlement", "RemoteState"]


@dataclass(frozen=True, slots=True)
class RemotePolicy:
    """How patient a remote settlement is, and whether a facilitator's word is proved on the chain.

    ``chain``: a chain is configured and is asked when a refusal is doubted; ``prove``: it is asked after every success too.
    ``confirmations`` as in ``SettlementPolicy``.  ``ask_first`` and ``ask_most``: milliseconds between questions, doubling.
    ``grace``: seconds past a permit's end before it is given up.
    """

    chain: bool = False
    prove: bool = False
    confirmations: int = 1
    ask_first: Millis = Millis(500)
    ask_most: Millis = Millis(8000)
    grace: Seconds = Seconds(30)

    def __post_init__(self) -> None:
        if self.prove and not self.chain:
            raise LocalProtocolError("a proof needs a chain: configure rpc", field="prove")
        for name in ("confirmations", "ask_first", "ask_most"):
            if getattr(self, name) <= 0:
                raise LocalProtocolError("must be positive", field=name)


class RemoteState(State):
    """Where a settlement stands."""

    NEW = auto()
    RECORDING = auto()
    ASKING = auto()
    RESTING = auto()
    CLOSING = auto()
    CONFIRMED = auto()
    VOID = auto()
    NOT_ASKED = auto()


class RemoteInput(Input):
    """What happened, named by outcome."""

    BEGIN = auto()
    OPEN = auto()
    ENDED_PAID = auto()
    ENDED_UNPAID = auto()
    STORED = auto()
    ANOTHERS = auto()
    SETTLED = auto()
    SETTLED_UNPROVED = auto()
    REFUSED = auto()
    REFUSED_DOUBTED = auto()
    PENDING = auto()
    TICK = auto()
    EXPIRED = auto()
    EXPIRED_BLIND = auto()
    USED = auto()
    UNUSED_FOR_GOOD = auto()
    UNUSED_YET = auto()
    FAILED = auto()


S, I = RemoteState, RemoteInput  # noqa: E741

_USED: Final = (Reason.NONCE_USED, Reason.PERMIT2_NONCE, Reason.PERMIT_NONCE)
"""Refusals that say the permit was executed, or cancelled: perhaps a moment ago, and for this very payment."""


class RemoteSettlement(Machine[RemoteState, RemoteInput]):
    """One settlement by a facilitator; begin with ``Settle(proof)`` or ``Resume(record)``.  It is never cancelled."""

    __slots__ = ("asks", "doubted", "failed", "policy", "record", "refused", "told")

    TABLE: ClassVar[tuple[Row, ...]] = (
        Row(S.NEW, I.BEGIN, S.RECORDING, "do_record", (PersistIntent,)),
        Row(S.NEW, I.OPEN, S.ASKING, "do_take_up", (AskFacilitator,)),
        Row(S.NEW, I.ENDED_PAID, S.CONFIRMED, "do_report_stored", (Report,)),
        Row(S.NEW, I.ENDED_UNPAID, S.VOID, "do_report_stored", (Report,)),
        Row(S.RECORDING, I.STORED, S.ASKING, "do_ask", (PersistSent, AskFacilitator)),
        Row(S.RECORDING, I.OPEN, S.ASKING, "do_take_up", (AskFacilitator,)),
        Row(S.RECORDING, I.ENDED_PAID, S.CONFIRMED, "do_report_stored", (Report,)),
        Row(S.RECORDING, I.ENDED_UNPAID, S.VOID, "do_report_stored", (Report,)),
        Row(S.RECORDING, I.ANOTHERS, S.NOT_ASKED, "do_report_anothers", (Report,)),
        Row(S.RECORDING, I.FAILED, S.NOT_ASKED, "do_report_unrecorded", (Report,)),
        Row(S.ASKING, I.SETTLED, S.CONFIRMED, "do_confirm", (PersistOutcome, Report)),
        Row(S.ASKING, I.SETTLED_UNPROVED, S.CLOSING, "do_ask_for_proof", (ReadChain,)),
        Row(S.ASKING, I.REFUSED, S.VOID, "do_void_refused", (PersistOutcome, Report)),
        Row(S.ASKING, I.REFUSED_DOUBTED, S.CLOSING, "do_ask_who_else", (ReadChain,)),
        Row(S.ASKING, I.PENDING, S.RESTING, "do_rest", (WakeAt,)),
        Row(S.ASKING, I.FAILED, S.RESTING, "do_rest_lost", (WakeAt,)),
        Row(S.RESTING, I.TICK, S.ASKING, "do_ask_again", (AskFacilitator,)),
        Row(S.RESTING, I.EXPIRED, S.CLOSING, "do_ask_contract", (ReadChain,)),
        Row(S.RESTING, I.EXPIRED_BLIND, S.VOID, "do_void", (PersistOutcome, Report)),
        Row(S.CLOSING, I.USED, S.CONFIRMED, "do_confirm", (PersistOutcome, Report)),
        Row(S.CLOSING, I.UNUSED_FOR_GOOD, S.VOID, "do_void", (PersistOutcome, Report)),
        Row(S.CLOSING, I.UNUSED_YET, S.RESTING, "do_rest", (WakeAt,)),
        Row(S.CLOSING, I.FAILED, S.RESTING, "do_rest", (WakeAt,)),
    )
    START = S.NEW
    ENDS = frozenset({S.CONFIRMED, S.VOID, S.NOT_ASKED})
    BEGINS: ClassVar[Mapping[type, str]] = {Settle: "on_begin", Resume: "on_resume"}
    ANSWERS: ClassVar[Mapping[type[Command[Any]], str]] = {
        PersistIntent: "on_recorded",
        AskFacilitator: "on_told",
        WakeAt: "on_tick",
        ReadChain: "on_facts",
    }
    FAILURES: ClassVar[Mapping[type[Command[Any]], Input]] = {
        PersistIntent: I.FAILED,
        AskFacilitator: I.FAILED,
        WakeAt: I.TICK,
        ReadChain: I.FAILED,
    }

    def __init__(self, policy: RemotePolicy, *, trace: Trace | None = None) -> None:
        super().__init__(trace=trace)
        self.policy = policy
        self.record: SettlementRecord | None = None
        self.doubted = False  # an answer was lost, or something may have been sent: a refusal may be for what it did itself
        self.refused: Unsettled | None = None  # its last refusal that decided nothing
        self.told: tuple[Hash32, ...] = ()
        self.failed: TxReceipt | None = None  # as of the local machine: bad news never comes early here
        self.asks = 0

    @property
    def outlook(self) -> Settlement:
        """What can be said of the money right now: the outcome once there is one, else Pending."""
        record = self._record
        return record.outcome or Pending(record.permit.network, record.permit.payer, self.told)

    @property
    def _record(self) -> SettlementRecord:
        assert self.record is not None
        return self.record

    # ------------------------------------------------------------------------------------------------------- classify

    def on_begin(self, event: Settle, _now: Millis) -> tuple[RemoteInput, object]:
        """A verified permit is to be settled."""
        return I.BEGIN, event

    def on_resume(self, event: Resume, _now: Millis) -> tuple[RemoteInput, object]:
        """A journaled settlement is taken up again."""
        return _stored(event.record), event.record

    def on_recorded(self, stored: SettlementRecord | None, _now: Millis) -> tuple[RemoteInput, object]:
        """The intent is journaled, or was already."""
        if stored is None:
            return I.STORED, None
        if not same_payment(stored.offer, self._record.offer):  # a permit alone does not always say whom it pays
            return I.ANOTHERS, None
        return _stored(stored), stored

    def on_told(self, settlement: Settlement, _now: Millis) -> tuple[RemoteInput, object]:
        """The facilitator has given its word."""
        match settlement:
            case Settled():
                prove = self.policy.prove and self._record.offer.method is not Method.ERC7710
                return (I.SETTLED_UNPROVED if prove else I.SETTLED), settlement
            case Unsettled(final=True) if not self.doubted and self._unsent(settlement):
                return I.REFUSED, settlement
            case Unsettled(final=True) if self.policy.chain:
                return I.REFUSED_DOUBTED, settlement
            case _:
                return I.PENDING, settlement

    def _unsent(self, refused: Unsettled) -> bool:
        """Say whether a refusal proves that nothing was sent; Permit2's simulation fails for a used nonce too (x402.md 2.2)."""
        ask = self.policy.chain and refused.reason is Reason.PERMIT2_SIMULATION
        return refused.reason in BEFORE_SENDING and not refused.transactions and not ask

    def on_tick(self, _answer: None, now: Millis) -> tuple[RemoteInput, object]:
        """Time has passed."""
        if seconds(now) <= self._record.permit.expires + self.policy.grace:
            return I.TICK, None
        return (I.EXPIRED if self.policy.chain else I.EXPIRED_BLIND), None

    def on_facts(self, facts: Facts, _now: Millis) -> tuple[RemoteInput, object]:
        """The token contract has been asked what became of the permit."""
        record = self._record
        closing, proof = of(record.offer).close(record.permit, record.offer, facts, None)
        deep = proof is not None and facts.number - proof.block + 1 >= self.policy.confirmations
        if closing is Closing.USED and proof is not None and deep:
            return I.USED, _settled(record, proof.transaction, proof.block)
        over = closing is Closing.UNUSED_FINAL or (closing is Closing.CANCELLED and deep)
        return (I.UNUSED_FOR_GOOD if over else I.UNUSED_YET), None

    # -------------------------------------------------------------------------------------------------------- actions

    def do_record(self, event: Settle, now: Millis) -> Commands:
        """Journal the intent."""
        proof = event.proof
        record = SettlementRecord(proof.permit, proof.offer, since=proof.block, created=now)
        self.record = replace(record, suffix=event.suffix, note=event.note)
        return (PersistIntent(self.record),)

    def do_ask(self, _data: None, _now: Millis) -> Commands:
        """Note that the permit is about to leave, and ask."""
        self.record = replace(self._record, sent=True)
        return (PersistSent(self.record), AskFacilitator(self.record))

    def do_take_up(self, record: SettlementRecord, now: Millis) -> Commands:
        """Go on from the journal: whoever wrote it may have asked, and lost the answer."""
        self.record = record
        self.doubted = True
        return self.do_ask_again(None, now)

    def do_ask_again(self, _data: object, _now: Millis) -> Commands:
        """Ask once more."""
        return (AskFacilitator(self._record),)

    def do_rest(self, told: Settlement | None, now: Millis) -> Commands:
        """Wait a little longer each time before asking again."""
        if isinstance(told, Pending | Unsettled):
            self.doubted = True
            self.told = told.transactions or self.told
        if isinstance(told, Unsettled):
            self.refused = told
        wait = min(self.policy.ask_first << min(self.asks, 16), self.policy.ask_most)
        self.asks += 1
        return (WakeAt(Millis(now + wait)),)

    def do_rest_lost(self, _why: Failed, now: Millis) -> Commands:
        """As ``do_rest``, an answer having been lost."""
        self.doubted = True
        return self.do_rest(None, now)

    def do_ask_for_proof(self, settled: Settled, now: Millis) -> Commands:
        """Ask the token contract whether it is as the facilitator says."""
        self.doubted = True
        self.told = (settled.transaction,)
        return self.do_ask_contract(None, now)

    def do_ask_who_else(self, refused: Unsettled, now: Millis) -> Commands:
        """Ask the token contract whether the permit was executed all the same, by whomever."""
        self.doubted = True
        self.told = refused.transactions or self.told
        self.refused = refused
        return self.do_ask_contract(None, now)

    def do_ask_contract(self, _data: object, _now: Millis) -> Commands:
        """Ask the token contract what became of the permit."""
        record = self._record
        return (ReadChain(record.permit.network, of(record.offer).closing(record.permit, record.offer, record.since)),)

    def do_confirm(self, settled: Settled, _now: Millis) -> Commands:
        """Persist and report that the permit was executed."""
        return self._end(settled)

    def do_void_refused(self, why: Unsettled, _now: Millis) -> Commands:
        """Persist and report what the facilitator refused it for."""
        return self._end(why)

    def do_void(self, _data: object, _now: Millis) -> Commands:
        """Persist and report that the permit ended unexecuted, as far as anybody here can know; a chain knows it unused."""
        permit, reason = self._record.permit, of(self._record.offer).expired
        if self.refused is not None and not (self.policy.chain and self.refused.reason in _USED):
            reason = self.refused.reason
        return self._end(Unsettled(reason, permit.network, permit.payer, self.told))

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

    def _end(self, outcome: Settlement) -> Commands:
        self.record = replace(self._record, outcome=outcome)
        return (PersistOutcome(self.record), Report(outcome))


def _stored(record: SettlementRecord) -> RemoteInput:
    match record.outcome:
        case Settled():
            return I.ENDED_PAID
        case Unsettled():
            return I.ENDED_UNPAID
        case _:
            return I.OPEN


def _settled(record: SettlementRecord, transaction: Hash32, block: int) -> Settled:
    permit = record.permit
    return Settled(transaction, permit.network, permit.payer, record.amount, block, (transaction,), foreign=True)
