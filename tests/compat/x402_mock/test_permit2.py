"""Permit2 as 0.3.0 signs it, for a token that knows nothing else: to a cold wallet, by Permit2's own contract, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.chains import place_permit2
from tests.shop import FUNDS
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.chain.devnet.token import place
from x402bind.clients.httpx import outcome_of
from x402bind.compat.x402_mock.clients import Http402Client
from x402core.commands import OutcomeKind
from x402core.errors import Reason
from x402core.evm.abi import encode_call
from x402core.evm.digests import PERMIT2
from x402core.values import Address

from .stand import CHAIN, MINTER, PRICE, Buyer, Sepolia, on_devnet, stand

TOKEN = Address("0x" + "7e" * 20)
COLD = "0x" + "c0" * 20
COMPONENT: dict[str, Any] = {
    "caip2": CHAIN,
    "currency": "TEST",
    "token": TOKEN,
    "token_name": "Test",
    "token_version": "1",
    "token_decimals": 6,
    "metadata": {"methods": ["permit2"]},
}


@pytest.fixture(scope="module")
def chain() -> Iterator[Sepolia]:
    """With Permit2, and a token besides USDC."""
    with on_devnet() as chain:
        assert chain.ground.devnet is not None
        place(chain.ground.devnet.chain, TOKEN, name="Test", version="1", symbol="TEST")
        place_permit2(chain.ground.rpc)
        yield chain


def payer(chain: Sepolia, *, allowed: bool = True) -> Buyer:
    """Return somebody with the token, who may have allowed Permit2 to move it."""
    buyer, rpc = chain.payer(0), chain.ground.rpc
    rpc.must(DEV_KEYS[MINTER], TOKEN, encode_call("mint(address,uint256)", buyer.address, FUNDS))
    if allowed:
        rpc("anvil_setBalance", buyer.address, hex(10**18))
        rpc.must(bytes.fromhex(buyer.key[2:]), TOKEN, encode_call("approve(address,uint256)", PERMIT2, FUNDS))
    return buyer


def client(buyer: Buyer) -> Http402Client:
    client = Http402Client(buyer.hub())
    client.add_payment_method({**COMPONENT, "amount": 0.8})
    return client


def balance(chain: Sepolia, account: str) -> int:
    return chain.ground.rpc.balance(TOKEN, Address(account))


def test_a_cold_wallet_is_paid_by_permit2_and_once(chain: Sepolia, tmp_path: Path) -> None:
    buyer, before = payer(chain), balance(chain, COLD)
    method = {"payment_component": {**COMPONENT, "amount": 0.5, "pay_to": COLD}}

    async def buy(url: str) -> None:
        async with client(buyer) as paying:
            response = await paying.get(f"{url}/data")
            outcome = outcome_of(response)
            assert outcome is not None
            assert (response.status_code, outcome.kind) == (200, OutcomeKind.PAID), outcome

    with stand(chain, tmp_path, methods=(method,)) as it:
        offered = httpx.get(f"{it.url}/data").json()["payment_scheme"]["payment_components"]
        anyio.run(buy, it.url)
        (entry,) = it.settled()
        assert entry.state == "settled"
        permit = anyio.run(_sign, buyer, offered)
        body = {"version": "Version 0.1", "permit": permit}
        post = f"{it.url}/token?scope=%2Fdata"
        wrong = httpx.post(post, json={**body, "permit": {**permit, "spender": COLD}}, timeout=20)
        assert (wrong.status_code, wrong.json()["title"]) == (402, Reason.PERMIT2_SPENDER)
        tokens = {httpx.post(post, json=body, timeout=20).json()["access_token"] for _ in range(3)}
        it.settled(2)
        tokens |= {httpx.post(post, json=body, timeout=20).json()["access_token"]}
        assert len(tokens) == 1
    assert (balance(chain, COLD) - before, balance(chain, buyer.address)) == (2 * PRICE, FUNDS - 2 * PRICE)


async def _sign(buyer: Buyer, offered: Any) -> dict[str, Any]:
    hub = buyer.hub()
    hub.register_payment_methods({**COMPONENT, "amount": 0.8}, client_role=True)
    permit = await hub.signature(offered)
    assert permit.permit_type == "Permit2"
    document: dict[str, Any] = permit.model_dump(mode="json")
    return document


def test_without_an_allowance_nothing_is_signed_and_none_is_given(chain: Sepolia, tmp_path: Path) -> None:
    buyer = payer(chain, allowed=False)
    method = {"payment_component": {**COMPONENT, "amount": 0.5}}

    async def buy(url: str) -> Any:
        async with client(buyer) as paying:
            return outcome_of(await paying.get(f"{url}/data"))

    with stand(chain, tmp_path, methods=(method,)) as it:
        outcome = anyio.run(buy, it.url)
    assert (outcome.kind, outcome.exposed_until) == (OutcomeKind.DECLINED, None)
    assert "approve it first" in outcome.refusal.detail
    assert (balance(chain, buyer.address), chain.ground.sent_by(buyer.address)) == (FUNDS, 0)
