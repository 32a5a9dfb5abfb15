"""What the commands print, and what they do where it cannot be printed: no traceback, and an exit code of their own."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final, TextIO

__all__ = ["OUTPUT_GONE", "Out", "OutputGone", "give_up", "put", "say", "settle_streams", "unwritable"]

OUTPUT_GONE: Final = 3
"""The exit code of a command whose output cannot be written; ``x402 pay`` has codes of its own for that."""


class OutputGone(Exception):
    """Standard output cannot be written; the text says why."""


def put(text: str) -> None:
    """Write to standard output, to its end.  Raises: OutputGone."""
    stream = sys.stdout
    if stream is None:
        raise OutputGone("there is no standard output")
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        give_up(stream)
        raise OutputGone(unwritable(error)) from None


def say(text: str) -> bool:
    """Write to standard error; False when nobody can read it there."""
    stream = sys.stderr
    if stream is None:
        return False
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        give_up(stream)
        return False
    return True


def unwritable(error: OSError) -> str:
    """Say why the output cannot be written."""
    if isinstance(error, BrokenPipeError):
        return "nobody reads the output any more"
    return f"the output cannot be written: {error.strerror}"


def give_up(stream: TextIO | None) -> None:
    """Write to it no more: Python itself would complain once more at its end, with an exit code of its own."""
    if stream is None:
        return
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def settle_streams() -> None:
    """Write out what is left to be written, and give up a stream that takes it no more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            give_up(stream)


class Out:
    """Standard output as a stream that raises OutputGone, at once where there is none."""

    def __init__(self) -> None:
        put("")

    def write(self, text: str) -> int:
        """Write, to the end."""
        put(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: nothing is left to be written."""

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return sys.stdout.isatty()
