"""The 402 of x402 v1, as far as a selector is shown it."""

from __future__ import annotations

from dataclasses import dataclass

from .requirements import PaymentRequirements

__all__ = ["x402PaymentRequiredResponse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class x402PaymentRequiredResponse:
    """What a server asks for."""

    x402_version: int
    accepts: tuple[PaymentRequirements, ...]
    error: str = ""
