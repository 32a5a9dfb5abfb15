"""The payer's machine, told as transcripts: Permit2, with and without an allowance, and signing in instead of paying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.playbook import Play, Playbook, transcript
from tests.test_client_playbook import K, R, asked, client, wallet
from tests.world import (
    BLOCK,
    NETWORK,
    NOW,
    ORIGIN,
    PAYER,
    POLICY,
    RESOURCE,
    SELLER,
    URL,
    V2_AFTER,
    begin,
    challenge,
    receipt_header,
    reply_head,
    response,
)
from x402core.commands import ApprovePayment, Deliver, ReadChain, SendRequest, SignMessage, SignTypedData
from x402core.errors import Refusal
from x402core.events import Permit2Permit, ResponseHead, SponsoredPermit
from x402core.evm.digests import PERMIT2
from x402core.evm.secp256k1 import recover
from x402core.machines import answers
from x402core.machines.client import ClientState
from x402core.machines.sign_in import advertised
from x402core.policy import SignInTerms, Terms, offers
from x402core.reads import Allowance, Facts, PermitNonce
from x402core.values import Seconds
from x402core.wire import sign_in, sponsoring

(BY_PERMIT2,) = offers("$0.01", NETWORK, SELLER, dialects=(V2_AFTER.dialect,), methods=("permit2",))
ALLOWED = Allowance(BY_PERMIT2.asset, PAYER, PERMIT2)
NONCE = PermitNonce(BY_PERMIT2.asset, PAYER)
PLAIN = Terms((BY_PERMIT2,), RESOURCE)
SPONSORED = Terms((BY_PERMIT2,), RESOURCE, extensions=sponsoring.advertised())
COMING_BACK = Terms((V2_AFTER,), RESOURCE, sign_in=SignInTerms(ORIGIN, "/report"))
SIGNS_IN = replace(POLICY, sign_in=True)
CHAINS = frozenset({NETWORK})


def offered() -> ResponseHead:
    """Return a 402 that lets whoever paid before sign in."""
    extension = advertised(COMING_BACK, bytes(32), NOW)
    return reply_head(answers.refused(COMING_BACK, Refusal(R.PAYMENT_REQUIRED), (), extension))


def facts(told: Mapping[Any, int]) -> Facts:
    """Return what the chain says."""
    return Facts(BLOCK, Seconds(NOW // 1000), dict(told))


# -------------------------------------------------------------------------------------------------------------- Permit2


def reading(play: Play, terms: Terms = PLAIN) -> Playbook:
    """Play up to the question how much Permit2 may move."""
    book = asked(play, chains=CHAINS).answer(challenge(terms)).expect(ApprovePayment).answer(True)
    return book.expect(ReadChain, network=NETWORK, reads=lambda reads: reads[0] == ALLOWED)


def sponsoring_(play: Play) -> Playbook:
    """Play up to the signature of a token permit for Permit2, which the server executes with the payment."""
    return reading(play, SPONSORED).answer(facts({ALLOWED: 9_999, NONCE: 3})).expect(SignTypedData, account=PAYER)


def paid(book: Playbook) -> Permit2Permit:
    """Sign, pay, and return the permit that left."""
    book.expect(SignTypedData, account=PAYER).answer(wallet).expect(SendRequest).answer(response(200, receipt_header()))
    book.end(Deliver, kind=K.PAID, amount=10_000)
    permit = book.machine.permit  # type: ignore[attr-defined]
    assert isinstance(permit, Permit2Permit)
    return permit


@transcript
def test_paid_by_permit2_where_no_chain_can_be_asked(play: Play) -> None:
    permit = paid(asked(play).answer(challenge(PLAIN)).expect(ApprovePayment).answer(True))
    assert (permit.payer, permit.amount, permit.sponsor) == (PAYER, 10_000, None)


@transcript
def test_paid_by_permit2_that_may_move_the_token(play: Play) -> None:
    assert paid(reading(play).answer(facts({ALLOWED: 10_000}))).sponsor is None


@transcript
def test_an_allowance_that_is_there_is_not_signed_again(play: Play) -> None:
    assert paid(reading(play, SPONSORED).answer(facts({ALLOWED: 2**256 - 1, NONCE: 3}))).sponsor is None


@transcript
def test_no_allowance_and_nobody_sponsors_one(play: Play) -> None:
    """A payment that cannot succeed is not signed."""
    book = reading(play).answer(facts({ALLOWED: 9_999}))
    book.end(Deliver, kind=K.DECLINED, refusal=lambda why: why.reason is R.PERMIT2_ALLOWANCE, exposed_until=None)


@transcript
def test_the_server_sponsors_the_allowance(play: Play) -> None:
    permit = paid(sponsoring_(play).answer(wallet))
    assert isinstance(permit.sponsor, SponsoredPermit)
    assert (permit.sponsor.amount, permit.sponsor.nonce, len(permit.sponsor.signature)) == (10_000, 3, 65)


@transcript
def test_the_wallet_will_not_sign_an_allowance(play: Play) -> None:
    for garbage in (b"", b"x" * 64):
        book = sponsoring_(play).answer(garbage)
        book.end(Deliver, kind=K.DECLINED, exposed_until=None, refusal=lambda why: why.reason is R.SIGNING_FAILED)
    sponsoring_(play).fail("UserRejected").end(Deliver, kind=K.DECLINED, exposed_until=None)


@transcript
def test_the_caller_leaves_while_the_allowance_is_signed(play: Play) -> None:
    sponsoring_(play).cancel().end(Deliver, kind=K.ABANDONED, exposed_until=None)


@transcript
def test_the_allowance_cannot_be_read(play: Play) -> None:
    reading(play).fail("ChainUnavailable").end(Deliver, kind=K.FAILED, amount=0)


# ---------------------------------------------------------------------------------------------------------- signing in


def signing_in(play: Play) -> Playbook:
    """Play up to the sign-in message."""
    book = asked(play, SIGNS_IN).answer(offered())
    return book.expect(SignMessage, account=PAYER, message=lambda text: "shop.example" in text)


def signed_in(play: Play) -> Playbook:
    """Play up to the request that is signed in."""
    book = signing_in(play).answer(wallet)
    return book.expect(SendRequest, set_headers=lambda headers: [name for name, _ in headers] == [sign_in.SIGN_IN_WITH_X])


def pays(book: Playbook) -> None:
    """Expect the payment after all."""
    book.expect(ApprovePayment).answer(True).expect(SignTypedData).answer(wallet).expect(SendRequest)
    book.answer(response(200, receipt_header())).end(Deliver, kind=K.PAID, amount=10_000)


@transcript
def test_who_paid_before_signs_in(play: Play) -> None:
    signed_in(play).answer(response(200)).end(Deliver, kind=K.FREE, amount=0, state=ClientState.DONE)


@transcript
def test_who_did_not_pay_before_pays_now_and_signs_in_once(play: Play) -> None:
    pays(signed_in(play).answer(offered()))


@transcript
def test_the_wallet_will_not_sign_in_and_pays(play: Play) -> None:
    pays(signing_in(play).fail("UserRejected"))
    pays(signing_in(play).answer(b"no signature"))


@transcript
def test_who_does_not_want_to_sign_in_pays(play: Play) -> None:
    pays(asked(play).answer(offered()))


@transcript
def test_the_caller_leaves_while_signing_in(play: Play) -> None:
    signing_in(play).cancel().end(Deliver, kind=K.ABANDONED, exposed_until=None)
    signed_in(play).cancel().end(Deliver, kind=K.ABANDONED, exposed_until=None)


@transcript
def test_the_request_that_is_signed_in_breaks(play: Play) -> None:
    signed_in(play).fail("ConnectError").end(Deliver, kind=K.FAILED, amount=0)


@transcript
def test_what_is_asked_of_whoever_signed_in_must_be_as_good_as_what_was_asked_before(play: Play) -> None:
    dear = Terms(offers("$2", NETWORK, SELLER, dialects=(V2_AFTER.dialect,)), RESOURCE)
    signed_in(play).answer(challenge(dear)).end(Deliver, refusal=lambda why: why.reason is R.OVER_CAP)
    elsewhere = replace(offered(), url="https://evil.example/report")
    signed_in(play).answer(elsewhere).end(Deliver, refusal=lambda why: why.reason is R.ORIGIN_REFUSED)
    malformed = response(402, ("PAYMENT-REQUIRED", "!!!"))
    signed_in(play).answer(malformed).end(Deliver, kind=K.FAILED, state=ClientState.FAILED)


def test_the_message_is_signed_by_the_wallet_over_its_digest(play: Play) -> None:
    seen: list[SignMessage] = []

    def remember(command: Any) -> bytes:
        seen.append(command)
        return wallet(command)

    book = asked(play, SIGNS_IN).answer(offered()).expect(SignMessage).answer(remember)
    book.expect(SendRequest).answer(response(200)).end(Deliver)
    assert recover(seen[0].digest, wallet(seen[0])) == PAYER
    assert URL in seen[0].message


def test_nobody_signs_in_for_a_body_that_cannot_be_sent_twice(play: Play) -> None:
    book = play(client(SIGNS_IN)).feed(begin(replayable=False)).expect(SendRequest).answer(offered())
    book.end(Deliver, kind=K.DECLINED, refusal=lambda why: why.reason is R.NOT_REPLAYABLE)
