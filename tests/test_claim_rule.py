"""The one rule for a claim, row by row: every combination of what is stored, with the answer written out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from x402core.errors import Reason
from x402core.ledger import (
    Claim,
    ClaimRow,
    ClaimState,
    ClaimStatus,
    SettlementRecord,
    decide,
    payment_state,
    recall,
    refundable,
)
from x402core.ledger import PaymentState as P
from x402core.machines import server, token
from x402core.schemes.scheme import window
from x402core.values import Millis, Seconds, seconds

from .ledger.samples import (
    EXPIRES,
    LONG_AFTER,
    NOW,
    OFFER,
    OTHER_REQUEST,
    REPLY,
    REQUEST,
    ended,
    pending,
    record,
    settled,
    void,
)

S = ClaimStatus
NONE, OPEN, SETTLED, VOID, PROVEN = RECORDS = ("none", "open", "settled", "void", "proven")
# PROVEN: no record, but the row itself holds the proof (a remote facilitator settled)
LIVE, OVER = LEASES = ("live", "over")
BARE, KEPT_REPLY = REPLIES = ("bare", "reply")
SAME, OTHER = REQUESTS = ("same", "other")
NO_ROW = "no row"

# (row, lease, reply) -> the answer to the same request, by settlement record
ANSWERS: dict[tuple[str, str, str], dict[str, ClaimStatus]] = {
    ("claimed", LIVE, BARE): {NONE: S.HELD, OPEN: S.HELD, SETTLED: S.HELD, VOID: S.HELD, PROVEN: S.HELD},
    ("claimed", LIVE, KEPT_REPLY): {NONE: S.HELD, OPEN: S.HELD, SETTLED: S.HELD, VOID: S.HELD, PROVEN: S.HELD},
    ("claimed", OVER, BARE): {NONE: S.TAKEN, OPEN: S.PENDING, SETTLED: S.UNSERVED, VOID: S.VOID, PROVEN: S.UNSERVED},
    ("claimed", OVER, KEPT_REPLY): {NONE: S.TAKEN, OPEN: S.PENDING, SETTLED: S.ANSWERED, VOID: S.VOID, PROVEN: S.ANSWERED},
    ("kept", LIVE, BARE): {NONE: S.PENDING, OPEN: S.PENDING, SETTLED: S.UNSERVED, VOID: S.VOID, PROVEN: S.UNSERVED},
    ("kept", LIVE, KEPT_REPLY): {NONE: S.PENDING, OPEN: S.PENDING, SETTLED: S.ANSWERED, VOID: S.VOID, PROVEN: S.ANSWERED},
    ("kept", OVER, BARE): {NONE: S.TAKEN, OPEN: S.PENDING, SETTLED: S.UNSERVED, VOID: S.VOID, PROVEN: S.UNSERVED},
    ("kept", OVER, KEPT_REPLY): {NONE: S.TAKEN, OPEN: S.PENDING, SETTLED: S.ANSWERED, VOID: S.VOID, PROVEN: S.ANSWERED},
    ("committed", LIVE, BARE): {
        NONE: S.SERVED,
        OPEN: S.SERVED,
        SETTLED: S.SERVED,
        VOID: S.VOID,
        PROVEN: S.SERVED,
    },
    ("committed", LIVE, KEPT_REPLY): {
        NONE: S.ANSWERED,
        OPEN: S.ANSWERED,
        SETTLED: S.ANSWERED,
        VOID: S.VOID,
        PROVEN: S.ANSWERED,
    },
    ("committed", OVER, BARE): {
        NONE: S.SERVED,
        OPEN: S.SERVED,
        SETTLED: S.SERVED,
        VOID: S.VOID,
        PROVEN: S.SERVED,
    },
    ("committed", OVER, KEPT_REPLY): {
        NONE: S.ANSWERED,
        OPEN: S.ANSWERED,
        SETTLED: S.ANSWERED,
        VOID: S.VOID,
        PROVEN: S.ANSWERED,
    },
    **{("refunded", lease, reply): dict.fromkeys(RECORDS, S.REFUNDED) for lease in LEASES for reply in REPLIES},
}
WITHOUT_ROW = {
    NONE: S.TAKEN,
    OPEN: S.PENDING,
    SETTLED: S.SPENT,
    VOID: S.VOID,
    PROVEN: S.TAKEN,
}  # SPENT: whose request it paid for, nobody knows

STORED: dict[str, SettlementRecord | None] = {
    NONE: None,
    OPEN: record(),
    SETTLED: ended(record(), settled()),
    VOID: ended(record(), void()),
    PROVEN: None,
}


def expected(row: str, lease: str, reply: str, request: str, stored: str) -> ClaimStatus:
    """Return the answer the table gives; also the model test's oracle."""
    if row == NO_ROW:
        return WITHOUT_ROW[stored]
    return S.SPENT if request == OTHER else ANSWERS[row, lease, reply][stored]


def _row(row: str, lease: str, reply: str, stored: str = NONE) -> ClaimRow | None:
    if row == NO_ROW:
        return None
    until = Millis(NOW + 1 if lease == LIVE else NOW)
    answer = REPLY if reply == KEPT_REPLY else None
    return ClaimRow(record().key, "owner", REQUEST, ClaimState(row), until, settled() if stored == PROVEN else None, answer)


PRODUCT = list(itertools.product((NO_ROW, *ClaimState), LEASES, REPLIES, REQUESTS, RECORDS))


