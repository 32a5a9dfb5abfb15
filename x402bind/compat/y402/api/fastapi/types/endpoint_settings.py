"""The endpoint settings, where y402 has them for FastAPI: an endpoint marked with them runs only when it is sold (Y1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from x402bind.compat.y402.core.types import endpoint_settings
from x402bind.compat.y402.core.types.endpoint_settings import (
    Y402_ENDPOINT_SETTINGS,
    PaymentDetailsListType,
)
from x402bind.pricing import Listing
from x402bind.servers.marks import mark

__all__ = ["Y402_ENDPOINT_SETTINGS", "PaymentDetailsListType", "X402EndpointSettings"]

E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class X402EndpointSettings(endpoint_settings.X402EndpointSettings):
    """What an endpoint is sold by; directly above the function, under the route's decorator, it guards the function too.

    Above the route's decorator it only marks it, as the route has the function already: what finds the route sells it.
    """

    def __call__(self, endpoint: E) -> E:
        """Return the endpoint, marked and guarded: reached without a sale, it raises."""
        endpoint_settings.X402EndpointSettings.__call__(self, endpoint)
        guarded, _ = mark(endpoint, Listing(lambda request: ()))  # what it costs is worked out with its setup
        setattr(guarded, Y402_ENDPOINT_SETTINGS, self)
        return guarded  # type: ignore[no-any-return]
