"""Which ways to pay have words in x402 v2, and which words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from x402core.events import Offer
from x402core.schemes import SCHEMES
from x402core.wire import permit_token3, v2

from . import samples
from .test_v2 import UPTO


def test_the_words_are_those_of_the_schemes() -> None:
    assert {(scheme, method) for scheme, method, _ in SCHEMES} == {*v2.SPOKEN, (permit_token3.DIRECT, "permit2")}


@pytest.mark.parametrize(
    ("offer", "extra"),
    [
        (samples.PERMIT2_OFFER, {"name": "USDC", "version": "2", "assetTransferMethod": "permit2"}),
        (
            samples.UPTO_OFFER,
            {
                "name": "USDC",
                "version": "2",
                "assetTransferMethod": "permit2",
                "facilitatorAddress": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            },
        ),
        (samples.ERC7710_OFFER, {"assetTransferMethod": "erc7710"}),
        (
            samples.EIP2612_OFFER,
            {
                "name": "USDC",
                "version": "2",
                "assetTransferMethod": "eip2612",
                "spender": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            },
        ),
    ],
)
def test_every_method_but_the_default_says_its_name(offer: Offer, extra: dict[str, Any]) -> None:
    written = v2.encode_offer(offer)
    assert written["extra"] == extra
    assert v2.decode_challenge({"x402Version": 2, "accepts": [json.loads(json.dumps(written))]}).offers == (offer,)


def test_upto_is_by_permit2_even_where_it_does_not_say_so() -> None:
    entry = {**UPTO, "extra": {"facilitatorAddress": samples.SETTLER}}
    (offer,) = v2.decode_challenge({"x402Version": 2, "accepts": [entry]}).offers
    assert offer == replace(samples.UPTO_OFFER, name="", version="")
