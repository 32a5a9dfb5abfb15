"""Writers of one process that overlap share one transaction, and so wait for the disk once between them.

Theory of operation.  Calls stand in a line; the first in it has the *turn*, and with it the connection.  A call that finds no
transaction begins one, and with it a *group*; those behind it join, each within a savepoint.  Whoever leaves the line with
nobody behind it, or as the last that the group takes, commits.  Nobody waits for company, so a lone call costs what it did.

Invariants:

* No call returns before the COMMIT that holds its writes has succeeded; nor does one that raises an error of its own, because
  what it was told may rest on what others of its group have written.
* A call's exception undoes its own part and is its caller's only.
* Where SQLite itself fails, in a statement or in COMMIT, nothing of the group is stored and each of its calls is told so.
* An interrupt (whatever a signal's handler raises, between any two instructions) leaves no group open and nobody waiting: what
  is done on the way out may be done again from any point, and is, until it is done.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final

from .contract import LedgerUnavailable

__all__ = ["Call", "Line", "Part", "undo"]

_TRIES: Final = 8  # interrupts that a way out bears; somebody who leans on Ctrl-C gets through in the end


class _Group:
    """The calls of one transaction; the first began it and has no savepoint."""

    __slots__ = ("calls", "db", "ended", "error")

    def __init__(self, db: sqlite3.Connection, first: Call) -> None:
        self.db = db
        self.calls = [first]
        self.error: BaseException | None = None  # why nothing of it is stored
        self.ended = False


class Call:
    """A place in the line."""

    __slots__ = ("gate", "group", "out", "settled")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.group: _Group | None = None
        self.settled = False  # its part of the group is kept or undone
        self.out = False  # of the line

    def wake(self) -> None:
        """Let it look again at what it waits for; once too often does no harm."""
        with suppress(RuntimeError):
            self.gate.release()


class Line:
    """Who uses the connection, one at a time, first come first served; ``most`` is how many calls share a transaction."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._line: deque[Call] = deque()
        self._moving = threading.Lock()  # the line; or one could go while the one before leaves the group to it
        self._group: _Group | None = None  # whoever has the turn opens and ends it
        self._abandoned = False

    def come(self, call: Call, seconds: float = -1) -> bool:
        """Wait for the turn; False when it did not come within ``seconds``.  Either way the call must :meth:`go`."""
        with self._moving:
            self._line.append(call)
        while self._line[0] is not call:
            if not call.gate.acquire(timeout=seconds):
                return False
        return True

    def begin(self, call: Call, db: sqlite3.Connection) -> None:
        """Join the open group, or open one."""
        group = self._group
        if group is None:
            call.group = _Group(db, call)
            self._group = call.group
            db.execute("BEGIN IMMEDIATE")
        else:
            call.group = group
            group.calls.append(call)
            db.execute("SAVEPOINT part")

    def go(self, call: Call, error: BaseException | None) -> None:
        """Leave the line: keep the call's part, or undo it for an error; then commit, or leave that to the next.

        Raises: what interrupted it, once it is done.
        """
        if self._abandoned:
            call.out = True
            return
        interrupt = None
        for _ in range(_TRIES):
            try:
                if not call.settled:
                    _settle(call, error)
                self._pass(call)
                break
            except BaseException as raised:  # noqa: BLE001 - raised below; others wait for the rest of this
                interrupt = raised
        if interrupt is not None:
            raise interrupt

    def finish(self) -> None:
        """Store the open group, for whoever has the turn and wants the connection for something else."""
        if self._group is not None:
            self._end(self._group)

    def abandon(self) -> None:
        """Let nobody touch the connection any more: this is a forked child, and it is the parent's."""
        self._abandoned = True
        if self._group is not None:
            self._group.error = LedgerUnavailable("this process was forked meanwhile")
            self._group.ended = True

    def _pass(self, call: Call) -> None:
        while True:
            with self._moving:
                group = self._group
                if group is None or self._line[0] is not call or not self._due(group):
                    if call in self._line:
                        self._line.remove(call)
                    call.out = True
                    heir = self._line[0] if self._line else None
                    break
            self._end(group)
        if heir is not None:
            heir.wake()

    def _due(self, group: _Group) -> bool:
        """Say whether a group takes no more calls."""
        return group.ended or group.error is not None or len(group.calls) >= self._most or len(self._line) == 1

    def _end(self, group: _Group) -> None:
        """Store a group, or nothing of it, and tell its calls."""
        db = group.db
        if group.error is None and not group.ended and db.in_transaction:  # if not: done already, before an interrupt
            try:
                db.execute("COMMIT")
            except (sqlite3.Error, MemoryError) as error:
                group.error = error
        if group.error is not None:
            undo(db)
        group.ended = True
        for call in group.calls:
            call.wake()
        self._group = None


def _settle(call: Call, error: BaseException | None) -> None:
    """Keep a call's part of its group, or undo it."""
    group = call.group
    if group is not None and not group.ended:
        if isinstance(error, sqlite3.Error):  # a full disk, a failed read: not this call's own (sqlite.org/lang_transaction)
            group.error = group.error or error
        elif call is not group.calls[0]:
            _release(group, error)
        elif error is not None:
            undo(group.db)
            group.ended = True
        if not (group.ended or group.db.in_transaction):  # SQLite may roll back of its own accord
            group.error = group.error or error or sqlite3.OperationalError("the transaction was rolled back")
    call.settled = True


def _release(group: _Group, error: BaseException | None) -> None:
    try:
        if error is not None:
            group.db.execute("ROLLBACK TO part")
        group.db.execute("RELEASE part")
    except (sqlite3.Error, MemoryError) as trouble:
        if getattr(trouble, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:  # that: no such savepoint, it is gone already
            group.error = group.error or trouble


class Part:
    """What one call does to the file, stored whole or not at all: ``with`` gives the connection.

    Leaving it waits until the group is stored.  Raises: LedgerUnavailable when it is not.
    """

    __slots__ = ("_call", "_connection", "_line")

    def __init__(self, line: Line, connection: Callable[[], sqlite3.Connection]) -> None:
        self._line = line
        self._connection = connection
        self._call: Call | None = None

    def __enter__(self) -> sqlite3.Connection:
        call = self._call = Call()
        try:
            self._line.come(call)
            db = self._connection()
            self._line.begin(call, db)
            return db
        except BaseException as error:
            self._leave(call, error)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._call is not None
        self._leave(self._call, error)

    def __del__(self) -> None:
        """Go at last where an interrupt came just as ``__exit__`` was called, which no ``try`` of ours can catch."""
        if self._call is not None and not self._call.out:
            self._line.go(self._call, GeneratorExit())

    def _leave(self, call: Call, error: BaseException | None) -> None:
        self._line.go(call, error)
        group = call.group
        if group is None or not (error is None or isinstance(error, Exception)):
            return  # it has done nothing, or it is in a hurry
        while not group.ended:
            call.gate.acquire()
        if group.error is not None:
            raise LedgerUnavailable(f"the ledger failed: {group.error}") from group.error


def undo(db: sqlite3.Connection) -> None:
    """Leave no transaction open: neither its locks nor half its changes may reach the next call."""
    if db.in_transaction:
        with suppress(sqlite3.Error):  # the error that led here is the one to tell; a stuck connection refuses the next BEGIN
            db.execute("ROLLBACK")
