"""A v1 server in the plainest terms, as the official SDK has none any more: a body with terms, X-PAYMENT, a facilitator.

It shares no code with ours, so that a v1 row can fail on our side only.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

from tests.chains import USDC
from tests.shop import PRICE, fresh
from x402core.evm.address import checksum


class V1Stub:
    """Sells every path by exact/EIP-3009 on base-sepolia, v1 only, settling before it answers."""

    def __init__(self, facilitator: str) -> None:
        self.facilitator = facilitator
        self.pay_to = fresh().address
        self.runs = 0
        self.exchanges: list[tuple[str, Any, Any]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, receipt, body = stub.answer(self.path, self.headers.get("X-PAYMENT"))
                self.send_response(status)
                if receipt is not None:
                    self.send_header("X-PAYMENT-RESPONSE", base64.b64encode(json.dumps(receipt).encode()).decode())
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def url(self, path: str) -> str:
        return self.origin + path

    @property
    def log(self) -> str:
        return f"--- v1 stub\n{json.dumps(self.exchanges, indent=1)}"

    def terms(self, path: str) -> dict[str, Any]:
        """Return the one entry of ``accepts``."""
        return {
            "scheme": "exact",
            "network": "base-sepolia",
            "maxAmountRequired": str(PRICE),
            "resource": self.url(path),
            "description": "",
            "mimeType": "application/json",
            "payTo": checksum(self.pay_to),
            "maxTimeoutSeconds": 60,
            "asset": checksum(USDC),
            "extra": {"name": "USDC", "version": "2"},
        }

    def answer(self, path: str, header: str | None) -> tuple[int, Any, Any]:
        """Return status, receipt and body: unpaid, refused, unsettled or sold."""
        terms = self.terms(path)
        if header is None:
            return self._demand(terms, "X-PAYMENT header is required")
        payload = json.loads(base64.b64decode(header, validate=True))
        asked = {"x402Version": 1, "paymentPayload": payload, "paymentRequirements": terms}
        verified = self._ask("/verify", asked)
        if not verified["isValid"]:
            return self._demand(terms, verified["invalidReason"])
        settled = self._ask("/settle", asked)
        if not settled["success"]:
            return 402, settled, {"x402Version": 1, "error": settled["errorReason"], "accepts": [terms]}
        self.runs += 1
        return 200, settled, {"sold": path, "run": self.runs}

    def _demand(self, terms: dict[str, Any], error: str) -> tuple[int, Any, Any]:
        return 402, None, {"x402Version": 1, "error": error, "accepts": [terms]}

    def _ask(self, path: str, asked: dict[str, Any]) -> Any:
        answer = httpx.post(self.facilitator + path, json=asked, timeout=60, verify=False)
        self.exchanges.append((path, asked, answer.json()))
        assert answer.status_code == 200, answer.text
        return answer.json()
