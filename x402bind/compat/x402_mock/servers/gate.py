"""The gate in front of priced handlers: ``x402bind.servers.fastapi``, with the price filled in when the application starts.

x402-mock's users may add payment methods after they have written their handlers, so that neither the price nor the seller is
known where ``@app.payment_required`` stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from x402bind.pricing import Listing
from x402bind.seller import Seller
from x402bind.servers.fastapi import Payments
from x402bind.servers.marks import Mark, mark
from x402bind.settler import Settler
from x402core.events import Offer
from x402core.ledger import SettlementRecord

__all__ = ["Gate", "HeldSettler"]


class Gate:
    """All priced handlers of one application: they cost the same, and each is its own resource."""

    def __init__(self, token_path: str) -> None:
        self._token_path = token_path
        self._listing = Listing((), token_path=token_path)
        self._marks: list[Mark] = []

    @property
    def guards(self) -> bool:
        """True when there is a priced handler."""
        return bool(self._marks)

    def guard(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler that runs for those who have paid, and for nobody before the gate is open."""
        guarded, found = mark(handler, self._listing)
        self._marks.append(found)
        return guarded  # type: ignore[no-any-return]

    def open(self, app: FastAPI, seller: Seller, offers: tuple[Offer, ...], *, prove: bool) -> None:
        """Sell from now on, for these offers."""
        object.__setattr__(self._listing, "price", offers)  # the one listing every mark holds, before anybody reads it
        payments = Payments(app, seller, token_path=self._token_path, prove=prove)
        payments._marks.extend(self._marks)


class HeldSettler(Settler):
    """A settler that leaves what is journaled alone until it is told to settle it (``enable_auto_settlement=False``)."""

    _released: frozenset[str] = frozenset()

    def mine(self, record: SettlementRecord) -> bool:
        """Take up only what was released."""
        return record.key in self._released and super().mine(record)

    def release(self, key: str) -> None:
        """Settle this one."""
        self._released |= {key}
        self._woken.set()
