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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from x402bind.pricing import Listing, Pricing, Shelf
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError
from x402core.wire.v2 import UPTO

from .held import App, Receive, Scope, Send
from .lifespan import live
from .marks import SOLD, Mark, mark, mark_of
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
        self.scopes: Mapping[str, Shelf] = {}
        self._marks: list[Mark] = []
        self._routes: dict[int, tuple[Any, Listing, list[Shelf]]] = {}  # by the route's id, which its presence here keeps
        self._audited = False
        app.add_middleware(_Door, payments=self)

    def required(self, price: Pricing | Listing, **listing: Any) -> Callable[[E], E]:
        """Return a decorator that puts a price on an endpoint: directly above the function, under the route's decorator.

        ``price`` and the rest are as in :class:`~x402bind.pricing.Listing`; a function as price is called with the
        framework's request, whose body it may read.  Raises: LocalProtocolError naming what is no price.
        """
        listed = self.listed(price, **listing)

        def decorate(endpoint: E) -> E:
            guarded, found = mark(endpoint, listed)
            self._marks.append(found)
            self._audited = False
            return guarded  # type: ignore[no-any-return]

        return decorate

    def listed(self, price: Pricing | Listing, **listing: Any) -> Listing:
        """Return a listing of its own, whose price is one.  Raises: LocalProtocolError naming what is wrong with it."""
        if not isinstance(price, Listing):
            listing.setdefault("token_path", self.token_path)
            price = Listing(price, **listing)
        else:
            price = replace(price, **listing)
        if not (price.scheme == UPTO and self.seller.facilitators is not None):  # who settles is asked at start-up
            Shelf(self.seller, price, "/")
        return price

    # ----------------------------------------------------------------------------------------------------------- audit

    def audit(self) -> None:
        """Find every price on a route of the application, and sell there.

        Raises: LocalProtocolError(field="required") listing the prices that nobody could be asked for.
        """
        if self._audited:
            return
        problems: list[str] = []
        reached: set[int] = set()
        bare: dict[int, str] = {}
        for found in walk(self.app.routes):
            endpoint = getattr(found.says, "endpoint", None)
            marks = list(self._marks_of(found, endpoint))
            reached |= {id(each) for each in marks}
            if endpoint is not None:
                bare.setdefault(id(endpoint), found.path)
            if len({id(each.listing) for each in marks}) > 1:
                problems.append(f"{found.path} has two prices: {' and '.join(each.where for each in marks)}")
            elif marks and not hasattr(found.route, "methods"):
                problems.append(f"{found.path}: a WebSocket cannot be paid for; take the price off {marks[0].where}")
            elif marks:
                self._sell(found, marks[0].listing)
        for each in self._marks:
            if id(each) not in reached:
                above = bare.get(id(each.endpoint))
                problems.append(
                    f"{each.where} is served free at {above}: write the price under the route's decorator, next to the function"
                    if above is not None
                    else f"the price of {each.where} is on no route of this application"
                )
        if problems:
            raise LocalProtocolError("; ".join(problems), field="required")
        self.scopes = {shelf.path: shelf for _, _, shelves in self._routes.values() for shelf in shelves if shelf.sells_tokens}
        self._audited = True

    def _marks_of(self, found: Found, endpoint: Any) -> Iterator[Mark]:
        """Yield what a route is priced by, as far as it is ours."""
        marked = None if endpoint is None else mark_of(endpoint)
        if marked is not None and any(marked is each for each in self._marks):
            yield marked

    def _sell(self, found: Found, listing: Listing) -> None:
        """Put the sale around a route; one that is included twice is one route with two paths."""
        route = found.route
        _, _, shelves = self._routes.setdefault(id(route), (route, listing, []))
        if not shelves:
            route.handle = self._selling(route.handle, getattr(route, "methods", None), listing, shelves)
        if all(shelf.path != found.path for shelf in shelves):
            shelves.append(Shelf(self.seller, listing, found.path, whole="{" not in found.path))

    def _selling(self, inner: App, methods: Any, listing: Listing, shelves: list[Shelf]) -> App:
        async def leashed(scope: Scope, receive: Receive, send: Send) -> None:
            token = SOLD.set(listing)
            try:
                await inner(scope, receive, send)
            finally:
                SOLD.reset(token)

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            if methods and scope["method"] not in methods:
                return await inner(scope, receive, send)  # which says 405
            asked = scope.get(_ASKED, scope["path"])
            shelf = next((each for each in shelves if each.path == asked), shelves[0])
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
