"""What y402's clients raise, by their names.

A refused payment of ours is raised before anything is signed; a server's refusal afterwards is the response, as it came.
"""

from __future__ import annotations

from typing import Any, Final

from x402core.commands import Outcome
from x402core.errors import Reason, Refusal

__all__ = [
    "MissingRequestConfigError",
    "PaymentAlreadyAttemptedError",
    "PaymentAmountExceededError",
    "PaymentError",
    "UnsupportedSchemeException",
    "refused",
]


class PaymentError(Exception):
    """A 402 that is not paid.  ``response`` is the server's, whole (Y29); ``outcome`` says what is known about the money."""

    def __init__(self, message: str = "", *, response: Any = None, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.response, self.outcome = response, outcome


class PaymentAmountExceededError(PaymentError):
    """The server asks more than the policy allows."""


class MissingRequestConfigError(PaymentError):
    """The request cannot be sent a second time, with a payment: its body is a stream."""


class PaymentAlreadyAttemptedError(PaymentError):
    """This very request was paid for already; a new one may be paid for again."""


class UnsupportedSchemeException(PaymentError):
    """The server offers no scheme that is spoken here."""


_KINDS: Final[dict[Reason, type[PaymentError]]] = {
    Reason.OVER_CAP: PaymentAmountExceededError,
    Reason.OVER_BUDGET: PaymentAmountExceededError,
    Reason.NOT_REPLAYABLE: MissingRequestConfigError,
    Reason.UNSUPPORTED_SCHEME: UnsupportedSchemeException,
}


def refused(refusal: Refusal | None, response: Any = None, outcome: Outcome | None = None) -> PaymentError:
    """Return a refusal of ours as what y402 would raise."""
    if refusal is None:
        return PaymentError("the payment was not made", response=response, outcome=outcome)
    again = refusal.reason is Reason.NOT_APPROVED and "once already" in refusal.detail
    kind = PaymentAlreadyAttemptedError if again else _KINDS.get(refusal.reason, PaymentError)
    return kind(
        f"{refusal.reason}: {refusal.detail}" if refusal.detail else str(refusal.reason), response=response, outcome=outcome
    )
