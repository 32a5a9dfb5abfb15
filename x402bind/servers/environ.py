"""A WSGI environ as a sale's request: its head, and its body, bounded and left to be read again.

Flask's and Django's requests have an environ too, and are read from here as far as they are alike.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from x402core.errors import Reason, problem
from x402core.wire import http

from .sync_sale import BodyRefused, Incoming

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["bounded", "incoming", "number_said", "read_body", "spent"]

_CONTENT: Final = {"CONTENT_TYPE": "Content-Type", "CONTENT_LENGTH": "Content-Length"}


def incoming(environ: WSGIEnvironment, path: str) -> Incoming:
    """Return a request as sales know it; ``path`` is decoded."""
    headers = [(name[5:].replace("_", "-").title(), value) for name, value in environ.items() if name.startswith("HTTP_")]
    headers += [(name, environ[key]) for key, name in _CONTENT.items() if environ.get(key)]
    read = partial(read_body, environ)
    return Incoming(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), tuple(headers), read)


def read_body(environ: WSGIEnvironment, most: int) -> bytes:
    """Read a request's body whole, at most ``most`` bytes, and have it read again from the beginning.

    Raises: BodyRefused when it is longer, or ends too early; it can be read from the beginning then too.
    """
    said = environ.get("CONTENT_LENGTH") or ""
    size = number_said(said) or 0
    unsaid = not said and environ.get("wsgi.input_terminated", False)
    if size > most:
        raise BodyRefused(http.too_large(most))
    source = environ["wsgi.input"]
    body = _read(source, most + 1 if unsaid else size)
    environ["wsgi.input"] = io.BytesIO(body)
    if len(body) > most:
        environ["wsgi.input"] = io.BufferedReader(_Joined(body, source))
        raise BodyRefused(http.too_large(most))
    if len(body) < size:
        raise BodyRefused(problem(400, "The body ended too early.", reason=Reason.INVALID_PAYLOAD, source="body"))
    if unsaid:
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    return body


class _Joined(io.RawIOBase):
    """What was read of a body, and the rest of it after that."""

    def __init__(self, first: bytes, rest: Any) -> None:
        self._first, self._rest = io.BytesIO(first), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._first.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


def _read(stream: Any, size: int) -> bytes:
    body = bytearray()
    while len(body) < size and (part := stream.read(size - len(body))):
        body += part
    return bytes(body)


def number_said(length: str) -> int | None:
    """Return what a Content-Length says; None where it says no number that could be true."""
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else None


def bounded(body: bytes, most: int) -> bytes:
    """Return a body that is at hand.  Raises: BodyRefused where it is longer than ``most`` bytes."""
    if len(body) > most:
        raise BodyRefused(http.too_large(most))
    return body


def spent(hint: str = "") -> BodyRefused:
    """Return the refusal of a request whose body something else has read before us."""
    return BodyRefused(problem(400, f"The body was read before it was paid for{hint}.", reason=Reason.INVALID_PAYLOAD))
