"""y402 1.1.0 as released, in its own environment: its clients buy from our servers, our clients buy from its servers.

The chain says it is Base Sepolia and has USDC at its address there: ours on the embedded chain, Circle's own code on anvil.
Its servers settle through our facilitator, in x402 v1.
"""

from __future__ import annotations

import base64
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
from eth_account import Account

from tests.chains import Missing
from tests.compat.y402.ground import Site, Till, our_facilitator
from tests.compat.y402.relay import FirstVersionOnly
from tests.install_peers import PEERS
from tests.shop import FUNDS, PRICE, Ground, Payer, fresh, on_anvil, on_devnet, until

pytestmark = pytest.mark.peer
HERE = Path(__file__).parent
CLIENTS = ("httpx", "httpx_sync", "requests")


def y402_python() -> str:
    python = os.environ.get("X402_Y402_PYTHON", str(PEERS / "y402" / "bin" / "python"))
    if not python or not Path(python).exists():
        raise Missing("y402 1.1.0 is missing: python -m tests.install_peers, or set X402_Y402_PYTHON")
    return python


@pytest.fixture(scope="module", params=["devnet", pytest.param("anvil", marks=pytest.mark.anvil)])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with on_anvil() if request.param == "anvil" else on_devnet() as ground:
        yield ground


@pytest.fixture(scope="module")
def facilitator(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with our_facilitator(ground, tmp_path_factory.mktemp("facilitator")) as url:
        yield url


# -------------------------------------------------------------------------------------------- its clients, our servers


@contextmanager
def our_fastapi(till: Till) -> Iterator[str]:
    from fastapi import FastAPI

    from x402bind.compat.y402.api.fastapi.middleware import payment_required
    from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings

    app = FastAPI()
    app.middleware("http")(payment_required(**till.arguments()))

    @X402EndpointSettings(payments_details=till.costs())
    @app.post("/data")
    async def data(body: dict[str, int]) -> dict[str, int]:
        return body

    with Site(app) as site:
        yield f"{site.origin}/data"


@contextmanager
def our_flask(till: Till) -> Iterator[str]:
    from flask import Flask, request

    from tests.compat.y402.ground import serving
    from x402bind.compat.y402.api.flask.decorator import payment_required
    from x402bind.compat.y402.api.flask.types.endpoint_settings import X402EndpointSettings

    app = Flask("ours")
    require_payment = payment_required(**till.arguments())

    @app.post("/data")
    @require_payment
    @X402EndpointSettings(payments_details=till.costs())
    def data() -> Any:
        return request.get_json()

    with serving(app, require_payment) as origin:
        yield f"{origin}/data"


def its_client_buys(url: str, payer: Payer, client: str) -> Any:
    asked = {"key": "0x" + payer.key.hex(), "url": url, "client": client, "method": "POST", "body": {"n": 1}}
    command = [y402_python(), str(HERE / "y402_client.py")]
    ran = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", [our_fastapi, our_flask])
def test_its_client_buys_from_our_server(ground: Ground, facilitator: str, tmp_path: Path, server: Any, client: str) -> None:
    till, payer = Till(ground, facilitator, tmp_path), ground.payer()
    with server(till) as url:
        told = its_client_buys(url, payer, client)
    assert (told["status"], json.loads(told["text"])) == (200, {"n": 1})
    receipt = json.loads(base64.b64decode(told["receipt"]))
    assert (receipt["success"], receipt["network"]) == (True, "base-sepolia")
    assert receipt["payer"].lower() == payer.address
    assert (ground.balance(payer.address), till.earned) == (FUNDS - PRICE, PRICE)


# -------------------------------------------------------------------------------------------- our clients, its servers


@contextmanager
def its_server(facilitator: str, pay_to: str, server: str, library: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asked = {"server": server, "library": library, "port": port, "facilitator": facilitator, "pay_to": pay_to}
    command = [y402_python(), str(HERE / "y402_server.py")]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, **silent)  # type: ignore[call-overload]
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        url = f"http://127.0.0.1:{port}/data"
        until(lambda: process.poll() is not None or _answers(url), 30)
        assert process.poll() is None, "y402's server did not start"
        yield url
    finally:
        process.kill()
        process.communicate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 402
    except httpx.TransportError:
        return False


def buy(client: str, key: bytes, url: str) -> Any:
    from x402bind.compat.y402.clients import httpx as async_client
    from x402bind.compat.y402.clients import httpx_sync, requests

    account = Account.from_key(key)
    if client == "httpx":

        async def ask() -> Any:
            async with async_client.Y402Client(account, policy="$0.01", timeout=30) as paying:
                return await paying.get(url)

        return anyio.run(ask)
    if client == "httpx_sync":
        with httpx_sync.Y402Client(account, policy="$0.01", timeout=30) as paying:
            return paying.get(url)
    with requests.y402_requests(account, policy="$0.01") as session:
        return session.get(url, timeout=30)


@pytest.mark.parametrize(("server", "library"), [("fastapi", "httpx"), ("flask", "httpx_sync"), ("flask", "requests")])
def test_our_clients_buy_from_its_server(ground: Ground, facilitator: str, server: str, library: str) -> None:
    pay_to, payer = fresh().address, ground.payer()
    with its_server(facilitator, pay_to, server, library) as url:
        for count, client in enumerate(CLIENTS, 1):
            response = buy(client, payer.key, url)
            assert (response.status_code, response.json()) == (200, {"sold": True}), client
            assert (ground.balance(payer.address), ground.balance(pay_to)) == (FUNDS - count * PRICE, count * PRICE)


# -------------------------------------------------------------------------------------------- a facilitator of v1 alone


def test_its_server_and_ours_sell_through_the_same_v1_stand_in(ground: Ground, facilitator: str, tmp_path: Path) -> None:
    """The released package knows no other version; ours asks in it because the stand-in lists nothing else."""
    front, pay_to, payer = FirstVersionOnly(facilitator), fresh().address, ground.payer()
    with Site(front) as site:
        with its_server(site.origin, pay_to, "fastapi", "httpx") as url:
            assert buy("httpx_sync", payer.key, url).json() == {"sold": True}
        assert (front.asked, ground.balance(pay_to)) == (["/verify", "/settle"], PRICE)
        till = Till(ground, site.origin, tmp_path)
        for count, server in enumerate((our_fastapi, our_flask), 1):
            with server(till) as url:
                told = its_client_buys(url, payer, "httpx")
                assert (told["status"], json.loads(told["text"]), till.earned) == (200, {"n": 1}, count * PRICE)
    assert (front.asked, front.unheard) == (["/verify", "/settle"] * 3, [])
    assert ground.balance(payer.address) == FUNDS - 3 * PRICE
    theirs, *ours = [body for path, body in zip(front.asked, front.bodies, strict=True) if path == "/settle"]
    for body in ours:  # the same members, but for what v1 lets be left out
        assert set(body["paymentPayload"]) == set(theirs["paymentPayload"])
        assert set(theirs["paymentRequirements"]) == set(body["paymentRequirements"])
