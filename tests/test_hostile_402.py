"""A server that lies, bends the protocol or floods: no permit leaves that the payer's own policy does not allow (A5, A6, T23).

Every 402 here is answered by a machine that would pay up to a dollar.  Each must end by itself, without an exception, and
without having asked the wallet, unless the test says otherwise.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests import rules
from tests.playbook import Play, Playbook, transcript
from tests.test_client_playbook import NONCE, TOKEN_ONLY, asked, client, exchanging, paying, redeeming, wallet
from tests.world import (
    NOW,
    POLICY,
    SELLER,
    STRANGER,
    TERMS,
    TERMS_V2,
    URL,
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
    WakeAt,
)
from x402core.errors import Reason
from x402core.events import ResponseHead
from x402core.policy import PayerPolicy
from x402core.wire import v2

K, R = OutcomeKind, Reason
V2_DOC: dict[str, Any] = json.loads(base64.b64decode(dict(challenge(TERMS_V2).headers)[v2.PAYMENT_REQUIRED]))
BODY_DOC: dict[str, Any] = json.loads(challenge(TOKEN_ONLY).body)


def in_header(document: object, url: str = URL) -> ResponseHead:
    """Return a 402 with a PAYMENT-REQUIRED of any JSON."""
    text = base64.b64encode(json.dumps(document).encode()).decode()
    return ResponseHead(402, ((v2.PAYMENT_REQUIRED, text),), b"", url)


def in_body(document: object) -> ResponseHead:
    """Return a 402 with a body of any JSON."""
    return ResponseHead(402, (("Content-Type", "application/json"),), json.dumps(document).encode(), URL)


def edited(document: dict[str, Any], edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return a copy with its one offer edited."""
    changed = deepcopy(document)
    offer = changed["accepts"][0] if "accepts" in changed else changed["payment_scheme"]["payment_components"][0]
    edit(offer)
    return changed


def unsigned(play: Play, head: ResponseHead, reason: Reason | None = None, **how: Any) -> Playbook:
    """Assert that a 402 ends the exchange without anybody being asked for a signature."""
    book = asked(play, **how).answer(head)
    book.expect(Deliver, amount=0, exposed_until=None, kind=lambda kind: kind in (K.DECLINED, K.FAILED, K.FREE))
    if reason is not None:
        assert book.last.outcome.refusal.reason is reason, book.last.outcome.refusal  # type: ignore[union-attr]
    return book.end()


# ----------------------------------------------------------------------------------------------- lies about the money (A5)


def scaled(offer: dict[str, Any]) -> None:
    """Say 18 decimals for USDC, and the same human amount (defect A5)."""
    offer["metadata"]["decimals"] = 18
    offer["amount_atomic"] = "10000000000000000"


