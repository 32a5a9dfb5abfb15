"""Starlette: put a price on an endpoint.

    payments = Payments(app, seller)

    @payments.required("$0.01")
    async def report(request): ...

    app.add_route("/report", report)

The sale is around the route that has the endpoint, however the route is reached: by a mount, an included router, another
spelling.  Before the application starts, its routes are walked: a price on no route, above a decorator that registers the
function without it, or on a WebSocket keeps it from starting, and from answering.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from x402bind.pricing import Listing, Pricing, Shelf
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError

from .held import App, Receive, Scope, Send
from .lifespan import live
from .marks import SOLD, Mark, mark, mark_of
from .routes import Routes, Scopes, listed
from .sale import Counter, Sale

if TYPE_CHECKING:
    from x402bind.paywall import Paywall

__all__ = ["Payments"]

E = TypeVar("E")
_ASKED: Final = "x402.asked"


@dataclass(frozen=True, slots=True)
class Found:
    """A route of the application: what is patched, its whole path, and what the framework says of it."""

    route: Any
    path: str
    says: Any


class Payments:
    """Sell endpoints of ``app`` through ``seller``; name them with :meth:`required`.

    ``token_path``, ``hold_most``, ``body_most`` (bytes), ``prove`` and ``paywall`` are as for
    :class:`~x402bind.servers.asgi.PaymentMiddleware`.  Make one for the outermost application: it finds the endpoints of
    applications mounted under it.  The handler finds who paid in ``request.scope["x402"]``.
    """

    def __init__(
        self,
        app: Any,
        seller: Seller,
        *,
        token_path: str = "/token",
        hold_most: int = 1 << 20,
        body_most: int = 1 << 20,
        prove: bool = True,
        paywall: Paywall | None = None,
    ) -> None:
        self.app, self.seller, self.prove, self.token_path = app, seller, prove, token_path
        self.counter = Counter(seller, hold_most, body_most, paywall)
        self._marks: list[Mark] = []
        self._routes: dict[int, tuple[Any, list[str]]] = {}  # by the route's id, which its presence here keeps; and its paths
        self._scopes: Scopes | None = None  # once the routes were walked
        app.add_middleware(_Door, payments=self)

    def required(self, price: Pricing | Listing, **listing: Any) -> Callable[[E], E]:
        """Return a decorator that puts a price on an endpoint: directly above the function, under the route's decorator.

        ``price`` and the rest are as in :class:`~x402bind.pricing.Listing`; a function as price is called with the
        framework's request, whose body it may read.  Raises: LocalProtocolError naming what is no price.
        """
        found_by = self._listed(price, listing)

        def decorate(endpoint: E) -> E:
            guarded, found = mark(endpoint, found_by)
            self._marks.append(found)
            self._scopes = None
            return guarded  # type: ignore[no-any-return]

        return decorate

    def _listed(self, price: Pricing | Listing, said: Mapping[str, Any]) -> Listing:
        return listed(self.seller, self.token_path, price, said, sync=False)

    # ----------------------------------------------------------------------------------------------------------- audit

    def audit(self) -> None:
        """Find every price on a route of the application, and sell there.

        Raises: LocalProtocolError(field="required") listing the prices that nobody could be asked for.
        """
        if self._scopes is not None:
            return
        routes, problems, priced = Routes(), list[str](), list[tuple[Found, Mark]]()
        for found in walk(self.app.routes):
            marks = list(self._marks_of(found))
            routes.add(found.path, getattr(found.says, "endpoint", None), ())
            noted = routes.marks.setdefault(found.path, [])
            noted += [each for each in marks if each not in noted]
            if len({id(each.listing) for each in marks}) > 1:
                problems.append(f"{found.path} has two prices: {' and '.join(each.where for each in marks)}")
            elif marks and not hasattr(found.route, "methods"):
                problems.append(f"{found.path}: a WebSocket cannot be paid for; take the price off {marks[0].where}")
            elif marks:
                priced.append((found, marks[0]))
        problems += [problem for each in self._marks if (problem := routes.problem(each)) is not None]
        if problems:
            raise LocalProtocolError("; ".join(problems), field="required")
        self._scopes = Scopes(self.seller, routes, lambda path: "{" in path)
        for found, each in priced:
            self._sell(found, each)

    @property
    def scopes(self) -> Mapping[str, Shelf]:
        """What tokens are sold for."""
        return {} if self._scopes is None else self._scopes.tokens

    def _marks_of(self, found: Found) -> Iterator[Mark]:
        """Yield what a route is priced by."""
        marked = mark_of(getattr(found.says, "endpoint", None))
        if marked is not None:
            yield marked

    def _sell(self, found: Found, by: Mark) -> None:
        """Put the sale around a route; one that is included twice is one route with two paths."""
        route = found.route
        _, paths = self._routes.setdefault(id(route), (route, []))
        if not paths:
            route.handle = self._selling(route.handle, getattr(route, "methods", None), by, paths)
        if found.path not in paths:
            paths.append(found.path)

    def _selling(self, inner: App, methods: Any, by: Mark, paths: list[str]) -> App:
        async def leashed(scope: Scope, receive: Receive, send: Send) -> None:
            token = SOLD.set(by.listing)
            try:
                await inner(scope, receive, send)
            finally:
                SOLD.reset(token)

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            if methods and scope["method"] not in methods:
                return await inner(scope, receive, send)  # which says 405
            asked = scope.get(_ASKED, scope["path"])
            assert self._scopes is not None
            shelf, asked = self._scopes.find(asked if asked in paths else paths[0], asked, by)
            sale = Sale(self.counter, leashed, scope, receive, send, request_of=_request, inside=True)
            return await sale.sell(shelf, asked)

        return handle


def walk(routes: Iterable[Any], prefix: str = "") -> Iterator[Found]:
    """Yield every route of an application that can be reached, those of mounts and included routers too."""
    fastapi = sys.modules.get("fastapi.routing")
    contexts = getattr(fastapi, "iter_route_contexts", iter)
    for says in contexts(routes):
        included = getattr(says, "_route_context", None)
        route = getattr(included, "starlette_route", None) or getattr(says, "original_route", says)
        path = prefix + (getattr(says, "path", None) or "")
        if hasattr(route, "endpoint"):
            yield Found(route, path, says)
        else:
            yield from walk(getattr(route, "routes", None) or (), path)


def _request(scope: Scope, receive: Receive) -> Any:
    from starlette.requests import Request

    return Request(scope, receive)


class _Door:
    """What is outside every route: the seller's life, the token endpoint, and the audit, should nobody have started us."""

    def __init__(self, app: App, payments: Payments) -> None:
        self.app, self.payments = app, payments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        payments = self.payments
        if scope["type"] == "lifespan":
            prove, audit = payments.prove, payments.audit
            return await live(self.app, payments.seller, scope, receive, send, prove=prove, audit=audit)
        payments.audit()
        asked = scope[_ASKED] = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and payments.scopes and scope["method"] == "POST" and asked == payments.token_path:
            return await Sale(payments.counter, self.app, scope, receive, send).sell_token(payments.scopes)
        return await self.app(scope, receive, send)
