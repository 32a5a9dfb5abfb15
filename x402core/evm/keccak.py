"""Keccak-256 as Ethereum hashes: the original padding byte ``0x01``, not the ``0x06`` of NIST's SHA-3.

The backend is chosen at the first call, not at import: ``safe-pysha3`` (C, about four times faster) when it is
installed, else ``pycryptodome``, which always is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["backend", "keccak"]

_EMPTY = bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")


class _Hash(Protocol):
    def digest(self) -> bytes: ...


def keccak(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 of ``data``."""
    return _new(data).digest()


def backend() -> str:
    """Return the name of the library that hashes: ``safe-pysha3`` or ``pycryptodome``."""
    keccak(b"")
    return _name


def _pysha3() -> Callable[[bytes], _Hash]:
    import sha3  # type: ignore[import-not-found, import-untyped, unused-ignore]

    new: Callable[[bytes], _Hash] = sha3.keccak_256
    return new


def _pycryptodome() -> Callable[[bytes], _Hash]:
    from Crypto.Hash import keccak as crypto

    make: Callable[..., Any] = crypto.new
    return lambda data: make(digest_bits=256, data=data)


def _choose(data: bytes) -> _Hash:
    """Be the backend until the first call, and then replace oneself."""
    global _new, _name
    try:
        new, name = _pysha3(), "safe-pysha3"
        if new(b"").digest() != _EMPTY:  # more than one package calls itself ``sha3``
            raise ImportError("another sha3")
    except (ImportError, AttributeError):
        new, name = _pycryptodome(), "pycryptodome"
    _new, _name = new, name
    return new(data)


_new: Callable[[bytes], _Hash] = _choose
_name = ""
