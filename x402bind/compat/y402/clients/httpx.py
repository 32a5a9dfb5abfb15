"""y402's client for httpx: an ``AsyncClient`` that pays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from x402bind.compat.y402.core.types.errors import ConditionalDependencyError, MisconfigurationError

try:
    import httpx
except ImportError:
    raise ConditionalDependencyError("httpx is not installed: pip install httpx") from None

from . import common
from .common import PaymentSelectorCallable, Policy
from .transports import install

__all__ = ["Y402Client", "y402_payment_hooks"]


class Y402Client(httpx.AsyncClient):
    """An ``httpx.AsyncClient(**options)`` that pays with ``account``, at most ``policy`` for one request.

    Each request may be paid for.  Raises, from every method: PaymentError and its kin for what the policy does not pay; what
    else httpx raises; PaymentOutcomeUnknown, from it, once a payment had left.
    """

    def __init__(
        self,
        account: Any,
        payment_requirements_selector: PaymentSelectorCallable | None = None,
        chain_id_by_name: Mapping[str, int] | None = None,
        *,
        policy: Policy | None = None,
        **options: Any,
    ) -> None:
        payer = common.Y402Client(account, payment_requirements_selector, chain_id_by_name, policy=policy)
        super().__init__(**options)
        install(self, payer)


def y402_payment_hooks(*_: object, **__: object) -> NoReturn:
    """Refuse: a hook cannot send the paid request by its client's own transport (Y10).

    Raises: MisconfigurationError, always.
    """
    raise MisconfigurationError("a hook cannot pay by the client's own transport: use Y402Client(account, ...)", field="hooks")
