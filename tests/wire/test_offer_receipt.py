"""Signed offers and receipts (x402.md 3.6): a seller vouches, a payer looks who did and for what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.evm.vectors import ACCOUNT1, KEY, PAYER
from x402core.errors import Reason, Refusal, RemoteProtocolError
from x402core.events import Offer
from x402core.evm.secp256k1 import sign
from x402core.registry import Registry
from x402core.values import Address, Amount, Network, Seconds
from x402core.wire.json import dumps, loads
from x402core.wire.offer_receipt import (
    Jws,
    OfferPayload,
    ReceiptPayload,
    SignedOffer,
    SignedReceipt,
    advertised,
    attached,
    check_offer,
    check_receipt,
    offer_digest,
    offer_payload,
    presented_offers,
    presented_receipt,
    receipt_digest,
    receipt_payload,
)

from . import samples

URL = "https://api.example.com/premium"
NOW = Seconds(1_800_000_000)
OFFER = replace(samples.V2_OFFER, pay_to=PAYER)  # whose key we have
BUYER = ACCOUNT1
TX = "0x" + "ab" * 32


def signed_offer(payload: OfferPayload | None = None, **changes: Any) -> SignedOffer:
    payload = replace(payload or offer_payload(OFFER, URL, now=NOW), **changes)
    return SignedOffer(payload, sign(offer_digest(payload), KEY))


def signed_receipt(**changes: Any) -> SignedReceipt:
    payload = replace(receipt_payload(OFFER.network, URL, BUYER, issued_at=NOW), **changes)
    return SignedReceipt(payload, sign(receipt_digest(payload), KEY))


def of_offer(found: SignedOffer | Jws, offer: Offer = OFFER, **more: Any) -> Address | Reason:
    result = check_offer(found, offer, more.pop("url", URL), now=more.pop("now", NOW), **more)
    return result.reason if isinstance(result, Refusal) else result


def of_receipt(found: SignedReceipt | Jws, offer: Offer = OFFER, **more: Any) -> Address | Reason:
    result = check_receipt(found, offer, more.pop("url", URL), more.pop("payer", BUYER), **more)
    return result.reason if isinstance(result, Refusal) else result


def over_the_wire(extension: Any) -> Any:
    return loads(dumps(extension))


# --- offers ----------------------------------------------------------------------------------------------------------


def test_a_seller_signs_what_it_offers_and_a_payer_finds_so() -> None:
    sent = replace(signed_offer(), accept_index=3)
    extension = over_the_wire(advertised([sent, sent]))
    entry = extension["offer-receipt"]["info"]["offers"][0]
    assert (entry["format"], entry["acceptIndex"]) == ("eip712", 3)
    assert entry["payload"] == {
        "version": 1,
        "resourceUrl": URL,
        "scheme": "exact",
        "network": "eip155:84532",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "amount": "10000",
        "validUntil": NOW + 60,
    }
    found = presented_offers(extension, "PAYMENT-REQUIRED")
    assert found == (sent, sent)
    assert of_offer(found[0]) == PAYER


def test_how_long_an_offer_stands() -> None:
    assert offer_payload(OFFER, URL, now=NOW, validity=Seconds(5)).valid_until == NOW + 5
    last = signed_offer().payload.valid_until
    assert of_offer(signed_offer(), now=last) == PAYER
    assert of_offer(signed_offer(), now=Seconds(last + 1)) is Reason.OFFER_EXPIRED
    assert of_offer(signed_offer(valid_until=Seconds(0)), now=Seconds(2**40)) == PAYER


def test_an_offer_matches_by_what_its_fields_mean() -> None:
    other_case = signed_offer(asset=OFFER.asset, pay_to="0x" + PAYER[2:].upper())
    assert of_offer(other_case) == PAYER
    assert of_offer(signed_offer(network="base-sepolia")) == PAYER
    assert of_offer(signed_offer(network="base-sepolia"), registry=Registry()) is Reason.OFFER_MISMATCH


@pytest.mark.parametrize(
    "change",
    [
        {"resource_url": URL + "/"},
        {"scheme": "upto"},
        {"network": "eip155:8453"},
        {"network": "base"},
        {"network": "nowhere"},
        {"network": "a:b:c"},
        {"asset": BUYER},
        {"asset": "USD"},
        {"pay_to": BUYER},
        {"amount": "9999"},
        {"amount": "010000"},
        {"amount": "10000.0"},
    ],
)
def test_an_offer_for_something_else(change: dict[str, str]) -> None:
    assert of_offer(signed_offer(**change)) is Reason.OFFER_MISMATCH


def test_hostile_index_says_nothing() -> None:
    cheap = replace(OFFER, amount=Amount(1))
    sent = replace(signed_offer(), accept_index=0)
    assert of_offer(sent, cheap) is Reason.OFFER_MISMATCH


def test_who_may_sign() -> None:
    elsewhere = replace(OFFER, pay_to=BUYER)
    sent = signed_offer(pay_to=BUYER)  # signed by PAYER, who is not the payee
    assert of_offer(sent, elsewhere) is Reason.OFFER_SIGNER
    assert of_offer(sent, elsewhere, signers=(PAYER,)) == PAYER


def test_hostile_offer_changed_after_it_was_signed() -> None:
    sent = signed_offer()
    changed = replace(sent, payload=replace(sent.payload, valid_until=Seconds(0)))
    assert of_offer(changed) is Reason.OFFER_SIGNER
    assert of_offer(replace(sent, signature=bytes(65))) is Reason.OFFER_SIGNATURE


# --- receipts --------------------------------------------------------------------------------------------------------


def test_a_seller_signs_that_it_was_paid() -> None:
    sent = signed_receipt()
    extension = over_the_wire(attached(sent))
    assert extension["offer-receipt"]["info"]["receipt"]["payload"] == {
        "version": 1,
        "network": "eip155:84532",
        "resourceUrl": URL,
        "payer": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "issuedAt": NOW,
        "transaction": "",
    }
    found = presented_receipt(extension, "PAYMENT-RESPONSE")
    assert found == sent
    assert found is not None
    assert of_receipt(found, transaction=TX) == PAYER


def test_the_transaction_is_private_unless_asked_for() -> None:
    def paid(**more: Any) -> ReceiptPayload:
        return receipt_payload(OFFER.network, URL, BUYER, issued_at=NOW, transaction=TX, **more)

    assert paid().transaction == ""
    assert paid(include_tx_hash=True).transaction == TX
    named = signed_receipt(transaction=TX.upper().replace("X", "x"))
    assert of_receipt(named, transaction=TX) == PAYER
    assert of_receipt(named) == PAYER
    assert of_receipt(named, transaction="0x" + "cd" * 32) is Reason.OFFER_MISMATCH


@pytest.mark.parametrize("change", [{"resource_url": ""}, {"network": "base"}, {"payer": PAYER}, {"payer": "nobody"}])
def test_a_receipt_for_something_else(change: dict[str, str]) -> None:
    assert of_receipt(signed_receipt(**change)) is Reason.OFFER_MISMATCH


def test_a_receipt_by_its_v1_network() -> None:
    assert of_receipt(signed_receipt(network="base-sepolia")) == PAYER


def test_replay_of_a_receipt_for_another_payer_or_seller() -> None:
    assert of_receipt(signed_receipt(), payer=PAYER) is Reason.OFFER_MISMATCH
    assert of_receipt(signed_receipt(), replace(OFFER, pay_to=BUYER)) is Reason.OFFER_SIGNER
    as_receipt = SignedReceipt(signed_receipt().payload, signed_offer().signature)
    assert of_receipt(as_receipt) is Reason.OFFER_SIGNER


# --- reading ---------------------------------------------------------------------------------------------------------


def test_nothing_to_read() -> None:
    for extensions in ({}, {"offer-receipt": None}, {"offer-receipt": {}}, {"offer-receipt": {"info": {}}}):
        assert presented_offers(extensions, "") == ()  # type: ignore[arg-type]
        assert presented_receipt(extensions, "") is None  # type: ignore[arg-type]


def test_a_jws_is_recognised_and_not_read() -> None:
    entry = {"format": "jws", "signature": "a.b.c", "acceptIndex": 1}
    (offer,) = presented_offers({"offer-receipt": {"info": {"offers": [entry]}}}, "")  # type: ignore[dict-item, list-item]
    receipt = presented_receipt({"offer-receipt": {"info": {"receipt": entry}}}, "")  # type: ignore[dict-item]
    assert offer == Jws("a.b.c", 1)
    assert isinstance(receipt, Jws)
    assert of_offer(offer) is Reason.OFFER_FORMAT
    assert of_receipt(receipt) is Reason.OFFER_FORMAT


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("/format", {"format": "pgp"}),
    ("/format", {"format": None}),
    ("/payload", {"payload": None}),
    ("/payload/version", {"payload": {"version": 2}}),
    ("/payload/version", {"payload": {"version": "1"}}),
    ("/signature", {"signature": "0x12"}),
    ("/signature", {"signature": None}),
    ("/signature", {"format": "jws", "signature": 7}),
]


@pytest.mark.parametrize(("at", "change"), [*BROKEN, ("/acceptIndex", {"acceptIndex": "1"})])
def test_an_offer_that_is_none(at: str, change: dict[str, Any]) -> None:
    extension = over_the_wire(advertised([signed_offer()]))
    entry = extension["offer-receipt"]["info"]["offers"][0]
    with pytest.raises(RemoteProtocolError) as caught:
        presented_offers({"offer-receipt": {"info": {"offers": [{**entry, **change}]}}}, "PAYMENT-REQUIRED")
    assert caught.value.pointer == f"/extensions/offer-receipt/info/offers/0{at}"


@pytest.mark.parametrize(("at", "change"), BROKEN)
def test_a_receipt_that_is_none(at: str, change: dict[str, Any]) -> None:
    entry = over_the_wire(attached(signed_receipt()))["offer-receipt"]["info"]["receipt"]
    with pytest.raises(RemoteProtocolError) as caught:
        presented_receipt({"offer-receipt": {"info": {"receipt": {**entry, **change}}}}, "PAYMENT-RESPONSE")
    assert caught.value.pointer == f"/extensions/offer-receipt/info/receipt{at}"


def test_a_network_without_evm_is_no_trouble() -> None:
    assert of_offer(signed_offer(network=Network("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"))) is Reason.OFFER_MISMATCH
