"""The transports that pay, one for each of httpx's worlds; they differ by what has to be awaited."""

from __future__ import annotations

import time
from typing import Any, Self

import anyio
import httpx

from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.clients.alike import Leaf, Read, Release, Send
from x402bind.clients.held import Held
from x402bind.clients.purse import Purse
from x402bind.drive import adispatch, arun, dispatch, run
from x402bind.leaves import Sleep

from .exchange import HttpxCall, trail_of
from .uploads import akeep, keep

__all__ = ["AsyncPaymentTransport", "PaymentTransport"]


class PaymentTransport(httpx.BaseTransport):
    """Pay for what ``inner`` is asked to pay for; ``chain`` asks nodes (default: a client of its own, if nodes are named).

    A body (a form with files, an open file) is sent a second time with the payment.  One of a stated length up to 1 MiB
    (``MOST_KEPT`` bytes) is read into memory for that; one without a length, or a longer one, is sent once and not paid for,
    unless it is passed as bytes or ``request.read()`` has been called.

    Raises: LocalProtocolError for a purse that only an async client can use.
    """

    def __init__(self, inner: httpx.BaseTransport, purse: Purse, *, chain: SyncHttp | None = None) -> None:
        purse.check_sync()
        self._inner = inner
        self._purse = purse
        self.chain = SyncHttp() if chain is None and purse.rpc else chain
        self._leaves: Leaf = {
            **({} if self.chain is None else self.chain.table),
            Send: lambda command: inner.handle_request(command.request),
            Read: lambda command: Held(command.response).read(iter(command.response.stream)),
            Release: lambda command: command.response.close(),
            Sleep: lambda command: time.sleep(command.seconds),
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and pay if it takes that.

        Raises: what the inner transport raises; PaymentOutcomeUnknown instead, from it, once a permit had left.
        """
        url, trail = trail_of(request)
        if trail is None:
            return self._inner.handle_request(request)
        keep(request)
        call = HttpxCall(self._purse, request, trail, url)
        try:
            run(call.steps(), dispatch({**self._leaves, **call.table}))
            return call.deliver()
        except BaseException:
            if call.open is not None:
                call.open.close()
            raise

    def close(self) -> None:
        """Close the inner transport and the client that asks nodes."""
        self._inner.close()
        if self.chain is not None:
            self.chain.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *gone: Any) -> None:
        self._inner.__exit__(*gone)
        if self.chain is not None:
            self.chain.close()


class AsyncPaymentTransport(httpx.AsyncBaseTransport):
    """As :class:`PaymentTransport`, under asyncio and trio alike."""

    def __init__(self, inner: httpx.AsyncBaseTransport, purse: Purse, *, chain: AsyncHttp | None = None) -> None:
        self._inner = inner
        self._purse = purse
        self.chain = AsyncHttp() if chain is None and purse.rpc else chain
        self._leaves: Leaf = {
            **({} if self.chain is None else self.chain.table),
            Send: lambda command: inner.handle_async_request(command.request),
            Read: lambda command: Held(command.response).aread(aiter(command.response.stream)),
            Release: lambda command: command.response.aclose(),
            Sleep: lambda command: anyio.sleep(command.seconds),
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and pay if it takes that.

        Raises: what the inner transport raises; PaymentOutcomeUnknown instead, from it, once a permit had left.  A
        cancellation passes through; what it leaves open is reported to the purse.
        """
        url, trail = trail_of(request)
        if trail is None:
            return await self._inner.handle_async_request(request)
        await akeep(request)
        call = HttpxCall(self._purse, request, trail, url)
        try:
            await arun(call.steps(), adispatch({**self._leaves, **call.table}))
            return call.deliver()
        except GeneratorExit:  # being closed: nothing can be awaited any more
            raise
        except BaseException:
            if call.open is not None:
                with anyio.CancelScope(shield=True):
                    await call.open.aclose()
            raise

    async def aclose(self) -> None:
        """Close the inner transport and the client that asks nodes."""
        await self._inner.aclose()
        if self.chain is not None:
            await self.chain.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *gone: Any) -> None:
        await self._inner.__aexit__(*gone)
        if self.chain is not None:
            await self.chain.aclose()
