"""Run by x402-mock 0.3.0's own python: buy one resource with its released client; print what came as JSON."""

import asyncio
import json
import sys

from x402_mock.adapters.adapters_hub import AdapterHub
from x402_mock.adapters.evm.schemas import EVMPaymentComponent
from x402_mock.clients.http_client import Http402Client


async def main() -> None:
    asked = json.load(sys.stdin)
    async with Http402Client(adapter_hub=AdapterHub(evm_private_key=asked["key"])) as client:
        client.add_payment_method(EVMPaymentComponent(amount=asked.get("most", 0.8), **asked["component"]))
        response = await client.get(asked["url"])
        sys.stdout.write(json.dumps({"status": response.status_code, "text": response.text}))


asyncio.run(main())
