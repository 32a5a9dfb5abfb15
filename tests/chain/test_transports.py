"""The HTTP leaves against a real server on a socket: the same answers and the same failures, sync and async."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import pytest

from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.drive import adispatch, arun, dispatch, run
from x402bind.leaves import HttpCall, HttpFailed, HttpReply, Sleep
from x402core.commands import Command

Perform = Callable[[HttpCall | Sleep], HttpReply | None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        getattr(self, self.path.strip("/"))(body)

    def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def echo(self, body: bytes) -> None:
        self.answer(
            200,
            body,
            ("X-Twice", "a"),
            ("X-Twice", "b"),
            ("X-Asked", self.headers["X-Ask"]),
            ("X-Encoding", self.headers["Accept-Encoding"]),
        )

    def redirect(self, body: bytes) -> None:
        self.answer(307, b"", ("Location", "/echo"))

    def sorry(self, body: bytes) -> None:
        self.answer(503, b"sorry")

    def packed(self, body: bytes) -> None:
        self.answer(200, gzip.compress(bytes(10_000)), ("Content-Encoding", "gzip"))

    def endless(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.trickle(b"x" * 65536, pause=0)

    def slow(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.trickle(b"x", pause=0.05)

    def trickle(self, part: bytes, pause: float) -> None:
        self.close_connection = True
        try:
            for _ in range(400):
                self.wfile.write(part)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:
            return

    def mute(self, body: bytes) -> None:
        time.sleep(1)
        self.close_connection = True

    def broken(self, body: bytes) -> None:
        self.wfile.write(b"this is not HTTP\r\n\r\n")
        self.close_connection = True

    def cut(self, body: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def asking(command: Command[Any]) -> Generator[Command[Any], Any, HttpReply | None]:
    reply: HttpReply | None = yield command
    return reply


def sync_world(command: HttpCall | Sleep) -> HttpReply | None:
    with SyncHttp() as http:
        return run(asking(command), dispatch(http.table))


def async_world(backend: str) -> Perform:
    def perform(command: HttpCall | Sleep) -> HttpReply | None:
        async def main() -> HttpReply | None:
            async with AsyncHttp() as http:
                return await arun(asking(command), adispatch(http.table))

        reply: HttpReply | None = anyio.run(main, backend=backend)
        return reply

    return perform


@pytest.fixture(params=[sync_world, async_world("asyncio"), async_world("trio")], ids=["sync", "asyncio", "trio"])
def perform(request: pytest.FixtureRequest) -> Perform:
    found: Perform = request.param
    return found


def call(url: str, *, timeout: float = 5.0, most: int = 1 << 20) -> HttpCall:
    return HttpCall("POST", url, (("X-Ask", "me"),), b"hello", timeout, most)


def test_a_reply_is_whole(perform: Perform, server: str) -> None:
    reply = perform(call(f"{server}/echo"))
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"hello")
    found = [(name.lower(), value) for name, value in reply.headers]
    assert [value for name, value in found if name == "x-twice"] == ["a", "b"]
    assert ("x-asked", "me") in found
    assert ("x-encoding", "identity") in found


def test_no_redirect_is_followed(perform: Perform, server: str) -> None:
    reply = perform(call(f"{server}/redirect"))
    assert reply is not None
    assert reply.status == 307


def test_a_bad_status_is_an_answer(perform: Perform, server: str) -> None:
    reply = perform(call(f"{server}/sorry"))
    assert reply == HttpReply(503, reply.headers if reply else (), b"sorry")


@pytest.mark.parametrize("path", ["packed", "endless", "slow", "mute", "broken", "cut"])
def test_a_broken_answer_fails_and_may_have_had_its_effect(perform: Perform, server: str, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(HttpFailed) as caught:
        perform(call(f"{server}/{path}", timeout=0.3, most=100_000))
    assert caught.value.sent
    assert time.monotonic() - began < 3
    assert server not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret", "gopher://127.0.0.1/secret", "http://[::1/secret"])
def test_a_call_that_never_left_says_so(perform: Perform, url: str) -> None:
    with pytest.raises(HttpFailed) as caught:
        perform(call(url))
    assert not caught.value.sent
    assert "secret" not in str(caught.value)


def test_a_body_of_exactly_the_cap_is_taken(perform: Perform, server: str) -> None:
    reply = perform(call(f"{server}/echo", most=5))
    assert reply is not None
    assert reply.body == b"hello"
    with pytest.raises(HttpFailed, match="more than 4 bytes"):
        perform(call(f"{server}/echo", most=4))


def test_sleeping_takes_time(perform: Perform) -> None:
    began = time.monotonic()
    assert perform(Sleep(0.05)) is None
    assert time.monotonic() - began >= 0.05


NO_HTTPX = """
import sys
sys.modules["httpx"] = None
import x402bind.chain.transports as transports, x402bind.translate.chain, x402bind.chain.signers, x402bind.drive
for kind in (transports.SyncHttp, transports.AsyncHttp):
    try:
        kind()
    except Exception as error:
        print(type(error).__name__, error)
"""

LAZY = """
import sys
import x402bind.chain.transports, x402bind.translate.chain, x402bind.chain.signers, x402bind.drive
print(sorted({"httpx", "anyio", "trio", "asyncio", "requests"} & set(sys.modules)))
"""


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_without_httpx_the_error_names_the_extra() -> None:
    line = "LocalProtocolError httpx: httpx is not installed: pip install 'x402core[httpx]'\n"
    assert python(NO_HTTPX) == 2 * line


def test_importing_loads_no_client_and_no_event_loop() -> None:
    assert python(LAZY) == "[]\n"
