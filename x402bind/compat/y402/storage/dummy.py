"""The storage manager that keeps nothing: for sellers without webhooks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from x402bind.compat.y402.types.payment import SettledPayment

__all__ = ["StorageManager"]


class StorageManager:
    """Keep nothing, hand out nothing."""

    def allocate(
        self,
        collection: str,
        payment_id: UUID,
        payload: Any,
        matched_requirements: Any,
        settled_payment: SettledPayment,
        webhook_name: str,
    ) -> None:
        """Do nothing."""

    def abort(self, collection: str, payment_id: UUID) -> None:
        """Do nothing."""

    def settle(self, collection: str, payment_id: UUID, transaction: str) -> None:
        """Do nothing."""

    def get_batch(self, collection: str, webhook_name: str, worker_id: str) -> list[SettledPayment]:
        """Return nothing."""
        return []

    def mark_as_sent(self, collection: str, payment_id: str | UUID) -> None:
        """Do nothing."""
