"""The official SDK's server, probe by probe (official-sdk.md 5: "Security / money", "Handler outcome", "Streaming"): ours.

Probes 7 to 10, of other people's trouble and lies, are in ``test_official_defects_trouble.py``.
"""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.middleware.cors import CORSMiddleware

from tests.lying_facilitator import SECRET
from tests.odd_shop import QUICK, App, Feed, at_once, broadcast, everything, get, receipt, selling
from tests.servers.visitor import living
from tests.shop import PRICE, Ground, Shop, TroubledNode, on_devnet, until
from x402bind.settler import now_millis
from x402core.errors import Reason
from x402core.values import Millis
from x402core.wire import v1, v2


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


# ------------------------------------------------------------------------------------------------------ security and money


@pytest.mark.parametrize("settle", ["after", "before"])
def test_1_one_header_eight_times_at_once_is_one_handler_and_one_transaction(
    ground: Ground, tmp_path: Path, settle: str
) -> None:
    """Probe 1 (was: 8 handlers, 8 transactions, 7 of them reverting; a payment for /paid bought another path)."""
    busy = threading.Event()
    app = App(work=lambda: busy.wait(0.3))
    with selling(ground, tmp_path, app, settle=settle) as shop:
        header, sent = ground.payer().header(shop.offer(), ground), broadcast(ground)
        answers = at_once(shop.paid, header)
        assert {answer.status_code for answer in answers} <= {200, 409}
        assert {answer.json()["title"] for answer in answers if answer.status_code == 409} <= {Reason.PAYMENT_IN_PROGRESS}
        again, elsewhere = get(shop.paid, header), get(f"{shop.url}/other", header)
        assert (again.status_code, again.content, app.runs) == (200, b"served", 1)
        assert (elsewhere.status_code, elsewhere.json()["error"]) == (402, Reason.PAYMENT_SPENT)
        assert (broadcast(ground) - sent, shop.earned) == (1, PRICE)


@pytest.mark.parametrize("settle", ["after", "before"])
def test_2_an_empty_wallet_makes_us_broadcast_nothing(ground: Ground, tmp_path: Path, settle: str) -> None:
    """Probe 2 (was: every settle of an unfunded key broadcast, and a used header sequentially too, "upfront")."""
    with selling(ground, tmp_path, settle=settle) as shop:
        sent = broadcast(ground)
        answers = at_once(shop.paid, ground.payer(0).header(shop.offer(), ground))
        assert {(answer.status_code, answer.json()["error"]) for answer in answers} == {(402, Reason.INSUFFICIENT_FUNDS)}
        assert (broadcast(ground), shop.api.runs, shop.entries()) == (sent, 0, ())
        header = ground.payer().header(shop.offer(), ground)
        assert get(shop.paid, header).status_code == 200
        assert {answer.status_code for answer in at_once(f"{shop.url}/other", header)} == {402}
        assert broadcast(ground) == sent + 1


def test_3_one_failed_broadcast_does_not_stop_the_payments_after_it(ground: Ground, tmp_path: Path) -> None:
    """Probe 3 (was: the transaction number was lost, every later payment stuck behind the gap until a restart)."""
    failures = ["internal error"]

    def once(call: dict[str, Any]) -> str | None:
        return failures.pop() if failures and call["method"] == "eth_sendRawTransaction" else None

    with TroubledNode(ground.url) as node, selling(ground, tmp_path, rpc=node.url) as shop:
        node.filter = once
        for _ in range(3):
            assert get(shop.paid, ground.payer().header(shop.offer(), ground)).status_code == 200
        assert (failures, shop.earned, shop.api.runs) == ([], 3 * PRICE, 3)
    assert ground.sent_by() == broadcast(ground)  # nothing is queued


@pytest.mark.parametrize("settle", ["after", "before"])
def test_4_paid_late_is_served_late_with_the_same_header(ground: Ground, tmp_path: Path, settle: str) -> None:
    """Probe 4 (was: 402 settlement_pending, then mined, then 402 nonce_already_used: money gone, no body)."""
    with selling(ground, tmp_path, settle=settle, patience=0.3) as shop:
        header = ground.payer().header(shop.offer(), ground)
        with ground.automine_off():
            late = get(shop.paid, header)
            assert (late.status_code, late.json()["title"], "Retry-After" in late.headers) == (503, "settlement_pending", True)
            assert (receipt(late)["success"], len(receipt(late)["transaction"])) == (False, 66)
            ground.rpc("evm_mine")
        until(lambda: get(shop.paid, header).status_code == 200)
        assert (shop.earned, shop.api.runs, receipt(get(shop.paid, header))["success"]) == (PRICE, 1, True)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
def test_5a_no_method_runs_the_handler_unpaid(ground: Ground, tmp_path: Path, method: str) -> None:
    """Probe 5a (was: HEAD on a route priced "GET /x" ran the handler, headers delivered)."""
    with selling(ground, tmp_path) as shop:
        assert (get(shop.paid, {}, method=method).status_code, shop.api.runs) == (402, 0)


