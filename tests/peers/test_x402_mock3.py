"""x402-mock 0.1.1 and 0.3.0 as released, each in its own environment, with our ``Http402Server`` and ``Http402Client``.

On anvil with Circle's own code at Sepolia's address; what moved is read off the chain.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.chains import Missing, RealUSDC, place_permit2
from tests.compat.x402_mock.stand import CHAIN, PRICE, SELLER, USDC, Buyer, Sepolia, on_anvil, on_devnet, stand
from tests.install_peers import PEERS
from tests.shop import FUNDS, until
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.chain.devnet.token import place
from x402bind.clients.httpx import outcome_of
from x402bind.compat.x402_mock.clients import Http402Client
from x402core.commands import OutcomeKind
from x402core.evm.abi import encode_call
from x402core.evm.digests import PERMIT2
from x402core.values import Address

pytestmark = pytest.mark.peer
HERE = Path(__file__).parent
CHAINS = ["devnet", pytest.param("anvil", marks=pytest.mark.anvil)]
VERSIONS = {"0.1.1": ("X402_MOCK_PYTHON", "mock", "mock"), "0.3.0": ("X402_MOCK3_PYTHON", "mock3", "mock3")}


@pytest.fixture(scope="module", params=CHAINS)
def chain(request: pytest.FixtureRequest) -> Iterator[Sepolia]:
    with on_anvil() if request.param == "anvil" else on_devnet() as chain:
        yield chain


def command(version: str, script: str) -> list[str]:
    """Return how a version's script is run by its own python."""
    variable, folder, prefix = VERSIONS[version]
    beside = PEERS / folder / "bin" / "python"
    python = os.environ.get(variable) or (str(beside) if beside.exists() else None)
    if python is None:
        raise Missing(f"x402-mock {version} is missing: python -m tests.install_peers, or set {variable}")
    return [python, str(HERE / f"{prefix}_{script}.py")]


def asked(chain: Sepolia, key: str, **more: Any) -> dict[str, Any]:
    """Return what a script of either version reads."""
    component = {
        "currency": "USDC",
        "caip2": CHAIN,
        "token": USDC,
        "rpc_url": chain.url,
        "token_name": "USDC",
        "token_version": "2",
        "token_decimals": 6,
    }
    return {"key": key, "rpc": chain.url, "network": CHAIN, "component": component, **more}


def its_client(version: str, payer: Buyer, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run its client to its end."""
    script = command(version, "client")
    said = json.dumps(asked(payer.chain, payer.key, **more))
    return subprocess.run(script, input=said, capture_output=True, text=True, timeout=90, check=False)


@contextmanager
def its_server(version: str, chain: Sepolia, **more: Any) -> Iterator[str]:
    """Run its server; the seller's key is its wallet."""
    script = command(version, "server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, text=True)
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked(chain, "0x" + DEV_KEYS[SELLER].hex(), port=port, **more)) + "\n")
        process.stdin.flush()
        url = f"http://127.0.0.1:{port}/data"
        until(lambda: process.poll() is not None or _answers(url), 60)
        assert process.poll() is None, f"x402-mock {version}'s server did not start"
        yield url
    finally:
        process.kill()
        process.communicate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 402
    except httpx.TransportError:
        return False


# ------------------------------------------------------------------------------------------------- its client, our server

CALLS = {"0.1.1": ("permit", "transferFrom"), "0.3.0": ("transferWithAuthorization",)}


@pytest.mark.parametrize("version", VERSIONS)
def test_its_client_buys_from_our_server(chain: Sepolia, tmp_path: Path, version: str) -> None:
    """One 402 serves both versions: each signs what it knows, and the seller is paid, to the unit."""
    payer, before = chain.payer(), chain.balance(chain.seller)
    with stand(chain, tmp_path) as it:
        bought = its_client(version, payer, url=f"{it.url}/data")
        assert bought.returncode == 0, bought.stderr
        answer = json.loads(bought.stdout.splitlines()[-1])
        assert (answer["status"], json.loads(answer["text"])["paid_by"]) == (200, payer.address)
        (entry,) = it.settled()
        assert (entry.state, entry.payer, entry.amount) == ("settled", payer.address, PRICE)
        assert chain.ground.calls(entry.transactions) == CALLS[version]
    assert (payer.money, chain.balance(chain.seller) - before) == (FUNDS - PRICE, PRICE)


@pytest.mark.parametrize("version", VERSIONS)
def test_its_client_is_refused_above_its_cap_and_nothing_moves(chain: Sepolia, tmp_path: Path, version: str) -> None:
    payer = chain.payer()
    with stand(chain, tmp_path) as it:
        ended = its_client(version, payer, url=f"{it.url}/data", most=0.4)
        assert ended.returncode == 1
        assert "No matching payment component" in ended.stderr
        assert it.app.seller is not None
        assert it.app.seller.ledger.entries() == ()
    assert payer.money == FUNDS


