"""What ``x402 serve`` puts behind its price: a reverse proxy to any HTTP service, or an echo where there is none.

Both are plain ASGI applications; they know of payments only what the middleware leaves in ``scope["x402"]``.  The service
behind learns who paid from ``X-402-Payer``, ``X-402-Payment`` and ``X-402-Amount``, which a client can therefore not send;
permits and access tokens are not passed on, as they are as good as money.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

from x402bind.servers.held import Message, Receive, Scope, Send
from x402core.errors import LocalProtocolError
from x402core.events import Payer

__all__ = ["Proxy", "echo"]

_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
    + b"host content-length".split()
)
_MONEY: Final = frozenset((b"payment-signature", b"x-payment", b"sign-in-with-x"))
_OURS: Final = b"x-402-"


class Proxy:
    """Pass every request on to ``upstream`` (an http or https URL), streamed both ways; use as an async context manager.

    ``timeout`` is in seconds, for each step.  Raises: LocalProtocolError for what is no such URL, or when httpx is missing.
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
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
            raise LocalProtocolError("expected an http:// or https:// URL", field="proxy")
        self._httpx = httpx
        self._base = str(url).rstrip("/")
        self._client = httpx.AsyncClient(timeout=timeout, follow_redirects=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is passed on, not {scope['type']}")
        raw = scope.get("raw_path") or scope["path"].encode()
        query = scope.get("query_string", b"")
        target = self._base + raw.decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
        headers = [*_passed(scope["headers"]), *_who(scope)]
        request = self._client.build_request(scope["method"], target, headers=headers, content=_body(receive))
        try:
            response = await self._client.send(request, stream=True)
        except self._httpx.HTTPError:
            return await _plain(send, 502, b"The service behind did not answer.\n")
        try:
            kept = [(name, value) for name, value in response.headers.raw if name.lower() not in _HOP]
            await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await response.aclose()
        return None

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


def _passed(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in _HOP | _MONEY]
    return [(name, value) for name, value in kept if not name.lower().startswith(_OURS)]


def _who(scope: Scope) -> list[tuple[bytes, bytes]]:
    payer: Payer | None = scope.get("x402")
    if payer is None:
        return []
    told = (("Payer", payer.payer), ("Payment", payer.payment), ("Amount", str(payer.amount)))
    return [(f"X-402-{name}".encode(), value.encode()) for name, value in told]


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            return
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
