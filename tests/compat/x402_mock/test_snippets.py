"""x402-mock's own README, read from its installed releases, with the imports changed and nothing else: it runs, and sells.

Beside it what one would write on this project's own API, which is no longer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.chains import Missing
from tests.install_peers import PEERS
from tests.servers.visitor import living
from tests.shop import FUNDS

from .stand import PRICE, Sepolia, stand

pytestmark = pytest.mark.peer
ROOT = Path(__file__).parents[3]
KEY = "0x" + "11" * 32


def snippets(folder: str, *words: str) -> list[str]:
    """Return the README's Python that has all of these words, imports changed."""
    found = sorted((PEERS / folder).glob("lib/python*/site-packages/x402_mock-*.dist-info/METADATA"))
    if not found:
        raise Missing(f"x402-mock in .peers/{folder} is missing: python -m tests.install_peers")
    blocks = re.findall(r"```python\n(.*?)```", found[0].read_text(encoding="utf-8"), re.S)
    return [moved(each) for each in blocks if all(word in each for word in words)]


def moved(code: str) -> str:
    return code.replace("from x402_mock.", "from x402bind.compat.x402_mock.")


def lines(code: str) -> int:
    """Count lines of code: no blanks, no comments, no docstrings of one line."""
    kept = [line.strip() for line in code.splitlines()]
    return sum(bool(line) and not line.startswith(("#", '"""')) for line in kept)


SERVES = [("mock", ("Http402Server(", "payment_required")), ("mock3", ("Http402Server(", "payment_required", "hook"))]


@pytest.mark.parametrize(("folder", "words"), SERVES)
def test_the_servers_of_the_readme_ask_for_their_price(
    folder: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where its ledger goes
    monkeypatch.setenv("EVM_PRIVATE_KEY", KEY)
    (code,) = snippets(folder, *words)
    namespace: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "README", "exec"), namespace)
    (path,) = re.findall(r'@app\.get\("([^"]+)"\)', code)

    app = namespace["app"]
    app._prove = False  # there is no Internet here

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with living(app), httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await client.get(path)

    answer = anyio.run(ask)
    (component,) = answer.json()["payment_scheme"]["payment_components"]
    assert (answer.status_code, component["amount"], component["chain_id"]) == (402, 0.5, 11155111)
    assert (tmp_path / "x402-mock.db").exists()


def test_the_client_of_the_readme_buys(chain: Sepolia, tmp_path: Path) -> None:
    """0.3.0's whole example, as a program, at our server; 0.1.1's has a typing error in it and runs nowhere (A19)."""
    payer = chain.payer()
    (code,) = snippets("mock3", "Http402Client()", "asyncio.run")

    def routes(app: Any) -> None:
        @app.get("/api/premium-content")
        @app.payment_required
        async def content(payload):  # type: ignore[no-untyped-def]
            return {"content": "premium", "paid_by": payload["address"]}

    with stand(chain, tmp_path, routes) as it:
        program = code.replace("http://localhost:8000", it.url)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "EVM_PRIVATE_KEY": payer.key}
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert "premium" in ran.stdout
        it.settled()
    assert payer.money == FUNDS - PRICE


OUR_SERVER = """
from fastapi import FastAPI
from x402bind.seller import Seller
from x402bind.servers.fastapi import Payments

app = FastAPI()
rpc = {"sepolia": "https://ethereum-sepolia-rpc.publicnode.com"}
payments = Payments(app, Seller(key="11" * 32, rpc=rpc, ledger="sqlite:sales.db", token_key=b"k" * 32))

@app.get("/api/protected-data")
@payments.required("$0.50")
async def get_protected_data():
    return {"message": "Payment verified successfully"}
"""
OUR_CLIENT = """
from x402bind.clients.httpx import async_paying_client

async def main(url):
    async with async_paying_client("22" * 32, "$0.80", "sepolia") as client:
        return await client.get(url)
"""


@pytest.mark.parametrize(
    ("ours", "folder", "words"),
    [
        (OUR_SERVER, "mock", ("Http402Server(", "payment_required")),
        (OUR_CLIENT, "mock", ("Http402Client()", "client.get(")),
        (OUR_CLIENT, "mock3", ("Http402Client()", "asyncio.run")),
    ],
)
def test_our_own_way_is_no_longer(ours: str, folder: str, words: tuple[str, ...], monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (theirs,) = snippets(folder, *words)
    assert lines(ours) <= lines(theirs)
    namespace: dict[str, Any] = {}
    exec(compile(ours, "ours", "exec"), namespace)
    assert "app" in namespace or "main" in namespace
