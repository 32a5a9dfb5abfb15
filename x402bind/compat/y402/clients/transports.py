"""y402's httpx clients: our paying transports, with a y402 request's own layer above and below them.

Everything goes by the transport that the caller configured, the paid request too (Y10); what is known of one request is in
one :class:`~.exchange.Call`, so that a client pays as often as it is asked to (Y9).
"""

from __future__ import annotations

from typing import Any, TypeVar

import httpx

from x402bind.clients.held import Held
from x402bind.clients.httpx import outcome_of, pay_with
from x402core.events import Headers

from .common import Y402Client
from .exchange import approve, calling, current

__all__ = ["install"]

C = TypeVar("C", httpx.Client, httpx.AsyncClient)


def install(http: C, client: Y402Client) -> None:
    """Make an httpx client pay as a y402 client does, by whichever of its transports a request takes."""
    inside: Any = http  # httpx has no public way to wrap what verify=, proxy= and the environment have made
    below, above = (_Below, _Above) if isinstance(http, httpx.Client) else (_AsyncBelow, _AsyncAbove)
    _wrap(inside, below)
    pay_with(http, client.purse(approve))
    _wrap(inside, lambda inner: above(inner, client))


def _wrap(inside: Any, wrap: Any) -> None:
    inside._transport = wrap(inside._transport)
    inside._mounts = {pattern: None if inner is None else wrap(inner) for pattern, inner in inside._mounts.items()}


def _headers(headers: httpx.Headers) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)


def _sending(request: httpx.Request) -> None:
    for name, value in current().outgoing(_headers(request.headers)):
        request.headers[name] = value


def _seen(response: httpx.Response, held: Held) -> httpx.Response:
    """Return a held 402 as our transport is to see it: rewritten if it is all here, else as it came."""
    seen = current().incoming(_headers(response.headers), held.plain()) if held.rest is None else None
    if seen is None:
        return httpx.Response(402, headers=response.headers, stream=held, extensions=response.extensions)
    dropped = ("content-length", "content-encoding", "transfer-encoding")
    headers = [(name, value) for name, value in seen.headers if name.lower() not in dropped]
    return httpx.Response(402, headers=headers, content=seen.body, extensions={**response.extensions, "y402.came": held})


class _Below(httpx.BaseTransport):
    """The caller's transport, as our paying one sees it."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _sending(request)
        response = self._inner.handle_request(request)
        if response.status_code != 402:
            return response
        return _seen(response, Held(response).read(iter(response.stream)))  # type: ignore[arg-type]  # a sync transport's

    def close(self) -> None:
        self._inner.close()


class _Above(httpx.BaseTransport):
    """Our paying transport, as the caller sees it."""

    def __init__(self, inner: httpx.BaseTransport, client: Y402Client) -> None:
        self._inner, self._client = inner, client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with calling(self._client) as call:
            response = self._inner.handle_request(request)
            if response.status_code == 402:
                response.read()
            call.judge(response, outcome_of(response))
            return response

    def close(self) -> None:
        self._inner.close()


class _AsyncBelow(httpx.AsyncBaseTransport):
    """As :class:`_Below`."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _sending(request)
        response = await self._inner.handle_async_request(request)
        if response.status_code != 402:
            return response
        return _seen(response, await Held(response).aread(aiter(response.stream)))  # type: ignore[arg-type]  # an async one's

    async def aclose(self) -> None:
        await self._inner.aclose()


class _AsyncAbove(httpx.AsyncBaseTransport):
    """As :class:`_Above`."""

    def __init__(self, inner: httpx.AsyncBaseTransport, client: Y402Client) -> None:
        self._inner, self._client = inner, client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with calling(self._client) as call:
            response = await self._inner.handle_async_request(request)
            if response.status_code == 402:
                await response.aread()
            call.judge(response, outcome_of(response))
            return response

    async def aclose(self) -> None:
        await self._inner.aclose()
