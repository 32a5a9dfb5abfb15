"""One transcript, every door: the machines are asked the same and ask the same, whatever framework is around them.

The transcript is of real requests to real servers. What differs from run to run (keys, nonces, addresses, ports, times) is
written as ``#``, and a framework's own Content-Type and -Length left out; the order, the kinds and all else of the commands
has to be the same.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path as route
from fastapi import FastAPI, Response
from flask import Flask
from flask import Response as FlaskResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from tests.servers.sync import test_django  # it configures Django
from tests.servers.sync.stall import QUICK, Stall
from tests.shop import Ground, Shop, token_body, until
from x402bind import seller as module
from x402bind.seller import Seller
from x402bind.servers import asgi, django, fastapi, flask, starlette, wsgi
from x402core.events import Dialect, ResponseHead
from x402core.ledger import ClaimState
from x402core.wire import http, v2

STREAMS = ("/streams", "/breaks")
PRICES = dict.fromkeys(("/paid", "/other", "/fails", *STREAMS), "$0.01")
Serve = Callable[[Ground, Path], Any]
assert test_django.settings is settings


def told(path: str) -> tuple[int, str]:
    """Return what the application says at a path."""
    return (404, "nothing here") if path == "/fails" else (200, f"served {path}")


def pieces(path: str) -> Iterator[bytes]:
    """Give a stream, to its end or not."""
    yield b"first"
    if path == "/breaks":
        raise ValueError("it broke off")
    yield b"last"


async def apieces(path: str) -> AsyncIterator[bytes]:
    for piece in pieces(path):
        yield piece


# ------------------------------------------------------------------------------------------------------------ the doors


def by_asgi(seller: Seller) -> Any:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        status, text = told(scope["path"])
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        if scope["path"] in STREAMS:
            for piece in pieces(scope["path"]):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            text = ""
        await send({"type": "http.response.body", "body": text.encode()})

    return asgi.PaymentMiddleware(app, seller, PRICES)


def by_starlette(seller: Seller) -> Any:
    app = Starlette()
    payments = starlette.Payments(app, seller)

    async def view(request: Request) -> Any:
        if request.url.path in STREAMS:
            return StreamingResponse(apieces(request.url.path), media_type="text/plain")
        status, text = told(request.url.path)
        return PlainTextResponse(text, status)

    for path in PRICES:
        app.add_route(path, payments.required("$0.01")(view))
    return app


def by_fastapi(seller: Seller) -> Any:
    app = FastAPI()
    payments = fastapi.Payments(app, seller)

    def view(path: str) -> Callable[[], Response]:
        @payments.required("$0.01")
        def one() -> Response:
            if path in STREAMS:
                return StreamingResponse(apieces(path), media_type="text/plain")
            status, text = told(path)
            return Response(text, status, media_type="text/plain")

        return one

    for path in PRICES:
        app.get(path)(view(path))
    return app


def by_wsgi(seller: Seller) -> Any:
    def app(environ: Any, start: Any) -> Iterable[bytes]:
        status, text = told(environ["PATH_INFO"])
        if environ["PATH_INFO"] in STREAMS:
            start("200 Whatever", [("Content-Type", "text/plain")])
            return pieces(environ["PATH_INFO"])
        start(f"{status} Whatever", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text.encode()]

    return wsgi.PaymentMiddleware(app, seller, PRICES)


def by_flask(seller: Seller) -> Any:
    app = Flask(__name__)
    payments = flask.Payments(app, seller)

    def view(path: str) -> Callable[[], Any]:
        @payments.required("$0.01")
        def one() -> Any:
            if path in STREAMS:
                return FlaskResponse(pieces(path), mimetype="text/plain")
            status, text = told(path)
            return text, status

        return one

    for path in PRICES:
        app.add_url_rule(path, path[1:], view(path), methods=["GET"])
    app.x402 = payments  # type: ignore[attr-defined]
    return app


def by_django(seller: Seller) -> Any:
    payments = django.Payments(seller)

    def view(request: HttpRequest) -> Any:
        if request.path in STREAMS:
            return StreamingHttpResponse(pieces(request.path), content_type="text/plain")
        status, text = told(request.path)
        return HttpResponse(text, status=status, content_type="text/plain")

    urls = ModuleType("tests_same_log_urls")
    urls.urlpatterns = [route(path[1:], payments.required("$0.01")(view)) for path in PRICES]  # type: ignore[attr-defined]
    return urls, payments


@contextmanager
def on_loop(build: Callable[[Seller], Any], ground: Ground, folder: Path, settle: str) -> Iterator[Any]:
    with Shop(ground, folder, door=build, settlement=QUICK, settle=settle) as shop:
        yield shop


@contextmanager
def on_threads(build: Callable[[Seller], Any], ground: Ground, folder: Path, settle: str) -> Iterator[Any]:
    stall = Stall(ground, folder, settle=settle)
    app = build(stall.seller)
    if isinstance(app, tuple):
        urls, payments = app
        middleware = ["x402bind.servers.django.PaymentMiddleware"]
        with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=middleware, X402_PAYMENTS=payments):
            stall.backgrounds.append(payments.background)
            with stall.werkzeug(WSGIHandler()):
                yield stall
        return
    stall.backgrounds.append(getattr(app, "x402", app).background)
    with stall.werkzeug(app):
        yield stall


DOORS: dict[str, tuple[Any, Callable[[Seller], Any]]] = {
    "asgi": (on_loop, by_asgi),
    "starlette": (on_loop, by_starlette),
    "fastapi": (on_loop, by_fastapi),
    "wsgi": (on_threads, by_wsgi),
    "flask": (on_threads, by_flask),
    "django": (on_threads, by_django),
}


# ------------------------------------------------------------------------------------------------------------ the transcript


def play(shop: Any, ground: Ground) -> list[tuple[int, bytes]]:
    """Make the requests of the transcript, one after another, and return what came back."""
    url, answers = shop.url, list[tuple[int, bytes]]()

    def ask(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> httpx.Response:
        answer = httpx.request(method, url + path, headers=headers, content=body, timeout=20)
        answers.append((answer.status_code, answer.content if answer.status_code == 200 and "/token" not in path else b""))
        return answer

    unpaid = ask("GET", "/paid")
    challenge = http.decode_402(ResponseHead(402, tuple(unpaid.headers.multi_items()), unpaid.content, url))
    by_v2 = next(offer for offer in challenge.offers if offer.dialect is Dialect.V2)
    by_token = next(offer for offer in challenge.offers if offer.dialect is Dialect.PERMIT_TOKEN)
    header = ground.payer().header(by_v2, ground)
    ask("GET", "/paid", {v2.PAYMENT_SIGNATURE: "%%%"})
    ask("GET", "/paid", header)
    ask("GET", "/paid", header)
    ask("GET", "/other", header)
    ask("GET", "/fails", ground.payer().header(by_v2, ground))
    buyer = ground.payer()
    bought = ask("POST", "/token?scope=%2Fother", body=token_body(buyer.permit(by_token, ground)))
    token = bought.json()["access_token"] if bought.status_code == 200 else "none"
    ask("GET", "/other", {"Authorization": f"Bearer {token}"})
    ask("GET", "/paid", {"Authorization": f"Bearer {token}"})
    return answers


def play_streams(shop: Any, ground: Ground) -> list[tuple[int, bytes]]:
    """Buy what streams, settled before: to its end, again, and what breaks off."""
    url, answers = shop.url, list[tuple[int, bytes]]()
    unpaid = httpx.get(url + "/streams")
    challenge = http.decode_402(ResponseHead(402, tuple(unpaid.headers.multi_items()), unpaid.content, url))
    offer = next(offer for offer in challenge.offers if offer.dialect is Dialect.V2)
    header = ground.payer().header(offer, ground)
    for path, headers in (("/streams", header), ("/streams", header), ("/breaks", ground.payer().header(offer, ground))):
        with httpx.stream("GET", url + path, headers=headers, timeout=20) as answer:
            try:
                answers.append((answer.status_code, answer.read() if answer.status_code == 200 else b""))
            except httpx.HTTPError:
                answers.append((answer.status_code, b"broke off"))
        until(lambda: all(each.claim is not ClaimState.CLAIMED for each in shop.seller.ledger.entries()))
    return answers


VARYING = re.compile(
    r"0x[0-9a-fA-F]{8,}|[A-Za-z0-9+/_=.-]{32,}|127\.0\.0\.1:\d+|\b\d{9,}\b|block=\d+|\\x[0-9a-f]{2}.*?(?=')|\d{4}-\d\d-\d\dT[^\"']+"
)


FRAMEWORKS_OWN = re.compile(r"\(\\?'content-(?:type|length)\\?', \\?'[^']*'\)(?:, )?", re.IGNORECASE)


def written(command: object) -> str:
    """Return a command as text that is the same from run to run."""
    return VARYING.sub("#", FRAMEWORKS_OWN.sub("", repr(command)))


@pytest.fixture(scope="module")
def logs(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], list[tuple[int, bytes]]]]:
    """Play the transcript at every door, noting every command of every machine."""
    found: dict[str, tuple[list[str], list[tuple[int, bytes]]]] = {}
    plain = module.steps
    for name, (serving, build) in DOORS.items():
        log: list[str] = []

        def noting(machine: Any, event: Any, clock: Any, log: list[str] = log) -> Any:
            driven = plain(machine, event, clock)
            answer, raised = None, None
            while True:
                try:
                    command = driven.throw(raised) if raised is not None else driven.send(answer)
                except StopIteration as stop:
                    if stop.value is not None:
                        log.append(written(stop.value))
                    return stop.value
                log.append(written(command))
                try:
                    answer, raised = (yield command), None
                except BaseException as error:  # noqa: BLE001 - handed on to the machine, as a driver does
                    raised = error

        answers = []
        for settle, transcript in (("after", play), ("before", play_streams)):
            with (
                pytest.MonkeyPatch.context() as patch,
                serving(build, ground, tmp_path_factory.mktemp(name), settle) as shop,
            ):
                patch.setattr(module, "steps", noting)
                answers += transcript(shop, ground)
        found[name] = (log, answers)
    return found


@pytest.mark.parametrize("door", [name for name in DOORS if name != "asgi"])
def test_every_door_asks_and_answers_alike(logs: dict[str, Any], door: str) -> None:
    (log, answers), (expected, expected_answers) = logs[door], logs["asgi"]
    assert answers == expected_answers
    assert "\n".join(log) == "\n".join(expected)


def test_the_transcript_is_worth_comparing(logs: dict[str, Any]) -> None:
    log, answers = logs["asgi"]
    assert [status for status, _ in answers] == [402, 400, 200, 200, 402, 404, 200, 200, 402, 200, 402, 200]
    assert [body for _, body in answers[-3:]] == [b"firstlast", b"", b"broke off"]
    kinds = [line.partition("(")[0] for line in log]
    for kind in ("RecallPayment", "VerifyPayment", "ClaimPayment", "InvokeHandler", "SettlePayment", "CommitClaim"):
        assert kind in kinds
    assert {"RecordIntent", "CheckPayment", "ReleaseClaim", "StreamResponse", "KeepClaim", "ReportRefundDue"} <= set(kinds)
    assert len(log) > 25, len(log)
