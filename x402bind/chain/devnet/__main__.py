"""``python -m x402bind.chain.devnet``: run the node until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from threading import Event

from .devnet import Devnet
from .errors import DevnetUnavailable

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a devnet; print its URL on a line of its own; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m x402bind.chain.devnet", description="an embedded Ethereum node")
    parser.add_argument("--port", type=int, default=8545, help="TCP port on 127.0.0.1; 0 picks a free one (default 8545)")
    parser.add_argument("--chain-id", type=int, default=84532, help="default 84532, Base Sepolia's")
    parser.add_argument("--block-time", type=float, default=None, help="seconds between blocks (default: mine at once)")
    options = parser.parse_args(argv)
    done = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        with Devnet(options.chain_id, port=options.port, block_time=options.block_time) as devnet:
            sys.stdout.write(f"listening on {devnet.url}\n")
            sys.stdout.flush()
            while not done.wait(3600):
                pass
    except (DevnetUnavailable, OSError) as error:
        sys.stderr.write(f"devnet: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
