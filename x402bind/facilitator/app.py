"""A facilitator's HTTP API (x402.md 1.5) as a pure ASGI application: run it alone, or mount it in Starlette or FastAPI.

    POST /verify  /settle        GET /supported  /discovery/resources  /discovery/search        GET /health  /metrics

With ``tokens``, ``/verify`` and ``/settle`` are answered only to whoever brings one of them (``Authorization: Bearer``).

An application that mounts it has to run it, as frameworks do not tell what they mount when they start and stop:
``Starlette(routes=[Mount("/x402", app)], lifespan=app.lifespan)``, or ``async with app.lifespan():`` within one's own.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from x402bind.chain.errors import RpcError
from x402bind.servers.held import Receive, Scope, Send, send_reply
from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError, Reply, problem
from x402core.events import FacilitatorRequest
from x402core.machines.answers import unavailable
from x402core.machines.machine import Input, State
from x402core.wire import discovery, facilitator
from x402core.wire.headers import parse_bearer, single

from .metrics import CONTENT_TYPE, Metrics
from .service import Facilitator

__all__ = ["FacilitatorApp"]

_log: Final = logging.getLogger("x402bind.facilitator")
_JSON: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
Answer: TypeAlias = Callable[["FacilitatorApp", Scope, Receive], Awaitable[Reply | None]]


class FacilitatorApp:
    """Serve ``facilitator``.  ``body_most`` bounds, in bytes, what is read of a request; ``prove`` asks chains at start-up."""

    def __init__(
        self, facilitator: Facilitator, *, tokens: Collection[str] = (), body_most: int = 1 << 16, prove: bool = True
    ) -> None:
        if any(not token or not token.isascii() for token in tokens):
            raise LocalProtocolError("a token is printable ASCII, and not empty", field="tokens")
        self.facilitator = facilitator
        self.body_most, self.prove = body_most, prove
        self._tokens = tuple(token.encode() for token in tokens)
        self._open = 0
        self.metrics = Metrics({"x402_requests_open": ("Requests being answered.", lambda: self._open)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        if scope["type"] != "http":
            raise RuntimeError(f"a facilitator does not speak {scope['type']}")
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/") or "/"
        reply = await self._answer(path, scope, receive)
        if reply is not None:
            await send_reply(send, reply)
        return None

    async def _answer(self, path: str, scope: Scope, receive: Receive) -> Reply | None:
        methods = _ROUTES.get(path)
        if methods is None:
            return problem(404, "A facilitator has no such path.", reason=Reason.INVALID_PAYLOAD)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        answer = methods.get(method)
        if answer is None:
            allow = (("Allow", ", ".join(methods)),)
            return problem(405, f"This path takes {', '.join(methods)}.", reason=Reason.INVALID_PAYLOAD, headers=allow)
        self._open += 1
        try:
            return await answer(self, scope, receive)
        except RemoteProtocolError as error:
            return error.reply
        except Exception as error:  # noqa: BLE001 - our trouble: its text is for our log, and the asker may ask again
            _log.error("%s could not be answered: %s", path, type(error).__name__, exc_info=error)
            return unavailable()
        finally:
            self._open -= 1

    # --------------------------------------------------------------------------------------------------------- answers

    async def _post(self, scope: Scope, receive: Receive) -> Reply | None:
        path = facilitator.SETTLE if scope["path"].rstrip("/").endswith(facilitator.SETTLE) else facilitator.VERIFY
        if not self._may(scope):
            self.metrics.count(path, "unauthorized")
            text, headers = "This facilitator answers to its own customers.", (("WWW-Authenticate", "Bearer"),)
            return problem(401, text, reason=Reason.TOKEN_MISSING, source="Authorization", headers=headers)
        body = await _read(receive, self.body_most)
        if not isinstance(body, bytes):
            self.metrics.count(path, "hung_up" if body is None else "too_large")
            return body
        began, ends = time.monotonic(), _Outcome()
        try:
            return await self.facilitator.answer(FacilitatorRequest(path, body), ends)
        finally:
            self.metrics.count(path, ends.name, time.monotonic() - began)

    def _may(self, scope: Scope) -> bool:
        if not self._tokens:
            return True
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        said = parse_bearer(single(headers, "Authorization") or "")
        brought = b"" if said is None else said.encode()
        fits = [hmac.compare_digest(brought, token) for token in self._tokens]  # every one, whichever fits
        return any(fits)

    async def _supported(self, _scope: Scope, _receive: Receive) -> Reply:
        return Reply(200, _JSON, self.facilitator.supported())

    async def _resources(self, scope: Scope, _receive: Receive) -> Reply:
        query = discovery.parse_resources(scope.get("query_string", b"").decode("latin-1"))
        entries, total = await self.facilitator.on_ledger(self.facilitator.ledger.resources, query)
        return Reply(200, _JSON, discovery.encode_resources(entries, total, query))

    async def _search(self, scope: Scope, _receive: Receive) -> Reply:
        text, query = discovery.parse_search(scope.get("query_string", b"").decode("latin-1"))
        entries, total = await self.facilitator.on_ledger(self.facilitator.ledger.search, text, query)
        return Reply(200, _JSON, discovery.encode_search(entries, total, query))

    async def _health(self, _scope: Scope, _receive: Receive) -> Reply:
        """Say whether payments can be settled: the worker runs and the journal can be read."""
        try:
            await self.facilitator.on_ledger(self.facilitator.ledger.payment_state, "health")
            well = self.facilitator.settler.works
        except Exception as error:  # noqa: BLE001 - whatever it is, we are not well
            _log.warning("the ledger does not answer: %s", type(error).__name__)
            well = False
        return Reply(200 if well else 503, _JSON, b'{"status":"ok"}' if well else b'{"status":"unavailable"}')

    async def _metrics(self, _scope: Scope, _receive: Receive) -> Reply:
        return Reply(200, (("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")), self.metrics.text().encode())

    # -------------------------------------------------------------------------------------------------------- lifespan

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Prove the nodes' chains and settle while the body runs; for whoever mounts this application.

        Raises: LocalProtocolError when a node serves another chain than it should.
        """
        if self.prove:
            try:
                await self.facilitator.prove()
            except RpcError as error:  # our trouble, perhaps a passing one: requests get 503 until it is over
                _log.warning("the chain could not be asked at start-up: %s", error)
        async with self.facilitator.running():
            yield

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except LocalProtocolError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise  # as nothing goes on: a test client shows it to whoever enters it
        await send({"type": "lifespan.shutdown.complete"})
        return


_ROUTES: Final[dict[str, dict[str, Answer]]] = {
    facilitator.VERIFY: {"POST": FacilitatorApp._post},
    facilitator.SETTLE: {"POST": FacilitatorApp._post},
    "/supported": {"GET": FacilitatorApp._supported},
    "/discovery/resources": {"GET": FacilitatorApp._resources},
    "/discovery/search": {"GET": FacilitatorApp._search},
    "/health": {"GET": FacilitatorApp._health},
    "/metrics": {"GET": FacilitatorApp._metrics},
}


class _Outcome:
    """A machine's trace that keeps the last input: what a request came to."""

    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name = "broken"

    def __call__(self, _machine: str, _state: State, name: Input, _next: State) -> None:
        self.name = name.name.lower()


async def _read(receive: Receive, most: int) -> bytes | Reply | None:
    """Read the body whole; None when the caller hung up, a 413 when it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > most:
            return problem(413, f"A request may be at most {most} bytes.", reason=Reason.INVALID_PAYLOAD, source="body")
        if not message.get("more_body", False):
            return bytes(body)
