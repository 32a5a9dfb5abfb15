"""Payers that are contracts, and a client by hand for what no client library pays: both from the core's own pieces.

An account by ERC-1271 pays through any client whose signer it is.  The client by hand takes the rest: signatures longer than
a key's, delegations (ERC-7710), and approvals to be sent before the payment.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx

from tests.chains import GWEI, PERMIT2, USDC
from tests.contracts import place_all
from tests.contracts.accounts import SmartWallet, delegate, permission
from tests.peers.matrix import Purchase, Row, account, approve_permit2
from tests.peers.official import Bought
from tests.peers.ours import seen
from tests.shop import Ground, Payer
from x402core.commands import SignTypedData
from x402core.events import Challenge, Erc7710Permit, Method, Offer, Payment, Permit, ResponseHead, SponsoredApproval
from x402core.evm.abi import encode_call
from x402core.schemes import of
from x402core.values import Address, Hash32, Seconds
from x402core.wire import http, identifier, v2

APPROVE = encode_call("approve(address,uint256)", PERMIT2, 2**256 - 1)


@dataclass(frozen=True)
class ContractSigner:
    """Signs for a contract, as its owner does."""

    address: Address
    make: Callable[[bytes], bytes]

    def sign(self, command: SignTypedData) -> bytes:
        return self.make(command.digest)


@dataclass
class WalletPayer(Payer):
    """A payer that is a smart wallet; ``key`` is its owner's."""

    signer: Any
    wallet: SmartWallet


# ------------------------------------------------------------------------------------------------------------ the payers


def erc1271(ground: Ground, row: Row) -> WalletPayer:
    """A deployed wallet that signs 65 bytes."""
    payer = _wallet(ground, "sign")
    payer.wallet.deploy()
    if row.approved:
        payer.wallet.execute(USDC, APPROVE)
    return payer


def erc1271_long(ground: Ground, row: Row) -> WalletPayer:
    """A deployed wallet that signs 66 bytes, which no key could have made."""
    payer = erc1271(ground, row)
    payer.signer = ContractSigner(payer.wallet.address, payer.wallet.sign_long)
    return payer


def erc6492(ground: Ground, _: Row) -> WalletPayer:
    """A wallet that is not deployed yet; it can have approved nothing."""
    return _wallet(ground, "sign_undeployed")


def erc7710(ground: Ground, _: Row) -> WalletPayer:
    """A deployed wallet that lets a delegation manager execute its calls."""
    payer = _wallet(ground, "sign")
    payer.wallet.deploy()
    payer.wallet.enable(place_all(ground.rpc).manager)
    return payer


def eip7702(ground: Ground, row: Row) -> Payer:
    """A key's account that has delegated to a contract."""
    payer = account(ground, replace(row, method="eip3009"))
    delegate(ground.rpc, payer.key, place_all(ground.rpc).delegate)
    if row.approved:
        approve_permit2(ground, payer)
    return payer


def _wallet(ground: Ground, how: str) -> WalletPayer:
    key = secrets.token_bytes(32)
    wallet = SmartWallet.of(place_all(ground.rpc), key)
    ground.mint(wallet.address)
    return WalletPayer(key, ContractSigner(wallet.address, getattr(wallet, how)), wallet)


# ------------------------------------------------------------------------------------------------------ the client by hand


def by_hand(purchase: Purchase) -> Bought:
    """Ask, sign what is asked by the row's method, and ask again."""
    method = Method("permit2" if purchase.row.method.startswith("upto") else purchase.row.method.partition("-")[0])
    with httpx.Client(timeout=60, verify=False) as plain:
        challenge = _challenge(plain.get(purchase.url))
        offer = next(each for each in challenge.offers if each.method is method)
        permit = _permit(purchase, offer)
        extensions = identifier.identified(challenge.extensions, "pay_" + secrets.token_hex(16))
        payment = Payment(permit, offer, challenge.resource, extensions)
        response = plain.get(purchase.url, headers={v2.PAYMENT_SIGNATURE: v2.encode_payment(payment)})
        return seen(response.request.headers, response)


def _challenge(response: httpx.Response) -> Challenge:
    headers = tuple((name.decode(), value.decode()) for name, value in response.headers.raw)
    return http.decode_402(ResponseHead(response.status_code, headers, response.content))


def _permit(purchase: Purchase, offer: Offer) -> Permit:
    payer, ground = purchase.payer, purchase.ground
    now = Seconds(int(time.time()))
    if offer.method is Method.ERC7710:
        assert isinstance(payer, WalletPayer)
        manager, to = place_all(ground.rpc).manager, offer.facilitator
        assert to is not None
        context = permission(manager, payer.wallet, USDC, offer.amount, to=to, salt=secrets.token_bytes(32))
        return Erc7710Permit(offer.network, USDC, payer.address, offer.pay_to, offer.amount, manager, context, now)
    scheme, nonce = of(offer), Hash32("0x" + secrets.token_hex(32))
    permit = scheme.prepare(offer, payer.address, now=now, validity=Seconds(240), nonce=nonce, facts=None)
    asked = SignTypedData(payer.address, scheme.digest(permit, offer), scheme.typed_data(permit, offer))
    signed: Any = replace(permit, signature=payer.signer.sign(asked))
    if purchase.row.method.endswith("-approval"):
        raw = ground.rpc.sign(payer.key, USDC, APPROVE, gas=70_000, fee=5 * GWEI)
        return replace(signed, sponsor=SponsoredApproval(bytes.fromhex(raw[2:])))
    return signed
