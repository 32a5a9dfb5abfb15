"""Both ends together: what the payer believes, what the seller has, and what the chain says, after every kind of trouble."""

from __future__ import annotations

import pytest

from tests.pair import RICH, World
from tests.world import (
    NETWORK,
    PAYER,
    SELLER,
    SETTLER,
    TERMS,
    TERMS_BEFORE,
    TERMS_V2,
    TOKEN_OFFER,
    TOKEN_TERMS,
    V2_AFTER,
    authorization,
    bearer,
    hash32,
    paid_request,
    request,
    token_permit,
    token_request,
)
from x402core.commands import OutcomeKind
from x402core.machines.settlement import SettlementPolicy
from x402core.policy import PayerPolicy, Terms
from x402core.values import Amount, Millis

PRICE = 10_000
TOKEN_ONLY = Terms((TOKEN_OFFER,), TERMS.resource, TOKEN_TERMS)
BOTH = pytest.mark.parametrize("terms", [TERMS_V2, TERMS_BEFORE], ids=["after", "before"])


def conserved(world: World) -> None:
    """Assert that no money came or went."""
    assert world.chain.total == 5 * RICH


# --------------------------------------------------------------------------------------------------------------- all well


@BOTH
def test_paid_once_and_served_once(terms: Terms) -> None:
    world = World(terms)
    outcome = world.pay()
    assert (outcome.kind, outcome.amount) == (OutcomeKind.PAID, PRICE)
    assert outcome.receipt is not None
    assert outcome.receipt.transaction in world.chain.state.receipts
    assert (world.earned, world.balance(), world.runs) == (PRICE, RICH - PRICE, 1)
    conserved(world)


def test_a_handler_that_answers_503_runs_once_and_is_not_paid() -> None:
    world = World(TERMS_V2, status=503)
    assert world.pay().kind is OutcomeKind.UNKNOWN, "the payer cannot know that its permit was let go"
    assert (world.earned, world.runs) == (0, 1)
    conserved(world)


def test_paid_with_a_token_and_settled_in_the_background() -> None:
    world = World(TOKEN_ONLY)
    outcome = world.pay()
    assert (outcome.kind, outcome.amount, world.runs) == (OutcomeKind.PAID, PRICE, 1)
    assert world.earned == 0, "the payer does not wait for the chain"
    world.work()
    assert (world.earned, world.balance()) == (PRICE, RICH - PRICE)
    held = world.tokens[0]
    assert world.pay(token=held).kind is OutcomeKind.FREE
    assert world.balance() == RICH - PRICE, "the token it holds is enough"
    conserved(world)


def test_many_payers_one_lane() -> None:
    world = World(TOKEN_ONLY)
    for by in (0, 3, 4, 5):
        assert world.pay(by=by, entropy=bytes((by,)) * 32).kind is OutcomeKind.PAID
    world.work()
    assert world.earned == 4 * PRICE
    assert world.chain.state.numbers[SETTLER] == 8
    assert not world.chain.pool
    conserved(world)


# ------------------------------------------------------------------------------------------------------- answers get lost


@BOTH
def test_a_lost_answer_is_given_again(terms: Terms) -> None:
    world = World(terms)
    head = paid_request(authorization(offer=terms.offers[0]), terms.offers[0])
    first = world.serve(head, b"a" * 32)
    for _ in range(3):
        assert world.serve(head, b"b" * 32) == first
    assert (world.earned, world.runs) == (PRICE, 1)


def test_a_lost_token_is_given_again() -> None:
    world = World(TERMS)
    first = world.issue(token_request(), b"a" * 32)
    assert world.issue(token_request(), b"b" * 32) == first
    world.work()
    assert world.issue(token_request(), b"c" * 32) == first
    assert world.earned == PRICE


def test_the_intent_is_stored_and_its_answer_lost_and_the_payer_gets_its_token_all_the_same() -> None:
    world = World(TERMS)
    world.trouble = lambda machine, command: "after" if type(command).__name__ == "RecordIntent" else None
    first = world.issue(token_request(), b"a" * 32)
    assert first is not None
    assert first.status == 503
    world.trouble = lambda machine, command: None
    waiting = world.issue(token_request(), b"b" * 32)
    world.work()
    assert world.earned == PRICE
    paid = world.issue(token_request(), b"c" * 32)
    assert waiting is not None
    assert paid is not None
    assert (waiting.status, paid.status) == (503, 200), "charged, so served"
    assert world.issue(token_request(), b"d" * 32) == paid


