"""Flask: put a price on a view.

    payments = Payments(app, seller)

    @app.get("/report")
    @payments.required("$0.01")
    def report(): ...                     # flask.g.x402 says who paid

The sale is around the view, so no spelling of a path, blueprint or mount passes it by.  Before the first request, or when
:meth:`Payments.check` is called, the application's routes are walked: a price on no route, or above the decorator that
registers the view without it, keeps every request from being answered.

What a view does beside its response (a session, ``after_this_request``, a database) is done before it is known whether the
money moves, unless the seller settles before the view.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from x402bind.pricing import Listing, Pricing
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError, Reason, Reply, problem
from x402core.events import Headers, Payer
from x402core.wire import http

from .background import Background
from .marks import SOLD, Mark, mark
from .routes import Routes, Scopes, listed
from .sale import Counter
from .sync_sale import BodyRefused, Incoming, SyncSale, taken, without_overrides
from .wsgi import incoming, read_body

if TYPE_CHECKING:
    from x402bind.paywall import Paywall

__all__ = ["Payments"]

V = TypeVar("V", bound=Callable[..., Any])
_BODY: Final = "x402.body"
_METHODS: Final = ("dispatch_request", "get", "post", "put", "patch", "delete", "head", "options", "trace")


class Payments:
    """Sell views of ``app`` through ``seller``; name them with :meth:`required`.

    ``token_path``, ``hold_most``, ``body_most`` (bytes), ``prove`` and ``paywall`` are as for
    :class:`~x402bind.servers.wsgi.PaymentMiddleware`.  Where the application is made later, give None and
    call :meth:`init_app`.
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
        self.seller, self.token_path = seller, token_path
        self.counter = Counter(seller, hold_most, body_most, paywall)
        self.background = Background(seller, prove=prove)
        self._marks: list[Mark] = []
        self._scopes: Scopes | None = None
        self.app: Any = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Sell the views of ``app``, a :class:`flask.Flask`; the token endpoint is added to its routes."""
        if self.app is not None:
            raise LocalProtocolError("these payments have their application: make others for another", field="app")
        self.app = app
        app.wsgi_app = functools.partial(_buffered, app.wsgi_app, self.counter.body_most)
        app.before_request(self.check)
        if self.seller.ring is not None:
            app.add_url_rule(self.token_path, "x402_token", self._token, methods=["POST"], provide_automatic_options=False)

    def required(self, price: Pricing | Listing, **listing: Any) -> Callable[[V], V]:
        """Return a decorator that puts a price on a view: directly above the function, under the route's decorator.

        ``price`` and the rest are as in :class:`~x402bind.pricing.Listing`; a function as price is called with Flask's request.
        Raises: LocalProtocolError naming what is no price.
        """
        listing_ = listed(self.seller, self.token_path, price, listing, sync=True)

        def decorate(view: V) -> V:
            guarded, found = mark(view, listing_)
            if view.__qualname__.startswith("View.as_view."):  # its code is Flask's, its name the seller's
                found = guarded.__x402__ = replace(found, where=f"{view.__module__}.{view.__name__}")

            @functools.wraps(guarded)
            def priced(*args: Any, **kwargs: Any) -> Any:
                return self._sell(found, functools.partial(_run, guarded, args, kwargs))

            self._marks.append(found)
            self._scopes = None
            return priced  # type: ignore[return-value]

        return decorate

    # ----------------------------------------------------------------------------------------------------------- audit

    def check(self) -> None:
        """Find every price on a route of the application.

        Raises: LocalProtocolError(field="required") listing the prices that nobody could be asked for.
        """
        if self._scopes is not None:
            return
        if self.app is None:
            raise LocalProtocolError("there is no application yet: call init_app", field="app")
        routes, problems = Routes(), list[str]()
        for rule in self.app.url_map.iter_rules():
            if rule.rule == self.token_path and rule.endpoint != "x402_token" and "POST" in (rule.methods or ("POST",)):
                problems.append(f"{rule.endpoint} is in the place of the token endpoint: name another token_path")
            routes.add(rule.rule, self.app.view_functions.get(rule.endpoint), _METHODS)
        problems += [problem for each in self._marks if (problem := routes.problem(each)) is not None]
        if problems:
            raise LocalProtocolError("; ".join(problems), field="required")
        self._scopes = Scopes(self.seller, routes, lambda path: "<" in path)

    # ------------------------------------------------------------------------------------------------------------ sales

    def _sell(self, found: Mark, run: Callable[[], Any]) -> Any:
        from flask import request

        self.check()
        assert self._scopes is not None
        shelf, asked = self._scopes.find(getattr(request.url_rule, "rule", ""), request.path, found)
        return self._sale(asked, found, run).sell(shelf)

    def _token(self) -> Any:
        from flask import request

        self.check()
        assert self._scopes is not None
        return self._sale(request.path, None, lambda: None).sell_token(self._scopes.tokens)

    def _sale(self, path: str, found: Mark | None, run: Callable[[], Any]) -> SyncSale[Any]:
        from flask import current_app, g, request

        def serve(payer: Payer | None, hold: bool) -> _Held:
            assert found is not None
            g.x402 = payer
            sold = SOLD.set(found.listing)
            try:
                return _Held(_response(current_app, run), hold=hold, most=self.counter.hold_most)
            finally:
                SOLD.reset(sold)

        return SyncSale(self.counter, self.background, _asked(request, path), serve, functools.partial(_write, current_app))


def _run(view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    from flask import current_app

    return current_app.ensure_sync(view)(*args, **kwargs)


def _response(app: Any, run: Callable[[], Any]) -> Any:
    """Return the response of a view, or what the application's error handlers make of its exception."""
    try:
        made = run()
    except Exception as error:  # noqa: BLE001 - raised again by Flask where nobody handles it
        made = app.handle_user_exception(error)
    return app.make_response(made)


