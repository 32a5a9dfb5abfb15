"""Claims and settlement records in the SQLite ledger's file: how they are found, read and written.

Values are stored as ``x402core.wire.journal`` writes them; the columns beside them only find rows.  Amounts are text, because
a uint256 does not fit SQLite's 64-bit integers.

A payment's record is read at each of its steps, and between two of them nothing but its own bytes says what it is.  So the last
values read or written are remembered by their exact bytes, and not parsed again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Generic, TypeVar

from x402core import ledger as rule
from x402core.errors import LocalProtocolError, Reply
from x402core.events import Settled
from x402core.ledger import ClaimRow, ClaimState, SettlementRecord
from x402core.values import Millis
from x402core.wire import journal

from . import rows
from .contract import LedgerUnavailable

__all__ = ["SqliteRows", "read"]

T = TypeVar("T")

_MANY: Final = 256  # values of a generation; two are remembered
_LARGE: Final = 8192  # bytes of a value that is parsed each time


class _Known(Generic[T]):
    """What the last bytes of one kind of value say.  Threads may share one."""

    def __init__(self, decode: Callable[[bytes], T]) -> None:
        self._decode = decode
        self._now: dict[bytes, T] = {}
        self._before: dict[bytes, T] = {}

    def read(self, data: bytes) -> T:
        """Return what ``data`` says.  Raises: LedgerUnavailable when it cannot be read."""
        value = self._now.get(data)
        if value is None:
            value = self._before.get(data)
            if value is None:
                value = read(self._decode, data)
            self.learn(data, value)
        return value

    def learn(self, data: bytes, value: T) -> bytes:
        """Remember that ``data`` says ``value``."""
        if len(data) <= _LARGE:
            if len(self._now) >= _MANY:
                self._before, self._now = self._now, {}
            self._now[data] = value
        return data


class SqliteRows:
    """Read and write one ledger's claims and settlement records, each call within a transaction of its caller's."""

    def __init__(self) -> None:
        self._records = _Known(journal.decode_record)
        self._proofs = _Known(journal.decode_settled)
        self._replies = _Known(journal.decode_reply)

    # --------------------------------------------------------------------------------------------------------- claims

    def claim(self, db: sqlite3.Connection, key: str) -> ClaimRow | None:
        """Return a claim, or None."""
        found = db.execute(_ROW, (key,)).fetchone()
        if found is None:
            return None
        owner, request, state, until, settled, reply, identifier = found
        paid = self._proofs.read(settled) if settled is not None else None
        answer = self._replies.read(reply) if reply is not None else None
        return ClaimRow(key, owner, request, ClaimState(state), Millis(until), paid, answer, identifier)

    def look(self, db: sqlite3.Connection, key: str) -> tuple[ClaimRow | None, SettlementRecord | None]:
        """Return what there is of a payment."""
        return self.claim(db, key), self.record(db, key)

    def named(self, db: sqlite3.Connection, identifier: str, key: str, now: Millis) -> ClaimRow | None:
        """Return another key's claim that has the identifier, if it still stands."""
        found = db.execute(_NAMED, (identifier, key)).fetchone() if identifier else None
        row, record = self.look(db, found[0]) if found is not None else (None, None)
        return row if row is not None and rule.stands(row, record, now=now) else None

    def taken_at(self, db: sqlite3.Connection, key: str) -> Millis:
        """Return when a claim was last taken; 0 without one."""
        found = db.execute("SELECT at FROM x402_claims WHERE key = ?", (key,)).fetchone()
        return Millis(found[0] if found is not None else 0)

    def take(self, db: sqlite3.Connection, row: ClaimRow, at: Millis) -> None:
        """Write a claim just taken, without an answer; whoever had its identifier before has it no more."""
        db.execute(_UNNAME, (row.identifier, row.key))
        settled = self._proof(row.settled)
        db.execute(_TAKE_ROW, (row.key, row.owner, row.request, row.state, row.until, settled, at, row.identifier))

    def change(self, db: sqlite3.Connection, row: ClaimRow) -> None:
        """Write what changed of a claim; when it was taken and its identifier do not."""
        values = (row.owner, row.request, row.state, row.until, self._proof(row.settled), _answer(row.reply))
        db.execute(_UPDATE_ROW, (*values, row.key))

    def _proof(self, settled: Settled | None) -> bytes | None:
        return None if settled is None else self._proofs.learn(journal.encode_settled(settled), settled)

    # -------------------------------------------------------------------------------------------------------- records

    def record(self, db: sqlite3.Connection, key: str) -> SettlementRecord | None:
        """Return a settlement record, or None."""
        found = db.execute("SELECT body FROM x402_records WHERE key = ?", (key,)).fetchone()
        return self.body(found[0]) if found is not None else None

    def body(self, data: bytes) -> SettlementRecord:
        """Read a settlement record's bytes."""
        return self._records.read(data)

    def conflict(self, db: sqlite3.Connection, record: SettlementRecord) -> bool:
        """Say whether another permit of the same slot is there and not void."""
        found = db.execute("SELECT body FROM x402_records WHERE slot = ?", (record.permit.slot,)).fetchall()
        return any(not rows.is_void(self.body(body)) for (body,) in found)

    def insert(self, db: sqlite3.Connection, record: SettlementRecord) -> None:
        """Write a new record."""
        permit = record.permit
        where = (record.key, permit.slot, permit.payer, permit.asset, permit.network, str(record.amount), record.created)
        still_open = not rows.is_final(record.outcome)
        db.execute(_INSERT, (*where, rows.expires(record), still_open, self._write(record)))

    def update(self, db: sqlite3.Connection, record: SettlementRecord) -> None:
        """Write what a record has learned."""
        values = (not rows.is_final(record.outcome), self._write(record), record.key)
        db.execute("UPDATE x402_records SET open = ?, body = ? WHERE key = ?", values)

    def _write(self, record: SettlementRecord) -> bytes:
        if record.offer.raw is not None:  # the journal does not keep it
            record = replace(record, offer=replace(record.offer, raw=None))
        return self._records.learn(journal.encode_record(record), record)


def read(decode: Callable[[bytes], T], data: bytes) -> T:
    """Read stored bytes.  Raises: LedgerUnavailable when they cannot be read."""
    try:
        return decode(data)
    except LocalProtocolError as error:  # not the caller's fault: the file is damaged, or a newer release wrote it
        raise LedgerUnavailable(str(error)) from error


def _answer(reply: Reply | None) -> bytes | None:
    return None if reply is None else journal.encode_reply(reply)


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
