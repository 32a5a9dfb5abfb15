"""What keeps an application from starting: prices that nobody could be asked for; and the guard behind the audit."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from flask import Flask
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Mount, Route

from tests.shop import RELAYER_KEY, Ground, Shop
from x402bind.chain.devnet import Devnet
from x402bind.pricing import Paid
from x402bind.seller import Seller
from x402bind.servers import asgi, flask, wsgi
from x402bind.servers import starlette as plain
from x402bind.servers.fastapi import Payments
from x402bind.servers.marks import NotSold
from x402core.errors import LocalProtocolError
from x402core.schemes.scheme import EXPIRY_MARGIN

Build = Callable[[Seller], Any]


# -------------------------------------------------------------------------------------------------------------- the audit


def seller_of(ground: Ground, **how: Any) -> Seller:
    """Return a seller that sells nothing here."""
    return Seller(key=RELAYER_KEY, rpc={"base-sepolia": ground.url}, ledger="memory:", url="http://127.0.0.1", **how)


def refused(payments: plain.Payments, *words: str) -> None:
    """Expect the audit to refuse, naming what to change."""
    with pytest.raises(LocalProtocolError) as error:
        payments.audit()
    assert error.value.field == "required"
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_decorator_above_the_routes_own_keeps_it_from_starting(ground: Ground) -> None:
    app = FastAPI()
    payments = Payments(app, seller_of(ground))

    @payments.required("$0.01")
    @app.get("/report")
    async def report() -> None: ...

    refused(payments, "report", "/report", "test_audit.py", "under the route's decorator")


def test_a_price_on_no_route_keeps_it_from_starting(ground: Ground) -> None:
    app = FastAPI()
    payments = Payments(app, seller_of(ground))

    @payments.required("$0.01")
    async def forgotten() -> None: ...

    refused(payments, "forgotten", "on no route")


def test_a_priced_websocket_keeps_it_from_starting(ground: Ground) -> None:
    app = FastAPI()
    payments = Payments(app, seller_of(ground))

    @app.websocket("/ws")
    @payments.required("$0.01")
    async def socket(ws: WebSocket) -> None: ...

    refused(payments, "WebSocket", "/ws")


def test_two_prices_keep_it_from_starting(ground: Ground) -> None:
    app = FastAPI()
    payments = Payments(app, seller_of(ground))

    dearer = payments.paid("$0.02")

    @app.get("/both")
    @payments.required("$0.01")
    async def both(_paid: Paid = dearer) -> None: ...

    refused(payments, "two prices", "/both")
    with pytest.raises(LocalProtocolError, match="priced twice"):
        payments.required("$0.01")(payments.required("$0.02")(lambda: None))


def test_what_is_priced_twice_is_named_where_it_was_written(ground: Ground) -> None:
    payments = Payments(FastAPI(), seller_of(ground))

    @payments.required("$0.01")
    async def report() -> None: ...

    with pytest.raises(LocalProtocolError, match=r"report \(.*test_audit\.py:\d+\) is priced twice"):
        payments.required("$0.02")(report)
    with pytest.raises(LocalProtocolError, match=r"report \(.*test_audit\.py:\d+\) is priced twice"):
        payments.required("$0.02")(functools.wraps(report)(lambda: report()))


@pytest.mark.parametrize("make", [Payments, plain.Payments])
@pytest.mark.parametrize("mounted", [False, True])
def test_a_price_on_a_method_of_a_class_says_to_put_it_on_the_class(ground: Ground, make: Any, mounted: bool) -> None:
    app = FastAPI()
    payments = make(app, seller_of(ground))

    class Report(HTTPEndpoint):
        @payments.required("$0.01")  # type: ignore[untyped-decorator]
        async def get(self, request: Any) -> None: ...

    route = Route("/report", Report)
    app.router.routes.append(Mount("/in", routes=[route]) if mounted else route)
    refused(payments, "Report.get", "on no route", "put it on the class", "test_audit.py")


@pytest.mark.parametrize("price", ["$0", "free", -1, 0.5, None, True, "$0.0000001", [], {"a": 1}])
def test_what_is_no_price_is_refused_where_it_is_written(ground: Ground, price: Any) -> None:
    payments = Payments(FastAPI(), seller_of(ground))
    with pytest.raises(LocalProtocolError) as error:
        payments.required(price)
    assert error.value.field in ("price", "prices")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # uvicorn leaves with sys.exit
def test_an_application_that_must_not_start_does_not_answer_either(ground: Ground, tmp_path: Path) -> None:
    """Y2's kin: where nobody starts us up (no lifespan), the first request finds out."""

    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)

        @payments.required("$0.01")
        @app.get("/report")
        async def report() -> dict[str, int]:
            return {"given": 1}

        return app

    shop = Shop(ground, tmp_path, door=build, token_key=None)
    with pytest.raises(AssertionError, match="did not start"):
        shop.__enter__()
    transport = httpx.ASGITransport(app=shop.app, raise_app_exceptions=False)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/report")

    assert anyio.run(ask).status_code == 500


