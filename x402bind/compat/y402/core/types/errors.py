"""y402's errors, by their names; those of configuration name the argument, as all of ours do."""

from __future__ import annotations

from x402core.errors import LocalProtocolError

__all__ = ["BaseError", "ConditionalDependencyError", "MisconfigurationError"]


class BaseError(Exception):
    """The parent of all."""


class MisconfigurationError(BaseError, LocalProtocolError):
    """A configuration that cannot be meant; ``field`` names the argument to change."""


class ConditionalDependencyError(BaseError):
    """A library that this module needs is not installed."""
