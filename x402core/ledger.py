"""What a ledger remembers, and the one rule for a claim: pure values that every storage shares.

A *claim* makes one permit buy one answer.  It is keyed by the canonical authorization (``Permit.key``), bound to one
request (its fingerprint) and held by one owner (an exchange).  A *settlement record* is the journal of moving the money.
Storages (``x402bind/ledger``) only have to run :func:`decide` inside one transaction; they take no decision of their own.

Life of a claim::

    (none) --claim--> CLAIMED --release--> (none)          no money moved; KEPT instead where a settlement is journaled
                      CLAIMED --keep-----> KEPT            outcome unknown, or paid and not served: the record tells
                      CLAIMED --commit---> COMMITTED       paid (or journaled): the same request gets the same answer
                      any paid --refund--> REFUNDED        and served by nobody this moment: it buys nothing any more

A claim may carry an *identifier*, the name its payer gave the payment (x402.md 3.5): while the payment stands, no other
payment is taken under it.

A lease ends after its permit does.  By then an owner may be presumed gone, and a claim without a trace of money is free
again, as the chain would refuse the permit; one with a trace is what the journal says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import assert_never

from .errors import Reply
from .events import Offer, Permit, Settled, Settlement, Unsettled
from .values import Address, Amount, Hash32, Millis

__all__ = [
    "Attempt",
    "Claim",
    "ClaimRow",
    "ClaimState",
    "ClaimStatus",
    "Grant",
    "PaymentState",
    "SettlementRecord",
    "SignedIn",
    "Stored",
    "decide",
    "payment_state",
    "recall",
    "refundable",
    "stands",
]


@unique
class ClaimState(StrEnum):
    """A claim row as stored."""

    CLAIMED = "claimed"
    KEPT = "kept"
    COMMITTED = "committed"
    REFUNDED = "refunded"  # settled, and paid back since


@unique
class ClaimStatus(StrEnum):
    """The answer to a claim (or to a recall, which takes nothing)."""

    TAKEN = "taken"  # yours; recall: nobody holds it
    UNSERVED = "unserved"  # yours: paid by this very request, its answer was never kept: serve it now
    HELD = "held"  # another exchange is at work on the same request
    PENDING = "pending"  # the same request; its settlement has not ended
    ANSWERED = "answered"  # the same request; here is its answer again
    VOID = "void"  # the settlement ended without money: this permit buys nothing
    SERVED = "served"  # the same request; its answer was not kept: a stream, or too large
    REFUNDED = "refunded"  # the same request; its money was paid back
    SPENT = "spent"  # the permit was used for another request
    CONFLICT = "conflict"  # the identifier stands under another payment


@unique
class PaymentState(StrEnum):
    """What a token's payment has come to."""

    GOOD = "good"  # settled, or on its way
    VOID = "void"
    UNKNOWN = "unknown"  # this ledger has never heard of it


@unique
class Stored(StrEnum):
    """The answer to recording an intent."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    OVER_EXPOSURE = "over_exposure"  # this payer owes too much already
    CONFLICT = "conflict"  # another permit of the same slot is journaled, and not void


@unique
class SignedIn(StrEnum):
    """The answer to a sign-in: may this payer have the resource again, without paying?"""

    GRANTED = "granted"
    NOT_PAID = "not_paid"  # never paid for it here, or the payment came to nothing
    NONCE_USED = "nonce_used"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a payment lets its payer have again by signing in (x402.md 3.4).

    ``resource`` is the server's own name for it, never one the payer sent.
    """

    resource: str
    payer: Address


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed set of transactions: numbers, fees in wei per gas, raw bytes and hashes, in sending order."""

    numbers: tuple[int, ...]
    max_fee: int
    max_priority_fee: int
    raws: tuple[bytes, ...]
    hashes: tuple[Hash32, ...]
    at: Millis


@dataclass(frozen=True, slots=True)
class SettlementRecord:
    """The journal of one settlement: the intent, every signed attempt, and the outcome once there is one.

    ``since`` is the block the permit was judged at: logs of its execution cannot be older.  ``sent`` is true from the first
    moment a broadcast may have reached any node.  ``suffix`` goes after the last call's data; ``note``
    is what else the payment said, for a facilitator that settles it.
    """

    permit: Permit
    offer: Offer
    since: int
    created: Millis
    attempts: tuple[Attempt, ...] = ()
    sent: bool = False
    outcome: Settlement | None = None
    suffix: bytes = b""
    note: bytes = b""

    @property
    def key(self) -> str:
        """The permit's canonical authorization."""
        return self.permit.key

    @property
    def amount(self) -> Amount:
        """Atomic units this settlement moves."""
        return self.offer.amount

    @property
    def hashes(self) -> tuple[Hash32, ...]:
        """Every transaction hash ever signed for it, oldest first."""
        return tuple(h for attempt in self.attempts for h in attempt.hashes)

    def with_attempt(self, attempt: Attempt) -> SettlementRecord:
        """Return the record with one more signed attempt."""
        return replace(self, attempts=(*self.attempts, attempt))


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A claim as stored: who holds it for which request until when, and the answer once kept.

    ``identifier`` is the payer's name for the payment, in the payer's own scope; "" is none.
    """

    key: str
    owner: str
    request: str
    state: ClaimState
    until: Millis
    settled: Settled | None = None
    reply: Reply | None = None
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim or a recall."""

    status: ClaimStatus
    settled: Settled | None = None
    reply: Reply | None = None
    transactions: tuple[Hash32, ...] = ()


