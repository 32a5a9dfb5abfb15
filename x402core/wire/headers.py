"""HTTP headers: documents in base64, look-ups in a header list, bearer tokens.

Headers are a list of pairs, never a dict: two payment headers in one request are two payments, and whoever silently
takes one of them may take another than the next hop did.  Base64 is read as strictly as it is written (x402.md 1.4):
one document has exactly one spelling.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from x402core.errors import RemoteProtocolError

from .json import Json, Writable, dumps, loads

__all__ = ["Headers", "decode_header", "encode_header", "find_all", "is_token68", "parse_bearer", "single"]

Headers: TypeAlias = Iterable[tuple[str, str]]
"""A header list in wire order, repeats kept."""

_TOKEN68: Final = r"[A-Za-z0-9._~+/-]+=*"
_IS_TOKEN68 = re.compile(_TOKEN68, re.ASCII)
_BEARER = re.compile(rf"(?i:bearer) +({_TOKEN68})", re.ASCII)


def encode_header(document: Writable) -> str:
    """Write a document as a header value: standard padded base64 of compact UTF-8 JSON.

    Raises: LocalProtocolError for what JSON cannot say.  Source: x402.md 1.4, RFC 4648 section 4.
    """
    return binascii.b2a_base64(dumps(document), newline=False).decode("ascii")


def decode_header(value: str, *, source: str, most: int = 16384) -> Json:
    """Read the document in a header value of at most ``most`` characters; ``source`` is the header's name.

    Strict: the standard alphabet, whole padding, no blanks, no stray trailing bits, then JSON as
    :func:`~x402core.wire.json.loads` reads it.

    Raises: RemoteProtocolError (status 431 for a value too long, else 400) and nothing else.  Source: x402.md 1.4,
    RFC 4648 sections 3.3, 3.5 and 4.
    """
    if len(value) > most:
        raise RemoteProtocolError(f"longer than {most} characters", source=source, status=431)
    if not value:
        raise RemoteProtocolError("empty", source=source)
    return loads(_unbase64(value, source), most=most, source=source)


def _unbase64(value: str, source: str) -> bytes:
    try:
        data = binascii.a2b_base64(value)
    except ValueError:  # binascii.Error, and str that is not ASCII
        data = b""
    # The decoder is lenient, so let the encoder be the judge: bytes have one spelling, and this must be it.
    if binascii.b2a_base64(data, newline=False) != value.encode("ascii", "replace"):
        raise RemoteProtocolError("not base64: A-Z a-z 0-9 + / with = padding, and nothing else", source=source)
    return data


def find_all(headers: Headers, name: str) -> list[str]:
    """Return the values of every header of that name, in wire order; ASCII case does not matter (RFC 9110 5.1)."""
    wanted = name.lower()
    # isascii: "\u212a".lower() is "k", and a name in it is another name
    return [value for key, value in headers if key.lower() == wanted and key.isascii()]


def single(headers: Headers, name: str) -> str | None:
    """Return the value of the only header of that name, or None.  Raises: RemoteProtocolError if there are two."""
    found = find_all(headers, name)
    if len(found) > 1:
        count = "two" if len(found) == 2 else str(len(found))
        raise RemoteProtocolError(f"{count} {name} headers", source=name)
    return found[0] if found else None


def is_token68(value: str) -> bool:
    """Tell whether a string can follow ``Bearer`` (RFC 9110 11.2, RFC 6750 2.1)."""
    return _IS_TOKEN68.fullmatch(value) is not None


def parse_bearer(value: str, *, most: int = 8192) -> str | None:
    """Return the token of an ``Authorization: Bearer`` value, or None if it is anything else; never raises (A7).

    The scheme's case does not matter, one space or more follows it, and the token is token68.  Source: RFC 6750 2.1.
    """
    if len(value) > most:
        return None
    match = _BEARER.fullmatch(value)
    return match[1] if match else None
