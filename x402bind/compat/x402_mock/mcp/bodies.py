"""A response's body as an agent gets it: so much of it and no more, whatever a server goes on sending, or packs it as."""

from __future__ import annotations

import codecs
import zlib
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["UNPACKED", "read_text"]

UNPACKED: Final = {"Accept-Encoding": "identity"}
_PLAIN: Final = frozenset({"", "identity"})
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})  # those that are unpacked no further than is wanted
_EITHER: Final = 32 + zlib.MAX_WBITS
_MEMBER: Final = 16 + zlib.MAX_WBITS  # of what is gzip, another may follow
_CHARSETS: Final = ("utf", "ascii", "iso", "cp", "gb", "big5", "euc", "shift", "koi8", "mac")  # no codec that unpacks


async def read_text(response: httpx.Response, most: int, seconds: float) -> tuple[str, bool]:
    """Read up to ``most`` bytes of a body, for up to ``seconds``; return them as text, and whether that was all.

    A connection that breaks ends the body as the time does; of one packed in a way nobody asked for, nothing is read.
    """
    body, whole = bytearray(), False
    with anyio.move_on_after(seconds):
        with suppress(httpx.TransportError, zlib.error):  # what has come may have been paid for
            whole = await _read(response, body, most)
    return _text(response, bytes(body[:most]), whole=whole), whole


async def _read(response: httpx.Response, body: bytearray, most: int) -> bool:
    packed = response.headers.get("Content-Encoding", "").strip().lower()
    unpacker: Any = zlib.decompressobj(_EITHER) if packed in _PACKED else None
    begun, parts = False, response.aiter_raw()
    async with aclosing(cast("AsyncGenerator[bytes]", parts)):
        async for part in parts:
            if packed not in _PLAIN | _PACKED:
                return False
            begun, left = True, part
            while left:
                if unpacker is not None and unpacker.eof:
                    unpacker = zlib.decompressobj(_MEMBER)
                body += left if unpacker is None else unpacker.decompress(left, most + 1 - len(body))
                if len(body) > most:
                    return False
                left = b"" if unpacker is None else unpacker.unused_data
    return unpacker is None or not begun or bool(unpacker.eof)


def _text(response: httpx.Response, body: bytes, *, whole: bool) -> str:
    """Return bytes in the charset that the response names, or in UTF-8; of a character that was cut in two, nothing."""
    return codecs.getincrementaldecoder(_charset(response))("replace").decode(body, final=whole)


def _charset(response: httpx.Response) -> str:
    try:
        name = codecs.lookup(response.charset_encoding or "utf-8").name
    except (LookupError, ValueError):
        return "utf-8"
    return name if name.startswith(_CHARSETS) else "utf-8"
