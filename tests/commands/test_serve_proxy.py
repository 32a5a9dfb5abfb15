"""``x402 serve --proxy``: any HTTP service behind a price, which learns who paid and nothing that is worth money."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.shop import FUNDS, PRICE, Ground, Payer, Wire, client, fresh, until
from x402bind.servers.proxy import Proxy
from x402core.wire import v2

from .serving import Serving
from .test_serve import PRICED, SETTLER, pay

LARGE = b"0123456789abcdef" * 20_000  # more than one piece


@dataclass
class Upstream:
    """A small service of the standard library that remembers what it was asked."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[list[tuple[str, str]]] = field(default_factory=list)

    def names(self) -> set[str]:
        return {name.lower() for name, _ in self.headers[-1]}


@contextmanager
def upstream() -> Iterator[Upstream]:
    kept = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kept.asked.append((self.command, self.path))
            kept.headers.append(self.headers.items())
            path = self.path.partition("?")[0]
            if path == "/missing":
                return self.answer(404, b"no such thing")
            if path == "/moved":
                return self.answer(302, b"", Location="/elsewhere")
            if path == "/large":
                return self.answer(200, LARGE)
            if path == "/broken":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                if "nothing" not in self.path:
                    self.wfile.write(b"only this")
                self.close_connection = True
                return None
            if path == "/chunks":
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for _ in range(3):
                    self.wfile.write(b"5\r\nhello\r\n")
                self.wfile.write(b"0\r\n\r\n")
                return None
            length = int(self.headers.get("Content-Length", 0))
            return self.answer(200, hashlib.sha256(self.rfile.read(length)).hexdigest().encode())

        do_POST = do_PUT = do_HEAD = do_GET

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.send_header("Set-Cookie", "a=1")
            self.send_header("Set-Cookie", "b=2")
            self.send_header("Connection", "X-Only-Here")
            self.send_header("X-Only-Here", "1")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Front:
    """The shop before the service, and someone who buys there."""

    ground: Ground
    behind: Upstream
    url: str
    pay_to: str

    @property
    def earned(self) -> int:
        return self.ground.balance(self.pay_to)

    @contextmanager
    def buying(self) -> Iterator[tuple[httpx.Client, Wire, Payer]]:
        payer = self.ground.payer()
        with client(payer.purse(self.ground)) as (paying, wire):
            yield paying, wire, payer


@pytest.fixture(scope="module")
def shop_front(ground: Ground) -> Iterator[tuple[Serving, Upstream, str]]:
    pay_to = fresh().address
    with upstream() as behind:
        own = ("--pay-to", pay_to, "--rpc", ground.url, "--key", "env:SETTLER", "--free", "/free", "--proxy", behind.url)
        with Serving(*PRICED, *own, secrets=(SETTLER,), SETTLER=SETTLER) as shop:
            yield shop, behind, pay_to


@pytest.fixture
def front(ground: Ground, shop_front: tuple[Serving, Upstream, str]) -> Front:
    shop, behind, pay_to = shop_front
    behind.asked.clear()
    behind.headers.clear()
    return Front(ground, behind, shop.url, pay_to)


def test_what_is_not_paid_for_does_not_get_there(front: Front) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert httpx.request(method, f"{front.url}/thing").status_code == 402
    assert front.behind.asked == []


