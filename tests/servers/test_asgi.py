"""The ASGI edge, on a real chain: what is priced, what is charged, what is passed on, and what a hostile client can do."""

from __future__ import annotations

import base64
import json
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount

from tests.servers.visitor import Visit, living, visit
from tests.shop import FUNDS, PRICE, RELAYER, Api, Ground, Payer, Shop, TroubledNode, fresh, offer_of, token_body
from x402bind.chain.devnet import Devnet
from x402bind.ledger import SqliteLedger
from x402bind.paywall import Paywall
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402bind.servers.held import Receive, ResponseTooLarge, Scope, Send
from x402bind.servers.sale import _idle
from x402core.errors import LocalProtocolError, Reason
from x402core.events import Dialect, Method
from x402core.machines.settlement import SettlementPolicy
from x402core.values import Millis, eip155
from x402core.wire import v2

QUICK = SettlementPolicy(look_first=Millis(5), look_most=Millis(40))
PAYMENT = v2.PAYMENT_SIGNATURE


def in_loop(test: Callable[..., Any]) -> Callable[..., None]:
    """Run an async test under asyncio."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        async def go() -> None:
            await test(**fixtures)

        anyio.run(go)

    return run


@pytest.fixture
def payer(ground: Ground) -> Payer:
    return ground.payer()


class Stand:
    """A priced application without a server, and what the chain says of it."""

    def __init__(self, ground: Ground, folder: Path, app: Any = None, *, edge: Any = None, **seller: Any) -> None:
        self.shop = Shop(ground, folder, app=app, edge=edge, **{"settlement": QUICK, **seller})
        self.ground, self.app, self.api = ground, self.shop.app, self.shop.api

    def pay(self, payer: Payer) -> dict[str, str]:
        return payer.header(self.shop.offer(), self.ground)

    def earned(self, payments: int) -> None:
        assert self.shop.earned == payments * PRICE

    async def asked(self, path: str = "/paid", **how: Any) -> Visit:
        """Start, answer one request, and stop."""
        async with living(self.app):
            return await visit(self.app, path, **how)


# -------------------------------------------------------------------------------------------------------- what is priced

SPELLINGS = [
    "/paid",
    "/paid/",
    "//paid",
    "/%2Fpaid",
    "/paid%2F",
    "/PAID",
    "/%50aid//",
    "/./paid",
    "/x/../paid",
    "/x/%2e%2e/paid",
    "/%5Cpaid",
    "/paid%0A",
    "/paid%0a/",
    "/paid%20",
    "/paid%00",
    "/pa%C4%B1d/../paid",
    "/paid?x=1",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE", "BREW"])
def test_every_spelling_and_method_is_priced(priced: Shop, method: str) -> None:
    for target in SPELLINGS:
        with socket.create_connection(("127.0.0.1", int(priced.url.rpartition(":")[2])), timeout=10) as raw:
            raw.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            with raw.makefile("rb") as reply:
                status = reply.readline().split()[1]
        assert (target, status, priced.api.runs) == (target, b"402", 0)


@in_loop
async def test_other_origins_may_pay_where_cors_is_around_the_prices(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    origin = "https://x.example"
    stand = Stand(ground, tmp_path)
    stand.app = CORSMiddleware(stand.app, allow_origins=[origin], allow_headers=[PAYMENT])
    preflight = {"Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": PAYMENT}
    async with living(stand.app):
        may = await visit(stand.app, method="OPTIONS", headers=preflight)
        assert (may.status, PAYMENT in may.one("access-control-allow-headers")) == (200, True)
        asked = await visit(stand.app, headers={"Origin": origin})
        paid = await visit(stand.app, headers={"Origin": origin, **stand.pay(payer)})
        assert [(each.status, each.one("access-control-allow-origin")) for each in (asked, paid)] == [
            (402, origin),
            (200, origin),
        ]
    assert stand.api.runs == 1


def test_strangers_do_not_choose_how_much_is_remembered(ground: Ground, tmp_path: Path) -> None:
    door = Shop(ground, tmp_path).app
    for number in range(5000):
        assert door.paths.find(f"/{number}" + (number % 2) * 1000 * "😀") is None
        assert door.paths.find(500 * "/./" + "paid") is not None, "a long spelling is priced too"
    assert sum(len(path) for path, _ in door.paths._found) < 2**20


@pytest.fixture(scope="module")
def priced(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Shop(ground, tmp_path_factory.mktemp("priced")) as shop:
        yield shop


@pytest.mark.parametrize("path", ["/mount/paid", "/mount//paid", "/paid"])
@pytest.mark.parametrize("root", ["/mount", "/mount/"])
@in_loop
async def test_a_mount_does_not_make_it_free(ground: Ground, tmp_path: Path, path: str, root: str) -> None:
    stand = Stand(ground, tmp_path)
    assert (await stand.asked(path, root_path=root)).status == 402
    assert stand.api.runs == 0


@pytest.mark.parametrize("path", ["/", "/paidx", "/paid/more", "/pai", "/free", "/paid/../free"])
@in_loop
async def test_what_has_no_price_is_handed_on_as_it_is(ground: Ground, tmp_path: Path, path: str) -> None:
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.append(given)

    stand = Stand(ground, tmp_path, app)
    request = Visit(stand.app, path, headers={PAYMENT: "garbage"})
    await request._app(request.scope, request.receive, request.send)
    assert seen == [(request.scope, request.receive, request.send)]
    assert seen[0][0] is request.scope


@in_loop
async def test_a_websocket_to_a_priced_path_is_refused(ground: Ground, tmp_path: Path) -> None:
    stand = Stand(ground, tmp_path)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    for path in ("/paid", "/PAID/"):
        await stand.app({"type": "websocket", "path": path, "headers": []}, receive, send)
    assert sent == 2 * [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("path", ["paid", "/a?b", "/items/{id}", "/items/*", "/items/<id>", "/token", "/Token/"])
def test_what_cannot_be_priced_is_refused(ground: Ground, tmp_path: Path, path: str) -> None:
    seller = Stand(ground, tmp_path).shop.seller
    with pytest.raises(LocalProtocolError, match="prices"):
        PaymentMiddleware(Api(), seller, {path: "$0.01"})


def test_one_path_has_one_price(ground: Ground, tmp_path: Path) -> None:
    seller = Stand(ground, tmp_path).shop.seller
    with pytest.raises(LocalProtocolError, match="twice"):
        PaymentMiddleware(Api(), seller, {"/a": "$0.01", "/A/": "$0.02"})


def test_an_offer_that_nobody_would_settle_is_refused(ground: Ground, tmp_path: Path) -> None:
    seller = Stand(ground, tmp_path).shop.seller
    theirs = offer_of(Method.EIP2612, RELAYER, spender=fresh().address)
    with pytest.raises(LocalProtocolError, match="spender"):
        PaymentMiddleware(Api(), seller, {"/a": [theirs]})
    with pytest.raises(LocalProtocolError, match="rpc"):
        Seller(key=fresh(), rpc={"base": "http://127.0.0.1:1"}, ledger="memory:").terms([theirs], "/a")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("rpc", {}),
        ("settle", "never"),
        ("ledger", "file:x"),
        ("key", "0x12"),
        ("url", "shop.example"),
        ("token_key", b"short"),
    ],
)
def test_a_wrong_configuration_names_its_argument(field: str, wrong: Any) -> None:
    options = {"key": b"k" * 32, "rpc": {"base-sepolia": "http://127.0.0.1:1"}, "ledger": "memory:", field: wrong}
    with pytest.raises(LocalProtocolError) as caught:
        Seller(**options)
    assert caught.value.field in (field, "keys")
    assert "0x12" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------- lifespan


class WithLifespan(Api):
    """An application that has a lifespan, and may fail at its start."""

    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        self.fail = fail
        self.stopped = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await super().__call__(scope, receive, send)
        assert (await receive())["type"] == "lifespan.startup"
        if self.fail:
            return await send({"type": "lifespan.startup.failed", "message": "no database"})
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.stopped = True
        return await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.parametrize("app", [Api, WithLifespan])
@in_loop
async def test_the_settler_lives_as_long_as_the_application(ground: Ground, tmp_path: Path, app: Any, payer: Payer) -> None:
    api = app()
    stand = Stand(ground, tmp_path, api)
    async with living(stand.app) as life:
        assert life.types == ["startup.complete"]
        assert (await visit(stand.app, headers=stand.pay(payer))).status == 200
    assert life.types == ["startup.complete", "shutdown.complete"]
    assert getattr(api, "stopped", True)
    stand.earned(1)
    async with living(stand.app) as life:  # once more, as test clients do
        pass
    assert life.types == ["startup.complete", "shutdown.complete"]


@in_loop
async def test_an_application_that_fails_to_start_says_so(ground: Ground, tmp_path: Path) -> None:
    stand = Stand(ground, tmp_path, WithLifespan(fail=True))
    async with living(stand.app) as life:
        assert [m["message"] for m in life.said] == ["no database"]


@in_loop
async def test_it_does_not_start_on_another_chain(ground: Ground, tmp_path: Path) -> None:
    with Devnet(chain_id=1) as other:
        stand = Stand(ground, tmp_path, rpc=other.url)
        async with living(stand.app) as life:
            (said,) = life.said
    assert said["type"] == "lifespan.startup.failed"
    assert "the node serves chain 1" in said["message"]
    assert str(life.refusal) == said["message"]


@in_loop
async def test_it_does_not_start_where_the_token_is_not(ground: Ground, tmp_path: Path) -> None:
    with Devnet() as bare:
        stand = Stand(ground, tmp_path, rpc=bare.url)
        async with living(stand.app) as life:
            (said,) = life.said
    assert said["type"] == "lifespan.startup.failed"
    assert "is not a token's" in said["message"]


@pytest.mark.parametrize("trouble", ["down", "limit exceeded"])
@in_loop
async def test_it_starts_without_its_node_and_answers_503(ground: Ground, tmp_path: Path, trouble: str, payer: Payer) -> None:
    with TroubledNode(ground.url) as node:
        node.down = trouble == "down"
        node.refuse = {"eth_chainId": trouble}
        stand = Stand(ground, tmp_path, rpc=node.url)
        async with living(stand.app) as life:
            assert life.types == ["startup.complete"]
            node.down = True
            assert (await visit(stand.app)).status == 402  # what it costs is known without a chain
            for how in (_v2(stand, payer), _token(stand, payer)):
                unavailable = await visit(stand.app, **how)
                assert (unavailable.status, unavailable.all("Retry-After")) == (503, ["1"])
            node.down, node.refuse = False, {}  # what was not proved at the start is proved before the node is believed
            assert (await visit(stand.app, **_v2(stand, payer))).status == 200
    stand.earned(1)


def _v2(stand: Stand, payer: Payer) -> dict[str, Any]:
    return {"path": "/paid", "headers": stand.pay(payer)}


def _token(stand: Stand, payer: Payer) -> dict[str, Any]:
    body = token_body(payer.permit(stand.shop.offer(Dialect.PERMIT_TOKEN), stand.ground))
    return {"path": "/token", "method": "POST", "query": "scope=%2Fpaid", "body": body}


# ------------------------------------------------------------------------------------------------------ handlers of all kinds


class Scripted:
    """A handler that does as it is told; ``runs`` counts, ``heard`` is what it received."""

    def __init__(self, *script: Any, status: int = 200) -> None:
        self.script, self.status, self.runs = script, status, 0
        self.started = anyio.Event()
        self.cancelled = False
        self.heard: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.runs += 1
        self.started.set()
        try:
            for step in self.script:
                await self._do(step, receive, send)
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise

    async def _do(self, step: Any, receive: Receive, send: Send) -> None:
        match step:
            case "start":
                await send({"type": "http.response.start", "status": self.status, "headers": [(b"x-shop", b"1")]})
            case "end":
                await send({"type": "http.response.body", "body": b"."})
            case "receive":
                self.heard.append(await receive())
            case anyio.Event():
                with anyio.fail_after(10):
                    await step.wait()
            case bytes():
                await send({"type": "http.response.body", "body": step, "more_body": True})
            case _ if callable(step):
                await step(send)
            case _:
                raise step


@pytest.mark.parametrize("status", [400, 404, 500, 503])
@in_loop
async def test_a_failed_handler_is_not_charged_for(ground: Ground, tmp_path: Path, status: int, payer: Payer) -> None:
    app = Scripted("start", "end", status=status)
    stand = Stand(ground, tmp_path, app)
    async with living(stand.app):
        headers = stand.pay(payer)
        failed = await visit(stand.app, headers=headers)
        assert (failed.status, failed.body, failed.all(v2.PAYMENT_RESPONSE)) == (status, b".", [])
        stand.earned(0)
        app.status = 200
        assert (await visit(stand.app, headers=headers)).status == 200  # the same payment is good for another try
    stand.earned(1)


@pytest.mark.parametrize("script", [(ValueError("no"),), ("start", ValueError("no")), ("start", b"half", ValueError("no")), ()])
@in_loop
async def test_a_handler_that_breaks_off_is_not_charged_for(ground: Ground, tmp_path: Path, script: Any, payer: Payer) -> None:
    app = Scripted(*script)
    stand = Stand(ground, tmp_path, app)
    async with living(stand.app):
        request = Visit(stand.app, headers=stand.pay(payer))
        if script:
            with pytest.raises(ValueError, match="no"):  # for the server's log
                await request.run()
        else:
            await request.run()
        assert (request.status, app.runs) == (500, 1)
        assert b"half" not in request.body
        assert not request.all("x-shop")
        app.script = ("start", "end")
        assert (await visit(stand.app, headers=stand.pay(payer))).status == 200
    stand.earned(1)


@in_loop
async def test_background_work_after_the_response_may_fail(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    app = Scripted("start", "end", ValueError("in the background"))
    stand = Stand(ground, tmp_path, app)
    async with living(stand.app):
        request = Visit(stand.app, headers=stand.pay(payer))
        with pytest.raises(ValueError, match="background"):
            await request.run()
        assert (request.status, request.body) == (200, b".")
    stand.earned(1)


@in_loop
async def test_background_work_outlives_the_response(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    go = anyio.Event()
    app = Scripted("start", "end", go, "receive")
    stand = Stand(ground, tmp_path, app)
    async with living(stand.app), anyio.create_task_group() as tasks:
        request = Visit(stand.app, headers=stand.pay(payer))
        tasks.start_soon(request.run)
        with anyio.fail_after(10):
            await request.over.wait()
        assert request.status == 200
        go.set()
    assert [message["type"] for message in app.heard] == ["http.request"]
    stand.earned(1)


async def _swallow(send: Send) -> None:
    for _ in range(3):
        with suppress(Exception):  # the point: an application that does not care
            await send({"type": "http.response.body", "body": 60 * b"x", "more_body": True})


@pytest.mark.parametrize(
    "script", [("start", 101 * b"x", "end"), ("start", *3 * [60 * b"x"], "end"), ("start", _swallow, "end")]
)
@in_loop
async def test_a_response_too_large_to_hold_is_not_charged_for(
    ground: Ground, tmp_path: Path, script: Any, payer: Payer
) -> None:
    stand = Stand(ground, tmp_path, Scripted(*script), edge={"hold_most": 100})
    async with living(stand.app):
        request = Visit(stand.app, headers=stand.pay(payer))
        with pytest.raises((ResponseTooLarge, RuntimeError), match="longer than 100 bytes"):  # for the server's log
            await request.run()
        assert (request.status, b"xxx" in request.body) == (500, False)
    stand.earned(0)


@in_loop
async def test_settled_before_a_stream_flows_from_its_first_byte(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    go = anyio.Event()
    app = Scripted("start", b"one", go, 200 * b"x", "end")
    stand = Stand(ground, tmp_path, app, settle="before", edge={"hold_most": 100})
    async with living(stand.app), anyio.create_task_group() as tasks:
        headers = stand.pay(payer)
        request = Visit(stand.app, headers=headers)
        tasks.start_soon(request.run)
        with anyio.fail_after(10):
            await request.begun.wait()
        assert (request.status, request.body) == (200, b"one")
        assert request.one(v2.PAYMENT_RESPONSE)
        stand.earned(1)
        go.set()
        with anyio.fail_after(10):
            await request.over.wait()
        assert request.body == b"one" + 200 * b"x" + b"."
        with anyio.fail_after(10):
            while (again := await visit(stand.app, headers=headers)).status == 409:  # noqa: ASYNC110 - a claim sets no event
                await anyio.sleep(0.01)
        assert again.status == 402  # served as a stream: not kept, not served twice
        assert b"payment_already_served" in again.body
    assert app.runs == 1
    stand.earned(1)


@in_loop
async def test_a_stream_learns_that_its_payer_hung_up(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    app, due = Scripted("start", b"one", "receive", "receive"), list[Any]()
    stand = Stand(ground, tmp_path, app, settle="before", on_refund_due=due.append)
    async with living(stand.app), anyio.create_task_group() as tasks:
        request = Visit(stand.app, headers=stand.pay(payer))
        tasks.start_soon(request.run)
        with anyio.fail_after(10):
            await request.begun.wait()
        request.gone.set()
    assert [message["type"] for message in app.heard] == ["http.request", "http.disconnect"]
    assert not due, "it was the payer who left"
    stand.earned(1)


@in_loop
@pytest.mark.parametrize("broken", [(ValueError("lost it"),), ()], ids=["raises", "stops"])
async def test_a_paid_stream_that_breaks_off_is_reported_and_can_be_had_again(
    ground: Ground, tmp_path: Path, broken: Any, payer: Payer
) -> None:
    app, due = Scripted("start", b"one", *broken), list[Any]()
    stand = Stand(ground, tmp_path, app, settle="before", on_refund_due=due.append)
    async with living(stand.app):
        headers = stand.pay(payer)
        request = Visit(stand.app, headers=headers)
        with pytest.raises(ValueError, match="lost it") if broken else nullcontext():
            await request.run()
        assert (request.status, request.body, bool(request.one(v2.PAYMENT_RESPONSE))) == (200, b"one", True)
        assert [each.payer for each in due] == [payer.address]
        app.script = ("start", b"one", "end")
        assert (await visit(stand.app, headers=headers)).body == b"one."
        assert (await visit(stand.app, headers=headers)).status == 402
    assert (app.runs, len(due)) == (2, 1)
    seller, key = stand.shop.seller, due[0].key
    assert not seller.refunding(key), "it was served since it was reported"
    assert [seller.refunding(key, served=True) for _ in range(2)] == [True, False], "but its seller may be kind"
    stand.earned(1)


@in_loop
async def test_what_is_paid_back_buys_nothing_any_more(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    app, due, told = Scripted("start", b"one", ValueError("lost it")), list[Any](), list[bool]()
    stand = Stand(ground, tmp_path, app, settle="before", on_refund_due=due.append)
    seller = stand.shop.seller
    async with living(stand.app):
        headers = stand.pay(payer)
        with pytest.raises(ValueError, match="lost it"):
            await visit(stand.app, headers=headers)

        async def pay_back(_send: Any) -> None:
            told.append(seller.refunding(due[0].key))

        app.script = (pay_back, ValueError("and again"))
        with pytest.raises(ValueError, match="and again"):
            await visit(stand.app, headers=headers)
        assert told == [False], "it was being served that very moment"
        assert [seller.refunding(due[0].key) for _ in range(2)] == [True, False], "one caller pays back, once"
        again = await visit(stand.app, headers=headers)
        assert (again.status, b"payment_refunded" in again.body) == (402, True)
        assert not seller.refunding("eip3009/unheard/of"), "nor what was never paid"
    assert app.runs == 2
    assert [each.claim for each in seller.ledger.entries()] == ["refunded"]


@in_loop
async def test_a_stream_that_our_server_cuts_off_is_reported(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    app, due = Scripted("start", b"one", anyio.Event(), "end"), list[Any]()
    stand = Stand(ground, tmp_path, app, settle="before", on_refund_due=due.append)
    async with living(stand.app):
        headers = stand.pay(payer)
        async with anyio.create_task_group() as tasks:
            request = Visit(stand.app, headers=headers)
            tasks.start_soon(request.run)
            with anyio.fail_after(10):
                await request.begun.wait()
            tasks.cancel_scope.cancel()  # its shutdown, or a time limit around the application
        assert [each.payer for each in due] == [payer.address]
        app.script = ("start", b"one", "end")
        assert (await visit(stand.app, headers=headers)).body == b"one."
    stand.earned(1)


@in_loop
@pytest.mark.parametrize("script", [(ValueError("no"),), ("start", b"one", ValueError("no"))], ids=["handler", "stream"])
async def test_settled_after_its_request_was_over_and_then_not_served(
    ground: Ground, tmp_path: Path, script: Any, payer: Payer
) -> None:
    app, due = Scripted(*script), list[Any]()
    stand = Stand(ground, tmp_path, app, settle="before", on_refund_due=due.append, patience=0)
    async with living(stand.app):
        headers = stand.pay(payer)
        assert (await visit(stand.app, headers=headers)).status == 503
        assert await stand.shop.seller.settler.drain(10)
        with pytest.raises(ValueError, match="no"):
            await visit(stand.app, headers=headers)
        assert [each.payer for each in due] == [payer.address], "it is the first run for this payment"
    stand.earned(1)


@in_loop
async def test_paid_before_and_not_served_is_reported_and_can_be_had_later(
    ground: Ground, tmp_path: Path, payer: Payer
) -> None:
    app, due = Scripted("start", "end", status=500), []
    stand = Stand(ground, tmp_path, app, settle="before", on_refund_due=due.append)
    async with living(stand.app):
        headers = stand.pay(payer)
        failed = await visit(stand.app, headers=headers)
        assert (failed.status, bool(failed.one(v2.PAYMENT_RESPONSE))) == (500, True)
        assert [each.payer for each in due] == [payer.address]
        app.status = 200
        assert (await visit(stand.app, headers=headers)).status == 200
    stand.earned(1)
    assert app.runs == 2


# ------------------------------------------------------------------------------------------------------------ hanging up


@in_loop
async def test_hanging_up_while_the_handler_runs_costs_nothing(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    app = Scripted(anyio.Event(), "start", "end")
    stand = Stand(ground, tmp_path, app)
    async with living(stand.app):
        headers = stand.pay(payer)
        async with anyio.create_task_group() as tasks:
            request = Visit(stand.app, headers=headers)
            tasks.start_soon(request.run)
            with anyio.fail_after(10):
                await app.started.wait()
            request.gone.set()
        assert (app.cancelled, request.sent, stand.shop.entries()) == (True, [], ())
        stand.earned(0)
        app.script = ("start", "end")
        assert (await visit(stand.app, headers=headers)).status == 200
    stand.earned(1)


@in_loop
async def test_hanging_up_during_settlement_still_commits(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    app = Scripted("start", "end")
    stand = Stand(ground, tmp_path, app)
    headers, start = stand.pay(payer), ground.sent_by(tag="pending")
    with ground.automine_off():
        async with living(stand.app):
            async with anyio.create_task_group() as tasks:
                request = Visit(stand.app, headers=headers)
                tasks.start_soon(request.run)
                with anyio.fail_after(10):
                    while ground.sent_by(tag="pending") == start:  # noqa: ASYNC110 - the chain sets no event
                        await anyio.sleep(0.005)
                request.gone.set()
                ground.rpc("evm_mine")
            again = await visit(stand.app, headers=headers)
            assert (again.status, again.body, app.runs) == (200, b".", 1)
    stand.earned(1)
    (entry,) = stand.shop.entries()
    assert (entry.state, entry.claim, entry.answered) == ("settled", "committed", True)


# -------------------------------------------------------------------------------------------------------- hostile requests


@in_loop
async def test_a_body_too_large_is_413_and_not_charged_for(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    stand = Stand(ground, tmp_path, edge={"body_most": 100})
    async with living(stand.app):
        headers = stand.pay(payer)
        assert (await visit(stand.app, headers=headers, method="POST", body=101 * b"x")).status == 413
        assert (await visit(stand.app, "/token", query="scope=%2Fpaid", method="POST", body=101 * b"x")).status == 413
        assert (await visit(stand.app, headers=headers, method="POST", body=100 * b"x")).status == 200
        assert (await visit(stand.app, headers=headers, method="POST", body=99 * b"x")).status == 402
    stand.earned(1)


@in_loop
async def test_two_payments_in_one_request_are_refused(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    stand = Stand(ground, tmp_path)
    async with living(stand.app):
        one, two = stand.pay(payer)[PAYMENT], stand.pay(payer)[PAYMENT]
        for headers in ([(PAYMENT, one), (PAYMENT, two)], [(PAYMENT, one), ("payment-signature", one)]):
            refused = await visit(stand.app, headers=headers)
            assert (refused.status, json.loads(refused.body)["source"]) == (400, PAYMENT)
    stand.earned(0)
    assert stand.api.runs == 0


@in_loop
async def test_what_was_paid_for_is_private_and_a_402_is_not_stored(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    stand = Stand(ground, tmp_path)
    async with living(stand.app):
        assert (await visit(stand.app)).one("Cache-Control") == "no-store"
        paid = await visit(stand.app, headers=stand.pay(payer))
        assert (paid.one("Cache-Control"), paid.all("Set-Cookie")) == ("private", ["a=1", "b=2"])
        token = json.loads((await visit(stand.app, **_token(stand, payer))).body)["access_token"]
        served = await visit(stand.app, headers={"Authorization": f"Bearer {token}"})
        assert (served.status, served.one("Cache-Control")) == (200, "private")
        assert PAYMENT in served.one("Vary")
        assert await stand.shop.seller.settler.drain(10)
    stand.earned(2)


WORTHLESS = ["", "a", "a.b", "a.b.c", 5000 * "a", f"{60 * 'a'}.{43 * 'a'}", "..", "\xff.\xff", "eyJ9.e30", "=.="]


@pytest.mark.parametrize("token", WORTHLESS)
@pytest.mark.parametrize("kind", ["Bearer", "bearer", "Basic", ""])
@in_loop
async def test_a_worthless_token_is_402(ground: Ground, tmp_path: Path, token: str, kind: str) -> None:
    stand = Stand(ground, tmp_path)
    assert (await stand.asked(headers={"Authorization": f"{kind} {token}"})).status == 402
    assert stand.api.runs == 0


@pytest.mark.parametrize(
    ("query", "status"),
    [("scope=%2Fnowhere", 404), ("", 404), ("scope=%2Fpaid&scope=%2Fother", 404), ("scope=", 404), ("scope=%2Fpaid", 400)],
)
@in_loop
async def test_the_token_endpoint_sells_known_scopes_only(ground: Ground, tmp_path: Path, query: str, status: int) -> None:
    stand = Stand(ground, tmp_path)
    refused = await visit(stand.app, "/token", method="POST", query=query, body=b"{}")
    assert refused.status == status
    assert (await visit(stand.app, "/token", query=query)).status == 200  # a GET is the application's


@in_loop
async def test_another_token_path_is_told_and_served(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    stand = Stand(ground, tmp_path, edge={"token_path": "/pay/here"}, url="http://127.0.0.1/api")
    async with living(stand.app):
        asked = json.loads((await visit(stand.app)).body)
        assert asked["access_token_endpoint"] == "/api/pay/here?scope=%2Fpaid"
        how = {**_token(stand, payer), "path": "/api/pay/here", "root_path": "/api"}
        assert (await visit(stand.app, **how)).status == 200
        assert await stand.shop.seller.settler.drain(10)
    stand.earned(1)


@pytest.fixture(scope="module")
def unsold(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """A stand at which nobody ever pays."""
    return Stand(ground, tmp_path_factory.mktemp("garbage"))


@pytest.fixture(scope="module")
def valid(ground: Ground, unsold: Stand) -> Any:
    """A good payment, as a document."""
    return json.loads(base64.b64decode(unsold.pay(ground.payer())[PAYMENT]))


def status_of(stand: Stand, **how: Any) -> int:
    """Return what a request is answered with, having looked that nobody was charged for it."""
    status = anyio.run(lambda: stand.asked(**how)).status
    assert (stand.api.runs, stand.shop.earned, stand.shop.entries()) == (0, 0, ())
    return status


GARBAGE = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
TEXT = st.text(st.characters(max_codepoint=255), max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@GARBAGE
@given(name=st.sampled_from([PAYMENT, "Authorization", "X-PAYMENT", "Host", "Content-Length"]), value=TEXT, body=st.binary())
def test_garbage_in_a_header(unsold: Stand, name: str, value: str, body: bytes) -> None:
    assert status_of(unsold, headers={name: value}, body=body) in (400, 402)


@GARBAGE
@given(document=JSON)
def test_garbage_in_a_document(unsold: Stand, document: Any) -> None:
    text = base64.b64encode(json.dumps(document).encode()).decode()
    assert status_of(unsold, headers={PAYMENT: text}) in (400, 402)
    body = json.dumps(document).encode()
    assert status_of(unsold, path="/token", method="POST", query="scope=%2Fpaid", body=body) == 400


@GARBAGE
@given(body=st.binary(max_size=300), query=TEXT)
def test_garbage_at_the_token_endpoint(unsold: Stand, body: bytes, query: str) -> None:
    assert status_of(unsold, path="/token", method="POST", query="scope=%2Fpaid", body=body) == 400
    assert status_of(unsold, path="/token", method="POST", query=query, body=body) in (400, 404)


@GARBAGE
@given(data=st.data(), junk=JSON)
def test_a_payment_with_one_value_exchanged(unsold: Stand, valid: Any, data: st.DataObject, junk: Any) -> None:
    places = [place for place in _places(valid) if place[0] != "extensions"]
    changed = _exchanged(valid, data.draw(st.sampled_from(places)), junk)
    if changed != valid:
        text = base64.b64encode(json.dumps(changed).encode()).decode()
        assert status_of(unsold, headers={PAYMENT: text}) in (400, 402), changed


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        found += [place for key, each in value.items() for place in _places(each, (*at, key))]
    return found


def _exchanged(value: Any, at: tuple[Any, ...], junk: Any) -> Any:
    return {k: (_exchanged(v, at[1:], junk) if at[1:] else junk) if k == at[0] else v for k, v in value.items()}


# --------------------------------------------------------------------------------------------------------- our own trouble


@in_loop
async def test_a_locked_ledger_is_503_and_costs_nothing(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    ledger = SqliteLedger(str(tmp_path / "locked.db"), patience=0.05)
    stand = Stand(ground, tmp_path, ledger=ledger)
    async with living(stand.app):
        v2_, token = _v2(stand, payer), _token(stand, payer)
        lock = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        for how in (v2_, token):
            refused = await visit(stand.app, **how)
            assert (refused.status, refused.all("Retry-After")) == (503, ["1"])
        assert stand.api.runs == 0
        lock.execute("ROLLBACK")
        lock.close()
        assert (await visit(stand.app, **v2_)).status == 200
    stand.earned(1)


@in_loop
async def test_a_ledger_that_is_gone_is_503_for_tokens_too(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    stand = Stand(ground, tmp_path)
    async with living(stand.app):
        token = json.loads((await visit(stand.app, **_token(stand, payer))).body)["access_token"]
        assert await stand.shop.seller.settler.drain(10)
    stand.shop.seller.ledger.close()
    refused = await visit(stand.app, headers={"Authorization": f"Bearer {token}"})
    assert (refused.status, refused.all("Retry-After"), stand.api.runs) == (503, ["1"], 0)


@in_loop
async def test_without_a_settler_nothing_is_sold(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    stand = Stand(ground, tmp_path)  # as when a mount does not hand the lifespan on
    refused = await visit(stand.app, **_token(stand, payer))
    assert (refused.status, stand.shop.entries() and stand.shop.entries()[0].payer) == (503, None)
    assert (await visit(stand.app, **_v2(stand, payer))).status == 503  # nor is anything sent that nobody looks after
    assert ([entry.transactions for entry in stand.shop.entries()], ground.balance(payer.address)) == ([()], FUNDS)


@in_loop
async def test_without_a_settler_nobody_is_asked_to_pay(
    ground: Ground, tmp_path: Path, payer: Payer, caplog: pytest.LogCaptureFixture
) -> None:
    """Our trouble is 503, never 402: whoever signed for that would sign in vain, and sign again."""
    stand = Stand(ground, tmp_path, edge={"paywall": Paywall()})
    poor = ground.payer(0)
    _idle.cache_clear()
    assert (await visit(stand.app, **_v2(stand, poor))).status == 402  # whoever has signed hears what is wrong with that
    for how in ({}, {"headers": {"Accept": "text/html"}}, {"method": "POST"}, _token(stand, poor)):
        answer = await visit(stand.app, **how)
        assert (answer.status, answer.all("Retry-After"), answer.all(v2.PAYMENT_REQUIRED)) == (503, ["1"], [])
        assert (answer.one("Content-Type"), json.loads(answer.body)["title"]) == (
            "application/problem+json",
            Reason.UNAVAILABLE,
        )
    (said,) = [record.message for record in caplog.records if record.name == "x402bind.asgi"]  # once, for whoever runs it
    assert all(word in said for word in ("503", "lifespan", "seller.running()"))
    assert (stand.shop.entries(), stand.api.runs, (await visit(stand.app, "/free")).status) == ((), 0, 200)
    assert (await stand.asked()).status == 402
    assert (await visit(stand.app)).status == 503  # and so it is once the lifespan has ended


@in_loop
async def test_a_mounted_shop_that_nobody_starts_is_503_and_its_free_paths_are_served(ground: Ground, tmp_path: Path) -> None:
    outer = Starlette(routes=[Mount("/sub", app=Stand(ground, tmp_path).app)])
    async with living(outer):
        assert [(await visit(outer, path)).status for path in ("/sub/paid", "/sub/free")] == [503, 200]


@in_loop
async def test_without_a_settler_whoever_has_paid_is_served(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    """What was paid for needs nobody to settle it: the same answer to the same payment, and what a token opens."""
    stand = Stand(ground, tmp_path)
    async with living(stand.app):
        paid = _v2(stand, payer)
        served = await visit(stand.app, **paid)
        token = json.loads((await visit(stand.app, **_token(stand, payer))).body)["access_token"]
        assert await stand.shop.seller.settler.drain(10)
    again = await visit(stand.app, **paid)
    assert (again.status, again.body) == (200, served.body)
    assert (await visit(stand.app, headers={"Authorization": f"Bearer {token}"})).status == 200
    stand.earned(2)


# ----------------------------------------------------------------------------------------------------------- a real server


def test_an_unpriced_stream_flows_through_uvicorn(ground: Ground, tmp_path: Path) -> None:
    class Streams(Scripted):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1"), (b"x-a", b"2")]})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await anyio.to_thread.run_sync(go.wait, 10)
            await send({"type": "http.response.body", "body": b"last"})

    go = threading.Event()
    with Shop(ground, tmp_path, app=Streams()) as shop, httpx.stream("GET", f"{shop.url}/free") as response:
        parts = response.iter_raw()
        assert next(parts) == b"first"
        go.set()
        assert b"".join(parts) == b"last"
        assert response.headers.get_list("x-a") == ["1", "2"]


def test_a_seller_without_a_token_key_speaks_v2_only(ground: Ground, tmp_path: Path) -> None:
    with Shop(ground, tmp_path, token_key=None) as shop:
        asked = httpx.get(shop.paid)
        assert (asked.status_code, "access_token_endpoint" in asked.json()) == (402, False)
        assert httpx.post(f"{shop.url}/token").status_code == 200  # nothing of ours: the application's
        assert shop.offer().network == eip155(84532)