# ------------------------------------------------------------------------------------------------- our client, its server


@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_buys_from_its_server(chain: Sepolia, version: str) -> None:
    """Twice, for one payment.  0.3.0's server is paid; 0.1.1's permits itself to take the money, and does not (A1)."""
    payer, before = chain.payer(), chain.balance(chain.seller)

    async def buy(url: str) -> None:
        async with payer.client() as client:
            for kind in (OutcomeKind.PAID, OutcomeKind.FREE):
                response = await client.get(url)
                assert response.json() == {"sold": True}
                outcome = outcome_of(response)
                assert outcome is not None
                assert outcome.kind is kind

    with its_server(version, chain) as url:
        anyio.run(buy, url)
        if version == "0.3.0":
            until(lambda: payer.money == FUNDS - PRICE, 30)
        else:
            until(lambda: _allowance(chain, payer) == PRICE, 30)
            assert payer.money == FUNDS
    assert chain.balance(chain.seller) - before == (PRICE if version == "0.3.0" else 0)


def _allowance(chain: Sepolia, payer: Buyer) -> int:
    signature = "allowance(address,address)"
    return int(chain.ground.rpc.view(USDC, "uint256", signature, payer.address, chain.seller))


@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_pays_its_server_nothing_above_its_cap(chain: Sepolia, version: str) -> None:
    payer = chain.payer()

    async def refuse(url: str) -> None:
        async with payer.client(most="0.499999") as client:
            response = await client.get(url)
        outcome = outcome_of(response)
        assert outcome is not None
        assert (response.status_code, outcome.kind, outcome.exposed_until) == (402, OutcomeKind.DECLINED, None)

    with its_server(version, chain) as url:
        anyio.run(refuse, url)
    assert (payer.money, _allowance(chain, payer)) == (FUNDS, 0)


# --------------------------------------------------------------------------- Permit2, for what its client knows no better way

TOKEN = Address("0x" + "7e" * 20)
OTHER: dict[str, Any] = {
    "caip2": CHAIN,
    "currency": "TEST",
    "token": TOKEN,
    "token_name": "USDC",
    "token_version": "2",
    "token_decimals": 6,
    "metadata": {"methods": ["permit2"]},
}


@pytest.fixture
def payer_of_other(chain: Sepolia) -> Buyer:
    """Somebody with another token, who has allowed Permit2 to move it (its client would do so by itself, B7)."""
    rpc = chain.ground.rpc
    if rpc("eth_getCode", PERMIT2, "latest") == "0x":
        place_permit2(rpc)
        if chain.ground.devnet is not None:
            place(chain.ground.devnet.chain, TOKEN, name="USDC", version="2")
        else:
            RealUSDC.place(rpc, at=TOKEN)
    buyer = chain.payer(0)
    rpc.must(DEV_KEYS[0], TOKEN, encode_call("mint(address,uint256)", buyer.address, FUNDS))
    rpc("anvil_setBalance", buyer.address, hex(10**18))
    rpc.must(bytes.fromhex(buyer.key[2:]), TOKEN, encode_call("approve(address,uint256)", PERMIT2, FUNDS))
    return buyer


def _moved(chain: Sepolia, payer: Buyer, before: int) -> tuple[int, int]:
    balance = chain.ground.rpc.balance
    return FUNDS - balance(TOKEN, payer.address), balance(TOKEN, chain.seller) - before


def test_its_client_buys_from_our_server_by_permit2(chain: Sepolia, tmp_path: Path, payer_of_other: Buyer) -> None:
    payer, before = payer_of_other, chain.ground.rpc.balance(TOKEN, chain.seller)
    method = {"payment_component": {**OTHER, "amount": 0.5}}
    with stand(chain, tmp_path, methods=(method,)) as it:
        component = {**OTHER, "rpc_url": chain.url}
        bought = its_client("0.3.0", payer, url=f"{it.url}/data", component=component)
        assert bought.returncode == 0, bought.stderr
        assert json.loads(bought.stdout.splitlines()[-1])["status"] == 200
        assert [entry.state for entry in it.settled()] == ["settled"]
    assert _moved(chain, payer, before) == (PRICE, PRICE)


def test_our_client_buys_from_its_server_by_permit2(chain: Sepolia, payer_of_other: Buyer) -> None:
    payer, before = payer_of_other, chain.ground.rpc.balance(TOKEN, chain.seller)

    async def buy(url: str) -> None:
        async with Http402Client(payer.hub()) as client:
            client.add_payment_method({**OTHER, "amount": 0.8})
            response = await client.get(url)
            assert response.json() == {"sold": True}

    with its_server("0.3.0", chain, component={**OTHER, "rpc_url": chain.url}) as url:
        anyio.run(buy, url)
        until(lambda: _moved(chain, payer, before) == (PRICE, PRICE), 30)
