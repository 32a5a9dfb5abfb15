"""Django's requests and responses, as sales know them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpResponse  # type: ignore[import-untyped]
from django.http.request import RawPostDataException  # type: ignore[import-untyped]
from django.utils.cache import patch_cache_control, patch_vary_headers  # type: ignore[import-untyped]

from x402bind.servers.environ import bounded, incoming, number_said, spent
from x402bind.servers.flow import AsyncFlow, taken
from x402bind.servers.held import ResponseTooLarge
from x402bind.servers.held_response import HeldResponse
from x402bind.servers.sync_sale import BodyRefused, Incoming
from x402core.errors import Reply
from x402core.events import Headers
from x402core.wire import http
from x402core.wire.overrides import SETTLEMENT_OVERRIDES

__all__ = ["Held", "asked", "write"]


def asked(request: Any, path: str) -> Incoming:
    """Return Django's request as sales know it."""

    def read(most: int) -> bytes:
        if (number_said(request.META.get("CONTENT_LENGTH") or "") or 0) > most:
            raise BodyRefused(http.too_large(most))
        try:
            return bounded(request.body, most)
        except RawPostDataException:
            raise spent(": put our middleware first") from None

    return replace(incoming(request.META, path), read=read, native=request)


def write(request: Any, reply: Reply) -> Any:
    """Return a reply of the core's own as a response."""
    response = HttpResponse(b"" if request.method == "HEAD" else reply.body, status=reply.status)
    del response.headers["Content-Type"]
    _add(response, reply.headers)
    response.headers.setdefault("Content-Length", str(len(reply.body)))
    return response


def _add(response: Any, headers: Headers) -> None:
    for name, value in headers:
        match name.lower():
            case "set-cookie":
                response.cookies.load(value)
            case "vary":
                patch_vary_headers(response, [each.strip() for each in value.split(",")])
            case "cache-control" if value == "private":
                patch_cache_control(response, private=True)  # takes a "public" away
            case _:
                response.headers[name] = f"{response.headers[name]}, {value}" if name in response.headers else value


class Held(HeldResponse):
    """A response of Django's."""

    def __init__(self, response: Any, *, hold: bool, most: int) -> None:
        if response is None:
            raise ValueError("the view did not return an HttpResponse object: it returned None")
        super().__init__(response, hold=hold, most=most)

    def _take_overrides(self) -> str | None:
        response = self._response
        if hasattr(response, "render") and not response.is_rendered:
            response.render()
        said: str | None = response.headers.get(SETTLEMENT_OVERRIDES)
        del response.headers[SETTLEMENT_OVERRIDES]
        return said

    def _take_body(self, *, hold: bool) -> bytes | None:
        response, most = self._response, self._most
        if not response.streaming:
            return taken(iter((response.content,)), hold=hold, most=most, length=lambda: len(response.content))[0]
        if response.is_async:
            if not hold:
                self.flow = response.streaming_content = AsyncFlow(response.streaming_content)
                return None
            whole = async_to_sync(_collected)(response.streaming_content, most)
            response.streaming_content = _again(whole)
            return whole
        length = number_said(response.headers.get("Content-Length", ""))
        body, self.flow = taken(iter(response.streaming_content), hold=hold, most=most, length=lambda: length)
        response.streaming_content = [body] if self.flow is None else self.flow
        return body if self.flow is None else None

    def _headers(self) -> Headers:
        cookies = (("Set-Cookie", each.OutputString()) for each in self._response.cookies.values())
        return (*self._response.items(), *cookies)

    def release(self, headers: Headers) -> Any:
        """Return the response with ``headers`` added."""
        _add(self._response, headers)
        return self._response


async def _collected(pieces: Any, most: int) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > most:
            raise ResponseTooLarge(f"a response to be held is longer than {most} bytes: settle before the handler")
    return bytes(body)


async def _again(body: bytes) -> Any:
    yield body
