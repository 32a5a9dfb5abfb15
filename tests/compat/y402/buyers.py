"""y402's three clients over this core, as functions alike; and servers that say what a test wants."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import pytest

from tests.chains import USDC
from x402bind.compat.y402.clients import httpx as async_client
from x402bind.compat.y402.clients import httpx_sync, requests

PAYEE = "0x" + "22" * 20


def ask_async(account: Any, url: str, times: int = 1, **how: Any) -> list[Any]:
    async def ask() -> list[Any]:
        async with async_client.Y402Client(account, **how) as client:
            return [await client.get(url) for _ in range(times)]

    return anyio.run(ask)


def ask_sync(account: Any, url: str, times: int = 1, **how: Any) -> list[Any]:
    with httpx_sync.Y402Client(account, **how) as client:
        return [client.get(url) for _ in range(times)]


def ask_requests(account: Any, url: str, times: int = 1, **how: Any) -> list[Any]:
    with requests.y402_requests(account, **how) as session:
        return [session.get(url) for _ in range(times)]


Ask = Callable[..., list[Any]]
every_client = pytest.mark.parametrize("ask", [ask_async, ask_sync, ask_requests])


def offer(**changed: Any) -> dict[str, Any]:
    """Return one entry of a v1 402."""
    told = {
        "scheme": "exact",
        "network": "base-sepolia",
        "maxAmountRequired": "10000",
        "resource": "http://127.0.0.1/",
        "description": "",
        "mimeType": "",
        "payTo": PAYEE,
        "maxTimeoutSeconds": 60,
        "asset": USDC,
        "extra": {"name": "USDC", "version": "2"},
    }
    return told | changed


@dataclass
class Liar:
    """What a server says to whoever has not paid, and what it was sent by whoever has."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    sent: list[dict[str, str]] = field(default_factory=list)

    @property
    def payments(self) -> list[dict[str, Any]]:
        """Return the payments it was sent."""
        return [json.loads(base64.b64decode(each["x-payment"])) for each in self.sent]


@contextmanager
def liar(
    *accepts: dict[str, Any], networks: dict[str, int] | None = None, raw: bytes = b"", version: int = 1
) -> Iterator[Liar]:
    """Run a server that takes any payment and gives 200, and asks by these entries, or these bytes, for one."""
    body = raw or json.dumps({"x402Version": version, "accepts": list(accepts), "error": "pay"}).encode()
    told = Liar(body)
    if networks is not None:
        told.headers["X-Payment-Networks"] = base64.b64encode(json.dumps(networks).encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            paid = "x-payment" in headers
            if paid:
                told.sent.append(headers)
            answer = b"sold" if paid else told.body
            self.send_response(200 if paid else 402)
            for name, value in {**told.headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
