"""x402-mock 0.1.1 as released, in its own environment: its client buys from our server, our client buys from its server.

On chains that say they are Sepolia, with USDC at its address there; the wallet code is x402-mock's own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from tests.chains import Anvil, Missing, RealUSDC, Rpc
from tests.shop import FUNDS, Api, Ground, until
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.devnet.token import place
from x402bind.clients.httpx import outcome_of, paying_client
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402core import KNOWN
from x402core.commands import OutcomeKind
from x402core.values import Address

pytestmark = pytest.mark.peer
SEPOLIA = 11155111
HERE = Path(__file__).parent
PAYER, SELLER = 1, 2


def mock_python() -> str:
    python = os.environ.get("X402_MOCK_PYTHON")
    if not python:
        raise Missing("x402-mock 0.1.1 is missing: python -m tests.install_peers, or set X402_MOCK_PYTHON")
    return python


@dataclass(frozen=True)
class Sepolia:
    """A node that says it is Sepolia, with USDC at its address there, a million atomic units of it the payer's."""

    ground: Ground
    usdc: Address

    @property
    def url(self) -> str:
        return self.ground.url

    def balances(self) -> tuple[int, int]:
        """Return the payer's and the seller's atomic units."""
        accounts = dev_accounts()
        payer, seller = (self.ground.rpc.balance(self.usdc, accounts[who]) for who in (PAYER, SELLER))
        return payer, seller

    def allowance(self) -> int:
        """Return how many of the payer's atomic units the seller may move."""
        accounts = dev_accounts()
        signature = "allowance(address,address)"
        return int(self.ground.rpc.view(self.usdc, "uint256", signature, accounts[PAYER], accounts[SELLER]))


@pytest.fixture(params=["devnet", pytest.param("anvil", marks=pytest.mark.anvil)])
def sepolia(request: pytest.FixtureRequest) -> Iterator[Sepolia]:
    """The embedded chain with our token on it, and anvil with Circle's own code."""
    usdc = KNOWN.by_code("sepolia", "usdc").address
    if request.param == "anvil":
        with Anvil(SEPOLIA) as anvil, closing(Rpc(anvil.url)) as rpc:
            RealUSDC.place(rpc, {dev_accounts()[PAYER]: FUNDS}, at=usdc)
            yield Sepolia(Ground(anvil.url, rpc), usdc)
    else:
        with Devnet(SEPOLIA) as devnet, closing(Rpc(devnet.url)) as rpc:
            place(devnet.chain, usdc, name="USDC", version="2").mint(dev_accounts()[PAYER], FUNDS)
            yield Sepolia(Ground(devnet.url, rpc, devnet), usdc)


def run(script: str, asked: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [mock_python(), str(HERE / script)], input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def our_shop(sepolia: Sepolia, folder: Path) -> Iterator[tuple[str, Seller]]:
    """Sell over a socket, permits settled by the seller's own account: x402-mock pays whoever is to spend."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    ledger = f"sqlite:{folder / 'ledger.db'}"
    seller = Seller(key=DEV_KEYS[SELLER], rpc={"sepolia": sepolia.url}, ledger=ledger, token_key=b"k" * 32)
    app = PaymentMiddleware(Api(), seller, {"/data": "$0.50", "/cheap": "$0.000001"})
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", seller
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def test_its_client_buys_from_our_server(sepolia: Sepolia, tmp_path: Path) -> None:
    """Twice, two resources of one token endpoint; each is settled by permit and transferFrom, to the unit."""
    payer = dev_accounts()[PAYER]
    with our_shop(sepolia, tmp_path) as (url, seller):
        asked = {"key": "0x" + DEV_KEYS[PAYER].hex(), "rpc": sepolia.url, "network": f"eip155:{SEPOLIA}"}
        paid = 0
        for count, (path, amount) in enumerate([("/data", 500_000), ("/cheap", 1)], 1):
            bought = run("mock_client.py", {**asked, "url": url + path})
            assert bought.returncode == 0, bought.stderr
            answer = json.loads(bought.stdout.splitlines()[-1])
            assert (answer["status"], json.loads(answer["text"])["paid_by"]) == (200, payer)
            until(lambda n=count: sum(entry.state == "settled" for entry in seller.ledger.entries()) == n)
            (entry,) = (entry for entry in seller.ledger.entries() if entry.amount == amount)
            assert (entry.payer, sepolia.ground.calls(entry.transactions)) == (payer, ("permit", "transferFrom"))
            paid += amount
            assert sepolia.balances() == (FUNDS - paid, paid)
        assert sepolia.allowance() == 0


def test_its_client_is_refused_above_its_cap_and_nothing_moves(sepolia: Sepolia, tmp_path: Path) -> None:
    """Our 402 states the price in a way its client compares rightly: 0.5 against a cap of 0.4."""
    with our_shop(sepolia, tmp_path) as (url, seller):
        asked = {"key": "0x" + DEV_KEYS[PAYER].hex(), "rpc": sepolia.url, "network": f"eip155:{SEPOLIA}", "most": 0.4}
        ended = run("mock_client.py", {**asked, "url": f"{url}/data"})
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "No matching payment component" in ended.stderr
        assert seller.ledger.entries() == ()
    assert sepolia.balances() == (FUNDS, 0)


def test_our_client_buys_from_its_server_which_is_never_paid(sepolia: Sepolia) -> None:
    """Its token is ours to use; that its settlement sends the permit and no transfer is its defect A1."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asked = {"key": "0x" + DEV_KEYS[SELLER].hex(), "rpc": sepolia.url, "network": f"eip155:{SEPOLIA}", "port": port}
    server = subprocess.Popen(
        [mock_python(), str(HERE / "mock_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdin is not None
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        url = f"http://127.0.0.1:{port}/data"
        until(lambda: server.poll() is not None or _answers(url), 30)
        assert server.poll() is None, "x402-mock's server did not start"
        with paying_client(DEV_KEYS[PAYER], "$0.60", "sepolia", rpc={"sepolia": sepolia.url}) as client:
            response = client.get(url)
            again = client.get(url)
        outcomes = [outcome_of(response), outcome_of(again)]
        assert [each.json() for each in (response, again)] == [{"sold": True}, {"sold": True}]
        assert [outcome.kind for outcome in outcomes if outcome] == [OutcomeKind.PAID, OutcomeKind.FREE]
        until(lambda: sepolia.allowance() == 500_000)  # its permit is mined: it could take the money, and does not
        sent = sepolia.ground.sent_by(dev_accounts()[SELLER])
        assert (sent, sepolia.balances()) == (1, (FUNDS, 0))
    finally:
        server.kill()
        server.communicate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 402
    except httpx.TransportError:
        return False
