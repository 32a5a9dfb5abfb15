"""The seller's machine, told as transcripts; together they take every row of its table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.playbook import Play, Playbook, transcript
from tests.rowcount import Rows
from tests.world import (
    ENTROPY,
    NETWORK,
    NEW,
    NOW,
    PAYER,
    TAKEN,
    TERMS,
    TERMS_BEFORE,
    TERMS_V2,
    USDC,
    V2_AFTER,
    V2_BEFORE,
    authorization,
    bearer,
    claim,
    hash32,
    paid_request,
    payment_header,
    request,
    settled,
    token_permit,
    verified,
)
from x402core.commands import (
    HANDLER_RESPONSE,
    CheckPayment,
    ClaimPayment,
    CommitClaim,
    InvokeHandler,
    KeepClaim,
    RecallPayment,
    ReleaseClaim,
    ReportRefundDue,
    Respond,
    SettlePayment,
    StreamResponse,
    VerifyPayment,
)
from x402core.errors import Reason, Refusal, Reply
from x402core.events import HandlerHead, Payer, Pending, RequestHead, Unsettled
from x402core.ledger import ClaimStatus, PaymentState
from x402core.machines.server import LEASE_MARGIN, ServerExchange, ServerState, fingerprint
from x402core.policy import Terms
from x402core.values import Amount
from x402core.wire import v2

rows = Rows(ServerExchange)
P = authorization()
B = authorization(offer=V2_BEFORE)
KEY, OWNER = P.key, ENTROPY.hex()
S, R = ClaimStatus, Reason
OK = HandlerHead(200)
PAID = settled(P)
WHO = Payer(PAYER, V2_AFTER.amount, USDC, NETWORK, KEY)
UNTIL = P.valid_before * 1000 + LEASE_MARGIN


def server(terms: Terms = TERMS_V2) -> ServerExchange:
    """Return a new exchange."""
    return ServerExchange(terms, entropy=ENTROPY, trace=rows)


def has(name: str) -> Any:
    """Check that a header is there."""
    return lambda headers: name in {key for key, _ in headers}


def recalling(play: Play, terms: Terms = TERMS_V2) -> Playbook:
    """Play up to the question whether this payment is known."""
    offer, permit = terms.offers[0], authorization(offer=terms.offers[0])
    return play(server(terms)).feed(paid_request(permit, offer)).expect(RecallPayment, key=KEY)


def verifying(play: Play, terms: Terms = TERMS_V2) -> Playbook:
    """Play up to the judge."""
    return recalling(play, terms).answer(NEW).expect(VerifyPayment)


def claiming(play: Play, terms: Terms = TERMS_V2) -> Playbook:
    """Play up to the claim."""
    proof = verified(authorization(offer=terms.offers[0]), terms.offers[0])
    return verifying(play, terms).answer(proof).expect(ClaimPayment, key=KEY, owner=OWNER, until=UNTIL)


def serving(play: Play) -> Playbook:
    """Play up to the handler, whose response is held."""
    return claiming(play).answer(TAKEN).expect(InvokeHandler, payer=WHO, hold=True)


def settling(play: Play) -> Playbook:
    """Play up to the settlement of a response that is held."""
    return serving(play).answer(OK).expect(SettlePayment, proof=lambda proof: proof.permit == P)


def settling_first(play: Play) -> Playbook:
    """Play up to the settlement that goes before the handler."""
    return claiming(play, TERMS_BEFORE).answer(TAKEN).expect(SettlePayment)


def serving_settled(play: Play) -> Playbook:
    """Play up to the handler for money that has moved."""
    return settling_first(play).answer(PAID).expect(InvokeHandler, payer=replace(WHO, transaction=PAID.transaction), hold=False)


def refused(reason: Reason, *transactions: int, final: bool = True) -> Unsettled:
    """Return a settlement's bad end."""
    return Unsettled(reason, NETWORK, PAYER, tuple(map(hash32, transactions)), final)


# -------------------------------------------------------------------------------------------------------- without a permit


