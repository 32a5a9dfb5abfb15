"""httpx clients that pay: transports around the caller's own, below redirects, on a copy of each request.

What the caller configured stays in place (TLS, proxies, timeouts, pool, cookies), because every request of an exchange, the
one to a token endpoint too, goes through the transport that was wrapped.  The caller's request object never carries a permit
or a token, so a redirect, which starts from it, cannot take one along.  ``response.extensions["x402"]`` is the Outcome; each
hop of a redirect (``response.history``) has its own.

The edge takes no decision: the core says what to send, and whether the last response or an error is the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Self, TypeVar

import anyio
import httpx

from x402bind.chain.nodes import NodesLike
from x402bind.chain.signers import AsyncSigner, Signer
from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.drive import adispatch, arun, dispatch, run
from x402bind.errors import raise_for_outcome
from x402bind.leaves import Sleep
from x402core.commands import Outcome, SendRequest, SendTokenRequest
from x402core.errors import LocalProtocolError
from x402core.events import Headers
from x402core.machines.machine import ask
from x402core.money import Price

from .alike import JSON_HEADERS, OUTCOME, SHARED_HEADERS, TRAIL, Call, Leaf, Leaves, purse_of
from .alike import Read as _Read
from .alike import Release as _Release
from .alike import Send as _Send
from .held import Held
from .purse import MOST_BODY, Purse, Trail, origin_of

__all__ = [
    "AsyncHttp402Client",
    "AsyncPaymentTransport",
    "Http402Client",
    "PaymentTransport",
    "async_paying_client",
    "outcome_of",
    "pay_with",
    "paying_client",
    "raise_for_payment",
]

C = TypeVar("C", bound=httpx.Client | httpx.AsyncClient)
_SHARED_EXTENSIONS: Final = ("timeout", "sni_hostname")


# ----------------------------------------------------------------------------------------------- alike in both worlds


class _Call(Call[httpx.Request, httpx.Response]):
    """An exchange in httpx's words."""

    def __init__(self, purse: Purse, request: httpx.Request, trail: Trail, url: str) -> None:
        super().__init__(purse, request, trail, request.method, url, replayable=isinstance(request.stream, httpx.ByteStream))

    def hold(self, response: httpx.Response) -> Leaves[tuple[httpx.Response, bytes]]:
        if response.is_stream_consumed:  # the inner transport has read it
            return response, response.content[:MOST_BODY]
        held: Held = yield from ask(_Read(response))
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


def _trail(request: httpx.Request) -> tuple[str, Trail | None]:
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


# ------------------------------------------------------------------------------------------------------ the two worlds


