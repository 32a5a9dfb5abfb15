"""A seller and its facilitator together: extensions handed on, charges below a ceiling, crowds, and restarts of either."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.facilitator.desk import Desk, Town, request
from tests.facilitator.relay import Relay, selling
from tests.facilitator.test_listed import BAZAAR
from tests.facilitator.test_upto import approving
from tests.shop import FUNDS, PRICE, Ground, client, fresh, until
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError
from x402core.events import Method
from x402core.wire.builder_code import advertised, parse_suffix


class Meter:
    """An ASGI application that says what it charges."""

    def __init__(self, charge: str) -> None:
        self.charge = charge

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        overrides = json.dumps({"amount": self.charge}).encode()
        headers = [(b"content-type", b"text/plain"), (b"settlement-overrides", overrides)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"metered"})


def receipt(response: httpx.Response) -> Any:
    return json.loads(base64.b64decode(response.headers["PAYMENT-RESPONSE"]))


def test_what_was_bought_is_listed_and_attributed(ground: Ground, desk: Desk, tmp_path: Path) -> None:
    extensions = {"bazaar": BAZAAR, **advertised("the_seller")}
    payer = ground.payer()
    with selling(ground, tmp_path, desk.url, extensions=extensions) as shop, client(payer.purse(ground)) as (http, _):
        response = http.get(shop.paid)
        assert response.status_code == 200, response.text
        assert "extension-responses" not in response.headers  # between the facilitator and us
        (item,) = desk.get("/discovery/resources").json()["items"]
        assert item["resource"] == shop.paid
        calldata = ground.rpc("eth_getTransactionByHash", receipt(response)["transaction"])["input"]
        codes = parse_suffix(bytes.fromhex(calldata[2:]))
        assert codes is not None
        assert codes.app == "the_seller"


@pytest.mark.parametrize("ours", [True, False], ids=["listed", "not-listed"])
def test_hostile_payer_lists_nothing_of_its_own_under_the_seller_s_payee(
    ground: Ground, desk: Desk, tmp_path: Path, ours: bool
) -> None:
    """What a payer says of the resource is not the seller's word; only the seller's goes to its facilitator."""
    with selling(ground, tmp_path, desk.url, extensions={"bazaar": BAZAAR} if ours else {}) as shop:
        (name, text), *_ = ground.payer().header(shop.offer(), ground).items()
        document = json.loads(base64.b64decode(text))
        document["resource"] = {"url": "https://phishing.example/pay", "description": "Free money"}
        document["extensions"] = {"bazaar": BAZAAR}
        header = base64.b64encode(json.dumps(document).encode()).decode()
        assert httpx.get(shop.paid, headers={name: header}, timeout=30).status_code == 200
        assert [item["resource"] for item in desk.get("/discovery/resources").json()["items"]] == ([shop.paid] if ours else [])


def test_sixteen_at_once_with_the_same_payment(ground: Ground, desk: Desk, tmp_path: Path) -> None:
    payer = ground.payer()
    with selling(ground, tmp_path, desk.url) as shop:
        headers = payer.header(shop.offer(), ground)
        with ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(lambda _: httpx.get(shop.paid, headers=headers, timeout=30).status_code, range(16)))
        assert 200 in statuses
        assert set(statuses) <= {200, 409}
        assert (shop.api.runs, shop.earned, ground.balance(payer.address), desk.sent) == (1, PRICE, FUNDS - PRICE, 1)


@pytest.mark.parametrize(("charge", "moved"), [("4000", 4_000), ("10000", PRICE), ("0", 0)])
def test_upto_through_a_facilitator(town: Town, tmp_path: Path, charge: str, moved: int) -> None:
    payer, ground, pay_to = approving(town), town.ground, fresh().address
    with Desk(ground, tmp_path) as desk:
        options: dict[str, Any] = {"facilitator": desk.url, "networks": ["base-sepolia"], "ledger": "memory:"}
        seller = Seller(**options, pay_to=pay_to)
        with pytest.raises(LocalProtocolError, match="prepare"):
            seller.terms("$0.01", "/x", scheme="upto")
        anyio.run(seller.prepare)
        (offer,) = seller.terms("$0.01", "/x", scheme="upto").offers
        assert (offer.facilitator, offer.method) == (desk.account, Method.PERMIT2)
        prices = {"/paid": [offer]}
        with (
            selling(ground, tmp_path, desk.url, app=Meter(charge), prices=prices, edge={"upto": ["/paid"]}) as shop,
            client(payer.purse(ground)) as (http, wire),
        ):
            response = http.get(shop.paid)
            assert (response.status_code, response.text) == (200, "metered"), (response.text, wire.statuses)
            assert (receipt(response)["amount"], desk.sent) == (charge, 1 if moved else 0)
            assert (ground.balance(pay_to), ground.balance(payer.address)) == (moved, FUNDS - moved)


def test_the_facilitator_is_restarted_while_it_settles(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Desk(ground, tmp_path, patience=0.2) as desk, Relay(desk.url) as relay:
        (folder := tmp_path / "shop").mkdir()
        with selling(ground, folder, relay.url, patience=3) as shop:
            headers = payer.header(shop.offer(), ground)
            with ground.automine_off():
                response = httpx.get(shop.paid, headers=headers, timeout=30)
                assert (response.status_code, response.json()["title"]) == (503, "settlement_pending")
                pending = receipt(response)["transaction"]
                relay.down = {"/settle", "/verify"}
                desk.__exit__()
                ground.rpc("evm_mine")
            with Desk(ground, tmp_path, key=desk.key) as again:
                relay.target, relay.down = again.url, set()
                shop.settled()
                served = until(lambda: (r := httpx.get(shop.paid, headers=headers, timeout=30)).status_code == 200 and r)
                assert receipt(served)["transaction"] == pending
                assert (shop.api.runs, shop.earned, again.sent) == (1, PRICE, 1)


def test_a_permit_asked_about_twice_in_two_spellings(ground: Ground, desk: Desk, tmp_path: Path) -> None:
    """What a seller asks us and what a stranger asks us about the same permit is one payment."""
    payer = ground.payer()
    with selling(ground, tmp_path, desk.url) as shop:
        offer = shop.offer()
        permit = payer.permit(offer, ground)
        assert desk.settle(request(permit, offer))["success"] is True
        response = httpx.get(shop.paid, headers=payer.header(offer, ground, permit=permit), timeout=30)
        assert (response.status_code, shop.api.runs) == (402, 0)  # used before it was brought here
        assert (shop.earned, desk.sent) == (PRICE, 1)
