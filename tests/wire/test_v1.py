"""x402 v1 on the wire: the challenge in the body, networks by name, a payment that does not say which offer it answers."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.events import Challenge, Eip3009Permit, Method, Offer, Receipt, Resource, SettleMode
from x402core.registry import KNOWN, NetworkInfo
from x402core.values import Amount, Network, Seconds
from x402core.wire import v1, v2
from x402core.wire.bazaar import decode_output_schema
from x402core.wire.headers import encode_header
from x402core.wire.json import Json

from . import samples
from .test_v2 import CHECKED_PAY_TO, CHECKED_PAYER, CHECKED_USDC, PAYLOAD, TX, changed, header, paths

RESOURCE = Resource("https://api.example.com/premium", "Premium", "application/json")
ACCEPTS: dict[str, Any] = {
    "scheme": "exact",
    "network": "base-sepolia",
    "maxAmountRequired": "10000",
    "asset": CHECKED_USDC,
    "payTo": CHECKED_PAY_TO,
    "resource": "https://api.example.com/premium",
    "description": "Premium",
    "mimeType": "application/json",
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USDC", "version": "2"},
}
REQUIRED: dict[str, Any] = {"x402Version": 1, "error": "Payment required", "accepts": [ACCEPTS]}
PAYMENT: dict[str, Any] = {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": PAYLOAD["payload"]}
RESPONSE: dict[str, Any] = {"success": True, "transaction": TX, "network": "base-sepolia", "payer": CHECKED_PAYER}
OFFERS = (samples.V1_OFFER,)
EURC = replace(samples.V1_OFFER, asset=samples.SEPOLIA_USDC, name="EURC")


def decode_challenge(document: Any) -> Challenge:
    return v1.decode_challenge(document, KNOWN)


# --- golden ----------------------------------------------------------------------------------------------------------


def test_a_challenge_is_written_as_the_specification_shows() -> None:
    challenge = Challenge(OFFERS, "Payment required", RESOURCE)
    assert v1.encode_challenge(challenge, KNOWN) == REQUIRED
    assert decode_challenge(REQUIRED) == challenge


def test_a_payment_is_written_as_the_specification_shows() -> None:
    text = v1.encode_payment(samples.PERMIT_3009, samples.V1_OFFER, KNOWN)
    assert json.loads(base64.b64decode(text, validate=True)) == PAYMENT
    assert v1.decode_payment(text, OFFERS, KNOWN) == ((samples.PERMIT_3009, samples.V1_OFFER),)


def test_a_receipt_is_written_as_the_specification_shows() -> None:
    receipt = Receipt(True, samples.BASE_SEPOLIA, samples.PAYER, TX)
    assert json.loads(base64.b64decode(v1.encode_receipt(receipt, KNOWN))) == RESPONSE
    assert v1.decode_receipt(header(RESPONSE), KNOWN) == receipt
    failed = Receipt(False, samples.BASE_SEPOLIA, samples.PAYER, reason=Reason.INSUFFICIENT_FUNDS)
    written = {"success": False, "errorReason": "insufficient_funds", "transaction": "", "network": "base-sepolia"}
    assert json.loads(base64.b64decode(v1.encode_receipt(failed, KNOWN))) == {**written, "payer": CHECKED_PAYER}
    assert v1.decode_receipt(header(written), KNOWN) == replace(failed, payer=None)


def test_a_code_is_spelled_as_v1_spells_it() -> None:
    old = "invalid_exact_evm_payload_authorization_value"
    failed = Receipt(False, samples.BASE_SEPOLIA, samples.PAYER, reason=Reason.VALUE_MISMATCH)
    assert v1.receipt_document(failed, KNOWN)["errorReason"] == old
    assert v1.encode_challenge(Challenge(OFFERS, Reason.VALUE_MISMATCH, RESOURCE), KNOWN)["error"] == old


def test_what_a_bazaar_extension_says_stands_in_the_output_schema() -> None:
    asked: Json = {"type": "http", "method": "GET", "queryParams": {"city": "Rome"}}
    info: Json = {"input": asked, "output": {"type": "json", "example": {"sun": True}}}
    challenge = Challenge(OFFERS, "", RESOURCE, extensions={"bazaar": {"info": info, "schema": {}}})
    written = v1.encode_challenge(challenge, KNOWN)["accepts"]
    assert isinstance(written, list)
    (offer,) = json.loads(json.dumps(written))
    told = decode_output_schema(offer)
    assert told is not None
    assert told.document["info"] == info
    for none in (None, {}, {"info": {"input": {"type": "mcp"}}}):
        assert "outputSchema" not in str(v1.encode_challenge(replace(challenge, extensions={"bazaar": none}), KNOWN))


# --- round trips -----------------------------------------------------------------------------------------------------


@given(samples.v1_offers)
def test_an_offer_comes_back_the_same(offer: Offer) -> None:
    written = json.loads(json.dumps(v1.encode_challenge(Challenge((offer,), "", RESOURCE), KNOWN)))
    assert decode_challenge(written) == Challenge((offer,), "Payment required", RESOURCE)


@given(samples.v1_offers, samples.eip3009_permits)
def test_a_payment_comes_back_the_same(offer: Offer, permit: Eip3009Permit) -> None:
    permit = replace(permit, network=offer.network, asset=offer.asset)
    assert v1.decode_payment(v1.encode_payment(permit, offer, KNOWN), (offer,), KNOWN) == ((permit, offer),)


# --- which offer it answers ------------------------------------------------------------------------------------------


def test_a_payment_is_read_for_every_token_on_its_network() -> None:
    elsewhere = replace(samples.V1_OFFER, network=Network("eip155:8453"))
    found = v1.decode_payment(header(PAYMENT), (elsewhere, EURC, samples.V1_OFFER), KNOWN)
    assert [(permit.asset, offer) for permit, offer in found] == [
        (EURC.asset, EURC),
        (samples.USDC, samples.V1_OFFER),
    ]
    assert v1.decode_payment(header(PAYMENT), (elsewhere,), KNOWN) == ()


def test_a_registry_of_ones_own_has_names_of_its_own() -> None:
    own = KNOWN.with_network(NetworkInfo(Network("eip155:777"), "Sevens", v1_name="sevens"))
    offer = replace(samples.V1_OFFER, network=Network("eip155:777"))
    permit = replace(samples.PERMIT_3009, network=offer.network)
    text = v1.encode_payment(permit, offer, own)
    assert v1.decode_payment(text, (offer,), own) == ((permit, offer),)
    with pytest.raises(RemoteProtocolError) as caught:
        v1.decode_payment(text, (offer,), KNOWN)
    assert caught.value.reason is Reason.INVALID_NETWORK
    with pytest.raises(LocalProtocolError, match="no name"):
        v1.encode_payment(permit, offer, KNOWN)


# --- strangers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network", "Base-Sepolia"),
        ("network", " base-sepolia"),
        ("network", "eip155:84532"),
        ("network", "ethereum-mainnet"),  # a name of ours, not of v1's
        ("network", "solana"),
        ("network", "nowhere"),
        ("scheme", "upto"),
    ],
)
def test_a_strange_offer_hides_no_payable_one(path: str, value: str) -> None:
    strange = {**ACCEPTS, path: value, "payTo": "somebody"}
    challenge = decode_challenge({"x402Version": 1, "accepts": [strange, ACCEPTS]})
    assert challenge.offers == OFFERS
    (label,) = challenge.skipped
    assert value in label
    with pytest.raises(RemoteProtocolError) as caught:
        v1.decode_payment(header({**PAYMENT, path: value}), OFFERS, KNOWN)
    expected = Reason.UNSUPPORTED_SCHEME if path == "scheme" else Reason.INVALID_NETWORK
    assert (caught.value.pointer, caught.value.reason) == ("/" + path, expected)


def test_hostile_payments_in_the_wrong_header_are_sent_to_their_own() -> None:
    second = v2.encode_payment(v2.decode_payment(header(PAYLOAD)))
    with pytest.raises(RemoteProtocolError, match="PAYMENT-SIGNATURE") as caught:
        v1.decode_payment(second, OFFERS, KNOWN)
    assert (caught.value.source, caught.value.reason) == ("X-PAYMENT", Reason.INVALID_VERSION)


@pytest.mark.parametrize("version", [..., None, 2, "1", True, 1.0])
def test_another_version_is_not_guessed_at(version: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        v1.decode_payment(header(changed(PAYMENT, "x402Version", version)), OFFERS, KNOWN)
    assert (caught.value.pointer, caught.value.reason) == ("/x402Version", Reason.INVALID_VERSION)
    with pytest.raises(RemoteProtocolError):
        decode_challenge(json.loads(json.dumps(changed(REQUIRED, "x402Version", "1" if version == 1.0 else version))))


# --- what v1 cannot say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"settle": SettleMode.BACKGROUND}, "settle"),
        ({"method": Method.PERMIT2}, "method"),
        ({"scheme": "upto"}, "method"),
        ({"network": Network("eip155:42161")}, "network"),
        ({"timeout": Seconds(0)}, "timeout"),
    ],
)
def test_an_offer_without_a_word_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        v1.encode_challenge(Challenge((replace(samples.V1_OFFER, **change),), "", RESOURCE), KNOWN)
    assert caught.value.field == field


def test_every_offer_names_a_resource_and_every_receipt_a_payer() -> None:
    with pytest.raises(LocalProtocolError, match="resource"):
        v1.encode_challenge(Challenge(OFFERS), KNOWN)
    with pytest.raises(LocalProtocolError, match="payer"):
        v1.encode_receipt(Receipt(False, samples.BASE_SEPOLIA, None, reason=Reason.SIGNATURE), KNOWN)
    with pytest.raises(LocalProtocolError, match="offer"):
        v1.encode_payment(samples.PERMIT_2612, samples.V1_OFFER, KNOWN)
    with pytest.raises(LocalProtocolError, match="offer"):
        v1.encode_payment(samples.PERMIT_3009, samples.V2_OFFER, KNOWN)


# --- pointers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("scheme", ...),
        ("network", 1),
        ("maxAmountRequired", 10000),
        ("maxAmountRequired", "0.01"),
        ("asset", "USDC"),
        ("payTo", None),
        ("maxTimeoutSeconds", 0),
        ("maxTimeoutSeconds", "60"),
        ("extra", None),
        ("extra/name", ...),
        ("extra/version", 2),
        ("resource", 1),
        ("description", []),
    ],
)
def test_a_malformed_offer_is_pointed_at(path: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_challenge(changed(REQUIRED, f"accepts/0/{path}", value))
    assert (caught.value.source, caught.value.pointer) == ("body", f"/accepts/0/{path}")


@pytest.mark.parametrize(
    ("path", "value"),
    [("success", "true"), ("success", None), ("transaction", "0x"), ("network", "base"), ("payer", ""), ("payer", ...)],
)
def test_a_malformed_receipt_is_pointed_at(path: str, value: object) -> None:
    if path == "network":
        value = "eip155:84532"
    with pytest.raises(RemoteProtocolError) as caught:
        v1.decode_receipt(header(changed(RESPONSE, path, value)), KNOWN)
    assert (caught.value.source, caught.value.pointer) == ("X-PAYMENT-RESPONSE", "/" + path)


def test_nulls_and_strangers_are_let_be() -> None:
    entry = {key: value for key, value in ACCEPTS.items() if key not in ("description", "mimeType")}
    document = {"x402Version": 1, "error": None, "accepts": [{**entry, "outputSchema": None, "x": 1}], "later": {}}
    assert decode_challenge(document) == Challenge(OFFERS, "", Resource(RESOURCE.url))


@given(samples.jsons)
def test_any_document_is_a_value_or_one_error(value: Json) -> None:
    for path in paths(REQUIRED)[1:]:
        with suppress(RemoteProtocolError):
            decode_challenge(changed(REQUIRED, path, value))
    for path in paths(PAYMENT)[1:]:
        with suppress(RemoteProtocolError):
            v1.decode_payment(encode_header(changed(PAYMENT, path, value)), OFFERS, KNOWN)
    for path in paths(RESPONSE)[1:]:
        with suppress(RemoteProtocolError):
            v1.decode_receipt(encode_header(changed(RESPONSE, path, value)), KNOWN)


def test_amounts_are_exact() -> None:
    assert decode_challenge(changed(REQUIRED, "accepts/0/maxAmountRequired", str(2**256 - 1))).offers[0].amount == Amount(
        2**256 - 1
    )