def test_5b_a_websocket_is_not_a_way_around(ground: Ground, tmp_path: Path) -> None:
    """Probe 5b (was: WebSocket routes were never protected)."""
    sent: list[Any] = []

    async def connect(path: str) -> None:
        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await shop.app({"type": "websocket", "path": path, "headers": [], "query_string": b""}, receive, send)

    app = App()
    with selling(ground, tmp_path, app) as shop:
        anyio.run(connect, "/paid")
        assert sent == [{"type": "websocket.close", "code": 1008}]
        raw = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAA"}
        assert (get(shop.paid, raw).status_code, app.runs) == (402, 0)


def test_5c_a_wallet_emptied_while_the_handler_runs_gets_nothing_and_costs_one_transaction_at_most(
    ground: Ground, tmp_path: Path
) -> None:
    """Probe 5c (was: body withheld, and gas paid for a reverting transaction, again with every repetition of the header)."""
    payer = ground.payer()
    app = App(work=lambda: ground.drain(payer))
    with selling(ground, tmp_path, app, patience=1.0) as shop:
        header, sent = payer.header(shop.offer(), ground), broadcast(ground)
        answer = get(shop.paid, header)
        assert (answer.status_code, b"served" in answer.content) == (402, False)
        assert answer.json()["error"] in (Reason.TRANSACTION_FAILED, Reason.INSUFFICIENT_FUNDS, Reason.SIMULATION_FAILED)
        assert not any(b"served" in again.content for again in at_once(shop.paid, header, 3))
        assert (broadcast(ground) - sent <= 1, shop.earned, app.runs) == (True, 0, 1)


def test_5c_a_payment_that_expires_while_the_handler_runs_is_not_served(tmp_path: Path) -> None:
    """Probe 5c (was: validBefore needs 6 seconds only; handler ran, body withheld)."""
    ahead = [0]

    def work() -> None:
        ahead[0] = 400_000
        ground.rpc("evm_increaseTime", 400)
        ground.rpc("evm_mine")

    app = App(work=work)
    with (
        on_devnet() as ground,
        selling(ground, tmp_path, app, clock=lambda: Millis(now_millis() + ahead[0]), patience=1.0) as shop,
    ):
        answer = get(shop.paid, ground.payer().header(shop.offer(), ground))
        assert answer.status_code in (402, 503)
        assert (b"served" in answer.content, broadcast(ground) <= 1, shop.earned) == (False, True, 0)


