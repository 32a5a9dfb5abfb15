"""x402-mock 0.1.1 as released, in its own environment: its client buys from our server, our client buys from its server.

On an embedded chain that says it is Sepolia, with USDC's code at USDC's address there; the wallet code is x402-mock's own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from tests.chains import Missing
from tests.shop import Api, until
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.devnet.token import DevUSD, place
from x402bind.clients.httpx import outcome_of, paying_client
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402core import KNOWN
from x402core.commands import OutcomeKind

pytestmark = pytest.mark.peer
SEPOLIA = 11155111
HERE = Path(__file__).parent
PAYER, SELLER = 1, 2


def mock_python() -> str:
    python = os.environ.get("X402_MOCK_PYTHON")
    if not python:
        raise Missing("x402-mock 0.1.1 is missing: python -m tests.install_peers, or set X402_MOCK_PYTHON")
    return python


@pytest.fixture
def sepolia() -> Iterator[tuple[Devnet, DevUSD]]:
    with Devnet(SEPOLIA) as devnet:
        usdc = place(devnet.chain, KNOWN.by_code("sepolia", "usdc").address, name="USDC", version="2")
        usdc.mint(dev_accounts()[PAYER], 1_000_000)
        yield devnet, usdc


def run(script: str, asked: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [mock_python(), str(HERE / script)], input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def our_shop(devnet: Devnet, folder: Path) -> Iterator[tuple[str, Seller]]:
    """Sell over a socket, permits settled by the seller's own account: x402-mock pays whoever is to spend."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    ledger = f"sqlite:{folder / 'ledger.db'}"
    seller = Seller(key=DEV_KEYS[SELLER], rpc={"sepolia": devnet.url}, ledger=ledger, token_key=b"k" * 32)
    app = PaymentMiddleware(Api(), seller, {"/data": "$0.50"})
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/data", seller
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def test_its_client_buys_from_our_server(sepolia: tuple[Devnet, DevUSD], tmp_path: Path) -> None:
    devnet, usdc = sepolia
    payer, payee = dev_accounts()[PAYER], dev_accounts()[SELLER]
    with our_shop(devnet, tmp_path) as (url, seller):
        key = "0x" + DEV_KEYS[PAYER].hex()
        bought = run("mock_client.py", {"key": key, "rpc": devnet.url, "network": f"eip155:{SEPOLIA}", "url": url})
        assert bought.returncode == 0, bought.stderr
        answer = json.loads(bought.stdout.splitlines()[-1])
        assert (answer["status"], json.loads(answer["text"])["paid_by"]) == (200, payer)
        (entry,) = until(lambda: [entry for entry in seller.ledger.entries() if entry.state == "settled"])
        assert (entry.payer, entry.amount, len(entry.transactions)) == (payer, 500_000, 2)
    assert (usdc.balance_of(payer), usdc.balance_of(payee)) == (500_000, 500_000)


def test_our_client_buys_from_its_server_which_is_never_paid(sepolia: tuple[Devnet, DevUSD]) -> None:
    """Its token is ours to use; that its settlement sends the permit and no transfer is its defect A1."""
    devnet, usdc = sepolia
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asked = {"key": "0x" + DEV_KEYS[SELLER].hex(), "rpc": devnet.url, "network": f"eip155:{SEPOLIA}", "port": port}
    server = subprocess.Popen(
        [mock_python(), str(HERE / "mock_server.py")], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdin is not None
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        url = f"http://127.0.0.1:{port}/data"
        until(lambda: server.poll() is not None or _answers(url), 30)
        with paying_client(DEV_KEYS[PAYER], "$0.60", "sepolia", rpc={"sepolia": devnet.url}) as client:
            response = client.get(url)
            again = client.get(url)
        outcomes = [outcome_of(response), outcome_of(again)]
        assert (response.status_code, again.status_code) == (200, 200)
        assert [outcome.kind for outcome in outcomes if outcome] == [OutcomeKind.PAID, OutcomeKind.FREE]
        payer, payee = dev_accounts()[PAYER], dev_accounts()[SELLER]
        until(lambda: usdc.allowance(payer, payee) == 500_000)
        assert usdc.balance_of(payer) == 1_000_000
    finally:
        server.kill()
        server.communicate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 402
    except httpx.TransportError:
        return False
