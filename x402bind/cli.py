"""The command ``x402``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from x402bind.commands import Parser, commands

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 when all went well, 1 when it did not, 2 for misuse; pay has more."""
    parser = Parser(prog="x402", description="payments over HTTP 402")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for command in commands():
        command.add(subparsers)
    options = parser.parse_args(argv)
    run: Callable[..., int] = options.run
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
