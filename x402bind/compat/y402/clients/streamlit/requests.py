"""y402's Streamlit client for requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from x402bind.compat.y402.clients.common import PaymentSelectorCallable, Policy
from x402bind.compat.y402.core.types.errors import ConditionalDependencyError

try:
    import requests
except ImportError:
    raise ConditionalDependencyError("requests is not installed: pip install requests") from None

from .common import StreamlitRequestResult, StreamlitY402Client, Wallet
from .requesting import Requesting

__all__ = ["StreamlitRequestResult", "Y402Client"]


class Y402Client(Requesting[requests.Response]):
    """Requests that a browser's wallet pays for, at most ``policy`` each, by ``session``."""

    def __init__(
        self,
        wallet: Wallet,
        payment_requirements_selector: PaymentSelectorCallable | None = None,
        chain_id_by_name: Mapping[str, int] | None = None,
        account_selector: Callable[[Any], str] | None = None,
        session: requests.Session | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        super().__init__(
            StreamlitY402Client(wallet, payment_requirements_selector, chain_id_by_name, account_selector, policy=policy)
        )
        self.session = session or requests.Session()

    def send(self, method: str, url: str, headers: Any, options: dict[str, Any]) -> requests.Response:
        """Send a request by the session."""
        return self.session.request(method, url, **{**options, "headers": headers})

    def close(self) -> None:
        """Close the session."""
        self.session.close()
