"""The payer's machine, told as transcripts; together they take every row of its table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.playbook import Play, Playbook, transcript
from tests.replies import token_reply
from tests.rowcount import Rows
from tests.world import (
    ENTROPY,
    KEYS,
    NETWORK,
    NOW,
    ORIGIN,
    PAYER,
    POLICY,
    RESOURCE,
    SELLER,
    TERMS,
    TOKEN_OFFER,
    TOKEN_TERMS,
    USDC,
    V2_AFTER,
    begin,
    challenge,
    receipt_header,
    response,
)
from x402core.commands import (
    ApprovePayment,
    Deliver,
    OutcomeKind,
    ReadChain,
    SendRequest,
    SendTokenRequest,
    SignTypedData,
    StoreToken,
    WakeAt,
)
from x402core.errors import Reason, Refusal
from x402core.events import Begin, Eip2612Permit, Eip3009Permit, Token
from x402core.evm.secp256k1 import recover, sign
from x402core.machines.client import ClientExchange, ClientState
from x402core.policy import PayerPolicy, Terms
from x402core.reads import Facts, PermitNonce
from x402core.values import Millis, Network, Seconds
from x402core.wire import permit_token, v2

rows = Rows(ClientExchange)
TOKEN_ONLY = Terms((TOKEN_OFFER,), RESOURCE, TOKEN_TERMS)
NONCE = Facts(1000, Seconds(0), {PermitNonce(USDC, PAYER): 4})
K, R = OutcomeKind, Reason
LATER = ("Retry-After", "1")


def client(policy: PayerPolicy = POLICY) -> ClientExchange:
    """Return a new exchange of the payer."""
    return ClientExchange(policy, PAYER, entropy=ENTROPY, trace=rows)


def wallet(command: Any) -> bytes:
    """Sign as the payer's wallet does."""
    return sign(command.digest, KEYS[0])


def asked(play: Play, policy: PayerPolicy = POLICY, **how: Any) -> Playbook:
    """Play up to the unpaid request."""
    return play(client(policy)).feed(begin(**how)).expect(SendRequest, set_headers=())


def paying(play: Play, policy: PayerPolicy = POLICY) -> Playbook:
    """Play up to the paid request (x402 v2)."""
    return (
        asked(play, policy)
        .answer(challenge())
        .expect(
            ApprovePayment,
            offer=lambda o: (o.dialect, o.amount) == (V2_AFTER.dialect, 10_000),
            url="https://shop.example/report",
        )
        .answer(True)
        .expect(SignTypedData, account=PAYER)
        .answer(wallet)
        .expect(SendRequest, set_headers=lambda headers: headers[0][0] == v2.PAYMENT_SIGNATURE)
    )


def exchanging(play: Play) -> Playbook:
    """Play up to the token request (permit-token flow)."""
    return (
        asked(play)
        .answer(challenge(TOKEN_ONLY))
        .expect(ApprovePayment, offer=lambda o: (o.dialect, o.amount) == (TOKEN_OFFER.dialect, 10_000))
        .answer(True)
        .expect(ReadChain, network=NETWORK, reads=(PermitNonce(USDC, PAYER),))
        .answer(NONCE)
        .expect(SignTypedData, account=PAYER)
        .answer(wallet)
        .expect(SendTokenRequest, url="https://shop.example/token?scope=%2Freport")
    )


def redeeming(play: Play) -> Playbook:
    """Play up to the request with the token."""
    return (
        exchanging(play)
        .answer(token_reply(NOW))
        .expect(StoreToken, origin=ORIGIN, path="/report")
        .expect(SendRequest, set_headers=lambda headers: headers[0][0] == "Authorization")
    )


# ----------------------------------------------------------------------------------------------------------- unpaid


@transcript
def test_a_free_resource_is_delivered(play: Play) -> None:
    asked(play).answer(response(200)).end(Deliver, kind=K.FREE, amount=0, state=ClientState.DONE)


@transcript
def test_a_token_already_held_is_sent_and_nothing_is_paid(play: Play) -> None:
    token = Token("abc.def", Seconds(1))
    book = play(client()).feed(begin(token=token))
    book.expect(SendRequest, set_headers=(("Authorization", "Bearer abc.def"),)).answer(response(200))
    book.end(Deliver, kind=K.FREE, amount=0)


@transcript
def test_some_other_402_is_the_callers_to_handle(play: Play) -> None:
    asked(play).answer(response(402, body=b"<html>subscribe</html>")).end(Deliver, kind=K.FREE, state=ClientState.DONE)


@transcript
def test_the_caller_leaves_before_anything(play: Play) -> None:
    play(client()).cancel().end(Deliver, kind=K.ABANDONED, amount=0, state=ClientState.ABANDONED)