def test_a_route_added_after_the_audit_is_not_free(open_shop: Any) -> None:
    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        app.state.payments = Payments(app, seller)
        app.state.priced = app.state.payments.required("$0.01")(late)
        app.get("/there")(app.state.priced)
        return app

    async def late() -> dict[str, int]:
        return {"given": 1}

    shop = open_shop(build)
    shop.app.add_api_route("/late", shop.app.state.priced)
    assert httpx.get(shop.url + "/late").status_code == 500, "reached without a sale: the guard holds"
    assert httpx.get(shop.url + "/there").status_code == 402


def test_a_priced_function_called_as_one_says_so(ground: Ground) -> None:
    payments = Payments(FastAPI(), seller_of(ground))
    priced = payments.required("$0.01")(lambda: 1)
    with pytest.raises(NotSold):
        priced()
    assert priced.__wrapped__() == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", ["chain", "price"])
@pytest.mark.parametrize("lifespan", [True, False], ids=["with a lifespan", "without"])
def test_a_test_client_is_told_when_it_enters(ground: Ground, tmp_path: Path, wrong: str, lifespan: bool) -> None:
    """It hung when it left, or said so only then."""

    @asynccontextmanager
    async def life(_app: Any) -> AsyncIterator[None]:
        yield

    with Devnet(chain_id=1) as other:
        app = FastAPI(lifespan=life if lifespan else None)
        shop = Shop(ground, tmp_path, rpc=other.url if wrong == "chain" else ground.url)
        payments = Payments(app, shop.seller)
        if wrong == "price":
            payments.required("$0.01")(lambda: None)
        with pytest.raises(LocalProtocolError, match="chain 1" if wrong == "chain" else "is on no route"), TestClient(app):
            raise AssertionError("it entered")


def test_a_price_without_a_price_is_refused(ground: Ground, tmp_path: Path) -> None:
    app, flasks = FastAPI(), Flask("shop")
    seller = Shop(ground, tmp_path).seller

    async def view() -> int:
        return 1

    payments: Any = Payments(app, seller)
    app.get("/paid")(payments.required(view))
    with pytest.raises(LocalProtocolError, match=r"/paid has a price for an endpoint: write @payments\.required\(price\)"):
        payments.audit()
    priced: Any = flask.Payments(flasks, seller)
    flasks.get("/paid")(priced.required(lambda: "x"))
    with pytest.raises(LocalProtocolError, match=r"/paid has a price for an endpoint"):
        priced.check()


# --------------------------------------------------------------------------------------------------- wrong configurations

