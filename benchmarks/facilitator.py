"""Settlements a second on anvil, 16 at a time: our facilitator against the official SDK's, in one run.

    python benchmarks/facilitator.py [--json] [--settles 96] [--rounds 3]

Both are called in process, without HTTP in front: ours as ``Facilitator.answer`` from 16 tasks, the official one as
``x402Facilitator.settle``, awaited from 16 tasks and, as it blocks its event loop, also ``x402FacilitatorSync`` from 16
threads; its better figure counts. Same node, same token (FiatTokenV2_2), same number of fresh EIP-3009 payments, in turns.
The official side runs in its own environment (``python -m tests.install_peers``), with coincurve added so that cryptography
is no difference.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEER = Path(os.environ.get("X402_OFFICIAL_PYTHON", ROOT / ".peers" / "x402" / "bin" / "python"))
FAST = ROOT / ".peers" / "bench-fast"
AT_ONCE = 16
OURS, OFFICIAL = 4, 5  # development accounts


def main() -> None:
    """Run both sides in turns and print payments a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--settles", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if not FAST.exists():
        wanted = ["coincurve>=20", "safe-pysha3>=1.0.4"]
        subprocess.run([str(PEER), "-m", "pip", "install", "-q", "--target", str(FAST), *wanted], check=True)
    from tests.contracts import place_multicall
    from tests.shop import on_anvil

    best: dict[str, float] = {}
    with on_anvil() as ground:
        place_multicall(ground.rpc)
        for _ in range(options.rounds):
            for side, run in (("ours", _ours), ("official, tasks", _official_tasks), ("official, threads", _official_threads)):
                bodies = [_payment(ground) for _ in range(options.settles)]
                seconds = run(ground, bodies)
                best[side] = max(best.get(side, 0.0), options.settles / seconds)
    official = max(best["official, tasks"], best["official, threads"])
    result = {"settles_per_second": best, "ratio": best["ours"] / official, "at_once": AT_ONCE, "settles": options.settles}
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for side, rate in best.items():
        print(f"{side:18} {rate:8.1f} settlements a second")
    print(f"ours : the better of the official : {result['ratio']:.1f}x")


def _payment(ground: Any) -> bytes:
    """Return the body of a /settle for a fresh payer's fresh payment."""
    from tests.shop import PRICE
    from x402core.policy import offers
    from x402core.schemes import of
    from x402core.values import Hash32, Seconds
    from x402core.wire.facilitator import encode_request

    payer = ground.payer(PRICE)
    (offer, *_) = offers("$0.01", "base-sepolia", "0x209693Bc6afc0C5328bA36FaF03C514EF312287C")
    scheme = of(offer)
    nonce = Hash32("0x" + secrets.token_hex(32))
    now = Seconds(int(time.time()))
    unsigned = scheme.prepare(offer, payer.address, now=now, validity=Seconds(300), nonce=nonce, facts=None)
    from x402core.evm.secp256k1 import sign

    return encode_request(replace(unsigned, signature=sign(scheme.digest(unsigned, offer), payer.key)), offer)


def _ours(ground: Any, bodies: list[bytes]) -> float:
    from x402bind.chain.devnet.keys import DEV_KEYS
    from x402bind.facilitator.quota import Quota
    from x402bind.facilitator.service import Facilitator
    from x402core.events import FacilitatorRequest

    async def settle() -> float:
        facilitator = Facilitator(key=DEV_KEYS[OURS], rpc={"base-sepolia": ground.url}, ledger="memory:", quota=Quota())
        async with facilitator.running():
            waiting = iter(bodies)

            async def work() -> None:
                for body in waiting:
                    reply = await facilitator.answer(FacilitatorRequest("/settle", body))
                    assert json.loads(reply.body).get("success") is True, reply

            began = time.perf_counter()
            await asyncio.gather(*[work() for _ in range(AT_ONCE)])
            took = time.perf_counter() - began
        await facilitator.aclose()
        return took

    return asyncio.run(settle())


def _official_tasks(ground: Any, bodies: list[bytes]) -> float:
    return _official(ground, bodies, "tasks")


def _official_threads(ground: Any, bodies: list[bytes]) -> float:
    return _official(ground, bodies, "threads")


def _official(ground: Any, bodies: list[bytes], how: str) -> float:
    from x402bind.chain.devnet.keys import DEV_KEYS

    env = {**os.environ, "PYTHONPATH": str(FAST)}
    asked = json.dumps({"rpc": ground.url, "key": DEV_KEYS[OFFICIAL].hex(), "how": how, "bodies": [b.decode() for b in bodies]})
    script = Path(__file__).with_name("official_settle.py")
    done = subprocess.run([str(PEER), str(script)], input=asked, env=env, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


if __name__ == "__main__":
    main()
