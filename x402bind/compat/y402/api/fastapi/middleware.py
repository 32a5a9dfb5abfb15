"""y402's FastAPI middleware: ``app.middleware("http")(payment_required(...))``, and endpoints with settings are sold.

What is sold is found by walking the application's routes, those of included routers and mounts too, and the sale is around the
route itself, however it is reached (Y1).  A middleware function first hears of its application with the first request, so
that is when the routes are walked: with settings that do not fit, or a price that means nothing, no request is answered.
To be told before the application starts, or to run under trio, write ``payment_required(...).install(app)`` instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Literal

from x402bind.compat.y402.api.page import Html
from x402bind.compat.y402.api.selling import LEDGER, Endpoint, Options, Selling, state_of
from x402bind.compat.y402.core.types.endpoint_settings import settings_of
from x402bind.compat.y402.core.types.errors import ConditionalDependencyError, MisconfigurationError
from x402bind.compat.y402.core.types.facilitator import FacilitatorConfig
from x402bind.compat.y402.core.types.paywall import PaywallConfig
from x402bind.compat.y402.core.types.setup import Y402Setup
from x402bind.compat.y402.storage.base import StorageManager
from x402bind.ledger.contract import Ledger
from x402bind.seller import Seller
from x402bind.servers.held import App, Receive, Scope, Send
from x402bind.servers.lifespan import live, unproved
from x402bind.servers.marks import SOLD, Mark, mark_of
from x402bind.servers.sale import Sale
from x402bind.servers.starlette import Found, walk
from x402core.errors import LocalProtocolError

try:
    from starlette.requests import Request
    from starlette.responses import Response
except ImportError:
    raise ConditionalDependencyError("FastAPI is not installed: pip install fastapi") from None

__all__ = ["Gate", "payment_required"]

_log: Final = logging.getLogger("x402bind.compat.y402")
_ASKED: Final = "x402.asked"
_PAID_BY: Final = (b"x-payment", b"payment-signature")


def payment_required(
    *,
    mime_type: str = "",
    default_max_deadline_seconds: int = 60,
    paywall_config: PaywallConfig | None = None,
    custom_paywall_html: Html | None = None,
    facilitator_config: FacilitatorConfig | None = None,
    setup: Y402Setup | None = None,
    client_http_library: Literal["httpx"] = "httpx",
    storage_manager: StorageManager | None = None,
    ledger: str | Ledger = LEDGER,
    url: str = "",
    settle: str = "after",
    prove: bool = True,
) -> Gate:
    """Return what sells every endpoint that has settings.

    Beside y402's arguments: ``ledger`` journals claims and settlements; ``url`` is the public base URL, as payers see it (no
    header says it: Y20); ``settle`` ``"before"`` takes the money before the endpoint runs, for those who rely on that;
    ``prove`` asks the facilitator whether it settles on the networks.

    Raises: MisconfigurationError naming the argument.
    """
    if client_http_library != "httpx":  # the others have no event loop, and never worked here (Y26)
        raise MisconfigurationError("'httpx' is the only one that FastAPI can wait for", field="client_http_library")
    options = Options(
        mime_type=mime_type,
        default_max_deadline_seconds=default_max_deadline_seconds,
        paywall_config=paywall_config,
        custom_paywall_html=custom_paywall_html,
        facilitator_config=facilitator_config,
        setup=setup,
        storage_manager=storage_manager,
        ledger=ledger,
        url=url,
        settle=settle,
    )
    return Gate(options, prove=prove)


class Gate:
    """A middleware function for one application, and its seller."""

    def __init__(self, options: Options, *, prove: bool = True) -> None:
        self.selling, self.prove = Selling(options), prove
        self.seller: Seller | None = None
        self._app: Any = None
        self._installed = False
        self._life: _Life | None = None
        self._routes: dict[int, Any] = {}  # by the route's id, which its presence here keeps

    async def __call__(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """Serve one request."""
        scope = request.scope
        if self.seller is None and not self._found(scope["app"]):  # nothing is for sale yet
            return await call_next(request)
        seller = self.attach(scope["app"])
        if not self._installed:
            await self._alive(seller)
        scope.setdefault(_ASKED, scope["path"].removeprefix(scope.get("root_path", "")))
        return await call_next(request)

    def install(self, app: Any) -> None:
        """Sell in ``app``, which has not started; it does not start with settings that do not fit."""
        self._installed = True
        app.add_middleware(_Door, gate=self, outermost=app)

    # ------------------------------------------------------------------------------------------------------- attaching

    def attach(self, app: Any) -> Seller:
        """Find what is sold in an application, and put a sale around it; once, and again for routes added since.

        Raises: MisconfigurationError, each time, for settings that do not fit.
        """
        if self._app not in (None, app):
            raise MisconfigurationError("one payment_required is for one application", field="app")
        found = self._found(app)
        if self.seller is None or any(id(each.route) not in self._routes for each in found):
            self._sell(found)
        assert self.seller is not None
        self._app = app
        return self.seller

    def _found(self, app: Any) -> list[Found]:
        others = _others(app, self)
        return [each for each in _routes(app) if settings_of(_endpoint(each)) is not None and id(each.route) not in others]

    def _sell(self, found: list[Found]) -> None:
        if sockets := [each.path for each in found if not hasattr(each.route, "methods")]:
            raise MisconfigurationError(f"{sockets[0]}: a WebSocket cannot be paid for", field="endpoint")
        if self.seller is None:
            self.seller = self.selling.seller([_endpoint(each) for each in found])
        sold: dict[int, tuple[Any, list[Endpoint]]] = {}
        for each in found:
            if id(each.route) not in self._routes:
                sold.setdefault(id(each.route), (each.route, []))[1].append(self._priced(each, self.seller))
        for key, (route, endpoints) in sold.items():
            route.handle = _selling(route.handle, route.methods, endpoints, mark_of(getattr(route, "endpoint", None)))
            self._routes[key] = route

    def _priced(self, found: Found, seller: Seller) -> Endpoint:
        params = getattr(found.says, "param_convertors", None) or found.route.param_convertors
        known = None if "{" in found.path.removesuffix(found.route.path) else tuple(params)  # a mount's are the request's too
        return Endpoint(self.selling, seller, _endpoint(found), found.path, params=known, param_of=_param)

    # ------------------------------------------------------------------------------------------------------- living

    async def _alive(self, seller: Seller) -> None:
        """Have the seller live in this event loop for as long as that does; asked in another one, it moves there."""
        here, life = asyncio.get_running_loop(), self._life
        if life is None or life.loop is not here or life.task.done():
            life = self._life = _Life(here, seller, self.prove)
        await asyncio.shield(life.born)


class _Life:
    """A seller at work in an event loop; ``born`` once it is, with what is wrong where it cannot be."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seller: Seller, prove: bool) -> None:
        self.loop = loop
        self.born: asyncio.Future[None] = loop.create_future()
        self.task = loop.create_task(self._run(seller, prove))

    async def _run(self, seller: Seller, prove: bool) -> None:
        try:
            if prove and (problem := await unproved(seller)) is not None:
                field = "facilitator_config"
                raise MisconfigurationError(problem.removeprefix(f"{field}: "), field=field)
            async with seller.running():
                self.born.set_result(None)
                await asyncio.Event().wait()
        except Exception as error:
            if self.born.done():
                raise
            self.born.set_exception(error)


