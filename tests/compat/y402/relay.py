"""A facilitator's front that remembers who asks what, and loses answers when told to."""

from __future__ import annotations

import json
from typing import Any

import httpx

from x402bind.servers.held import Receive, Scope, Send


class Relay:
    """Pass everything on to ``target``; ``lose`` answers to ``/settle`` are made HTTP 500 after it was done."""

    def __init__(self, target: str) -> None:
        self.target, self.lose = target, 0
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return None
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if (said := self.refuses(scope["path"], body)) is not None:
            return await _say(send, *said)
        self.asked.append(scope["path"])
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        async with httpx.AsyncClient(timeout=30) as client:
            kind = {"Content-Type": "application/json"}
            answer = await client.request(scope["method"], self.target + scope["path"], content=body, headers=kind)
        status, said = answer.status_code, answer.content
        if scope["path"] == "/settle" and self.lose:
            self.lose -= 1
            status, said = 500, json.dumps({"error": "lost"}).encode()
        return await _say(send, status, said)

    def refuses(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Return what is answered instead of passing a request on: nothing."""
        return None

    def of(self, path: str) -> list[dict[str, str]]:
        """Return the headers of all requests to a path."""
        return [headers for asked, headers in zip(self.asked, self.headers, strict=True) if asked == path]


class FirstVersionOnly(Relay):
    """A stand-in for a facilitator of x402 v1: it lists, and understands, nothing else; what it settles, the real one does."""

    def __init__(self, target: str, *kinds: tuple[int, str]) -> None:
        super().__init__(target)
        self.kinds = kinds or ((1, "base-sepolia"),)
        self.unheard: list[object] = []
        self.bodies: list[dict[str, Any]] = []

    def refuses(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Answer ``/supported``, and whatever is not of version 1."""
        if path == "/supported":
            kinds = [{"x402Version": version, "scheme": "exact", "network": name} for version, name in self.kinds]
            return 200, json.dumps({"kinds": kinds}).encode()
        asked = json.loads(body)
        if asked["x402Version"] == 1:
            self.bodies.append(asked)
            return None
        self.unheard.append(asked["x402Version"])
        return 400, b'{"error": "invalid_x402_version"}'


async def _say(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
