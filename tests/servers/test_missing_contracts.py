"""What is sold by Permit2 needs contracts that are not on every chain: without them nothing starts, naming the line to change.

A payer of such an offer would sign in vain, every time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI

from tests.compat.x402_mock.stand import plain
from tests.lying_facilitator import Facilitator
from tests.servers.sync.stall import Stall
from tests.servers.visitor import living, visit
from tests.shop import NETWORK, RELAYER, USDC, Api, Ground, Shop, TroubledNode, fresh, on_devnet
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.chain.devnet.token import place
from x402bind.compat.x402_mock.adapters import AdapterHub
from x402bind.compat.x402_mock.servers import Http402Server
from x402bind.servers import wsgi
from x402bind.servers.fastapi import Payments
from x402core.errors import LocalProtocolError
from x402core.events import Dialect, Method, Offer, SettleMode
from x402core.evm.digests import EXACT_PROXY, PERMIT2, UPTO_PROXY
from x402core.values import Address, Amount, Seconds
from x402core.wire.permit_token3 import DIRECT

OTHER = Address("0x" + "7e" * 20)
"""A token that no registry knows."""
SOLD: dict[str, tuple[Address, ...]] = {
    "exact": (PERMIT2, EXACT_PROXY, OTHER),
    "upto": (PERMIT2, UPTO_PROXY, OTHER),
    DIRECT: (PERMIT2, OTHER),
}
"""What each scheme is settled through."""


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A chain with Permit2, both proxies and a token besides USDC: at the start, only whether there is code is asked."""
    with on_devnet() as ground:
        for each in (PERMIT2, EXACT_PROXY, UPTO_PROXY, OTHER):
            put(ground, each)
        yield ground


def put(ground: Ground, at: Address, code: str = "0x00") -> None:
    ground.rpc("anvil_setCode", at, code)


def take(ground: Ground, at: Address) -> None:
    put(ground, at, "0x")


def offer_by(scheme: str, asset: Address = OTHER, method: Method = Method.PERMIT2) -> Offer:
    direct = scheme == DIRECT
    return Offer(
        dialect=Dialect.PERMIT_TOKEN if direct else Dialect.V2,
        method=method,
        network=NETWORK,
        asset=asset,
        amount=Amount(10_000),
        pay_to=RELAYER,
        timeout=Seconds(300),
        name="USDC",
        version="2",
        decimals=6,
        symbol="USDC",
        settle=SettleMode.BACKGROUND if direct else SettleMode.AFTER,
        scheme=scheme,
        facilitator=RELAYER if scheme == "upto" else None,
        spender=RELAYER if direct else None,
    )


def said_by(app: Any) -> str:
    """Return why an application does not start, and "" where it does."""
    said: list[Any] = []

    async def go() -> None:
        async with living(app) as life:
            said.extend(life.said)

    try:
        anyio.run(go)
    except* LocalProtocolError:  # what was found once the application had started is raised there, too
        pass
    return str(said[0].get("message", ""))


def start(ground: Ground, folder: Path, *offers: Offer, **how: Any) -> str:
    return said_by(Shop(ground, folder, prices={"/paid": offers}, **how).app)


ROWS = [(scheme, each) for scheme, through in SOLD.items() for each in through]


@pytest.mark.parametrize(("scheme", "missing"), ROWS)
def test_what_it_is_settled_through_has_to_be_there(ground: Ground, tmp_path: Path, scheme: str, missing: Address) -> None:
    assert start(ground, tmp_path, offer_by(scheme)) == ""
    take(ground, missing)
    said = start(ground, tmp_path, offer_by(scheme))
    way = 'method "permit2"' if scheme == "exact" else f'scheme "{scheme}"'
    assert all(word in said for word in (missing, NETWORK, "no code", f"leave {way} out")), said
    assert not any(each in said for each in (PERMIT2, EXACT_PROXY, UPTO_PROXY, OTHER) if each != missing)


