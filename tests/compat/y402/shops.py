"""The same shop twice, by FastAPI and by Flask: one paid endpoint, with whatever settings and handler a test is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from flask import Flask

from tests.compat.y402.ground import Site, Till, serving
from x402bind.compat.y402.api.fastapi.middleware import payment_required as fastapi_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings as FastAPISettings
from x402bind.compat.y402.api.flask.decorator import payment_required as flask_required
from x402bind.compat.y402.api.flask.types.endpoint_settings import X402EndpointSettings as FlaskSettings

Handler = Callable[[str], Any]


def said(item: str) -> dict[str, str]:
    return {"item": item}


@contextmanager
def fastapi_shop(till: Till, handler: Handler = said, *, gate: dict[str, Any] | None = None, **settings: Any) -> Iterator[str]:
    app = FastAPI()
    app.middleware("http")(fastapi_required(**till.arguments(**(gate or {}))))

    @FastAPISettings(**{"payments_details": till.costs(), **settings})
    @app.api_route("/buy/{item}", methods=["GET", "POST"])
    def buy(item: str, request: Request) -> Any:
        return handler(item)

    with Site(app) as site:
        yield f"{site.origin}/buy/it"


@contextmanager
def flask_shop(till: Till, handler: Handler = said, *, gate: dict[str, Any] | None = None, **settings: Any) -> Iterator[str]:
    app = Flask("shop")
    require_payment = flask_required(**till.arguments(**(gate or {})))

    @app.route("/buy/<item>", methods=["GET", "POST"])
    @require_payment
    @FlaskSettings(**{"payments_details": till.costs(), **settings})
    def buy(item: str) -> Any:
        return handler(item)

    with serving(app, require_payment) as origin:
        yield f"{origin}/buy/it"


SHOPS = [fastapi_shop, flask_shop]
