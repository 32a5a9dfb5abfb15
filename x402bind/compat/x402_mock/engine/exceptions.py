"""x402-mock's exceptions, where it has them."""

from __future__ import annotations

from x402bind.compat.x402_mock.errors import (
    AuthenticationError,
    BlockchainInteractionError,
    ConfigurationError,
    InsufficientFundsError,
    InvalidTokenError,
    InvalidTransition,
    PaymentMethodError,
    PaymentSignatureError,
    PaymentVerificationError,
    PermitExpiredError,
    PermitNonceError,
    SignatureVerificationError,
    TokenError,
    TokenExpiredError,
    TokenNotFoundError,
    TransactionExecutionError,
    X402MockError,
)

__all__ = [
    "AuthenticationError",
    "BlockchainInteractionError",
    "ConfigurationError",
    "InsufficientFundsError",
    "InvalidTokenError",
    "InvalidTransition",
    "PaymentMethodError",
    "PaymentSignatureError",
    "PaymentVerificationError",
    "PermitExpiredError",
    "PermitNonceError",
    "SignatureVerificationError",
    "TokenError",
    "TokenExpiredError",
    "TokenNotFoundError",
    "TransactionExecutionError",
    "X402MockError",
]


def __getattr__(name: str) -> type[Exception]:
    """Find the root by x402-mock's name for it, which is a builtin's and therefore none of ours (A19)."""
    if name == "BaseException":
        return X402MockError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