def _buffered(app: Any, most: int, environ: Any, start_response: Any) -> Any:
    """Read the body of a request that brings a payment before anything else may: its permit is bound to it."""
    if any(name in environ for name in ("HTTP_PAYMENT_SIGNATURE", "HTTP_X_PAYMENT")):
        try:
            environ[_BODY] = read_body(environ, most)
        except BodyRefused as refused:
            environ[_BODY] = refused
    return app(environ, start_response)


def _asked(request: Any, path: str) -> Incoming:
    """Return Flask's request as sales know it; a body that something has begun to read is Flask's to give, if it can be had."""

    def read(most: int) -> bytes:
        found = request.environ.get(_BODY)
        if isinstance(found, BodyRefused):
            raise found
        if found is None and "stream" not in vars(request):
            return read_body(request.environ, most)
        body: bytes = request.get_data() if found is None else found
        if not body and request.content_length:
            raise BodyRefused(problem(400, "The body was read before it was paid for.", reason=Reason.INVALID_PAYLOAD))
        if len(body) > most:
            raise BodyRefused(http.too_large(most))
        return body

    return replace(incoming(request.environ, path), read=read, native=request)


def _write(app: Any, reply: Reply) -> Any:
    response = app.response_class(reply.body, status=reply.status)
    response.headers.clear()
    response.headers.extend(reply.headers)
    return response


class _Held:
    """A response of Flask's: whole, or begun where it streams and need not be held."""

    def __init__(self, response: Any, *, hold: bool, most: int) -> None:
        self._response, self._most = response, most
        passed, self.overrides = without_overrides(list(response.headers))
        if self.overrides is not None:
            response.headers.clear()
            response.headers.extend(passed)
        pieces, at_hand = response.response, response.is_sequence
        response.direct_passthrough = False
        try:
            body, rest = self._taken(hold=hold)
        except BaseException:
            response.close()
            raise
        self._body: bytes | None = body if rest is None else None
        if not at_hand:  # what was read is to be read again, and what it was read from still to be closed
            response.response = [body] if rest is None else chain((body,), rest)
            if (close := getattr(pieces, "close", None)) is not None:
                response.call_on_close(close)

    def _taken(self, *, hold: bool) -> tuple[bytes, Iterator[bytes] | None]:
        pieces = self._response.iter_encoded()
        if self._response.is_sequence and not hold:
            return b"".join(pieces), None
        return taken(pieces, hold=hold, most=self._most, length=lambda: self._response.content_length)

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
        return Reply(self.status, tuple(self._response.headers), self._body or b"") if self.complete else None

    def release(self, headers: Headers) -> Any:
        """Return the response with ``headers`` added."""
        for name, value in headers:
            self._response.headers.add(name, value)
        return self._response

    def discard(self) -> None:
        """Close the response that is not sent."""
        self._response.close()
