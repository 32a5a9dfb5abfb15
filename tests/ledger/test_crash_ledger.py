"""Danger: a crash between two steps (T5).  kill -9 at every statement, a stream of acknowledged writes, and sick files."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from x402bind.ledger import Ledger, LedgerUnavailable, MemoryLedger, SqliteLedger
from x402core.errors import LocalProtocolError
from x402core.ledger import ClaimStatus, Grant, Stored
from x402core.values import Amount, Millis

from .samples import (
    ACCOUNT,
    KEY,
    LATER,
    LONG_AFTER,
    NETWORK,
    NOW,
    OTHER_REPLY,
    REPLY,
    REQUEST,
    attempt,
    ended,
    entry,
    payer,
    permit,
    record,
    settled,
)

S = ClaimStatus
Step = Callable[[Ledger], object]

GRANT = Grant("/goods", payer(1))
NAMED: list[tuple[str, Step]] = [  # an identifier that passes from a claim given up to another; a grant, a nonce, a listing
    ("claim", lambda ledger: ledger.claim("gone", REQUEST, "z", NOW, now=NOW, identifier="pay_1")),
    ("claim of the name", lambda ledger: ledger.claim(KEY, REQUEST, "a", LATER, now=NOW, identifier="pay_1")),
    ("longer", lambda ledger: ledger.extend(KEY, "a", Millis(LATER + 1))),
    ("commit", lambda ledger: ledger.commit(KEY, "a", settled(), REPLY, GRANT)),
    ("sign in", lambda ledger: ledger.sign_in("/goods", payer(1), "nonce", LATER, now=NOW)),
    ("sign in later", lambda ledger: ledger.sign_in("/goods", payer(1), "another", LONG_AFTER, now=LATER)),
    ("listed", lambda ledger: ledger.catalogue(entry())),
    ("listed anew", lambda ledger: ledger.catalogue(entry(at=LATER, description="better"))),
]

LIFE: list[tuple[str, Step]] = [
    ("claim", lambda ledger: ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)),
    ("intent", lambda ledger: ledger.record_intent(record(), Amount(100))),
    ("lease", lambda ledger: ledger.lease(KEY, "w", LATER, now=NOW)),
    ("numbers", lambda ledger: ledger.allocate(NETWORK, ACCOUNT, KEY, 2, floor=5)),
    ("signed", lambda ledger: ledger.persist(record().with_attempt(attempt(5, 6)))),
    ("kept", lambda ledger: ledger.keep(KEY, "a", None)),
    ("more numbers", lambda ledger: ledger.allocate(NETWORK, ACCOUNT, KEY, 2, floor=6)),
    ("settled", lambda ledger: ledger.persist(ended(record(), settled()))),
    ("claim again", lambda ledger: ledger.claim(KEY, REQUEST, "b", LATER, now=NOW)),
    ("given on", lambda ledger: ledger.release(KEY, "b")),
    ("claim once more", lambda ledger: ledger.claim(KEY, REQUEST, "c", LATER, now=NOW)),
    ("commit", lambda ledger: ledger.commit(KEY, "c", settled(), REPLY)),
    ("prune", lambda ledger: ledger.prune(LONG_AFTER)),
]

REMOTE: list[tuple[str, Step]] = [  # settled by a remote facilitator: the row is all there is
    ("claim", lambda ledger: ledger.claim(KEY, REQUEST, "a", NOW, now=NOW)),
    ("outcome lost", lambda ledger: ledger.keep(KEY, "a", REPLY)),
    ("claim of the dead", lambda ledger: ledger.claim(KEY, REQUEST, "b", LATER, now=NOW)),
    ("released", lambda ledger: ledger.release(KEY, "b")),
    ("claim anew", lambda ledger: ledger.claim(KEY, REQUEST, "c", LATER, now=NOW)),
    ("kept as paid", lambda ledger: ledger.keep(KEY, "c", None, settled())),
    ("claim again", lambda ledger: ledger.claim(KEY, REQUEST, "d", LATER, now=NOW)),
    ("given on", lambda ledger: ledger.release(KEY, "d")),
    ("claim once more", lambda ledger: ledger.claim(KEY, REQUEST, "e", LATER, now=NOW)),
    ("commit", lambda ledger: ledger.commit(KEY, "e", None, REPLY)),
]

STEPS = [
    pytest.param(life, place, id=f"{told}-{life[place][0]}")
    for told, life in (("journaled", LIFE), ("remote", REMOTE), ("named", NAMED))
    for place in range(len(life))
]


def dump(path: str) -> list[str]:
    """Return everything a file holds, as SQL."""
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [line for line in db.iterdump() if "sqlite_sequence" not in line]
    finally:
        db.close()


def killed_at(path: str, step: Step, statement: int) -> bool:
    """Run a step in a forked child that dies by SIGKILL before its n-th SQL statement; False when it lived through."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs dies of it
        try:
            ledger = SqliteLedger(path)
            left = itertools.count(statement, -1)

            def die(_sql: str) -> None:
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            assert ledger._file._db is not None
            ledger._file._db.set_trace_callback(die)
            step(ledger)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize(("life", "place"), STEPS)
