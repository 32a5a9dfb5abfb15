"""httpx clients that pay: transports around the caller's own, below redirects, on a copy of each request.

What the caller configured stays in place (TLS, proxies, timeouts, pool, cookies), because every request of an exchange, the
one to a token endpoint too, goes through the transport that was wrapped.  The caller's request object never carries a permit
or a token, so a redirect, which starts from it, cannot take one along.  ``response.extensions["x402"]`` is the Outcome; each
hop of a redirect (``response.history``) has its own.

The edge takes no decision: the core says what to send, and whether the last response or an error is the answer.
"""

from __future__ import annotations

from .clients import (
    AsyncHttp402Client,
    Http402Client,
    async_paying_client,
    outcome_of,
    pay_with,
    paying_client,
    raise_for_payment,
)
from .transports import AsyncPaymentTransport, PaymentTransport

__all__ = [
    "AsyncHttp402Client",
    "AsyncPaymentTransport",
    "Http402Client",
    "PaymentTransport",
    "async_paying_client",
    "outcome_of",
    "pay_with",
    "paying_client",
    "raise_for_payment",
]
