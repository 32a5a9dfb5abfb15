"""The one event loop of a server without any: settlements, chain reads and leases, in a thread of its own beside the workers.

It begins with the first sale of a process and ends with the process, or when it is closed.  A forked child begins its own: of
its parent's loop it has a copy that nobody runs, and connections that are not its own.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from x402bind.seller import Seller
from x402core.errors import LocalProtocolError

from .lifespan import unproved

__all__ = ["Background"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Life:
    """The loop of one process.  ``problem`` is what the chain said is wrong: with it, nothing is sold."""

    pid: int
    portal: BlockingPortal
    stack: ExitStack
    problem: str | None


class Background:
    """Run ``seller`` for a server of threads and processes; ``prove`` asks the chain first, as the ASGI lifespan does."""

    def __init__(self, seller: Seller, *, prove: bool = True) -> None:
        self.seller, self.prove = seller, prove
        self._made_by: Final = os.getpid()
        self._life: _Life | None = None
        self._locks: dict[int, threading.Lock] = {}  # by process: a forked child must not wait for a thread it has not
        self._inherited: list[object] = []
        self._begun_here: set[Future[Any]] = set()

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function to its end and return what it returns.  Raises: what it raises, and as :meth:`start`."""
        return self._running().call(function, *args)

    def begin(self, function: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        """Begin an async function; cancelling the future ends it, and so does :meth:`close`.  Raises: as :meth:`start`."""
        future = self._running().start_task_soon(function, *args)
        self._begun_here.add(future)
        future.add_done_callback(self._begun_here.discard)
        return future

    def start(self) -> None:
        """Begin, unless this process has.

        Raises: LocalProtocolError saying what the chain, asked once, finds wrong with the configuration: nothing is sold then.
        """
        self._running()

    def close(self) -> None:
        """Stop settling in this process and let the connections go; the journal keeps what is open, a next sale begins anew."""
        with self._lock:
            life = self._life
            if life is not None and life.pid == os.getpid():
                self._life = None
                atexit.unregister(self.close)
                for future in tuple(self._begun_here):  # the loop waits for what nobody ends
                    future.cancel()
                life.stack.close()

    @property
    def _lock(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _running(self) -> BlockingPortal:
        life = self._life
        if life is None or life.pid != os.getpid():
            with self._lock:
                life = self._life
                if life is None or life.pid != os.getpid():
                    life = self._life = self._begun()
        if life.problem is not None:
            raise LocalProtocolError(life.problem)
        return life.portal

    def _begun(self) -> _Life:
        if self._made_by != os.getpid():
            # kept: what is let go of here may end the parent's
            self._inherited += [self._life, self._begun_here, self.seller.forked()]
            self._begun_here = set()
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            problem = portal.call(unproved, self.seller) if self.prove else None
            if problem is None:
                stack.enter_context(portal.wrap_async_context_manager(self.seller.running()))
            atexit.register(self.close)
            return _Life(os.getpid(), portal, stack.pop_all(), problem)
