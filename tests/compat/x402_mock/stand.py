"""A stand to sell at: ``Http402Server`` on a socket, before a chain that says it is Sepolia, with money on it."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from tests.chains import Anvil, RealUSDC, Rpc
from tests.shop import FUNDS, Ground, until
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.devnet.token import place
from x402bind.chain.signers import PrivateKeySigner
from x402bind.compat.x402_mock.adapters import AdapterHub
from x402bind.compat.x402_mock.clients import Http402Client
from x402bind.compat.x402_mock.servers import Http402Server
from x402core import KNOWN
from x402core.evm.abi import encode_call
from x402core.values import Address

SEPOLIA = 11155111
CHAIN = f"eip155:{SEPOLIA}"
USDC = KNOWN.by_code("sepolia", "usdc").address
PRICE = 500_000
SELLER, MINTER = 2, 0
TOKEN_KEY = "t" * 32


@dataclass(frozen=True)
class Sepolia:
    """The chain, and who is on it."""

    ground: Ground

    @property
    def url(self) -> str:
        return self.ground.url

    @property
    def seller(self) -> Address:
        return dev_accounts()[SELLER]

    def balance(self, account: str) -> int:
        return self.ground.rpc.balance(USDC, Address(account.lower()))

    def payer(self, amount: int = FUNDS) -> Buyer:
        """Return somebody new with money and no ether."""
        key = secrets.token_bytes(32)
        buyer = Buyer("0x" + key.hex(), PrivateKeySigner(key).address, self)
        if amount:
            self.ground.rpc.must(DEV_KEYS[MINTER], USDC, encode_call("mint(address,uint256)", buyer.address, amount))
        return buyer


@dataclass(frozen=True)
class Buyer:
    """Somebody who pays."""

    key: str
    address: Address
    chain: Sepolia

    def hub(self) -> AdapterHub:
        return AdapterHub(self.key, self.chain.url)

    def client(self, most: Any = 0.8, **options: Any) -> Http402Client:
        client = Http402Client(adapter_hub=self.hub(), **options)
        client.add_payment_method(chain_id=CHAIN, amount=most, currency="USDC")
        return client

    @property
    def money(self) -> int:
        return self.chain.balance(self.address)


@contextmanager
def on_devnet() -> Iterator[Sepolia]:
    """The embedded chain."""
    with Devnet(SEPOLIA) as devnet, closing(Rpc(devnet.url)) as rpc:
        place(devnet.chain, USDC, name="USDC", version="2")
        yield Sepolia(Ground(devnet.url, rpc, devnet))


@contextmanager
def on_anvil() -> Iterator[Sepolia]:
    """Anvil, with Circle's own code; account 0 mints."""
    with Anvil(SEPOLIA) as anvil, closing(Rpc(anvil.url)) as rpc:
        RealUSDC.place(rpc, at=USDC)
        yield Sepolia(Ground(anvil.url, rpc))


@dataclass
class Stand:
    """A server that runs."""

    url: str
    app: Http402Server
    chain: Sepolia

    def settled(self, count: int = 1) -> list[Any]:
        """Wait until so many payments have ended, and return them."""
        seller = self.app.seller
        assert seller is not None
        ended = lambda: [each for each in seller.ledger.entries() if each.state in ("settled", "void")]  # noqa: E731
        until(lambda: len(ended()) >= count, 20)
        return ended()


def server(chain: Sepolia, folder: Path, **how: Any) -> Http402Server:
    """Return a server of one price, half a dollar."""
    hub = how.pop("hub", None) or AdapterHub(DEV_KEYS[SELLER].hex(), chain.url)
    how = {"token_key": TOKEN_KEY, "token_expires_in": 300, "ledger": f"sqlite:{folder / 'ledger.db'}", **how}
    methods = how.pop("methods", ({"chain_id": CHAIN, "amount": 0.5, "currency": "USDC"},))
    app = Http402Server(adapter_hub=hub, **how)
    for method in methods:
        app.add_payment_method(**method)
    return app


@contextmanager
def running(app: Http402Server, chain: Sepolia) -> Iterator[Stand]:
    """Serve on a socket of its own."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    runner = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: runner.started or not thread.is_alive())
    assert runner.started
    try:
        yield Stand(f"http://127.0.0.1:{listening.getsockname()[1]}", app, chain)
    finally:
        runner.should_exit = True
        thread.join(10)
        listening.close()


@contextmanager
def stand(chain: Sepolia, folder: Path, routes: Callable[[Http402Server], Any] | None = None, **how: Any) -> Iterator[Stand]:
    """Sell ``/data`` and ``/other``, or what ``routes`` adds."""
    app = server(chain, folder, **how)
    (routes or plain)(app)
    with running(app, chain) as it:
        yield it


def plain(app: Http402Server) -> None:
    """Two handlers as x402-mock's users write them."""

    @app.get("/data")
    @app.payment_required
    async def data(authorization):  # type: ignore[no-untyped-def]
        return {"sold": True, "paid_by": authorization["address"].lower()}

    @app.get("/other")
    @app.payment_required
    async def other(payload):  # type: ignore[no-untyped-def]
        return {"other": True}
