"""Ledger calls off the event loop, in threads that nothing but ledgers can use up.

A sale waits for its ledger several times, and a lease that is not renewed is another's: an application whose own sync
endpoints have taken all threads of the event loop's must not keep either waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import anyio.to_thread
from anyio.lowlevel import RunVar

from .contract import Ledger

__all__ = ["called"]

R = TypeVar("R")

_MOST: Final = 40  # calls at one time, of all ledgers of an event loop
_places: Final[RunVar[anyio.CapacityLimiter]] = RunVar("x402bind.ledger.threads")


async def called(ledger: Ledger, function: Callable[..., R], *args: object) -> R:
    """Call what calls the ledger: in a thread where that blocks.  Raises: what it raises."""
    if not ledger.blocking:
        return function(*args)
    try:
        places = _places.get()
    except LookupError:
        _places.set(places := anyio.CapacityLimiter(_MOST))
    return await anyio.to_thread.run_sync(function, *args, limiter=places)
