"""An asynchronous stream of Django's that is held: collected piece by piece, copied once, and refused when it is too long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from django.http import StreamingHttpResponse

from x402bind.servers.django import messages
from x402bind.servers.django.messages import Held
from x402bind.servers.held import ResponseTooLarge

PIECES = 4096
SIZE = 16 * PIECES


class Stream:
    """Tiny pieces; ``given`` counts those that were asked for, ``closed`` how often the response was closed."""

    def __init__(self) -> None:
        self.given = self.closed = 0
        self.response = StreamingHttpResponse(self._pieces(), content_type="application/octet-stream")
        self.response.close = self._close  # Django's own needs settings

    def _close(self) -> None:
        self.closed += 1

    async def _pieces(self) -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            self.given += 1
            yield 16 * b"x"


def test_a_long_stream_in_tiny_pieces_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copied, looked = list[int](), list[object]()

    def copy(body: bytearray) -> bytes:
        copied.append(len(body))
        return bytes(body)

    monkeypatch.setattr(messages, "bytes", copy, raising=False)
    monkeypatch.setattr(messages, "taken", lambda *given, **more: looked.append(given))
    held = Held(Stream().response, hold=True, most=SIZE)
    assert (copied, looked, held.complete) == ([SIZE], [], True)


def test_a_stream_of_all_that_may_be_held_is_held_and_sent() -> None:
    stream = Stream()
    held = Held(stream.response, hold=True, most=SIZE)
    reply = held.reply()
    assert reply is not None
    assert (reply.body, stream.given) == (SIZE * b"x", PIECES)

    async def sent() -> bytes:
        pieces: Any = held.release(()).streaming_content
        return b"".join([piece async for piece in pieces])

    assert anyio.run(sent) == SIZE * b"x"


@pytest.mark.parametrize(("most", "asked"), [(SIZE - 1, PIECES), (100, 7), (0, 1)])
def test_a_longer_one_is_refused_at_the_piece_that_is_too_much(most: int, asked: int) -> None:
    stream = Stream()
    with pytest.raises(ResponseTooLarge, match=f"longer than {most} bytes: settle before the handler"):
        Held(stream.response, hold=True, most=most)
    assert (stream.given, stream.closed) == (asked, 1)
