"""How stored rows change, as pure functions every storage shares: each only ever adds knowledge.

Who may have a claim is not decided here but by :func:`x402core.ledger.decide`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import IntEnum, unique
from itertools import count as counting
from itertools import islice
from typing import Final

from x402core.catalog import CatalogEntry
from x402core.errors import LocalProtocolError, Reply
from x402core.events import Settled, Settlement, Unsettled
from x402core.ledger import Attempt, Claim, ClaimRow, ClaimState, ClaimStatus, SettlementRecord, Stored, decide
from x402core.values import Amount, Hash32, Millis

from .contract import Entry, EntryState

__all__ = [
    "NumberState",
    "admit",
    "allot",
    "ask_numbers",
    "closed",
    "entry",
    "expires",
    "extended",
    "firm",
    "is_final",
    "is_void",
    "lapsed",
    "lasting",
    "listable",
    "merged",
    "new_attempts",
    "owned",
    "prunable",
    "releasable",
    "slot_taken",
    "taken",
]

_TAKES: Final = frozenset({ClaimStatus.TAKEN, ClaimStatus.UNSERVED})
_OVER: Final = frozenset({ClaimStatus.ANSWERED, ClaimStatus.VOID})
_CLOSED: Final = frozenset({ClaimState.COMMITTED, ClaimState.REFUNDED})
_RANK: Final = {ClaimState.CLAIMED: 0, ClaimState.KEPT: 1, ClaimState.COMMITTED: 2, ClaimState.REFUNDED: 3}
_FAR: Final = 2**62  # what a 64-bit column holds with room to spare; an EIP-2612 deadline may be 2**256-1


@unique
class NumberState(IntEnum):
    """What a key has done with a transaction number it was handed."""

    HELD = 0  # handed out; nothing signed with it is stored
    USED = 1  # a signed attempt with it is stored
    SEALED = 2  # used, and exchanged since, because the chain has passed it: never handed out again


# ---------------------------------------------------------------------------------------------------------------- claims


def taken(
    row: ClaimRow | None, claim: Claim, key: str, request: str, owner: str, until: Millis, identifier: str
) -> ClaimRow | None:
    """Return the row to write for the answer to a claim, or None when the caller takes nothing.

    A payment that may have moved money keeps the first name it was given.
    """
    if claim.status not in _TAKES:
        return None
    settled = claim.settled or (row.settled if row is not None else None)
    if row is not None and (settled is not None or row.state is not ClaimState.CLAIMED):
        identifier = row.identifier or identifier
    return ClaimRow(key, owner, request, ClaimState.CLAIMED, lasting(until), settled, identifier=identifier)


def extended(row: ClaimRow | None, owner: str, until: Millis) -> ClaimRow | None:
    """Return this owner's open claim with its lease moved forward, never back, or None when it has none."""
    if row is None or row.owner != owner or row.state is not ClaimState.CLAIMED:
        return None
    return replace(row, until=max(row.until, lasting(until)))


def closed(
    row: ClaimRow | None, owner: str, state: ClaimState, settled: Settled | None, reply: Reply | None
) -> ClaimRow | None:
    """Return the row to write for a commit or a keep, or None when nothing changes: not the owner, or nothing new."""
    if row is None or row.owner != owner:
        return None
    higher = state if _RANK[state] > _RANK[row.state] else row.state
    after = replace(row, state=higher, settled=row.settled or settled, reply=row.reply or reply)
    return None if after == row else after


def releasable(row: ClaimRow | None, owner: str, journaled: bool) -> bool:
    """Say whether this owner's release deletes the row: an open claim, without a trace of money."""
    if row is None or row.owner != owner or row.state is not ClaimState.CLAIMED:
        return False
    return not journaled and row.settled is None


def owned(row: ClaimRow | None, owner: str) -> bool:
    """Say whether a commit's grant is remembered: the present owner's only, and none of what was paid back."""
    return row is not None and row.owner == owner and row.state is not ClaimState.REFUNDED


def firm(row: ClaimRow | None, record: SettlementRecord | None) -> bool:
    """Say whether what a payment granted counts: settled by the journal, by a facilitator's word, or so long ago that both are
    pruned (a grant that came to nothing goes with them).
    """
    if record is not None:
        return isinstance(record.outcome, Settled)
    return row is None or row.settled is not None


def lasting(until: Millis) -> Millis:
    """Return the end of a lease, cut to what a 64-bit column holds: it follows a permit's end, which may be a uint256."""
    return Millis(min(until, _FAR))


# --------------------------------------------------------------------------------------------------------------- records


def is_final(outcome: Settlement | None) -> bool:
    """Say whether nothing can change any more about where the money is."""
    return isinstance(outcome, Settled) or (isinstance(outcome, Unsettled) and outcome.final)


def is_void(record: SettlementRecord) -> bool:
    """Say whether a settlement ended without money, so that its permit's slot is free for another."""
    return isinstance(record.outcome, Unsettled) and record.outcome.final


def slot_taken() -> LocalProtocolError:
    """Return the error for an intent that cannot be stored beside another of its slot.

    One transfer on the chain would be taken for the proof of both.
    """
    return LocalProtocolError("another permit of the same slot is being settled, or is", field="record")


