"""Flask's requests and responses, as sales know them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from x402core.errors import Reply
from x402core.events import Headers

from .environ import bounded, incoming, read_body, spent
from .flow import taken
from .held_response import HeldResponse
from .sync_sale import BodyRefused, Incoming, without_overrides

__all__ = ["Held", "asked", "buffered", "response_of", "run_view", "write"]

_BODY: Final = "x402.body"


def buffered(app: Any, most: int, environ: Any, start_response: Any) -> Any:
    """Read the body of a request that brings a payment before anything else may: its permit is bound to it."""
    if any(name in environ for name in ("HTTP_PAYMENT_SIGNATURE", "HTTP_X_PAYMENT")):
        try:
            environ[_BODY] = read_body(environ, most)
        except BodyRefused as refused:
            environ[_BODY] = refused
    return app(environ, start_response)


def asked(request: Any, path: str) -> Incoming:
    """Return Flask's request as sales know it; a body that something has begun to read is Flask's to give, if it can be had."""

    def read(most: int) -> bytes:
        found = request.environ.get(_BODY)
        if isinstance(found, BodyRefused):
            raise found
        if found is None and "stream" not in vars(request):
            return read_body(request.environ, most)
        body: bytes = request.get_data() if found is None else found
        if not body and request.content_length:
            raise spent()
        return bounded(body, most)

    return replace(incoming(request.environ, path), read=read, native=request)


def run_view(view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a view, an async one too."""
    from flask import current_app

    return current_app.ensure_sync(view)(*args, **kwargs)


def response_of(app: Any, run: Callable[[], Any]) -> Any:
    """Return the response of a view, or what the application's error handlers make of its exception."""
    try:
        made = run()
    except Exception as error:  # noqa: BLE001 - raised again by Flask where nobody handles it
        made = app.handle_user_exception(error)
    return app.make_response(made)


def write(app: Any, reply: Reply) -> Any:
    """Return a reply of the core's own as a response."""
    response = app.response_class(reply.body, status=reply.status)
    response.headers.clear()
    response.headers.extend(reply.headers)
    return response


class Held(HeldResponse):
    """A response of Flask's."""

    def _take_overrides(self) -> str | None:
        headers = self._response.headers
        passed, overrides = without_overrides(list(headers))
        if overrides is not None:
            headers.clear()
            headers.extend(passed)
        return overrides

    def _take_body(self, *, hold: bool) -> bytes | None:
        response = self._response
        source, at_hand = response.response, response.is_sequence
        response.direct_passthrough = False
        pieces = response.iter_encoded()
        if at_hand and not hold:
            return b"".join(pieces)
        body, self.flow = taken(pieces, hold=hold, most=self._most, length=lambda: response.content_length)
        if not at_hand:  # what was read is to be read again, and what it was read from still to be closed
            response.response = [body] if self.flow is None else self.flow
            if (close := getattr(source, "close", None)) is not None:
                response.call_on_close(close)
        return body if self.flow is None else None

    def _headers(self) -> Headers:
        return tuple(self._response.headers)

    def release(self, headers: Headers) -> Any:
        """Return the response with ``headers`` added."""
        for name, value in headers:
            self._response.headers.add(name, value)
        return self._response
