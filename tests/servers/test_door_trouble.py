"""Trouble at an ASGI door: payers who leave, applications that misbehave, ledgers and callbacks that fail."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from tests.servers.doors import buy
from tests.servers.test_asgi import Scripted, Stand, in_loop, payer
from tests.servers.visitor import Visit, living, visit
from tests.shop import Ground, Payer, Shop, token_body
from x402bind.ledger.contract import LedgerUnavailable
from x402bind.pricing import Listing
from x402bind.servers import starlette
from x402bind.servers.asgi import PaymentMiddleware
from x402bind.servers.fastapi import Payments
from x402core.events import Dialect, ResponseHead
from x402core.evm.secp256k1 import public_address
from x402core.wire import http, v2

assert payer


async def leave_while_the_money_moves(stand: Stand, headers: dict[str, str]) -> Visit:
    """Present a payment that is settled before, and be gone when its transaction is mined."""
    ground, request = stand.ground, Visit(stand.app, headers=headers)
    start = ground.sent_by(tag="pending")
    with ground.automine_off():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request.run)
            while ground.sent_by(tag="pending") == start:  # noqa: ASYNC110 - a chain sets no event
                await anyio.sleep(0.005)
            request.gone.set()
            await anyio.sleep(0.02)
            ground.rpc("evm_mine")
    return request


@in_loop
async def test_a_payer_who_left_while_the_money_moved_has_not_had_the_stream(
    ground: Ground, tmp_path: Path, payer: Payer
) -> None:
    app, due = Scripted("start", b"one", b"two", "end"), list[Any]()
    stand = Stand(ground, tmp_path, app, settle="before", on_refund_due=due.append)
    async with living(stand.app):
        headers = stand.pay(payer)
        left = await leave_while_the_money_moves(stand, headers)
        assert (left.sent, app.runs, [each.payer for each in due]) == ([], 0, [payer.address])
        again = await visit(stand.app, headers=headers)
        assert (again.status, again.body) == (200, b"onetwo.")
    stand.earned(1)


@pytest.mark.parametrize("settle", ["after", "before"])
def test_a_stray_cancellation_in_background_work_is_the_applications_own(ground: Ground, tmp_path: Path, settle: str) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "no lifespan"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})
        inner = asyncio.ensure_future(asyncio.sleep(10))
        await asyncio.sleep(0.001)
        inner.cancel()
        await inner

    due: list[Any] = []
    with Shop(ground, tmp_path, app=app, settle=settle, on_refund_due=due.append) as shop:
        answer = buy(shop, "/paid")
        assert (answer.status_code, answer.text, v2.PAYMENT_RESPONSE in answer.headers) == (200, "hello", True)
        assert (shop.entries()[0].claim, due) == ("committed", [])


@in_loop
async def test_a_middleware_that_gives_the_body_for_ever_stops_nobody(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    release = anyio.Event()
    stand = Stand(ground, tmp_path, Scripted(release, "start", "end"))
    request = Visit(stand.app, headers=stand.pay(payer))

    async def same_again() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    request.receive = same_again  # type: ignore[method-assign]
    async with living(stand.app), anyio.create_task_group() as tasks:
        tasks.start_soon(request.run)
        await anyio.sleep(0.3)
        release.set()
    assert request.status == 200


@in_loop
async def test_a_failing_server_is_heard_as_it_failed(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    stand = Stand(ground, tmp_path, Scripted("start", "end"))
    request = Visit(stand.app, headers=stand.pay(payer))

    async def send(_message: Any) -> None:
        raise RuntimeError("the server's own")

    request.send = send  # type: ignore[method-assign]
    async with living(stand.app):
        with pytest.raises(RuntimeError, match="the server's own"):
            await request.run()


# ------------------------------------------------------------------------------------------------------- what is logged


@in_loop
async def test_a_refund_that_could_not_be_told_is_logged_whole(
    ground: Ground, tmp_path: Path, payer: Payer, caplog: pytest.LogCaptureFixture
) -> None:
    def tell(_due: Any) -> None:
        raise RuntimeError("the mail server is down")

    stand = Stand(ground, tmp_path, Scripted("start", "end", status=500), settle="before", on_refund_due=tell)
    async with living(stand.app):
        assert (await visit(stand.app, headers=stand.pay(payer))).status == 500
    assert "ReportRefundDue failed: RuntimeError: the mail server is down" in caplog.text
    assert "Traceback" in caplog.text


@in_loop
@pytest.mark.parametrize(("method", "status"), [("recall", 503), ("commit", 200)])
async def test_a_ledger_that_fails_is_logged(
    ground: Ground,
    tmp_path: Path,
    payer: Payer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    status: int,
) -> None:
    stand = Stand(ground, tmp_path, Scripted("start", "end"))

    def broken(*_: Any, **__: Any) -> None:
        raise LedgerUnavailable("disk I/O error")

    async with living(stand.app):
        headers = stand.pay(payer)
        monkeypatch.setattr(type(stand.shop.seller.ledger), method, broken)
        assert (await visit(stand.app, headers=headers)).status == status
    assert "LedgerUnavailable: disk I/O error" in caplog.text


@in_loop
async def test_an_account_without_gas_is_named_at_the_start_and_when_its_transaction_is_refused(
    ground: Ground, tmp_path: Path, payer: Payer, caplog: pytest.LogCaptureFixture
) -> None:
    key = secrets.token_bytes(32)
    stand = Stand(ground, tmp_path, key=key, pay_to=public_address(key), patience=0.5)
    async with living(stand.app):
        assert f"{public_address(key)} has no ether on eip155:84532" in caplog.text
        assert (await visit(stand.app, headers=stand.pay(payer))).status == 503
        assert "does not take transaction" in caplog.text
        assert "insufficient" in caplog.text
    stand.earned(0)


# ------------------------------------------------------------------------------------------------------------- threads


@contextmanager
def all_threads_held(shop: Shop, free: threading.Semaphore, release: threading.Event) -> Iterator[None]:
    """Have every thread that the framework gives sync endpoints wait."""
    with ExitStack() as stack:
        stack.callback(release.set)
        asking = [threading.Thread(target=httpx.get, args=(f"{shop.url}/slow",), kwargs={"timeout": 60}) for _ in range(45)]
        for each in asking:
            each.start()
            stack.callback(each.join)
        stack.callback(release.set)
        for _ in range(40):
            assert free.acquire(timeout=20)
        yield


def test_an_application_whose_threads_are_all_busy_still_sells(ground: Ground, tmp_path: Path) -> None:
    begun, release = threading.Semaphore(0), threading.Event()

    def build(seller: Any) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)

        @app.get("/slow")
        def slow() -> None:
            begun.release()
            release.wait(60)

        @app.get("/paid")
        @payments.required("$0.01")
        async def paid() -> str:
            return "sold"

        return app

    with Shop(ground, tmp_path, door=build) as shop, all_threads_held(shop, begun, release):
        assert shop.seller.ledger.blocking
        assert buy(shop, "/paid").status_code == 200
        assert not release.is_set()


@in_loop
@pytest.mark.parametrize("inside", [True, False], ids=["in a framework", "around it"])
async def test_a_reference_that_cannot_be_worked_out_is_the_sellers_error(ground: Ground, tmp_path: Path, inside: bool) -> None:
    """For a token's holder too, whom nothing has told before; who brings no payment is told the price all the same."""
    fine = [True]

    def named(request: Any) -> str:
        if not fine:
            raise KeyError("x-order")
        return "sold"

    listing = Listing("$0.01", reference=named)
    if inside:
        app = Starlette()
        app.add_route("/paid", starlette.Payments(app, Shop(ground, tmp_path).seller).required(listing)(_sold))
    else:
        app = PaymentMiddleware(Scripted("start", "end"), Shop(ground, tmp_path).seller, {"/paid": listing})
    async with living(app):
        offer, payer = await asked_in(app), ground.payer()
        body = token_body(payer.permit(offer, ground))
        token = json.loads((await visit(app, "/token", method="POST", query="scope=%2Fpaid", body=body)).body)["access_token"]
        holder = {"Authorization": f"Bearer {token}"}
        assert (await visit(app, headers=holder)).status == 200
        fine.clear()
        assert (await visit(app, headers={"Authorization": "Bearer mine"})).status == 402
        request = Visit(app, headers=holder)
        with pytest.raises(KeyError, match="x-order"):
            await request.run()
        assert request.status == 500


async def _sold(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("sold")


async def asked_in(app: Any) -> Any:
    """Return the permit-token offer of a door without a server."""
    unpaid = await visit(app)
    headers = tuple((name.decode(), value.decode()) for name, value in unpaid.sent[0]["headers"])
    challenge = http.decode_402(ResponseHead(402, headers, unpaid.body, "http://shop.test/paid"))
    return next(offer for offer in challenge.offers if offer.dialect is Dialect.PERMIT_TOKEN)
