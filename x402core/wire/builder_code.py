"""The ``builder-code`` extension (x402.md 3.7): who built what took part in a payment, written behind its calldata (ERC-8021).

Codes are for counting, not for paying: one that is malformed is dropped, and never stops a payment.  On the chain they stand
after the arguments, where the called contract does not look: a CBOR map, its length, the schema's number 2, a marker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from x402core.errors import LocalProtocolError, RemoteProtocolError

from .json import Json

__all__ = ["ECHOED", "KEY", "MOST", "Codes", "advertised", "attribution", "codes", "parse_suffix", "presented", "suffix"]

KEY: Final = "builder-code"
MOST: Final = 11
"""Service codes behind one calldata: five of the client, five of the server, the facilitator's own."""
ECHOED: Final = 10
"""Service codes a payment brings at most."""
_EACH: Final = 5
_PATTERN: Final = "[a-z0-9_]{1,32}"
_CODE = re.compile(_PATTERN, re.ASCII)
_MARKER: Final = bytes.fromhex("8021" * 8)
_SCHEMA_ID: Final = 2
_TEXT, _ARRAY, _MAP = 3, 4, 5  # CBOR major types (RFC 8949 3.1)
_SHOWN: Final[dict[str, Json]] = {"type": "string", "pattern": f"^{_PATTERN}$"}
_SCHEMA: Final[dict[str, Json]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"a": _SHOWN, "w": _SHOWN, "s": {"type": "array", "items": _SHOWN, "maxItems": MOST}},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Codes:
    """Who takes part: the ``app`` that sells, the ``wallet`` (or facilitator) that settles, ``services`` on the way.

    Raises: LocalProtocolError for what is not 1 to 32 of a-z, 0-9 and _ ("" is nobody), or more than 11 services.
    """

    app: str = ""
    wallet: str = ""
    services: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, code in (("app", self.app), ("wallet", self.wallet), *[("services", code) for code in self.services]):
            if not _is_code(code) and not (code == "" and name != "services"):
                raise LocalProtocolError("a builder code is 1 to 32 of a-z, 0-9 and _", field=name)
        if len(self.services) > MOST:
            raise LocalProtocolError(f"at most {MOST} service codes", field="services")

    def __bool__(self) -> bool:
        """Tell whether there is anybody to name."""
        return bool(self.app or self.wallet or self.services)


def _is_code(value: object) -> bool:
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


# --- in a challenge and a payment ------------------------------------------------------------------------------------


def advertised(app: str = "", services: tuple[str, ...] = ()) -> Mapping[str, Json]:
    """Return the extension of a challenge: the seller's own code, and its services' (at most five).

    Raises: LocalProtocolError for a malformed code, or too many.
    """
    if len(services) > _EACH:
        raise LocalProtocolError(f"a server names at most {_EACH} services", field="services")
    return {KEY: {"info": _info(Codes(app, "", services)), "schema": _SCHEMA}}


def codes(services: tuple[str, ...]) -> Mapping[str, Json]:
    """Return what a client adds to its payment: at most five services, whether or not the server asks (x402.md 3.10).

    Raises: LocalProtocolError for a malformed code, or too many.
    """
    if len(services) > _EACH:
        raise LocalProtocolError(f"a client names at most {_EACH} services", field="services")
    return {KEY: {"info": _info(Codes("", "", services))}}


def _info(found: Codes) -> dict[str, Json]:
    info: dict[str, Json] = {}
    if found.app:
        info["a"] = found.app
    if found.wallet:
        info["w"] = found.wallet
    if found.services:
        info["s"] = list(found.services)
    return info


def presented(extensions: Mapping[str, Json]) -> Codes:
    """Return the codes a payment or a challenge carries, malformed ones dropped, the first ten services; never raises.

    The SDKs put them under ``info``, the specification's text at the extension itself: both are read (x402.md 7.36).
    """
    extension = extensions.get(KEY)
    info = extension.get("info", extension) if isinstance(extension, dict) else None
    if not isinstance(info, dict):
        return Codes()
    services = info.get("s")
    return Codes(_code(info.get("a")), _code(info.get("w")), _services(services if isinstance(services, list) else (), ECHOED))


