"""The permit-token dialect: round trips, x402-mock's defects where they show on the wire, exact pointers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Challenge, Dialect, Eip2612Permit, Method, Payment, SettleMode, Token
from x402core.values import Amount, Millis, Seconds
from x402core.wire import permit_token
from x402core.wire.json import dumps, loads

from . import samples
from .test_v2 import changed, paths

# What x402-mock 0.1.1 answers (seeds.md 1.2): a naive time, a float amount, nothing of ours.
THEIRS: dict[str, Any] = {
    "reason": "Missing authorization token",
    "access_token_endpoint": "/token",
    "payment_scheme": {
        "payment_components": [
            {
                "payment_type": "evm",
                "amount": 0.5,
                "currency": "USDC",
                "metadata": {
                    "symbol": "USDC",
                    "name": "USDC",
                    "decimals": 6,
                    "network": "Ethereum-Sepolia",
                    "version": "2",
                    "wallet_address": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
                },
                "created_at": "2026-02-01T11:22:33.444555",
                "token": "0x1c7D4B196Cb0C7B01d743Fbc6116a902379C7238",
                "chain_id": 11155111,
            }
        ],
        "protocol_version": "Version 0.1",
    },
    "payment_instruction": "Payment required to access this resource.",
}
COMPONENT = "payment_scheme/payment_components/0"
REQUEST: dict[str, Any] = {
    "version": "Version 0.1",
    "permit": {
        "permit_type": "EIP2612",
        "signature": {
            "signature_type": "EIP2612",
            "created_at": "2026-02-01T11:22:33.444555",
            "v": 28,
            "r": "0x" + "00" * 31 + "05",
            "s": "0x" + "ab" * 32,
        },
        "deadline": 1893456000,
        "created_at": "2026-02-01T11:22:33.444555",
        "owner": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "spender": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "token": "0x1c7D4B196Cb0C7B01d743Fbc6116a902379C7238",
        "value": 500000,
        "nonce": 7,
        "chain_id": 11155111,
    },
}
REPLY: dict[str, Any] = {"access_token": "eyJleHAi.c2ln", "token_type": "Bearer", "expires_in": 300, "metadata": {}}
NOW = Seconds(1_800_000_000)


def read(document: object) -> Challenge:
    return permit_token.decode_challenge(loads(json.dumps(document).encode()))


# --- the challenge ---------------------------------------------------------------------------------------------------


def test_their_challenge_is_read() -> None:
    assert read(THEIRS) == Challenge((samples.TOKEN_OFFER,), "Missing authorization token", token_endpoint="/token")


def test_our_challenge_is_theirs_and_a_little_more() -> None:
    body = permit_token.encode_challenge(read(THEIRS), created_at=samples.CREATED_AT)
    ours = json.loads(dumps(body))
    component = ours["payment_scheme"]["payment_components"][0]
    assert component.pop("amount_atomic") == "500000"
    assert component.pop("pay_to") == "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
    assert component.pop("max_timeout_seconds") == 600
    expected = changed(THEIRS, f"{COMPONENT}/created_at", samples.CREATED_AT)
    expected = changed(expected, f"{COMPONENT}/metadata/network", "eip155:11155111")
    assert ours == {**expected, "payment_instruction": ours["payment_instruction"]}


@given(samples.challenges)
def test_a_challenge_comes_back_the_same(challenge: Challenge) -> None:
    body = dumps(permit_token.encode_challenge(challenge, created_at=samples.CREATED_AT))
    back = permit_token.decode_challenge(loads(body))
    ours = tuple(offer for offer in challenge.offers if offer.dialect is Dialect.PERMIT_TOKEN)
    assert back == Challenge(ours, challenge.error, token_endpoint=challenge.token_endpoint)


def test_a5_a_servers_decimals_are_stated_not_trusted() -> None:
    """Defect A5: a server said decimals=18, and the client signed 500 billion USDC under a cap of 0.8."""
    offer = read(changed(THEIRS, f"{COMPONENT}/metadata/decimals", 18)).offers[0]
    assert (offer.amount, offer.decimals) == (5 * 10**17, 18)  # for policy to compare with its own 6, and refuse
    both = changed(changed(THEIRS, f"{COMPONENT}/metadata/decimals", 18), f"{COMPONENT}/amount_atomic", "500000")
    with pytest.raises(RemoteProtocolError) as caught:
        read(both)
    assert caught.value.pointer == f"/{COMPONENT}/amount_atomic"


@pytest.mark.parametrize(
    ("written", "atomic"),
    [("0.5", 500000), ("1", 1000000), ("1.0", 1000000), ("1e-06", 1), ("0", 0), ("0.000001", 1), ("5E-1", 500000)],
)
def test_a16_an_amount_is_what_was_written(written: str, atomic: int) -> None:
    """Defect A16: floats on the wire, whole numbers refused, fractions of an atomic unit found out later."""
    body = json.dumps(changed(THEIRS, f"{COMPONENT}/amount", "@")).replace('"@"', written)
    assert permit_token.decode_challenge(loads(body.encode())).offers[0].amount == atomic


@pytest.mark.parametrize("written", ["1e-7", "0.30000000000000004", "-0.5", "-1", '"0.5"', "true", "1e72"])
def test_a16_an_amount_is_never_rounded(written: str) -> None:
    body = json.dumps(changed(THEIRS, f"{COMPONENT}/amount", "@")).replace('"@"', written)
    with pytest.raises(RemoteProtocolError) as caught:
        permit_token.decode_challenge(loads(body.encode()))
    assert caught.value.pointer == f"/{COMPONENT}/amount"


def test_amounts_are_exact_numbers_on_the_wire() -> None:
    offer = replace(samples.TOKEN_OFFER, amount=Amount(10**18 + 1), decimals=18)
    body = dumps(permit_token.encode_challenge(Challenge((offer,), token_endpoint="/token"), created_at=samples.CREATED_AT))
    assert b'"amount":1.000000000000000001,' in body
    document = loads(body)
    assert isinstance(document, dict)
    assert permit_token.decode_challenge(document).offers == (offer,)


def test_a19_times_are_aware_and_in_utc() -> None:
    """Defect A19: naive local times."""
    text = permit_token.timestamp(Millis(1_800_000_000_999))
    assert text == "2027-01-15T08:00:00Z"
    assert datetime.fromisoformat(text).utcoffset() == timedelta(0)
    assert permit_token.timestamp(Millis(0)) == "1970-01-01T00:00:00Z"
    for beyond in (2**63, 10**40, -(10**30)):
        with pytest.raises(LocalProtocolError, match="now"):
            permit_token.timestamp(Millis(beyond))


def test_the_spender_and_the_payee_may_differ() -> None:
    offer = replace(samples.TOKEN_OFFER, spender=samples.PAYER)
    body = permit_token.encode_challenge(Challenge((offer,), token_endpoint="/token"), created_at=samples.CREATED_AT)
    document: Any = json.loads(dumps(body))
    component = document["payment_scheme"]["payment_components"][0]
    assert component["metadata"]["wallet_address"] == component["spender"] == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert read(document).offers == (offer,)
    with pytest.raises(RemoteProtocolError, match="/spender"):
        read(changed(document, f"{COMPONENT}/spender", samples.USDC))
    del component["spender"]  # the wallet is whom the token will let spend, said or not
    assert read(document).offers == (offer,)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"decimals": None}, "decimals"), ({"method": Method.EIP3009}, "method"), ({"timeout": Seconds(0)}, "timeout")],
)
def test_an_offer_without_a_word_is_refused(change: dict[str, Any], field: str) -> None:
    challenge = Challenge((replace(samples.TOKEN_OFFER, **change),), token_endpoint="/token")
    with pytest.raises(LocalProtocolError) as caught:
        permit_token.encode_challenge(challenge, created_at=samples.CREATED_AT)
    assert caught.value.field == field


def test_a_challenge_needs_an_endpoint() -> None:
    with pytest.raises(LocalProtocolError, match="token_endpoint"):
        permit_token.encode_challenge(Challenge((samples.TOKEN_OFFER,)), created_at=samples.CREATED_AT)


def test_a_strange_component_hides_no_payable_one() -> None:
    component = THEIRS["payment_scheme"]["payment_components"][0]
    later = {"payment_type": "evm", "caip2": "eip155:1", "amount": 0.5, "pay_to": None}  # x402-mock 0.3.0
    document = changed(THEIRS, "payment_scheme/payment_components", [{"payment_type": "svm\n"}, later, component])
    challenge = read(document)
    assert challenge.offers == (samples.TOKEN_OFFER,)
    assert challenge.skipped == ("permit-token on svm?", "permit-token of a later version on eip155:1")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("access_token_endpoint", ...),
        ("access_token_endpoint", ""),
        ("access_token_endpoint", "/to ken"),
        ("access_token_endpoint", "/token\r\nX: y"),
        ("access_token_endpoint", 1),
        ("reason", 1),
        ("payment_scheme", []),
        ("payment_scheme/protocol_version", ...),
        ("payment_scheme/protocol_version", "Version 0.2"),
        ("payment_scheme/payment_components", {}),
        (COMPONENT, 1),
        (f"{COMPONENT}/payment_type", ...),
        (f"{COMPONENT}/amount", ...),
        (f"{COMPONENT}/amount_atomic", 500000),
        (f"{COMPONENT}/amount_atomic", "500001"),
        (f"{COMPONENT}/token", "0x0"),
        (f"{COMPONENT}/chain_id", ...),
        (f"{COMPONENT}/chain_id", "11155111"),
        (f"{COMPONENT}/chain_id", 0),
        (f"{COMPONENT}/chain_id", True),
        (f"{COMPONENT}/chain_id", 1.5),
        (f"{COMPONENT}/chain_id", 10**18),
        (f"{COMPONENT}/pay_to", "me"),
        (f"{COMPONENT}/max_timeout_seconds", "600"),
        (f"{COMPONENT}/max_timeout_seconds", 0),
        (f"{COMPONENT}/metadata", ...),
        (f"{COMPONENT}/metadata/decimals", ...),
        (f"{COMPONENT}/metadata/decimals", "6"),
        (f"{COMPONENT}/metadata/decimals", -1),
        (f"{COMPONENT}/metadata/decimals", 256),
        (f"{COMPONENT}/metadata/name", ...),
        (f"{COMPONENT}/metadata/version", 2),
        (f"{COMPONENT}/metadata/symbol", 1),
        (f"{COMPONENT}/metadata/wallet_address", ...),
        (f"{COMPONENT}/metadata/wallet_address", "0x"),
    ],
)
def test_a_malformed_challenge_is_pointed_at(path: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(changed(THEIRS, path, value))
    assert (caught.value.source, caught.value.pointer) == ("body", "/" + path)


# --- the token request -----------------------------------------------------------------------------------------------


def test_their_token_request_is_read() -> None:
    assert permit_token.decode_token_request(json.dumps(REQUEST).encode()) == Payment(samples.PERMIT_2612)


def test_our_token_request_is_theirs() -> None:
    body = permit_token.encode_token_request(samples.PERMIT_2612, created_at="2026-02-01T11:22:33.444555")
    assert json.loads(body) == REQUEST


@given(samples.eip2612_permits)
def test_a_token_request_comes_back_the_same(permit: Eip2612Permit) -> None:
    body = permit_token.encode_token_request(permit, created_at=samples.CREATED_AT)
    assert permit_token.decode_token_request(body) == Payment(permit)


@pytest.mark.parametrize("r", ["0x5", "0x05", "0x" + "00" * 31 + "05"])
def test_a_signature_without_leading_zeros_is_padded(r: str) -> None:
    """eth_account's ``hex(r)`` drops them; x402-mock 0.1.1 itself pads."""
    body = json.dumps(changed(REQUEST, "permit/signature/r", r)).encode()
    assert permit_token.decode_token_request(body).permit.signature == samples.PERMIT_2612.signature


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(65), bytes(64) + b"\x1d", bytes(66)])
def test_a_signature_the_dialect_cannot_say_is_refused(signature: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="signature"):
        permit_token.encode_token_request(replace(samples.PERMIT_2612, signature=signature), created_at=samples.CREATED_AT)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("version", ..., Reason.INVALID_PAYLOAD),
        ("version", "Version 0.2", Reason.INVALID_VERSION),
        ("permit", ..., Reason.INVALID_PAYLOAD),
        ("permit", "EIP2612", Reason.INVALID_PAYLOAD),
        ("permit/permit_type", "ERC3009", Reason.UNSUPPORTED_SCHEME),
        ("permit/owner", "0xf39F", Reason.INVALID_PAYLOAD),
        ("permit/spender", None, Reason.INVALID_PAYLOAD),
        ("permit/token", 5, Reason.INVALID_PAYLOAD),
        ("permit/value", "500000", Reason.INVALID_PAYLOAD),
        ("permit/value", 0.5, Reason.INVALID_PAYLOAD),
        ("permit/value", 2**256, Reason.INVALID_PAYLOAD),
        ("permit/value", -1, Reason.INVALID_PAYLOAD),
        ("permit/nonce", -1, Reason.INVALID_PAYLOAD),  # A13: x402-mock's own "could not read the nonce"
        ("permit/nonce", True, Reason.INVALID_PAYLOAD),
        ("permit/deadline", ..., Reason.INVALID_PAYLOAD),
        ("permit/deadline", 1893456000.5, Reason.INVALID_PAYLOAD),
        ("permit/chain_id", 0, Reason.INVALID_NETWORK),
        ("permit/chain_id", "11155111", Reason.INVALID_NETWORK),
        ("permit/signature", "0x", Reason.INVALID_PAYLOAD),
        ("permit/signature/signature_type", "ERC1271", Reason.UNSUPPORTED_SCHEME),
        ("permit/signature/v", 0, Reason.INVALID_PAYLOAD),
        ("permit/signature/v", "28", Reason.INVALID_PAYLOAD),
        ("permit/signature/r", "0x", Reason.INVALID_PAYLOAD),
        ("permit/signature/r", "0x" + "0" * 65, Reason.INVALID_PAYLOAD),
        ("permit/signature/r", "ab" * 32, Reason.INVALID_PAYLOAD),
        ("permit/signature/s", "0x_1", Reason.INVALID_PAYLOAD),
        ("permit/signature/s", 1, Reason.INVALID_PAYLOAD),
    ],
)
def test_a15_a_bad_permit_is_pointed_at(path: str, value: object, reason: Reason) -> None:
    """Defect A15: a bad permit was a 500 with a traceback."""
    with pytest.raises(RemoteProtocolError) as caught:
        permit_token.decode_token_request(json.dumps(changed(REQUEST, path, value)).encode())
    assert (caught.value.pointer, caught.value.reason, caught.value.status) == ("/" + path, reason, 400)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"permit"', b"\xff", b"{}" * 40000, b'{"version":1,"version":1}'])
