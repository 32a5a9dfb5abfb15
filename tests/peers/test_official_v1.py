"""The official SDK's facilitator of x402 v1 alone, in its own environment, behind our servers, for payers of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.compat.y402.ground import Till, header_for
from tests.compat.y402.shops import SHOPS
from tests.facilitator.relay import selling
from tests.peers.official import OfficialFacilitator, official_buy
from tests.shop import FUNDS, PRICE, Ground, client, on_anvil, on_devnet
from x402core.events import Dialect

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module", params=["devnet", pytest.param("anvil", marks=pytest.mark.anvil)])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with on_anvil() if request.param == "anvil" else on_devnet() as ground:
        yield ground


@pytest.fixture(scope="module")
def official(ground: Ground) -> Iterator[OfficialFacilitator]:
    with OfficialFacilitator(ground, first=True) as official:
        (kind,) = httpx.get(f"{official.url}/supported").json()["kinds"]
        assert (kind["x402Version"], kind["network"]) == (1, "base-sepolia")
        yield official


@pytest.mark.parametrize("settle", ["after", "before"])
@pytest.mark.parametrize("dialect", [Dialect.V2, Dialect.V1])
def test_our_server_sells_through_it(
    ground: Ground, official: OfficialFacilitator, tmp_path: Path, dialect: Dialect, settle: str
) -> None:
    payer = ground.payer()
    with (
        selling(ground, tmp_path, official.url, settle=settle) as shop,
        client(payer.purse(ground, dialect)) as (http, _),
    ):
        response = http.get(shop.paid)
        assert (response.status_code, shop.api.runs) == (200, 1), (response.text, official.log)
        assert (shop.earned, ground.balance(payer.address)) == (PRICE, FUNDS - PRICE)
        (entry,) = shop.settled()
        assert ground.calls(entry.transactions) == ("transferWithAuthorization",)
    asked = [each for each in official.exchanges if each.path != "/supported"]
    assert {(each.status, each.request["x402Version"]) for each in asked} == {(200, 1)}


def test_its_client_buys_in_v2_what_it_settles_in_v1(ground: Ground, official: OfficialFacilitator, tmp_path: Path) -> None:
    payer = ground.payer()
    with selling(ground, tmp_path, official.url) as shop:
        bought = official_buy(shop.paid, payer.key, version=2)
        assert (bought.status, bought.error, shop.earned) == (200, None, PRICE), official.log
        assert bought.sent_header == "payment-signature"


def test_a_payer_without_money_is_refused_and_nothing_moves(
    ground: Ground, official: OfficialFacilitator, tmp_path: Path
) -> None:
    payer = ground.payer(1)
    with selling(ground, tmp_path, official.url) as shop:
        response = httpx.get(shop.paid, headers=payer.header(shop.offer(), ground), timeout=30)
        assert (response.status_code, shop.api.runs, shop.earned) == (402, 0, 0)
        assert response.json()["error"] == "invalid_exact_evm_transaction_simulation_failed"  # its word for it


@pytest.mark.parametrize("shop", SHOPS)
def test_y402_s_doors_sell_through_it(ground: Ground, official: OfficialFacilitator, tmp_path: Path, shop: object) -> None:
    till = Till(ground, official.url, tmp_path)
    with shop(till) as url:  # type: ignore[operator]
        paid = httpx.get(url, headers=header_for(httpx.get(url), ground.payer()), timeout=30)
    assert (paid.status_code, till.earned) == (200, PRICE), official.log
