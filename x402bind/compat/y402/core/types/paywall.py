"""What y402's paywall page is told about the seller."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["PaywallConfig"]


class PaywallConfig(TypedDict, total=False):
    """``app_name`` and ``app_logo`` (a ``data:image/...`` URI) stand on the page.

    The two of Coinbase's onboarding have no use here: the page pays with the wallet in the browser, and asks nobody else.
    """

    cdp_client_key: str
    app_name: str
    app_logo: str
    session_token_endpoint: str
