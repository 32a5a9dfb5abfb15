"""The demo's seller: an ordinary ASGI application with one price, under uvicorn, in a process of its own.

It reads its configuration, key included, from standard input, and prints where it listens.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from typing import Any

from x402bind.demo.node import demo_registry
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402bind.servers.held import App, Receive, Scope, Send
from x402core.values import Address, Network

__all__ = ["application", "main"]

PATH, PRICE = "/forecast", "$0.01"


async def forecast(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a weather forecast: the thing that is sold."""
    payer = scope.get("x402")
    body = {"forecast": "sunny, light wind, no clouds before Tuesday", "paid_by": None if payer is None else payer.payer}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def application(config: Mapping[str, Any], url: str) -> App:
    """Return the priced application."""
    network = Network(config["network"])
    seller = Seller(
        key=config["key"],
        pay_to=config["pay_to"],
        rpc={network: config["rpc"]},
        ledger=f"sqlite:{config['ledger']}",
        token_key=bytes.fromhex(config["token_key"]),
        registry=demo_registry(network, Address(config["asset"])),
        url=url,
    )
    return PaymentMiddleware(forecast, seller, {PATH: PRICE})


def main() -> int:
    """Serve until told to stop."""
    import uvicorn

    config = json.load(sys.stdin)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, so that asyncio sets NODELAY
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(application(config, url), log_level="warning", lifespan="on"))
    sys.stdout.write(f"listening on {url}\n")
    sys.stdout.flush()
    server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
