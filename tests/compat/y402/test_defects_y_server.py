"""y402 1.1.0's defects in its servers (seeds.md 3.3): for each, that it cannot happen here, by FastAPI and by Flask."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from flask import Flask, abort
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse

from tests.compat.y402.ground import NETWORK, Site, Till, header_for, serving
from tests.compat.y402.relay import Relay
from tests.compat.y402.shops import SHOPS, fastapi_shop, flask_shop
from tests.shop import PRICE
from x402bind.compat.y402.api.fastapi.middleware import payment_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings
from x402bind.compat.y402.api.flask.decorator import payment_required as flask_required
from x402bind.compat.y402.api.flask.types.endpoint_settings import X402EndpointSettings as FlaskSettings
from x402bind.compat.y402.core.types.eip712 import EIP712Domain
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.facilitator import FacilitatorConfig
from x402bind.compat.y402.core.types.requirements import TokenAmount, TokenAsset
from x402bind.compat.y402.core.types.schema import HTTPInputSchema
from x402bind.compat.y402.core.types.setup import Y402Setup

shops = pytest.mark.parametrize("shop", SHOPS)
BROWSER = {"Accept": "text/html", "User-Agent": "Mozilla/5.0"}


def paid(url: str, till: Till, asked: httpx.Response | None = None, **how: Any) -> httpx.Response:
    """Ask, pay, and return the answer."""
    headers = header_for(asked or httpx.get(url), till.ground.payer(), **how)
    return httpx.get(url, headers=headers, timeout=40)


# --------------------------------------------------------------------------------------------------- what is reached how


def test_Y1_endpoints_of_included_routers_and_mounts_are_sold(till: Till) -> None:
    app, sub, inner = FastAPI(), FastAPI(), FastAPI()
    app.middleware("http")(payment_required(**till.arguments()))
    router, deeper = APIRouter(), APIRouter()

    def secret() -> str:
        return "secret"

    deeper.get("/secret")(secret)
    router.include_router(deeper, prefix="/deeper")
    app.include_router(router, prefix="/router")
    for each in (sub, inner):
        each.get("/secret")(secret)
    X402EndpointSettings(payments_details=till.costs())(secret)
    app.mount("/sub", sub)
    app.mount("/zipped", GZipMiddleware(inner))
    with Site(app) as site:
        for path in ("/router/deeper/secret", "/sub/secret", "/zipped/secret", "/sub//secret", "/sub/secret/"):
            answer = httpx.get(site.origin + path, follow_redirects=True)
            assert "secret" not in answer.text.replace("/secret", ""), path
            assert answer.status_code in (402, 404), path
        app.get("/later")(secret)
        assert httpx.get(f"{site.origin}/later").status_code == 402
        assert paid(f"{site.origin}/sub/secret", till).json() == "secret"
    assert till.earned == PRICE


def test_Y1_settings_that_do_not_fit_keep_everything_from_being_answered(till: Till) -> None:
    app = FastAPI()
    app.middleware("http")(payment_required(**till.arguments()))

    @X402EndpointSettings(payments_details=till.costs("£1"))
    @app.get("/paid")
    def wrong() -> str:
        return "secret"

    @app.get("/free")
    def free() -> str:
        return "free"

    with Site(app) as site:
        assert [httpx.get(site.origin + path).status_code for path in ("/paid", "/free", "/paid")] == [500] * 3


def test_Y2_a_view_is_never_served_free_whatever_the_order(till: Till) -> None:
    app = Flask("shop")
    require_payment = flask_required(**till.arguments())
    with pytest.raises(MisconfigurationError, match="X402EndpointSettings"):
        require_payment(lambda: "free")
    settings = FlaskSettings(payments_details=till.costs())
    with pytest.raises(MisconfigurationError, match="X402EndpointSettings"):
        settings(require_payment(lambda: "free"))

    @require_payment
    @app.get("/above")
    @settings
    def above() -> str:
        return "secret"

    @app.get("/forgotten")
    @settings
    def forgotten() -> str:
        return "secret"

    with serving(app, require_payment) as origin:
        for path in ("/above", "/forgotten"):
            answer = httpx.get(origin + path)
            assert (answer.status_code, "secret" in answer.text) == (500, False)


# ------------------------------------------------------------------------------------------------------------- the money


@shops
def test_Y6_one_payment_runs_the_endpoint_once(till: Till, shop: Any) -> None:
    runs: list[str] = []

    def handler(item: str) -> dict[str, int]:
        runs.append(item)
        return {"run": len(runs)}

    with shop(till, handler) as url:
        header = header_for(httpx.get(url), till.ground.payer())
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: httpx.get(url, headers=header, timeout=40), range(8)))
        again = httpx.get(url, headers=header, timeout=40)
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert (again.status_code, again.json(), runs, till.earned) == (200, {"run": 1}, ["it"], PRICE)


@shops
def test_Y7_a_settlement_whose_answer_is_lost_is_found_again(till: Till, shop: Any) -> None:
    relay, runs = Relay(till.url), list[str]()
    with Site(relay) as front:
        till.url, relay.lose = front.origin, 1
        with shop(till, lambda item: str(runs.append(item))) as url:
            header = header_for(httpx.get(url), till.ground.payer())
            first, again = (httpx.get(url, headers=header, timeout=40) for _ in range(2))
    assert (first.status_code, again.status_code, again.text == first.text) == (200, 200, True)
    assert (len(runs), till.earned, relay.asked.count("/settle")) == (1, PRICE, 2)


def test_Y7_the_money_may_be_taken_before_the_endpoint_runs(till: Till) -> None:
    earned: list[int] = []
    with fastapi_shop(till, lambda item: earned.append(till.earned), gate={"settle": "before"}) as url:
        assert paid(url, till).status_code == 200
    assert earned == [PRICE]


def missing(item: str) -> Any:
    raise HTTPException(404, "no such item")


def aborting(item: str) -> Any:
    abort(404)


@pytest.mark.parametrize(("shop", "handler"), [(fastapi_shop, missing), (flask_shop, aborting)])
def test_Y8_an_endpoint_that_answers_404_is_not_paid_for(till: Till, shop: Any, handler: Any) -> None:
    with shop(till, handler) as url:
        answer = paid(url, till)
    assert (answer.status_code, "payment" in answer.text.lower(), till.earned) == (404, False, 0)


@shops
def test_Y16_what_fails_passes_unchanged_and_its_payment_is_good_for_another_try(till: Till, shop: Any) -> None:
    answers = [({"why": "sold out"}, 409), ({"why": "closed"}, 503), ({"item": "it"}, 200)]

    def handler(item: str) -> Any:
        body, status = answers.pop(0)
        kind = JSONResponse if shop is fastapi_shop else _flask_response
        return kind(body, status)

    with shop(till, handler) as url:
        header = header_for(httpx.get(url), till.ground.payer())
        got = [httpx.get(url, headers=header, timeout=40) for _ in range(3)]
    assert [(each.json(), each.status_code) for each in got] == [
        ({"why": "sold out"}, 409),
        ({"why": "closed"}, 503),
        ({"item": "it"}, 200),
    ]
    assert till.earned == PRICE


def _flask_response(body: Any, status: int) -> Any:
    return body, status


# ------------------------------------------------------------------------------------------------------ settings


@shops
def test_Y14_the_reference_is_the_routes_parameter(till: Till, shop: Any) -> None:
    with shop(till, reference_param="item") as url:
        assert paid(url, till).status_code == 200
    with shop(till, reference_param="other") as url:
        assert httpx.get(url).status_code == 500


@shops
def test_Y15_tags_may_be_left_out(till: Till, shop: Any) -> None:
    with shop(till) as url:
        assert paid(url, till).status_code == 200


# ------------------------------------------------------------------------------------------------ what payers send


HOSTILE = [
    {"network": "dogecoin"},
    {"network": 7},
    {"network": "base"},
    {"payload": None},
    {"payload": {"signature": "0x12", "authorization": {}}},
    {"payload": {"signature": "zz"}},
]


@shops
def test_Y18_what_is_malformed_is_the_payers_trouble(till: Till, shop: Any) -> None:
    with shop(till) as url:
        asked, payer = httpx.get(url), till.ground.payer()
        for wrong in ("", "=", "e30=", "bm8=", "W10=", "x" * 9000):
            assert httpx.get(url, headers={"X-PAYMENT": wrong}).status_code in (400, 402), wrong
        for changed in HOSTILE:
            answer = httpx.get(url, headers=header_for(asked, payer, **changed))
            assert answer.status_code in (400, 402), changed
    assert till.earned == 0


@shops
def test_Y20_nothing_a_request_says_is_the_resource_or_ends_a_script(till: Till, shop: Any) -> None:
    attack = "</script><script>alert(1)</script>"
    html = "<html><head></head><body>Pay</body></html>"
    with shop(till, custom_paywall_html=html) as url:
        forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Host": "evil.example"}
        for headers in ({**BROWSER, **forwarded}, forwarded):
            answer = httpx.get(url, params={"a": attack}, headers=headers)
            assert answer.status_code == 402
            assert "evil.example" not in answer.text
            assert attack not in answer.text
    with shop(till, custom_paywall_html=html, description=attack) as url:
        page = httpx.get(url, headers=BROWSER).text
        assert (page.count("<script>"), "alert(1)" in page) == (1, True)


CHANGED = [
    ({"scheme": "upto"}, "scheme"),
    ({"x402Version": 99}, "x402Version"),
    ({"authorization": {"value": "9999"}}, "value"),
    ({"authorization": {"to": "0x" + "33" * 20}}, "recipient"),
    ({"authorization": {"validBefore": "1"}}, "valid_before"),
    ({"authorization": {"validAfter": str(2**40)}}, "valid_after"),
]


@shops
def test_Y21_a_payment_is_checked_here_and_the_payer_is_told_why(till: Till, shop: Any) -> None:
    relay = Relay(till.url)
    with Site(relay) as front:
        till.url = front.origin
        with shop(till) as url:
            for changed, why in CHANGED:
                answer = paid(url, till, **json.loads(json.dumps(changed)))
                assert answer.status_code in (400, 402), changed
                assert why in answer.text, answer.text
    assert "/verify" not in relay.asked
    assert "/settle" not in relay.asked


# ------------------------------------------------------------------------------------------------ the facilitator


async def made_later() -> dict[str, str]:
    return {"Authorization": "Bearer later"}


HEADERS = [
    ({"Authorization": "Bearer plain"}, "Bearer plain"),
    ({"verify": {"Authorization": "Bearer v"}, "settle": lambda: {"Authorization": "Bearer s"}}, None),
    (lambda: {"Authorization": "Bearer made"}, "Bearer made"),
    ({"verify": made_later, "settle": made_later}, "Bearer later"),
]


@shops
@pytest.mark.parametrize(("headers", "expected"), HEADERS)
def test_Y24_a_facilitator_is_told_who_asks(till: Till, shop: Any, headers: Any, expected: str | None) -> None:
    relay = Relay(till.url)
    with Site(relay) as front:
        till.url = front.origin
        config = FacilitatorConfig(url=front.origin, headers=headers)
        with shop(till, gate={"facilitator_config": config}) as url:
            assert paid(url, till).status_code == 200
    told = [relay.of(path)[0]["authorization"] for path in ("/verify", "/settle")]
    assert told == (["Bearer v", "Bearer s"] if expected is None else [expected, expected])


@shops
def test_Y25_a_token_amount_is_paid_though_no_setup_has_the_token(till: Till, shop: Any) -> None:
    address = "0x036CBD53842C5426634E7929541EC2318F3DCF7E"
    asset = TokenAsset(address=address, decimals=6, eip712=EIP712Domain(name="USDC", version="2"))
    setup = Y402Setup()
    setup.add_network(NETWORK)
    both = [*till.costs(TokenAmount(amount="7", asset=asset)), *till.costs(TokenAmount(amount="9", asset=asset))]
    with shop(till, gate={"setup": setup}, payments_details=both) as url:
        asked = httpx.get(url)
        assert [each["maxAmountRequired"] for each in asked.json()["accepts"]] == ["7", "9"]
        for which in (0, 1):  # two prices for one asset: a payment answers its own
            assert paid(url, till, asked, which=which).status_code == 200
    assert till.earned == 16


@shops
def test_Y25_the_asset_a_payer_names_is_one_that_is_sold_in(till: Till, shop: Any) -> None:
    with shop(till) as url:
        asked = httpx.get(url)
        (offer,) = asked.json()["accepts"]
        for named, status in (("0x" + "44" * 20, 402), ("nonsense", 402), (offer["asset"].lower(), 200)):
            headers = header_for(asked, till.ground.payer()) | {"X-PAYMENT-ASSET": named}
            assert httpx.get(url, headers=headers, timeout=40).status_code == status
    assert till.earned == PRICE


def test_Y26_a_library_that_cannot_work_is_refused_at_once() -> None:
    for wrong in ("requests", "httpx_sync"):
        with pytest.raises(MisconfigurationError, match="client_http_library"):
            payment_required(client_http_library=wrong)  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationError, match="client_http_library"):
        flask_required(client_http_library="httpx")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ what is shown


@shops
def test_Y28_a_page_shows_the_right_amount_and_brings_no_megabytes(till: Till, shop: Any) -> None:
    asset = TokenAsset(address="0x" + "44" * 20, decimals=18, eip712=EIP712Domain(name="Ether", version="1"))
    price = till.costs(TokenAmount(amount="1500000000000000000", asset=asset))
    html = "<html><head><title>Mine</title></head><body>Pay</body></html>"
    with shop(till, custom_paywall_html=html, payments_details=price, paywall_config={"app_name": "Shop"}) as url:
        page = httpx.get(url, headers=BROWSER).text
        told = json.loads(re.findall(r"window\.x402 = (\{.*?\});</script>", page)[0])
        assert (told["amount"], told["testnet"], told["appName"]) == (1.5, True, "Shop")
        assert told["paymentRequirements"][0]["maxAmountRequired"] == "1500000000000000000"
    with shop(till) as url:
        answer = httpx.get(url, headers=BROWSER)
        assert answer.headers["content-type"].startswith("text/html")
        assert (len(answer.content) < 60_000, "googleapis" in answer.text) == (True, False)


@shops
def test_Y30_schemas_are_camel_case_and_nothing_is_cached(till: Till, shop: Any) -> None:
    schema = HTTPInputSchema(query_params={"q": "What"}, body_type="json", body_fields={"n": "How many"})
    with shop(till, input_schema=schema, output_schema={"item": "The item"}, resource_url="/buy/{item}") as url:
        asked = httpx.get(url)
    (offer,) = asked.json()["accepts"]
    told = offer["outputSchema"]
    assert told["input"] == {
        "type": "http",
        "method": "GET",
        "discoverable": True,
        "queryParams": {"q": "What"},
        "bodyType": "json",
        "bodyFields": {"n": "How many"},
    }
    assert (told["output"], offer["resource"]) == ({"item": "The item"}, "/buy/it")
    assert (asked.headers["Cache-Control"], "PAYMENT-REQUIRED" in asked.headers) == ("no-store", True)  # and x402 v2
