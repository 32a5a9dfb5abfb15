"""The commands of ``x402``, one a module; to add one, write a module with ``add`` and ``run`` and name it here.

``add(subparsers)`` declares the command and its options, ending in ``parser.set_defaults(run=run)``; ``run(options)`` does it
and returns the exit code.  What a command needs it imports when it runs, so that none slows the others down.
"""

from __future__ import annotations

import argparse
import re
from importlib.util import find_spec
from typing import Final, NoReturn, Protocol, TypeAlias

__all__ = ["MISUSE", "Command", "Missing", "Parser", "Subparsers", "commands", "need", "price", "redacted"]

Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"
"""What ``add`` adds its parser to."""
MISUSE: Final = 2
"""The exit code for options that make no sense, as argparse has it."""
_SECRET = re.compile(r"[0-9a-fA-F]{48,}", re.ASCII)  # a key, or one with a few digits missing


class Command(Protocol):
    """A command's module."""

    def add(self, subparsers: Subparsers, /) -> None:
        """Declare the command's options."""

    def run(self, options: argparse.Namespace, /) -> int:
        """Do it, and return the exit code."""


def commands() -> tuple[Command, ...]:
    """Return the commands there are, in the order ``x402 --help`` lists them."""
    from . import demo, facilitator, inspect, pay, serve

    return demo, serve, pay, facilitator, inspect


class Missing(Exception):
    """A package is not installed; the text says what to do about it."""


def need(extra: str, *packages: str, otherwise: str = "") -> None:
    """Check that packages of one of our extras are there, before a command has begun.

    Raises: Missing, with what to install, or to do ``otherwise``.
    """
    for name in packages:
        if find_spec(name) is None:
            raise Missing(f"{name} is not installed: pip install 'x402core[{extra}]'{otherwise}")


def redacted(text: str) -> str:
    """Return a text with everything that could be a private key left out."""
    return _SECRET.sub("(hex not repeated)", text)


class Parser(argparse.ArgumentParser):
    """A parser that never repeats what could be a private key, and takes no abbreviations (``--k`` is no ``--key``)."""

    def __init__(self, *args: object, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with 2."""
        super().error(redacted(message))


def price(text: str) -> str:
    """Check that a price says of what: a bare number is dollars to one, and atomic units to another."""
    if re.fullmatch(r"[0-9]+", text) is not None:
        raise argparse.ArgumentTypeError(f"write '${text}', or '{text} USDC': a bare number does not say of what")
    return text
