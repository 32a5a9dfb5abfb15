"""The WSGI edge behind waitress, on a real chain: what is priced, what is charged, and the whole of PEP 3333."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import anyio
import httpx
import pytest

from tests.servers.sync.stall import Stall, buying
from tests.servers.test_asgi import SPELLINGS
from tests.shop import FUNDS, Ground, Payer, TroubledNode
from x402bind.chain.devnet import Devnet
from x402bind.pricing import Asked, Listing
from x402bind.servers.held import ResponseTooLarge
from x402bind.servers.wsgi import PaymentMiddleware
from x402core.errors import LocalProtocolError
from x402core.events import Dialect
from x402core.wire import v2

PAYMENT = v2.PAYMENT_SIGNATURE
Do = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Api:
    """An application that counts, does as it is told, and knows how often its iterable was closed."""

    def __init__(self, do: Do | None = None) -> None:
        self.runs = self.closed = 0
        self.do = do or self.json
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        with self._lock:
            self.runs += 1
        self.environ = environ
        return Closing(self, self.do(environ, start))

    def json(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        paid = environ.get("x402.paid")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        document = {"run": self.runs, "paid_by": paid and paid.payer, "body": body.decode(), "ref": paid and paid.reference}
        start("200 OK", [("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [json.dumps(document).encode()]


class Closing:
    def __init__(self, api: Api, pieces: Iterable[bytes]) -> None:
        self.api, self.pieces = api, pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def close(self) -> None:
        self.api.closed += 1


class Kiosk(Stall):
    """A stall with the middleware, called by hand or by a server."""

    def __init__(
        self, ground: Ground, folder: Path, do: Do | None = None, *, edge: Any = None, prices: Any = None, **seller: Any
    ):
        super().__init__(ground, folder, **seller)
        self.api = Api(do)
        self.app = PaymentMiddleware(self.api, self.seller, prices or {"/paid": "$0.01", "/other": "$0.01"}, **(edge or {}))
        self.backgrounds.append(self.app.background)

    def get(self, path: str = "/paid", *, headers: Any = None, body: bytes = b"", method: str = "GET", **environ: Any) -> Got:
        given = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in (headers or {}).items()},
            **({"CONTENT_LENGTH": str(len(body))} if body else {}),
            **environ,
        }
        return Got(self.app, given)


class Got:
    """One request made by hand, as a server makes it."""

    def __init__(self, app: Any, environ: dict[str, Any]) -> None:
        self.begun: list[tuple[str, list[tuple[str, str]]]] = []
        self.pieces: list[bytes] = []
        result = app(environ, self._start)
        try:
            for piece in result:
                assert self.begun
                self.pieces.append(piece)
        finally:
            if hasattr(result, "close"):
                result.close()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.begun:
            assert exc_info is not None
            raise exc_info[1].with_traceback(exc_info[2])
        self.begun.append((status, headers))
        return self.pieces.append

    @property
    def status(self) -> int:
        return int(self.begun[0][0].split()[0])

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.begun[0][1] if key.lower() == name.lower()]


@pytest.fixture
def payer(ground: Ground) -> Payer:
    return ground.payer()


@pytest.fixture
def kiosk(ground: Ground, tmp_path: Path) -> Iterator[Callable[..., Kiosk]]:
    made: list[Kiosk] = []

    def make(do: Do | None = None, **how: Any) -> Kiosk:
        made.append(Kiosk(ground, tmp_path, do, **how))
        return made[-1]

    yield make
    for each in made:
        each.close()


# --------------------------------------------------------------------------------------------------------- a real server


@pytest.mark.parametrize("dialect", [Dialect.V2, Dialect.V1, Dialect.PERMIT_TOKEN])
def test_money_moves_in_every_dialect(ground: Ground, kiosk: Callable[..., Kiosk], dialect: Dialect, payer: Payer) -> None:
    shop = kiosk()
    with shop.waitress(shop.app) as url, buying(payer, ground, dialect) as (paying, _):
        assert httpx.get(f"{url}/free").json()["paid_by"] is None
        assert httpx.get(f"{url}/paid").status_code == 402
        got = paying.post(f"{url}/paid", content=b"the body")
        assert (got.status_code, got.json()["paid_by"], got.json()["body"]) == (200, payer.address, "the body")
        assert got.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert got.headers["cache-control"] == "private"
        shop.settled(1)
        assert (shop.api.runs, shop.api.closed, shop.earned) == (2, 2, 1)


def test_every_spelling_and_method_is_priced(kiosk: Callable[..., Kiosk]) -> None:
    shop = kiosk()
    with shop.waitress(shop.app):
        for method in ("GET", "HEAD", "POST", "BREW"):
            for target in SPELLINGS:
                with socket.create_connection(("127.0.0.1", int(shop.url.rpartition(":")[2])), timeout=10) as raw:
                    raw.sendall(
                        f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
                    )
                    with raw.makefile("rb") as reply:
                        status = reply.readline().split()[1]
                assert (method, target, status, shop.api.runs) == (method, target, b"402", 0)


def test_eight_threads_with_one_permit_run_the_handler_once(ground: Ground, kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    together = threading.Barrier(8)
    shop = kiosk()
    with shop.waitress(shop.app) as url, ThreadPoolExecutor(8) as pool:
        headers = shop.header(payer)

        def buy(_: int) -> int:
            together.wait(10)
            return httpx.get(f"{url}/paid", headers=headers, timeout=30).status_code

        statuses = sorted(pool.map(buy, range(8)))
        assert (shop.api.runs, shop.earned, statuses[0]) == (1, 1, 200)
        assert set(statuses) <= {200, 409, 503}
        again = httpx.get(f"{url}/paid", headers=headers)
        assert (again.status_code, again.json()["run"], shop.api.runs) == (200, 1, 1)


def test_a_stream_settled_before_flows_from_its_first_piece(ground: Ground, kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    go = threading.Event()

    def stream(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        yield b"first"
        assert go.wait(10)
        yield 200 * b"x"

    shop = kiosk(stream, settle="before", edge={"hold_most": 100})
    headers = shop.header(payer)
    with shop.waitress(shop.app) as url:
        with httpx.stream("GET", f"{url}/paid", headers=headers, timeout=30) as response:
            parts = response.iter_raw()
            assert next(parts) == b"first"
            assert (response.status_code, bool(response.headers[v2.PAYMENT_RESPONSE]), shop.earned) == (200, True, 1)
            go.set()
            assert b"".join(parts) == 200 * b"x"
        assert httpx.get(f"{url}/paid", headers=headers).status_code == 402  # served as a stream: not kept, not served twice
    assert (shop.api.runs, shop.api.closed) == (1, 1)


# ------------------------------------------------------------------------------------------------------ handlers of all kinds


def _status(line: str, body: Iterable[bytes] = (b".",)) -> Do:
    def do(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        start(line, [("X-Shop", "1")])
        return body

    return do


@pytest.mark.parametrize("line", ["400 Bad Request", "404 Not Found", "503 No"])
def test_a_failed_handler_is_not_charged_for(kiosk: Callable[..., Kiosk], line: str, payer: Payer) -> None:
    shop = kiosk(_status(line))
    headers = shop.header(payer)
    failed = shop.get(headers=headers)
    assert (failed.status, failed.body, failed.all(v2.PAYMENT_RESPONSE), failed.all("X-Shop")) == (
        int(line[:3]),
        b".",
        [],
        ["1"],
    )
    assert (shop.earned, shop.api.closed) == (0, 1)
    shop.api.do = _status("200 OK")
    assert shop.get(headers=headers).status == 200  # the same payment is good for another try
    assert (shop.earned, shop.api.closed) == (1, 2)


def _raises(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    raise ValueError("no")


def _raises_late(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
    start("200 OK", [])
    yield b"half"
    raise ValueError("no")


def _never_starts(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    return [b"x"]


def _recovers(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    start("200 OK", [])
    try:
        raise ValueError("no")
    except ValueError:
        start("500 Oh", [("X-Shop", "2")], sys.exc_info())
    return [b"sorry"]


@pytest.mark.parametrize(("do", "error"), [(_raises, ValueError), (_raises_late, ValueError), (_never_starts, AssertionError)])
def test_what_a_handler_raises_reaches_the_server_and_costs_nothing(
    kiosk: Callable[..., Kiosk], do: Do, error: type[Exception], payer: Payer
) -> None:
    shop = kiosk(do)
    headers = shop.header(payer)
    with pytest.raises(error):
        shop.get(headers=headers)
    assert (shop.earned, shop.api.runs, shop.api.closed) == (0, 1, 0 if do is _raises else 1)
    shop.api.do = _status("200 OK")
    assert shop.get(headers=headers).status == 200
    assert shop.earned == 1


def test_a_handler_may_change_its_mind_before_its_response_is_let_go(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    shop = kiosk(_recovers)
    got = shop.get(headers=shop.header(payer))
    assert (got.status, got.body, got.all("X-Shop"), shop.earned) == (500, b"sorry", ["2"], 0)


def test_what_is_raised_in_a_stream_that_flows_is_the_servers(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    def do(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"one"
        try:
            raise ValueError("late")
        except ValueError:
            start("500 Oh", [], sys.exc_info())
        yield b"two"

    due: list[Any] = []
    shop = kiosk(do, settle="before", on_refund_due=due.append)
    headers = shop.header(payer)
    with pytest.raises(ValueError, match="late"):
        shop.get(headers=headers)
    assert (shop.earned, shop.api.closed) == (1, 1)
    assert [each.payer for each in due] == [payer.address], "what was paid for broke off"
    shop.api.do = _status("200 OK")
    assert shop.get(headers=headers).status == 200
    assert (shop.earned, shop.api.runs, len(due)) == (1, 2, 1)


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_a_payer_who_leaves_a_stream_has_been_served(kiosk: Callable[..., Kiosk], asked: int, payer: Payer) -> None:
    def do(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [])
        yield from (b"one", b"two", b"three")

    due: list[Any] = []
    shop = kiosk(do, settle="before", on_refund_due=due.append)
    app = shop.app

    def leaving(environ: Any, start: Any) -> Any:
        response: Any = app(environ, start)
        pieces = iter(response)
        for _ in range(asked):
            next(pieces)
        response.close()
        return ()

    shop.app = leaving  # type: ignore[assignment]
    headers = shop.header(payer)
    shop.get(headers=headers)
    shop.app = app
    assert (shop.get(headers=headers).status, shop.earned, shop.api.runs, due) == (402, 1, 1, [])


@pytest.mark.parametrize("settle", ["after", "before"])
def test_what_is_written_comes_before_what_is_returned(kiosk: Callable[..., Kiosk], settle: str, payer: Payer) -> None:
    def do(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        write = start("200 OK", [])
        write(b"1")
        write(b"2")
        return iter([b"3", b"", b"4"])

    shop = kiosk(do, settle=settle)
    assert (shop.get(headers=shop.header(payer)).body, shop.earned) == (b"1234", 1)


def _writes_much(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    start("200 OK", [])(101 * b"x")
    return ()


@pytest.mark.parametrize("do", [_status("200 OK", [60 * b"x", 60 * b"x"]), _status("200 OK", iter([101 * b"x"])), _writes_much])
def test_a_response_too_large_to_hold_is_not_charged_for(kiosk: Callable[..., Kiosk], do: Do, payer: Payer) -> None:
    shop = kiosk(do, edge={"hold_most": 100})
    with pytest.raises(ResponseTooLarge, match="100 bytes"):
        shop.get(headers=shop.header(payer))
    assert (shop.earned, shop.api.runs) == (0, 1)


@pytest.mark.parametrize("settle", ["after", "before"])
def test_a_response_in_one_piece_is_kept_for_a_replay(kiosk: Callable[..., Kiosk], settle: str, payer: Payer) -> None:
    def do(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", "3"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return iter([b"abc"])

    shop = kiosk(do, settle=settle)
    headers = shop.header(payer)
    for _ in range(2):
        got = shop.get(headers=headers)
        assert (got.status, got.body, got.all("Set-Cookie"), bool(got.all(v2.PAYMENT_RESPONSE))) == (
            200,
            b"abc",
            ["a=1", "b=2"],
            True,
        )
    assert (shop.api.runs, shop.earned) == (1, 1)


@pytest.mark.parametrize("settle", ["after", "before"])
def test_what_is_said_to_be_charged_stays_between_us(kiosk: Callable[..., Kiosk], settle: str, payer: Payer) -> None:
    def do(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        start("200 OK", [("Settlement-Overrides", '{"amount":"100%"}'), ("X-Shop", "1")])
        return [b"."]

    shop = kiosk(do, settle=settle)
    got = shop.get(headers=shop.header(payer))
    assert (got.status, got.all("Settlement-Overrides"), got.all("X-Shop"), shop.earned) == (200, [], ["1"], 1)


def test_head_is_priced_and_sold_like_any_method(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    shop = kiosk(_status("200 OK", ()))
    asked = shop.get(method="HEAD")
    assert (asked.status, asked.body, int(asked.all("Content-Length")[0]) > 0) == (402, b"", True)
    got = shop.get(method="HEAD", headers=shop.header(payer))
    assert (got.status, got.body, bool(got.all(v2.PAYMENT_RESPONSE)), shop.earned) == (200, b"", True, 1)


def test_both_sides_keep_the_contract(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    shop = kiosk()
    inner = validator(shop.api.json)
    shop.app.app = lambda environ, start: inner({k: v for k, v in environ.items() if k != "x402"}, start)  # no string
    shop.app = validator(shop.app)
    for headers in ({}, shop.header(payer)):
        shop.get(headers=headers, CONTENT_LENGTH="0")
    assert shop.earned == 1


def test_paid_before_and_not_served_is_told_and_can_be_had_later(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    due: list[Any] = []
    shop = kiosk(_raises, settle="before", on_refund_due=due.append)
    headers = shop.header(payer)
    failed = shop.get(headers=headers)
    assert (failed.status, bool(failed.all(v2.PAYMENT_RESPONSE)), [each.payer for each in due]) == (500, True, [payer.address])
    shop.api.do = _status("200 OK")
    assert shop.get(headers=headers).status == 200
    assert (shop.earned, shop.api.runs) == (1, 2)


# -------------------------------------------------------------------------------------------------------- requests of all kinds


@pytest.mark.parametrize(("root", "path"), [("/mount", "/paid"), ("/mount", "//paid"), ("", "/paid"), ("/paid", "")])
def test_a_mount_does_not_make_it_free(kiosk: Callable[..., Kiosk], root: str, path: str) -> None:
    shop = kiosk()
    assert shop.get(path, SCRIPT_NAME=root).status == 402
    assert shop.api.runs == 0


def test_what_has_no_price_is_handed_on_as_it_is(kiosk: Callable[..., Kiosk]) -> None:
    shop = kiosk(_status("200 OK"), edge={"token_path": "/pay"})
    for path, method in (("/", "GET"), ("/paid/more", "GET"), ("/paid/../free", "GET"), ("/pay", "GET"), ("/token", "POST")):
        assert shop.get(path, method=method, headers={PAYMENT: "garbage"}).body == b"."
        assert "x402" not in shop.api.environ


def test_a_body_too_large_is_413_and_one_cut_short_400(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    shop = kiosk(edge={"body_most": 100})
    headers = shop.header(payer)
    for path in ("/paid", "/token"):
        assert shop.get(path, method="POST", headers=headers, body=101 * b"x", QUERY_STRING="scope=%2Fpaid").status == 413
    unsaid = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    stream = io.BytesIO(101 * b"x")
    assert shop.get(method="POST", headers=headers, **{**unsaid, "wsgi.input": stream}).status == 413
    assert shop.get(method="POST", headers=headers, body=b"x", CONTENT_LENGTH="7").status == 400
    assert (shop.api.runs, shop.earned) == (0, 0)
    got = shop.get(method="POST", headers=headers, **{**unsaid, "wsgi.input": io.BytesIO(100 * b"x")})
    assert (got.status, json.loads(got.body)["body"]) == (200, 100 * "x")
    assert shop.get(method="POST", headers=headers, body=99 * b"x").status == 402  # another request
    assert shop.earned == 1


@pytest.mark.parametrize("value", ["", "a", "a.b.c", "\xff", 5000 * "a", "e30=", "eyJ4NDAyVmVyc2lvbiI6OTl9"])
@pytest.mark.parametrize("name", [PAYMENT, "X-PAYMENT", "Authorization"])
def test_garbage_is_refused(kiosk: Callable[..., Kiosk], name: str, value: str) -> None:
    shop = kiosk()
    assert shop.get(headers={name: value}).status in (400, 402)
    assert shop.get("/token", method="POST", body=value.encode("latin-1"), QUERY_STRING="scope=%2Fpaid").status == 400
    assert shop.get("/token", method="POST", body=b"{}").status == 404  # two scopes, and none named
    assert shop.api.runs == 0


# ------------------------------------------------------------------------------------------------------------------- prices


def test_a_price_and_a_reference_of_the_request(ground: Ground, kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    def price(asked: Asked) -> str:
        return "$0.02" if asked.body == b"twice" else "$0.01"

    listing = Listing(price, reference=lambda asked: f"{asked.method} {asked.path}?{asked.query}", tags=("a",))
    shop = kiosk(prices={"/paid": listing})
    with shop.waitress(shop.app) as url, buying(payer, ground) as (paying, _):
        got = paying.post(f"{url}/paid?x=1", content=b"twice")
        assert (got.status_code, got.json()["ref"], got.json()["body"]) == (200, "POST /paid?x=1", "twice")
        assert shop.earned == 2


async def _async_price(asked: Asked) -> str:
    return "$0.01"


def test_an_async_price_is_refused(kiosk: Callable[..., Kiosk]) -> None:
    for prices in ({"/paid": _async_price}, {"/paid": Listing(_async_price)}):
        with pytest.raises(LocalProtocolError, match="price: an async"):
            kiosk(prices=prices)
    shop = kiosk(prices={"/paid": lambda asked: _async_price(asked)})
    with pytest.raises(LocalProtocolError, match="price: an async"):
        shop.get()
    assert shop.api.runs == 0


@pytest.mark.parametrize(
    ("paths", "field"), [({"/a/<id>": "$1"}, "prices"), ({"/token": "$1"}, "prices"), ({"/a": "free"}, "price")]
)
def test_what_cannot_be_priced_is_refused(kiosk: Callable[..., Kiosk], paths: Any, field: str) -> None:
    with pytest.raises(LocalProtocolError, match=field):
        kiosk(prices=paths)


# ------------------------------------------------------------------------------------------------------- our own trouble


def test_nothing_is_sold_on_another_chain(kiosk: Callable[..., Kiosk]) -> None:
    with Devnet(chain_id=1) as other:
        shop = kiosk(rpc={"base-sepolia": other.url})
        for _ in range(2):
            with pytest.raises(LocalProtocolError, match="the node serves chain 1"):
                shop.get()
        with pytest.raises(LocalProtocolError, match="the node serves chain 1"):
            shop.app.background.start()
        assert shop.api.runs == 0


def test_it_starts_without_its_node_and_answers_503(ground: Ground, kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    with TroubledNode(ground.url) as node:
        node.down = True
        shop = kiosk(rpc={"base-sepolia": node.url})
        headers = shop.header(payer)
        assert shop.get().status == 402
        unavailable = shop.get(headers=headers)
        assert (unavailable.status, unavailable.all("Retry-After")) == (503, ["1"])
        node.down = False
        assert shop.get(headers=headers).status == 200
        shop.close()
    assert shop.earned == 1


def test_it_may_be_closed_and_begins_anew(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    shop = kiosk()
    for run in (1, 2):
        assert shop.get(headers=shop.header(payer)).status == 200
        shop.app.background.close()
        assert (shop.seller.settler.works, shop.earned) == (False, run)


FORKED = """
import os, sys
from tests.servers.sync.test_wsgi import *
from tests.chains import Rpc

