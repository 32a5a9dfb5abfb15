"""Danger: Ctrl-C, or any signal's handler that raises, in a thread that others wait for, or that waits for others."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import pytest

from x402bind.ledger import SqliteLedger
from x402core.ledger import Claim, ClaimStatus

from .lines import Calls, held, standing, until
from .samples import LATER, NOW, REQUEST

S = ClaimStatus


def claim(ledger: SqliteLedger, key: str, owner: str = "a") -> Claim:
    return ledger.claim(key, REQUEST, owner, LATER, now=NOW)


def interrupted(act: Callable[[], object], place: int) -> bool:
    """Do something, interrupted at the ``place``-th point of ``sqlite_group.py`` where CPython looks for signals.

    That is where a function begins, where one written in C returns, and within one that waits.  False when it has fewer.
    """
    left = itertools.count(place, -1)

    def profile(frame: FrameType, event: str, arg: object) -> None:
        looks = event in ("call", "c_return") or (event == "c_call" and getattr(arg, "__name__", "") == "acquire")
        if looks and frame.f_code.co_filename.endswith("sqlite_group.py") and next(left) == 0:
            raise KeyboardInterrupt

    try:
        sys.setprofile(profile)
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


ROLES = {"alone": (0, 0), "between others": (2, 2), "as the last": (2, 0), "as the second": (0, 2), "as the first": (0, 2)}


@pytest.mark.parametrize("role", ROLES)
def test_an_interrupt_anywhere_leaves_no_group_open_and_nobody_waiting(path: str, role: str) -> None:
    """Whoever is interrupted may have written or not; nobody else notices."""
    before, behind = ROLES[role]
    ledger = SqliteLedger(path)
    for place in itertools.count():
        was: list[bool] = []
        victim = f"victim-{place}"
        others = [f"{place}-{n}" for n in range(before + behind)]

        def act(victim: str = victim, place: int = place, was: list[bool] = was) -> None:
            was.append(interrupted(lambda: claim(ledger, victim), place))

        def add(calls: Calls, key: str) -> None:
            calls.add(lambda: claim(ledger, key).status)

        if role == "alone":
            act()
            calls = Calls(ledger)
        else:
            with held(ledger, fails=role == "as the first") as calls:
                for key in others[:before]:
                    add(calls, key)
                thread = threading.Thread(target=act)  # it may be interrupted before it stands in the line
                count = standing(ledger)
                thread.start()
                until(lambda count=count, was=was: standing(ledger) > count or was)  # type: ignore[misc]
                for key in others[before:]:
                    add(calls, key)
            thread.join(20)
            assert not thread.is_alive(), f"stuck at {place}"
        assert calls.end() == [S.TAKEN] * len(others), place
        assert calls.trouble is None
        line = ledger._file._line
        assert (list(line._line), line._group, line._moving.locked()) == ([], None, False), place
        assert ledger._file._db is not None
        assert not ledger._file._db.in_transaction
        assert all(claim(ledger, key, "another").status is S.HELD for key in others)
        assert claim(ledger, victim, "another").status in (S.TAKEN, S.HELD), "as written, or not"
        if was == [False]:
            assert place > 20
            break
    ledger.close()


def in_main_thread(ledger: SqliteLedger, act: Callable[[], object], when: Callable[[], object]) -> None:
    """Do something here, with a real SIGINT when ``when`` is true."""

    def press() -> None:
        until(when)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            act()
    finally:
        presser.join(20)


def test_an_interrupt_while_waiting_for_the_turn(path: str) -> None:
    ledger = SqliteLedger(path)
    with held(ledger) as calls:
        calls.add(lambda: claim(ledger, "k1").status)
        in_main_thread(ledger, lambda: claim(ledger, "mine"), lambda: standing(ledger) == 3)
        assert standing(ledger) == 2
        calls.add(lambda: claim(ledger, "k2").status)
    assert calls.end() == [S.TAKEN, S.TAKEN]
    assert claim(ledger, "mine", "another").status is S.TAKEN, "it had not begun"
    ledger.close()


def test_an_interrupt_of_the_last_who_waits_for_the_turn_leaves_the_commit_to_who_has_it(path: str) -> None:
    ledger = SqliteLedger(path)
    with held(ledger) as calls:
        in_main_thread(ledger, lambda: claim(ledger, "mine"), lambda: standing(ledger) == 2)
    assert calls.end() == []
    assert ledger._file._line._group is None
    assert claim(ledger, "mine", "another").status is S.TAKEN
    ledger.close()


def test_an_interrupt_while_waiting_for_the_commit(path: str) -> None:
    """Its part is done, and is stored with the others'; its caller is not told, so it must ask."""
    ledger = SqliteLedger(path)
    inside, leave = threading.Event(), threading.Event()

    def last() -> None:
        with ledger._file.writing():
            inside.set()
            leave.wait(20)

    release = threading.Event()

    def first() -> None:
        with ledger._file.writing():
            release.wait(20)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    until(lambda: standing(ledger) == 1)

    def behind() -> None:
        until(lambda: standing(ledger) == 2)  # the main thread's
        threads.append(threading.Thread(target=last))
        threads[-1].start()
        until(lambda: standing(ledger) == 3)
        release.set()

    helper = threading.Thread(target=behind)
    helper.start()
    in_main_thread(ledger, lambda: claim(ledger, "mine"), inside.is_set)
    assert ledger.recall("mine", REQUEST, now=NOW).status is S.TAKEN, "not committed yet"
    leave.set()
    helper.join(20)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert claim(ledger, "mine", "another").status is S.HELD
    ledger.close()


def test_an_interrupt_within_a_call_of_the_thread_that_would_commit(path: str) -> None:
    """The main thread is the last of a group: it undoes its own part and commits the others'."""
    ledger = SqliteLedger(path)
    release = threading.Event()

    def first() -> None:
        with ledger._file.writing() as db:
            db.execute("INSERT INTO x402_leases VALUES ('first', 'w', 1)")
            release.wait(20)

    thread = threading.Thread(target=first)
    thread.start()
    until(lambda: standing(ledger) == 1)
    threading.Thread(target=lambda: (until(lambda: standing(ledger) == 2), release.set())).start()  # type: ignore[func-returns-value]
    inside = threading.Event()

    def mine() -> None:
        with ledger._file.writing() as db:
            db.execute("INSERT INTO x402_leases VALUES ('mine', 'w', 1)")
            inside.set()
            threading.Event().wait(20)

    in_main_thread(ledger, mine, inside.is_set)
    thread.join(20)
    assert not thread.is_alive()
    with ledger._file.reading() as db:
        assert db.execute("SELECT key FROM x402_leases").fetchall() == [("first",)]
    ledger.close()
