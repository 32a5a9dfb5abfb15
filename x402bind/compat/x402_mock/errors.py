"""x402-mock's exceptions under their names, but for the root, whose name would shadow a builtin (A19)."""

from __future__ import annotations

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


class X402MockError(Exception):
    """The root of the others."""


class AuthenticationError(X402MockError):
    """Credentials are missing or wrong."""


class PaymentMethodError(X402MockError, ValueError):
    """No way to pay is registered, or none fits."""


class PaymentSignatureError(X402MockError):
    """A permit could not be signed."""


class TokenError(X402MockError):
    """An access token is no good."""


class TokenExpiredError(TokenError):
    """It has ended."""


class InvalidTokenError(TokenError):
    """It is malformed, or not ours."""


class TokenNotFoundError(TokenError):
    """There is none."""


class PaymentVerificationError(X402MockError):
    """A permit is no good."""


class SignatureVerificationError(PaymentVerificationError):
    """It is not signed by its payer."""


class PermitExpiredError(PaymentVerificationError):
    """It has ended."""


class PermitNonceError(PaymentVerificationError):
    """It was used."""


class InsufficientFundsError(PaymentVerificationError):
    """Its payer has too little."""


class ConfigurationError(X402MockError):
    """Something has to be configured."""


class InvalidTransition(Exception):
    """An event came that nothing may follow."""


class BlockchainInteractionError(X402MockError):
    """A node could not be asked."""


class TransactionExecutionError(BlockchainInteractionError):
    """A transaction failed."""