LIES: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], object], Reason]] = {
    "18 decimals": (BODY_DOC, scaled, R.ASSET_MISMATCH),
    "another name": (V2_DOC, lambda o: o["extra"].update(name="USD Coin"), R.ASSET_MISMATCH),
    "another version": (V2_DOC, lambda o: o["extra"].update(version="1"), R.ASSET_MISMATCH),
    "another name in the body": (BODY_DOC, lambda o: o["metadata"].update(name="DOGE"), R.ASSET_MISMATCH),
    "over the cap": (V2_DOC, lambda o: o.update(amount="1000001"), R.OVER_CAP),
    "the most there is": (V2_DOC, lambda o: o.update(amount=str(2**256 - 1)), R.OVER_CAP),
    "nothing": (V2_DOC, lambda o: o.update(amount="0"), R.INVALID_REQUIREMENTS),
    "an unknown token": (V2_DOC, lambda o: o.update(asset=STRANGER), R.UNKNOWN_ASSET),
    "another chain": (V2_DOC, lambda o: o.update(network="eip155:8453"), R.NETWORK_NOT_ALLOWED),
    "nobody is paid": (V2_DOC, lambda o: o.update(payTo="0x" + "00" * 20), R.INVALID_REQUIREMENTS),
    "over before it begins": (V2_DOC, lambda o: o.update(maxTimeoutSeconds=0), R.INVALID_PAYLOAD),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_the_money_is_not_signed(play: Play, lie: str) -> None:
    document, edit, reason = LIES[lie]
    head = in_header(edited(document, edit)) if document is V2_DOC else in_body(edited(document, edit))
    unsigned(play, head, reason)


def test_human_and_atomic_amount_that_differ(play: Play) -> None:
    unsigned(play, in_body(edited(BODY_DOC, lambda o: o.update(amount=0.5))))
    unsigned(play, in_body(edited(BODY_DOC, lambda o: o.update(amount=1e-9, amount_atomic="0"))))
    unsigned(play, in_body(edited(BODY_DOC, lambda o: o.update(amount_atomic="999999999999"))))


def test_a_payee_that_is_not_on_the_list(play: Play) -> None:
    pinned = PayerPolicy.up_to("$1", "eip155:84532", payees=[SELLER])
    book = asked(play, pinned).answer(in_header(edited(V2_DOC, lambda o: o.update(payTo=STRANGER))))
    book.end(Deliver, kind=K.DECLINED, refusal=lambda why: why.reason is R.PAYEE_NOT_ALLOWED)


def test_a_spender_that_is_not_on_the_list(play: Play) -> None:
    """An EIP-2612 permit is a cheque for its spender, whoever the payee is said to be."""
    pinned = PayerPolicy.up_to("$1", "eip155:84532", payees=[SELLER])
    book = asked(play, pinned).answer(challenge(TOKEN_ONLY))
    book.end(Deliver, kind=K.DECLINED, refusal=lambda why: why.reason is R.PAYEE_NOT_ALLOWED)


@transcript
def test_an_endless_permit_is_cut_to_what_the_payer_allows(play: Play) -> None:
    book = asked(play).answer(in_header(edited(V2_DOC, lambda o: o.update(maxTimeoutSeconds=2**40))))
    book.expect(ApprovePayment).answer(True).expect(SignTypedData).answer(wallet).expect(SendRequest)
    assert book.machine.permit.valid_before == NOW // 1000 + POLICY.longest_validity  # type: ignore[attr-defined]
    book.answer(response(200, receipt_header())).end(Deliver)


@transcript
def test_the_good_offer_beside_a_bad_one_is_paid(play: Play) -> None:
    document = deepcopy(V2_DOC)
    strange = {**document["accepts"][0], "scheme": "deferred", "network": "solana:x", "amount": "1"}
    dear = {**document["accepts"][0], "amount": "1000000000"}
    document["accepts"] = [strange, dear, *document["accepts"]]
    book = asked(play).answer(in_header(document)).expect(ApprovePayment, offer=lambda o: o.amount == 10_000).answer(True)
    book.expect(SignTypedData).answer(wallet).expect(SendRequest).answer(response(200, receipt_header())).end(Deliver)


# -------------------------------------------------------------------------------------------------- where it leads (A6)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://evil.example/token",
        "//evil.example/token",
        "http://shop.example/token",
        "https://shop.example:444/token",
        "https://shop.example@evil.example/",
        "https://user:pw@shop.example/token",
        "\\\\evil.example\\token",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://shop.example.evil.example/",
        "data:text/html,x",
    ],
)
def test_the_token_endpoint_is_of_another_origin(play: Play, endpoint: str) -> None:
    head = in_body({**BODY_DOC, "access_token_endpoint": endpoint})
    book = asked(play).answer(head)
    if book.issued and isinstance(book.issued[0], ApprovePayment):  # a relative path after all: it must stay at home
        book.expect(ApprovePayment).answer(True).expect(ReadChain).answer(NONCE).expect(SignTypedData).answer(wallet)
        book.expect(SendTokenRequest, url=lambda url: url.startswith("https://shop.example/")).fail().end(Deliver)
    else:
        book.end(Deliver, amount=0, kind=lambda kind: kind in (K.DECLINED, K.FAILED))


@pytest.mark.parametrize("endpoint", [None, "", 7, [], "x" * 3000, "/to ken", "/tok\nen"])
def test_the_token_endpoint_is_no_url(play: Play, endpoint: object) -> None:
    unsigned(play, in_body({**BODY_DOC, "access_token_endpoint": endpoint}))


