"""A framework's response object, held until the exchange says what to do with it.

What ``held.py`` is for ASGI and ``held_wsgi.py`` for WSGI.  A door inside a framework derives from :class:`HeldResponse` and
says, in its framework's words, how a body is taken and left to be sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from x402core.errors import Reply
from x402core.events import Headers

from .flow import AsyncFlow, Flow

__all__ = ["HeldResponse"]


class HeldResponse(ABC):
    """A response: whole, or begun where it streams and need not be held.  It has a ``status_code``, and can be closed.

    ``overrides`` is what the handler says is to be charged; it is taken off.  ``flow`` is the body, where it streams.
    """

    def __init__(self, response: Any, *, hold: bool, most: int) -> None:
        self._response, self._most = response, most
        self.flow: Flow | AsyncFlow | None = None
        try:
            self.overrides = self._take_overrides()
            self._body = self._take_body(hold=hold)
        except BaseException:
            response.close()
            raise

    @abstractmethod
    def _take_overrides(self) -> str | None:
        """Take off the response what is to be charged, and return it."""

    @abstractmethod
    def _take_body(self, *, hold: bool) -> bytes | None:
        """Take what has to be seen of the body, leave it to be sent, and return it if that is the whole; else set ``flow``."""

    @abstractmethod
    def _headers(self) -> Headers:
        """Return every header, in order."""

    @abstractmethod
    def release(self, headers: Headers) -> Any:
        """Return the response with ``headers`` added."""

    @property
    def status(self) -> int:
        """The response's status."""
        return int(self._response.status_code)

    @property
    def complete(self) -> bool:
        """True when the whole response is here, and short enough to be kept."""
        return self._body is not None and len(self._body) <= self._most

    def reply(self) -> Reply | None:
        """Return the whole response, if it is here."""
        return Reply(self.status, self._headers(), self._body or b"") if self.complete else None

    def discard(self) -> None:
        """Close the response that is not sent."""
        self._response.close()