class PaymentTransport(httpx.BaseTransport):
    """Pay for what ``inner`` is asked to pay for; ``chain`` asks nodes (default: a client of its own, if nodes are named).

    Raises: LocalProtocolError for a purse that only an async client can use.
    """

    def __init__(self, inner: httpx.BaseTransport, purse: Purse, *, chain: SyncHttp | None = None) -> None:
        purse.check_sync()
        self._inner = inner
        self._purse = purse
        self.chain = SyncHttp() if chain is None and purse.rpc else chain
        self._leaves: Leaf = {
            **({} if self.chain is None else self.chain.table),
            _Send: lambda command: inner.handle_request(command.request),
            _Read: lambda command: Held(command.response).read(iter(command.response.stream)),
            _Release: lambda command: command.response.close(),
            Sleep: lambda command: time.sleep(command.seconds),
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and pay if it takes that.

        Raises: what the inner transport raises; PaymentOutcomeUnknown instead, from it, once a permit had left.
        """
        url, trail = _trail(request)
        if trail is None:
            return self._inner.handle_request(request)
        call = _Call(self._purse, request, trail, url)
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
            _Send: lambda command: inner.handle_async_request(command.request),
            _Read: lambda command: Held(command.response).aread(aiter(command.response.stream)),
            _Release: lambda command: command.response.aclose(),
            Sleep: lambda command: anyio.sleep(command.seconds),
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and pay if it takes that.

        Raises: what the inner transport raises; PaymentOutcomeUnknown instead, from it, once a permit had left.  A
        cancellation passes through; what it leaves open is reported to the purse.
        """
        url, trail = _trail(request)
        if trail is None:
            return await self._inner.handle_async_request(request)
        call = _Call(self._purse, request, trail, url)
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


# ------------------------------------------------------------------------------------------------------- for the caller


def pay_with(client: C, purse: Purse) -> C:
    """Make a client pay from ``purse``, in place, whichever of its transports a request takes (proxies, mounts).

    Raises: LocalProtocolError for a client that pays already, or a purse that only an async client can use.
    """
    inside: Any = client  # httpx has no public way to wrap what verify=, proxy= and the environment have made
    wrap: Callable[..., Any] = PaymentTransport if isinstance(client, httpx.Client) else AsyncPaymentTransport
    if isinstance(inside._transport, PaymentTransport | AsyncPaymentTransport):
        raise LocalProtocolError("this client pays already", field="client")
    first = wrap(inside._transport, purse)
    mounts = {
        pattern: None if inner is None else wrap(inner, purse, chain=first.chain) for pattern, inner in inside._mounts.items()
    }
    inside._transport, inside._mounts = first, mounts
    return client


def paying_client(
    key: str | bytes | Signer,
    most: Price,
    *networks: str,
    rpc: Mapping[str, NodesLike] | None = None,
    **options: Any,
) -> httpx.Client:
    """Return an ``httpx.Client(**options)`` that pays at most ``most`` per payment on these networks.

    ``key`` is a private key or a signer; ``rpc`` names a node for each network where EIP-2612 permits are signed.  For
    anything more, :func:`pay_with` and a :class:`~x402bind.clients.purse.Purse`.  Raises: LocalProtocolError.
    """
    purse = Purse.up_to(key, most, *networks, rpc=rpc)
    purse.check_sync()
    return pay_with(httpx.Client(**options), purse)


def async_paying_client(
    key: str | bytes | Signer | AsyncSigner,
    most: Price,
    *networks: str,
    rpc: Mapping[str, NodesLike] | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """Return an ``httpx.AsyncClient(**options)`` that pays, as :func:`paying_client`."""
    purse = Purse.up_to(key, most, *networks, rpc=rpc)
    return pay_with(httpx.AsyncClient(**options), purse)


class Http402Client(httpx.Client):
    """An ``httpx.Client`` that pays: every argument of httpx's own, and a purse, or what a simple one is made of.

    ``key`` is a private key or a signer, ``max_price`` the most per payment, ``network`` one name or several; ``rpc`` as for
    :func:`paying_client`.  Raises: LocalProtocolError naming the argument.
    """

    def __init__(
        self,
        *,
        purse: Purse | None = None,
        key: str | bytes | Signer | None = None,
        max_price: Price | None = None,
        network: str | Iterable[str] | None = None,
        rpc: Mapping[str, NodesLike] | None = None,
        **options: Any,
    ) -> None:
        funds = purse_of(purse, key, max_price, network, rpc)
        funds.check_sync()
        super().__init__(**options)
        pay_with(self, funds)


class AsyncHttp402Client(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` that pays, as :class:`Http402Client`."""

    def __init__(
        self,
        *,
        purse: Purse | None = None,
        key: str | bytes | Signer | AsyncSigner | None = None,
        max_price: Price | None = None,
        network: str | Iterable[str] | None = None,
        rpc: Mapping[str, NodesLike] | None = None,
        **options: Any,
    ) -> None:
        funds = purse_of(purse, key, max_price, network, rpc)
        super().__init__(**options)
        pay_with(self, funds)


def outcome_of(response: httpx.Response) -> Outcome | None:
    """Return what became of the money for this response; None when it did not come through a paying client."""
    outcome: Outcome | None = response.extensions.get(OUTCOME)
    return outcome


def raise_for_payment(response: httpx.Response) -> httpx.Response:
    """Return a response that was free or is paid for.  Raises: PaymentDeclined, PaymentOutcomeUnknown."""
    raise_for_outcome(outcome_of(response))
    return response
