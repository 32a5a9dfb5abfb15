"""The command ``x402``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from x402bind.chain.devnet.errors import DevnetUnavailable
from x402bind.chain.errors import RpcError
from x402core.errors import LocalProtocolError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 when all went well, 1 when it did not, 2 for misuse."""
    parser = argparse.ArgumentParser(prog="x402", description="payments over HTTP 402")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="watch a client pay a server twice, in two dialects, on a chain in a box")
    demo.add_argument("--rpc", metavar="URL", help="use this node instead of the embedded one")
    demo.add_argument(
        "--private-key",
        metavar="KEY",
        default=os.environ.get("X402_PRIVATE_KEY"),
        help="with --rpc: the account that pays for gas (or X402_PRIVATE_KEY in the environment)",
    )
    demo.add_argument("--json", action="store_true", help="print the transcript as one JSON document")
    options = parser.parse_args(argv)
    if options.rpc is None:
        options.private_key = None
    elif not options.private_key:
        parser.error("--rpc needs --private-key (or X402_PRIVATE_KEY in the environment)")
    return _demo(options)


def _demo(options: argparse.Namespace) -> int:
    from x402bind.demo.run import DemoFailed, run_demo

    try:
        transcript = run_demo(options.rpc, options.private_key, None if options.json else sys.stdout)
    except (DemoFailed, DevnetUnavailable, LocalProtocolError, RpcError) as error:
        sys.stderr.write(f"x402 demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(transcript, indent=2))
    return 0 if transcript["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
