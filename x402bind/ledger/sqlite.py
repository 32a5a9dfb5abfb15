"""A ledger in one SQLite file: for one machine, any number of threads and processes.

Theory of operation.  Every writing call is one part of a ``BEGIN IMMEDIATE`` transaction, which it may share with others of
this process: SQLite lets one writer in at a time, so what the call reads is still true when it commits.  Every reading call is
one deferred transaction, which in WAL mode is one snapshot.  How the file is opened, locked and made durable is
``sqlite_file.py``'s business, who shares a transaction ``sqlite_group.py``'s.

Sums of amounts are made in Python.  Claims and records are read and written in ``sqlite_rows.py``; grants and the catalog have
their statements in files of their own too.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Final

from x402core import ledger as rule
from x402core.catalog import CatalogEntry, CatalogQuery
from x402core.errors import LocalProtocolError, Reply
from x402core.events import Settled
from x402core.ledger import Claim, ClaimState, Grant, PaymentState, SettlementRecord, SignedIn, Stored
from x402core.values import Address, Amount, Millis, Network
from x402core.wire.discovery import decode_entry

from . import rows, sqlite_catalog, sqlite_grants
from .contract import Entry
from .rows import NumberState
from .sqlite_file import SqliteFile
from .sqlite_rows import SqliteRows, read

__all__ = ["SqliteLedger"]

_PRUNED_AT_ONCE: Final = 200  # payments a writer may be held up for


class SqliteLedger:
    """Keep the ledger in the SQLite file at ``path``; ``":memory:"`` forgets like ``memory`` does.

    ``patience`` is how many seconds a call waits for another process's lock.
    Raises: LedgerUnavailable when the file cannot be used, LocalProtocolError for an empty path or a newer release's file.
    """

    def __init__(self, path: str, *, patience: float = 5.0) -> None:
        self._file = SqliteFile(path, patience)
        self._rows = SqliteRows()

    @property
    def blocking(self) -> bool:
        """Say that calls wait for a disk."""
        return True

    def close(self) -> None:
        """Close this process's connection; what was acknowledged is on the disk already."""
        self._file.close()

    # --------------------------------------------------------------------------------------------------------- claims

    def recall(self, key: str, request: str, *, now: Millis, identifier: str = "") -> Claim:
        """See :meth:`Ledger.recall`."""
        with self._file.reading() as db:
            named = self._rows.named(db, identifier, key, now)
            return rule.recall(self._rows.claim(db, key), self._rows.record(db, key), request=request, now=now, named=named)

    def claim(self, key: str, request: str, owner: str, until: Millis, *, now: Millis, identifier: str = "") -> Claim:
        """See :meth:`Ledger.claim`."""
        with self._file.writing() as db:
            row, named = self._rows.claim(db, key), self._rows.named(db, identifier, key, now)
            claim = rule.decide(row, self._rows.record(db, key), request=request, now=now, named=named)
            if (after := rows.taken(row, claim, key, request, owner, until, identifier)) is not None:
                self._rows.take(db, after, now)
            return claim

    def release(self, key: str, owner: str) -> None:
        """See :meth:`Ledger.release`."""
        with self._file.writing() as db:
            row = self._rows.claim(db, key)
            if rows.releasable(row, owner, self._rows.record(db, key) is not None):
                db.execute("DELETE FROM x402_claims WHERE key = ?", (key,))
            elif (after := rows.closed(row, owner, ClaimState.KEPT, None, None)) is not None:
                self._rows.change(db, after)

    def extend(self, key: str, owner: str, until: Millis) -> bool:
        """See :meth:`Ledger.extend`."""
        with self._file.writing() as db:
            after = rows.extended(self._rows.claim(db, key), owner, until)
            if after is not None:
                self._rows.change(db, after)
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
        with self._file.writing() as db:
            row = self._rows.claim(db, key)
            if (after := rows.closed(row, owner, state, settled, reply)) is not None:
                self._rows.change(db, after)
            if grant is not None and rows.owned(row, owner):
                sqlite_grants.remember_grant(db, grant, key)

    def refund(self, key: str, *, now: Millis, served: bool = False) -> bool:
        """See :meth:`Ledger.refund`."""
        with self._file.writing() as db:
            row = self._rows.claim(db, key)
            if row is None or not rule.refundable(row, self._rows.record(db, key), now=now, served=served):
                return False
            self._rows.change(db, replace(row, state=ClaimState.REFUNDED))
            sqlite_grants.drop_grants(db, key)
            return True

    def payment_state(self, key: str) -> PaymentState:
        """See :meth:`Ledger.payment_state`."""
        with self._file.reading() as db:
            return rule.payment_state(self._rows.claim(db, key), self._rows.record(db, key))

    def sign_in(self, resource: str, payer: Address, nonce: str, until: Millis, *, now: Millis) -> SignedIn:
        """See :meth:`Ledger.sign_in`; a proof that gets nothing waits for no writer."""
        asked = Grant(resource, payer)
        with self._file.reading() as db:
            told = sqlite_grants.sign_in(db, self._rows.look, asked, nonce, until, now)
        if told is SignedIn.GRANTED:
            with self._file.writing() as db:
                told = sqlite_grants.sign_in(db, self._rows.look, asked, nonce, until, now)
                if told is SignedIn.GRANTED:
                    sqlite_grants.use_nonce(db, payer, nonce, until, now)
        return told

    # ------------------------------------------------------------------------------------------ the settlement journal

    def record_intent(self, record: SettlementRecord, most_open: Amount | None) -> Stored:
        """See :meth:`Ledger.record_intent`."""
        with self._file.writing() as db:
            if self._rows.record(db, record.key) is not None:
                return Stored.DUPLICATE
            if self._rows.conflict(db, record):
                return Stored.CONFLICT
            who = (record.permit.payer, record.permit.asset, record.permit.network)
            owed = db.execute(_OWED, who).fetchall()
            answer = rows.admit(record, (int(amount) for (amount,) in owed), most_open)
            if answer is Stored.STORED:
                self._rows.insert(db, record)
            return answer

    def persist_intent(self, record: SettlementRecord) -> SettlementRecord | None:
        """See :meth:`Ledger.persist_intent`."""
        with self._file.writing() as db:
            stored = self._rows.record(db, record.key)
            if stored is None:
                if self._rows.conflict(db, record):
                    raise rows.slot_taken()
                self._rows.insert(db, record)
            return stored

    def persist(self, record: SettlementRecord) -> SettlementRecord:
        """See :meth:`Ledger.persist`."""
        key, network = record.key, record.permit.network
        with self._file.writing() as db:
            stored = self._rows.record(db, key)
            if stored is None:
                raise LocalProtocolError("no intent is journaled for this settlement", field="record")
            after = rows.merged(stored, record)
            db.executemany(_USE, [(network, key, number) for attempt in record.attempts for number in attempt.numbers])
            if rows.is_final(after.outcome):
                _drop_numbers(db, network, key, NumberState.HELD)
            if after != stored:
                self._rows.update(db, after)
            return after

    def record(self, key: str) -> SettlementRecord | None:
        """See :meth:`Ledger.record`."""
        with self._file.reading() as db:
            return self._rows.record(db, key)

    def open_records(self) -> tuple[SettlementRecord, ...]:
        """See :meth:`Ledger.open_records`."""
        with self._file.reading() as db:
            found = db.execute("SELECT body FROM x402_records WHERE open ORDER BY created, seq").fetchall()
        return tuple(self._rows.body(body) for (body,) in found)

    # --------------------------------------------------------------------------------------------- leases of settlements

    def lease(self, key: str, worker: str, until: Millis, *, now: Millis) -> bool:
        """See :meth:`Ledger.lease`."""
        with self._file.writing() as db:
            return db.execute(_LEASE, (key, worker, rows.lasting(until), worker, now)).rowcount == 1

    def unlease(self, key: str, worker: str) -> None:
        """See :meth:`Ledger.unlease`."""
        with self._file.writing() as db:
            db.execute("DELETE FROM x402_leases WHERE key = ? AND worker = ?", (key, worker))

    # ------------------------------------------------------------------------------------------- transaction numbers

    def allocate(self, network: Network, account: str, key: str, count: int, *, floor: int) -> tuple[int, ...]:
        """See :meth:`Ledger.allocate`."""
        rows.ask_numbers(count, floor)
        with self._file.writing() as db:
            mine = {n for (n,) in db.execute(_MINE, (network, account, key))}
            busy = {n for (n,) in db.execute(_BUSY, (network, account, floor))}
            numbers = rows.allot(mine, busy - mine, floor, count)
            for number in mine.difference(numbers):
                db.execute(_EXCHANGE, (network, account, number))
                db.execute(_SEAL, (network, account, number))
            for number in set(numbers) - mine:
                db.execute(_HAND_OUT, (network, account, number, key))
            return numbers

    def return_numbers(self, network: Network, key: str) -> None:
        """See :meth:`Ledger.return_numbers`."""
        with self._file.writing() as db:
            _drop_numbers(db, network, key, NumberState.HELD)
            _drop_numbers(db, network, key, NumberState.USED)

    # -------------------------------------------------------------------------------------------------------- catalog

    def catalogue(self, entry: CatalogEntry) -> None:
        """See :meth:`Ledger.catalogue`."""
        with self._file.writing() as db:
            sqlite_catalog.list_entry(db, entry)

    def resources(self, query: CatalogQuery) -> tuple[tuple[CatalogEntry, ...], int]:
        """See :meth:`Ledger.resources`."""
        with self._file.reading() as db:
            found, total = sqlite_catalog.find(db, query)
        return tuple(read(decode_entry, body) for body in found), total

    def search(self, text: str, query: CatalogQuery) -> tuple[tuple[CatalogEntry, ...], int]:
        """See :meth:`Ledger.search`."""
        with self._file.reading() as db:
            found, total = sqlite_catalog.search(db, text, query)
        return tuple(read(decode_entry, body) for body in found), total

    # ---------------------------------------------------------------------------------------------------- housekeeping

    def prune(self, before: Millis) -> int:
        """See :meth:`Ledger.prune`."""
        pruned, after = 0, 0
        while True:
            with self._file.writing() as db:
                found = db.execute(_OLD, (before, before, after, _PRUNED_AT_ONCE)).fetchall()
                for seq, key, body in found:
                    after = seq
                    record = self._rows.body(body)
                    if rows.prunable(self._rows.claim(db, key), self._rows.taken_at(db, key), record, before):
                        _forget(db, key)
                        if rows.is_void(record):
                            sqlite_grants.drop_grants(db, key)
                        else:
                            sqlite_grants.thin_grants(db, key)
                        pruned += 1
            if not found:
                return pruned + self._prune_alone(before)

    def _prune_alone(self, before: Millis) -> int:
        """Forget claims without a record; they are looked for while others may write."""
        pruned, after = 0, ""
        while True:
            with self._file.reading() as db:
                found = db.execute(_LAPSED, (before, before, after, _PRUNED_AT_ONCE)).fetchall()
            if not found:
                return pruned
            after = found[-1][0]
            with self._file.writing() as db:
                for (key,) in found:
                    row, record = self._rows.look(db, key)
                    if row is not None and record is None and rows.lapsed(row, self._rows.taken_at(db, key), before):
                        for table in ("x402_claims", "x402_leases"):
                            db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
                        if row.settled is None:
                            sqlite_grants.drop_grants(db, key)
                        else:
                            sqlite_grants.thin_grants(db, key)
                        pruned += 1

    def entries(self, *, since: Millis = Millis(0)) -> tuple[Entry, ...]:
        """See :meth:`Ledger.entries`."""
        with self._file.reading() as db:
            keys = db.execute("SELECT key FROM x402_claims UNION SELECT key FROM x402_records").fetchall()
            found = [
                rows.entry(key, self._rows.claim(db, key), self._rows.taken_at(db, key), self._rows.record(db, key))
                for (key,) in keys
            ]
        return tuple(sorted((e for e in found if e.created >= since), key=lambda e: (e.created, e.key)))


