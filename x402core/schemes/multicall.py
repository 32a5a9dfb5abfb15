"""What a transaction to Multicall3 calls (x402.md 2.0), unfolded as that contract reads its calldata; and which of it pays.

Anybody may put payments into such a bundle.  Where a call is one that must succeed, the bundle's success is the call's; where
it need not, only counting tells (``permit2``).  Read by hand and bounded, as it is a stranger's: pointers may share what they
point at, and only the beginning of a call is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from x402core.evm import abi
from x402core.reads import Traced
from x402core.values import Address

__all__ = ["BEGINNING", "MULTICALL3", "Inner", "Pattern", "unfold"]

MULTICALL3: Final = Address("0xca11bde05977b3631167028862be2a173976ca11")
BEGINNING: Final = 4 + 24 * 32
"""Bytes of each call that are kept: a selector and more words than any payment is told by."""
_MOST: Final = 1024  # calls; more do not fit into a block


@dataclass(frozen=True, slots=True)
class Inner:
    """One call of a bundle: its target, the beginning of its data, and whether the bundle would have reverted without it."""

    to: Address
    data: bytes
    must: bool


class _Shape(NamedTuple):
    """How a function lists its calls: a flag before the list, a flag in each call, the word that points at a call's data."""

    must: bool
    flag: bool
    choice: bool
    data: int


_SHAPES: Final[Mapping[str, _Shape]] = {
    "aggregate((address,bytes)[])": _Shape(True, False, False, 1),
    "blockAndAggregate((address,bytes)[])": _Shape(True, False, False, 1),
    "tryAggregate(bool,(address,bytes)[])": _Shape(False, True, False, 1),
    "tryBlockAndAggregate(bool,(address,bytes)[])": _Shape(False, True, False, 1),
    "aggregate3((address,bool,bytes)[])": _Shape(False, False, True, 2),
    "aggregate3Value((address,bool,uint256,bytes)[])": _Shape(False, False, True, 3),
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """The calldata that makes one payment: its functions, and how many words each has before the arguments they share.

    ``words`` are the first of those arguments (None: any will do); payments that differ in ``free`` ones alone log the same,
    and ``nonce`` is the word that tells them apart.
    """

    functions: Mapping[str, int]
    words: tuple[bytes | None, ...]
    free: tuple[int, ...]
    nonce: int = 2

    def fits(self, data: bytes) -> bool:
        """Say whether calldata makes this payment, as contracts read it; what comes behind the words does not matter."""
        return self._fits(self.words, data)

    def alike(self, bundle: tuple[Inner, ...]) -> int:
        """Count the payments of a bundle that would log what this one does; one nonce pays once."""
        like = tuple(None if at in self.free else word for at, word in enumerate(self.words))
        at = 32 * self.nonce
        return len({(self._body(call.data) or b"")[at : at + 32] for call in bundle if self._fits(like, call.data)})

    def _fits(self, words: tuple[bytes | None, ...], data: bytes) -> bool:
        body = self._body(data)
        return body is not None and all(word in (None, body[32 * n : 32 * n + 32]) for n, word in enumerate(words))

    def _body(self, data: bytes) -> bytes | None:
        skipped = {abi.selector(function): skip for function, skip in self.functions.items()}.get(data[:4])
        return None if skipped is None else data[4 + 32 * skipped :]


class _Cut(Exception):
    """The data ends early, or holds what is no address, flag or length."""


def unfold(traced: Traced) -> tuple[Inner, ...] | None:
    """Return what a transaction to Multicall3 calls, in order; None for any other, and for one that cannot be read."""
    if traced.to != MULTICALL3:
        return None
    shape = {abi.selector(function): shape for function, shape in _SHAPES.items()}.get(traced.data[:4])
    if shape is None:
        return None
    try:
        return _calls(traced.data[4:], shape)
    except _Cut:
        return None


def _calls(data: bytes, shape: _Shape) -> tuple[Inner, ...]:
    must = shape.must or (shape.flag and _number(data, 0, most=1) == 1)
    at = _number(data, 32 if shape.flag else 0)
    count, base = _number(data, at, most=_MOST), at + 32
    return tuple([_call(data, base + _number(data, base + 32 * n), shape, must=must) for n in range(count)])


def _call(data: bytes, at: int, shape: _Shape, *, must: bool) -> Inner:
    to = _number(data, at, most=2**160 - 1)
    optional = shape.choice and _number(data, at + 32, most=1) == 1
    start = at + _number(data, at + 32 * shape.data)
    length, start = _number(data, start), start + 32
    if start + length > len(data):
        raise _Cut
    told = data[start : start + min(length, BEGINNING)]
    return Inner(Address(f"0x{to:040x}"), told, must or (shape.choice and not optional))


def _number(data: bytes, at: int, most: int = 2**32) -> int:
    """Return the word at a place.  Raises: _Cut when it is not all there, or above ``most``."""
    word = data[at : at + 32]
    value = int.from_bytes(word, "big")
    if len(word) != 32 or value > most:
        raise _Cut
    return value
