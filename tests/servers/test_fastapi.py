"""FastAPI: a price on an endpoint, on a real chain; what frameworks do around it keeps working.

The oldest supported releases run the same file in an environment of their own (``tests/peers/test_old_frameworks.py``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.servers.doors import asked, buy
from tests.shop import PRICE, Ground
from x402bind.pricing import Paid
from x402bind.seller import Seller
from x402bind.servers.fastapi import Payments
from x402core.wire import v2

Build = Callable[[Seller], Any]


class Item(BaseModel):
    """A body."""

    name: str
    size: int = 1


def with_everything(seller: Seller) -> FastAPI:
    """Return an application that uses what handlers use."""
    app = FastAPI()
    payments = Payments(app, seller)
    app.state.after = threading.Event()
    app.state.closed = threading.Event()

    async def opened(request: Request) -> Any:
        yield "resource"
        request.app.state.closed.set()

    @app.get("/free")
    async def free() -> dict[str, str]:
        return {"it": "is free"}

    @app.post("/items/{number}")
    @payments.required("$0.01", description="An item", tags=("a", "b"), reference=lambda request: request.url.path)
    async def items(
        number: int,
        item: Item,
        request: Request,
        background: BackgroundTasks,
        resource: str = Depends(opened),
        q: str = "none",
    ) -> dict[str, Any]:
        """Say what came."""
        background.add_task(request.app.state.after.set)
        paid: Paid = request.scope["x402"]
        told = {"by": paid.payer, "amount": paid.amount, "tags": paid.tags, "reference": paid.reference}
        return {"number": number, "item": item.model_dump(), "q": q, "resource": resource, **told}

    @app.get("/sync")
    @payments.required("$0.01")
    def sync(request: Request) -> dict[str, Any]:
        return {"by": request.scope["x402"].payer, "thread": threading.current_thread() is threading.main_thread()}

    payer_of = payments.paid("$0.01")

    @app.get("/depends")
    async def depends(paid: Paid = payer_of) -> dict[str, Any]:
        return {"by": paid.payer, "amount": paid.amount}

    @app.get("/missing")
    @payments.required("$0.01")
    async def missing() -> None:
        raise HTTPException(404, "no such thing")

    @app.get("/raises")
    @payments.required("$0.01")
    async def raises() -> None:
        raise KeyError("secret")

    @app.get("/own")
    @payments.required("$0.01")
    async def own() -> JSONResponse:
        answer = JSONResponse({"own": True}, headers={"X-Own": "1"})
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    @app.exception_handler(KeyError)
    async def on_key_error(_request: Request, _error: KeyError) -> JSONResponse:
        return JSONResponse({"mine": "handled"}, status_code=418)

    router = APIRouter(prefix="/v1")

    @router.get("/report")
    @payments.required("$0.01")
    async def report() -> dict[str, bool]:
        return {"report": True}

    deeper = APIRouter(prefix="/deep")
    deeper.include_router(router)
    app.include_router(router)
    app.include_router(deeper, prefix="/api")

    child = FastAPI()

    @child.get("/secret")
    @payments.required("$0.01")
    async def secret() -> dict[str, bool]:
        return {"secret": True}

    app.mount("/sub", child)

    async def old_style(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("plain")

    app.router.routes.append(Route("/plain", payments.required("$0.01")(old_style)))
    app.add_middleware(GZipMiddleware, minimum_size=1)
    return app


def test_everything_a_handler_declares_still_works(open_shop: Any, ground: Ground) -> None:
    shop = open_shop(with_everything)
    payer = ground.payer()
    answer = buy(shop, "/items/7?q=why", method="POST", payer=payer, json={"name": "x"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "number": 7,
        "item": {"name": "x", "size": 1},
        "q": "why",
        "resource": "resource",
        "by": payer.address,
        "amount": PRICE,
        "tags": ["a", "b"],
        "reference": "/items/7",
    }
    assert v2.PAYMENT_RESPONSE in answer.headers
    assert shop.app.state.after.wait(5), "the background task ran"
    assert shop.app.state.closed.wait(5), "the dependency was closed"
    assert shop.earned == PRICE
    assert httpx.get(shop.url + "/free").json() == {"it": "is free"}


@pytest.mark.parametrize(
    "path", ["/sync", "/depends", "/own", "/v1/report", "/api/deep/v1/report", "/sub/secret", "/plain", "//v1/report/"]
)
def test_each_of_them_costs_and_is_sold(open_shop: Any, path: str) -> None:
    """Y1: included routers and mounted applications were free."""
    shop = open_shop(with_everything)
    answer = httpx.get(shop.url + path, follow_redirects=True)
    if path.startswith("//"):
        assert answer.status_code in (402, 404), "another spelling is no way around it"
        return
    assert (answer.status_code, shop.earned) == (402, 0)
    paid = buy(shop, path)
    assert (paid.status_code, shop.earned) == (200, PRICE), paid.text
    if path == "/own":
        assert paid.headers.get_list("set-cookie") == ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"]
        assert paid.headers["X-Own"] == "1"


@pytest.mark.parametrize(
    "path",
    [
        "/V1/report",
        "/v1/report/",
        "/v1//report",
        "/v1/%72eport",
        "/v1/./report",
        "/sub//secret",
        "/sub/secret/",
        "/%73ub/secret",
    ],
)
def test_no_spelling_gives_it_away(open_shop: Any, path: str) -> None:
    shop = open_shop(with_everything)
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        answer = httpx.request(method, shop.url + path, follow_redirects=True)
        assert answer.status_code in (402, 404, 405), (method, path, answer.status_code)


def test_a_handler_that_fails_is_not_paid_for(open_shop: Any) -> None:
    shop = open_shop(with_everything)
    missing = buy(shop, "/missing")
    assert (missing.status_code, missing.json()) == (404, {"detail": "no such thing"})
    raised = buy(shop, "/raises")
    assert (raised.status_code, raised.json()) == (418, {"mine": "handled"}), "the application's own exception handler"
    refused = buy(shop, "/items/7", method="POST", json={"wrong": 1})
    assert refused.status_code == 422
    assert (shop.earned, {entry.state for entry in shop.entries()}) == (0, {"released"} if shop.entries() else set())


def test_a_method_that_is_not_there_costs_nothing(open_shop: Any) -> None:
    shop = open_shop(with_everything)
    assert httpx.delete(shop.url + "/sync").status_code == 405


def test_openapi_documents_the_402(open_shop: Any) -> None:
    shop = open_shop(with_everything)
    paths = httpx.get(shop.url + "/openapi.json").json()["paths"]
    for path in ("/items/{number}", "/sync", "/depends", "/v1/report", "/api/deep/v1/report"):
        (operation,) = paths[path].values()
        assert "PAYMENT-REQUIRED" in operation["responses"]["402"]["headers"], path
    assert paths["/items/{number}"]["post"]["operationId"].startswith("items_items"), "names stay (A14)"
    assert paths["/items/{number}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "402" not in paths["/free"]["get"]["responses"]


# ------------------------------------------------------------------------------------------------------- computed prices


def test_a_price_may_depend_on_the_request_and_its_body(open_shop: Any) -> None:
    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)

        async def price(request: Request) -> str:
            size = (await request.json())["size"]
            return f"$0.0{size}"

        @app.post("/sized")
        @payments.required(price)
        async def sized(item: Item) -> dict[str, int]:
            return {"size": item.size}

        @app.get("/plain/{cents}")
        @payments.required(lambda request: f"$0.0{request.path_params['cents']}")
        async def by_path(cents: int) -> dict[str, int]:
            return {"cents": cents}

        return app

    shop = open_shop(build)
    assert asked(shop.url + "/sized", method="POST", json={"name": "x", "size": 3}).amount == 30_000
    paid = buy(shop, "/sized", method="POST", json={"name": "x", "size": 3})
    assert (paid.status_code, paid.json(), shop.earned) == (200, {"size": 3}, 30_000)
    assert buy(shop, "/plain/2").json() == {"cents": 2}
    assert shop.earned == 50_000
    cheap = asked(shop.url + "/plain/1")
    header = shop.ground.payer().header(cheap, shop.ground)
    assert httpx.get(shop.url + "/plain/9", headers=header).status_code == 402, "one cent does not buy nine"


def test_a_price_function_that_breaks_charges_nobody(open_shop: Any) -> None:
    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)
        served: list[int] = []
        app.state.served = served

        @app.get("/none")
        @payments.required(lambda _request: None)  # type: ignore[arg-type,return-value]
        async def none() -> None:
            served.append(1)

        @app.get("/boom")
        @payments.required(lambda request: 1 // int(request.query_params["zero"]) and "$1")
        async def boom() -> None:
            served.append(1)

        return app

    shop = open_shop(build)
    for path in ("/none", "/boom?zero=0", "/boom"):
        assert httpx.get(shop.url + path).status_code == 500
    assert shop.app.state.served == []


# -------------------------------------------------------------------------------------------------------------- streaming


def test_a_paid_stream_begins_with_its_first_byte(open_shop: Any) -> None:
    go = threading.Event()

    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)

        @app.get("/stream")
        @payments.required("$0.01")
        async def stream() -> StreamingResponse:
            def pieces() -> Iterator[bytes]:
                yield b"first"
                assert go.wait(10)
                yield b"second"

            return StreamingResponse(pieces(), media_type="text/plain")

        return app

    shop = open_shop(build, settle="before")
    header = shop.ground.payer().header(asked(shop.url + "/stream"), shop.ground)
    with httpx.stream("GET", shop.url + "/stream", headers=header, timeout=20) as answer:
        pieces = answer.iter_raw()
        assert (answer.status_code, next(pieces), shop.earned) == (200, b"first", PRICE)
        go.set()
        assert b"".join(pieces) == b"second"


# ------------------------------------------------------------------------------------------- one permit, at the same time


def test_one_permit_runs_the_handler_once(open_shop: Any) -> None:
    """Y6: eight requests with one permit ran it eight times."""
    runs: list[int] = []

    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)

        @app.get("/slow")
        @payments.required("$0.01")
        def slow() -> dict[str, int]:
            runs.append(1)
            time.sleep(0.05)
            return {"runs": len(runs)}

        return app

    shop = open_shop(build)
    header = shop.ground.payer().header(asked(shop.url + "/slow"), shop.ground)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(httpx.get(shop.url + "/slow", headers=header, timeout=20).status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(runs), shop.earned) == (1, PRICE)
    assert set(answers) <= {200, 409}, answers
    assert 200 in answers


# ---------------------------------------------------------------------------------------------------------- tokens, and HEAD


def test_a_price_within_a_depends_is_the_same(open_shop: Any) -> None:
    runs: list[str] = []

    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)
        price = payments.paid("$0.01")
        within = Depends(price)

        @app.get("/default")
        async def default(paid: Paid = within) -> dict[str, Any]:
            runs.append("default")
            return {"by": paid.payer}

        @app.get("/both")
        async def both(paid: Paid = within, again: Paid = price) -> dict[str, Any]:
            runs.append("both")
            return {"by": paid.payer if paid is again else None}

        @app.get("/listed", dependencies=[within])
        def listed(request: Request) -> dict[str, Any]:
            runs.append("listed")
            return {"by": request.scope["x402"].payer}

        return app

    shop = open_shop(build)
    paths = ("/default", "/both", "/listed")
    for path in paths:
        assert httpx.get(shop.url + path).status_code == 402
    assert runs == []
    for path in paths:
        payer = shop.ground.payer()
        assert buy(shop, path, payer=payer).json() == {"by": payer.address}
    assert (runs, shop.earned) == ([path[1:] for path in paths], 3 * PRICE)
    operations = httpx.get(shop.url + "/openapi.json").json()["paths"]
    assert all("402" in operations[path]["get"]["responses"] and "parameters" not in operations[path]["get"] for path in paths)


def test_tokens_are_sold_for_a_route(open_shop: Any, ground: Ground) -> None:
    shop = open_shop(with_everything, token_key=b"k" * 32)
    answer = httpx.get(shop.url + "/v1/report")
    assert answer.json()["access_token_endpoint"] == "/token?scope=%2Fv1%2Freport"


def test_head_of_a_starlette_route_costs_too(open_shop: Any) -> None:
    shop = open_shop(with_everything)
    assert httpx.head(shop.url + "/plain").status_code == 402


def test_a_token_of_the_cheap_method_does_not_open_the_dear_one(open_shop: Any) -> None:
    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)

        @app.get("/part")
        @payments.required("$0.01")
        async def look() -> None: ...

        @app.post("/part")
        @payments.required("$1")
        async def make() -> None: ...

        return app

    shop = open_shop(build, token_key=b"k" * 32)
    endpoints = [httpx.request(method, shop.url + "/part").json()["access_token_endpoint"] for method in ("GET", "POST")]
    assert endpoints == ["/token?scope=%2Fpart%23look", "/token?scope=%2Fpart%23make"]
