"""What an endpoint is sold by: y402's fourteen fields, in a decorator that marks the function with itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from x402bind.compat.y402.core.utils.guard import guard

from .errors import MisconfigurationError
from .paywall import PaywallConfig
from .requirements import RequirePaymentDetails
from .schema import HTTPInputSchema
from .setup import Y402Setup

__all__ = ["Y402_ENDPOINT_SETTINGS", "PaymentDetailsListType", "X402EndpointSettings", "settings_of"]

Y402_ENDPOINT_SETTINGS: Final = "y402_endpoint_settings"

E = TypeVar("E")
Details: TypeAlias = Sequence[RequirePaymentDetails]
PaymentDetailsListType: TypeAlias = Details | Callable[[Any], Details | Awaitable[Details]]
"""The ways to pay, the preferred one first, or a function of the request that returns them (async only under FastAPI)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class X402EndpointSettings:
    """What an endpoint is sold by.

    ``resource_url`` is its public URL or path; ``{name}`` in it stands for the route's parameter of that name.
    ``reference_param`` names the parameter that is the seller's own word for what is sold.  ``max_deadline_seconds`` is how
    long a payer's permit lasts; ``mime_type``, ``paywall_config`` and ``custom_paywall_html`` stand before those of
    ``payment_required``; ``custom_setup`` is merged into its setup, for this endpoint only.

    Raises: MisconfigurationError naming the field.
    """

    payments_details: PaymentDetailsListType
    resource_url: str | None = None
    reference_param: str | None = None
    description: str | None = None
    max_deadline_seconds: int | None = None
    input_schema: HTTPInputSchema | None = None
    output_schema: Any = None
    mime_type: str | None = None
    paywall_config: PaywallConfig | None = None
    custom_paywall_html: str | None = None
    custom_setup: Y402Setup | None = None
    tags: Sequence[str] | None = None
    webhook_name: str = ""
    storage_collection: str = "payments"

    def __post_init__(self) -> None:
        details = self.payments_details
        if not callable(details):
            checked(details)
        seconds = self.max_deadline_seconds
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 1):
            raise MisconfigurationError("a whole number of seconds, one at least", field="max_deadline_seconds")
        if isinstance(self.tags, str) or not all(isinstance(tag, str) for tag in self.tags or ()):
            raise MisconfigurationError("write a list of strings", field="tags")
        if self.input_schema is not None and not isinstance(self.input_schema, HTTPInputSchema):
            raise MisconfigurationError("write an HTTPInputSchema", field="input_schema")
        if self.custom_setup is not None and not isinstance(self.custom_setup, Y402Setup):
            raise MisconfigurationError("write a Y402Setup", field="custom_setup")
        if not self.storage_collection.strip():
            object.__setattr__(self, "storage_collection", "payments")

    def __call__(self, endpoint: E) -> E:
        """Mark a function and guard it, above or below the decorator that makes it a route: unsold it raises (Y1, Y2)."""
        if settings_of(endpoint) is not None:
            raise MisconfigurationError(f"{getattr(endpoint, '__qualname__', endpoint)} is priced twice", field="endpoint")
        guard(endpoint)
        setattr(endpoint, Y402_ENDPOINT_SETTINGS, self)
        return endpoint


def settings_of(endpoint: object) -> X402EndpointSettings | None:
    """Return what an endpoint was marked with."""
    found = getattr(endpoint, Y402_ENDPOINT_SETTINGS, None)
    return found if isinstance(found, X402EndpointSettings) else None


def checked(details: object) -> tuple[RequirePaymentDetails, ...]:
    """Return ways to pay.  Raises: MisconfigurationError for none, and for anything else."""
    if isinstance(details, RequirePaymentDetails):
        return (details,)
    if not isinstance(details, Sequence) or not details or not all(isinstance(d, RequirePaymentDetails) for d in details):
        raise MisconfigurationError("a list of RequirePaymentDetails, one at least", field="payments_details")
    return tuple(details)