@transcript
def test_nothing_is_paid(play: Play) -> None:
    play(server()).feed(request()).end(Respond, status=402, headers=has(v2.PAYMENT_REQUIRED))
    play(server(TERMS)).feed(request()).end(Respond, status=402, body=lambda b: b"access_token_endpoint" in b)


@transcript
def test_a_malformed_permit_is_told_where(play: Play) -> None:
    play(server()).feed(request((v2.PAYMENT_SIGNATURE, "%%%"))).end(
        Respond, status=400, body=lambda b: b"PAYMENT-SIGNATURE" in b
    )


@transcript
def test_two_permits_in_one_request(play: Play) -> None:
    play(server()).feed(request(payment_header(P), payment_header(P))).end(Respond, status=400)


@transcript
def test_an_offer_that_is_not_ours(play: Play) -> None:
    for other in (replace(V2_AFTER, pay_to=USDC), replace(V2_AFTER, network="eip155:1"), replace(V2_AFTER, asset=PAYER)):
        play(server()).feed(request(payment_header(authorization(offer=other), other))).end(Respond, status=402)


def yesterdays(play: Play, amount: int = 1) -> Playbook:
    """Play up to the question whether a payment for a price that is not asked (any more) is known."""
    cheap = replace(V2_AFTER, amount=Amount(amount))
    book = play(server()).feed(request(payment_header(authorization(offer=cheap), cheap)))
    return book.expect(RecallPayment, key=lambda key: key.startswith("eip3009/"))


@transcript
def test_a_payment_for_another_price_is_no_match(play: Play) -> None:
    yesterdays(play).answer(NEW).end(Respond, status=402, body=lambda body: R.NO_MATCH.encode() in body)


@transcript
def test_a_payment_made_before_the_price_changed_has_its_answer(play: Play) -> None:
    """What was bought is its payer's; "present the same payment again" is a promise that a new price does not break."""
    yesterdays(play).answer(claim(S.ANSWERED, settled=PAID, reply=KEPT)).end(Respond, status=200, body=b"the report")
    yesterdays(play).answer(claim(S.PENDING)).end(Respond, status=503)
    book = yesterdays(play).answer(claim(S.UNSERVED, settled=PAID)).expect(ClaimPayment).answer(claim(S.UNSERVED, settled=PAID))
    book.expect(InvokeHandler, payer=lambda who: who.amount == 1).answer(OK).expect(CommitClaim).end(Respond, reply=None)


@transcript
def test_a_payment_for_another_price_is_not_told_by_a_forger(play: Play) -> None:
    cheap = replace(V2_AFTER, amount=Amount(1))
    forged = replace(authorization(offer=cheap), amount=Amount(2))
    play(server()).feed(request(payment_header(forged, cheap))).end(Respond, status=402)


@transcript
def test_a_permit_signed_by_another(play: Play) -> None:
    forged = replace(P, payer=USDC)
    book = play(server()).feed(paid_request(forged)).expect(RecallPayment, key=forged.key).answer(NEW)
    book.expect(VerifyPayment).answer(Refusal(R.SIGNATURE)).end(Respond, status=402, headers=has(v2.PAYMENT_REQUIRED))


@transcript
def test_what_the_permit_itself_shows_to_be_wrong_costs_no_question(play: Play) -> None:
    for wrong in (authorization(offer=replace(V2_AFTER, amount=9_999)), authorization(offer=replace(V2_AFTER, pay_to=USDC))):
        play(server()).feed(paid_request(wrong)).end(Respond, status=402, headers=has(v2.PAYMENT_REQUIRED))


# ------------------------------------------------------------------------------------------------------------- with a token


@transcript
def test_a_token_opens_the_resource(play: Play) -> None:
    book = play(server(TERMS)).feed(request(bearer())).expect(CheckPayment, key=token_permit().key).answer(PaymentState.GOOD)
    book.expect(InvokeHandler, hold=False, payer=lambda p: p.payer == PAYER).answer(OK)
    book.end(Respond, reply=None, add_headers=has("Cache-Control"), state=ServerState.DONE)


