"""Offline verification, ours against the official SDK's, in one run: ``python benchmarks/verify.py [--json]``.

From the text of a PAYMENT-SIGNATURE header to a verdict, the chain's answers given to both: the official scheme's signer is
stubbed to say at once what our facts say (code there, nonce unused, balance, simulation passes).  Each row is one process that
times both sides in turn; the rows differ in what cryptography each side is let have:

    fast : default    ours with the ``fast`` extra, the official SDK as its extras install it (eth-keys' native backend)
    fast : coincurve  the same, and coincurve added to the official side, whose keccak stays pycryptodome's
    coincurve : both  coincurve and pycryptodome's keccak on both sides: what is left is our own code
    pure : pure       nothing compiled but pycryptodome's keccak, on both sides

It runs under the environment of the official peer (``python -m tests.install_peers``), with ours beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEER = Path(os.environ.get("X402_OFFICIAL_PYTHON", ROOT / ".peers" / "x402" / "bin" / "python"))
FAST = ROOT / ".peers" / "bench-fast"
ROWS = {"fast : default": 100.0, "fast : coincurve": 3.5, "coincurve : both": 0.0, "pure : pure": 5.0}
KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
Work = Callable[[], object]


def main() -> None:
    """Run every row in a process of its own and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(_row(options.row)))
        return
    if not PEER.exists():
        sys.exit("the official SDK is not installed: python -m tests.install_peers")
    if not FAST.exists():
        wanted = ["coincurve>=20", "safe-pysha3>=1.0.4"]
        subprocess.run([str(PEER), "-m", "pip", "install", "-q", "--target", str(FAST), *wanted], check=True)
    found = [_run(row) for row in ROWS]
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for row in found:
        print(
            f"{row['row']:18} ours {row['ours']:8.1f} us   official {row['official']:8.1f} us   "
            f"ratio {row['ratio']:6.1f}x{_asked(str(row['row']))}"
        )
    reads = found[0]["reads"]
    print(f"chain: ours 1 HTTP round trip a verify; the official SDK makes {reads} calls, one HTTP round trip each")


def _asked(row: str) -> str:
    return f" (asked: at least {ROWS[row]:g}x)" if ROWS[row] else ""


def _run(row: str) -> dict[str, float | str]:
    path = [str(ROOT)] if row.startswith("pure") else [str(ROOT), str(FAST)]
    native = {"ECC_BACKEND_CLASS": "eth_keys.backends.NativeECCBackend"} if "coincurve" not in row else {}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **native}
    done = subprocess.run([str(PEER), __file__, "--row", row], env=env, check=True, capture_output=True, text=True)
    result: dict[str, float | str] = json.loads(done.stdout)
    return result


def _row(row: str) -> dict[str, float | str | int]:
    if not row.startswith("fast"):
        sys.modules["sha3"] = None  # type: ignore[assignment]  # both sides on pycryptodome
    if row == "pure : pure":
        sys.modules["coincurve"] = None  # type: ignore[assignment]
    ours, header = _ours()
    official, reads = _official(header)
    ours(), official()
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(30):
        for side, (work, count) in enumerate(((ours, 20), (official, 20 if "coincurve" in row else 2))):
            start = time.perf_counter()
            for _ in range(count):
                work()
            samples[side].append((time.perf_counter() - start) / count * 1e6)
    low = [min(each) for each in samples]
    return {"row": row, "ours": low[0], "official": low[1], "ratio": low[1] / low[0], "reads": reads}


def _ours() -> tuple[Work, str]:
    from x402core.events import Payment
    from x402core.evm import secp256k1
    from x402core.policy import offers
    from x402core.reads import AuthorizationState, BalanceOf, Facts, Simulated
    from x402core.schemes import of
    from x402core.schemes.judge import Verified, check, judge, plan
    from x402core.values import Hash32, Millis, Seconds
    from x402core.wire import v2

    offer = offers("$0.01", "base-sepolia", "0x209693Bc6afc0C5328bA36FaF03C514EF312287C")[0]
    payer = secp256k1.public_address(KEY)
    now = Millis(time.time_ns() // 1_000_000)
    nonce = Hash32("0x" + "11" * 32)
    scheme = of(offer)
    unsigned = scheme.prepare(offer, payer, now=Seconds(now // 1000), validity=Seconds(300), nonce=nonce, facts=None)
    from dataclasses import replace

    permit = replace(unsigned, signature=secp256k1.sign(scheme.digest(unsigned, offer), KEY))
    header = v2.encode_payment(Payment(permit, offer))
    known = ((v2.encode_offer(offer), offer),)  # as a seller has it: written once for each price
    said = {AuthorizationState: False, BalanceOf: 10**12}
    first = plan(check(permit, offer))  # type: ignore[arg-type]  # a refusal would fail right here
    answers = {read: said.get(type(read), Simulated(True)) for read in first}
    facts = Facts(1000, Seconds(now // 1000), answers)

    def verify() -> None:
        checked = check(v2.decode_payment(header, known).permit, offer)
        plan(checked)  # type: ignore[arg-type]
        assert isinstance(judge(checked, facts, now), Verified)  # type: ignore[arg-type]

    return verify, header


def _official(header: str) -> tuple[Work, int]:
    from x402.http.utils import decode_payment_signature_header
    from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme

    calls = 0

    class Signer:
        """Say at once what a healthy chain would."""

        def get_addresses(self) -> list[str]:
            return ["0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"]

        def read_contract(self, address: str, abi: object, function_name: str, *args: object) -> object:
            nonlocal calls
            calls += 1
            return {"authorizationState": False, "balanceOf": 10**12, "name": "USDC", "version": "2"}.get(function_name)

        def get_code(self, address: str) -> bytes:
            nonlocal calls
            calls += 1
            return b"" if address.lower() == "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266" else b"\x60"

        def get_chain_id(self) -> int:
            return 84532

    def verify() -> None:
        payload = decode_payment_signature_header(header)
        scheme._asset_code = None  # type: ignore[attr-defined]
        answer = scheme.verify(payload, payload.accepted)
        assert answer.is_valid, answer

    scheme = ExactEvmScheme(Signer())  # type: ignore[arg-type]
    verify()
    return verify, calls


if __name__ == "__main__":
    main()
