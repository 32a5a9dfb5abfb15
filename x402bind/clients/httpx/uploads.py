"""Bodies that could be sent twice, were they kept: a payment takes a second sending, so small ones are read beforehand.

httpx streams a multipart form and an open file from where they lie, once.  A body of a stated length up to ``MOST_KEPT`` is
read into memory before the first sending, and is then bytes like any other.  Everything else is left as it came (no length, a
longer one, a stream of the other world, which httpx itself refuses): it is streamed once, and if a price is asked, nothing is
paid.  A body that turns out longer than it said is put back together, for the transport to judge as it would have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

import httpx

from x402bind.clients.purse import MOST_KEPT

__all__ = ["REMEDY", "akeep", "keep"]

REMEDY: Final = "pass bytes, or call request.read() before; of itself only a body of a stated length up to 1 MiB is kept"
"""What a caller can do about a body that was not kept."""


def keep(request: httpx.Request) -> None:
    """Read a body of a stated length up to ``MOST_KEPT`` bytes, so that it can be sent again.

    Raises: what the caller's stream raises.
    """
    stated = _stated(request)
    if stated is None or not isinstance(request.stream, httpx.SyncByteStream):
        return
    read, rest = bytearray(), iter(request.stream)
    for part in rest:
        read += part
        if len(read) > stated:
            request.stream = _Begun(bytes(read), rest)
            return
    request.stream = httpx.ByteStream(bytes(read))
    request.read()


async def akeep(request: httpx.Request) -> None:
    """As :func:`keep`, of an async stream."""
    stated = _stated(request)
    if stated is None or not isinstance(request.stream, httpx.AsyncByteStream):
        return
    read, rest = bytearray(), aiter(request.stream)
    async for part in rest:
        read += part
        if len(read) > stated:
            request.stream = _AsyncBegun(bytes(read), rest)
            return
    request.stream = httpx.ByteStream(bytes(read))
    await request.aread()


def _stated(request: httpx.Request) -> int | None:
    """Return the length of a body that is to be read; None where it is bytes already, or has no length, or too much of it."""
    if isinstance(request.stream, httpx.ByteStream) or "Transfer-Encoding" in request.headers:
        return None
    length = request.headers.get("Content-Length", "")
    if not (length.isascii() and length.isdigit() and len(length) <= len(str(MOST_KEPT))):
        return None
    return int(length) if int(length) <= MOST_KEPT else None


class _Begun(httpx.SyncByteStream):
    """A stream of which some was read: that first, then the rest, once."""

    def __init__(self, read: bytes, rest: Iterator[bytes]) -> None:
        self._read: bytes | None = read
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        if self._read is None:
            raise httpx.StreamConsumed
        read, self._read = self._read, None
        yield read
        yield from self._rest


class _AsyncBegun(httpx.AsyncByteStream):
    """As :class:`_Begun`."""

    def __init__(self, read: bytes, rest: AsyncIterator[bytes]) -> None:
        self._read: bytes | None = read
        self._rest = rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._read is None:
            raise httpx.StreamConsumed
        read, self._read = self._read, None
        yield read
        async for part in self._rest:
            yield part