@transcript
def test_a_handler_that_fails_a_token_holder(play: Play) -> None:
    book = play(server(TERMS)).feed(request(bearer())).expect(CheckPayment).answer(PaymentState.GOOD)
    book.expect(InvokeHandler).answer(HandlerHead(500)).end(Respond, reply=None)
    book = play(server(TERMS)).feed(request(bearer())).expect(CheckPayment).answer(PaymentState.GOOD)
    book.expect(InvokeHandler).fail("ZeroDivisionError").end(Respond, status=500)


@transcript
def test_a_token_holder_leaves(play: Play) -> None:
    play(server(TERMS)).feed(request(bearer())).expect(CheckPayment).cancel().end()
    book = play(server(TERMS)).feed(request(bearer())).expect(CheckPayment).answer(PaymentState.GOOD)
    book.expect(InvokeHandler).cancel().end()


@transcript
def test_a_token_whose_payment_ended_void(play: Play) -> None:
    for state in (PaymentState.VOID, PaymentState.UNKNOWN):
        play(server(TERMS)).feed(request(bearer())).expect(CheckPayment).answer(state).end(Respond, status=402)


@transcript
def test_the_ledger_cannot_be_asked_about_a_token(play: Play) -> None:
    play(server(TERMS)).feed(request(bearer())).expect(CheckPayment).fail().end(Respond, status=503, headers=has("Retry-After"))


@pytest.mark.parametrize("value", ["Bearer a.b", "Basic abc", "Bearer", "Bearer " + "x" * 9000, "Bearer " + "a" * 50 + ".!"])
def test_a_token_that_is_none_is_refused_and_never_hangs(play: Play, value: str) -> None:
    play(server(TERMS)).feed(request(("Authorization", value))).end(Respond, status=402)


@transcript
def test_a_token_for_something_else(play: Play) -> None:
    play(server(TERMS)).feed(request(bearer(scope="/other"))).end(Respond, status=402)


# ------------------------------------------------------------------------------------------------ served first, then settled


@transcript
def test_served_settled_and_let_go_with_its_receipt(play: Play) -> None:
    book = settling(play).answer(PAID).expect(CommitClaim(KEY, OWNER, PAID, HANDLER_RESPONSE))
    book.end(Respond, reply=None, add_headers=has(v2.PAYMENT_RESPONSE))


@transcript
def test_the_ledger_cannot_be_asked(play: Play) -> None:
    recalling(play).fail("LedgerUnavailable").end(Respond, status=503, headers=has("Retry-After"))


@transcript
def test_the_caller_leaves_before_the_claim(play: Play) -> None:
    recalling(play).cancel().end()
    verifying(play).cancel().end()


@transcript
def test_the_judge_refuses(play: Play) -> None:
    book = verifying(play).answer(Refusal(R.INSUFFICIENT_FUNDS)).expect(Respond, status=402)
    assert v2.decode_challenge is not None
    book.end()


@transcript
def test_the_node_is_down_and_nobody_is_asked_to_sign_again(play: Play) -> None:
    verifying(play).fail("ChainUnavailable").end(Respond, status=503)


@transcript
def test_the_claim_is_lost_on_the_way(play: Play) -> None:
    claiming(play).fail("LedgerUnavailable").expect(ReleaseClaim(KEY, OWNER)).end(Respond, status=503)


@transcript
def test_the_caller_leaves_while_claiming(play: Play) -> None:
    claiming(play).cancel().expect(ReleaseClaim(KEY, OWNER)).end()


@transcript
def test_the_handler_says_no_and_nothing_is_charged(play: Play) -> None:
    serving(play).answer(HandlerHead(404)).expect(ReleaseClaim(KEY, OWNER)).end(Respond, reply=None)


@transcript
def test_the_handler_raises_and_nothing_is_charged(play: Play) -> None:
    serving(play).fail("KeyError").expect(ReleaseClaim(KEY, OWNER)).end(Respond, status=500)


@transcript
def test_the_caller_leaves_while_the_handler_runs(play: Play) -> None:
    serving(play).cancel().expect(ReleaseClaim(KEY, OWNER)).end()


