"""Django: put a price on a view, or on paths.

    payments = Payments(seller)                        # shop/payments.py

    @payments.required("$0.01")
    def report(request): ...                           # request.x402 says who paid

    X402_PAYMENTS = "shop.payments.payments"           # settings.py
    MIDDLEWARE = ["x402bind.servers.django.PaymentMiddleware", ...]

A class's views are priced through ``method_decorator(payments.required("$0.01"), name="dispatch")``, or method by method.  The
sale is around the view, so no spelling of a path passes it by.  The URLconf is walked by ``manage.py check`` and before the
first request: a price on no route, or a priced function that a route has without its price, keeps every request from being
answered.

A priced view is exempt from Django's cross-site request check: it runs for nobody but who sends a header that no form of
another site can send.  What it does beside its response (a session, a database) is done before it is known whether the money
moves, unless the seller settles before the view.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings  # type: ignore[import-untyped]
from django.core import checks  # type: ignore[import-untyped]
from django.http import HttpResponse  # type: ignore[import-untyped]
from django.http.request import RawPostDataException  # type: ignore[import-untyped]
from django.urls import get_resolver  # type: ignore[import-untyped]
from django.utils.cache import patch_cache_control, patch_vary_headers  # type: ignore[import-untyped]
from django.utils.module_loading import import_string  # type: ignore[import-untyped]

from x402bind.pricing import Listing, Pricing, Shelf
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError, Reason, Reply, problem
from x402core.events import Headers, Payer
from x402core.wire import http
from x402core.wire.overrides import SETTLEMENT_OVERRIDES

from .background import Background
from .marks import SOLD, Mark, mark, mark_of
from .paths import PricedPaths
from .routes import Routes, Scopes, listed, sync_price
from .sale import Counter
from .sync_sale import BodyRefused, Incoming, SyncSale, taken
from .wsgi import incoming

if TYPE_CHECKING:
    from x402bind.paywall import Paywall

__all__ = ["PaymentMiddleware", "Payments"]

V = TypeVar("V", bound=Callable[..., Any])
_METHODS: Final = ("dispatch", "get", "post", "put", "patch", "delete", "head", "options", "trace")


class Payments:
    """Sell views through ``seller``, named with :meth:`required`, and paths at ``prices``.

    The options are those of :class:`~x402bind.servers.wsgi.PaymentMiddleware`; prices by path, and the token endpoint, need
    ours in ``settings.MIDDLEWARE``.  Without it, put :meth:`token` in the URLconf.
    """

    def __init__(
        self,
        seller: Seller,
        prices: Mapping[str, Pricing | Listing] = MappingProxyType({}),
        *,
        default: Pricing | Listing | None = None,
        free: Collection[str] = (),
        upto: Collection[str] = (),
        token_path: str = "/token",
        hold_most: int = 1 << 20,
        body_most: int = 1 << 20,
        prove: bool = True,
        paywall: Paywall | None = None,
    ) -> None:
        self.seller, self.token_path = seller, token_path
        self.counter = Counter(seller, hold_most, body_most, paywall)
        self.paths = PricedPaths(seller, prices, default=default, free=free, upto=upto, token_path=token_path)
        for price in (*prices.values(), *(() if default is None else (default,))):
            sync_price(price)
        self.background = Background(seller, prove=prove)
        self._marks: list[Mark] = []  # of functions
        self._gates: list[tuple[Mark, list[Mark]]] = []  # each use of required, and the functions it was put on
        self._scopes: Scopes | None = None
        self._routes: Mapping[str, list[Mark]] = {}
        self._tokens: Mapping[str, Shelf] = {}
        self._by_path = bool(prices) or default is not None
        checks.register(functools.partial(self._told), checks.Tags.urls)  # of a method nothing can be noted

    def required(self, price: Pricing | Listing, **listing: Any) -> Callable[[V], V]:
        """Return a decorator that puts a price on a view: directly above the function, or through ``method_decorator``.

        ``price`` and the rest are as in :class:`~x402bind.pricing.Listing`; a function as price is called with Django's
        request.  Raises: LocalProtocolError naming what is no price.
        """
        caller = sys._getframe(1)
        listing_ = listed(self.seller, self.token_path, price, listing, sync=True)
        found = Mark(listing_, None, f"{caller.f_code.co_filename}:{caller.f_lineno}")
        functions: list[Mark] = []
        self._gates.append((found, functions))
        self._scopes = None

        def decorate(view: V) -> V:
            if not isinstance(view, FunctionType) or view.__module__ == "django.utils.decorators":
                return cast(V, _priced(self, found, view, view))  # a method, decorated anew for every request
            guarded, own = mark(view, found.listing)
            functions.append(own)
            self._scopes = None
            return cast(V, _priced(self, own, guarded, view))

        return decorate

    # ----------------------------------------------------------------------------------------------------------- audit

    def check(self) -> None:
        """Find every price on a route of the URLconf.

        Raises: LocalProtocolError(field="required") listing the prices that nobody could be asked for.
        """
        if self._scopes is not None:
            return
        routes, problems = Routes(), list[str]()
        middleware = f"{__name__}.{PaymentMiddleware.__name__}" in settings.MIDDLEWARE
        answered = middleware
        for route, view in _walk(get_resolver().url_patterns, "/"):
            answered = answered or view == self.token
            routes.add(route, view, _METHODS)
        twice = [route for route in routes.marks if self.paths.find(route) is not None]
        problems += [f"{route} has two prices, one of its path and one of its view" for route in twice]
        for gate, functions in self._gates:
            problems += [problem for each in functions or [gate] if (problem := routes.problem(each)) is not None]
        scopes = Scopes(self.seller, routes, lambda route: any(sign in route for sign in "<(^["))
        tokens = {**self.paths.scopes, **scopes.tokens}
        if tokens and not answered:
            problems.append(f"nobody takes permits at {self.token_path}: add the middleware, or payments.token to the URLconf")
        if self._by_path and not middleware:
            problems.append("prices by path need the middleware")
        if problems:
            raise LocalProtocolError("; ".join(problems), field="required")
        self._routes, self._tokens, self._scopes = routes.marks, tokens, scopes

    def _told(self, app_configs: Any, **_: Any) -> list[Any]:
        """Be a system check of Django's."""
        try:
            self.check()
        except LocalProtocolError as error:
            return [checks.Error(str(error), id="x402.E001")]
        return []

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
        shelf, asked = self._scopes.find(route, request.path_info, found)
        return self._sale(request, asked, found.listing, run).sell(shelf)

    def sell_path(self, request: Any, run: Callable[[], Any]) -> Callable[[], Any] | None:
        """Return how to sell what is asked for by its path; None where it is free."""
        path, root = request.path, request.META.get("SCRIPT_NAME", "")
        shelf = self.paths.find(path, root)
        if shelf is not None:
            return functools.partial(self._sale(request, path, shelf.listing, run).sell, shelf)
        asked = (path, path.removeprefix(root))
        if request.method == "POST" and self._tokens and self.token_path in asked:
            return functools.partial(self._sale(request, path, None, run).sell_token, self._tokens)
        return None

    def _sale(self, request: Any, path: str, listing: Listing | None, run: Callable[[], Any]) -> SyncSale[Any]:
        def serve(payer: Payer | None, hold: bool) -> _Held:
            request.x402 = payer
            request._dont_enforce_csrf_checks = True  # what it was paid with is a header that no form of another site sends
            sold = SOLD.set(listing)
            try:
                return _Held(run(), hold=hold, most=self.counter.hold_most)
            finally:
                SOLD.reset(sold)

        return SyncSale(self.counter, self.background, _asked(request, path), serve, functools.partial(_write, request))


