"""Danger: an answer before its writes are on the disk, or one call's failure in another's books.

Calls of one process that overlap share a transaction (``sqlite_group.py``): who shares, who is told what, what readers see.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from x402bind.ledger import LedgerUnavailable, SqliteLedger
from x402core.errors import LocalProtocolError, Reply
from x402core.ledger import Claim, ClaimStatus, Stored

from .lines import held, traced
from .samples import KEY, LATER, NOW, REPLY, REQUEST, ended, permit, record, settled

S = ClaimStatus


@pytest.fixture
def ledger(path: str) -> Iterator[SqliteLedger]:
    made = SqliteLedger(path)
    yield made
    made.close()


def claim(ledger: SqliteLedger, key: str, owner: str = "a") -> Claim:
    return ledger.claim(key, REQUEST, owner, LATER, now=NOW)


def statements(ledger: SqliteLedger) -> list[str]:
    told: list[str] = []
    traced(ledger, told.append)
    return told


def path_of(ledger: SqliteLedger) -> str:
    return ledger._file._path


def file_says(path: str) -> list[str]:
    """Return the keys claimed, as another process would read them."""
    db = sqlite3.connect(path)
    try:
        return [key for (key,) in db.execute("SELECT key FROM x402_claims ORDER BY key")]
    finally:
        db.close()


# ------------------------------------------------------------------------------------------------------- one transaction


def test_calls_that_overlap_wait_for_the_disk_once(ledger: SqliteLedger, path: str) -> None:
    told = statements(ledger)
    with held(ledger) as calls:
        for n in range(5):
            calls.add(lambda n=n: claim(ledger, f"k{n}").status)  # type: ignore[misc]
    assert calls.end() == [S.TAKEN] * 5
    assert (told.count("BEGIN IMMEDIATE"), told.count("COMMIT"), told.count("SAVEPOINT part")) == (1, 1, 5)
    assert file_says(path) == [f"k{n}" for n in range(5)]


def test_a_call_alone_has_a_transaction_of_its_own(ledger: SqliteLedger) -> None:
    told = statements(ledger)
    claim(ledger, "k1")
    claim(ledger, "k2")
    assert (told.count("BEGIN IMMEDIATE"), told.count("COMMIT"), told.count("SAVEPOINT part")) == (2, 2, 0)


def test_a_transaction_takes_64_calls(ledger: SqliteLedger) -> None:
    told = statements(ledger)
    with held(ledger) as calls:
        for n in range(130):
            calls.add(lambda n=n: claim(ledger, f"k{n}").status)  # type: ignore[misc]
    assert calls.end() == [S.TAKEN] * 130
    sizes = "".join({"BEGIN IMMEDIATE": "B", "SAVEPOINT part": "s", "COMMIT": "C"}.get(one, "") for one in told)
    assert [len(group) for group in sizes.split("C")] == [64, 64, 3, 0]


def test_who_comes_later_in_a_transaction_reads_what_was_written_before(ledger: SqliteLedger) -> None:
    with held(ledger) as calls:
        for n in range(8):
            calls.add(lambda n=n: claim(ledger, KEY, f"o{n}").status)  # type: ignore[misc]
    assert calls.end() == [S.TAKEN] + [S.HELD] * 7, "first come, first served"


def test_no_call_returns_before_the_commit_that_holds_its_writes(ledger: SqliteLedger) -> None:
    returned: list[int] = []

    def heard(statement: str) -> None:
        if statement == "COMMIT":
            returned.append(len(calls.came))

    with held(ledger) as calls:
        for n in range(8):
            calls.add(lambda n=n: claim(ledger, f"k{n}").status)  # type: ignore[misc]
        calls.add(lambda: ledger.persist(record(9)))  # which fails, because of what it read
        traced(ledger, heard)
    assert [type(one).__name__ for one in calls.end()] == ["ClaimStatus"] * 8 + ["LocalProtocolError"]
    assert returned == [0]


# ------------------------------------------------------------------------------------------------------- who is told what


def test_a_call_that_fails_undoes_its_own_part_only(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    known = record(1)

    def half(error: BaseException) -> None:
        with ledger._file.writing() as db:
            db.execute("DELETE FROM x402_claims")
            raise error

    with held(ledger) as calls:
        calls.add(lambda: claim(ledger, "k1").status)
        calls.add(lambda: half(LocalProtocolError("mine", field="record")))
        calls.add(lambda: ledger.record_intent(known, None))
        calls.add(lambda: half(KeyboardInterrupt()))
        calls.add(lambda: ledger.persist(record(2)))
        calls.add(lambda: claim(ledger, "k2").status)
        calls.add(lambda: half(ValueError()))
    names = [one if isinstance(one, (S, Stored)) else type(one).__name__ for one in calls.end()]
    errors = ("LocalProtocolError", "KeyboardInterrupt", "LocalProtocolError", "ValueError")
    assert names == [S.TAKEN, errors[0], Stored.STORED, errors[1], errors[2], S.TAKEN, errors[3]]
    assert (claim(ledger, "k1").status, claim(ledger, "k2").status) == (S.HELD, S.HELD)
    assert ledger.open_records() == (known,)


def test_a_failing_first_call_is_rolled_back_and_the_next_begins_anew(ledger: SqliteLedger) -> None:
    insert = "INSERT INTO x402_leases VALUES ('k', 'w', 1)"
    told = statements(ledger)
    with held(ledger, lambda db: db.execute(insert), fails=True) as calls:
        calls.add(lambda: claim(ledger, "k1").status)
        calls.add(lambda: ledger.lease("k", "another", LATER, now=NOW))
    assert calls.end() == [S.TAKEN, True]
    assert [one for one in told if one in ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")][:3] == [
        "BEGIN IMMEDIATE",
        "ROLLBACK",
        "BEGIN IMMEDIATE",
    ]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes: what a write then gets is what a full disk gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_commit_fails_every_call_of_the_transaction_is_told(ledger: SqliteLedger, path: str) -> None:
    claim(ledger, "before")
    told, full = statements(ledger), ExitStack()
    with held(ledger) as calls:
        calls.add(lambda: claim(ledger, "k1"))
        calls.add(lambda: claim(ledger, "before"))  # HELD, which is true; but it may rest on what was not stored
        calls.add(lambda: ledger.persist(record(9)))  # no intent: as above
        calls.add(lambda: ledger.record_intent(record(1), None))
        full.enter_context(files_of_at_most(os.stat(f"{path}-wal").st_size))
    came = calls.end()
    full.close()
    assert "COMMIT" in told[-2:]
    assert calls.trouble is not None
    assert [type(one) for one in came] == [LedgerUnavailable] * 4
    assert all(isinstance(one.__cause__, sqlite3.Error) for one in came)
    assert file_says(path) == ["before"]
    assert (claim(ledger, "k1").status, ledger.record_intent(record(1), None)) == (S.TAKEN, Stored.STORED), "it works again"


def test_where_the_disk_is_full_every_call_of_the_transaction_is_told(ledger: SqliteLedger, path: str) -> None:
    claim(ledger, "before")
    big = Reply(200, (), b"\x00" * 500_000)
    with held(ledger, lambda db: db.execute("PRAGMA max_page_count = 1")) as calls:
        calls.add(lambda: claim(ledger, "k1"))
        calls.add(lambda: ledger.commit("before", "a", settled(), big))
        calls.add(lambda: claim(ledger, "k2").status)
    came = calls.end()
    assert [type(one) for one in came[:2]] == [LedgerUnavailable] * 2
    assert isinstance(came[2], (LedgerUnavailable, S)), "it came after the failure: with a transaction of its own"
    assert "k1" not in file_says(path)
    with ledger._file.writing() as db:
        db.execute("PRAGMA max_page_count = 1000000")
    assert claim(ledger, "k1").status is S.TAKEN
    assert ledger.recall("before", REQUEST, now=NOW).status is S.HELD


def test_where_sqlite_rolls_back_of_its_own_accord_every_call_is_told(ledger: SqliteLedger, path: str) -> None:
    def lost() -> None:
        with ledger._file.writing() as db:
            db.execute("ROLLBACK")  # as SQLite does when it must; no exception says so here
            db.execute("INSERT INTO x402_leases VALUES ('k', 'w', 1)")

    with held(ledger) as calls:
        calls.add(lambda: claim(ledger, "k1"))
        calls.add(lambda: lost())
        calls.add(lambda: claim(ledger, "k2").status)
    came = calls.end()
    assert [type(one) for one in came[:2]] == [LedgerUnavailable] * 2
    assert came[2] is S.TAKEN
    assert file_says(path) == ["k2"]


# ---------------------------------------------------------------------------------------------------------------- readers


def test_a_reader_sees_nothing_that_is_not_committed_and_does_not_wait(ledger: SqliteLedger) -> None:
    known = record(1)
    insert = "INSERT INTO x402_leases VALUES ('k', 'w', 1)"
    with held(ledger, lambda db: db.execute(insert)) as calls:
        calls.add(lambda: claim(ledger, "k1").status)
        calls.add(lambda: ledger.record_intent(known, None))
        assert ledger.recall("k1", REQUEST, now=NOW).status is S.TAKEN
        with ledger._file.reading() as db:
            assert db.execute("SELECT * FROM x402_leases").fetchall() == []
    assert calls.end() == [S.TAKEN, Stored.STORED]
    assert ledger.recall("k1", REQUEST, now=NOW).status is S.HELD
    assert ledger.record(known.key) == known


def test_a_reader_sees_nothing_of_an_open_group_whose_calls_have_had_their_turn(ledger: SqliteLedger) -> None:
    """The one that has the turn now is the last: two have written, and wait."""
    seen: list[Any] = []

    def last() -> None:
        with ledger._file.writing():
            seen.extend((dict(calls.came), file_says(path_of(ledger))))
            reader = threading.Thread(target=lambda: seen.append(ledger.recall("k1", REQUEST, now=NOW).status))
            reader.start()
            reader.join(20)

    with held(ledger) as calls:
        calls.add(lambda: claim(ledger, "k1").status)
        calls.add(lambda: claim(ledger, "k2").status)
        calls.add(last)
    assert calls.end() == [S.TAKEN, S.TAKEN, None]
    assert seen == [{}, [], S.TAKEN]
    assert file_says(path_of(ledger)) == ["k1", "k2"]


def test_in_memory_a_reader_waits_for_the_writer(tmp_path: Path) -> None:
    ledger = SqliteLedger(":memory:")
    told = statements(ledger)
    with held(ledger, lambda db: db.execute("INSERT INTO x402_leases VALUES ('k', 'w', 1)")) as calls:
        calls.add(lambda: claim(ledger, "k1").status)
        calls.add(lambda: ledger.recall("k1", REQUEST, now=NOW).status)
        assert not calls.came
    assert calls.end() == [S.TAKEN, S.HELD]
    assert (told.count("COMMIT"), told.count("SAVEPOINT part")) == (3, 0), "each has a transaction of its own"
    ledger.close()


def test_who_reads_after_a_call_returned_sees_what_it_wrote(ledger: SqliteLedger) -> None:
    wrong: list[object] = []

    def run(thread: int) -> None:
        for n in range(1, 26):
            known = record(1000 * thread + n)
            assert claim(ledger, known.key).status is S.TAKEN
            if ledger.recall(known.key, REQUEST, now=NOW).status is not S.HELD:
                wrong.append(known.key)
            ledger.record_intent(known, None)
            if ledger.record(known.key) != known:
                wrong.append(known)
            done = ledger.persist(ended(known, settled(n)))
            if ledger.record(known.key) != done:
                wrong.append(done)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert len(ledger.entries()) == 12 * 25


def test_a_reader_cannot_write(ledger: SqliteLedger) -> None:
    with pytest.raises(LedgerUnavailable, match="readonly"), ledger._file.reading() as db:
        db.execute("DELETE FROM x402_claims")


def test_readers_make_no_file(path: str) -> None:
    """A file made by opening it to read would not be private."""
    ledger = SqliteLedger(path)
    ledger.close()
    ledger = SqliteLedger(path)
    ledger._file._drop()
    os.unlink(path)
    with pytest.raises(LedgerUnavailable):
        ledger.record(KEY)
    assert not Path(path).exists()
    ledger.close()


def test_a_path_may_have_signs_that_mean_something_in_a_url(tmp_path: Path) -> None:
    path = tmp_path / "50% off?mode=memory#1 \u00e9.db"
    ledger = SqliteLedger(str(path))
    claim(ledger, KEY)
    assert ledger.recall(KEY, REQUEST, now=NOW).status is S.HELD
    assert [one.name for one in tmp_path.iterdir() if not one.name.endswith(("-wal", "-shm"))] == [path.name]
    ledger.close()


# ---------------------------------------------------------------------------------------------------------------- closing


def test_closing_stores_what_is_open_and_refuses_who_comes_after(ledger: SqliteLedger, path: str) -> None:
    with held(ledger) as calls:
        calls.add(lambda: claim(ledger, "k1").status)
        calls.add(ledger.close)
        calls.add(lambda: claim(ledger, "k2").status)
    came = calls.end()
    assert came[:2] == [S.TAKEN, None]
    assert isinstance(came[2], LocalProtocolError)
    assert file_says(path) == ["k1"]
    for call in (lambda: ledger.record(KEY), lambda: claim(ledger, "k3")):
        with pytest.raises(LocalProtocolError, match="closed"):
            call()
    ledger.close()


def test_closing_waits_for_a_reader(ledger: SqliteLedger) -> None:
    with ledger._file.reading() as db:
        thread = threading.Thread(target=ledger.close)
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        db.execute("SELECT 1").fetchone()
    thread.join(20)
    assert not thread.is_alive()


# ----------------------------------------------------------------------------------------------------------- what is known


def test_what_is_remembered_is_bounded_and_told_by_its_bytes(ledger: SqliteLedger, path: str) -> None:
    known = [record(n) for n in range(1, 700)]
    for one in known:
        ledger.persist_intent(one)
    remembered = ledger._rows._records
    assert 256 <= len(remembered._now) + len(remembered._before) <= 512
    assert ledger.open_records() == tuple(known)
    huge = record(1000)
    huge = type(huge)(huge.permit, huge.offer, huge.since, huge.created, note=b"\x01" * 9000)
    ledger.persist_intent(huge)
    assert ledger.record(huge.key) == huge
    assert all(len(data) <= 8192 for data in (*remembered._now, *remembered._before))
    other = sqlite3.connect(path)
    other.execute("UPDATE x402_records SET body = CAST(replace(body, '1700000000000', '1700000000001') AS BLOB)")
    other.commit()
    other.close()
    changed = ledger.record(permit(1).key)
    assert changed is not None
    assert changed.created == NOW + 1, "what another process wrote is read"


def test_an_offer_as_a_peer_wrote_it_is_not_kept_in_memory_either(ledger: SqliteLedger) -> None:
    known = record(1)
    offer = type(known.offer)(**{**{f: getattr(known.offer, f) for f in known.offer.__slots__}, "raw": {"a": 1}})
    ledger.persist_intent(type(known)(known.permit, offer, known.since, known.created))
    stored = ledger.record(known.key)
    assert stored == known
    assert stored.offer.raw is None


def test_an_answer_is_the_same_from_memory_and_from_the_file(path: str) -> None:
    first, second = SqliteLedger(path), SqliteLedger(path)
    claim(first, KEY)
    first.record_intent(record(), None)
    first.persist(ended(record(), settled()))
    first.commit(KEY, "a", settled(), REPLY)
    for _ in range(2):
        assert first.recall(KEY, REQUEST, now=NOW) == second.recall(KEY, REQUEST, now=NOW)
        assert first.record(KEY) == second.record(KEY)
    first.close()
    second.close()