@transcript
def test_the_settlement_is_refused_before_anything_was_sent(play: Play) -> None:
    book = settling(play).answer(refused(R.NONCE_USED)).expect(ReleaseClaim(KEY, OWNER))
    book.end(Respond, status=402, headers=has(v2.PAYMENT_RESPONSE))


@transcript
def test_our_settler_cannot_send(play: Play) -> None:
    settling(play).answer(refused(R.UNAVAILABLE)).expect(ReleaseClaim(KEY, OWNER)).end(Respond, status=503)


@transcript
def test_our_transaction_failed_but_the_permit_lives(play: Play) -> None:
    for final in (True, False):
        book = settling(play).answer(refused(R.TRANSACTION_FAILED, 1, final=final))
        book.expect(KeepClaim(KEY, OWNER, HANDLER_RESPONSE)).end(Respond, status=402)


@transcript
def test_the_money_is_under_way(play: Play) -> None:
    book = settling(play).answer(Pending(NETWORK, PAYER, (hash32(1),))).expect(KeepClaim(KEY, OWNER, HANDLER_RESPONSE))
    book.end(Respond, status=503, headers=has(v2.PAYMENT_RESPONSE))
    book = settling(play).answer(Pending(NETWORK, PAYER)).expect(KeepClaim).end(Respond, status=503, headers=has("Retry-After"))


@transcript
def test_nothing_is_known_about_the_money(play: Play) -> None:
    settling(play).fail("TimeoutError").expect(KeepClaim(KEY, OWNER, HANDLER_RESPONSE)).end(Respond, status=503)
    book = settling(play).answer(refused(R.UNAVAILABLE, final=False)).expect(KeepClaim(KEY, OWNER, HANDLER_RESPONSE))
    book.end(Respond, status=503)


@transcript
def test_the_caller_leaves_while_the_money_moves(play: Play) -> None:
    settling(play).cancel().expect(KeepClaim(KEY, OWNER, HANDLER_RESPONSE)).end()


# ------------------------------------------------------------------------------------------------ settled first, then served


@transcript
def test_settled_and_then_served(play: Play) -> None:
    book = serving_settled(play).answer(OK).expect(CommitClaim(KEY, OWNER, PAID, HANDLER_RESPONSE))
    book.end(Respond, reply=None, add_headers=has(v2.PAYMENT_RESPONSE))


def streaming(play: Play) -> Playbook:
    """Return a paid response on its way, its receipt in front."""
    book = serving_settled(play).answer(HandlerHead(200, held=False))
    return book.expect(StreamResponse, add_headers=has(v2.PAYMENT_RESPONSE))


@transcript
def test_a_stream_is_committed_at_its_end_without_its_response(play: Play) -> None:
    streaming(play).answer(None).expect(CommitClaim(KEY, OWNER, PAID, None)).end()


@transcript
def test_a_stream_that_breaks_off_was_paid_and_not_served(play: Play) -> None:
    streaming(play).fail().expect(KeepClaim(KEY, OWNER, None, PAID)).expect(ReportRefundDue(KEY, PAYER)).end()


@transcript
def test_a_stream_that_we_cut_off_ourselves_was_not_served(play: Play) -> None:
    """A payer who leaves is told as the end of it; what cancels the exchange is our server."""
    streaming(play).cancel().expect(KeepClaim(KEY, OWNER, None, PAID)).expect(ReportRefundDue(KEY, PAYER)).end()


@transcript
def test_paid_and_not_served(play: Play) -> None:
    kept = KeepClaim(KEY, OWNER, None, PAID)
    due = ReportRefundDue(KEY, PAYER)
    book = serving_settled(play).answer(HandlerHead(500)).expect(kept).expect(due)
    book.end(Respond, reply=None, add_headers=has(v2.PAYMENT_RESPONSE))
    serving_settled(play).fail().expect(kept).expect(due).end(Respond, status=500, headers=has(v2.PAYMENT_RESPONSE))
    serving_settled(play).cancel().expect(kept).expect(due).end()


