"""The endpoint settings, where y402 has them for Flask: a view marked with them runs only when it is sold (Y2)."""

from __future__ import annotations

from dataclasses import dataclass

from x402bind.compat.y402.core.types import endpoint_settings
from x402bind.compat.y402.core.types.endpoint_settings import (
    Y402_ENDPOINT_SETTINGS,
    PaymentDetailsListType,
)

__all__ = ["Y402_ENDPOINT_SETTINGS", "PaymentDetailsListType", "X402EndpointSettings"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class X402EndpointSettings(endpoint_settings.X402EndpointSettings):
    """What a view is sold by; write it directly above the view, under the ``payment_required`` decorator."""
