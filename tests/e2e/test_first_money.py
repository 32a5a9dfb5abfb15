"""Money, end to end: a real client pays a real server over a socket, and a chain with USDC on it says who has what."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.shop import (
    FUNDS,
    PRICE,
    Ground,
    Payer,
    Shop,
    async_client,
    client,
    paid_for,
    posted,
    token_body,
    until,
    with_token,
)
from x402bind.clients.httpx import outcome_of
from x402bind.servers.held import Receive, Scope, Send
from x402core.commands import OutcomeKind
from x402core.events import Dialect, Method, ResponseHead
from x402core.wire import v2
from x402core.wire.headers import single

WORLDS = ("sync", "asyncio", "trio")
CALLS = {Dialect.V2: ("transferWithAuthorization",), Dialect.PERMIT_TOKEN: ("permit", "transferFrom")}


def get(world: str, shop: Shop, payer: Payer, *dialects: Dialect, times: int = 1) -> tuple[list[httpx.Response], Any]:
    """Ask for what is sold, as often as wanted, with one client of the given world."""
    purse = payer.purse(shop.ground, *dialects)
    if world == "sync":
        with client(purse) as (paying, wire):
            return [paying.get(shop.paid) for _ in range(times)], wire

    async def go() -> tuple[list[httpx.Response], Any]:
        paying, wire = async_client(purse)
        async with paying:
            return [await paying.get(shop.paid) for _ in range(times)], wire

    return anyio.run(go, backend=world)


def exactly(shop: Shop, payer: Payer, payments: int = 1) -> None:
    """Demand that the payer paid and the seller got exactly so many payments."""
    assert (shop.ground.balance(payer.address), shop.earned) == (FUNDS - payments * PRICE, payments * PRICE)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("settle", ["after", "before"])
def test_v2_moves_exactly_the_price(ground: Ground, tmp_path: Path, world: str, settle: str) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path, settle=settle) as shop:
        (response,), wire = get(world, shop, payer, Dialect.V2)
        assert (response.status_code, response.json()["paid_by"]) == (200, payer.address)
        assert response.headers.get_list("Set-Cookie") == ["a=1", "b=2"]
        assert "private" in response.headers["Cache-Control"]
        assert wire.statuses == [402, 200]
        exactly(shop, payer)
        outcome = outcome_of(response)
        assert outcome is not None
        assert outcome.receipt is not None
        (entry,) = shop.entries()
        assert (outcome.kind, outcome.amount, entry.state) == (OutcomeKind.PAID, PRICE, "settled")
        assert entry.transactions == (outcome.receipt.transaction,)
        assert ground.calls(entry.transactions) == CALLS[Dialect.V2]

        again = wire.again(paid_for)
        assert (again.status_code, again.content) == (200, response.content)
        assert again.headers[v2.PAYMENT_RESPONSE] == response.headers[v2.PAYMENT_RESPONSE]
        assert again.headers.get_list("Set-Cookie") == ["a=1", "b=2"]
        elsewhere = wire.again(paid_for, f"{shop.url}/other")
        assert (elsewhere.status_code, shop.api.runs) == (402, 1)
        query = wire.again(paid_for, f"{shop.paid}?more=1")
        assert (query.status_code, shop.api.runs) == (402, 1)
        exactly(shop, payer)


@pytest.mark.parametrize("world", WORLDS)
def test_a_permit_buys_a_token_and_is_settled_in_the_background(ground: Ground, tmp_path: Path, world: str) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop:
        responses, wire = get(world, shop, payer, Dialect.PERMIT_TOKEN, times=3)
        assert [(r.status_code, r.json()["paid_by"]) for r in responses] == 3 * [(200, payer.address)]
        assert wire.statuses == [402, 200, 200, 200, 200]  # the token is bought once, and used again without paying (A10)
        (entry,) = shop.settled()
        assert (entry.state, ground.calls(entry.transactions)) == ("settled", CALLS[Dialect.PERMIT_TOKEN])
        exactly(shop, payer)

        token = responses[0].request.headers.get("Authorization")
        assert token is None  # the caller's request never carries it
        assert wire.again(posted).json()["access_token"] in wire.sent[-1].headers["Authorization"]
        assert wire.again(with_token).status_code == 200
        assert wire.again(with_token, f"{shop.url}/other").status_code == 402
        assert wire.again(posted, f"{shop.url}/token?scope=%2Fother").status_code == 402
        assert wire.again(posted, f"{shop.url}/token?scope=%2Fnowhere").status_code == 404
        exactly(shop, payer)
        assert len(shop.entries()) == 1


class Slow:
    """A handler that runs until it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.running = threading.Event()
        self.go = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.runs += 1
        self.running.set()
        assert await anyio.to_thread.run_sync(self.go.wait, 10)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"once"})


