"""The leaves: one HTTP request, the first of several, and one pause, for the sync world and for the async one.

No redirects (a redirect would carry a permit or a key elsewhere), no compression (a small body could unpack to a huge one),
one deadline for the whole exchange and not for each byte, and never more of a body than the call allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

from x402bind.leaves import First, FirstOf, HttpCall, HttpFailed, HttpReply, Sleep, shown
from x402core.commands import Command
from x402core.errors import LocalProtocolError

from .gates import Gates

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncHttp", "SyncHttp"]

_OK: Final = 200


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


class _Race:
    """What has come in of a :class:`FirstOf`, by the calls' positions."""

    def __init__(self) -> None:
        self.begun = 0
        self.replies: dict[int, HttpReply] = {}
        self.failures: dict[int, HttpFailed] = {}

    @property
    def ended(self) -> int:
        return len(self.replies) + len(self.failures)

    @property
    def won(self) -> bool:
        return any(reply.status == _OK for reply in self.replies.values())

    def result(self) -> First:
        """Return who came first.  Raises: HttpFailed when nobody did."""
        if not self.replies:
            last = next(reversed(self.failures.values()))
            raise HttpFailed(str(last), sent=any(each.sent for each in self.failures.values()))
        good = [number for number, reply in self.replies.items() if reply.status == _OK]
        best = good[0] if good else next(iter(self.replies))
        failed = {*self.failures, *self.replies} - {best, *good}
        beaten = set(range(best)) - failed
        return First(best, self.replies[best], tuple(sorted(failed)), tuple(sorted(beaten)))


class SyncHttp:
    """Perform HttpCall, FirstOf and Sleep in the calling thread.  A given client is used as it is and not closed.

    How many requests are in flight is the caller's business here: as many as there are threads.

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

    def first(self, command: FirstOf) -> First:
        """Make the calls one after the other until one is answered; all but the last have only a part of their time.

        One thread cannot wait for two servers, so this is failover and no race: ``after`` has no meaning here, and each
        call gives up after its share of the timeout (a half, of two), for the others to have theirs.  Raises: HttpFailed.
        """
        race = _Race()
        for number, call in enumerate(command.calls):
            last = number == len(command.calls) - 1
            try:
                race.replies[number] = self.call(call if last else replace(call, timeout=call.timeout / len(command.calls)))
            except HttpFailed as error:
                race.failures[number] = error
            if race.won:
                break
        return race.result()

    def sleep(self, command: Sleep) -> None:
        """Let the time pass."""
        time.sleep(command.seconds)

    @property
    def table(self) -> dict[type[Command[Any]], Callable[[Any], Any]]:
        """What this performs, for ``drive.dispatch``."""
        return {HttpCall: self.call, FirstOf: self.first, Sleep: self.sleep}

    def close(self) -> None:
        """Close the connections, unless the client was given."""
        if self._owned:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncHttp:
    """Perform HttpCall, FirstOf and Sleep under asyncio or trio; one instance for each event loop.

    A given client is used as it is and not closed.  Closing lets the connections go; the next call opens new ones.
    At most ``most`` requests for one server (scheme, host, port) are in flight at a time; ``queue`` more wait for their turn,
    within their timeout, and any further one fails at once, unsent.

    Raises: LocalProtocolError naming the argument, or when httpx is not installed.
    """

    def __init__(self, client: httpx.AsyncClient | None = None, *, most: int = 32, queue: int = 512) -> None:
        self._httpx = _httpx()
        self._gates = Gates(most, queue)
        self._owned = client is None
        self._client = client

    def forked(self) -> object:
        """Have a forked child open connections of its own; return its parent's, to be kept: closed here, they end there."""
        inherited = self._client
        self._gates.forget()
        if self._owned:
            self._client = None
        return inherited

    async def call(self, command: HttpCall) -> HttpReply:
        """Perform one HTTP request.  Raises: HttpFailed."""
        began = time.monotonic()
        async with self._gates.through(shown(command.url), command.timeout):
            return await self._exchange(command, began)

    async def _exchange(self, command: HttpCall, began: float) -> HttpReply:
        import anyio

        left = began + command.timeout - time.monotonic()
        with _failing(self._httpx), anyio.move_on_after(left):
            if self._client is None:
                # the pool looks at every idle connection for each request: few of them make it half as dear
                limits = self._httpx.Limits(max_connections=1024, max_keepalive_connections=8)
                self._client = self._httpx.AsyncClient(limits=limits)
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

    async def first(self, command: FirstOf) -> First:
        """Race the calls, each begun ``after`` seconds after the one before it; those overtaken are cancelled.

        Raises: HttpFailed.
        """
        import anyio

        race, news, broken = _Race(), anyio.Event(), list[Exception]()

        async def run(number: int) -> None:
            try:
                race.replies[number] = await self.call(command.calls[number])
            except HttpFailed as error:
                race.failures[number] = error
            except Exception as error:  # noqa: BLE001 - raised again below: a task group would wrap it
                broken.append(error)
            news.set()

        async with anyio.create_task_group() as tasks:
            while not (race.won or broken) and race.ended < len(command.calls):
                news = anyio.Event()
                patience = None
                if race.begun < len(command.calls):
                    tasks.start_soon(run, race.begun)
                    race.begun, patience = race.begun + 1, command.after
                with anyio.move_on_after(patience):
                    await news.wait()
            tasks.cancel_scope.cancel()
        if broken:
            raise broken[0]
        return race.result()

    async def sleep(self, command: Sleep) -> None:
        """Let the time pass."""
        import anyio

        await anyio.sleep(command.seconds)

    @property
    def table(self) -> dict[type[Command[Any]], Callable[[Any], Any]]:
        """What this performs, for ``drive.adispatch``."""
        return {HttpCall: self.call, FirstOf: self.first, Sleep: self.sleep}

    async def aclose(self) -> None:
        """Close the connections, unless the client was given."""
        if self._owned and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
