"""Danger: served for a signature copied, or for money that never came (x402.md 3.4).  Sign-in grants on every ledger."""

from __future__ import annotations

import sqlite3

import pytest

from x402bind.ledger import Ledger, SqliteLedger
from x402core.events import Settlement
from x402core.ledger import Grant, SignedIn
from x402core.values import Millis

from .samples import EXPIRES, KEY, LATER, LONG_AFTER, NOW, REPLY, REQUEST, ended, payer, pending, permit, record, settled, void

I = SignedIn  # noqa: E741
GOODS = Grant("/goods", payer(1))


def buy(ledger: Ledger, number: int = 1, *, journaled: bool = False) -> None:
    key = permit(number).key
    ledger.claim(key, REQUEST, "a", LATER, now=NOW)
    if journaled:
        ledger.persist_intent(record(number))
    ledger.commit(key, "a", None if journaled else settled(number), REPLY, GOODS)


def sign_in(
    ledger: Ledger, nonce: str = "n1", *, resource: str = "/goods", by: int = 1, until: Millis = LATER, now: Millis = NOW
) -> SignedIn:
    return ledger.sign_in(resource, payer(by), nonce, until, now=now)


def test_who_paid_comes_back_with_a_new_nonce_each_time(ledger: Ledger) -> None:
    assert sign_in(ledger) is I.NOT_PAID
    buy(ledger)
    assert sign_in(ledger) is I.GRANTED, "being refused did not use the nonce up"
    assert sign_in(ledger) is I.NONCE_USED
    assert sign_in(ledger, "n2") is I.GRANTED
    assert sign_in(ledger, "n3", until=Millis(LONG_AFTER + 1), now=LONG_AFTER) is I.GRANTED


def test_a_grant_is_for_its_resource_and_payer_only(ledger: Ledger) -> None:
    buy(ledger)
    assert sign_in(ledger, resource="/other") is I.NOT_PAID
    assert sign_in(ledger, resource="/good") is I.NOT_PAID
    assert sign_in(ledger, by=2) is I.NOT_PAID


def test_a_nonce_is_its_payers(ledger: Ledger) -> None:
    """Nobody uses up a nonce that somebody else was shown."""
    buy(ledger)
    ledger.claim(permit(2).key, REQUEST, "a", LATER, now=NOW)
    ledger.commit(permit(2).key, "a", settled(2), REPLY, Grant("/goods", payer(2)))
    assert [sign_in(ledger, by=by) for by in (2, 1, 1)] == [I.GRANTED, I.GRANTED, I.NONCE_USED]


def test_a_nonce_is_kept_to_its_very_millisecond(ledger: Ledger) -> None:
    buy(ledger)
    assert sign_in(ledger, until=LATER) is I.GRANTED
    assert sign_in(ledger, "n2", until=Millis(LATER + 9), now=Millis(LATER - 1)) is I.GRANTED, "which forgets what is over"
    assert sign_in(ledger, until=Millis(LATER + 9), now=Millis(LATER - 1)) is I.NONCE_USED
    assert sign_in(ledger, until=Millis(LATER + 9), now=LATER) is I.GRANTED, "its proof is dead by then"
    assert sign_in(ledger, until=Millis(LATER + 9), now=Millis(LATER + 1)) is I.NONCE_USED


def test_a_proof_that_cannot_be_remembered_is_not_granted(ledger: Ledger) -> None:
    buy(ledger)
    assert sign_in(ledger, until=NOW) is I.NONCE_USED
    assert sign_in(ledger, until=Millis(NOW + 1)) is I.GRANTED


def test_what_was_kept_open_is_granted_from_when_the_money_arrives(ledger: Ledger) -> None:
    """Whoever's settlement was slow has paid as well as anybody."""
    ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    ledger.persist_intent(record())
    ledger.keep(KEY, "a", REPLY, grant=GOODS)
    assert sign_in(ledger) is I.NOT_PAID
    ledger.persist(ended(record(), settled()))
    assert sign_in(ledger) is I.GRANTED