def hang_up(shop: Shop, header: dict[str, str], when: Callable[[], bool]) -> None:
    """Ask for the priced path on a socket of our own, and leave when it is time."""
    host, port = shop.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        lines = "".join(f"{name}: {value}\r\n" for name, value in header.items())
        raw.sendall(f"GET /paid HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        until(when)


def test_6_a_client_that_left_is_not_charged(ground: Ground, tmp_path: Path) -> None:
    """Probe 6 (was: settled all the same)."""
    never = threading.Event()
    app = App(work=lambda: never.wait(20))
    with selling(ground, tmp_path, app) as shop:
        header, sent = ground.payer().header(shop.offer(), ground), broadcast(ground)
        hang_up(shop, header, lambda: app.runs == 1)
        until(app.cancelled.is_set)
        never.set()
        until(lambda: shop.entries() == ())
        assert (broadcast(ground), shop.earned) == (sent, 0)
        app.work = None
        assert get(shop.paid, header).status_code == 200  # and may come back with the same payment


def test_6_a_client_that_left_an_endless_answer_is_not_charged_and_the_handler_stops(ground: Ground, tmp_path: Path) -> None:
    """Probe 6 and "Streaming" (was: an SSE client that got no byte was charged; Flask went on producing for ever)."""
    feed = Feed()
    with selling(ground, tmp_path, feed) as shop:
        hang_up(shop, ground.payer().header(shop.offer(), ground), lambda: feed.sent == 1)
        until(feed.stopped.is_set)
        until(lambda: shop.entries() == ())
        assert shop.earned == 0


# ------------------------------------------------------------------------------------------------------- handler outcome


def _boom() -> None:
    raise ValueError(f"password={SECRET}")


@pytest.mark.parametrize(
    ("app", "status"), [(App(500), 500), (App(404), 404), (App(work=_boom), 500)], ids=["500", "404", "raise"]
)
def test_a_failed_handler_is_passed_on_and_not_charged(ground: Ground, tmp_path: Path, app: App, status: int) -> None:
    """Row "Handler outcome": 500/404/raise are not settled; of an exception nothing is said."""
    with selling(ground, tmp_path, app) as shop:
        answer = get(shop.paid, ground.payer().header(shop.offer(), ground))
        assert (answer.status_code, v2.PAYMENT_RESPONSE in answer.headers, shop.earned) == (status, False, 0)
        assert not any(word in everything(answer) for word in (SECRET, "ValueError", "password"))


def test_a_redirect_is_an_answer_and_is_charged(ground: Ground, tmp_path: Path) -> None:
    """Row "Handler outcome": 302 is settled."""
    with selling(ground, tmp_path, App(302, (b"location", b"/elsewhere"))) as shop:
        answer = get(shop.paid, ground.payer().header(shop.offer(), ground))
        assert (answer.status_code, answer.headers["Location"], shop.earned) == (302, "/elsewhere", PRICE)


def test_what_the_handler_said_arrives_whole_and_once(ground: Ground, tmp_path: Path) -> None:
    """Row "Handler outcome" (was: the second Set-Cookie lost, callbacks at the end never run, Content-Type twice)."""
    over = threading.Event()
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-type", b"text/x-mine")]
    with selling(ground, tmp_path, App(203, *cookies, more=over.set)) as shop:
        header = ground.payer().header(shop.offer(), ground)
        for answer in (get(shop.paid, header), get(shop.paid, header)):  # the kept answer too
            assert (answer.status_code, answer.headers.get_list("set-cookie")) == (203, ["a=1", "b=2"])
            assert (answer.headers.get_list("content-type"), answer.content) == (["text/x-mine"], b"served")
        assert over.is_set()


# ------------------------------------------------------------------------------------------------------------- streaming


def test_settled_before_the_first_byte_does_not_wait_for_the_last(ground: Ground, tmp_path: Path) -> None:
    """Row "Streaming" (was: everything buffered until settled; /sse endless: no byte ever)."""
    feed = Feed()
    with selling(ground, tmp_path, feed, settle="before") as shop:
        header = ground.payer().header(shop.offer(), ground)
        with httpx.stream("GET", shop.paid, headers=header, timeout=10) as answer:
            chunks = answer.iter_raw()
            assert (answer.status_code, next(chunks)) == (200, b"tick\n")
            assert feed.sent <= 1, "the second piece waits for the gate"
            assert (receipt(answer)["success"], shop.earned) == (True, PRICE)
            feed.gate.set()
            next(chunks)
        until(feed.stopped.is_set)  # the payer left: nobody produces on


@pytest.mark.parametrize(("settle", "status"), [("before", 200), ("after", 500)])
def test_a_body_of_64_megabytes_is_never_in_memory(ground: Ground, tmp_path: Path, settle: str, status: int) -> None:
    """Row "Streaming" (was: +64 MB of memory): settled before, it flows; held, it is refused at the bound, and not charged."""
    feed = Feed(b"x" * (1 << 20), 64)
    feed.gate.set()
    shop = Shop(ground, tmp_path, app=feed, settlement=QUICK, settle=settle)
    header = ground.payer().header(shop.offer(), ground)
    got, peak = [0, 0], [0]
    for_the_log: Any = pytest.raises(ExceptionGroup) if settle == "after" else nullcontext()

    async def go() -> None:
        async def receive() -> dict[str, Any]:
            if asked:
                return asked.pop()
            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: Any) -> None:
            got[0] = message.get("status", got[0])
            got[1] += len(message.get("body", b""))

        asked = [{"type": "http.request", "body": b"", "more_body": False}]
        scope = {"type": "http", "method": "GET", "path": "/paid", "query_string": b"", "headers": []}
        scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in header.items()]
        async with living(shop.app):
            tracemalloc.start()
            with for_the_log:
                await shop.app(scope, receive, send)
            peak[0] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()

    anyio.run(go)
    assert (got[0], got[1] >= 64 << 20, shop.earned) == (status, status == 200, PRICE if status == 200 else 0)
    assert peak[0] < 16 << 20
    shop.seller.ledger.close()


# ---------------------------------------------------------------------------------------------------- browsers, and people


def test_a_browser_may_read_the_terms_and_cors_is_the_applications(ground: Ground, tmp_path: Path) -> None:
    """Row "CORS preflight" (was: 405, PAYMENT-* not exposed): exposed by us; a CORS layer stands outside, as with any API."""
    asked = {"Origin": "http://a.test", "Access-Control-Request-Method": "GET"}
    asked["Access-Control-Request-Headers"] = "payment-signature"
    with selling(ground, tmp_path) as shop:
        exposed = get(shop.paid, {}).headers["Access-Control-Expose-Headers"]
        assert {v2.PAYMENT_REQUIRED, v2.PAYMENT_RESPONSE, v1.X_PAYMENT_RESPONSE} <= set(exposed.split(", "))
        app: Any = CORSMiddleware(shop.app, allow_origins=["*"], allow_headers=[v2.PAYMENT_SIGNATURE])  # type: ignore[arg-type]

        async def go() -> None:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop.test") as browser:
                assert (await browser.options("/paid", headers=asked)).status_code == 200
                answer = await browser.get("/paid", headers={"Origin": "http://a.test"})
                assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (402, "*")

        anyio.run(go)


def test_the_402_says_in_its_body_too_what_to_do(ground: Ground, tmp_path: Path) -> None:
    """Row "402 body" (was: {}); every 402 has one Content-Type (was, on Flask: two)."""
    with selling(ground, tmp_path) as shop:
        answer = get(shop.paid, {})
        assert (answer.status_code, answer.headers.get_list("Content-Type")) == (402, ["application/json"])
        (offer,) = answer.json()["accepts"]
        assert (offer["maxAmountRequired"], offer["payTo"].lower()) == (str(PRICE), shop.pay_to)
