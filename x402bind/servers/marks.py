"""A priced endpoint: marked with what it costs, and guarded, so that whoever reaches it without a sale gets an error.

The mark is on the function itself, where no spelling of a path can pass it.  The guard is the last door: should a framework
ever route around the sale, the endpoint raises instead of giving itself away.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from x402bind.pricing import Listing
from x402core.errors import LocalProtocolError

__all__ = ["SOLD", "Mark", "NotSold", "mark", "mark_of", "sold"]

SOLD: Final[ContextVar[Listing | None]] = ContextVar("x402_sold", default=None)
"""What the handler that runs here was sold by."""
_NAME: Final = "__x402__"


@contextmanager
def sold(listing: Listing | None) -> Iterator[None]:
    """Run what was sold by this listing: its guard, and no other, lets whoever comes through."""
    token = SOLD.set(listing)
    try:
        yield
    finally:
        SOLD.reset(token)


class NotSold(RuntimeError):
    """A priced endpoint was reached without a sale: by a route nobody walked, or called as a plain function.

    Call what it wraps (``endpoint.__wrapped__``) to run it without a price.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """What an endpoint costs, the endpoint as it was written, and where that is, in words."""

    listing: Listing
    endpoint: Any
    where: str

    def check(self) -> None:
        """Raise NotSold unless this very listing was sold to whoever is being served."""
        if SOLD.get() is not self.listing:
            raise NotSold(f"{self.where} has a price and was reached without a sale")


def mark(endpoint: Any, listing: Listing) -> tuple[Any, Mark]:
    """Return the endpoint guarded, and its mark; signature, name and kind (async, generator, class) stay what they were.

    Raises: LocalProtocolError for what is no function and no class with ``dispatch``.
    """
    found = Mark(listing, endpoint, _where(endpoint))
    if mark_of(endpoint) is not None:
        raise LocalProtocolError(f"{found.where} is priced twice", field="required")
    if inspect.isclass(endpoint):
        guarded = _class(endpoint, found)
    elif inspect.isroutine(endpoint) or isinstance(endpoint, functools.partial):
        guarded = _function(endpoint, found)
        functools.update_wrapper(guarded, endpoint)
        guarded.__signature__ = _signature(endpoint)
    else:
        raise LocalProtocolError(f"{found.where} is no function: price an application by its path", field="required")
    setattr(guarded, _NAME, found)
    return guarded, found


def mark_of(endpoint: Any) -> Mark | None:
    """Return what an endpoint was marked with; its own, never a base class's."""
    found = vars(endpoint).get(_NAME) if hasattr(endpoint, "__dict__") else None
    return found if isinstance(found, Mark) else None


def _function(endpoint: Any, found: Mark) -> Any:
    kind: Any = endpoint
    while isinstance(kind, functools.partial):
        kind = kind.func
    if inspect.isasyncgenfunction(kind):

        async def stream(*args: Any, **kwargs: Any) -> Any:
            found.check()
            async with aclosing(endpoint(*args, **kwargs)) as pieces:
                async for piece in pieces:
                    yield piece

        return stream
    if inspect.iscoroutinefunction(kind):

        async def later(*args: Any, **kwargs: Any) -> Any:
            found.check()
            return await endpoint(*args, **kwargs)

        return later
    if inspect.isgeneratorfunction(kind):

        def pieces(*args: Any, **kwargs: Any) -> Any:
            found.check()
            yield from endpoint(*args, **kwargs)

        return pieces

    def now(*args: Any, **kwargs: Any) -> Any:
        found.check()
        return endpoint(*args, **kwargs)

    return now


def _class(endpoint: Any, found: Mark) -> Any:
    if not inspect.iscoroutinefunction(getattr(endpoint, "dispatch", None)):
        raise LocalProtocolError(f"{found.where} has no async dispatch, so it cannot be guarded", field="required")

    async def dispatch(self: Any) -> None:
        found.check()
        await endpoint.dispatch(self)

    kept = {"dispatch": dispatch, "__doc__": endpoint.__doc__, "__module__": endpoint.__module__}
    return type(endpoint)(endpoint.__name__, (endpoint,), {**kept, "__qualname__": endpoint.__qualname__})


def _signature(endpoint: Any) -> inspect.Signature:
    """Return the endpoint's signature with its annotations worked out where they were written, not where the guard is."""
    signature = inspect.signature(endpoint)
    kind = endpoint
    while isinstance(kind, functools.partial):
        kind = kind.func
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - names known to a type checker only: the framework says what it makes of them
        return signature
    known = [each.replace(annotation=hints.get(name, each.annotation)) for name, each in signature.parameters.items()]
    return signature.replace(parameters=known, return_annotation=hints.get("return", signature.return_annotation))


def _where(endpoint: Any) -> str:
    kind = endpoint
    while isinstance(kind, functools.partial):
        kind = kind.func
    kind = inspect.unwrap(kind)  # what the user wrote, behind decorators, and behind a guard of ours
    name = getattr(kind, "__qualname__", type(kind).__name__)
    try:
        return f"{name} ({inspect.getsourcefile(kind)}:{inspect.getsourcelines(kind)[1]})"
    except (OSError, TypeError):
        return str(name)
