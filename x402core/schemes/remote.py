"""What a remote facilitator's answer means for the very payment it was asked about: pure, and believing nothing else.

A facilitator's ``success`` counts only with the network, the payer and the amount of this permit, and a transaction to show.
Its reasons are taken when they are codes we know (the official names differ between peers: x402.md 1.6); its own words never:
a word nobody has recorded says nothing of the payment, so it is trouble of the facilitator's, and the money is as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from x402core.errors import Reason, Refusal, RemoteProtocolError
from x402core.events import Pending, Receipt, Settled, Settlement, Unsettled
from x402core.ledger import SettlementRecord
from x402core.values import Address, Hash32, parse_hash32

from .judge import Checked, Verdict

__all__ = ["BEFORE_SENDING", "NOT_HERE", "reason_of", "settlement_of", "verdict_of"]

_SPELLINGS: Final[Mapping[str, Reason]] = {
    **{str(reason): reason for reason in Reason},
    "invalid_exact_evm_insufficient_balance": Reason.INSUFFICIENT_FUNDS,
    "invalid_exact_evm_signature": Reason.SIGNATURE,
    "invalid_exact_evm_failed_to_verify_signature": Reason.SIGNATURE,
    "invalid_exact_evm_failed_to_parse_signature": Reason.SIGNATURE,
    "invalid_exact_evm_recipient_mismatch": Reason.RECIPIENT_MISMATCH,
    "invalid_exact_evm_network_mismatch": Reason.NETWORK_MISMATCH,
    "invalid_upto_evm_network_mismatch": Reason.NETWORK_MISMATCH,
    "invalid_exact_evm_authorization_value": Reason.VALUE_MISMATCH,
    "invalid_exact_evm_payload_authorization_value": Reason.VALUE_MISMATCH,
    "invalid_exact_evm_transaction_failed": Reason.TRANSACTION_FAILED,
    "invalid_upto_evm_transaction_failed": Reason.TRANSACTION_FAILED,
    "invalid_exact_evm_transfer_event_mismatch": Reason.TRANSACTION_FAILED,
    "smart_wallet_deployment_failed": Reason.TRANSACTION_FAILED,
    "invalid_exact_evm_scheme": Reason.INVALID_SCHEME,
    "invalid_upto_evm_scheme": Reason.INVALID_SCHEME,
    "unsupported_payload_type": Reason.UNSUPPORTED_SCHEME,
    "invalid_exact_evm_missing_eip712_domain": Reason.INVALID_REQUIREMENTS,
    "missing_eip712_domain": Reason.INVALID_REQUIREMENTS,
    "invalid_exact_evm_token_name_mismatch": Reason.INVALID_REQUIREMENTS,
    "invalid_exact_evm_token_version_mismatch": Reason.INVALID_REQUIREMENTS,
    "invalid_exact_evm_eip3009_not_supported": Reason.INVALID_REQUIREMENTS,
    "permit2_invalid_amount": Reason.PERMIT2_AMOUNT,
    "permit2_invalid_destination": Reason.PERMIT2_RECIPIENT,
    "permit2_invalid_owner": Reason.INVALID_PAYLOAD,
    "permit2_payment_too_early": Reason.PERMIT2_NOT_YET,
    "PERMIT2_ALLOWANCE_REQUIRED": Reason.PERMIT2_ALLOWANCE,
    "erc20_approval_broadcast_failed": Reason.SPONSOR_APPROVAL_FAILED,
    "upto_amount_exceeds_permitted": Reason.UPTO_EXCEEDS,
    "upto_unauthorized_facilitator": Reason.UPTO_FACILITATOR,
    "invalid_payment": Reason.INVALID_PAYLOAD,
    "payment_expired": Reason.VALID_BEFORE,
    "duplicate_settlement": Reason.NONCE_USED,
}
_THEIRS: Final = (
    Reason.UNEXPECTED_VERIFY_ERROR,
    Reason.UNEXPECTED_SETTLE_ERROR,
    Reason.UNAVAILABLE,
    Reason.INVALID_VERSION,
)
"""Reasons that speak of trouble between the facilitator and us, not of the payment: the version asked in is ours to choose."""

NOT_HERE: Final = (
    Reason.INVALID_NETWORK,
    Reason.UNSUPPORTED_SCHEME,
    Reason.ASSET_NOT_ALLOWED,
    Reason.PAYEE_NOT_ALLOWED,
    Reason.UPTO_FACILITATOR,
)
"""Refusals that speak of whom a facilitator serves: another one may well settle the same payment."""


BEFORE_SENDING: Final = frozenset(
    {
        *NOT_HERE,
        Reason.INSUFFICIENT_FUNDS,
        Reason.INVALID_PAYLOAD,
        Reason.INVALID_REQUIREMENTS,
        Reason.INVALID_SCHEME,
        Reason.SIGNATURE,
        Reason.RECIPIENT_MISMATCH,
        Reason.VALID_AFTER,
        Reason.VALID_BEFORE,
        Reason.VALUE_MISMATCH,
        Reason.UNDEPLOYED_WALLET,
        Reason.NOT_A_CONTRACT,
        Reason.SIMULATION_FAILED,
        Reason.FACTORY_NOT_ALLOWED,
        Reason.PERMIT2_SPENDER,
        Reason.PERMIT2_RECIPIENT,
        Reason.PERMIT2_DEADLINE,
        Reason.PERMIT2_NOT_YET,
        Reason.PERMIT2_AMOUNT,
        Reason.PERMIT2_TOKEN,
        Reason.PERMIT2_SIGNATURE,
        Reason.PERMIT2_ALLOWANCE,
        Reason.PERMIT2_SIMULATION,
        Reason.PERMIT2_BALANCE,
        Reason.PERMIT2_NO_PROXY,
        Reason.UPTO_EXCEEDS,
        Reason.QUOTA,
        Reason.ASSET_MISMATCH,
        Reason.NETWORK_MISMATCH,
        Reason.NETWORK_NOT_ALLOWED,
        Reason.VALIDITY_TOO_LONG,
        *(reason for reason in Reason if reason.name.startswith("SPONSOR_") and reason is not Reason.SPONSOR_APPROVAL_FAILED),
    }
)
"""Refusals of a check that comes before anything is sent (x402.md 2.1, 2.2, 3.1, 3.2), or of a facilitator's own policy.

