"""x402 v2 on the wire: golden documents, round trips, exact pointers, and whatever a stranger sends."""

from __future__ import annotations

import base64
import copy
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.events import Challenge, Dialect, Method, Offer, Payment, Permit, Receipt, Resource, SettleMode
from x402core.values import Address, Amount, Network, Seconds
from x402core.wire import v2
from x402core.wire.headers import decode_header, encode_header
from x402core.wire.json import Json

from . import samples

CHECKED_USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
CHECKED_PAYER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
CHECKED_PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
TX = "0x" + "ab" * 32

ACCEPTS: dict[str, Any] = {
    "scheme": "exact",
    "network": "eip155:84532",
    "amount": "10000",
    "asset": CHECKED_USDC,
    "payTo": CHECKED_PAY_TO,
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USDC", "version": "2"},
}
REQUIRED: dict[str, Any] = {
    "x402Version": 2,
    "error": "Payment required",
    "resource": {"url": "https://api.example.com/premium", "description": "Premium", "mimeType": "application/json"},
    "accepts": [ACCEPTS],
    "extensions": {"bazaar": {"info": {"input": {"type": "http", "method": "GET"}}, "schema": {}}},
}
PAYLOAD: dict[str, Any] = {
    "x402Version": 2,
    "resource": {"url": "https://api.example.com/premium"},
    "accepted": ACCEPTS,
    "payload": {
        "signature": "0x" + samples.PERMIT_3009.signature.hex(),
        "authorization": {
            "from": CHECKED_PAYER,
            "to": CHECKED_PAY_TO,
            "value": "10000",
            "validAfter": "0",
            "validBefore": "1893456000",
            "nonce": "0x" + "11" * 32,
        },
    },
}
UPTO: dict[str, Any] = {**ACCEPTS, "scheme": "upto"}  # as the specification's own example: nobody is named to settle it
RESPONSE: dict[str, Any] = {
    "success": True,
    "payer": CHECKED_PAYER,
    "transaction": TX,
    "network": "eip155:84532",
    "amount": "10000",
}


