"""The official SDK's start-up (official-sdk.md 5, "Prices and start-up"): ours refuses what cannot work, naming the argument.

What is only out of reach for now does not keep a shop from opening: it is asked again, and payers get 503 until it answers.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.lying_facilitator import SECRET, Facilitator, Said, supported
from tests.odd_shop import App, get, remote
from tests.servers.visitor import living, visit
from tests.shop import NETWORK, PRICE, Api, Ground, Payer, Shop, fresh, on_devnet
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.token import place
from x402bind.facilitator.app import FacilitatorApp
from x402bind.facilitator.service import Facilitator as OurFacilitator
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402core.errors import LocalProtocolError, Reason
from x402core.evm.address import checksum
from x402core.money import AssetAmount
from x402core.wire import v2

USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
NODE = {"base-sepolia": "http://127.0.0.1:1"}


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


def seller(**how: Any) -> Seller:
    return Seller(**{"key": b"k" * 32, "rpc": NODE, "ledger": "memory:", **how})


def refused(field: str, make: Callable[[], object]) -> str:
    """Assert that a configuration is refused by the name of its argument, and return what is said."""
    with pytest.raises(LocalProtocolError) as caught:
        make()
    assert caught.value.field == field, caught.value
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------- prices

PRICES: dict[str, Any] = {
    '"$0.0000001"': "$0.0000001",
    "1e-7": 1e-7,
    '"1e-7"': "1e-7",
    "0.1234567": 0.1234567,
    '"0.1234567"': "0.1234567",
    "Decimal 0.1234567": Decimal("0.1234567"),
    "Decimal 1E-7": Decimal("1E-7"),
    "a float": 0.01,
    'AssetAmount "-5"': AssetAmount("-5", USDC),
    'AssetAmount "abc"': AssetAmount("abc", USDC),
    'AssetAmount "1.5"': AssetAmount("1.5", USDC),
    "AssetAmount -5": AssetAmount(-5, USDC),
    "AssetAmount 1.5": AssetAmount(1.5, USDC),  # type: ignore[arg-type]
    "AssetAmount 0": AssetAmount("0", USDC),
    "AssetAmount of no asset": AssetAmount("5", "USDC"),
    "AssetAmount of an unknown asset": AssetAmount("5", "0x" + "66" * 20),
    '"-1"': "-1",
    "-1": -1,
    '"$-1"': "$-1",
    '"abc"': "abc",
    '""': "",
    '"$"': "$",
    '"0"': "0",
    "0": 0,
    "zero": Decimal(0),
    '"1 USDT"': "1 USDT",
    '"1,5"': "1,5",
    '" 1 "': " 1 ",
    '"1_000"': "1_000",
    "Arabic digits": "$٠٫٠١",
    "NaN": Decimal("NaN"),
    "Infinity": Decimal("Infinity"),
    "more than a token holds": "$" + "9" * 90,
    "True": True,
    "None": None,
    "bytes": b"$0.01",
    "a list of words": ["$0.01", "a cent"],
    "a dict": {"price": "$0.01"},
}


@pytest.mark.parametrize("row", PRICES)
def test_what_is_no_price_is_refused_before_the_first_request(row: str) -> None:
    """Row "prices" (was: amount 0, silently free; truncated; advertised as "-5"; started, then 500 for every request)."""
    refused("price", lambda: PaymentMiddleware(Api(), seller(), {"/paid": PRICES[row]}))


def test_an_offer_list_that_is_empty_is_no_price() -> None:
    """Row "prices", said as offers."""
    refused("prices", lambda: PaymentMiddleware(Api(), seller(), {"/paid": ()}))


@pytest.mark.parametrize(("price", "amount"), [("$0.01", 10_000), ("0.000001", 1), (Decimal("0.1"), 100_000), (7, 7)])
def test_a_price_is_exact(price: Any, amount: int) -> None:
    """Row "prices", the other half: what is written is what is asked."""
    app = PaymentMiddleware(Api(), seller(), {"/paid": price})
    assert {offer.amount for offer in app.terms("/paid").offers} == {amount}


# ------------------------------------------------------------------------------------------------------------ who is paid


@pytest.mark.parametrize(
    "pay_to", ["bob", "", "bob.eth", "0x", "0x" + "0" * 40, "0x" + "66" * 19, "0x" + "66" * 21, "66" * 20, " 0x" + "66" * 20, 7]
)
@pytest.mark.parametrize("by", ["key", "facilitator"])
def test_a_payee_that_is_none_is_refused(pay_to: Any, by: str) -> None:
    """Row "payTo "bob", "" or zero address" (was: started fine)."""
    how: dict[str, Any] = (
        {} if by == "key" else {"key": None, "rpc": {}, "facilitator": "http://127.0.0.1:1", "networks": [NETWORK]}
    )
    refused("pay_to", lambda: PaymentMiddleware(Api(), seller(pay_to=pay_to, **how), {"/paid": "$0.01"}))


@pytest.mark.parametrize(
    "spelled", [str.lower, checksum, lambda address: "0x" + address[2:].upper()], ids=["lower", "EIP-55", "upper"]
)
@pytest.mark.parametrize("settle", ["after", "before"])
def test_a_payee_is_an_address_however_it_is_spelled(
    ground: Ground, tmp_path: Path, spelled: Callable[[Any], str], settle: str
) -> None:
    """Section 4, "End to end" (was: lower-case payTo advertised, signed, and then every payment refused)."""
    pay_to = fresh().address
    with Shop(ground, tmp_path, pay_to=spelled(pay_to), settle=settle) as shop:
        assert get(shop.paid, ground.payer().header(shop.offer(), ground)).status_code == 200
        assert ground.balance(pay_to) == PRICE


# ------------------------------------------------------------------------------------------------- facilitators and nodes


@pytest.mark.parametrize(
    "url",
    ["", "facilitator.example", "ftp://facilitator.example", "http://facilitator.example", "https://", "https://x/?key=1"],
)
def test_a_facilitator_that_can_be_none_is_refused(url: str) -> None:
    """Row "facilitator", said wrongly; payments do not go over plain HTTP to another machine either."""
    how: dict[str, Any] = {"key": None, "rpc": {}, "networks": [NETWORK], "pay_to": fresh().address}
    refused("url", lambda: seller(facilitator=url, **how))


def unused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _broken(status: int, body: str) -> Callable[[str], Said]:
    return lambda _: (status, body.encode())


def test_a_facilitator_out_of_reach_at_the_start_is_503_until_it_is_there(
    ground: Ground, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Row "Facilitator unreachable at start" (was: print, then 500 for every paid request after a blocking call)."""
    absent = Facilitator.__new__(Facilitator)
    port = unused()
    absent.url = f"http://127.0.0.1:{port}"
    with caplog.at_level(logging.WARNING), remote(ground, tmp_path, absent, app := App()) as shop:
        assert get(shop.paid, {}).status_code == 402  # what it costs is known without anybody
        header = ground.payer().header(shop.offer(), ground)
        answer = get(shop.paid, header)
        assert (answer.status_code, answer.json()["title"], app.runs) == (503, Reason.UNAVAILABLE, 0)
        assert any("start-up" in record.message for record in caplog.records)
        with Facilitator(port):
            assert get(shop.paid, header).status_code == 200


