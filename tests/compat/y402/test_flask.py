"""y402's Flask decorator over this core: real chain, real facilitator, real sockets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from flask import Flask, g
from flask import request as flask_request

from tests.compat.y402.ground import Till, header_for, serving
from tests.shop import PRICE
from x402bind.compat.y402.api.flask.decorator import payment_required
from x402bind.compat.y402.api.flask.types.endpoint_settings import X402EndpointSettings
from x402bind.compat.y402.core.types.requirements import RequirePaymentDetails


def test_a_view_is_sold_and_knows_its_sale(till: Till) -> None:
    app, seen = Flask("shop"), list[Any]()
    require_payment = payment_required(**till.arguments())

    @app.post("/buy/<item>")
    @require_payment
    @X402EndpointSettings(payments_details=till.costs(), reference_param="item", resource_url="/buy/{item}", tags=["t"])
    def buy(item: str) -> dict[str, Any]:
        seen.append(g.x402)
        return {"item": item, "body": flask_request.get_json()}

    with serving(app, require_payment) as origin:
        url = f"{origin}/buy/gold"
        asked = httpx.post(url, json=[1])
        assert (asked.status_code, asked.json()["accepts"][0]["resource"]) == (402, "/buy/gold")
        assert "X-Payment-Networks" in asked.headers
        paid = httpx.post(url, json=[1], headers=header_for(asked, till.ground.payer()), timeout=30)
        assert (paid.status_code, paid.json()) == (200, {"item": "gold", "body": [1]})
        assert "X-PAYMENT-RESPONSE" in paid.headers
    assert till.earned == PRICE
    assert (seen[0]["reference"], seen[0]["tags"]) == ("gold", ["t"])


@pytest.mark.parametrize("later", [False, True])
def test_a_price_may_depend_on_the_request(till: Till, later: bool) -> None:
    app = Flask("shop")
    require_payment = payment_required(**till.arguments())

    def cost(asked: Any) -> list[RequirePaymentDetails]:
        return till.costs(int(asked.args["n"]) * 1000)

    async def cost_later(asked: Any) -> list[RequirePaymentDetails]:
        return cost(asked)

    @app.get("/n")
    @require_payment
    @X402EndpointSettings(payments_details=cost_later if later else cost)
    def n() -> str:
        return "n"

    with serving(app, require_payment) as origin:
        asked = httpx.get(f"{origin}/n?n=3")
        assert asked.json()["accepts"][0]["maxAmountRequired"] == "3000"
        paid = httpx.get(f"{origin}/n?n=3", headers=header_for(asked, till.ground.payer()), timeout=30)
        cheated = httpx.get(f"{origin}/n?n=4", headers=header_for(asked, till.ground.payer()), timeout=30)
        assert (paid.status_code, cheated.status_code) == (200, 402)
    assert till.earned == 3000
