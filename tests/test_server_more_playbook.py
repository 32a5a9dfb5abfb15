"""The seller's machine, told as transcripts: who signed in, whose identifier was another payment's, and ``upto``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.playbook import Play, Playbook, transcript
from tests.test_server_playbook import OWNER, claiming, recalling, recalling_used, server
from tests.world import (
    KEYS,
    NETWORK,
    NOW,
    ORIGIN,
    PAYER,
    RESOURCE,
    SELLER,
    SETTLER,
    TAKEN,
    V2_AFTER,
    claim,
    hash32,
    payment_header,
    request,
    settled,
    signed,
    verified,
)
from tests.world import NEW as UNSEEN
from x402core.commands import (
    HANDLER_RESPONSE,
    CheckSignIn,
    ClaimPayment,
    CommitClaim,
    InvokeHandler,
    RecallPayment,
    ReleaseClaim,
    Respond,
    SettlePayment,
    VerifyPayment,
)
from x402core.events import HandlerHead
from x402core.evm.secp256k1 import sign
from x402core.ledger import ClaimStatus, SignedIn
from x402core.machines import sign_in
from x402core.policy import SignInTerms, Terms, offers
from x402core.schemes import of
from x402core.values import Millis, Seconds, seconds
from x402core.wire import sign_in as wire
from x402core.wire import v2

(UPTO,) = offers(
    "$0.01", NETWORK, SELLER, scheme="upto", facilitator=SETTLER, dialects=(V2_AFTER.dialect,), methods=("permit2",)
)
TERMS_UPTO = Terms((UPTO,), RESOURCE)
COMING_BACK = Terms((V2_AFTER,), RESOURCE, sign_in=SignInTerms(ORIGIN, "/report"))


# ------------------------------------------------------------------------------------------------------------ signed in


def proof(now: Millis = NOW) -> tuple[str, str]:
    """Return a good SIGN-IN-WITH-X header of the payer."""
    asked = wire.advertised(sign_in.advertised(COMING_BACK, bytes(32), now), "the 402")
    assert asked is not None
    unsigned = wire.prove(asked, PAYER, NETWORK, origin=ORIGIN)
    assert isinstance(unsigned, wire.Proof)
    return wire.SIGN_IN_WITH_X, wire.encode_proof(wire.signed(unsigned, sign(wire.digest(unsigned), KEYS[0])))


def signing_in(play: Play) -> Playbook:
    """Play up to the question whether whoever signed in has paid before."""
    book = play(server(COMING_BACK)).feed(request(proof()))

    def sold(it: str) -> bool:
        return it.startswith(f"{ORIGIN}/report for ")

    return book.expect(CheckSignIn, resource=sold, payer=PAYER, until=lambda until: until > NOW)


@transcript
def test_whoever_paid_before_signs_in_and_is_served(play: Play) -> None:
    book = signing_in(play).answer(SignedIn.GRANTED)
    book.expect(InvokeHandler, payer=lambda who: (who.payer, who.amount) == (PAYER, 0), hold=False).answer(HandlerHead(200))
    book.end(Respond, reply=None)


@transcript
def test_whoever_never_paid_is_asked_to(play: Play) -> None:
    for answer in (SignedIn.NOT_PAID, SignedIn.NONCE_USED):
        signing_in(play).answer(answer).end(Respond, status=402)


@transcript
def test_the_ledger_cannot_be_asked_who_paid(play: Play) -> None:
    signing_in(play).fail("LedgerUnavailable").end(Respond, status=503)


@transcript
def test_the_caller_leaves_while_signing_in(play: Play) -> None:
    signing_in(play).cancel().end()


@transcript
def test_a_sign_in_that_is_wrong_is_no_payment_and_no_error(play: Play) -> None:
    name, good = proof()
    for text in ("%%%", good[:-8], proof(Millis(NOW - 10**9))[1]):
        play(server(COMING_BACK)).feed(request((name, text))).end(
            Respond, status=402, headers=lambda headers: any(key == v2.PAYMENT_REQUIRED for key, _ in headers)
        )


# ------------------------------------------------------------------------------------- an identifier of another payment


@transcript
def test_an_identifier_that_was_given_to_another_payment(play: Play) -> None:
    known = claim(ClaimStatus.CONFLICT)
    for book in (recalling(play), recalling_used(play), claiming(play)):
        book.answer(known).end(Respond, status=409)


# ----------------------------------------------------------------------------------------------------------------- upto


def ceiling(nonce: int = 1) -> Any:
    """Return a signed ``upto`` permit."""
    unsigned = of(UPTO).prepare(UPTO, PAYER, now=seconds(NOW), validity=Seconds(300), nonce=hash32(nonce), facts=None)
    return signed(unsigned, UPTO)


def serving_ceiling(play: Play) -> Playbook:
    """Play up to the handler, which says how much of the ceiling is charged."""
    permit = ceiling()
    book = play(server(TERMS_UPTO)).feed(request(payment_header(permit, UPTO))).expect(RecallPayment, key=permit.key)
    book.answer(UNSEEN).expect(VerifyPayment).answer(verified(permit, UPTO)).expect(ClaimPayment).answer(TAKEN)
    return book.expect(InvokeHandler, hold=True)


@transcript
def test_less_than_the_ceiling_is_settled(play: Play) -> None:
    for said, amount in (
        (None, 10_000),
        ('{"amount":"2500"}', 2_500),
        ('{"amount":"50%"}', 5_000),
        ('{"amount":"$0.01"}', 10_000),
    ):
        book = serving_ceiling(play).answer(HandlerHead(200, overrides=said))
        book.expect(SettlePayment, proof=lambda it, amount=amount: it.offer.amount == amount)
        paid = replace(settled(ceiling()), amount=amount)
        book.answer(paid).expect(CommitClaim(ceiling().key, OWNER, paid, HANDLER_RESPONSE)).end(Respond, reply=None)


@transcript
def test_nothing_is_charged_and_nothing_settled(play: Play) -> None:
    book = serving_ceiling(play).answer(HandlerHead(200, overrides='{"amount":"0"}'))
    book.expect(CommitClaim(ceiling().key, OWNER, None, HANDLER_RESPONSE))
    book.end(Respond, reply=None, add_headers=lambda headers: any(key == v2.PAYMENT_RESPONSE for key, _ in headers))


@transcript
def test_a_handler_that_charges_what_cannot_be_charges_nothing(play: Play) -> None:
    """More than the ceiling, or words: the handler's mistake is not the payer's to pay."""
    for said in ('{"amount":"10001"}', '{"amount":"all"}', "{}", "$0.01"):
        book = serving_ceiling(play).answer(HandlerHead(200, overrides=said))
        book.expect(ReleaseClaim(ceiling().key, OWNER)).end(Respond, status=500)


@transcript
def test_an_exact_price_cannot_be_lowered(play: Play) -> None:
    book = claiming(play).answer(TAKEN).expect(InvokeHandler).answer(HandlerHead(200, overrides='{"amount":"1"}'))
    book.expect(ReleaseClaim).end(Respond, status=500)
