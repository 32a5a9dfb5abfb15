"""A WSGI application run on a leash: its response is held until the exchange says what to do with it.

What ``held.py`` is for ASGI.  An application may say its status twice, write before it returns, stream from an iterable, and
have that closed: all of it is the server's to see only once the response is let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from x402core.errors import Reply
from x402core.events import Headers

from .environ import number_said
from .flow import Flow, taken
from .held import ResponseTooLarge
from .sync_sale import without_overrides

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["HeldWsgi"]


class HeldWsgi:
    """One run of an application, and the iterable that the server is given when its response is let go."""

    def __init__(self, app: WSGIApplication, environ: WSGIEnvironment, start: StartResponse, *, hold: bool, most: int) -> None:
        self._start, self._most = start, most
        self._line, self._headers = "", list[tuple[str, str]]()
        self.overrides: str | None = None
        self._written = bytearray()
        self._send: Callable[[bytes], object] | None = None  # the server's own write, once the response is let go
        self._body: bytes = b""
        self.flow: Flow | None = None
        self._pieces: Iterable[bytes] = ()
        try:
            self._pieces = app(environ, self._begin)
            self._take(hold)
        except BaseException:
            with suppress(Exception):  # the first thing that went wrong is told
                self.close()
            raise

    def _begin(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        """Be the application's ``start_response``."""
        if self._send is not None:  # the server knows that it is too late, and raises what happened
            return self._start(status, headers, exc_info)
        if self._line and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        self._line = status
        self._headers, self.overrides = without_overrides(headers)
        return self._write

    def _write(self, data: bytes) -> None:
        if self._send is not None:
            self._send(data)
        elif len(self._written) + len(data) > self._most:
            raise ResponseTooLarge(f"more than {self._most} bytes are written at once: return them piece by piece")
        else:
            self._written += data

    def _take(self, hold: bool) -> None:
        at_hand = isinstance(self._pieces, list | tuple) and sum(map(len, self._pieces)) <= self._most
        pieces = self._in_order()
        self._body, self.flow = taken(pieces, hold=hold or at_hand, most=self._most, length=self._length)
        if not self._line:
            raise AssertionError("the application ended without start_response")

    def _in_order(self) -> Iterator[bytes]:
        """Give what is written before what is returned."""
        for piece in chain(self._pieces, (b"",)):
            if self._written:
                written, self._written = bytes(self._written), bytearray()
                yield written
            if piece:
                yield piece

    def _length(self) -> int | None:
        said = [value for name, value in self._headers if name.lower() == "content-length"]
        return number_said(said[0]) if len(said) == 1 else None

    @property
    def status(self) -> int:
        """The response's status."""
        return int(self._line[:3])

    @property
    def complete(self) -> bool:
        """True when the whole response is held, and short enough to be kept."""
        return self.flow is None and len(self._body) <= self._most

    def reply(self) -> Reply | None:
        """Return the whole response, if it is held whole."""
        return Reply(self.status, tuple(self._headers), self._body) if self.complete else None

    def release(self, headers: Headers) -> Iterable[bytes]:
        """Begin the response with ``headers`` added; iterating sends what is held, then what follows."""
        self._send = self._start(self._line, [*self._headers, *headers])
        return self

    def __iter__(self) -> Iterator[bytes]:
        """Give the body."""
        return iter((self._body,) if self._body else ()) if self.flow is None else self.flow

    def close(self) -> None:
        """Close the application's iterable, once, as servers do when a response is over."""
        if self.flow is not None:
            self.flow.close()
        pieces, self._pieces = self._pieces, ()
        if (close := getattr(pieces, "close", None)) is not None:
            close()

    discard = close
