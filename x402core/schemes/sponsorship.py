"""How Permit2 comes to be allowed to move the token when the payer has no gas: x402.md 3.1 and 3.2, checked.

A :class:`~x402core.events.SponsoredPermit` travels inside the payment (the proxy's ``settleWithPermit``); a
:class:`~x402core.events.SponsoredApproval` is the payer's own raw transaction, sent before ours.  The latter is paid for by
the payer: nobody here sends it gas money, so its account must have what the transaction may cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from x402core.errors import Reason, Refusal, RemoteProtocolError
from x402core.events import Offer, Permit2Permit, SponsoredApproval, SponsoredPermit
from x402core.evm import abi, digests, secp256k1
from x402core.evm.digests import PERMIT2
from x402core.evm.transaction import Transaction, decode_any
from x402core.reads import Facts, NativeBalance, Read, Simulate, TransactionCount
from x402core.values import Address, Seconds, chain_id

from .scheme import EXPIRY_MARGIN
from .wallets import SignedBy

__all__ = ["plan_sponsor", "refuse_sponsor", "refuse_sponsor_late", "refuse_unready"]

_APPROVE: Final = bytes.fromhex("095ea7b3")  # approve(address,uint256)


@dataclass(frozen=True, slots=True)
class _Approval:
    """What a raw approval says, whatever its type: ``price`` is wei it pays for gas at most, ``most`` what it may cost."""

    chain: int | None
    number: int
    gas: int
    price: int
    most: int
    to: Address | None
    data: bytes
    sender: Address


def refuse_sponsor(permit: Permit2Permit, offer: Offer, by: SignedBy) -> Refusal | None:
    """Refuse a sponsorship that cannot work, by what it says itself."""
    match permit.sponsor:
        case SponsoredPermit() as sponsor:
            return _refuse_permit(sponsor, permit, offer, by)
        case SponsoredApproval() as sponsor:
            return _refuse_approval(sponsor, permit)
        case None:
            return None


def refuse_sponsor_late(permit: Permit2Permit, now: Seconds) -> Refusal | None:
    """Refuse a sponsoring permit that ends too soon; an approval has no end."""
    if isinstance(permit.sponsor, SponsoredPermit) and permit.sponsor.deadline < now + EXPIRY_MARGIN:
        return Refusal(Reason.SPONSOR_PERMIT_DEADLINE, f"the token permit's deadline is less than {EXPIRY_MARGIN} seconds away")
    return None


def _refuse_permit(sponsor: SponsoredPermit, permit: Permit2Permit, offer: Offer, by: SignedBy) -> Refusal | None:
    """Check the amount, which the proxy wants equal, and the signature where the offer states the token's domain.

    A contract may have made 65 bytes of its own: its token permit the simulation judges.
    """
    if sponsor.amount != permit.amount:
        return Refusal(Reason.SPONSOR_PERMIT_AMOUNT, "the token permit's amount is not the permitted amount")
    if len(sponsor.signature) != 65:
        return Refusal(Reason.SPONSOR_PERMIT_FORMAT, "the token permit's signature is not 65 bytes")
    if by is not SignedBy.KEY or not offer.name or not offer.version:
        return None
    domain = digests.domain(offer.name, offer.version, chain_id(permit.network), permit.asset)
    digest = digests.permit_digest(domain, permit.payer, PERMIT2, sponsor.amount, sponsor.nonce, sponsor.deadline)
    try:
        signer = secp256k1.recover(digest, sponsor.signature)
    except RemoteProtocolError as error:
        return Refusal(Reason.SPONSOR_PERMIT_FORMAT, f"the token permit: {error.text}")
    if signer != permit.payer:
        return Refusal(Reason.SPONSOR_PERMIT_FROM, "the token permit is not signed by the payer")
    return None


def _read(sponsor: SponsoredApproval) -> _Approval:
    """Return what the raw transaction says.  Raises: RemoteProtocolError."""
    tx, sender = decode_any(sponsor.raw)
    price = tx.max_fee if isinstance(tx, Transaction) else tx.gas_price
    return _Approval(tx.chain_id, tx.nonce, tx.gas, price, tx.gas * price + tx.value, tx.to, tx.data, sender)


def _refuse_approval(sponsor: SponsoredApproval, permit: Permit2Permit) -> Refusal | None:
    """Check the transaction in the official order; the codes are x402.md 1.6's.

    Peers do not look at the chain nor at the amount: theirs would be sent, and the payment fail.
    """
    try:
        approval = _read(sponsor)
    except RemoteProtocolError as error:
        bad = Reason.SPONSOR_APPROVAL_SIGNATURE if error.reason is Reason.SIGNATURE else Reason.SPONSOR_APPROVAL_PARSE
        return Refusal(bad, f"the approval: {error.text}")
    if approval.to != permit.asset:
        return Refusal(Reason.SPONSOR_APPROVAL_TARGET, "the approval is not sent to the token")
    if approval.data[:4] != _APPROVE:
        return Refusal(Reason.SPONSOR_APPROVAL_SELECTOR, "the approval does not call approve")
    try:
        spender, amount = abi.decode(("address", "uint256"), approval.data[4:])
    except RemoteProtocolError:
        return Refusal(Reason.SPONSOR_APPROVAL_CALLDATA, "the approval's arguments are not those of approve")
    if spender != PERMIT2:
        return Refusal(Reason.SPONSOR_APPROVAL_TX_SPENDER, "the approval's spender is not Permit2")
    assert isinstance(amount, int)
    if amount < permit.amount:
        return Refusal(Reason.SPONSOR_APPROVAL_CALLDATA, f"the approval allows {amount}, the payment takes {permit.amount}")
    if approval.chain != chain_id(permit.network):
        return Refusal(Reason.SPONSOR_APPROVAL_SIGNATURE, "the approval is signed for another chain, or for any")
    if approval.sender != permit.payer:
        return Refusal(Reason.SPONSOR_APPROVAL_SIGNER, "the approval is not signed by the payer")
    return None


def plan_sponsor(permit: Permit2Permit) -> tuple[Read[Any], ...]:
    """List what an approval's sending depends on: number, gas money, and what the token says to it; else nothing."""
    if not isinstance(permit.sponsor, SponsoredApproval):
        return ()
    approval = _read(permit.sponsor)
    approve = Simulate(permit.asset, approval.data, permit.payer, approval.gas)
    return (TransactionCount(permit.payer), NativeBalance(permit.payer), approve)


def refuse_unready(permit: Permit2Permit, facts: Facts) -> Refusal | None:
    """Refuse an approval that the chain would not execute next; asked only while the allowance is missing."""
    if not isinstance(permit.sponsor, SponsoredApproval):
        return None
    approval = _read(permit.sponsor)
    count, wealth, simulated = (facts.of(read) for read in plan_sponsor(permit))
    if approval.number != count:
        return Refusal(Reason.SPONSOR_APPROVAL_FAILED, f"the approval's number is {approval.number}, the payer's next {count}")
    if facts.base_fee is not None and approval.price < facts.base_fee * 9 // 8:  # what the next block may ask (EIP-1559)
        return Refusal(Reason.SPONSOR_APPROVAL_FAILED, "the approval offers less for gas than the chain asks")
    if wealth < approval.most:
        return Refusal(Reason.SPONSOR_APPROVAL_FAILED, "the payer's account cannot pay for the approval; gas is not given here")
    if not simulated.ok:
        return Refusal(Reason.SPONSOR_APPROVAL_FAILED, "the token refuses the approval")
    return None