@pytest.mark.parametrize(
    "says",
    [_broken(500, SECRET), _broken(200, "<html>"), _broken(200, "{}"), _broken(200, '{"kinds":[7]}'), lambda _: None],
    ids=["500", "HTML", "{}", "odd kinds", "hung up"],
)
def test_a_facilitator_that_does_not_say_what_it_settles_does_not_stop_us(
    ground: Ground, tmp_path: Path, says: Callable[[str], Said]
) -> None:
    """Row "Facilitator unreachable at start" again: in trouble is not wrong."""
    with Facilitator() as facilitator:
        facilitator.says["/supported"] = says
        with remote(ground, tmp_path, facilitator) as shop:
            assert get(shop.paid, ground.payer().header(shop.offer(), ground)).status_code == 200


def said_at_start(app: Any) -> tuple[str, str]:
    """Return what an application says to its server at start-up."""
    said: list[Any] = []

    async def go() -> None:
        async with living(app) as life:
            said.extend(life.said)

    anyio.run(go)
    return said[0]["type"], said[0].get("message", "")


@pytest.mark.parametrize(
    "says",
    [
        lambda _: supported("eip155:8453"),
        lambda _: supported("eip155:*"),
        lambda _: supported("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
        _broken(200, '{"kinds":[]}'),
        _broken(200, f'{{"kinds":[{{"x402Version":1,"scheme":"exact","network":"base","extra":{{"a":"{SECRET}"}}}}]}}'),
        _broken(200, f'{{"kinds":[{{"x402Version":2,"scheme":"deferred","network":"{NETWORK}"}}]}}'),
    ],
    ids=["another chain", "a pattern", "another family", "nothing", "another chain in v1", "another scheme"],
)
def test_a_facilitator_that_does_not_settle_here_is_refused_in_order(says: Callable[[str], Said]) -> None:
    """Row "wrong network" (was: os._exit(1), nothing to catch, no cleanup)."""
    with Facilitator() as facilitator:
        facilitator.says["/supported"] = says
        how: dict[str, Any] = {"key": None, "rpc": {}, "networks": [NETWORK], "pay_to": fresh().address}
        shop = seller(facilitator=facilitator.url, **how)
        kind, message = said_at_start(PaymentMiddleware(Api(), shop, {"/paid": "$0.01"}))
        assert (kind, NETWORK in message, SECRET in message) == ("lifespan.startup.failed", True, False)
        with pytest.raises(LocalProtocolError, match=NETWORK):  # and by hand
            anyio.run(shop.prove)


@pytest.mark.parametrize("through", ["key", "facilitator"])
def test_a_node_of_another_chain_is_refused_at_the_start(ground: Ground, tmp_path: Path, through: str) -> None:
    """Row "wrong chain node"."""
    with Devnet(chain_id=1) as other, Facilitator() as facilitator:
        how: dict[str, Any] = {"rpc": {"base-sepolia": other.url}, "pay_to": fresh().address}
        if through == "facilitator":
            how |= {"key": None, "facilitator": facilitator.url}
        kind, message = said_at_start(PaymentMiddleware(Api(), seller(**how), {"/paid": "$0.01"}))
    assert (kind, "chain 1" in message) == ("lifespan.startup.failed", True)


def test_a_node_that_was_away_at_the_start_must_say_which_chain_it_serves(ground: Ground, tmp_path: Path) -> None:
    """Row "wrong chain node", of a shop that opened while its node was away."""
    port = unused()

    async def go(payer: Payer) -> None:
        shop = Shop(ground, tmp_path, rpc=f"http://127.0.0.1:{port}")
        async with living(shop.app) as life:
            assert life.types == ["startup.complete"]
            header = payer.header(shop.offer(), ground)
            assert (await visit(shop.app, headers=header)).status == 503
            with Devnet(chain_id=1, port=port) as other:
                place(other.chain)  # a token is there, and nobody has any of it
                answer = await visit(shop.app, headers=header)
            assert (answer.status, shop.api.runs) == (503, 0)

    anyio.run(go, ground.payer())


# ---------------------------------------------------------------------------------------------------- our own facilitator


@pytest.mark.parametrize(
    ("field", "how"),
    [
        ("rpc", {"rpc": {}}),
        ("key", {"key": "0x12"}),
        ("payees", {"payees": ["bob"]}),
        ("factories", {"factories": ["bob"]}),
        ("managers", {"managers": ["bob"]}),
        ("assets", {"assets": ["usdt"]}),
        ("assets", {"assets": [f"{NETWORK}/bob"]}),
        ("assets", {"assets": [f"{NETWORK}/0x{'66' * 20}"]}),
    ],
)
def test_our_facilitator_refuses_what_it_cannot_work_with(field: str, how: dict[str, Any]) -> None:
    """Row "Prices and start-up", for the facilitator the official SDK does not have."""
    given: dict[str, Any] = {"key": b"k" * 32, "rpc": NODE, "ledger": "memory:", **how}
    assert "0x12" not in refused(field, partial(OurFacilitator, **given))


def test_our_facilitator_does_not_start_on_another_chain() -> None:
    """Row "wrong chain node", at the facilitator."""
    with Devnet(chain_id=1) as other:
        ours = OurFacilitator(key=b"k" * 32, rpc={"base-sepolia": other.url}, ledger="memory:")
        kind, message = said_at_start(FacilitatorApp(ours))
    assert (kind, "chain 1" in message) == ("lifespan.startup.failed", True)


def test_the_402_is_there_from_the_first_request_on() -> None:
    """Row "every request 500" (was: after a start with a bad price): nothing is asked of anybody for a 402."""
    app = PaymentMiddleware(Api(), seller(), {"/paid": "$0.01"}, prove=False)

    async def go() -> None:
        async with living(app):
            answer = await visit(app)
        assert (answer.status, bool(answer.one(v2.PAYMENT_REQUIRED))) == (402, True)

    anyio.run(go)
