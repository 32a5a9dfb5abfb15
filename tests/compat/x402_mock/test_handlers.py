"""Handlers behind the payment: as x402-mock's users write them, and as FastAPI's do."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from x402bind.compat.x402_mock.servers import Http402Server
from x402core import LocalProtocolError

from .stand import PRICE, Sepolia, server, stand


class Order(BaseModel):
    """A body."""

    what: str


def tenant(request: Request) -> str:
    return request.headers.get("x-tenant", "nobody")


def routes(app: Http402Server) -> None:
    @app.get("/items/{item}")
    @app.payment_required
    async def read(item: int, payload, q: str = "none", who: Annotated[str, Depends(tenant)] = ""):  # type: ignore[no-untyped-def]
        return {"item": item, "q": q, "who": who, "address": payload["address"].lower(), "amount": payload["amount"]}

    @app.post("/orders")
    @app.payment_required
    async def order(order: Order):  # type: ignore[no-untyped-def]
        return {"ordered": order.what}

    @app.get("/sync")
    @app.payment_required
    def sync(token: dict):  # type: ignore[no-untyped-def,type-arg]
        return {"sync": sorted(token), "main": threading.current_thread() is threading.main_thread()}

    @app.get("/nothing")
    @app.payment_required
    async def nothing():  # type: ignore[no-untyped-def]
        return {"nothing": True}

    @app.get("/free")
    async def free():  # type: ignore[no-untyped-def]
        return {"free": True}

    router = APIRouter(prefix="/inside")

    @router.get("/room")
    @app.payment_required
    async def room(authorization):  # type: ignore[no-untyped-def]
        return {"room": authorization["network"]}

    app.include_router(router)


def test_each_kind_of_handler_gets_what_it_declares(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer(5 * PRICE)
    answers: dict[str, Any] = {}

    async def buy(url: str) -> None:
        async with payer.client(headers={"X-Tenant": "me"}) as client:
            answers["read"] = (await client.get(f"{url}/items/7?q=yes")).json()
            answers["order"] = (await client.post(f"{url}/orders", json={"what": "tea"})).json()
            answers["sync"] = (await client.get(f"{url}/sync")).json()
            answers["nothing"] = (await client.get(f"{url}/nothing")).json()
            answers["room"] = (await client.get(f"{url}/inside/room")).json()

    with stand(chain, tmp_path, routes) as it:
        assert httpx.get(f"{it.url}/free").json() == {"free": True}
        anyio.run(buy, it.url)
        it.settled(5)
    assert answers["read"] == {"item": 7, "q": "yes", "who": "me", "address": payer.address, "amount": PRICE}
    assert (answers["order"], answers["nothing"]) == ({"ordered": "tea"}, {"nothing": True})
    assert answers["sync"]["main"] is False
    assert set(answers["sync"]["sync"]) >= {"address", "payer", "amount", "exp", "iat", "nonce"}
    assert answers["room"] == {"room": "eip155:11155111"}
    assert payer.money == 0


def test_the_schema_names_each_operation_and_its_own_parameters(chain: Sepolia, tmp_path: Path) -> None:
    app = server(chain, tmp_path)
    routes(app)
    paths = app.openapi()["paths"]
    assert {p["name"] for p in paths["/items/{item}"]["get"]["parameters"]} == {"item", "q"}
    assert paths["/sync"]["get"].get("parameters") is None
    assert "requestBody" in paths["/orders"]["post"]
    assert paths["/items/{item}"]["get"]["operationId"].startswith("read")


def test_a_bad_parameter_is_fastapis_to_refuse_and_costs_nothing_more(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer()

    async def buy(url: str) -> int:
        async with payer.client() as client:
            return (await client.get(f"{url}/items/seven")).status_code

    with stand(chain, tmp_path, routes) as it:
        assert anyio.run(buy, it.url) == 422


def test_a_price_that_stands_above_the_route_keeps_the_server_from_starting(chain: Sepolia, tmp_path: Path) -> None:
    """The README of x402-mock's own docstring has them in that order, which would give the handler away (A19)."""
    app = server(chain, tmp_path)

    @app.payment_required
    @app.get("/data")
    async def data(payload):  # type: ignore[no-untyped-def]
        return {}

    async def start() -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        with pytest.raises(LocalProtocolError, match="on no route"):
            await app({"type": "lifespan", "state": {}}, receive, send)
        assert sent[0]["type"] == "lifespan.startup.failed"

    anyio.run(start)


def test_a_handler_is_not_priced_without_a_way_to_pay(chain: Sepolia, tmp_path: Path) -> None:
    app = server(chain, tmp_path, methods=())
    routes(app)

    async def ask() -> None:
        await app({"type": "lifespan", "state": {}}, None, None)  # type: ignore[arg-type]

    with pytest.raises(LocalProtocolError, match="no payment method") as caught:
        anyio.run(ask)
    assert caught.value.field == "add_payment_method"


def test_a_method_cannot_be_added_to_a_server_that_runs(chain: Sepolia, tmp_path: Path) -> None:
    with stand(chain, tmp_path) as it, pytest.raises(LocalProtocolError, match="has started"):
        it.app.add_payment_method("eip155:1", 0.5, "USDC")
