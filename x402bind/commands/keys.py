"""Private keys of the command line: where they come from, and that they never come out again.

``--key`` takes 64 hex digits, ``env:NAME``, ``file:PATH`` (hex in a file that nobody else may read) or the path of an encrypted
keystore, whose password is asked for or taken from ``X402_KEYSTORE_PASSWORD``.  Without it, ``X402_PRIVATE_KEY`` counts.

Nothing of what was given is ever repeated, not even a path: a key with a digit missing looks like one.
"""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from x402bind.chain.signers import PrivateKeySigner
from x402core.errors import LocalProtocolError

from .output import say

__all__ = ["KEY_VARIABLE", "PASSWORD_VARIABLE", "KeySource", "add_key", "read_key", "read_secret"]

KEY_VARIABLE: Final = "X402_PRIVATE_KEY"
PASSWORD_VARIABLE: Final = "X402_KEYSTORE_PASSWORD"
_HEX = re.compile(r"(?:0x)?[0-9a-fA-F]{64}", re.ASCII)
_MOST: Final = 65536  # bytes of a file: a keystore has some 500
_OTHERS: Final = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_HOW: Final = "write 64 hex digits, env:NAME, file:PATH, or the path of an encrypted keystore"


@dataclass(frozen=True, slots=True)
class KeySource:
    """What was written after ``--key``: perhaps the key itself, so it is never shown."""

    text: str = field(repr=False)


def add_key(parser: argparse.ArgumentParser, name: str = "--key", *, whose: str) -> None:
    """Declare ``--key``, or what it is called here; ``whose`` says what the account is for."""
    parser.add_argument(
        name,
        type=KeySource,
        metavar="KEY",
        help=f"{whose}: env:NAME, file:PATH, the path of an encrypted keystore (password from {PASSWORD_VARIABLE}, or asked "
        f"for), or 64 hex digits (which other users of this machine can see). Default: env:{KEY_VARIABLE}",
    )


def read_key(
    source: KeySource | None,
    *,
    environ: Mapping[str, str] | None = None,
    warn: Callable[[str], object] | None = None,
    ask: Callable[[], str] | None = None,
) -> PrivateKeySigner:
    """Return the signer of a ``--key`` option, as :func:`read_secret` has it."""
    return PrivateKeySigner(read_secret(source, environ=environ, warn=warn, ask=ask))


def read_secret(
    source: KeySource | None,
    *,
    environ: Mapping[str, str] | None = None,
    warn: Callable[[str], object] | None = None,
    ask: Callable[[], str] | None = None,
) -> str:
    """Return the 64 hex digits of a ``--key`` option; ``warn`` is told what is unwise, ``ask`` returns a keystore's password.

    Raises: LocalProtocolError (``field`` "key" or "keystore") in words that repeat nothing of what was given.
    """
    known = os.environ if environ is None else environ
    if source is None:
        return _variable(KEY_VARIABLE, known)
    text = source.text
    if _HEX.fullmatch(text):
        (_warn if warn is None else warn)("a key on the command line can be seen by other users: env: and file: cannot")
        return text
    kind, colon, rest = text.partition(":")
    if colon and kind == "env":
        return _variable(rest, known)
    if colon and kind == "file":
        return _hex(_contents(rest, private=True))
    return _keystore(text, known, _prompt if ask is None else ask).hex()


def _variable(name: str, environ: Mapping[str, str]) -> str:
    found = environ.get(name, "").strip()
    if not found:
        named = f"give one, or set {KEY_VARIABLE}" if name == KEY_VARIABLE else "that environment variable is not set"
        raise LocalProtocolError(named, field="key")
    if not _HEX.fullmatch(found):
        raise LocalProtocolError("the environment variable does not hold 64 hex digits", field="key")
    return found


def _hex(contents: bytes) -> str:
    text = contents.decode("ascii", "replace").strip()
    if not _HEX.fullmatch(text):
        hint = "; for a keystore, leave file: out" if text.startswith("{") else ""
        raise LocalProtocolError(f"the file does not hold 64 hex digits{hint}", field="key")
    return text


def _keystore(path: str, environ: Mapping[str, str], ask: Callable[[], str]) -> bytes:
    from x402bind.chain.keystore import decrypt

    contents = _contents(path, private=False)
    if not contents.lstrip().startswith(b"{"):
        raise LocalProtocolError("the file is no keystore (JSON); for a key in hex, write file: before the path", field="key")
    password = environ.get(PASSWORD_VARIABLE)
    return decrypt(contents, ask() if password is None else password)


def _contents(path: str, *, private: bool) -> bytes:
    """Return a file's bytes; a ``private`` one has to be its owner's alone (on systems that say so)."""
    try:
        with open(path, "rb") as file:  # the file that was opened is the file that is judged
            if private and os.name == "posix" and os.fstat(file.fileno()).st_mode & _OTHERS:
                raise LocalProtocolError("other users may read or write the key's file: chmod 600 it", field="key")
            contents = file.read(_MOST + 1)
    except FileNotFoundError:
        raise LocalProtocolError(f"there is no such file; {_HOW}", field="key") from None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        raise LocalProtocolError(f"cannot be read: {why}; {_HOW}", field="key") from None
    if len(contents) > _MOST:
        raise LocalProtocolError("the file is too long to hold a key", field="key")
    return contents


def _prompt() -> str:
    import getpass

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # never where it would be echoed
            return getpass.getpass("Password of the keystore: ", stream=sys.stderr)
    except (EOFError, OSError, getpass.GetPassWarning):
        raise LocalProtocolError(f"the keystore needs a password: set {PASSWORD_VARIABLE}", field="key") from None


def _warn(text: str) -> None:
    say(f"x402: {text}\n")