def test_killed_at_any_statement_a_step_is_done_or_not_begun(tmp_path: Path, life: list[tuple[str, Step]], place: int) -> None:
    def staged(name: str) -> tuple[str, SqliteLedger]:
        file = str(tmp_path / name)
        ledger = SqliteLedger(file)
        for _, step in life[:place]:
            step(ledger)
        return file, ledger

    _, step = life[place]
    file, ledger = staged("expected")
    before = dump(file)
    step(ledger)
    after = dump(file)
    assert before != after, "the step changes something"
    for _, later in life[place + 1 :]:
        later(ledger)
    ledger.close()
    end = dump(file)
    for statement in itertools.count():
        file, ledger = staged(f"killed-{statement}")
        ledger.close()
        killed = killed_at(file, step, statement)
        found = dump(file)
        assert found in (before, after), "never half of it"
        assert killed or found == after
        reopened = SqliteLedger(file)
        for _, again in life[place:]:
            again(reopened)
        reopened.close()
        assert dump(file) == end, "whoever does the step again comes to the same end"
        if not killed:
            assert statement >= 3, "BEGIN, a change, COMMIT"
            return
        assert statement < 40


WRITER = """
import itertools, os, sys
from tests.ledger.samples import *
from x402bind.ledger import SqliteLedger
ledger = SqliteLedger(sys.argv[1])
say = lambda *words: os.write(1, (" ".join(map(str, words)) + "\\n").encode())
for n in itertools.count(1):
    known = record(n, created=NOW + n)
    ledger.claim(known.key, REQUEST, "a", LATER, now=NOW); say("claimed", n)
    ledger.persist_intent(known); say("intent", n)
    (number,) = ledger.allocate(NETWORK, ACCOUNT, known.key, 1, floor=0); say("number", n, number)
    known = known.with_attempt(attempt(number, fee=n)); ledger.persist(known); say("signed", n)
    ledger.persist(ended(known, settled(n))); say("settled", n)
    ledger.commit(known.key, "a", settled(n), REPLY); say("committed", n)
"""


@pytest.mark.parametrize("lines", [1, 2, 3, 4, 5, 6, 7, 50, 101, 204])
def test_what_was_acknowledged_survives_kill_9(path: str, lines: int) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, cwd=root, text=True) as writer:
        assert writer.stdout is not None
        heard = [writer.stdout.readline().split() for _ in range(lines)]
        writer.kill()
        heard += [line.split() for line in writer.stdout.read().splitlines()]
    assert len(heard) >= lines
    ledger = SqliteLedger(path)
    numbers: list[int] = []
    for word, n, *more in heard:
        number = int(n)
        known = ledger.record(permit(number).key)
        recalled = ledger.recall(permit(number).key, REQUEST, now=NOW)
        if word == "claimed":
            assert recalled.status in (S.HELD, S.ANSWERED)
            continue
        assert known is not None
        if word == "number":
            numbers.append(int(more[0]))
        if word == "signed":
            assert known.attempts == (attempt(numbers[-1], fee=number),)
        if word == "settled":
            assert known.outcome == settled(number)
        if word == "committed":
            assert (recalled.status, recalled.reply) == (S.ANSWERED, REPLY)
    assert len(set(numbers)) == len(numbers)
    assert len(ledger.entries()) <= int(heard[-1][1]) + 1, "at most one more than was acknowledged"
    ledger.close()


# ------------------------------------------------------------------------------------------------------- trouble is raised


def test_a_locked_file_is_trouble_and_no_answer(path: str) -> None:
    ledger = SqliteLedger(path, patience=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable):
        ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    with pytest.raises(LedgerUnavailable):
        ledger.record_intent(record(), None)
    assert ledger.recall(KEY, REQUEST, now=NOW).status is S.TAKEN, "readers do not wait for a writer"
    other.execute("ROLLBACK")
    assert ledger.claim(KEY, REQUEST, "a", LATER, now=NOW).status is S.TAKEN
    other.close()
    ledger.close()