MISTAKES: list[tuple[str, Any, str]] = [
    ("rpc", "http://127.0.0.1:1", '{"base-sepolia": "http'),
    ("rpc", None, '{"base-sepolia": "http'),
    ("rpc", {}, '{"base-sepolia": "http'),
    ("networks", "base-sepolia", 'networks=("base-sepolia",)'),
    ("networks", None, 'networks=("base-sepolia",)'),
    ("methods", "eip3009", 'methods=("eip3009",)'),
    ("factories", "0x" + "11" * 20, "factories="),
    ("managers", "0x" + "11" * 20, "managers="),
    ("ledger", None, "memory:"),
    ("ledger", Path("sales.db"), "memory:"),
    ("timeout", "5", "6 or more"),
    ("timeout", 1, "6 or more"),
    ("timeout", 5, "6 or more"),
    ("timeout", 60.0, "6 or more"),
    ("timeout", True, "6 or more"),
    ("patience", -1, "0 or more"),
    ("patience", "30", "0 or more"),
    ("patience", float("nan"), "0 or more"),
    ("patience", None, "0 or more"),
    ("on_refund_due", 5, "a function"),
    ("key", None, "a facilitator"),
    ("key", 5, "64 hex digits"),
    ("token_key", "k" * 32, "32 or more secret bytes"),
    ("token_lifetime", "1h", "1 or more"),
    ("most_open", "$1", "atomic units"),
]


@pytest.mark.parametrize(("field", "wrong", "said"), MISTAKES)
def test_a_seller_set_up_wrongly_says_what_to_write(ground: Ground, field: str, wrong: Any, said: str) -> None:
    given = {"key": RELAYER_KEY, "rpc": {"base-sepolia": ground.url}, "ledger": "memory:", field: wrong}
    with pytest.raises(LocalProtocolError) as caught:
        Seller(**given)
    assert caught.value.field == field
    assert said in str(caught.value)


def test_the_shortest_timeout_is_what_a_permit_must_still_have(ground: Ground) -> None:
    assert seller_of(ground, timeout=EXPIRY_MARGIN, patience=0).timeout == EXPIRY_MARGIN == 6


def test_a_facilitator_needs_networks_and_no_node() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Seller(facilitator="https://f.example", ledger="memory:", pay_to="0x" + "11" * 20)
    assert caught.value.field == "networks"
    assert "name at least one network" in str(caught.value)
    assert "node" not in str(caught.value)


@pytest.mark.parametrize("facilitator", [5, (), [None], {"https://f.example", 5}])
def test_what_is_no_facilitator_is_refused(facilitator: Any) -> None:
    with pytest.raises(LocalProtocolError, match="by its URL") as caught:
        Seller(facilitator=facilitator, networks=("base-sepolia",), ledger="memory:", pay_to="0x" + "11" * 20)
    assert caught.value.field == "facilitator"


@pytest.mark.parametrize(
    ("field", "wrong", "said"),
    [
        ("prices", ["/p"], '{"/premium": "$0.01"}'),
        ("prices", "/p", '{"/premium": "$0.01"}'),
        ("prices", None, '{"/premium": "$0.01"}'),
        ("prices", {5: "$1"}, "5 is not a whole path"),
        ("free", "/health", 'free=("/health",)'),
        ("free", [5], "/health"),
        ("upto", "/p", 'upto=("/premium",)'),
        ("hold_most", "1MB", "bytes"),
        ("hold_most", -1, "bytes"),
        ("body_most", "1MB", "bytes"),
        ("body_most", 1.5, "bytes"),
        ("body_most", True, "bytes"),
        ("token_path", 5, "/token"),
        ("token_path", "token", "/token"),
        ("seller", None, "not NoneType"),
        ("seller", "0x12", "not str"),
    ],
)
@pytest.mark.parametrize("door", [asgi.PaymentMiddleware, wsgi.PaymentMiddleware])
def test_a_door_set_up_wrongly_says_what_to_write(ground: Ground, door: Any, field: str, wrong: Any, said: str) -> None:
    given = {"seller": seller_of(ground), "prices": {"/p": "$1"}, field: wrong}
    with pytest.raises(LocalProtocolError) as caught:
        door(lambda *_: None, **given)
    assert caught.value.field == field
    assert said in str(caught.value)
