"""What the tests of shared transactions stand on: a turn that is held, and calls that wait behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from x402bind.ledger import LedgerUnavailable, SqliteLedger


class Calls:
    """Calls in threads of their own, in the order they were made; what each came to is known when it returned."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger
        self._threads: list[threading.Thread] = []
        self.came: dict[int, Any] = {}
        self.trouble: LedgerUnavailable | None = None  # what whoever held the turn was told

    def add(self, act: Callable[[], object]) -> None:
        """Make a call, and wait until it stands in the line."""
        number, waiting = len(self._threads), standing(self._ledger)

        def run() -> None:
            try:
                self.came[number] = act()
            except BaseException as error:  # noqa: BLE001 - what a call came to
                self.came[number] = error

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        until(lambda: standing(self._ledger) > waiting)

    def end(self) -> list[Any]:
        """Return what every call came to."""
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a call is stuck"
        return [self.came[number] for number in range(len(self._threads))]


def standing(ledger: SqliteLedger) -> int:
    """Say how many calls are in the line, the one that has the turn among them."""
    return len(ledger._file._line._line)


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something another thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.001)


@contextmanager
def held(ledger: SqliteLedger, act: Callable[[Any], object] = lambda db: None, *, fails: bool = False) -> Iterator[Calls]:
    """Have a thread hold the turn, and its transaction, while the body makes calls; then let them all through.

    If it ``fails``, its transaction ends there, and the next call begins another.
    """
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with ledger._file.writing() as db:
                act(db)
                inside.set()
                leave.wait(20)
                if fails:
                    raise ValueError
        except LedgerUnavailable as error:
            calls.trouble = error
        except ValueError:
            assert fails

    calls = Calls(ledger)
    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert inside.wait(20)
    try:
        yield calls
    finally:
        leave.set()
        thread.join(20)
    assert not thread.is_alive(), "whoever held the turn is stuck"


def traced(ledger: SqliteLedger, heard: Callable[[str], object]) -> None:
    """Tell ``heard`` each statement of the writers' connection, just before it runs."""
    assert ledger._file._db is not None
    ledger._file._db.set_trace_callback(heard)
