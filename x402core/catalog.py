"""The catalog's values: what a facilitator lists of the resources it was paid for, and what others ask of that list.

Pure values and two rules every storage shares: which entry a newer one replaces, and what matches a query.  How a payment
becomes an entry is ``wire/bazaar.py``'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import LocalProtocolError
from .registry import KNOWN
from .values import Millis

if TYPE_CHECKING:
    from .wire.json import Json

__all__ = ["MOST_PER_PAYEE", "CatalogEntry", "CatalogQuery", "ListedOffer", "ResourceType", "listed_network", "terms"]

MOST_PER_PAYEE: Final = 100
"""Entries kept of one payee: listing costs one payment, so somebody will pay for thousands."""
_TERMS: Final = 8


@unique
class ResourceType(StrEnum):
    """How a listed resource is reached."""

    HTTP = "http"
    MCP = "mcp"


class ListedOffer(NamedTuple):
    """What a query can ask of one way to pay: the network by its CAIP-2 id, an EVM address in lower case."""

    scheme: str
    network: str
    pay_to: str


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One listed resource (x402.md 1.5, DiscoveredResource).

    ``key`` is its canonical name: origin and route (or path) without query; URL, ``#`` and tool of an MCP tool.  ``version``
    is the x402 version it was paid by.  ``accepts`` are requirements as they stood on the wire, one at least.
    """

    key: str
    resource: str
    type: ResourceType
    version: int
    accepts: tuple[Mapping[str, Json], ...]
    last_updated: Millis
    description: str = ""
    mime_type: str = ""
    service_name: str = ""
    tags: tuple[str, ...] = ()
    icon_url: str = ""
    extensions: Mapping[str, Json] = field(default_factory=dict)

    @property
    def offers(self) -> tuple[ListedOffer, ...]:
        """What a query can ask of each way to pay, in the order of ``accepts``."""
        return tuple(_offer(accepted) for accepted in self.accepts)

    @property
    def payee(self) -> str:
        """Who is paid, by the first way to pay: nobody replaces another payee's entry, as paying proves no URL one's own."""
        return self.offers[0].pay_to if self.accepts else ""

    @property
    def words(self) -> str:
        """The text a search looks through, case-folded."""
        return "\n".join((self.key, self.description, self.service_name, *self.tags)).casefold()


@dataclass(frozen=True, slots=True)
class CatalogQuery:
    """Which entries, and which part of them; None asks nothing.  One way to pay must fit all that is asked of it."""

    type: ResourceType | None = None
    pay_to: str | None = None
    scheme: str | None = None
    network: str | None = None
    extension: str | None = None
    limit: int = 20
    offset: int = 0

    def matches(self, entry: CatalogEntry) -> bool:
        """Say whether an entry is asked for."""
        if self.type is not None and entry.type is not self.type:
            return False
        if self.extension is not None and self.extension not in entry.extensions:
            return False
        return any(self._fits(offer) for offer in entry.offers)

    def _fits(self, offer: ListedOffer) -> bool:
        asked = ((self.scheme, offer.scheme), (self.network, offer.network), (self.pay_to, offer.pay_to))
        return all(want is None or want == found for want, found in asked)


def terms(text: str) -> tuple[str, ...]:
    """Return the words of a search, case-folded: an entry is found when each is somewhere in its ``words``; 8 at most."""
    return tuple(dict.fromkeys(text.casefold().split()))[:_TERMS]


def listed_network(text: str) -> str:
    """Return the CAIP-2 id of a network's x402 v1 name, and anything else as it is."""
    try:
        return text if ":" in text else KNOWN.resolve(text)
    except LocalProtocolError:
        return text


def _offer(accepted: Mapping[str, Json]) -> ListedOffer:
    scheme, network, pay_to = (_text(accepted.get(name)) for name in ("scheme", "network", "payTo"))
    return ListedOffer(scheme, listed_network(network), pay_to.lower() if pay_to[:2] in ("0x", "0X") else pay_to)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
