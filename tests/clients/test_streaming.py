"""Responses that come in pieces, and HTTP/2: what is bought is delivered as it comes, over whatever carries it."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.fakes import NETWORK, WORLDS, FakeNode, FakeSeller, purse, run_async, served
from tests.clients.wires import client_tls, on_http2, server_tls
from tests.shop import FUNDS, PRICE, Ground, Shop
from x402bind.clients import requests as with_requests
from x402bind.clients.httpx import AsyncHttp402Client, Http402Client, outcome_of
from x402bind.clients.purse import MOST_BODY
from x402bind.clients.requests import Http402Session
from x402bind.servers.held import Receive, Scope, Send
from x402core.commands import OutcomeKind
from x402core.errors import Reply
from x402core.events import Dialect

needs_h2 = pytest.mark.skipif(find_spec("h2") is None, reason="HTTP/2 needs h2: pip install 'httpx[http2]'")
every_world = pytest.mark.parametrize("world", WORLDS)


class Slow:
    """An application that sends the second half of its answer once the first has been read."""

    def __init__(self) -> None:
        self.read = threading.Event()
        self.streamed = True

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        for _ in range(500):
            if self.read.is_set():
                break
            await asyncio.sleep(0.01)
        else:
            self.streamed = False
        await send({"type": "http.response.body", "body": b"second"})


def body_of(slow: Slow, parts: Iterator[bytes]) -> bytes:
    body = next(parts)
    slow.read.set()
    return body + b"".join(parts)


def test_a_paid_stream_comes_as_it_is_made(ground: Ground, tmp_path: Path) -> None:
    payer, slow = ground.payer(), Slow()
    with Shop(ground, tmp_path, app=slow, settle="before") as shop:
        funds = payer.purse(ground, Dialect.V2)
        with Http402Session(purse=funds) as session, session.get(shop.paid, stream=True, timeout=30) as response:
            outcome = with_requests.outcome_of(response)
            assert outcome is not None
            assert outcome.kind is OutcomeKind.PAID
            assert body_of(slow, response.iter_content(5)) == b"firstsecond"
        assert slow.streamed
        slow.read.clear()
        with Http402Client(purse=funds, timeout=30) as client, client.stream("GET", shop.paid) as answer:
            assert not answer.is_stream_consumed
            assert body_of(slow, answer.iter_bytes()) == b"firstsecond"
        assert slow.streamed
        assert (ground.balance(payer.address), shop.earned) == (FUNDS - 2 * PRICE, 2 * PRICE)


def test_a_paid_stream_comes_as_it_is_made_async(ground: Ground, tmp_path: Path) -> None:
    payer, slow = ground.payer(), Slow()

    async def main(url: str) -> bytes:
        async with (
            AsyncHttp402Client(purse=payer.purse(ground, Dialect.V2), timeout=30) as client,
            client.stream("GET", url) as response,
        ):
            parts: AsyncIterator[bytes] = response.aiter_bytes()
            body = await anext(parts)
            slow.read.set()
            return body + b"".join([part async for part in parts])

    with Shop(ground, tmp_path, app=slow, settle="before") as shop:
        assert run_async("asyncio", lambda: main(shop.paid)) == b"firstsecond"
        assert slow.streamed
        assert shop.earned == PRICE


@pytest.mark.parametrize("packed", [False, True])
def test_a17_a_402_that_is_streamed_is_all_there(packed: bool) -> None:
    """A big page of somebody else's, read in pieces: raw, unpacked, by lines, with requests and with httpx."""
    page = b"<p>pay</p>\n" * (MOST_BODY // 5)
    body = gzip.compress(page, 0) if packed else page
    headers = (("Content-Encoding", "gzip"),) if packed else ()
    seller = FakeSeller(lambda _: Reply(402, headers, body))
    with served(seller.asgi) as shop, Http402Session(purse=purse(rpc=False)) as session:
        with session.get(f"{shop}/x", stream=True) as response:
            assert b"".join(response.iter_content(777)) == page
        with session.get(f"{shop}/x", stream=True) as response:
            assert list(response.iter_lines()) == page.splitlines()
        with session.get(f"{shop}/x", stream=True) as response:
            assert response.raw.read(decode_content=False) == body
        with Http402Client(purse=purse(rpc=False)) as client, client.stream("GET", f"{shop}/x") as answer:
            assert b"".join(answer.iter_bytes(777)) == page


def test_a_stream_that_is_left_early_is_closed() -> None:
    seller = FakeSeller(lambda _: Reply(402, (), b"x" * MOST_BODY * 4))
    with served(seller.asgi) as shop, Http402Session(purse=purse(rpc=False)) as session:
        for _ in range(3):
            with session.get(f"{shop}/x", stream=True, timeout=5) as response:
                assert next(response.iter_content(10)) == b"x" * 10
            assert response.raw.closed


# ------------------------------------------------------------------------------------------------------------------ HTTP/2


async def _async_get(url: str, paths: tuple[str, ...], **options: Any) -> list[httpx.Response]:
    async with AsyncHttp402Client(purse=purse(rpc=False), **options) as client:
        return [await client.post(url + path, content=b"order") for path in paths]


@needs_h2
@every_world
@pytest.mark.parametrize("encrypted", [True, False], ids=["tls", "clear"])
def test_http2(world: str, encrypted: bool, tmp_path: Path) -> None:
    """One connection carries the 402, the payment and what was bought."""
    seller, paths = FakeSeller(), ("/v2", "/free", "/v2")
    options: dict[str, Any] = {"http2": True, "verify": client_tls()} if encrypted else {"http1": False, "http2": True}
    with on_http2(seller, server_tls(tmp_path, "h2") if encrypted else None) as url:
        if world == "sync":
            with Http402Client(purse=purse(rpc=False), **options) as client:
                answers = [client.post(url + path, content=b"order") for path in paths]
        else:
            answers = run_async(world, lambda: _async_get(url, paths, **options))
    assert [each.http_version for each in answers] == ["HTTP/2"] * 3
    outcomes = [outcome_of(each) for each in answers]
    paid, free = OutcomeKind.PAID, OutcomeKind.FREE
    assert [outcome and outcome.kind for outcome in outcomes] == [paid, free, paid]
    assert [each.json()["body"] for each in answers] == ["order"] * 3


@needs_h2
def test_http2_streams(tmp_path: Path) -> None:
    """A paid body and a 402 too big to hold, each read in pieces, on one connection."""
    seller = FakeSeller()
    page = b"x" * (MOST_BODY // 8)
    offer = seller.challenge(Dialect.V2)
    seller.script = lambda seen: Reply(402, offer.headers, page) if not seen.paid and seen.path == "/v2" else None
    options: dict[str, Any] = {"http1": False, "http2": True}
    with on_http2(seller) as url:
        with Http402Client(purse=purse(rpc=False), **options) as client, client.stream("GET", f"{url}/v2") as response:
            assert response.http_version == "HTTP/2"
            assert b"/v2" in b"".join(response.iter_raw())
        with Http402Client(purse=purse("$0.001", rpc=False), **options) as client, client.stream("GET", f"{url}/v2") as refused:
            assert refused.status_code == 402
            assert b"".join(refused.iter_raw(100)) == page


@needs_h2
def test_http2_many_at_once() -> None:
    """Eight tasks on one connection: eight permits."""
    seller = FakeSeller()

    async def main(url: str) -> list[httpx.Response]:
        async with AsyncHttp402Client(purse=purse(rpc=False), http1=False, http2=True) as client:
            return await asyncio.gather(*[client.post(f"{url}/v2", content=str(n).encode()) for n in range(8)])

    with on_http2(seller) as url:
        answers = run_async("asyncio", lambda: main(url))
    assert [each.json()["body"] for each in answers] == [str(n) for n in range(8)]
    assert len({permit.key for permit in seller.permits}) == 8


@needs_h2
def test_a_token_is_bought_over_http2() -> None:
    seller, node = FakeSeller(), FakeNode()
    from x402bind.clients.httpx import PaymentTransport

    inner = httpx.HTTPTransport(http1=False, http2=True)
    with on_http2(seller) as url, httpx.Client(transport=PaymentTransport(inner, purse(), chain=node.sync())) as client:
        assert [client.get(f"{url}/token-priced").status_code for _ in range(2)] == [200, 200]
    assert seller.paths == ["/token-priced", "/token", "/token-priced", "/token-priced"]
    assert seller.permits[0].network == NETWORK