def test_a15_bad_json_is_the_peers_fault(body: bytes) -> None:
    """Defect A15: bad JSON was a 500 with a traceback."""
    with pytest.raises(RemoteProtocolError) as caught:
        permit_token.decode_token_request(body)
    assert 400 <= caught.value.status < 500
    reply = permit_token.encode_refusal(caught.value)
    assert reply.status == caught.value.status
    assert json.loads(reply.body)["error"].startswith("Verification failed: body")


# --- the token reply -------------------------------------------------------------------------------------------------


@given(st.from_regex(r"[A-Za-z0-9._~+/-]{1,200}=*", fullmatch=True), st.integers(0, 366 * 86400))
def test_a_token_comes_back_the_same(value: str, life: int) -> None:
    token = Token(value, Seconds(NOW + life))
    reply = permit_token.encode_token_reply(token, NOW, {"network": "eip155:1"})
    assert reply.status == 200
    assert ("Cache-Control", "no-store") in reply.headers
    assert json.loads(reply.body)["metadata"]["network"] == "eip155:1"
    assert permit_token.decode_token_reply(reply.status, reply.body, NOW) == token


def test_a_token_that_is_none_is_not_handed_out() -> None:
    for token in (Token("a b", Seconds(NOW + 1)), Token("", Seconds(NOW + 1)), Token("abc", Seconds(NOW - 1))):
        with pytest.raises(LocalProtocolError, match="token"):
            permit_token.encode_token_reply(token, NOW)


