"""``Http402Client``: an ``httpx.AsyncClient`` that pays, within a cap for each payment method.

Streams, redirects, repeated headers, auth and everything else of httpx work as they do there: payments are made below all of
it, on a copy of the request (A17).  A token that was bought is used until it ends (A10); one request pays once (A6).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx

from x402bind.clients.purse import Purse
from x402bind.compat.x402_mock.adapters.adapters_hub import AdapterHub, Component

from .transport import pay_from

__all__ = ["Http402Client"]


class Http402Client(httpx.AsyncClient):
    """Pay from ``adapter_hub`` (default: one of its own, whose key is ``EVM_PRIVATE_KEY``); the rest is httpx's.

    ``response.extensions["x402"]`` says what became of the money.
    """

    def __init__(self, adapter_hub: AdapterHub | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._hub = adapter_hub or AdapterHub()
        self._purse: tuple[int, Purse] | None = None
        pay_from(self, self._purse_now)

    def add_payment_method(
        self,
        payment_component: Component | str | None = None,
        amount: float | str | Decimal | None = None,
        currency: str | None = None,
        *,
        chain_id: str | None = None,
    ) -> None:
        """Allow payments up to an amount: a component (0.3.0), or chain id, amount and currency (0.1.1).

        The method added earlier is paid with where a server takes both (A11).  Raises: naming the field.
        """
        self._hub.register_payment_methods(payment_component, amount, currency, chain_id=chain_id, client_role=True)

    def _purse_now(self) -> Purse | None:
        count = len(self._hub.get_payment_methods())
        if count == 0:
            return None
        if self._purse is None or self._purse[0] != count:
            self._purse = count, self._hub.purse()
        return self._purse[1]
