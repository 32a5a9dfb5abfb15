"""A seller without a key, settled by our own facilitator on a chain that executes: who is served, who is paid, and when not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.facilitator.desk import Desk
from tests.facilitator.relay import Relay, selling
from tests.facilitator.script import TX, failed, settled
from tests.shop import FUNDS, PRICE, Ground, Shop, client, until
from x402bind.translate.facilitator import RemoteFacilitator
from x402bind.worker import now_millis
from x402core.events import Dialect

SECRET = "s3cr3t-internal-host.corp"
USED = "invalid_exact_evm_nonce_already_used"


@pytest.fixture
def relay(desk: Desk) -> Iterator[Relay]:
    with Relay(desk.url) as relay:
        yield relay


def receipt(response: httpx.Response) -> Any:
    return json.loads(base64.b64decode(response.headers["PAYMENT-RESPONSE"]))


def buy(shop: Shop, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(shop.paid, headers=headers, timeout=30)


def payer_of(body: dict[str, Any]) -> Any:
    return body["paymentPayload"]["payload"]["authorization"]["from"]


# ------------------------------------------------------------------------------------------------------- as it should be


@pytest.mark.parametrize("settle", ["after", "before"])
@pytest.mark.parametrize("dialect", [Dialect.V2, Dialect.V1])
def test_paid_and_served(ground: Ground, desk: Desk, tmp_path: Path, settle: str, dialect: Dialect) -> None:
    payer = ground.payer()
    with selling(ground, tmp_path, desk.url, settle=settle) as shop, client(payer.purse(ground, dialect)) as (http, _):
        response = http.get(shop.paid)
        assert (response.status_code, response.json()["run"]) == (200, 1)
        assert (shop.earned, ground.balance(payer.address), desk.sent) == (PRICE, FUNDS - PRICE, 1)
        (entry,) = shop.settled()
        assert ground.calls(entry.transactions) == ("transferWithAuthorization",)


def test_replay_at_the_seller_is_answered_and_paid_once(ground: Ground, desk: Desk, tmp_path: Path) -> None:
    with selling(ground, tmp_path, desk.url) as shop:
        headers = ground.payer().header(shop.offer(), ground)
        first, second = buy(shop, headers), buy(shop, headers)
        assert (first.status_code, second.status_code, second.content) == (200, 200, first.content)
        assert receipt(first) == receipt(second)
        assert httpx.get(f"{shop.url}/other", headers=headers).status_code == 402
        assert (shop.api.runs, shop.earned, desk.sent) == (1, PRICE, 1)


def test_a_facilitator_for_customers_only(ground: Ground, tmp_path: Path) -> None:
    async def auth(path: str) -> tuple[tuple[str, str], ...]:
        return (("Authorization", "Bearer customer"),)

    with Desk(ground, tmp_path, app={"tokens": ("customer",)}) as desk:
        for number, (headers, status) in enumerate(((auth, 200), ((("Authorization", "Bearer nobody"),), 503))):
            (folder := tmp_path / str(number)).mkdir()
            with selling(ground, folder, RemoteFacilitator(desk.url, headers), patience=0.5) as shop:
                response = buy(shop, ground.payer().header(shop.offer(), ground))
                assert (response.status_code, shop.earned) == (status, PRICE if status == 200 else 0)


def test_the_first_facilitator_is_down_and_the_second_settles(ground: Ground, desk: Desk, tmp_path: Path) -> None:
    with selling(ground, tmp_path, "http://127.0.0.1:9", desk.url) as shop:
        assert buy(shop, ground.payer().header(shop.offer(), ground)).status_code == 200
        assert (shop.earned, desk.sent) == (PRICE, 1)


# -------------------------------------------------------------------------------------------------- as it should not be


def test_a_facilitator_that_is_down_refuses_nobody(ground: Ground, relay: Relay, tmp_path: Path) -> None:
    relay.down = {"/verify", "/settle"}
    with selling(ground, tmp_path, relay.url) as shop:
        headers = ground.payer().header(shop.offer(), ground)
        response = buy(shop, headers)
        assert (response.status_code, response.json()["title"]) == (503, "temporarily_unavailable")
        assert (shop.api.runs, shop.entries()) == (0, ())
        relay.down = set()
        assert buy(shop, headers).status_code == 200
        assert (shop.api.runs, shop.earned) == (1, PRICE)


@pytest.mark.parametrize("settle", ["after", "before"])
def test_it_dies_between_verify_and_settle(ground: Ground, desk: Desk, relay: Relay, tmp_path: Path, settle: str) -> None:
    payer = ground.payer()
    relay.down = {"/settle"}
    with selling(ground, tmp_path, relay.url, patience=0.3, settle=settle) as shop:
        headers = payer.header(shop.offer(), ground)
        response = buy(shop, headers)
        assert response.status_code == 503, response.text
        assert (ground.balance(payer.address), desk.sent) == (FUNDS, 0)
        relay.down = set()
        shop.settled()
        again = until(lambda: (response := buy(shop, headers)).status_code == 200 and response)
        assert receipt(again)["success"] is True
        assert (shop.api.runs, shop.earned, ground.balance(payer.address), desk.sent) == (1, PRICE, FUNDS - PRICE, 1)


def test_an_answer_that_was_lost_is_asked_for_again(ground: Ground, desk: Desk, relay: Relay, tmp_path: Path) -> None:
    relay.lose = {"/settle"}
    with selling(ground, tmp_path, relay.url, patience=0.3) as shop:
        headers = ground.payer().header(shop.offer(), ground)
        assert buy(shop, headers).status_code == 503
        assert (shop.earned, desk.sent) == (PRICE, 1)  # paid, and nobody here knows
        relay.lose = set()
        shop.settled()
        assert buy(shop, headers).status_code == 200
        assert (shop.api.runs, shop.earned, desk.sent) == (1, PRICE, 1)


def test_its_answer_was_lost_and_then_it_says_used(ground: Ground, desk: Desk, relay: Relay, tmp_path: Path) -> None:
    relay.lose = {"/settle"}
    relay.lie["/settle"] = lambda body: failed(payer_of(body), USED)
    with selling(ground, tmp_path, relay.url, patience=0.3) as shop:  # nobody but it to ask
        headers = ground.payer().header(shop.offer(), ground)
        assert buy(shop, headers).status_code == 503
        relay.lose = set()
        said = relay.paths.count("/settle")
        until(lambda: relay.paths.count("/settle") > said + 3)
        assert buy(shop, headers).status_code == 503  # doubted, never taken for a refusal
    (tmp_path / "chain").mkdir()
    relay.lose = {"/settle"}
    with selling(ground, tmp_path / "chain", relay.url, patience=0.3, rpc=ground.url) as shop:
        headers = ground.payer().header(shop.offer(), ground)
        assert buy(shop, headers).status_code == 503
        relay.lose = set()
        shop.settled()
        response = buy(shop, headers)
        assert (response.status_code, shop.earned, desk.sent) == (200, PRICE, 2)
        assert ground.calls((receipt(response)["transaction"],)) == ("transferWithAuthorization",)


@pytest.mark.parametrize("reason", [USED, "transaction_failed", "invalid_exact_evm_transaction_failed"])
def test_somebody_else_was_faster_and_the_chain_says_so(
    ground: Ground, desk: Desk, relay: Relay, tmp_path: Path, reason: str
) -> None:
    """Anybody may submit a permit; a facilitator that lost the race refuses, and yet the payer has paid."""

    def overtaken(body: dict[str, Any]) -> Any:
        assert desk.settle(body)["success"] is True
        return failed(payer_of(body), reason, **({"transaction": TX} if reason != USED else {}))

    relay.lie["/settle"] = overtaken
    with selling(ground, tmp_path, relay.url, rpc=ground.url) as shop:
        response = buy(shop, ground.payer().header(shop.offer(), ground))
        assert (response.status_code, shop.api.runs, shop.earned) == (200, 1, PRICE)
        assert receipt(response)["transaction"] != TX


def test_a_transaction_that_failed_and_a_permit_that_lives(ground: Ground, desk: Desk, relay: Relay, tmp_path: Path) -> None:
    """The permit can be executed yet: it is no refusal, the facilitator is asked again, and then it is paid."""
    relay.lie["/settle"] = lambda body: failed(payer_of(body), "transaction_failed", transaction=TX)
    with selling(ground, tmp_path, relay.url, rpc=ground.url, patience=0.3) as shop:
        headers = ground.payer().header(shop.offer(), ground)
        assert (buy(shop, headers).status_code, shop.entries()[0].state in ("void", "settled")) == (503, False)
        until(lambda: relay.paths.count("/settle") > 1)
        del relay.lie["/settle"]
        assert shop.settled()[0].state == "settled"
        assert (buy(shop, headers).status_code, shop.earned, desk.sent) == (200, PRICE, 1)


@pytest.mark.parametrize("rpc", [True, False], ids=["chain", "blind"])
@pytest.mark.parametrize("word", ["out_of_gas_money", "transaction_failed", ""])
def test_a_facilitator_s_trouble_is_not_the_payer_s(ground: Ground, relay: Relay, tmp_path: Path, word: str, rpc: bool) -> None:
    relay.lie["/settle"] = lambda body: failed(payer_of(body), word)
    with selling(ground, tmp_path, relay.url, patience=0.3, rpc=ground.url if rpc else "") as shop:
        headers = ground.payer().header(shop.offer(), ground)
        assert buy(shop, headers).status_code == 503
        del relay.lie["/settle"]
        shop.settled()
        assert (buy(shop, headers).status_code, shop.earned) == (200, PRICE)


def test_a_refusal_of_settle_is_402_with_the_reason(ground: Ground, desk: Desk, relay: Relay, tmp_path: Path) -> None:
    payer = ground.payer()

    def drained(body: dict[str, Any]) -> Any:
        ground.drain(payer)
        return desk.settle(body)

    relay.lie["/settle"] = drained
    with selling(ground, tmp_path, relay.url) as shop:
        response = buy(shop, payer.header(shop.offer(), ground))
        assert (response.status_code, receipt(response)["errorReason"]) == (402, "insufficient_funds")
        assert (shop.earned, desk.sent) == (0, 0)


# ----------------------------------------------------------------------------------------------------------------- liars


def test_hostile_facilitator_claims_success_and_proof_is_asked(ground: Ground, relay: Relay, tmp_path: Path) -> None:
    """Nothing is on the chain: never served as paid, and refused once the permit can no longer be executed."""
    late = 0

    def clock() -> Any:
        return now_millis() + late

    relay.lie["/settle"] = lambda body: settled(payer_of(body))
    payer = ground.payer()
    snapshot = ground.rpc("evm_snapshot")
    with selling(ground, tmp_path, relay.url, patience=0.3, rpc=ground.url, prove=True, clock=clock, grace=1) as shop:
        headers = payer.header(shop.offer(), ground)
        for _ in range(3):
            response = buy(shop, headers)
            assert (response.status_code, response.json()["title"]) in (
                (503, "settlement_pending"),
                (503, "temporarily_unavailable"),
                (409, "payment_in_progress"),
            )
        assert shop.entries()[0].state not in ("settled", "void")
        late = 400_000
        ground.rpc("evm_increaseTime", 400)
        ground.rpc("evm_mine")
        (entry,) = shop.settled()
        assert entry.state == "void"
        assert buy(shop, headers).status_code == 402
        assert (shop.earned, ground.balance(payer.address)) == (0, FUNDS)
    ground.rpc("evm_revert", snapshot)


def test_an_honest_facilitator_is_proved(ground: Ground, desk: Desk, tmp_path: Path) -> None:
    with selling(ground, tmp_path, desk.url, rpc=ground.url, prove=True) as shop:
        response = buy(shop, ground.payer().header(shop.offer(), ground))
        assert (response.status_code, shop.earned) == (200, PRICE)
        assert ground.calls((receipt(response)["transaction"],)) == ("transferWithAuthorization",)


def test_hostile_facilitator_names_another_transaction_and_the_proof_names_the_right_one(
    ground: Ground, desk: Desk, relay: Relay, tmp_path: Path
) -> None:
    def vague(body: dict[str, Any]) -> Any:
        desk.settle(body)
        return settled(payer_of(body))

    relay.lie["/settle"] = vague
    with selling(ground, tmp_path, relay.url, rpc=ground.url, prove=True) as shop:
        response = buy(shop, ground.payer().header(shop.offer(), ground))
        assert response.status_code == 200
        assert receipt(response)["transaction"] != TX


@pytest.mark.parametrize(
    ("path", "lie", "status"),
    [
        ("/verify", (500, {"X-Debug": SECRET}, SECRET.encode()), 503),
        ("/verify", {"isValid": False, "invalidReason": SECRET, "invalidMessage": SECRET}, 503),
        ("/verify", {"isValid": "true"}, 503),
        ("/settle", (500, {}, json.dumps({"error": SECRET}).encode()), 503),
        ("/settle", lambda body: failed(payer_of(body), SECRET, errorMessage=SECRET, extensions={"x": SECRET}), 503),
        ("/settle", lambda body: settled(payer_of(body), success="true"), 503),
        ("/settle", lambda body: settled(payer_of(body), amount="1"), 503),
        ("/settle", lambda body: settled(payer_of(body), network="eip155:1"), 503),
        ("/settle", lambda body: settled(payer_of(body), transaction=""), 503),
    ],
)
def test_hostile_words_never_reach_a_payer(
    ground: Ground, relay: Relay, tmp_path: Path, path: str, lie: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    relay.lie[path] = lie
    with selling(ground, tmp_path, relay.url, patience=0.3) as shop:
        response = buy(shop, ground.payer().header(shop.offer(), ground))
        told = response.text + str(response.headers)
        for value in response.headers.values():
            if value.isascii() and len(value) % 4 == 0 and value.startswith("ey"):
                told += base64.b64decode(value).decode()
        assert response.status_code == status, told
        assert SECRET not in told
        assert SECRET not in caplog.text
        assert shop.earned == 0
