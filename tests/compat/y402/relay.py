"""A facilitator's front that remembers who asks what, and loses answers when told to."""

from __future__ import annotations

import json

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
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.asked.append(scope["path"])
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        async with httpx.AsyncClient(timeout=30) as client:
            kind = {"Content-Type": "application/json"}
            answer = await client.request(scope["method"], self.target + scope["path"], content=body, headers=kind)
        status, said = answer.status_code, answer.content
        if scope["path"] == "/settle" and self.lose:
            self.lose -= 1
            status, said = 500, json.dumps({"error": "lost"}).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": said})

    def of(self, path: str) -> list[dict[str, str]]:
        """Return the headers of all requests to a path."""
        return [headers for asked, headers in zip(self.asked, self.headers, strict=True) if asked == path]
