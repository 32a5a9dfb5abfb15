"""A body of a framework's: what of it is taken before the exchange responds, and how that ended which follows as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

from .held import ResponseTooLarge

__all__ = ["AsyncFlow", "Flow", "Over", "taken"]

Over = Callable[[Exception | None], object]


class Flow:
    """A body from its first piece on, as it comes.

    ``over`` is called once: with None when all of it was given, or when the server closes it since the payer has left; with the
    exception that it broke off with.  It is not called where nobody gives or closes the body: who waits for that keeps a weak
    reference, and sees it go.
    """

    def __init__(self, first: bytes, rest: Iterator[bytes]) -> None:
        self._first, self._rest = first, rest
        self.over: Over | None = None

    def __iter__(self) -> Iterator[bytes]:
        """Give the body, once."""
        return self

    def __next__(self) -> bytes:
        """Give a piece."""
        if self._first:
            first, self._first = self._first, b""
            return first
        try:
            return next(self._rest)
        except StopIteration:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error if isinstance(error, Exception) else RuntimeError(f"cut off by {type(error).__name__}"))
            raise

    def close(self) -> None:
        """Hear from the server that it asks for no more."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        over, self.over = self.over, None
        if over is not None:
            over(error)


class AsyncFlow:
    """The same for a body that is awaited, none of which is here yet; ``over`` is called in a thread, as it may wait."""

    def __init__(self, rest: AsyncIterator[bytes]) -> None:
        self._rest = rest
        self.over: Over | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the body, once."""
        import anyio
        from anyio.to_thread import run_sync

        error: Exception | None = None
        try:
            async for piece in self._rest:
                yield piece
        except Exception as broke:
            error = broke
            raise
        finally:
            over, self.over = self.over, None
            if over is not None:
                with anyio.CancelScope(shield=True):
                    await run_sync(over, error)


def taken(pieces: Iterator[bytes], *, hold: bool, most: int, length: Callable[[], int | None]) -> tuple[bytes, Flow | None]:
    """Return what of a body is taken before the exchange responds, and the whole of it as a :class:`Flow` where it streams.

    Held is the whole of it, at most ``most`` bytes.  Else a body in one piece (``length`` says how long, where that is known)
    is whole too, and any other streams from its first piece.  Raises: ResponseTooLarge.
    """
    body = bytearray()
    for piece in pieces:
        body += piece
        if hold and len(body) > most:
            raise ResponseTooLarge(f"a response to be held is longer than {most} bytes: settle before the handler")
        if body and not hold:
            return bytes(body), None if len(body) == length() else Flow(bytes(body), pieces)
    return bytes(body), None