# ---------------------------------------------------------------------------------------------------------- statements

_OWED: Final = "SELECT amount FROM x402_records WHERE open AND payer = ? AND asset = ? AND network = ?"
_LEASE: Final = """INSERT INTO x402_leases (key, worker, until) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET worker = excluded.worker, until = excluded.until WHERE worker = ? OR until <= ?"""
# states of numbers: 0 held, 1 used, 2 sealed (rows.NumberState)
# INDEXED BY: the planner takes the primary key's first column for narrow, and reads every number of the network
_USE: Final = """UPDATE x402_numbers INDEXED BY x402_numbers_of SET state = 1
    WHERE network = ? AND key = ? AND number = ? AND state = 0"""
_DROP: Final = "DELETE FROM x402_numbers INDEXED BY x402_numbers_of WHERE key = ? AND network = ? AND state = ?"
_MINE: Final = "SELECT number FROM x402_numbers WHERE network = ? AND account = ? AND key = ? AND state < 2"
_BUSY: Final = "SELECT number FROM x402_numbers WHERE network = ? AND account = ? AND number >= ?"
_EXCHANGE: Final = "DELETE FROM x402_numbers WHERE network = ? AND account = ? AND number = ? AND state = 0"
_SEAL: Final = "UPDATE x402_numbers SET state = 2 WHERE network = ? AND account = ? AND number = ?"
_HAND_OUT: Final = "INSERT INTO x402_numbers (network, account, number, key, state) VALUES (?, ?, ?, ?, 0)"
_LAPSED: Final = """SELECT key FROM x402_claims AS c WHERE until < ? AND at < ? AND key > ?
    AND NOT EXISTS (SELECT 1 FROM x402_records WHERE key = c.key) ORDER BY key LIMIT ?"""
_OLD: Final = """SELECT seq, key, body FROM x402_records WHERE NOT open AND expires < ? AND created < ? AND seq > ?
    ORDER BY seq LIMIT ?"""


def _drop_numbers(db: sqlite3.Connection, network: Network, key: str, state: NumberState) -> None:
    db.execute(_DROP, (key, network, state))


def _forget(db: sqlite3.Connection, key: str) -> None:
    for table in ("x402_claims", "x402_leases", "x402_numbers", "x402_records"):
        db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