@pytest.mark.parametrize(("row", "lease", "reply", "request_", "stored"), PRODUCT)
def test_every_combination(row: str, lease: str, reply: str, request_: str, stored: str) -> None:
    asked = REQUEST if request_ == SAME else OTHER_REQUEST
    held = _row(row, lease, reply, stored)
    claim = decide(held, STORED[stored], request=asked, now=NOW)
    assert claim.status is expected(row, lease, reply, request_, stored)
    assert claim == recall(held, STORED[stored], request=asked, now=NOW)
    assert (claim.reply is not None) == (claim.status is S.ANSWERED)
    if request_ == OTHER and row != NO_ROW:
        assert claim == Claim(S.SPENT), "another request learns nothing"
    elif row != NO_ROW and stored in (SETTLED, PROVEN) and claim.status is not S.HELD:
        assert claim.settled == settled(), "the same request is told what moved the money"
    if row != NO_ROW and stored in (SETTLED, PROVEN):
        assert claim.status is not S.TAKEN, "what is paid is never judged again: the chain would call the permit used"


def test_the_product_is_the_whole_table() -> None:
    assert set(ANSWERS) == set(itertools.product(ClaimState, LEASES, REPLIES))
    assert all(set(answers) == set(RECORDS) for answers in (*ANSWERS.values(), WITHOUT_ROW))
    assert len(PRODUCT) == 5 * 2 * 2 * 2 * 5


@pytest.mark.parametrize("row", [NO_ROW, *ClaimState])
@pytest.mark.parametrize("outcome", [pending(), void(final=False)], ids=["pending", "not-final"])
def test_an_outcome_that_is_not_final_counts_as_open(row: str, outcome: object) -> None:
    for lease, reply in itertools.product(LEASES, REPLIES):
        undecided = ended(record(), outcome)  # type: ignore[arg-type]
        claim = decide(_row(row, lease, reply), undecided, request=REQUEST, now=NOW)
        assert claim.status is expected(row, lease, reply, SAME, OPEN)


def test_a_lease_is_over_at_its_very_millisecond() -> None:
    row = _row("claimed", OVER, BARE)
    assert row is not None
    assert decide(row, None, request=REQUEST, now=Millis(row.until - 1)).status is S.HELD
    assert decide(row, None, request=REQUEST, now=row.until).status is S.TAKEN


def test_a_lost_outcome_is_waited_for_until_the_very_millisecond_its_lease_is_over() -> None:
    for reply in REPLIES:
        row = _row("kept", OVER, reply)
        assert row is not None
        assert decide(row, None, request=REQUEST, now=Millis(row.until - 1)) == Claim(S.PENDING)
        assert decide(row, None, request=REQUEST, now=row.until) == Claim(S.TAKEN), "and the kept answer is not given away"


@pytest.mark.parametrize("margin", [server.LEASE_MARGIN, token.LEASE_MARGIN], ids=["server", "token"])
def test_when_a_kept_claim_opens_again_its_permit_is_dead(margin: int) -> None:
    """TAKEN is harmless there only because the judge refuses: by our clock alone, whatever the chain says."""
    until = EXPIRES * 1000 + margin
    for now in (until, until + 1, LONG_AFTER):
        refusal = window(Seconds(0), EXPIRES, OFFER, seconds(Millis(now)))
        assert refusal is not None
        assert refusal.reason is Reason.VALID_BEFORE
    assert margin >= 60_000, "a chain's clock may lag behind ours that much"


@pytest.mark.parametrize("row", ClaimState)
@pytest.mark.parametrize("stored", [OPEN, SETTLED, VOID])
def test_the_journal_outranks_what_the_row_says_of_the_money(row: str, stored: str) -> None:
    for lease, reply in itertools.product(LEASES, REPLIES):
        held = _row(row, lease, reply)
        assert held is not None
        claim = decide(replace(held, settled=settled(2)), STORED[stored], request=REQUEST, now=NOW)
        assert claim.status is expected(row, lease, reply, SAME, stored)
        if claim.status in (S.ANSWERED, S.SERVED, S.UNSERVED, S.REFUNDED):
            assert claim.settled == (settled() if stored == SETTLED else settled(2))
        else:
            assert claim.settled is None


@pytest.mark.parametrize("row", [NO_ROW, *ClaimState])
@pytest.mark.parametrize(("stored", "state"), [(NONE, None), (OPEN, P.GOOD), (SETTLED, P.GOOD), (VOID, P.VOID)])
def test_a_token_falls_with_a_void_settlement_only(row: str, stored: str, state: P | None) -> None:
    unjournaled = P.UNKNOWN if row == NO_ROW else P.GOOD
    told = payment_state(_row(row, LIVE, BARE), STORED[stored])
    assert told is (P.VOID if row == "refunded" else state or unjournaled)


REFUNDABLE = {  # by row and lease, the records with which the money is there and nobody at work
    ("claimed", LIVE): (),
    ("claimed", OVER): (SETTLED, PROVEN),
    **dict.fromkeys(itertools.product(("kept", "committed"), LEASES), (SETTLED, PROVEN)),
    **dict.fromkeys(itertools.product((NO_ROW, "refunded"), LEASES), ()),
}


@pytest.mark.parametrize(
    ("row", "lease", "reply", "stored"), list(itertools.product((NO_ROW, *ClaimState), LEASES, REPLIES, RECORDS))
)
def test_what_may_be_paid_back(row: str, lease: str, reply: str, stored: str) -> None:
    held, paid = _row(row, lease, reply, stored), stored in REFUNDABLE[row, lease]
    assert refundable(held, STORED[stored], now=NOW, served=True) is paid
    assert refundable(held, STORED[stored], now=NOW) is (paid and row != "committed" and reply == BARE), "what bought nothing"


@pytest.mark.parametrize("outcome", [pending(), void(), void(final=False)])
def test_a_facilitators_word_is_not_enough_where_the_journal_says_otherwise(outcome: object) -> None:
    assert not refundable(_row("kept", OVER, BARE, PROVEN), ended(record(), outcome), now=NOW)  # type: ignore[arg-type]