@transcript
def test_settled_first_refused(play: Play) -> None:
    settling_first(play).answer(refused(R.NONCE_USED)).expect(ReleaseClaim(B.key, OWNER)).end(Respond, status=402)
    settling_first(play).answer(refused(R.UNAVAILABLE)).expect(ReleaseClaim(B.key, OWNER)).end(Respond, status=503)


@transcript
def test_settled_first_not_settled(play: Play) -> None:
    kept = KeepClaim(KEY, OWNER)
    settling_first(play).answer(refused(R.TRANSACTION_FAILED, 1)).expect(kept).end(Respond, status=402)
    settling_first(play).answer(Pending(NETWORK, PAYER)).expect(kept).end(Respond, status=503)
    settling_first(play).fail().expect(kept).end(Respond, status=503)
    settling_first(play).cancel().expect(kept).end()


# --------------------------------------------------------------------------------------------------------- seen before


KEPT = Reply(200, (("Content-Type", "text/plain"),), b"the report")


@transcript
def test_the_same_answer_again(play: Play) -> None:
    known = claim(S.ANSWERED, settled=PAID, reply=KEPT)
    for book in (recalling(play).answer(known), claiming(play).answer(known)):
        book.end(Respond, status=200, body=b"the report", headers=has(v2.PAYMENT_RESPONSE))


@transcript
def test_another_exchange_is_at_work(play: Play) -> None:
    recalling(play).answer(claim(S.HELD)).end(Respond, status=409, headers=has("Retry-After"))
    claiming(play).answer(claim(S.HELD)).end(Respond, status=409)


@transcript
def test_still_under_way(play: Play) -> None:
    recalling(play).answer(claim(S.PENDING, transactions=(hash32(1),))).end(
        Respond, status=503, headers=has(v2.PAYMENT_RESPONSE)
    )
    claiming(play).answer(claim(S.PENDING)).end(Respond, status=503)


def says(reason: R) -> Callable[[bytes], bool]:
    return lambda body: bool(json.loads(body)["error"] == reason)


@transcript
def test_used_for_another_request(play: Play) -> None:
    recalling(play).answer(claim(S.SPENT)).end(Respond, status=402, body=says(R.PAYMENT_SPENT))
    claiming(play).answer(claim(S.SPENT)).end(Respond, status=402, body=says(R.PAYMENT_SPENT))


@transcript
def test_paid_back(play: Play) -> None:
    known = claim(S.REFUNDED, settled=PAID)
    recalling(play).answer(known).end(Respond, status=402, body=says(R.PAYMENT_REFUNDED))
    claiming(play).answer(known).end(Respond, status=402, body=says(R.PAYMENT_REFUNDED))


@transcript
def test_served_with_what_was_not_kept(play: Play) -> None:
    known = claim(S.SERVED, settled=PAID)
    recalling(play).answer(known).end(Respond, status=402, body=says(R.PAYMENT_SERVED))
    claiming(play).answer(known).end(Respond, status=402, body=says(R.PAYMENT_SERVED))


@transcript
def test_ended_without_money(play: Play) -> None:
    recalling(play).answer(claim(S.VOID)).end(Respond, status=402)
    claiming(play).answer(claim(S.VOID)).end(Respond, status=402)


@transcript
def test_paid_earlier_and_never_served(play: Play) -> None:
    unserved = claim(S.UNSERVED, settled=PAID)
    book = recalling(play).answer(unserved).expect(ClaimPayment, key=KEY, until=UNTIL).answer(unserved)
    book.expect(InvokeHandler, payer=replace(WHO, transaction=PAID.transaction)).answer(OK)
    book.expect(CommitClaim(KEY, OWNER, PAID, HANDLER_RESPONSE)).end(Respond, reply=None)
    claiming(play).answer(unserved).expect(InvokeHandler).answer(OK).expect(CommitClaim).end(Respond)


