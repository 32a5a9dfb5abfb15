"""Our own trouble is 503 and never a refusal; whom we do not serve is refused by name, before anything is spent on him."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.accounts import SmartWallet
from tests.facilitator.desk import Desk, Sale, Town, request
from tests.shop import FUNDS, NETWORK, PRICE, Ground, TroubledNode, fresh, offer_of, until
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.chain.devnet.token import place
from x402bind.facilitator.quota import Quota, QuotaBook
from x402core.commands import AdmitPayer
from x402core.errors import LocalProtocolError
from x402core.events import Method
from x402core.evm.abi import encode_call
from x402core.evm.secp256k1 import sign
from x402core.schemes import of
from x402core.values import Address, Hash32, Millis, Network, Seconds

HOUR = 3600


def nobodys() -> bytes:
    """Return a signature of somebody over something."""
    return sign(secrets.token_bytes(32), secrets.token_bytes(32))


# --------------------------------------------------------------------------------------------------------- our own trouble


@pytest.fixture
def node(ground: Ground) -> Iterator[TroubledNode]:
    with TroubledNode(ground.url) as node:
        yield node


def unavailable(response: Any) -> bool:
    assert response.status_code == 503, response.text
    assert response.headers["retry-after"] == "1"
    assert response.json()["title"] == "temporarily_unavailable"
    return True


def test_a_node_that_is_down_refuses_nobody(ground: Ground, tmp_path: Path, node: TroubledNode) -> None:
    sale = Sale(ground)
    with Desk(ground, tmp_path, rpc=node.url) as desk:
        node.down = True
        assert unavailable(desk.post("/verify", sale.body))
        assert unavailable(desk.post("/settle", sale.body))
        assert desk.facilitator.ledger.open_records() == ()
        node.down = False
        assert desk.settle(sale.body)["success"] is True
        assert (sale.earned, desk.sent) == (PRICE, 1)


def test_a_facilitator_begins_though_its_node_is_down(ground: Ground, tmp_path: Path, node: TroubledNode) -> None:
    node.down = True
    sale = Sale(ground)
    with Desk(ground, tmp_path, rpc=node.url) as desk:
        assert unavailable(desk.post("/settle", sale.body))
        node.down = False
        assert desk.settle(sale.body)["success"] is True


def test_a_node_of_another_chain_stops_it_at_the_start(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not start"), Desk(ground, tmp_path, rpc={"base": ground.url}):
        pass


def test_a_named_token_that_is_not_there_stops_it_at_the_start(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not start"), Desk(ground, tmp_path, assets=["eurc"]):
        pass
    with Desk(ground, tmp_path, assets=["usdc"]) as desk:
        assert desk.settle(Sale(ground).body)["success"] is True


def test_a_transaction_the_node_will_not_take_is_no_refusal(ground: Ground, tmp_path: Path, node: TroubledNode) -> None:
    sale = Sale(ground)
    node.refuse["eth_sendRawTransaction"] = "header not found"
    with Desk(ground, tmp_path, rpc=node.url, patience=0.5) as desk:
        response = desk.post("/settle", sale.body)
        assert response.status_code == 503 or response.json()["errorReason"] == "settlement_pending"
        del node.refuse["eth_sendRawTransaction"]
        told = until(lambda: (said := desk.post("/settle", sale.body)).status_code == 200 and said.json())
        told = until(lambda: (told := desk.settle(sale.body))["success"] and told)
        assert (sale.earned, told["amount"]) == (PRICE, str(PRICE))


def test_an_answer_lost_while_sending_is_no_refusal(ground: Ground, tmp_path: Path, node: TroubledNode) -> None:
    sale = Sale(ground)
    with Desk(ground, tmp_path, rpc=node.url) as desk:
        node.lose.add("eth_sendRawTransaction")
        assert desk.settle(sale.body)["success"] is True
        assert (sale.earned, desk.sent) == (PRICE, 1)


def test_a_ledger_that_is_down_refuses_nobody(ground: Ground, tmp_path: Path) -> None:
    sale = Sale(ground)
    with Desk(ground, tmp_path) as desk:
        desk.facilitator.ledger.close()  # every call raises from now on
        assert unavailable(desk.post("/settle", sale.body))
        assert unavailable(desk.get("/discovery/resources"))
        assert unavailable(desk.get("/discovery/search?query=x"))
        assert desk.verify(sale.body)["isValid"] is True  # which needs no ledger
        assert (sale.earned, desk.sent) == (0, 0)


# --------------------------------------------------------------------------------------------------------- whom we serve


def refused(desk: Desk, body: dict[str, Any]) -> str:
    verify, settle = desk.verify(body), desk.settle(body)
    assert (verify["isValid"], settle["success"], settle["transaction"]) == (False, False, "")
    assert verify["invalidReason"] == settle["errorReason"]
    assert desk.sent == 0
    return verify["invalidReason"]  # type: ignore[no-any-return]


def test_another_network_is_not_served(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    offer = replace(sale.offer, network=Network("eip155:8453"))
    permit = replace(sale.permit, network=offer.network)
    assert refused(desk, request(permit, offer)) == "invalid_network"


def test_another_asset_is_not_served(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    offer = replace(sale.offer, asset=fresh().address)
    assert refused(desk, request(replace(sale.permit, asset=offer.asset), offer)) == "asset_not_allowed"


def test_any_asset_is_served_when_that_is_wanted(ground: Ground, tmp_path: Path) -> None:
    assert ground.devnet is not None
    token = place(ground.devnet.chain, fresh().address)
    payer = ground.payer(0)
    ground.rpc.must(DEV_KEYS[0], token.address, encode_call("mint(address,uint256)", payer.address, FUNDS))
    offer = replace(offer_of(Method.EIP3009, fresh().address), asset=token.address, spender=None)
    body = request(payer.permit(offer, ground), offer)
    with Desk(ground, tmp_path) as desk:
        assert refused(desk, body) == "asset_not_allowed"
    (tmp_path / "any").mkdir()
    nothing = replace(offer, asset=fresh().address)
    with Desk(ground, tmp_path / "any", assets=None) as desk:
        assert refused(desk, request(payer.permit(nothing, ground), nothing)) == "asset_not_deployed_contract"
        assert desk.settle(body)["success"] is True
        assert ground.rpc.balance(token.address, Address(offer.pay_to)) == PRICE


def test_only_some_payees_are_served(ground: Ground, tmp_path: Path) -> None:
    sale, other = Sale(ground), Sale(ground)
    with Desk(ground, tmp_path, payees=[sale.pay_to.upper().replace("0X", "0x")]) as desk:
        assert refused(desk, other.body) == "payee_not_allowed"
        assert desk.settle(sale.body)["success"] is True


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"payees": ["0x12"]}, "payees"),
        ({"factories": ["nobody"]}, "factories"),
        ({"managers": ["nobody"]}, "managers"),
        ({"assets": ["doge"]}, "assets"),
        ({"assets": ["eip155:84532/0x12"]}, "assets"),
        ({"assets": ["eip155:84532/0x" + "12" * 20]}, "assets"),
        ({"assets": "usdc"}, "assets"),
        ({"payees": "0x" + "12" * 20}, "payees"),
        ({"rpc": "http://127.0.0.1:1"}, "rpc"),
        ({"rpc": {}}, "rpc"),
        ({"ledger": None}, "ledger"),
        ({"patience": -1}, "patience"),
        ({"key": None}, "key"),
        ({"key": b"short"}, "key"),
    ],
)
def test_misconfiguration_is_refused_at_start_up(
    ground: Ground, tmp_path: Path, options: dict[str, Any], field: str, desk: Desk
) -> None:
    given: dict[str, Any] = {"key": desk.key, "rpc": {NETWORK: ground.url}, "ledger": "memory:", **options}
    with pytest.raises(LocalProtocolError) as caught:
        type(desk.facilitator)(**given)
    assert caught.value.field == field


# ----------------------------------------------------------------------------------------------------------------- quotas


def test_a_payer_is_settled_for_so_often(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    sales = [Sale(ground, payer=payer) for _ in range(3)]
    with Desk(ground, tmp_path, quota=Quota(settlements=2)) as desk:
        told = [desk.settle(sale.body) for sale in sales]
        assert [each["success"] for each in told] == [True, True, False]
        assert told[2]["errorReason"] == "payer_quota_exceeded"
        assert [desk.settle(sale.body)["success"] for sale in sales] == [True, True, False]  # what was settled stays told
        assert desk.settle(Sale(ground).body)["success"] is True  # another payer's quota is his own
        assert desk.sent == 3


def test_a_quota_of_one_and_the_same_settle_eight_times_at_once(ground: Ground, tmp_path: Path) -> None:
    """None of them may hear that it is too many: the payment is being settled."""
    sale = Sale(ground)
    with Desk(ground, tmp_path, quota=Quota(settlements=1)) as desk, ThreadPoolExecutor(8) as pool:
        told = list(pool.map(desk.settle, [sale.body] * 8))
    assert [each["success"] for each in told] == [True] * 8
    assert sale.earned == PRICE


def test_hostile_strangers_cannot_use_up_a_payers_quota(ground: Ground, tmp_path: Path) -> None:
    """Sixty-five bytes that are nobody's signature may be a contract's, for all we know before we have asked the chain."""
    sale = Sale(ground)
    with Desk(ground, tmp_path, quota=Quota(settlements=1)) as desk:
        for number in range(3):
            permit = replace(sale.permit, nonce=Hash32(f"0x{number:064x}"), signature=nobodys())
            assert desk.settle(request(permit, sale.offer))["success"] is False
        assert desk.settle(sale.body)["success"] is True


def test_wallets_are_deployed_so_often(town: Town, tmp_path: Path) -> None:
    quota = Quota(deployments=1, deployments_in_all=1)
    bodies, wallets = [], []
    for number in range(2):
        wallet = SmartWallet.of(town.placed, secrets.token_bytes(32), number.to_bytes(32, "big"))
        town.ground.mint(wallet.address)
        offer = replace(offer_of(Method.EIP3009, fresh().address), spender=None)
        now, nonce = Seconds(town.ground.rpc.now()), Hash32(f"0x{number:064x}")
        permit = of(offer).prepare(offer, wallet.address, now=now, validity=Seconds(300), nonce=nonce, facts=None)
        signature = wallet.sign_undeployed(of(offer).digest(permit, offer))
        bodies.append(request(replace(permit, signature=signature), offer))
        wallets.append(wallet)
    with Desk(town.ground, tmp_path) as nobodys:
        assert refused(nobodys, bodies[0]) == "eip6492_factory_not_allowed"
    (tmp_path / "x").mkdir()
    with Desk(town.ground, tmp_path / "x", factories=[town.placed.factory], quota=quota) as desk:
        told = [desk.settle(body) for body in bodies]
        assert [each["success"] for each in told] == [True, False]
        assert told[1]["errorReason"] == "payer_quota_exceeded"
        assert [wallet.deployed for wallet in wallets] == [True, False]
        assert town.ground.balance(wallets[0].address) == FUNDS - PRICE
        assert desk.settle(bodies[0]) == told[0]


def test_replay_with_other_bytes_for_a_wallets_signature_is_told_nothing(town: Town, tmp_path: Path) -> None:
    """What a wallet paid is public on the chain; whoever puts rubbish where its signature was has not paid."""
    wallet = SmartWallet.of(town.placed, secrets.token_bytes(32), b"\x07" * 32)
    wallet.deploy()
    town.ground.mint(wallet.address)
    offer = replace(offer_of(Method.EIP3009, fresh().address), spender=None)
    now, nonce = Seconds(town.ground.rpc.now()), Hash32("0x" + "09" * 32)
    permit = of(offer).prepare(offer, wallet.address, now=now, validity=Seconds(300), nonce=nonce, facts=None)
    permit = replace(permit, signature=wallet.sign_long(of(offer).digest(permit, offer)))
    with Desk(town.ground, tmp_path) as desk:
        told = desk.settle(request(permit, offer))
        assert told["success"] is True, told
        forged = replace(permit, signature=b"\0" + nobodys())
        assert desk.settle(request(forged, offer))["success"] is False
        assert desk.settle(request(permit, offer)) == told


def test_a_quota_is_for_a_window_of_time() -> None:
    now = 0
    book = QuotaBook(Quota(settlements=1, window=HOUR), lambda: Millis(now))

    def admitted(key: str) -> bool:
        return book.admit(AdmitPayer(Address("0x" + "11" * 20), NETWORK, key))

    assert [admitted("a"), admitted("b"), admitted("a")] == [True, False, True]
    now = HOUR * 1000
    assert [admitted("b"), admitted("a")] == [True, False]


@pytest.mark.parametrize("field", ["settlements", "delegations", "window", "deployments", "deployments_in_all"])
def test_a_quota_that_makes_no_sense(field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Quota(**{field: -1})
    assert caught.value.field == field