@pytest.mark.parametrize("life", [..., None, 366 * 86400 + 1, 2**256 - 1])
def test_no_token_lives_for_ever(life: object) -> None:
    body = json.dumps(changed(REPLY, "expires_in", life)).encode()
    assert permit_token.decode_token_reply(200, body, NOW).expires_at == NOW + 366 * 86400


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("access_token", ...),
        ("access_token", ""),
        ("access_token", "a b"),
        ("access_token", "a\r\nX-Evil: 1"),
        ("access_token", "é"),
        ("access_token", "a" * 8193),
        ("token_type", ...),
        ("token_type", "MAC"),
        ("expires_in", "300"),
        ("expires_in", -1),
        ("expires_in", 0.5),
        ("expires_in", True),
    ],
)
def test_a_malformed_token_reply_is_pointed_at(path: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        permit_token.decode_token_reply(200, json.dumps(changed(REPLY, path, value)).encode(), NOW)
    assert caught.value.pointer == "/" + path


def test_token_type_in_any_case() -> None:
    body = json.dumps({**REPLY, "token_type": "bearer"}).encode()
    assert permit_token.decode_token_reply(200, body, NOW).value == "eyJleHAi.c2ln"


# --- refusals --------------------------------------------------------------------------------------------------------


@given(st.sampled_from(Reason), st.sampled_from((400, 402, 409, 503)))
def test_a_refusal_carries_its_reason(reason: Reason, status: int) -> None:
    reply = permit_token.encode_refusal(Refusal(reason, "no"), status=status)
    document = json.loads(reply.body)
    assert (reply.status, document["status"], document["title"], document["error"]) == (
        status,
        status,
        reason,
        "Verification failed: no",
    )
    assert permit_token.decode_refusal(reply.status, reply.body).reason is reason


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b'{"error":"Verification failed: Permit has expired"}', Reason.INVALID_PAYLOAD),
        (500, b'{"error":"Token issuance failed"}', Reason.UNAVAILABLE),
        (429, b"", Reason.UNAVAILABLE),
        (400, b"<html>", Reason.INVALID_PAYLOAD),
        (400, b'{"title":"insufficient_funds"}', Reason.INSUFFICIENT_FUNDS),
        (503, b'{"title":["insufficient_funds"]}', Reason.UNAVAILABLE),
        (400, b"[1]", Reason.INVALID_PAYLOAD),
        (402, json.dumps(THEIRS).encode(), Reason.INVALID_PAYLOAD),
    ],
)
def test_any_refusal_is_read(status: int, body: bytes, reason: Reason) -> None:
    refusal = permit_token.decode_refusal(status, body)
    assert refusal.reason is reason
    assert refusal.detail == f"the token endpoint answered {status}"  # A6, A17: no peer text, no exception
    with pytest.raises(RemoteProtocolError, match=str(status)):
        permit_token.decode_token_reply(status, body, NOW)