def test_bought_with_our_command(front: Front) -> None:
    payer, before = front.ground.payer(), front.earned
    done = pay(f"{front.url}/thing?a=1&a=2", payer.key, "-d", "the body", "-H", "X-Mine: 1", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["body"] == hashlib.sha256(b"the body").hexdigest()
    assert front.behind.asked == [("POST", "/thing?a=1&a=2")]
    told = dict(front.behind.headers[0])
    assert (told["X-402-Payer"].lower(), told["X-402-Amount"], told["x-mine"]) == (payer.address.lower(), str(PRICE), "1")
    assert front.earned - before == PRICE


def test_bodies_and_headers_pass_as_they_are(front: Front) -> None:
    with front.buying() as (paying, _, _):
        answer = paying.get(f"{front.url}/large")
        assert answer.content == LARGE
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert "x-only-here" not in answer.headers
        assert paying.get(f"{front.url}/chunks").text == "hellohellohello"
        body = bytes(range(256)) * 1000
        assert paying.put(f"{front.url}/up", content=body).text == hashlib.sha256(body).hexdigest()
        assert paying.get(f"{front.url}/moved", follow_redirects=False).headers["location"] == "/elsewhere"
        assert paying.get(f"{front.url}/a%2Fb%20c").status_code == 200
    assert [path for _, path in front.behind.asked] == ["/large", "/chunks", "/up", "/moved", "/a%2Fb%20c"]


def test_nothing_is_added_to_a_request(front: Front) -> None:
    """No cookie of another payer, no wish for compression, no body where there is none."""
    with socket.create_connection(("127.0.0.1", int(front.url.rsplit(":", 1)[1]))) as plain:
        plain.sendall(b"GET /free HTTP/1.1\r\nHost: shop.example\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n")
        assert plain.recv(65536).startswith(b"HTTP/1.1 200")
    assert front.behind.names() <= {"host", "connection"}


def test_head_is_bought_like_anything(front: Front) -> None:
    before = front.earned
    with front.buying() as (paying, _, _):
        answer = paying.head(f"{front.url}/large")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", str(len(LARGE)))
    assert front.behind.asked == [("HEAD", "/large")]
    assert front.earned - before == PRICE


def test_hostile_headers_say_nobody_paid(front: Front) -> None:
    """Who paid is ours to say, however it is spelled."""
    false = {"X-402-Payer": "0xme", "x_402_payer": "0xme", "X-402-Anything": "1"}
    assert httpx.get(f"{front.url}/free", headers=false).status_code == 200
    assert not [name for name in front.behind.names() if "402" in name]
    with front.buying() as (paying, _, payer):
        assert paying.get(f"{front.url}/thing", headers=false).status_code == 200
    told = [value.lower() for name, value in front.behind.headers[-1] if "402" in name and "payer" in name.lower()]
    assert told == [payer.address.lower()]


def test_hostile_service_gets_no_permit(front: Front) -> None:
    """A permit is money until it is settled: the service behind never sees one, nor a sign-in."""
    money = {v2.PAYMENT_SIGNATURE: "x", "X-PAYMENT": "x", "SIGN-IN-WITH-X": "x"}
    assert httpx.get(f"{front.url}/free", headers=money).status_code == 200
    with front.buying() as (paying, wire, _):
        assert paying.get(f"{front.url}/thing").status_code == 200
        assert wire.statuses == [402, 200]
    for headers in front.behind.headers:
        assert not {name.lower() for name, _ in headers} & {"payment-signature", "x-payment", "sign-in-with-x"}


def test_what_fails_costs_nothing(front: Front) -> None:
    before = front.earned
    with front.buying() as (paying, _, payer):
        assert paying.get(f"{front.url}/missing").status_code == 404
        assert paying.get(f"{front.url}/broken").status_code == 500  # half of it, as if it were whole, would be sold
        assert front.ground.balance(payer.address) == FUNDS
    assert len(front.behind.asked) == 2
    assert front.earned == before


@pytest.mark.parametrize("path", ["/broken", "/broken?nothing"])
def test_what_was_paid_before_and_broke_off_is_said_to_be_owed(ground: Ground, path: str) -> None:
    """Whether or not a byte of it had come: the money moved, and the seller has to know whose it was."""
    payer, pay_to = ground.payer(), fresh().address
    with upstream() as behind:
        own = ("--pay-to", pay_to, "--rpc", ground.url, "--key", "env:SETTLER", "--proxy", behind.url, "--settle", "before")
        with Serving(*PRICED, *own, secrets=(SETTLER,), SETTLER=SETTLER) as shop:
            done = pay(shop.url + path, payer.key)
            until(lambda: "broke off its answer" in shop.err)
            (line,) = [line for line in shop.lines["err"] if "broke off its answer" in line]
    assert (done.code, ground.balance(pay_to)) == (6, PRICE)
    assert f"; {payer.address} had paid $0.01 (USDC, 10000 atomic units) for it, a refund is due: payment eip3009/" in line
    assert re.search("transaction 0x[0-9a-f]{64}$", line)


def test_what_broke_off_and_was_not_charged_is_not_said_to_be_owed(front: Front, shop_front: tuple[Serving, Any, str]) -> None:
    shop = shop_front[0]
    before = len(shop.err)
    with front.buying() as (paying, _, _):
        assert paying.get(f"{front.url}/broken").status_code == 500
    until(lambda: "broke off its answer" in shop.err[before:])
    assert "refund" not in shop.err[before:]


def test_hostile_targets_reach_no_other_host_and_no_other_path(front: Front) -> None:
    """A request's target is the client's word: it is a path below ours or nothing."""
    for target in (b"@127.0.0.1:9/", b"http://127.0.0.1:9/", b":9/", b".evil.example/"):
        with socket.create_connection(("127.0.0.1", int(front.url.rsplit(":", 1)[1]))) as plain:
            plain.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert plain.recv(65536).split()[1] in (b"400", b"402")
    assert front.behind.asked == []


@pytest.mark.parametrize(
    "target",
    [
        b"@other/",
        b"http://other/",
        b"*",
        b"",
        b"/..",
        b"/a/../b",
        b"/a/%2e%2E/b",
        b"/a%2f..",
        b"/.",
        b"/a\\..\\b",
        b"/a/.%2e%5Cb",
    ],
)
def test_hostile_paths_are_refused_before_anything_is_sent(target: bytes) -> None:
    sent: list[Any] = []

    async def go() -> None:
        proxy = Proxy("http://127.0.0.1:9/only/here")

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": target.decode(), "raw_path": target, "headers": []}
        await proxy(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
        await proxy.aclose()

    asyncio.run(go())
    assert sent[0]["status"] == 400


def test_a_service_that_is_down_costs_nothing(ground: Ground) -> None:
    payer, pay_to = ground.payer(), fresh().address
    with socket.socket() as taken:  # nobody listens there, and nobody else gets it
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        own = ("--pay-to", pay_to, "--rpc", ground.url, "--key", "env:SETTLER", "--proxy", nobody)
        with Serving(*PRICED, *own, secrets=(SETTLER,), SETTLER=SETTLER) as shop:
            done = pay(f"{shop.url}/thing", payer.key, "--json")
    assert json.loads(done.out)["status"] == 502
    assert done.code == 5  # a payer cannot tell our 502 from another's, so to it the money is in doubt; we know better
    assert (ground.balance(payer.address), ground.balance(pay_to)) == (FUNDS, 0)