def admit(record: SettlementRecord, owed: Iterable[int], most_open: Amount | None) -> Stored:
    """Say whether a new record fits under ``most_open`` atomic units with what the payer owes already."""
    if most_open is not None and sum(owed) + record.amount > most_open:
        return Stored.OVER_EXPOSURE
    return Stored.STORED


def new_attempts(stored: SettlementRecord, record: SettlementRecord) -> tuple[Attempt, ...]:
    """Return the attempts of ``record`` that are not stored yet; the same raw bytes are the same attempt."""
    known = {attempt.raws for attempt in stored.attempts}
    return tuple(attempt for attempt in record.attempts if attempt.raws not in known)


def merged(stored: SettlementRecord, record: SettlementRecord) -> SettlementRecord:
    """Return the sum of two looks at one settlement: all attempts, and the first final outcome.

    A union and not "the longer list wins": two workers may each have signed a second attempt, and whatever was signed may
    have been sent (T5).  Raises: LocalProtocolError for another permit under the same key.
    """
    if stored.permit != record.permit:
        raise LocalProtocolError("another permit of this authorization is being settled", field="record")
    outcome = stored.outcome if is_final(stored.outcome) else record.outcome or stored.outcome
    attempts = (*stored.attempts, *new_attempts(stored, record))
    return replace(stored, attempts=attempts, sent=stored.sent or record.sent, outcome=outcome)


# --------------------------------------------------------------------------------------------------- transaction numbers


def ask_numbers(count: int, floor: int) -> None:
    """Check a request for numbers.  Raises: LocalProtocolError naming the argument."""
    if count < 1:
        raise LocalProtocolError("ask for one number at least", field="count")
    if not 0 <= floor <= _FAR:
        raise LocalProtocolError("not a number a chain could ask for next", field="floor")


def allot(mine: Iterable[int], others: Iterable[int], floor: int, count: int) -> tuple[int, ...]:
    """Return the numbers to hand out: ``mine`` again if they serve, else the lowest from ``floor`` up that others lack.

    What was signed with comes back too, until it is given back: when the answer to PersistSignedTx was lost, nobody has sent
    it, and any other number would leave a hole.  A number nobody has is free, whatever lies above it: so neither a lost row
    nor one node's nonsense floor can leave a hole either (T7: everything above a hole waits for ever).
    """
    held = tuple(sorted(mine))
    if len(held) == count and held[0] >= floor:
        return held
    busy = frozenset(others)
    return tuple(islice((number for number in counting(floor) if number not in busy), count))


# --------------------------------------------------------------------------------------------------------------- catalog


def listable(entry: CatalogEntry) -> CatalogEntry:
    """Check an entry.  Raises: LocalProtocolError without a way to pay."""
    if not entry.accepts:
        raise LocalProtocolError("a listed resource has one way to pay at least", field="accepts")
    return entry


# ----------------------------------------------------------------------------------------------------------- housekeeping


def expires(record: SettlementRecord) -> Millis:
    """Return when the permit ends, in Unix milliseconds that fit a 64-bit column."""
    return lasting(Millis(record.permit.expires * 1000))


def prunable(row: ClaimRow | None, at: Millis, record: SettlementRecord, before: Millis) -> bool:
    """Say whether a payment is over: final, expired and old, and its claim (taken at ``at``) has nothing left to give."""
    if not is_final(record.outcome) or max(expires(record), record.created) >= before:
        return False
    if row is None:
        return True
    if at >= before:
        return False
    if row.state in _CLOSED:
        return True
    return decide(row, record, request=row.request, now=before).status in _OVER


def lapsed(row: ClaimRow, at: Millis, before: Millis) -> bool:
    """Say whether a claim without a settlement record (taken at ``at``) is over: old, and its permit's end, which its lease
    outlasts, is too; and nobody is owed anything for it.  An intent is journaled before money moves, so none has moved.
    """
    if max(row.until, at) >= before:
        return False
    if row.state in _CLOSED:
        return True
    return row.state is ClaimState.CLAIMED if row.settled is None else row.reply is not None


def entry(key: str, row: ClaimRow | None, at: Millis, record: SettlementRecord | None) -> Entry:
    """Return a payment as people read it."""
    claim = row.state if row is not None else None
    answered = row is not None and row.reply is not None
    if record is None:
        settled = row.settled if row is not None else None
        hashes = (settled.transaction,) if settled is not None else ()
        payer, amount, network = (settled.payer, settled.amount, settled.network) if settled else (None, None, None)
        return Entry(key, EntryState(claim or ClaimState.CLAIMED), claim, answered, payer, amount, None, network, hashes, at)
    permit = record.permit
    money = (permit.payer, record.amount, permit.asset, permit.network)
    return Entry(key, _progress(record), claim, answered, *money, _transactions(record), record.created)


def _progress(record: SettlementRecord) -> EntryState:
    if isinstance(record.outcome, Settled):
        return EntryState.SETTLED
    if is_final(record.outcome):
        return EntryState.VOID
    if record.sent:
        return EntryState.SENT
    return EntryState.SIGNED if record.attempts else EntryState.INTENT


def _transactions(record: SettlementRecord) -> tuple[Hash32, ...]:
    """Return every hash we signed, and the one that moved the money when that was not ours."""
    moved = (record.outcome.transaction,) if isinstance(record.outcome, Settled) else ()
    return tuple(dict.fromkeys((*record.hashes, *moved)))
