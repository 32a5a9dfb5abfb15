"""A shop without an event loop: a seller behind real servers of threads, on loopback, and what the chain says of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from waitress.server import create_server
from werkzeug.serving import make_server

from tests.shop import PRICE, RELAYER_KEY, Ground, Payer, client, fresh, until
from x402bind.seller import Seller
from x402bind.servers.background import Background
from x402core.events import Dialect, Offer
from x402core.machines.settlement import SettlementPolicy
from x402core.values import Millis

QUICK = SettlementPolicy(look_first=Millis(5), look_most=Millis(40))


class Stall:
    """A seller with a place on loopback; ``serving`` runs an application there."""

    def __init__(self, ground: Ground, folder: Path, **seller: Any) -> None:
        self.ground, self.pay_to = ground, fresh().address
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        options: dict[str, Any] = {
            "token_key": b"k" * 32,
            "url": self.url,
            "pay_to": self.pay_to,
            "key": RELAYER_KEY,
            "rpc": {"base-sepolia": ground.url},
            "ledger": f"sqlite:{folder / 'ledger.db'}",
            "settlement": QUICK,
        }
        self.seller = Seller(**{**options, **seller})
        self.backgrounds: list[Background] = []

    @contextmanager
    def waitress(self, app: Any, threads: int = 8) -> Iterator[str]:
        """Serve with waitress."""
        server = create_server(app, sockets=[self._socket], threads=threads, _start=True)

        def run() -> None:
            with suppress(OSError):  # its sockets are closed under it: it knows no other end
                server.run()

        yield from self._running(run, server.close)

    @contextmanager
    def werkzeug(self, app: Any) -> Iterator[str]:
        """Serve with werkzeug's server, a thread a request."""
        port = self._socket.getsockname()[1]
        server = make_server("127.0.0.1", port, app, threaded=True, fd=self._socket.fileno())
        yield from self._running(server.serve_forever, server.shutdown)
        server.server_close()

    def _running(self, run: Callable[[], object], stop: Callable[[], object]) -> Iterator[str]:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield self.url
        finally:
            stop()
            thread.join(10)
            self.close()

    def close(self) -> None:
        self._socket.close()
        for background in self.backgrounds:
            background.close()
        self.seller.ledger.close()

    @property
    def earned(self) -> int:
        """How many times the price was paid."""
        earned, rest = divmod(self.ground.balance(self.pay_to), PRICE)
        assert rest == 0
        return earned

    def settled(self, count: int) -> tuple[Any, ...]:
        """Wait until so many payments have ended, and return them."""
        over = ("settled", "void")
        entries = self.seller.ledger.entries
        return until(lambda: (e := [e for e in entries() if e.state in over]) and len(e) >= count and tuple(e))

    def offer(self, dialect: Dialect = Dialect.V2, path: str = "/paid", price: str = "$0.01") -> Offer:
        return next(offer for offer in self.seller.terms(price, path).offers if offer.dialect is dialect)

    def header(self, payer: Payer, path: str = "/paid") -> dict[str, str]:
        return payer.header(self.offer(path=path), self.ground)


@contextmanager
def buying(payer: Payer, ground: Ground, *dialects: Dialect) -> Iterator[Any]:
    """Run a client that pays."""
    with client(payer.purse(ground, *dialects)) as (paying, wire):
        yield paying, wire
