"""requests sessions that pay: an adapter around the caller's own for a URL, below redirects, on a copy of each request.

What the caller configured stays in place (TLS, proxies, certificates, timeouts, retries), because every request of an
exchange, the one to a token endpoint too, goes through the adapter that was wrapped, with the arguments of the call.  The
caller's prepared request never carries a permit or a token, so a redirect, which starts from it, cannot take one along.
``response.x402`` is the Outcome; each hop of a redirect (``response.history``) has its own.

The edge takes no decision: the core says what to send, and whether the last response or an error is the answer.
A layer above may send the same request again, as a digest login does; what the copies of a prepared request have in common is
their ``hooks``, so that is where the Trail is: one request of the caller's pays once.
"""

from __future__ import annotations

from .adapter import PaymentAdapter
from .sessions import Http402Session, outcome_of, pay_with, paying_session, raise_for_payment

__all__ = ["Http402Session", "PaymentAdapter", "outcome_of", "pay_with", "paying_session", "raise_for_payment"]
