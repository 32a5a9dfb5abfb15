"""The guard of a priced endpoint, put into the endpoint itself: it raises when it is reached without a sale.

y402's documentation writes the settings above the decorator that makes the function a route.  The route has the function by
then, so a wrapper around it would guard nothing that the route calls.  Here the function object stays the one that the route
has, and its code becomes the guard's: whoever holds it, by whatever way it came to them, holds the guard.
"""

from __future__ import annotations

import functools
import inspect
from types import CodeType, FunctionType
from typing import Any, Final

from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.pricing import Listing
from x402bind.servers.marks import Mark, mark

__all__ = ["guard"]

_FOUND: Final = "__x402_found__"
_CALL: Final = f"{_FOUND}.endpoint(*args, **kwargs)"
_PIECES: Final = (f"pieces = {_CALL}", "try:", "    async for piece in pieces: yield piece", "finally: await pieces.aclose()")
_KINDS: Final = (  # what it takes to be of one kind with the endpoint, which frameworks asked when they made the route
    (inspect.isasyncgenfunction, "async def", _PIECES),
    (inspect.iscoroutinefunction, "async def", (f"return await {_CALL}",)),
    (inspect.isgeneratorfunction, "def", (f"return (yield from {_CALL})",)),
    (callable, "def", (f"return {_CALL}",)),
)


def guard(endpoint: Any) -> None:
    """Have a function, or a class with ``dispatch``, raise NotSold unless its sale is under way; ``__wrapped__`` does not.

    Raises: MisconfigurationError for anything else, as a route may have it and could not be kept from calling it.
    """
    if inspect.isclass(endpoint):
        _class(endpoint)
    elif isinstance(endpoint, FunctionType):
        _function(endpoint)
    else:
        raise MisconfigurationError(f"write it above a function, not a {type(endpoint).__name__}", field="endpoint")


def _listing() -> Listing:
    return Listing(lambda request: ())  # what it costs is worked out with its setup


def _function(endpoint: FunctionType) -> None:
    guarded, found = mark(_copy(endpoint), _listing())
    endpoint.__code__ = _code(found.endpoint, len(endpoint.__closure__ or ()))  # first: until the next line, a call is an error
    endpoint.__defaults__, endpoint.__kwdefaults__ = None, {_FOUND: found}
    endpoint.__dict__.update(vars(guarded))


def _copy(endpoint: FunctionType) -> FunctionType:
    """Return another function that does what this one does."""
    code, name, cells = endpoint.__code__, endpoint.__name__, endpoint.__closure__
    copy = FunctionType(code, endpoint.__globals__, name, endpoint.__defaults__, cells)
    functools.update_wrapper(copy, endpoint)
    copy.__dict__.clear()  # it wraps nothing but what the endpoint wraps
    copy.__dict__.update(endpoint.__dict__)
    copy.__kwdefaults__ = endpoint.__kwdefaults__
    return copy


def _code(endpoint: Any, cells: int) -> CodeType:
    """Return the guard's code, with as many cells as the function has that it is for: Python takes no other."""
    _, kind, body = next(each for each in _KINDS if each[0](endpoint))
    names = [f"cell{number}" for number in range(cells)]
    lines = [
        f"def around({', '.join(names)}):",
        f"    {kind} guard(*args, {_FOUND}, **kwargs):",
        *([f"        nonlocal {', '.join(names)}"] if names else []),
        f"        {_FOUND}.check()",
        *(f"        {line}" for line in body),
        "    return guard",
    ]
    made: dict[str, Any] = {}
    exec(compile("\n".join(lines), "<x402 guard>", "exec"), made)
    code: CodeType = made["around"](*names).__code__
    return code


def _class(endpoint: Any) -> None:
    guarded, found = mark(endpoint, _listing())
    run = endpoint.dispatch

    async def dispatch(self: Any) -> None:
        found.check()
        await run(self)

    endpoint.dispatch = dispatch
    for name, value in vars(guarded).items():
        if isinstance(value, Mark):
            setattr(endpoint, name, value)
