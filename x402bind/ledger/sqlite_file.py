"""One SQLite file shared by threads and processes: opening, transactions, durability, forks.

``synchronous=FULL`` makes COMMIT wait until the log is on the disk: what a call acknowledged is there after a crash.  Writers
share a connection, and a transaction where they overlap (``sqlite_group.py``); readers have one of their own, which sees what
is committed only.  ``:memory:`` has no second connection, so there all take turns, each with a transaction of its own.

No connection crosses a fork: a parent closes its own first, and each side opens anew.  SQLite keeps one table of its locks a
process, and a child that inherits it believes it holds what only its parent does: whoever closes the file next would then
delete the log under it, and with that what it has acknowledged.

The file is made with mode 0600, since it holds paid answers; SQLite gives its ``-wal`` and ``-shm`` companions the same.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from x402core.errors import LocalProtocolError

from .contract import LedgerUnavailable
from .sqlite_group import Call, Line, begin, undo

__all__ = ["SqliteFile"]

SCHEMA: Final = 2
_TOGETHER: Final = 64  # calls that share a transaction: what the first of them, and other processes, wait for
_OPENING = threading.Lock()  # see _create_private
_FORKING = threading.Lock()  # one thread at a time

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
    """Hold this process's connections to the ledger's file; ``patience`` is how many seconds to wait for a lock.

    Raises: LedgerUnavailable when the file cannot be used, LocalProtocolError for an empty path or a newer release's file.
    """

    def __init__(self, path: str, patience: float) -> None:
        if not path:
            raise LocalProtocolError("an empty path would be a temporary file: name one, or write :memory:", field="path")
        self._memory = path == ":memory:"
        self._path = path if self._memory else os.path.abspath(path)  # a daemon may change its directory
        self._patience = patience
        self._closed = False
        self._inherited: list[sqlite3.Connection | None] = []
        self._line, self._look = self._nobody()
        self._db: sqlite3.Connection | None = self._open()
        self._reader: sqlite3.Connection | None = None
        self._held: Call | None = None  # the turns of a thread that forks
        self._looked = False
        _FILES.add(self)

    def _nobody(self) -> tuple[Line, threading.Lock]:
        """Return the line of writers and the lock of the readers' connection, with nobody there."""
        return Line(1 if self._memory else _TOGETHER, self._patience), threading.Lock()

    def _open(self) -> sqlite3.Connection:
        with _OPENING:
            if not self._memory:
                _create_private(self._path)
            try:
                db = _connect(self._path, 0)  # begin() is what waits
                try:
                    _prepare(db, self._patience)
                    if not self._memory:
                        os.chmod(self._path, 0o600)  # only now: before, it might have been any file by a slip of the pen
                except BaseException:
                    db.close()
                    raise
            except (sqlite3.Error, OSError) as error:
                raise LedgerUnavailable(f"cannot open the ledger: {error}") from error
        return db

    def _writer(self) -> sqlite3.Connection:
        """Return the writers' connection to whoever has the turn."""
        if self._closed:
            raise LocalProtocolError("this ledger is closed, or a :memory: one of the process this one was forked from")
        db = self._db = self._db or self._open()
        return db

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Do something that no other writer can come between; the whole of it or nothing is stored.

        Leaving the ``with`` waits until it is on the disk.
        """
        return self._line.part(self._writer)

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Run one transaction that sees one state of the file, with all that was acknowledged before."""
        return self.writing() if self._memory else self._snapshot()

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        with self._look:
            if self._closed:
                raise LocalProtocolError("this ledger is closed")
            try:
                db = self._reader = self._reader or self._open_reader()
                try:
                    db.execute("BEGIN")
                    yield db
                    db.execute("COMMIT")
                finally:
                    undo(db)
            except sqlite3.Error as error:
                raise LedgerUnavailable(f"the ledger failed: {error}") from error

    def _open_reader(self) -> sqlite3.Connection:
        # rw makes no file: a new one would not be private
        db = _connect(f"{Path(self._path).as_uri()}?mode=rw", self._patience, uri=True)
        try:
            _make_durable(db)  # whoever closes the file last moves the log into it
            db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close this process's connections, when those who use them have done; a second call does nothing."""
        call = Call()
        with self._look:
            try:
                self._line.come(call)
                self._line.finish()
                self._closed = True
                self._drop()
            finally:
                self._line.go(call)

    def _drop(self) -> None:
        reader, self._reader, writer, self._db = self._reader, None, self._db, None
        for db in (reader, writer):
            if db is not None:
                db.close()

    # ------------------------------------------------------------------------------------------------------------- forks

    def forking(self) -> None:
        """Close the connections, when those who use them have done, and let nobody open one until the fork is over.

        Who has not done in ``patience`` seconds is not waited for: then the connections stay the parent's.
        """
        if self._memory:
            return
        self._held = Call()
        self._looked = self._look.acquire(timeout=self._patience)
        if self._line.come(self._held, self._patience) and self._looked:
            self._line.finish()
            self._drop()

    def parted(self) -> None:
        """Go on in the parent."""
        if self._held is not None:
            self._line.go(self._held)
        if self._looked:
            self._look.release()
        self._held, self._looked = None, False

    def forked(self) -> None:
        """Begin anew in the child: other threads, who may have waited here, do not exist; nor may it use, or even close, a
        connection of its parent's.
        """
        self._line.abandon()
        self._inherited += (self._db, self._reader)
        self._db = self._reader = self._held = None
        self._looked = False
        self._line, self._look = self._nobody()
        if self._memory:
            self._closed = True  # a copy of it would answer TAKEN a second time

    def __repr__(self) -> str:
        return f"<SqliteFile {self._path!r}>"


def _connect(name: str, timeout: float, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=timeout, isolation_level=None, check_same_thread=False, uri=uri)


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
    _make_durable(db)
    begin(db, patience)
    db.execute("CREATE TABLE IF NOT EXISTS x402_schema (version INTEGER NOT NULL)")
    found = db.execute("SELECT version FROM x402_schema").fetchone()
    if found is None:
        db.execute("INSERT INTO x402_schema (version) VALUES (?)", (SCHEMA,))
    else:
        _migrate(db, found[0])
    for statement in _TABLES:
        db.execute(statement)
    db.execute("COMMIT")


def _make_durable(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk


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


def _forking() -> None:
    """Run before every fork, in the thread that forks."""
    _FORKING.acquire()
    for file in tuple(_FILES):
        file.forking()


def _parted() -> None:
    """Run after it in the parent."""
    for file in tuple(_FILES):
        file.parted()
    _FORKING.release()


def _forked() -> None:
    """Run in every forked child before anything else does, while it has one thread."""
    global _OPENING, _FORKING
    _OPENING, _FORKING = threading.Lock(), threading.Lock()
    for file in tuple(_FILES):
        file.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking, after_in_parent=_parted, after_in_child=_forked)
