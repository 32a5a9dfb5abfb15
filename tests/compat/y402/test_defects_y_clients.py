"""y402 1.1.0's defects in its clients (seeds.md 3.3): for each, that it cannot happen here, with httpx (both) and requests."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest
from eth_account import Account

from tests.compat.y402.buyers import Ask, every_client, liar, offer
from tests.compat.y402.ground import Till
from tests.compat.y402.shops import fastapi_shop
from tests.shop import PRICE, fresh
from x402bind.compat.y402.clients import httpx as async_client
from x402bind.compat.y402.clients import httpx_sync, requests
from x402bind.compat.y402.clients.common import (
    MissingRequestConfigError,
    PaymentAmountExceededError,
    PaymentError,
    UnsupportedSchemeException,
)
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.requirements import PaymentRequirements
from x402core import KNOWN, PayerPolicy
from x402core.evm import digests
from x402core.evm.secp256k1 import recover
from x402core.values import Address

BASE_USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


@pytest.fixture
def account() -> Any:
    return Account.create()


@pytest.fixture
def paid(till: Till) -> Iterator[str]:
    with fastapi_shop(till) as url:
        yield url


def signed_for(payment: dict[str, Any], chain: int, account: Any, *, asset: str) -> bool:
    """Say whether a payment's signature is the account's on a chain."""
    told = payment["payload"]["authorization"]
    known = KNOWN.asset(f"eip155:{chain}", asset)
    assert known is not None
    separator = digests.domain(known.name, known.version, chain, Address(asset.lower()))
    numbers = int(told["value"]), int(told["validAfter"]), int(told["validBefore"])
    digest = digests.transfer_authorization_digest(separator, told["from"].lower(), told["to"].lower(), *numbers, told["nonce"])
    return recover(digest, bytes.fromhex(payment["payload"]["signature"][2:])) == account.address.lower()


@every_client
def test_Y3_a_servers_map_never_overrides_what_a_name_is(account: Any, ask: Ask) -> None:
    with liar(offer(), networks={"base-sepolia": 8453}) as told:
        assert ask(account, told.url, policy="$0.01")[0].status_code == 200
        (payment,) = told.payments
    assert signed_for(payment, 84532, account, asset=offer()["asset"])
    assert payment["network"] == "base-sepolia"
    lying = offer(asset=BASE_USDC, extra={"name": "USD Coin", "version": "2"}, maxAmountRequired="1000")
    with liar(lying, networks={"base-sepolia": 8453}) as told, pytest.raises(PaymentError):
        ask(account, told.url, policy="$0.01")
    assert told.sent == []


@every_client
def test_Y3_a_server_may_teach_a_name_of_a_chain_that_the_policy_pays_on(account: Any, ask: Ask) -> None:
    with liar(offer(network="testing"), networks={"testing": 84532}) as told:
        assert ask(account, told.url, policy="$0.01")[0].status_code == 200
        (payment,) = told.payments
    assert (payment["network"], signed_for(payment, 84532, account, asset=offer()["asset"])) == ("testing", True)


@every_client
def test_Y3_ones_own_map_goes_first(account: Any, ask: Ask) -> None:
    with liar(offer(network="testing"), networks={"testing": 8453}) as told:
        assert ask(account, told.url, policy="$0.01", chain_id_by_name={"testing": 84532})[0].status_code == 200
        assert signed_for(told.payments[0], 84532, account, asset=offer()["asset"])
    with liar(offer()) as told, pytest.raises(PaymentError):
        ask(account, told.url, policy=PayerPolicy.up_to("$1", "base-sepolia"), chain_id_by_name={"base-sepolia": 8453})
    assert told.sent == []


@every_client
def test_Y3_nothing_is_signed_above_the_policy(account: Any, ask: Ask) -> None:
    with pytest.raises(MisconfigurationError, match="policy"):
        ask(account, "http://127.0.0.1:9/")
    for asked in (offer(maxAmountRequired="10001"), offer(maxAmountRequired="1000000000000")):
        with liar(asked) as told, pytest.raises(PaymentAmountExceededError) as refused:
            ask(account, told.url, policy="$0.01")
        assert (told.sent, refused.value.response.status_code) == ([], 402)


@every_client
def test_Y3_no_permit_lasts_ten_years(account: Any, ask: Ask) -> None:
    with liar(offer(maxTimeoutSeconds=315_360_000)) as told:
        ask(account, told.url, policy="$0.01")
        (payment,) = told.payments
    assert int(payment["payload"]["authorization"]["validBefore"]) <= time.time() + 600


@every_client
def test_Y9_a_client_pays_as_often_as_it_asks(till: Till, paid: str, ask: Ask) -> None:
    answers = ask(Account.from_key(till.ground.payer().key), paid, 4, policy="$0.01")
    assert ([answer.status_code for answer in answers], till.earned) == ([200] * 4, 4 * PRICE)


def test_Y9_threads_share_a_client(till: Till, paid: str) -> None:
    account = Account.from_key(till.ground.payer().key)
    with requests.y402_requests(account, policy="$0.01", pool_maxsize=8) as session, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: session.get(paid).status_code, range(8)))
    with httpx_sync.Y402Client(account, policy="$0.01", timeout=40) as client, ThreadPoolExecutor(8) as pool:
        answers += list(pool.map(lambda _: client.get(paid).status_code, range(8)))
    assert (answers, till.earned) == ([200] * 16, 16 * PRICE)


def test_Y9_tasks_share_a_client(till: Till, paid: str) -> None:
    account, answers = Account.from_key(till.ground.payer().key), list[int]()

    async def ask_all() -> None:
        async with async_client.Y402Client(account, policy="$0.01", timeout=40) as client, anyio.create_task_group() as tasks:

            async def ask() -> None:
                answers.append((await client.get(paid)).status_code)

            for _ in range(8):
                tasks.start_soon(ask)

    anyio.run(ask_all)
    assert (answers, till.earned) == ([200] * 8, 8 * PRICE)


def test_Y10_the_paid_request_goes_by_the_callers_transport(account: Any) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if "X-PAYMENT" in request.headers:
            return httpx.Response(200, text="sold")
        return httpx.Response(402, json={"x402Version": 1, "accepts": [offer()], "error": "pay"})

    transport = httpx.MockTransport(answer)
    how = {"transport": transport, "policy": "$0.01", "cookies": {"session": "mine"}, "auth": ("me", "secret")}
    with httpx_sync.Y402Client(account, **how) as client:
        assert client.get("http://127.0.0.1/it").text == "sold"

    async def ask() -> str:
        async with async_client.Y402Client(account, **how) as client:
            return (await client.get("http://127.0.0.1/it")).text

    assert anyio.run(ask) == "sold"
    assert len(seen) == 4
    assert all(each.headers["Cookie"] == "session=mine" and "Authorization" in each.headers for each in seen)


def test_Y10_hooks_that_cannot_do_so_are_refused(account: Any) -> None:
    for module in (async_client, httpx_sync):
        with pytest.raises(MisconfigurationError, match="transport"):
            module.y402_payment_hooks(account)


@every_client
def test_Y29_a_402_of_another_kind_is_the_callers(account: Any, ask: Ask) -> None:
    for raw in (b"<html>pay by bank</html>", b"{}", b'{"x402Version": 1}', b"\xff\xfe", b'"x402Version"'):
        with liar(raw=raw) as told:
            (answer,) = ask(account, told.url, policy="$0.01")
            assert (answer.status_code, answer.content, told.sent) == (402, raw, [])


@every_client
def test_Y29_a_402_that_is_too_long_is_the_callers_too(account: Any, ask: Ask) -> None:
    with liar(raw=b'{"x402Version": 1, "accepts": [' + b" " * (1 << 20) + b"]}") as told:
        (answer,) = ask(account, told.url, policy="$0.01")
        assert (answer.status_code, told.sent) == (402, [])


@every_client
def test_Y29_the_asset_goes_along_and_versions_are_told_apart(account: Any, ask: Ask) -> None:
    with liar(offer()) as told:
        ask(account, told.url, policy="$0.01")
        (headers,) = told.sent
    assert headers["x-payment-asset"].lower() == offer()["asset"]
    assert "access-control-expose-headers" not in headers
    with liar(offer(), version=7) as told:
        (answer,) = ask(account, told.url, policy="$0.01")
        assert (answer.status_code, told.sent) == (402, [])


def test_Y29_a_body_that_cannot_be_sent_twice_is_said_to_be_one(account: Any, till: Till, paid: str) -> None:
    with httpx_sync.Y402Client(account, policy="$0.01") as client, pytest.raises(MissingRequestConfigError) as refused:
        client.post(paid, content=iter([b"a", b"b"]))
    assert refused.value.response.status_code == 402
    with requests.y402_requests(account, policy="$0.01") as session, pytest.raises(MissingRequestConfigError):
        session.post(paid, data=iter([b"a", b"b"]))
    rich = Account.from_key(till.ground.payer().key)
    with requests.y402_requests(rich, policy="$0.01") as session:
        assert session.post(paid, data=io.BytesIO(b"ab")).status_code == 200


# ----------------------------------------------------------------------------------------------------------- selectors


@every_client
def test_a_selector_is_shown_every_offer_and_chooses_one(account: Any, ask: Ask) -> None:
    shown: list[PaymentRequirements] = []

    def cheapest(accepts: list[PaymentRequirements]) -> PaymentRequirements:
        shown.extend(accepts)
        return min(accepts, key=lambda each: int(each.max_amount_required))

    payee = fresh().address
    with liar(offer(), offer(scheme="upto"), offer(maxAmountRequired="9", payTo=payee)) as told:
        ask(account, told.url, policy="$0.01", payment_requirements_selector=cheapest)
        (payment,) = told.payments
    assert [each.scheme for each in shown] == ["exact", "upto", "exact"]
    authorization = payment["payload"]["authorization"]
    assert (authorization["to"].lower(), authorization["value"]) == (payee, "9")


@every_client
def test_a_selector_chooses_among_our_servers_offers(till: Till, paid: str, ask: Ask) -> None:
    account = Account.from_key(till.ground.payer().key)
    (answer,) = ask(account, paid, policy="$0.01", payment_requirements_selector=lambda accepts: accepts[0])
    assert (answer.status_code, till.earned) == (200, PRICE)


@every_client
def test_a_selector_cannot_choose_what_was_not_offered_or_is_not_allowed(account: Any, ask: Ask) -> None:
    def forge(accepts: list[PaymentRequirements]) -> PaymentRequirements:
        return PaymentRequirements(**{**_fields(accepts[0]), "pay_to": fresh().address})

    with liar(offer()) as told, pytest.raises(PaymentError, match="not offered"):
        ask(account, told.url, policy="$0.01", payment_requirements_selector=forge)
    with liar(offer(maxAmountRequired="10001")) as told, pytest.raises(PaymentAmountExceededError):
        ask(account, told.url, policy="$0.01", payment_requirements_selector=lambda accepts: accepts[0])
    with liar(offer(scheme="upto")) as told, pytest.raises(UnsupportedSchemeException):
        ask(account, told.url, policy="$0.01")


def _fields(each: PaymentRequirements) -> dict[str, Any]:
    return {name: getattr(each, name) for name in each.__slots__}
