"""Delegations (ERC-7710) at a facilitator: by an allowed manager only, each once, and nothing counted against a stranger."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.chains import USDC
from tests.contracts.accounts import SmartWallet, context_of, delegated, struct_hash
from tests.facilitator.desk import Desk, Town, request
from tests.shop import FUNDS, NETWORK, PRICE, fresh, offer_of
from x402bind.facilitator.quota import Quota
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError
from x402core.events import Dialect, Erc7710Permit, Method, Offer
from x402core.evm.delegation import Caveat, Delegation
from x402core.policy import offers
from x402core.schemes import of
from x402core.values import Address, Hash32, Seconds


@dataclass
class Delegated:
    """A wallet that lets a facilitator's account spend three prices, and what it would buy."""

    town: Town
    desk: Desk
    wallet: SmartWallet
    root: Delegation

    @classmethod
    def by(cls, town: Town, desk: Desk, wallet: SmartWallet | None = None) -> Delegated:
        if wallet is None:
            wallet = SmartWallet.of(town.placed, secrets.token_bytes(32))
            wallet.deploy()
            wallet.enable(town.placed.manager)
            town.ground.mint(wallet.address)
        salt = secrets.token_bytes(32)
        root = delegated(town.placed.manager, wallet, USDC, 3 * PRICE, to=desk.account, salt=salt)
        return cls(town, desk, wallet, root)

    def offer(self, pay_to: str) -> Offer:
        return offered(pay_to, self.desk.account)

    def body(self, pay_to: str, context: bytes | None = None, manager: Address | None = None) -> dict[str, Any]:
        offer = self.offer(pay_to)
        payer, context = self.wallet.address, context or context_of(self.root)
        manager = manager or self.town.placed.manager
        permit = Erc7710Permit(NETWORK, USDC, payer, offer.pay_to, offer.amount, manager, context, Seconds(0))
        return request(permit, offer)

    @property
    def left(self) -> int:
        return self.town.ground.balance(self.wallet.address)


def offered(pay_to: str, account: str) -> Offer:
    (offer,) = offers("$0.01", NETWORK, pay_to, dialects=(Dialect.V2,), methods=("erc7710",), facilitator=account)
    return offer


def opened(town: Town, folder: Path, **how: Any) -> Desk:
    return Desk(town.ground, folder, **{"managers": [town.placed.manager], **how})


def refused(desk: Desk, body: dict[str, Any]) -> str:
    """Demand that a payment is refused, by /verify and /settle alike, and return why."""
    told, verified = desk.settle(body), desk.verify(body)
    assert (told["success"], verified["isValid"], told["transaction"]) == (False, False, "")
    assert told["errorReason"] == verified["invalidReason"]
    return str(told["errorReason"])


def test_no_delegation_is_taken_unless_its_manager_is_named(town: Town, tmp_path: Path) -> None:
    with Desk(town.ground, tmp_path) as desk:
        mine = Delegated.by(town, desk)
        assert refused(desk, mine.body(fresh().address)) == "invalid_payload"
        assert town.placed.manager in str(desk.verify(mine.body(fresh().address)))
        assert "7710" not in desk.get("/supported").text
        assert (desk.sent, mine.left) == (0, FUNDS)


def test_replay_of_a_delegation_in_any_other_spelling(town: Town, tmp_path: Path) -> None:
    """Two prices are left in it, and everybody has seen it on the chain: it bought what it bought."""
    with opened(town, tmp_path) as desk:
        mine, seller, thief = Delegated.by(town, desk), fresh().address, fresh().address
        paid = mine.body(seller)
        assert desk.verify(paid)["isValid"] is True
        told = desk.settle(paid)
        assert told["success"] is True, told
        assert desk.settle(paid) == told
        context, (caveat,) = context_of(mine.root), mine.root.caveats
        shifted = (64).to_bytes(32, "big") + bytes(32) + context[32:]
        for other in (context + b"\0", context + bytes(32), shifted):
            assert refused(desk, mine.body(thief, other)) == "invalid_payload"
        varied = replace(mine.root, caveats=(Caveat(caveat.enforcer, caveat.terms, b"mine now"),))
        long = replace(mine.root, signature=b"\0" + mine.root.signature)  # the wallet knows both
        for other in (context, context_of(varied), context_of(long)):
            stolen = desk.settle(mine.body(thief, other))
            assert (stolen["success"], stolen["errorReason"]) == (False, "payment_already_used_for_another_request"), stolen
            assert (mine.left, town.ground.balance(thief)) == (FUNDS - PRICE, 0)
        assert desk.settle(mine.body(seller, context_of(long)))["success"] is False  # nor is he told what became of it
        assert (town.ground.balance(seller), desk.sent) == (PRICE, 1)


