"""A seller and a node to test paying clients against, in memory or on a real socket, and the three worlds to pay from."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx
import uvicorn

from x402bind.chain.signers import PrivateKeySigner
from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.clients.httpx import AsyncPaymentTransport, PaymentTransport
from x402bind.clients.purse import Purse
from x402core.errors import Reason, Reply, problem
from x402core.events import Challenge, Dialect, Headers, Offer, Permit, Receipt, Resource, Token
from x402core.policy import PayerPolicy, offers
from x402core.schemes.judge import Checked, check
from x402core.values import Network, Seconds
from x402core.wire import http, permit_token, v2
from x402core.wire.headers import find_all

BUSY = problem(503, "wait", reason=Reason.UNAVAILABLE, headers=(("Retry-After", "0"),))
"""A server in trouble that asks to be asked again."""

T = TypeVar("T")
KEY = "0x" + "11" * 32
PAYEE = "0x" + "22" * 20
NETWORK = Network("eip155:84532")
RPC = "https://node.test/key"
WORLDS = ("sync", "asyncio", "trio")
PRICE = 10_000  # atomic units of USDC: $0.01
REDIRECTS = (301, 302, 303, 307, 308)


def purse(most: Any = "$0.05", *, rpc: bool = True, origins: Iterable[str] | None = None, **options: Any) -> Purse:
    """Return a purse of the test key."""
    policy = options.pop("policy", None) or PayerPolicy.up_to(most, NETWORK, origins=origins)
    signer = options.pop("signer", None) or PrivateKeySigner(KEY)
    return Purse(signer, policy, {NETWORK: RPC} if rpc else {}, **options)


@dataclass(frozen=True)
class Seen:
    """A request as the seller got it."""

    method: str
    url: str
    headers: Headers
    body: bytes = field(repr=False)

    def all(self, name: str) -> list[str]:
        return find_all(self.headers, name)

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def paid(self) -> bool:
        """Whether it carries money, or what money bought."""
        token = any(value.startswith("Bearer tok-") for value in self.all("Authorization"))
        return token or bool(self.all(v2.PAYMENT_SIGNATURE)) or self.path == "/token"


Script = Callable[[Seen], Reply | None]


class FakeSeller:
    """Sells ``/v2`` in x402 v2, ``/token-priced*`` by the permit-token flow, ``/both`` in both; everything else is free.

    What it takes must be well signed by the core's own check.  ``script`` may answer any request first.
    """

    def __init__(self, script: Script | None = None, *, life: int = 3600) -> None:
        self.script = script
        self.life = life
        self.seen: list[Seen] = []
        self.permits: list[Permit] = []
        self.tokens: dict[str, int] = {}
        self.lock = threading.Lock()
        self.offers = offers("$0.01", NETWORK, PAYEE)

    @property
    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]

    def __call__(self, seen: Seen) -> Reply:
        with self.lock:
            self.seen.append(seen)
            scripted = None if self.script is None else self.script(seen)
            return scripted or self.answer(seen)

    def answer(self, seen: Seen) -> Reply:
        match seen.path:
            case "/v2":
                return self._v2(seen, Dialect.V2)
            case "/both":
                return self._v2(seen, Dialect.V2, Dialect.PERMIT_TOKEN)
            case "/token":
                return self._token(seen)
            case path if path.startswith("/token-priced"):
                return self._token_priced(seen)
            case _:
                return ok(seen)

    def challenge(self, *dialects: Dialect, error: str = "", endpoint: str = "/token") -> Reply:
        chosen = tuple(offer for offer in self.offers if offer.dialect in dialects)
        endpoint_ = endpoint if Dialect.PERMIT_TOKEN in dialects else None
        return http.encode_402(
            Challenge(chosen, error, Resource("https://shop.test/"), endpoint_), created_at="2025-01-01T00:00:00Z"
        )

    def offer(self, dialect: Dialect) -> Offer:
        return next(offer for offer in self.offers if offer.dialect is dialect)

    def _take(self, permit: Permit, dialect: Dialect) -> None:
        assert isinstance(check(permit, self.offer(dialect)), Checked)
        self.permits.append(permit)

    def _v2(self, seen: Seen, *dialects: Dialect) -> Reply:
        presented = seen.all(v2.PAYMENT_SIGNATURE)
        if not presented:
            return self.challenge(*dialects)
        (value,) = presented
        permit = v2.decode_payment(value).permit
        self._take(permit, Dialect.V2)
        receipt = Receipt(True, permit.network, permit.payer, "0x" + "ab" * 32, permit.amount)
        reply = ok(seen)
        return Reply(reply.status, (*reply.headers, (v2.PAYMENT_RESPONSE, v2.encode_receipt(receipt))), reply.body)

    def _token(self, seen: Seen) -> Reply:
        assert seen.method == "POST"
        self._take(permit_token.decode_token_request(seen.body).permit, Dialect.PERMIT_TOKEN)
        now = int(time.time())
        value = f"tok-{len(self.tokens)}"
        self.tokens[value] = now + self.life
        return permit_token.encode_token_reply(Token(value, Seconds(now + self.life)), Seconds(now))

    def _token_priced(self, seen: Seen) -> Reply:
        held = [value.removeprefix("Bearer ") for value in seen.all("Authorization")]
        return ok(seen) if held and self.tokens.get(held[0], 0) > time.time() else self.challenge(Dialect.PERMIT_TOKEN)

    # ------------------------------------------------------------------------------------------- where it can be reached

    def mock(self) -> httpx.MockTransport:
        """Return it as an inner transport; bodies come in as streams, as from a socket."""

        def handle(request: httpx.Request) -> httpx.Response:
            headers = tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in request.headers.raw)
            reply = self(Seen(request.method, str(request.url), headers, request.content))
            return httpx.Response(reply.status, headers=list(reply.headers), stream=Chunks(reply.body))

        return httpx.MockTransport(handle)

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"])
        host = dict(headers)["host"]
        target = scope["raw_path"].decode() + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        url = target if target.startswith("http:") else f"http://{host}{target}"  # whole, when we are the proxy
        reply = self(Seen(scope["method"], url, headers, body))
        raw = [(k.lower().encode(), v.encode()) for k, v in reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        for at in range(0, len(reply.body), 65536):
            await send({"type": "http.response.body", "body": reply.body[at : at + 65536], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces, once; says whether it was closed."""

    def __init__(self, body: bytes, size: int = 4096) -> None:
        self.parts = [body[at : at + size] for at in range(0, len(body), size)]
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        assert not self.closed
        while self.parts:
            yield self.parts.pop(0)

    async def __aiter__(self) -> Any:
        for part in self:
            await anyio.lowlevel.checkpoint()
            yield part

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed = True


