"""``python -m x402bind.chain.devnet``: run the node until SIGINT or SIGTERM; with ``--dollars``, one to try payments on."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from threading import Event

from x402core.errors import LocalProtocolError
from x402core.registry import KNOWN
from x402core.values import eip155

from .devnet import Devnet
from .errors import DevnetUnavailable
from .stage import set_up

__all__ = ["main"]

_DOLLARS = """put a dollar where the chain of this id has its own (USDC on Base Sepolia), same name, version and decimals; give
the payer DOLLARS of them (default 1000), and print what a shell takes: RPC, KEY (a seller), PAYER_KEY, SETTLER_KEY (a
facilitator), PAYEE; all keys are the public development keys, with ether on this chain"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a devnet; print its URL on a line of its own, or lines for a shell; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m x402bind.chain.devnet", description="an embedded Ethereum node")
    parser.add_argument("--port", type=int, default=8545, help="TCP port on 127.0.0.1; 0 picks a free one (default 8545)")
    parser.add_argument("--chain-id", type=int, default=84532, help="default 84532, Base Sepolia's")
    parser.add_argument("--block-time", type=float, default=None, help="seconds between blocks (default: mine at once)")
    parser.add_argument("--dollars", type=_whole, nargs="?", const=1000, default=None, help=_DOLLARS)
    options = parser.parse_args(argv)
    try:
        dollar = None if options.dollars is None else KNOWN.default(eip155(options.chain_id))
    except LocalProtocolError:
        parser.error(f"--dollars: no dollar is known on a chain with id {options.chain_id}; leave out --chain-id")
    done = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        with Devnet(options.chain_id, port=options.port, block_time=options.block_time) as devnet:
            said = f"listening on {devnet.url}\n"
            if dollar is not None:
                said = f"# {said}{set_up(devnet, dollar, options.dollars)}"
            sys.stdout.write(said)
            sys.stdout.flush()
            while not done.wait(3600):
                pass
    except (DevnetUnavailable, OSError) as error:
        sys.stderr.write(f"devnet: {error}\n")
        return 1
    return 0


def _whole(text: str) -> int:
    if re.fullmatch("[1-9][0-9]{0,11}", text) is None:
        raise argparse.ArgumentTypeError("a whole number of dollars, from 1 to 999999999999")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
