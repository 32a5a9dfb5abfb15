"""A view of Django's with a price: sync or async, a function, or the method of a class."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async

from x402bind.servers.marks import Mark

__all__ = ["priced_view"]

Sell: TypeAlias = Callable[[Mark, Any, Callable[[], Any]], Any]
"""Sell one run of a view: by what it is priced, to whose request, and the run."""


def priced_view(sell: Sell, found: Mark, guarded: Any, view: Any) -> Any:
    """Return a view that is sold, of the kind that ``view`` is; what runs is ``guarded``."""
    owner = getattr(getattr(view, "func", None), "__self__", None)  # of a class's dispatch, which says not itself that it waits

    def sold(request: Any, *args: Any, **kwargs: Any) -> Any:
        return sell(found, request, lambda: async_to_sync(_awaited)(guarded, request, *args, **kwargs))

    if iscoroutinefunction(view) or getattr(type(owner), "view_is_async", False):

        @functools.wraps(guarded)
        async def priced(request: Any, *args: Any, **kwargs: Any) -> Any:
            return await sync_to_async(sold, thread_sensitive=True)(request, *args, **kwargs)

    else:

        @functools.wraps(guarded)
        def priced(request: Any, *args: Any, **kwargs: Any) -> Any:
            return sell(found, request, functools.partial(guarded, request, *args, **kwargs))

    priced.csrf_exempt = True  # type: ignore[attr-defined]
    priced.__x402__ = found  # type: ignore[attr-defined]
    return priced


async def _awaited(view: Any, *args: Any, **kwargs: Any) -> Any:
    made = view(*args, **kwargs)
    return await made if inspect.isawaitable(made) else made
