"""x402-mock 0.3.0's defects (seeds.md 3.2): for each, that it cannot happen here, on 0.3.0's own wire."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.shop import FUNDS
from x402bind.compat.x402_mock.adapters import AdapterHub
from x402bind.compat.x402_mock.adapters.evm.registors import EVMRegistry
from x402bind.compat.x402_mock.adapters.evm.schemas import ERC3009Authorization, EVMPaymentComponent
from x402bind.compat.x402_mock.adapters.evm.signatures import is_erc3009_currency
from x402bind.compat.x402_mock.engine.exceptions import PaymentMethodError
from x402core import LocalProtocolError

from .stand import CHAIN, PRICE, USDC, Buyer, Sepolia, Stand, stand

COLD = "0x" + "c0" * 20


def signed(payer: Buyer, it: Stand) -> dict[str, Any]:
    """Return a permit as 0.3.0's client sends it, for the stand's price."""
    wallet = payer.hub()
    wallet.register_payment_methods({"caip2": CHAIN, "amount": 0.8, "currency": "USDC"}, client_role=True)
    permit = anyio.run(wallet.signature, it.app.adapter_hub.get_payment_methods())
    assert isinstance(permit, ERC3009Authorization)
    document: dict[str, Any] = permit.model_dump(mode="json")
    return document


def post(it: Stand, permit: dict[str, Any], **more: Any) -> httpx.Response:
    """Take a permit to the token endpoint, for /data."""
    body = {"version": "Version 0.1", "permit": permit, **more}
    return httpx.post(f"{it.url}/token?scope=%2Fdata", json=body, timeout=20)


def test_B1_an_authorization_buys_one_token_also_after_it_was_settled(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer()
    with stand(chain, tmp_path) as it:
        permit = signed(payer, it)
        first = post(it, permit)
        it.settled()
        again = [post(it, permit) for _ in range(4)]
        strangers = post(it, {**permit, "created_at": "2026-01-01T00:00:00Z"})
        assert {each.json()["access_token"] for each in (first, *again)} == {first.json()["access_token"]}
        assert (strangers.status_code, len(it.settled())) == (402, 1)
    assert payer.money == FUNDS - PRICE


def test_B1_a_hub_refuses_what_was_used(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer()
    with stand(chain, tmp_path) as it:
        permit = signed(payer, it)
        assert post(it, permit).status_code == 200
        it.settled()
        found = anyio.run(it.app.adapter_hub.verify_signature, permit)
    assert (found.is_success(), found.status.value) == (False, "replay_attack")


def test_B2_a_contract_of_the_payers_choice_is_never_called(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer()
    permit = {
        "permit_type": "Permit2",
        "owner": payer.address,
        "spender": chain.seller,
        "token": USDC,
        "amount": PRICE,
        "nonce": 1,
        "deadline": 2**32,
        "chain_id": 11155111,
        "permit2_address": COLD,
        "signature": {"signature_type": "Permit2", "v": 27, "r": "0x" + "11" * 32, "s": "0x" + "11" * 32},
    }
    with stand(chain, tmp_path) as it:
        answer = post(it, permit)
        assert (answer.status_code, answer.json()["pointer"]) == (400, "/permit/permit2_address")
        assert it.app.seller is not None
        assert it.app.seller.ledger.entries() == ()


def test_B3_a_signature_with_leading_zeros_is_paid_like_any_other(chain: Sepolia, tmp_path: Path) -> None:
    """We write whole words; theirs, which lack the zeros, are read."""
    payer = chain.payer()
    with stand(chain, tmp_path) as it:
        permit = signed(payer, it)
        while not permit["signature"]["r"].startswith("0x0"):
            permit = signed(payer, it)
        assert len(permit["signature"]["r"]) == len(permit["signature"]["s"]) == 66
        permit["signature"]["r"] = hex(int(permit["signature"]["r"], 16))
        assert len(permit["signature"]["r"]) < 66
        assert post(it, permit).status_code == 200
        (entry,) = it.settled()
    assert (entry.state, payer.money) == ("settled", FUNDS - PRICE)


@pytest.mark.parametrize("changed", [{"token": COLD}, {"chain_id": 1}, {"recipient": COLD}, {"value": 1}])
def test_B4_a_permit_for_something_else_is_answered_at_once(chain: Sepolia, tmp_path: Path, changed: dict[str, Any]) -> None:
    payer = chain.payer()
    with stand(chain, tmp_path) as it:
        permit = signed(payer, it)
        answer = httpx.post(
            f"{it.url}/token?scope=%2Fdata", json={"version": "Version 0.1", "permit": {**permit, **changed}}, timeout=3
        )
        assert (answer.status_code, "Verification failed" in answer.json()["error"]) == (402, True)
        assert post(it, permit).status_code == 200


@pytest.mark.parametrize("kind", ["ERC3009", "EIP2612"])
def test_B5_pay_to_is_who_is_paid_by_either_kind(chain: Sepolia, tmp_path: Path, kind: str) -> None:
    payer, before = chain.payer(), chain.balance(COLD)
    method = {"payment_component": {"caip2": CHAIN, "amount": 0.5, "currency": "USDC", "pay_to": COLD}}
    with stand(chain, tmp_path, methods=(method,)) as it:
        offered = httpx.get(f"{it.url}/data").json()["payment_scheme"]["payment_components"]
        if kind == "EIP2612":  # what a payer of 0.1.1 sees
            offered = [{k: v for k, v in each.items() if k not in ("caip2", "token_name")} for each in offered]
        wallet = payer.hub()
        wallet.register_payment_methods(CHAIN, 0.8, "USDC", client_role=True)
        permit = anyio.run(wallet.signature, offered)
        assert permit.permit_type == kind
        assert post(it, permit.model_dump(mode="json")).status_code == 200
        it.settled()
    assert (chain.balance(COLD) - before, payer.money) == (PRICE, FUNDS - PRICE)


def test_B6_hubs_share_nothing() -> None:
    one, other = AdapterHub("11" * 32), AdapterHub("11" * 32)
    one.register_payment_methods({"caip2": CHAIN, "amount": 1, "currency": "USDC", "rpc_url": "https://one.test"})
    other.register_payment_methods({"caip2": CHAIN, "amount": 2, "currency": "USDC", "rpc_url": "https://other.test"})
    assert [len(hub.get_payment_methods()) for hub in (one, other)] == [1, 1]
    networks = [offer.network for offer in one.evm.offers]
    assert (set(one.evm.rpc(networks).values()), set(other.evm.rpc(networks).values())) == (
        {"https://one.test"},
        {"https://other.test"},
    )
    first, second = EVMRegistry(), EVMRegistry()
    first.payment_method_register(payment_component=EVMPaymentComponent(caip2=CHAIN, amount=1, currency="USDC"))
    assert (len(first.payment_components), second.payment_components) == (1, [])
    with pytest.raises(LocalProtocolError, match="no node"):
        second.get_rpc_url_by_caip2(CHAIN)


def test_B6_a_components_node_is_in_no_json(chain: Sepolia, tmp_path: Path) -> None:
    method = {"payment_component": {"caip2": CHAIN, "amount": 0.5, "currency": "USDC", "rpc_url": chain.url}}
    with stand(chain, tmp_path, methods=(method,), hub=None) as it:
        (component,) = it.app.adapter_hub.get_payment_methods()
        for text in (component.to_canonical_json(), repr(component), httpx.get(f"{it.url}/data").text):
            assert chain.url not in text


def test_B7_no_allowance_is_given_behind_the_payers_back(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer()
    with stand(chain, tmp_path) as it:

        async def run() -> None:
            async with payer.client() as client:
                await client._hub.initialize(client_role=True)
                assert (await client.get(f"{it.url}/data")).status_code == 200

        anyio.run(run)
        it.settled()
    assert chain.ground.sent_by(payer.address) == 0
    assert payer.money == FUNDS - PRICE


@pytest.mark.parametrize(
    ("currency", "caip2", "takes"),
    [("USDC", CHAIN, True), ("EURC", "eip155:8453", True), ("USDC", "eip155:38833", False), ("MUSD", "eip155:31612", False)],
)
def test_B8_how_a_token_moves_is_the_tokens_own_not_its_symbols(currency: str, caip2: str, takes: bool) -> None:
    assert is_erc3009_currency(currency, caip2) is takes


def test_B8_a_token_we_do_not_know_is_described_or_refused_and_nobody_is_asked() -> None:
    unknown = {"caip2": CHAIN, "amount": 1, "currency": "MINE", "token": COLD}
    with pytest.raises(LocalProtocolError, match="token_name") as caught:
        AdapterHub("11" * 32).register_payment_methods(unknown)
    assert caught.value.field == "token"
    hub = AdapterHub("11" * 32)
    hub.register_payment_methods({**unknown, "token_name": "Mine", "token_version": 1, "token_decimals": "18"})
    assert {offer.amount for offer in hub.evm.offers} == {10**18}
    with pytest.raises(PaymentMethodError, match="registered already"):
        hub.register_payment_methods({**unknown, "token_name": "Mine", "token_version": 1, "token_decimals": 18})
    for wrong, field in (({"token_name": "USD Coin"}, "token_name"), ({"token_decimals": 18}, "token_decimals")):
        with pytest.raises(LocalProtocolError) as refused:
            AdapterHub("11" * 32).register_payment_methods({"caip2": CHAIN, "amount": 1, "currency": "USDC", **wrong})
        assert refused.value.field == field


def test_every_defect_has_a_test() -> None:
    named = set(re.findall(r"def test_(B\d)_", Path(__file__).read_text()))
    assert named == {f"B{number}" for number in range(1, 9)}
    assert json.dumps(sorted(named))
