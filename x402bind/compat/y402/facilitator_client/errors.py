"""What can be wrong with a facilitator, by y402's names.

Only one is raised by this package, by functions that make headers.  What a facilitator answers is judged by the core: a payer
is told why a payment was refused, and 503 where the trouble is the facilitator's or ours.
"""

from __future__ import annotations

from x402bind.compat.y402.core.types.errors import BaseError

__all__ = [
    "BaseFacilitatorError",
    "HeadersBuildingFacilitatorError",
    "SettleBadResponse",
    "SettleFacilitatorFailedError",
    "SettleFacilitatorUnknownError",
    "VerifyBadResponse",
    "VerifyFacilitatorInvalidError",
    "VerifyFacilitatorUnknownError",
]


class BaseFacilitatorError(BaseError):
    """The parent of all."""


class HeadersBuildingFacilitatorError(BaseFacilitatorError):
    """The headers that a facilitator wants could not be made; nothing was sent."""


class VerifyBadResponse(BaseFacilitatorError):
    """``/verify`` answered with no success."""


class VerifyFacilitatorInvalidError(BaseFacilitatorError):
    """A payment is not valid."""


class VerifyFacilitatorUnknownError(BaseFacilitatorError):
    """``/verify`` could not be asked."""


class SettleBadResponse(BaseFacilitatorError):
    """``/settle`` answered with no success: the payment may be settled."""


class SettleFacilitatorFailedError(BaseFacilitatorError):
    """A payment was not settled."""


class SettleFacilitatorUnknownError(BaseFacilitatorError):
    """``/settle`` could not be asked: the payment may be settled."""
