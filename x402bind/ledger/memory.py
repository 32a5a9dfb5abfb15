"""A ledger in this process's memory: a dictionary and a lock.  IT FORGETS EVERYTHING WHEN THE PROCESS ENDS.

For tests, demos and payers' toys.  A seller who restarts with it can be paid twice for one permit's answer, and cannot find
the transactions it had sent; use ``sqlite`` for anything that is worth money.
"""

from __future__ import annotations

import heapq
import os
import threading
from dataclasses import dataclass, field, replace
from typing import TypeVar

from x402core import ledger as rule
from x402core.catalog import MOST_PER_PAYEE, CatalogEntry, CatalogQuery, terms
from x402core.errors import LocalProtocolError, Reply
from x402core.events import Settled
from x402core.ledger import Claim, ClaimRow, ClaimState, Grant, PaymentState, SettlementRecord, SignedIn, Stored
from x402core.values import Address, Amount, Millis, Network

from . import rows
from .contract import Entry
from .rows import NumberState

__all__ = ["MemoryLedger"]

K = TypeVar("K")


@dataclass(slots=True)
class _Number:
    key: str
    state: NumberState


@dataclass(slots=True)
class _Lane:
    """An account's numbers: those from ``floor`` on, which are looked through, and those the chain is past."""

    live: dict[int, _Number] = field(default_factory=dict)
    past: dict[int, _Number] = field(default_factory=dict)
    floor: int = 0

    def at(self, floor: int) -> dict[int, _Number]:
        """Return the numbers from ``floor`` on; a reorganisation may have lowered it."""
        if floor == self.floor:
            return self.live
        from_, to = (self.live, self.past) if floor > self.floor else (self.past, self.live)
        for number in [number for number in from_ if (number < floor) == (to is self.past)]:
            to[number] = from_.pop(number)
        self.floor = floor
        return self.live

    def put(self, number: int, held: _Number) -> None:
        (self.live if number >= self.floor else self.past)[number] = held

    def drop(self, number: int) -> None:
        if self.live.pop(number, None) is None:
            self.past.pop(number, None)


@dataclass(slots=True)
class _Store:
    claims: dict[str, tuple[ClaimRow, Millis]] = field(default_factory=dict)
    records: dict[str, SettlementRecord] = field(default_factory=dict)
    leases: dict[str, tuple[str, Millis]] = field(default_factory=dict)
    open: dict[str, None] = field(default_factory=dict)  # keys of records without a final outcome
    debts: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)  # debtor -> those of them that are his
    slots: dict[str, str] = field(default_factory=dict)  # slot -> key of its record that is not void
    lanes: dict[tuple[Network, str], _Lane] = field(default_factory=dict)
    numbers: dict[tuple[Network, str], dict[tuple[str, int], _Number]] = field(default_factory=dict)  # by whose they are
    names: dict[str, str] = field(default_factory=dict)  # identifier -> key
    grants: dict[tuple[str, Address], set[str]] = field(default_factory=dict)  # (resource, payer) -> keys
    nonces: dict[tuple[Address, str], Millis] = field(default_factory=dict)
    ending: list[tuple[Millis, Address, str]] = field(default_factory=list)  # the same nonces, a heap
    catalog: dict[tuple[str, str], CatalogEntry] = field(default_factory=dict)  # (key, payee), first listed first

    def look(self, key: str) -> tuple[ClaimRow | None, SettlementRecord | None]:
        return self.row(key), self.records.get(key)

    def row(self, key: str) -> ClaimRow | None:
        found = self.claims.get(key)
        return found[0] if found is not None else None

    def named(self, identifier: str, key: str, now: Millis) -> ClaimRow | None:
        """Return another key's row that has the identifier, if it still stands."""
        other = self.names.get(identifier, key)
        row, record = self.look(other)
        return row if other != key and row is not None and rule.stands(row, record, now=now) else None

    def write(self, row: ClaimRow, at: Millis) -> None:
        """Write a claim; whoever had its identifier before has it no more."""
        before = self.row(row.key)
        if before is not None and before.identifier:
            del self.names[before.identifier]
        if row.identifier:
            other = self.names.get(row.identifier)
            if other is not None:
                was, taken = self.claims[other]
                self.claims[other] = (replace(was, identifier=""), taken)
            self.names[row.identifier] = row.key
        self.claims[row.key] = (row, at)

    def drop(self, key: str) -> None:
        """Forget a claim and free its identifier."""
        row = self.row(key)
        if row is not None:
            self.names.pop(row.identifier, None)
            del self.claims[key]

    def ungrant(self, key: str) -> None:
        """Forget what a payment bought: it came to nothing."""
        for keys in self.grants.values():
            keys.discard(key)

    def thin_grants(self) -> None:
        """Of what payments bought that are forgotten, keep one: it cannot fall any more, and so stands for the others."""
        for keys in self.grants.values():
            keys -= set(sorted(key for key in keys if self.look(key) == (None, None))[1:])

    def put(self, record: SettlementRecord) -> None:
        """Write a record, and where it is looked for."""
        key, slot, who = record.key, record.permit.slot, _debtor(record)
        self.records[key] = record
        if not rows.is_void(record):
            self.slots[slot] = key
        elif self.slots.get(slot) == key:
            del self.slots[slot]
        still_open = not rows.is_final(record.outcome)
        _move(self.debts, who, key, there=still_open)
        if still_open:
            self.open.setdefault(key)
        else:
            self.open.pop(key, None)

    def forget(self, key: str) -> SettlementRecord:
        """Take a record out, and from wherever it is looked for."""
        record = self.records.pop(key)
        if self.slots.get(record.permit.slot) == key:
            del self.slots[record.permit.slot]
        _move(self.debts, _debtor(record), key, there=False)
        self.open.pop(key, None)
        return record

    def conflict(self, record: SettlementRecord) -> bool:
        return record.permit.slot in self.slots

    def free(self, network: Network, key: str, *states: NumberState) -> None:
        """Free a key's numbers in these states, in every lane of the network."""
        mine = self.numbers.get((network, key), {})
        for account, number in [at for at, held in mine.items() if held.state in states]:
            del mine[account, number]
            self.lanes[network, account].drop(number)
        if not mine:
            self.numbers.pop((network, key), None)

    def at(self, key: str) -> Millis:
        found = self.claims.get(key)
        return found[1] if found is not None else Millis(0)


