"""y402's Flask decorator: ``@require_payment`` above ``@X402EndpointSettings(...)`` above the view, under its route.

The sale is around the view, so no spelling of a path passes it by.  In another order than this one, decorating raises, or the
view does: it is never served free (Y2).
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

from x402bind.compat.y402.api.page import Html
from x402bind.compat.y402.api.selling import LEDGER, Endpoint, Options, Selling, state_of
from x402bind.compat.y402.core.types.endpoint_settings import settings_of
from x402bind.compat.y402.core.types.errors import ConditionalDependencyError, MisconfigurationError
from x402bind.compat.y402.core.types.facilitator import FacilitatorConfig
from x402bind.compat.y402.core.types.paywall import PaywallConfig
from x402bind.compat.y402.core.types.setup import Y402Setup
from x402bind.compat.y402.storage.base import StorageManager
from x402bind.ledger.contract import Ledger
from x402bind.pricing import Paid
from x402bind.seller import Seller
from x402bind.servers.background import Background
from x402bind.servers.flask_messages import Held, asked, response_of, run_view, write
from x402bind.servers.marks import mark_of, sold
from x402bind.servers.sync_sale import Incoming, SyncSale
from x402core.events import Headers, Payer

try:
    from flask import current_app, g, request
except ImportError:
    raise ConditionalDependencyError("Flask is not installed: pip install flask") from None

__all__ = ["Gate", "payment_required"]

V = TypeVar("V", bound=Callable[..., Any])
_PAID_BY = ("x-payment", "payment-signature")


def payment_required(
    *,
    mime_type: str = "",
    default_max_deadline_seconds: int = 60,
    paywall_config: PaywallConfig | None = None,
    custom_paywall_html: Html | None = None,
    facilitator_config: FacilitatorConfig | None = None,
    setup: Y402Setup | None = None,
    client_http_library: Literal["httpx_sync", "requests"] = "httpx_sync",
    storage_manager: StorageManager | None = None,
    ledger: str | Ledger = LEDGER,
    url: str = "",
    settle: str = "after",
    prove: bool = True,
) -> Gate:
    """Return the decorator for every view that is sold; the arguments beside y402's are as for FastAPI's.

    Which library asks the facilitator makes no difference here: it is this project's own.

    Raises: MisconfigurationError naming the argument.
    """
    if client_http_library not in ("httpx_sync", "requests"):
        raise MisconfigurationError("write 'httpx_sync' or 'requests'", field="client_http_library")
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
    """A decorator, and the seller of all it has decorated."""

    def __init__(self, options: Options, *, prove: bool = True) -> None:
        self.selling, self.prove = Selling(options), prove
        self.seller: Seller | None = None
        self.background: Background | None = None
        self._views: list[Any] = []
        self._endpoints: dict[tuple[int, str], Endpoint] = {}
        self._lock = threading.Lock()

    def __call__(self, view: V) -> V:
        """Sell a view.

        Raises: MisconfigurationError for one without settings, or with a price that means nothing.
        """
        if settings_of(view) is None or mark_of(view) is None:
            name = getattr(view, "__qualname__", view)
            raise MisconfigurationError(f"write @X402EndpointSettings(...) directly above {name}, under this", field="endpoint")
        if self.seller is not None:
            raise MisconfigurationError("a view is decorated before the first request", field="endpoint")
        self.selling.check(view)
        self._views.append(view)

        @functools.wraps(view)
        def priced(*args: Any, **kwargs: Any) -> Any:
            return self._sell(view, functools.partial(run_view, view, args, kwargs))

        return priced  # type: ignore[return-value]

    def _sell(self, view: Any, run: Callable[[], Any]) -> Any:
        endpoint, background = self._endpoint(view), self._begun()
        found = mark_of(view)
        assert found is not None
        incoming = asked(request, request.path)
        asset = endpoint.asset(incoming.headers)
        if asset is None:  # a payment in what nothing is sold in is none
            incoming = _unpaid(incoming)
        shelf = endpoint.shelf(request.method, request.view_args or {}, asset or "")

        def serve(payer: Payer | None, hold: bool) -> Held:
            assert isinstance(payer, Paid)
            g.x402 = state_of(payer)
            with sold(found.listing):
                return Held(response_of(current_app, run), hold=hold, most=endpoint.counter.hold_most)

        answer = functools.partial(write, current_app)
        return SyncSale(endpoint.counter, background, incoming, serve, answer).sell(shelf)

    def _begun(self) -> Background:
        with self._lock:
            if self.background is None:
                self.seller = self.selling.seller(self._views)
                self.background = Background(self.seller, prove=self.prove)
            return self.background

    def _endpoint(self, view: Any) -> Endpoint:
        rule = request.url_rule
        path = "" if rule is None else rule.rule
        found = self._endpoints.get((id(view), path))
        if found is None:
            seller = self._begun().seller
            params = () if rule is None else rule.arguments
            found = Endpoint(self.selling, seller, view, path, params=params, param_of=_param, wait=asyncio.run)
            self._endpoints[id(view), path] = found
        return found

    def close(self) -> None:
        """Stop settling in this process; the ledger keeps what is open."""
        if self.background is not None:
            self.background.close()


def _unpaid(incoming: Incoming) -> Incoming:
    headers: Headers = tuple(pair for pair in incoming.headers if pair[0].lower() not in _PAID_BY)
    return replace(incoming, headers=headers)


def _param(asked: Any, name: str) -> Any:
    return (asked.view_args or {}).get(name)
