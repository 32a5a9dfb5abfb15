"""An exchange in httpx's words, alike in both its worlds."""

from __future__ import annotations

from typing import Final

import httpx

from x402bind.clients.alike import JSON_HEADERS, OUTCOME, SHARED_HEADERS, TRAIL, Call, Leaves, Read
from x402bind.clients.held import Held
from x402bind.clients.purse import MOST_BODY, Purse, Trail, origin_of
from x402core.commands import SendRequest, SendTokenRequest
from x402core.events import Headers
from x402core.machines.machine import ask

from .uploads import REMEDY

__all__ = ["HttpxCall", "trail_of"]

_SHARED_EXTENSIONS: Final = ("timeout", "sni_hostname")


class HttpxCall(Call[httpx.Request, httpx.Response]):
    """An exchange in httpx's words."""

    remedy = REMEDY

    def __init__(self, purse: Purse, request: httpx.Request, trail: Trail, url: str) -> None:
        super().__init__(purse, request, trail, request.method, url, replayable=isinstance(request.stream, httpx.ByteStream))

    def hold(self, response: httpx.Response) -> Leaves[tuple[httpx.Response, bytes]]:
        if response.is_stream_consumed:  # the inner transport has read it
            return response, response.content[:MOST_BODY]
        held: Held = yield from ask(Read(response))
        self.open = held
        whole = httpx.Response(response.status_code, headers=response.headers, stream=held, extensions=response.extensions)
        return whole, held.plain()

    def head(self, response: httpx.Response) -> tuple[int, Headers]:
        headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw])
        return response.status_code, headers

    def copy(self, command: SendRequest) -> httpx.Request:
        asked = self.request
        headers = asked.headers.copy()
        for name, value in command.set_headers:
            headers[name] = value
        return httpx.Request(asked.method, asked.url, headers=headers, stream=asked.stream, extensions=dict(asked.extensions))

    def token_request(self, command: SendTokenRequest) -> httpx.Request:
        asked = self.request
        shared = [(name, asked.headers[name]) for name in SHARED_HEADERS if name in asked.headers]
        extensions = {str(name): asked.extensions[name] for name in _SHARED_EXTENSIONS if name in asked.extensions}
        return httpx.Request("POST", command.url, headers=[*shared, *JSON_HEADERS], content=command.body, extensions=extensions)

    def blame(self, error: Exception) -> None:
        if isinstance(error, httpx.RequestError):
            error.request = self.request

    def label(self, response: httpx.Response) -> None:
        response.extensions = {**response.extensions, OUTCOME: self.outcome}


def trail_of(request: httpx.Request) -> tuple[str, Trail | None]:
    """Return the URL asked and the trail this request belongs to; None where nothing can be paid for.

    httpx gives a redirected request the extensions of the one it came from.  The same request sent again (by a layer that
    retries, an auth flow, the caller) is still the same: it pays once.
    """
    url = str(request.url.copy_with(userinfo=b"", fragment=None))
    origin = origin_of(url)
    if origin is None:
        return url, None
    trail: Trail | None = request.extensions.get(TRAIL)
    if trail is None:
        trail = Trail(origin)
        request.extensions = {**request.extensions, TRAIL: trail}
    return url, trail