@transcript
def test_the_token_endpoint_answers_402_and_nothing_more_is_signed(play: Play) -> None:
    """Defect A6: x402-mock's client pays that 402 too, and so on: fifty signatures from one GET."""
    exchanging(play).answer(challenge(TOKEN_ONLY)).end(Deliver, kind=K.DECLINED, amount=10_000)


@transcript
def test_the_resource_answers_402_for_ever(play: Play) -> None:
    paying(play).answer(challenge(TERMS)).end(Deliver, kind=K.DECLINED)
    redeeming(play).answer(challenge(TERMS)).end(Deliver, kind=K.UNKNOWN)


@transcript
def test_asked_to_wait_for_ever(play: Play) -> None:
    book = paying(play)
    for _ in range(POLICY.resend):
        book.answer(response(503, ("Retry-After", "0"))).expect(WakeAt).at(book.last.at).answer(None).expect(SendRequest)  # type: ignore[union-attr]
    book.answer(response(503)).end(Deliver, kind=K.UNKNOWN)


@transcript
def test_a_402_that_came_by_a_redirect(play: Play) -> None:
    for url in ("https://evil.example/report", "http://shop.example/report", "https://shop.example:8443/", "nonsense"):
        unsigned(play, challenge(TERMS_V2, url), R.ORIGIN_REFUSED)


def test_loopback_may_be_plain(play: Play) -> None:
    url, origin = "http://127.0.0.1:8000/report", "http://127.0.0.1:8000"
    book = play(client()).feed(begin(url=url, origin=origin)).expect(SendRequest).answer(challenge(TERMS_V2, url))
    book.expect(ApprovePayment).cancel().end(Deliver)


# ------------------------------------------------------------------------------------------------------ bytes out of shape


def nested(depth: int) -> bytes:
    """Return JSON of that depth."""
    return b"[" * depth + b"]" * depth


