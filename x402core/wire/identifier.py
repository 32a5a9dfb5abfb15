"""The ``payment-identifier`` extension (x402.md 3.5): a random name the payer gives a payment, for whoever must tell it again.

A settled permit can be copied from the chain; a payment with an identifier cannot.  Ours always carry one when the server
advertises the extension, and our servers bind a kept answer to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .json import Json

__all__ = ["KEY", "advertised", "identified"]

KEY: Final = "payment-identifier"
_SCHEMA: Final[dict[str, Json]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
    },
    "required": ["required"],
}


def advertised() -> Mapping[str, Json]:
    """Return the extensions of a challenge that takes an identifier and does not insist on one."""
    return {KEY: {"info": {"required": False}, "schema": _SCHEMA}}


def identified(extensions: Mapping[str, Json], identifier: str) -> Mapping[str, Json]:
    """Return a challenge's extensions echoed, with the identifier added where the server asks for one (x402.md 3.0)."""
    asked = extensions.get(KEY)
    if not isinstance(asked, dict):
        return extensions
    info = asked.get("info")
    return {**extensions, KEY: {**asked, "info": {**(info if isinstance(info, dict) else {}), "id": identifier}}}