def header(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return the document with one member set, or dropped for ``...``."""
    document = copy.deepcopy(document)
    *parents, last = path.strip("/").split("/")
    at: Any = document
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return document


# --- golden ----------------------------------------------------------------------------------------------------------


def test_a_challenge_is_written_as_the_specification_shows() -> None:
    resource = Resource("https://api.example.com/premium", "Premium", "application/json")
    challenge = Challenge((samples.V2_OFFER,), "Payment required", resource, extensions=REQUIRED["extensions"])
    assert v2.encode_challenge(challenge) == REQUIRED
    assert v2.decode_challenge(REQUIRED) == challenge


def test_a_payment_is_written_as_the_specification_shows() -> None:
    payment = Payment(samples.PERMIT_3009, samples.V2_OFFER, Resource("https://api.example.com/premium"))
    text = v2.encode_payment(payment)
    assert json.loads(base64.b64decode(text, validate=True)) == PAYLOAD
    assert v2.decode_payment(text) == payment
    assert v2.decode_payment(header(PAYLOAD)) == payment


def test_a_receipt_is_written_as_the_specification_shows() -> None:
    receipt = Receipt(True, samples.BASE_SEPOLIA, samples.PAYER, TX, Amount(10000))
    assert json.loads(base64.b64decode(v2.encode_receipt(receipt))) == RESPONSE
    assert v2.decode_receipt(header(RESPONSE)) == receipt


def test_what_is_absent_is_left_out_not_null() -> None:
    assert v2.encode_challenge(Challenge(())) == {"x402Version": 2, "accepts": []}
    payment = decode_header(v2.encode_payment(Payment(samples.PERMIT_3009, samples.V2_OFFER)), source="")
    assert isinstance(payment, dict)
    assert list(payment) == ["x402Version", "accepted", "payload"]
    failed = Receipt(False, samples.BASE_SEPOLIA, None, reason=Reason.SIMULATION_FAILED)
    assert decode_header(v2.encode_receipt(failed), source="") == {
        "success": False,
        "errorReason": "invalid_exact_evm_transaction_simulation_failed",
        "transaction": "",
        "network": "eip155:84532",
    }


def test_upfront_is_the_one_flow_with_a_name_on_the_wire() -> None:
    assert v2.encode_offer(samples.V2_OFFER)["extra"] == {"name": "USDC", "version": "2"}
    upfront = replace(samples.V2_OFFER, settle=SettleMode.BEFORE)
    assert v2.encode_offer(upfront)["extra"] == {"name": "USDC", "version": "2", "paymentFlow": "upfront"}
    spelled = changed(REQUIRED, "accepts/0/extra/paymentFlow", "authorization")
    assert v2.decode_challenge(spelled).offers == (samples.V2_OFFER,)


# --- round trips -----------------------------------------------------------------------------------------------------


@given(samples.challenges)
def test_a_challenge_comes_back_the_same(challenge: Challenge) -> None:
    back = v2.decode_challenge(decode_header(encode_header(v2.encode_challenge(challenge)), source="", most=10**6))
    ours = tuple(offer for offer in challenge.offers if offer.dialect is Dialect.V2)
    assert back == replace(challenge, offers=ours, token_endpoint=None)
    assert back.extensions == challenge.extensions


@given(samples.paid(), st.none() | samples.resources, samples.extensions)
def test_a_payment_comes_back_the_same(
    paid: tuple[Offer, Permit], resource: Resource | None, extensions: dict[str, Json]
) -> None:
    offer, permit = paid
    payment = Payment(permit, offer, resource, extensions)
    back = v2.decode_payment(v2.encode_payment(payment))
    assert back == payment
    assert back.extensions == extensions


@given(samples.receipts)
def test_a_receipt_comes_back_the_same(receipt: Receipt) -> None:
    assert v2.decode_receipt(v2.encode_receipt(receipt)) == receipt


@pytest.mark.parametrize("length", [65, 66, 97, 8192])
def test_a_contract_wallets_long_signature_travels(length: int) -> None:
    permit = replace(samples.PERMIT_3009, signature=b"\x01" * length)
    assert v2.decode_payment(v2.encode_payment(Payment(permit, samples.V2_OFFER))).permit == permit


@pytest.mark.parametrize("length", [0, 64, 8193])
def test_a_signature_of_another_length_does_not(length: int) -> None:
    permit = replace(samples.PERMIT_3009, signature=b"\x01" * length)
    with pytest.raises(LocalProtocolError, match="signature"):
        v2.encode_payment(Payment(permit, samples.V2_OFFER))
    with pytest.raises(RemoteProtocolError) as caught:
        v2.decode_payment(header(changed(PAYLOAD, "payload/signature", "0x" + "01" * length)))
    assert caught.value.pointer == "/payload/signature"


# --- the echo --------------------------------------------------------------------------------------------------------


def test_the_accepted_offer_is_echoed_unchanged() -> None:
    entry = {**ACCEPTS, "payTo": samples.PAY_TO, "extra": {**ACCEPTS["extra"], "assetTransferMethod": "eip3009", "x": [None]}}
    offer = v2.decode_challenge({"x402Version": 2, "accepts": [entry]}).offers[0]
    assert offer == samples.V2_OFFER
    known = replace(offer, decimals=6, symbol="USDC")  # what a policy's own table adds is no change
    for echoed in (offer, known):
        document = decode_header(v2.encode_payment(Payment(samples.PERMIT_3009, echoed)), source="")
        assert isinstance(document, dict)
        assert document["accepted"] == entry


@pytest.mark.parametrize(
    "change",
    [{"amount": Amount(1)}, {"pay_to": samples.PAYER}, {"timeout": Seconds(61)}, {"settle": SettleMode.BEFORE}],
)
def test_an_offer_changed_after_reading_is_not_echoed(change: dict[str, Any]) -> None:
    offer = replace(v2.decode_challenge(REQUIRED).offers[0], **change)
    with pytest.raises(LocalProtocolError, match="accepted"):
        v2.encode_payment(Payment(samples.PERMIT_3009, offer))


@pytest.mark.parametrize("raw", [{}, {"scheme": "upto", "network": "eip155:1"}, {**ACCEPTS, "amount": 1}])
def test_an_offer_with_raw_json_of_another_is_not_echoed(raw: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match="accepted"):
        v2.encode_payment(Payment(samples.PERMIT_3009, replace(samples.V2_OFFER, raw=raw)))


# --- what v2 cannot say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"settle": SettleMode.BACKGROUND}, "settle"),
        ({"scheme": "upto"}, "method"),
        ({"scheme": "batch-settlement"}, "method"),
        ({"scheme": "upto", "method": Method.PERMIT2}, "facilitator"),
        ({"scheme": "upto", "method": Method.PERMIT2, "facilitator": samples.SETTLER, "settle": SettleMode.BEFORE}, "settle"),
        ({"network": Network("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")}, "network"),
        ({"timeout": Seconds(0)}, "timeout"),
        ({"dialect": Dialect.PERMIT_TOKEN}, "dialect"),
    ],
)
def test_an_offer_without_a_word_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        v2.encode_offer(replace(samples.V2_OFFER, **change))
    assert caught.value.field == field


def test_a_payment_that_would_read_as_another_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="accepted"):
        v2.encode_payment(Payment(samples.PERMIT_3009))
    with pytest.raises(LocalProtocolError, match="permit"):
        v2.encode_payment(Payment(samples.PERMIT_2612, samples.V2_OFFER))
    with pytest.raises(LocalProtocolError, match="permit"):
        v2.encode_payment(Payment(samples.PERMIT_3009, replace(samples.V2_OFFER, network=samples.SEPOLIA)))
    for permit, offer in [
        (samples.PERMIT_PERMIT2, samples.UPTO_OFFER),
        (samples.PERMIT_UPTO, samples.PERMIT2_OFFER),
        (samples.PERMIT_7710, replace(samples.ERC7710_OFFER, amount=Amount(1))),
        (samples.PERMIT_7710, replace(samples.ERC7710_OFFER, pay_to=samples.PAYER)),
    ]:
        with pytest.raises(LocalProtocolError, match="permit"):
            v2.encode_payment(Payment(permit, offer))


def test_pending_names_a_transaction() -> None:
    with pytest.raises(LocalProtocolError, match="transaction"):
        v2.encode_receipt(Receipt(False, samples.BASE_SEPOLIA, None, reason=Reason.SETTLEMENT_PENDING))
    pending = Receipt(False, samples.BASE_SEPOLIA, None, TX, reason=Reason.SETTLEMENT_PENDING)
    assert v2.decode_receipt(v2.encode_receipt(pending)) == pending


# --- offers in other tongues -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        ({"scheme": "upto", "network": "eip155:8453", "amount": []}, "upto/permit2 on eip155:8453 without"),
        ({"scheme": "batch-settlement", "network": "eip155:8453"}, "batch-settlement on eip155:8453"),
        ({"scheme": "exact", "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"}, "exact on solana:5eykt4UsFv8P8NJdTREpY1"),
        ({"scheme": "exact", "network": "cloudflare:402"}, "exact on cloudflare:402"),
        ({"scheme": "exact", "network": "base"}, "exact on base"),
        (changed(ACCEPTS, "extra/assetTransferMethod", "permit3"), "exact/permit3 on eip155:84532"),
        (changed(ACCEPTS, "extra/assetTransferMethod", "default"), "exact/default on eip155:84532"),
        (changed(ACCEPTS, "extra/paymentFlow", "escrow"), "exact on eip155:84532, flow escrow, which no scheme here takes"),
        (changed(ACCEPTS, "extra/paymentFlow", "Upfront"), "exact on eip155:84532, flow Upfront"),
        (UPTO, "upto/permit2 on eip155:84532 without a facilitatorAddress"),
        (
            changed(UPTO, "extra/paymentFlow", "upfront"),
            "upto/permit2 on eip155:84532, flow upfront, which no scheme here takes",
        ),
        (changed(UPTO, "extra/assetTransferMethod", "eip3009"), "upto on eip155:84532"),
    ],
)
def test_a_strange_offer_hides_no_payable_one(entry: dict[str, Any], label: str) -> None:
    challenge = v2.decode_challenge({"x402Version": 2, "accepts": [entry, ACCEPTS]})
    assert challenge.offers == (samples.V2_OFFER,)
    assert len(challenge.skipped) == 1
    assert challenge.skipped[0].startswith(label)


def test_what_is_skipped_is_safe_to_print() -> None:
    entry: Json = {"scheme": "\x1b[2J\u202e" + "x" * 4000, "network": "eip155:1"}
    (label,) = v2.decode_challenge({"x402Version": 2, "accepts": [entry]}).skipped
    assert label.isprintable()
    assert len(label) <= 120
    assert v2.decode_challenge({"x402Version": 2, "accepts": [], "error": "no\nlog\x00injection"}).error == "no?log?injection"


def test_a_payment_in_a_strange_tongue_is_an_error() -> None:
    for path, value, reason in [
        ("accepted/scheme", "batch-settlement", Reason.UNSUPPORTED_SCHEME),
        ("accepted/network", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", Reason.INVALID_NETWORK),
        ("accepted/network", "eip155:007", Reason.INVALID_NETWORK),
        ("accepted/extra/assetTransferMethod", "permit3", Reason.UNSUPPORTED_SCHEME),
        ("accepted/extra/paymentFlow", "escrow", Reason.UNSUPPORTED_SCHEME),
    ]:
        with pytest.raises(RemoteProtocolError) as caught:
            v2.decode_payment(header(changed(PAYLOAD, path, value)))
        assert (caught.value.pointer, caught.value.reason) == ("/" + path, reason)


def test_an_upto_payment_must_say_who_settles() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        v2.decode_payment(header(changed(PAYLOAD, "accepted/scheme", "upto")))
    expected = ("/accepted/extra/facilitatorAddress", Reason.INVALID_REQUIREMENTS)
    assert (caught.value.pointer, caught.value.reason) == expected


def test_a_payment_of_version_1_is_sent_to_its_own_header() -> None:
    with pytest.raises(RemoteProtocolError, match="X-PAYMENT") as caught:
        v2.decode_payment(header({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": {}}))
    assert caught.value.reason is Reason.INVALID_VERSION


# --- pointers --------------------------------------------------------------------------------------------------------

ANY_OFFER = [
    ("scheme", ...),
    ("scheme", 1),
    ("network", ...),
    ("network", None),
    ("network", "eip155:0x1"),
    ("network", "eip155:"),
    ("amount", ...),
    ("amount", 10000),
    ("amount", "0.01"),
    ("amount", "-1"),
    ("amount", "1e4"),
    ("amount", "1_000"),
    ("amount", "٣"),
    ("amount", str(2**256)),
    ("asset", ...),
    ("asset", "0x036CbD53842c5426634e7929541eC2318f3dCF7"),
    ("asset", "USDC"),
    ("payTo", ...),
    ("payTo", "merchant"),
    ("maxTimeoutSeconds", ...),
    ("maxTimeoutSeconds", "60"),
    ("maxTimeoutSeconds", True),
    ("maxTimeoutSeconds", -1),
    ("maxTimeoutSeconds", 0),
    ("maxTimeoutSeconds", 2**53),
    ("extra", ...),
    ("extra", None),
    ("extra", []),
    ("extra/name", ...),
    ("extra/name", 1),
    ("extra/version", ...),
    ("extra/version", 2),
    ("extra/paymentFlow", 1),
    ("extra/assetTransferMethod", {}),
]


@pytest.mark.parametrize(("path", "value"), ANY_OFFER)
def test_a_malformed_offer_is_pointed_at(path: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        v2.decode_challenge(changed(REQUIRED, f"accepts/0/{path}", value))
    assert (caught.value.source, caught.value.pointer) == ("PAYMENT-REQUIRED", f"/accepts/0/{path}")
    with pytest.raises(RemoteProtocolError) as caught:
        v2.decode_payment(header(changed(PAYLOAD, f"accepted/{path}", value)))
    assert (caught.value.source, caught.value.pointer) == ("PAYMENT-SIGNATURE", f"/accepted/{path}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("accepts", ...),
        ("accepts", {}),
        ("accepts/0", "exact"),
        ("resource", "https://api.example.com"),
        ("resource/url", ...),
        ("error", 1),
        ("extensions", []),
    ],
)
def test_a_malformed_challenge_is_pointed_at(path: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        v2.decode_challenge(changed(REQUIRED, path, value))
    assert caught.value.pointer == "/" + path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("accepted", ...),
        ("accepted", []),
        ("payload", ...),
        ("payload/signature", ...),
        ("payload/signature", "69" * 65),
        ("payload/signature", "0x" + "69" * 64 + "6"),
        ("payload/signature", "0x" + " 69" * 65),
        ("payload/authorization", ...),
        ("payload/authorization/from", ...),
        ("payload/authorization/from", "0x0"),
        ("payload/authorization/to", None),
        ("payload/authorization/value", 10000),
        ("payload/authorization/value", "+10000"),
        ("payload/authorization/value", " 10000"),
        ("payload/authorization/value", "0x2710"),
        ("payload/authorization/validAfter", ""),
        ("payload/authorization/validAfter", 0),
        ("payload/authorization/validBefore", "1893456000.0"),
        ("payload/authorization/validBefore", str(2**256)),
        ("payload/authorization/nonce", "0x11"),
        ("payload/authorization/nonce", 17),
        ("extensions", "none"),
        ("resource/url", 1),
    ],
)
def test_a_malformed_payment_is_pointed_at(path: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        v2.decode_payment(header(changed(PAYLOAD, path, value)))
    assert caught.value.pointer == "/" + path
    assert caught.value.reply.status == 400


@pytest.mark.parametrize("version", [..., None, 1, 3, "2", True, 2.0, [2]])
def test_another_version_is_not_guessed_at(version: object) -> None:
    for decode, document in (
        (v2.decode_payment, header(changed(PAYLOAD, "x402Version", version))),
        (lambda text: v2.decode_challenge(decode_header(text, source="")), header(changed(REQUIRED, "x402Version", version))),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            decode(document)
        assert (caught.value.pointer, caught.value.reason) == ("/x402Version", Reason.INVALID_VERSION)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("success", ...),
        ("success", None),
        ("success", "true"),
        ("success", 1),
        ("transaction", ...),
        ("transaction", TX[2:]),
        ("transaction", "0x"),
        ("network", ...),
        ("network", "base-sepolia"),
        ("payer", "0x0"),
        ("amount", 10000),
        ("errorReason", False),
    ],
)
def test_a_malformed_receipt_is_pointed_at(path: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        v2.decode_receipt(header(changed(RESPONSE, path, value)))
    assert (caught.value.source, caught.value.pointer) == ("PAYMENT-RESPONSE", "/" + path)


# --- tolerance -------------------------------------------------------------------------------------------------------


def test_nulls_and_strangers_are_let_be() -> None:
    document = {**REQUIRED, "error": None, "resource": None, "extensions": None, "later": {"x": 1}}
    document["accepts"] = [{**ACCEPTS, "outputSchema": None}]
    challenge = v2.decode_challenge(document)
    assert challenge == Challenge((samples.V2_OFFER,))
    assert v2.decode_payment(header({**PAYLOAD, "resource": None, "extensions": None, "z": 1})).resource is None
    receipt = v2.decode_receipt(header({**RESPONSE, "errorReason": None, "amount": None, "payer": "", "extra": {}}))
    assert receipt == Receipt(True, samples.BASE_SEPOLIA, None, TX)


def test_a_receipt_from_another_chain_is_read() -> None:
    document = {"success": True, "transaction": "5sig", "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "payer": "So1"}
    receipt = v2.decode_receipt(header(document))
    assert (receipt.transaction, receipt.payer) == ("5sig", None)
    with pytest.raises(RemoteProtocolError, match="/transaction"):
        v2.decode_receipt(header({**document, "transaction": "5\u202esig"}))


def test_letter_case_of_an_address_does_not_matter() -> None:
    shouted = changed(PAYLOAD, "payload/authorization/from", "0x" + samples.PAYER[2:].upper())
    assert v2.decode_payment(header(shouted)).permit.payer == Address(samples.PAYER)


# --- anything at all -------------------------------------------------------------------------------------------------


@given(st.text(max_size=60) | samples.jsons.map(header))
@example("")
@example(header(1))
@example(header([]))
@example("e30=")
def test_any_header_is_a_payment_or_one_error(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        v2.decode_payment(text)
    with suppress(RemoteProtocolError):
        v2.decode_receipt(text)


def paths(value: Any, at: str = "") -> list[str]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in items for path in paths(inner, f"{at}/{key}"))]


@given(st.data(), samples.jsons)
def test_any_change_to_a_document_is_a_value_or_one_error(data: st.DataObject, value: Any) -> None:
    for document in (PAYLOAD, RESPONSE, REQUIRED):
        path = data.draw(st.sampled_from(paths(document)[1:]))
        text = header(changed(document, path, value))
        for decode in (v2.decode_payment, v2.decode_receipt):
            with suppress(RemoteProtocolError):
                decode(text)
        with suppress(RemoteProtocolError):
            v2.decode_challenge(decode_header(text, source=""))