Any other may come after a broadcast, or because somebody else executed the permit: it does not prove that no money moved.
"""


def reason_of(code: str) -> Reason | None:
    """Return the reason a facilitator's code stands for; None for one nobody has recorded."""
    return _SPELLINGS.get(code)


def verdict_of(valid: bool, code: str, payer: Address | None, checked: Checked, block: int) -> Verdict:
    """Return the verdict an answer of ``/verify`` is about ``checked``; ``block`` is the head before it was asked, or 0.

    A plain no without a word is a no: the reason is optional, and nothing was moved.

    Raises: RemoteProtocolError for an answer about somebody else's payment, and for one that tells of trouble of its own or
    says no in a word nobody has recorded.
    """
    if payer is not None and payer != checked.permit.payer:
        raise RemoteProtocolError("speaks of another payer", pointer="/payer", source="verify")
    if valid:
        return Verdict(checked, None, block)
    reason = reason_of(code) if code else Reason.INVALID_PAYLOAD
    if reason is None or reason in _THEIRS:
        raise RemoteProtocolError("the facilitator is in trouble", pointer="/invalidReason", source="verify")
    return Verdict(checked, Refusal(reason, "refused by the facilitator"), block)


def settlement_of(receipt: Receipt, record: SettlementRecord) -> Settlement:
    """Return what an answer of ``/settle`` says of ``record``.

    Raises: RemoteProtocolError for success without a transaction, or for another network, payer or amount than this
    payment's; and for a failure that tells of trouble of its own, or in no word that is recorded: the money may have moved.
    """
    permit = record.permit
    if receipt.network != permit.network:
        raise RemoteProtocolError("speaks of another network", pointer="/network", source="settle")
    if receipt.payer not in (None, permit.payer):
        raise RemoteProtocolError("speaks of another payer", pointer="/payer", source="settle")
    if receipt.success:
        if receipt.amount not in (None, record.amount):
            raise RemoteProtocolError("speaks of another amount", pointer="/amount", source="settle")
        transaction = parse_hash32(receipt.transaction, "/transaction")
        return Settled(transaction, permit.network, permit.payer, record.amount, 0, (transaction,), foreign=True)
    transactions = (Hash32(receipt.transaction),) if receipt.transaction else ()
    reason = reason_of(receipt.reason)
    if reason is Reason.SETTLEMENT_PENDING or (reason is None and transactions):  # a transaction, and a word for it unheard of
        return Pending(permit.network, permit.payer, transactions)
    if reason is None or reason in _THEIRS:
        raise RemoteProtocolError("the facilitator is in trouble", pointer="/errorReason", source="settle")
    return Unsettled(reason, permit.network, permit.payer, transactions)
