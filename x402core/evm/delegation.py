"""A permission context as the MetaMask Delegation Framework spells it: ``abi.encode(Delegation[])``, from the leaf to the root.

::

    Delegation(address delegate, address delegator, bytes32 authority, Caveat[] caveats, uint256 salt, bytes signature)
    Caveat(address enforcer, bytes terms, bytes args)

``delegations[0]`` names who redeems, each one's ``authority`` is the hash of the next, and the last, whose delegator's account
is spent from, has :data:`ROOT_AUTHORITY`.  x402 leaves the bytes of a context open (x402.md 2.3, 27); ERC-7710 leaves them to
the manager.  This is the format of the managers in use.

Contracts read an encoding loosely: bytes after its end, offsets into the middle of something else, padding that is no zero.
Here one delegation has one spelling, the one every encoder writes; all others are refused, so that what was used once cannot
come back under another name.  Read in one pass without following an offset anywhere, it costs what its length costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Final, TypeVar

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.values import Address

from .keccak import keccak

__all__ = [
    "ANYBODY",
    "MOST_BYTES",
    "MOST_CAVEATS",
    "MOST_DELEGATIONS",
    "ROOT_AUTHORITY",
    "Caveat",
    "Delegation",
    "broken_link",
    "decode",
    "delegation_hash",
    "encode",
    "spent",
]

ROOT_AUTHORITY: Final = b"\xff" * 32
"""The authority of a delegation that rests on no other: its delegator's own money."""
ANYBODY: Final = Address("0x" + "0" * 37 + "a11")
"""The delegate of an open delegation, which anybody may redeem or delegate further."""
MOST_BYTES: Final = 8192
MOST_DELEGATIONS: Final = 8
MOST_CAVEATS: Final = 32

# keccak of Caveat(address enforcer,bytes terms), and of Delegation(address delegate,address delegator,bytes32 authority,
# Caveat[] caveats,uint256 salt) followed by it: written out, as nothing is hashed on import
_CAVEAT_TYPE: Final = bytes.fromhex("80ad7e1b04ee6d994a125f4714ca0720908bd80ed16063ec8aee4b88e9253e2d")
_DELEGATION_TYPE: Final = bytes.fromhex("88c1d2ecf185adf710588203a5f263f0ff61be0d33da39792cde19ba9aa4331e")
_WORD: Final = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caveat:
    """A restriction, enforced by a contract; ``args`` are whoever redeems' own, and nobody signed them."""

    enforcer: Address
    terms: bytes
    args: bytes = b""


@dataclass(frozen=True, slots=True)
class Delegation:
    """That ``delegate`` may act for ``delegator``; ``authority`` (32 bytes) is the hash of the delegation this one rests on."""

    delegate: Address
    delegator: Address
    authority: bytes
    caveats: tuple[Caveat, ...]
    salt: int
    signature: bytes = field(repr=False)


# ------------------------------------------------------------------------------------------------------ what is signed


def delegation_hash(delegation: Delegation) -> bytes:
    """Return a delegation's EIP-712 struct hash, by which managers know it; signature and args are not in it."""
    caveats = b"".join([keccak(_CAVEAT_TYPE + _address(each.enforcer) + keccak(each.terms)) for each in delegation.caveats])
    return keccak(
        _DELEGATION_TYPE
        + _address(delegation.delegate)
        + _address(delegation.delegator)
        + delegation.authority
        + keccak(caveats)
        + delegation.salt.to_bytes(_WORD, "big")
    )


def spent(delegations: Sequence[Delegation]) -> bytes:
    """Return the hash of what is used up when a context buys something: the leaf, which rests on all the others.

    Anybody can put a new leaf before an open delegation, as often as he likes: where there is one, it is what counts, the one
    nearest to the root.
    """
    openly = [at for at, each in enumerate(delegations) if each.delegate == ANYBODY]
    return delegation_hash(delegations[max(openly, default=0)])


def broken_link(delegations: Sequence[Delegation]) -> str:
    """Return what is wrong with a chain of delegations, "" when each rests on the next and the last on nobody's."""
    for lower, upper in pairwise(delegations):
        if lower.authority != delegation_hash(upper):
            return "a delegation's authority is not the one after it"
        if upper.delegate not in (lower.delegator, ANYBODY):
            return "a delegation is made by somebody else than the delegate of the one it rests on"
    return "" if delegations[-1].authority == ROOT_AUTHORITY else "the last delegation is no root"


# --------------------------------------------------------------------------------------------------------- the encoding


