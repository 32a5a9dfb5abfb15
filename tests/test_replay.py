"""One permit, presented again: by its payer, by a thief, for something else, in another spelling, at the same moment."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.pair import World
from tests.playbook import Play, transcript
from tests.test_server_playbook import server
from tests.world import (
    NEW,
    PAYER,
    TERMS,
    TERMS_BEFORE,
    TERMS_V2,
    TOKEN_OFFER,
    V2_AFTER,
    authorization,
    bearer,
    claim,
    hash32,
    paid_request,
    payment_header,
    request,
    settled,
    signed,
    token_permit,
    token_request,
    verified,
)
from x402core.commands import ClaimPayment, RecallPayment, Respond, VerifyPayment
from x402core.errors import Refusal, Reply
from x402core.events import Offer, Payment, TokenRequest
from x402core.evm.secp256k1 import recover
from x402core.ledger import ClaimStatus
from x402core.policy import Terms, TokenTerms
from x402core.reads import SignatureValid
from x402core.schemes import of
from x402core.schemes.judge import Checked, check, plan
from x402core.schemes.wallets import SignedBy
from x402core.values import Amount
from x402core.wire import identifier, permit_token, v2

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PRICE = 10_000


def malleated(signature: bytes) -> bytes:
    """Return the other signature of the same digest (s mirrored): EIP-2 calls it invalid (defect A3)."""
    s = N - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((55 - signature[64],))


@pytest.mark.parametrize("offer", [V2_AFTER, TOKEN_OFFER], ids=["eip3009", "eip2612"])
def test_the_mirrored_signature_is_refused_before_any_claim(offer: Offer) -> None:
    permit = authorization() if offer is V2_AFTER else token_permit()
    mirrored = replace(permit, signature=malleated(permit.signature))
    refusal = check(mirrored, offer)
    assert isinstance(refusal, Refusal)
    assert mirrored.key == permit.key, "and the claim's key would have been the same"


@transcript
def test_another_request_finds_it_spent(play: Play) -> None:
    permit = authorization()
    for target in ("/other", "/report?more", "//report", "/%72eport"):
        book = play(server()).feed(paid_request(permit, target=target)).expect(RecallPayment, key=permit.key)
        book.answer(claim(ClaimStatus.SPENT)).end(Respond, status=402)


@transcript
def test_recalled_as_new_and_lost_to_another_exchange_at_the_claim(play: Play) -> None:
    permit, kept = authorization(), Reply(200, (), b"report")
    lost = [claim(s) for s in (ClaimStatus.HELD, ClaimStatus.SPENT)] + [
        claim(ClaimStatus.ANSWERED, settled=settled(permit), reply=kept)
    ]
    for answer, status in zip(lost, (409, 402, 200), strict=True):
        book = play(server()).feed(paid_request(permit)).expect(RecallPayment).answer(NEW).expect(VerifyPayment)
        book.answer(verified(permit, V2_AFTER)).expect(ClaimPayment).answer(answer).end(Respond, status=status)


@pytest.mark.parametrize("terms", [TERMS_V2, TERMS_BEFORE], ids=["after", "before"])
def test_two_hundred_replays_cost_one_payment_and_one_run(terms: Terms) -> None:
    world = World(terms)
    head = paid_request(authorization(offer=terms.offers[0]), terms.offers[0])
    answers = {world.serve(head, bytes((n,)) * 32) for n in range(200)}
    assert (len(answers), world.runs, world.earned) == (1, 1, PRICE)
    assert world.log.count("VerifyPayment") == 1, "a replay costs no chain read"


def test_a_permit_copied_from_the_chain_buys_no_answer() -> None:
    world = World(TERMS_V2)
    permit = authorization()
    name, secret = v2.PAYMENT_SIGNATURE, identifier.identified(identifier.advertised(), "a_random_one_of_16")
    own = v2.encode_payment(Payment(permit, V2_AFTER, None, secret))
    paid = world.serve(request((name, own)))
    thief = world.serve(request(payment_header(permit)), b"t" * 32)
    assert paid is not None
    assert thief is not None
    assert (paid.status, thief.status, world.runs) == (200, 402, 1)


def test_a_permit_copied_from_the_chain_buys_no_token() -> None:
    world = World(TERMS)
    permit = token_permit()
    own = world.issue(token_request(permit), b"a" * 32)
    world.work()
    copied = permit_token.encode_token_request(permit, created_at="2026-01-01T00:00:00Z")
    thief = world.issue(TokenRequest(copied), b"t" * 32)
    assert own is not None
    assert thief is not None
    assert (own.status, thief.status) == (200, 402)


def test_ten_posts_of_one_permit_are_one_token_and_one_settlement() -> None:
    world = World(TERMS)
    replies = {world.issue(token_request(), bytes((n,)) * 32) for n in range(10)}
    assert len(replies) == 1
    world.work()
    assert (world.earned, world.chain.state.nonces[PAYER]) == (PRICE, 1)


def test_a_token_is_for_its_audience_and_scope() -> None:
    world = World(TERMS)
    assert world.serve(request(bearer(payment=token_permit().key, scope="/other"))).status == 402  # type: ignore[union-attr]
    assert world.runs == 0


def test_a_token_of_a_payment_this_ledger_never_saw_opens_nothing() -> None:
    world = World(TERMS)
    assert world.serve(request(bearer(payment="eip2612/unknown"))).status == 402  # type: ignore[union-attr]
    assert world.runs == 0


def test_one_permit_buys_one_scope() -> None:
    world = World(TERMS)
    assert world.issue(token_request()).status == 200  # type: ignore[union-attr]
    token = TERMS.token
    assert token is not None
    world.terms = Terms(TERMS.offers, TERMS.resource, TokenTerms(token.ring, token.audience, "/dearer"))
    assert world.issue(token_request(), b"b" * 32).status == 402  # type: ignore[union-attr]


def test_an_expired_permit_gets_its_kept_answer_and_nothing_new() -> None:
    world = World(TERMS_V2)
    permit = authorization()
    first = world.serve(paid_request(permit))
    world.now = type(world.now)(world.now + 10**9)
    assert world.serve(paid_request(permit), b"b" * 32) == first
    late = World(TERMS_V2)
    late.now = world.now
    assert late.serve(paid_request(permit)).status == 402  # type: ignore[union-attr]
    assert (late.runs, late.earned) == (0, 0)


def test_a_permit_of_another_chain_or_token_or_amount_is_refused_statically() -> None:
    permit = authorization()
    for wrong in (
        replace(permit, network="eip155:1"),
        replace(permit, asset=PAYER),
        replace(permit, amount=Amount(1)),
        replace(permit, pay_to=PAYER),
    ):
        assert isinstance(check(wrong, V2_AFTER), Refusal)
        assert isinstance(check(signed(wrong, V2_AFTER), V2_AFTER), Refusal), "even well signed"


def test_a_key_that_is_not_the_payers_proves_nothing_unless_the_payer_is_a_contract_that_says_so() -> None:
    found = check(replace(authorization(), nonce=hash32(9)), V2_AFTER)
    assert isinstance(found, Checked)
    assert found.by is SignedBy.CONTRACT
    assert SignatureValid in {type(read) for read in plan(found)}


def test_the_signature_is_the_payers_own() -> None:
    permit = authorization()
    assert recover(of(V2_AFTER).digest(permit, V2_AFTER), permit.signature) == PAYER
    body = json.loads(permit_token.encode_token_request(token_permit(), created_at="2026-01-01T00:00:00Z"))
    assert body["permit"]["owner"].lower() == PAYER
