"""EIP-2612 ``permit`` followed by ``transferFrom``: the permit-token flow's way to move money (seeds.md 1.4).

Two transactions of one account, with neighbouring numbers.  The permit may be front-run by anybody (it only sets an
allowance), so its own success does not matter: the transfer that follows is the payment, and only the spender can make it.
That is why the proof is our own transaction's ``Transfer`` log, and why a reverted transfer at a final depth is final.

x402-mock sends the permit only, never the transfer (defect A1): its seller is not paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Eip2612Permit, Method, Offer
from x402core.evm import abi, digests, secp256k1
from x402core.reads import Allowance, BalanceOf, Facts, PermitNonce, Read, Simulate, TxReceipt
from x402core.values import Address, Hash32, Seconds, chain_id

from .scheme import Call, Closing, moved, same_asset, window
from .wallets import SignedBy, Wallets

__all__ = ["Eip2612", "spender"]

_PERMIT: Final = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
_TRANSFER_FROM: Final = "transferFrom(address,address,uint256)"
_GAS: Final = 150_000  # each; real FiatTokenV2_2 needs about 80k and 65k


def spender(offer: Offer) -> Address:
    """Return the account that submits the permit and the transfer: the payee, unless the offer names another."""
    return offer.pay_to if offer.spender is None else offer.spender


class Eip2612:
    """EIP-2612 on EVM chains."""

    scheme: ClassVar[str] = "exact"
    method: ClassVar[Method] = Method.EIP2612
    namespace: ClassVar[str] = "eip155"
    expired: ClassVar[Reason] = Reason.VALID_BEFORE

    def digest(self, permit: Eip2612Permit, offer: Offer) -> bytes:
        """Return the EIP-712 digest of the ``Permit``."""
        domain = digests.domain(offer.name, offer.version, chain_id(permit.network), permit.asset)
        return digests.permit_digest(domain, permit.payer, permit.spender, permit.amount, permit.nonce, permit.deadline)

    def typed_data(self, permit: Eip2612Permit, offer: Offer) -> Mapping[str, object]:
        """Return the typed data a wallet shows."""
        return digests.permit_typed_data(
            offer.name,
            offer.version,
            chain_id(permit.network),
            permit.asset,
            permit.payer,
            permit.spender,
            permit.amount,
            permit.nonce,
            permit.deadline,
        )

    def needs(self, offer: Offer, payer: Address) -> tuple[Read[Any], ...]:
        """Need the token's nonce of the payer: a permit states it."""
        return (PermitNonce(offer.asset, payer),)

    def prepare(
        self, offer: Offer, payer: Address, *, now: Seconds, validity: Seconds, nonce: Hash32, facts: Facts | None
    ) -> Eip2612Permit:
        """Return the unsigned permit; the random ``nonce`` is not used, the token counts its own."""
        if facts is None:
            raise LocalProtocolError("an EIP-2612 permit needs the token's nonce", field="facts")
        return Eip2612Permit(
            network=offer.network,
            asset=offer.asset,
            payer=payer,
            spender=spender(offer),
            amount=offer.amount,
            nonce=facts.of(PermitNonce(offer.asset, payer)),
            deadline=Seconds(now + validity),
            signature=b"",
        )

    def check(self, permit: Eip2612Permit, offer: Offer, wallets: Wallets) -> SignedBy | Refusal:
        """Refuse a wrong chain (defect A4), token, spender, amount or signature; only keys sign these."""
        if (wrong := same_asset(permit.network, permit.asset, offer)) is not None:
            return wrong
        if permit.spender != spender(offer):
            return Refusal(Reason.RECIPIENT_MISMATCH, "permit.spender is not the seller's account")
        if permit.amount != offer.amount:
            return Refusal(Reason.VALUE_MISMATCH, f"permit.value is {permit.amount}, the offer asks {offer.amount}")
        try:
            signer = secp256k1.recover(self.digest(permit, offer), permit.signature)
        except RemoteProtocolError as error:
            return Refusal(Reason.SIGNATURE, f"permit.signature: {error.text}")
        if signer != permit.payer:
            return Refusal(Reason.SIGNATURE, "permit.signature is not permit.owner's")
        return SignedBy.KEY

    def window(self, permit: Eip2612Permit, offer: Offer, now: Seconds) -> Refusal | None:
        """Refuse a permit past, or too near, or too far from its deadline."""
        return window(Seconds(0), permit.deadline, offer, now)

    def plan(self, permit: Eip2612Permit, offer: Offer, by: SignedBy) -> tuple[Read[Any], ...]:
        """Read the token's nonce, the payer's balance and a simulation of the permit, all at one block."""
        call = self.calls(permit, offer)[0]
        return (
            PermitNonce(permit.asset, permit.payer),
            BalanceOf(permit.asset, permit.payer),
            Simulate(call.to, call.data, permit.spender),
        )

    def judge(
        self, permit: Eip2612Permit, offer: Offer, by: SignedBy, facts: Facts, reads: tuple[Read[Any], ...]
    ) -> Refusal | None:
        """Refuse a used or future nonce, a poor payer, and whatever else the token itself refuses."""
        nonce, balance, simulated = (facts.of(read) for read in reads)
        if permit.nonce < nonce:
            return Refusal(Reason.NONCE_USED, "the token has moved past this permit's nonce")
        if permit.nonce > nonce:
            return Refusal(Reason.PERMIT_NONCE, f"permit.nonce is {permit.nonce}, the token's is {nonce}")
        if balance < permit.amount:
            return Refusal(Reason.INSUFFICIENT_FUNDS, "the payer's balance is below the amount")
        if not simulated.ok:
            return Refusal(Reason.SIMULATION_FAILED, "the token refuses this permit")
        return None

    def calls(self, permit: Eip2612Permit, offer: Offer) -> tuple[Call, ...]:
        """Return the permit and the transfer that uses it."""
        signature = permit.signature
        allow = abi.encode_call(
            _PERMIT,
            permit.payer,
            permit.spender,
            permit.amount,
            permit.deadline,
            signature[64],
            signature[:32],
            signature[32:64],
        )
        move = abi.encode_call(_TRANSFER_FROM, permit.payer, offer.pay_to, permit.amount)
        return (Call(permit.asset, allow, _GAS), Call(permit.asset, move, _GAS))

    def preludes(self, permit: Eip2612Permit) -> tuple[bytes, ...]:
        """Need nobody else's transactions."""
        return ()

    def paid(self, permit: Eip2612Permit, offer: Offer, receipt: TxReceipt) -> bool:
        """Demand exactly this transfer in a successful transaction (of ours: nobody else can make it)."""
        return receipt.ok and any(moved(log, offer, permit.payer) for log in receipt.logs)

    def closing(self, permit: Eip2612Permit, offer: Offer, since: int) -> tuple[Read[Any], ...]:
        """Ask for the token's nonce and the allowance left to the spender."""
        return (
            PermitNonce(permit.asset, permit.payer),
            Allowance(permit.asset, permit.payer, permit.spender),
        )

    def close(
        self, permit: Eip2612Permit, offer: Offer, facts: Facts, mined: TxReceipt | None
    ) -> tuple[Closing, TxReceipt | None]:
        """Call it final when nothing can move any more: the permit is dead, and no allowance is left to move by.

        Our own transfer failed for good (``mined``): final too, unless the permit itself was never executed because its
        transaction's number went to somebody else; then it may be tried again.
        """
        nonce, allowance = (facts.of(read) for read in self.closing(permit, offer, 0))
        dead = nonce > permit.nonce or facts.time > permit.deadline
        if mined is not None:
            return (Closing.UNUSED_FINAL if dead else Closing.UNUSED_RETRY), None
        if not dead:
            return Closing.UNUSED_YET, None
        return (Closing.UNUSED_FINAL if allowance < permit.amount else Closing.UNUSED_ALLOWED), None
