"""Blocks, receipts, and the header hash that binds them.

A header is hashed as Ethereum hashes it, keccak of its RLP, so a hash commits to everything in the block and to the whole
past.  Three fields differ from a real chain: the state root is zero (no trie is kept), the transaction and receipt roots
are hashes of plain lists instead of tries, and ``extra_data`` counts the reorganisations the chain has been through, so
that a block mined again after one never has the hash of the block it replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from x402core.evm import rlp
from x402core.evm.keccak import keccak
from x402core.values import Address, Hash32

from .incoming import Incoming
from .vm import GAS_LIMIT, Log

__all__ = ["ZERO_HASH", "Block", "Header", "Receipt", "bloom", "next_base_fee"]

ZERO_HASH: Final = Hash32("0x" + 64 * "0")
BASE_FEE_FLOOR: Final = 1_000_000
"""Wei; the lowest base fee, so that tests of fees never meet a free chain."""
_NO_UNCLES: Final = keccak(rlp.encode([]))


@dataclass(frozen=True)  # no slots: cached_property
class Header:
    """What is hashed; ``timestamp`` in seconds, ``base_fee`` in wei per gas."""

    parent: Hash32
    number: int
    timestamp: int
    base_fee: int
    gas_used: int
    miner: Address
    transactions_root: Hash32
    receipts_root: Hash32
    logs_bloom: bytes
    extra_data: bytes

    @cached_property
    def hash(self) -> Hash32:
        """Return the block's hash: keccak of the RLP of 16 fields, as since London."""
        fields = (
            _bytes(self.parent),
            _NO_UNCLES,
            _bytes(self.miner),
            _bytes(ZERO_HASH),  # state root: see above
            _bytes(self.transactions_root),
            _bytes(self.receipts_root),
            self.logs_bloom,
            0,
            self.number,
            GAS_LIMIT,
            self.gas_used,
            self.timestamp,
            self.extra_data,
            _bytes(ZERO_HASH),
            bytes(8),
            self.base_fee,
        )
        return Hash32("0x" + keccak(rlp.encode(fields)).hex())


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one transaction; ``gas_price`` is the price paid, in wei."""

    transaction: Incoming
    index: int
    success: bool
    gas_used: int
    cumulative_gas: int
    gas_price: int
    created: Address | None
    logs: tuple[Log, ...]
    first_log: int
    output: bytes = b""


@dataclass(frozen=True, slots=True)
class Block:
    """A mined block, and the position of the chain's history right after it."""

    header: Header
    receipts: tuple[Receipt, ...]
    position: int

    @property
    def hash(self) -> Hash32:
        """The header's hash."""
        return self.header.hash

    @property
    def number(self) -> int:
        """The block's height."""
        return self.header.number


def bloom(logs: Sequence[Log]) -> bytes:
    """Return the 256-byte bloom filter of some logs (Yellow Paper, section 4.3.1)."""
    bits = 0
    for log in logs:
        for entry in (log.address, *log.topics):
            digest = keccak(_bytes(entry))
            for i in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[i : i + 2], "big") & 2047)
    return bits.to_bytes(256, "big")


def next_base_fee(parent: Header) -> int:
    """Return the base fee of the block after ``parent``, in wei (EIP-1559; never under :data:`BASE_FEE_FLOOR`)."""
    target = GAS_LIMIT // 2
    delta = parent.base_fee * abs(parent.gas_used - target) // target // 8
    if parent.gas_used > target:
        return parent.base_fee + max(delta, 1)
    return max(parent.base_fee - delta, BASE_FEE_FLOOR)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
