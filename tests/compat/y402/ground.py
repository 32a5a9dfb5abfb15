"""A chain, our facilitator on it, and y402's servers and clients between them, all on loopback."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from werkzeug.serving import make_server

from tests.peers.ours import Served
from tests.shop import RELAYER_KEY, Ground, Payer, fresh
from x402bind.compat.y402.core.types.facilitator import FacilitatorConfig
from x402bind.compat.y402.core.types.requirements import RequirePaymentDetails
from x402bind.compat.y402.core.types.setup import Y402Setup
from x402bind.facilitator.app import FacilitatorApp
from x402bind.facilitator.service import Facilitator
from x402core.evm import digests
from x402core.evm.secp256k1 import sign
from x402core.values import Address

NETWORK = "base-sepolia"


class Site(Served):
    """An ASGI application, served."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app

    def app(self) -> Any:
        return self._app


@contextmanager
def our_facilitator(ground: Ground, folder: Path, **how: Any) -> Iterator[str]:
    """Run our facilitator, and give its URL."""
    rpc = {NETWORK: ground.url}
    service = Facilitator(key=RELAYER_KEY, rpc=rpc, ledger=f"sqlite:{folder / 'facilitator.db'}", **how)
    with Site(FacilitatorApp(service)) as site:
        yield site.origin
    service.ledger.close()


@contextmanager
def serving(app: Any, *gates: Any) -> Iterator[str]:
    """Serve an application with threads, as Flask's own server does."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
        for gate in gates:
            gate.close()


def base_sepolia() -> Y402Setup:
    """Return the setup of y402's README, for the test network."""
    setup = Y402Setup()
    setup.add_network(NETWORK)
    setup.add_token(NETWORK, "usdc", default_for_symbol=True)
    setup.set_default_token(NETWORK, "usdc")
    return setup


class Till:
    """What a seller's server is made of: the arguments of ``payment_required``, and who is paid."""

    def __init__(self, ground: Ground, facilitator: str, folder: Path) -> None:
        self.ground = ground
        self.pay_to = fresh().address
        self.url = facilitator
        self.folder = folder

    def arguments(self, **more: Any) -> dict[str, Any]:
        config = FacilitatorConfig(url=self.url)
        ledger = f"sqlite:{self.folder / 'ledger.db'}"
        return {"setup": base_sepolia(), "facilitator_config": config, "ledger": ledger, **more}

    def costs(self, price: Any = "$0.01") -> list[RequirePaymentDetails]:
        return [RequirePaymentDetails(network=NETWORK, price=price, pay_to_address=self.pay_to)]

    @property
    def earned(self) -> int:
        return self.ground.balance(self.pay_to)


def header_for(answer: httpx.Response, payer: Payer, *, which: int = 0, **changed: Any) -> dict[str, str]:
    """Return the X-PAYMENT that a v1 client answers a 402 with."""
    wanted = answer.json()["accepts"][which]
    now = int(time.time())
    told = {
        "from": payer.address,
        "to": wanted["payTo"],
        "value": wanted["maxAmountRequired"],
        "validAfter": str(now - 60),
        "validBefore": str(now + wanted["maxTimeoutSeconds"]),
        "nonce": "0x" + secrets.token_hex(32),
    } | changed.pop("authorization", {})
    extra = wanted["extra"]
    separator = digests.domain(extra["name"], extra["version"], 84532, Address(wanted["asset"].lower()))
    numbers = int(told["value"]), int(told["validAfter"]), int(told["validBefore"])
    digest = digests.transfer_authorization_digest(separator, told["from"], told["to"].lower(), *numbers, told["nonce"])
    document = {
        "x402Version": 1,
        "scheme": "exact",
        "network": wanted["network"],
        "payload": {"signature": "0x" + sign(digest, payer.key).hex(), "authorization": told},
    } | changed
    return {"X-PAYMENT": base64.b64encode(json.dumps(document).encode()).decode()}
