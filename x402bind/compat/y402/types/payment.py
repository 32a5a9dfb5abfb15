"""What a webhook is told of a payment: y402's document, field for field."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

__all__ = ["PaymentDetails", "PaymentIdentity", "SettledPayment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentIdentity:
    """What was paid for: the resource's URL, the endpoint's tags (none is fine: Y15), the seller's reference."""

    resource: str
    tags: tuple[str, ...] = ()
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentDetails:
    """Who paid how much of what to whom; ``value`` is minimal units, as digits."""

    payer: str
    chain_id: str
    token: str
    value: str
    pay_to_address: str
    code: str
    name: str
    price_label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledPayment:
    """One payment; ``settled_on`` and ``transaction_hash`` are known once it is settled."""

    id: str
    version: int
    identity: PaymentIdentity
    details: PaymentDetails
    settled_on: datetime | None = None
    transaction_hash: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told = asdict(self)
        told["identity"]["tags"] = list(self.identity.tags)
        told["settled_on"] = None if self.settled_on is None else self.settled_on.isoformat()
        return told