# --- anything at all -------------------------------------------------------------------------------------------------

DECODERS: list[Callable[[bytes], object]] = [
    lambda data: permit_token.decode_challenge(loads(data)),
    permit_token.decode_token_request,
    lambda data: permit_token.decode_token_reply(200, data, NOW),
]


@given(st.binary(max_size=60) | samples.jsons.map(lambda value: json.dumps(value).encode()))
@example(b"1")
def test_any_bytes_are_one_error(data: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(RemoteProtocolError):
            decode(data)
    assert isinstance(permit_token.decode_refusal(400, data), Refusal)


@given(st.data(), samples.jsons | st.decimals(-(10**20), 10**20, places=3).map(float))
def test_any_change_to_a_document_is_a_value_or_one_error(data: st.DataObject, value: Any) -> None:
    for document in (THEIRS, REQUEST, REPLY):
        path = data.draw(st.sampled_from(paths(copy.deepcopy(document))[1:]))
        body = json.dumps(changed(document, path, value)).encode()
        for decode in DECODERS:
            with suppress(RemoteProtocolError):
                decode(body)


def test_the_settle_mode_is_not_on_the_wire() -> None:
    """The dialect mints its token before the chain has moved; whatever a server does first is its own affair."""
    offer = replace(samples.TOKEN_OFFER, settle=SettleMode.BEFORE)
    body = permit_token.encode_challenge(Challenge((offer,), token_endpoint="/token"), created_at=samples.CREATED_AT)
    assert Decimal("0.5") in body["payment_scheme"]["payment_components"][0].values()  # type: ignore[index,call-overload,union-attr]
    assert permit_token.decode_challenge(loads(dumps(body))).offers[0].settle is SettleMode.BACKGROUND