def ok(seen: Seen) -> Reply:
    """Return a 200 that repeats what came."""
    document = {"path": seen.path, "body": seen.body.decode("latin-1")}
    return Reply(
        200, (("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")), json.dumps(document).encode()
    )


def redirect(status: int, where: str) -> Reply:
    return Reply(status, (("Location", where),))


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI app on a real socket of this machine; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(
            uvicorn.Config(app, interface="asgi3", log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
        thread.start()
        end = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


class FakeNode:
    """A JSON-RPC node at one block, where every account's permit nonce is 7."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        asked = json.loads(request.content)
        answers = [{"jsonrpc": "2.0", "id": each["id"], "result": self.result(each["method"])} for each in asked]
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(answers).encode()))

    def result(self, method: str) -> object:
        match method:
            case "eth_getBlockByNumber":
                return {"number": "0x10", "timestamp": hex(int(time.time())), "baseFeePerGas": "0x1"}
            case "eth_blockNumber":
                return "0x10"
            case "eth_call":
                return "0x" + (7).to_bytes(32, "big").hex()
        raise AssertionError(method)

    def sync(self) -> SyncHttp:
        return SyncHttp(httpx.Client(transport=httpx.MockTransport(self)))

    def anyio(self) -> AsyncHttp:
        return AsyncHttp(httpx.AsyncClient(transport=httpx.MockTransport(self)))


def in_world(
    world: str, purse_: Purse, inner: Any, *calls: dict[str, Any], node: FakeNode | None = None, **options: Any
) -> list[httpx.Response]:
    """Make each call (keywords of ``client.request``) one after another with one paying client; bodies are read."""
    node = node or FakeNode()

    def each(one: dict[str, Any]) -> dict[str, Any]:
        return {"method": "GET", **one}

    if world == "sync":
        with httpx.Client(transport=PaymentTransport(inner, purse_, chain=node.sync()), **options) as client:
            return [client.request(**each(one)) for one in calls]

    async def main() -> list[httpx.Response]:
        transport = AsyncPaymentTransport(inner, purse_, chain=node.anyio())
        async with httpx.AsyncClient(transport=transport, **options) as client:
            return [await client.request(**each(one)) for one in calls]

    return run_async(world, main)


def run_async(world: str, main: Callable[[], Awaitable[T]]) -> T:
    return anyio.run(main, backend=world)
