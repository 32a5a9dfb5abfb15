"""The routes of a Starlette or FastAPI application: every one that can be reached, however it is mounted or included."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Found", "walk"]


@dataclass(frozen=True, slots=True)
class Found:
    """A route of the application: what is patched, its whole path, and what the framework says of it."""

    route: Any
    path: str
    says: Any


def walk(routes: Iterable[Any], prefix: str = "") -> Iterator[Found]:
    """Yield every route of an application that can be reached, those of mounts and included routers too."""
    fastapi = sys.modules.get("fastapi.routing")
    contexts = getattr(fastapi, "iter_route_contexts", iter)
    for says in contexts(routes):
        included = getattr(says, "_route_context", None)
        route = getattr(included, "starlette_route", None) or getattr(says, "original_route", says)
        path = prefix + (getattr(says, "path", None) or "")
        if hasattr(route, "endpoint"):
            yield Found(route, path, says)
        else:
            yield from walk(getattr(route, "routes", None) or (), path)
