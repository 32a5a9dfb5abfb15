"""A real shop to test whole flows in: a chain with USDC on it, a seller behind uvicorn on loopback, payers with httpx.

Nothing here is made up: the chain executes, the sockets are sockets, the ledger is a file.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn

from tests.chains import USDC, Anvil, RealUSDC, Rpc
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.devnet.token import place
from x402bind.chain.rpc import Endpoint
from x402bind.chain.signers import PrivateKeySigner
from x402bind.chain.transports import SyncHttp
from x402bind.clients.httpx import AsyncPaymentTransport, PaymentTransport
from x402bind.clients.purse import Purse
from x402bind.drive import dispatch, run
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402bind.servers.held import App, Receive, Scope, Send
from x402bind.translate.chain import read_chain
from x402core.commands import ReadChain
from x402core.events import Dialect, Eip3009Permit, Method, Offer, Payment, Permit
from x402core.evm.abi import encode_call, selector
from x402core.evm.secp256k1 import sign
from x402core.policy import PayerPolicy, offers
from x402core.schemes import of
from x402core.schemes.judge import Checked, Verified, check, judge, plan
from x402core.values import Address, Hash32, Millis, Seconds, eip155
from x402core.wire import permit_token, v2

NETWORK = eip155(84532)
RELAYER_KEY, RELAYER = DEV_KEYS[4], dev_accounts()[4]
STRANGER_KEY = DEV_KEYS[6]
FIRST = (Method.EIP3009, Method.EIP2612)
"""One method of one transaction and one of two; ``tests/settler/test_methods_*`` have the others."""
PRICE = 10_000
FUNDS = 1_000_000
_CALLS = {
    "transferWithAuthorization": "(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)",
    "permit": "(address,address,uint256,uint256,uint8,bytes32,bytes32)",
    "transferFrom": "(address,address,uint256)",
    "transfer": "(address,uint256)",
}
_NAMES = {selector(name + types).hex(): name for name, types in _CALLS.items()}


def until(true: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait for something that cannot be awaited, and return it; a bound, not a pause."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return value


def fresh() -> PrivateKeySigner:
    """Return a new account."""
    return PrivateKeySigner(secrets.token_bytes(32))


# ----------------------------------------------------------------------------------------------------------- the chain


@dataclass
class Ground:
    """A node with USDC at its Base Sepolia address; development account 0 mints."""

    url: str
    rpc: Rpc
    devnet: Devnet | None = None

    def mint(self, to: str, amount: int = FUNDS) -> None:
        self.rpc.must(DEV_KEYS[0], USDC, encode_call("mint(address,uint256)", to, amount))

    def balance(self, account: str) -> int:
        return self.rpc.balance(USDC, Address(account))

    def payer(self, amount: int = FUNDS) -> Payer:
        """Return a new payer with money and no ether."""
        key = secrets.token_bytes(32)
        payer = Payer(key, PrivateKeySigner(key))
        self.mint(payer.address, amount)
        return payer

    def drain(self, payer: Payer) -> None:
        """Have a payer give all its money away."""
        self.rpc("anvil_setBalance", payer.address, hex(10**18))
        data = encode_call("transfer(address,uint256)", dev_accounts()[9], self.balance(payer.address))
        self.rpc.must(payer.key, USDC, data, gas=200_000)

    def calls(self, hashes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the contract calls of transactions, every one of which has to have succeeded."""
        names = []
        for each in hashes:
            assert self.rpc("eth_getTransactionReceipt", each)["status"] == "0x1"
            names.append(_NAMES[self.rpc("eth_getTransactionByHash", each)["input"][2:10]])
        return tuple(names)

    def sent_by(self, account: str = RELAYER, tag: str = "latest") -> int:
        return int(self.rpc("eth_getTransactionCount", account, tag), 16)

    @contextmanager
    def automine_off(self) -> Iterator[None]:
        self.rpc("evm_setAutomine", False)
        try:
            yield
        finally:
            self.rpc("evm_setAutomine", True)


@contextmanager
def on_devnet() -> Iterator[Ground]:
    """Run the embedded chain."""
    with Devnet() as devnet:
        place(devnet.chain)
        rpc = Rpc(devnet.url)
        yield Ground(devnet.url, rpc, devnet)
        rpc.close()


