"""What a hub takes or pays: its components, in order, its own alone (B6)."""

from __future__ import annotations

from typing import Any

from x402bind.compat.x402_mock.errors import PaymentMethodError

from .evm.schemas import EVMPaymentComponent

__all__ = ["PaymentRegistry", "component_of"]


def component_of(
    method: EVMPaymentComponent | dict[str, Any] | str, amount: Any = None, currency: str | None = None
) -> EVMPaymentComponent:
    """Return a component from either generation's arguments: a component or a dict, or chain id, amount and currency.

    Raises: PaymentMethodError for arguments of neither; pydantic's ValidationError, a ValueError, naming the field.
    """
    if isinstance(method, EVMPaymentComponent):
        return method.model_copy()
    if isinstance(method, dict):
        return EVMPaymentComponent.model_validate(method)
    if amount is None or currency is None:
        raise PaymentMethodError("write a component, or chain_id, amount and currency")
    return EVMPaymentComponent(caip2=method, amount=amount, currency=currency)


class PaymentRegistry:
    """Components in the order they were registered."""

    def __init__(self) -> None:
        self._support_list: list[EVMPaymentComponent] = []

    def method_register(self, payment_component: EVMPaymentComponent) -> None:
        """Add a component.  Raises: PaymentMethodError for one whose token on its chain is there already."""
        if any((each.caip2, each.token) == (payment_component.caip2, payment_component.token) for each in self._support_list):
            raise PaymentMethodError(f"{payment_component.currency} on {payment_component.caip2} is registered already")
        self._support_list.append(payment_component)

    def get_support_list(self) -> list[EVMPaymentComponent]:
        """Return the components."""
        return list(self._support_list)
