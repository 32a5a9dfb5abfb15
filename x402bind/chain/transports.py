"""The leaves: one HTTP request and one pause, for the sync world and for the async one.

No redirects (a redirect would carry a permit or a key elsewhere), no compression (a small body could unpack to a huge one),
one deadline for the whole exchange and not for each byte, and never more of a body than the call allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from x402bind.leaves import HttpCall, HttpFailed, HttpReply, Sleep
from x402core.commands import Command
from x402core.errors import LocalProtocolError

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncHttp", "SyncHttp"]


def _httpx() -> ModuleType:
    try:
        import httpx
    except ImportError:
        raise LocalProtocolError("httpx is not installed: pip install 'x402core[httpx]'", field="httpx") from None
    return httpx


@contextmanager
def _failing(httpx_: Any) -> Iterator[None]:
    """Turn every way in which httpx breaks into HttpFailed, in our words: its own may quote the URL."""
    try:
        yield
    except (httpx_.ConnectError, httpx_.ConnectTimeout, httpx_.PoolTimeout, httpx_.UnsupportedProtocol) as error:
        raise HttpFailed(type(error).__name__, sent=False) from None
    except httpx_.InvalidURL:
        raise HttpFailed("InvalidURL", sent=False) from None
    except httpx_.HTTPError as error:
        raise HttpFailed(type(error).__name__) from None


class _Body:
    """A body as it comes in: counted, and timed against the call's deadline."""

    def __init__(self, command: HttpCall, response: httpx.Response, began: float) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise HttpFailed("a compressed answer, though none was asked for")
        self._most = command.most
        self._until = began + command.timeout
        self._parts: list[bytes] = []
        self._size = 0
        self._response = response

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most:
            raise HttpFailed(f"an answer of more than {self._most} bytes")
        if time.monotonic() > self._until:
            raise HttpFailed("the answer took too long")
        self._parts.append(part)

    def reply(self) -> HttpReply:
        headers = tuple([(k.decode("latin-1"), v.decode("latin-1")) for k, v in self._response.headers.raw])
        return HttpReply(self._response.status_code, headers, b"".join(self._parts))


def _headers(command: HttpCall) -> list[tuple[str, str]]:
    return [*command.headers, ("Accept-Encoding", "identity")]


class SyncHttp:
    """Perform HttpCall and Sleep in the calling thread.  A given client is used as it is and not closed.

    Raises: LocalProtocolError when httpx is not installed.
    """

    def __init__(self, client: httpx.Client | None = None) -> None:
        self._httpx = _httpx()
        self._owned = client is None
        self._client: httpx.Client = self._httpx.Client() if client is None else client

    def call(self, command: HttpCall) -> HttpReply:
        """Perform one HTTP request.  Raises: HttpFailed."""
        began = time.monotonic()
        with (
            _failing(self._httpx),
            self._client.stream(
                command.method,
                command.url,
                headers=_headers(command),
                content=command.body,
                timeout=command.timeout,
                follow_redirects=False,
            ) as response,
        ):
            body = _Body(command, response, began)
            for part in response.iter_raw():
                body.add(part)
            return body.reply()

    def sleep(self, command: Sleep) -> None:
        """Let the time pass."""
        time.sleep(command.seconds)

    @property
    def table(self) -> dict[type[Command[Any]], Callable[[Any], Any]]:
        """What this performs, for ``drive.dispatch``."""
        return {HttpCall: self.call, Sleep: self.sleep}

    def close(self) -> None:
        """Close the connections, unless the client was given."""
        if self._owned:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncHttp:
    """Perform HttpCall and Sleep under asyncio or trio; one instance for each event loop.

    A given client is used as it is and not closed.  Closing lets the connections go; the next call opens new ones.

    Raises: LocalProtocolError when httpx is not installed.
    """

    def __init__(self, client: httpx.AsyncClient | None = None) -> None:
        self._httpx = _httpx()
        self._owned = client is None
        self._client = client

    async def call(self, command: HttpCall) -> HttpReply:
        """Perform one HTTP request.  Raises: HttpFailed."""
        import anyio

        began = time.monotonic()
        with _failing(self._httpx), anyio.move_on_after(command.timeout):
            if self._client is None:
                self._client = self._httpx.AsyncClient()
            async with self._client.stream(
                command.method,
                command.url,
                headers=_headers(command),
                content=command.body,
                timeout=command.timeout,
                follow_redirects=False,
            ) as response:
                body = _Body(command, response, began)
                async for part in response.aiter_raw():
                    body.add(part)
                return body.reply()
        raise HttpFailed("the answer took too long")

    async def sleep(self, command: Sleep) -> None:
        """Let the time pass."""
        import anyio

        await anyio.sleep(command.seconds)

    @property
    def table(self) -> dict[type[Command[Any]], Callable[[Any], Any]]:
        """What this performs, for ``drive.adispatch``."""
        return {HttpCall: self.call, Sleep: self.sleep}

    async def aclose(self) -> None:
        """Close the connections, unless the client was given."""
        if self._owned and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
