"""A facilitator that says what the test tells it to, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.shop import NETWORK, PRICE
from x402core.evm.address import checksum
from x402core.values import Address

TX = "0x" + "ab" * 32
Say = Callable[[str, dict[str, Any]], Any]
"""From a path and the body to ``(status, headers, body)``; a dict is its JSON under 200; None closes without an answer."""


class Script:
    """Answers every request with what ``say`` returns, and keeps what it was asked; it has no list, unless ``say`` has one."""

    def __init__(self, say: Say | dict[str, Any] | None = None) -> None:
        self.say = say
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.hold = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                document = json.loads(body) if body else {}
                lists = callable(script.say) or (isinstance(script.say, dict) and "kinds" in script.say)
                if self.path.endswith("/supported") and not lists:
                    self.send_error(404)
                    return
                script.asked.append((self.path, document, {k.lower(): v for k, v in self.headers.items()}))
                answer = script.say(self.path, document) if callable(script.say) else script.say
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, text = answer if isinstance(answer, tuple) else (200, {}, json.dumps(answer).encode())
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def settled(payer: Address, /, **changes: Any) -> dict[str, Any]:
    """Return the answer of a facilitator that settled."""
    answer = {"success": True, "transaction": TX, "network": str(NETWORK), "payer": checksum(payer), "amount": str(PRICE)}
    return {key: value for key, value in {**answer, **changes}.items() if value is not ...}


def failed(payer: Address, reason: str, /, **changes: Any) -> dict[str, Any]:
    """Return the answer of a facilitator that refused."""
    return settled(payer, success=False, errorReason=reason, **{"transaction": "", "amount": ..., **changes})
