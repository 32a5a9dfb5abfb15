"""``exact`` by EIP-3009 ``transferWithAuthorization`` (x402.md 2.1): one signature, one transaction, anyone may submit it.

Because anyone may, "our transaction reverted" is never the question.  The question is whether the token says the
authorization was used, and whether the transaction that used it moved exactly this amount to this payee (law 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Final

from x402core.errors import Reason, Refusal
from x402core.events import Eip3009Permit, Method, Offer
from x402core.evm import abi, digests
from x402core.reads import (
    AuthorizationState,
    AuthorizationTrace,
    BalanceOf,
    CodeAt,
    Facts,
    Read,
    Simulate,
    SimulateAll,
    TxReceipt,
)
from x402core.values import Address, Hash32, Seconds, chain_id

from .scheme import Call, Closing, moved, same_asset, topic, window
from .wallets import DEPLOY_GAS, SignedBy, Wallets, deployment, inner, plan_signature, refuse_signature, signed_by

__all__ = ["AUTHORIZATION_CANCELED", "AUTHORIZATION_USED", "Eip3009"]

AUTHORIZATION_USED: Final = Hash32("0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5")
AUTHORIZATION_CANCELED: Final = Hash32("0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81")
_TRANSFER_WITH: Final = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
_TRANSFER_WITH_BYTES: Final = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
_SELECTOR: Final = bytes.fromhex("e3ee160e")  # of _TRANSFER_WITH (x402.md 2.0)
_PAD: Final = bytes(12)
_GAS: Final = 300_000  # real FiatTokenV2_2: 85.7k, 102.8k for a payee's first coin (measurements.md 5); a wallet's check


class Eip3009:
    """EIP-3009 on EVM chains."""

    scheme: ClassVar[str] = "exact"
    method: ClassVar[Method] = Method.EIP3009
    namespace: ClassVar[str] = "eip155"
    expired: ClassVar[Reason] = Reason.VALID_BEFORE

    def digest(self, permit: Eip3009Permit, offer: Offer) -> bytes:
        """Return the EIP-712 digest of the ``TransferWithAuthorization``."""
        domain = digests.domain(offer.name, offer.version, chain_id(permit.network), permit.asset)
        return digests.transfer_authorization_digest(
            domain, permit.payer, permit.pay_to, permit.amount, permit.valid_after, permit.valid_before, permit.nonce
        )

    def typed_data(self, permit: Eip3009Permit, offer: Offer) -> Mapping[str, object]:
        """Return the typed data a wallet shows."""
        return digests.transfer_authorization_typed_data(
            offer.name,
            offer.version,
            chain_id(permit.network),
            permit.asset,
            permit.payer,
            permit.pay_to,
            permit.amount,
            permit.valid_after,
            permit.valid_before,
            permit.nonce,
        )

    def needs(self, offer: Offer, payer: Address) -> tuple[Read[Any], ...]:
        """Need nothing: the nonce is random."""
        return ()

    def prepare(
        self, offer: Offer, payer: Address, *, now: Seconds, validity: Seconds, nonce: Hash32, facts: Facts | None
    ) -> Eip3009Permit:
        """Return the unsigned authorization, valid at once (``validAfter`` 0, as the official clients do)."""
        return Eip3009Permit(
            network=offer.network,
            asset=offer.asset,
            payer=payer,
            pay_to=offer.pay_to,
            amount=offer.amount,
            valid_after=Seconds(0),
            valid_before=Seconds(now + validity),
            nonce=nonce,
            signature=b"",
        )

    def check(self, permit: Eip3009Permit, offer: Offer, wallets: Wallets) -> SignedBy | Refusal:
        """Refuse a wrong chain, token, payee, amount or signature."""
        if (wrong := same_asset(permit.network, permit.asset, offer)) is not None:
            return wrong
        if permit.pay_to != offer.pay_to:
            return Refusal(Reason.RECIPIENT_MISMATCH, "authorization.to is not the offer's payTo")
        if permit.amount != offer.amount:
            return Refusal(Reason.VALUE_MISMATCH, f"authorization.value is {permit.amount}, the offer asks {offer.amount}")
        return signed_by(permit.payer, self.digest(permit, offer), permit.signature, wallets)

    def window(self, permit: Eip3009Permit, offer: Offer, now: Seconds) -> Refusal | None:
        """Refuse an authorization outside its window at ``now``."""
        return window(permit.valid_after, permit.valid_before, offer, now)

    def plan(self, permit: Eip3009Permit, offer: Offer, by: SignedBy) -> tuple[Read[Any], ...]:
        """Read the authorization's state, the payer's balance, a simulation, and what a contract says of its signature."""
        asked = (AuthorizationState(permit.asset, permit.payer, permit.nonce), BalanceOf(permit.asset, permit.payer))
        if by is SignedBy.KEY:
            return (*asked, Simulate(permit.asset, _by_key(permit)))
        move = self.calls(replace(permit, signature=inner(permit.signature)), offer)[-1]
        first = plan_signature(by, permit.payer, self.digest(permit, offer), permit.signature)
        if by is not SignedBy.UNDEPLOYED:
            return (*asked, Simulate(move.to, move.data), *first)
        made = deployment(permit.signature)
        assert made is not None
        return (*asked, Simulate(move.to, move.data), SimulateAll((made, (move.to, move.data))), *first)

    def judge(
        self, permit: Eip3009Permit, offer: Offer, by: SignedBy, facts: Facts, reads: tuple[Read[Any], ...]
    ) -> Refusal | None:
        """Refuse a used authorization, a stranger's signature, a poor payer, and whatever else the token itself refuses."""
        used, balance, simulated, *more = (facts.of(read) for read in reads[:4])
        if used:
            return Refusal(Reason.NONCE_USED, "this authorization was already used or cancelled")
        if by is not SignedBy.KEY:
            digest = self.digest(permit, offer)
            if (wrong := refuse_signature(by, permit.payer, digest, permit.signature, facts)) is not None:
                return wrong
            if by is SignedBy.UNDEPLOYED and not facts.of(CodeAt(permit.payer)):
                simulated = more[0]
        if balance < permit.amount:
            return Refusal(Reason.INSUFFICIENT_FUNDS, "the payer's balance is below the amount")
        if not simulated.ok:
            return Refusal(Reason.SIMULATION_FAILED, "the token refuses this authorization")
        return None

    def calls(self, permit: Eip3009Permit, offer: Offer) -> tuple[Call, ...]:
        """Return the transfer, after the deployment of a wallet whose signature brings one (it may have been made since)."""
        if len(permit.signature) == 65:
            return (Call(permit.asset, _by_key(permit), _GAS),)
        signature = inner(permit.signature)
        fields = (
            permit.payer,
            permit.pay_to,
            permit.amount,
            permit.valid_after,
            permit.valid_before,
            bytes.fromhex(permit.nonce[2:]),
        )
        if len(signature) == 65:
            data = abi.encode_call(_TRANSFER_WITH, *fields, signature[64], signature[:32], signature[32:64])
        else:
            data = abi.encode_call(_TRANSFER_WITH_BYTES, *fields, signature)
        move = Call(permit.asset, data, _GAS)
        made = deployment(permit.signature)
        return (move,) if made is None else (Call(*made, DEPLOY_GAS), move)

    def preludes(self, permit: Eip3009Permit) -> tuple[bytes, ...]:
        """Need nobody else's transactions."""
        return ()

    def paid(self, permit: Eip3009Permit, offer: Offer, receipt: TxReceipt) -> bool:
        """Demand, in one successful transaction, the authorization's use and, as the token's next log, exactly this transfer.

        Next, because one transaction may execute many authorizations: a transfer proves the one it follows and no other.
        """
        used = (AUTHORIZATION_USED, topic(permit.payer), permit.nonce)
        logs = [log for log in receipt.logs if log.address == permit.asset]
        pairs = pairwise(logs)
        return receipt.ok and any(log.topics == used and moved(after, offer, permit.payer) for log, after in pairs)

    def closing(self, permit: Eip3009Permit, offer: Offer, since: int) -> tuple[Read[Any], ...]:
        """Ask the token whether it is used, and for the transaction that did it."""
        return (
            AuthorizationState(permit.asset, permit.payer, permit.nonce),
            AuthorizationTrace(permit.asset, permit.payer, permit.nonce, since),
        )

    def close(
        self, permit: Eip3009Permit, offer: Offer, facts: Facts, mined: TxReceipt | None
    ) -> tuple[Closing, TxReceipt | None]:
        """Say what the token says; a state without its log is not believed but asked again."""
        used = facts.of(AuthorizationState(permit.asset, permit.payer, permit.nonce))
        trace = next(value for read, value in facts.answers.items() if isinstance(read, AuthorizationTrace))
        if isinstance(trace, TxReceipt):
            if self.paid(permit, offer, trace):
                return Closing.USED, trace
            return Closing.CANCELLED, trace  # cancelled, or its nonce was spent on another authorization
        if not used and facts.time >= permit.valid_before:
            return Closing.UNUSED_FINAL, None
        return Closing.UNUSED_YET, None


def _by_key(permit: Eip3009Permit) -> bytes:
    """Return the calldata for a key's signature, joined by hand: it is made for every payment (``abi`` gives the same)."""
    signature = permit.signature
    return b"".join(
        (
            _SELECTOR,
            _PAD,
            bytes.fromhex(permit.payer[2:]),
            _PAD,
            bytes.fromhex(permit.pay_to[2:]),
            permit.amount.to_bytes(32, "big"),
            permit.valid_after.to_bytes(32, "big"),
            permit.valid_before.to_bytes(32, "big"),
            bytes.fromhex(permit.nonce[2:]),
            signature[64].to_bytes(32, "big"),
            signature[:64],
        )
    )
