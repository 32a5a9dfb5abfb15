"""What something costs, as sellers write it, and what else they say of it.

A price may be written for all networks of a seller, for one of them, as a list of both, as offers of one's own, or as a
function of the request; a :class:`Listing` says it together with what is sold; a :class:`Shelf` has the terms of a listing
at hand, so that a fixed price is worked out once and its 402 encoded once, and a computed one once for each of its values.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from x402core.errors import LocalProtocolError
from x402core.events import Headers, Offer, Payer
from x402core.money import AssetAmount, Price
from x402core.policy import Terms
from x402core.wire.json import Json

if TYPE_CHECKING:
    from .seller import Seller

__all__ = ["Asked", "Listing", "Paid", "PaymentOption", "Prices", "Pricing", "Shelf", "each"]


@dataclass(frozen=True, slots=True)
class PaymentOption:
    """One way to pay: a price on one network (by any of its names; None: on all of the seller's), to one payee.

    ``pay_to`` None is the seller's own; ``scheme`` ``"upto"`` makes the price a ceiling (x402.md 2.4).
    """

    price: Price
    network: str | None = None
    pay_to: str | None = None
    scheme: str | None = None


Prices: TypeAlias = Price | PaymentOption | Offer | Iterable[Price | PaymentOption | Offer]
"""What a seller writes: a price, an option, an offer, or several of them, the preferred one first."""
Pricing: TypeAlias = Prices | Callable[[Any], Prices | Awaitable[Prices]]
"""The same, or a function of the request, sync or (where the server is) async, that returns it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a price may depend on where no framework has a request of its own; ``body`` is whole, capped by the edge."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Listing:
    """A price, and what is sold for it.

    ``resource`` is its public URL, or a path under the seller's (default: the path asked for).  ``reference`` is the
    seller's own word for a sale, or a function of the request that returns it; ``tags`` go with it.  Neither is shown to
    payers; handlers find both in :class:`Paid`.  ``extensions`` are advertised beside the seller's.  A price that is a function
    of the request sells no access tokens, and nobody comes back to it by signing in.
    """

    price: Pricing
    description: str = ""
    mime_type: str = ""
    scheme: str = "exact"
    resource: str | None = None
    reference: str | Callable[[Any], str] = ""
    tags: tuple[str, ...] = ()
    extensions: Mapping[str, Json] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    token_path: str = "/token"

    def named(self, request: Any) -> str:
        """Return the reference of a sale.  Raises: whatever the seller's function of the request raises."""
        return self.reference if isinstance(self.reference, str) else self.reference(request)

    def __post_init__(self) -> None:
        if isinstance(self.tags, str) or not all(isinstance(tag, str) for tag in self.tags):
            raise LocalProtocolError("write a tuple of strings", field="tags")


@dataclass(frozen=True, slots=True)
class Paid(Payer):
    """What a handler may know of the sale it serves: who paid, how much of what, and what the seller said of it.

    ``transaction`` is known when the money moved before the handler ran.
    """

    reference: str = ""
    tags: tuple[str, ...] = ()

    @classmethod
    def by(cls, payer: Payer, listing: Listing, reference: str) -> Paid:
        """Return a payer together with what the listing says of this request."""
        return cls(
            payer.payer, payer.amount, payer.asset, payer.network, payer.payment, payer.transaction, reference, listing.tags
        )


def each(prices: Prices) -> tuple[Price | PaymentOption | Offer, ...]:
    """Return prices one by one.  Raises: LocalProtocolError for none at all."""
    if isinstance(prices, Iterable) and not isinstance(prices, str | bytes | Mapping):
        several = tuple(prices)
        if not several:
            raise LocalProtocolError("a price needs at least one way to pay", field="prices")
        return several
    return (prices,)  # type: ignore[return-value]  # what is no price is refused where it is read


_LONGEST: Final = 2048  # characters of a path that is named in its 402
_MOST: Final = 1024  # terms kept per listing: whoever asks for ever new paths makes us forget, not grow


class Shelf:
    """A listing of ``seller`` at ``path``, its terms at hand; ``path`` is what access tokens open.

    ``whole``: the path is one resource, however it is spelled; else it stands for many (a route's template, every path), and
    what is sold, and what signing in gives back, is the path that is asked for.
    """

    def __init__(self, seller: Seller, listing: Listing, path: str, *, whole: bool = True) -> None:
        self.seller, self.listing, self.path, self.whole = seller, listing, path, whole
        self.fixed: Terms | None = None if callable(listing.price) else self._terms(listing.price)
        self._known: dict[tuple[object, ...], Terms] = {}

    @property
    def computed(self) -> bool:
        """True when the price is a function of the request."""
        return self.fixed is None

    @property
    def sells_tokens(self) -> bool:
        """True when a permit buys a token here; never at a computed price, which is of one request."""
        return self.fixed is not None and self.fixed.token is not None

    def compute(self, request: Any) -> Prices | Awaitable[Prices]:
        """Work out the price of a request, as the listing's function does.  Raises: whatever that raises."""
        assert callable(self.listing.price)
        return self.listing.price(request)

    def terms(self, asked: str, prices: Prices | None = None) -> Terms:
        """Return the terms for the path ``asked`` for: at the fixed price, or at ``prices`` worked out for this request.

        Raises: LocalProtocolError for what is no price.
        """
        nameless = not self.whole and len(asked) > _LONGEST
        asked = self.path if self.whole or nameless else asked
        if self.fixed is not None and asked == self.path and not nameless:
            return self._signed(self.fixed)
        if self.fixed is None:
            prices = each(prices)  # type: ignore[arg-type]  # None is no price, and refused as none
        key = (nameless, asked, *map(_key, prices or ()))  # type: ignore[arg-type]
        try:
            terms = self._known.get(key)
        except TypeError:  # no price can be without a hash
            terms = self._terms(prices or ())  # refuses it
        if terms is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            terms = self._of(asked, self.fixed or self._terms(prices or ()))
            if nameless:  # of a path too long to be named nobody remembers who has paid
                terms = replace(terms, sign_in=None)
            self._known[key] = terms
        return self._signed(terms)

    def _of(self, asked: str, terms: Terms) -> Terms:
        """Return terms that name the path asked for, where the seller named no resource."""
        if asked != self.path and terms.sign_in is not None:
            terms = replace(terms, sign_in=replace(terms.sign_in, resource=asked))
        if asked == self.path or self.listing.resource is not None:
            return terms
        return replace(terms, resource=replace(terms.resource, url=self.seller.url + quote(asked)))

    def _signed(self, terms: Terms) -> Terms:
        return self.seller.attester.current(terms)

    def _terms(self, prices: Prices) -> Terms:
        listing = self.listing
        terms = self.seller.terms(
            prices,
            self.path,
            token_path=listing.token_path,
            description=listing.description,
            mime_type=listing.mime_type,
            scheme=listing.scheme,
            tokens=not callable(listing.price),
        )
        if listing.resource is not None:
            url = listing.resource if "://" in listing.resource else self.seller.url + listing.resource
            terms = replace(terms, resource=replace(terms.resource, url=url))
        if callable(listing.price):  # which is of one request: what one paid for opens no other
            terms = replace(terms, sign_in=None)
        return replace(terms, extensions={**terms.extensions, **listing.extensions}) if listing.extensions else terms


def _key(price: object) -> tuple[object, ...]:
    """Return what tells two prices apart: one atomic unit (1) is not one dollar (Decimal(1)), though Python has them equal."""
    if isinstance(price, PaymentOption):
        return (type(price), *_key(price.price), price.network, price.pay_to, price.scheme)
    if isinstance(price, AssetAmount):
        return (type(price), type(price.amount), price.amount, price.asset)
    return (type(price), price)