@contextmanager
def on_anvil() -> Iterator[Ground]:
    """Run anvil with Circle's own token."""
    with Anvil() as anvil:
        rpc = Rpc(anvil.url)
        RealUSDC.place(rpc)
        yield Ground(anvil.url, rpc)
        rpc.close()


# ----------------------------------------------------------------------------------------------------------- the payer


@dataclass
class Payer:
    """Someone who pays."""

    key: bytes = field(repr=False)
    signer: PrivateKeySigner

    @property
    def address(self) -> Address:
        return self.signer.address

    def purse(self, ground: Ground, *dialects: Dialect, resend: int = 3) -> Purse:
        policy = PayerPolicy.up_to("$0.05", NETWORK)
        policy = replace(policy, dialects=dialects or policy.dialects, resend=resend, resend_after=Millis(50))
        return Purse(self.signer, policy, {NETWORK: ground.url})

    def permit(self, offer: Offer, ground: Ground, *, validity: int = 300) -> Permit:
        """Sign a permit for an offer, as a client does."""
        scheme = of(offer)
        needs = scheme.needs(offer, self.address)
        facts = _read(ground, needs) if needs else None
        nonce = Hash32("0x" + secrets.token_hex(32))
        now = Seconds(int(time.time()))
        permit = scheme.prepare(offer, self.address, now=now, validity=Seconds(validity), nonce=nonce, facts=facts)
        return replace(permit, signature=sign(scheme.digest(permit, offer), self.key))

    def header(self, offer: Offer, ground: Ground, **how: Any) -> dict[str, str]:
        """Return the header that carries a new x402 v2 payment."""
        permit = how.get("permit") or self.permit(offer, ground, **how)
        return {v2.PAYMENT_SIGNATURE: v2.encode_payment(Payment(permit, offer))}


def _read(ground: Ground, reads: tuple[Any, ...]) -> Any:
    with SyncHttp() as http:
        return run(read_chain(ReadChain(NETWORK, reads), Endpoint(ground.url, NETWORK)), dispatch(http.table))


def verified(permit: Permit, offer: Offer, ground: Ground) -> Verified:
    """Have a permit judged by the chain."""
    checked = check(permit, offer)
    assert isinstance(checked, Checked), checked
    verdict = judge(checked, _read(ground, plan(checked)), Millis(int(time.time() * 1000)))
    assert isinstance(verdict, Verified), verdict
    return verdict


def offer_of(method: Method, pay_to: str, *, price: str = "$0.01", spender: str = RELAYER) -> Offer:
    """Return what a seller asks, by one method."""
    made = offers(price, NETWORK, pay_to, spender=spender)
    return next(offer for offer in made if offer.method is method)


def token_body(permit: Permit) -> bytes:
    """Return what is posted to a token endpoint."""
    assert not isinstance(permit, Eip3009Permit)
    return permit_token.encode_token_request(permit, created_at=permit_token.timestamp(Millis(int(time.time() * 1000))))


class Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The ordinary transports, remembering what was sent: it stands below the paying one, so it sees everything."""

    def __init__(self) -> None:
        plain = {"verify": False}  # loopback without TLS: reading the certificates takes longer than a purchase
        self._sync, self._async = httpx.HTTPTransport(**plain), httpx.AsyncHTTPTransport(**plain)
        self.sent: list[httpx.Request] = []
        self.statuses: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.sent.append(request)
        response = self._sync.handle_request(request)
        self.statuses.append(response.status_code)
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.sent.append(request)
        response = await self._async.handle_async_request(request)
        self.statuses.append(response.status_code)
        return response

    def close(self) -> None:
        self._sync.close()

    async def aclose(self) -> None:
        await self._async.aclose()

    def again(self, which: Callable[[httpx.Request], bool], url: str | None = None) -> httpx.Response:
        """Send the last request that fits once more, byte for byte, without a purse."""
        request = [each for each in self.sent if which(each)][-1]
        with httpx.Client(timeout=30) as plain:
            target = url or request.url
            headers = [(k, v) for k, v in request.headers.raw if k.lower() != b"host"]
            return plain.send(httpx.Request(request.method, target, headers=headers, content=request.content))


def paid_for(request: httpx.Request) -> bool:
    return v2.PAYMENT_SIGNATURE in request.headers


def with_token(request: httpx.Request) -> bool:
    return "Authorization" in request.headers


def posted(request: httpx.Request) -> bool:
    return request.method == "POST"


@contextmanager
def client(purse: Purse) -> Iterator[tuple[httpx.Client, Wire]]:
    """Run a sync client that pays."""
    wire = Wire()
    with httpx.Client(transport=PaymentTransport(wire, purse), timeout=30) as paying:
        yield paying, wire


def async_client(purse: Purse) -> tuple[httpx.AsyncClient, Wire]:
    """Return an async client that pays."""
    wire = Wire()
    return httpx.AsyncClient(transport=AsyncPaymentTransport(wire, purse), timeout=30), wire


# ------------------------------------------------------------------------------------------------------------ the shop


class Api:
    """An ASGI application that counts: JSON with two cookies, the payer's address in it."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.runs += 1
        payer = scope.get("x402")
        body = json.dumps({"run": self.runs, "paid_by": None if payer is None else payer.payer}).encode()
        headers = [(b"content-type", b"application/json"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Shop:
    """A seller on a free port of loopback, under uvicorn in a thread, with a ledger in a file."""

    def __init__(
        self,
        ground: Ground,
        folder: Path,
        *,
        app: App | None = None,
        rpc: str | None = None,
        edge: dict[str, Any] | None = None,
        prices: dict[str, Any] | None = None,
        door: Callable[[Seller], Any] | None = None,
        **seller: Any,
    ) -> None:
        self.ground = ground
        self.api = Api()
        self.pay_to = fresh().address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        options: dict[str, Any] = {"token_key": b"k" * 32, "url": self.url, "pay_to": self.pay_to, "key": RELAYER_KEY}
        options |= {
            "ledger": f"sqlite:{folder / 'ledger.db'}",
            **({} if rpc == "" else {"rpc": {"base-sepolia": rpc or ground.url}}),
            **seller,
        }
        self.seller = Seller(**options)
        self.app: Any = (
            door(self.seller)
            if door is not None
            else PaymentMiddleware(
                app or self.api, self.seller, prices or {"/paid": "$0.01", "/other": "$0.01"}, **(edge or {})
            )
        )
        self._server = uvicorn.Server(uvicorn.Config(self.app, lifespan="on", log_level="critical", ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started, "the seller did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive(), "the seller did not stop"
        self._socket.close()
        self.seller.ledger.close()

    @property
    def paid(self) -> str:
        return f"{self.url}/paid"

    @property
    def earned(self) -> int:
        return self.ground.balance(self.pay_to)

    def entries(self) -> tuple[Any, ...]:
        return self.seller.ledger.entries()

    def settled(self, count: int = 1) -> tuple[Any, ...]:
        """Wait until so many payments have ended, and return them."""
        over = ("settled", "void")
        return until(lambda: (e := [e for e in self.entries() if e.state in over]) and len(e) >= count and tuple(e))

    def offer(self, dialect: Dialect = Dialect.V2) -> Offer:
        found = self.app.terms("/paid").offers
        return next(offer for offer in found if offer.dialect is dialect)


# ------------------------------------------------------------------------------------------------------ a node in trouble


class TroubledNode:
    """A proxy before a real node that can be told to be down, to refuse a method, or to lose its answer."""

    def __init__(self, target: str) -> None:
        self.down = False
        self.refuse: dict[str, str] = {}
        self.lose: set[str] = set()
        self.seen: list[str] = []
        self.filter: Callable[[dict[str, Any]], str | None] = lambda call: self.refuse.get(call["method"])
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = None if node.down else node.answer(body, target)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def answer(self, body: bytes, target: str) -> bytes | None:
        document = json.loads(body)
        calls = document if isinstance(document, list) else [document]
        self.seen += [call["method"] for call in calls]
        refused = {call["id"]: text for call in calls if (text := self.filter(call)) is not None}
        passed = [call for call in calls if call["id"] not in refused]
        answers = httpx.post(target, json=passed, timeout=10).json() if passed else []
        if any(call["method"] in self.lose for call in calls):
            return None
        for number, text in refused.items():
            answers.append({"jsonrpc": "2.0", "id": number, "error": {"code": -32000, "message": text}})
        return json.dumps(answers if isinstance(document, list) else answers[0]).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
