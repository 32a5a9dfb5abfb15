"""What the commands that listen have in common: their options, and an ASGI server that says where it is and stops cleanly."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from x402core.errors import LocalProtocolError

from . import MISUSE, redacted
from .output import OutputGone, put, say
from .words import shown

__all__ = [
    "EXIT_CODES",
    "LOOPBACK",
    "SERVING",
    "add_listening",
    "authority",
    "check_listening",
    "forgets",
    "listen",
    "misuse",
    "naming",
    "nodes_of",
]

LOOPBACK: Final = "127.0.0.1"
EXIT_CODES: Final = "exit codes: 0 stopped when told to, 1 it could not start, 2 misuse, or a package is not installed"
SERVING: Final = ("httpx", "anyio", "uvicorn")
"""The packages that a command that listens needs."""
_RENAMED: Final[Mapping[str, str]] = {
    "assets": "asset",
    "factories": "factory",
    "keystore": "key",
    "managers": "manager",
    "networks": "network",
    "payees": "payee",
    "prices": "price",
    "settlements": "most-per-payer",
    "tokens": "token",
}
"""Options whose names are not those of the arguments they become."""
_GRACE: Final = 30  # seconds that payments under way have to end once we are told to stop


def add_listening(parser: argparse.ArgumentParser, port: int) -> None:
    """Declare ``--host`` and ``--port``."""
    parser.add_argument(
        "--host", type=_host, default=LOOPBACK, help="the address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument("--port", type=int, default=port, help="the port to listen on; 0 for any (default: %(default)s)")
    parser.add_argument("--ledger", metavar="URL", default="memory:", help="sqlite:FILE, or memory: (default), which forgets")


def _host(text: str) -> str:
    """Check an address to listen on: an empty one would be every interface there is."""
    if not text.strip(" []"):
        raise argparse.ArgumentTypeError("write an address, such as 127.0.0.1")
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def authority(host: str, port: int) -> str:
    """Return a host and a port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_listening(options: argparse.Namespace) -> None:
    """Refuse a port that is none.  Raises: LocalProtocolError."""
    if not 0 <= options.port <= 65535:
        raise LocalProtocolError("write a number from 0 to 65535", field="port")


@contextmanager
def naming(option: str) -> Iterator[None]:
    """Have whatever is refused within be refused as this option, whichever argument of ours it became."""
    try:
        yield
    except LocalProtocolError as error:
        raise LocalProtocolError(str(error).removeprefix(f"{error.field}: "), field=option) from None


def misuse(what: str, error: LocalProtocolError) -> int:
    """Say in one line which option is wrong, and return the exit code."""
    text, field = str(error), error.field
    if field:
        text = f"--{_RENAMED.get(field, field.replace('_', '-'))}: {text.removeprefix(f'{field}: ')}"
    say(f"x402 {what}: {redacted(shown(text, 1000))}\n")
    return MISUSE


def forgets(what: str, ledger: str) -> None:
    """Warn that what is in memory is gone with the process."""
    if ledger.startswith("memory:"):
        say(
            f"x402 {what}: the ledger is in memory: on exit it forgets who paid, and what is not settled by then. "
            "Write --ledger sqlite:FILE to keep it\n"
        )


def nodes_of(pairs: list[str], network: str | None = None) -> Mapping[str, tuple[str, ...]]:
    """Return the nodes of ``--rpc NETWORK=URL`` options, or of plain URLs where only one ``network`` can be meant.

    Raises: LocalProtocolError for anything else.
    """
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        name, equals, url = pair.partition("=")
        if "://" in name or not equals:
            if network is None:
                raise LocalProtocolError("write NETWORK=URL, such as base-sepolia=https://...", field="rpc")
            name, url = network, pair
        found[name] = (*found.get(name, ()), url)
    return found


def listen(app: Any, host: str, port: int, what: str) -> int:
    """Serve an ASGI application until it is interrupted: 0, or 1 when it could not start.

    Once it listens, one line on standard output says where.
    """
    import uvicorn

    for name in ("stdout", "stderr"):  # closed by the caller: what would be said there is lost, which is no reason not to serve
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives

    class Server(uvicorn.Server):
        """Say where it listens as soon as it does."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            for server in getattr(self, "servers", ()):
                for socket in server.sockets:
                    with suppress(OutputGone):  # it serves all the same
                        put(f"x402 {what}: http://{authority(*socket.getsockname()[:2])}\n")

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="on",
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # what a client says of its address and scheme is not believed
        timeout_graceful_shutdown=_GRACE,
    )
    server = Server(config)
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:  # it could not listen there, and has said why
        return 1
    return 0 if server.started else 1
