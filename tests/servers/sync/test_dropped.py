"""A paid stream that is lost between its door and the server: its claim is let go, and the seller hears of it."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import flask
import httpx
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

from tests.servers.sync import test_django, test_flask
from tests.servers.sync.test_wsgi import Kiosk
from tests.servers.visitor import visit
from tests.shop import Ground, Payer, until
from x402bind.servers import sync_sale
from x402core.ledger import ClaimState

PIECES = (b"one", b"two")


@pytest.fixture
def payer(ground: Ground) -> Payer:
    return ground.payer()


@pytest.fixture
def kiosk(ground: Ground, tmp_path: Path) -> Iterator[Callable[..., Kiosk]]:
    made: list[Kiosk] = []

    def make(do: Any, **how: Any) -> Kiosk:
        made.append(Kiosk(ground, tmp_path, do, **how))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_sale, "_GLANCE", 0.02)


def told(due: list[Any]) -> bool:
    gc.collect()
    return bool(due)


class Raises:
    """A middleware outside the sale that fails when the answer is there."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        self.get_response(request)
        raise RuntimeError("outer")


class Replaces(Raises):
    """One that answers something else."""

    def __call__(self, request: Any) -> Any:
        self.get_response(request)
        return HttpResponse("other", status=500)


@pytest.mark.parametrize("how", ["raises", "replaces"])
def test_by_a_hook_of_flask(ground: Ground, tmp_path: Path, how: str, payer: Payer) -> None:
    due: list[Any] = []
    shop = test_flask.Shop(ground, tmp_path, settle="before", on_refund_due=due.append)

    @shop.app.get("/paid")
    @shop.payments.required("$0.01")
    def paid() -> Any:
        return flask.Response(iter(PIECES))

    lost = [True]
    shop.app.logger.disabled = True  # pytest would keep the traceback, and with that the response

    @shop.app.after_request
    def hook(response: flask.Response) -> flask.Response:
        if not lost:
            return response
        if how == "raises":
            raise RuntimeError("hook")
        return flask.Response("other", status=500)

    headers = shop.header(payer)
    with shop.werkzeug(shop.app) as url:
        assert httpx.get(f"{url}/paid", headers=headers).status_code == 500
        until(lambda: told(due))
        lost.clear()
        assert httpx.get(f"{url}/paid", headers=headers).content == b"onetwo"
    shop.close()
    assert (shop.earned, [each.payer for each in due]) == (1, [payer.address])


@pytest.mark.parametrize("middleware", [Raises, Replaces, None], ids=["raises", "replaces", "not modified"])
def test_by_a_middleware_of_django(ground: Ground, tmp_path: Path, middleware: Any, payer: Payer) -> None:
    due: list[Any] = []
    shop = test_django.Shop(ground, tmp_path, settle="before", on_refund_due=due.append)
    shop.sell("paid", "paid", answer=lambda: StreamingHttpResponse(iter(PIECES), headers={"ETag": '"x"'}))
    headers = {**shop.header(payer), **({} if middleware else {"If-None-Match": '"x"'})}
    name = f"{__name__}.{middleware.__name__}" if middleware else "django.middleware.http.ConditionalGetMiddleware"
    with shop.wsgi(name, test_django.OURS, test_django.CSRF) as url:
        assert httpx.get(f"{url}/paid", headers=headers).status_code == (500 if middleware else 304)
        until(lambda: told(due))
        assert [each.claim for each in shop.seller.ledger.entries()] == [ClaimState.KEPT]
    shop.close()
    assert (shop.earned, [each.payer for each in due]) == (1, [payer.address])


def test_by_a_server_that_takes_no_such_header(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    def do(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [("Bad\nName", "x")])
        yield from PIECES

    due: list[Any] = []
    shop = kiosk(do, settle="before", on_refund_due=due.append)
    app: Any = shop.app

    def strict(environ: Any, start: Any) -> Any:
        def checked(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if any("\n" in name for name, _ in headers):
                raise ValueError("InvalidHeader")
            return start(status, headers, exc_info)

        return app(environ, checked)

    shop.app = strict  # type: ignore[assignment]
    with pytest.raises(ValueError, match="InvalidHeader"):
        shop.get(headers=shop.header(payer))
    assert (shop.earned, [each.payer for each in due]) == (1, [payer.address])


def test_by_an_async_server_whose_first_send_fails(ground: Ground, tmp_path: Path, payer: Payer) -> None:
    due: list[Any] = []
    shop = test_django.Shop(ground, tmp_path, settle="before", on_refund_due=due.append)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    async def streams(request: Any) -> Any:
        return StreamingHttpResponse(pieces())

    shop.urls.append(path("paid", shop.payments.required("$0.01")(streams)))
    with shop.configured():
        app = ASGIHandler()

        async def go() -> None:
            headers = shop.header(payer)
            pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            scope = {"type": "http", "method": "GET", "path": "/paid", "query_string": b"", "headers": pairs}
            messages = [{"type": "http.request", "body": b"", "more_body": False}]

            async def receive() -> Any:
                if messages:
                    return messages.pop()
                return await anyio.sleep_forever()

            async def send(_message: Any) -> None:
                raise RuntimeError("a server's own trouble")

            with pytest.raises(RuntimeError, match="own trouble"):
                await app(scope, receive, send)
            await anyio.to_thread.run_sync(until, lambda: told(due))
            assert (await visit(app, "/paid", headers=headers)).body == b"onetwo"

        anyio.run(go)
    shop.close()
    assert (shop.earned, [each.payer for each in due]) == (1, [payer.address])


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_cuts_a_stream_off_is_not_the_payers_leaving(
    kiosk: Callable[..., Kiosk], error: type[BaseException], payer: Payer
) -> None:
    def do(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"one"
        raise error

    due: list[Any] = []
    shop = kiosk(do, settle="before", on_refund_due=due.append)
    with pytest.raises(error):
        shop.get(headers=shop.header(payer))
    assert (shop.earned, [each.payer for each in due]) == (1, [payer.address])


def test_a_server_can_stop_while_something_streams(kiosk: Callable[..., Kiosk], payer: Payer) -> None:
    def do(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [])
        yield from PIECES

    shop = kiosk(do, settle="before")
    app: Any = shop.app
    open_streams: list[Any] = []

    def keeping(environ: Any, start: Any) -> Any:
        open_streams.append(app(environ, start))
        return ()

    shop.app = keeping  # type: ignore[assignment]
    shop.get(headers=shop.header(payer))
    stopped = threading.Thread(target=app.background.close, daemon=True)
    stopped.start()
    stopped.join(20)
    assert not stopped.is_alive(), "it waits for a stream that nobody ends"
