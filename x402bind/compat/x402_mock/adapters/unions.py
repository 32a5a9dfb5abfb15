"""Which model a ``*_type`` member means, and which adapter is asked about it."""

from __future__ import annotations

from typing import Final

from .evm.schemas import (
    EVMECDSASignature,
    EVMPaymentComponent,
    EVMTransactionConfirmation,
    EVMVerificationResult,
    PermitTypes,
)

__all__ = [
    "PaymentComponentTypes",
    "PermitTypes",
    "SignatureTypes",
    "TransactionConfirmationTypes",
    "VerificationResultTypes",
    "get_adapter_type",
]

PaymentComponentTypes = EVMPaymentComponent
SignatureTypes = EVMECDSASignature
VerificationResultTypes = EVMVerificationResult
TransactionConfirmationTypes = EVMTransactionConfirmation

_TYPED: Final = ("permit_type", "payment_type", "signature_type", "verification_type", "confirmation_type")
_ADAPTERS: Final = dict.fromkeys(("evm", "EIP2612", "ERC3009", "Permit2", "ethereum", "polygon", "arbitrum"), "evm")


def get_adapter_type(obj: object) -> str | None:
    """Return the name of the adapter for a model, None for what none knows."""
    for name in _TYPED:
        if value := getattr(obj, name, None):
            return _ADAPTERS.get(value)
    return None
