"""What the doors to a sale have in common: where they sell, what they may be told, and how endpoints come to be priced.

A door puts prices on paths, in front of an application it knows nothing of (:class:`PathDoor`), or on endpoints, inside a
framework whose routes it can walk (:class:`EndpointDoor`), or both, being of both classes.  What is here knows no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, TypeVar, Unpack

from x402bind.pricing import Listing, Pricing, Shelf
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError

from .marks import Mark, mark
from .paths import PricedPaths
from .routes import Routes, Scopes, listed, refuse, unapplied
from .sale import Counter

if TYPE_CHECKING:
    from x402bind.paywall import Paywall

__all__ = ["Door", "EndpointDoor", "Options", "PathDoor", "PathOptions"]

E = TypeVar("E")


class Options(TypedDict, total=False):
    """What every door may be told."""

    token_path: str
    """Where permits are exchanged for access tokens; default ``"/token"``."""
    hold_most: int
    """How long a response may be, in bytes, that waits for its settlement; default 1 MiB."""
    body_most: int
    """How long the body of a paid request may be, in bytes, which its permit is bound to; default 1 MiB."""
    prove: bool
    """Whether the chain is asked first if it and its tokens are what the configuration says; default True."""
    paywall: Paywall | None
    """The page that a browser gets with its 402."""


class PathOptions(Options, total=False):
    """What a door that sells by path may be told besides."""

    default: Pricing | Listing | None
    """What every path costs that has no price of its own."""
    free: Collection[str]
    """The paths that do not cost the default, in just that spelling."""
    upto: Collection[str]
    """The paths whose price is a ceiling."""


class Door:
    """Where ``seller`` is reached; the rest is as in :class:`Options`."""

    sync: ClassVar[bool] = False
    """True where no event loop is, so that an async function cannot compute a price."""

    def __init__(
        self,
        seller: Seller,
        *,
        token_path: str = "/token",
        hold_most: int = 1 << 20,
        body_most: int = 1 << 20,
        prove: bool = True,
        paywall: Paywall | None = None,
    ) -> None:
        if not isinstance(seller, Seller):
            raise LocalProtocolError(
                f"expected a Seller(key=..., rpc=..., ledger=...), not {type(seller).__name__}", field="seller"
            )
        if not isinstance(token_path, str) or not token_path.startswith("/"):
            raise LocalProtocolError("write a whole path such as '/token'", field="token_path")
        self.seller, self.token_path, self.prove = seller, token_path, prove
        self.counter = Counter(seller, hold_most, body_most, paywall)


class PathDoor(Door):
    """A door that sells paths at ``prices``; ``default``, ``free`` and ``upto`` are as in :class:`PathOptions`."""

    def __init__(
        self,
        seller: Seller,
        prices: Mapping[str, Pricing | Listing],
        *,
        default: Pricing | Listing | None = None,
        free: Collection[str] = (),
        upto: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        super().__init__(seller, **options)
        self.paths = PricedPaths(
            seller, prices, default=default, free=free, upto=upto, token_path=self.token_path, sync=self.sync
        )


class EndpointDoor(Door):
    """A door that sells endpoints, named with :meth:`required`, once their framework's routes were walked."""

    def __init__(self, seller: Seller, **options: Unpack[Options]) -> None:
        super().__init__(seller, **options)
        self._marks: list[Mark] = []
        self._scopes: Scopes | None = None  # once the routes were walked

    def required(self, price: Pricing | Listing, **listing: Any) -> Callable[[E], E]:
        """Return a decorator that puts a price on an endpoint: directly above the function, under the route's decorator.

        ``price`` and the rest are as in :class:`~x402bind.pricing.Listing`; a function as price is called with the
        framework's request, whose body it may read.  Raises: LocalProtocolError naming what is no price.
        """
        found_by = self._listed(price, listing)

        def decorate(endpoint: E) -> E:
            guarded, found = mark(endpoint, found_by)
            return self._priced(guarded, found)  # type: ignore[no-any-return]

        return unapplied(decorate)

    def _listed(self, price: Pricing | Listing, said: Mapping[str, Any]) -> Listing:
        return listed(self.seller, self.token_path, price, said, sync=self.sync)

    def _priced(self, guarded: Any, found: Mark) -> Any:
        """Return what stands in an endpoint's place: its guard, or what sells a run of that."""
        self._note(found)
        return guarded

    def _note(self, found: Mark) -> None:
        """Remember a price, which some route is to have: the routes are walked again."""
        self._marks.append(found)
        self._scopes = None

    def _open(self, routes: Routes, problems: list[str], *, templates: str) -> None:
        """Sell on these routes from now on; ``templates`` are as for :class:`~.routes.Scopes`.

        Raises: LocalProtocolError(field="required") listing the problems, and the prices that nobody could be asked for.
        """
        refuse([*problems, *routes.problems(self._marks)])
        self._scopes = Scopes(self.seller, routes, templates)

    @property
    def scopes(self) -> Mapping[str, Shelf]:
        """What tokens are sold for."""
        return {} if self._scopes is None else self._scopes.tokens
