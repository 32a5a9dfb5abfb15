"""Hooks and subscribers: what they are told, that they cannot hurt, and settling by hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.shop import until
from x402bind.compat.x402_mock.engine import (
    AuthorizationSuccessEvent,
    BreakEvent,
    Dependencies,
    EventBus,
    EventChain,
    Http402PaymentEvent,
    RequestInitEvent,
    RequestTokenEvent,
    SettleSuccessEvent,
    TokenIssuedEvent,
    VerifyFailedEvent,
    VerifySuccessEvent,
)
from x402bind.compat.x402_mock.servers import Http402Server

from .stand import CHAIN, PRICE, Sepolia, plain, server, stand

ALL = (
    RequestInitEvent,
    Http402PaymentEvent,
    RequestTokenEvent,
    VerifySuccessEvent,
    VerifyFailedEvent,
    TokenIssuedEvent,
    AuthorizationSuccessEvent,
    SettleSuccessEvent,
)


def listening(told: list[Any]) -> Any:
    def routes(app: Http402Server) -> None:
        plain(app)
        for kind in ALL:

            @app.hook(kind)
            async def hear(event: Any, deps: Dependencies) -> None:
                assert deps.adapters_hub is app.adapter_hub
                told.append(event)

    return routes


async def buy(url: str, payer: Any) -> None:
    async with payer.client() as client:
        assert (await client.get(f"{url}/data")).status_code == 200


def test_a_purchase_is_told_from_the_402_to_the_money(chain: Sepolia, tmp_path: Path) -> None:
    told: list[Any] = []
    payer = chain.payer()
    with stand(chain, tmp_path, listening(told)) as it:
        anyio.run(buy, it.url, payer)
        it.settled()
        until(lambda: any(isinstance(each, SettleSuccessEvent) for each in told))
    kinds = [type(each) for each in told]
    assert set(kinds) == set(ALL) - {VerifyFailedEvent}
    found = {type(each): each for each in told}
    component = found[Http402PaymentEvent].payment_scheme.payment_components[0]
    assert (str(component.amount), component.caip2, component.currency) == ("0.5", CHAIN, "USDC")
    assert found[VerifySuccessEvent].verification_result.is_success()
    assert found[AuthorizationSuccessEvent].payload["address"].lower() == payer.address
    settled = found[SettleSuccessEvent].settlement_result
    assert (settled.is_success(), settled.authorized_amount, settled.payer.lower()) == (True, PRICE, payer.address)
    assert settled.tx_hash.startswith("0x")
    assert len(settled.tx_hash) == 66
    assert found[TokenIssuedEvent].token_response.access_token not in repr(told)


def test_a_refusal_is_told(chain: Sepolia, tmp_path: Path) -> None:
    told: list[Any] = []
    with stand(chain, tmp_path, listening(told)) as it:
        assert httpx.post(f"{it.url}/token", content=b"{}").status_code in (400, 404)
        until(lambda: told)
    assert [type(each) for each in told] == [VerifyFailedEvent]


def test_without_automatic_settlement_what_was_taken_waits_to_be_settled(chain: Sepolia, tmp_path: Path) -> None:
    told: list[Any] = []
    payer = chain.payer()

    def routes(app: Http402Server) -> None:
        listening(told)(app)

        @app.post("/settle")
        async def settle(permit: dict[str, Any]) -> Any:
            return (await app.adapter_hub.settle(permit)).model_dump(mode="json")

    with stand(chain, tmp_path, routes, enable_auto_settlement=False) as it:
        anyio.run(buy, it.url, payer)
        until(lambda: any(isinstance(each, RequestTokenEvent) for each in told))
        assert it.app.seller is not None
        (entry,) = it.app.seller.ledger.entries()
        assert (entry.state, payer.money) == ("intent", 1_000_000)
        permit = next(each.permit for each in told if isinstance(each, RequestTokenEvent))
        settled = httpx.post(f"{it.url}/settle", json=permit.model_dump(mode="json"), timeout=20).json()
        assert (settled["status"], settled["authorized_amount"]) == ("success", PRICE)
        (entry,) = it.settled()
    assert (entry.state, payer.money) == ("settled", 1_000_000 - PRICE)


# ----------------------------------------------------------------------------------------------------------- the bus


def test_only_async_functions_listen(chain: Sepolia, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="coroutine"):
        server(chain, tmp_path).add_hook(TokenIssuedEvent, lambda event, deps: None)  # type: ignore[arg-type,return-value]


def test_a_subscribers_answer_is_an_event_that_follows_and_a_ring_of_them_ends(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()

    async def again(event: Any, deps: Dependencies) -> Any:
        return VerifyFailedEvent(error_message="once more")

    async def wrong(event: Any, deps: Dependencies) -> Any:
        return "no event"

    async def ends(event: Any, deps: Dependencies) -> Any:
        return BreakEvent()

    async def run() -> list[Any]:
        return [each async for each in EventChain(bus, Dependencies()).execute(RequestInitEvent(token=None))]

    bus.subscribe(RequestInitEvent, again)
    bus.subscribe(RequestInitEvent, wrong)
    bus.subscribe(VerifyFailedEvent, ends)
    with caplog.at_level(logging.ERROR):
        assert [type(each) for each in anyio.run(run)] == [VerifyFailedEvent, BreakEvent]
    assert "no event" in caplog.text
    bus.subscribe(VerifyFailedEvent, again)
    assert len(anyio.run(run)) < 100
