"""How a permit moves money, one scheme a file, and the one judge that makes a ``Verified``."""

from __future__ import annotations

from typing import Any, Final

from x402core.errors import LocalProtocolError
from x402core.events import Offer

from .eip2612 import Eip2612
from .eip3009 import Eip3009
from .erc7710 import Erc7710
from .permit2 import Permit2Exact, Permit2Upto
from .permit2_direct import Permit2Direct
from .scheme import Call, Closing, Scheme

__all__ = ["SCHEMES", "Call", "Closing", "Scheme", "of", "supported"]

_ALL: Final[tuple[Scheme[Any], ...]] = (Eip3009(), Eip2612(), Permit2Exact(), Permit2Upto(), Permit2Direct(), Erc7710())
SCHEMES: Final[dict[tuple[str, str, str], Scheme[Any]]] = {(s.scheme, s.method, s.namespace): s for s in _ALL}
"""Keyed by (scheme, method, network namespace)."""


def of(offer: Offer) -> Scheme[Any]:
    """Return the scheme of an offer.  Raises: LocalProtocolError when there is none, which decoded offers never cause."""
    try:
        return SCHEMES[offer.scheme, offer.method, offer.network.partition(":")[0]]
    except KeyError:
        raise LocalProtocolError(f"no scheme for {offer.scheme}/{offer.method} on {offer.network}", field="offer") from None


def supported(scheme: str, method: str, network: str) -> bool:
    """Say whether this core can pay and be paid that way."""
    return (scheme, method, network.partition(":")[0]) in SCHEMES
