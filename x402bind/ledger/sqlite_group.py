"""Writers of one process that overlap share one transaction, and so wait for the disk once between them.

Theory of operation.  Calls stand in a line; the first in it has the *turn*, and with it the connection.  A call that finds no
transaction begins one, and with it a *group*; those behind it join, each within a savepoint.  Whoever leaves the line with
nobody behind it, or as the last that the group takes, commits.  Nobody waits for company, so a lone call costs what it did.

Invariants:

* No call returns before the COMMIT that holds its writes has succeeded; nor does one that raises an error of its own, because
  what it was told may rest on what others of its group have written.
* A call's exception undoes its own part and is its caller's only.
* Where SQLite itself fails, in a statement or in COMMIT, nothing of the group is stored and each of its calls is told so.
* An interrupt (whatever a signal's handler raises, between any two instructions) leaves no group open and nobody waiting: each
  step of the way out may be done again from any point, and is, until it is done.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from .contract import LedgerUnavailable

__all__ = ["Call", "Line", "begin", "undo"]

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

    __slots__ = ("gate", "group", "hurry", "out", "settled", "trouble", "undo")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.group: _Group | None = None
        self.undo = False  # it failed,
        self.hurry = False  # with what nothing is to hold up,
        self.trouble: sqlite3.Error | None = None  # or with this
        self.settled = False  # its part of the group is kept or undone
        self.out = False  # of the line

    def wake(self) -> None:
        """Let it look again at what it waits for; once too often does no harm."""
        with suppress(RuntimeError):
            self.gate.release()


class Line:
    """Who uses the connection, one at a time, first come first served.

    ``most`` is how many calls share a transaction, ``patience`` how many seconds its first waits for other processes.
    """

    def __init__(self, most: int, patience: float) -> None:
        self._most = most
        self._patience = patience
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

    def _join(self, call: Call, db: sqlite3.Connection) -> None:
        """Join the open group, or open one."""
        group = self._group
        if group is None:
            call.group = _Group(db, call)
            self._group = call.group
            begin(db, self._patience)
        else:
            call.group = group
            group.calls.append(call)
            db.execute("SAVEPOINT part")

    @contextmanager
    def part(self, connection: Callable[[], sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
        """Have the turn for what is stored whole or not at all; leaving the ``with`` waits until it is stored.

        Raises: LedgerUnavailable when nothing of its group is.
        """
        call, interrupt, tries = Call(), None, _TRIES
        try:
            self.come(call)
            db = connection()
            self._join(call, db)
            yield db
        except BaseException as error:
            call.undo = True
            call.hurry = not isinstance(error, Exception)
            call.trouble = error if isinstance(error, sqlite3.Error) else None
            raise
        finally:
            while tries and not call.out:  # in this frame, as an interrupt may come at the first instruction of any other
                tries -= 1
                try:
                    self.go(call)
                except BaseException as error:  # noqa: BLE001 - raised below; others wait for the rest of this
                    interrupt = error
            if interrupt is not None:
                raise interrupt
            if call.group is not None and not call.hurry:
                _wait(call, call.group)

    def go(self, call: Call) -> None:
        """Leave the line: keep the call's part, or undo it; then commit, or leave that to the next."""
        if self._abandoned:
            call.out = True
            return
        if not call.settled:
            _settle(call)
        self._pass(call)

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
                    heir = self._line[0] if self._line else None
                    break
            self._end(group)
        if heir is not None:
            heir.wake()
        call.out = True  # last: whoever is interrupted before comes here again

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
        group.calls.clear()  # who know it: a circle would keep them all
        self._group = None


def _settle(call: Call) -> None:
    """Keep a call's part of its group, or undo it."""
    group = call.group
    if group is not None and not group.ended:
        if call.trouble is not None:  # a full disk, a failed read: not this call's own (sqlite.org/lang_transaction)
            group.error = group.error or call.trouble
        elif call is not group.calls[0]:
            _release(group, call.undo)
        elif call.undo:
            undo(group.db)
            group.ended = True
        if not (group.ended or group.db.in_transaction):  # SQLite may roll back of its own accord
            group.error = group.error or sqlite3.OperationalError("the transaction was rolled back")
    call.settled = True


def _release(group: _Group, undone: bool) -> None:
    try:
        if undone:
            group.db.execute("ROLLBACK TO part")
        group.db.execute("RELEASE part")
    except (sqlite3.Error, MemoryError) as trouble:
        if getattr(trouble, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:  # that: no such savepoint, it is gone already
            group.error = group.error or trouble


def _wait(call: Call, group: _Group) -> None:
    """Wait until the group is stored.  Raises: LedgerUnavailable when it is not."""
    while not group.ended:
        call.gate.acquire()
    if group.error is not None:
        raise LedgerUnavailable(f"the ledger failed: {group.error}") from group.error


def begin(db: sqlite3.Connection, patience: float) -> None:
    """Begin to write, within so many seconds.

    SQLite itself, made to wait, soon asks ten times a second only, and finds no gap where other processes are busy.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(0.0005, 0.002))


def undo(db: sqlite3.Connection) -> None:
    """Leave no transaction open: neither its locks nor half its changes may reach the next call."""
    if db.in_transaction:
        with suppress(sqlite3.Error):  # the error that led here is the one to tell; a stuck connection refuses the next BEGIN
            db.execute("ROLLBACK")