@pytest.mark.parametrize("scheme", SOLD)
def test_what_it_is_not_settled_through_may_be_missing(ground: Ground, tmp_path: Path, scheme: str) -> None:
    for each in {PERMIT2, EXACT_PROXY, UPTO_PROXY, OTHER} - {*SOLD[scheme]}:
        take(ground, each)
    assert start(ground, tmp_path, offer_by(scheme)) == ""


def test_who_sells_nothing_by_permit2_needs_none_of_it(ground: Ground, tmp_path: Path) -> None:
    for each in (PERMIT2, EXACT_PROXY, UPTO_PROXY):
        take(ground, each)
    with TroubledNode(ground.url) as node:
        assert said_by(Shop(ground, tmp_path, rpc=node.url).app) == ""
        assert "eth_getCode" not in node.seen


def test_the_methods_of_a_seller_are_asked_for(ground: Ground, tmp_path: Path) -> None:
    take(ground, EXACT_PROXY)
    assert EXACT_PROXY in said_by(Shop(ground, tmp_path, methods=("eip3009", "permit2")).app)
    assert said_by(Shop(ground, tmp_path, methods=("eip3009", "eip2612")).app) == ""


def test_all_that_is_missing_is_said_at_once(ground: Ground, tmp_path: Path) -> None:
    take(ground, PERMIT2)
    take(ground, UPTO_PROXY)
    said = start(ground, tmp_path, offer_by("exact", USDC), offer_by("upto", USDC))
    assert 'method "permit2" and scheme "upto" would be settled' in said, said
    assert [said.count(each) for each in (PERMIT2, UPTO_PROXY, EXACT_PROXY)] == [1, 1, 0]
    take(ground, USDC)  # which the registry knows: it is asked what it is before
    said = start(ground, tmp_path, offer_by("exact", USDC))
    assert (said.count(USDC.lower()), "is not a token's" in said) == (1, True), said


def test_all_contracts_are_asked_for_in_one_round_trip(ground: Ground, tmp_path: Path) -> None:
    asked: list[str] = []
    with TroubledNode(ground.url) as node:
        forward = node.answer
        node.answer = lambda body, target: asked.append(body.decode()) or forward(body, target)  # type: ignore[method-assign, func-returns-value]
        assert start(ground, tmp_path, offer_by("exact"), offer_by("upto"), rpc=node.url) == ""
    assert [body.count("eth_getCode") for body in asked if "eth_getCode" in body] == [4]


# ----------------------------------------------------------------------------------------------------- nodes in trouble


