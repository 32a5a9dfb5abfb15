"""The 402 as its reader wants it: with the names of networks for y402's clients, as a page for people.

A page of the seller's own is sent as it is, with ``window.x402`` put before ``</head>``, as y402 does; it is escaped,
exact and of every network (Y20, Y28).  Without one, the page is this project's, which takes 40 kB and nobody's fonts.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.paywall import PaywallConfig
from x402bind.paywall import Paywall, browsing
from x402core.errors import LocalProtocolError, RemoteProtocolError, Reply
from x402core.events import Headers, Offer
from x402core.money import atomic_to_human
from x402core.policy import Terms
from x402core.registry import Registry
from x402core.wire.json import Json, loads

__all__ = ["X_PAYMENT_NETWORKS", "Page"]

X_PAYMENT_NETWORKS: Final = "X-Payment-Networks"
_log: Final = logging.getLogger("x402bind.compat.y402")
_ESCAPED: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_OWN: Final = frozenset(("content-type", "content-length", "vary"))
Html = str | Callable[[Mapping[str, Json]], str]


class Page:
    """Make the reply to whoever has not paid; ``networks`` are chain ids by name.

    ``html`` is a page of the seller's own, or a function of what a :class:`~x402bind.paywall.Paywall` is told.
    """

    def __init__(self, networks: Mapping[str, int], config: PaywallConfig | None, html: Html | None) -> None:
        text = json.dumps(dict(networks)).encode()
        self._headers: Headers = (
            (X_PAYMENT_NETWORKS, base64.b64encode(text).decode()),
            ("Access-Control-Expose-Headers", X_PAYMENT_NETWORKS),
        )
        self._config: Any = config or {}
        self._html = html if isinstance(html, str) else None
        try:
            self._paywall = Paywall(
                html if callable(html) else None, brand=self._config.get("app_name", ""), logo=_logo(self._config)
            )
        except LocalProtocolError as error:
            raise MisconfigurationError(error.message, field="paywall_config") from None

    def page(self, terms: Terms, headers: Headers, reply: Reply, method: str = "GET") -> Reply:
        """Return a 402 with the networks' names, and as a page where a browser asked."""
        reply = Reply(reply.status, (*reply.headers, *self._headers), reply.body)
        if self._html is None:
            return self._paywall.page(terms, headers, reply, method)
        if not browsing(headers):
            return reply
        kept = tuple((name, value) for name, value in reply.headers if name.lower() not in _OWN)
        own = (("Content-Type", "text/html; charset=utf-8"), ("Vary", "Accept, User-Agent, X-PAYMENT, PAYMENT-SIGNATURE"))
        return Reply(reply.status, (*own, *kept), self._filled(self._html, terms, reply).encode())

    def _filled(self, html: str, terms: Terms, reply: Reply) -> str:
        script = f"<script>window.x402 = {self._data(terms, reply)};</script>"
        head, found, rest = html.partition("</head>")
        return f"{head}{script}{found}{rest}" if found else script + html

    def _data(self, terms: Terms, reply: Reply) -> str:
        """Return what y402 tells its page, as JSON that no byte of can end the script."""
        try:
            body: Any = loads(reply.body)
        except RemoteProtocolError:  # pragma: no cover - the core's own
            body = {}
        first = terms.offers[0]
        told = {
            "paymentRequirements": body.get("accepts", []),
            "testnet": _testnet(terms.registry, first),
            "currentUrl": terms.resource.url,
            "error": str(body.get("error", "")),
            "x402Version": 1,
            "cdpClientKey": self._config.get("cdp_client_key", ""),
            "appName": self._config.get("app_name", ""),
            "appLogo": self._config.get("app_logo", ""),
            "sessionTokenEndpoint": self._config.get("session_token_endpoint", ""),
        }
        amount = format(atomic_to_human(first.amount, first.decimals or 0), "f")  # a JSON number, exactly
        return f'{{"amount": {amount}, {json.dumps(told)[1:]}'.translate(_ESCAPED)


def _logo(config: Mapping[str, Any]) -> str:
    logo = str(config.get("app_logo") or "")
    if logo and not logo.startswith("data:image/"):
        _log.warning("app_logo is left out: the page loads nothing from elsewhere, so write a data:image/ URI")
        return ""
    return logo


def _testnet(registry: Registry, offer: Offer) -> bool:
    try:
        return registry.network(offer.network).testnet
    except LocalProtocolError:
        return False