@BOTH
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "command",
    ["SettlePayment", "PersistIntent", "AllocateTxNumbers", "PersistSignedTx", "Broadcast", "GetReceipts", "PersistOutcome"],
)
def test_one_thing_fails_while_settling(terms: Terms, command: str, when: str) -> None:
    world = World(terms)
    troubles = iter([when])
    world.trouble = lambda machine, c: next(troubles, None) if type(c).__name__ == command else None
    head = paid_request(authorization(offer=terms.offers[0]), terms.offers[0])
    for number in range(12):
        reply = world.serve(head, bytes((number,)) * 32)
        if reply is not None and reply.status == 200:
            break
        world.now = Millis(world.now + 1000)
        world.work()
    served = reply is not None and reply.status == 200
    lost = command in ("SettlePayment", "PersistIntent") and when == "before"  # nothing is journaled, and nobody can know
    assert served is not lost
    assert (world.earned, world.runs) == ((0, int(terms is TERMS_V2)) if lost else (PRICE, 1))
    if lost:  # told to wait until the lease ends, and then it is a new, and expired, permit
        world.now = Millis(world.now + 400_000)
        assert world.serve(head, b"z" * 32).status == 402  # type: ignore[union-attr]
    assert not world.chain.pool
    conserved(world)


def test_a_number_whose_journaling_was_unclear_blocks_nobody() -> None:
    world = World(TERMS_V2)
    troubles = iter(["after", "after"])
    world.trouble = lambda machine, c: next(troubles, None) if type(c).__name__ == "PersistSignedTx" else None
    assert world.pay().kind is OutcomeKind.PAID
    assert world.pay(by=3, entropy=b"x" * 32).kind is OutcomeKind.PAID
    assert world.chain.state.numbers[SETTLER] == 2


def test_patience_ends_and_the_payer_comes_back() -> None:
    world = World(TERMS_V2, patience=1, policy=SettlementPolicy(confirmations=4))
    outcome = world.pay()
    assert outcome.kind is OutcomeKind.UNKNOWN or world.runs == 1
    world.patience = 50
    world.work()
    assert (world.earned, world.runs) == (PRICE, 1)
    conserved(world)


# ---------------------------------------------------------------------------------------------------------- a hostile payer


def test_one_permit_buys_one_resource() -> None:
    world = World(TERMS_V2)
    permit = authorization()
    assert world.serve(paid_request(permit)).status == 200  # type: ignore[union-attr]
    for target in ("/report?x", "/other", "/Report", "/report/"):
        assert world.serve(paid_request(permit, target=target), b"z" * 32).status == 402  # type: ignore[union-attr]
    assert (world.runs, world.earned) == (1, PRICE)


def test_the_money_is_gone_between_the_judge_and_the_settlement() -> None:
    world = World(TERMS_V2, patience=200, policy=SettlementPolicy(look_most=Millis(60_000)))

    def drain(what: str) -> None:
        if what == "VerifyPayment":
            world.chain.state.balances[SELLER] = world.chain.state.balances.pop(PAYER)

    world.between = drain
    reply = world.serve(paid_request())
    assert reply is not None
    assert reply.status == 402
    assert not world.delivered(), "what is held does not leave unpaid"
    conserved(world)


def test_a_permit_cancelled_on_chain_after_it_was_judged() -> None:
    world = World(TERMS_V2, patience=200)
    permit = authorization()
    world.between = lambda what: world.chain.cancel(PAYER, permit.nonce, hash32(0xCA)) if what == "VerifyPayment" else None
    reply = world.serve(paid_request(permit))
    assert reply is not None
    assert (reply.status, world.earned) == (402, 0)
    assert not world.delivered()
    assert not world.ledger.open_records()


def test_two_permits_of_one_nonce_buy_one_token() -> None:
    world = World(TERMS)
    assert world.issue(token_request(token_permit(valid=300)), b"a" * 32).status == 200  # type: ignore[union-attr]
    assert world.issue(token_request(token_permit(valid=200)), b"b" * 32).status == 402  # type: ignore[union-attr]
    world.work()
    assert world.earned == PRICE


