"""What paying clients of every HTTP library do alike: one exchange, down to sending, reading and giving a connection back.

An edge derives from :class:`Call` and says, in its library's words, what a copy of the caller's request is and what of a
response the core may see.  Everything else about an exchange is here: in what order connections are held and released, what
is kept when a request fails, and what the caller gets in the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from x402bind.chain.nodes import NodesLike
from x402bind.chain.signers import AsyncSigner, Signer, signer_of
from x402bind.leaves import Sleep
from x402core.commands import Command, SendRequest, SendTokenRequest, WakeAt
from x402core.errors import LocalProtocolError
from x402core.events import Headers, ResponseHead
from x402core.machines.machine import Steps, ask, translate
from x402core.money import Price

from .purse import MOST_BODY, Exchange, Purse, Trail, wants_body

__all__ = [
    "JSON_HEADERS",
    "OUTCOME",
    "SHARED_HEADERS",
    "TRAIL",
    "Call",
    "Leaf",
    "Leaves",
    "Read",
    "Release",
    "Send",
    "plain",
    "purse_of",
]

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")
Leaves: TypeAlias = Generator[Command[Any], Any, R]
Leaf: TypeAlias = dict[type[Command[Any]], Callable[[Any], Any]]

OUTCOME: Final = "x402"
"""The name under which a response carries its Outcome."""
TRAIL: Final = "x402.trail"
"""The name under which a request carries its Trail."""
SHARED_HEADERS: Final = ("Host", "User-Agent")
"""What a token request has of the caller's headers; none of them is a credential."""
JSON_HEADERS: Final = (("Accept", "application/json"), ("Accept-Encoding", "identity"), ("Content-Type", "application/json"))
_SLICE: Final = 256  # packed bytes unpacked at once: a bomb is seen before it has grown


@dataclass(frozen=True, slots=True, eq=False)
class Send(Command[Any]):
    """Send a request through what the caller configured.  On failure: it is unknown whether the server saw it."""

    request: Any


@dataclass(frozen=True, slots=True, eq=False)
class Read(Command[Any]):
    """Read a body up to the cap; one that ends before it gives its connection back.  On failure: as :class:`Send`."""

    response: Any


@dataclass(frozen=True, slots=True, eq=False)
class Release(Command[None]):
    """Give a response's connection back, whatever is still on it.  On failure: the pool's loss."""

    response: Any


class Call(Exchange, ABC, Generic[Q, A]):
    """An exchange with requests ``Q`` and responses ``A``.

    ``response`` is what to deliver; ``open``, which can be closed, is what holds a connection meanwhile.
    """

    def __init__(self, purse: Purse, request: Q, trail: Trail, method: str, url: str, *, replayable: bool) -> None:
        super().__init__(purse, trail, method, url, replayable=replayable)
        self.request = request
        self.response: A | None = None
        self.open: Any = None
        self.error: Exception | None = None

    def steps(self) -> Steps:
        """Drive the exchange, down to :class:`Send`, :class:`Read`, :class:`Release` and Sleep."""
        return translate(super().steps(), {SendRequest: self._send, SendTokenRequest: self._buy, WakeAt: self._wait})

    def _send(self, command: SendRequest) -> Leaves[ResponseHead]:
        with self._remembering():
            response, body = (yield from self._exchange(self.copy(command))), b""
            status, headers = self.head(response)
            if wants_body(status):
                response, body = yield from self.hold(response)
            self.response = response
            return ResponseHead(status, headers, body, self.url)

    def _buy(self, command: SendTokenRequest) -> Leaves[ResponseHead]:
        with self._remembering():
            response, body = yield from self.hold((yield from self._exchange(self.token_request(command))))
            yield from self._release()
            return ResponseHead(*self.head(response), body, command.url)

    def _wait(self, command: WakeAt) -> Leaves[None]:
        yield from self._release()
        yield from ask(Sleep(self.pause(command.at)))

    def _exchange(self, request: Q) -> Leaves[A]:
        yield from self._release()
        response: A = yield from ask(Send(request))
        self.open = response
        return response

    def _release(self) -> Leaves[None]:
        if self.open is not None:
            with suppress(Exception):
                yield from ask(Release(self.open))
            self.open = None

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Remember why a request failed; the error shows the caller's request, not our copy with its permit."""
        try:
            yield
        except Exception as error:
            self.blame(error)
            self.error = error
            raise

    def deliver(self) -> A:
        """Return the last response with the outcome on it, or raise what kept it from coming."""
        if self.error is not None:
            failure = self.fail(self.error)
            if failure is self.error:
                raise failure
            raise failure from self.error
        assert self.response is not None
        self.label(self.response)
        return self.response

    @abstractmethod
    def copy(self, command: SendRequest) -> Q:
        """Return the caller's request with the core's headers set; the caller's own is never touched."""

    @abstractmethod
    def token_request(self, command: SendTokenRequest) -> Q:
        """Return a request of our own, with no credential of the caller's on it."""

    @abstractmethod
    def hold(self, response: A) -> Leaves[tuple[A, bytes]]:
        """Return a response that can still be read from its beginning, and what the core may see of its body."""

    @abstractmethod
    def head(self, response: A) -> tuple[int, Headers]:
        """Return a response's status and every header, in order, as it came."""

    @abstractmethod
    def blame(self, error: Exception) -> None:
        """Put the caller's request where an error of the library points to ours."""

    @abstractmethod
    def label(self, response: A) -> None:
        """Put the outcome on a response."""


def plain(
    body: bytes, packed: str | None, *, whole: bool, unpack: Callable[[int], Iterable[bytes]], broken: type[Exception]
) -> bytes:
    """Return what the core may see of a body: behind any Content-Encoding (``packed``), cut at the cap.

    Nothing when it cannot be unpacked (``unpack``, given how many packed bytes to take at once, raises ``broken``), nor when
    it is packed twice (each layer multiplies what a bomb unpacks to), or packed and not all here.
    """
    if packed is None:
        return body[:MOST_BODY]
    if "," in packed or not whole:
        return b""
    shown = bytearray()
    try:
        for part in unpack(_SLICE):
            shown += part
            if len(shown) >= MOST_BODY:
                break
    except broken:
        return b""
    return bytes(shown[:MOST_BODY])


def purse_of(
    purse: Purse | None,
    key: str | bytes | Signer | AsyncSigner | None,
    max_price: Price | None,
    network: str | Iterable[str] | None,
    rpc: Mapping[str, NodesLike] | None,
) -> Purse:
    """Return the purse given, or one of ``key`` that pays at most ``max_price`` per payment on a network, or on several.

    Raises: LocalProtocolError naming the argument that is missing, or one too many.
    """
    parts = {"key": key, "max_price": max_price, "network": network}
    if purse is not None:
        spare = next((name for name, value in {**parts, "rpc": rpc}.items() if value is not None), None)
        if spare is not None:
            raise LocalProtocolError("a purse has its own: give either", field=spare)
        return purse
    if max_price is None or network is None:
        missing = next(name for name, value in parts.items() if value is None)
        raise LocalProtocolError("give a purse=, or key=, max_price= and network=", field=missing)
    return Purse.up_to(signer_of(key), max_price, *((network,) if isinstance(network, str) else network), rpc=rpc)
