"""One sale in a server's own thread: a request, what it costs, and the handler that is run for it.

The counterpart of ``sale.py`` for servers without an event loop.  The exchange is driven, the ledger asked and the handler run
in the thread that the server gave the request; what needs a loop is done by the :class:`~.background.Background`.  No decision
about money is taken here.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import parse_qs, quote

import anyio
import anyio.to_thread

from x402bind.drive import adispatch, resume, run_to
from x402bind.pricing import Asked, Paid, Prices, Shelf
from x402bind.translate.ledger import LEDGER_COMMANDS
from x402core.commands import Command, InvokeHandler, Respond, StreamResponse
from x402core.errors import LocalProtocolError, Reply
from x402core.events import HandlerHead, Headers, Payer, RequestHead, TokenRequest
from x402core.machines.machine import Machine
from x402core.policy import Terms
from x402core.wire import http
from x402core.wire.overrides import SETTLEMENT_OVERRIDES

from .background import Background
from .flow import AsyncFlow, Flow
from .sale import Counter, failed

__all__ = [
    "BodyRefused",
    "Incoming",
    "Served",
    "SyncSale",
    "without_overrides",
]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
_OVERRIDES: Final = SETTLEMENT_OVERRIDES.lower()
_log: Final = logging.getLogger("x402bind.servers")
_GLANCE: Final = 1.0
"""Seconds between two looks at whether a body that streams is still somebody's."""


class BodyRefused(Exception):
    """A request's body cannot be had whole; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request, as its edge knows it: ``path`` is decoded, ``query`` is not.

    ``read`` returns the body whole, of at most so many bytes, leaves it to be read again, and raises :class:`BodyRefused`.
    ``native`` is the framework's own request, for functions of it; where there is none they are given an :class:`Asked`.
    """

    method: str
    path: str
    query: str
    headers: Headers
    read: Callable[[int], bytes]
    native: Any = None

    @property
    def target(self) -> str:
        """What is asked for, in one spelling."""
        path = quote(self.path)
        return f"{path}?{self.query}" if self.query else path


class Served(Protocol[R_co]):
    """A handler's response, held back until the exchange says what becomes of it."""

    @property
    def status(self) -> int:
        """Its status."""

    @property
    def complete(self) -> bool:
        """True when all of it is here, and short enough to be kept."""

    @property
    def overrides(self) -> str | None:
        """What the handler says is to be charged; it is taken off the response."""

    @property
    def flow(self) -> Flow | AsyncFlow | None:
        """Its body, where that streams."""

    def reply(self) -> Reply | None:
        """Return it whole, to be kept for a replay; None where it is not complete."""

    def release(self, headers: Headers) -> R_co:
        """Return it as the server is to send it, with ``headers`` added."""

    def discard(self) -> None:
        """Let go of it: another answer is given."""