def _priced(payments: Payments, found: Mark, guarded: Any, view: Any) -> Any:
    """Return a view that is sold, of the kind that it is."""
    owner = getattr(getattr(view, "func", None), "__self__", None)  # of a class's dispatch, which says not itself that it waits

    def sell(request: Any, *args: Any, **kwargs: Any) -> Any:
        return payments.sell(found, request, lambda: async_to_sync(_awaited)(guarded, request, *args, **kwargs))

    if iscoroutinefunction(view) or getattr(type(owner), "view_is_async", False):

        @functools.wraps(guarded)
        async def priced(request: Any, *args: Any, **kwargs: Any) -> Any:
            return await sync_to_async(sell, thread_sensitive=True)(request, *args, **kwargs)

    else:

        @functools.wraps(guarded)
        def priced(request: Any, *args: Any, **kwargs: Any) -> Any:
            return payments.sell(found, request, functools.partial(guarded, request, *args, **kwargs))

    priced.csrf_exempt = True  # type: ignore[attr-defined]
    priced.__x402__ = found  # type: ignore[attr-defined]
    return priced


async def _awaited(view: Any, *args: Any, **kwargs: Any) -> Any:
    made = view(*args, **kwargs)
    return await made if inspect.isawaitable(made) else made


class PaymentMiddleware:
    """Sell what ``settings.X402_PAYMENTS`` (a :class:`Payments`, or its dotted name) has prices by path for, and tokens.

    Put it above Django's ``CsrfViewMiddleware``.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Any) -> None:
        said = settings.X402_PAYMENTS
        self.payments: Payments = import_string(said) if isinstance(said, str) else said
        self.get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request; nothing is served while a price is where nobody is asked for it."""
        if self._async:
            return self._acall(request)
        self.payments.check()
        sell = self.payments.sell_path(request, functools.partial(self.get_response, request))
        return self.get_response(request) if sell is None else sell()

    async def _acall(self, request: Any) -> Any:
        self.payments.check()
        sell = self.payments.sell_path(request, functools.partial(async_to_sync(self.get_response), request))
        return await (self.get_response(request) if sell is None else sync_to_async(sell, thread_sensitive=True)())

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        """Let a POST reach a price on a method: of its class Django does not see that it is exempt."""
        cls = getattr(view, "view_class", None)
        if mark_of(getattr(cls, request.method.lower(), None)) is not None:
            request._dont_enforce_csrf_checks = True