TAKEN = Claim(ClaimStatus.TAKEN)


def decide(
    row: ClaimRow | None, record: SettlementRecord | None, *, request: str, now: Millis, named: ClaimRow | None = None
) -> Claim:
    """Decide a claim from what is stored; the whole rule, for every storage.

    ``TAKEN`` and ``UNSERVED`` mean the caller becomes the owner: the storage writes the new row in the same transaction.
    A row for another request is SPENT whatever its state, because the payer bound the permit to that request first.
    ``named`` is the row of another key that carries the identifier given and still :func:`stands`: one name, one payment.
    """
    if named is not None:
        return Claim(ClaimStatus.CONFLICT)
    if row is None:
        return TAKEN if record is None else _unclaimed(record)
    if row.request != request:
        return Claim(ClaimStatus.SPENT)
    match row.state:
        case ClaimState.CLAIMED if now < row.until:
            return Claim(ClaimStatus.HELD)
        case ClaimState.COMMITTED:
            return _committed(row, record)
        case ClaimState.CLAIMED | ClaimState.KEPT:  # its owner is gone, or left it to the journal: what that says happened
            if record is not None:
                return _from_record(record, row)
            if row.settled is not None:  # settled elsewhere, by its facilitator's word
                return _paid(row.settled, row)
            lost = row.state is ClaimState.KEPT and now < row.until
            return Claim(ClaimStatus.PENDING) if lost else TAKEN
        case ClaimState.REFUNDED:
            return Claim(ClaimStatus.REFUNDED, _settled(row, record))
        case _:
            assert_never(row.state)


def _committed(row: ClaimRow, record: SettlementRecord | None) -> Claim:
    outcome = None if record is None else record.outcome
    if isinstance(outcome, Unsettled) and outcome.final:
        return Claim(ClaimStatus.VOID, transactions=outcome.transactions)
    settled = _settled(row, record)
    if row.reply is None:  # served, as a stream that was not kept: one payment buys one execution
        return Claim(ClaimStatus.SERVED, settled)
    return Claim(ClaimStatus.ANSWERED, settled, row.reply, record.hashes if record else ())


def _settled(row: ClaimRow, record: SettlementRecord | None) -> Settled | None:
    outcome = None if record is None else record.outcome
    return outcome if isinstance(outcome, Settled) else row.settled


def _paid(settled: Settled, row: ClaimRow | None) -> Claim:
    if row is not None and row.reply is not None:
        return Claim(ClaimStatus.ANSWERED, settled, row.reply, settled.transactions)
    return Claim(ClaimStatus.UNSERVED, settled)


def _unclaimed(record: SettlementRecord) -> Claim:
    """A settlement whose claim is gone: nothing says which request it paid for, so it buys no other."""
    claim = _from_record(record, None)
    return Claim(ClaimStatus.SPENT) if claim.status is ClaimStatus.UNSERVED else claim


def _from_record(record: SettlementRecord, row: ClaimRow | None) -> Claim:
    match record.outcome:
        case Settled() as settled:
            return _paid(settled, row)
        case Unsettled(final=True) as void:
            return Claim(ClaimStatus.VOID, transactions=void.transactions)
        case _:
            return Claim(ClaimStatus.PENDING, transactions=record.hashes)


def refundable(row: ClaimRow | None, record: SettlementRecord | None, *, now: Millis, served: bool = False) -> bool:
    """Say whether a payment may be paid back: the money has arrived, was not paid back before, and bought nothing.

    Nor may anybody be serving for it this moment.  ``served``: it may have bought something.
    """
    if row is None or row.state is ClaimState.REFUNDED or (row.state is ClaimState.CLAIMED and now < row.until):
        return False
    if not served and (row.state is ClaimState.COMMITTED or row.reply is not None):
        return False
    return row.settled is not None if record is None else isinstance(record.outcome, Settled)


def recall(
    row: ClaimRow | None, record: SettlementRecord | None, *, request: str, now: Millis, named: ClaimRow | None = None
) -> Claim:
    """Say what :func:`decide` would, taking nothing: asked before the chain is, so that a replay costs no reads."""
    return decide(row, record, request=request, now=now, named=named)


def stands(row: ClaimRow, record: SettlementRecord | None, *, now: Millis) -> bool:
    """Say whether a claim still has its identifier: not when its settlement ended void, nor when its owner is gone without
    a trace of money.  An outcome that was lost keeps it, as the payer may have paid under that name.
    """
    if record is not None:
        return not (isinstance(record.outcome, Unsettled) and record.outcome.final)
    return row.state is not ClaimState.CLAIMED or row.settled is not None or now < row.until


def payment_state(row: ClaimRow | None, record: SettlementRecord | None) -> PaymentState:
    """Say whether a token minted for this payment still stands: it falls with a settlement that ended void, or a refund."""
    if row is not None and row.state is ClaimState.REFUNDED:
        return PaymentState.VOID
    if record is not None and isinstance(record.outcome, Unsettled) and record.outcome.final:
        return PaymentState.VOID
    return PaymentState.UNKNOWN if row is None and record is None else PaymentState.GOOD