ground, folder = Ground(sys.argv[1], Rpc(sys.argv[1])), Path(sys.argv[2])
shop, payer = Kiosk(ground, folder), ground.payer()
if sys.argv[3] == "started":
    assert shop.get(headers=shop.header(payer)).status == 200
before, name = shop.earned, shop.seller.settler._worker
reading, writing = os.pipe()
for _ in range(2):
    headers = shop.header(payer)
    if os.fork() == 0:
        got = shop.get(headers=headers)
        name_ = shop.seller.settler._worker
        os.write(writing, f"{got.status} {json.loads(got.body)['run'] if got.status == 200 else got.body} {name_}\\n".encode())
        shop.app.background.close()
        os._exit(0)
assert [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)] == [0, 0]
said = [line.split() for line in os.read(reading, 9999).decode().splitlines()]
assert [status for status, *_ in said] == ["200", "200"], said
assert len({name, *(each[-1] for each in said)}) == 3, said
assert shop.earned == before + 2
if sys.argv[3] == "started":  # the parent sells on
    assert shop.get(headers=shop.header(payer)).status == 200
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("parent", ["started", "idle"])
def test_forked_children_settle_for_themselves(ground: Ground, tmp_path: Path, parent: str) -> None:
    root = Path(__file__).parents[3]
    told = subprocess.run(
        [sys.executable, "-c", FORKED, ground.url, str(tmp_path), parent],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (told.stdout, told.returncode) == ("well\n", 0), told.stderr  # it ends by itself, too


def test_the_claim_is_held_while_the_handler_runs(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        assert begun.wait(10)
        assert not ended.is_set()
        start("200 OK", [])
        return [b"."]

    async def hold_claim(key: str, owner: str) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    shop = kiosk(slow)
    shop.seller.hold_claim = hold_claim  # type: ignore[method-assign]
    assert shop.get(headers=shop.header(payer)).status == 200
    assert ended.wait(10)


def test_whoever_interrupts_a_handler_leaves_no_claim(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    def interrupted(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        raise SystemExit  # as a server does to a worker that is to go

    shop = kiosk(interrupted)
    headers = shop.header(payer)
    with pytest.raises(SystemExit):
        shop.get(headers=headers)
    shop.api.do = _status("200 OK")
    assert (shop.get(headers=headers).status, shop.earned) == (200, 1)


def test_a_payer_without_money_is_refused(ground: Ground, kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    shop = kiosk()
    headers = shop.header(payer)
    ground.drain(payer)
    assert shop.get(headers=headers).status == 402
    assert (shop.api.runs, FUNDS > 0) == (0, True)