def test_what_was_kept_open_without_a_journal_grants_nothing(ledger: Ledger) -> None:
    ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    ledger.keep(KEY, "a", REPLY, grant=GOODS)
    assert sign_in(ledger) is I.NOT_PAID


def test_only_the_present_owners_commit_grants(ledger: Ledger) -> None:
    ledger.commit(KEY, "a", settled(), REPLY, GOODS)
    ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    ledger.commit(KEY, "b", settled(), REPLY, GOODS)
    ledger.keep(KEY, "a", REPLY)
    assert sign_in(ledger) is I.NOT_PAID
    ledger.commit(KEY, "a", settled(), REPLY)
    assert sign_in(ledger) is I.NOT_PAID, "a commit without a grant grants nothing"
    ledger.commit(KEY, "a", settled(), REPLY, GOODS)
    assert sign_in(ledger) is I.GRANTED


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [(pending(), I.NOT_PAID), (void(final=False), I.NOT_PAID), (settled(), I.GRANTED), (void(), I.NOT_PAID)],
)
def test_a_grant_is_worth_what_its_payment_is(ledger: Ledger, outcome: Settlement, answer: SignedIn) -> None:
    buy(ledger, journaled=True)
    ledger.persist(ended(record(), outcome))
    assert sign_in(ledger) is answer


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_one_good_payment_of_several_is_enough(ledger: Ledger, order: tuple[int, int]) -> None:
    for number in order:
        buy(ledger, number, journaled=True)
    ledger.persist(ended(record(1), void()))
    ledger.persist(ended(record(2), settled(2)))
    assert sign_in(ledger) is I.GRANTED


def test_a_payment_that_failed_after_a_good_one_takes_nothing_away(ledger: Ledger) -> None:
    buy(ledger)
    buy(ledger, 2, journaled=True)
    ledger.persist(ended(record(2), void()))
    assert sign_in(ledger) is I.GRANTED


def test_a_payment_journaled_late_and_void_does_not_hide_a_good_one(ledger: Ledger) -> None:
    ledger.claim(KEY, REQUEST, "a", LATER, now=NOW)
    ledger.commit(KEY, "a", None, REPLY, GOODS)
    buy(ledger, 2)
    ledger.persist_intent(record())
    ledger.persist(ended(record(), void()))
    assert sign_in(ledger) is I.GRANTED


def test_who_buys_often_fills_no_disk(path: str) -> None:
    ledger = SqliteLedger(path)
    for number in range(1, 6):
        buy(ledger, number)
        sign_in(ledger, f"n{number}", until=Millis(NOW + number), now=Millis(NOW + number - 1))
    assert ledger.prune(LONG_AFTER) == 5
    assert sign_in(ledger, until=Millis(LONG_AFTER + 1), now=LONG_AFTER) is I.GRANTED
    ledger.close()
    db = sqlite3.connect(path)
    counts = [db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("x402_grants", "x402_nonces")]
    assert counts == [(1,), (1,)], "one grant of those that are forgotten, and the nonces that still matter"
    db.close()


@pytest.mark.parametrize("back", [1, 2])
def test_paying_one_of_two_back_leaves_the_other(ledger: Ledger, back: int) -> None:
    for number in (1, 2):
        buy(ledger, number, journaled=True)
        ledger.persist(ended(record(number), settled(number)))
    assert not ledger.refund(record(back).key, now=NOW), "it was served"
    assert ledger.refund(record(back).key, now=NOW, served=True)
    assert sign_in(ledger) is I.GRANTED
    assert ledger.refund(record(3 - back).key, now=NOW, served=True)
    assert sign_in(ledger, "another") is I.NOT_PAID


@pytest.mark.parametrize(("outcome", "answer"), [(settled(), I.GRANTED), (void(), I.NOT_PAID)])
def test_pruning_keeps_what_was_paid_for_and_nothing_else(ledger: Ledger, outcome: Settlement, answer: SignedIn) -> None:
    buy(ledger, journaled=True)
    ledger.persist(ended(record(), outcome))
    assert ledger.prune(Millis(EXPIRES * 1000 + 1)) == 1
    assert sign_in(ledger) is answer
