"""What x402-mock takes from the environment, ``EVM_PRIVATE_KEY`` and keys of node providers; nothing on import."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from x402core.errors import LocalProtocolError

__all__ = ["Settings", "load_env", "read_env"]

PRIVATE_KEY: Final = "EVM_PRIVATE_KEY"
INFURA_KEY: Final = "EVM_INFURA_KEY"
ALCHEMY_KEY: Final = "EVM_ALCHEMY_KEY"
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


@dataclass(frozen=True, slots=True)
class Settings:
    """Keys of the wallet and of node providers; none of them shows in a repr."""

    private_key: str | None = field(default=None, repr=False)
    infura_key: str | None = field(default=None, repr=False)
    alchemy_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        """Return what an environment says; what is empty counts as absent."""
        return cls(*(environment.get(name) or None for name in (PRIVATE_KEY, INFURA_KEY, ALCHEMY_KEY)))


def load_env(path: str | Path = ".env", *, environment: MutableMapping[str, str] | None = None) -> Settings:
    """Read a ``.env`` file into the process's environment, which wins where both say something; return the settings.

    Raises: LocalProtocolError for a file that cannot be read, or a line that is no assignment, by its number alone.
    """
    into = os.environ if environment is None else environment
    for name, value in read_env(path).items():
        into.setdefault(name, value)
    return Settings.of(into)


def read_env(path: str | Path) -> dict[str, str]:
    """Return the assignments of a ``.env`` file: quotes are taken off, a blank and ``#`` begin a comment."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalProtocolError(f"{path} cannot be read: {type(error).__name__}", field="path") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise LocalProtocolError(f"line {number} of {path} is no NAME=value", field="path")
        found[match[1]] = _value(match[2])
    return found


def _value(text: str) -> str:
    if text[:1] in ("'", '"') and (end := text.find(text[0], 1)) > 0:
        return text[1:end]
    return re.split(r"\s#", text, maxsplit=1)[0].strip()
