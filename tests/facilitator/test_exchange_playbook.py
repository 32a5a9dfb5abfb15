"""A facilitator's machine, told as transcripts; together they take every row of its table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.facilitator.test_listed import BAZAAR, RESOURCE
from tests.playbook import Play, Playbook, transcript
from tests.rowcount import Rows
from tests.world import (
    BLOCK,
    NETWORK,
    NOW,
    PAYER,
    SELLER,
    SETTLER,
    STRANGER,
    V2_AFTER,
    authorization,
    hash32,
    journal,
    signed,
    verified,
)
from tests.world import settled as paid
from x402core.commands import (
    AdmitPayer,
    AwaitSettlement,
    CatalogResource,
    RecallSettlement,
    Respond,
    SettlePayment,
    VerifyPayment,
)
from x402core.errors import Reason, Refusal, Reply
from x402core.events import Dialect, FacilitatorRequest, Method, Offer, Pending, Unsettled
from x402core.machines.facilitator import FacilitatorExchange, FacilitatorState
from x402core.policy import FacilitatorTerms, offers
from x402core.schemes import of
from x402core.schemes.judge import Verdict, vouched
from x402core.values import Amount, Seconds, seconds
from x402core.wire.facilitator import SETTLE, VERIFY, encode_request

rows = Rows(FacilitatorExchange)
TERMS = FacilitatorTerms({NETWORK: SETTLER})
P = authorization()
PAID = paid(P)
RECORD = journal(P, V2_AFTER)
BODY = encode_request(P, V2_AFTER)
PROOF = verified(P, V2_AFTER)
USED = Refusal(Reason.NONCE_USED, "used")
S = FacilitatorState


def listed() -> bytes:
    document = json.loads(BODY)
    document["paymentPayload"] |= {"extensions": {"bazaar": BAZAAR}, "resource": RESOURCE}
    return json.dumps(document).encode()


def begun(play: Play, path: str, body: bytes = BODY, terms: FacilitatorTerms = TERMS) -> Playbook:
    return play(FacilitatorExchange(terms, trace=rows)).feed(FacilitatorRequest(path, body))


def recalled(play: Play, stored: Any = None, body: bytes = BODY) -> Playbook:
    return begun(play, SETTLE, body).expect(RecallSettlement(P.key)).answer(stored)


def settling(play: Play, body: bytes = BODY) -> Playbook:
    book = recalled(play, body=body).expect(VerifyPayment).answer(PROOF)
    return book.expect(AdmitPayer(PAYER, NETWORK, P.key)).answer(True).expect(SettlePayment, proof=PROOF)


def says(book: Playbook, **members: object) -> None:
    """Expect a 200 with these members."""

    def fits(reply: Reply | None) -> bool:
        assert reply is not None
        document = json.loads(reply.body)
        return reply.status == 200 and {name: document.get(name) for name in members} == members

    book.end(Respond, reply=fits)


def unavailable(book: Playbook) -> None:
    book.end(Respond, status=503)


# ---------------------------------------------------------------------------------------------------------------- /verify


@transcript
def test_valid(play: Play) -> None:
    says(begun(play, VERIFY).expect(VerifyPayment).answer(PROOF), isValid=True)


@transcript
def test_invalid(play: Play) -> None:
    says(begun(play, VERIFY).expect(VerifyPayment).answer(USED), isValid=False, invalidReason=str(USED.reason))


@transcript
def test_a_node_that_is_down_refuses_nobody(play: Play) -> None:
    unavailable(begun(play, VERIFY).expect(VerifyPayment).fail())
    unavailable(recalled(play).expect(VerifyPayment).fail())


@transcript
def test_bytes_that_are_no_request(play: Play) -> None:
    for path in (VERIFY, SETTLE):
        begun(play, path, b"{").end(Respond, status=400)


@transcript
def test_what_is_not_served_is_refused_unread(play: Play) -> None:
    elsewhere = replace(TERMS, payees=frozenset({STRANGER}))
    says(begun(play, VERIFY, terms=elsewhere), isValid=False, invalidReason="payee_not_allowed")
    says(begun(play, SETTLE, terms=elsewhere), success=False, errorReason="payee_not_allowed", transaction="")


@transcript
def test_a_tampered_permit_is_refused_unread(play: Play) -> None:
    forged = replace(P, signature=bytes(65))
    says(begun(play, SETTLE, encode_request(forged, V2_AFTER)), success=False, errorReason=str(Reason.SIGNATURE))


# ---------------------------------------------------------------------------------------------------------------- /settle


@transcript
def test_settled(play: Play) -> None:
    says(settling(play).answer(PAID), success=True, transaction=PAID.transaction)


@transcript
def test_settled_and_listed(play: Play) -> None:
    book = settling(play, listed()).answer(PAID)
    says(book.expect(CatalogResource, entry=lambda entry: entry.last_updated == NOW), success=True)


@transcript
def test_how_a_settlement_may_stand(play: Play) -> None:
    for outcome, reason in (
        (Pending(NETWORK, PAYER, (hash32(7),)), "settlement_pending"),
        (Unsettled(Reason.TRANSACTION_FAILED, NETWORK, PAYER, (hash32(7),), final=False), "settlement_pending"),
        (Unsettled(Reason.TRANSACTION_FAILED, NETWORK, PAYER, (hash32(7),)), "transaction_failed"),
    ):
        says(settling(play).answer(outcome), success=False, errorReason=reason, transaction=hash32(7))
        book = recalled(play, RECORD).expect(AwaitSettlement(P.key)).answer(outcome)
        says(book, success=False, errorReason=reason, transaction=hash32(7))


@transcript
def test_what_nobody_knows_is_unavailable(play: Play) -> None:
    for outcome in (Pending(NETWORK, PAYER), Unsettled(Reason.UNAVAILABLE, NETWORK, PAYER)):
        unavailable(settling(play).answer(outcome))
        unavailable(recalled(play, RECORD).expect(AwaitSettlement).answer(outcome))
    unavailable(settling(play).fail())
    unavailable(recalled(play, RECORD).expect(AwaitSettlement).fail())


@transcript
def test_a_quota_that_is_used_up(play: Play) -> None:
    book = recalled(play).expect(VerifyPayment).answer(PROOF).expect(AdmitPayer).answer(False)
    says(book, success=False, errorReason="payer_quota_exceeded", transaction="")


@transcript
def test_a_quota_nobody_can_tell(play: Play) -> None:
    unavailable(recalled(play).expect(VerifyPayment).answer(PROOF).expect(AdmitPayer).fail())


@transcript
def test_an_empty_wallet(play: Play) -> None:
    refusal = Refusal(Reason.INSUFFICIENT_FUNDS)
    says(recalled(play).expect(VerifyPayment).answer(refusal), success=False, errorReason="insufficient_funds")


@transcript
def test_a_ledger_that_is_down(play: Play) -> None:
    unavailable(begun(play, SETTLE).expect(RecallSettlement).fail())


# ------------------------------------------------------------------------------------------------------------------ again


@transcript
def test_replay_of_what_ended(play: Play) -> None:
    says(recalled(play, replace(RECORD, outcome=PAID)), success=True, transaction=PAID.transaction)
    failed = Unsettled(Reason.TRANSACTION_FAILED, NETWORK, PAYER, (hash32(7),))
    says(recalled(play, replace(RECORD, outcome=failed)), success=False, errorReason="transaction_failed")


@transcript
def test_replay_of_what_is_under_way(play: Play) -> None:
    says(recalled(play, RECORD).expect(AwaitSettlement).answer(PAID), success=True)
    book = recalled(play, RECORD, listed()).expect(AwaitSettlement).answer(PAID)
    says(book.expect(CatalogResource), success=True)


@transcript
def test_replay_for_another_payee(play: Play) -> None:
    other = replace(RECORD, outcome=PAID, offer=replace(V2_AFTER, pay_to=STRANGER))
    says(recalled(play, other), success=False, errorReason=str(Reason.PAYMENT_SPENT), transaction="")


@transcript
def test_used_and_not_here(play: Play) -> None:
    book = recalled(play).expect(VerifyPayment).answer(USED).expect(RecallSettlement).answer(None)
    says(book, success=False, errorReason=str(Reason.NONCE_USED), transaction="")


@transcript
def test_used_here_a_moment_ago(play: Play) -> None:
    """Two requests raced: the journal was empty when this one looked, and the payment settled when it was judged."""

    def again() -> Playbook:
        return recalled(play).expect(VerifyPayment).answer(USED).expect(RecallSettlement)

    says(again().answer(replace(RECORD, outcome=PAID)), success=True, transaction=PAID.transaction)
    says(again().answer(RECORD).expect(AwaitSettlement).answer(PAID), success=True)
    says(again().answer(replace(RECORD, offer=replace(V2_AFTER, pay_to=STRANGER))), errorReason=str(Reason.PAYMENT_SPENT))
    unavailable(again().fail())


# ------------------------------------------------------------------------------------------------------------------- upto

(UPTO,) = offers("$0.01", NETWORK, SELLER, dialects=[Dialect.V2], methods=[Method.PERMIT2], scheme="upto", facilitator=SETTLER)


def ceiling(offer: Offer = UPTO) -> Any:
    permit = of(offer).prepare(offer, PAYER, now=seconds(NOW), validity=Seconds(300), nonce=hash32(3), facts=None)
    return signed(permit, offer)


@transcript
def test_upto_for_nothing_and_for_too_much(play: Play) -> None:
    permit = ceiling()

    def proved(command: VerifyPayment) -> Any:
        return vouched(command.checked, Verdict(command.checked, None, BLOCK))

    def charged(amount: int) -> Playbook:
        body = encode_request(permit, replace(UPTO, amount=Amount(amount)))
        book = begun(play, SETTLE, body).expect(RecallSettlement(permit.key)).answer(None)
        return book.expect(VerifyPayment).answer(proved)

    says(charged(0), success=True, transaction="", amount="0")
    says(charged(10_001), success=False, errorReason=str(Reason.UPTO_EXCEEDS))
    book = charged(4_000).expect(AdmitPayer).answer(True).expect(SettlePayment, proof=lambda proof: proof.offer.amount == 4_000)
    says(book.answer(replace(paid(permit), amount=Amount(4_000))), success=True, amount="4000")


# --------------------------------------------------------------------------------------------------- the asker goes away


@transcript
def test_the_asker_goes_away(play: Play) -> None:
    begun(play, VERIFY).expect(VerifyPayment).cancel().end()
    begun(play, SETTLE).expect(RecallSettlement).cancel().end()
    recalled(play).expect(VerifyPayment).cancel().end()
    recalled(play).expect(VerifyPayment).answer(USED).expect(RecallSettlement).cancel().end()
    recalled(play).expect(VerifyPayment).answer(PROOF).expect(AdmitPayer).cancel().end()
    settling(play).cancel().end()  # the settlement goes on: the journal has it
    recalled(play, RECORD).expect(AwaitSettlement).cancel().end()


def test_every_row_was_taken() -> None:
    rows.check(__name__)
    assert S.DONE in FacilitatorExchange.ENDS
