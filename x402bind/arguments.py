"""What a user wrote, by its kind: the mistakes that a type checker would have found, refused with what to write.

Whoever takes an argument from a user calls these before the argument is used, so that a wrong one is named where it is
written, and not where it breaks.  What a value means is checked by whoever knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from x402core.errors import LocalProtocolError
from x402core.evm.address import own_address
from x402core.values import Address

__all__ = ["addresses", "check_call", "mapping", "several", "wait", "whole"]

K = TypeVar("K")
V = TypeVar("V")


def mapping(value: Mapping[K, V], field: str, example: str) -> Mapping[K, V]:
    """Return a mapping.  Raises: LocalProtocolError that shows ``example``."""
    if not isinstance(value, Mapping):
        raise LocalProtocolError(f"{_kind(value)} is no mapping: write {example}", field=field)
    return value


def several(value: Iterable[V], field: str, example: str) -> tuple[V, ...]:
    """Return each of several; one string is not several.  Raises: LocalProtocolError that shows ``example``."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise LocalProtocolError(f"{_kind(value)} is not several: write {field}={example}", field=field)
    return tuple(value)


def addresses(value: Iterable[str], field: str) -> frozenset[Address]:
    """Return several addresses.  Raises: LocalProtocolError."""
    return frozenset(own_address(each, field) for each in several(value, field, '("0x...",)'))


def whole(value: int, field: str, least: int, what: str, why: str = "") -> int:
    """Return a whole number from ``least`` on.  Raises: LocalProtocolError that says ``what`` it counts, and ``why``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise LocalProtocolError(f"write a whole number of {what}, {least} or more{why and ': '}{why}", field=field)
    return value


def wait(value: float, field: str) -> float:
    """Return seconds to wait, which may be none.  Raises: LocalProtocolError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise LocalProtocolError("write a number of seconds, 0 or more", field=field)
    return value


def check_call(value: Callable[..., object] | None, field: str) -> None:
    """Refuse what is neither a function nor None.  Raises: LocalProtocolError."""
    if value is not None and not callable(value):
        raise LocalProtocolError(f"{_kind(value)} cannot be called: write a function, or None", field=field)


def _kind(value: object) -> str:
    """Name what was written; never show it, as it may be a secret."""
    return "None" if value is None else "a string" if isinstance(value, str) else type(value).__name__