class _Guarded:
    """The store, for one thread at a time, in the process that opened it."""

    __slots__ = ("_lock", "_pid", "_store")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._store: _Store | None = _Store()

    def __enter__(self) -> _Store:
        if self._pid != os.getpid():  # a copy would answer TAKEN a second time; and another thread may have held the lock
            raise LocalProtocolError("a memory ledger lives in the process that opened it; use sqlite: for several")
        self._lock.acquire()
        if self._store is None:
            self._lock.release()
            raise LocalProtocolError("this ledger is closed")
        return self._store

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._store = None


class MemoryLedger:
    """Keep the ledger in a dictionary, for the life of the process; threads may share it."""

    def __init__(self) -> None:
        self._store = _Guarded()

    @property
    def blocking(self) -> bool:
        """Say that no call waits for anything but other threads' dictionary look-ups."""
        return False

    def recall(self, key: str, request: str, *, now: Millis, identifier: str = "") -> Claim:
        """See :meth:`Ledger.recall`."""
        with self._store as store:
            named = store.named(identifier, key, now)
            return rule.recall(*store.look(key), request=request, now=now, named=named)

    def claim(self, key: str, request: str, owner: str, until: Millis, *, now: Millis, identifier: str = "") -> Claim:
        """See :meth:`Ledger.claim`."""
        with self._store as store:
            row, record = store.look(key)
            claim = rule.decide(row, record, request=request, now=now, named=store.named(identifier, key, now))
            if (after := rows.taken(row, claim, key, request, owner, until, identifier)) is not None:
                store.write(after, now)
            return claim

    def release(self, key: str, owner: str) -> None:
        """See :meth:`Ledger.release`."""
        with self._store as store:
            row, record = store.look(key)
            if rows.releasable(row, owner, record is not None):
                store.drop(key)
            elif (after := rows.closed(row, owner, ClaimState.KEPT, None, None)) is not None:
                store.write(after, store.at(key))

    def extend(self, key: str, owner: str, until: Millis) -> bool:
        """See :meth:`Ledger.extend`."""
        with self._store as store:
            after = rows.extended(store.row(key), owner, until)
            if after is not None:
                store.write(after, store.at(key))
            return after is not None

    def commit(self, key: str, owner: str, settled: Settled | None, reply: Reply | None, grant: Grant | None = None) -> None:
        """See :meth:`Ledger.commit`."""
        self._close_claim(key, owner, ClaimState.COMMITTED, settled, reply, grant)

    def keep(
        self, key: str, owner: str, reply: Reply | None, settled: Settled | None = None, grant: Grant | None = None
    ) -> None:
        """See :meth:`Ledger.keep`."""
        self._close_claim(key, owner, ClaimState.KEPT, settled, reply, grant)

    def _close_claim(
        self,
        key: str,
        owner: str,
        state: ClaimState,
        settled: Settled | None,
        reply: Reply | None,
        grant: Grant | None,
    ) -> None:
        with self._store as store:
            row = store.row(key)
            if (after := rows.closed(row, owner, state, settled, reply)) is not None:
                store.write(after, store.at(key))
            if grant is not None and rows.owned(row, owner):
                store.grants.setdefault((grant.resource, grant.payer), set()).add(key)

    def refund(self, key: str, *, now: Millis, served: bool = False) -> bool:
        """See :meth:`Ledger.refund`."""
        with self._store as store:
            row, record = store.look(key)
            if row is None or not rule.refundable(row, record, now=now, served=served):
                return False
            store.write(replace(row, state=ClaimState.REFUNDED), store.at(key))
            store.ungrant(key)
            return True

    def payment_state(self, key: str) -> PaymentState:
        """See :meth:`Ledger.payment_state`."""
        with self._store as store:
            return rule.payment_state(*store.look(key))

    def sign_in(self, resource: str, payer: Address, nonce: str, until: Millis, *, now: Millis) -> SignedIn:
        """See :meth:`Ledger.sign_in`."""
        with self._store as store:
            if until <= now or store.nonces.get((payer, nonce), now) > now:
                return SignedIn.NONCE_USED
            if not any(rows.firm(*store.look(key)) for key in store.grants.get((resource, payer), ())):
                return SignedIn.NOT_PAID
            while store.ending and store.ending[0][0] <= now:
                store.nonces.pop(heapq.heappop(store.ending)[1:], None)
            store.nonces[payer, nonce] = rows.lasting(until)
            heapq.heappush(store.ending, (rows.lasting(until), payer, nonce))
            return SignedIn.GRANTED

    def record_intent(self, record: SettlementRecord, most_open: Amount | None) -> Stored:
        """See :meth:`Ledger.record_intent`."""
        with self._store as store:
            if record.key in store.records:
                return Stored.DUPLICATE
            if store.conflict(record):
                return Stored.CONFLICT
            who = _debtor(record)
            owed = (store.records[key].amount for key in store.debts.get(who, ()))
            answer = rows.admit(record, owed, most_open)
            if answer is Stored.STORED:
                store.put(record)
            return answer

    def persist_intent(self, record: SettlementRecord) -> SettlementRecord | None:
        """See :meth:`Ledger.persist_intent`."""
        with self._store as store:
            stored = store.records.get(record.key)
            if stored is None:
                if store.conflict(record):
                    raise rows.slot_taken()
                store.put(record)
            return stored

    def persist(self, record: SettlementRecord) -> SettlementRecord:
        """See :meth:`Ledger.persist`."""
        with self._store as store:
            key, stored = record.key, store.records.get(record.key)
            if stored is None:
                raise LocalProtocolError("no intent is journaled for this settlement", field="record")
            after = rows.merged(stored, record)
            signed = {number for attempt in record.attempts for number in attempt.numbers}
            for (_, number), held in store.numbers.get((record.permit.network, key), {}).items():
                if held.state is NumberState.HELD and number in signed:
                    held.state = NumberState.USED
            if rows.is_final(after.outcome):
                store.free(record.permit.network, key, NumberState.HELD)
            store.put(after)
            return after

    def record(self, key: str) -> SettlementRecord | None:
        """See :meth:`Ledger.record`."""
        with self._store as store:
            return store.records.get(key)

    def open_records(self) -> tuple[SettlementRecord, ...]:
        """See :meth:`Ledger.open_records`."""
        with self._store as store:
            still_open = (store.records[key] for key in store.open)
            return tuple(sorted(still_open, key=lambda record: record.created))

    def lease(self, key: str, worker: str, until: Millis, *, now: Millis) -> bool:
        """See :meth:`Ledger.lease`."""
        with self._store as store:
            holder, ends = store.leases.get(key, (worker, now))
            if holder != worker and now < ends:
                return False
            store.leases[key] = (worker, rows.lasting(until))
            return True

    def unlease(self, key: str, worker: str) -> None:
        """See :meth:`Ledger.unlease`."""
        with self._store as store:
            if store.leases.get(key, ("", 0))[0] == worker:
                del store.leases[key]

    def allocate(self, network: Network, account: str, key: str, count: int, *, floor: int) -> tuple[int, ...]:
        """See :meth:`Ledger.allocate`."""
        rows.ask_numbers(count, floor)
        with self._store as store:
            lane = store.lanes.setdefault((network, account), _Lane())
            live = lane.at(floor)
            own = store.numbers.setdefault((network, key), {})
            mine = {n: held for (who, n), held in own.items() if who == account and held.state is not NumberState.SEALED}
            numbers = rows.allot(mine, live.keys() - mine.keys(), floor, count)
            for number in mine.keys() - set(numbers):
                if mine[number].state is NumberState.HELD:
                    lane.drop(number)
                    del own[account, number]
                mine[number].state = NumberState.SEALED
            for number in set(numbers) - mine.keys():
                held = own[account, number] = _Number(key, NumberState.HELD)
                lane.put(number, held)
            return numbers

    def return_numbers(self, network: Network, key: str) -> None:
        """See :meth:`Ledger.return_numbers`."""
        with self._store as store:
            store.free(network, key, NumberState.HELD, NumberState.USED)

    def catalogue(self, entry: CatalogEntry) -> None:
        """See :meth:`Ledger.catalogue`."""
        at = (rows.listable(entry).key, entry.payee)
        with self._store as store:
            known = store.catalog.get(at)
            if known is not None and known.last_updated > entry.last_updated:
                return
            store.catalog[at] = entry
            mine = [place for place in store.catalog if place[1] == entry.payee]
            mine.sort(key=lambda place: store.catalog[place].last_updated)
            for place in mine[:-MOST_PER_PAYEE]:
                del store.catalog[place]

    def resources(self, query: CatalogQuery) -> tuple[tuple[CatalogEntry, ...], int]:
        """See :meth:`Ledger.resources`."""
        with self._store as store:
            found = tuple(entry for entry in store.catalog.values() if query.matches(entry))
            return found[query.offset : query.offset + query.limit], len(found)

    def search(self, text: str, query: CatalogQuery) -> tuple[tuple[CatalogEntry, ...], int]:
        """See :meth:`Ledger.search`."""
        words = terms(text)
        with self._store as store:
            found = [e for e in store.catalog.values() if query.matches(e) and all(word in e.words for word in words)]
            found.sort(key=lambda entry: -entry.last_updated)
            return tuple(found[query.offset : query.offset + query.limit]), len(found)

    def prune(self, before: Millis) -> int:
        """See :meth:`Ledger.prune`."""
        with self._store as store:
            over = [k for k, r in store.records.items() if rows.prunable(store.row(k), store.at(k), r, before)]
            alone = [k for k, (r, at) in store.claims.items() if k not in store.records and rows.lapsed(r, at, before)]
            for key in over:
                store.free(store.records[key].permit.network, key, *NumberState)
                if rows.is_void(store.forget(key)):
                    store.ungrant(key)
            for key in alone:
                if store.claims[key][0].settled is None:
                    store.ungrant(key)
            for key in (*over, *alone):
                store.drop(key)
                store.leases.pop(key, None)
            if over or alone:
                store.thin_grants()
            return len(over) + len(alone)

    def entries(self, *, since: Millis = Millis(0)) -> tuple[Entry, ...]:
        """See :meth:`Ledger.entries`."""
        with self._store as store:
            keys = store.claims.keys() | store.records.keys()
            found = (rows.entry(key, store.row(key), store.at(key), store.records.get(key)) for key in keys)
            return tuple(sorted((e for e in found if e.created >= since), key=lambda e: (e.created, e.key)))

    def close(self) -> None:
        """Forget everything."""
        self._store.close()


def _debtor(record: SettlementRecord) -> tuple[str, str, str]:
    return record.permit.payer, record.permit.asset, record.permit.network


def _move(index: dict[K, set[str]], at: K, key: str, *, there: bool) -> None:
    """Have a key in an index, or not."""
    if there:
        index.setdefault(at, set()).add(key)
    elif (keys := index.get(at)) is not None:
        keys.discard(key)
        if not keys:
            del index[at]
