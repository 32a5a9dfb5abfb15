"""requests sessions that pay: an adapter around the caller's own for a URL, below redirects, on a copy of each request.

What the caller configured stays in place (TLS, proxies, certificates, timeouts, retries), because every request of an
exchange, the one to a token endpoint too, goes through the adapter that was wrapped, with the arguments of the call.  The
caller's prepared request never carries a permit or a token, so a redirect, which starts from it, cannot take one along.
``response.x402`` is the Outcome; each hop of a redirect (``response.history``) has its own.

The edge takes no decision: the core says what to send, and whether the last response or an error is the answer.
A layer above may send the same request again, as a digest login does; what the copies of a prepared request have in common is
their ``hooks``, so that is where the Trail is: one request of the caller's pays once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import requests
from requests.adapters import BaseAdapter
from requests.utils import rewind_body, urldefragauth

from x402bind.chain.nodes import NodesLike
from x402bind.chain.signers import Signer
from x402bind.chain.transports import SyncHttp
from x402bind.drive import dispatch, run
from x402bind.errors import raise_for_outcome
from x402bind.leaves import Sleep
from x402core.commands import Outcome, SendRequest, SendTokenRequest
from x402core.errors import LocalProtocolError
from x402core.events import Headers
from x402core.machines.machine import ask
from x402core.money import Price

from .alike import JSON_HEADERS, OUTCOME, SHARED_HEADERS, TRAIL, Call, Leaf, Leaves, Read, Release, Send, purse_of
from .held_requests import HeldBody, read, release
from .purse import MOST_BODY, Purse, Trail, origin_of

__all__ = ["Http402Session", "PaymentAdapter", "outcome_of", "pay_with", "paying_session", "raise_for_payment"]

_CONNECTION: Final = "connection"
_PLAIN: Final = (str, bytes, bytearray, memoryview)


# -------------------------------------------------------------------------------------------------------- in requests' words


class _Call(Call[requests.PreparedRequest, requests.Response]):
    """An exchange in requests' words."""

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


def _trail(request: requests.PreparedRequest) -> tuple[str, Trail | None]:
    """Return the URL asked and the trail this request belongs to; None where nothing can be paid for."""
    url = urldefragauth(request.url or "")
    origin = origin_of(url)
    if origin is None:
        return url, None
    hooks: Any = request.hooks
    trail: Trail = hooks.setdefault(TRAIL, Trail(origin))
    return url, trail


class PaymentAdapter(BaseAdapter):
    """Pay for what ``inner`` is asked to pay for; ``chain`` asks nodes (default: a client of its own, if nodes are named).

    Any number of threads may share one.  Raises: LocalProtocolError for a purse that only an async client can use.
    """

    def __init__(self, inner: BaseAdapter, purse: Purse, *, chain: SyncHttp | None = None) -> None:
        super().__init__()
        purse.check_sync()
        self.inner = inner
        self._purse = purse
        self.chain = SyncHttp() if chain is None and purse.rpc else chain
        self._leaves: Leaf = {
            **({} if self.chain is None else self.chain.table),
            Read: read,
            Release: lambda command: release(command.response),
            Sleep: lambda command: time.sleep(command.seconds),
        }

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request, and pay if it takes that.

        Raises: what the inner adapter raises; PaymentOutcomeUnknown instead, from it, once a permit had left.
        """
        url, trail = _trail(request)
        if trail is None:
            return self.inner.send(request, *args, **options)
        call = _Call(self._purse, request, trail, url)
        leaves: Leaf = {**self._leaves, Send: lambda command: self.inner.send(command.request, *args, **options)}
        try:
            run(call.steps(), dispatch({**leaves, **call.table}))
            response = call.deliver()
        except BaseException:
            if call.open is not None:
                release(call.open)
            raise
        response.request = request
        setattr(response, _CONNECTION, self)  # an auth hook sends again by it
        return response

    def close(self) -> None:
        """Close the inner adapter and the client that asks nodes."""
        self.inner.close()
        if self.chain is not None:
            self.chain.close()


# ------------------------------------------------------------------------------------------------------------ for the caller


def pay_with(session: requests.Session, purse: Purse) -> requests.Session:
    """Make a session pay from ``purse``, in place, whichever of its adapters a request takes; mount others before.

    Raises: LocalProtocolError for a session that pays already, or a purse that only an async client can use.
    """
    if any(isinstance(adapter, PaymentAdapter) for adapter in session.adapters.values()):
        raise LocalProtocolError("this session pays already", field="session")
    purse.check_sync()
    chain = SyncHttp() if purse.rpc else None
    for prefix, inner in session.adapters.items():
        session.adapters[prefix] = PaymentAdapter(inner, purse, chain=chain)
    return session


def paying_session(
    key: str | bytes | Signer, most: Price, *networks: str, rpc: Mapping[str, NodesLike] | None = None
) -> requests.Session:
    """Return a session that pays at most ``most`` per payment on these networks.

    ``key`` is a private key or a signer; ``rpc`` names a node for each network where EIP-2612 permits are signed.  For
    anything more, :func:`pay_with` and a :class:`~x402bind.clients.purse.Purse`.  Raises: LocalProtocolError.
    """
    return pay_with(requests.Session(), Purse.up_to(key, most, *networks, rpc=rpc))


class Http402Session(requests.Session):
    """A ``requests.Session`` that pays, by whatever adapter is mounted, now or later.

    It takes a purse, or what a simple one is made of: ``key`` is a private key or a signer, ``max_price`` the most per
    payment, ``network`` one name or several; ``rpc`` as for :func:`paying_session`.  Raises: LocalProtocolError naming the
    argument.
    """

    def __init__(
        self,
        *,
        purse: Purse | None = None,
        key: str | bytes | Signer | None = None,
        max_price: Price | None = None,
        network: str | Iterable[str] | None = None,
        rpc: Mapping[str, NodesLike] | None = None,
    ) -> None:
        self._purse = purse_of(purse, key, max_price, network, rpc)
        self._purse.check_sync()
        self._chain = SyncHttp() if self._purse.rpc else None
        super().__init__()

    def mount(self, prefix: str | bytes, adapter: BaseAdapter) -> None:
        """Mount an adapter under what pays; one that pays already stays as it is."""
        pays = isinstance(adapter, PaymentAdapter)
        super().mount(prefix, adapter if pays else PaymentAdapter(adapter, self._purse, chain=self._chain))


def outcome_of(response: requests.Response) -> Outcome | None:
    """Return what became of the money for this response; None when it did not come through a paying session."""
    outcome: Outcome | None = getattr(response, OUTCOME, None)
    return outcome


def raise_for_payment(response: requests.Response) -> requests.Response:
    """Return a response that was free or is paid for.  Raises: PaymentDeclined, PaymentOutcomeUnknown."""
    raise_for_outcome(outcome_of(response))
    return response
