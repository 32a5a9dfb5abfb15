"""y402's clients for Streamlit: a wallet in the browser signs, while the page is run again and again."""

from __future__ import annotations

from .common import (
    StreamlitPaymentFlowResult,
    StreamlitRequestResult,
    StreamlitWalletNotConnectedError,
    StreamlitY402Client,
)

__all__ = [
    "StreamlitPaymentFlowResult",
    "StreamlitRequestResult",
    "StreamlitWalletNotConnectedError",
    "StreamlitY402Client",
]
