"""The models that x402-mock's users hold: shapes for people and their JSON, no protocol.

Times are aware and in UTC (A19); JSON is RFC 8785's for what these models hold: sorted keys, no blanks, shortest numbers.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BasePaymentComponent",
    "BasePermit",
    "BaseSignature",
    "BaseTransactionConfirmation",
    "BaseVerificationResult",
    "CanonicalModel",
    "TransactionStatus",
    "VerificationStatus",
    "utc_now",
]


def utc_now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)


class CanonicalModel(BaseModel):
    """A model with one JSON text for one value."""

    model_config = ConfigDict(populate_by_name=True)

    def to_canonical_json(self) -> str:
        """Return the JSON text: keys sorted by UTF-16 code units, no blanks (RFC 8785 3.2)."""
        return json.dumps(_sorted(self.model_dump(mode="json")), separators=(",", ":"), ensure_ascii=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return self.model_dump()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=lambda each: each.encode("utf-16-be"))}
    if isinstance(value, list):
        return [_sorted(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


class BaseSignature(CanonicalModel):
    """A signature of some kind."""

    signature_type: str
    created_at: datetime = Field(default_factory=utc_now)

    def validate_format(self) -> bool:
        """Return True.  Raises: ValueError naming the field."""
        raise NotImplementedError


class BasePermit(CanonicalModel):
    """A permit of some kind."""

    permit_type: str
    created_at: datetime = Field(default_factory=utc_now)

    def validate_structure(self) -> bool:
        """Return True.  Raises: ValueError naming the field."""
        raise NotImplementedError


class BasePaymentComponent(CanonicalModel):
    """One way to pay."""

    payment_type: str
    currency: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=utc_now)

    def validate_payment(self) -> bool:
        """Return True.  Raises: ValueError naming the field."""
        raise NotImplementedError


class VerificationStatus(StrEnum):
    """What verification found."""

    SUCCESS = "success"
    INVALID_SIGNATURE = "invalid_signature"
    EXPIRED = "expired"
    INSUFFICIENT_ALLOWANCE = "insufficient_allowance"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    REPLAY_ATTACK = "replay_attack"
    BLOCKCHAIN_ERROR = "blockchain_error"
    UNKNOWN_ERROR = "unknown_error"


class BaseVerificationResult(CanonicalModel):
    """What became of a verification."""

    verification_type: str
    status: VerificationStatus
    is_valid: bool
    message: str
    error_details: dict[str, Any] | None = None
    verified_at: datetime = Field(default_factory=utc_now)

    def is_success(self) -> bool:
        """Say whether the permit is good."""
        return self.is_valid and self.status is VerificationStatus.SUCCESS

    def get_error_message(self) -> str | None:
        """Return what is wrong, None when nothing is."""
        return None if self.is_success() else self.message


class TransactionStatus(StrEnum):
    """What became of a settlement."""

    SUCCESS = "success"
    FAILED = "failed"
    PENDING = "pending"
    INSUFFICIENT_GAS = "insufficient_gas"
    TIMEOUT = "timeout"
    NETWORK_ERROR = "network_error"
    INVALID_TRANSACTION = "invalid_transaction"
    UNKNOWN_ERROR = "unknown_error"


class BaseTransactionConfirmation(CanonicalModel):
    """What became of a settlement, with its transaction."""

    confirmation_type: str
    status: TransactionStatus
    execution_time: float | None = Field(default=None, ge=0)
    confirmations: int = Field(default=0, ge=0)
    error_message: str | None = None
    logs: list[dict[str, Any]] | None = None
    created_at: datetime = Field(default_factory=utc_now)

    def is_success(self) -> bool:
        """Say whether the money has moved."""
        return self.status is TransactionStatus.SUCCESS

    def get_confirmation_status(self) -> str:
        """Return the status for people."""
        return self.status.value if self.error_message is None else f"{self.status.value}: {self.error_message}"
