"""What ``source_request`` reads of a server that sends without end: the limit, for a time, and it says that it was cut."""

from __future__ import annotations

import codecs
import json
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fastapi import Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from tests.shop import FUNDS
from x402bind.compat.x402_mock.adapters import AdapterHub
from x402bind.compat.x402_mock.mcp import FacilitorTools
from x402bind.compat.x402_mock.servers import Http402Server

from .stand import CHAIN, PRICE, Buyer, Sepolia, stand

MOST = 1 << 18
MEGABYTE = 1 << 20
GIGABYTE = 1 << 30
Sent = list[int]


class _Mcp:
    def tool(self) -> Callable[[Any], Any]:
        return lambda function: function


def source_request(payer: Buyer, url: str, **how: Any) -> dict[str, Any]:
    """Call the tool as an agent does."""
    hub = AdapterHub(payer.key, payer.chain.url)
    hub.register_payment_methods({"caip2": CHAIN, "amount": 0.8, "currency": "USDC"}, client_role=True)
    tools = FacilitorTools(hub, _Mcp(), client_role=True)
    answer: dict[str, Any] = anyio.run(lambda: tools.source_request(url, **how))
    json.dumps(answer)
    return answer


@contextmanager
def raw(head: str, pieces: Callable[[], Iterator[bytes]]) -> Iterator[tuple[str, Sent]]:
    """Answer whoever connects with a head and pieces; give the URL, and how many bytes of the pieces went."""
    sent: Sent = [0]

    def serve() -> None:
        with suppressed():
            while True:
                connection, _ = listening.accept()
                with connection, suppressed():
                    while b"\r\n\r\n" not in connection.recv(65536):
                        pass
                    connection.sendall(head.replace("\n", "\r\n").encode())
                    for piece in pieces():
                        connection.sendall(piece)
                        sent[0] += len(piece)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/", sent
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert not thread.is_alive(), "the server goes on sending"


@contextmanager
def suppressed() -> Iterator[None]:
    try:
        yield
    except OSError:
        return


def without_end(piece: bytes, most: int = GIGABYTE) -> Callable[[], Iterator[bytes]]:
    return lambda: (piece for _ in range(most // len(piece)))


def slowly(piece: bytes) -> Iterator[bytes]:
    for _ in range(600):
        time.sleep(0.05)
        yield piece


HEAD = "HTTP/1.1 200 OK\nContent-Type: text/plain; charset=utf-8\n"


@pytest.fixture(scope="module")
def payer(chain: Sepolia) -> Buyer:
    return chain.payer(0)


def test_of_a_gigabyte_the_limit_is_read_and_the_server_is_hung_up_on(payer: Buyer) -> None:
    for length in (f"Content-Length: {GIGABYTE}\n", ""):
        with raw(f"{HEAD}{length}\n", without_end(b"x" * 65536)) as (url, sent):
            answer = source_request(payer, url)
        assert (answer["status_code"], answer["truncated"], answer["payment"]) == (200, True, "free")
        assert answer["body"] == "x" * MOST
        assert sent[0] < 64 * MEGABYTE  # what the two sockets hold, and no more of the gigabyte


@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "gzip, gzip"])
def test_what_unpacks_to_a_lot_is_unpacked_to_the_limit_though_nobody_asked_for_it(payer: Buyer, packing: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if packing == "gzip" else 15)
    bomb = packer.compress(bytes(128 * MEGABYTE)) + packer.flush()
    head = f"{HEAD}Content-Encoding: {packing}\nContent-Length: {len(bomb)}\n\n"
    with raw(head, lambda: iter([bomb])) as (url, _):
        tracemalloc.start()
        try:
            answer = source_request(payer, url, headers={"Accept-Encoding": "gzip, br"})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    known = packing in ("gzip", "deflate")
    assert (answer["truncated"], answer["body"]) == (True, "\0" * MOST if known else "")
    assert peak < 16 * MEGABYTE


def test_a_packed_body_below_the_limit_is_all_there(payer: Buyer) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(b"hello " * 1000) + packer.flush()
    for end, truncated in ((len(packed), False), (len(packed) - 20, True)):
        with raw(f"{HEAD}Content-Encoding: gzip\nContent-Length: {end}\n\n", lambda end=end: iter([packed[:end]])) as (url, _):
            answer = source_request(payer, url)
        assert (answer["truncated"], answer["body"] == "hello " * 1000, answer["body"][:4]) == (
            truncated,
            not truncated,
            "hell",
        )


def member(body: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


HELLO, WORLD = member(b"hello "), member(b"world")


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("packed", "body", "truncated"),
    [
        (HELLO + WORLD, "hello world", False),
        (HELLO + member(b"") + WORLD, "hello world", False),
        (HELLO + WORLD[:-1], "hello world", True),
        (HELLO + WORLD[:1], "hello ", True),
        (HELLO + b"garbage", "hello ", True),
        (HELLO + zlib.compress(b"world"), "hello ", True),
    ],
)
def test_every_member_of_a_packed_body_is_read_and_what_is_none_is_not_all(
    payer: Buyer, size: int, packed: bytes, body: str, truncated: bool
) -> None:
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    with raw(f"{HEAD}Content-Encoding: gzip\nContent-Length: {len(packed)}\n\n", lambda: iter(pieces)) as (url, _):
        answer = source_request(payer, url)
    assert (answer["body"], answer["truncated"]) == (body, truncated)


