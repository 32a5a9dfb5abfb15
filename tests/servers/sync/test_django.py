"""Django: views of every kind, priced, behind its own handlers and on a real chain; and prices nobody would be asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import django
import httpx
import pytest
from django.conf import settings
from django.core import checks
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import override_settings
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View

from tests.servers.sync.stall import Stall, buying
from tests.servers.visitor import visit
from tests.shop import Ground, Payer
from x402core.errors import LocalProtocolError
from x402core.events import Dialect
from x402core.wire import v2

OURS, CSRF = "x402bind.servers.django.PaymentMiddleware", "django.middleware.csrf.CsrfViewMiddleware"
if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="x",
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[],
        USE_TZ=True,
        LOGGING_CONFIG=None,
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    )
    django.setup()

from x402bind.servers.django import Payments  # noqa: E402 - after the settings

urlpatterns: list[Any] = []


class Shop(Stall):
    """A Django application with payments; ``runs`` counts what views were run."""

    def __init__(self, ground: Ground, folder: Path, *, edge: Any = None, **seller: Any) -> None:
        super().__init__(ground, folder, **seller)
        self.payments = Payments(self.seller, **(edge or {}))
        self.backgrounds.append(self.payments.background)
        self.runs: list[str] = []
        self.urls: list[Any] = []

    def view(self, name: str, answer: Callable[[], Any] | None = None) -> Any:
        def view(request: Any, **given: Any) -> Any:
            self.runs.append(name)
            if answer is not None:
                return answer()
            paid = getattr(request, "x402", None)
            said = {"view": name, "paid_by": paid and paid.payer, "reference": paid and paid.reference, **given}
            return JsonResponse({**said, "body": request.body.decode()})

        view.__name__ = view.__qualname__ = name
        return view

    def sell(self, route: str, name: str, price: Any = "$0.01", answer: Any = None, **how: Any) -> None:
        self.urls.append(path(route, self.payments.required(price, **how)(self.view(name, answer))))

    @contextmanager
    def configured(self, *middleware: str) -> Iterator[None]:
        urls = ModuleType("urls")
        urls.urlpatterns = self.urls  # type: ignore[attr-defined]
        with override_settings(ROOT_URLCONF=urls, X402_PAYMENTS=self.payments, MIDDLEWARE=[*(middleware or (OURS, CSRF))]):
            yield

    @contextmanager
    def wsgi(self, *middleware: str) -> Iterator[str]:
        with self.configured(*middleware), self.werkzeug(WSGIHandler()) as url:
            yield url


@pytest.fixture
def payer(ground: Ground) -> Payer:
    return ground.payer()


@pytest.fixture
def open_shop(ground: Ground, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(**how: Any) -> Shop:
        made.append(Shop(ground, tmp_path, **how))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("dialect", [Dialect.V2, Dialect.V1, Dialect.PERMIT_TOKEN])
def test_money_moves_in_every_dialect(ground: Ground, open_shop: Any, dialect: Dialect, payer: Payer) -> None:
    shop = open_shop()
    shop.sell("items/<int:number>/", "item", reference=lambda request: request.path, tags=("a",))
    shop.urls.append(path("free", shop.view("free")))
    with shop.wsgi() as url, buying(payer, ground, dialect) as (paying, _):
        assert httpx.get(f"{url}/free").json()["paid_by"] is None
        asked = httpx.get(f"{url}/items/7/")
        assert (asked.status_code, asked.json()["accepts"][0]["resource"]) == (402, f"{url}/items/7/")
        for _ in range(2):
            got = paying.post(f"{url}/items/7/", content=b"the body")
            assert (got.status_code, got.headers["cache-control"]) == (200, "private")
            said = got.json()
            assert (said["paid_by"], said["body"], said["number"]) == (payer.address, "the body", 7)
            assert said["reference"] == "/items/7/"
        shop.settled(1)
        assert shop.earned == (1 if dialect is Dialect.PERMIT_TOKEN else 2)
    assert shop.runs == ["free", "item", "item"]


def test_tokens_are_sold_without_the_middleware_too(ground: Ground, open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    shop.sell("paid", "paid")
    with shop.configured(CSRF), pytest.raises(LocalProtocolError, match=r"payments\.token"):
        shop.payments.check()
    shop.urls.append(path("token", shop.payments.token))
    with shop.wsgi(CSRF) as url, buying(payer, ground, Dialect.PERMIT_TOKEN) as (paying, _):
        assert paying.post(f"{url}/paid").status_code == 200
        shop.settled(1)
        assert shop.earned == 1


def test_eight_threads_with_one_permit_run_the_view_once(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    shop.sell("paid", "paid")
    together, headers = threading.Barrier(8), shop.header(payer)
    with shop.wsgi() as url, ThreadPoolExecutor(8) as pool:

        def buy(_: int) -> int:
            together.wait(10)
            return httpx.get(f"{url}/paid", headers=headers, timeout=30).status_code

        statuses = sorted(pool.map(buy, range(8)))
        assert (shop.runs, shop.earned, statuses[0]) == (["paid"], 1, 200)
        assert set(statuses) <= {200, 409, 503}


# ---------------------------------------------------------------------------------------------------------- views of all kinds


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda: HttpResponse("no", status=404), 404),
        (lambda: _raise(Http404()), 404),
        (lambda: _raise(PermissionDenied()), 403),
        (lambda: _raise(ValueError("no")), 500),
        (lambda: None, 500),
        (lambda: StreamingHttpResponse(60 * b"x" for _ in range(9)), 500),
        (lambda: HttpResponse(501 * "x"), 500),
    ],
)
def test_what_fails_is_not_charged_for(open_shop: Any, answer: Any, status: int, payer: Payer) -> None:
    shop = open_shop(edge={"hold_most": 500})
    failing = [answer]
    shop.sell("paid", "paid", answer=lambda: failing[0]())
    headers = shop.header(payer)
    with shop.wsgi() as url:
        got = httpx.get(f"{url}/paid", headers=headers)
        assert (got.status_code, v2.PAYMENT_RESPONSE in got.headers, shop.earned) == (status, False, 0)
        failing[0] = lambda: HttpResponse("well")
        assert httpx.get(f"{url}/paid", headers=headers).text == "well"
        assert (shop.earned, len(shop.runs)) == (1, 2)


def _cookies() -> HttpResponse:
    headers = {"Cache-Control": "public, max-age=9", "Vary": "Accept", "Settlement-Overrides": '{"amount":"100%"}'}
    response = HttpResponse("ok", headers=headers)
    response.set_cookie("a", "1", httponly=True, samesite="Lax")
    response.set_cookie("b", "2", max_age=7)
    return response


async def _pieces() -> AsyncIterator[bytes]:
    yield b"as"
    yield b"ync"


def test_whatever_a_view_may_return(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    template = engines["django"].from_string("{{ word }}")
    kinds: dict[str, tuple[Any, bytes]] = {
        "cookies": (_cookies, b"ok"),
        "stream": (lambda: StreamingHttpResponse(iter([b"a", b"b"])), b"ab"),
        "file": (lambda: FileResponse(Path(__file__).open("rb")), Path(__file__).read_bytes()),  # noqa: SIM115
        "template": (lambda: TemplateResponse(None, template, {"word": "rendered"}), b"rendered"),
        "empty": (lambda: HttpResponse(status=204), b""),
    }
    for name, (answer, _) in kinds.items():
        shop.sell(name, name, answer=answer)
    with shop.wsgi() as url:
        for count, (name, (_, body)) in enumerate(kinds.items(), 1):
            headers = shop.header(payer, f"/{name}")
            for _ in range(2):  # the second is a replay
                got = httpx.get(f"{url}/{name}", headers=headers)
                assert (name, got.status_code // 100, got.content, shop.earned) == (name, 2, body, count)
                assert (v2.PAYMENT_RESPONSE in got.headers, "settlement-overrides" in got.headers) == (True, False)
                assert "public" not in got.headers["cache-control"]
                if name == "cookies":
                    cookies = got.headers.get_list("set-cookie")
                    assert [each.partition(";")[0] for each in cookies] == ["a=1", "b=2"]
                    assert "HttpOnly" in cookies[0]
                    assert {"Accept", "Authorization"} <= {each.strip() for each in got.headers["vary"].split(",")}
        assert len(shop.runs) == len(kinds)


def test_a_stream_that_breaks_off_is_a_refund_due_and_can_be_had_again(open_shop: Any, payer: Payer) -> None:
    due: list[Any] = []
    shop = open_shop(settle="before", on_refund_due=due.append)
    broken = [True]

    def pieces() -> Iterator[bytes]:
        yield b"first"
        if broken:
            raise ValueError("late")
        yield b"last"

    shop.sell("paid", "paid", answer=lambda: StreamingHttpResponse(pieces()))
    headers = shop.header(payer)
    with shop.wsgi() as url:
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/paid", headers=headers)
        assert [each.payer for each in due] == [payer.address]
        broken.clear()
        assert httpx.get(f"{url}/paid", headers=headers).content == b"firstlast"
        assert httpx.get(f"{url}/paid", headers=headers).status_code == 402
    assert (shop.earned, len(due)) == (1, 1)


def test_a_stream_settled_before_flows_from_its_first_piece(open_shop: Any, payer: Payer) -> None:
    shop = open_shop(settle="before", edge={"hold_most": 100})
    go = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert go.wait(10)
        yield 200 * b"x"

    shop.sell("paid", "paid", answer=lambda: StreamingHttpResponse(pieces()))
    with shop.wsgi() as url, httpx.stream("GET", f"{url}/paid", headers=shop.header(payer), timeout=30) as response:
        parts = response.iter_raw()
        assert (next(parts), bool(response.headers[v2.PAYMENT_RESPONSE]), shop.earned) == (b"first", True, 1)
        go.set()
        assert b"".join(parts) == 200 * b"x"


def _classes(shop: Shop) -> tuple[Any, ...]:
    required = shop.payments.required

    @method_decorator(required("$0.01"), name="dispatch")
    class Whole(View):
        def get(self, request: Any) -> Any:
            shop.runs.append("whole")
            return HttpResponse("whole")

        post = get

    class Parts(View):
        @method_decorator(required("$0.01"))
        def get(self, request: Any) -> Any:
            return HttpResponse("cheap")

        @method_decorator(required("$0.02"))
        def post(self, request: Any) -> Any:
            return HttpResponse("dear")

        def put(self, request: Any) -> Any:
            return HttpResponse("free")

    @method_decorator(required("$0.01"), name="dispatch")
    class Later(View):
        async def get(self, request: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return HttpResponse("later")

    return Whole, Parts, Later


def test_class_views_and_methods(ground: Ground, open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    shop.urls += [path(each.__name__.lower(), each.as_view()) for each in _classes(shop)]
    with shop.wsgi() as url, buying(payer, ground) as (paying, _):
        assert [httpx.get(f"{url}/{name}").status_code for name in ("whole", "parts", "later")] == [402, 402, 402]
        assert httpx.post(f"{url}/whole").status_code == httpx.post(f"{url}/parts").status_code == 402
        assert httpx.put(f"{url}/parts").status_code == 403  # free, and not exempt
        got = [paying.request(*each).text for each in (("POST", f"{url}/whole"), ("GET", f"{url}/later"))]
        assert (got, shop.earned) == (["whole", "later"], 2)
        got = [paying.request(method, f"{url}/parts").text for method in ("GET", "POST")]
        assert (got, shop.earned) == (["cheap", "dear"], 5)
        assert len(shop.payments._gates) == 4


def test_a_token_for_one_method_does_not_open_another(ground: Ground, open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    shop.urls += [path(each.__name__.lower(), each.as_view()) for each in _classes(shop)]
    with shop.wsgi() as url, buying(payer, ground, Dialect.PERMIT_TOKEN) as (paying, wire):
        assert paying.get(f"{url}/parts").text == "cheap"
        token = wire.sent[-1].headers["Authorization"]
        assert httpx.get(f"{url}/parts", headers={"Authorization": token}).text == "cheap"
        assert httpx.post(f"{url}/parts", headers={"Authorization": token}).status_code == 402
        shop.settled(1)


def test_head_is_sold_without_its_body(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    shop.sell("paid", "paid")
    with shop.wsgi() as url:
        asked = httpx.head(f"{url}/paid")
        assert (asked.status_code, int(asked.headers["content-length"]) > 0) == (402, True)
        assert httpx.head(f"{url}/paid", headers=shop.header(payer)).status_code == 200
        assert shop.earned == 1


# --------------------------------------------------------------------------------------------------------------- async views


def _async_shop(shop: Shop) -> None:
    async def waits(request: Any) -> Any:
        shop.runs.append("async")
        await anyio.lowlevel.checkpoint()
        return JsonResponse({"paid_by": request.x402.payer, "body": request.body.decode()})

    async def streams(request: Any) -> Any:
        return StreamingHttpResponse(_pieces())

    shop.urls += [path("paid", shop.payments.required("$0.01")(waits)), path("other", shop.payments.required("$0.01")(streams))]


def test_async_views_under_wsgi(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    _async_shop(shop)
    with shop.wsgi() as url:
        got = httpx.post(f"{url}/paid", headers=shop.header(payer), content=b"x")
        assert (got.json(), shop.earned) == ({"paid_by": payer.address, "body": "x"}, 1)


def test_an_async_stream_that_breaks_off_is_a_refund_due_and_can_be_had_again(open_shop: Any, payer: Payer) -> None:
    due: list[Any] = []
    shop = open_shop(settle="before", on_refund_due=due.append)
    broken = [True]

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        if broken:
            raise ValueError("late")
        yield b"last"

    async def streams(request: Any) -> Any:
        return StreamingHttpResponse(pieces())

    shop.urls.append(path("paid", shop.payments.required("$0.01")(streams)))
    with shop.configured():
        app = ASGIHandler()

        async def test() -> None:
            headers = shop.header(payer)
            with pytest.raises(ValueError, match="late"):
                await visit(app, "/paid", headers=headers)
            assert [each.payer for each in due] == [payer.address]
            broken.clear()
            assert (await visit(app, "/paid", headers=headers)).body == b"firstlast"
            assert (await visit(app, "/paid", headers=headers)).status == 402

        anyio.run(test)
    assert (shop.earned, len(due)) == (1, 1)


@pytest.mark.parametrize("settle", ["after", "before"])
def test_async_views_under_asgi(open_shop: Any, settle: str, payer: Payer) -> None:
    shop = open_shop(settle=settle)
    _async_shop(shop)
    shop.sell("sync", "sync")
    shop.urls.append(path("free", shop.view("free")))
    with shop.configured():
        app = ASGIHandler()

        async def test() -> None:
            assert (await visit(app, "/paid")).status == 402
            assert (await visit(app, "/free")).status == 200
            got = await visit(app, "/paid", headers=shop.header(payer), method="POST", body=b"x")
            assert (got.status, json.loads(got.body)) == (200, {"paid_by": payer.address, "body": "x"})
            assert (await visit(app, "/other", headers=shop.header(payer, "/other"))).body == b"async"
            assert json.loads((await visit(app, "/sync", headers=shop.header(payer, "/sync"))).body)["view"] == "sync"

        anyio.run(test)
    assert shop.earned == 3


# ------------------------------------------------------------------------------------------------------------ prices by path


def test_prices_by_path(ground: Ground, open_shop: Any, payer: Payer) -> None:
    shop = open_shop(edge={"prices": {"/Shop/paid": "$0.01"}})
    inner = [path("paid", shop.view("paid")), path("free", shop.view("free"))]
    shop.urls += [path("Shop/", include(inner)), re_path("^(?i:x)/paid$", shop.view("other"))]
    with shop.wsgi() as url:
        for spelling in ("/Shop/paid", "/shop/PAID", "//Shop/paid", "/Shop%2Fpaid", "/Shop/./paid", "/x/../Shop/paid"):
            assert httpx.post(f"{url}{spelling}").status_code == 402
        assert httpx.get(f"{url}/Shop/free").status_code == 200
        for dialect in (Dialect.V2, Dialect.PERMIT_TOKEN):
            with buying(payer, ground, dialect) as (paying, _):
                assert paying.post(f"{url}/Shop/paid", content=b"x").json()["body"] == "x"
        assert httpx.post(f"{url}/Shop/free").status_code == 403
        shop.settled(2)
        assert shop.earned == 2


@pytest.mark.parametrize("priced", [{"prices": {"/paid": "$0.01"}}, {"default": "$0.01"}])
def test_prices_by_path_under_asgi(open_shop: Any, priced: Any, payer: Payer) -> None:
    shop = open_shop(edge=priced, token_key=None)
    shop.urls.append(path("paid", shop.view("paid")))
    with shop.configured():
        app = ASGIHandler()

        async def test() -> None:
            assert (await visit(app, "/paid")).status == 402
            got = await visit(app, "/paid", headers=shop.header(payer), method="POST")
            assert json.loads(got.body)["paid_by"] == payer.address

        anyio.run(test)
    assert shop.earned == 1


# ------------------------------------------------------------------------------------------------------------ misplaced prices


def _refused(shop: Shop, *said: str) -> None:
    with shop.configured():
        for text in said:
            with pytest.raises(LocalProtocolError, match=text):
                shop.payments.check()
        assert said[0] in " ".join(each.msg for each in checks.run_checks(tags=["urls"]) if each.id == "x402.E001")
    with shop.wsgi() as url:
        for each in ("/paid", "/free", "/nowhere"):
            assert httpx.get(f"{url}{each}").status_code == 500
    assert shop.runs == []


@pytest.mark.parametrize("said", ["tests.servers.sync.test_django", "tests.servers.nothing", "nothing", 5])
def test_a_setting_that_names_no_payments_is_refused_by_its_name(open_shop: Any, said: Any) -> None:
    shop = open_shop()
    shop.sell("paid", "paid")
    with shop.configured(), override_settings(X402_PAYMENTS=said):
        (told,) = [each.msg for each in checks.run_checks(tags=["urls"]) if each.id == "x402.E001"][-1:]
        assert told.startswith("X402_PAYMENTS: ")
        assert "'shop.payments.payments'" in told
        with pytest.raises(LocalProtocolError, match="X402_PAYMENTS"):
            WSGIHandler()


def test_a_route_without_its_price_is_refused(open_shop: Any) -> None:
    shop = open_shop()
    view = shop.view("paid")
    shop.urls += [path("paid", view), path("free", shop.view("free"))]
    shop.payments.required("$0.01")(view)
    _refused(shop, "served free at /paid", "test_django.py:")


def test_a_price_on_no_route_is_refused(open_shop: Any) -> None:
    shop = open_shop()
    shop.urls.append(path("free", shop.view("free")))
    _classes(shop)

    @shop.payments.required("$0.01")
    def forgotten(request: Any) -> Any:
        return HttpResponse("x")

    _refused(shop, "is on no route", "forgotten", r"test_django.py:\d+ is on no route")


def test_a_view_with_two_prices_is_refused(open_shop: Any) -> None:
    shop = open_shop(edge={"prices": {"/paid": "$0.01"}})
    shop.sell("paid", "paid")
    _refused(shop, "two prices")


def test_prices_by_path_need_the_middleware(open_shop: Any) -> None:
    shop = open_shop(edge={"prices": {"/paid": "$0.01"}}, token_key=None)
    with shop.configured(CSRF), pytest.raises(LocalProtocolError, match="middleware"):
        shop.payments.check()


def test_a_price_below_other_decorators_is_found(open_shop: Any) -> None:
    shop = open_shop()

    def other(view: Any) -> Any:
        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        return wrapper

    shop.urls.append(path("paid", other(shop.payments.required("$0.01")(other(shop.view("paid"))))))
    with shop.wsgi() as url:
        assert httpx.post(f"{url}/paid").status_code == 402
    assert shop.runs == []
