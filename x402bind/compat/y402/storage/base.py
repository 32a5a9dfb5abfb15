"""The interface between a server, which stores payments, and the webhook workers, which take them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from x402bind.compat.y402.types.payment import SettledPayment

__all__ = ["StorageManager"]


@runtime_checkable
class StorageManager(Protocol):
    """What keeps payments: y402's methods and arguments, sync or async."""

    def allocate(
        self,
        collection: str,
        payment_id: UUID,
        payload: Any,
        matched_requirements: Any,
        settled_payment: SettledPayment,
        webhook_name: str,
    ) -> Awaitable[None] | None:
        """Keep a payment that is verified, before its endpoint runs.  To raise is to refuse to serve it."""

    def abort(self, collection: str, payment_id: UUID) -> Awaitable[None] | None:
        """Note that a payment will not be settled."""

    def settle(self, collection: str, payment_id: UUID, transaction: str) -> Awaitable[None] | None:
        """Note that a payment is settled: it is now due at its webhook."""

    def get_batch(
        self, collection: str, webhook_name: str, worker_id: str
    ) -> list[SettledPayment] | Awaitable[list[SettledPayment]]:
        """Hand a worker payments that are due at a webhook."""

    def mark_as_sent(self, collection: str, payment_id: str | UUID) -> Awaitable[None] | None:
        """Note that a webhook has taken a payment."""