def _code(value: Json) -> str:
    return value if isinstance(value, str) and _is_code(value) else ""


def _services(values: Iterable[Json], most: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str) and _is_code(value)))[:most]


def attribution(found: Codes, wallet: str = "", service: str = "", *, version: int = 2) -> Codes:
    """Return what a facilitator writes: a payment's app (of x402 v2 only) and services, its own ``wallet`` and ``service``.

    A ``w`` that a payment brings is nobody's: that place is the facilitator's.  Raises: LocalProtocolError for a malformed
    code of ours.
    """
    services = found.services[:ECHOED]
    own = (service,) if service and service not in services else ()
    return Codes(found.app if version == 2 else "", wallet, services + own)


# --- behind the calldata ---------------------------------------------------------------------------------------------


def suffix(found: Codes) -> bytes:
    """Return the bytes to append to calldata, none when there is nobody to name (ERC-8021, schema 2)."""
    if not found:
        return b""
    members = [_text("a") + _text(found.app)] if found.app else []
    members += [_text("w") + _text(found.wallet)] if found.wallet else []
    if found.services:
        members.append(_text("s") + _head(_ARRAY, len(found.services)) + b"".join(map(_text, found.services)))
    data = _head(_MAP, len(members)) + b"".join(members)
    return data + len(data).to_bytes(2, "big") + bytes((_SCHEMA_ID,)) + _MARKER


def _head(major: int, length: int) -> bytes:
    return bytes((major << 5 | length,)) if length < 24 else bytes((major << 5 | 24, length))


def _text(text: str) -> bytes:
    return _head(_TEXT, len(text)) + text.encode()


def parse_suffix(calldata: bytes) -> Codes | None:
    """Return the codes behind calldata; None when there is no marker at its end, or one of another schema.

    Raises: RemoteProtocolError for a schema 2 suffix that is not one: cut off, CBOR in any but its shortest form, keys in
    another order than a, w, s, or malformed codes.
    """
    if not calldata.endswith(_MARKER):
        return None
    rest = calldata[: -len(_MARKER)]
    if rest[-1:] != bytes((_SCHEMA_ID,)):
        return None
    length = int.from_bytes(rest[-3:-1], "big")
    data = rest[-3 - length : -3]
    found = _parse(data)
    # one spelling each, and this must be it: then nothing can hide between the members, and the length is the data's
    if not found or suffix(found) != data + rest[-3:] + _MARKER:
        raise RemoteProtocolError("ERC-8021: not a map of a, w and s in its shortest form")
    return found


def _parse(data: bytes) -> Codes:
    """Read what :func:`suffix` may have written; whatever else it is, writing it again does not give the same bytes."""
    found: dict[str, list[str]] = {}
    at = 1
    while at < len(data):
        key, at = _item(data, at)
        count = 1
        if data[at : at + 1] and data[at] >> 5 == _ARRAY:
            count, at = data[at] & 31, at + 1
        values = []
        for _ in range(count):
            value, at = _item(data, at)
            values.append(value)
        found[key] = values
    try:
        return Codes("".join(found.get("a", ())), "".join(found.get("w", ())), tuple(found.get("s", ())))
    except LocalProtocolError as error:
        raise RemoteProtocolError(f"ERC-8021: {error.message}") from None


def _item(data: bytes, at: int) -> tuple[str, int]:
    if at >= len(data) or data[at] >> 5 != _TEXT:
        raise RemoteProtocolError("ERC-8021: expected a text")
    length, at = data[at] & 31, at + 1
    if length == 24:
        length, at = data[at] if at < len(data) else 0, at + 1
    return data[at : at + length].decode("latin-1"), at + length
