"""An independent, tiny idea of a ledger: the claim rule as the table of test_claim_rule, the rest as plain sets and lists.

It shares no code with ``x402bind.ledger`` and none with ``x402core.ledger.decide``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.test_claim_rule import BARE, KEPT_REPLY, LIVE, NO_ROW, NONE, OPEN, OTHER, OVER, PROVEN, SAME, SETTLED, VOID, expected
from x402core.catalog import CatalogEntry
from x402core.errors import Reply
from x402core.events import Settled, Unsettled
from x402core.ledger import Attempt, ClaimStatus, SettlementRecord


@dataclass
class Held:
    """A claim."""

    owner: str
    request: str
    until: int
    at: int
    state: str = "claimed"
    reply: Reply | None = None
    proven: bool = False
    name: str = ""


@dataclass
class Lot:
    """What one key was handed last, and which of it was signed with."""

    numbers: list[int] = field(default_factory=list)
    signed: set[int] = field(default_factory=set)


@dataclass
class Model:
    """Say what a ledger should answer."""

    claims: dict[str, Held] = field(default_factory=dict)
    journal: dict[str, SettlementRecord] = field(default_factory=dict)
    leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    lots: dict[str, Lot] = field(default_factory=dict)
    sealed: dict[int, str] = field(default_factory=dict)
    grants: list[tuple[str, str, str]] = field(default_factory=list)  # resource, payer, key
    nonces: list[tuple[str, str, int]] = field(default_factory=list)  # payer, nonce, until
    listed: list[CatalogEntry] = field(default_factory=list)

    def stored(self, key: str) -> str:
        """Name the settlement of a key as the table does."""
        if key not in self.journal:
            return PROVEN if key in self.claims and self.claims[key].proven else NONE
        match self.journal[key].outcome:
            case Settled():
                return SETTLED
            case Unsettled(final=True):
                return VOID
            case _:
                return OPEN

    def bearer(self, key: str, name: str, now: int) -> str | None:
        """Name the other payment that has a name and has not lost it."""
        for other, held in self.claims.items():
            gone = held.state == "claimed" and now >= held.until and self.stored(other) == NONE
            if name and other != key and held.name == name and not gone and self.stored(other) != VOID:
                return other
        return None

    def recall(self, key: str, request: str, now: int, name: str = "") -> ClaimStatus:
        """Look the answer up."""
        if self.bearer(key, name, now):
            return ClaimStatus.CONFLICT
        held = self.claims.get(key)
        if held is None:
            return expected(NO_ROW, LIVE, BARE, SAME, self.stored(key))
        lease = LIVE if now < held.until else OVER
        reply = BARE if held.reply is None else KEPT_REPLY
        return expected(held.state, lease, reply, SAME if request == held.request else OTHER, self.stored(key))

    def claim(self, key: str, request: str, owner: str, until: int, now: int, name: str = "") -> ClaimStatus:
        """Look the answer up and take the claim if it says so."""
        status = self.recall(key, request, now, name)
        if status in (ClaimStatus.TAKEN, ClaimStatus.UNSERVED):
            before = self.claims.get(key)
            if before and (before.state == "kept" or status is ClaimStatus.UNSERVED):
                name = before.name or name
            for other in self.claims.values():
                other.name = "" if other.name == name else other.name
            self.claims[key] = Held(owner, request, until, now, proven=status is ClaimStatus.UNSERVED, name=name)
        return status

    def extend(self, key: str, owner: str, until: int) -> bool:
        """Lengthen a lease."""
        held = self.claims.get(key)
        if not held or (held.owner, held.state) != (owner, "claimed"):
            return False
        held.until = max(held.until, until)
        return True

    def paid(self, resource: str, who: str) -> bool:
        """Say whether the money of a grant has arrived, or did so long ago."""
        bought = [k for r, p, k in self.grants if (r, p) == (resource, who)]
        return any(self.stored(k) in (SETTLED, PROVEN) or k not in {**self.journal, **self.claims} for k in bought)

    def grant(self, resource: str, who: str, key: str, owner: str) -> None:
        """Remember a grant."""
        held = self.claims.get(key)
        if held is not None and held.owner == owner and held.state != "refunded":
            self.grants.append((resource, who, key))

    def sign_in(self, resource: str, who: str, nonce: str, until: int, now: int) -> str:
        """Use a nonce up for a grant."""
        if until <= now or any((p, n) == (who, nonce) and ends > now for p, n, ends in self.nonces):
            return "nonce_used"
        if not self.paid(resource, who):
            return "not_paid"
        self.nonces.append((who, nonce, until))
        return "granted"

    def list_entry(self, entry: CatalogEntry) -> None:
        """List a resource."""
        for place, known in enumerate(self.listed):
            if (known.key, known.payee) == (entry.key, entry.payee):
                if known.last_updated <= entry.last_updated:
                    self.listed[place] = entry
                return
        self.listed.append(entry)

    def release(self, key: str, owner: str) -> None:
        """Forget an open claim without a trace of money; leave one with a trace to be told by it."""
        held = self.claims.get(key)
        if held and (held.owner, held.state) == (owner, "claimed"):
            if self.stored(key) == NONE:
                del self.claims[key]
            else:
                held.state = "kept"

    def close_claim(self, key: str, owner: str, state: str, reply: Reply | None, proven: bool = False) -> None:
        """Commit or keep."""
        held = self.claims.get(key)
        if held and held.owner == owner:
            held.state = (
                "refunded" if held.state == "refunded" else "committed" if "committed" in (held.state, state) else state
            )
            held.reply = held.reply or reply
            held.proven = held.proven or proven

    def refund(self, key: str, now: int, served: bool) -> bool:
        """Close a paid claim for good."""
        held = self.claims.get(key)
        if held is None or held.state == "refunded" or (held.state == "claimed" and now < held.until):
            return False
        if self.stored(key) not in (SETTLED, PROVEN) or (not served and (held.state == "committed" or held.reply)):
            return False
        held.state = "refunded"
        self.grants = [grant for grant in self.grants if grant[2] != key]
        return True

    def intent(self, record: SettlementRecord, most: int | None = None) -> str:
        """Journal an intent."""
        if record.key in self.journal:
            return "duplicate"
        if any(r.permit.slot == record.permit.slot and self.stored(k) != VOID for k, r in self.journal.items()):
            return "conflict"
        mine = [r for k, r in self.journal.items() if self.stored(k) == OPEN and r.permit.payer == record.permit.payer]
        if most is not None and sum(r.amount for r in mine) + record.amount > most:
            return "over_exposure"
        self.journal[record.key] = record
        return "stored"

    def persist(self, key: str, attempt: Attempt | None, sent: bool, outcome: Settled | Unsettled | None) -> None:
        """Add what is new about a settlement."""
        known = self.journal[key]
        lot = self.lots.setdefault(key, Lot())
        if attempt is not None:
            if attempt.raws not in [a.raws for a in known.attempts]:
                known = known.with_attempt(attempt)
            lot.signed |= {n for n in attempt.numbers if n in lot.numbers}
        known = replace(known, sent=known.sent or sent)
        if self.stored(key) == OPEN and outcome is not None:
            known = replace(known, outcome=outcome)
        self.journal[key] = known
        if self.stored(key) in (SETTLED, VOID):
            lot.numbers = [n for n in lot.numbers if n in lot.signed]

    def allocate(self, key: str, count: int, floor: int) -> tuple[int, ...]:
        """Hand out numbers."""
        lot = self.lots.setdefault(key, Lot())
        if len(lot.numbers) == count and min(lot.numbers) >= floor:
            return tuple(lot.numbers)
        taken = {n for k, other in self.lots.items() if k != key for n in other.numbers} | self.sealed.keys()
        fresh: list[int] = []
        number = floor
        while len(fresh) < count:
            if number not in taken:
                fresh.append(number)
            number += 1
        self.sealed |= {n: key for n in lot.numbers if n in lot.signed and n not in fresh}
        lot.numbers, lot.signed = fresh, lot.signed & set(fresh)
        return tuple(fresh)

    def give_back(self, key: str) -> None:
        """Take numbers back."""
        self.lots[key] = Lot()

    def lease(self, key: str, worker: str, until: int, now: int) -> bool:
        """Take or renew a lease."""
        holder, ends = self.leases.get(key, (worker, 0))
        if holder != worker and ends > now:
            return False
        self.leases[key] = (worker, until)
        return True

    def unlease(self, key: str, worker: str) -> None:
        """Give a lease up."""
        if self.leases.get(key, ("", 0))[0] == worker:
            del self.leases[key]

    def prune(self, before: int) -> int:
        """Forget what is over."""
        over, journaled = [], frozenset(self.journal)
        for key, known in self.journal.items():
            held = self.claims.get(key)
            old = max(known.created, known.permit.expires * 1000, held.at if held else 0) < before
            given = held is None or held.state in ("committed", "refunded")
            if held and not given and before >= (held.until if held.state == "claimed" else 0):
                given = self.stored(key) == VOID or (self.stored(key) == SETTLED and held.reply is not None)
            if old and given and self.stored(key) in (SETTLED, VOID):
                over.append(key)
        for key, held in self.claims.items():
            free = held.reply is not None if held.proven else held.state == "claimed"
            if (
                key not in self.journal
                and max(held.until, held.at) < before
                and (free or held.state in ("committed", "refunded"))
            ):
                over.append(key)
        for key in over:
            if self.stored(key) in (VOID, NONE):
                self.grants = [grant for grant in self.grants if grant[2] != key]
            self.journal.pop(key, None)
            for kept in (self.claims, self.leases):
                kept.pop(key, None)
            if key in journaled:
                self.lots.pop(key, None)
                self.sealed = {n: k for n, k in self.sealed.items() if k != key}
        return len(over)