@transcript
def test_paid_earlier_and_the_handler_fails(play: Play) -> None:
    """It may be the first run for this payment, as the settlement outlasted the request: the seller is told in any case."""
    unserved, kept, due = claim(S.UNSERVED, settled=PAID), KeepClaim(KEY, OWNER, settled=PAID), ReportRefundDue(KEY, PAYER)

    def serving_again() -> Playbook:
        return recalling(play).answer(unserved).expect(ClaimPayment).answer(unserved).expect(InvokeHandler)

    serving_again().answer(HandlerHead(500)).expect(kept).expect(due).end(Respond, reply=None)
    serving_again().fail("RuntimeError").expect(kept).expect(due).end(Respond, status=500, headers=has(v2.PAYMENT_RESPONSE))
    serving_again().cancel().expect(kept).expect(due).end()
    stream, commit = HandlerHead(200, held=False), CommitClaim(KEY, OWNER, PAID, None)
    serving_again().answer(stream).expect(StreamResponse).fail().expect(kept).expect(due).end()
    serving_again().answer(stream).expect(StreamResponse).answer(None).expect(commit).end()


@transcript
def test_paid_earlier_and_gone_since(play: Play) -> None:
    book = recalling(play).answer(claim(S.UNSERVED, settled=PAID)).expect(ClaimPayment).answer(TAKEN)
    book.expect(ReleaseClaim(KEY, OWNER)).end(Respond, status=503)


# ------------------------------------------------------------------------- used on the chain: perhaps by this very request


def recalling_used(play: Play) -> Playbook:
    """Play up to the second question: the chain calls the permit used, and an exchange that raced may have used it."""
    return verifying(play).answer(Refusal(R.NONCE_USED, "used")).expect(RecallPayment, key=KEY)


@transcript
def test_used_by_nobody_we_know(play: Play) -> None:
    recalling_used(play).answer(NEW).end(Respond, status=402, body=lambda body: R.NONCE_USED.encode() in body)


@transcript
def test_used_by_an_exchange_that_raced_with_this_one(play: Play) -> None:
    known = claim(S.ANSWERED, settled=PAID, reply=KEPT)
    recalling_used(play).answer(known).end(Respond, status=200, body=b"the report", headers=has(v2.PAYMENT_RESPONSE))
    recalling_used(play).answer(claim(S.HELD)).end(Respond, status=409)
    recalling_used(play).answer(claim(S.PENDING)).end(Respond, status=503)
    recalling_used(play).answer(claim(S.SPENT)).end(Respond, status=402)
    recalling_used(play).answer(claim(S.VOID)).end(Respond, status=402)
    unserved = claim(S.UNSERVED, settled=PAID)
    book = recalling_used(play).answer(unserved).expect(ClaimPayment, key=KEY).answer(unserved)
    book.expect(InvokeHandler).answer(OK).expect(CommitClaim).end(Respond, reply=None)


@transcript
def test_used_and_nobody_can_be_asked(play: Play) -> None:
    recalling_used(play).fail("LedgerUnavailable").end(Respond, status=503)
    recalling_used(play).cancel().end()


# ---------------------------------------------------------------------------------------------- what a permit is bound to


def test_a_permit_is_bound_to_method_target_body_and_its_own_text() -> None:
    heads = [
        RequestHead("GET", "/a", ()),
        RequestHead("POST", "/a", ()),
        RequestHead("GET", "/a?b", ()),
        RequestHead("GET", "/%61", ()),
        RequestHead("GET", "/a/", ()),
        RequestHead("GET", "//a", ()),
        RequestHead("GET", "/a", (), hashlib.sha256(b"x").digest()),
    ]
    assert len({fingerprint(head, text) for head in heads for text in ("one", "another")}) == 2 * len(heads)
    assert fingerprint(RequestHead("get", "/a", (("X", "y"),)), "one") == fingerprint(heads[0], "one")


def test_the_lease_outlives_the_permit(play: Play) -> None:
    late = authorization(valid=3000)
    book = play(server()).feed(paid_request(late)).expect(RecallPayment).answer(NEW).expect(VerifyPayment)
    book.answer(verified(late, V2_AFTER)).expect(ClaimPayment, until=NOW + 3_000_000 + LEASE_MARGIN).cancel()
    book.expect(ReleaseClaim).end()


def test_every_row_was_taken() -> None:
    rows.check(__name__, "tests.test_server_more_playbook")
