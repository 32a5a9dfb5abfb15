"""Transactions that wait: one per sender and number, replaced only at a price, and held back behind a gap.

A transaction is *ready* when its number is the sender's next; the others are queued until the gap before them is filled,
exactly the state a payment lane must be able to repair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from x402core.values import Address, Hash32

from .errors import RpcError
from .incoming import Incoming

__all__ = ["Pool"]

_PER_SENDER: Final = 1024
_BUMP_PERCENT: Final = 10  # go-ethereum's txpool.pricebump


class Pool:
    """The waiting transactions, in order of arrival."""

    def __init__(self) -> None:
        self._by_sender: dict[Address, dict[int, Incoming]] = {}
        self._by_hash: dict[Hash32, Incoming] = {}

    def __iter__(self) -> Iterator[Incoming]:
        return iter(tuple(self._by_hash.values()))

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, hash_: Hash32) -> Incoming | None:
        """Return a waiting transaction."""
        return self._by_hash.get(hash_)

    def add(self, tx: Incoming) -> None:
        """Take a transaction in.  Raises: RpcError when it is known, underpriced as a replacement, or one too many."""
        if tx.hash in self._by_hash:
            raise RpcError("already known")
        mine = self._by_sender.setdefault(tx.sender, {})
        rival = mine.get(tx.nonce)
        if rival is not None:
            if not _outbids(tx, rival):
                raise RpcError("replacement transaction underpriced")
            del self._by_hash[rival.hash]
        elif len(mine) >= _PER_SENDER:
            raise RpcError("txpool is full")
        mine[tx.nonce] = tx
        self._by_hash[tx.hash] = tx

    def drop(self, hash_: Hash32) -> bool:
        """Forget a transaction; say whether it was there."""
        tx = self._by_hash.pop(hash_, None)
        if tx is None:
            return False
        mine = self._by_sender[tx.sender]
        del mine[tx.nonce]
        if not mine:
            del self._by_sender[tx.sender]
        return True

    def pending_nonce(self, sender: Address, nonce: int) -> int:
        """Return the number the sender's next transaction should have, given that ``nonce`` were mined."""
        mine = self._by_sender.get(sender, {})
        while nonce in mine:
            nonce += 1
        return nonce

    def ready(self, nonce_of: Callable[[Address], int], base_fee: int) -> list[Incoming]:
        """Return the transactions a block may take next, at most one per sender, the best tip first."""
        found = []
        for sender, mine in self._by_sender.items():
            tx = mine.get(nonce_of(sender))
            if tx is not None and tx.max_fee >= base_fee:
                found.append(tx)
        found.sort(key=lambda tx: -tx.tip(base_fee))  # stable: first come first among equals
        return found

    def stale(self, nonce_of: Callable[[Address], int]) -> list[Incoming]:
        """Return the transactions whose number has been used by another."""
        return [tx for sender, mine in self._by_sender.items() for tx in mine.values() if tx.nonce < nonce_of(sender)]

    def copy(self) -> Pool:
        """Return an independent copy (a transaction itself never changes)."""
        twin = Pool()
        twin._by_sender = {sender: dict(mine) for sender, mine in self._by_sender.items()}
        twin._by_hash = dict(self._by_hash)
        return twin


def _outbids(tx: Incoming, rival: Incoming) -> bool:
    """Both fees must rise by a tenth (go-ethereum, legacypool)."""
    floor = 100 + _BUMP_PERCENT
    return tx.max_fee * 100 >= rival.max_fee * floor and tx.max_tip * 100 >= rival.max_tip * floor