class _Door:
    """The gate, from the application's start to its end."""

    def __init__(self, app: App, gate: Gate, outermost: Any) -> None:
        self.app, self.gate, self.outermost = app, gate, outermost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self.gate.attach(self.outermost)
            scope.setdefault(_ASKED, scope["path"].removeprefix(scope.get("root_path", "")))
            return await self.app(scope, receive, send)
        try:
            seller = self.gate.attach(self.outermost)
        except LocalProtocolError as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        gate = self.gate
        return await live(self.app, seller, scope, receive, send, prove=gate.prove, audit=lambda: gate.attach(self.outermost))


# ----------------------------------------------------------------------------------------------------------- one route


def _selling(inner: App, methods: Any, endpoints: list[Endpoint], guard: Mark | None) -> App:
    """Return a route's application with the sale around it; a route that is included twice has two paths."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["x402"] = state_of(scope["x402"])
        sold = SOLD.set(None if guard is None else guard.listing)
        try:
            await inner(scope, receive, send)
        finally:
            SOLD.reset(sold)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if methods and scope["method"] not in methods:
            return await inner(scope, receive, send)  # which says 405
        asked = scope.get(_ASKED, scope["path"])
        found = next((each for each in endpoints if each.path == asked), endpoints[0])
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        asset = found.asset(headers)
        if asset is None:  # a payment in what nothing is sold in is none
            scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() not in _PAID_BY]
        shelf = found.shelf(scope["method"], scope["path_params"], asset or "")
        return await Sale(found.counter, told, scope, receive, send, request_of=Request, inside=True).sell(shelf, asked)

    return handle


def _routes(app: Any, prefix: str = "") -> Iterator[Found]:
    """Yield every route, those of applications mounted inside a middleware too."""
    for found in walk(app.routes):
        yield Found(found.route, prefix + found.path, found.says)
    for each in app.routes:
        inside = getattr(each, "app", None) if not hasattr(each, "endpoint") and not getattr(each, "routes", None) else None
        while inside is not None and not hasattr(inside, "routes"):
            inside = getattr(inside, "app", None)
        if inside is not None:
            yield from _routes(inside, prefix + getattr(each, "path", ""))


def _others(app: Any, gate: Gate) -> set[int]:
    """Return the ids of the routes of mounted applications that have a gate of their own: they are sold there, and once."""
    found: set[int] = set()
    for each in app.routes:
        inside = getattr(each, "app", None)
        if inside is not None and hasattr(inside, "routes") and not hasattr(each, "endpoint"):
            gates = [added.kwargs.get("dispatch", added.kwargs.get("gate")) for added in getattr(inside, "user_middleware", ())]
            sold = any(isinstance(own, Gate) and own is not gate for own in gates)
            found |= {id(route.route) for route in _routes(inside)} if sold else _others(inside, gate)
    return found


def _endpoint(found: Found) -> Any:
    return getattr(found.says, "endpoint", None)


def _param(request: Request, name: str) -> Any:
    return request.path_params.get(name)
