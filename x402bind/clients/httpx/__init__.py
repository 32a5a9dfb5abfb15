"""httpx clients that pay: transports around the caller's own, below redirects, on a copy of each request.

What the caller configured stays in place (TLS, proxies, timeouts, pool, cookies), because every request of an exchange, the
one to a token endpoint too, goes through the transport that was wrapped.  The caller's request object never carries a permit
or a token, so a redirect, which starts from it, cannot take one along.  ``response.extensions["x402"]`` is the Outcome; each
hop of a redirect (``response.history``) has its own.

A payment sends the request's body once more.  Bytes, text, JSON and form data are sent again as they are; a form with files or
an open file is read into memory first, if its length is stated and at most 1 MiB (``purse.MOST_KEPT``).  A longer one, or a
generator without a length, is streamed once and never paid for: pass bytes, or call ``request.read()`` before it is sent.

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
