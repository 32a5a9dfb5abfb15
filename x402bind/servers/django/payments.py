"""What Django's views and paths cost, and their sales."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, MappingProxyType
from typing import Any, Final, TypeVar, Unpack, cast

from django.conf import settings  # type: ignore[import-untyped]
from django.urls import get_resolver  # type: ignore[import-untyped]

from x402bind.pricing import Listing, Pricing, Shelf
from x402bind.seller import Seller
from x402bind.servers.background import Background
from x402bind.servers.door import EndpointDoor, PathDoor, PathOptions
from x402bind.servers.marks import Mark, mark, sold
from x402bind.servers.routes import METHODS, Routes, Scopes, refuse
from x402bind.servers.sync_sale import SyncSale
from x402core.events import Payer

from .checks import register, walk
from .messages import Held, asked, write
from .views import priced_view

__all__ = ["Payments"]

V = TypeVar("V")
_MIDDLEWARE: Final = f"{__package__}.PaymentMiddleware"


class Payments(PathDoor, EndpointDoor):
    """Sell views through ``seller``, named with :meth:`required`, and paths at ``prices``.

    The options are those of :class:`~x402bind.servers.wsgi.PaymentMiddleware`; prices by path, and the token endpoint, need
    ours in ``settings.MIDDLEWARE``.  Without it, put :meth:`token` in the URLconf.
    """

    sync = True

    def __init__(
        self,
        seller: Seller,
        prices: Mapping[str, Pricing | Listing] = MappingProxyType({}),
        **options: Unpack[PathOptions],
    ) -> None:
        super().__init__(seller, prices, **options)
        self.background = Background(seller, prove=self.prove)
        self._gates: list[tuple[Mark, list[Mark]]] = []  # each use of required, and the functions it was put on
        self._routes: Mapping[str, list[Mark]] = {}
        self._tokens: Mapping[str, Shelf] = {}
        self._by_path = bool(prices) or options.get("default") is not None
        register(self.check)

    def required(self, price: Pricing | Listing, **listing: Any) -> Callable[[V], V]:
        """Return a decorator that puts a price on a view: directly above the function, or through ``method_decorator``.

        ``price`` and the rest are as in :class:`~x402bind.pricing.Listing`; a function as price is called with Django's
        request.  Raises: LocalProtocolError naming what is no price.
        """
        caller = sys._getframe(1)
        found = Mark(self._listed(price, listing), None, f"{caller.f_code.co_filename}:{caller.f_lineno}")
        functions: list[Mark] = []
        self._gates.append((found, functions))
        self._scopes = None

        def decorate(view: V) -> V:
            if not isinstance(view, FunctionType) or view.__module__ == "django.utils.decorators":
                return cast(V, priced_view(self.sell, found, view, view))  # a method, decorated anew for every request
            guarded, own = mark(view, found.listing)
            functions.append(own)
            self._scopes = None
            return cast(V, priced_view(self.sell, own, guarded, view))

        return decorate

    # ----------------------------------------------------------------------------------------------------------- audit

    def check(self) -> None:
        """Find every price on a route of the URLconf.

        Raises: LocalProtocolError(field="required") listing the prices that nobody could be asked for.
        """
        if self._scopes is not None:
            return
        routes, views = Routes(), list(walk(get_resolver().url_patterns))
        for route, view in views:
            routes.add(route, view, ("dispatch", *METHODS))
        twice = [route for route in routes.marks if self.paths.find(route) is not None]
        problems = [f"{route} has two prices, one of its path and one of its view" for route in twice]
        problems += routes.problems(each for gate, functions in self._gates for each in functions or [gate])
        scopes = Scopes(self.seller, routes, templates="<(^[")
        tokens, middleware = {**self.paths.scopes, **scopes.tokens}, _MIDDLEWARE in settings.MIDDLEWARE
        if tokens and not middleware and not any(view == self.token for _, view in views):
            problems.append(f"nobody takes permits at {self.token_path}: add the middleware, or payments.token to the URLconf")
        if self._by_path and not middleware:
            problems.append("prices by path need the middleware")
        refuse(problems)
        self._routes, self._tokens, self._scopes = routes.marks, tokens, scopes

    # ------------------------------------------------------------------------------------------------------------ sales

    def token(self, request: Any) -> Any:
        """Exchange a permit for an access token: a view, for where the middleware is not."""
        self.check()
        return self._sale(request, request.path_info, None, lambda: None).sell_token(self._tokens)

    token.csrf_exempt = True  # type: ignore[attr-defined]

    def sell(self, found: Mark, request: Any, run: Callable[[], Any]) -> Any:
        """Sell one run of a view."""
        self.check()
        assert self._scopes is not None
        match = request.resolver_match
        route = "/" + (match.route if match is not None else "")
        if found not in self._routes.get(route, ()):  # a route may be translated from request to request
            route = next((each for each, marks in self._routes.items() if found in marks), route)
        shelf, path = self._scopes.find(route, request.path_info, found)
        return self._sale(request, path, found.listing, run).sell(shelf)

    def sell_path(self, request: Any, run: Callable[[], Any]) -> Callable[[], Any] | None:
        """Return how to sell what is asked for by its path; None where it is free."""
        path, root = request.path, request.META.get("SCRIPT_NAME", "")
        shelf = self.paths.find(path, root)
        if shelf is not None:
            return functools.partial(self._sale(request, path, shelf.listing, run).sell, shelf)
        if request.method == "POST" and self._tokens and self.token_path in (path, path.removeprefix(root)):
            return functools.partial(self._sale(request, path, None, run).sell_token, self._tokens)
        return None

    def _sale(self, request: Any, path: str, listing: Listing | None, run: Callable[[], Any]) -> SyncSale[Any]:
        def serve(payer: Payer | None, hold: bool) -> Held:
            request.x402 = payer
            request._dont_enforce_csrf_checks = True  # what it was paid with is a header that no form of another site sends
            with sold(listing):
                return Held(run(), hold=hold, most=self.counter.hold_most)

        return SyncSale(self.counter, self.background, asked(request, path), serve, functools.partial(write, request))
