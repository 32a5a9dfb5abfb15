"""Pure ASGI: put prices in front of any application.

    app = PaymentMiddleware(api, seller, {"/premium": "$0.01"})

The gate looks at the path that servers decode (so ``%2F`` is a slash), with and without the mount it is under, and folds away
slashes too many, dot segments, backslashes, control characters at its end (a regular expression's ``$`` matches before a last
line feed) and letter case: a spelling that a router or a file server might take for a priced path is priced.  Every method is,
HEAD included; a WebSocket to a priced path is refused.  Prices are of whole paths, without patterns.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, quote

import anyio

from x402bind.chain.errors import RpcError
from x402bind.drive import adispatch, arun
from x402bind.seller import Seller
from x402bind.translate.facilitator import FacilitatorUnavailable
from x402bind.translate.ledger import LEDGER_COMMANDS
from x402core.commands import Command, InvokeHandler, RecordIntent, ReportRefundDue, Respond, SettlePayment
from x402core.errors import LocalProtocolError
from x402core.events import HandlerHead, Offer, RequestHead, TokenRequest
from x402core.machines.machine import Machine
from x402core.money import Price
from x402core.policy import Terms
from x402core.wire import http
from x402core.wire.v2 import EXACT, UPTO

from .held import App, HeldApp, Message, Receive, Scope, Send, send_reply

__all__ = ["PaymentMiddleware"]

_log: Final = logging.getLogger("x402bind.asgi")

_PATTERN = re.compile(r"[?#{}<>*]")
_ODD = re.compile(r"\\|//|/\.\.?(?:/|$)")
_LONGEST, _EACH = 2048, 1024  # characters of a path that is named in its 402, and how many of those are remembered
_EDGES: Final = "/ " + "".join(map(chr, [*range(0x20), 0x7F, 0x85, 0x2028, 0x2029]))


class PaymentMiddleware:
    """Sell ``app``'s paths at ``prices`` (path to price, or to offers of your own) through ``seller``.

    ``token_path`` is where permits are exchanged for access tokens.  ``hold_most`` bounds, in bytes, a response that waits
    for its settlement; ``body_most`` the body of a paid request, which its permit is bound to.  ``prove`` asks the chain at
    start-up whether it and its tokens are what the configuration says, and refuses to start when they are not.

    ``default`` is what every other path costs, but for those in ``free``, in just that spelling.  ``upto`` names the paths
    whose price is a ceiling.

    The handler finds who paid in ``scope["x402"]`` (:class:`~x402core.events.Payer`).
    """

    def __init__(
        self,
        app: App,
        seller: Seller,
        prices: Mapping[str, Price | Iterable[Offer]],
        *,
        default: Price | None = None,
        free: Collection[str] = (),
        upto: Collection[str] = (),
        token_path: str = "/token",
        hold_most: int = 1 << 20,
        body_most: int = 1 << 20,
        prove: bool = True,
    ) -> None:
        self.app, self.seller = app, seller
        self.hold_most, self.body_most, self.prove = hold_most, body_most, prove
        self._token_path = token_path
        self._terms: dict[str, Terms] = {}
        for path, price in prices.items():
            if not path.startswith("/") or _PATTERN.search(path):
                raise LocalProtocolError(f"{path!r} is not a whole path such as '/premium'", field="prices")
            if _folded(path) in self._terms or _folded(path) == _folded(token_path):
                raise LocalProtocolError(f"{path!r} is priced twice, or is the token path", field="prices")
            scheme = UPTO if path in upto else EXACT
            self._terms[_folded(path)] = seller.terms(price, path, token_path=token_path, scheme=scheme)
        if unknown := [path for path in upto if path not in prices]:
            raise LocalProtocolError(f"{unknown[0]!r} has no price", field="upto")
        if any(not path.startswith("/") or _PATTERN.search(path) for path in free):
            raise LocalProtocolError("write whole paths such as '/health'", field="free")
        self._free = frozenset(free)  # as they are written: of any other spelling the application may think otherwise
        self._default = None if default is None else seller.terms(default, "/", token_path=token_path)
        if self._default is not None and self._default.token is not None:
            raise LocalProtocolError("tokens are sold by path: name the paths", field="default")
        self._each: dict[str, Terms] = {}
        self._scopes = {terms.token.scope: terms for terms in self._terms.values() if terms.token is not None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            return await self._lifespan(scope, receive, send)
        terms = self._priced(scope)
        if kind == "websocket" and terms is not None:
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        if kind == "http" and terms is not None:
            return await _Request(self, scope, receive, send).sell(self.seller.attester.current(terms))
        if kind == "http" and self._scopes and scope["method"] == "POST" and self._token_path in _spellings(scope):
            return await _Request(self, scope, receive, send).sell_token(self._scopes)
        return await self.app(scope, receive, send)

    def _priced(self, scope: Scope) -> Terms | None:
        for path in _spellings(scope):
            terms = self._terms.get(path) or self._terms.get(_folded(path))
            if terms is not None:
                return terms
        if self._default is None or any(path in self._free for path in _spellings(scope)):
            return None
        return self._of_path(self._default, scope.get("path", "/"))

    def _of_path(self, default: Terms, path: str) -> Terms:
        """Return the default price's terms with the path that is asked for as what is sold."""
        terms = self._each.get(path)
        if terms is None and len(path) <= _LONGEST:
            if len(self._each) >= _EACH:  # whoever asks for ever new paths makes us forget, not grow
                self._each.clear()
            resource = replace(default.resource, url=self.seller.url + quote(path))
            sign_in = None if default.sign_in is None else replace(default.sign_in, resource=path)
            terms = self._each[path] = replace(default, resource=resource, sign_in=sign_in)
        return default if terms is None else terms

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Settle in the background while the application lives; an application without a lifespan is given one."""
        told: list[str] = []
        last: list[Message] = []

        async def noting_receive() -> Message:
            message = await receive()
            told.append(message["type"])
            return message

        async def noting_send(message: Message) -> None:
            told.append(message["type"])
            if message["type"].startswith("lifespan.shutdown."):  # said when the settler has stopped too
                last.append(message)
            else:
                await send(message)

        if self.prove and (problem := await self._proved()) is not None:
            await receive()
            return await send({"type": "lifespan.startup.failed", "message": problem})
        async with self.seller.running():
            try:
                await self.app(scope, noting_receive, noting_send)
            except Exception:
                if any(kind.startswith("lifespan.startup.") for kind in told):
                    raise
            if not any(kind.startswith("lifespan.startup.") for kind in told):
                await _plain_lifespan(receive, noting_send, started="lifespan.startup" in told)
        for message in last:
            await send(message)
        return None

    async def _proved(self) -> str | None:
        try:
            await self.seller.prove()
        except LocalProtocolError as error:
            return str(error)
        except (
            RpcError,
            FacilitatorUnavailable,
        ) as error:  # our trouble, perhaps a passing one: requests get 503 until it is over
            _log.warning("the chain could not be asked at start-up: %s", error)
        return None


async def _plain_lifespan(receive: Receive, send: Send, *, started: bool) -> None:
    if not started:
        await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def _folded(path: str) -> str:
    """Return the one spelling a path is priced under."""
    path = "/" + path.strip(_EDGES)
    if _ODD.search(path):
        parts: list[str] = []
        for part in path.replace("\\", "/").split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        path = "/" + "/".join(parts).strip(_EDGES)
    return path.casefold()


def _spellings(scope: Scope) -> tuple[str, ...]:
    """Return the path as prices may have been written: whole, and under the mount that ``root_path`` says we are behind."""
    path, root = scope.get("path", ""), scope.get("root_path", "")
    return (path, path.removeprefix(root)) if root else (path,)


class _ClientGone(BaseException):
    """The payer hung up while the handler ran.  Not an Exception: it cancels the exchange instead of failing a command."""


class _Request:
    """One request for something priced."""

    def __init__(self, middleware: PaymentMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self.middleware, self.scope, self.receive, self.send = middleware, scope, receive, send
        self.handler: HeldApp | None = None
        self.gone = anyio.Event()
        self.body: bytes | None = None
        seller = middleware.seller
        self._perform = adispatch(
            {
                **seller.settler.performers(),
                **dict.fromkeys(LEDGER_COMMANDS, self._ledger),
                SettlePayment: seller.settler.settle,
                RecordIntent: seller.settler.record,
                ReportRefundDue: seller.report_refund_due,
                InvokeHandler: self._invoke,
            }
        )

    async def sell(self, terms: Terms) -> None:
        """Run the exchange for a priced resource."""
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.scope["headers"])
        digest = b""
        if http.carries_payment(headers):
            self.body = await self._read(self.middleware.body_most)
            if self.body is None:
                return
            digest = hashlib.sha256(self.body).digest()
        head = RequestHead(self.scope["method"], _target(self.scope), headers, digest)
        await self._drive(self.middleware.seller.server_exchange(terms), head, terms)

    async def sell_token(self, scopes: Mapping[str, Terms]) -> None:
        """Run the exchange of a permit for a token."""
        asked = parse_qs(self.scope.get("query_string", b"").decode("latin-1")).get("scope", [])
        terms = (
            scopes.get(asked[0]) if len(asked) == 1 else next(iter(scopes.values())) if len(scopes) == 1 and not asked else None
        )
        if terms is None:
            return await send_reply(self.send, http.no_such_scope())
        body = await self._read(self.middleware.body_most)
        if body is not None:
            await self._drive(self.middleware.seller.token_exchange(terms), TokenRequest(body), terms)
        return None

    async def _drive(self, machine: Machine[Any, Any], event: RequestHead | TokenRequest, terms: Terms) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                final = await arun(self.middleware.seller.driven(machine, event), self._perform)
            except _ClientGone:
                tasks.cancel_scope.cancel()
                return
            assert isinstance(final, Respond)
            final = self.middleware.seller.attester.attest(terms, final)
            with suppress(OSError):  # the payer is gone: nothing of the protocol is left to do
                if final.reply is not None:
                    await send_reply(self.send, final.reply)
                else:
                    assert self.handler is not None
                    await self.handler.release(final.add_headers)
            if self.handler is not None:
                await self.handler.over.wait()  # its background work, or the rest of its stream
            tasks.cancel_scope.cancel()
        if self.handler is not None and self.handler.error is not None:
            raise self.handler.error  # for the server's log, as if we were not here

    async def _ledger(self, command: Command[Any]) -> Any:
        held = self.handler.reply if self.handler is not None else lambda: None
        return await self.middleware.seller.on_ledger(command, held)

    async def _invoke(self, command: InvokeHandler) -> HandlerHead:
        """Run the application until its response can be judged: whole if it is to be held, begun if not."""
        self.scope["x402"] = command.payer
        if extensions := self.scope.get("extensions"):  # no other way to send a response than the two messages held here
            self.scope["extensions"] = {k: v for k, v in extensions.items() if not k.startswith("http.response.")}
        receive = self.receive if self.body is None else self._replayed()
        most = self.middleware.hold_most
        handler = HeldApp(self.middleware.app, self.scope, receive, self.send, hold=command.hold, most=most)
        self.handler = handler
        self._tasks.start_soon(handler.run)
        if command.owner and command.payer is not None:
            self._tasks.start_soon(self.middleware.seller.hold_claim, command.payer.payment, command.owner)
        if self.body is not None:
            self._tasks.start_soon(self._watch, handler)
        await handler.changed.wait()
        if self.gone.is_set() and not handler.ready:
            raise _ClientGone
        if not handler.ready:
            raise handler.error or RuntimeError("the application ended without a response")
        return HandlerHead(handler.status, handler.complete, handler.overrides)

    async def _watch(self, handler: HeldApp) -> None:
        """Notice the payer hanging up while the handler runs or streams; its request's body was read, so nothing else comes."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        handler.changed.set()

    def _replayed(self) -> Receive:
        """Return a receive that gives the body that was read, then waits for the payer to hang up."""
        messages = [{"type": "http.request", "body": self.body, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            if not self.gone.is_set():
                await self.gone.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _read(self, most: int) -> bytes | None:
        """Read the body whole; None when the payer hung up or was told that it is too large."""
        body = bytearray()
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


def _target(scope: Scope) -> str:
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope.get("path", "/"))
    query = scope.get("query_string", b"")
    return f"{path}?{query.decode('latin-1')}" if query else path
