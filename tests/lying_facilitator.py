"""A facilitator on loopback that says whatever the test has it say, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self, TypeAlias

from tests.shop import NETWORK

__all__ = ["SECRET", "TRANSACTION", "Facilitator", "Said", "settled", "supported", "valid"]

Said: TypeAlias = "tuple[int, bytes] | None"
"""A status and a body; None hangs up without a word."""
SECRET: Final = "hunter2"
"""Stands for all that a facilitator lets slip and a payer must not see."""
TRANSACTION: Final = "0x" + "ab" * 32


def _json(document: object, status: int = 200) -> Said:
    return status, json.dumps(document).encode()


def supported(*networks: str) -> Said:
    """Answer ``/supported``."""
    kinds = [{"x402Version": 2, "scheme": "exact", "network": network} for network in networks or (NETWORK,)]
    return _json({"kinds": kinds, "extensions": [], "signers": {}})


def valid(payer: str, **changed: Any) -> Said:
    """Answer that a payment is valid."""
    return _json({"isValid": True, "payer": payer, **changed})


def settled(payer: str, **changed: Any) -> Said:
    """Answer that a payment was settled; a ``payer`` of None is left out."""
    document = {"success": True, "transaction": TRANSACTION, "network": NETWORK, "payer": payer, **changed}
    return _json({name: value for name, value in document.items() if value is not None})


class Facilitator:
    """Says yes to all, until ``says`` (by path: a function of the payer) is changed."""

    def __init__(self, port: int = 0) -> None:
        self.says: dict[str, Callable[[str], Said]] = {
            "/supported": lambda _: supported(),
            "/verify": valid,
            "/settle": settled,
        }
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        facilitator = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                said = facilitator.answer(self.path, body)
                if said is None:
                    self.close_connection = True
                    return
                self.send_response(said[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said[1])))
                self.end_headers()
                self.wfile.write(said[1])

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def answer(self, path: str, body: bytes) -> Said:
        self.asked.append(path)
        payer = ""
        if body:
            document = json.loads(body)
            self.bodies.append(document)
            payer = document["paymentPayload"]["payload"]["authorization"]["from"]
        return self.says[path](payer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
