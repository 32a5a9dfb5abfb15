"""The node's HTTP face: POST a JSON-RPC body, get one back; loopback only.

Keep-alive with Nagle off: a request and its answer are one packet each.  A page in a browser may call (CORS is open, the
chain is worth nothing), but not under a foreign host name (DNS rebinding).
"""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final

from .chain import Chain
from .errors import INVALID_REQUEST, RpcError
from .rpc import BODY_MOST, answer, refusal

__all__ = ["Server"]

_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Server:
    """Serves one chain on ``127.0.0.1:port`` (0: a free port) from a thread of its own."""

    def __init__(self, chain: Chain, port: int = 0) -> None:
        self._http = _Http(chain, port)
        self._thread = Thread(target=self._http.serve_forever, args=(0.02,), name="devnet", daemon=True)

    @property
    def url(self) -> str:
        """Where to POST."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, and close every connection."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        self._http.hang_up()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, chain: Chain, port: int) -> None:
        self.chain = chain
        self._open: set[socket.socket] = set()
        self._guard = Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; the methods log their own errors."""

    def hang_up(self) -> None:
        with self._guard:
            connections, self._open = self._open, set()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was first


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together
    timeout = 300
    server: _Http

    def do_POST(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host.lower() not in _HOSTS:
            self._refuse(403, "invalid host specified")
            return
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") is not None or not (length.isascii() and length.isdigit()):
            self._refuse(411, "a body needs a Content-Length")
        elif len(length) > 9 or int(length) > BODY_MOST:
            self._refuse(413, f"request body too large: at most {BODY_MOST} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                self.close_connection = True  # the client hung up in mid-request
                return
            reply = answer(self.server.chain, body)
            self._send(200 if reply else 204, reply)

    def do_OPTIONS(self) -> None:
        self._send(204, b"")

    def do_GET(self) -> None:
        self._refuse(405, "this is a JSON-RPC node: POST to it")

    def _refuse(self, status: int, text: str) -> None:
        """Answer without having read the body, so the connection is of no more use."""
        self.close_connection = True
        self._send(status, refusal(RpcError(text, INVALID_REQUEST)))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in (
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Headers", "content-type"),
            ("Access-Control-Allow-Methods", "POST"),
            *([("Connection", "close")] if self.close_connection else []),
            *([("Content-Type", "application/json")] if body else []),
            *([("Content-Length", str(len(body)))] if status != 204 else []),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the library has no business on stderr."""
