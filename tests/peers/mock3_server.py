"""Run by x402-mock 0.3.0's own python: sell one resource with its released server until told to stop."""

import json
import sys

import uvicorn
from x402_mock.adapters.adapters_hub import AdapterHub
from x402_mock.adapters.evm.schemas import EVMPaymentComponent
from x402_mock.servers import Http402Server

asked = json.loads(sys.stdin.readline())
app = Http402Server(token_key="t" * 32, adapter_hub=AdapterHub(evm_private_key=asked["key"]), token_expires_in=300)
app.add_payment_method(EVMPaymentComponent(amount=0.5, **asked["component"]))


@app.get("/data")
@app.payment_required
async def data(authorization):
    return {"sold": True}


uvicorn.run(app, host="127.0.0.1", port=asked["port"], log_level="info")
