"""One SQLite file shared by threads and processes: opening, transactions, durability, forks.

``synchronous=FULL`` makes COMMIT wait until the log is on the disk: what a call acknowledged is there after a crash.  One
connection per process, under a lock; a forked child opens its own.  The file is made with mode 0600, since it holds paid
answers; SQLite gives its ``-wal`` and ``-shm`` companions the same.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

from x402core.errors import LocalProtocolError

from .contract import LedgerUnavailable

__all__ = ["SqliteFile"]

SCHEMA: Final = 2
_OPENING = threading.Lock()  # see _create_private

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS x402_claims (
        key TEXT PRIMARY KEY, request TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL, until INTEGER NOT NULL,
        at INTEGER NOT NULL, settled BLOB, reply BLOB, identifier TEXT NOT NULL DEFAULT '')""",
    "CREATE UNIQUE INDEX IF NOT EXISTS x402_named ON x402_claims (identifier) WHERE identifier <> ''",
    """CREATE TABLE IF NOT EXISTS x402_records (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, slot TEXT NOT NULL, payer TEXT NOT NULL,
        asset TEXT NOT NULL, network TEXT NOT NULL, amount TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
        open INTEGER NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS x402_slot ON x402_records (slot)",
    "CREATE INDEX IF NOT EXISTS x402_owed ON x402_records (payer, asset, network) WHERE open",
    "CREATE INDEX IF NOT EXISTS x402_open ON x402_records (created, seq) WHERE open",
    "CREATE INDEX IF NOT EXISTS x402_over ON x402_records (expires) WHERE NOT open",
    "CREATE TABLE IF NOT EXISTS x402_leases (key TEXT PRIMARY KEY, worker TEXT NOT NULL, until INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS x402_numbers (
        network TEXT NOT NULL, account TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, state INTEGER NOT NULL,
        PRIMARY KEY (network, account, number)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS x402_numbers_of ON x402_numbers (key, network)",
    """CREATE TABLE IF NOT EXISTS x402_grants (
        resource TEXT NOT NULL, payer TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (resource, payer, key)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS x402_grants_of ON x402_grants (key)",
    """CREATE TABLE IF NOT EXISTS x402_nonces (
        payer TEXT NOT NULL, nonce TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (payer, nonce)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS x402_nonces_over ON x402_nonces (until)",
    """CREATE TABLE IF NOT EXISTS x402_catalog (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, payee TEXT NOT NULL, type TEXT NOT NULL,
        updated INTEGER NOT NULL, extensions TEXT NOT NULL, words TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (key, payee))""",
    "CREATE INDEX IF NOT EXISTS x402_catalog_of ON x402_catalog (payee, updated)",
    """CREATE TABLE IF NOT EXISTS x402_catalog_offers (
        entry INTEGER NOT NULL, scheme TEXT NOT NULL, network TEXT NOT NULL, pay_to TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS x402_catalog_offers_of ON x402_catalog_offers (entry)",
    "CREATE INDEX IF NOT EXISTS x402_catalog_offers_to ON x402_catalog_offers (pay_to)",
)

# What brings a file of each older release up to the next; then _TABLES adds whatever table is missing.
_MIGRATIONS: Final = {
    1: ("ALTER TABLE x402_claims ADD COLUMN identifier TEXT NOT NULL DEFAULT ''",),
}


_FILES: weakref.WeakSet[SqliteFile] = weakref.WeakSet()


class SqliteFile:
    """Hold this process's connection to the ledger's file; ``patience`` is how many seconds to wait for a lock.

    Raises: LedgerUnavailable when the file cannot be used, LocalProtocolError for an empty path or a newer release's file.
    """

    def __init__(self, path: str, patience: float) -> None:
        if not path:
            raise LocalProtocolError("an empty path would be a temporary file: name one, or write :memory:", field="path")
        self._path = path if path == ":memory:" else os.path.abspath(path)  # a daemon may change its directory
        self._patience = patience
        self._closed = False
        self._inherited: list[sqlite3.Connection | None] = []
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = self._open()
        _FILES.add(self)

    def _open(self) -> sqlite3.Connection:
        with _OPENING:
            if self._path != ":memory:":
                _create_private(self._path)
            try:
                db = sqlite3.connect(self._path, timeout=self._patience, isolation_level=None, check_same_thread=False)
                try:
                    _prepare(db, self._patience)
                    if self._path != ":memory:":
                        os.chmod(self._path, 0o600)  # only now: before, it might have been any file by a slip of the pen
                except BaseException:
                    db.close()
                    raise
            except (sqlite3.Error, OSError) as error:
                raise LedgerUnavailable(f"cannot open the ledger: {error}") from error
        return db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed:
                raise LocalProtocolError("this ledger is closed, or a :memory: one of the process this one was forked from")
            db = self._db = self._db or self._open()
            try:
                db.execute(begin)
                yield db
                db.execute("COMMIT")
            except sqlite3.Error as error:
                _undo(db)
                raise LedgerUnavailable(f"the ledger failed: {error}") from error
            except BaseException:
                _undo(db)
                raise

    def forked(self) -> None:
        """Let go of the parent's connection in a forked child: SQLite's must not cross a fork, not even to be closed."""
        self._inherited.append(self._db)
        self._db = None
        self._lock = threading.Lock()  # the parent's other threads, who may have held it, do not exist here
        if self._path == ":memory:":
            self._closed = True  # a copy of it would answer TAKEN a second time

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Run one transaction that no other writer can come between; the whole of it or nothing is stored."""
        return self._transaction("BEGIN IMMEDIATE")

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Run one transaction that sees one state of the file."""
        return self._transaction("BEGIN")

    def close(self) -> None:
        """Close this process's connection; a second call does nothing."""
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None
            self._closed = True

    def __repr__(self) -> str:
        return f"<SqliteFile {self._path!r}>"


def _undo(db: sqlite3.Connection) -> None:
    """Leave no transaction open: neither its locks nor half its changes may reach the next call."""
    if db.in_transaction:
        with suppress(sqlite3.Error):  # the error that led here is the one to tell; a stuck connection refuses the next BEGIN
            db.execute("ROLLBACK")


def _create_private(path: str) -> None:
    """Make a new file readable by its owner only.

    Under ``_OPENING`` and only with O_EXCL, because closing any descriptor of a file drops this process's POSIX locks on it,
    SQLite's too (sqlite.org/howtocorrupt.html 2.2).
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise LedgerUnavailable(f"cannot make the ledger's file: {error.strerror}") from error


def _prepare(db: sqlite3.Connection, patience: float) -> None:
    """Set the connection up and the schema, once; another process may be doing the same."""
    _use_wal(db, patience)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk
    db.execute("BEGIN IMMEDIATE")
    db.execute("CREATE TABLE IF NOT EXISTS x402_schema (version INTEGER NOT NULL)")
    found = db.execute("SELECT version FROM x402_schema").fetchone()
    if found is None:
        db.execute("INSERT INTO x402_schema (version) VALUES (?)", (SCHEMA,))
    else:
        _migrate(db, found[0])
    for statement in _TABLES:
        db.execute(statement)
    db.execute("COMMIT")


def _migrate(db: sqlite3.Connection, version: object) -> None:
    """Bring an older release's tables up to this one's, in the transaction that opens the file.

    A process of the older release that has the file open still works: what it does not know has a default.
    """
    if not isinstance(version, int) or not (version == SCHEMA or version in _MIGRATIONS):
        raise LocalProtocolError(f"the file is a ledger of version {version}, this release reads {SCHEMA}", field="path")
    for older in range(version, SCHEMA):
        for statement in _MIGRATIONS[older]:
            db.execute(statement)
    if version != SCHEMA:
        db.execute("UPDATE x402_schema SET version = ?", (SCHEMA,))


def _use_wal(db: sqlite3.Connection, patience: float) -> None:
    """Switch to WAL: SQLite answers "locked" at once, without its busy timeout, when two processes switch together."""
    deadline = time.monotonic() + patience
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def _forked() -> None:
    """Run in every forked child before anything else does, while it has one thread."""
    global _OPENING
    _OPENING = threading.Lock()
    for file in _FILES:
        file.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
