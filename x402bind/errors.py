"""What a paying client may raise about money; each error carries the Outcome, and never the permit."""

from __future__ import annotations

from typing import Final

from x402core.commands import Outcome, OutcomeKind

__all__ = ["PaymentDeclined", "PaymentError", "PaymentOutcomeUnknown", "raise_for_outcome"]


class PaymentError(Exception):
    """The abstract parent of both; ``outcome`` says what is known about the money."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return self.outcome.kind.value + _because(self.outcome)


class PaymentOutcomeUnknown(PaymentError):
    """A signed permit left and no definite answer came back: the money may have moved, or may yet move.

    Do not simply ask again: a new request is a new payment.  ``outcome.exposed_until`` is when the permit expires.
    """

    def __str__(self) -> str:
        offer, until = self.outcome.offer, self.outcome.exposed_until
        what = "a payment" if offer is None else f"{offer.amount} atomic units of {offer.asset} on {offer.network}"
        end = "" if until is None else f", by a permit that expires at Unix second {until}"
        return f"it is unknown whether {what} moved{end}{_because(self.outcome)}"


class PaymentDeclined(PaymentError):
    """No definite payment, and a definite no: policy, the purse, the wallet or the server refused."""


def _because(outcome: Outcome) -> str:
    if outcome.refusal is None:
        return ""
    return f": {outcome.refusal.reason}" + (f" ({outcome.refusal.detail})" if outcome.refusal.detail else "")


_ERRORS: Final = {
    OutcomeKind.FREE: None,
    OutcomeKind.PAID: None,
    OutcomeKind.DECLINED: PaymentDeclined,
    OutcomeKind.FAILED: PaymentDeclined,
    OutcomeKind.ABANDONED: PaymentDeclined,
    OutcomeKind.UNKNOWN: PaymentOutcomeUnknown,
}


def raise_for_outcome(outcome: Outcome | None) -> None:
    """Raise what an outcome stands for; nothing for one that is free or paid.  Raises: PaymentError."""
    error = None if outcome is None else _ERRORS[outcome.kind]
    if error is not None:
        assert outcome is not None
        raise error(outcome)
