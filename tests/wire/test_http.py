"""One 402 in all dialects at once, and 402s that are not ours at all."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError, Reply
from x402core.events import Challenge, Dialect, Offer, Resource, ResponseHead, SettleMode
from x402core.wire import http
from x402core.wire.headers import encode_header, find_all

from . import samples
from .test_permit_token import THEIRS
from .test_v1 import REQUIRED as V1
from .test_v2 import REQUIRED, changed

RESOURCE = Resource("https://api.example.com/premium")
BOTH = Challenge((samples.V2_OFFER, samples.TOKEN_OFFER), "Payment required", RESOURCE, "/token")
THEIR_BODY = json.dumps(THEIRS).encode()


def encode(challenge: Challenge) -> Reply:
    return http.encode_402(challenge, created_at=samples.CREATED_AT)


def decode(*headers: tuple[str, str], body: bytes = b"") -> Challenge:
    return http.decode_402(ResponseHead(402, headers, body))


def test_both_dialects_in_one_answer() -> None:
    reply = encode(BOTH)
    assert reply.status == 402
    assert len(find_all(reply.headers, "PAYMENT-REQUIRED")) == 1
    assert json.loads(reply.body)["access_token_endpoint"] == "/token"
    assert find_all(reply.headers, "cache-control") == ["no-store"]
    assert find_all(reply.headers, "content-type") == ["application/json"]
    assert find_all(reply.headers, "vary") == ["Authorization, PAYMENT-SIGNATURE, X-PAYMENT, SIGN-IN-WITH-X"]
    exposed = "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE"
    assert find_all(reply.headers, "access-control-expose-headers") == [exposed]
    assert decode(*reply.headers, body=reply.body) == BOTH


def test_three_dialects_in_one_answer_each_where_its_clients_look() -> None:
    challenge = replace(BOTH, offers=(samples.V2_OFFER, samples.V1_OFFER, samples.TOKEN_OFFER))
    reply = http.encode_402(challenge, created_at=samples.CREATED_AT, detail="validBefore is over")
    body = json.loads(reply.body)
    assert (body["x402Version"], body["error"], body["reason"]) == (1, "Payment required", "Payment required")
    assert [offer["network"] for offer in body["accepts"]] == ["base-sepolia"]
    assert len(body["payment_scheme"]["payment_components"]) == 1
    assert body["detail"] == "validBefore is over"
    # in whatever order a seller names them, v2 is read first
    assert decode(*reply.headers, body=reply.body) == challenge
    shuffled = encode(replace(challenge, offers=challenge.offers[::-1]))
    assert decode(*shuffled.headers, body=shuffled.body) == challenge


def test_v1_alone_is_the_body() -> None:
    reply = encode(replace(BOTH, offers=(samples.V1_OFFER,)))
    assert find_all(reply.headers, "PAYMENT-REQUIRED") == []
    assert decode(*reply.headers, body=reply.body) == replace(BOTH, offers=(samples.V1_OFFER,), token_endpoint=None)
    with pytest.raises(LocalProtocolError, match="resource"):
        encode(Challenge((samples.V1_OFFER,)))


def test_a_malformed_body_of_v1_is_an_error_alone_and_noted_beside_a_header() -> None:
    body = json.dumps(changed(V1, "accepts/0/payTo", "0x")).encode()
    with pytest.raises(RemoteProtocolError) as caught:
        decode(body=body)
    assert (caught.value.source, caught.value.pointer) == ("body", "/accepts/0/payTo")
    challenge = decode(("PAYMENT-REQUIRED", encode_header(REQUIRED)), body=body)
    assert challenge.offers == (samples.V2_OFFER,)
    assert "/accepts/0/payTo" in challenge.skipped[0]


@pytest.mark.parametrize("version", [2, "1", True, 1.0, None, [1]])
def test_a_body_of_another_version_is_not_ours(version: object) -> None:
    assert decode(body=json.dumps({**V1, "x402Version": version}).encode()) == Challenge(())


def test_v2_alone_leaves_a_body_for_people() -> None:
    reply = encode(replace(BOTH, offers=(samples.V2_OFFER,)))
    body = json.loads(reply.body)
    assert body["error"] == "Payment required"
    assert "PAYMENT-REQUIRED" in body["detail"]
    assert "x402Version" not in body  # clients of v1 look there
    assert decode(*reply.headers, body=reply.body) == replace(BOTH, offers=(samples.V2_OFFER,), token_endpoint=None)


def test_permit_token_alone_needs_no_header() -> None:
    reply = encode(replace(BOTH, offers=(samples.TOKEN_OFFER,)))
    assert find_all(reply.headers, "PAYMENT-REQUIRED") == []
    assert decode(*reply.headers, body=reply.body) == replace(BOTH, offers=(samples.TOKEN_OFFER,), resource=None)


def test_a_402_without_offers() -> None:
    reply = encode(Challenge(()))
    assert json.loads(reply.body) == {"error": Reason.PAYMENT_REQUIRED}
    assert decode(*reply.headers, body=reply.body) == Challenge(())


def test_an_offer_without_a_word_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="settle"):
        encode(Challenge((replace(samples.V2_OFFER, settle=SettleMode.BACKGROUND),)))
    with pytest.raises(LocalProtocolError, match="token_endpoint"):
        encode(Challenge((samples.TOKEN_OFFER,)))


@given(samples.challenges, st.lists(samples.v1_offers, max_size=2), samples.resources)
def test_a_challenge_comes_back_the_same(challenge: Challenge, first: list[Offer], resource: Resource) -> None:
    challenge = replace(challenge, offers=(*first, *challenge.offers), resource=resource if first else challenge.resource)
    reply = encode(challenge)
    back = decode(*reply.headers, body=reply.body)
    v2, v1, token = (tuple(offer for offer in challenge.offers if offer.dialect is dialect) for dialect in Dialect)
    assert back == Challenge(
        offers=v2 + v1 + token,
        error=challenge.error if challenge.offers else "",
        resource=challenge.resource if v2 or v1 else None,
        token_endpoint=challenge.token_endpoint if token else None,
    )
    assert back.extensions == (challenge.extensions if v2 else {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"Payment Required",
        b'<script>x = {"payment_scheme": 1}</script>',
        b'{"error":{"payment_scheme":{}}}',
        b'{"x402Version":1,"accepts":[]}',
        b'["payment_scheme"]',
        b'{"payment_scheme":null}',
        b"\xff\xfe",
    ],
)
def test_some_402s_are_not_ours(body: bytes) -> None:
    assert decode(("WWW-Authenticate", "Basic"), body=body) == Challenge(())


def test_header_names_in_any_case() -> None:
    assert decode(("payment-required", encode_header(REQUIRED))).offers == (samples.V2_OFFER,)


def test_two_challenges_are_none() -> None:
    value = encode_header(REQUIRED)
    with pytest.raises(RemoteProtocolError, match="two PAYMENT-REQUIRED"):
        decode(("PAYMENT-REQUIRED", value), ("payment-required", value))


@pytest.mark.parametrize("value", ["", "e30", "e30=", "eyJ4IjoxfQ", "{}", encode_header({**REQUIRED, "x402Version": 1})])
def test_a_malformed_header_is_an_error_whatever_the_body(value: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(("PAYMENT-REQUIRED", value), body=THEIR_BODY)
    assert caught.value.source == "PAYMENT-REQUIRED"


def test_a_malformed_body_is_an_error_alone_and_noted_beside_a_header() -> None:
    body = json.dumps(changed(THEIRS, "payment_scheme/payment_components/0/token", "0x")).encode()
    with pytest.raises(RemoteProtocolError) as caught:
        decode(body=body)
    assert caught.value.pointer == "/payment_scheme/payment_components/0/token"
    challenge = decode(("PAYMENT-REQUIRED", encode_header(REQUIRED)), body=body)
    assert challenge.offers == (samples.V2_OFFER,)
    assert challenge.token_endpoint is None
    assert len(challenge.skipped) == 1
    assert "/payment_components/0/token" in challenge.skipped[0]


def test_duplicate_keys_in_the_body_are_not_taken_for_a_stranger() -> None:
    with pytest.raises(RemoteProtocolError, match="twice"):
        decode(body=b'{"payment_scheme":{},"payment_scheme":{}}')


@given(
    st.none() | st.text(max_size=40) | samples.jsons.map(lambda value: encode_header({"x402Version": 2, "accepts": value})),
    st.binary(max_size=60)
    | samples.jsons.map(lambda value: json.dumps({"payment_scheme": value}).encode())
    | samples.jsons.map(lambda value: json.dumps({"x402Version": 1, "accepts": value}).encode()),
)
def test_any_402_is_a_challenge_or_one_error(header: str | None, body: bytes) -> None:
    headers = () if header is None else (("PAYMENT-REQUIRED", header),)
    with suppress(RemoteProtocolError):
        assert isinstance(decode(*headers, body=body), Challenge)


def test_a_request_with_a_permit_is_told_by_its_header_alone() -> None:
    assert http.carries_payment((("Accept", "*/*"), ("payment-signature", "anything")))
    assert http.carries_payment((("x-payment", "anything"),))
    assert not http.carries_payment((("Authorization", "Bearer x"), ("PAYMENT-RESPONSE", "x"), ("X-PAYMENT-RESPONSE", "x")))
