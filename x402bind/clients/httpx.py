"""httpx clients that pay: transports around the caller's own, below redirects, on a copy of each request.

What the caller configured stays in place (TLS, proxies, timeouts, pool, cookies), because every request of an exchange, the
one to a token endpoint too, goes through the transport that was wrapped.  The caller's request object never carries a permit
or a token, so a redirect, which starts from it, cannot take one along.  ``response.extensions["x402"]`` is the Outcome; each
hop of a redirect (``response.history``) has its own.

The edge takes no decision: the core says what to send, and whether the last response or an error is the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias, TypeVar

import anyio
import httpx

from x402bind.chain.nodes import NodesLike
from x402bind.chain.signers import AsyncSigner, Signer
from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.drive import adispatch, arun, dispatch, run
from x402bind.errors import raise_for_outcome
from x402bind.leaves import Sleep
from x402core.commands import Command, Outcome, SendRequest, SendTokenRequest, WakeAt
from x402core.errors import LocalProtocolError
from x402core.events import ResponseHead
from x402core.machines.machine import Steps, ask, translate
from x402core.money import Price

from .held import Held
from .purse import MOST_BODY, Exchange, Purse, Trail, origin_of, wants_body

__all__ = [
    "AsyncPaymentTransport",
    "PaymentTransport",
    "async_paying_client",
    "outcome_of",
    "pay_with",
    "paying_client",
    "raise_for_payment",
]

C = TypeVar("C", bound=httpx.Client | httpx.AsyncClient)
R = TypeVar("R")
Leaves: TypeAlias = Generator[Command[Any], Any, R]
Leaf: TypeAlias = dict[type[Command[Any]], Callable[[Any], Any]]
_OUTCOME: Final = "x402"
_TRAIL: Final = "x402.trail"
_SHARED_EXTENSIONS: Final = ("timeout", "sni_hostname")
_SHARED_HEADERS: Final = ("Host", "User-Agent")
_JSON: Final = (("Accept", "application/json"), ("Accept-Encoding", "identity"), ("Content-Type", "application/json"))


# ----------------------------------------------------------------------------------------------- alike in both worlds


@dataclass(frozen=True, slots=True, eq=False)
class _Send(Command[httpx.Response]):
    """Send a request through the caller's transport.  On failure: it is unknown whether the server saw it."""

    request: httpx.Request


@dataclass(frozen=True, slots=True, eq=False)
class _Read(Command[Held]):
    """Read a body up to the cap; one that ends before it gives its connection back.  On failure: as :class:`_Send`."""

    response: httpx.Response


@dataclass(frozen=True, slots=True, eq=False)
class _Release(Command[None]):
    """Give a response's connection back, whatever is still on it.  On failure: the pool's loss."""

    response: httpx.Response | Held


