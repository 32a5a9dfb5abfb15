"""Our own facilitator, server and clients as parties of the matrix: each server under uvicorn in a thread, ledgers in files."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import parse_qs

import anyio
import httpx
import uvicorn

from tests.contracts import place_all
from tests.peers.matrix import CHARGE, PAYMENTS, Purchase
from tests.peers.official import Bought
from tests.shop import NETWORK, RELAYER_KEY, Ground, Wire, async_client, client, fresh, until
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.facilitator.app import FacilitatorApp
from x402bind.facilitator.service import Facilitator
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402bind.servers.held import App, Receive, Scope, Send
from x402core.commands import Outcome, OutcomeKind
from x402core.events import Dialect, Offer, SettleMode
from x402core.policy import offers
from x402core.values import Address
from x402core.wire import sponsoring

SELF_KEY = DEV_KEYS[7]
PRICED = "$0.01"
RECEIPTS = ("payment-response", "x-payment-response")


# ------------------------------------------------------------------------------------------------------ under uvicorn


class Served:
    """An ASGI application on a free port of loopback while the context lasts."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.folder = TemporaryDirectory()
        self.ledger = f"sqlite:{Path(self.folder.name) / 'ledger.db'}"

    def app(self) -> App:
        """Return what is served."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._server = uvicorn.Server(uvicorn.Config(self.app(), lifespan="on", log_level="warning", ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started, "it did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive(), "it did not stop"
        self._socket.close()
        self.folder.cleanup()


class OurFacilitator(Served):
    """Our facilitator for everybody's payments, deploying wallets of the tests' factory; account 4 pays for the gas."""

    def __init__(self, ground: Ground, *, key: bytes = RELAYER_KEY, **how: Any) -> None:
        super().__init__()
        placed = place_all(ground.rpc)
        how = {"factories": (placed.factory,), "managers": (placed.manager,), **how}
        self.service = Facilitator(key=key, rpc={"base-sepolia": ground.url}, ledger=self.ledger, **how)

    def app(self) -> App:
        return FacilitatorApp(self.service)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.service.ledger.close()

    @property
    def url(self) -> str:
        return self.origin

    @property
    def log(self) -> str:
        return f"--- our facilitator\n{_entries(self.service.ledger)}"


class Nobody:
    """The facilitator of a server that settles itself."""

    url = ""
    log = ""

    def __init__(self, _: Ground) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


# ------------------------------------------------------------------------------------------------------ the server


class Handlers:
    """What is sold: its path and how often anything was; an upto path charges what its query says."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.runs += 1
        headers = [(b"content-type", b"application/json")]
        if scope["path"].startswith("/upto"):
            charge = parse_qs(scope["query_string"].decode()).get("charge", [str(CHARGE)])[0]
            headers.append((b"Settlement-Overrides", json.dumps({"amount": charge}).encode()))
        body = json.dumps({"sold": scope["path"], "run": self.runs}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class OurServer(Served):
    """Our middleware with a path for each way of paying; ``facilitator`` "" means that account 7 settles."""

    def __init__(self, ground: Ground, facilitator: str, **how: Any) -> None:
        super().__init__()
        self.pay_to = fresh().address
        self.handlers = Handlers()
        if facilitator:
            how = {"facilitator": facilitator, "networks": ("base-sepolia",), **how}
        else:
            how = {"key": SELF_KEY, "rpc": {"base-sepolia": ground.url}, **how}
        placed = place_all(ground.rpc)
        how = {"factories": (placed.factory,), "managers": (placed.manager,), **how}
        self.seller = Seller(ledger=self.ledger, pay_to=self.pay_to, url=self.origin, **how)
        anyio.run(self.seller.prepare)  # in another event loop than the server's, as a module that makes its app does
        account = self.seller.signer.address if self.seller.signer else self.seller._kinds[NETWORK]
        self.gate = PaymentMiddleware(self.handlers, self.seller, self._prices(account), upto=UPTO)
        for path, extensions in SPONSORED.items():  # one way of sponsoring only, so that a row says which was taken
            shelf = self.gate.paths.find(path)
            assert shelf is not None
            assert shelf.fixed is not None
            shelf.fixed = replace(shelf.fixed, extensions=extensions)

    def _prices(self, account: Address) -> Mapping[str, str | Iterable[Offer]]:
        def one(method: str, dialect: Dialect = Dialect.V2, settle: SettleMode = SettleMode.AFTER) -> tuple[Offer, ...]:
            how = {"settle": settle, "spender": account, "facilitator": account, "methods": (method,)}
            return offers(PRICED, NETWORK, self.pay_to, dialects=(dialect,), **how)

        return {
            "/eip3009": PRICED,  # in both versions
            "/eip3009-v1": one("eip3009", Dialect.V1),
            "/eip3009-upfront": one("eip3009", settle=SettleMode.BEFORE),
            "/permit2": one("permit2"),
            "/permit2-upfront": one("permit2", settle=SettleMode.BEFORE),
            "/permit2-eip2612": one("permit2"),
            "/permit2-approval": one("permit2"),
            "/eip2612": one("eip2612"),
            "/erc7710": one("erc7710"),
            **dict.fromkeys(UPTO, PRICED),
        }

    def app(self) -> App:
        return self.gate

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.seller.ledger.close()

    def url(self, path: str) -> str:
        return self.origin + path

    @property
    def runs(self) -> int:
        return self.handlers.runs

    @property
    def log(self) -> str:
        return f"--- our server\n{_entries(self.seller.ledger)}"


class OurProvingServer(OurServer):
    """The same, which asks the chain for a proof of what the facilitator says."""

    def __init__(self, ground: Ground, facilitator: str, **how: Any) -> None:
        super().__init__(ground, facilitator, rpc={"base-sepolia": ground.url}, prove=True, **how)


UPTO = ("/upto", "/upto-eip2612", "/upto-approval")
SPONSORED = {
    **dict.fromkeys(("/permit2-eip2612", "/upto-eip2612"), sponsoring.advertised(approvals=False)),
    **dict.fromkeys(("/permit2-approval", "/upto-approval"), sponsoring.advertised(permits=False)),
}


def _entries(ledger: Any) -> str:
    return "\n".join(map(str, ledger.entries()[-3:]))


# ------------------------------------------------------------------------------------------------------ the clients


def with_httpx(purchase: Purchase) -> Bought:
    """Buy with our sync client."""
    with client(purchase.payer.purse(purchase.ground, *_spoken(purchase))) as (http, wire):
        return told(http.get(purchase.url), wire)


def with_httpx_async(purchase: Purchase) -> Bought:
    """Buy with our async client."""

    async def buy() -> Bought:
        paying, wire = async_client(purchase.payer.purse(purchase.ground, *_spoken(purchase)))
        async with paying:
            return told(await paying.get(purchase.url), wire)

    return anyio.run(buy)


def _spoken(purchase: Purchase) -> tuple[Dialect, ...]:
    return (Dialect.V1,) if purchase.row.version == 1 else (Dialect.V2, Dialect.V1)


def told(response: httpx.Response, wire: Wire) -> Bought:
    """Say what came of a purchase, as the official clients' script does."""
    outcome: Outcome = response.extensions["x402"]
    error = None if outcome.kind is OutcomeKind.PAID else f"{outcome.kind}: {outcome.refusal}"
    return replace(seen(wire.sent[-1].headers, response, error), requests=len(wire.sent), cost=outcome.amount)


def seen(sent: httpx.Headers, response: httpx.Response, error: str | None = None) -> Bought:
    """Return what one exchanged pair of messages says."""
    receipt_header, receipt = _decoded(response.headers, RECEIPTS)
    sent_header, payment = _decoded(sent, PAYMENTS.values())
    return Bought(response.status_code, response.text, receipt, receipt_header, payment, sent_header, error=error, requests=2)


def _decoded(headers: httpx.Headers, names: Iterable[str]) -> tuple[str | None, Any]:
    for name in names:
        if name in headers:
            return name, json.loads(base64.b64decode(headers[name], validate=True))
    return None, None
