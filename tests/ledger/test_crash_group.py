"""Danger: kill -9, a fork, another process, while many threads share transactions on one file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from x402bind.ledger import LedgerUnavailable, SqliteLedger
from x402core.ledger import Claim, ClaimStatus

from .lines import held, until
from .samples import ACCOUNT, LATER, NETWORK, NOW, REPLY, REQUEST, attempt, permit, record, settled

S = ClaimStatus
THREADS = 16


def claim(ledger: SqliteLedger, key: str, owner: str = "a") -> Claim:
    return ledger.claim(key, REQUEST, owner, LATER, now=NOW)


# ------------------------------------------------------------------------------------------------------------- kill -9

WRITERS = """
import itertools, os, sys, threading
from tests.ledger.samples import *
from x402bind.ledger import SqliteLedger
ledger = SqliteLedger(sys.argv[1])
say = lambda *words: os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def write(thread):
    for n in itertools.count(thread, 1000):
        known = record(n, created=NOW + n)
        ledger.claim(known.key, REQUEST, "a", LATER, now=NOW); say("claimed", n)
        ledger.record_intent(known, None); say("intent", n)
        (number,) = ledger.allocate(NETWORK, ACCOUNT, known.key, 1, floor=0); say("number", n, number)
        known = known.with_attempt(attempt(number, fee=n)); ledger.persist(known); say("signed", n, number)
        ledger.persist(ended(known, settled(n))); say("settled", n)
        ledger.commit(known.key, "a", settled(n), REPLY); say("committed", n)
for thread in range(1, 17):
    threading.Thread(target=write, args=(thread,)).start()
"""


@pytest.mark.parametrize("lines", [20, 150, 700, 1500])
def test_what_many_threads_were_told_survives_kill_9(path: str, lines: int) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", WRITERS, path], stdout=subprocess.PIPE, cwd=root, text=True) as writer:
        assert writer.stdout is not None
        heard = [writer.stdout.readline().split() for _ in range(lines)]
        writer.kill()
        heard += [line.split() for line in writer.stdout.read().splitlines()]
    ledger = SqliteLedger(path)
    for word, text, *more in heard:
        n = int(text)
        known = ledger.record(permit(n).key)
        recalled = ledger.recall(permit(n).key, REQUEST, now=NOW)
        if word == "claimed":
            assert recalled.status in (S.HELD, S.ANSWERED)
            continue
        assert known is not None
        if word == "signed":
            assert known.attempts == (attempt(int(more[0]), fee=n),)
        if word == "settled":
            assert known.outcome == settled(n)
        if word == "committed":
            assert (recalled.status, recalled.reply) == (S.ANSWERED, REPLY)
    numbers = [more[0] for word, _, *more in heard if word == "number"]
    assert len(set(numbers)) == len(numbers)
    told = {n for _, n, *_ in heard}
    assert len(ledger.entries()) <= len(told) + THREADS, "at most one more for each thread"
    ledger.close()


# ----------------------------------------------------------------------------------------------------------- two processes


def _compete(path: str, name: str, start: Barrier, out: multiprocessing.Queue[object]) -> None:
    """Let 16 threads compete with another process's for the same claims, leases and numbers."""
    try:
        start.wait()
        ledger = SqliteLedger(path)
        start.wait()
        taken: list[str] = []
        lots: list[int] = []
        longest: list[float] = []
        trouble: list[str] = []

        def run(thread: int) -> None:
            try:
                for turn in range(20):
                    n = (thread * 20 + turn) % (THREADS * 10) + 1
                    begun = time.monotonic()
                    if claim(ledger, f"k{n}", f"{name}{thread}").status is S.TAKEN:
                        taken.append(f"k{n}")
                    longest.append(time.monotonic() - begun)
                    lots.extend(ledger.allocate(NETWORK, ACCOUNT, f"{name}{thread}-{turn}", 2, floor=0))
                    known = record(n)
                    ledger.record_intent(known, None)
                    ledger.persist(known.with_attempt(attempt(n, fee=THREADS * (name == "p1") + thread + 1)))
                    if claim(ledger, f"k{n}", "late").status is not S.HELD:
                        trouble.append(f"k{n} is free")
            except Exception as error:
                trouble.append(repr(error))
                raise

        threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ledger.close()
        out.put((taken, lots, max(longest), trouble))
    except BaseException as error:
        start.abort()
        out.put(error)
        raise


