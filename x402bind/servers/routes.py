"""An application's routes and their prices: which price is on which route, on none, or passed by; and what each sells.

What walks a framework's routes is that framework's door; what is made of them is here, for all doors alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from x402bind.pricing import Listing, Pricing, Shelf
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError
from x402core.wire.v2 import UPTO

from .marks import Mark, mark_of

__all__ = ["METHODS", "Routes", "Scopes", "listed", "refuse", "sync_price", "unapplied"]

D = TypeVar("D")

METHODS: Final = ("get", "post", "put", "patch", "delete", "head", "options", "trace")
"""What a class of views may have methods for, by their names."""


def sync_price(price: Pricing | Listing) -> None:
    """Refuse a price that cannot be worked out without an event loop.  Raises: LocalProtocolError."""
    price = price.price if isinstance(price, Listing) else price
    if inspect.iscoroutinefunction(price) or inspect.iscoroutinefunction(getattr(price, "__call__", None)):  # noqa: B004
        raise LocalProtocolError("an async function cannot compute a price here", field="price")


def listed(seller: Seller, token_path: str, price: Pricing | Listing, said: Mapping[str, Any], *, sync: bool) -> Listing:
    """Return a price with what else is said of it as a listing of its own.

    Raises: LocalProtocolError naming what is wrong with it; where the server is ``sync``, an async price function too.
    """
    found = replace(price, **said) if isinstance(price, Listing) else Listing(price, **{"token_path": token_path, **said})
    if sync:
        sync_price(found)
    if not (found.scheme == UPTO and seller.facilitators is not None):  # who settles is asked at start-up
        Shelf(seller, found, "/")
    return found


def unapplied(decorator: D) -> D:
    """Mark a decorator, so that a route which has it in place of an endpoint is found."""
    decorator._x402_unapplied = True  # type: ignore[attr-defined]
    return decorator


class Routes:
    """An application's routes, walked: what is priced on each, and which functions they have without a price."""

    def __init__(self) -> None:
        self.marks: dict[str, list[Mark]] = {}
        self._bare: dict[int, str] = {}
        self._unapplied: list[str] = []
        self._within: dict[int, str] = {}  # by the mark of a method: the class of a route, which calls it by itself

    def add(self, route: str, view: Any, methods: Iterable[str]) -> None:
        """Look at the view of a route, at what it wraps, and at the ``methods`` of the class it is of."""
        if getattr(view, "_x402_unapplied", False):
            self._unapplied.append(f"{route} has a price for an endpoint: write @payments.required(price), with its price")
        each = view
        while each is not None and mark_of(each) is None:
            self._bare.setdefault(id(each), route)
            each = getattr(each, "__wrapped__", None)
        own, cls = mark_of(view), getattr(view, "view_class", None)
        for found in (own,) if own is not None else (mark_of(getattr(cls, name, None)) for name in methods):
            if found is not None and found not in self.marks.setdefault(route, []):
                self.marks[route].append(found)
        if inspect.isclass(view):
            within = (mark_of(getattr(view, name, None)) for name in METHODS)
            self._within |= {id(each): view.__qualname__ for each in within if each is not None}

    def problem(self, mark: Mark) -> str | None:
        """Say what is wrong with where a price is; None where it is asked."""
        if mark.endpoint is not None and id(mark.endpoint) in self._bare:
            free = self._bare[id(mark.endpoint)]
            return f"{mark.where} is served free at {free}: write the price under the route's decorator, next to the function"
        reached = any(mark is each for marks in self.marks.values() for each in marks)
        if reached:
            return None
        within = self._within.get(id(mark))
        instead = "" if within is None else f", but on a method: put it on the class {within}"
        return f"the price of {mark.where} is on no route{instead}"

    def problems(self, marks: Iterable[Mark]) -> list[str]:
        """Say what is wrong with where any of these prices is."""
        return self._unapplied + [problem for each in marks if (problem := self.problem(each)) is not None]


def refuse(problems: Iterable[str]) -> None:
    """Raise LocalProtocolError(field="required") where there are problems."""
    if said := "; ".join(problems):
        raise LocalProtocolError(said, field="required")


class Scopes:
    """The terms of every priced route, by its path and mark; and of those that sell tokens, by scope.

    A path with one of the characters ``templates`` in it is a pattern: what is sold there is the path that was asked for.
    Where one path has several prices (by method), a token, or a sign-in, for one of them must not open another: what they are
    for then has the function's name to it.
    """

    def __init__(self, seller: Seller, routes: Routes, templates: str) -> None:
        self._suffixes: dict[tuple[str, int], str] = {}
        self._shelves: dict[tuple[str, int], Shelf] = {}
        several = seller.ring is not None or seller.sign_in
        for path, marks in routes.marks.items():
            whole = not any(sign in path for sign in templates)
            apart = several and len({id(each.listing) for each in marks}) > 1
            for each in marks:
                suffix = f"#{getattr(each.endpoint, '__name__', each.where)}" if apart else ""
                self._suffixes[path, id(each)] = suffix
                self._shelves[path, id(each)] = Shelf(seller, each.listing, path + suffix, whole=whole)
        self.tokens = {shelf.path: shelf for shelf in self._shelves.values() if shelf.sells_tokens}
        """What tokens are sold for."""
        if several and len({shelf.path for shelf in self._shelves.values()}) < len(self._shelves):
            raise LocalProtocolError("two functions of one name have different prices at one path", field="required")

    def find(self, route: str, asked: str, mark: Mark) -> tuple[Shelf, str]:
        """Return what is sold at a route, and what is asked for there.  Raises: LocalProtocolError where nobody looked."""
        shelf = self._shelves.get((route, id(mark)))
        if shelf is None:
            raise LocalProtocolError(f"{mark.where} is priced, and was reached by a route that was not there", field="required")
        return shelf, asked + self._suffixes[route, id(mark)]