def test_a_token_dies_with_its_payment() -> None:
    world = World(TERMS, policy=SettlementPolicy(look_most=Millis(60_000)))
    permit = token_permit()
    assert world.issue(token_request(permit)).status == 200  # type: ignore[union-attr]
    assert world.serve(request(bearer(payment=permit.key))).status == 200  # type: ignore[union-attr]
    world.chain.state.balances[PAYER] = 0
    world.work()
    assert world.serve(request(bearer(payment=permit.key))).status == 402  # type: ignore[union-attr]


def test_a_payer_whose_permit_ended_void_can_pay_again() -> None:
    world = World(TERMS, policy=SettlementPolicy(look_most=Millis(60_000)), patience=500)
    world.chain.congested = True
    assert world.issue(token_request(token_permit())).status == 200  # type: ignore[union-attr]
    world.work()
    assert not world.ledger.open_records()
    assert world.earned == 0
    world.chain.congested = False
    world.sleep_until(Millis(world.now + 1000))
    again = token_permit(nonce=world.chain.state.nonces.get(PAYER, 0), now=world.now)
    assert world.issue(token_request(again), b"b" * 32).status == 200  # type: ignore[union-attr]
    world.work()
    assert world.earned == PRICE


def test_what_one_payer_may_owe_is_bounded() -> None:
    terms = Terms(TERMS.offers, TERMS.resource, TOKEN_TERMS.__class__(TOKEN_TERMS.ring, "a", "/s", most_open=Amount(PRICE - 1)))
    world = World(terms)
    assert world.issue(token_request()).status == 402  # type: ignore[union-attr]
    assert not world.ledger.open_records()


# ------------------------------------------------------------------------------------------------------- others on the chain


@BOTH
def test_a_front_runner_executes_it_first_and_it_is_paid(terms: Terms) -> None:
    world = World(terms, patience=200)
    permit = authorization(offer=terms.offers[0])
    world.between = lambda what: (
        world.chain.execute(permit, V2_AFTER, hash32(0xF0))
        if what == "PersistSignedTx" and (PAYER, permit.nonce) not in world.chain.state.used
        else None
    )
    reply = world.serve(paid_request(permit, terms.offers[0]))
    assert reply is not None
    assert (reply.status, world.earned, world.runs) == (200, PRICE, 1)
    conserved(world)


def test_the_seller_fails_after_settling_first_and_the_same_permit_is_served_later() -> None:
    world = World(TERMS_BEFORE, status=500)
    offer = TERMS_BEFORE.offers[0]
    head = paid_request(authorization(offer=offer), offer)
    assert world.serve(head, b"a" * 32).status == 500  # type: ignore[union-attr]
    assert len(world.refunds) == 1
    world.status = 200
    assert world.serve(head, b"b" * 32).status == 200  # type: ignore[union-attr]
    assert world.serve(head, b"c" * 32).body == b"report 2"  # type: ignore[union-attr]
    assert (world.earned, world.runs) == (PRICE, 2)


def test_a_stream_is_sold_once() -> None:
    world = World(TERMS_BEFORE, held=False)
    offer = TERMS_BEFORE.offers[0]
    head = paid_request(authorization(offer=offer), offer)
    assert world.serve(head, b"a" * 32).status == 200  # type: ignore[union-attr]
    assert world.serve(head, b"b" * 32).status == 402  # type: ignore[union-attr]
    assert (world.earned, world.runs) == (PRICE, 1)


def test_a_stream_that_broke_off_is_owed_and_can_be_had_for_the_same_payment() -> None:
    world = World(TERMS_BEFORE, held=False, breaks=True)
    offer = TERMS_BEFORE.offers[0]
    head = paid_request(authorization(offer=offer), offer)
    world.serve(head, b"a" * 32)
    world.serve(head, b"b" * 32)
    assert (world.refunds, world.runs) == ([world.refunds[0]] * 2, 2), "told each time, of the same payment"
    world.breaks = False
    assert world.serve(head, b"c" * 32).status == 200  # type: ignore[union-attr]
    assert world.serve(head, b"d" * 32).status == 402  # type: ignore[union-attr]
    assert (world.earned, world.runs, len(world.refunds)) == (PRICE, 3, 2)


def test_nothing_is_paid_that_no_cap_allows() -> None:
    world = World(TERMS_V2)
    assert world.pay(PayerPolicy.up_to("$0.001", NETWORK)).kind is OutcomeKind.DECLINED
    assert world.balance() == RICH
