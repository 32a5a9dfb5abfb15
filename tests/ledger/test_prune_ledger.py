"""Danger: forgetting a payment that can still be presented, settled or complained about.  Housekeeping on every ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from x402bind.ledger import Entry, EntryState, Ledger, MemoryLedger, SqliteLedger, open_ledger
from x402core.errors import LocalProtocolError
from x402core.events import Settlement
from x402core.ledger import ClaimState, ClaimStatus, Grant, SettlementRecord, SignedIn
from x402core.values import Millis

from .samples import (
    ACCOUNT,
    ASSET,
    EXPIRES,
    KEY,
    LONG_AFTER,
    NETWORK,
    NOW,
    OFFER,
    REPLY,
    REQUEST,
    attempt,
    ended,
    endless,
    payer,
    pending,
    permit,
    record,
    settled,
    void,
)

AT_EXPIRY = Millis(EXPIRES * 1000)


def stage(ledger: Ledger, close: str, outcome: Settlement | None, known: SettlementRecord | None = None) -> None:
    """Bring one payment as far as ``close`` and ``outcome`` say."""
    known = known or record()
    if close != "unclaimed":
        ledger.claim(known.key, REQUEST, "a", Millis(NOW + 1000), now=NOW)
    ledger.persist_intent(known)
    if outcome is not None:
        ledger.persist(ended(known, outcome))
    if close in ("commit", "commit with reply"):
        ledger.commit(known.key, "a", None, REPLY if "reply" in close else None)
    if close in ("keep", "keep with reply"):
        ledger.keep(known.key, "a", REPLY if "reply" in close else None)
    if close == "release":
        ledger.release(known.key, "a")


OVER = [
    ("commit with reply", settled()),
    ("commit with reply", void()),
    ("commit", settled()),
    ("keep with reply", settled()),
    ("keep", void()),
    ("release", void()),
    ("claimed", void()),
    ("unclaimed", settled()),
    ("unclaimed", void()),
]
STAYS = [
    ("commit with reply", None),
    ("commit with reply", pending()),
    ("commit with reply", void(final=False)),
    ("keep", None),
    ("keep", settled()),  # paid and not served: a debt
    ("release", settled()),  # the same
    ("release", None),
    ("claimed", settled()),
    ("claimed", None),
    ("unclaimed", None),
]


@pytest.mark.parametrize(("close", "outcome"), OVER)
def test_what_is_over_is_forgotten(ledger: Ledger, close: str, outcome: Settlement) -> None:
    stage(ledger, close, outcome)
    assert ledger.prune(AT_EXPIRY) == 0, "the permit had not expired before"
    assert ledger.prune(Millis(AT_EXPIRY + 1)) == 1
    assert ledger.prune(LONG_AFTER) == 0
    assert ledger.entries() == ()
    assert ledger.record(KEY) is None
    assert ledger.recall(KEY, REQUEST, now=LONG_AFTER).status is ClaimStatus.TAKEN


@pytest.mark.parametrize(("close", "outcome"), STAYS)
def test_what_is_open_stays(ledger: Ledger, close: str, outcome: Settlement | None) -> None:
    stage(ledger, close, outcome)
    before = ledger.entries(), ledger.record(KEY)
    assert ledger.prune(LONG_AFTER) == 0
    assert (ledger.entries(), ledger.record(KEY)) == before
    assert len(before[0]) == 1


LEASE = Millis(AT_EXPIRY + 5)  # what an exchange takes: beyond the end of its permit


def alone(ledger: Ledger, close: str, until: Millis = LEASE) -> None:
    """Bring a payment without a settlement record as far as ``close`` says."""
    ledger.claim(KEY, REQUEST, "a", until, now=NOW, identifier="0xpayer/name")
    match close:
        case "charged nothing":
            ledger.commit(KEY, "a", None, REPLY)
        case "charged nothing, answer not kept":
            ledger.commit(KEY, "a", None, None)
        case "settled elsewhere":
            ledger.commit(KEY, "a", settled(), REPLY)
        case "settled elsewhere, answered":
            ledger.keep(KEY, "a", REPLY, settled())
        case "given up":
            ledger.keep(KEY, "a", None)
        case "paid and not served":
            ledger.keep(KEY, "a", None, settled())
        case "released":
            ledger.keep(KEY, "a", None, settled())
            ledger.claim(KEY, REQUEST, "b", LEASE, now=NOW)
            ledger.release(KEY, "b")
        case _:
            assert close == "crashed"


@pytest.mark.parametrize(
    "close",
    ["charged nothing", "charged nothing, answer not kept", "crashed", "settled elsewhere", "settled elsewhere, answered"],
)
def test_a_claim_without_a_journal_is_forgotten_when_its_permit_ended_long_ago(ledger: Ledger, close: str) -> None:
    alone(ledger, close)
    before = ledger.entries(), ledger.recall(KEY, REQUEST, now=AT_EXPIRY)
    for moment in (NOW, AT_EXPIRY, LEASE):  # as long as it could be presented, what it bought must not be bought again
        assert ledger.prune(moment) == 0
        assert (ledger.entries(), ledger.recall(KEY, REQUEST, now=AT_EXPIRY)) == before
    assert ledger.prune(Millis(LEASE + 1)) == 1
    assert ledger.prune(LONG_AFTER) == 0
    assert ledger.entries() == ()
    other = permit(2).key
    named = ledger.claim(other, REQUEST, "a", LONG_AFTER, now=LONG_AFTER, identifier="0xpayer/name")
    assert named.status is ClaimStatus.TAKEN, "its name is free"


@pytest.mark.parametrize("close", ["given up", "paid and not served", "released"])
def test_a_debt_without_a_journal_stays(ledger: Ledger, close: str) -> None:
    """What may be owed to a payer is for people to reconcile."""
    alone(ledger, close)
    before = ledger.entries()
    assert ledger.prune(LONG_AFTER) == 0
    assert ledger.entries() == before
    assert len(before) == 1


def test_a_claim_without_a_journal_whose_permit_never_ends_stays(ledger: Ledger) -> None:
    alone(ledger, "charged nothing", Millis(2**256))
    assert ledger.prune(LONG_AFTER) == 0
    assert ledger.recall(KEY, REQUEST, now=LONG_AFTER).status is ClaimStatus.ANSWERED


def test_a_claim_without_a_journal_that_is_as_young_as_its_last_owner(ledger: Ledger) -> None:
    alone(ledger, "crashed")
    ledger.claim(KEY, REQUEST, "b", LONG_AFTER, now=Millis(LEASE + 1))
    assert ledger.prune(LONG_AFTER) == 0
    assert ledger.prune(Millis(LONG_AFTER + 1)) == 1


def test_what_nothing_was_paid_for_is_granted_to_nobody_when_it_is_forgotten(ledger: Ledger) -> None:
    """With its claim gone, nothing would say any more that the grant came to nothing."""
    ledger.claim(KEY, REQUEST, "a", LEASE, now=NOW)
    ledger.commit(KEY, "a", None, REPLY, Grant("/paid", payer(1)))
    paid = permit(2).key
    ledger.claim(paid, REQUEST, "a", LEASE, now=NOW)
    ledger.commit(paid, "a", settled(), REPLY, Grant("/other", payer(1)))
    for nonce in ("before", "after"):
        assert ledger.sign_in("/paid", payer(1), nonce, LONG_AFTER, now=NOW) is SignedIn.NOT_PAID
        assert ledger.sign_in("/other", payer(1), nonce, LONG_AFTER, now=NOW) is SignedIn.GRANTED
        ledger.prune(LONG_AFTER)
    assert ledger.entries() == ()


def test_many_claims_without_a_journal_are_forgotten_in_one_call(ledger: Ledger) -> None:
    total = 450 if isinstance(ledger, MemoryLedger | SqliteLedger) else 3
    for number in range(1, total + 1):
        ledger.claim(permit(number).key, REQUEST, "a", LEASE if number % 3 else Millis(2**60), now=NOW)
    assert ledger.prune(LONG_AFTER) == total - total // 3
    assert len(ledger.entries()) == total // 3


def test_a_permit_that_never_expires_is_never_forgotten(ledger: Ledger) -> None:
    known = SettlementRecord(endless(), OFFER, 1, NOW)
    stage(ledger, "commit with reply", settled(), known)
    assert ledger.prune(LONG_AFTER) == 0
    assert ledger.record(known.key) == ended(known, settled())


def test_a_young_claim_on_an_old_record_stays(ledger: Ledger) -> None:
    stage(ledger, "keep", settled())
    young = Millis(LONG_AFTER + 5)
    ledger.claim(KEY, REQUEST, "b", young, now=young)
    ledger.commit(KEY, "b", None, REPLY)
    assert ledger.prune(LONG_AFTER) == 0
    assert ledger.prune(Millis(young + 1)) == 1


def test_many_are_forgotten_in_one_call_and_their_numbers_with_them(ledger: Ledger) -> None:
    total = 230
    if not isinstance(ledger, MemoryLedger | SqliteLedger):
        total = 3  # opening a file for each of a thousand calls proves nothing more
    for number in range(1, total + 1):
        stage(ledger, "unclaimed", settled() if number % 10 else None, record(number))
    ledger.allocate(NETWORK, ACCOUNT, permit(total + 1).key, 1, floor=0)
    expected = sum(1 for number in range(1, total + 1) if number % 10)
    assert ledger.prune(LONG_AFTER) == expected
    assert len(ledger.entries()) == total - expected
    assert ledger.allocate(NETWORK, ACCOUNT, permit(total + 2).key, 1, floor=0) == (1,), "a stranger's number is kept"


def test_a_forgotten_payments_numbers_and_lease_go(ledger: Ledger) -> None:
    ledger.persist_intent(record())
    ledger.allocate(NETWORK, ACCOUNT, KEY, 1, floor=5)
    ledger.lease(KEY, "w1", Millis(2**50), now=NOW)
    ledger.persist(ended(record().with_attempt(attempt(5)), void()))
    ledger.prune(LONG_AFTER)
    assert ledger.lease(KEY, "w2", LONG_AFTER, now=NOW)
    assert ledger.allocate(NETWORK, ACCOUNT, permit(2).key, 1, floor=5) == (5,)


def test_entries_tell_people_how_far_each_payment_is(ledger: Ledger) -> None:
    other = permit(9).key
    ledger.claim(other, REQUEST, "a", NOW, now=Millis(NOW - 1))
    known = record()
    told = [ledger.entries()[-1].state]
    for step in (
        known,
        known.with_attempt(attempt()),
        replace(known.with_attempt(attempt()), sent=True),
        ended(replace(known.with_attempt(attempt()), sent=True), settled()),
    ):
        ledger.persist_intent(step)
        ledger.persist(step)
        told.append(ledger.entries()[-1].state)
    assert told == [EntryState.CLAIMED, EntryState.INTENT, EntryState.SIGNED, EntryState.SENT, EntryState.SETTLED]
    assert ledger.entries() == (
        Entry(other, EntryState.CLAIMED, ClaimState.CLAIMED, False, None, None, None, None, (), Millis(NOW - 1)),
        Entry(
            KEY,
            EntryState.SETTLED,
            None,
            False,
            payer(1),
            known.amount,
            ASSET,
            NETWORK,
            (*attempt().hashes, settled().transaction),
            NOW,
        ),
    )
    assert [entry.key for entry in ledger.entries(since=NOW)] == [KEY]


def test_entries_show_a_paid_and_unserved_claim(ledger: Ledger) -> None:
    stage(ledger, "keep", settled())
    (entry,) = ledger.entries()
    assert (entry.state, entry.claim, entry.answered) == (EntryState.SETTLED, ClaimState.KEPT, False)


def test_entries_know_what_a_remote_facilitator_said(ledger: Ledger) -> None:
    ledger.claim(KEY, REQUEST, "a", NOW, now=NOW)
    ledger.commit(KEY, "a", settled(), REPLY)
    (entry,) = ledger.entries()
    assert (entry.state, entry.answered, entry.payer) == (EntryState.COMMITTED, True, payer(1))
    assert entry.transactions == (settled().transaction,)


def test_a_release_of_what_is_paid_shows_as_kept_and_as_old_as_it_was(ledger: Ledger) -> None:
    ledger.claim(KEY, REQUEST, "a", NOW, now=NOW)
    ledger.keep(KEY, "a", None, settled())
    ledger.claim(KEY, REQUEST, "b", LONG_AFTER, now=Millis(NOW + 7))
    ledger.release(KEY, "b")
    (entry,) = ledger.entries()
    assert (entry.state, entry.claim, entry.answered) == (EntryState.KEPT, ClaimState.KEPT, False)
    assert (entry.payer, entry.transactions, entry.created) == (payer(1), (settled().transaction,), NOW + 7)


@pytest.mark.parametrize("url", ["", "memory", "memory:x", "sqlite", "sqlite:", "postgres://x", "SQLITE:x", "x.db"])
def test_an_unknown_url_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(LocalProtocolError, match=r"ledger: write \"memory:\".*\"sqlite:\" and a path"):
        open_ledger(url)


def test_a_ledger_is_opened_by_its_url(path: str) -> None:
    memory, sqlite = open_ledger("memory:"), open_ledger(f"sqlite:{path}")
    assert (type(memory), memory.blocking) == (MemoryLedger, False)
    assert (type(sqlite), sqlite.blocking) == (SqliteLedger, True)
    for ledger in (memory, sqlite):
        ledger.close()
        ledger.close()
        with pytest.raises(LocalProtocolError, match="closed"):
            ledger.record(KEY)
