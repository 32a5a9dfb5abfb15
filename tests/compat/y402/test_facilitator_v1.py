"""A facilitator that speaks x402 v1 alone is named at start-up, with what to change; nothing is offered through it."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI

from tests.compat.y402.ground import Site, Till, header_for
from tests.compat.y402.relay import FirstVersionOnly
from tests.compat.y402.shops import SHOPS
from tests.shop import PRICE
from x402bind.compat.y402.api.fastapi.middleware import payment_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings

shops = pytest.mark.parametrize("shop", SHOPS)
SAID = "settles base-sepolia in x402 v1 only, and is asked in v2: name one whose /supported has x402Version 2"


@shops
@pytest.mark.parametrize("computed", [False, True])
def test_a_stand_in_that_speaks_v1_alone_is_named_and_nothing_is_offered(
    till: Till, shop: Any, computed: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    front = FirstVersionOnly(till.url)
    settings = {"payments_details": lambda request: till.costs()} if computed else {}
    with Site(front) as site, caplog.at_level(logging.ERROR):
        till.url = site.origin
        with shop(till, **settings) as url:
            answers = [httpx.get(url) for _ in range(2)]
    assert [(answer.status_code, "accepts" in answer.text) for answer in answers] == [(500, False)] * 2
    assert f"facilitator_config: {site.origin} {SAID}" in caplog.text + capfd.readouterr().err
    assert (front.asked, front.unheard) == ([], [])


def test_an_installed_gate_does_not_start_with_a_stand_in_that_speaks_v1_alone(till: Till) -> None:
    app, said = FastAPI(), list[Any]()

    @X402EndpointSettings(payments_details=till.costs())
    @app.get("/it")
    def it() -> str:
        return "it"

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    with Site(FirstVersionOnly(till.url)) as site:
        till.url = site.origin
        payment_required(**till.arguments()).install(app)
        anyio.run(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    (failed,) = said
    assert (failed["type"], failed["message"].count("facilitator_config")) == ("lifespan.startup.failed", 1)
    assert SAID in failed["message"]


@shops
def test_a_facilitator_that_settles_elsewhere_is_named_too(
    till: Till, shop: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with Site(FirstVersionOnly(till.url, (2, "eip155:8453"), (1, "base"))) as site, caplog.at_level(logging.ERROR):
        till.url = site.origin
        with shop(till) as url:
            assert httpx.get(url).status_code == 500
        with shop(till, payments_details=lambda request: till.costs()) as url:  # what it will be priced in, nobody knows yet
            assert httpx.get(url).status_code == 402
    assert f"facilitator_config: {site.origin} does not settle on eip155:84532" in caplog.text + capfd.readouterr().err


@shops
def test_a_payer_in_v1_is_sold_to_by_a_facilitator_that_has_both_versions(till: Till, shop: Any) -> None:
    with shop(till) as url:
        asked = httpx.get(url)
        assert asked.json()["x402Version"] == 1
        paid = httpx.get(url, headers=header_for(asked, till.ground.payer()), timeout=30)
        assert (paid.status_code, "X-PAYMENT-RESPONSE" in paid.headers, till.earned) == (200, True, PRICE)
