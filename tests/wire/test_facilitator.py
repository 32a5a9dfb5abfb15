"""A facilitator's HTTP API, both ends: what is asked and answered in either version, and what is not believed."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Dialect, Method, Offer, Payment, Permit, Receipt, Resource, SettleMode
from x402core.policy import FacilitatorTerms
from x402core.registry import KNOWN, NetworkInfo
from x402core.values import Address, Amount, Millis, Network
from x402core.wire import builder_code, facilitator, identifier, sponsoring, v2
from x402core.wire.facilitator import Ask, Kind, Supported, VerifyAnswer
from x402core.wire.json import Json, dumps

from . import samples, test_v1
from .test_v2 import ACCEPTS, CHECKED_PAYER, PAYLOAD, RESPONSE, TX, changed, paths

ASKED: dict[str, Any] = json.loads(json.dumps({"x402Version": 2, "paymentPayload": PAYLOAD, "paymentRequirements": ACCEPTS}))
ASKED_V1: dict[str, Any] = {
    "x402Version": 1,
    "paymentPayload": test_v1.PAYMENT,
    "paymentRequirements": test_v1.ACCEPTS,
}
BAZAAR: Json = {
    "info": {"input": {"type": "http", "method": "GET"}},
    "schema": {"type": "object", "properties": {"input": {"type": "object"}}, "required": ["input"]},
}


def ask(document: object, *, settle: bool = False) -> Ask:
    return facilitator.decode_request(json.dumps(document).encode(), settle=settle)


def refused(document: object, *, settle: bool = False) -> Reason | None:
    refusal = ask(document, settle=settle).refusal
    return None if refusal is None else refusal.reason


# --- the request -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settle", [True, False])
def test_a_request_of_version_2(settle: bool) -> None:
    found = ask(ASKED, settle=settle)
    assert (found.version, found.settle, found.refusal, found.charge, found.entry) == (2, settle, None, None, None)
    assert found.payment == Payment(samples.PERMIT_3009, samples.V2_OFFER, Resource("https://api.example.com/premium"))
    assert found.offer == samples.V2_OFFER


@pytest.mark.parametrize("settle", [True, False])
def test_a_request_of_version_1(settle: bool) -> None:
    found = ask(ASKED_V1, settle=settle)
    assert (found.version, found.refusal, found.charge) == (1, None, None)
    assert (found.payment, found.offer) == (Payment(samples.PERMIT_3009), samples.V1_OFFER)
    elsewhere = changed(ASKED_V1, "paymentPayload/network", "base")
    assert refused(elsewhere) is Reason.NETWORK_MISMATCH


@given(samples.paid(), samples.extensions)
def test_what_we_ask_is_what_we_read(paid: tuple[Offer, Permit], extensions: dict[str, Json]) -> None:
    offer, permit = paid
    asked = replace(offer, amount=permit.amount)
    note = v2.encode_note(Resource("https://a.example/b"), extensions, Payment(permit, offer))
    found = facilitator.decode_request(facilitator.encode_request(permit, asked, note), settle=False)
    assert (found.payment.permit, found.offer, found.refusal) == (permit, asked, None)
    assert found.payment.resource == Resource("https://a.example/b")
    assert found.payment.extensions == extensions


whatever_the_payer_spoke = pytest.mark.parametrize(
    "offer", [samples.V1_OFFER, samples.V2_OFFER, replace(samples.V2_OFFER, raw={"scheme": "exact"}, settle=SettleMode.BEFORE)]
)


@whatever_the_payer_spoke
def test_we_ask_in_version_2_unless_told(offer: Offer) -> None:
    found = facilitator.decode_request(facilitator.encode_request(samples.PERMIT_3009, offer), settle=True)
    assert (found.version, found.offer, found.refusal) == (2, replace(samples.V2_OFFER, settle=offer.settle), None)


# --- the request, in version 1 ---------------------------------------------------------------------------------------


@whatever_the_payer_spoke
def test_a_request_of_version_1_is_written_as_the_specification_shows(offer: Offer) -> None:
    note = v2.encode_note(test_v1.RESOURCE, {}, Payment(samples.PERMIT_3009))
    assert json.loads(facilitator.encode_request(samples.PERMIT_3009, offer, note, version=1)) == ASKED_V1
    nameless = json.loads(facilitator.encode_request(samples.PERMIT_3009, offer, version=1))
    unsaid = {"resource": "", "description": "", "mimeType": ""}
    assert nameless == {**ASKED_V1, "paymentRequirements": {**test_v1.ACCEPTS, **unsaid}}


@given(samples.v1_offers, samples.eip3009_permits, samples.extensions)
def test_what_we_ask_in_version_1_is_what_we_read(offer: Offer, permit: Permit, extensions: dict[str, Json]) -> None:
    permit = replace(permit, network=offer.network, asset=offer.asset)
    note = v2.encode_note(Resource("https://a.example/b"), extensions, Payment(permit, offer))
    second = replace(offer, dialect=Dialect.V2, settle=SettleMode.BEFORE)  # when the money moves is not said in version 1
    found = facilitator.decode_request(facilitator.encode_request(permit, second, note, version=1), settle=False)
    assert (found.version, found.payment, found.offer, found.refusal) == (1, Payment(permit), offer, None)


def test_of_the_extensions_version_1_is_told_what_bazaar_says_of_the_resource_and_nothing_else() -> None:
    ours = {"bazaar": BAZAAR, **builder_code.advertised("shop"), **sponsoring.advertised(), "x": 1}
    note = v2.encode_note(test_v1.RESOURCE, ours, Payment(samples.PERMIT_3009))
    asked = json.loads(facilitator.encode_request(samples.PERMIT_3009, samples.V2_OFFER, note, version=1))
    schema = {"input": {"type": "http", "method": "GET", "discoverable": True}}
    assert asked == {**ASKED_V1, "paymentRequirements": {**test_v1.ACCEPTS, "outputSchema": schema}}
    entry = ask(asked, settle=True).entry
    assert entry is not None
    assert entry.key == test_v1.RESOURCE.url


@pytest.mark.parametrize(
    ("permit", "offer", "field"),
    [
        (samples.PERMIT_PERMIT2, samples.PERMIT2_OFFER, "method"),
        (replace(samples.PERMIT_PERMIT2, sponsor=samples.SPONSOR), samples.PERMIT2_OFFER, "method"),
        (samples.PERMIT_UPTO, samples.UPTO_OFFER, "method"),
        (samples.PERMIT_2612, samples.TOKEN_OFFER, "method"),
        (samples.PERMIT_7710, samples.ERC7710_OFFER, "method"),
        (samples.PERMIT_2612_V2, samples.V2_OFFER, "offer"),
        (samples.PERMIT_3009, replace(samples.V2_OFFER, asset=samples.SEPOLIA_USDC), "permit"),
        (
            replace(samples.PERMIT_3009, network=Network("eip155:31338")),
            replace(samples.V2_OFFER, network=Network("eip155:31338")),
            "network",
        ),
    ],
)
def test_what_version_1_has_no_word_for_is_not_written(permit: Permit, offer: Offer, field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        facilitator.encode_request(permit, offer, version=1)
    assert caught.value.field == field


def test_a_network_goes_by_the_name_it_was_given() -> None:
    network = Network("eip155:31338")
    own = KNOWN.with_network(NetworkInfo(network, "Local", v1_name="our-chain"))
    permit, offer = replace(samples.PERMIT_3009, network=network), replace(samples.V2_OFFER, network=network)
    asked = json.loads(facilitator.encode_request(permit, offer, version=1, registry=own))
    assert (asked["paymentPayload"]["network"], asked["paymentRequirements"]["network"]) == ("our-chain", "our-chain")
    said = json.dumps({**test_v1.RESPONSE, "network": "our-chain"}).encode()
    assert facilitator.decode_settle(said, version=1, registry=own).network == network
    supported = Supported((Kind(1, "exact", "our-chain"),))
    assert supported.version("exact", Method.EIP3009, network, own) == 1
    assert supported.version("exact", Method.EIP3009, network) is None


def test_a_permit_of_the_token_flow_is_asked_about_in_our_own_method() -> None:
    found = facilitator.decode_request(facilitator.encode_request(samples.PERMIT_2612, samples.TOKEN_OFFER), settle=True)
    assert found.payment.permit == samples.PERMIT_2612
    assert (found.offer.method, found.offer.settle) == (samples.TOKEN_OFFER.method, SettleMode.AFTER)


OURS = Resource("https://seller.example/b", "Ours", "text/plain")


def noted(ours: Mapping[str, Json], theirs: Mapping[str, Json]) -> Any:
    stranger = Resource("https://stranger.example/x", "Not ours")
    return json.loads(v2.encode_note(OURS, ours, Payment(samples.PERMIT_3009, resource=stranger, extensions=theirs)))


def test_a_note_leaves_the_identifier_out() -> None:
    ours = {**identifier.advertised(), "x": 1}
    told = {"resource": {"url": OURS.url, "description": "Ours", "mimeType": "text/plain"}, "extensions": {"x": 1}}
    assert noted(ours, identifier.identified(ours, "pay_0123456789abcdef")) == told
    assert noted({}, {}) == {"resource": told["resource"]}
    with pytest.raises(RemoteProtocolError, match="note"):
        facilitator.encode_request(samples.PERMIT_3009, samples.V2_OFFER, b"[]")


def test_hostile_resource_and_extensions_of_a_payer_go_no_further() -> None:
    """A facilitator takes them for the seller's word, and lists them under the seller's payee."""
    bazaar: dict[str, Json] = {"info": {"input": {"type": "http", "method": "GET"}}, "schema": {}}
    evil: Json = {"info": {"input": {"type": "http", "method": "POST"}, "more": "evil"}, "schema": {}, "routeTemplate": "/evil"}
    assert noted({}, {"bazaar": evil, "eip2612GasSponsoring": {"info": {}}, "x": 1}).get("extensions") is None
    assert noted({"bazaar": bazaar}, {"bazaar": evil}) == noted({"bazaar": bazaar}, {})
    assert noted({"bazaar": bazaar}, {})["extensions"] == {"bazaar": bazaar}


def test_a_note_brings_the_payer_s_service_codes_and_nothing_else_of_its_codes() -> None:
    theirs: Json = {"info": {"a": "thief", "w": "thief", "s": ["agent", "NOT a code", 7], "x": 1}, "schema": {"x": 1}}
    assert noted({}, {"builder-code": theirs})["extensions"] == {"builder-code": {"info": {"s": ["agent"]}}}
    ours = builder_code.advertised("shop", ("host",))
    found = noted(ours, {"builder-code": theirs})["extensions"]["builder-code"]
    assert found == {**ours["builder-code"], "info": {"a": "shop", "s": ["agent", "host"]}}  # type: ignore[dict-item]
    assert noted(ours, {"builder-code": "x"})["extensions"] == ours


# --- upto ------------------------------------------------------------------------------------------------------------


def test_upto_is_settled_for_a_charge_below_the_ceiling() -> None:
    body = facilitator.encode_request(samples.PERMIT_UPTO, replace(samples.UPTO_OFFER, amount=Amount(77)))
    found = facilitator.decode_request(body, settle=True)
    assert (found.charge, found.offer, found.refusal) == (77, samples.UPTO_OFFER, None)
    # verifying, the requirements' amount is the ceiling itself
    assert facilitator.decode_request(body, settle=False).offer.amount == 77
    assert facilitator.decode_request(body, settle=False).charge is None


# --- mix-ups ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("network", "eip155:1", Reason.NETWORK_MISMATCH),
        ("payTo", CHECKED_PAYER, Reason.RECIPIENT_MISMATCH),
        ("amount", "9999", Reason.VALUE_MISMATCH),
        ("asset", CHECKED_PAYER, Reason.ASSET_MISMATCH),
        ("extra/assetTransferMethod", "permit2", Reason.INVALID_REQUIREMENTS),
    ],
)
def test_hostile_requirements_that_were_not_accepted_are_refused(path: str, value: str, reason: Reason) -> None:
    assert refused(changed(ASKED, f"paymentRequirements/{path}", value)) is reason


def test_another_scheme_is_another_scheme() -> None:
    upto = json.loads(json.dumps(v2.encode_offer(samples.UPTO_OFFER)))
    assert refused({**ASKED, "paymentRequirements": upto}) is Reason.INVALID_SCHEME


def test_the_same_requirements_in_other_letters_are_the_same() -> None:
    lower = changed(ASKED, "paymentRequirements/payTo", samples.PAY_TO)
    assert refused(changed(lower, "paymentRequirements/maxTimeoutSeconds", 61)) is None


def test_a_refused_sponsorship_is_a_refusal_not_a_malformed_request() -> None:
    permit = replace(samples.PERMIT_PERMIT2, sponsor=samples.SPONSOR)
    document = json.loads(facilitator.encode_request(permit, samples.PERMIT2_OFFER))
    assert ask(document).payment.permit == permit
    at = f"paymentPayload/extensions/{sponsoring.EIP2612}/info/from"
    assert refused(changed(document, at, samples.PAY_TO)) is Reason.SPONSOR_PERMIT_FROM


@pytest.mark.parametrize(
    ("document", "at"),
    [
        (changed(ASKED, "x402Version", 3), "/x402Version"),
        (changed(ASKED, "x402Version", 1), "/paymentPayload/x402Version"),
        (changed(ASKED_V1, "x402Version", 2), "/paymentPayload/x402Version"),
        (changed(ASKED, "paymentPayload/x402Version", 1), "/paymentPayload/x402Version"),
    ],
)
def test_two_versions_are_none(document: object, at: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        ask(document)
    assert (caught.value.pointer, caught.value.reason) == (at, Reason.INVALID_VERSION)


@pytest.mark.parametrize("document", [ASKED, ASKED_V1])
def test_what_is_missing_is_pointed_at(document: dict[str, Any]) -> None:
    for path in ("x402Version", "paymentPayload", "paymentRequirements", "paymentRequirements/payTo", "paymentPayload/payload"):
        for value in (..., None, []):
            with pytest.raises(RemoteProtocolError) as caught:
                ask(changed(document, path, value))
            assert (caught.value.source, caught.value.pointer) == ("body", f"/{path}")


# --- the catalog, and builder codes ----------------------------------------------------------------------------------


def test_what_is_listed_is_told_by_a_settled_payment_alone() -> None:
    listed = changed(ASKED, "paymentPayload/extensions", {"bazaar": BAZAAR})
    entry = ask(listed, settle=True).entry
    assert entry is not None
    assert (entry.key, entry.last_updated) == ("https://api.example.com/premium", Millis(0))
    assert ask(listed).entry is None
    assert ask(changed(listed, "paymentRequirements/amount", "1"), settle=True).entry is None


def test_hostile_listings_stop_no_payment() -> None:
    long = {**BAZAAR, "schema": {"properties": {"input\u202e" * 1000: {"$ref": "https://evil.example"}}}}  # type: ignore[dict-item]
    for bazaar in ({}, [], {"info": 1}, long):
        found = ask(changed(ASKED, "paymentPayload/extensions", {"bazaar": bazaar}), settle=True)
        assert (found.entry, found.refusal) == (None, None)
        assert 0 < len(found.unlisted) <= 256
        assert found.unlisted.isprintable()


def test_attribution_is_the_payments_codes_and_our_own() -> None:
    found = ask(changed(ASKED, "paymentPayload/extensions", dict(builder_code.advertised("bc_app", ("sdk",)))))
    suffix = facilitator.attribution(found, "bc_wallet", "svc")
    assert builder_code.parse_suffix(suffix) == builder_code.Codes("bc_app", "bc_wallet", ("sdk", "svc"))
    assert facilitator.attribution(ask(ASKED)) == b""


# --- the answers -----------------------------------------------------------------------------------------------------


def test_a_verdict_is_answered_in_the_words_of_the_specification() -> None:
    reply = facilitator.encode_valid(ask(ASKED))
    assert (reply.status, json.loads(reply.body)) == (200, {"isValid": True, "payer": CHECKED_PAYER})
    assert facilitator.decode_verify(reply.body) == VerifyAnswer(True, "", samples.PAYER)
    why = Refusal(Reason.VALUE_MISMATCH, "too little")
    document = {"isValid": False, "invalidReason": str(why.reason), "invalidMessage": "too little", "payer": CHECKED_PAYER}
    assert json.loads(facilitator.encode_refusal(ask(ASKED), why).body) == document
    old = {**document, "invalidReason": "invalid_exact_evm_payload_authorization_value"}
    assert json.loads(facilitator.encode_refusal(ask(ASKED_V1), why).body) == old


def test_a_settlement_is_answered_in_the_version_it_was_asked_in() -> None:
    receipt = Receipt(True, samples.BASE_SEPOLIA, samples.PAYER, TX, Amount(10000))
    assert json.loads(facilitator.encode_settled(ask(ASKED, settle=True), receipt).body) == RESPONSE
    assert json.loads(facilitator.encode_settled(ask(ASKED_V1, settle=True), receipt).body) == test_v1.RESPONSE
    assert facilitator.decode_settle(facilitator.encode_settled(ask(ASKED), receipt).body) == receipt
    why = Refusal(Reason.SIGNATURE, "not the payer's")
    for document, network in ((ASKED, "eip155:84532"), (ASKED_V1, "base-sepolia")):
        assert json.loads(facilitator.encode_refusal(ask(document, settle=True), why).body) == {
            "success": False,
            "errorReason": str(Reason.SIGNATURE),
            "errorMessage": "not the payer's",
            "payer": CHECKED_PAYER,
            "transaction": "",
            "network": network,
        }


def test_a_settlement_told_in_version_1_is_read_in_version_1() -> None:
    def read(**changes: Any) -> Receipt:
        document = {key: value for key, value in {**test_v1.RESPONSE, **changes}.items() if value is not ...}
        return facilitator.decode_settle(json.dumps(document).encode(), version=1)

    receipt = Receipt(True, samples.BASE_SEPOLIA, samples.PAYER, TX)
    assert read() == read(errorReason=None, amount="1") == receipt  # v1 says no amount
    assert read(payer=...) == read(payer="") == replace(receipt, payer=None)
    failed = {"success": False, "errorReason": "insufficient_funds", "transaction": None}
    assert read(**failed) == Receipt(False, samples.BASE_SEPOLIA, samples.PAYER, reason="insufficient_funds")
    for hostile in ({"network": "eip155:84532"}, {"network": ...}, {"success": "true"}, {"transaction": "0x"}, {"payer": "me"}):
        with pytest.raises(RemoteProtocolError) as caught:
            read(**hostile)
        assert caught.value.pointer == f"/{next(iter(hostile))}"
    with pytest.raises(RemoteProtocolError):
        facilitator.decode_settle(json.dumps(test_v1.RESPONSE).encode())


def test_pending_names_a_transaction() -> None:
    with pytest.raises(LocalProtocolError, match="transaction"):
        facilitator.encode_settled(ask(ASKED), Receipt(False, samples.BASE_SEPOLIA, None, reason=Reason.SETTLEMENT_PENDING))


# --- what is not believed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [..., None, "true", "false", 1, 0, [], {}])
def test_hostile_truths_are_no_booleans(value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        facilitator.decode_verify(json.dumps(changed({"isValid": True}, "isValid", value)).encode())
    assert (caught.value.source, caught.value.pointer) == ("verify", "/isValid")
    with pytest.raises(RemoteProtocolError) as caught:
        facilitator.decode_settle(json.dumps(changed(RESPONSE, "success", value)).encode())
    assert (caught.value.source, caught.value.pointer) == ("settle", "/success")


def test_hostile_sentences_go_no_further() -> None:
    evil = "no\x1b[2J\u202e" + "x" * 4000
    answer = facilitator.decode_verify(dumps({"isValid": False, "invalidReason": evil, "invalidMessage": evil, "payer": ""}))
    assert answer.payer is None
    assert answer.reason.isprintable()
    assert len(answer.reason) == 256
    assert facilitator.decode_verify(b'{"isValid":true,"invalidReason":"no"}') == VerifyAnswer(True)
    receipt = facilitator.decode_settle(dumps({**RESPONSE, "success": False, "errorReason": evil, "errorMessage": evil}))
    assert receipt.reason.isprintable()
    assert evil not in repr(receipt)
    for body in (b"", b"[]", b"<html>", b'{"isValid":false,"payer":"0x0"}', b" " * 300_000):
        with pytest.raises(RemoteProtocolError):
            facilitator.decode_verify(body)


# --- supported -------------------------------------------------------------------------------------------------------

SETTLER = Address(samples.SETTLER)
LOCAL = Network("eip155:31338")


def test_what_is_supported_is_told_by_network_and_version() -> None:
    own = KNOWN.with_network(NetworkInfo(LOCAL, "Nameless"))
    terms = FacilitatorTerms({samples.BASE_SEPOLIA: SETTLER, LOCAL: SETTLER}, registry=own)
    document = json.loads(facilitator.encode_supported(terms))
    checked = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    assert document == {
        "kinds": [
            {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
            {"x402Version": 2, "scheme": "upto", "network": "eip155:84532", "extra": {"facilitatorAddress": checked}},
            {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
            {"x402Version": 2, "scheme": "exact", "network": "eip155:31338"},
            {"x402Version": 2, "scheme": "upto", "network": "eip155:31338", "extra": {"facilitatorAddress": checked}},
        ],
        "extensions": ["eip2612GasSponsoring", "erc20ApprovalGasSponsoring", "bazaar", "builder-code"],
        "signers": {"eip155:*": [checked]},
    }
    found = facilitator.decode_supported(json.dumps(document).encode())
    assert found.kinds[2] == Kind(1, "exact", "base-sepolia")
    assert found.takes("upto", LOCAL)
    assert not found.takes("batch-settlement", LOCAL)
    assert not found.takes("exact", Network("eip155:1"))
    assert found.facilitator(LOCAL) == SETTLER
    assert found.facilitator(Network("eip155:1")) is None
    assert found.signers == {"eip155:*": (checked,)}


def test_a_facilitator_of_version_1_says_kinds_alone() -> None:
    body = b'{"kinds":[{"x402Version":1,"scheme":"exact","network":"base"}]}'
    assert facilitator.decode_supported(body) == Supported((Kind(1, "exact", "base"),))


BASE = Network("eip155:8453")
LISTED = Supported((Kind(1, "exact", "base-sepolia"), Kind(2, "exact", BASE), Kind(1, "exact", "base"), Kind(2, "upto", BASE)))


@pytest.mark.parametrize(
    ("scheme", "method", "network", "version"),
    [
        ("exact", Method.EIP3009, samples.BASE_SEPOLIA, 1),
        ("exact", Method.PERMIT2, samples.BASE_SEPOLIA, None),
        ("exact", Method.EIP2612, samples.BASE_SEPOLIA, None),
        ("exact", Method.ERC7710, samples.BASE_SEPOLIA, None),
        ("upto", Method.PERMIT2, samples.BASE_SEPOLIA, None),
        ("exact", Method.EIP3009, BASE, 2),
        ("exact", Method.PERMIT2, BASE, 2),
        ("upto", Method.PERMIT2, BASE, 2),
        ("exact", Method.EIP3009, samples.SEPOLIA, None),
        ("exact", Method.EIP3009, LOCAL, None),
    ],
)
def test_it_is_asked_in_version_2_where_it_lists_that_else_in_1_what_1_can_say(
    scheme: str, method: Method, network: Network, version: int | None
) -> None:
    assert LISTED.version(scheme, method, network) == version
    assert LISTED.settles_on(network) is (network in (BASE, samples.BASE_SEPOLIA))


def test_a_name_in_version_2_and_an_id_in_version_1_are_neither() -> None:
    odd = Supported((Kind(2, "exact", "base"), Kind(1, "exact", BASE), Kind(3, "exact", BASE)))
    assert odd.version("exact", Method.EIP3009, BASE) is None


@pytest.mark.parametrize("address", [None, "", "0x0", 7])
def test_hostile_facilitators_that_name_no_account_are_not_named(address: Json) -> None:
    kind: Json = {"x402Version": 2, "scheme": "upto", "network": "eip155:1", "extra": {"facilitatorAddress": address}}
    assert facilitator.decode_supported(dumps({"kinds": [kind]})).facilitator(Network("eip155:1")) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kinds", ...),
        ("kinds", [1]),
        ("kinds/0/x402Version", "2"),
        ("kinds/0/scheme", None),
        ("kinds/0/extra", []),
        ("extensions", "bazaar"),
        ("extensions", [1]),
        ("signers", []),
        ("signers/eip155:*", "0x"),
    ],
)
def test_a_malformed_list_is_pointed_at(path: str, value: object) -> None:
    terms = FacilitatorTerms({samples.BASE_SEPOLIA: SETTLER})
    document = changed(json.loads(facilitator.encode_supported(terms)), path, value)
    with pytest.raises(RemoteProtocolError) as caught:
        facilitator.decode_supported(json.dumps(document).encode())
    assert caught.value.source == "supported"
    assert caught.value.pointer.startswith("/" + path)


# --- anything at all -------------------------------------------------------------------------------------------------


@given(samples.jsons)
def test_any_body_is_a_value_or_one_error(value: Json) -> None:
    listed = changed(ASKED, "paymentPayload/extensions", {"bazaar": copy.deepcopy(BAZAAR)})
    for document in (listed, ASKED_V1):
        for path in paths(document)[1:]:
            with suppress(RemoteProtocolError):
                facilitator.decode_request(dumps(changed(document, path, value)), settle=True)
    for path in paths(RESPONSE)[1:]:
        with suppress(RemoteProtocolError):
            facilitator.decode_settle(dumps(changed(RESPONSE, path, value)))
    for decode in (facilitator.decode_verify, facilitator.decode_settle, facilitator.decode_supported):
        with suppress(RemoteProtocolError):
            decode(dumps(value))
