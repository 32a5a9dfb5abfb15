"""Plain WSGI (PEP 3333): put prices in front of any application.

    app = PaymentMiddleware(api, seller, {"/premium": "$0.01"})

The gate looks at the path, whole and under the mount it is behind, in every spelling that a router or a file server might take
for a priced one (``paths.py``).  Every method is priced, HEAD included.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from x402bind.pricing import Listing, Pricing
from x402bind.seller import Seller
from x402core.errors import Reason, Reply, problem
from x402core.events import Headers, Payer
from x402core.wire import http

from .background import Background
from .held import ResponseTooLarge
from .paths import PricedPaths
from .routes import sync_price
from .sale import Counter
from .sync_sale import BodyRefused, Incoming, SyncSale, taken, without_overrides

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from x402bind.paywall import Paywall

__all__ = ["PaymentMiddleware", "incoming", "read_body"]

_BODILESS: Final = (204, 304)
_STATUSES: Final = frozenset(HTTPStatus)
_CONTENT: Final = {"CONTENT_TYPE": "Content-Type", "CONTENT_LENGTH": "Content-Length"}


class PaymentMiddleware:
    """Sell ``app``'s paths at ``prices`` (path to price, function of an :class:`~x402bind.pricing.Asked`, or listing).

    ``token_path`` is where permits are exchanged for access tokens.  ``hold_most`` bounds, in bytes, a response that waits
    for its settlement; ``body_most`` the body of a paid request, which its permit is bound to.  ``prove`` asks the chain at
    the first sale whether it and its tokens are what the configuration says, and sells nothing when they are not.
    ``default`` is what every other path costs, but for those in ``free``, in just that spelling.  ``upto`` names the paths
    whose price is a ceiling.  ``paywall`` is the page a browser gets with its 402.

    The handler finds who paid in ``environ["x402.paid"]`` (:class:`~x402bind.pricing.Paid`).  ``background`` is what settles.
    """

    def __init__(
        self,
        app: WSGIApplication,
        seller: Seller,
        prices: Mapping[str, Pricing | Listing],
        *,
        default: Pricing | Listing | None = None,
        free: Collection[str] = (),
        upto: Collection[str] = (),
        token_path: str = "/token",
        hold_most: int = 1 << 20,
        body_most: int = 1 << 20,
        prove: bool = True,
        paywall: Paywall | None = None,
    ) -> None:
        self.app, self.seller = app, seller
        self.counter = Counter(seller, hold_most, body_most, paywall)
        self.paths = PricedPaths(seller, prices, default=default, free=free, upto=upto, token_path=token_path)
        for price in (*prices.values(), *(() if default is None else (default,))):
            sync_price(price)
        self.background = Background(seller, prove=prove)

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

    def _serve(self, environ: WSGIEnvironment, start: StartResponse, payer: Payer | None, hold: bool) -> _Held:
        environ["x402.paid"] = payer
        return _Held(self.app, environ, start, hold=hold, most=self.counter.hold_most)


class _Held:
    """One run of an application, and the iterable that the server is given when its response is let go."""

    def __init__(self, app: WSGIApplication, environ: WSGIEnvironment, start: StartResponse, *, hold: bool, most: int) -> None:
        self._start, self._most = start, most
        self._line, self._headers = "", list[tuple[str, str]]()
        self.overrides: str | None = None
        self._written = bytearray()
        self._send: Callable[[bytes], object] | None = None  # the server's own write, once the response is let go
        self._body: bytes = b""
        self._rest: Iterator[bytes] | None = None
        self._pieces: Iterable[bytes] = ()
        try:
            self._pieces = app(environ, self._begin)
            self._take(hold)
        except BaseException:
            with suppress(Exception):  # the first thing that went wrong is told
                self.close()
            raise

    def _begin(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        """Be the application's ``start_response``."""
        if self._send is not None:  # the server knows that it is too late, and raises what happened
            return self._start(status, headers, exc_info)
        if self._line and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        self._line = status
        self._headers, self.overrides = without_overrides(headers)
        return self._write

    def _write(self, data: bytes) -> None:
        if self._send is not None:
            self._send(data)
        elif len(self._written) + len(data) > self._most:
            raise ResponseTooLarge(f"more than {self._most} bytes are written at once: return them piece by piece")
        else:
            self._written += data

    def _take(self, hold: bool) -> None:
        at_hand = isinstance(self._pieces, list | tuple) and sum(map(len, self._pieces)) <= self._most
        pieces = self._in_order()
        self._body, self._rest = taken(pieces, hold=hold or at_hand, most=self._most, length=self._length)
        if not self._line:
            raise AssertionError("the application ended without start_response")

    def _in_order(self) -> Iterator[bytes]:
        """Give what is written before what is returned."""
        for piece in chain(self._pieces, (b"",)):
            if self._written:
                written, self._written = bytes(self._written), bytearray()
                yield written
            if piece:
                yield piece

    def _length(self) -> int | None:
        said = [value for name, value in self._headers if name.lower() == "content-length"]
        return int(said[0]) if len(said) == 1 and said[0].isdecimal() else None

    @property
    def status(self) -> int:
        """The response's status."""
        return int(self._line[:3])

    @property
    def complete(self) -> bool:
        """True when the whole response is held, and short enough to be kept."""
        return self._rest is None and len(self._body) <= self._most

    def reply(self) -> Reply | None:
        """Return the whole response, if it is held whole."""
        return Reply(self.status, tuple(self._headers), self._body) if self.complete else None

    def release(self, headers: Headers) -> Iterable[bytes]:
        """Begin the response with ``headers`` added; iterating sends what is held, then what follows."""
        self._send = self._start(self._line, [*self._headers, *headers])
        return self

    def __iter__(self) -> Iterator[bytes]:
        """Give the body."""
        return chain((self._body,) if self._body else (), self._rest or ())

    def close(self) -> None:
        """Close the application's iterable, once, as servers do when a response is over."""
        pieces, self._pieces = self._pieces, ()
        if (close := getattr(pieces, "close", None)) is not None:
            close()

    discard = close