SHAPES: dict[str, ResponseHead] = {
    "no base64": ResponseHead(402, ((v2.PAYMENT_REQUIRED, "{}"),), b"", URL),
    "blanks in base64": ResponseHead(402, ((v2.PAYMENT_REQUIRED, "e30 "),), b"", URL),
    "empty": ResponseHead(402, ((v2.PAYMENT_REQUIRED, ""),), b"", URL),
    "a megabyte": ResponseHead(402, ((v2.PAYMENT_REQUIRED, "A" * 1_000_000),), b"", URL),
    "two headers": ResponseHead(402, challenge(TERMS_V2).headers * 2, b"", URL),
    "two headers, one in lower case": ResponseHead(
        402, (*challenge(TERMS_V2).headers, (v2.PAYMENT_REQUIRED.lower(), "e30=")), b"", URL
    ),
    "an array": in_header([]),
    "a number": in_header(402),
    "version 1": in_header({**V2_DOC, "x402Version": 1}),
    "version as text": in_header({**V2_DOC, "x402Version": "2"}),
    "accepts is no list": in_header({**V2_DOC, "accepts": {}}),
    "an offer is null": in_header({**V2_DOC, "accepts": [None]}),
    "an amount as a number": in_header(edited(V2_DOC, lambda o: o.update(amount=10000))),
    "an amount with a sign": in_header(edited(V2_DOC, lambda o: o.update(amount="+10000"))),
    "an amount in Arabic digits": in_header(edited(V2_DOC, lambda o: o.update(amount="١٠٠٠٠"))),
    "an amount with a point": in_header(edited(V2_DOC, lambda o: o.update(amount="10000.0"))),
    "an address too short": in_header(edited(V2_DOC, lambda o: o.update(payTo="0x00"))),
    "a timeout that is true": in_header(edited(V2_DOC, lambda o: o.update(maxTimeoutSeconds=True))),
    "a timeout that is a float": in_header(edited(V2_DOC, lambda o: o.update(maxTimeoutSeconds=1e3))),
    "duplicate keys": ResponseHead(
        402, ((v2.PAYMENT_REQUIRED, base64.b64encode(b'{"x402Version":2,"x402Version":2,"accepts":[]}').decode()),), b"", URL
    ),
    "a deep body": ResponseHead(402, (), b'{"payment_scheme":' + nested(50_000) + b"}", URL),
    "a body without end": ResponseHead(402, (), b'{"payment_scheme":' + b"1" * 500_000 + b"}", URL),
    "a body of NaN": ResponseHead(402, (), b'{"payment_scheme":NaN}', URL),
    "a body in UTF-16": ResponseHead(402, (), '{"payment_scheme":{}}'.encode("utf-16"), URL),
    "decimals of a googol": in_body(edited(BODY_DOC, lambda o: o["metadata"].update(decimals=10**100))),
    "an amount that explodes": in_body(edited(BODY_DOC, lambda o: o.update(amount=1e308))),
    "ten thousand offers": in_header({**V2_DOC, "accepts": V2_DOC["accepts"] * 10_000}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_402_out_of_shape_is_not_paid(play: Play, shape: str) -> None:
    unsigned(play, SHAPES[shape])


TOKEN_SHAPES = {
    "nothing": b"",
    "no JSON": b"<html>",
    "no token": b'{"token_type":"Bearer"}',
    "a token with a line break": json.dumps({"access_token": "a\r\nX-Evil: 1", "token_type": "Bearer"}).encode(),
    "a token of a megabyte": json.dumps({"access_token": "a" * 1_000_000, "token_type": "Bearer"}).encode(),
    "another type": json.dumps({"access_token": "abc", "token_type": "mac"}).encode(),
    "an end in text": json.dumps({"access_token": "abc", "token_type": "Bearer", "expires_in": "never"}).encode(),
    "deep": b'{"access_token":' + nested(100_000) + b"}",
}


@pytest.mark.parametrize("shape", TOKEN_SHAPES)
def test_a_token_reply_out_of_shape_is_unknown_not_a_crash(play: Play, shape: str) -> None:
    exchanging(play).answer(response(200, body=TOKEN_SHAPES[shape])).end(Deliver, kind=K.UNKNOWN, amount=10_000)


@pytest.mark.parametrize("value", ["", "!!", "e30=", "bnVsbA==", "A" * 100_000])
def test_a_receipt_out_of_shape_is_no_receipt(play: Play, value: str) -> None:
    paying(play).answer(response(200, (v2.PAYMENT_RESPONSE, value))).end(Deliver, kind=K.UNKNOWN)


def test_two_receipts_are_none(play: Play) -> None:
    paying(play).answer(response(200, receipt_header(), receipt_header(False))).end(Deliver, kind=K.UNKNOWN)


def test_text_of_a_server_is_bounded_and_printable(play: Play) -> None:
    shouting = in_header({**V2_DOC, "error": "\x1b[31m" + "A" * 100_000})
    book = paying(play).answer(shouting).end(Deliver, kind=K.DECLINED)
    shown = book.last.outcome.refusal.detail  # type: ignore[union-attr]
    assert len(shown) <= 200
    assert shown.isprintable()


# --------------------------------------------------------------------------------------------------------- and at random


def mutated(rng: random.Random, value: Any) -> Any:
    """Return a JSON document with one or two places changed."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    changed = deepcopy(value)
    walk(changed)
    for _ in range(rng.choice((1, 1, 2))):
        node, key = rng.choice(places)
        odd = [None, True, 0, -1, 2**256, 1.5, "", "0x", "é" * 9, [], {}, "1" * 80, "eip155:0", "0x" + "f" * 40, [[]]]
        node[key] = rng.choice(odd) if rng.random() < 0.9 else [node[key], node[key]]
    return changed


def test_two_thousand_mutated_challenges() -> None:
    seed = 402
    rng = random.Random(seed)
    signed = 0
    for number in range(2000):
        document = rng.choice((V2_DOC, BODY_DOC))
        changed = mutated(rng, document)
        head = in_header(changed) if document is V2_DOC else in_body(changed)
        book = Playbook(client()).feed(begin()).expect(SendRequest).answer(head)
        book.finish(kindly=True)
        offer = book.machine.offer  # type: ignore[attr-defined]
        if any(isinstance(entry, SignTypedData) for entry in book.log):
            signed += 1
            assert (offer.amount, offer.asset, offer.network) <= (1_000_000, offer.asset, offer.network), (
                f"seed {seed}, {number}"
            )
            assert (offer.name, offer.version, offer.decimals or 6) == ("USDC", "2", 6)
        rules.check(book.machine, book.log)
    assert 100 < signed < 1500, f"seed {seed}: {signed} of the mutants were still payable"