class SyncSale(Generic[R]):
    """One request for something priced; ``serve`` runs the handler (payer, hold), ``write`` sends an answer of our own.

    Raises, from either way of selling: what the handler raised, once its payment has been given back.
    """

    def __init__(
        self,
        counter: Counter,
        background: Background,
        incoming: Incoming,
        serve: Callable[[Payer | None, bool], Served[R]],
        write: Callable[[Reply], R],
    ) -> None:
        self.counter, self.background, self.incoming = counter, background, incoming
        self._serve, self._write = serve, write
        self._leaf = adispatch(counter.table)
        self._asked = Asked(incoming.method, incoming.path, incoming.query, incoming.headers)
        self._shelf: Shelf | None = None
        self._reference: str | None = None
        self._served: Served[R] | None = None
        self._error: Exception | None = None
        self._holding: Future[None] | None = None
        self._claim: tuple[str, str] | None = None  # its key, and we as its owner

    def sell(self, shelf: Shelf) -> R:
        """Sell what is on the shelf."""
        self.background.start()
        asked = self.incoming
        paying = http.carries_payment(asked.headers)
        try:
            body = asked.read(self.counter.body_most) if paying or shelf.computed else b""
        except BodyRefused as refused:
            return self._write(refused.reply)
        self._asked = Asked(asked.method, asked.path, asked.query, asked.headers, body)
        self._shelf = shelf
        self._reference = shelf.listing.named(self._request) if paying else None  # before the money moves: it may raise
        terms = shelf.terms(asked.path, self._computed(shelf))
        head = RequestHead(asked.method, asked.target, asked.headers, hashlib.sha256(body).digest() if paying else b"")
        return self._drive(self.counter.seller.server_exchange(terms), head, terms)

    def sell_token(self, scopes: Mapping[str, Shelf]) -> R:
        """Sell a token for the scope that is asked for: the only one, where there is no other."""
        named = parse_qs(self.incoming.query).get("scope", [])
        only = next(iter(scopes)) if len(scopes) == 1 and not named else ""
        shelf = scopes.get(named[0] if len(named) == 1 else only)
        if shelf is None:
            return self._write(http.no_such_scope())
        self.background.start()
        try:
            body = self.incoming.read(self.counter.body_most)
        except BodyRefused as refused:
            return self._write(refused.reply)
        terms = shelf.terms(shelf.path)
        return self._drive(self.counter.seller.token_exchange(terms), TokenRequest(body), terms)

    @property
    def _request(self) -> Any:
        return self._asked if self.incoming.native is None else self.incoming.native

    def _computed(self, shelf: Shelf) -> Prices | None:
        if not shelf.computed:
            return None
        prices = shelf.compute(self._request)
        if inspect.isawaitable(prices):
            if inspect.iscoroutine(prices):
                prices.close()
            raise LocalProtocolError("an async function cannot compute a price here", field="price")
        return prices

    def _drive(self, machine: Machine[Any, Any], event: RequestHead | TokenRequest, terms: Terms) -> R:
        seller, streams = self.counter.seller, False
        driven = seller.driven(machine, event)
        try:
            final = run_to(driven, self._perform, StreamResponse)
            streams = isinstance(final, StreamResponse)
        except BaseException:
            self._discard()
            raise
        finally:
            if not streams:
                self._hold_no_more()
        if isinstance(final, StreamResponse):
            return self._stream(driven, seller.attester.attest(terms, final))
        assert isinstance(final, Respond)
        final = seller.attester.attest(terms, final)
        if final.reply is None:
            assert self._served is not None
            return self._served.release(final.add_headers)
        self._discard()
        if self._error is not None:
            if not http.carries_receipt(final.reply.headers):
                raise self._error  # for the framework, as if we were not here
            _log.error("what was paid for was not served", exc_info=self._error)  # but whoever has paid is to know it
        return self._write(self.counter.shown(final.reply, terms, self.incoming.headers, self.incoming.method))

    def _stream(self, driven: Generator[Command[Any], Any, object], command: StreamResponse) -> R:
        """Let the response go; the exchange goes on when the server has sent the last of it, or its payer has left."""
        served, self._served = self._served, None  # the server's from here on: who looks after it must not keep it
        assert served is not None
        once = threading.Lock()

        def over(error: Exception | None) -> None:
            if once.acquire(blocking=False):
                self._hold_no_more()
                resume(driven, self._perform, error)

        flow = served.flow
        if flow is None:  # too long to be kept, but here
            over(None)
            return served.release(command.add_headers)
        flow.over = over
        self._hold_no_more()
        try:
            self._holding = self.background.begin(self._look_after, weakref.ref(flow), over)
            return served.release(command.add_headers)
        except BaseException as error:
            over(error if isinstance(error, Exception) else RuntimeError("cut off"))
            raise

    async def _look_after(self, flow: weakref.ref[Any], over: Callable[[Exception | None], None]) -> None:
        """Hold the claim of a body that streams; one that was dropped, neither given to its end nor closed, broke off."""
        async with anyio.create_task_group() as tasks:
            if self._claim is not None:
                tasks.start_soon(self.counter.seller.hold_claim, *self._claim)
            while flow() is not None:  # noqa: ASYNC110 - a garbage collector sets no event
                await anyio.sleep(_GLANCE)
            tasks.cancel_scope.cancel()
        self._holding = None  # this is it: it must not end itself
        await anyio.to_thread.run_sync(over, RuntimeError("the response was dropped on its way to the server"))

    def _hold_no_more(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None

    def _perform(self, command: Command[Any]) -> Any:
        if isinstance(command, InvokeHandler):
            return self._invoke(command)
        try:
            if type(command) in self.counter.table or type(command) not in LEDGER_COMMANDS:  # an intent is news to the settler
                return self.background.call(self._leaf, command)
            return self.counter.seller.performer.perform(command, self._held)  # in this thread: it may wait
        except Exception as error:
            failed(command, error)
            raise

    def _held(self) -> Reply | None:
        return None if self._served is None else self._served.reply()

    def _invoke(self, command: InvokeHandler) -> HandlerHead:
        payer = command.payer
        if command.owner and payer is not None:
            self._claim = (payer.payment, command.owner)
            self._holding = self.background.begin(self.counter.seller.hold_claim, *self._claim)
        try:
            if payer is not None and self._shelf is not None:
                listing = self._shelf.listing
                payer = Paid.by(payer, listing, listing.named(self._request) if self._reference is None else self._reference)
            self._served = self._serve(payer, command.hold)
        except Exception as error:
            self._error = error
            raise
        return HandlerHead(self._served.status, self._served.complete, self._served.overrides)

    def _discard(self) -> None:
        if self._served is None:
            return
        try:
            self._served.discard()
        except Exception:  # noqa: BLE001 - the answer that is given instead goes before it
            _log.exception("closing a response that is not sent failed")


def without_overrides(headers: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], str | None]:
    """Take what a handler says is to be charged off its response's headers; said twice is said wrongly."""
    passed, said = [], []
    for name, value in headers:
        if name.lower() == _OVERRIDES:
            said.append(value)
        else:
            passed.append((name, value))
    return passed, ", ".join(said) if said else None
