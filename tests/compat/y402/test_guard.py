"""An endpoint with settings raises when it is reached without a sale, above the route's decorator or below, by whatever way."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from fastapi import Depends, FastAPI, Query
from flask import Flask
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from tests.compat.y402.ground import Site, Till, header_for, serving
from tests.shop import PRICE, fresh
from x402bind.compat.y402.api.fastapi.middleware import payment_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings
from x402bind.compat.y402.api.flask.decorator import payment_required as flask_required
from x402bind.compat.y402.api.flask.types.endpoint_settings import X402EndpointSettings as FlaskSettings
from x402bind.compat.y402.core.types import endpoint_settings
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.requirements import RequirePaymentDetails
from x402bind.pricing import Listing
from x402bind.servers.marks import NotSold, mark_of, sold

DETAILS = [RequirePaymentDetails(network="base-sepolia", price="$0.01", pay_to_address=fresh().address)]
ORDERS = ["above", "below"]
orders = pytest.mark.parametrize("order", ORDERS)
Route = Callable[[Any], Any]


def registered(order: str, route: Route, settings: Route, function: Any) -> Any:
    """Write the settings above the route's decorator, as y402's README does for FastAPI, or below it."""
    return settings(route(function)) if order == "above" else route(settings(function))


def endpoints(ran: list[str]) -> list[Any]:
    """Return one endpoint of every kind, closures all of them."""

    def plain() -> str:
        ran.append("plain")
        return "secret"

    async def later() -> str:
        ran.append("later")
        return "secret"

    def pieces() -> Iterator[str]:
        ran.append("pieces")
        yield "secret"

    async def stream() -> AsyncIterator[str]:
        ran.append("stream")
        yield "secret"

    return [plain, later, pieces, stream]


# ---------------------------------------------------------------------------------------------- what no walk has found


@orders
@pytest.mark.parametrize("kind", range(4))
def test_fastapi_without_a_gate_raises_and_runs_nothing(order: str, kind: int) -> None:
    app, ran = FastAPI(), list[str]()
    registered(order, app.get("/it", response_model=None), X402EndpointSettings(payments_details=DETAILS), endpoints(ran)[kind])
    answer = TestClient(app, raise_server_exceptions=False).get("/it")
    assert ("secret" in answer.text, ran) == (False, [])
    if kind < 2:  # of the others, a FastAPI that streams them has sent the head before it asks for the first piece
        assert answer.status_code == 500
        with pytest.raises(NotSold, match=r"test_guard\.py:\d+"):
            TestClient(app).get("/it")


@orders
def test_an_application_that_no_walk_sees_into_is_not_served_free(till: Till, order: str) -> None:
    app, inner, ran = FastAPI(), FastAPI(), list[str]()
    app.middleware("http")(payment_required(**till.arguments()))
    settings = X402EndpointSettings(payments_details=till.costs())
    priced = registered(order, inner.get("/it"), settings, endpoints(ran)[1])

    async def hidden(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    app.mount("/hidden", hidden)
    with Site(app) as site:
        answer = httpx.get(f"{site.origin}/hidden/it")
        assert (answer.status_code, "secret" in answer.text, ran) == (500, False, [])
        app.get("/seen")(priced)
        asked = httpx.get(f"{site.origin}/seen")
        paid = httpx.get(f"{site.origin}/seen", headers=header_for(asked, till.ground.payer()), timeout=30)
        assert (asked.status_code, paid.json(), ran) == (402, "secret", ["later"])
        assert httpx.get(f"{site.origin}/hidden/it").status_code == 500
    assert till.earned == PRICE


@orders
def test_a_route_added_after_the_start_is_sold_and_by_itself_raises(till: Till, order: str) -> None:
    app, ran = FastAPI(), list[str]()
    app.middleware("http")(payment_required(**till.arguments()))
    with Site(app) as site:
        assert httpx.get(f"{site.origin}/late").status_code == 404
        settings = X402EndpointSettings(payments_details=till.costs())
        late = registered(order, app.get("/late"), settings, endpoints(ran)[1])
        assert httpx.get(f"{site.origin}/late").status_code == 402
    with pytest.raises(NotSold):
        anyio.run(late)
    assert ran == []


@orders
def test_a_priced_endpoint_is_no_dependency_and_no_function_to_call(order: str) -> None:
    app, ran = FastAPI(), list[str]()
    later = endpoints(ran)[1]
    priced = registered(order, app.get("/it"), X402EndpointSettings(payments_details=DETAILS), later)

    @app.get("/free", dependencies=[Depends(later)])
    async def free() -> str:
        return "free"

    if order == "above":
        assert priced is later
        with pytest.raises(NotSold):
            TestClient(app).get("/free")
    with pytest.raises(NotSold):
        anyio.run(priced)
    assert (anyio.run(priced.__wrapped__), ran[-1]) == ("secret", "later")


def test_a_class_that_a_route_has_already_is_guarded() -> None:
    app, ran = FastAPI(), list[str]()

    class Endpoint(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            ran.append("class")
            return PlainTextResponse("secret")

    app.add_route("/it", Endpoint)
    X402EndpointSettings(payments_details=DETAILS)(Endpoint)
    with pytest.raises(NotSold, match="Endpoint"):
        TestClient(app).get("/it")
    assert ran == []


@orders
@pytest.mark.parametrize("kind", range(2))
def test_flask_without_require_payment_raises_and_runs_nothing(till: Till, order: str, kind: int) -> None:
    """Y2: the released package serves each of these free."""
    ran = list[str]()
    app = Flask("shop")
    settings, gate = FlaskSettings(payments_details=till.costs()), flask_required(**till.arguments())
    registered(order, app.get("/forgotten"), settings, endpoints(ran)[kind])
    plain = endpoints(ran)[0]
    gate(settings(app.get("/both-above", endpoint="both")(plain)))
    with serving(app, gate) as origin:
        for path in ("/forgotten", "/both-above"):
            answer = httpx.get(origin + path)
            assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert ran == []


# ---------------------------------------------------------------------------------------------------- what stays as it was


def test_a_sold_endpoint_has_its_parameters_defaults_and_cells(till: Till) -> None:
    app, kept = FastAPI(), {"n": 1}
    app.middleware("http")(payment_required(**till.arguments()))

    @X402EndpointSettings(payments_details=till.costs())
    @app.get("/it/{name}")
    async def it(name: str, many: int = 2, *, more: Annotated[int, Query()] = 3) -> list[Any]:
        """Say what it was given."""
        return [name, many, more, kept["n"], it.__name__]

    with Site(app) as site:
        url = f"{site.origin}/it/x?many=5"
        paid = httpx.get(url, headers=header_for(httpx.get(url), till.ground.payer()), timeout=30)
        schema = httpx.get(f"{site.origin}/openapi.json").json()["paths"]["/it/{name}"]["get"]
    assert paid.json() == ["x", 5, 3, 1, "it"]
    assert (schema["description"], len(schema["parameters"])) == ("Say what it was given.", 3)


@pytest.mark.parametrize("made", [X402EndpointSettings, FlaskSettings, endpoint_settings.X402EndpointSettings])
def test_it_is_the_same_function_of_the_same_kind_by_each_framework_and_by_none(made: Any) -> None:
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    for function in endpoints([]):
        of = [kind(function) for kind in kinds]
        signature, name, source = inspect.signature(function, eval_str=True), function.__qualname__, inspect.getsource(function)
        assert made(payments_details=DETAILS)(function) is function
        assert [kind(function) for kind in kinds] == of
        assert (inspect.signature(function), function.__qualname__) == (signature, name)
        assert inspect.getsource(function) == source
        with pytest.raises(MisconfigurationError, match="priced twice"):
            made(payments_details=DETAILS)(function)


def test_a_stream_that_is_closed_closes_the_endpoint_s_own() -> None:
    closed: list[str] = []

    @X402EndpointSettings(payments_details=DETAILS)
    async def stream() -> AsyncGenerator[str]:
        try:
            yield "one"
            yield "two"
        finally:
            await anyio.lowlevel.checkpoint()
            closed.append("stream")

    async def test() -> None:
        with sold(_listing(stream)):
            pieces = stream()
            assert (await anext(pieces), closed) == ("one", [])
            await pieces.aclose()
            assert closed == ["stream"]

    anyio.run(test)


@pytest.mark.parametrize("kind", range(4))
def test_a_traceback_names_the_guard_and_not_the_file_that_made_it(kind: int) -> None:
    function = X402EndpointSettings(payments_details=DETAILS)(endpoints([])[kind])
    assert function.__code__.co_filename == "<x402 guard>"
    with pytest.raises(NotSold) as caught:
        _ran(function)
    files = [entry.filename for entry in traceback.extract_tb(caught.tb)]
    assert ("<x402 guard>" in files, any(each.endswith("guard.py") and "test" not in each for each in files)) == (True, False)


@pytest.mark.parametrize("kind", range(4))
def test_an_endpoint_of_every_kind_runs_when_it_is_sold(kind: int) -> None:
    ran: list[str] = []
    function = X402EndpointSettings(payments_details=DETAILS)(endpoints(ran)[kind])
    with sold(_listing(function)):
        assert (_ran(function), len(ran)) == ("secret", 1)


def test_defaults_are_the_endpoint_s_and_the_guard_has_none_of_them() -> None:
    @X402EndpointSettings(payments_details=DETAILS)
    def it(name: str, many: int = 2, *, more: int = 3) -> tuple[Any, ...]:
        return name, many, more

    with sold(_listing(it)):
        assert (it("x"), it("x", 5, more=6)) == (("x", 2, 3), ("x", 5, 6))
    assert (it.__defaults__, list(it.__kwdefaults__ or {})) == (None, ["__x402_found__"])
    assert it.__wrapped__("x") == ("x", 2, 3)  # type: ignore[attr-defined]


def _listing(function: Any) -> Listing:
    found = mark_of(function)
    assert found is not None
    return found.listing


def _ran(function: Any) -> Any:
    """Call an endpoint of any kind; return what it gives, or gives first."""
    made = function()
    if inspect.isgenerator(made):
        return next(made)

    async def later() -> Any:
        return await (anext(made) if inspect.isasyncgen(made) else made)

    return anyio.run(later) if inspect.isasyncgen(made) or inspect.iscoroutine(made) else made


def test_what_cannot_be_guarded_where_a_route_has_it_is_refused() -> None:
    settings = X402EndpointSettings(payments_details=DETAILS)
    for wrong in (functools.partial(max, 1), functools.lru_cache(lambda: 1), print, _Called(), _Called().__call__):
        with pytest.raises(MisconfigurationError, match="write it above a function"):
            settings(wrong)


class _Called:
    def __call__(self) -> str:
        return "secret"