def test_eight_identical_payments_at_one_time_are_one(ground: Ground, tmp_path: Path) -> None:
    payer, slow = ground.payer(), Slow()
    with Shop(ground, tmp_path, app=slow) as shop:
        headers = payer.header(shop.offer(), ground)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(httpx.get, shop.paid, headers=headers, timeout=20) for _ in range(8)]
            assert slow.running.wait(10)
            until(lambda: sum(each.done() for each in asked) == 7)
            slow.go.set()
            replies = [each.result() for each in asked]
        assert sorted(each.status_code for each in replies) == [200, *7 * [409]]
        assert all("Retry-After" in each.headers for each in replies if each.status_code == 409)
        again = httpx.get(shop.paid, headers=headers, timeout=20)
        assert (again.status_code, again.content, slow.runs) == (200, b"once", 1)
        exactly(shop, payer)
        (entry,) = shop.entries()
        assert ground.calls(entry.transactions) == CALLS[Dialect.V2]


def test_eight_identical_permits_at_one_time_buy_one_token(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop:
        body = token_body(payer.permit(shop.offer(Dialect.PERMIT_TOKEN), ground))
        with ThreadPoolExecutor(8) as pool:
            url = f"{shop.url}/token?scope=%2Fpaid"
            replies = list(pool.map(lambda _: httpx.post(url, content=body, timeout=20), range(8)))
        tokens = {reply.json()["access_token"] for reply in replies if reply.status_code == 200}
        assert len(tokens) == 1
        assert {reply.status_code for reply in replies} <= {200, 409, 503}
        (entry,) = shop.settled()
        assert ground.calls(entry.transactions) == CALLS[Dialect.PERMIT_TOKEN]
        exactly(shop, payer)


def test_two_permits_of_one_nonce_do_not_buy_two_tokens(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop, ground.automine_off():
        offer = shop.offer(Dialect.PERMIT_TOKEN)
        first, second = (token_body(payer.permit(offer, ground, validity=v)) for v in (200, 201))
        url = f"{shop.url}/token?scope=%2Fpaid"
        assert httpx.post(url, content=first).status_code == 200
        assert httpx.post(url, content=second).status_code == 402
        ground.rpc("evm_setAutomine", True)
        ground.rpc("evm_mine")
        shop.settled()
        exactly(shop, payer)


def test_many_payers_at_one_time(ground: Ground, tmp_path: Path) -> None:
    payers = [ground.payer() for _ in range(6)]
    with Shop(ground, tmp_path) as shop:

        def buy(payer: Payer) -> int:
            dialect = (Dialect.V2, Dialect.PERMIT_TOKEN)[payers.index(payer) % 2]
            (response,), _ = get("sync", shop, payer, dialect)
            return response.status_code

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(buy, payers)) == 6 * [200]
        shop.settled(6)
        assert [ground.balance(payer.address) for payer in payers] == 6 * [FUNDS - PRICE]
        assert shop.earned == 6 * PRICE


def test_a_402_offers_both_ways_and_is_never_stored(ground: Ground, tmp_path: Path) -> None:
    with Shop(ground, tmp_path) as shop:
        response = httpx.get(shop.paid)
        assert response.status_code == 402
        assert "no-store" in response.headers["Cache-Control"]
        head = ResponseHead(402, tuple(response.headers.multi_items()), response.content)
        assert single(head.headers, v2.PAYMENT_REQUIRED) is not None
        assert shop.offer().method is Method.EIP3009
        assert response.json()["access_token_endpoint"] == "/token?scope=%2Fpaid"
