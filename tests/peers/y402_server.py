"""Run by y402's own python: sell one resource with its released server until told to stop.

Its README's setup, but for what its README gets wrong: a symbol is given (Y11), and tags are (Y15).
"""

import json
import sys

from y402.core.types.facilitator import FacilitatorConfig
from y402.core.types.requirements import RequirePaymentDetails
from y402.core.types.setup import Y402Setup

asked = json.loads(sys.stdin.readline())
setup = Y402Setup()
setup.add_network("base-sepolia")
setup.add_token("base-sepolia", "usdc", symbol="$", default_for_symbol=True)
settings = {
    "webhook_name": "hook",
    "storage_collection": "payments",
    "tags": ["peer"],
    "description": "The data",
    "max_deadline_seconds": 120,
    "payments_details": [RequirePaymentDetails(network="base-sepolia", price="$0.01", pay_to_address=asked["pay_to"])],
}
config = FacilitatorConfig(url=asked["facilitator"])


def on_fastapi() -> None:
    import uvicorn
    from fastapi import FastAPI
    from y402.api.fastapi.middleware import payment_required
    from y402.api.fastapi.types.endpoint_settings import X402EndpointSettings

    app = FastAPI()
    app.middleware("http")(payment_required(facilitator_config=config, setup=setup, client_http_library="httpx"))

    @X402EndpointSettings(**settings)
    @app.get("/data")
    async def data() -> dict:
        return {"sold": True}

    uvicorn.run(app, host="127.0.0.1", port=asked["port"], log_level="warning")


def on_flask() -> None:
    from flask import Flask
    from y402.api.flask.decorator import payment_required
    from y402.api.flask.types.endpoint_settings import X402EndpointSettings

    app = Flask("peer")
    require_payment = payment_required(facilitator_config=config, setup=setup, client_http_library=asked["library"])

    @app.get("/data")
    @require_payment
    @X402EndpointSettings(**settings)
    def data() -> dict:
        return {"sold": True}

    app.run(host="127.0.0.1", port=asked["port"], threaded=True)


on_fastapi() if asked["server"] == "fastapi" else on_flask()
