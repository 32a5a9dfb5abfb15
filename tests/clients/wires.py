"""A seller on sockets that an ordinary server does not give: one that hangs up, that speaks TLS, that speaks HTTP/2.

The certificate is self-signed, for ``localhost`` and 127.0.0.1, and guards nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.clients.fakes import Seen
from x402core.errors import Reply

Answer = Callable[[Seen], Reply | None]

_PEM = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg35W+MZdD1jD5aTWR
uj8rFOb1nhBYRLeOmcCWmBgarMWhRANCAATo7i5WlMapAHc28TpBn9w9tGVHs/oR
oiRaKgL0KflwevdeDW9Gt2fP1Sld+UjcZOoq1PO80IpwXrrj9WtuHSsk
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOjuLlaUxqkAdzbx
OkGf3D20ZUez+hGiJFoqAvQp+XB6914Nb0a3Z8/VKV35SNxk6irU87zQinBeuuP1
a24dKySjXjBcMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUS+lqclJG6yzTNPVZ3AOW
P0l9M9cwCgYIKoZIzj0EAwIDRwAwRAIgG8k5fjneO86ekU+S+qaI7vBm7+I0gOz3
HDE9VAW/MpgCIGCNt0Cgqnmb71zzf+VHfGlOcmC0M4poV/B7xSg1BpYN
-----END CERTIFICATE-----
"""


def server_tls(folder: Path, *protocols: str) -> ssl.SSLContext:
    """Return the server's side of TLS, offering ``protocols`` (ALPN)."""
    file = folder / "server.pem"
    file.write_text(_PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def client_tls() -> ssl.SSLContext:
    """Return the side of a client that trusts this certificate and no other."""
    return ssl.create_default_context(cadata=_PEM[_PEM.index("-----BEGIN CERT") :])


@contextmanager
def on_wire(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve HTTP/1.1, one thread for each connection; an answer of None hangs up, and lengths are the answer's own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            host = f"{'http' if tls is None else 'https'}://{self.headers['Host']}"
            reply = answer(Seen(self.command, host + self.path, tuple(self.headers.items()), body))
            if reply is None:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            if not any(name == "Content-Length" for name, _ in reply.headers):
                self.send_header("Content-Length", str(len(reply.body)))
            else:
                self.close_connection = True
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = handle_one

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Http2:
    """One HTTP/2 connection: every request is answered when it is whole."""

    def __init__(self, answer: Answer, scheme: str) -> None:
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self.answer = answer
        self.scheme = scheme
        self.heads: dict[int, list[tuple[str, str]]] = {}
        self.bodies: dict[int, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2.initiate_connection()
        writer.write(self.h2.data_to_send())
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for event in self.h2.receive_data(data):
                    self.on(event)
                writer.write(self.h2.data_to_send())
                await writer.drain()
            writer.close()

    def on(self, event: Any) -> None:
        from h2 import events

        if isinstance(event, events.RequestReceived):
            self.heads[event.stream_id], self.bodies[event.stream_id] = list(event.headers), b""
        elif isinstance(event, events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            self.reply(event.stream_id)

    def reply(self, stream: int) -> None:
        head = dict(self.heads[stream])
        url = f"{self.scheme}://{head[':authority']}{head[':path']}"
        headers = tuple(pair for pair in self.heads[stream] if not pair[0].startswith(":"))
        reply = self.answer(Seen(head[":method"], url, headers, self.bodies[stream]))
        assert reply is not None
        raw = [(":status", str(reply.status)), *[(name.lower(), value) for name, value in reply.headers]]
        self.h2.send_headers(stream, raw)
        for at in range(0, len(reply.body), 1000):
            self.h2.send_data(stream, reply.body[at : at + 1000])
        self.h2.end_stream(stream)


@contextmanager
def on_http2(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve HTTP/2, over TLS or to whoever knows beforehand."""
    loop, bound, ready = asyncio.new_event_loop(), list[Any](), threading.Event()
    scheme = "http" if tls is None else "https"

    async def main() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(lambda r, w: _Http2(answer, scheme).serve(r, w), "127.0.0.1", 0, ssl=tls)
        bound.extend([server.sockets[0].getsockname()[1], stop])
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield f"{scheme}://127.0.0.1:{bound[0]}"
    finally:
        loop.call_soon_threadsafe(bound[1].set)
        thread.join(5)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
