"""A requests response's body, read up to a cap and still there for the caller: a 402 that can be read again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import requests
import urllib3

from .alike import Read, plain
from .purse import MOST_BODY

__all__ = ["HeldBody", "read", "release"]


class HeldBody(io.RawIOBase):
    """A body of which the beginning was read; the rest, if any, is still on its connection."""

    def __init__(self, response: requests.Response) -> None:
        self._raw = response.raw
        self._packed = hasattr(self._raw, "stream")  # urllib3's, which would unpack; requests tells them apart so too
        self._given_up = False
        start = b""
        while len(start) <= MOST_BODY and (part := self._more(MOST_BODY + 1 - len(start))):
            start += part
        self.whole = len(start) <= MOST_BODY
        self._start = io.BytesIO(start)

    def _more(self, size: int) -> bytes:
        part: bytes = self._raw.read(size, decode_content=False) if self._packed else self._raw.read(size)
        return part

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._start.read(len(buffer))
        if not part and not self.whole:
            if self._given_up:
                raise urllib3.exceptions.ProtocolError("the rest of this body was given up: the payment needed its connection")
            part = self._more(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def release(self) -> None:
        """Give the connection back; what was read of the body stays."""
        self._given_up = True
        self._raw.close()
        if self._packed:
            self._raw.release_conn()  # or a pool that blocks has lost one for good

    def close(self) -> None:
        if not self.closed:
            self.release()
        super().close()

    def wrapped(self) -> Any:
        """Return the body in the shape of what it came in: unpacked by whoever reads it, or by nobody."""
        return _raw(self, self._raw) if self._packed else self

    def plain(self) -> bytes:
        """Return what the core may see of the body."""
        start = self._start.getvalue()

        def unpack(size: int) -> Iterator[bytes]:
            return _raw(io.BytesIO(start), self._raw).stream(size, decode_content=True)

        packed = self._raw.headers.get("Content-Encoding") if self._packed else None
        return plain(start, packed, whole=self.whole, unpack=unpack, broken=urllib3.exceptions.DecodeError)


def _raw(body: Any, like: Any) -> urllib3.HTTPResponse:
    """Return a body as a urllib3 response with another one's head."""
    return urllib3.HTTPResponse(
        body,
        headers=like.headers,
        status=like.status,
        version=like.version,
        reason=like.reason,
        preload_content=False,
        decode_content=False,
        original_response=getattr(like, "_original_response", None),  # where requests finds the cookies
        retries=like.retries,
        enforce_content_length=False,
    )


def read(command: Read) -> HeldBody:
    """Hold a body.  Raises: what requests itself raises for a body that breaks off."""
    try:
        return HeldBody(command.response)
    except urllib3.exceptions.ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from error


def release(response: requests.Response | HeldBody) -> None:
    if isinstance(response, HeldBody):
        response.release()
    elif response.raw is not None:
        response.close()
