"""Django: put a price on a view, or on paths.

    payments = Payments(seller)                        # shop/payments.py

    @payments.required("$0.01")
    def report(request): ...                           # request.x402 says who paid

    X402_PAYMENTS = "shop.payments.payments"           # settings.py
    MIDDLEWARE = ["x402bind.servers.django.PaymentMiddleware", ...]

A class's views are priced through ``method_decorator(payments.required("$0.01"), name="dispatch")``, or method by method.  The
sale is around the view, so no spelling of a path passes it by.  The URLconf is walked by ``manage.py check`` and before the
first request: a price on no route, or a priced function that a route has without its price, keeps every request from being
answered.

A priced view is exempt from Django's cross-site request check: it runs for nobody but who sends a header that no form of
another site can send.  What it does beside its response (a session, a database) is done before it is known whether the money
moves, unless the seller settles before the view.
"""

from __future__ import annotations

from .middleware import PaymentMiddleware
from .payments import Payments

__all__ = ["PaymentMiddleware", "Payments"]
