"""Danger: one name, two payments (x402.md 3.5).  The payment identifier as an idempotency key, on every ledger."""

from __future__ import annotations

import pytest

from x402bind.ledger import Ledger
from x402core.events import Settlement
from x402core.ledger import Claim, ClaimRow, ClaimState, ClaimStatus, decide, recall, stands
from x402core.values import Millis

from .samples import (
    EXPIRES,
    KEY,
    LATER,
    LONG_AFTER,
    NOW,
    OTHER_REQUEST,
    REPLY,
    REQUEST,
    ended,
    pending,
    permit,
    record,
    settled,
    void,
)

S = ClaimStatus
NAME = "0xpayer/pay_1"
OTHER_NAME = "0xpayer/pay_2"
OTHER_KEY = permit(2).key


def claim(ledger: Ledger, key: str = KEY, owner: str = "a", *, name: str = NAME, now: Millis = NOW) -> ClaimStatus:
    return ledger.claim(key, REQUEST, owner, Millis(now + 1000), now=now, identifier=name).status


def told(ledger: Ledger, key: str = OTHER_KEY, *, name: str = NAME, now: Millis = NOW) -> ClaimStatus:
    return ledger.recall(key, REQUEST, now=now, identifier=name).status


def test_the_same_name_and_payment_get_the_same_answer(ledger: Ledger) -> None:
    assert claim(ledger) is S.TAKEN
    assert claim(ledger, owner="b") is S.HELD
    ledger.commit(KEY, "a", settled(), REPLY)
    again = ledger.claim(KEY, REQUEST, "b", LATER, now=NOW, identifier=NAME)
    assert again == Claim(S.ANSWERED, settled(), REPLY)


def test_the_same_name_on_another_payment_is_a_conflict(ledger: Ledger) -> None:
    claim(ledger)
    before = ledger.entries()
    assert ledger.claim(OTHER_KEY, REQUEST, "b", LATER, now=NOW, identifier=NAME) == Claim(S.CONFLICT)
    assert told(ledger) is S.CONFLICT
    assert ledger.entries() == before, "it takes nothing"
    assert claim(ledger, OTHER_KEY, "b", name=OTHER_NAME) is S.TAKEN
    ledger.commit(KEY, "a", settled(), REPLY)
    for now in (NOW, LATER, LONG_AFTER):
        assert told(ledger, permit(3).key, now=now) is S.CONFLICT, "for as long as the payment is remembered"


def test_a_name_comes_before_what_else_is_known_of_the_payment(ledger: Ledger) -> None:
    """Whoever puts a name that stands on another payment gets neither that one's answer nor this one's."""
    claim(ledger)
    claim(ledger, OTHER_KEY, "b", name=OTHER_NAME)
    ledger.commit(OTHER_KEY, "b", settled(2), REPLY)
    assert told(ledger) is S.CONFLICT
    assert told(ledger, name=OTHER_NAME) is S.ANSWERED


def test_no_name_conflicts_with_nothing(ledger: Ledger) -> None:
    assert claim(ledger, name="") is S.TAKEN
    assert claim(ledger, OTHER_KEY, "b", name="") is S.TAKEN


def test_a_release_frees_the_name(ledger: Ledger) -> None:
    claim(ledger)
    ledger.release(KEY, "b")
    assert told(ledger) is S.CONFLICT, "another's release does not"
    ledger.release(KEY, "a")
    assert claim(ledger, OTHER_KEY, "b") is S.TAKEN
    assert told(ledger, KEY) is S.CONFLICT, "it is the other's now"


def test_a_release_that_leaves_a_trace_keeps_the_name(ledger: Ledger) -> None:
    claim(ledger)
    ledger.persist_intent(record())
    ledger.release(KEY, "a")
    assert told(ledger, now=LATER) is S.CONFLICT


def test_an_owner_who_is_gone_without_a_trace_leaves_the_name(ledger: Ledger) -> None:
    claim(ledger)
    assert told(ledger, now=Millis(NOW + 999)) is S.CONFLICT
    assert told(ledger, now=Millis(NOW + 1000)) is S.TAKEN
    assert claim(ledger, OTHER_KEY, "b", now=LATER) is S.TAKEN
    assert claim(ledger, KEY, "c", now=LATER) is S.CONFLICT
    ledger.commit(KEY, "a", settled(), REPLY)
    assert told(ledger, KEY, now=LATER) is S.CONFLICT, "a late commit does not take it back"
    assert told(ledger, KEY, name="", now=LATER) is S.ANSWERED
    ledger.release(OTHER_KEY, "b")
    assert claim(ledger, permit(3).key, "d", now=LATER) is S.TAKEN


def test_an_outcome_that_was_lost_keeps_the_name(ledger: Ledger) -> None:
    """The payer may have paid under it."""
    claim(ledger)
    ledger.keep(KEY, "a", None)
    for now in (NOW, LATER, LONG_AFTER):
        assert told(ledger, now=now) is S.CONFLICT
    assert claim(ledger, KEY, "b", name=OTHER_NAME, now=LATER) is S.TAKEN
    assert told(ledger, now=LATER) is S.CONFLICT, "and so does whoever takes that payment up again"
    assert told(ledger, name=OTHER_NAME, now=LATER) is S.TAKEN


