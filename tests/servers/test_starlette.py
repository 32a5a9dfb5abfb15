"""Starlette, and Litestar through plain ASGI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from fastapi import Request
from litestar import Litestar, get
from litestar.types import Scope as LitestarScope
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router

from tests.servers.doors import buy
from tests.shop import PRICE, Ground, Shop
from x402bind.pricing import Listing
from x402bind.seller import Seller
from x402bind.servers import starlette as plain
from x402bind.servers.asgi import PaymentMiddleware

Build = Callable[[Seller], Any]


# ---------------------------------------------------------------------------------------------------------------- starlette


def test_starlette_functions_classes_mounts_and_routers(open_shop: Any) -> None:
    def build(seller: Seller) -> Starlette:
        async def one(request: Request) -> PlainTextResponse:
            return PlainTextResponse(request.scope["x402"].payer)

        class Two(HTTPEndpoint):
            async def get(self, request: Request) -> PlainTextResponse:
                return PlainTextResponse(request.scope["x402"].payer)

        app = Starlette()
        payments = plain.Payments(app, seller)
        priced = payments.required("$0.01")
        app.router.routes += [
            Route("/one", priced(one)),
            Mount("/a", routes=[Mount("/b", app=Router([Route("/two", payments.required(Listing("$0.01"))(Two))]))]),
        ]
        return app

    shop = open_shop(build)
    for path in ("/one", "/a/b/two"):
        payer = shop.ground.payer()
        assert buy(shop, path, payer=payer).text == payer.address
    assert shop.earned == 2 * PRICE


# ----------------------------------------------------------------------------------------------------------------- litestar


def test_litestar_through_plain_asgi(ground: Ground, tmp_path: Path) -> None:

    @get("/paid")
    async def paid(scope: LitestarScope) -> dict[str, str]:
        return {"by": scope["x402"].payer}

    @get("/free")
    async def free() -> dict[str, bool]:
        return {"free": True}

    paid.fn.__annotations__["request"] = __import__("litestar").Request
    with Shop(
        ground,
        tmp_path,
        door=lambda seller: PaymentMiddleware(Litestar([paid, free]), seller, {"/paid": "$0.01"}),
        token_key=None,
    ) as shop:
        payer = ground.payer()
        assert buy(shop, "/paid", payer=payer).json() == {"by": payer.address}
        assert httpx.get(shop.url + "/free").json() == {"free": True}
        assert httpx.get(shop.url + "/PAID/").status_code == 402
        assert shop.earned == PRICE