def test_two_processes_of_many_threads_on_one_file(path: str) -> None:
    context = multiprocessing.get_context("spawn")
    start, out = context.Barrier(2), context.Queue()
    children = [context.Process(target=_compete, args=(path, f"p{n}", start, out)) for n in range(2)]
    for child in children:
        child.start()
    results = [out.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert not [result for result in results if isinstance(result, BaseException)]
    (taken, lots, longest, trouble), (others, other_lots, other_longest, other_trouble) = results
    assert trouble + other_trouble == []
    assert Counter(taken + others) == Counter(f"k{n}" for n in range(1, THREADS * 10 + 1)), "each was taken once"
    assert len(set(lots + other_lots)) == 2 * 2 * 20 * THREADS, "no number was handed out twice"
    assert max(longest, other_longest) < 4, "nobody was kept out by the other"
    ledger = SqliteLedger(path)
    fees = [sorted(a.max_fee for a in found.attempts) for found in ledger.open_records()]
    assert sum(map(len, fees)) == 2 * 20 * THREADS, "no attempt was lost"
    ledger.close()


# ------------------------------------------------------------------------------------------------------------------ forks


def fork(act: Callable[[], bool]) -> int:
    """Run ``act`` in a forked child; return the child's number."""
    child = os.fork()
    if child == 0:
        status = 2
        signal.alarm(30)  # a child that hangs dies of it
        try:
            status = 0 if act() else 1
        finally:
            os._exit(status)
    return child


def came(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def other_process(path: str, keys: list[str]) -> list[str]:
    """Return what a process of its own is told of claims."""
    code = (
        "import sys\nfrom tests.ledger.samples import *\nfrom x402bind.ledger import SqliteLedger\n"
        "ledger = SqliteLedger(sys.argv[1])\n"
        "for key in sys.argv[2:]: print(ledger.claim(key, REQUEST, 'x', LATER, now=NOW).status.value)\n"
        "ledger.close()"
    )
    root = Path(__file__).parents[2]
    asked = [sys.executable, "-c", code, path, *keys]
    return subprocess.run(asked, capture_output=True, text=True, check=True, cwd=root).stdout.split()


def test_what_a_forked_child_was_told_outlives_its_parents_ledger(path: str) -> None:
    """The last to close a file deletes its log; a child that shares its parent's view of the locks was not counted."""
    ledger = SqliteLedger(path)
    claim(ledger, "before")
    ready, go = os.pipe(), os.pipe()

    def child() -> bool:
        if claim(ledger, "first").status is not S.TAKEN:
            return False
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        if claim(ledger, "second").status is not S.TAKEN:
            return False
        os.write(ready[1], b"2")
        os.read(go[0], 1)
        return claim(ledger, "by another", "child").status is S.HELD

    number = fork(child)
    os.read(ready[0], 1)
    ledger.close()
    os.write(go[1], b"1")
    os.read(ready[0], 1)
    assert other_process(path, ["before", "first", "second", "by another"]) == ["held", "held", "held", "taken"]
    os.write(go[1], b"2")
    assert came(number) == 0


def test_a_fork_waits_for_the_calls_of_other_threads_and_loses_none(path: str) -> None:
    ledger = SqliteLedger(path)
    stop, told, trouble = threading.Event(), [], []  # type: ignore[var-annotated]

    def write(thread: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            key = f"{thread}-{n}"
            if claim(ledger, key).status is not S.TAKEN or ledger.recall(key, REQUEST, now=NOW).status is not S.HELD:
                trouble.append(key)
            told.append(key)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(6):
        until(lambda number=number: len(told) > 20 * number)  # type: ignore[misc]
        known = list(told)

        def child(number: int = number, known: list[str] = known) -> bool:
            seen = all(ledger.recall(key, REQUEST, now=NOW).status is S.HELD for key in known)
            return seen and claim(ledger, f"child-{number}").status is S.TAKEN

        children.append(fork(child))
    assert [came(child) for child in children] == [0] * 6
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not trouble
    assert {entry.key for entry in ledger.entries()} == {*told, *(f"child-{n}" for n in range(6))}
    ledger.close()


def test_a_fork_stores_an_open_group_before_it_happens(path: str) -> None:
    ledger = SqliteLedger(path)
    forked: list[int] = []

    def child() -> bool:
        return claim(ledger, "k1", "child").status is S.HELD

    with held(ledger) as calls:
        calls.add(lambda: claim(ledger, "k1").status)
        calls.add(lambda: forked.append(fork(child)))
        calls.add(lambda: claim(ledger, "k2").status)
    assert calls.end() == [S.TAKEN, None, S.TAKEN]
    assert came(forked[0]) == 0
    assert ledger._file._inherited == []
    ledger.close()


def test_two_threads_that_fork_at_once(path: str) -> None:
    ledger, another = SqliteLedger(path), SqliteLedger(path)
    claim(ledger, "before")
    codes: list[int] = []

    def run(thread: int) -> None:
        for n in range(5):
            codes.append(came(fork(lambda n=n: claim(another, f"{thread}-{n}").status is S.TAKEN)))  # type: ignore[misc]
            claim(ledger, f"parent-{thread}-{n}")

    threads = [threading.Thread(target=run, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert codes == [0] * 15
    assert len(ledger.entries()) == 31
    ledger.close()
    another.close()


def test_a_fork_does_not_wait_for_ever_for_who_is_inside(path: str) -> None:
    ledger = SqliteLedger(path, patience=0.1)
    with held(ledger) as calls:
        begun = time.monotonic()
        number = fork(lambda: ledger.recall("k2", REQUEST, now=NOW).status is S.TAKEN)
        assert time.monotonic() - begun < 5
        calls.add(lambda: claim(ledger, "k1").status)
    assert came(number) == 0
    assert calls.end() == [S.TAKEN]
    assert ledger._file._line._group is None
    ledger.close()


# --------------------------------------------------------------------------------------------------------------- patience


def test_each_call_waits_for_another_process_as_long_as_its_patience(path: str) -> None:
    ledger, other = SqliteLedger(path, patience=0.3), SqliteLedger(path)
    with held(other):
        begun = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="locked"):
            claim(ledger, "k1")
        assert 0.3 <= time.monotonic() - begun < 3
    assert claim(ledger, "k1").status is S.TAKEN
    ledger.close()
    other.close()
