"""What every ledger promises: one contract, synchronous, atomic per call, the same words in every storage.

Theory of operation.  A ledger keeps six things: *claims* (one permit buys one answer), the *settlement journal* (every
signed byte before it is sent), *leases* on settlements (one worker at a time), *transaction numbers* (one lane per network
and account), *grants* (who has paid for what, and which sign-in nonces are used up) and the *catalog* (what a facilitator
lists).  It takes no decision about money: ``claim`` and ``recall`` run :func:`x402core.ledger.decide` inside one
transaction; the rest only ever adds knowledge (``rows.py``).

Invariants, tested for every storage by ``tests/ledger``:

* Of all callers that claim a key at one time, one is told TAKEN or UNSERVED.
* What a call has acknowledged survives a crash (``memory`` is the stated exception).
* Nothing that was signed and stored is ever forgotten while its settlement is open; a final outcome never changes.
* A transaction number belongs to one key at a time, and so does an identifier.
* A sign-in nonce is granted once.
* Storage trouble is an exception, never an answer.

A method may block on a disk or a network when ``blocking`` is true: an async driver then calls it in a worker thread.
Times are Unix milliseconds, amounts atomic units.  Every method may raise :class:`LedgerUnavailable`; whether a *writing*
call took effect is then unknown, and asking again is safe because each one is idempotent or refuses a second taker.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol

from x402core.catalog import CatalogEntry, CatalogQuery
from x402core.errors import Reply
from x402core.events import Settled
from x402core.ledger import Claim, ClaimState, Grant, PaymentState, SettlementRecord, SignedIn, Stored
from x402core.values import Address, Amount, Hash32, Millis, Network

__all__ = ["Entry", "EntryState", "Ledger", "LedgerUnavailable"]


class LedgerUnavailable(Exception):
    """The storage is locked, full, gone or damaged.  On failure of a write: unknown whether it took effect."""


@unique
class EntryState(StrEnum):
    """How far a payment has come, for people."""

    CLAIMED = "claimed"  # no settlement journaled
    KEPT = "kept"  # the same, closed with its outcome open
    COMMITTED = "committed"  # the same, closed as paid
    REFUNDED = "refunded"  # the same, paid back since
    INTENT = "intent"
    SIGNED = "signed"
    SENT = "sent"
    SETTLED = "settled"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Entry:
    """One payment as people reconcile it.  What only a settlement record knows is None without one.

    ``claim`` is None for a settlement nobody claimed here (a facilitator's). Settled and ``answered`` false and ``claim``
    neither COMMITTED nor REFUNDED: the payer paid and was not served. ``created`` is when it was journaled, else when it
    was last claimed.
    """

    key: str
    state: EntryState
    claim: ClaimState | None
    answered: bool
    payer: Address | None
    amount: Amount | None
    asset: Address | None
    network: Network | None
    transactions: tuple[Hash32, ...]
    created: Millis


class Ledger(Protocol):
    """The contract of this module's docstring."""

    @property
    def blocking(self) -> bool:
        """Say whether a call may wait for a disk or a network."""

    # --------------------------------------------------------------------------------------------------------- claims

    def recall(self, key: str, request: str, *, now: Millis, identifier: str = "") -> Claim:
        """Say what :meth:`claim` would answer, taking nothing, from one consistent look.

        On failure: nothing is known.
        """

    def claim(self, key: str, request: str, owner: str, until: Millis, *, now: Millis, identifier: str = "") -> Claim:
        """Decide and, on TAKEN or UNSERVED, make ``owner`` the owner until ``until``, all in one transaction.

        ``until`` lies beyond the end of the payment's permit: only then may :meth:`prune` forget the claim.
        ``identifier`` names the payment in its payer's own scope; "" is none.  It stays with the payment until that is
        released, void, pruned, or given up with no trace of money; till then any other payment of that name is a CONFLICT.
        On failure: somebody, perhaps this owner, holds the key until ``until``.
        """

    def release(self, key: str, owner: str) -> None:
        """Delete this owner's open claim; where a settlement is journaled, or it is known to be paid, keep it instead.

        Another owner's claim, and a closed one, are left alone.  On failure: the claim stays until its lease ends.
        """

    def extend(self, key: str, owner: str, until: Millis) -> bool:
        """Move the lease of this owner's open claim forward, never back; False when it has none any more.

        For a heartbeat while a handler runs.  On failure: the lease ends when it did; ask again.
        """

    def commit(self, key: str, owner: str, settled: Settled | None, reply: Reply | None, grant: Grant | None = None) -> None:
        """Close this owner's claim as paid (or journaled) with the answer to give again; the first answer stays.

        ``grant`` is remembered in the same transaction; it is worth something from when the money has arrived.
        A call by anyone but the present owner changes nothing.  On failure: the journal still says what happened.
        """

    def keep(
        self, key: str, owner: str, reply: Reply | None, settled: Settled | None = None, grant: Grant | None = None
    ) -> None:
        """Close this owner's claim with its outcome open, or known to be ``settled`` and not served; never undoes a commit.

        ``grant`` is as for :meth:`commit`.
        A call by anyone but the present owner changes nothing.  On failure: as for :meth:`commit`.
        """

    def refund(self, key: str, *, now: Millis, served: bool = False) -> bool:
        """Close a claim whose money is to be paid back, with what it granted: from now on the payment buys nothing.

        True once; False when the money has not arrived, is paid back already, has bought its answer (unless ``served``), or
        may be buying it this moment, and for a payment nobody claimed here.  On failure: :meth:`entries` says whether the
        claim is REFUNDED.
        """

    def payment_state(self, key: str) -> PaymentState:
        """Say whether a token minted for this payment still stands.  On failure: nothing is known."""

    def sign_in(self, resource: str, payer: Address, nonce: str, until: Millis, *, now: Millis) -> SignedIn:
        """Grant a payer a resource it has paid for, and the money arrived, once per nonce of that payer, in one transaction.

        GRANTED uses the nonce up until ``until``, which lies beyond the proof's last valid moment; a proof that could not
        be remembered (``until`` is past) gets NONCE_USED.  NOT_PAID uses nothing up.  On failure: nothing is granted.
        """

    # ------------------------------------------------------------------------------------------ the settlement journal

    def record_intent(self, record: SettlementRecord, most_open: Amount | None) -> Stored:
        """Journal a settlement unless its key is there already (DUPLICATE), another permit of its slot is there and not void
        (CONFLICT), or the payer would owe more than ``most_open`` (OVER_EXPOSURE).

        What a payer owes is the sum over its records on the same asset and network without a final outcome, this one
        included; looked at and inserted in one transaction.  On failure: unknown whether it was stored.
        """

    def persist_intent(self, record: SettlementRecord) -> SettlementRecord | None:
        """Journal a settlement: None when it was stored now, else the record stored before under the same key.

        Raises: LocalProtocolError when another permit of its slot is there and not void; then nothing was stored.
        On failure: unknown whether it was stored; nothing may be broadcast.
        """

    def persist(self, record: SettlementRecord) -> SettlementRecord:
        """Add what ``record`` knows (signed attempts, sent, outcome) to the stored one and return the sum.

        Never forgets an attempt and never changes a final outcome, so an older record changes nothing.  The attempts'
        numbers become used, and a final outcome frees the numbers this key never signed with, in the same transaction.
        Raises: LocalProtocolError without a stored intent or for another permit of the same key.
        On failure: unknown whether it was stored; nothing new may be broadcast.
        """

    def record(self, key: str) -> SettlementRecord | None:
        """Return the journaled settlement, or None.  On failure: nothing is known."""

    def open_records(self) -> tuple[SettlementRecord, ...]:
        """Return every record without a final outcome, oldest first.  On failure: nothing is known."""

    # --------------------------------------------------------------------------------------------- leases of settlements

    def lease(self, key: str, worker: str, until: Millis, *, now: Millis) -> bool:
        """Take or renew the right to work on a settlement; False while another worker's lease lasts.

        On failure: nobody else can take it before ``until``, perhaps.
        """

    def unlease(self, key: str, worker: str) -> None:
        """Give up this worker's lease.  On failure: it ends by itself."""

    # ------------------------------------------------------------------------------------------- transaction numbers

    def allocate(self, network: Network, account: Address, key: str, count: int, *, floor: int) -> tuple[int, ...]:
        """Hand out the ``count`` lowest rising numbers from ``floor`` (the chain's next) that belong to no one.

        Asked again for the same key and count, the same numbers come back, used or not, until they are given back or the
        chain has passed one; then they are exchanged, and those passed are never handed out again if they were used.
        Raises: LocalProtocolError for a count below 1 or a floor outside 0..2**62.  On failure: as if asked once; ask again.
        """

    def return_numbers(self, network: Network, key: str) -> None:
        """Give back the numbers last handed out to ``key``, used or not: no node has seen a transaction with them.

        On failure: they stay this key's; ask again.
        """

    # -------------------------------------------------------------------------------------------------------- catalog

    def catalogue(self, entry: CatalogEntry) -> None:
        """List a resource, in place of this payee's older entry of the same key; an older one changes nothing.

        Of a payee's entries beyond ``MOST_PER_PAYEE`` the oldest are forgotten.
        Raises: LocalProtocolError without a way to pay.  On failure: it may not be listed.
        """

    def resources(self, query: CatalogQuery) -> tuple[tuple[CatalogEntry, ...], int]:
        """Return the part asked for of the entries that match, and how many match in all; first listed first.

        In that order, a reader that pages through misses none.  On failure: nothing is known.
        """

    def search(self, text: str, query: CatalogQuery) -> tuple[tuple[CatalogEntry, ...], int]:
        """Return the same of those entries in which every word of ``text`` is found; the latest paid for first.

        On failure: nothing is known.
        """

    # ---------------------------------------------------------------------------------------------------- housekeeping

    def prune(self, before: Millis) -> int:
        """Forget payments that are over, of permits that had expired ``before``, and return how many.

        Over: the outcome is final, the claim closed (none, COMMITTED, void, or with its answer kept) and both older than
        ``before``.  A claim without a settlement record (nothing was charged, or its owner died) is over when it is COMMITTED,
        answered, or open with no trace of money, and its lease, which lasts at least as long as its permit, ended ``before``.
        What may be owed stays: KEPT with its outcome open, or paid and never answered.
        ``before`` must lie further back than any access token lives and any chain's clock lags.  A payment that is forgotten
        frees its identifier; what it granted stays, unless it was void.  The catalog is left as it is.
        On failure: some may be forgotten; ask again.
        """

    def entries(self, *, since: Millis = Millis(0)) -> tuple[Entry, ...]:  # a NewType call is its argument
        """List payments created at ``since`` or later, oldest first, for people and reconciliation.

        On failure: nothing is known.
        """

    def close(self) -> None:
        """Let go of the storage; a second call does nothing.  Any other call afterwards raises LocalProtocolError."""