@transcript
def test_the_caller_leaves_while_asking(play: Play) -> None:
    asked(play).cancel().end(Deliver, kind=K.ABANDONED, exposed_until=None)


@transcript
def test_the_first_request_breaks(play: Play) -> None:
    asked(play).fail("ConnectError").end(Deliver, kind=K.FAILED, state=ClientState.FAILED)


@transcript
def test_a_malformed_challenge(play: Play) -> None:
    asked(play).answer(response(402, (v2.PAYMENT_REQUIRED, "!!!"))).end(Deliver, kind=K.FAILED, state=ClientState.FAILED)


@transcript
def test_no_offer_is_acceptable(play: Play) -> None:
    cheap = PayerPolicy.up_to("$0.001", NETWORK)
    book = asked(play, cheap).answer(challenge())
    book.end(Deliver, kind=K.DECLINED, refusal=lambda why: why.reason is R.OVER_CAP, state=ClientState.DECLINED)


@transcript
def test_a_body_that_cannot_be_sent_twice(play: Play) -> None:
    book = asked(play, replayable=False).answer(challenge())
    book.end(Deliver, kind=K.DECLINED, refusal=lambda why: why.reason is R.NOT_REPLAYABLE)


@transcript
def test_a_402_from_another_origin(play: Play) -> None:
    book = asked(play).answer(challenge(url="https://evil.example/report"))
    book.end(Deliver, kind=K.DECLINED, refusal=lambda why: why.reason is R.ORIGIN_REFUSED)


@transcript
def test_plain_http_gets_no_permit(play: Play) -> None:
    url = "http://shop.example/report"
    book = play(client()).feed(Begin("GET", url, "http://shop.example"))  # type: ignore[arg-type]
    book.expect(SendRequest).answer(challenge(url=url)).end(Deliver, refusal=lambda why: why.reason is R.ORIGIN_REFUSED)


# ---------------------------------------------------------------------------------------------------------- x402 v2


@transcript
def test_paid_with_a_receipt(play: Play) -> None:
    book = paying(play).answer(response(200, receipt_header()))
    book.end(Deliver, kind=K.PAID, exposed_until=None, amount=10_000, receipt=lambda r: r.success, state=ClientState.DONE)
    permit = book.machine.permit  # type: ignore[attr-defined]
    assert isinstance(permit, Eip3009Permit)
    assert (permit.payer, permit.pay_to, permit.amount, permit.valid_before) == (PAYER, SELLER, 10_000, NOW // 1000 + 300)


def test_the_signature_is_of_the_digest_and_the_nonce_of_the_exchange(play: Play) -> None:
    seen: list[Any] = []

    def remember(command: Any) -> bytes:
        seen.append(command)
        return wallet(command)

    for _ in range(2):
        book = asked(play).answer(challenge()).expect(ApprovePayment).answer(True).expect(SignTypedData).answer(remember)
        book.expect(SendRequest).answer(response(200, receipt_header())).end(Deliver)
    assert seen[0] == seen[1], "the same exchange signs the same authorization"
    assert recover(seen[0].digest, wallet(seen[0])) == PAYER


@transcript
def test_the_purse_says_no(play: Play) -> None:
    book = asked(play).answer(challenge()).expect(ApprovePayment).answer(Refusal(R.OVER_BUDGET, "enough for today"))
    book.end(Deliver, kind=K.DECLINED, amount=0, refusal=Refusal(R.OVER_BUDGET, "enough for today"))


@transcript
def test_the_purse_is_silent(play: Play) -> None:
    asked(play).answer(challenge()).expect(ApprovePayment).answer(False).end(Deliver, refusal=Refusal(R.NOT_APPROVED))


@transcript
def test_the_caller_leaves_while_the_purse_is_asked(play: Play) -> None:
    asked(play).answer(challenge()).expect(ApprovePayment).cancel().end(Deliver, kind=K.ABANDONED)


@transcript
def test_the_wallet_will_not_sign(play: Play) -> None:
    book = asked(play).answer(challenge()).expect(ApprovePayment).answer(True).expect(SignTypedData).fail("UserRejected")
    book.end(Deliver, kind=K.DECLINED, exposed_until=None, refusal=lambda why: why.reason is R.SIGNING_FAILED)


@pytest.mark.parametrize("garbage", [b"", b"x" * 64, b"\0" * 65, b"\xff" * 65, b"x" * 66])
def test_what_the_wallet_gave_is_no_signature(play: Play, garbage: bytes) -> None:
    for terms in (None, TOKEN_ONLY):
        book = asked(play).answer(challenge(terms) if terms else challenge()).expect(ApprovePayment).answer(True)
        if terms:
            book.expect(ReadChain).answer(NONCE)
        book.expect(SignTypedData).answer(garbage).end(Deliver, kind=K.DECLINED, amount=0)


def test_a_v_of_zero_or_one_is_spelled_as_the_chain_wants_it(play: Play) -> None:
    book = asked(play).answer(challenge(TOKEN_ONLY)).expect(ApprovePayment).answer(True).expect(ReadChain).answer(NONCE)
    book.expect(SignTypedData).answer(lambda c: wallet(c)[:64] + bytes((wallet(c)[64] - 27,))).expect(SendTokenRequest)
    permit = permit_token.decode_token_request(book.last.body).permit  # type: ignore[union-attr]
    assert permit.signature[64] in (27, 28)
    book.fail().end(Deliver)


@transcript
def test_the_caller_leaves_while_the_wallet_signs(play: Play) -> None:
    book = asked(play).answer(challenge()).expect(ApprovePayment).answer(True).expect(SignTypedData).cancel()
    book.end(Deliver, kind=K.ABANDONED, exposed_until=None)


@transcript
def test_the_server_refuses_the_permit_and_nothing_is_signed_again(play: Play) -> None:
    paying(play).answer(challenge()).end(Deliver, kind=K.DECLINED, exposed_until=NOW // 1000 + 300, state=ClientState.DECLINED)


@transcript
def test_the_settlement_failed(play: Play) -> None:
    book = paying(play).answer(response(402, receipt_header(False, reason="transaction_failed")))
    book.end(Deliver, kind=K.DECLINED, exposed_until=NOW // 1000 + 300, refusal=lambda why: why.detail == "transaction_failed")


@transcript
def test_a_response_without_a_receipt_says_nothing_about_the_money(play: Play) -> None:
    book = paying(play).answer(response(200))
    book.end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300, amount=10_000, state=ClientState.UNKNOWN)


@transcript
def test_the_paid_request_breaks(play: Play) -> None:
    paying(play).fail("ReadTimeout").end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300)


@transcript
def test_the_caller_leaves_after_paying(play: Play) -> None:
    paying(play).cancel().end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300)


