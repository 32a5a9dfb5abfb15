"""Run by y402's own python: buy one resource, some times over, with one of its released clients; print what came as JSON."""

import asyncio
import json
import sys

from eth_account import Account

asked = json.load(sys.stdin)
account = Account.from_key(asked["key"])
method, body = asked["method"], asked.get("body")


def told(response) -> dict:
    return {
        "status": response.status_code,
        "text": response.text,
        "receipt": response.headers.get("X-PAYMENT-RESPONSE"),
        "networks": response.headers.get("X-Payment-Networks"),
    }


async def with_httpx() -> dict:
    from y402.clients.httpx import Y402Client

    async with Y402Client(account, timeout=30) as client:
        return told(await client.request(method, asked["url"], json=body))


def with_httpx_sync() -> dict:
    from y402.clients.httpx_sync import Y402Client

    with Y402Client(account, timeout=30) as client:
        return told(client.request(method, asked["url"], json=body))


def with_requests() -> dict:
    from y402.clients.requests import y402_requests

    return told(y402_requests(account).request(method, asked["url"], json=body))


buyers = {"httpx": lambda: asyncio.run(with_httpx()), "httpx_sync": with_httpx_sync, "requests": with_requests}
answer = buyers[asked["client"]]()
sys.stdout.write(json.dumps(answer))
