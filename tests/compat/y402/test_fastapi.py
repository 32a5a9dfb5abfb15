"""y402's FastAPI middleware over this core: real chain, real facilitator, real sockets."""

from __future__ import annotations

import base64
import json
from typing import Any

import anyio
import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request

from tests.compat.y402.ground import Site, Till, header_for
from tests.shop import PRICE
from x402bind.compat.y402.api.fastapi.middleware import payment_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings
from x402core.errors import LocalProtocolError


def shop(till: Till, seen: list[Any] | None = None, **settings: Any) -> FastAPI:
    """Return y402's README server, one endpoint in a router that is included after the middleware is added."""
    app = FastAPI()
    app.middleware("http")(payment_required(**till.arguments()))
    router = APIRouter(prefix="/api")

    @X402EndpointSettings(payments_details=till.costs(), **settings)
    @router.post("/buy/{item}")
    async def buy(item: str, request: Request, body: dict[str, int]) -> dict[str, Any]:
        if seen is not None:
            seen.append(request.state.x402)
        return {"item": item, "body": body}

    @router.get("/free")
    async def free() -> str:
        return "free"

    app.include_router(router)
    return app


def test_an_included_routers_endpoint_is_sold(till: Till) -> None:
    seen: list[Any] = []
    payer = till.ground.payer()
    app = shop(till, seen, reference_param="item", tags=["a", "b"], description="An item", mime_type="text/plain")
    with Site(app) as site:
        url = f"{site.origin}/api/buy/bronze"
        assert httpx.get(f"{site.origin}/api/free").json() == "free"
        asked = httpx.post(url, json={"n": 1})
        assert asked.status_code == 402
        assert json.loads(base64.b64decode(asked.headers["X-Payment-Networks"])) == {"base-sepolia": 84532}
        (offer,) = asked.json()["accepts"]
        assert (offer["network"], offer["maxAmountRequired"], offer["maxTimeoutSeconds"]) == ("base-sepolia", "10000", 60)
        assert (offer["resource"], offer["description"], offer["mimeType"]) == ("/api/buy/bronze", "An item", "text/plain")
        paid = httpx.post(url, json={"n": 1}, headers=header_for(asked, payer), timeout=30)
        assert (paid.status_code, paid.json()) == (200, {"item": "bronze", "body": {"n": 1}})
        receipt = json.loads(base64.b64decode(paid.headers["X-PAYMENT-RESPONSE"]))
        assert receipt["success"] is True
    assert till.earned == PRICE
    (state,) = seen
    assert (state["reference"], state["tags"], state["payer"]) == ("bronze", ["a", "b"], payer.address)
    assert state["payment_id"].version == 5


@pytest.mark.parametrize("installed", [False, True])
def test_both_ways_of_adding_it_sell_alike(till: Till, installed: bool) -> None:
    app = FastAPI()
    gate = payment_required(**till.arguments())

    @X402EndpointSettings(payments_details=till.costs())
    @app.get("/report")
    def report() -> str:
        return "report"

    if installed:
        gate.install(app)
    else:
        app.middleware("http")(gate)
    with Site(app) as site:
        asked = httpx.get(f"{site.origin}/report")
        paid = httpx.get(f"{site.origin}/report", headers=header_for(asked, till.ground.payer()), timeout=30)
        assert (asked.status_code, paid.status_code, paid.text) == (402, 200, '"report"')
    assert till.earned == PRICE


def test_a_mounted_application_with_a_gate_of_its_own_is_sold_there_and_once(till: Till) -> None:
    app, sub = FastAPI(), FastAPI()
    app.middleware("http")(payment_required(**till.arguments(mime_type="text/outer")))
    sub.middleware("http")(payment_required(**till.arguments(mime_type="text/inner")))
    for each in (app, sub):
        X402EndpointSettings(payments_details=till.costs())(each.get("/it")(_it()))
    app.mount("/sub", sub)
    with Site(app) as site:
        for path, kind in (("/it", "text/outer"), ("/sub/it", "text/inner")):
            asked = httpx.get(site.origin + path)
            assert asked.json()["accepts"][0]["mimeType"] == kind
            paid = httpx.get(site.origin + path, headers=header_for(asked, till.ground.payer()), timeout=30)
            assert paid.status_code == 200
    assert till.earned == 2 * PRICE


def _it() -> Any:
    def it() -> str:
        return "it"

    return it


def test_an_installed_gate_keeps_an_application_that_cannot_be_sold_from_starting(till: Till) -> None:
    app = FastAPI()
    payment_required(**till.arguments()).install(app)
    X402EndpointSettings(payments_details=till.costs(), reference_param="missing")(app.get("/it")(_it()))
    said: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    with pytest.raises(LocalProtocolError, match="'missing'"):
        anyio.run(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    (failed,) = said
    assert (failed["type"], "'missing'" in failed["message"]) == ("lifespan.startup.failed", True)
