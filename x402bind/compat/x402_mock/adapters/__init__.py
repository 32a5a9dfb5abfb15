"""The hub, and the adapters behind it."""

from __future__ import annotations

from .adapters_hub import AdapterHub
from .bases import AdapterFactory
from .evm import (
    EIP2612Permit,
    EIP2612PermitSignature,
    EVMAdapter,
    EVMPaymentComponent,
    EVMTransactionConfirmation,
    EVMVerificationResult,
)
from .registry import PaymentRegistry
from .unions import (
    PaymentComponentTypes,
    PermitTypes,
    SignatureTypes,
    TransactionConfirmationTypes,
    VerificationResultTypes,
    get_adapter_type,
)

__all__ = [
    "AdapterFactory",
    "AdapterHub",
    "EIP2612Permit",
    "EIP2612PermitSignature",
    "EVMAdapter",
    "EVMPaymentComponent",
    "EVMTransactionConfirmation",
    "EVMVerificationResult",
    "PaymentComponentTypes",
    "PaymentRegistry",
    "PermitTypes",
    "SignatureTypes",
    "TransactionConfirmationTypes",
    "VerificationResultTypes",
    "get_adapter_type",
]
