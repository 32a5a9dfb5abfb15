"""What ``x402 serve`` puts behind its price: a reverse proxy to any HTTP service, or an echo where there is none.

Both are plain ASGI applications; they know of payments only what the middleware leaves in ``scope["x402"]``.  The service
behind learns who paid from ``X-402-Payer``, ``X-402-Payment`` and ``X-402-Amount``, which a client can therefore not send;
permits and sign-ins are not passed on, as they are as good as money.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Final

from x402bind.servers.held import Message, Receive, Scope, Send
from x402core.errors import LocalProtocolError
from x402core.events import Payer

__all__ = ["Broken", "Proxy", "echo"]

_Headers = list[tuple[bytes, bytes]]
_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer".split()
    + b"transfer-encoding upgrade".split()
)
_MONEY: Final = frozenset((b"payment-signature", b"x-payment", b"sign-in-with-x"))
_SAID: Final = frozenset((b"payment-response", b"x-payment-response", b"payment-required"))
"""What is said of money is ours to say: a service behind that sells by itself would be heard instead of us."""
_OURS: Final = re.compile(rb"x[-_]402[-_]", re.IGNORECASE)  # CGI and WSGI make one of "-" and "_"
_UP: Final = re.compile(rb"(?:/|\\|%2f|%5c)(?:\.|%2e){1,2}(?=/|\\|%2f|%5c|$)", re.IGNORECASE)
"""A dot segment, however it is written: it could leave the upstream's own path."""


class Proxy:
    """Pass every request on to ``upstream`` (an http or https URL), streamed both ways.

    Nothing is shared between two requests but connections: no cookies, no redirects, no headers of our own.  ``timeout`` is in
    seconds, for each step.  An answer that breaks off raises Broken, for the server to hang up too.

    Raises: LocalProtocolError for what is no such URL, or when httpx is missing.
    """

    def __init__(self, upstream: str, *, timeout: float = 60.0) -> None:
        try:
            import httpx
        except ImportError:
            raise LocalProtocolError("httpx is not installed: pip install 'x402core[httpx]'", field="proxy") from None
        try:
            url = httpx.URL(upstream)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment or url.userinfo:
            raise LocalProtocolError(
                "expected a URL such as http://127.0.0.1:8000, without a query or a password", field="proxy"
            )
        self._httpx = httpx
        self._base = str(url).rstrip("/").encode()
        self._timeout = httpx.Timeout(timeout).as_dict()
        self._transport = httpx.AsyncHTTPTransport(trust_env=False, verify=url.scheme == "https")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is passed on, not {scope['type']}")
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if not raw.startswith(b"/") or _UP.search(raw):  # "@elsewhere/" would name another host, "/.." another path
            return await _plain(send, 400, b"That is no path here.\n")
        query: bytes = scope.get("query_string", b"")
        target = (self._base + raw + (b"?" + query if query else b"")).decode("latin-1")
        headers = [*_passed(scope["headers"]), *_who(scope)]
        content = _body(receive) if _has_body(scope["headers"]) else None
        try:
            extensions = {"timeout": self._timeout}
            request = self._httpx.Request(scope["method"], target, headers=headers, content=content, extensions=extensions)
            response = await self._transport.handle_async_request(request)
        except self._httpx.InvalidURL:
            return await _plain(send, 400, b"That is no path here.\n")
        except _Gone:
            return None
        except self._httpx.TimeoutException:
            return await _plain(send, 504, b"The service behind did not answer in time.\n")
        except self._httpx.HTTPError:
            return await _plain(send, 502, b"The service behind did not answer.\n")
        try:
            kept = [(name, value) for name, value in _kept(response.headers.raw) if name.lower() not in _SAID]
            await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except self._httpx.HTTPError as error:
            raise Broken(type(error).__name__) from None
        finally:
            await response.aclose()
        return None

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._transport.aclose()


class Broken(Exception):
    """The service behind broke off within its answer: what came of it must not pass for the whole."""


class _Gone(Exception):
    """The client hung up within its body: the service behind must not take what came for the whole."""


def _kept(headers: _Headers) -> _Headers:
    """Return the headers that are not only about this one connection (RFC 9110 7.6.1)."""
    listed = b",".join(value for name, value in headers if name.lower() == b"connection").lower()
    gone = _HOP | {each.strip() for each in listed.split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in gone]


def _passed(headers: _Headers) -> _Headers:
    kept = [(name, value) for name, value in _kept(headers) if name.lower() not in _MONEY | {b"host"}]
    return [(name, value) for name, value in kept if not _OURS.match(name)]


def _who(scope: Scope) -> _Headers:
    payer: Payer | None = scope.get("x402")
    if payer is None:
        return []
    told = (("Payer", payer.payer), ("Payment", payer.payment), ("Amount", str(payer.amount)))
    return [(f"X-402-{name}".encode(), value.encode()) for name, value in told]


def _has_body(headers: _Headers) -> bool:
    """Say whether a body follows; its length goes on as the client stated it, or else it is chunked again."""
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers)


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what was asked and who paid for it, as JSON."""
    if scope["type"] != "http":
        raise RuntimeError(f"only HTTP is answered, not {scope['type']}")
    payer: Payer | None = scope.get("x402")
    told = {"method": scope["method"], "path": scope["path"], "query": scope.get("query_string", b"").decode("latin-1")}
    if payer is not None:
        told |= {"payer": payer.payer, "amount": str(payer.amount), "asset": payer.asset, "network": payer.network}
        told |= {"payment": payer.payment, "transaction": payer.transaction or ""}
    body = json.dumps(told).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _plain(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text, "more_body": False})
