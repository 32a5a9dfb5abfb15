"""An exchange in requests' words."""

from __future__ import annotations

from typing import Any, Final

import requests
from requests.utils import rewind_body, urldefragauth

from x402bind.clients.alike import JSON_HEADERS, OUTCOME, SHARED_HEADERS, TRAIL, Call, Leaves, Read
from x402bind.clients.held_requests import HeldBody
from x402bind.clients.purse import MOST_BODY, Purse, Trail, origin_of
from x402core.commands import SendRequest, SendTokenRequest
from x402core.events import Headers
from x402core.machines.machine import ask

__all__ = ["RequestsCall", "trail_of"]

_PLAIN: Final = (str, bytes, bytearray, memoryview)


class RequestsCall(Call[requests.PreparedRequest, requests.Response]):
    """An exchange in requests' words."""

    remedy = "pass bytes, or a file that can be sought"

    def __init__(self, purse: Purse, request: requests.PreparedRequest, trail: Trail, url: str) -> None:
        super().__init__(purse, request, trail, request.method or "", url, replayable=_replayable(request))
        self._sent = False

    def hold(self, response: requests.Response) -> Leaves[tuple[requests.Response, bytes]]:
        inside: Any = response
        if inside.raw is None or inside._content is not False:  # the inner adapter has read it
            return response, (response.content or b"")[:MOST_BODY]
        held: HeldBody = yield from ask(Read(response))
        self.open, response.raw = held, held.wrapped()
        return response, held.plain()

    def head(self, response: requests.Response) -> tuple[int, Headers]:
        headers = getattr(response.raw, "headers", None) or response.headers  # requests' own are joined by name
        return response.status_code, tuple([(str(name), str(value)) for name, value in headers.items()])

    def copy(self, command: SendRequest) -> requests.PreparedRequest:
        copy = self.request.copy()
        for name, value in command.set_headers:
            copy.headers[name] = value
        if self._sent and not (copy.body is None or isinstance(copy.body, _PLAIN)):
            rewind_body(copy)
        self._sent = True
        return copy

    def token_request(self, command: SendTokenRequest) -> requests.PreparedRequest:
        asked = self.request.headers
        shared = {name: asked[name] for name in SHARED_HEADERS if name in asked}
        return requests.Request("POST", command.url, headers={**shared, **dict(JSON_HEADERS)}, data=command.body).prepare()

    def blame(self, error: Exception) -> None:
        if isinstance(error, requests.RequestException):
            error.request = self.request
            if error.response is not None:
                error.response.request = self.request

    def label(self, response: requests.Response) -> None:
        setattr(response, OUTCOME, self.outcome)


def _replayable(request: requests.PreparedRequest) -> bool:
    """Say whether a body can be sent again: bytes, or a file that knew where it stood and can go back there."""
    body: Any = request.body
    if body is None or isinstance(body, _PLAIN):
        return True
    seekable = body.seekable() if hasattr(body, "seekable") else hasattr(body, "seek")
    return bool(seekable) and isinstance(getattr(request, "_body_position", None), int)


def trail_of(request: requests.PreparedRequest) -> tuple[str, Trail | None]:
    """Return the URL asked and the trail this request belongs to; None where nothing can be paid for."""
    url = urldefragauth(request.url or "")
    origin = origin_of(url)
    if origin is None:
        return url, None
    hooks: Any = request.hooks
    trail: Trail = hooks.setdefault(TRAIL, Trail(origin))
    return url, trail
