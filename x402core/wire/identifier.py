"""The ``payment-identifier`` extension (x402.md 3.5): a random name the payer gives a payment, for whoever must tell it again.

A settled permit can be copied from the chain; a payment with an identifier cannot.  Ours always carry one when the server
advertises the extension, and our servers bind a kept answer to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from .json import Fields, Json

__all__ = ["KEY", "advertised", "identified", "presented"]

KEY: Final = "payment-identifier"
_ID = re.compile(r"[a-zA-Z0-9_-]{16,128}", re.ASCII)
_SCHEMA: Final[dict[str, Json]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
    },
    "required": ["required"],
}


def advertised(*, required: bool = False) -> Mapping[str, Json]:
    """Return the extension of a challenge that takes an identifier, or insists on one."""
    return {KEY: {"info": {"required": required}, "schema": _SCHEMA}}


def presented(extensions: Mapping[str, Json], source: str) -> str | None:
    """Return the identifier a payment brings, None when it brings none.

    Raises: RemoteProtocolError for one that is not 16 to 128 letters, digits, ``-`` and ``_``.  Source: x402.md 3.5.
    """
    if extensions.get(KEY) is None:
        return None
    info = Fields(extensions[KEY], f"/extensions/{KEY}", source).object_or_none("info")
    if info is None or "id" not in info:
        return None
    found = info.text("id", most=128)
    if _ID.fullmatch(found) is None:
        raise info.error("id", "expected 16 to 128 letters, digits, - and _")
    return found


def identified(extensions: Mapping[str, Json], identifier: str) -> Mapping[str, Json]:
    """Return a challenge's extensions echoed, with the identifier added where the server asks for one (x402.md 3.0)."""
    asked = extensions.get(KEY)
    if not isinstance(asked, dict):
        return extensions
    info = asked.get("info")
    return {**extensions, KEY: {**asked, "info": {**(info if isinstance(info, dict) else {}), "id": identifier}}}
