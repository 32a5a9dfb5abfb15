"""0.3.0's registry of EVM components: its own, not one list for all (B6), and asking no web site (B8)."""

from __future__ import annotations

from typing import Literal

from x402core.errors import LocalProtocolError
from x402core.values import chain_id

from . import constants, methods
from .adapter import EVMAdapter
from .schemas import EVMPaymentComponent

__all__ = ["EVMRegistry"]


class EVMRegistry:
    """Components, completed by what we know of their tokens."""

    def __init__(self) -> None:
        self.payment_components: list[EVMPaymentComponent] = []
        self._adapter = EVMAdapter()

    def payment_method_register(
        self,
        *,
        payment_component: EVMPaymentComponent,
        rpc_url_start_with: Literal["https:", "wss:"] = "https:",
        private_rpc_type: Literal["Infura", "Alchemy"] = "Infura",
    ) -> None:
        """Add a component, its node a private one where there is a key for it.  Raises: LocalProtocolError naming the field."""
        if rpc_url_start_with != "https:":
            raise LocalProtocolError("nodes are asked over https", field="rpc_url_start_with")
        asset = self._adapter.asset(payment_component)
        found = methods.completed(payment_component, asset, pay_to=payment_component.pay_to, wallet=None)
        key = constants.get_rpc_key_from_env("EVM_INFURA_KEY") if private_rpc_type == "Infura" else None
        url = payment_component.rpc_url or constants.get_rpc_url(chain_id(asset.network), key)
        self.payment_components.append(found.model_copy(update={"rpc_url": url}))

    def get_rpc_url_by_caip2(self, caip2: str) -> str:
        """Return the node of a chain.  Raises: LocalProtocolError(field="rpc_url")."""
        number = constants.parse_caip2_eip155_chain_id(caip2)
        for component in self.payment_components:
            if component.chain_id == number and component.rpc_url:
                return component.rpc_url
        raise LocalProtocolError(f"no node is named for {caip2}", field="rpc_url")

    def clear(self) -> None:
        """Forget the components."""
        self.payment_components.clear()
