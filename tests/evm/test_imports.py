"""Importing the primitives must stay cheap: no library is loaded before its first use."""

from __future__ import annotations

import subprocess
import sys

MODULES = [
    "abi",
    "address",
    "curve",
    "digests",
    "eip712",
    "keccak",
    "rlp",
    "secp256k1",
    "signatures",
    "transaction",
]
HEAVY = ["eth_abi", "eth_utils", "eth_keys", "eth_account", "web3", "pydantic", "coincurve", "sha3", "Crypto"]

SCRIPT = f"""
import sys
for name in {MODULES!r}:
    __import__("x402core.evm." + name)
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_importing_everything_loads_no_library() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
