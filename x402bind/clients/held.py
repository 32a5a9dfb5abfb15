"""A response body of which the core may see a bounded part, and the caller all of it: the beginning held, the rest to come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import httpx

from .alike import plain
from .purse import MOST_BODY

__all__ = ["Held"]


class Held(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of which ``parts`` were read; the ``rest``, if any, is still on its connection."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.parts: list[bytes] = []
        self.rest: Any = None

    def read(self, rest: Iterator[bytes]) -> Self:
        size = 0
        for part in rest:
            self.parts.append(part)
            size += len(part)
            if size > MOST_BODY:
                self.rest = rest
                return self
        self.close()
        return self

    async def aread(self, rest: AsyncIterator[bytes]) -> Self:
        size = 0
        async for part in rest:
            self.parts.append(part)
            size += len(part)
            if size > MOST_BODY:
                self.rest = rest
                return self
        await self.aclose()
        return self

    def _check(self) -> None:
        if self.response.is_closed and self.rest is not None:
            raise httpx.ReadError("the rest of this body was given up: the payment needed its connection")

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        self._check()
        yield from self.rest or ()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part
        self._check()
        if self.rest is not None:
            async for part in self.rest:
                yield part

    def close(self) -> None:
        self.response.close()

    async def aclose(self) -> None:
        if self.rest is not None and hasattr(self.rest, "aclose"):
            await self.rest.aclose()
        await self.response.aclose()

    def plain(self) -> bytes:
        """Return what the core may see of the body."""
        raw, headers = b"".join(self.parts), self.response.headers

        def unpack(size: int) -> Iterator[bytes]:
            slices = (raw[at : at + size] for at in range(0, len(raw), size))
            return httpx.Response(self.response.status_code, headers=headers, content=slices).iter_bytes()

        packed = headers.get("Content-Encoding")
        return plain(raw, packed, whole=self.rest is None, unpack=unpack, broken=httpx.DecodingError)
