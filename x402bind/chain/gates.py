"""Back-pressure: so many requests at once for each server, so many waiting, and every further one refused at once.

Without a bound, a slow node turns a burst of requests into a queue whose every entry times out, long after its payer left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from x402bind.leaves import HttpFailed
from x402core.errors import LocalProtocolError

if TYPE_CHECKING:
    import anyio

__all__ = ["Gates"]


class _Gate:
    __slots__ = ("places", "users")

    def __init__(self, places: anyio.Semaphore) -> None:
        self.places = places
        self.users = 0


class Gates:
    """Let ``most`` requests at a time through to each server, with ``queue`` more waiting for their turn.

    Raises: LocalProtocolError naming the argument.
    """

    def __init__(self, most: int, queue: int) -> None:
        if most < 1:
            raise LocalProtocolError("must be at least 1", field="most")
        if queue < 0:
            raise LocalProtocolError("must not be negative", field="queue")
        self._most = most
        self._queue = queue
        self._gates: dict[str, _Gate] = {}

    def forget(self) -> None:
        """Have a forked child make gates of its own."""
        self._gates = {}

    @asynccontextmanager
    async def through(self, server: str, seconds: float) -> AsyncIterator[None]:
        """Hold a place for as long as the body runs, waiting for it at most ``seconds``.

        Raises: HttpFailed (``sent`` false) when too many wait already, or the wait was in vain.
        """
        import anyio

        gate = self._gates.get(server)
        if gate is None:  # made when first needed: a gate nobody uses belongs to no event loop
            gate = self._gates[server] = _Gate(anyio.Semaphore(self._most))
        if gate.users >= self._most + self._queue:
            raise HttpFailed("too many requests wait for this server", sent=False)
        gate.users += 1
        try:
            with anyio.move_on_after(seconds) as waiting:
                await gate.places.acquire()
            if waiting.cancelled_caught:
                raise HttpFailed("this server kept a request waiting for its turn too long", sent=False)
            try:
                yield
            finally:
                gate.places.release()
        finally:
            gate.users -= 1
            if not gate.users:
                self._gates.pop(server, None)
