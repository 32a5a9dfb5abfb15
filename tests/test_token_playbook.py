"""The token endpoint's machine, told as transcripts; together they take every row of its table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.playbook import Play, Playbook, transcript
from tests.rowcount import Rows
from tests.world import (
    ENTROPY,
    NEW,
    NOW,
    RING,
    STRANGER,
    TAKEN,
    TERMS,
    TERMS_V2,
    TOKEN_OFFER,
    TOKEN_TERMS,
    claim,
    hash32,
    settled,
    token_permit,
    token_request,
    verified,
)
from x402core.access import TokenClaims, check_token
from x402core.commands import (
    ClaimPayment,
    CommitClaim,
    KeepClaim,
    RecallPayment,
    RecordIntent,
    ReleaseClaim,
    Respond,
    VerifyPayment,
)
from x402core.errors import LocalProtocolError, Reason, Refusal, Reply
from x402core.events import TokenRequest
from x402core.ledger import ClaimStatus, Stored
from x402core.machines.token import LEASE_MARGIN, TokenExchange, TokenState
from x402core.values import Amount, Millis, Network

rows = Rows(TokenExchange)
P = token_permit()
KEY, OWNER = P.key, ENTROPY[:16].hex()
S = ClaimStatus
KEPT = Reply(200, (), b'{"access_token":"t"}')
PAID = settled(P)


def token() -> TokenExchange:
    """Return a new exchange."""
    return TokenExchange(TERMS, entropy=ENTROPY, trace=rows)


def recalling(play: Play) -> Playbook:
    """Play up to the question whether this permit is known."""
    return play(token()).feed(token_request(P)).expect(RecallPayment, key=KEY)


def verifying(play: Play) -> Playbook:
    """Play up to the judge."""
    return recalling(play).answer(NEW).expect(VerifyPayment, checked=lambda c: c.permit == P)


def claiming(play: Play) -> Playbook:
    """Play up to the claim."""
    book = verifying(play).answer(verified(P, TOKEN_OFFER))
    return book.expect(ClaimPayment, key=KEY, owner=OWNER, until=P.deadline * 1000 + LEASE_MARGIN)


def recording(play: Play) -> Playbook:
    """Play up to the intent."""
    return claiming(play).answer(TAKEN).expect(RecordIntent, most_open=Amount(50_000))


def reads(reply: bytes, now: Millis = NOW) -> bool:
    """Check that a reply carries a good token for this payment."""
    found = check_token(
        json.loads(reply)["access_token"], RING, now=now, audience=TOKEN_TERMS.audience, scope=TOKEN_TERMS.scope
    )
    return isinstance(found, TokenClaims) and found.payment == KEY


@transcript
def test_a_token_for_a_permit_that_is_journaled(play: Play) -> None:
    book = recording(play).answer(Stored.STORED)
    book.expect(CommitClaim, key=KEY, owner=OWNER, settled=None, body=reads).end(Respond, status=200, body=reads)
    assert book.log[-2].reply == book.log[-1].reply, "what is kept is what was given"  # type: ignore[union-attr]


@transcript
def test_an_intent_that_was_journaled_before(play: Play) -> None:
    recording(play).answer(Stored.DUPLICATE).expect(CommitClaim).end(Respond, status=200, state=TokenState.DONE)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"version":1}', b'{"a":1,"a":2}', b"9" * 5000])
def test_bytes_that_are_no_token_request(play: Play, body: bytes) -> None:
    play(token()).feed(TokenRequest(body)).end(Respond, status=400)


def test_a_body_without_end(play: Play) -> None:
    play(token()).feed(TokenRequest(b"[" * 100_000)).end(Respond, status=413)


@transcript
def test_malformed(play: Play) -> None:
    play(token()).feed(TokenRequest(b"no")).end(Respond, status=400)


@transcript
def test_a_token_we_do_not_take(play: Play) -> None:
    play(token()).feed(token_request(replace(P, asset=STRANGER))).end(Respond, status=402)


def test_a_permit_for_another_chain_is_refused(play: Play) -> None:
    play(token()).feed(token_request(replace(P, network=Network("eip155:1")))).end(Respond, status=402)


@transcript
def test_a_permit_that_is_not_for_us(play: Play) -> None:
    for wrong in (replace(P, amount=Amount(1)), replace(P, spender=STRANGER), replace(P, payer=STRANGER)):
        play(token()).feed(token_request(wrong)).end(Respond, status=402)


@transcript
def test_the_ledger_cannot_be_asked(play: Play) -> None:
    recalling(play).fail().end(Respond, status=503)


@transcript
def test_the_payer_leaves(play: Play) -> None:
    recalling(play).cancel().end()
    verifying(play).cancel().end()
    claiming(play).cancel().expect(ReleaseClaim(KEY, OWNER)).end()
    recording(play).cancel().expect(KeepClaim(KEY, OWNER)).end()


@transcript
def test_the_judge_refuses(play: Play) -> None:
    verifying(play).answer(Refusal(Reason.INSUFFICIENT_FUNDS)).end(Respond, status=402)


@transcript
def test_the_node_is_down(play: Play) -> None:
    verifying(play).fail().end(Respond, status=503)


@transcript
def test_the_claim_is_lost_on_the_way(play: Play) -> None:
    claiming(play).fail().expect(ReleaseClaim(KEY, OWNER)).end(Respond, status=503)


@transcript
def test_the_payer_owes_too_much(play: Play) -> None:
    recording(play).answer(Stored.OVER_EXPOSURE).expect(ReleaseClaim(KEY, OWNER)).end(Respond, status=402)


@transcript
def test_another_permit_with_the_same_nonce_is_being_settled(play: Play) -> None:
    recording(play).answer(Stored.CONFLICT).expect(ReleaseClaim(KEY, OWNER)).end(Respond, status=402)


@transcript
def test_nobody_knows_whether_the_intent_is_journaled(play: Play) -> None:
    recording(play).fail("LedgerUnavailable").expect(KeepClaim(KEY, OWNER)).end(Respond, status=503)


@transcript
def test_the_same_token_again(play: Play) -> None:
    known = claim(S.ANSWERED, reply=KEPT)
    recalling(play).answer(known).end(Respond(KEPT))
    claiming(play).answer(known).end(Respond(KEPT))


@transcript
def test_another_exchange_is_at_work(play: Play) -> None:
    recalling(play).answer(claim(S.HELD)).end(Respond, status=409)
    claiming(play).answer(claim(S.HELD)).end(Respond, status=409)


@transcript
def test_journaled_and_under_way(play: Play) -> None:
    recalling(play).answer(claim(S.PENDING, transactions=(hash32(1),))).end(Respond, status=503)
    claiming(play).answer(claim(S.PENDING)).end(Respond, status=503)


@transcript
def test_used_for_another_scope(play: Play) -> None:
    recalling(play).answer(claim(S.SPENT)).end(Respond, status=402)
    claiming(play).answer(claim(S.SPENT)).end(Respond, status=402)


@transcript
def test_ended_without_money(play: Play) -> None:
    recalling(play).answer(claim(S.VOID)).end(Respond, status=402)
    claiming(play).answer(claim(S.VOID)).end(Respond, status=402)


@transcript
def test_settled_and_the_token_was_never_kept(play: Play) -> None:
    unserved = claim(S.UNSERVED, settled=PAID)
    book = recalling(play).answer(unserved).expect(ClaimPayment, key=KEY).answer(unserved)
    book.expect(CommitClaim, key=KEY, body=reads).end(Respond, status=200, body=reads)
    claiming(play).answer(unserved).expect(CommitClaim).end(Respond, status=200)


@transcript
def test_settled_and_gone_since(play: Play) -> None:
    book = recalling(play).answer(claim(S.UNSERVED, settled=PAID)).expect(ClaimPayment).answer(TAKEN)
    book.expect(ReleaseClaim(KEY, OWNER)).end(Respond, status=503)


def recalling_used(play: Play) -> Playbook:
    """Play up to the second question: the chain calls the permit used, and an exchange that raced may have used it."""
    return verifying(play).answer(Refusal(Reason.NONCE_USED, "used")).expect(RecallPayment, key=KEY)


@transcript
def test_used_by_nobody_we_know(play: Play) -> None:
    recalling_used(play).answer(NEW).end(Respond, status=402, body=lambda body: Reason.NONCE_USED.encode() in body)


@transcript
def test_used_by_an_exchange_that_raced_with_this_one(play: Play) -> None:
    recalling_used(play).answer(claim(S.ANSWERED, reply=Reply(200, (), b"the token"))).end(Respond, body=b"the token")
    recalling_used(play).answer(claim(S.HELD)).end(Respond, status=409)
    recalling_used(play).answer(claim(S.PENDING)).end(Respond, status=503)
    recalling_used(play).answer(claim(S.SPENT)).end(Respond, status=402)
    recalling_used(play).answer(claim(S.VOID)).end(Respond, status=402)
    unserved = claim(S.UNSERVED, settled=PAID)
    book = recalling_used(play).answer(unserved).expect(ClaimPayment, key=KEY).answer(unserved)
    book.expect(CommitClaim, key=KEY, body=reads).end(Respond, status=200, body=reads)
    recalling_used(play).fail("LedgerUnavailable").end(Respond, status=503)
    recalling_used(play).cancel().end()


def test_two_exchanges_mint_two_tokens_and_one_exchange_the_same(play: Play) -> None:
    bodies = []
    for entropy in (ENTROPY, ENTROPY, bytes(32)):
        book = play(TokenExchange(TERMS, entropy=entropy)).feed(token_request(P)).expect(RecallPayment).answer(NEW)
        book.expect(VerifyPayment).answer(verified(P, TOKEN_OFFER)).expect(ClaimPayment).answer(TAKEN)
        book.expect(RecordIntent).answer(Stored.STORED).expect(CommitClaim).end(Respond)
        bodies.append(book.last.reply.body)  # type: ignore[union-attr]
    assert bodies[0] == bodies[1] != bodies[2]


def test_what_cannot_be_a_token_endpoint() -> None:
    with pytest.raises(LocalProtocolError, match="entropy"):
        TokenExchange(TERMS, entropy=b"short")
    with pytest.raises(LocalProtocolError, match="terms"):
        TokenExchange(TERMS_V2, entropy=ENTROPY)


def test_every_row_was_taken() -> None:
    rows.check(__name__)
