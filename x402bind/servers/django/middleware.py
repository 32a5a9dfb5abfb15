"""Django's middleware: prices by path, and the token endpoint."""

from __future__ import annotations

import functools
from typing import Any, Final

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings  # type: ignore[import-untyped]
from django.utils.module_loading import import_string  # type: ignore[import-untyped]

from x402bind.servers.marks import mark_of
from x402core.errors import LocalProtocolError

from .payments import Payments

__all__ = ["PaymentMiddleware", "configured"]

_WRITE: Final = "write its dotted name, such as 'shop.payments.payments': the package, the module, the variable"


def configured() -> Payments:
    """Return what ``settings.X402_PAYMENTS`` is, or names.  Raises: LocalProtocolError when that is no :class:`Payments`."""
    said = getattr(settings, "X402_PAYMENTS", None)
    try:
        found = import_string(said) if isinstance(said, str) else said
    except ImportError as error:
        raise LocalProtocolError(f"{error}; {_WRITE}", field="X402_PAYMENTS") from error
    if not isinstance(found, Payments):
        raise LocalProtocolError(f"{said!r} is no Payments: {_WRITE}", field="X402_PAYMENTS")
    return found


class PaymentMiddleware:
    """Sell what ``settings.X402_PAYMENTS`` (a :class:`Payments`, or its dotted name) has prices by path for, and tokens.

    Put it above Django's ``CsrfViewMiddleware``.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.payments = configured()
        self.get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request; nothing is served while a price is where nobody is asked for it."""
        if self._async:
            return self._acall(request)
        self.payments.check()
        sell = self.payments.sell_path(request, functools.partial(self.get_response, request))
        return self.get_response(request) if sell is None else sell()

    async def _acall(self, request: Any) -> Any:
        self.payments.check()
        sell = self.payments.sell_path(request, functools.partial(async_to_sync(self.get_response), request))
        return await (self.get_response(request) if sell is None else sync_to_async(sell, thread_sensitive=True)())

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        """Let a POST reach a price on a method: of its class Django does not see that it is exempt."""
        cls = getattr(view, "view_class", None)
        if mark_of(getattr(cls, request.method.lower(), None)) is not None:
            request._dont_enforce_csrf_checks = True
