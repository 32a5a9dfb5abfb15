"""Client classes that pay: each library's own, with all of its arguments, and a purse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.clients.fakes import KEY, NETWORK, WORLDS, FakeSeller, purse, run_async
from tests.shop import FUNDS, PRICE, Ground, Shop
from x402bind.clients import httpx as with_httpx
from x402bind.clients import requests as with_requests
from x402bind.clients.httpx import AsyncHttp402Client, AsyncPaymentTransport, Http402Client, PaymentTransport
from x402bind.clients.purse import Purse
from x402bind.clients.requests import Http402Session, PaymentAdapter
from x402core.commands import Outcome, OutcomeKind
from x402core.errors import LocalProtocolError, Reason

CLASSES: tuple[Callable[..., Any], ...] = (Http402Client, AsyncHttp402Client, Http402Session)
every_class = pytest.mark.parametrize("make", CLASSES)


def outcome(response: httpx.Response | requests.Response) -> Outcome:
    found = (with_httpx if isinstance(response, httpx.Response) else with_requests).outcome_of(response)  # type: ignore[operator]
    assert isinstance(found, Outcome)
    return found


def get(make: Callable[..., Any], url: str, *, world: str = "asyncio", times: int = 1, **options: Any) -> list[Any]:
    """Get a URL with a new client of this class, in one line."""
    if make is not AsyncHttp402Client:
        with make(**options) as client:
            return [client.get(url, timeout=30) for _ in range(times)]

    async def main() -> list[Any]:
        async with make(**options) as client:
            return [await client.get(url, timeout=30) for _ in range(times)]

    return run_async(world, main)


@every_class
def test_one_line_and_the_money_moves(ground: Ground, tmp_path: Path, make: Callable[..., Any]) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop:
        options = {"key": payer.key, "max_price": "$0.01", "network": "base-sepolia", "rpc": {"base-sepolia": ground.url}}
        answers = get(make, shop.paid, times=2, **options)
        assert [each.status_code for each in answers] == [200, 200]
        assert [outcome(each).kind for each in answers] == [OutcomeKind.PAID] * 2
        assert (ground.balance(payer.address), shop.earned) == (FUNDS - 2 * PRICE, 2 * PRICE)


@pytest.mark.parametrize("world", WORLDS[1:])
def test_the_async_class_pays_under_both_loops(shop: str, world: str) -> None:
    (response,) = get(AsyncHttp402Client, f"{shop}/v2", world=world, purse=purse(rpc=False))
    assert outcome(response).kind is OutcomeKind.PAID


@every_class
def test_y3_what_is_over_the_price_or_elsewhere_is_declined(shop: str, seller: FakeSeller, make: Callable[..., Any]) -> None:
    cases = {("$0.009", NETWORK): Reason.OVER_CAP, ("$1", "base"): None}
    for (most, network), reason in cases.items():
        (response,) = get(make, f"{shop}/v2", key=KEY, max_price=most, network=network)
        refusal = outcome(response).refusal
        assert response.status_code == 402
        assert refusal is not None
        assert reason is None or refusal.reason is reason
    assert seller.permits == []


@every_class
def test_several_networks(shop: str, make: Callable[..., Any]) -> None:
    (response,) = get(make, f"{shop}/v2", key=KEY, max_price="$0.05", network=["base", "base-sepolia"])
    assert outcome(response).kind is OutcomeKind.PAID


@every_class
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "key"),
        ({"key": KEY}, "max_price"),
        ({"key": KEY, "max_price": "$1"}, "network"),
        ({"key": "0xnot", "max_price": "$1", "network": NETWORK}, "key"),
        ({"purse": purse(), "key": KEY}, "key"),
        ({"purse": purse(), "max_price": "$1"}, "max_price"),
        ({"purse": purse(), "rpc": {}}, "rpc"),
    ],
)
def test_what_is_missing_or_too_much_is_named(make: Callable[..., Any], options: dict[str, Any], field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        make(**options)
    assert caught.value.field == field
    assert KEY not in str(caught.value)
    assert "0xnot" not in str(caught.value)


@pytest.mark.parametrize("make", [Http402Client, Http402Session])
def test_a_sync_client_takes_no_async_purse(make: Callable[..., Any]) -> None:
    async def approve(_command: Any) -> bool:
        return True

    with pytest.raises(LocalProtocolError, match="async"):
        make(purse=purse(approve=approve))


def test_they_are_what_they_are_named_after() -> None:
    assert issubclass(Http402Client, httpx.Client)
    assert issubclass(AsyncHttp402Client, httpx.AsyncClient)
    assert issubclass(Http402Session, requests.Session)


@pytest.mark.parametrize("make", [Http402Client, AsyncHttp402Client])
def test_every_argument_of_httpx_is_taken(make: Callable[..., Any]) -> None:
    seller, there = FakeSeller(), FakeSeller()
    hooked: list[int] = []

    def hook(response: httpx.Response) -> None:
        hooked.append(response.status_code)

    async def ahook(response: httpx.Response) -> None:
        hook(response)

    options: dict[str, Any] = {
        "base_url": "https://shop.test",
        "headers": {"X-Mine": "1"},
        "params": {"q": "1"},
        "cookies": {"c": "1"},
        "auth": ("me", "pw"),
        "follow_redirects": True,
        "timeout": 7,
        "transport": seller.mock(),
        "mounts": {"all://there.test": there.mock()},
        "event_hooks": {"response": [hook if make is Http402Client else ahook]},
    }
    (here,) = get(make, "/v2", purse=purse(rpc=False), **options)
    (away,) = get(make, "https://there.test/v2", purse=purse(rpc=False), **options)
    assert [outcome(each).kind for each in (here, away)] == [OutcomeKind.PAID] * 2
    paid = seller.seen[1]
    assert (paid.url, paid.all("X-Mine"), paid.all("Cookie")) == ("https://shop.test/v2?q=1", ["1"], ["c=1"])
    assert paid.all("Authorization")[0].startswith("Basic ")
    assert (len(seller.seen), len(there.seen), hooked) == (2, 2, [200, 200])


def test_every_transport_and_adapter_pays() -> None:
    client, anew = Http402Client(purse=purse(), proxy="http://127.0.0.1:9"), AsyncHttp402Client(purse=purse())
    assert isinstance(client._transport, PaymentTransport)
    assert all(isinstance(each, PaymentTransport) for each in client._mounts.values() if each is not None)
    assert isinstance(anew._transport, AsyncPaymentTransport)
    for paying in (client, anew):
        with pytest.raises(LocalProtocolError, match="pays already"):
            with_httpx.pay_with(paying, purse())


def test_a_session_pays_by_what_is_mounted_later(shop: str) -> None:
    sent: list[str] = []

    class Mine(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
            sent.append(request.url or "")
            return super().send(request, *args, **options)

    with Http402Session(purse=purse(rpc=False)) as session:
        session.mount(shop, Mine())
        assert outcome(session.get(f"{shop}/v2")).kind is OutcomeKind.PAID
        ready = PaymentAdapter(Mine(), purse(rpc=False))
        session.mount("http://127.0.0.1:9", ready)
        assert session.adapters["http://127.0.0.1:9"] is ready
    assert sent == [f"{shop}/v2"] * 2


@every_class
def test_a_client_shows_no_secret(make: Callable[..., Any]) -> None:
    payer = Purse.up_to(KEY, "$0.05", NETWORK, rpc={"base-sepolia": "https://node.test/v2/secret-api-key"})
    client = make(purse=payer)
    for text in (repr(client), str(client), repr(vars(client))):
        assert "11" * 8 not in text
        assert "secret-api-key" not in text
