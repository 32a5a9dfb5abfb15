"""Run by the official SDK's own python for ``facilitator.py``: settle the bodies on standard input, print how long it took."""

import asyncio
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from x402 import x402Facilitator, x402FacilitatorSync
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
from x402.schemas.helpers import parse_payment_payload, parse_payment_requirements

AT_ONCE = 16


def main():
    asked = json.load(sys.stdin)
    pairs = []
    for text in asked["bodies"]:
        body = json.loads(text)
        payload = parse_payment_payload(body["paymentPayload"])
        pairs.append((payload, parse_payment_requirements(body["x402Version"], body["paymentRequirements"])))
    signer = FacilitatorWeb3Signer("0x" + asked["key"], asked["rpc"])
    facilitator = x402Facilitator() if asked["how"] == "tasks" else x402FacilitatorSync()
    register_exact_evm_facilitator(facilitator, signer, "eip155:84532")
    began = time.perf_counter()
    answers = asyncio.run(tasks(facilitator, pairs)) if asked["how"] == "tasks" else threads(facilitator, pairs)
    took = time.perf_counter() - began
    good = sum(answer.success for answer in answers)
    if good != len(pairs):
        sys.exit(f"{len(pairs) - good} of {len(pairs)} failed: {next(a for a in answers if not a.success)}")
    print(json.dumps({"seconds": took}))


async def tasks(facilitator, pairs):
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(pair):
        async with gate:
            return await facilitator.settle(*pair)

    return await asyncio.gather(*[one(pair) for pair in pairs])


def threads(facilitator, pairs):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda pair: facilitator.settle(*pair), pairs))


if __name__ == "__main__":
    main()