def _answer(environ: WSGIEnvironment, start_response: StartResponse, reply: Reply) -> Iterable[bytes]:
    """Send a reply of the core's own."""
    headers = list(reply.headers)
    framed = any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers)
    if not framed and reply.status not in _BODILESS:
        headers.append(("Content-Length", str(len(reply.body))))
    phrase = HTTPStatus(reply.status).phrase if reply.status in _STATUSES else "Unknown"
    start_response(f"{reply.status} {phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]


def incoming(environ: WSGIEnvironment, path: str) -> Incoming:
    """Return a request as sales know it; ``path`` is decoded."""
    headers = [(name[5:].replace("_", "-").title(), value) for name, value in environ.items() if name.startswith("HTTP_")]
    headers += [(name, environ[key]) for key, name in _CONTENT.items() if environ.get(key)]
    read = partial(read_body, environ)
    return Incoming(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), tuple(headers), read)


def read_body(environ: WSGIEnvironment, most: int) -> bytes:
    """Read a request's body whole, at most ``most`` bytes, and have it read again from the beginning.

    Raises: BodyRefused when it is longer, or ends too early.
    """
    said: str = environ.get("CONTENT_LENGTH") or ""
    size = int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else 0
    unsaid = not said and environ.get("wsgi.input_terminated", False)
    wanted = most + 1 if unsaid else size
    body = _read(environ["wsgi.input"], wanted) if wanted <= most + unsaid else None
    if body is None or len(body) > most:
        raise BodyRefused(http.too_large(most))
    if len(body) < size:
        raise BodyRefused(problem(400, "The body ended too early.", reason=Reason.INVALID_PAYLOAD, source="body"))
    environ["wsgi.input"] = io.BytesIO(body)
    if unsaid:
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    return body


def _read(stream: Any, size: int) -> bytes:
    body = bytearray()
    while len(body) < size and (part := stream.read(size - len(body))):
        body += part
    return bytes(body)


def _text(value: str) -> str:
    return value.encode("latin-1").decode("utf-8", "replace")
