"""A seller's own functions that raise, bodies that somebody read first, spellings that an upstream takes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask, g, request

from tests.servers.doors import asked, buy
from tests.servers.sync.stall import Stall
from tests.shop import PRICE, Ground
from x402bind.seller import Seller
from x402bind.servers import flask
from x402bind.servers.fastapi import Payments
from x402bind.servers.paths import folded


@pytest.mark.parametrize("settle", ["before", "after"])
def test_a_reference_that_raises_charges_nobody(open_shop: Any, settle: str) -> None:
    runs: list[int] = []

    def build(seller: Seller) -> FastAPI:
        app = FastAPI()
        payments = Payments(app, seller)

        @app.get("/named")
        @payments.required("$0.01", reference=lambda request: request.query_params["name"])
        async def named() -> dict[str, bool]:
            runs.append(1)
            return {"served": True}

        return app

    shop = open_shop(build, settle=settle)
    assert buy(shop, "/named").status_code == 500
    assert (shop.earned, runs) == (0, [])
    assert buy(shop, "/named?name=x").json() == {"served": True}
    assert shop.earned == PRICE


def test_replay_of_a_permit_for_another_form_that_was_read_before(ground: Ground, tmp_path: Any) -> None:
    """Whatever reads the form first (a check of where it comes from, say), the permit stays bound to it."""
    stall = Stall(ground, tmp_path)
    app = Flask(__name__)
    payments = flask.Payments(app, stall.seller)
    stall.backgrounds.append(payments.background)
    orders: list[str] = []

    @app.before_request
    def look() -> None:
        request.form.get("csrf_token")

    @app.post("/order")
    @payments.required("$0.01")
    def order() -> dict[str, str]:
        orders.append(request.form["item"])
        return {"ordered": request.form["item"], "by": g.x402.payer}

    with stall.werkzeug(app) as url:
        header = ground.payer().header(asked(f"{url}/order", method="POST", data={"item": "A"}), ground)
        bought = httpx.post(f"{url}/order", data={"item": "A"}, headers=header, timeout=20)
        assert (bought.status_code, bought.json()["ordered"]) == (200, "A")
        other = httpx.post(f"{url}/order", data={"item": "B"}, headers=header, timeout=20)
        assert (other.status_code, orders, stall.earned) == (402, ["A"], 1)


@pytest.mark.parametrize(
    "path", ["/premium;x=1", "/premium.", "/premium;", "/a;b/../premium", "/premium./", "/PREMIUM;jsessionid=1"]
)
def test_spellings_that_servlets_and_file_servers_take(path: str) -> None:
    assert folded(path) == "/premium"


def test_dots_within_names_are_names() -> None:
    assert folded("/v1.2/report.pdf") == "/v1.2/report.pdf"
