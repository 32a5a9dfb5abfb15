"""Danger: one permit, two answers (T1, T4, T6).  Claims on every ledger."""

from __future__ import annotations

import pytest

from x402bind.ledger import Ledger
from x402core.errors import Reply
from x402core.events import Settlement
from x402core.ledger import Claim, ClaimStatus, PaymentState
from x402core.values import Millis

from .samples import (
    KEY,
    LATER,
    NOW,
    OTHER_REPLY,
    OTHER_REQUEST,
    REPLY,
    REQUEST,
    attempt,
    ended,
    pending,
    record,
    settled,
    void,
)

S = ClaimStatus


def claim(ledger: Ledger, owner: str = "a", *, request: str = REQUEST, now: Millis = NOW) -> Claim:
    return ledger.claim(KEY, request, owner, Millis(now + 1000), now=now)


def recall(ledger: Ledger, *, request: str = REQUEST, now: Millis = NOW) -> ClaimStatus:
    return ledger.recall(KEY, request, now=now).status


def test_the_first_claim_is_taken_and_the_next_is_held(ledger: Ledger) -> None:
    assert claim(ledger).status is S.TAKEN
    assert claim(ledger, "b").status is S.HELD
    assert claim(ledger, "a").status is S.HELD, "an owner does not get its own claim twice"
    assert claim(ledger, "b", request=OTHER_REQUEST).status is S.SPENT


def test_a_recall_takes_nothing(ledger: Ledger) -> None:
    assert recall(ledger) is S.TAKEN
    assert recall(ledger) is S.TAKEN
    assert claim(ledger).status is S.TAKEN
    assert recall(ledger) is S.HELD


def test_a_release_by_its_owner_frees_the_permit_for_any_request(ledger: Ledger) -> None:
    claim(ledger)
    ledger.release(KEY, "a")
    ledger.release(KEY, "a")
    assert claim(ledger, "b", request=OTHER_REQUEST).status is S.TAKEN


def test_a_release_by_another_is_ignored(ledger: Ledger) -> None:
    claim(ledger)
    ledger.release(KEY, "b")
    assert recall(ledger) is S.HELD


@pytest.mark.parametrize(
    ("outcome", "told"), [(settled(), S.UNSERVED), (void(), S.VOID), (void(final=False), S.PENDING), (pending(), S.PENDING)]
)
def test_a_release_leaves_a_journaled_claim_to_the_journal(ledger: Ledger, outcome: Settlement, told: ClaimStatus) -> None:
    """The permit stays bound to its request, and a replay is told at once, not when the lease is over."""
    claim(ledger)
    ledger.persist_intent(record())
    for _ in range(2):
        ledger.release(KEY, "a")
        for now in (NOW, LATER):
            assert recall(ledger, now=now) is S.PENDING
            assert recall(ledger, request=OTHER_REQUEST, now=now) is S.SPENT
    assert ledger.payment_state(KEY) is PaymentState.GOOD
    ledger.persist(ended(record(), outcome))
    assert recall(ledger) is told
    assert recall(ledger, request=OTHER_REQUEST) is S.SPENT


def test_a_release_after_the_end_is_told_the_end(ledger: Ledger) -> None:
    claim(ledger)
    ledger.persist_intent(record())
    ledger.persist(ended(record(), void()))
    assert recall(ledger) is S.HELD
    ledger.release(KEY, "a")
    assert claim(ledger, "b") == Claim(S.VOID, transactions=void().transactions)


@pytest.mark.parametrize("how", ["keep", "keep with reply", "commit", "commit with reply"])
def test_a_closed_claim_is_not_released(ledger: Ledger, how: str) -> None:
    claim(ledger)
    if "keep" in how:
        ledger.keep(KEY, "a", REPLY if "reply" in how else None)
    else:
        ledger.commit(KEY, "a", None, REPLY if "reply" in how else None)
    before = ledger.entries(), ledger.recall(KEY, REQUEST, now=NOW)
    ledger.release(KEY, "a")
    assert (ledger.entries(), ledger.recall(KEY, REQUEST, now=NOW)) == before
    ledger.persist_intent(record())
    before = ledger.entries(), ledger.recall(KEY, REQUEST, now=NOW)
    ledger.release(KEY, "a")
    assert (ledger.entries(), ledger.recall(KEY, REQUEST, now=NOW)) == before
    assert {"keep": S.PENDING, "commit": S.SERVED, "commit with reply": S.ANSWERED}.get(how, S.PENDING) is before[1].status


