"""Run the command line in this process or in one of its own, and never show a key."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

from x402bind.cli import main

COMMAND = (sys.executable, "-m", "x402bind.cli")


@dataclass(frozen=True)
class Done:
    """What came of it."""

    code: int
    out: bytes
    err: str


def run_apart(*arguments: str, stdin: bytes = b"", secrets: tuple[str, ...] = (), **environ: str) -> Done:
    """Run ``x402`` in a process of its own."""
    env = {**os.environ, **environ}
    done = subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, env=env, timeout=60, check=False)
    return checked(Done(done.returncode, done.stdout, done.stderr.decode()), secrets)


def run_here(capture: pytest.CaptureFixture[bytes], *arguments: str, secrets: tuple[str, ...] = ()) -> Done:
    """Run ``x402`` in this process."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    out, err = capture.readouterr()
    return checked(Done(code, out, err.decode()), secrets)


def checked(done: Done, secrets: tuple[str, ...] = ()) -> Done:
    """Demand that no secret and no traceback is in what was printed."""
    everything = done.out.decode("latin-1").lower() + done.err.lower()
    assert "traceback" not in everything, done.err
    for secret in secrets:
        assert secret.lower().removeprefix("0x")[:40] not in everything
    return done


class Stand:
    """A plain HTTP server on loopback: ``answer(handler)`` says what is sent; returning None breaks the connection off."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler, bytes], tuple[int, dict[str, str], bytes] | None]) -> None:
        self.asked: list[str] = []
        stand = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stand.asked.append(self.command)
                found = answer(self, body)
                if found is None:
                    self.close_connection = True
                    return
                status, headers, content = found
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_HEAD = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/thing"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
