"""What a request should look like, told to agents in the 402."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .errors import MisconfigurationError

__all__ = ["HTTPInputSchema"]

_BODIES: Final = ("json", "form-data", "multipart-form-data", "text", "binary")


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPInputSchema:
    """The query parameters, body and headers an endpoint takes; the method is the route's.

    Raises: MisconfigurationError for a body type that is none.
    """

    query_params: Mapping[str, str] | None = None
    body_type: Literal["json", "form-data", "multipart-form-data", "text", "binary"] | None = None
    body_fields: Mapping[str, Any] | None = None
    header_fields: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.body_type is not None and self.body_type not in _BODIES:
            raise MisconfigurationError(f"write one of {', '.join(_BODIES)}", field="body_type")

    def document(self) -> dict[str, Any]:
        """Return it as it goes on the wire: in camel case (y402 itself sends snake case, which nobody reads: Y30)."""
        told = {
            "queryParams": self.query_params,
            "bodyType": self.body_type,
            "bodyFields": self.body_fields,
            "headerFields": self.header_fields,
        }
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in told.items() if value is not None}