class _Call(Exchange):
    """An exchange in httpx's words.  ``response`` is what to deliver; ``open`` is what holds a connection meanwhile."""

    def __init__(self, purse: Purse, request: httpx.Request, trail: Trail, url: str) -> None:
        super().__init__(purse, trail, request.method, url, replayable=isinstance(request.stream, httpx.ByteStream))
        self.request = request
        self.response: httpx.Response | None = None
        self.open: httpx.Response | Held | None = None
        self.error: Exception | None = None

    def steps(self) -> Steps:
        """Drive the exchange, down to :class:`_Send`, :class:`_Read`, :class:`_Release` and Sleep."""
        return translate(super().steps(), {SendRequest: self._send, SendTokenRequest: self._buy, WakeAt: self._wait})

    def _send(self, command: SendRequest) -> Leaves[ResponseHead]:
        with self._remembering():
            response, body = (yield from self._exchange(self._copy(command))), b""
            if wants_body(response.status_code):
                response, body = yield from self._hold(response)
            self.response = response
            return _head(response, body, self.url)

    def _buy(self, command: SendTokenRequest) -> Leaves[ResponseHead]:
        with self._remembering():
            response, body = yield from self._hold((yield from self._exchange(self._token_request(command))))
            yield from self._release()
            return _head(response, body, command.url)

    def _wait(self, command: WakeAt) -> Leaves[None]:
        yield from self._release()
        yield from ask(Sleep(self.pause(command.at)))

    def _exchange(self, request: httpx.Request) -> Leaves[httpx.Response]:
        yield from self._release()
        response = self.open = yield from ask(_Send(request))
        return response

    def _hold(self, response: httpx.Response) -> Leaves[tuple[httpx.Response, bytes]]:
        """Return a response that can still be read from its beginning, and what the core may see of its body."""
        if response.is_stream_consumed:  # the inner transport has read it
            return response, response.content[:MOST_BODY]
        held = self.open = yield from ask(_Read(response))
        whole = httpx.Response(response.status_code, headers=response.headers, stream=held, extensions=response.extensions)
        return whole, held.plain()

    def _release(self) -> Leaves[None]:
        if self.open is not None:
            with suppress(Exception):
                yield from ask(_Release(self.open))
            self.open = None

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Remember why a request failed; the error shows the caller's request, not our copy with its permit."""
        try:
            yield
        except Exception as error:
            if isinstance(error, httpx.RequestError):
                error.request = self.request
            self.error = error
            raise

    def _copy(self, command: SendRequest) -> httpx.Request:
        """Return the caller's request with the core's headers set; the caller's own is never touched."""
        asked = self.request
        headers = asked.headers.copy()
        for name, value in command.set_headers:
            headers[name] = value
        return httpx.Request(asked.method, asked.url, headers=headers, stream=asked.stream, extensions=dict(asked.extensions))

    def _token_request(self, command: SendTokenRequest) -> httpx.Request:
        """Return a request of our own, with no credential of the caller's on it."""
        asked = self.request
        shared = [(name, asked.headers[name]) for name in _SHARED_HEADERS if name in asked.headers]
        extensions = {str(name): asked.extensions[name] for name in _SHARED_EXTENSIONS if name in asked.extensions}
        return httpx.Request("POST", command.url, headers=[*shared, *_JSON], content=command.body, extensions=extensions)

    def deliver(self) -> httpx.Response:
        """Return the last response with the outcome on it, or raise what kept it from coming."""
        if self.error is not None:
            failure = self.fail(self.error)
            if failure is self.error:
                raise failure
            raise failure from self.error
        assert self.response is not None
        self.response.extensions = {**self.response.extensions, _OUTCOME: self.outcome}
        return self.response


def _head(response: httpx.Response, body: bytes, url: str) -> ResponseHead:
    """Return a response as the core sees it: every header, in order, as it came."""
    headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw])
    return ResponseHead(response.status_code, headers, body, url)


def _trail(request: httpx.Request) -> tuple[str, Trail | None]:
    """Return the URL asked and the trail this request belongs to; None where nothing can be paid for.

    httpx gives a redirected request the extensions of the one it came from.  The same request sent again (by a layer that
    retries, an auth flow, the caller) is still the same: it pays once.
    """
    url = str(request.url.copy_with(userinfo=b"", fragment=None))
    origin = origin_of(url)
    if origin is None:
        return url, None
    trail: Trail | None = request.extensions.get(_TRAIL)
    if trail is None:
        trail = Trail(origin)
        request.extensions = {**request.extensions, _TRAIL: trail}
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


def outcome_of(response: httpx.Response) -> Outcome | None:
    """Return what became of the money for this response; None when it did not come through a paying client."""
    outcome: Outcome | None = response.extensions.get(_OUTCOME)
    return outcome


def raise_for_payment(response: httpx.Response) -> httpx.Response:
    """Return a response that was free or is paid for.  Raises: PaymentDeclined, PaymentOutcomeUnknown."""
    raise_for_outcome(outcome_of(response))
    return response