def test_a_payment_that_was_made_keeps_its_first_name(ledger: Ledger) -> None:
    claim(ledger)
    ledger.keep(KEY, "a", None, settled())
    assert claim(ledger, KEY, "b", name=OTHER_NAME) is S.UNSERVED
    assert told(ledger) is S.CONFLICT
    ledger.release(KEY, "b")
    assert told(ledger, now=LATER) is S.CONFLICT


@pytest.mark.parametrize(("outcome", "status"), [(settled(), S.CONFLICT), (void(), S.TAKEN), (void(final=False), S.CONFLICT)])
@pytest.mark.parametrize("close", ["commit", "keep"])
def test_a_payment_that_came_to_nothing_frees_the_name(
    ledger: Ledger, outcome: Settlement, status: ClaimStatus, close: str
) -> None:
    claim(ledger)
    ledger.persist_intent(record())
    if close == "commit":
        ledger.commit(KEY, "a", None, REPLY)
    else:
        ledger.keep(KEY, "a", None)
    assert told(ledger) is S.CONFLICT
    ledger.persist(ended(record(), outcome))
    assert claim(ledger, OTHER_KEY, "b") is status


def test_pruning_forgets_the_name(ledger: Ledger) -> None:
    claim(ledger)
    ledger.persist_intent(record())
    ledger.persist(ended(record(), settled()))
    ledger.commit(KEY, "a", None, REPLY)
    assert ledger.prune(Millis(EXPIRES * 1000 + 1)) == 1
    assert claim(ledger, OTHER_KEY, "b", now=LONG_AFTER) is S.TAKEN


def test_another_request_under_the_same_name_is_not_told_the_answer(ledger: Ledger) -> None:
    claim(ledger)
    ledger.commit(KEY, "a", settled(), REPLY)
    assert ledger.claim(KEY, OTHER_REQUEST, "b", LATER, now=NOW, identifier=NAME) == Claim(S.SPENT)


# ------------------------------------------------------------------------------------------------- the rule behind it


def row(state: ClaimState, *, lapsed: bool = False, paid: bool = False) -> ClaimRow:
    return ClaimRow(KEY, "a", REQUEST, state, NOW if lapsed else LATER, settled() if paid else None, None, NAME)


@pytest.mark.parametrize("state", ClaimState)
@pytest.mark.parametrize("outcome", [None, pending(), void(final=False), settled(), void()])
def test_the_journal_says_whether_a_name_stands(state: ClaimState, outcome: Settlement | None) -> None:
    journaled = record() if outcome is None else ended(record(), outcome)
    for lapsed in (False, True):
        assert stands(row(state, lapsed=lapsed), journaled, now=NOW) is (outcome != void())


def test_without_a_journal_only_an_owner_who_is_gone_and_unpaid_lets_go() -> None:
    fallen = [
        (state, lapsed, paid)
        for state in ClaimState
        for lapsed in (False, True)
        for paid in (False, True)
        if not stands(row(state, lapsed=lapsed, paid=paid), None, now=NOW)
    ]
    assert fallen == [(ClaimState.CLAIMED, True, False)]


def test_a_name_that_stands_decides_alone() -> None:
    named = row(ClaimState.COMMITTED)
    for mine in (None, row(ClaimState.CLAIMED), row(ClaimState.COMMITTED)):
        for journaled in (None, record(2)):
            assert decide(mine, journaled, request=REQUEST, now=NOW, named=named) == Claim(S.CONFLICT)
            assert recall(mine, journaled, request=REQUEST, now=NOW, named=named) == Claim(S.CONFLICT)


# ------------------------------------------------------------------------------------------------------- the heartbeat


def test_a_heartbeat_keeps_a_claim(ledger: Ledger) -> None:
    claim(ledger)
    assert ledger.extend(KEY, "a", LATER)
    assert claim(ledger, owner="b", now=Millis(LATER - 1)) is S.HELD
    assert claim(ledger, owner="b", now=LATER) is S.TAKEN


def test_a_heartbeat_never_shortens_a_lease(ledger: Ledger) -> None:
    claim(ledger)
    assert ledger.extend(KEY, "a", Millis(NOW + 1))
    assert claim(ledger, owner="b", now=Millis(NOW + 999)) is S.HELD


def test_a_heartbeat_without_a_claim_is_told_so(ledger: Ledger) -> None:
    assert not ledger.extend(KEY, "a", LATER)
    claim(ledger)
    assert not ledger.extend(KEY, "b", LATER)
    assert ledger.extend(KEY, "a", Millis(2**256 * 1000)), "a lease may be as long as a permit"
    claim(ledger, OTHER_KEY, "b", name="")
    assert claim(ledger, OTHER_KEY, "c", name="", now=LATER) is S.TAKEN
    assert not ledger.extend(OTHER_KEY, "b", LONG_AFTER), "somebody else has taken it over"
    for close in (ledger.keep, ledger.commit):
        close(KEY, "a", None, None)
        assert not ledger.extend(KEY, "a", LATER), "what is closed has no lease to move"
