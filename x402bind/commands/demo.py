"""``x402 demo``: watch a client pay a server, on a chain in a box."""

from __future__ import annotations

import argparse
import json
import logging
from typing import TextIO, cast

from . import Subparsers, need
from .output import Out, put, say

__all__ = ["add", "run"]


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    from .keys import add_key

    parser = subparsers.add_parser(
        "demo",
        help="watch a client pay a server twice, in two dialects, on a chain in a box",
        epilog="exit codes: 0 every check held, 1 one did not, or the node is in trouble, 2 misuse or a package is missing, "
        "3 the output cannot be written",
    )
    parser.add_argument("--rpc", metavar="URL", help="use this node instead of the embedded one")
    add_key(parser, "--private-key", whose="with --rpc: the account that pays for gas")
    parser.add_argument("--json", action="store_true", help="print the transcript as one JSON document")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo; ``x402 demo --help`` lists the exit codes."""
    need("demo", "httpx", "anyio", "uvicorn")  # in the demo's other processes it would be a traceback
    if options.rpc is None:
        need("demo", "pyrevm", otherwise=" (on Python 3.11 or 3.12), or give a node with --rpc")
    from x402bind.chain.devnet.errors import DevnetUnavailable
    from x402bind.chain.errors import RpcError
    from x402bind.demo.run import DemoFailed, run_demo
    from x402core.errors import LocalProtocolError

    from .listening import misuse

    try:
        key = _key(options)
    except LocalProtocolError as error:
        return misuse("demo", error)
    out = Out()
    logging.getLogger("x402bind").addHandler(logging.NullHandler())  # what goes wrong is said in one line, below
    try:
        transcript = run_demo(options.rpc, key, None if options.json else cast("TextIO", out))
    except (DemoFailed, DevnetUnavailable, LocalProtocolError, RpcError) as error:
        say(f"x402 demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        put(json.dumps(transcript, indent=2) + "\n")
    return 0 if transcript["ok"] else 1


def _key(options: argparse.Namespace) -> str | None:
    """Return the key for a node of the caller's.  Raises: LocalProtocolError for a wrong one, or one too many."""
    from x402bind.chain.signers import PrivateKeySigner
    from x402core.errors import LocalProtocolError

    from .keys import read_secret
    from .listening import naming

    with naming("private-key"):
        if options.rpc is None:
            if options.private_key is not None:
                raise LocalProtocolError("it is for a node of yours: give --rpc too")
            return None
        secret = read_secret(options.private_key)
        PrivateKeySigner(secret)  # 64 digits may be no key
        return secret
