"""Events, the bus that tells of them, and exceptions."""

from __future__ import annotations

from .events import (
    AuthorizationSuccessEvent,
    BaseEvent,
    BreakEvent,
    Dependencies,
    EventBus,
    Http402PaymentEvent,
    RequestInitEvent,
    RequestTokenEvent,
    SettleFailedEvent,
    SettleSuccessEvent,
    TokenIssuedEvent,
    VerifyFailedEvent,
    VerifySuccessEvent,
)
from .exceptions import (
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
from .executors import EventChain

__all__ = [
    "AuthenticationError",
    "AuthorizationSuccessEvent",
    "BaseEvent",
    "BlockchainInteractionError",
    "BreakEvent",
    "ConfigurationError",
    "Dependencies",
    "EventBus",
    "EventChain",
    "Http402PaymentEvent",
    "InsufficientFundsError",
    "InvalidTokenError",
    "InvalidTransition",
    "PaymentMethodError",
    "PaymentSignatureError",
    "PaymentVerificationError",
    "PermitExpiredError",
    "PermitNonceError",
    "RequestInitEvent",
    "RequestTokenEvent",
    "SettleFailedEvent",
    "SettleSuccessEvent",
    "SignatureVerificationError",
    "TokenError",
    "TokenExpiredError",
    "TokenIssuedEvent",
    "TokenNotFoundError",
    "TransactionExecutionError",
    "VerifyFailedEvent",
    "VerifySuccessEvent",
    "X402MockError",
]


def __getattr__(name: str) -> type[Exception]:
    """Find the root by x402-mock's name for it, which is a builtin's and therefore none of ours (A19)."""
    if name == "BaseException":
        return X402MockError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
