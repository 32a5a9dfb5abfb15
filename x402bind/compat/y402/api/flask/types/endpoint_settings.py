"""The endpoint settings, where y402 has them for Flask: a view marked with them runs only when it is sold (Y2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from x402bind.compat.y402.core.types import endpoint_settings
from x402bind.compat.y402.core.types.endpoint_settings import (
    Y402_ENDPOINT_SETTINGS,
    PaymentDetailsListType,
    settings_of,
)
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.pricing import Listing
from x402bind.servers.marks import mark

__all__ = ["Y402_ENDPOINT_SETTINGS", "PaymentDetailsListType", "X402EndpointSettings"]

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class X402EndpointSettings(endpoint_settings.X402EndpointSettings):
    """What a view is sold by; write it directly above the view, under the ``payment_required`` decorator."""

    def __call__(self, endpoint: V) -> V:
        """Return the view, marked and guarded: reached without a sale, it raises."""
        if settings_of(endpoint) is not None:
            raise MisconfigurationError(f"{getattr(endpoint, '__qualname__', endpoint)} is priced twice", field="endpoint")
        guarded, _ = mark(endpoint, Listing(lambda request: ()))  # what it costs is worked out with its setup
        setattr(guarded, Y402_ENDPOINT_SETTINGS, self)
        return guarded  # type: ignore[no-any-return]