def test_a_full_disk_is_trouble_and_leaves_nothing_half_done(path: str) -> None:
    ledger = SqliteLedger(path)
    ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    assert ledger._file._db is not None
    ledger._file._db.execute("PRAGMA max_page_count = 1")
    big = b"\x00" * 500_000
    with pytest.raises(LedgerUnavailable):
        ledger.commit(KEY, "a", settled(), type(REPLY)(200, (), big))
    ledger._file._db.execute("PRAGMA max_page_count = 1000000")
    assert ledger.recall(KEY, REQUEST, now=NOW).status is S.HELD
    ledger.commit(KEY, "a", settled(), OTHER_REPLY)
    assert ledger.recall(KEY, REQUEST, now=NOW).reply == OTHER_REPLY
    ledger.close()


@pytest.mark.parametrize("make", [lambda path: MemoryLedger(), SqliteLedger], ids=["memory", "sqlite"])
def test_an_interrupt_inside_a_step_undoes_it(
    make: Callable[[str], Ledger], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make(path)

    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("x402bind.ledger.rows.taken", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    assert ledger.claim(KEY, REQUEST, "b", LATER, now=NOW).status is S.TAKEN
    ledger.close()


@pytest.mark.parametrize(
    ("table", "column", "call"),
    [
        ("x402_records", "body", lambda ledger: ledger.record(KEY)),
        ("x402_records", "body", lambda ledger: ledger.open_records()),
        ("x402_records", "body", lambda ledger: ledger.claim(KEY, REQUEST, "b", LATER, now=NOW)),
        ("x402_claims", "reply", lambda ledger: ledger.recall(KEY, REQUEST, now=NOW)),
        ("x402_claims", "settled", lambda ledger: ledger.entries()),
    ],
)
def test_a_damaged_row_is_trouble_and_no_answer(path: str, table: str, column: str, call: Step) -> None:
    ledger = SqliteLedger(path)
    ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    assert ledger.record_intent(record(), None) is Stored.STORED
    ledger.commit(KEY, "a", settled(), REPLY)
    db = sqlite3.connect(path)
    db.execute(f"UPDATE {table} SET {column} = ?", (b'{"v":99}',))
    db.commit()
    db.close()
    with pytest.raises(LedgerUnavailable):
        call(ledger)
    ledger.close()


def test_the_file_and_its_companions_are_private(path: str) -> None:
    before = os.umask(0)
    try:
        ledger = SqliteLedger(path)
        ledger.persist_intent(record())
    finally:
        os.umask(before)
    files = sorted(Path(path).parent.iterdir())
    assert [file.name for file in files] == ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    ledger.close()
    os.chmod(path, 0o644)
    SqliteLedger(path).close()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at as if it were one\n" * 100)
    text.chmod(0o644)
    with pytest.raises(LedgerUnavailable):
        SqliteLedger(str(text))
    assert stat.S_IMODE(text.stat().st_mode) == 0o644
    assert text.read_text().startswith("not a database")
    mode = tmp_path.stat().st_mode
    for unusable in (str(tmp_path), str(tmp_path / "missing" / "ledger.db")):
        with pytest.raises(LedgerUnavailable):
            SqliteLedger(unusable)
    assert tmp_path.stat().st_mode == mode


def test_a_newer_releases_file_is_refused(path: str) -> None:
    SqliteLedger(path).close()
    db = sqlite3.connect(path)
    db.execute("UPDATE x402_schema SET version = 3")
    db.commit()
    db.close()
    with pytest.raises(LocalProtocolError, match="version 3"):
        SqliteLedger(path)


def test_an_empty_path_is_no_ledger() -> None:
    with pytest.raises(LocalProtocolError, match="path"):
        SqliteLedger("")


def test_a_relative_path_is_meant_from_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = SqliteLedger("ledger.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    child = os.fork()  # which opens the file anew
    if child == 0:
        signal.alarm(20)
        os._exit(0 if ledger.claim(KEY, REQUEST, "a", LATER, now=NOW).status is S.TAKEN else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ledger.claim(KEY, REQUEST, "b", LATER, now=NOW).status is S.HELD
    assert not list((tmp_path / "elsewhere").iterdir())
    ledger.close()


def test_writes_are_durable_at_once(path: str) -> None:
    ledger = SqliteLedger(path)
    assert ledger._file._db is not None
    told = [ledger._file._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert told == ["wal", 2], "2 is FULL"
    ledger.close()
