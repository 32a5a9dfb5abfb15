"""Permit2 as x402-mock 0.3.0 uses it: ``permitTransferFrom`` without a witness, executed by the spender the payer named.

Only the spender can execute such a permit, and it is the spender who says to whom the money goes: to the offer's payee.  The
contract is Permit2's own address, never one of the payer's choice (B2).  Everything else is as for x402's ``exact`` by Permit2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from x402core.errors import Reason, Refusal
from x402core.events import Offer, Permit2Permit
from x402core.evm import abi
from x402core.evm.address import checksum
from x402core.evm.digests import PERMIT2
from x402core.evm.eip712 import typed_data_digest
from x402core.reads import Allowance, BalanceOf, CodeAt, NonceBitmap, Read, Simulate, Traced, TransferTrace, TxReceipt
from x402core.values import Address, Hash32, Seconds, chain_id
from x402core.wire.permit_token3 import DIRECT

from .permit2 import Permit2Exact
from .scheme import Call, moved
from .wallets import SignedBy, Wallets

__all__ = ["Permit2Direct", "spender_of"]

_CALL: Final = "permitTransferFrom(((address,uint256),uint256,uint256),(address,uint256),address,bytes)"
_GAS: Final = 300_000
_DOMAIN: Final = (("name", "string"), ("chainId", "uint256"), ("verifyingContract", "address"))
_PERMIT: Final = (("permitted", "TokenPermissions"), ("spender", "address"), ("nonce", "uint256"), ("deadline", "uint256"))
_TOKEN: Final = (("token", "address"), ("amount", "uint256"))


def _fields(*named: tuple[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in named]


def spender_of(offer: Offer) -> Address:
    """Return who executes a permit: the payee itself unless the offer says otherwise."""
    return offer.spender or offer.pay_to


class Permit2Direct(Permit2Exact):
    """Permit2 without proxy and witness."""

    scheme: ClassVar[str] = DIRECT
    proxy: ClassVar[Address] = PERMIT2
    _logs: ClassVar[bool] = False  # and nobody but the spender can execute one

    def typed_data(self, permit: Permit2Permit, offer: Offer) -> Mapping[str, object]:
        """Return the typed data a wallet shows."""
        return {
            "types": {
                "EIP712Domain": _fields(*_DOMAIN),
                "PermitTransferFrom": _fields(*_PERMIT),
                "TokenPermissions": _fields(*_TOKEN),
            },
            "primaryType": "PermitTransferFrom",
            "domain": {"name": "Permit2", "chainId": chain_id(permit.network), "verifyingContract": checksum(PERMIT2)},
            "message": {
                "permitted": {"token": checksum(permit.asset), "amount": str(permit.amount)},
                "spender": checksum(permit.spender),
                "nonce": str(permit.nonce),
                "deadline": str(permit.deadline),
            },
        }

    def digest(self, permit: Permit2Permit, offer: Offer) -> bytes:
        """Return the EIP-712 digest of the ``PermitTransferFrom``."""
        data: Any = self.typed_data(permit, offer)
        return typed_data_digest(data["types"], data["primaryType"], data["domain"], data["message"])

    def prepare(
        self, offer: Offer, payer: Address, *, now: Seconds, validity: Seconds, nonce: Hash32, facts: Any
    ) -> Permit2Permit:
        """Return the unsigned permit for the offer's spender."""
        spender = spender_of(offer)
        until, number = Seconds(now + validity), int(nonce, 16)
        return Permit2Permit(
            offer.network, offer.asset, payer, spender, offer.amount, spender, number, Seconds(0), until, b"", spender
        )

    def check(self, permit: Permit2Permit, offer: Offer, wallets: Wallets) -> SignedBy | Refusal:
        """Refuse a wrong chain, token, spender, amount or signature."""
        if permit.network != offer.network:
            return Refusal(Reason.NETWORK_MISMATCH, f"the permit is for {permit.network}, the offer for {offer.network}")
        if permit.asset != offer.asset:
            return Refusal(Reason.PERMIT2_TOKEN, "the permit is for another token than the offer")
        if permit.spender != spender_of(offer):
            return Refusal(Reason.PERMIT2_SPENDER, f"the spender must be {spender_of(offer)}, who settles here")
        if permit.amount != offer.amount:
            return Refusal(Reason.PERMIT2_AMOUNT, f"the permit is for {permit.amount}, the offer asks {offer.amount}")
        return self._signed_by(permit, offer, wallets)

    def _asked(self, permit: Permit2Permit, offer: Offer) -> tuple[Read[Any], ...]:
        (call,) = self.calls(permit, offer)
        return (
            CodeAt(permit.asset),
            CodeAt(PERMIT2),  # where x402 asks for its proxy
            NonceBitmap(permit.payer, permit.nonce >> 8),
            BalanceOf(permit.asset, permit.payer),
            Allowance(permit.asset, permit.payer, PERMIT2),
            Simulate(call.to, call.data, self._sender(offer), call.gas),
        )

    def _sender(self, offer: Offer) -> Address | None:
        return spender_of(offer)

    def _arguments(self, permit: Permit2Permit, offer: Offer) -> tuple[object, ...]:
        allowed = ((permit.asset, permit.amount), permit.nonce, permit.deadline)
        return allowed, (offer.pay_to, offer.amount), permit.payer, permit.signature

    def calls(self, permit: Permit2Permit, offer: Offer) -> tuple[Call, ...]:
        """Return the one call to Permit2."""
        return (Call(PERMIT2, abi.encode_call(_CALL, *self._arguments(permit, offer)), _GAS),)

    def paid(self, permit: Permit2Permit, offer: Offer, receipt: TxReceipt) -> bool:
        """Demand exactly this transfer, in a transaction known to be this permit's call and nothing else."""
        return receipt.ok and sum(moved(log, offer, permit.payer) for log in receipt.logs) == 1

    def closing(self, permit: Permit2Permit, offer: Offer, since: int) -> tuple[Read[Any], ...]:
        """Ask Permit2 whether the nonce is used, and for the transactions that may have used it for this payment."""
        return (
            NonceBitmap(permit.payer, permit.nonce >> 8),
            TransferTrace(permit.asset, permit.payer, offer.pay_to, since),
            BalanceOf(permit.asset, permit.payer),
            Allowance(permit.asset, permit.payer, PERMIT2),
        )

    def _executes(self, permit: Permit2Permit, offer: Offer, traced: Traced) -> bool:
        """Say whether a transaction is this payment's own call: compared whole, but for a suffix."""
        (call,) = self.calls(permit, offer)
        return traced.to == PERMIT2 and traced.data.startswith(call.data)
