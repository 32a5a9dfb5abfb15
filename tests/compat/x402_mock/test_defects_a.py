"""x402-mock 0.1.1's defects (seeds.md 3.1): for each, that whoever changes imports no longer has it.

What the core and its edges do is shown once, in the files named here, and holds for this API, which stands on them:

    A2   test_seed_defects.test_A2_one_permit_buys_one_token_however_often_it_is_presented
         test_seed_defects_server.test_A2_one_permit_in_ten_different_bodies_buys_one_token
    A3   test_seed_defects.test_A3_a_high_s_is_refused_before_the_chain_is_asked
    A8   test_seed_defects.test_A8_every_chains_own_domain_verifies
    A12  test_seed_defects.test_A12_settlements_at_one_time_get_numbers_of_their_own
         test_seed_defects_chain.test_A12_a_journaled_settlement_survives_a_restart
    A14  test_handlers.py, beside this file
    A15  test_seed_defects.test_A15_bad_json_names_the_field
    A18  test_seed_defects.test_A18_hashes_are_hashes_and_depth_is_waited_for

Below is what this API adds, or could get wrong by itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import Request

from tests.shop import FUNDS, TroubledNode, until
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.clients.httpx import outcome_of
from x402bind.compat.x402_mock import load_env
from x402bind.compat.x402_mock.adapters import AdapterHub, EVMPaymentComponent
from x402bind.compat.x402_mock.adapters.adapters_hub import match_payment_component
from x402bind.compat.x402_mock.clients import Http402Client
from x402bind.compat.x402_mock.engine import AuthorizationSuccessEvent, PaymentMethodError, RequestInitEvent, TokenIssuedEvent
from x402bind.compat.x402_mock.schemas import VerificationStatus
from x402bind.compat.x402_mock.servers import Http402Server
from x402core import LocalProtocolError
from x402core.commands import OutcomeKind

from .stand import CHAIN, PRICE, SELLER, USDC, Sepolia, plain, server, stand
from .test_events import buy

KEY = "11" * 32
BASE = "eip155:8453"


def seller_hub(chain: Sepolia, rpc: str | None = None, **component: Any) -> AdapterHub:
    """Return a hub that is paid half a dollar."""
    hub = AdapterHub(DEV_KEYS[SELLER].hex(), rpc or chain.url)
    hub.register_payment_methods({"caip2": CHAIN, "amount": 0.5, "currency": "USDC", **component})
    return hub


def hostile(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
    return httpx.MockTransport(answer)


def challenge(**changed: Any) -> dict[str, Any]:
    """Return a 402's body as 0.1.1 writes it."""
    metadata = {"symbol": "USDC", "name": "USDC", "decimals": 6, "version": "2", "wallet_address": "0x" + "22" * 20}
    component = {
        "payment_type": "evm",
        "amount": 0.5,
        "currency": "USDC",
        "metadata": {**metadata, **changed.pop("metadata", {})},
        "token": USDC,
        "chain_id": 11155111,
        **changed,
    }
    scheme = {"payment_components": [component], "protocol_version": "Version 0.1"}
    return {"reason": "Missing", "access_token_endpoint": "/token", "payment_scheme": scheme, "payment_instruction": ""}


def test_A1_a_hub_alone_moves_the_money_by_permit_and_transfer(chain: Sepolia) -> None:
    payer, hub, before = chain.payer(), seller_hub(chain), chain.balance(chain.seller)
    old = challenge(metadata={"wallet_address": chain.seller})["payment_scheme"]["payment_components"]

    async def pay() -> Any:
        wallet = payer.hub()
        wallet.register_payment_methods("eip155:11155111", 0.8, "USDC", client_role=True)
        permit = await wallet.signature(old)
        assert permit.permit_type == "EIP2612"
        assert (await hub.verify_signature(permit)).is_success()
        return await hub.settle(permit), permit

    done, _ = anyio.run(pay)
    assert done.is_success(), done
    assert chain.ground.calls((done.tx_hash,)) == ("transferFrom",)
    assert (payer.money, chain.balance(chain.seller) - before) == (FUNDS - PRICE, PRICE)


