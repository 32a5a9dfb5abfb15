"""The official Python SDK as a peer: its client, server and facilitator, each a process of its own python (``.peers/x402``).

    with OfficialFacilitator(ground) as facilitator, OfficialServer(facilitator.url) as server:
        bought = official_buy(server.url("/eip3009"), payer.key, "httpx")

Processes listen on 127.0.0.1 only and end with their context; what they wrote is in ``log`` and in the message of any failure.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from tests.chains import Missing
from tests.shop import Ground, fresh
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402core.evm.address import checksum
from x402core.values import Address

HERE = Path(__file__).parent
FACILITATOR_KEY, FACILITATOR = DEV_KEYS[5], dev_accounts()[5]
NETWORK = "eip155:84532"
START_SECONDS = 60.0


def official_python() -> str:
    """Return the python that has the SDK.  Raises: Missing."""
    python = os.environ.get("X402_OFFICIAL_PYTHON")
    if not python:
        raise Missing("the official x402 2.25.0 is missing: python -m tests.install_peers, or set X402_OFFICIAL_PYTHON")
    return python


# ------------------------------------------------------------------------------------------------------ processes


class Peer:
    """A script of another project's python that serves on a free port of loopback while the context lasts."""

    def __init__(self, script: str, ready: str) -> None:
        self.port = _free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self._script, self._ready = script, ready
        self._process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> tuple[str, ...]:
        """Return what the script is started with."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        command = [official_python(), "-u", str(HERE / self._script), *self.arguments()]
        # Files, not pipes: nobody reads while a test runs.
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err)
        try:
            self._wait(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._err.close()

    @property
    def stdout(self) -> str:
        return _content(self._out.fileno())

    @property
    def log(self) -> str:
        """Return the end of what the process wrote."""
        return f"--- {self._script} {self.port}\n{self.stdout[-6000:]}\n{_content(self._err.fileno())[-6000:]}"

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < end:
            try:
                if httpx.get(self.origin + self._ready, timeout=5, verify=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise RuntimeError(f"the official peer did not start\n{self.log}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that a facilitator answered, as JSON."""

    path: str
    status: int
    request: Any
    answer: Any


class OfficialFacilitator(Peer):
    """Its facilitator: exact (EIP-3009 and Permit2), upto, v1 exact, both gas sponsorings; it pays gas with account 5.

    ``first``: v1 exact alone.
    """

    def __init__(self, ground: Ground, *, first: bool = False) -> None:
        super().__init__("official_facilitator.py", "/supported")
        self._ground, self._first = ground, first

    def arguments(self) -> tuple[str, ...]:
        only = ("--v1",) if self._first else ()
        return (str(self.port), self._ground.url, "0x" + FACILITATOR_KEY.hex(), NETWORK, *only)

    @property
    def url(self) -> str:
        return self.origin

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Return all it was asked and answered so far."""
        return tuple(Exchange(**json.loads(line)) for line in self.stdout.splitlines() if line.startswith("{"))


class OfficialServer(Peer):
    """Its middleware on FastAPI or Flask, one path for each way of paying (see the script)."""

    def __init__(self, facilitator: str, framework: str = "fastapi", *, pay_to: Address | None = None) -> None:
        super().__init__("official_server.py", "/free")
        self.pay_to = pay_to or fresh().address
        self._facilitator, self._framework = facilitator, framework

    def arguments(self) -> tuple[str, ...]:
        # A lower-case payTo is accepted at start-up and then refused in every settlement.
        return (str(self.port), self._facilitator, checksum(self.pay_to), NETWORK, self._framework)

    def url(self, path: str) -> str:
        return self.origin + path

    @property
    def runs(self) -> int:
        """Return how often a handler has run."""
        return int(httpx.get(self.origin + "/free", timeout=5, verify=False).json()["runs"])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _content(file: int) -> str:
    """Read a whole file that another process writes, without moving its end."""
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")


# ------------------------------------------------------------------------------------------------------ buying


@dataclass(frozen=True, slots=True)
class Bought:
    """What came of a purchase: the last answer, the decoded receipt, and the payment that was sent, with its header's name.

    ``cost`` is what the client itself thinks it paid, in atomic units, if it says so.
    """

    status: int | None
    body: str | None
    receipt: Any = None
    receipt_header: str | None = None
    sent: Any = None
    sent_header: str | None = None
    required: Any = None
    error: str | None = None
    requests: int = 0
    cost: int | None = None


def official_buy(url: str, key: bytes, kind: str = "httpx", **how: Any) -> Bought:
    """Have the official client (``kind`` httpx or requests) buy ``url``, in a process of its own; see :func:`_words`."""
    command = [official_python(), str(HERE / "official_client.py"), *_words(url, key, kind, **how)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, f"the official client broke\n{ran.stdout}\n{ran.stderr}"
    return _told(ran.stdout.splitlines()[-1])


class OfficialClient:
    """The same, in one process for as long as the context lasts."""

    def __enter__(self) -> Self:
        self._err = tempfile.TemporaryFile()
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._err, "text": True}
        self._process = subprocess.Popen([official_python(), "-u", str(HERE / "official_client.py")], **pipes)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._err.close()

    def buy(self, url: str, key: bytes, kind: str = "httpx", **how: Any) -> Bought:
        """Buy ``url``, with a new client; as :func:`official_buy`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(_words(url, key, kind, **how)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the official client broke\n{_content(self._err.fileno())}"
        return _told(line)


def _words(
    url: str, key: bytes, kind: str, *, version: int | None = None, method: str | None = None, rpc: str | None = None
) -> list[str]:
    """Return the script's arguments: versions and methods to be spoken (all without), a node to read allowances from."""
    words = [url, "0x" + key.hex(), kind]
    words += [str(version)] if version else []
    words += ["--method", method] if method else []
    return words + (["--rpc", rpc] if rpc else [])


def _told(line: str) -> Bought:
    """Read what the script tells; a refusal to pay is told in ``error``."""
    told = json.loads(line)
    receipt, sent = told["receipt"] or {}, told["sent"] or {}
    return Bought(
        status=told["status"],
        body=told["body"],
        receipt=receipt.get("value"),
        receipt_header=receipt.get("header"),
        sent=sent.get("value"),
        sent_header=sent.get("header"),
        required=(told["required"] or {}).get("value"),
        error=told["error"],
        requests=told["requests"],
    )
