"""What a peer says of a resource for people to read, made fit to be listed: whatever breaks a rule is dropped, nothing fails.

The rules are the bazaar's (x402.md 3.3).  An icon's address is looked at as a browser would see it, because a listed icon is
fetched by whoever looks at the list: it must not point into a reader's own machine or network by number or by name.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from .json import Json

__all__ = ["listed_icon", "listed_mime_type", "listed_name", "listed_tags", "listed_text"]

_NAME: Final = re.compile(r"[ -~]{1,32}", re.ASCII)
_MIME: Final = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]{1,64}/[!#-'*+.0-9A-Z^-z|~-]{1,64}(?: *;[ -~]{1,64})?", re.ASCII)
_TAGS: Final = 5
_TEXT: Final = 1000  # characters of a description
_ICON: Final = 2048
_PLAIN_URL: Final = re.compile(r"[!-\[\]-~\u00a1-\U0010ffff]+")  # no blanks, controls or backslashes: browsers rewrite those
_HOST: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)  # a browser reads a host whose last label is one as IPv4
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)
_HERE: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
"x".encode("idna")  # loads the codec now: no file is opened later, in the middle of an exchange


def listed_text(value: Json) -> str:
    """Return a description: printable, at most 1000 characters, or ""."""
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in value[:_TEXT]).strip()


def listed_mime_type(value: Json) -> str:
    """Return a media type, or ""."""
    return value if isinstance(value, str) and _MIME.fullmatch(value) else ""


def listed_name(value: Json) -> str:
    """Return a service's name: 1 to 32 printable ASCII characters, not blank; else ""."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) and value.strip() else ""


def listed_tags(value: Json) -> tuple[str, ...]:
    """Return the first five good tags, each once whatever its case; a bad one is left out, not the rest with it."""
    if not isinstance(value, list):
        return ()
    found: dict[str, str] = {}
    for item in value[:256]:
        tag = listed_name(item)
        if tag and len(found) < _TAGS:
            found.setdefault(tag.lower(), tag)
    return tuple(found.values())


def listed_icon(value: Json) -> str:
    """Return an icon's address with its host spelled in ASCII, or "" for one that a reader should not fetch."""
    if not isinstance(value, str) or len(value) > _ICON or _PLAIN_URL.fullmatch(value) is None:
        return ""
    try:
        parts = urlsplit(value)
        host, port = _ascii(parts.hostname or ""), parts.port
    except ValueError:  # a port or a host that is none; UnicodeError is one
        return ""
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or "[" in parts.netloc or not _public(host):
        return ""
    address = parts._replace(netloc=host if port is None else f"{host}:{port}").geturl()
    return address if len(address) <= _ICON else ""


def _ascii(host: str) -> str:
    """Return a host as a resolver gets it: percent-decoded, IDNA, without the root's dot.  Raises: ValueError."""
    return unquote(host, errors="strict").encode("idna").decode("ascii").lower().removesuffix(".")


def _public(host: str) -> bool:
    if _HOST.fullmatch(host) is None or len(host) > 253 or host in _HERE or host.endswith(".localhost"):
        return False
    return _NUMBER.fullmatch(host.rpartition(".")[2]) is None and _HEX.fullmatch(host) is None
