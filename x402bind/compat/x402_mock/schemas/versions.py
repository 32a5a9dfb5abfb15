"""The protocol's version on the wire."""

from __future__ import annotations

from enum import Enum

from x402core.wire.permit_token import VERSION

__all__ = ["ProtocalVersion", "ProtocolVersion", "SupportedVersions"]


class ProtocolVersion(Enum):
    """The one version there is; 0.3.0 kept it."""

    Version0_1 = VERSION

    @classmethod
    def from_string(cls, value: str) -> ProtocolVersion:
        """Return a version by its text.  Raises: ValueError."""
        return cls(value)


ProtocalVersion = ProtocolVersion  # as x402-mock spells it


class SupportedVersions:
    """What is spoken here."""

    versions_list: tuple[ProtocolVersion, ...] = (ProtocolVersion.Version0_1,)
