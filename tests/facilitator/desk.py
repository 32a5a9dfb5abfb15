"""A facilitator behind uvicorn on a free port of loopback, with an account and a ledger of its own, and what is sent it."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn

from tests.contracts import Placed
from tests.shop import NETWORK, Ground, Payer, fresh, offer_of, until
from x402bind.chain.signers import PrivateKeySigner
from x402bind.facilitator.app import FacilitatorApp
from x402bind.facilitator.service import Facilitator
from x402core.events import Method, Offer, Permit
from x402core.machines.settlement import SettlementPolicy
from x402core.values import Millis
from x402core.wire.facilitator import encode_request

QUICK = SettlementPolicy(look_first=Millis(5), look_most=Millis(40))
ETHER = 10**18


class Served:
    """Any ASGI application under uvicorn in a thread, lifespan and all."""

    def __init__(self, app: Any, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="critical", ws="none"))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with suppress(SystemExit):  # how uvicorn says that the application did not start
            self.server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.server.started or not self._thread.is_alive())
        if not self.server.started:
            self._socket.close()
            raise RuntimeError("the application did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive(), "the server did not stop"
        self._socket.close()


class Desk(Served):
    """A facilitator at work.  ``key`` is a new account with ether unless given; ``app`` are the application's options."""

    def __init__(
        self,
        ground: Ground,
        folder: Path,
        *,
        key: bytes | None = None,
        rpc: Any = None,
        app: dict[str, Any] | None = None,
        port: int = 0,
        **options: Any,
    ) -> None:
        self.ground = ground
        self.key = key or secrets.token_bytes(32)
        self.account = PrivateKeySigner(self.key).address
        ground.rpc("anvil_setBalance", self.account, hex(ETHER))
        nodes = rpc if isinstance(rpc, dict) else {NETWORK: rpc or ground.url}
        given: dict[str, Any] = {"key": self.key, "rpc": nodes, "settlement": QUICK}
        given |= {"ledger": f"sqlite:{folder / 'facilitator.db'}", "patience": 10.0, **options}
        self.facilitator = Facilitator(**given)
        self.facilitator.settler.poll = 0.05
        self.app = FacilitatorApp(self.facilitator, **(app or {}))
        super().__init__(self.app, port)

    def __exit__(self, *given: object) -> None:
        super().__exit__(*given)
        self.facilitator.ledger.close()

    @property
    def sent(self) -> int:
        """How many transactions its account has sent, mined or not."""
        return self.ground.sent_by(self.account, "pending")

    def post(self, path: str, body: object, **how: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(self.url + path, content=content, timeout=30, **how)

    def verify(self, body: object, **how: Any) -> dict[str, Any]:
        return _answer(self.post("/verify", body, **how))

    def settle(self, body: object, **how: Any) -> dict[str, Any]:
        return _answer(self.post("/settle", body, **how))

    def get(self, path: str, **how: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=10, **how)

    def outcomes(self) -> dict[str, int]:
        """Return the requests counted, by ``path outcome``."""
        lines = [line for line in self.get("/metrics").text.splitlines() if line.startswith("x402_requests_total{")]
        pieces = [line.replace('"', "").replace("}", "{").split("{") for line in lines]
        return {_label(labels): int(count) for _, labels, count in pieces}


def _label(labels: str) -> str:
    values = dict(each.split("=") for each in labels.split(","))
    return f"{values['path']} {values['outcome']}"


def _answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


class Sale:
    """A payment to a new payee: a payer with money, an offer, a permit, and the request that has it settled."""

    def __init__(
        self, ground: Ground, *, method: Method = Method.EIP3009, payer: Payer | None = None, spender: str = "", **how: Any
    ) -> None:
        self.ground = ground
        self.payer = payer or ground.payer()
        self.pay_to = fresh().address
        self.offer: Offer = offer_of(method, self.pay_to, spender=spender or self.pay_to)
        if method is Method.EIP3009:
            self.offer = replace(self.offer, spender=None)
        self.permit: Permit = self.payer.permit(self.offer, ground, **how)

    @property
    def body(self) -> dict[str, Any]:
        return request(self.permit, self.offer)

    @property
    def body_v1(self) -> dict[str, Any]:
        return request_v1(self.body)

    @property
    def earned(self) -> int:
        return self.ground.balance(self.pay_to)

    @property
    def left(self) -> int:
        return self.ground.balance(self.payer.address)


def request(permit: Permit, offer: Offer, **payload: Any) -> dict[str, Any]:
    """Return what a resource server posts, in v2; ``payload`` members are added to the payment's."""
    document = json.loads(encode_request(permit, offer))
    document["paymentPayload"] |= payload
    return document  # type: ignore[no-any-return]


def request_v1(body: dict[str, Any]) -> dict[str, Any]:
    """Return the same request in the words of v1 (x402.md 1.3), written out here by hand."""
    required = body["paymentRequirements"]
    return {
        "x402Version": 1,
        "paymentPayload": {
            "x402Version": 1,
            "scheme": "exact",
            "network": "base-sepolia",
            "payload": body["paymentPayload"]["payload"],
        },
        "paymentRequirements": {
            "scheme": "exact",
            "network": "base-sepolia",
            "maxAmountRequired": required["amount"],
            "resource": "https://seller.example/thing",
            "description": "",
            "mimeType": "application/json",
            "payTo": required["payTo"],
            "maxTimeoutSeconds": required["maxTimeoutSeconds"],
            "asset": required["asset"],
            "extra": {"name": "USDC", "version": "2"},
        },
    }


@dataclass(frozen=True, slots=True)
class Town:
    """A chain with every contract on it that a payment may need."""

    ground: Ground
    placed: Placed
