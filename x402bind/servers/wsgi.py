"""Plain WSGI (PEP 3333): put prices in front of any application.

    app = PaymentMiddleware(api, seller, {"/premium": "$0.01"})

The gate looks at the path, whole and under the mount it is behind, in every spelling that a router or a file server might take
for a priced one (``paths.py``).  Every method is priced, HEAD included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Unpack

from x402bind.pricing import Listing, Pricing
from x402bind.seller import Seller
from x402core.errors import Reply
from x402core.events import Payer

from .background import Background
from .door import PathDoor, PathOptions
from .environ import incoming
from .held import sized
from .held_wsgi import HeldWsgi
from .sync_sale import SyncSale

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["PaymentMiddleware"]

_STATUSES: Final = frozenset(HTTPStatus)


class PaymentMiddleware(PathDoor):
    """Sell ``app``'s paths at ``prices`` (path to price, function of an :class:`~x402bind.pricing.Asked`, or listing).

    ``token_path`` is where permits are exchanged for access tokens.  ``hold_most`` bounds, in bytes, a response that waits
    for its settlement; ``body_most`` the body of a paid request, which its permit is bound to.  ``prove`` asks the chain at
    the first sale whether it and its tokens are what the configuration says, and sells nothing when they are not.
    ``default`` is what every other path costs, but for those in ``free``, in just that spelling.  ``upto`` names the paths
    whose price is a ceiling.  ``paywall`` is the page a browser gets with its 402.

    The handler finds who paid in ``environ["x402.paid"]`` (:class:`~x402bind.pricing.Paid`).  ``background`` is what settles.
    """

    sync = True

    def __init__(
        self, app: WSGIApplication, seller: Seller, prices: Mapping[str, Pricing | Listing], **options: Unpack[PathOptions]
    ) -> None:
        super().__init__(seller, prices, **options)
        self.app = app
        self.background = Background(seller, prove=self.prove)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        root = _text(environ.get("SCRIPT_NAME", ""))
        path = root + _text(environ.get("PATH_INFO", ""))
        shelf = self.paths.find(path, root)
        if shelf is None and not (environ["REQUEST_METHOD"] == "POST" and self.paths.takes_tokens(path, root)):
            return self.app(environ, start_response)
        sale = SyncSale(
            self.counter,
            self.background,
            incoming(environ, path),
            partial(self._serve, environ, start_response),
            partial(_answer, environ, start_response),
        )
        return sale.sell_token(self.paths.scopes) if shelf is None else sale.sell(shelf)

    def _serve(self, environ: WSGIEnvironment, start: StartResponse, payer: Payer | None, hold: bool) -> HeldWsgi:
        environ["x402.paid"] = payer
        return HeldWsgi(self.app, environ, start, hold=hold, most=self.counter.hold_most)


def _answer(environ: WSGIEnvironment, start_response: StartResponse, reply: Reply) -> Iterable[bytes]:
    """Send a reply of the core's own."""
    phrase = HTTPStatus(reply.status).phrase if reply.status in _STATUSES else "Unknown"
    start_response(f"{reply.status} {phrase}", list(sized(reply)))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]


def _text(value: str) -> str:
    return value.encode("latin-1").decode("utf-8", "replace")
