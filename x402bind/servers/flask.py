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
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Unpack

from x402bind.seller import Seller
from x402core.errors import LocalProtocolError
from x402core.events import Payer

from .background import Background
from .door import EndpointDoor, Options
from .flask_messages import Held, asked, buffered, response_of, run_view, write
from .marks import Mark, sold
from .routes import METHODS, Routes
from .sync_sale import SyncSale

__all__ = ["Payments"]


class Payments(EndpointDoor):
    """Sell views of ``app`` through ``seller``; name them with :meth:`required`.

    ``token_path``, ``hold_most``, ``body_most`` (bytes), ``prove`` and ``paywall`` are as for
    :class:`~x402bind.servers.wsgi.PaymentMiddleware`.  Where the application is made later, give None and
    call :meth:`init_app`.
    """

    sync = True

    def __init__(self, app: Any, seller: Seller, **options: Unpack[Options]) -> None:
        super().__init__(seller, **options)
        self.background = Background(seller, prove=self.prove)
        self.app: Any = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Sell the views of ``app``, a :class:`flask.Flask`; the token endpoint is added to its routes."""
        if self.app is not None:
            raise LocalProtocolError("these payments have their application: make others for another", field="app")
        self.app = app
        app.wsgi_app = functools.partial(buffered, app.wsgi_app, self.counter.body_most)
        app.before_request(self.check)
        if self.seller.ring is not None:
            app.add_url_rule(self.token_path, "x402_token", self._token, methods=["POST"], provide_automatic_options=False)

    def _priced(self, guarded: Any, found: Mark) -> Any:
        if guarded.__qualname__.startswith("View.as_view."):  # its code is Flask's, its name the seller's
            found = guarded.__x402__ = replace(found, where=f"{guarded.__module__}.{guarded.__name__}")
        self._note(found)

        @functools.wraps(guarded)
        def priced(*args: Any, **kwargs: Any) -> Any:
            return self._sell(found, functools.partial(run_view, guarded, args, kwargs))

        return priced

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
            routes.add(rule.rule, self.app.view_functions.get(rule.endpoint), ("dispatch_request", *METHODS))
        self._open(routes, problems, templates="<")

    # ------------------------------------------------------------------------------------------------------------ sales

    def _sell(self, found: Mark, run: Callable[[], Any]) -> Any:
        from flask import request

        self.check()
        assert self._scopes is not None
        shelf, path = self._scopes.find(getattr(request.url_rule, "rule", ""), request.path, found)
        return self._sale(path, found, run).sell(shelf)

    def _token(self) -> Any:
        from flask import request

        self.check()
        return self._sale(request.path, None, lambda: None).sell_token(self.scopes)

    def _sale(self, path: str, found: Mark | None, run: Callable[[], Any]) -> SyncSale[Any]:
        from flask import current_app, g, request

        def serve(payer: Payer | None, hold: bool) -> Held:
            assert found is not None
            g.x402 = payer
            with sold(found.listing):
                return Held(response_of(current_app, run), hold=hold, most=self.counter.hold_most)

        return SyncSale(self.counter, self.background, asked(request, path), serve, functools.partial(write, current_app))