@transcript
def test_a_paid_request_whose_handler_failed_is_paid(play: Play) -> None:
    book = paying(play)
    presented = book.last.set_headers  # type: ignore[union-attr]
    book.answer(response(500, receipt_header()))
    book.end(Deliver, kind=K.PAID, receipt=lambda r: r.success, presented=presented)


@transcript
def test_asked_to_wait_the_same_permit_is_presented_again(play: Play) -> None:
    book = paying(play)
    first = book.last
    book.answer(response(409, LATER)).expect(WakeAt, at=NOW + 1000).at(Millis(NOW + 1000)).answer(None).expect(SendRequest)
    assert book.last == first
    book.answer(response(503, receipt_header(False, reason="settlement_pending"))).expect(WakeAt, at=NOW + 3000)
    book.tick(2000).answer(None).expect(SendRequest)
    assert book.last == first
    book.answer(response(200, receipt_header())).end(Deliver, kind=K.PAID)


@transcript
def test_patience_ends(play: Play) -> None:
    book = paying(play)
    for _ in range(POLICY.resend):
        book.answer(response(503, LATER)).woken().expect(SendRequest)
    book.answer(response(503, LATER)).end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300)


@transcript
def test_an_expired_permit_is_not_presented_again(play: Play) -> None:
    paying(play).tick(300_000).answer(response(503, LATER)).end(Deliver, kind=K.UNKNOWN)


@transcript
def test_the_caller_leaves_while_waiting(play: Play) -> None:
    paying(play).answer(response(409, LATER)).expect(WakeAt).cancel().end(Deliver, kind=K.UNKNOWN, amount=10_000)


@transcript
def test_a_pause_that_breaks_is_over(play: Play) -> None:
    book = paying(play).answer(response(409, LATER)).expect(WakeAt).fail().expect(SendRequest)
    book.answer(response(200, receipt_header())).end(Deliver, kind=K.PAID)


@transcript
def test_a_server_says_how_long_to_wait(play: Play) -> None:
    for said, pause in (("0", 1000), ("7", 7000), ("60", 60_000), ("Fri, 21 Nov 2025 10:00:00 GMT", 1000)):
        paying(play).answer(response(503, ("Retry-After", said))).expect(WakeAt, at=NOW + pause).cancel().end(Deliver)
    for longer in ("61", "3600", "99999999"):  # longer than a caller wants to be kept, or than the permit lasts
        paying(play).answer(response(503, ("Retry-After", longer))).end(Deliver, kind=K.UNKNOWN)
    paying(play).tick(290_000).answer(response(503, ("Retry-After", "15"))).end(Deliver, kind=K.UNKNOWN)


