"""Models of what goes over the wire."""

from __future__ import annotations

from .bases import (
    BasePaymentComponent,
    BasePermit,
    BaseSignature,
    BaseTransactionConfirmation,
    BaseVerificationResult,
    CanonicalModel,
    TransactionStatus,
    VerificationStatus,
)
from .versions import ProtocalVersion, ProtocolVersion, SupportedVersions

__all__ = [
    "BasePaymentComponent",
    "BasePermit",
    "BaseSignature",
    "BaseTransactionConfirmation",
    "BaseVerificationResult",
    "CanonicalModel",
    "ProtocalVersion",
    "ProtocolVersion",
    "SupportedVersions",
    "TransactionStatus",
    "VerificationStatus",
]
