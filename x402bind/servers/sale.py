"""One sale over ASGI: a request, what it costs, and the application that is run for it on a leash.

What is sold at what price is known here (a :class:`~x402bind.pricing.Shelf`); which requests are sales, the edges know: the
middleware by path (``asgi.py``), the frameworks by route (``starlette.py``).  No decision about money is taken here.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

import anyio
import anyio.lowlevel

from x402bind.arguments import whole
from x402bind.drive import arun
from x402bind.pricing import Asked, Paid, Shelf
from x402bind.seller import Seller
from x402core.commands import Command, InvokeHandler, RecordIntent, ReportRefundDue, Respond, SettlePayment, StreamResponse
from x402core.errors import Reason, Reply, problem
from x402core.events import HandlerHead, Headers, Payer, RequestHead, TokenRequest
from x402core.machines.machine import Machine
from x402core.policy import Terms
from x402core.wire import http

from .held import App, HeldApp, Message, Receive, Scope, Send, send_reply

if TYPE_CHECKING:
    from x402bind.paywall import Paywall

__all__ = ["Counter", "Sale", "failed"]

_log: Final = logging.getLogger("x402bind.asgi")


@dataclass(frozen=True, slots=True)
class Counter:
    """Where things are sold: the seller, its bounds in bytes (``hold_most``, ``body_most``), and the page for browsers."""

    seller: Seller
    hold_most: int = 1 << 20
    body_most: int = 1 << 20
    paywall: Paywall | None = None
    table: Mapping[type[Command[Any]], Callable[[Any], Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        seller = self.seller
        whole(self.hold_most, "hold_most", 0, "bytes")
        whole(self.body_most, "body_most", 0, "bytes")
        table = {
            **seller.settler.performers(),
            SettlePayment: seller.settler.settle,
            RecordIntent: seller.settler.record,
            ReportRefundDue: seller.report_refund_due,
        }
        object.__setattr__(self, "table", table)

    def shown(self, reply: Reply, terms: Terms, headers: Headers, method: str) -> Reply:
        """Return a reply as its reader wants it: a browser that navigates is shown a page in place of a 402's JSON."""
        page = self.paywall is not None and reply.status == 402
        return self.paywall.page(terms, headers, reply, method) if page and self.paywall is not None else reply


class _ClientGone(BaseException):
    """The payer hung up while the handler ran.  Not an Exception: it cancels the exchange instead of failing a command."""


def _asked(scope: Scope, body: bytes) -> Asked:
    query = scope.get("query_string", b"").decode("latin-1")
    return Asked(scope["method"], scope.get("path", "/"), query, _headers(scope), body)