@pytest.mark.parametrize("where", ["journal", "row"])
def test_a_release_by_another_leaves_what_is_paid_to_its_owner(ledger: Ledger, where: str) -> None:
    """The late release of a lapsed owner too: whoever serves now must not be joined by a third."""
    stage_unserved(ledger, where)
    assert claim(ledger, "b").status is S.UNSERVED
    before = ledger.entries()
    for stranger in ("a", "c"):
        ledger.release(KEY, stranger)
    assert ledger.entries() == before
    assert recall(ledger) is S.HELD
    assert claim(ledger, "c", now=LATER).status is S.UNSERVED
    ledger.release(KEY, "b")
    assert recall(ledger, now=LATER) is S.HELD


@pytest.mark.parametrize("where", ["journal", "row"])
def test_a_paid_claim_being_served_again_is_given_on_by_its_release(ledger: Ledger, where: str) -> None:
    stage_unserved(ledger, where)
    assert claim(ledger, "b").status is S.UNSERVED
    ledger.release(KEY, "b")
    for now in (NOW, LATER):
        assert recall(ledger, now=now) is S.UNSERVED
        assert recall(ledger, request=OTHER_REQUEST, now=now) is S.SPENT
    assert claim(ledger, "c") == Claim(S.UNSERVED, settled())
    assert claim(ledger, "d").status is S.HELD
    ledger.release(KEY, "b")
    ledger.commit(KEY, "b", None, OTHER_REPLY)
    assert recall(ledger) is S.HELD, "who gave it up has no say any more"
    ledger.commit(KEY, "c", None, REPLY)
    assert claim(ledger, "d").reply == REPLY


def test_a_served_answer_that_was_not_kept_is_not_served_again(ledger: Ledger) -> None:
    """A stream: one payment buys one execution, however often the permit comes back (T1)."""
    claim(ledger)
    ledger.commit(KEY, "a", settled(), None)
    for now in (NOW, LATER):
        assert claim(ledger, "b", now=now) == Claim(S.SERVED, settled())


def test_the_same_request_gets_the_same_answer(ledger: Ledger) -> None:
    claim(ledger)
    ledger.commit(KEY, "a", settled(), REPLY)
    answer = claim(ledger, "b")
    assert answer == Claim(S.ANSWERED, settled(), REPLY, ())
    assert claim(ledger, "b", now=LATER) == answer, "for ever"
    assert claim(ledger, "b", request=OTHER_REQUEST) == Claim(S.SPENT)


def test_the_journal_tells_more_than_the_claim(ledger: Ledger) -> None:
    claim(ledger)
    ledger.persist_intent(record())
    ledger.commit(KEY, "a", None, REPLY)
    assert claim(ledger, "b").settled is None
    ledger.persist(ended(record(), settled()))
    assert claim(ledger, "b").settled == settled()


def test_a_void_settlement_takes_the_answer_back(ledger: Ledger) -> None:
    claim(ledger)
    ledger.record_intent(record(), None)
    ledger.commit(KEY, "a", None, REPLY)
    assert ledger.payment_state(KEY) is PaymentState.GOOD
    ledger.persist(ended(record(), void()))
    assert claim(ledger, "b") == Claim(S.VOID, transactions=void().transactions)
    assert ledger.payment_state(KEY) is PaymentState.VOID


def test_a_payment_never_heard_of_is_unknown(ledger: Ledger) -> None:
    assert ledger.payment_state(KEY) is PaymentState.UNKNOWN
    claim(ledger)
    assert ledger.payment_state(KEY) is PaymentState.GOOD
    ledger.release(KEY, "a")
    assert ledger.payment_state(KEY) is PaymentState.UNKNOWN


