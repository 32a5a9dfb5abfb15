"""What a remote facilitator's answer means for the very payment it was asked about: pure, and believing nothing else.

A facilitator's ``success`` counts only with the network, the payer and the amount of this permit, and a transaction to show.
Its reasons are taken when they are codes we know (the official names differ between peers: x402.md 1.6); its own words never.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from x402core.errors import Reason, Refusal, RemoteProtocolError
from x402core.events import Pending, Receipt, Settled, Settlement, Unsettled
from x402core.ledger import SettlementRecord
from x402core.values import Address, Hash32, parse_hash32

from .judge import Checked, Verdict

__all__ = ["NOT_HERE", "reason_of", "settlement_of", "verdict_of"]

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
    "invalid_exact_evm_scheme": Reason.INVALID_SCHEME,
    "invalid_upto_evm_scheme": Reason.INVALID_SCHEME,
}
_THEIRS: Final = (Reason.UNEXPECTED_VERIFY_ERROR, Reason.UNEXPECTED_SETTLE_ERROR, Reason.UNAVAILABLE)
"""Reasons that speak of the facilitator's trouble, not of the payment."""

NOT_HERE: Final = (
    Reason.INVALID_NETWORK,
    Reason.UNSUPPORTED_SCHEME,
    Reason.ASSET_NOT_ALLOWED,
    Reason.PAYEE_NOT_ALLOWED,
    Reason.UPTO_FACILITATOR,
)
"""Refusals that speak of whom a facilitator serves: another one may well settle the same payment."""


def reason_of(code: str, otherwise: Reason) -> Reason:
    """Return the reason a facilitator's code stands for; ``otherwise`` for one nobody has recorded."""
    return _SPELLINGS.get(code, otherwise)


def verdict_of(valid: bool, code: str, payer: Address | None, checked: Checked, block: int) -> Verdict:
    """Return the verdict an answer of ``/verify`` is about ``checked``; ``block`` is the head before it was asked, or 0.

    Raises: RemoteProtocolError for an answer about somebody else's payment, and for one that tells of trouble of its own.
    """
    if payer is not None and payer != checked.permit.payer:
        raise RemoteProtocolError("speaks of another payer", pointer="/payer", source="verify")
    if valid:
        return Verdict(checked, None, block)
    reason = reason_of(code, Reason.INVALID_PAYLOAD)
    if reason in _THEIRS:
        raise RemoteProtocolError("the facilitator is in trouble", pointer="/invalidReason", source="verify")
    return Verdict(checked, Refusal(reason, "refused by the facilitator"), block)


def settlement_of(receipt: Receipt, record: SettlementRecord) -> Settlement:
    """Return what an answer of ``/settle`` says of ``record``.

    Raises: RemoteProtocolError for success without a transaction, or for another network, payer or amount than this
    payment's; and for an answer that tells of trouble of its own.
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
    reason = reason_of(receipt.reason, Reason.TRANSACTION_FAILED)
    if reason is Reason.SETTLEMENT_PENDING:
        return Pending(permit.network, permit.payer, transactions)
    if reason in _THEIRS:
        raise RemoteProtocolError("the facilitator is in trouble", pointer="/errorReason", source="settle")
    if transactions and receipt.reason not in _SPELLINGS:  # a transaction under way, and a word for it nobody has recorded
        return Pending(permit.network, permit.payer, transactions)
    return Unsettled(reason, permit.network, permit.payer, transactions)
