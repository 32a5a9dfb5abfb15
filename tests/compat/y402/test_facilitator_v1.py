"""A facilitator that speaks x402 v1 alone, as the released y402 asks it, settles what is sold here too."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI

from tests.compat.y402.ground import Site, Till, base_sepolia, header_for
from tests.compat.y402.relay import FirstVersionOnly
from tests.compat.y402.shops import SHOPS
from tests.shop import FUNDS, PRICE, client
from x402bind.compat.y402.api.fastapi.middleware import payment_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings
from x402core.errors import LocalProtocolError
from x402core.events import Dialect

shops = pytest.mark.parametrize("shop", SHOPS)


@shops
@pytest.mark.parametrize("settle", ["after", "before"])
@pytest.mark.parametrize("computed", [False, True])
def test_payers_of_either_version_are_sold_to_through_a_stand_in_that_speaks_v1_alone(
    till: Till, shop: Any, computed: bool, settle: str
) -> None:
    front, first, second = FirstVersionOnly(till.url), till.ground.payer(), till.ground.payer()
    settings = {"payments_details": lambda request: till.costs()} if computed else {}
    with Site(front) as site:
        till.url = site.origin
        with shop(till, gate={"settle": settle}, **settings) as url:
            paid = httpx.get(url, headers=header_for(httpx.get(url), first), timeout=30)
            assert (paid.status_code, "X-PAYMENT-RESPONSE" in paid.headers, till.earned) == (200, True, PRICE)
            with client(second.purse(till.ground, Dialect.V2)) as (paying, _):
                assert paying.get(url).status_code == 200
    assert till.earned == 2 * PRICE
    assert [till.ground.balance(payer.address) for payer in (first, second)] == [FUNDS - PRICE] * 2
    assert (set(front.asked), front.unheard) == ({"/verify", "/settle"}, [])


def test_an_installed_gate_starts_with_a_stand_in_that_speaks_v1_alone(till: Till) -> None:
    app = FastAPI()

    @X402EndpointSettings(payments_details=till.costs())
    @app.get("/it")
    def it() -> str:
        return "it"

    with Site(FirstVersionOnly(till.url)) as site:
        till.url = site.origin
        payment_required(**till.arguments()).install(app)
        with Site(app) as ours:
            url = f"{ours.origin}/it"
            assert httpx.get(url, headers=header_for(httpx.get(url), till.ground.payer()), timeout=30).json() == "it"
    assert till.earned == PRICE


ELSEWHERE = ((2, "eip155:8453"), (1, "base"))


@shops
@pytest.mark.parametrize("computed", [False, True])
def test_a_facilitator_that_settles_elsewhere_is_named_and_nothing_is_offered(
    till: Till, shop: Any, computed: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    front = FirstVersionOnly(till.url, *ELSEWHERE)
    settings = {"payments_details": lambda request: till.costs()} if computed else {}
    with Site(front) as site, caplog.at_level(logging.ERROR):
        till.url = site.origin
        with shop(till, **settings) as url:
            answers = [httpx.get(url) for _ in range(2)]
    assert [(answer.status_code, "accepts" in answer.text) for answer in answers] == [(500, False)] * 2
    assert f"facilitator_config: {site.origin} does not settle on eip155:84532" in caplog.text + capfd.readouterr().err
    assert (front.asked, front.unheard) == ([], [])


def test_an_installed_gate_does_not_start_with_a_facilitator_that_settles_elsewhere(till: Till) -> None:
    app, said = FastAPI(), list[Any]()

    @X402EndpointSettings(payments_details=till.costs())
    @app.get("/it")
    def it() -> str:
        return "it"

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    with Site(FirstVersionOnly(till.url, *ELSEWHERE)) as site:
        till.url = site.origin
        payment_required(**till.arguments()).install(app)
        with pytest.raises(LocalProtocolError, match="does not settle on"):
            anyio.run(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    (failed,) = said
    assert (failed["type"], failed["message"].count("facilitator_config")) == ("lifespan.startup.failed", 1)
    assert "does not settle on eip155:84532" in failed["message"]


@shops
def test_a_price_that_is_computed_where_it_does_not_settle_is_not_offered(
    till: Till, shop: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A function may price on any network of the setup; where some are settled on, the others show when they are priced."""
    wide = base_sepolia()
    wide.add_network("base")
    with Site(FirstVersionOnly(till.url, *ELSEWHERE)) as site, caplog.at_level(logging.ERROR):
        till.url = site.origin
        with shop(till, gate={"setup": wide}, payments_details=lambda request: till.costs()) as url:
            answer = httpx.get(url)
    assert (answer.status_code, "accepts" in answer.text) == (500, False)
    assert "no facilitator settles exact by eip3009 on eip155:84532" in caplog.text + capfd.readouterr().err


@shops
def test_a_payer_in_v1_is_sold_to_by_a_facilitator_that_has_both_versions(till: Till, shop: Any) -> None:
    with shop(till) as url:
        asked = httpx.get(url)
        assert asked.json()["x402Version"] == 1
        paid = httpx.get(url, headers=header_for(asked, till.ground.payer()), timeout=30)
        assert (paid.status_code, "X-PAYMENT-RESPONSE" in paid.headers, till.earned) == (200, True, PRICE)