def test_the_first_answer_stays(ledger: Ledger) -> None:
    claim(ledger)
    for reply in (REPLY, OTHER_REPLY, None):
        ledger.commit(KEY, "a", settled(), reply)
        ledger.keep(KEY, "a", reply)
    assert claim(ledger, "b").reply == REPLY


def test_a_kept_claim_waits_for_the_journal_and_then_gives_its_answer(ledger: Ledger) -> None:
    claim(ledger)
    ledger.persist_intent(record())
    ledger.keep(KEY, "a", REPLY)
    assert claim(ledger, "b", now=LATER).status is S.PENDING
    ledger.persist(ended(record(), settled()))
    answer = Claim(S.ANSWERED, settled(), REPLY, settled().transactions)
    for now in (NOW, LATER):
        assert claim(ledger, "b", now=now) == answer
        assert claim(ledger, "b", request=OTHER_REQUEST, now=now) == Claim(S.SPENT)


@pytest.mark.parametrize("reply", [None, REPLY])
def test_a_lost_outcome_is_waited_for_until_the_permit_is_dead(ledger: Ledger, reply: Reply | None) -> None:
    """Nothing here knows what a remote facilitator did: then the judge decides, and it refuses a dead permit."""
    claim(ledger)
    ledger.keep(KEY, "a", reply)
    over = Millis(NOW + 1000)
    assert claim(ledger, "b", now=Millis(over - 1)) == Claim(S.PENDING)
    assert recall(ledger, now=over) is S.TAKEN
    assert recall(ledger, request=OTHER_REQUEST, now=over) is S.SPENT, "bound to its request for ever"
    before = ledger.entries()
    assert recall(ledger, now=LATER) is S.TAKEN
    assert ledger.entries() == before, "asking takes nothing: a refusal leaves it as it was"
    assert claim(ledger, "b", now=over) == Claim(S.TAKEN)
    assert claim(ledger, "c", now=over).status is S.HELD
    ledger.keep(KEY, "a", None, settled())
    ledger.commit(KEY, "a", settled(), REPLY)
    assert claim(ledger, "c", now=over).status is S.HELD, "its former owner has no say any more"
    ledger.commit(KEY, "b", settled(), OTHER_REPLY)
    assert claim(ledger, "c", now=over).reply == OTHER_REPLY


@pytest.mark.parametrize("reply", [None, REPLY])
def test_a_journal_that_comes_late_tells_a_kept_claim_after_its_lease_too(ledger: Ledger, reply: Reply | None) -> None:
    claim(ledger)
    ledger.keep(KEY, "a", reply)
    assert recall(ledger, now=LATER) is S.TAKEN
    ledger.persist_intent(record())
    assert claim(ledger, "b", now=LATER) == Claim(S.PENDING)
    ledger.persist(ended(record(), settled()))
    assert recall(ledger, now=LATER) is (S.UNSERVED if reply is None else S.ANSWERED)


def test_a_facilitators_word_gives_the_kept_answer(ledger: Ledger) -> None:
    claim(ledger)
    ledger.keep(KEY, "a", REPLY)
    ledger.keep(KEY, "a", None, settled())
    answer = Claim(S.ANSWERED, settled(), REPLY, settled().transactions)
    for now in (NOW, LATER):
        assert claim(ledger, "b", now=now) == answer
        assert claim(ledger, "b", request=OTHER_REQUEST, now=now) == Claim(S.SPENT)


def test_a_keep_does_not_take_a_commit_back_but_a_commit_follows_a_keep(ledger: Ledger) -> None:
    claim(ledger)
    ledger.keep(KEY, "a", REPLY)
    assert recall(ledger) is S.PENDING
    ledger.commit(KEY, "a", settled(), None)
    assert claim(ledger, "b").reply == REPLY
    ledger.keep(KEY, "a", None)
    assert recall(ledger) is S.ANSWERED


def test_a_lapsed_claim_without_a_journal_is_taken_over(ledger: Ledger) -> None:
    claim(ledger)
    assert claim(ledger, "b", now=LATER).status is S.TAKEN
    assert claim(ledger, "c", now=LATER).status is S.HELD


