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

from collections.abc import Iterator
from typing import Any, Final, Unpack

from x402bind.seller import Seller

from .door import EndpointDoor, Options
from .held import App, Receive, Scope, Send
from .lifespan import live
from .marks import Mark, mark_of, sold
from .routes import Routes
from .sale import Sale
from .starlette_routes import Found, walk

__all__ = ["Found", "Payments", "walk"]

_ASKED: Final = "x402.asked"


class Payments(EndpointDoor):
    """Sell endpoints of ``app`` through ``seller``; name them with :meth:`required`.

    ``token_path``, ``hold_most``, ``body_most`` (bytes), ``prove`` and ``paywall`` are as for
    :class:`~x402bind.servers.asgi.PaymentMiddleware`.  Make one for the outermost application: it finds the endpoints of
    applications mounted under it.  The handler finds who paid in ``request.scope["x402"]``.
    """

    def __init__(self, app: Any, seller: Seller, **options: Unpack[Options]) -> None:
        super().__init__(seller, **options)
        self.app = app
        self._routes: dict[int, tuple[Any, list[str]]] = {}  # by the route's id, which its presence here keeps; and its paths
        app.add_middleware(_Door, payments=self)

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
        self._open(routes, problems, templates="{")
        for found, each in priced:
            self._sell(found, each)

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
            with sold(by.listing):
                await inner(scope, receive, send)

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            if methods and scope["method"] not in methods:
                return await inner(scope, receive, send)  # which says 405
            asked = scope.get(_ASKED, scope["path"])
            assert self._scopes is not None
            shelf, asked = self._scopes.find(asked if asked in paths else paths[0], asked, by)
            sale = Sale(self.counter, leashed, scope, receive, send, request_of=_request, inside=True)
            return await sale.sell(shelf, asked)

        return handle


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
