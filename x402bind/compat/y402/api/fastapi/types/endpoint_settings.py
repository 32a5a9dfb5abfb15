"""The endpoint settings, where y402 has them for FastAPI."""

from __future__ import annotations

from x402bind.compat.y402.core.types.endpoint_settings import (
    Y402_ENDPOINT_SETTINGS,
    PaymentDetailsListType,
    X402EndpointSettings,
)

__all__ = ["Y402_ENDPOINT_SETTINGS", "PaymentDetailsListType", "X402EndpointSettings"]