@pytest.mark.parametrize("late", ["commit", "keep", "release"])
def test_a_late_owner_changes_nothing(ledger: Ledger, late: str) -> None:
    claim(ledger)
    claim(ledger, "b", now=LATER)
    before = ledger.entries()
    if late == "commit":
        ledger.commit(KEY, "a", settled(), OTHER_REPLY)
    elif late == "keep":
        ledger.keep(KEY, "a", OTHER_REPLY)
    else:
        ledger.release(KEY, "a")
    assert ledger.entries() == before
    assert recall(ledger, now=LATER) is S.HELD
    ledger.commit(KEY, "b", settled(), REPLY)
    assert claim(ledger, "c", now=LATER).reply == REPLY


def test_nobody_commits_what_nobody_holds(ledger: Ledger) -> None:
    ledger.commit(KEY, "a", settled(), REPLY)
    ledger.keep(KEY, "a", REPLY)
    assert recall(ledger) is S.TAKEN
    assert ledger.entries() == ()


def stage_unserved(ledger: Ledger, where: str = "journal") -> None:
    """Bring a payment to: paid, as the journal or the row itself says, and its answer never given."""
    claim(ledger)
    if where == "row":
        return ledger.keep(KEY, "a", None, settled())
    ledger.persist_intent(record())
    ledger.keep(KEY, "a", None)
    ledger.persist(ended(record(), settled()))
    return None


def test_a_paid_and_unserved_claim_is_taken_once(ledger: Ledger) -> None:
    stage_unserved(ledger)
    assert claim(ledger, "b") == Claim(S.UNSERVED, settled())
    assert claim(ledger, "c").status is S.HELD
    ledger.commit(KEY, "a", None, OTHER_REPLY)
    ledger.commit(KEY, "b", None, REPLY)
    assert claim(ledger, "c") == Claim(S.ANSWERED, settled(), REPLY)


@pytest.mark.parametrize("where", ["journal", "row"])
def test_a_paid_claim_whose_second_server_vanishes_is_served_by_a_third(ledger: Ledger, where: str) -> None:
    stage_unserved(ledger, where)
    claim(ledger, "b")
    assert recall(ledger, request=OTHER_REQUEST, now=LATER) is S.SPENT
    assert claim(ledger, "c", now=LATER) == Claim(S.UNSERVED, settled())
    ledger.commit(KEY, "b", settled(), OTHER_REPLY)
    assert claim(ledger, "d", now=LATER).status is S.HELD


def test_what_a_remote_facilitator_settled_and_nobody_served_is_served_once(ledger: Ledger) -> None:
    """There is no journal of it here: the claim itself holds the proof, and must not lose it."""
    claim(ledger)
    ledger.keep(KEY, "a", None, settled())
    assert claim(ledger, "b") == Claim(S.UNSERVED, settled())
    assert claim(ledger, "c").status is S.HELD
    ledger.keep(KEY, "b", None)
    assert claim(ledger, "c") == Claim(S.UNSERVED, settled())
    ledger.release(KEY, "c")
    assert claim(ledger, "c") == Claim(S.UNSERVED, settled()), "a release does not lose the proof either"
    ledger.commit(KEY, "c", None, REPLY)
    assert claim(ledger, "d") == Claim(S.ANSWERED, settled(), REPLY)


def test_a_lease_may_follow_a_permit_without_an_end(ledger: Ledger) -> None:
    until = Millis((2**256 - 1) * 1000 + 60_000)
    assert ledger.claim(KEY, REQUEST, "a", until, now=NOW).status is S.TAKEN
    assert recall(ledger, now=LATER) is S.HELD
    assert ledger.lease(KEY, "w1", until, now=NOW)
    assert not ledger.lease(KEY, "w2", until, now=LATER)


def test_a_replay_names_every_transaction(ledger: Ledger) -> None:
    claim(ledger)
    ledger.persist_intent(record())
    first, second = attempt(fee=10), attempt(fee=20)
    ledger.persist(record().with_attempt(first).with_attempt(second))
    ledger.keep(KEY, "a", None)
    assert claim(ledger, "b").transactions == (*first.hashes, *second.hashes)
