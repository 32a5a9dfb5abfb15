"""Flask: views of every kind, priced, behind werkzeug's server and on a real chain; and prices nobody would be asked for."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from flask.views import MethodView, View

from tests.servers.sync.stall import Stall, buying
from tests.servers.test_asgi import SPELLINGS
from tests.shop import Ground, Payer
from x402bind.paywall import Paywall
from x402bind.pricing import Listing
from x402bind.servers.flask import Payments
from x402bind.servers.marks import NotSold
from x402core.errors import LocalProtocolError
from x402core.events import Dialect
from x402core.wire import v2


class Shop(Stall):
    """A Flask application with payments; ``runs`` counts what views were run."""

    def __init__(self, ground: Ground, folder: Path, *, edge: Any = None, **seller: Any) -> None:
        super().__init__(ground, folder, **seller)
        self.app = flask.Flask("shop")
        self.payments = Payments(self.app, self.seller, **(edge or {}))
        self.backgrounds.append(self.payments.background)
        self.runs: list[str] = []

    def view(self, name: str, status: int = 200) -> Callable[..., Any]:
        def view(**given: Any) -> Any:
            self.runs.append(name)
            paid = flask.g.get("x402")
            said = {"view": name, "paid_by": paid and paid.payer, "body": flask.request.get_data(as_text=True), **given}
            return {**said, "reference": paid and paid.reference}, status

        view.__name__ = view.__qualname__ = name
        return view

    def sell(self, rule: str, name: str, price: Any = "$0.01", **how: Any) -> None:
        self.app.add_url_rule(rule, view_func=self.payments.required(price)(self.view(name)), **how)

    def get(self, path: str = "/paid", headers: Any = None, method: str = "GET", **how: Any) -> Any:
        return self.app.test_client().open(path, method=method, headers=headers, **how)


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
    shop.sell("/items/<int:number>", "item", methods=["GET", "POST"])
    shop.app.add_url_rule("/free", view_func=shop.view("free"))
    with shop.werkzeug(shop.app) as url, buying(payer, ground, dialect) as (paying, _):
        assert httpx.get(f"{url}/free").json()["paid_by"] is None
        asked = httpx.get(f"{url}/items/7")
        assert (asked.status_code, asked.json()["accepts"][0]["resource"]) == (402, f"{url}/items/7")
        for _ in range(2):
            got = paying.post(f"{url}/items/7", content=b"the body")
            assert (got.status_code, got.headers["cache-control"]) == (200, "private")
            assert (got.json()["paid_by"], got.json()["body"], got.json()["number"]) == (payer.address, "the body", 7)
        shop.settled(1)
        assert shop.earned == (1 if dialect is Dialect.PERMIT_TOKEN else 2)
    assert shop.runs == ["free", "item", "item"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_spelling_is_served_free(open_shop: Any, method: str) -> None:
    shop = open_shop()
    shop.sell("/paid", "paid", methods=["GET", "POST"])
    blueprint = flask.Blueprint("b", "b", url_prefix="/b")
    blueprint.add_url_rule("/paid", view_func=shop.payments.required("$0.01")(shop.view("inside")), methods=["GET", "POST"])
    outer = flask.Blueprint("outer", "outer", url_prefix="/o")
    outer.register_blueprint(blueprint)
    shop.app.register_blueprint(outer)
    with shop.werkzeug(shop.app):
        for target in (*SPELLINGS, *(f"/o/b{spelling}" for spelling in SPELLINGS), "/o//b/paid", "/o%2Fb%2Fpaid"):
            with socket.create_connection(("127.0.0.1", int(shop.url.rpartition(":")[2])), timeout=10) as raw:
                raw.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                with raw.makefile("rb") as reply:
                    status = int(reply.readline().split()[1])
            assert status in (402, 404, 308), target
        assert httpx.request(method, f"{shop.url}/o/b/paid").status_code == 402
    assert shop.runs == []


def test_eight_threads_with_one_permit_run_the_view_once(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    shop.sell("/paid", "paid")
    together, headers = threading.Barrier(8), shop.header(payer)
    with shop.werkzeug(shop.app) as url, ThreadPoolExecutor(8) as pool:

        def buy(_: int) -> int:
            together.wait(10)
            return httpx.get(f"{url}/paid", headers=headers, timeout=30).status_code

        statuses = sorted(pool.map(buy, range(8)))
        assert (shop.runs, shop.earned, statuses[0]) == (["paid"], 1, 200)
        assert set(statuses) <= {200, 409, 503}


# --------------------------------------------------------------------------------------------------------- views of all kinds


def test_what_a_view_gives_up_with_is_not_charged_for(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    how: list[Any] = [None]

    @shop.app.get("/paid")
    @shop.payments.required("$0.01")
    def paid() -> Any:
        if how[0] is not None:
            raise how[0]
        return "well"

    class Mine(Exception):
        pass

    class Fine(Exception):
        pass

    @shop.app.errorhandler(Mine)
    def mine(error: Mine) -> Any:
        return "mine", 418

    @shop.app.errorhandler(Fine)
    def fine(error: Fine) -> Any:
        return "fine", 200

    headers = shop.header(payer)
    for error, status in ((Mine(), 418), (ValueError("no"), 500), (httpx.ReadError("x"), 500)):
        how[0] = error
        got = shop.get(headers=headers)
        assert (got.status_code, v2.PAYMENT_RESPONSE in got.headers, shop.earned) == (status, False, 0)
    shop.app.config["TESTING"] = True
    how[0] = ValueError("to the server")
    with pytest.raises(ValueError, match="to the server"):
        shop.get(headers=headers)
    how[0] = Fine()
    got = shop.get(headers=headers)  # a handler that makes a good answer of it sells it
    assert (got.status_code, got.text, shop.earned) == (200, "fine", 1)


def test_a_404_of_the_view_is_not_charged_for(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()

    @shop.app.get("/paid")
    @shop.payments.required("$0.01")
    def paid() -> Any:
        shop.runs.append("paid")
        flask.abort(404)

    headers = shop.header(payer)
    for runs in (1, 2):
        assert (shop.get(headers=headers).status_code, len(shop.runs), shop.earned) == (404, runs, 0)


def test_whatever_a_view_may_return(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()

    @flask.stream_with_context
    def stream() -> Iterator[str]:
        yield flask.request.path
        yield "!"

    def later() -> Any:
        @flask.after_this_request
        def cookies(response: Any) -> Any:
            response.set_cookie("a", "1")
            response.set_cookie("b", "2")
            return response

        return flask.make_response("ok")

    kinds: dict[str, tuple[Any, bytes]] = {
        "text": (lambda: "text", b"text"),
        "tuple": (lambda: ("made", 201, {"X-Shop": "1", "Settlement-Overrides": '{"amount":"100%"}'}), b"made"),
        "json": (lambda: [1], b"[1]\n"),
        "stream": (stream, b"/stream!"),
        "later": (later, b"ok"),
        "file": (lambda: flask.send_file(__file__), Path(__file__).read_bytes()),
        "empty": (lambda: ("", 204), b""),
    }

    async def waits() -> str:
        return "async"

    def yields() -> Iterator[str]:
        yield "a"
        yield "b"

    kinds |= {"async": (waits, b"async"), "generator": (yields, b"ab")}
    for name, (view, _) in kinds.items():
        shop.app.add_url_rule(f"/{name}", name, shop.payments.required("$0.01")(view))
    for count, (name, (_, body)) in enumerate(kinds.items(), 1):
        headers = shop.header(payer, f"/{name}")
        for _ in range(2):  # the second is a replay
            got = shop.get(f"/{name}", headers=headers)
            assert (name, got.status_code // 100, got.data, shop.earned) == (name, 2, body, count)
            assert (v2.PAYMENT_RESPONSE in got.headers, "Settlement-Overrides" in got.headers) == (True, False)
            if name == "later" and _ == 0:
                assert [each.partition(";")[0] for each in got.headers.getlist("Set-Cookie")] == ["a=1", "b=2"]


def test_a_stream_that_breaks_off_is_a_refund_due_and_can_be_had_again(open_shop: Any, payer: Payer) -> None:
    due: list[Any] = []
    shop = open_shop(settle="before", on_refund_due=due.append)
    broken = [True]

    def pieces() -> Iterator[bytes]:
        yield b"first"
        if broken:
            raise ValueError("late")
        yield b"last"

    @shop.app.get("/paid")
    @shop.payments.required("$0.01")
    def paid() -> Any:
        return flask.Response(pieces())

    headers = shop.header(payer)
    with shop.werkzeug(shop.app) as url:
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/paid", headers=headers)
        assert [each.payer for each in due] == [payer.address]
        broken.clear()
        assert httpx.get(f"{url}/paid", headers=headers).content == b"firstlast"
        assert httpx.get(f"{url}/paid", headers=headers).status_code == 402
    assert (shop.earned, len(due)) == (1, 1)


def test_a_stream_settled_before_flows_from_its_first_piece(open_shop: Any, payer: Payer) -> None:
    shop = open_shop(settle="before", edge={"hold_most": 100})
    go, closed = threading.Event(), threading.Event()

    @shop.app.get("/paid")
    @shop.payments.required("$0.01")
    def paid() -> Any:
        def pieces() -> Iterator[bytes]:
            try:
                yield b"first"
                assert go.wait(10)
                yield 200 * b"x"
            finally:
                closed.set()

        return flask.Response(pieces())

    with shop.werkzeug(shop.app) as url:
        with httpx.stream("GET", f"{url}/paid", headers=shop.header(payer), timeout=30) as response:
            parts = response.iter_raw()
            assert (next(parts), bool(response.headers[v2.PAYMENT_RESPONSE]), shop.earned) == (b"first", True, 1)
            go.set()
            assert b"".join(parts) == 200 * b"x"
        assert closed.wait(10)


def test_a_response_too_large_to_hold_is_not_charged_for(open_shop: Any, payer: Payer) -> None:
    shop = open_shop(edge={"hold_most": 100})
    closed: list[int] = []

    def stream() -> Any:
        response = flask.Response(60 * "x" for _ in range(9))
        response.call_on_close(lambda: closed.append(1))
        return response

    shop.app.add_url_rule("/paid", "whole", shop.payments.required("$0.01")(lambda: 101 * "x"))
    shop.app.add_url_rule("/other", "stream", shop.payments.required("$0.01")(stream))
    for path in ("/paid", "/other"):
        assert shop.get(path, headers=shop.header(payer, path)).status_code == 500
    assert (shop.earned, closed) == (0, [1])


def test_class_views_and_methods(ground: Ground, open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    required = shop.payments.required

    class Whole(View):
        decorators = [required("$0.01")]  # noqa: RUF012 - as Flask has it

        def dispatch_request(self) -> Any:
            return "whole"

    class Parts(MethodView):
        @required("$0.01")
        def get(self) -> Any:
            return "cheap"

        @required("$0.02")
        def post(self) -> Any:
            return "dear"

        def put(self) -> Any:
            return "free"

    shop.app.add_url_rule("/whole", view_func=Whole.as_view("whole"))
    shop.app.add_url_rule("/parts", view_func=Parts.as_view("parts"))
    assert [shop.get(f"/{name}").status_code for name in ("whole", "parts")] == [402, 402]
    assert (shop.get("/parts", method="PUT").text, shop.get("/parts", method="HEAD").status_code) == ("free", 402)
    allowed = shop.get("/parts", method="OPTIONS")
    assert (allowed.status_code, "POST" in allowed.headers["Allow"]) == (200, True)
    with shop.werkzeug(shop.app) as url, buying(payer, ground, Dialect.PERMIT_TOKEN) as (paying, wire):
        assert (paying.get(f"{url}/parts").text, paying.get(f"{url}/parts").text) == ("cheap", "cheap")
        token = wire.sent[-1].headers["Authorization"]
        assert httpx.post(f"{url}/parts", headers={"Authorization": token}).status_code == 402  # it opens the cheap one only
        shop.settled(1)  # permits of one payer count up
        assert paying.post(f"{url}/parts").text == "dear"
        shop.settled(2)
        assert paying.get(f"{url}/whole").text == "whole"
        shop.settled(3)
        assert shop.earned == 4


def test_head_is_sold_without_its_body(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    shop.sell("/paid", "paid")
    asked = shop.get(method="HEAD")
    assert (asked.status_code, asked.data) == (402, b"")
    got = shop.get(method="HEAD", headers=shop.header(payer))
    assert (got.status_code, got.data, shop.earned) == (200, b"", 1)


def test_a_price_and_a_reference_of_the_request(ground: Ground, open_shop: Any, payer: Payer) -> None:
    shop = open_shop(edge={"paywall": Paywall(brand="News")})

    def price(request: flask.Request) -> str:
        if request.args.get("who") == "banned":
            flask.abort(403)
        return "$0.02" if request.get_json()["twice"] else "$0.01"

    listing = Listing(price, reference=lambda request: request.view_args["name"], tags=("a",))
    shop.sell("/<name>", "paid", listing, methods=["POST"])
    shop.sell("/page", "page")
    with shop.werkzeug(shop.app) as url, buying(payer, ground) as (paying, _):
        got = paying.post(f"{url}/you?x=1", content=b'{"twice": true}', headers={"Content-Type": "application/json"})
        assert (got.status_code, got.json()["reference"], got.json()["body"]) == (200, "you", '{"twice": true}')
        assert shop.earned == 2
        assert httpx.post(f"{url}/you?who=banned", json={"twice": True}).status_code == 403
        page = httpx.get(f"{url}/page", headers={"Accept": "text/html", "User-Agent": "Mozilla/5.0"})
        assert (page.status_code, "<html" in page.text) == (402, True)


def test_bodies_are_capped_and_forms_can_be_read(open_shop: Any, payer: Payer) -> None:
    shop = open_shop(edge={"body_most": 100})

    @shop.app.post("/paid")
    @shop.payments.required("$0.01")
    def paid() -> Any:
        return {**flask.request.form, "file": flask.request.files["f"].read().decode() if flask.request.files else None}

    headers = shop.header(payer)
    assert shop.get(method="POST", headers=headers, data=101 * b"x").status_code == 413
    got = shop.get(method="POST", headers=headers, data={"a": "1"})
    assert (got.status_code, got.json, shop.earned) == (200, {"a": "1", "file": None}, 1)
    assert shop.get(method="POST", headers=headers, data={"a": "2"}).status_code == 402


def test_a_body_that_was_begun_before_is_bound_all_the_same(open_shop: Any, payer: Payer) -> None:
    shop = open_shop()
    shop.app.before_request(lambda: flask.request.get_data() and None)
    shop.sell("/paid", "paid", methods=["POST"])
    headers = shop.header(payer)
    assert shop.get(method="POST", headers=headers, data=b"x").json["body"] == "x"
    assert shop.get(method="POST", headers=headers, data=b"y").status_code == 402


@pytest.mark.parametrize("size", [0, 99, 100, 101, 100_000])
@pytest.mark.parametrize("said", [True, False], ids=["length", "chunked"])
def test_a_payment_where_nothing_is_sold_takes_nothing_of_the_body(open_shop: Any, size: int, said: bool) -> None:
    shop = open_shop(edge={"body_most": 100})
    shop.app.post("/free")(lambda: str(sum(1 for _ in iter(lambda: flask.request.stream.read(1), b""))))
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(size * b"x")}
    how = {"data": size * b"x"} if said else {"environ_overrides": chunked}
    assert shop.get("/free", method="POST", headers={"X-PAYMENT": "e30="}, **how).text == str(size)


@pytest.mark.parametrize("value", ["", "a", "a.b.c", 5000 * "a", "e30=", "eyJ4NDAyVmVyc2lvbiI6OTl9"])
def test_garbage_is_refused(open_shop: Any, value: str) -> None:
    shop = open_shop()
    shop.sell("/paid", "paid")
    for name in (v2.PAYMENT_SIGNATURE, "X-PAYMENT", "Authorization"):
        assert shop.get(headers={name: value}).status_code in (400, 402)
    assert shop.get("/token", method="POST", data=value.encode()).status_code == 400
    assert shop.get("/token?scope=/other", method="POST", data=b"{}").status_code == 404
    assert shop.runs == []


# ------------------------------------------------------------------------------------------------------------ misplaced prices


def _refused(shop: Shop, *said: str) -> None:
    for _ in range(2):
        with pytest.raises(LocalProtocolError) as caught:
            shop.payments.check()
        for text in (*said, "test_flask.py:"):
            assert text in str(caught.value)
    for path in ("/paid", "/free", "/nowhere"):
        assert shop.get(path).status_code == 500
    assert shop.runs == []


def test_a_price_above_the_route_is_refused(open_shop: Any) -> None:
    shop = open_shop()
    shop.app.add_url_rule("/free", view_func=shop.view("free"))

    @shop.payments.required("$0.01")
    @shop.app.get("/paid")
    def wrongly_placed() -> str:
        shop.runs.append("paid")
        return "free"

    _refused(shop, "wrongly_placed", "served free at /paid", "under the route's decorator")


def test_a_price_on_no_route_is_refused(open_shop: Any) -> None:
    shop = open_shop()
    shop.sell("/paid", "paid")

    @shop.payments.required("$0.01")
    def forgotten() -> str:
        return "x"

    _refused(shop, "forgotten", "on no route")
    with pytest.raises(NotSold):
        forgotten.__wrapped__()  # type: ignore[attr-defined]


def test_a_price_below_other_decorators_is_found(open_shop: Any) -> None:
    shop = open_shop()

    def other(view: Any) -> Any:
        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        return wrapper

    @shop.app.get("/paid")
    @other
    @shop.payments.required("$0.01")
    @other
    def paid() -> str:
        return "x"

    shop.payments.check()
    assert shop.get().status_code == 402


def test_one_view_has_one_price_and_the_token_path_is_ours(open_shop: Any) -> None:
    shop = open_shop()
    with pytest.raises(LocalProtocolError, match="priced twice"):
        shop.payments.required("$0.01")(shop.payments.required("$0.01")(shop.view("paid")))

    async def price(request: Any) -> str:
        return "$0.01"

    for wrong in (price, "free", -1):
        with pytest.raises(LocalProtocolError, match="price"):
            shop.payments.required(wrong)
    shop.app.add_url_rule("/token", view_func=shop.view("token"), methods=["POST"])
    with pytest.raises(LocalProtocolError, match="token_path"):
        shop.payments.check()


def test_an_application_may_be_made_later(open_shop: Any) -> None:
    shop = open_shop()
    payments = Payments(None, shop.seller)
    shop.backgrounds.append(payments.background)
    with pytest.raises(LocalProtocolError, match="init_app"):
        payments.check()
    app = flask.Flask("later")
    app.add_url_rule("/paid", view_func=payments.required("$0.01")(shop.view("paid")))
    payments.init_app(app)
    assert app.test_client().get("/paid").status_code == 402
    with pytest.raises(LocalProtocolError, match="app"):
        payments.init_app(flask.Flask("other"))
