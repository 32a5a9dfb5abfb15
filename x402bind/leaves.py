"""The leaf commands: all that a translator ever asks of the world itself.

A translator (``x402bind/translate``) turns a coarse command into these, a driver performs them (``chain/transports.py``).
Three leaves are enough for every conversation over HTTP, retries, pauses and hedged requests included, in the sync world and
the async one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from x402core.commands import Command
from x402core.events import Headers

__all__ = ["MOST_BYTES", "First", "FirstOf", "HttpCall", "HttpFailed", "HttpReply", "Leaf", "Sleep", "shown"]

MOST_BYTES: Final = 8 * 1024 * 1024
"""How many bytes of an answer's body are taken, unless the call says otherwise."""


class HttpFailed(Exception):
    """An HTTP call broke and has no answer.  ``sent`` false: not a byte of it left, so it had no effect.

    The text is ours, never the peer's.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


def shown(url: str) -> str:
    """Return what may be printed of a URL: scheme, host and port.  Providers put API keys into the rest."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "(not a URL)"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}"


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP answer: status, header list, body (whole, never more than the call allowed)."""

    status: int
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, repr=False)
class HttpCall(Command[HttpReply]):
    """Make one HTTP request without following redirects, within ``timeout`` seconds, taking at most ``most`` bytes of body.

    On failure: HttpFailed; unless its ``sent`` is false the request may have had its effect.
    """

    method: str
    url: str
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)
    timeout: float = 10.0
    most: int = MOST_BYTES

    def __repr__(self) -> str:
        """Show neither path nor headers nor body: they carry keys."""
        return f"HttpCall({self.method} {shown(self.url)}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class Sleep(Command[None]):
    """Let ``seconds`` pass.  On failure: treat as slept."""

    seconds: float


@dataclass(frozen=True, slots=True)
class First:
    """The answer that came first, the position of its call, and of the calls that failed or were overtaken before it."""

    position: int
    reply: HttpReply
    failed: tuple[int, ...] = ()
    beaten: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FirstOf(Command[First]):
    """Make the first of several calls; begin the next when ``after`` seconds brought no answer, or when one failed.

    The first answer with status 200 counts, and the calls still open are dropped; where none has it, the first answer does.
    Only for requests that may be made twice: every one of them may have had its effect.

    On failure: HttpFailed, none was answered.
    """

    calls: tuple[HttpCall, ...]
    after: float


Leaf = HttpCall | Sleep | FirstOf
