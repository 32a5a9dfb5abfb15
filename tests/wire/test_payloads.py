"""What was signed, for every way a permit moves money: golden payloads, round trips, exact pointers, one kind each."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.events import Offer, Permit
from x402core.wire.json import Fields, Json
from x402core.wire.payloads import decode_payload, encode_payload

from . import samples
from .test_v2 import changed, paths

SIGNATURE = "0x" + samples.PERMIT_3009.signature.hex()
PAYER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
SETTLER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PERMIT2 = {
    "from": PAYER,
    "permitted": {"token": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "amount": "10000"},
    "spender": "0x402085c248EeA27D92E8b30b2C58ed07f9E20001",
    "nonce": str(2**256 - 1),
    "deadline": "1893456000",
    "witness": {"to": PAY_TO, "validAfter": "0"},
}
GOLDEN: list[dict[str, Any]] = [
    {
        "signature": SIGNATURE,
        "authorization": {
            "from": PAYER,
            "to": PAY_TO,
            "value": "10000",
            "validAfter": "0",
            "validBefore": "1893456000",
            "nonce": "0x" + "11" * 32,
        },
    },
    {"signature": SIGNATURE, "permit2Authorization": PERMIT2},
    {
        "signature": SIGNATURE,
        "permit2Authorization": {
            **PERMIT2,
            "spender": "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002",
            "witness": {"to": PAY_TO, "facilitator": SETTLER, "validAfter": "0"},
        },
    },
    {
        "delegationManager": "0xdb9B1e94B5b69Df7e401DDbedE43491141047dB3",
        "permissionContext": "0x" + b"a delegation".hex(),
        "delegator": PAYER,
    },
    {
        "signature": "0x" + samples.PERMIT_2612.signature.hex(),
        "permit": {"owner": PAYER, "spender": SETTLER, "value": "10000", "nonce": "7", "deadline": "1893456000"},
    },
]
KINDS = [(offer, permit, golden) for (offer, permit), golden in zip(samples.EACH, GOLDEN, strict=True)]


def decode(document: object, offer: Offer) -> Permit:
    return decode_payload(Fields(json.loads(json.dumps(document)), "/payload", "PAYMENT-SIGNATURE"), offer)


@pytest.mark.parametrize(("offer", "permit", "golden"), KINDS)
def test_a_payload_is_written_as_the_specification_shows(offer: Offer, permit: Permit, golden: dict[str, Any]) -> None:
    assert encode_payload(permit) == golden
    assert decode(golden, offer) == permit


@given(samples.paid())
def test_a_permit_comes_back_the_same(paid: tuple[Offer, Permit]) -> None:
    offer, permit = paid
    assert decode(encode_payload(permit), offer) == permit


@pytest.mark.parametrize(("offer", "permit", "golden"), KINDS)
def test_every_member_is_needed_and_pointed_at(offer: Offer, permit: Permit, golden: dict[str, Any]) -> None:
    for path in paths(golden)[1:]:
        for value in (..., None, 17, [], "", "0xg"):
            with pytest.raises(RemoteProtocolError) as caught:
                decode(changed(golden, path, value), offer)
            assert (caught.value.source, caught.value.pointer) == ("PAYMENT-SIGNATURE", "/payload" + path)


@pytest.mark.parametrize(("offer", "permit", "golden"), KINDS)
def test_hostile_payloads_of_two_kinds_are_none(offer: Offer, permit: Permit, golden: dict[str, Any]) -> None:
    """What one reader takes for a Permit2 payment, another would take for an EIP-3009 one."""
    for other, _, theirs in KINDS:
        if other.method is offer.method:
            continue
        (mark,) = {"authorization", "permit2Authorization", "delegationManager", "permit"} & set(theirs)
        with pytest.raises(RemoteProtocolError, match="of one kind") as caught:
            decode({**theirs, **golden}, offer)
        assert caught.value.pointer == f"/payload/{mark}"
        with pytest.raises(RemoteProtocolError, match=offer.method):
            decode(theirs, offer)


def test_hostile_witnesses_belong_to_their_scheme() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(GOLDEN[2], samples.PERMIT2_OFFER)
    assert caught.value.pointer == "/payload/permit2Authorization/witness/facilitator"
    with pytest.raises(RemoteProtocolError) as caught:
        decode(GOLDEN[1], samples.UPTO_OFFER)
    assert caught.value.pointer == "/payload/permit2Authorization/witness/facilitator"


def test_hostile_tokens_are_told_as_they_were_signed() -> None:
    """The judge must see that another token was permitted than the offer asks."""
    other = changed(GOLDEN[1], "permit2Authorization/permitted/token", samples.SEPOLIA_USDC)
    assert decode(other, samples.PERMIT2_OFFER).asset == samples.SEPOLIA_USDC


@pytest.mark.parametrize("length", [0, 64, 8193])
def test_hostile_signatures_have_a_length(length: int) -> None:
    for offer, permit, golden in KINDS:
        member, least = ("permissionContext", 1) if "delegator" in golden else ("signature", 65)
        if least <= length <= 8192:
            continue
        name = "context" if least == 1 else "signature"
        with pytest.raises(LocalProtocolError, match=name):
            encode_payload(replace(permit, **{name: bytes(length)}))
        with pytest.raises(RemoteProtocolError) as caught:
            decode({**golden, member: "0x" + "00" * length}, offer)
        assert caught.value.pointer == f"/payload/{member}"


@given(st.sampled_from(KINDS), samples.jsons)
def test_any_payload_is_a_permit_or_one_error(kind: tuple[Offer, Permit, dict[str, Any]], value: Json) -> None:
    offer, _, golden = kind
    for path in paths(golden)[1:]:
        with suppress(RemoteProtocolError):
            assert decode(changed(golden, path, value), offer)
