"""Danger: two winners (T1, T6).  Threads on one ledger, processes on one file, and a process that forks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

import pytest

from x402bind.ledger import Ledger, LedgerUnavailable, MemoryLedger, SqliteLedger, rows
from x402core.errors import LocalProtocolError
from x402core.ledger import ClaimStatus, Grant, SignedIn, Stored
from x402core.values import Amount, Millis

from .samples import ACCOUNT, KEY, LATER, NETWORK, NOW, REPLY, REQUEST, attempt, ended, payer, permit, record, settled

THREADS = 16
PROCESSES = 4
ROUNDS = 25
T = TypeVar("T")
S = ClaimStatus


def race(act: Callable[[int], T]) -> list[T]:
    """Let threads do one thing at one time."""
    start = threading.Barrier(THREADS)

    def run(number: int) -> T:
        start.wait()
        return act(number)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # let them meet inside a call
    try:
        with ThreadPool(THREADS) as pool:
            return pool.map(run, range(THREADS), chunksize=1)
    finally:
        sys.setswitchinterval(before)


def test_one_thread_of_many_takes_a_claim(shared: Ledger) -> None:
    for turn in range(20):
        statuses = race(lambda n, turn=turn: shared.claim(f"k{turn}", REQUEST, f"o{n}", LATER, now=NOW).status)  # type: ignore[misc]
        assert Counter(statuses) == {S.TAKEN: 1, S.HELD: THREADS - 1}


def test_one_payment_of_many_gets_a_name(shared: Ledger) -> None:
    for turn in range(20):
        name = f"0xpayer/pay_{turn}"

        def act(n: int, turn: int = turn, name: str = name) -> ClaimStatus:
            return shared.claim(f"k{turn}-{n}", REQUEST, "o", LATER, now=NOW, identifier=name).status

        assert Counter(race(act)) == {S.TAKEN: 1, S.CONFLICT: THREADS - 1}


def test_one_thread_of_many_signs_in_with_a_nonce(shared: Ledger) -> None:
    shared.claim(KEY, REQUEST, "a", LATER, now=NOW)
    shared.commit(KEY, "a", settled(), REPLY, Grant("/goods", payer(1)))
    for turn in range(20):
        told = race(lambda n, turn=turn: shared.sign_in("/goods", payer(1), f"n{turn}", LATER, now=NOW))  # type: ignore[misc]
        assert Counter(told) == {SignedIn.GRANTED: 1, SignedIn.NONCE_USED: THREADS - 1}


def test_one_thread_of_many_serves_what_was_paid_and_not_served(shared: Ledger) -> None:
    shared.claim(KEY, REQUEST, "a", NOW, now=NOW)
    shared.persist_intent(record())
    shared.keep(KEY, "a", None)
    shared.persist(ended(record(), settled()))
    statuses = race(lambda n: shared.claim(KEY, REQUEST, f"o{n}", LATER, now=NOW).status)
    assert Counter(statuses) == {S.UNSERVED: 1, S.HELD: THREADS - 1}


def test_one_thread_of_many_takes_over_from_a_vanished_owner(shared: Ledger) -> None:
    shared.claim(KEY, REQUEST, "gone", NOW, now=NOW)
    statuses = race(lambda n: shared.claim(KEY, REQUEST, f"o{n}", LATER, now=NOW).status)
    assert Counter(statuses) == {S.TAKEN: 1, S.HELD: THREADS - 1}


def test_one_thread_of_many_takes_over_when_a_lost_outcomes_lease_is_over(shared: Ledger) -> None:
    shared.claim(KEY, REQUEST, "gone", NOW, now=NOW)
    shared.keep(KEY, "gone", REPLY)
    statuses = race(lambda n: shared.claim(KEY, REQUEST, f"o{n}", LATER, now=NOW).status)
    assert Counter(statuses) == {S.TAKEN: 1, S.HELD: THREADS - 1}


def test_a_release_among_claims_lets_one_more_serve_and_no_two(shared: Ledger) -> None:
    """Paid, and being served again by an owner that gives up while others ask."""
    for turn in range(20):
        key = f"k{turn}"
        shared.claim(key, REQUEST, "a", NOW, now=NOW)
        shared.keep(key, "a", None, settled())
        assert shared.claim(key, REQUEST, "o0", LATER, now=NOW).status is S.UNSERVED

        def act(n: int, key: str = key) -> ClaimStatus | None:
            if n:
                return shared.claim(key, REQUEST, f"o{n}", LATER, now=NOW).status
            shared.release(key, "o0")
            return None

        statuses = Counter(race(act))
        assert statuses[S.UNSERVED] <= 1
        assert statuses[S.UNSERVED] + statuses[S.HELD] == THREADS - 1
        after = shared.claim(key, REQUEST, "late", LATER, now=NOW).status
        assert after is (S.HELD if statuses[S.UNSERVED] else S.UNSERVED), "the release took effect, whoever came first"


def test_a_release_beside_an_intent_never_frees_the_permit(shared: Ledger) -> None:
    for n in range(1, 21):
        key = permit(n).key
        shared.claim(key, REQUEST, "a", LATER, now=NOW)

        def act(who: int, n: int = n, key: str = key) -> None:
            if who % 2:
                shared.release(key, "a")
            else:
                shared.persist_intent(record(n))

        race(act)
        assert shared.claim(key, REQUEST, "b", LATER, now=NOW).status is S.PENDING, "whichever came first"
        shared.persist(ended(record(n), settled(n)))
        assert shared.claim(key, "another", "c", LATER, now=NOW).status is S.SPENT
        assert shared.recall(key, REQUEST, now=NOW).status in (S.UNSERVED, S.SPENT)


def test_threads_get_distinct_rising_numbers(shared: Ledger) -> None:
    lots = race(lambda n: shared.allocate(NETWORK, ACCOUNT, f"k{n}", 2, floor=7))
    assert sorted(n for lot in lots for n in lot) == list(range(7, 7 + 2 * THREADS))
    assert all(first < second for first, second in lots)


def test_threads_for_one_key_get_the_same_numbers(shared: Ledger) -> None:
    assert set(race(lambda _: shared.allocate(NETWORK, ACCOUNT, KEY, 2, floor=7))) == {(7, 8)}


def test_one_thread_of_many_journals_an_intent(shared: Ledger) -> None:
    stored = race(lambda n: shared.record_intent(record(created=NOW + n), None))
    assert Counter(stored) == {Stored.STORED: 1, Stored.DUPLICATE: THREADS - 1}
    fresh = race(lambda n: shared.persist_intent(record(2, created=NOW + n)))
    assert fresh.count(None) == 1
    assert {r for r in fresh if r is not None} == {shared.record(permit(2).key)}


def test_threads_together_stay_under_the_exposure(shared: Ledger) -> None:
    stored = race(lambda n: shared.record_intent(record(n), Amount(500)))
    assert Counter(stored) == {Stored.STORED: 5, Stored.OVER_EXPOSURE: THREADS - 5}


def test_no_threads_attempt_is_lost(shared: Ledger) -> None:
    shared.persist_intent(record())
    race(lambda n: shared.persist(record().with_attempt(attempt(fee=n))))
    stored = shared.record(KEY)
    assert stored is not None
    assert sorted(a.max_fee for a in stored.attempts) == list(range(THREADS))


def test_one_thread_of_many_gets_the_lease(shared: Ledger) -> None:
    assert sum(race(lambda n: shared.lease(KEY, f"w{n}", LATER, now=NOW))) == 1


# ------------------------------------------------------------------------------------------------------------- processes


def _compete(path: str, name: str, start: Barrier) -> tuple[list[str], list[tuple[int, ...]], list[str], list[str]]:
    """Open the file (it is not there yet), and compete with the others for everything in it."""
    start.wait()
    ledger = SqliteLedger(path, patience=60)
    start.wait()
    taken, lots, stored, leased = [], [], [], []
    for n in range(1, ROUNDS + 1):
        if ledger.claim(f"k{n}", REQUEST, name, LATER, now=NOW).status is S.TAKEN:
            taken.append(f"k{n}")
            ledger.commit(f"k{n}", name, None, REPLY)
        lots.append(ledger.allocate(NETWORK, ACCOUNT, f"{name}{n}", 2, floor=0))
        if n % 3 == 0:
            ledger.return_numbers(NETWORK, f"{name}{n}")
            lots.pop()
        if ledger.record_intent(record(n), Amount(100 * (ROUNDS - 5))) is Stored.STORED:
            stored.append(permit(n).key)
        if ledger.lease(f"k{n}", name, LATER, now=NOW):
            leased.append(f"k{n}")
    ledger.close()
    return taken, lots, stored, leased


def _child(path: str, name: str, start: Barrier, out: multiprocessing.Queue[object]) -> None:
    try:
        out.put(_compete(path, name, start))
    except BaseException as error:
        start.abort()
        out.put(error)
        raise


def test_processes_on_one_file(path: str) -> None:
    context = multiprocessing.get_context("spawn")
    start, out = context.Barrier(PROCESSES), context.Queue()
    children = [context.Process(target=_child, args=(path, f"p{n}", start, out)) for n in range(PROCESSES)]
    for child in children:
        child.start()
    results = [out.get(timeout=60) for _ in children]
    assert not [result for result in results if isinstance(result, BaseException)]
    for child in children:
        child.join()
    every = [sorted(one for result in results for one in result[kind]) for kind in range(4)]
    keys = sorted(f"k{n}" for n in range(1, ROUNDS + 1))
    assert every[0] == keys, "each claim was taken once"
    assert every[3] == keys, "each lease was taken once"
    numbers = [n for lot in every[1] for n in lot]
    assert len(numbers) == len(set(numbers)), "no number was handed out twice"
    assert max(numbers) < 2 * PROCESSES * ROUNDS, "what was given back was used again"
    assert len(every[2]) == len(set(every[2])) == ROUNDS - 5, "exposure holds across processes"
    ledger = SqliteLedger(path)
    assert len(ledger.open_records()) == ROUNDS - 5
    assert all(ledger.recall(key, REQUEST, now=NOW).status is S.ANSWERED for key in keys)
    ledger.close()


def test_nobody_comes_between_a_releases_look_and_what_it_does(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or an intent journaled in between would lose the claim that says which request it pays for."""
    ledger, other = SqliteLedger(path), SqliteLedger(path, patience=0.05)
    ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    look = rows.releasable
    tried = []

    def interloped(*args: Any) -> bool:
        with pytest.raises(LedgerUnavailable):
            other.persist_intent(record())
        tried.append(args)
        return look(*args)

    monkeypatch.setattr(rows, "releasable", interloped)
    ledger.release(KEY, "a")
    assert len(tried) == 1
    assert other.recall(KEY, REQUEST, now=NOW).status is S.TAKEN
    ledger.close()
    other.close()


