"""Pure ASGI: put prices in front of any application.

    app = PaymentMiddleware(api, seller, {"/premium": "$0.01"})

The gate looks at the path, whole and under the mount it is behind, in every spelling that a router or a file server might take
for a priced one (``paths.py``).  Every method is priced, HEAD included; a WebSocket to a priced path is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from x402bind.pricing import Listing, Pricing
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError
from x402core.policy import Terms

from .door import PathDoor, PathOptions
from .held import App, Receive, Scope, Send
from .lifespan import live
from .sale import Sale

__all__ = ["PaymentMiddleware"]


class PaymentMiddleware(PathDoor):
    """Sell ``app``'s paths at ``prices`` (path to price, function of an :class:`Asked`, or listing) through ``seller``.

    ``token_path`` is where permits are exchanged for access tokens.  ``hold_most`` bounds, in bytes, a response that waits
    for its settlement; ``body_most`` the body of a paid request, which its permit is bound to.  ``prove`` asks the chain at
    start-up whether it and its tokens are what the configuration says, and refuses to start when they are not.
    ``default`` is what every other path costs, but for those in ``free``, in just that spelling.  ``upto`` names the paths
    whose price is a ceiling.  ``paywall`` is the page a browser gets with its 402.

    The handler finds who paid in ``scope["x402"]`` (:class:`~x402bind.pricing.Paid`).
    """

    def __init__(
        self, app: App, seller: Seller, prices: Mapping[str, Pricing | Listing], **options: Unpack[PathOptions]
    ) -> None:
        super().__init__(seller, prices, **options)
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            return await live(self.app, self.seller, scope, receive, send, prove=self.prove)
        path, root = scope.get("path", "/"), scope.get("root_path", "")
        shelf = self.paths.find(path, root)
        if shelf is None and kind == "http" and scope["method"] == "POST" and self.paths.takes_tokens(path, root):
            return await Sale(self.counter, self.app, scope, receive, send).sell_token(self.paths.scopes)
        if shelf is None or kind not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        if kind == "websocket":
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        return await Sale(self.counter, self.app, scope, receive, send).sell(shelf, path)

    def terms(self, path: str) -> Terms:
        """Return what a path costs.  Raises: LocalProtocolError for a path that is free, or priced by request."""
        shelf = self.paths.find(path)
        if shelf is None or shelf.computed:
            raise LocalProtocolError(f"{path!r} has no fixed price", field="path")
        return shelf.terms(path)
