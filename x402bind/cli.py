"""The command ``x402``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from x402bind.commands import MISUSE, Missing, Parser, commands
from x402bind.commands.output import OUTPUT_GONE, OutputGone, say, settle_streams

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0 when all went well, 1 when it did not, 2 for misuse or a package that is missing, 3 when the output cannot be written;
    pay has its own.
    """
    parser = Parser(prog="x402", description="payments over HTTP 402")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for command in commands():
        command.add(subparsers)
    try:
        options = parser.parse_args(argv)
        run: Callable[..., int] = options.run
        return run(options)
    except Missing as error:
        say(f"x402 {options.command}: {error}\n")
        return MISUSE
    except OutputGone as error:
        say(f"x402 {options.command}: {error}\n")
        return OUTPUT_GONE
    finally:
        settle_streams()


if __name__ == "__main__":
    sys.exit(main())
