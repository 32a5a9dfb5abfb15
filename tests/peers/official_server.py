"""Run by the official SDK's own python: sell resources through its released middleware until told to stop.

    official_server.py PORT FACILITATOR_URL PAY_TO NETWORK [fastapi|flask]

One path for each way of paying.  An ``upto`` path charges what its query names (``?charge=4000``), less than the price.
"""

import argparse
import json
import sys

from x402 import x402ResourceServer, x402ResourceServerSync
from x402.extensions.eip2612_gas_sponsoring import declare_eip2612_gas_sponsoring_extension
from x402.extensions.erc20_approval_gas_sponsoring import declare_erc20_approval_gas_sponsoring_extension
from x402.http import FacilitatorConfig, HTTPFacilitatorClient, HTTPFacilitatorClientSync, PaymentOption, RouteConfig
from x402.mechanisms.evm.exact.server import ExactEvmScheme
from x402.mechanisms.evm.upto.server import UptoEvmScheme

PRICE = "$0.01"
CHARGE = "4000"
PERMIT2 = {"assetTransferMethod": "permit2"}
UPFRONT = {"paymentFlow": "upfront"}
SPONSORED = declare_eip2612_gas_sponsoring_extension()
APPROVED = declare_erc20_approval_gas_sponsoring_extension()
PATHS = {
    "/eip3009": ("exact", None, None),
    "/eip3009-upfront": ("exact", UPFRONT, None),
    "/permit2": ("exact", PERMIT2, None),
    "/permit2-upfront": ("exact", {**PERMIT2, **UPFRONT}, None),
    "/permit2-eip2612": ("exact", PERMIT2, SPONSORED),
    "/permit2-approval": ("exact", PERMIT2, APPROVED),
    "/upto": ("upto", None, None),
    "/upto-eip2612": ("upto", None, SPONSORED),
    "/upto-approval": ("upto", None, APPROVED),
}
runs = []


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("facilitator")
    parser.add_argument("pay_to")
    parser.add_argument("network")
    parser.add_argument("framework", nargs="?", default="fastapi", choices=("fastapi", "flask"))
    return parser.parse_args()


def routes(asked):
    """Price every path."""

    def option(scheme, extra):
        return PaymentOption(scheme=scheme, pay_to=asked.pay_to, price=PRICE, network=asked.network, extra=extra)

    return {
        f"GET {path}": RouteConfig(accepts=option(scheme, extra), description=path[1:], extensions=extensions)
        for path, (scheme, extra, extensions) in PATHS.items()
    }


def selling(server, asked):
    """Register the schemes for the network."""
    server.register(asked.network, ExactEvmScheme())
    server.register(asked.network, UptoEvmScheme())
    return server


def sold(path):
    runs.append(path)
    return {"sold": path, "run": len(runs)}


def free():
    """What costs nothing: how often the others have run."""
    return {"sold": None, "runs": len(runs)}


def fastapi(asked):
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from x402.http.middleware.fastapi import payment_middleware, set_settlement_overrides

    facilitator = HTTPFacilitatorClient(FacilitatorConfig(url=asked.facilitator))
    paid = payment_middleware(routes(asked), selling(x402ResourceServer(facilitator), asked))
    app = FastAPI()
    app.middleware("http")(paid)  # built once: its docstring builds it for every request

    async def handler(request: Request):
        response = JSONResponse(sold(request.url.path))
        if request.url.path.startswith("/upto"):
            set_settlement_overrides(response, {"amount": request.query_params.get("charge", CHARGE)})
        return response

    for path in PATHS:
        app.get(path)(handler)
    app.get("/free")(free)
    uvicorn.run(app, host="127.0.0.1", port=asked.port, log_level="info")


def flask(asked):
    from flask import Flask, jsonify, request
    from werkzeug.serving import make_server
    from x402.http.middleware.flask import payment_middleware, set_settlement_overrides

    facilitator = HTTPFacilitatorClientSync(FacilitatorConfig(url=asked.facilitator))
    app = Flask(__name__)

    def handler():
        response = jsonify(sold(request.path))
        if request.path.startswith("/upto"):
            set_settlement_overrides(response, {"amount": request.args.get("charge", CHARGE)})
        return response

    for path in PATHS:
        app.add_url_rule(path, path[1:], handler)
    app.add_url_rule("/free", "free", free)
    payment_middleware(app, routes(asked), selling(x402ResourceServerSync(facilitator), asked))
    make_server("127.0.0.1", asked.port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    asked = arguments()
    sys.stderr.write(json.dumps(vars(asked)) + "\n")
    {"fastapi": fastapi, "flask": flask}[asked.framework](asked)