def test_replay_of_an_open_delegation_behind_a_leaf_of_the_thiefs(town: Town, tmp_path: Path) -> None:
    with opened(town, tmp_path) as desk:
        mine, thief = Delegated.by(town, desk), Delegated.by(town, desk)
        mine.root = delegated(town.placed.manager, mine.wallet, USDC, 3 * PRICE)
        assert desk.settle(mine.body(fresh().address))["success"] is True
        leaf = delegated(town.placed.manager, thief.wallet, USDC, PRICE, to=desk.account, authority=struct_hash(mine.root))
        stolen = desk.settle(mine.body(fresh().address, context_of(leaf, mine.root)))
        assert (stolen["success"], mine.left, desk.sent) == (False, FUNDS - PRICE, 1)


def test_hostile_managers_and_accounts_cost_no_gas(town: Town, tmp_path: Path) -> None:
    stops = Address("0x" + secrets.token_hex(20))
    town.ground.rpc("anvil_setCode", stops, "0x00")
    with opened(town, tmp_path) as desk:
        mine = Delegated.by(town, desk)
        assert refused(desk, mine.body(fresh().address, manager=stops)) == "invalid_payload"
        liar = replace(mine.wallet, address=Address("0x" + secrets.token_hex(20)))
        town.ground.mint(liar.address)
        town.ground.rpc("anvil_setCode", liar.address, "0x7f1626ba7e" + "00" * 28 + "60005260206000f3")
        lying = Delegated.by(town, desk, liar)
        assert refused(desk, lying.body(fresh().address)) == "invalid_exact_evm_transaction_simulation_failed"
        assert desk.sent == 0


def test_hostile_delegations_use_up_nobodys_quota_but_their_managers(town: Town, tmp_path: Path) -> None:
    with opened(town, tmp_path, quota=Quota(settlements=1, delegations=2)) as desk:
        mine = Delegated.by(town, desk)
        assert desk.settle(mine.body(fresh().address))["success"] is True
        offer = replace(offer_of(Method.EIP3009, fresh().address), spender=None)
        now, nonce = Seconds(town.ground.rpc.now()), Hash32("0x" + secrets.token_hex(32))
        permit = of(offer).prepare(offer, mine.wallet.address, now=now, validity=Seconds(300), nonce=nonce, facts=None)
        signed = replace(permit, signature=mine.wallet.sign_long(of(offer).digest(permit, offer)))
        assert desk.settle(request(signed, offer))["success"] is True  # his own quota is untouched
        assert desk.settle(Delegated.by(town, desk).body(fresh().address))["success"] is True
        third = desk.settle(Delegated.by(town, desk).body(fresh().address))
        assert (third["success"], third["errorReason"]) == (False, "payer_quota_exceeded")


@pytest.mark.parametrize("scheme", ["methods", "offers"])
def test_a_seller_offers_delegations_only_with_a_manager(town: Town, scheme: str) -> None:
    given: dict[str, Any] = {"key": b"k" * 32, "rpc": {NETWORK: town.ground.url}, "ledger": "memory:"}
    manager = town.placed.manager

    def terms(**how: Any) -> Any:
        if scheme == "methods":
            return Seller(**given, methods=("erc7710",), **how).terms("$0.01", "/paid")
        return Seller(**given, **how).terms((offered(fresh().address, fresh().address),), "/paid")

    with pytest.raises(LocalProtocolError) as caught:
        terms()
    assert caught.value.field == "managers"
    assert terms(managers=(manager,)).wallets.managers == {manager}
