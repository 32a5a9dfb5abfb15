"""y402's Streamlit client for httpx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from x402bind.compat.y402.clients.common import PaymentSelectorCallable, Policy
from x402bind.compat.y402.core.types.errors import ConditionalDependencyError

try:
    import httpx
except ImportError:
    raise ConditionalDependencyError("httpx is not installed: pip install httpx") from None

from .common import StreamlitRequestResult, StreamlitY402Client, Wallet
from .requesting import Requesting

__all__ = ["StreamlitRequestResult", "Y402Client"]


class Y402Client(Requesting[httpx.Response]):
    """Requests that a browser's wallet pays for, at most ``policy`` each, by ``client``."""

    def __init__(
        self,
        wallet: Wallet,
        payment_requirements_selector: PaymentSelectorCallable | None = None,
        chain_id_by_name: Mapping[str, int] | None = None,
        account_selector: Callable[[Any], str] | None = None,
        client: httpx.Client | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        super().__init__(
            StreamlitY402Client(wallet, payment_requirements_selector, chain_id_by_name, account_selector, policy=policy)
        )
        self.client = client or httpx.Client()

    def send(self, method: str, url: str, headers: Any, options: dict[str, Any]) -> httpx.Response:
        """Send a request by the session."""
        return self.client.request(method, url, **{**options, "headers": headers})

    def close(self) -> None:
        """Close the session."""
        self.client.close()
