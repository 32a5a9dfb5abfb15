"""``x402 demo``: watch a client pay a server, on a chain in a box."""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import MISUSE, Subparsers

__all__ = ["add", "run"]


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("demo", help="watch a client pay a server twice, in two dialects, on a chain in a box")
    parser.add_argument("--rpc", metavar="URL", help="use this node instead of the embedded one")
    parser.add_argument(
        "--private-key",
        metavar="KEY",
        help="with --rpc: the account that pays for gas (or X402_PRIVATE_KEY in the environment)",
    )
    parser.add_argument("--json", action="store_true", help="print the transcript as one JSON document")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo: 0 when every check held, 1 when not."""
    from x402bind.chain.devnet.errors import DevnetUnavailable
    from x402bind.chain.errors import RpcError
    from x402bind.demo.run import DemoFailed, run_demo
    from x402core.errors import LocalProtocolError

    key = options.private_key or os.environ.get("X402_PRIVATE_KEY") if options.rpc else None
    if options.rpc and not key:
        sys.stderr.write("x402 demo: --rpc needs --private-key (or X402_PRIVATE_KEY in the environment)\n")
        return MISUSE
    try:
        transcript = run_demo(options.rpc, key, None if options.json else sys.stdout)
    except (DemoFailed, DevnetUnavailable, LocalProtocolError, RpcError) as error:
        sys.stderr.write(f"x402 demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        sys.stdout.write(json.dumps(transcript, indent=2) + "\n")
    return 0 if transcript["ok"] else 1
