"""An ASGI application run on a leash: its response is held until the exchange says what to do with it.

Two ways.  *Held*: the whole response is collected, up to a stated number of bytes, and nothing leaves before the money has
moved.  *Not held*: a response in one piece is collected all the same, so that it can be kept for a replay; a streamed one is
stopped at its first piece and let go from there once the exchange responds.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

import anyio

from x402core.errors import Reply
from x402core.events import Headers
from x402core.wire.overrides import SETTLEMENT_OVERRIDES

__all__ = [
    "App",
    "Flag",
    "HeldApp",
    "Message",
    "Receive",
    "ResponseTooLarge",
    "Scope",
    "Send",
    "add_headers",
    "send_reply",
    "sized",
]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_BODILESS: Final = (204, 304)
_OVERRIDES: Final = SETTLEMENT_OVERRIDES.lower().encode()


class ResponseTooLarge(Exception):
    """A response that must be held is longer than may be held: settle before the handler to stream it."""


class Flag:
    """An event that is only made when somebody must wait for it."""

    __slots__ = ("_event", "up")

    def __init__(self) -> None:
        self.up = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        """Put it up, for good."""
        self.up = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Wait until it is up."""
        if not self.up:
            self._event = self._event or anyio.Event()
            await self._event.wait()


class HeldApp:
    """One run of an application.

    ``changed`` is set when its response is complete, streaming has begun, or it ended; ``sent`` when all of a response that
    was let go has been sent, or none of it will be any more; ``over`` when it has returned.  ``left``: the payer hung up.
    """

    def __init__(self, app: App, scope: Scope, receive: Receive, send: Send, *, hold: bool, most: int) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._hold, self._most = hold, most
        self._start: Message = {}
        self._overrides: str | None = None
        self._body = bytearray()
        self._let_go = Flag()
        self._too_large = False
        self.changed = Flag()
        self.sent = Flag()
        self.over = Flag()
        self.left = False
        self.ended = False
        self.streaming = False
        self.error: Exception | None = None

    @property
    def status(self) -> int:
        """The response's status, once it has begun."""
        return int(self._start["status"])

    @property
    def overrides(self) -> str | None:
        """What the application says is to be charged (``Settlement-Overrides``); it is taken off, and never sent on."""
        return self._overrides

    def _begin(self, message: Message) -> None:
        headers = list(message.get("headers", ()))
        said = [value.decode("latin-1") for name, value in headers if name.lower() == _OVERRIDES]
        if said:
            self._overrides = said[0] if len(said) == 1 else ", ".join(said)  # said twice is said wrongly
            message = {**message, "headers": [pair for pair in headers if pair[0].lower() != _OVERRIDES]}
        self._start = message

    @property
    def ready(self) -> bool:
        """True once the exchange can judge the response: it is all here, or it streams."""
        return self.ended or self.streaming

    @property
    def complete(self) -> bool:
        """True when the whole response is held, and short enough to be kept."""
        return self.ended and not self.streaming and len(self._body) <= self._most

    async def run(self) -> None:
        """Run the application to its end, background tasks and all; its error is kept, not raised."""
        try:
            await self._app(self._scope, self._receive, self._take)
        except Exception as error:  # noqa: BLE001 - the edge raises it again when the exchange is over
            self.error = error
        except anyio.get_cancelled_exc_class() as stray:
            if anyio.current_effective_deadline() == -math.inf:
                raise  # we are cancelled; else it is of something that the application has awaited: its own trouble
            self.error = RuntimeError(f"the application ended with {stray!r}")
        finally:
            self.changed.set()
            self.sent.set()
            self.over.set()

    async def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        elif message["type"] == "http.response.body":
            await self._take_body(message.get("body", b""), more=message.get("more_body", False))

    async def _take_body(self, body: bytes, *, more: bool) -> None:
        if self._let_go.up and not self.ended:
            await self._pass_on({"type": "http.response.body", "body": body, "more_body": more})
            self.ended = not more
            if self.ended:
                self.sent.set()
            return
        if self.ended:
            raise RuntimeError("the application sent more after the end of its response")
        self._too_large = self._too_large or (self._hold and len(self._body) + len(body) > self._most)
        if self._too_large:  # for good: what comes after a hole must not end as the whole response
            raise ResponseTooLarge(f"a response to be held is longer than {self._most} bytes: settle before the handler")
        self._body += body
        self.ended = not more
        self.streaming = more and not self._hold
        if self.ready:
            self.changed.set()
        if self.streaming:
            await self._let_go.wait()
        return

    def reply(self) -> Reply | None:
        """Return the whole response, if it is held whole."""
        if not self.complete:
            return None
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._start.get("headers", ()))
        return Reply(self.status, headers, bytes(self._body))

    async def release(self, headers: Headers) -> None:
        """Send what is held with ``headers`` added, and let the rest follow as it comes."""
        try:
            await self._pass_on({**self._start, "headers": add_headers(self._start.get("headers", ()), headers)})
            await self._pass_on({"type": "http.response.body", "body": bytes(self._body), "more_body": not self.ended})
        finally:
            if self.ended:
                self.sent.set()
            self._let_go.set()

    async def _pass_on(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self.left = True
            raise


def add_headers(headers: Any, more: Headers) -> list[tuple[bytes, bytes]]:
    """Return ASGI headers with more of them at the end; repeats and order are kept."""
    return [*headers, *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in more)]


def sized(reply: Reply) -> Headers:
    """Return the headers of a reply of the core's own, its length among them."""
    return _sized(reply.status, reply.headers, len(reply.body))


def _sized(status: int, headers: tuple[tuple[str, str], ...], length: int) -> tuple[tuple[str, str], ...]:
    framed = any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers)
    return headers if framed or status in _BODILESS else (*headers, ("Content-Length", str(length)))


@lru_cache(maxsize=64)  # a price's 402 is the same each time, and long
def _encoded(status: int, headers: tuple[tuple[str, str], ...], length: int) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(add_headers((), _sized(status, headers, length)))


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a reply of the core's own."""
    headers = list(_encoded(reply.status, reply.headers, len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})