def _fork(act: Callable[[], bool]) -> int:
    """Run ``act`` in a forked child; its exit status is 0 when ``act`` says True."""
    child = os.fork()
    if child == 0:
        status = 2
        signal.alarm(20)  # a child that hangs dies of it
        try:
            status = 0 if act() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_server_keeps_the_one_ledger(path: str) -> None:
    """gunicorn --preload: the connection is the parent's, the claims are everybody's."""
    ledger = SqliteLedger(path)
    assert ledger.claim("before", REQUEST, "parent", LATER, now=NOW).status is S.TAKEN

    def child() -> bool:
        held = ledger.claim("before", REQUEST, "child", LATER, now=NOW).status is S.HELD
        return held and ledger.claim("inside", REQUEST, "child", LATER, now=NOW).status is S.TAKEN

    assert _fork(child) == 0
    assert ledger.claim("inside", REQUEST, "parent", LATER, now=NOW).status is S.HELD
    ledger.close()


def test_a_fork_while_another_thread_is_inside_does_not_hang(path: str) -> None:
    ledger = SqliteLedger(path, patience=0.2)  # which a fork has too
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger._file.reading():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(30)
    try:
        assert _fork(lambda: ledger.claim(KEY, REQUEST, "child", LATER, now=NOW).status is S.TAKEN) == 0
    finally:
        leave.set()
        thread.join()
    ledger.close()


@pytest.mark.parametrize("make", [MemoryLedger, lambda: SqliteLedger(":memory:")], ids=["memory", "sqlite"])
def test_a_forked_copy_of_a_memory_is_refused(make: Callable[[], Ledger]) -> None:
    """Each copy would answer TAKEN."""
    ledger = make()

    def child() -> bool:
        try:
            ledger.claim(KEY, REQUEST, "child", LATER, now=Millis(NOW))
        except LocalProtocolError:
            return True
        return False

    assert _fork(child) == 0
    assert ledger.claim(KEY, REQUEST, "parent", LATER, now=NOW).status is S.TAKEN
    ledger.close()
