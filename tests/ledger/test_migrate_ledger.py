"""Danger: an update that loses what is owed.  A file of the first release opens, and everything in it is still there."""

from __future__ import annotations

import sqlite3
from multiprocessing.pool import ThreadPool

import pytest

from x402bind.ledger import SqliteLedger
from x402core.catalog import CatalogQuery
from x402core.errors import LocalProtocolError
from x402core.ledger import Claim, ClaimStatus, Grant, SignedIn
from x402core.wire import journal

from .samples import ACCOUNT, KEY, LATER, NETWORK, NOW, REPLY, REQUEST, attempt, entry, payer, permit, record, settled

FIRST = """
CREATE TABLE x402_schema (version INTEGER NOT NULL);
INSERT INTO x402_schema VALUES (1);
CREATE TABLE x402_claims (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL, until INTEGER NOT NULL,
    at INTEGER NOT NULL, settled BLOB, reply BLOB);
CREATE TABLE x402_records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, slot TEXT NOT NULL, payer TEXT NOT NULL,
    asset TEXT NOT NULL, network TEXT NOT NULL, amount TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
    open INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX x402_slot ON x402_records (slot);
CREATE INDEX x402_owed ON x402_records (payer, asset, network) WHERE open;
CREATE INDEX x402_open ON x402_records (created, seq) WHERE open;
CREATE INDEX x402_over ON x402_records (expires) WHERE NOT open;
CREATE TABLE x402_leases (key TEXT PRIMARY KEY, worker TEXT NOT NULL, until INTEGER NOT NULL);
CREATE TABLE x402_numbers (
    network TEXT NOT NULL, account TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, state INTEGER NOT NULL,
    PRIMARY KEY (network, account, number)) WITHOUT ROWID;
CREATE INDEX x402_numbers_of ON x402_numbers (key, network);
"""
SIGNED = record(2).with_attempt(attempt(5))


@pytest.fixture
def old(path: str) -> str:
    """Return a file as the first release left it: an answered payment, a settlement under way, a number in use."""
    db = sqlite3.connect(path)
    db.executescript(FIRST)
    paid = (KEY, REQUEST, "a", "committed", LATER, NOW, journal.encode_settled(settled()), journal.encode_reply(REPLY))
    db.execute("INSERT INTO x402_claims VALUES (?, ?, ?, ?, ?, ?, ?, ?)", paid)
    permit_ = SIGNED.permit
    where = (SIGNED.key, permit_.slot, permit_.payer, permit_.asset, NETWORK, "100", NOW, permit_.expires * 1000, 1)
    body = journal.encode_record(SIGNED)
    db.execute("INSERT INTO x402_records VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*where, body))
    db.execute("INSERT INTO x402_numbers VALUES (?, ?, 5, ?, 1)", (NETWORK, ACCOUNT, SIGNED.key))
    db.commit()
    db.close()
    return path


def test_a_file_of_the_first_release_opens_with_all_it_held(old: str) -> None:
    for _ in range(2):
        ledger = SqliteLedger(old)
        assert ledger.recall(KEY, REQUEST, now=NOW) == Claim(ClaimStatus.ANSWERED, settled(), REPLY)
        assert ledger.open_records() == (SIGNED,)
        assert ledger.allocate(NETWORK, ACCOUNT, SIGNED.key, 1, floor=5) == (5,)
        ledger.close()


def test_what_is_new_works_in_an_old_file(old: str) -> None:
    ledger = SqliteLedger(old)
    key = permit(3).key
    ledger.claim(key, REQUEST, "a", LATER, now=NOW, identifier="pay_1")
    assert ledger.claim("k4", REQUEST, "b", LATER, now=NOW, identifier="pay_1").status is ClaimStatus.CONFLICT
    ledger.commit(key, "a", settled(3), REPLY, Grant("/goods", payer(1)))
    assert ledger.sign_in("/goods", payer(1), "n", LATER, now=NOW) is SignedIn.GRANTED
    ledger.catalogue(entry())
    assert ledger.resources(CatalogQuery()) == ((entry(),), 1)
    ledger.close()


def test_an_old_file_and_a_new_one_end_alike(old: str, tmp_path: object) -> None:
    new = f"{tmp_path}/new.db"
    shapes = []
    for path in (old, new):
        SqliteLedger(path).close()
        db = sqlite3.connect(path)
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'x402%' ORDER BY name")]
        shapes.append({name: db.execute(f"PRAGMA table_xinfo({name})").fetchall() for name in names})
        assert db.execute("SELECT version FROM x402_schema").fetchall() == [(2,)]
        db.close()
    assert shapes[0] == shapes[1]


def test_two_who_open_an_old_file_at_once_bring_it_up_once(old: str) -> None:
    with ThreadPool(8) as pool:
        for ledger in pool.map(lambda _: SqliteLedger(old), range(8)):
            assert ledger.recall(KEY, REQUEST, now=NOW).reply == REPLY
            ledger.close()


@pytest.mark.parametrize("version", ["0", "3", "'one'", "-1"])
def test_a_file_of_no_release_we_know_is_left_alone(old: str, version: str) -> None:
    db = sqlite3.connect(old)
    db.execute(f"UPDATE x402_schema SET version = {version}")
    db.commit()
    with pytest.raises(LocalProtocolError, match="version"):
        SqliteLedger(old)
    assert "identifier" not in str(db.execute("PRAGMA table_info(x402_claims)").fetchall())
    db.close()