def test_members_are_read_to_the_limit_and_no_further(payer: Buyer) -> None:
    thousand = HELLO * 1000
    for many in (MOST // 6000, MOST // 6000 + 1, 100_000):
        with raw(f"{HEAD}Content-Encoding: gzip\nConnection: close\n\n", without_end(thousand, many * len(thousand))) as (
            url,
            sent,
        ):
            answer = source_request(payer, url)
        assert answer["body"] == ("hello " * 1000 * min(many, 100))[:MOST]
        assert (answer["truncated"], sent[0] < 64 * MEGABYTE) == (many > MOST // 6000, True)


def test_exactly_the_limit_is_not_cut_and_one_more_is(payer: Buyer) -> None:
    for more in (0, 1):
        size = MOST + more
        with raw(f"{HEAD}Content-Length: {size}\n\n", without_end(b"x", size)) as (url, _):
            answer = source_request(payer, url)
        assert (len(answer["body"]), answer["truncated"]) == (MOST, bool(more))


def test_a_character_that_is_cut_in_two_is_left_out_and_a_charset_unpacks_nothing(payer: Buyer) -> None:
    size = 3 * (MOST // 3 + 1)
    with raw(f"{HEAD}Content-Length: {size}\n\n", lambda: iter(["€".encode() * (size // 3)])) as (url, _):
        assert source_request(payer, url)["body"] == "€" * (MOST // 3)
    for charset in ("zlib_codec", "punycode", "nonsense"):
        packed = codecs.encode(bytes(32 * MEGABYTE), "zlib_codec") if charset == "zlib_codec" else b"hello"
        head = f"HTTP/1.1 200 OK\nContent-Type: text/plain; charset={charset}\nContent-Length: {len(packed)}\n\n"
        with raw(head, lambda packed=packed: iter([packed])) as (url, _):
            answer = source_request(payer, url)
        assert (answer["truncated"], answer["body"]) == (False, packed.decode(errors="replace"))


def test_a_body_that_drips_is_cut_when_the_time_is_over(payer: Buyer) -> None:
    with raw(f"{HEAD}\n", lambda: slowly(b"drip ")) as (url, _):
        begun = time.monotonic()
        answer = source_request(payer, url, timeout=0.6)
        taken = time.monotonic() - begun
    assert (answer["status_code"], answer["truncated"], answer["body"].startswith("drip drip ")) == (200, True, True)
    assert taken < 5


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\n", "HTTP/1.1 402 Payment Required\n\n"])
def test_a_head_or_a_402_that_drips_is_an_error_when_the_time_is_over(payer: Buyer, head: str) -> None:
    with raw(head, lambda: slowly(b"X-Drip: 1\r\n")) as (url, _):
        begun = time.monotonic()
        answer = source_request(payer, url, timeout=0.3)
        taken = time.monotonic() - begun
    assert (set(answer), "too long" in answer["error"]) == ({"error"}, True)
    assert taken < 6


def test_a_body_that_breaks_off_is_given_as_far_as_it_came(payer: Buyer) -> None:
    with raw(f"{HEAD}Content-Length: 100\n\n", lambda: iter([b"half of it"])) as (url, _):
        answer = source_request(payer, url)
    assert (answer["status_code"], answer["truncated"], answer["body"]) == (200, True, "half of it")


def test_what_was_paid_for_is_cut_and_its_payment_told(chain: Sepolia, tmp_path: Path) -> None:
    payer, sent = chain.payer(), [0]

    def endless(app: Http402Server) -> None:
        async def pieces() -> Any:
            for _ in range(GIGABYTE // 65536):
                sent[0] += 65536
                await anyio.lowlevel.checkpoint()
                yield b"x" * 65536

        @app.get("/data")
        @app.payment_required
        async def data() -> Any:
            return StreamingResponse(pieces(), media_type="text/plain")

    with stand(chain, tmp_path, endless) as it:
        answer = source_request(payer, f"{it.url}/data")
        it.settled()
        seen = sent[0]
        time.sleep(0.3)
        assert sent[0] == seen < 64 * MEGABYTE  # it was hung up on
    assert (answer["status_code"], answer["payment"], answer["truncated"]) == (200, "paid", True)
    assert answer["body"] == "x" * MOST
    assert payer.money == FUNDS - PRICE


@pytest.mark.parametrize("left", range(1, 40, 6))
def test_a_secret_in_the_cut_is_not_told_in_part(chain: Sepolia, tmp_path: Path, left: int) -> None:
    payer = chain.payer()

    def echoing(app: Http402Server) -> None:
        @app.get("/data")
        @app.payment_required
        async def data(request: Request) -> Any:
            token = request.headers["authorization"].removeprefix("Bearer ")
            return PlainTextResponse("." * (MOST - left) + token + token)

    with stand(chain, tmp_path, echoing) as it:
        answer = source_request(payer, f"{it.url}/data")
        it.settled()
    assert (answer["payment"], answer["truncated"], answer["body"]) == ("paid", True, "." * (MOST - left))