def encode(delegations: Sequence[Delegation]) -> bytes:
    """Return the permission context.  Raises: LocalProtocolError for more than :func:`decode` takes, or no delegation."""
    if not 0 < len(delegations) <= MOST_DELEGATIONS or any(len(each.caveats) > MOST_CAVEATS for each in delegations):
        raise LocalProtocolError(
            f"a context has 1 to {MOST_DELEGATIONS} delegations of at most {MOST_CAVEATS} caveats", field="delegations"
        )
    context = _number(_WORD) + _array([_encode_delegation(each) for each in delegations])
    if len(context) > MOST_BYTES:
        raise LocalProtocolError(f"a context has at most {MOST_BYTES} bytes", field="delegations")
    return context


def _encode_delegation(one: Delegation) -> bytes:
    caveats = _array([_encode_caveat(each) for each in one.caveats])
    head = _address(one.delegate) + _address(one.delegator) + one.authority + _number(6 * _WORD)
    return head + _number(one.salt) + _number(6 * _WORD + len(caveats)) + caveats + _blob(one.signature)


def _encode_caveat(one: Caveat) -> bytes:
    terms = _blob(one.terms)
    return _address(one.enforcer) + _number(3 * _WORD) + _number(3 * _WORD + len(terms)) + terms + _blob(one.args)


def _array(items: Sequence[bytes]) -> bytes:
    at, offsets = _WORD * len(items), []
    for item in items:
        offsets.append(_number(at))
        at += len(item)
    return _number(len(items)) + b"".join(offsets) + b"".join(items)


def _blob(raw: bytes) -> bytes:
    return _number(len(raw)) + raw + bytes(-len(raw) % _WORD)


def _number(value: int) -> bytes:
    return value.to_bytes(_WORD, "big")


def _address(address: Address) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


@lru_cache(maxsize=128)
def decode(context: bytes) -> tuple[Delegation, ...]:
    """Return the delegations of a permission context, leaf first; at least one.

    Raises: RemoteProtocolError for any bytes but those :func:`encode` writes for them, and for more of anything than allowed.
    """
    if len(context) > MOST_BYTES:
        raise RemoteProtocolError(f"longer than {MOST_BYTES} bytes")
    reader = _Reader(context)
    reader.demand(reader.number() == _WORD)
    found = reader.many(reader.delegation, MOST_DELEGATIONS, "delegations")
    if not found:
        raise RemoteProtocolError("no delegation")
    reader.demand(reader.at == len(context))
    return found


class _Reader:
    """Reads on from where it is; an offset is not followed but has to be where the reader comes to next."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def demand(self, canonical: bool) -> None:
        if not canonical:
            raise RemoteProtocolError("not the canonical ABI encoding of Delegation[]")

    def take(self, length: int) -> bytes:
        end = self.at + length
        self.demand(end <= len(self.data))
        raw, self.at = self.data[self.at : end], end
        return raw

    def number(self) -> int:
        return int.from_bytes(self.take(_WORD), "big")

    def address(self) -> Address:
        self.demand(not any(self.take(12)))
        return Address("0x" + self.take(20).hex())

    def blob(self) -> bytes:
        length = self.number()
        raw = self.take(length)
        self.demand(not any(self.take(-length % _WORD)))
        return raw

    def many(self, read: Callable[[], T], most: int, what: str) -> tuple[T, ...]:
        """Read an array of things of any length: how many, where each begins, and each."""
        count = self.number()
        if count > most:
            raise RemoteProtocolError(f"more than {most} {what}")
        start = self.at
        offsets = [self.number() for _ in range(count)]
        found = []
        for offset in offsets:
            self.demand(offset == self.at - start)
            found.append(read())
        return tuple(found)

    def delegation(self) -> Delegation:
        start = self.at
        delegate, delegator, authority = self.address(), self.address(), self.take(_WORD)
        at_caveats, salt, at_signature = self.number(), self.number(), self.number()
        self.demand(at_caveats == self.at - start)
        caveats = self.many(self.caveat, MOST_CAVEATS, "caveats")
        self.demand(at_signature == self.at - start)
        return Delegation(delegate, delegator, authority, caveats, salt, self.blob())

    def caveat(self) -> Caveat:
        start = self.at
        enforcer, at_terms, at_args = self.address(), self.number(), self.number()
        self.demand(at_terms == self.at - start)
        terms = self.blob()
        self.demand(at_args == self.at - start)
        return Caveat(enforcer, terms, self.blob())