def test_A2_a_permit_that_a_hub_is_given_ten_times_is_settled_once(chain: Sepolia) -> None:
    payer, hub, before = chain.payer(), seller_hub(chain), chain.balance(chain.seller)

    async def pay() -> Any:
        wallet = payer.hub()
        wallet.register_payment_methods(chain_id=CHAIN, amount=0.8, currency="USDC", client_role=True)
        permit = await wallet.signature(hub.get_payment_methods())
        return await asyncio.gather(*(hub.settle(permit.model_dump(mode="json")) for _ in range(10)))

    done = anyio.run(pay)
    assert [each.status.value for each in done] == ["success"] * 10
    assert len({each.tx_hash for each in done}) == 1
    assert (payer.money, chain.balance(chain.seller) - before) == (FUNDS - PRICE, PRICE)


def test_A4_a_permit_for_another_chain_fits_no_component(chain: Sepolia) -> None:
    payer, hub = chain.payer(), seller_hub(chain)

    async def judge() -> None:
        wallet = payer.hub()
        wallet.register_payment_methods(CHAIN, 0.8, "USDC", client_role=True)
        permit = (await wallet.signature(hub.get_payment_methods())).model_dump(mode="json")
        with pytest.raises(PaymentMethodError, match="on eip155:1"):
            await hub.verify_signature({**permit, "chain_id": 1})

    anyio.run(judge)


@pytest.mark.parametrize(
    "lie",
    [
        {"metadata": {"decimals": 18}},
        {"metadata": {"name": "USD Coin"}},
        {"amount": 0.81},
        {"amount": 0.5, "amount_atomic": "500000000000"},
    ],
)
def test_A5_a_lie_about_the_token_gets_no_signature(lie: dict[str, Any]) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        return httpx.Response(402, json=challenge(**lie))

    async def ask() -> httpx.Response:
        async with Http402Client(AdapterHub(KEY, "http://127.0.0.1:9"), transport=hostile(answer)) as client:
            client.add_payment_method(CHAIN, 0.8, "USDC")
            return await client.get("https://shop.test/data")

    outcome = outcome_of(anyio.run(ask))
    assert outcome is not None
    assert (seen, outcome.exposed_until) == (["GET"], None)


def test_A6_a_token_endpoint_that_asks_for_money_gets_one_signature(chain: Sepolia) -> None:
    seen: list[str] = []
    payer = chain.payer()

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        return httpx.Response(402, json=challenge())

    async def ask() -> httpx.Response:
        async with payer.client(transport=hostile(answer)) as client:
            return await client.get("https://shop.test/data")

    assert (anyio.run(ask).status_code, seen) == (402, ["GET", "POST"])