class Sale:
    """One request for something priced.

    ``request_of`` makes, of scope and receive, what functions of the request are called with (default: an :class:`Asked`).
    ``inside`` a framework whose own outer layers turn exceptions into responses, they are left to; else a 500 is sent first.
    """

    def __init__(
        self,
        counter: Counter,
        app: App,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        request_of: Callable[[Scope, Receive], Any] | None = None,
        inside: bool = False,
    ) -> None:
        self.counter, self.app = counter, app
        self.scope, self.receive, self.send = scope, receive, send
        self.headers = _headers(scope)
        self.inside, self.request_of = inside, request_of
        self.handler: HeldApp | None = None
        self.shelf: Shelf | None = None
        self.reference: str | None = None
        self.error: Exception | None = None  # of a function of the seller's
        self.paying = False
        self.gone = False
        self.attended = False  # once somebody stands by while the handler runs
        self.left: anyio.Event | None = None  # made when somebody waits for it
        self.body: bytes | None = None

    async def sell(self, shelf: Shelf, path: str) -> None:
        """Sell what is on the shelf, asked for by ``path``."""
        headers = self.headers
        self.paying = paying = http.carries_payment(headers)
        if paying or shelf.computed:
            self.body = await self._read()
            if self.body is None:
                return
        self.shelf = shelf
        self.reference = shelf.listing.named(self._request()) if paying else None  # before the money moves: it may raise
        prices = shelf.compute(self._request()) if shelf.computed else None
        terms = shelf.terms(path, await prices if prices is not None and inspect.isawaitable(prices) else prices)
        digest = hashlib.sha256(self.body).digest() if paying and self.body is not None else b""
        head = RequestHead(self.scope["method"], _target(self.scope), headers, digest)
        await self._drive(self.counter.seller.server_exchange(terms), head, terms)

    async def sell_token(self, scopes: Mapping[str, Shelf]) -> None:
        """Sell a token for the scope that is asked for: the only one, where there is no other."""
        asked = parse_qs(self.scope.get("query_string", b"").decode("latin-1")).get("scope", [])
        only = next(iter(scopes)) if len(scopes) == 1 and not asked else ""
        shelf = scopes.get(asked[0] if len(asked) == 1 else only)
        if shelf is None:
            return await send_reply(self.send, http.no_such_scope())
        body = await self._read()
        if body is not None:
            terms = shelf.terms(shelf.path)
            await self._drive(self.counter.seller.token_exchange(terms), TokenRequest(body), terms)
        return None

    def _request(self) -> Any:
        """Return the request as functions of the seller's are given it; its body, once read, can be read again."""
        if self.request_of is None:
            return _asked(self.scope, self.body or b"")
        return self.request_of(self.scope, self.receive if self.body is None else self._replayed())

    async def _drive(self, machine: Machine[Any, Any], event: RequestHead | TokenRequest, terms: Terms) -> None:
        stayed, raised = False, list[Exception]()
        try:
            async with AsyncExitStack() as stack:  # a task group is opened with the handler, if one is run
                self._stack = stack
                try:
                    stayed = await self._exchange(machine, event, terms)
                except Exception as error:  # noqa: BLE001 - raised again outside: a task group would wrap it
                    raised.append(error)
                    if self.handler is not None:
                        self._tasks.cancel_scope.cancel()
        finally:
            handler, self.handler = self.handler, None  # which knows us: a circle would outlive the request
            own, self.error = self.error, None
        if stayed and not raised:  # what failed is for the framework, or the server's log, as if we were not here
            raised += [error for error in (own, None if handler is None else handler.error) if error is not None]
        if raised:
            raise raised.pop(0)

    async def _exchange(self, machine: Machine[Any, Any], event: RequestHead | TokenRequest, terms: Terms) -> bool:
        """Drive the machine, and send what it answers; False when the payer left before there was anything to send."""
        seller = self.counter.seller
        try:
            final = await arun(seller.driven(machine, event), lambda command: self._perform(command, terms))
        except _ClientGone as gone:
            for note in getattr(gone, "__notes__", ()):
                _log.warning("%s", note)
            self._tasks.cancel_scope.cancel()
            return False
        if isinstance(final, Respond):  # else a stream was the answer
            with suppress(OSError):  # the payer is gone: nothing of the protocol is left to do
                await self._respond(seller.attester.attest(terms, final), terms)
        if self.handler is not None:
            await self.handler.over.wait()  # its background work, or the rest of its stream
            if self.attended:
                self._tasks.cancel_scope.cancel()
        return True

    async def _respond(self, final: Respond, terms: Terms) -> None:
        if final.reply is None:
            assert self.handler is not None
            return await self.handler.release(final.add_headers)
        ready = self.error is None and (self.handler is None or self.handler.ready)
        broken = not ready and final.reply.status == 500
        if not (broken and self.inside and not http.carries_receipt(final.reply.headers)):
            reply = self._never_in_vain(final.reply)
            await send_reply(self.send, self.counter.shown(reply, terms, self.headers, self.scope["method"]))
        return None

    def _never_in_vain(self, reply: Reply) -> Reply:
        """Return what asks for a payment as 503 while nobody settles: whoever signs for that signs in vain."""
        if reply.status != 402 or self.counter.seller.settler.works or self.paying:
            return reply
        _idle()
        return _CLOSED

    async def _perform(self, command: Command[Any], terms: Terms) -> Any:
        kind = type(command)
        if kind is InvokeHandler:
            return await self._invoke(command)  # type: ignore[arg-type]
        if isinstance(command, StreamResponse):
            return await self._stream(self.counter.seller.attester.attest(terms, command))
        performer = self.counter.table.get(kind)
        try:
            if performer is None:
                return await self.counter.seller.on_ledger(command, self.handler.reply if self.handler else _nothing)
            answer = performer(command)
            return await answer if hasattr(type(answer), "__await__") else answer
        except Exception as error:
            failed(command, error)
            raise

    async def _invoke(self, command: InvokeHandler) -> HandlerHead:
        """Run the application until its response can be judged: whole if it is to be held, begun if not."""
        payer: Payer | None = command.payer
        if payer is not None and self.shelf is not None:
            listing = self.shelf.listing
            try:
                payer = Paid.by(payer, listing, listing.named(self._request()) if self.reference is None else self.reference)
            except Exception as error:
                self.error = error
                raise
        self.scope["x402"] = payer
        if extensions := self.scope.get("extensions"):  # no other way to send a response than the two messages held here
            self.scope["extensions"] = {k: v for k, v in extensions.items() if not k.startswith("http.response.")}
        receive = self.receive if self.body is None else self._replayed()
        handler = HeldApp(self.app, self.scope, receive, self.send, hold=command.hold, most=self.counter.hold_most)
        self.handler = handler
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        if command.owner and not command.hold and self.body is not None:  # it may stream, and a stream is given but once:
            self._stand_by(handler, payer, command.owner)
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()
            if self.gone:  # not to a payer who left while the money moved
                raise _ClientGone
        self._tasks.start_soon(handler.run)
        await anyio.lowlevel.checkpoint()  # many a handler is over by then
        if not (handler.over.up or self.attended):
            self._stand_by(handler, payer, command.owner)
        await handler.changed.wait()
        if self.gone and not handler.ready:
            raise _ClientGone
        if not handler.ready:
            raise handler.error or RuntimeError("the application ended without a response")
        return HandlerHead(handler.status, handler.complete, handler.overrides)

    async def _stream(self, command: StreamResponse) -> None:
        """Let the response go; wait until the last of it was sent, or the payer has left."""
        handler = self.handler
        assert handler is not None
        with suppress(OSError):
            await handler.release(command.add_headers)
            await handler.sent.wait()
        if not (handler.ended or handler.left or self.gone):
            raise handler.error or RuntimeError("the application ended within its response")

    def _stand_by(self, handler: HeldApp, payer: Payer | None, owner: str) -> None:
        """See, while the handler runs, that its claim does not lapse, and whether the payer is still there."""
        self.attended = True
        if owner and payer is not None:
            self._tasks.start_soon(self.counter.seller.hold_claim, payer.payment, owner)
        if self.body is not None:
            self._tasks.start_soon(self._watch, handler)

    async def _watch(self, handler: HeldApp) -> None:
        """Notice the payer hanging up while the handler runs or streams; its request's body was read, so nothing else comes."""
        while (await self.receive())["type"] != "http.disconnect":  # noqa: ASYNC110 - nothing else is an event here
            await anyio.sleep(_GLANCE)  # a middleware that has read the body may give it again and again
        self.gone = True
        if self.left is not None:
            self.left.set()
        handler.changed.set()
        handler.sent.set()

    def _replayed(self) -> Receive:
        """Return a receive that gives the body that was read, then waits for the payer to hang up."""
        messages = [{"type": "http.request", "body": self.body, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            if not self.gone:
                self.left = self.left or anyio.Event()
                await self.left.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _read(self) -> bytes | None:
        """Read the body whole; None when the payer hung up or was told that it is too large."""
        body, most = bytearray(), self.counter.body_most
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > most:
                await send_reply(self.send, http.too_large(most))
                return None
            if not message.get("more_body", False):
                return bytes(body)


def failed(command: Command[Any], error: Exception) -> None:
    """Log what could not be done; what that means for the exchange, its machine knows."""
    whole = error if isinstance(command, ReportRefundDue) else None  # the seller's own function
    _log.warning("%s failed: %s: %s", type(command).__name__, type(error).__name__, error, exc_info=whole)


_GLANCE: Final = 1.0  # seconds
_TURNS: Final = 4  # of the event loop, in which news passes through what is around us
_CLOSED: Final = problem(
    503,
    "Nothing can be paid for here just now. Try again later, with the same payment if you have signed one.",
    reason=Reason.UNAVAILABLE,
    headers=(("Retry-After", "1"),),
)


@cache
def _idle() -> None:
    """Say once why nothing is sold, and what to do."""
    _log.error(
        "whoever has not paid is answered 503, as nothing can be settled: the seller was not started. Have the server run the "
        "lifespan of the outermost application, where the prices belong; or serve inside 'async with seller.running()'"
    )


_nothing: Final[Callable[[], None]] = lambda: None  # noqa: E731


def _headers(scope: Scope) -> Headers:
    return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])


def _target(scope: Scope) -> str:
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope.get("path", "/"))
    query = scope.get("query_string", b"")
    return f"{path}?{query.decode('latin-1')}" if query else path