# ---------------------------------------------------------------------------------------------------- the URLconf, walked


def _walk(patterns: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for each in patterns:
        if hasattr(each, "url_patterns"):
            yield from _walk(each.url_patterns, prefix + str(each.pattern))
        else:
            yield prefix + str(each.pattern), each.callback


# ----------------------------------------------------------------------------------------------- its requests and responses


def _asked(request: Any, path: str) -> Incoming:
    def read(most: int) -> bytes:
        said = request.META.get("CONTENT_LENGTH") or "0"
        if said.isdecimal() and len(said) < 20 and int(said) > most:
            raise BodyRefused(http.too_large(most))
        try:
            body: bytes = request.body
        except RawPostDataException:
            said = "The body was read before it was paid for: put our middleware first."
            raise BodyRefused(problem(400, said, reason=Reason.INVALID_PAYLOAD)) from None
        if len(body) > most:
            raise BodyRefused(http.too_large(most))
        return body

    return replace(incoming(request.META, path), read=read, native=request)


def _write(request: Any, reply: Reply) -> Any:
    """Return a reply of the core's own as a response."""
    response = HttpResponse(b"" if request.method == "HEAD" else reply.body, status=reply.status)
    del response.headers["Content-Type"]
    _add(response, reply.headers)
    response.headers.setdefault("Content-Length", str(len(reply.body)))
    return response


def _add(response: Any, headers: Headers) -> None:
    for name, value in headers:
        match name.lower():
            case "set-cookie":
                response.cookies.load(value)
            case "vary":
                patch_vary_headers(response, [each.strip() for each in value.split(",")])
            case "cache-control" if value == "private":
                patch_cache_control(response, private=True)  # takes a "public" away
            case _:
                response.headers[name] = f"{response.headers[name]}, {value}" if name in response.headers else value


class _Held:
    """A response of Django's: whole, or begun where it streams and need not be held."""

    def __init__(self, response: Any, *, hold: bool, most: int) -> None:
        if response is None:
            raise ValueError("the view did not return an HttpResponse object: it returned None")
        self._response, self._most = response, most
        try:
            if hasattr(response, "render") and not response.is_rendered:
                response.render()
            said = response.headers.get(SETTLEMENT_OVERRIDES)
            self.overrides: str | None = said
            del response.headers[SETTLEMENT_OVERRIDES]
            self._body = self._taken(hold=hold)
        except BaseException:
            response.close()
            raise

    def _taken(self, *, hold: bool) -> bytes | None:
        """Take what has to be seen, leave it to be sent, and return the body if it is whole."""
        response, most = self._response, self._most
        if not response.streaming:
            return taken(iter((response.content,)), hold=hold, most=most, length=lambda: len(response.content))[0]
        if response.is_async:
            if not hold:
                return None
            whole = async_to_sync(_collected)(response.streaming_content, most)
            response.streaming_content = _again(whole)
            return whole
        length = response.headers.get("Content-Length", "")
        body, rest = taken(
            iter(response.streaming_content), hold=hold, most=most, length=lambda: int(length) if length.isdecimal() else None
        )
        response.streaming_content = [body] if rest is None else chain((body,), rest)
        return body if rest is None else None

    @property
    def status(self) -> int:
        """The response's status."""
        return int(self._response.status_code)

    @property
    def complete(self) -> bool:
        """True when the whole response is here, and short enough to be kept."""
        return self._body is not None and len(self._body) <= self._most

    def reply(self) -> Reply | None:
        """Return the whole response, if it is here."""
        if not self.complete:
            return None
        cookies = (("Set-Cookie", each.OutputString()) for each in self._response.cookies.values())
        return Reply(self.status, (*self._response.items(), *cookies), self._body or b"")

    def release(self, headers: Headers) -> Any:
        """Return the response with ``headers`` added."""
        _add(self._response, headers)
        return self._response

    def discard(self) -> None:
        """Close the response that is not sent."""
        self._response.close()


async def _collected(pieces: Any, most: int) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        taken(iter((bytes(body),)), hold=True, most=most, length=lambda: None)
    return bytes(body)


async def _again(body: bytes) -> Any:
    yield body
