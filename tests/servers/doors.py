"""Buying at whatever door a shop has: ask what it costs, pay, and return the answer."""

from __future__ import annotations

from typing import Any

import httpx

from tests.shop import Payer, Shop
from x402core.events import Offer, ResponseHead
from x402core.wire import http

__all__ = ["asked", "buy"]


def asked(url: str, *, method: str = "GET", **how: Any) -> Offer:
    """Return what an unpaid request is asked for."""
    answer = httpx.request(method, url, **how)
    assert answer.status_code == 402, (answer.status_code, answer.text)
    challenge = http.decode_402(ResponseHead(402, tuple(answer.headers.multi_items()), answer.content, url))
    return challenge.offers[0]


def buy(shop: Shop, path: str, *, method: str = "GET", payer: Payer | None = None, **how: Any) -> httpx.Response:
    """Ask what a path costs, pay it, and return the answer."""
    offer = asked(shop.url + path, method=method, **how)
    header = (payer or shop.ground.payer()).header(offer, shop.ground)
    return httpx.request(method, shop.url + path, timeout=20, **{**how, "headers": {**how.get("headers", {}), **header}})