def test_A7_a_hook_that_hangs_or_fails_holds_up_nothing(
    chain: Sepolia, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    payer = chain.payer()

    def routes(app: Http402Server) -> None:
        plain(app)
        app.event_bus.patience = 0.2

        @app.hook(TokenIssuedEvent)
        async def hangs(event: Any, deps: Any) -> None:
            await anyio.sleep_forever()

        @app.hook(RequestInitEvent)
        async def fails(event: Any, deps: Any) -> None:
            raise RuntimeError("theirs")

        @app.hook(AuthorizationSuccessEvent)
        async def leaves(event: Any, deps: Any) -> None:
            raise ValueError("theirs too")

    with caplog.at_level(logging.ERROR), stand(chain, tmp_path, routes) as it:
        with anyio.from_thread.start_blocking_portal() as portal:
            portal.call(buy, it.url, payer)
        it.settled()
        until(lambda: "took longer" in caplog.text)
        assert "theirs" in caplog.text
        assert httpx.get(f"{it.url}/data", headers={"Authorization": "Bearer a.b"}, timeout=5).status_code == 402


def test_A9_a_token_opens_the_route_it_was_bought_for(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer()

    async def run(url: str) -> str:
        async with payer.client() as client:
            response = await client.get(f"{url}/data")
            return str(next(iter(client._hub.tokens._tokens.values())).value) if response.status_code == 200 else ""

    with stand(chain, tmp_path) as it:
        held = {"Authorization": f"Bearer {anyio.run(run, it.url)}"}
        answers = [httpx.get(f"{it.url}{path}", headers=held).status_code for path in ("/data", "/other")]
    assert answers == [200, 402]


def test_A10_requests_back_to_back_pay_once_each_route(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer(2 * PRICE)

    async def run(url: str) -> list[Any]:
        async with payer.client() as client:
            return [outcome_of(await client.get(f"{url}{path}")) for path in ("/data", "/other", "/data", "/other", "/data")]

    with stand(chain, tmp_path) as it:
        kinds = [outcome.kind for outcome in anyio.run(run, it.url)]
        it.settled(2)
    assert kinds == [OutcomeKind.PAID, OutcomeKind.PAID, OutcomeKind.FREE, OutcomeKind.FREE, OutcomeKind.FREE]
    assert payer.money == 0


@pytest.mark.parametrize(("first", "second"), [("USDC", "EURC"), ("EURC", "USDC")])
def test_A11_the_method_added_first_is_paid_with(first: str, second: str) -> None:
    seller = AdapterHub(KEY)
    for currency in ("USDC", "EURC"):
        seller.register_payment_methods(BASE, 0.5, currency)
    wallet = AdapterHub("22" * 32)
    for currency in (first, second):
        wallet.register_payment_methods(BASE, 0.8, currency, client_role=True)
    remote, local = seller.get_payment_methods(), wallet.get_payment_methods()
    for offered in (remote, remote[::-1]):
        permit = anyio.run(wallet.signature, offered)
        assert permit.token.lower() == (local[0].token or "").lower()
        matched = match_payment_component(offered, local)
        assert isinstance(matched, EVMPaymentComponent)
        assert matched.currency == first


def test_A13_a_node_in_trouble_is_no_payers_fault(chain: Sepolia) -> None:
    payer = chain.payer()
    with TroubledNode(chain.url) as node:
        hub = seller_hub(chain, node.url)

        async def judge() -> Any:
            wallet = payer.hub()
            wallet.register_payment_methods(CHAIN, 0.8, "USDC", client_role=True)
            permit = await wallet.signature(hub.get_payment_methods())
            node.refuse["eth_call"] = "internal error"
            found = await hub.verify_signature(permit)
            node.refuse.clear()
            return found, await hub.verify_signature(permit)

        troubled, well = anyio.run(judge)
    assert (troubled.status, troubled.is_success()) == (VerificationStatus.BLOCKCHAIN_ERROR, False)
    assert well.is_success()


def test_A15_bad_json_is_400_and_names_the_field(chain: Sepolia, tmp_path: Path) -> None:
    with stand(chain, tmp_path) as it:
        post = f"{it.url}/token?scope=%2Fdata"
        for body, pointer in ((b"{", None), (b'{"version":"Version 0.1","permit":{"permit_type":"ERC3009"}}', "/permit/")):
            answer = httpx.post(post, content=body)
            assert answer.status_code == 400
            assert pointer is None or answer.json()["pointer"].startswith(pointer)


def test_A16_amounts_are_taken_exactly_or_refused_at_set_up() -> None:
    for amount in (1, 0.1, "0.1", Decimal("0.000001"), 1e-06):
        hub = AdapterHub(KEY)
        hub.register_payment_methods(CHAIN, amount, "USDC")
        (component,) = hub.get_payment_methods()
        assert component.amount == Decimal(str(amount))
        assert json.loads(component.to_canonical_json())["amount"] == pytest.approx(float(amount))
    for amount, currency, field in ((1e-7, "USDC", "amount"), (0, "USDC", "price"), (0.5, "DOGE", "currency")):
        with pytest.raises(LocalProtocolError) as caught:
            AdapterHub(KEY).register_payment_methods(CHAIN, amount, currency)
        assert caught.value.field == field
    for wrong in (float("nan"), float("inf"), -1, True, "half"):
        with pytest.raises(ValueError, match="amount"):
            AdapterHub(KEY).register_payment_methods(CHAIN, wrong, "USDC")


def test_A17_the_callers_request_stays_the_callers(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer()

    def routes(app: Http402Server) -> None:
        @app.post("/echo")
        @app.payment_required
        async def echo(request: Request, payload):  # type: ignore[no-untyped-def]
            body = await request.body()
            return [request.headers["content-type"], request.headers.getlist("x-mine"), body.decode()]

    async def run(url: str) -> Any:
        headers = [("Content-Type", "text/csv"), ("X-Mine", "a"), ("X-Mine", "b")]
        async with (
            payer.client() as client,
            client.stream("POST", f"{url}/echo", content=b"a,b", headers=headers) as response,
        ):
            assert response.status_code == 200
            return json.loads(b"".join([part async for part in response.aiter_bytes()]))

    with stand(chain, tmp_path, routes) as it:
        assert anyio.run(run, it.url) == ["text/csv", ["a", "b"], "a,b"]


def test_A18_a_confirmation_names_its_transaction_and_block(chain: Sepolia) -> None:
    payer, hub = chain.payer(), seller_hub(chain)

    async def pay() -> Any:
        wallet = payer.hub()
        wallet.register_payment_methods(CHAIN, 0.8, "USDC", client_role=True)
        return await hub.settle(await wallet.signature(hub.get_payment_methods()))

    done = anyio.run(pay)
    receipt = chain.ground.rpc("eth_getTransactionReceipt", done.tx_hash)
    assert (done.block_number, receipt["status"]) == (int(receipt["blockNumber"], 16), "0x1")


QUIET = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo") or (event == "open" and ".env" in str(arguments[0])):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(hook)
before = dict(os.environ)
from x402bind.compat.x402_mock.servers import Http402Server
from x402bind.compat.x402_mock.clients import Http402Client
from x402bind.compat.x402_mock.adapters import AdapterHub
hub = AdapterHub("11" * 32)
hub.register_payment_methods("eip155:8453", 0.5, "USDC")
Http402Server("t" * 32, hub, ledger="memory:")
assert dict(os.environ) == before
"""


def test_A19_import_and_set_up_read_no_file_and_ask_nobody(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EVM_PRIVATE_KEY=from-a-file\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    ran = subprocess.run(
        [sys.executable, "-c", QUIET], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_A19_a_dotenv_is_read_when_asked_and_the_environment_wins(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(f"# keys\nexport EVM_PRIVATE_KEY='{KEY}'\nEVM_INFURA_KEY=infura # mine\n\nEMPTY=\n")
    environment = {"EVM_INFURA_KEY": "set before"}
    settings = load_env(path, environment=environment)
    assert (settings.private_key, settings.infura_key, settings.alchemy_key) == (KEY, "set before", None)
    assert KEY not in repr(settings)
    path.write_text("EVM_PRIVATE_KEY\n")
    with pytest.raises(LocalProtocolError, match="line 1") as caught:
        load_env(path, environment={})
    assert "EVM_PRIVATE_KEY" not in str(caught.value)


def test_A19_verifying_needs_no_key_and_signing_says_what_it_lacks(chain: Sepolia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVM_PRIVATE_KEY", raising=False)
    payer, judge = chain.payer(), AdapterHub(rpc_url=chain.url)
    judge.register_payment_methods({"caip2": CHAIN, "amount": 0.5, "currency": "USDC", "pay_to": "0x" + "22" * 20})

    async def run() -> Any:
        wallet = payer.hub()
        wallet.register_payment_methods(CHAIN, 0.8, "USDC", client_role=True)
        permit = await wallet.signature(judge.get_payment_methods())
        found = await judge.verify_signature(permit)
        with pytest.raises(LocalProtocolError, match="EVM_PRIVATE_KEY") as caught:
            await judge.settle(permit)
        assert caught.value.field == "evm_private_key"
        return found

    found = anyio.run(run)
    assert found.is_success()
    assert found.verified_at.tzinfo is not None


def test_A19_a_short_token_key_is_refused_by_name(chain: Sepolia, tmp_path: Path) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        server(chain, tmp_path, token_key="short")
    assert caught.value.field == "token_key"


def test_every_defect_has_a_test_or_a_place() -> None:
    text = Path(__file__).read_text()
    named = set(re.findall(r"def test_(A\d+)_", text)) | set(re.findall(r"^    (A\d+) ", str(__doc__), re.M))
    assert named == {f"A{number}" for number in range(1, 20)}
    for module, name in re.findall(r"(test_seed_defects\w*)\.(test_\w+)", str(__doc__)):
        assert f"def {name}(" in (Path(__file__).parents[2] / f"{module}.py").read_text()