@transcript
def test_a_handler_in_trouble_is_not_asked_again(play: Play) -> None:
    """Only a server that says when asks for the same permit once more: else each presentation would run the handler."""
    paying(play).answer(response(503)).end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300)


@pytest.mark.parametrize("status", [200, 500])
def test_a_receipt_for_another_network_proves_nothing(play: Play, status: int) -> None:
    book = paying(play).answer(response(status, receipt_header(network=Network("eip155:1"))))
    book.end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300)


# ------------------------------------------------------------------------------------------------ the permit-token flow


@transcript
def test_paid_with_a_token(play: Play) -> None:
    book = redeeming(play).answer(response(200))
    book.end(Deliver, kind=K.PAID, amount=10_000, exposed_until=None, state=ClientState.DONE)
    permit = book.machine.permit  # type: ignore[attr-defined]
    assert isinstance(permit, Eip2612Permit)
    assert (permit.nonce, permit.deadline) == (4, NOW // 1000 + 300)


@transcript
def test_v2_is_preferred_where_both_are_offered(play: Play) -> None:
    book = (
        asked(play)
        .answer(challenge(TERMS))
        .expect(ApprovePayment, offer=lambda o: (o.dialect, o.amount) == (V2_AFTER.dialect, 10_000))
        .answer(True)
    )
    book.expect(SignTypedData).answer(wallet).expect(SendRequest).answer(response(200, receipt_header())).end(Deliver)


@transcript
def test_the_chain_cannot_be_read(play: Play) -> None:
    book = asked(play).answer(challenge(TOKEN_ONLY)).expect(ApprovePayment).answer(True).expect(ReadChain).fail()
    book.end(Deliver, kind=K.FAILED, amount=0, state=ClientState.FAILED)


@transcript
def test_the_caller_leaves_while_the_chain_is_read(play: Play) -> None:
    book = asked(play).answer(challenge(TOKEN_ONLY)).expect(ApprovePayment).answer(True).expect(ReadChain).cancel()
    book.end(Deliver, kind=K.ABANDONED)


@transcript
def test_the_token_is_refused(play: Play) -> None:
    exchanging(play).answer(response(402, body=b'{"error":"no"}')).end(Deliver, kind=K.DECLINED, amount=10_000)


@transcript
def test_a_token_reply_that_is_none(play: Play) -> None:
    exchanging(play).answer(response(200, body=b"{}")).end(Deliver, kind=K.UNKNOWN, amount=10_000)


@transcript
def test_the_token_endpoint_is_in_trouble(play: Play) -> None:
    exchanging(play).answer(response(500)).end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300)


@transcript
def test_the_token_request_breaks(play: Play) -> None:
    exchanging(play).fail("ReadTimeout").end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300)


@transcript
def test_the_caller_leaves_while_the_token_is_asked_for(play: Play) -> None:
    exchanging(play).cancel().end(Deliver, kind=K.UNKNOWN, amount=10_000)


@transcript
def test_the_token_endpoint_asks_to_wait_and_gets_the_same_permit(play: Play) -> None:
    book = exchanging(play)
    first = book.last
    book.answer(response(409)).woken().expect(SendTokenRequest)
    assert book.last == first
    assert book.last is not first
    book.answer(token_reply(NOW)).expect(StoreToken).expect(SendRequest).answer(response(200)).end(Deliver, kind=K.PAID)


@transcript
def test_the_caller_leaves_while_the_token_endpoint_makes_it_wait(play: Play) -> None:
    exchanging(play).answer(response(503)).expect(WakeAt).cancel().end(Deliver, kind=K.UNKNOWN, amount=10_000)


@transcript
def test_patience_with_the_token_endpoint_ends(play: Play) -> None:
    book = exchanging(play)
    for _ in range(POLICY.resend):
        book.answer(response(503)).woken().expect(SendTokenRequest)
    book.answer(response(503)).end(Deliver, kind=K.UNKNOWN)


@transcript
def test_the_token_does_not_open_the_resource(play: Play) -> None:
    for status in (401, 402, 403):
        redeeming(play).answer(response(status)).end(Deliver, kind=K.UNKNOWN, exposed_until=NOW // 1000 + 300)


@transcript
def test_the_request_with_the_token_breaks(play: Play) -> None:
    redeeming(play).fail().end(Deliver, kind=K.UNKNOWN, amount=10_000)


@transcript
def test_the_caller_leaves_while_redeeming(play: Play) -> None:
    redeeming(play).cancel().end(Deliver, kind=K.UNKNOWN, amount=10_000)


def test_every_row_was_taken() -> None:
    rows.check(__name__, "tests.test_client_more_playbook")