@pytest.mark.parametrize("trouble", ["rate limit exceeded", "the method eth_getCode does not exist/is not available", ""])
def test_a_node_that_does_not_say_does_not_stop_us(
    ground: Ground, tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    take(ground, EXACT_PROXY)
    with TroubledNode(ground.url) as node, caplog.at_level(logging.WARNING):
        node.lose, node.refuse = ({"eth_getCode"}, {}) if not trouble else (set(), {"eth_getCode": trouble})
        assert start(ground, tmp_path, offer_by("exact"), rpc=node.url) == ""
        assert any("start-up" in record.message for record in caplog.records)


def test_of_several_nodes_one_may_be_away_and_each_is_asked(ground: Ground, tmp_path: Path) -> None:
    with TroubledNode(ground.url) as away, TroubledNode(ground.url) as node:
        take(ground, EXACT_PROXY)
        both: Any = (away.url, node.url)
        away.refuse = {"eth_getCode": "rate limit exceeded"}
        said = start(ground, tmp_path, offer_by("exact"), rpc=both)
        assert (said.count(EXACT_PROXY), node.url.removeprefix("http://") in said) == (1, True), said
        away.refuse = {}
        assert start(ground, tmp_path, offer_by("exact"), rpc=both).count(EXACT_PROXY) == 2


def test_what_was_found_wrong_is_said_though_the_node_then_falls_silent(ground: Ground, tmp_path: Path) -> None:
    take(ground, USDC)
    with TroubledNode(ground.url) as node:
        node.lose = {"eth_getCode"}
        assert "is not a token's" in start(ground, tmp_path, offer_by("exact", USDC), rpc=node.url)


def test_of_another_chain_nothing_else_is_said(ground: Ground, tmp_path: Path) -> None:
    with TroubledNode(ground.url) as node:
        forward = node.answer
        node.answer = lambda body, target: (forward(body, target) or b"").replace(b'"0x14a34"', b'"0x1"')  # type: ignore[method-assign]
        take(ground, PERMIT2)
        said = start(ground, tmp_path, offer_by("exact"), rpc=node.url)
    assert ("the node serves chain 1" in said, PERMIT2 in said) == (True, False), said


# -------------------------------------------------------------------------------------------------- every way to be sold


@pytest.mark.parametrize("asks", [True, False])
def test_through_a_facilitator_the_chain_is_asked_where_there_is_a_node(ground: Ground, tmp_path: Path, asks: bool) -> None:
    take(ground, EXACT_PROXY)
    with Facilitator() as facilitator:
        how: dict[str, Any] = {"key": None, "facilitator": facilitator.url, "networks": [NETWORK], "pay_to": fresh().address}
        rpc = ground.url if asks else ""
        said = start(ground, tmp_path, offer_by("exact", USDC), rpc=rpc, token_key=None, **how)
    assert (EXACT_PROXY in said) is asks, said


def test_what_is_priced_by_the_application_as_it_starts_is_asked_for_too(ground: Ground, tmp_path: Path) -> None:
    take(ground, EXACT_PROXY)

    def build(seller: Any) -> FastAPI:
        async def late(_app: Any) -> Any:
            @app.get("/late")
            @payments.required([offer_by("exact")])
            async def sold() -> dict[str, bool]:
                return {"late": True}

            yield

        app = FastAPI(lifespan=late)  # type: ignore[arg-type]
        payments = Payments(app, seller)
        return app

    said = said_by(Shop(ground, tmp_path, door=build).app)
    assert EXACT_PROXY in said, said
    put(ground, EXACT_PROXY)
    assert said_by(Shop(ground, tmp_path, door=build).app) == ""


def test_x402_mocks_direct_permit2_is_asked_for(ground: Ground, tmp_path: Path) -> None:
    assert ground.devnet is not None
    place(ground.devnet.chain, OTHER, name="Test", version="1", symbol="TEST")
    take(ground, PERMIT2)
    app = Http402Server("t" * 32, AdapterHub(DEV_KEYS[2].hex(), ground.url), ledger=f"sqlite:{tmp_path / 'ledger.db'}")
    component: dict[str, Any] = {
        "caip2": NETWORK,
        "currency": "TEST",
        "token": OTHER,
        "token_name": "Test",
        "token_version": "1",
        "token_decimals": 6,
        "metadata": {"methods": ["permit2"]},
        "amount": 0.5,
    }
    app.add_payment_method(payment_component=component)
    plain(app)
    said = said_by(app)
    assert (PERMIT2 in said, 'scheme "permit2-direct"' in said) == (True, True), said


def test_a_server_of_threads_sells_nothing_without_them(ground: Ground, tmp_path: Path) -> None:
    take(ground, PERMIT2)
    stall = Stall(ground, tmp_path)
    app = wsgi.PaymentMiddleware(lambda *_: [b""], stall.seller, {"/paid": [offer_by("exact")]})
    with pytest.raises(LocalProtocolError, match=PERMIT2):
        app.background.start()
    app.background.close()


def test_a_price_worked_out_for_each_request_is_known_too_late_to_be_asked_for(ground: Ground, tmp_path: Path) -> None:
    """The limit of it: nobody knows at the start what a function will ask."""
    take(ground, PERMIT2)
    shop = Shop(ground, tmp_path, app=Api(), prices={"/paid": lambda _asked: [offer_by("exact")]})

    async def go() -> int:
        async with living(shop.app):
            return (await visit(shop.app)).status

    assert anyio.run(go) == 402
