"""A ledger in one SQLite file: for one machine, any number of threads and processes.

Theory of operation.  Every writing call is one ``BEGIN IMMEDIATE`` transaction: SQLite lets one writer in at a time, so what
the call reads is still true when it commits.  Every reading call is one deferred transaction, which in WAL mode is one
snapshot.  How the file is opened, locked and made durable is ``sqlite_file.py``'s business.

Amounts are text, because a uint256 does not fit SQLite's 64-bit integers; sums are made in Python.  Values are stored as
``x402core.wire.journal`` writes them; the columns beside them only find rows.  Grants and the catalog have their statements
in files of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from x402core import ledger as rule
from x402core.catalog import CatalogEntry, CatalogQuery
from x402core.errors import LocalProtocolError, Reply
from x402core.events import Settled
from x402core.ledger import Claim, ClaimRow, ClaimState, Grant, PaymentState, SettlementRecord, SignedIn, Stored
from x402core.values import Address, Amount, Millis, Network
from x402core.wire import journal
from x402core.wire.discovery import decode_entry

from . import rows, sqlite_catalog, sqlite_grants
from .contract import Entry, LedgerUnavailable
from .rows import NumberState
from .sqlite_file import SqliteFile

__all__ = ["SqliteLedger"]

T = TypeVar("T")

_PRUNED_AT_ONCE: Final = 200  # payments a writer may be held up for


class SqliteLedger:
    """Keep the ledger in the SQLite file at ``path``; ``":memory:"`` forgets like ``memory`` does.

    ``patience`` is how many seconds a call waits for another process's lock.
    Raises: LedgerUnavailable when the file cannot be used, LocalProtocolError for an empty path or a newer release's file.
    """

    def __init__(self, path: str, *, patience: float = 5.0) -> None:
        self._file = SqliteFile(path, patience)

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
            named = _named(db, identifier, key, now)
            return rule.recall(_row(db, key), _record(db, key), request=request, now=now, named=named)

    def claim(self, key: str, request: str, owner: str, until: Millis, *, now: Millis, identifier: str = "") -> Claim:
        """See :meth:`Ledger.claim`."""
        with self._file.writing() as db:
            row, named = _row(db, key), _named(db, identifier, key, now)
            claim = rule.decide(row, _record(db, key), request=request, now=now, named=named)
            if (after := rows.taken(row, claim, key, request, owner, until, identifier)) is not None:
                _take_row(db, after, now)
            return claim

    def release(self, key: str, owner: str) -> None:
        """See :meth:`Ledger.release`."""
        with self._file.writing() as db:
            row = _row(db, key)
            if rows.releasable(row, owner, _record(db, key) is not None):
                db.execute("DELETE FROM x402_claims WHERE key = ?", (key,))
            elif (after := rows.closed(row, owner, ClaimState.KEPT, None, None)) is not None:
                _write_row(db, after)

    def extend(self, key: str, owner: str, until: Millis) -> bool:
        """See :meth:`Ledger.extend`."""
        with self._file.writing() as db:
            after = rows.extended(_row(db, key), owner, until)
            if after is not None:
                _write_row(db, after)
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
            row = _row(db, key)
            if (after := rows.closed(row, owner, state, settled, reply)) is not None:
                _write_row(db, after)
            if grant is not None and rows.owned(row, owner):
                sqlite_grants.remember_grant(db, _look, grant, key)

    def payment_state(self, key: str) -> PaymentState:
        """See :meth:`Ledger.payment_state`."""
        with self._file.reading() as db:
            return rule.payment_state(_row(db, key), _record(db, key))

    def sign_in(self, resource: str, payer: Address, nonce: str, until: Millis, *, now: Millis) -> SignedIn:
        """See :meth:`Ledger.sign_in`; a proof that gets nothing waits for no writer."""
        asked = Grant(resource, payer)
        with self._file.reading() as db:
            told = sqlite_grants.sign_in(db, _look, asked, nonce, until, now)
        if told is SignedIn.GRANTED:
            with self._file.writing() as db:
                told = sqlite_grants.sign_in(db, _look, asked, nonce, until, now)
                if told is SignedIn.GRANTED:
                    sqlite_grants.use_nonce(db, payer, nonce, until, now)
        return told

    # ------------------------------------------------------------------------------------------ the settlement journal

    def record_intent(self, record: SettlementRecord, most_open: Amount | None) -> Stored:
        """See :meth:`Ledger.record_intent`."""
        with self._file.writing() as db:
            if _record(db, record.key) is not None:
                return Stored.DUPLICATE
            if _conflict(db, record):
                return Stored.CONFLICT
            who = (record.permit.payer, record.permit.asset, record.permit.network)
            owed = db.execute("SELECT amount FROM x402_records WHERE open AND payer = ? AND asset = ? AND network = ?", who)
            answer = rows.admit(record, (int(amount) for (amount,) in owed), most_open)
            if answer is Stored.STORED:
                _insert_record(db, record)
            return answer

    def persist_intent(self, record: SettlementRecord) -> SettlementRecord | None:
        """See :meth:`Ledger.persist_intent`."""
        with self._file.writing() as db:
            stored = _record(db, record.key)
            if stored is None:
                if _conflict(db, record):
                    raise rows.slot_taken()
                _insert_record(db, record)
            return stored

    def persist(self, record: SettlementRecord) -> SettlementRecord:
        """See :meth:`Ledger.persist`."""
        key, network = record.key, record.permit.network
        with self._file.writing() as db:
            stored = _record(db, key)
            if stored is None:
                raise LocalProtocolError("no intent is journaled for this settlement", field="record")
            after = rows.merged(stored, record)
            db.executemany(_USE, [(network, key, number) for attempt in record.attempts for number in attempt.numbers])
            over = rows.is_final(after.outcome)
            if over:
                _drop_numbers(db, network, key, NumberState.HELD)
            if after != stored:
                body = journal.encode_record(after)
                db.execute("UPDATE x402_records SET open = ?, body = ? WHERE key = ?", (not over, body, key))
            return after

    def record(self, key: str) -> SettlementRecord | None:
        """See :meth:`Ledger.record`."""
        with self._file.reading() as db:
            return _record(db, key)

    def open_records(self) -> tuple[SettlementRecord, ...]:
        """See :meth:`Ledger.open_records`."""
        with self._file.reading() as db:
            found = db.execute("SELECT body FROM x402_records WHERE open ORDER BY created, seq").fetchall()
        return tuple(_read(journal.decode_record, body) for (body,) in found)

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
        return tuple(_read(decode_entry, body) for body in found), total

    def search(self, text: str, query: CatalogQuery) -> tuple[tuple[CatalogEntry, ...], int]:
        """See :meth:`Ledger.search`."""
        with self._file.reading() as db:
            found, total = sqlite_catalog.search(db, text, query)
        return tuple(_read(decode_entry, body) for body in found), total

    # ---------------------------------------------------------------------------------------------------- housekeeping

    def prune(self, before: Millis) -> int:
        """See :meth:`Ledger.prune`."""
        pruned, after = 0, 0
        while True:
            with self._file.writing() as db:
                found = db.execute(_OLD, (before, before, after, _PRUNED_AT_ONCE)).fetchall()
                for seq, key, body in found:
                    after = seq
                    record = _read(journal.decode_record, body)
                    if rows.prunable(_row(db, key), _at(db, key), record, before):
                        _forget(db, key)
                        if rows.is_void(record):
                            sqlite_grants.drop_grants(db, key)
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
                    row, record = _look(db, key)
                    if row is not None and record is None and rows.lapsed(row, _at(db, key), before):
                        for table in ("x402_claims", "x402_leases"):
                            db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
                        if row.settled is None:
                            sqlite_grants.drop_grants(db, key)
                        pruned += 1

    def entries(self, *, since: Millis = Millis(0)) -> tuple[Entry, ...]:
        """See :meth:`Ledger.entries`."""
        with self._file.reading() as db:
            keys = db.execute("SELECT key FROM x402_claims UNION SELECT key FROM x402_records").fetchall()
            found = [rows.entry(key, _row(db, key), _at(db, key), _record(db, key)) for (key,) in keys]
        return tuple(sorted((e for e in found if e.created >= since), key=lambda e: (e.created, e.key)))


# ---------------------------------------------------------------------------------------------------------- statements

_ROW: Final = "SELECT owner, request, state, until, settled, reply, identifier FROM x402_claims WHERE key = ?"
_UPDATE_ROW: Final = "UPDATE x402_claims SET owner = ?, request = ?, state = ?, until = ?, settled = ?, reply = ? WHERE key = ?"
# not INSERT OR REPLACE: that would delete whatever other row has the identifier
_TAKE_ROW: Final = """INSERT INTO x402_claims (key, owner, request, state, until, settled, at, identifier)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, request = excluded.request, state = excluded.state,
        until = excluded.until, settled = excluded.settled, at = excluded.at, identifier = excluded.identifier, reply = NULL"""
_NAMED: Final = "SELECT key FROM x402_claims WHERE identifier = ? AND identifier <> '' AND key <> ?"
_UNNAME: Final = "UPDATE x402_claims SET identifier = '' WHERE identifier = ? AND identifier <> '' AND key <> ?"
_INSERT: Final = """INSERT INTO x402_records (key, slot, payer, asset, network, amount, created, expires, open, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_LEASE: Final = """INSERT INTO x402_leases (key, worker, until) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET worker = excluded.worker, until = excluded.until WHERE worker = ? OR until <= ?"""
# states of numbers: 0 held, 1 used, 2 sealed (rows.NumberState)
_USE: Final = "UPDATE x402_numbers SET state = 1 WHERE network = ? AND key = ? AND number = ? AND state = 0"
_MINE: Final = "SELECT number FROM x402_numbers WHERE network = ? AND account = ? AND key = ? AND state < 2"
_BUSY: Final = "SELECT number FROM x402_numbers WHERE network = ? AND account = ? AND number >= ?"
_EXCHANGE: Final = "DELETE FROM x402_numbers WHERE network = ? AND account = ? AND number = ? AND state = 0"
_SEAL: Final = "UPDATE x402_numbers SET state = 2 WHERE network = ? AND account = ? AND number = ?"
_HAND_OUT: Final = "INSERT INTO x402_numbers (network, account, number, key, state) VALUES (?, ?, ?, ?, 0)"
_LAPSED: Final = """SELECT key FROM x402_claims AS c WHERE until < ? AND at < ? AND key > ?
    AND NOT EXISTS (SELECT 1 FROM x402_records WHERE key = c.key) ORDER BY key LIMIT ?"""
_OLD: Final = """SELECT seq, key, body FROM x402_records WHERE NOT open AND expires < ? AND created < ? AND seq > ?
    ORDER BY seq LIMIT ?"""


def _row(db: sqlite3.Connection, key: str) -> ClaimRow | None:
    found = db.execute(_ROW, (key,)).fetchone()
    if found is None:
        return None
    owner, request, state, until, settled, reply, identifier = found
    paid = _read(journal.decode_settled, settled) if settled is not None else None
    answer = _read(journal.decode_reply, reply) if reply is not None else None
    return ClaimRow(key, owner, request, ClaimState(state), Millis(until), paid, answer, identifier)


def _look(db: sqlite3.Connection, key: str) -> tuple[ClaimRow | None, SettlementRecord | None]:
    return _row(db, key), _record(db, key)


def _named(db: sqlite3.Connection, identifier: str, key: str, now: Millis) -> ClaimRow | None:
    """Return another key's row that has the identifier, if it still stands."""
    found = db.execute(_NAMED, (identifier, key)).fetchone() if identifier else None
    row, record = _look(db, found[0]) if found is not None else (None, None)
    return row if row is not None and rule.stands(row, record, now=now) else None


def _at(db: sqlite3.Connection, key: str) -> Millis:
    found = db.execute("SELECT at FROM x402_claims WHERE key = ?", (key,)).fetchone()
    return Millis(found[0] if found is not None else 0)


def _take_row(db: sqlite3.Connection, row: ClaimRow, at: Millis) -> None:
    """Write a claim just taken, without an answer; whoever had its identifier before has it no more."""
    db.execute(_UNNAME, (row.identifier, row.key))
    settled = journal.encode_settled(row.settled) if row.settled is not None else None
    db.execute(_TAKE_ROW, (row.key, row.owner, row.request, row.state, row.until, settled, at, row.identifier))


def _write_row(db: sqlite3.Connection, row: ClaimRow) -> None:
    """Write what changed of a claim; when it was taken and its identifier do not."""
    settled = journal.encode_settled(row.settled) if row.settled is not None else None
    reply = journal.encode_reply(row.reply) if row.reply is not None else None
    db.execute(_UPDATE_ROW, (row.owner, row.request, row.state, row.until, settled, reply, row.key))


def _record(db: sqlite3.Connection, key: str) -> SettlementRecord | None:
    found = db.execute("SELECT body FROM x402_records WHERE key = ?", (key,)).fetchone()
    return _read(journal.decode_record, found[0]) if found is not None else None


def _conflict(db: sqlite3.Connection, record: SettlementRecord) -> bool:
    found = db.execute("SELECT body FROM x402_records WHERE slot = ?", (record.permit.slot,))
    return any(not rows.is_void(_read(journal.decode_record, body)) for (body,) in found)


def _insert_record(db: sqlite3.Connection, record: SettlementRecord) -> None:
    permit = record.permit
    where = (record.key, permit.slot, permit.payer, permit.asset, permit.network, str(record.amount), record.created)
    still_open = not rows.is_final(record.outcome)
    db.execute(_INSERT, (*where, rows.expires(record), still_open, journal.encode_record(record)))


def _drop_numbers(db: sqlite3.Connection, network: Network, key: str, state: NumberState) -> None:
    db.execute("DELETE FROM x402_numbers WHERE key = ? AND network = ? AND state = ?", (key, network, state))


def _forget(db: sqlite3.Connection, key: str) -> None:
    for table in ("x402_claims", "x402_leases", "x402_numbers", "x402_records"):
        db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))


def _read(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except LocalProtocolError as error:  # not the caller's fault: the file is damaged, or a newer release wrote it
        raise LedgerUnavailable(str(error)) from error
