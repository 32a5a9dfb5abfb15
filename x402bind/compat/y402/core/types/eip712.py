"""A token's EIP-712 domain, as far as a price states it."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import MisconfigurationError

__all__ = ["EIP712Domain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EIP712Domain:
    """``name`` and ``version``.  Raises: MisconfigurationError for what is not text."""

    name: str
    version: str

    def __post_init__(self) -> None:
        for field, value in (("name", self.name), ("version", self.version)):
            if not isinstance(value, str) or not value:
                raise MisconfigurationError("write the token's own, as text", field=field)
