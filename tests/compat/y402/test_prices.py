"""Prices that depend on the request, settings of one's own, and headers made by hand: y402's API where no defect was."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from eth_account import Account
from fastapi import FastAPI, HTTPException, Request

from tests.compat.y402.buyers import offer
from tests.compat.y402.ground import NETWORK, Site, Till, header_for
from tests.compat.y402.shops import SHOPS
from tests.shop import PRICE
from x402bind.compat.y402.api.fastapi.middleware import payment_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings
from x402bind.compat.y402.clients.common import (
    PaymentAmountExceededError,
    PaymentError,
    Y402Client,
    decode_x_payment_response,
    encode_payment,
)
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.requirements import PaymentRequirements, RequirePaymentDetails
from x402bind.compat.y402.core.types.setup import Y402Setup
from x402bind.compat.y402.storage.dummy import StorageManager as Dummy


def by_body(till: Till) -> Callable[[Request], Any]:
    async def cost(request: Request) -> list[RequirePaymentDetails]:
        body = await request.json()
        if body["n"] > 5:
            raise HTTPException(409, "only five are left")
        return till.costs(body["n"] * 1000)

    return cost


def by_query(till: Till) -> Callable[[Request], Any]:
    def cost(request: Request) -> list[RequirePaymentDetails]:
        if int(request.query_params["n"]) > 5:
            raise HTTPException(409, "only five are left")
        return till.costs(int(request.query_params["n"]) * 1000)

    return cost


@pytest.mark.parametrize("cost_of", [by_body, by_query])
def test_a_price_may_be_of_the_request_and_end_it_early(till: Till, cost_of: Any) -> None:
    app = FastAPI()
    app.middleware("http")(payment_required(**till.arguments()))

    @X402EndpointSettings(payments_details=cost_of(till))
    @app.post("/n")
    async def n(body: dict[str, int]) -> dict[str, int]:
        return body

    with Site(app) as site:
        url = f"{site.origin}/n?n=3"
        asked = httpx.post(url, json={"n": 3})
        assert asked.json()["accepts"][0]["maxAmountRequired"] == "3000"
        paid = httpx.post(url, json={"n": 3}, headers=header_for(asked, till.ground.payer()), timeout=40)
        assert (paid.status_code, paid.json()) == (200, {"n": 3})
        cheat = httpx.post(url.replace("n=3", "n=4"), json={"n": 4}, timeout=40)
        assert cheat.status_code == 402
        early = httpx.post(f"{site.origin}/n?n=6", json={"n": 6})
        assert (early.status_code, early.json()) == (409, {"detail": "only five are left"})
    assert till.earned == 3000


@pytest.mark.parametrize("shop", SHOPS)
def test_an_endpoint_may_have_a_setup_of_its_own(till: Till, shop: Any) -> None:
    own, bare = Y402Setup(), Y402Setup()
    own.add_network(NETWORK)
    own.add_token(NETWORK, "usdc", default_for_symbol=True)
    bare.add_network("base")
    with shop(till, gate={"setup": bare}, custom_setup=own, max_deadline_seconds=77) as url:
        asked = httpx.get(url)
        networks = json.loads(base64.b64decode(asked.headers["X-Payment-Networks"]))
        assert networks == {"base": 8453, NETWORK: 84532}
        assert asked.json()["accepts"][0]["maxTimeoutSeconds"] == 77
        paid = httpx.get(url, headers=header_for(asked, till.ground.payer()), timeout=40)
        assert decode_x_payment_response(paid.headers["X-PAYMENT-RESPONSE"])["success"] is True
    assert till.earned == PRICE


@pytest.mark.parametrize("shop", SHOPS)
def test_a_header_made_by_hand_pays(till: Till, shop: Any) -> None:
    client = Y402Client(Account.from_key(till.ground.payer().key), policy="$0.01")
    with shop(till) as url:
        (entry,) = httpx.get(url).json()["accepts"]
        header = client.create_payment_header(requirements(entry))
        assert httpx.get(url, headers={"X-PAYMENT": header}, timeout=40).status_code == 200
    assert till.earned == PRICE


def test_a_header_made_by_hand_keeps_to_the_policy() -> None:
    client = Y402Client(Account.create(), policy="$0.01", chain_id_by_name={"mine": 84532})
    with pytest.raises(PaymentAmountExceededError):
        client.create_payment_header(requirements(offer(maxAmountRequired="10001")))
    with pytest.raises(PaymentError, match="dogecoin"):
        client.create_payment_header(requirements(offer(network="dogecoin")))
    with pytest.raises(PaymentError, match="version"):
        client.create_payment_header(requirements(offer()), x402_version=2)
    header = client.create_payment_header(requirements(offer(network="mine")), y402_chain_id_by_name={"mine": 8453})
    assert decode_x_payment_response(header)["network"] == "mine"
    assert decode_x_payment_response(encode_payment({"a": b"\x01"})) == {"a": "0x01"}


def requirements(entry: dict[str, Any]) -> PaymentRequirements:
    return PaymentRequirements(
        network=entry["network"],
        max_amount_required=entry["maxAmountRequired"],
        pay_to=entry["payTo"],
        max_timeout_seconds=entry["maxTimeoutSeconds"],
        asset=entry["asset"],
        extra=entry["extra"],
    )


def test_a_storage_manager_that_would_not_be_used_is_refused(till: Till) -> None:
    payment_required(**till.arguments(storage_manager=Dummy()))
    with pytest.raises(MisconfigurationError, match="storage_manager"):
        payment_required(**till.arguments(storage_manager=object()))
