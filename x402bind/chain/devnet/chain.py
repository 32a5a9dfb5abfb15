"""The chain: accounts, blocks, receipts and logs, and the rules by which a waiting transaction becomes a mined one.

Theory of operation.  A chain is a list of blocks, a :class:`~.history.History` of everything that changed its state, and a
:class:`~.pool.Pool` of waiting transactions.  ``submit`` admits a transaction to the pool; with ``automine`` on (the
default) it mines at once whatever is ready.  ``mine`` takes the best ready transactions until the block is full.

* Block times never go back, and two blocks may share a second (as on rollups), so that a fast test does not run ahead of
  the clock that its signatures are dated by.
* A call at the head runs at the time the next block would have: a chain that mines only when asked has no other now.
* ``snapshot``/``revert`` go back in every respect, time offset and pool included.  ``reorg`` replaces the last blocks by
  empty ones and returns their transactions to the pool, as a real reorganisation does.
* Every public method takes the lock; a caller may use several threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import RLock
from types import MappingProxyType
from typing import Final

from x402core.evm import rlp
from x402core.evm.keccak import keccak
from x402core.values import Address, Hash32

from .admission import admit
from .block import ZERO_HASH, Block, Header, Receipt, bloom, next_base_fee
from .errors import RpcError
from .estimate import estimate, failure
from .history import History
from .incoming import Incoming
from .keys import dev_accounts
from .pool import Pool
from .transition import apply
from .vm import GAS_LIMIT, BlockContext, Log, Message, Outcome, Vm

__all__ = ["ETHER", "Chain"]

ETHER: Final = 10**18
"""Wei in one ether."""
COINBASE: Final = Address("0x" + 40 * "0")
_FIRST_BASE_FEE: Final = 1_000_000_000
_LAST_TIME: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class _Snapshot:
    height: int
    position: int
    pool: Pool
    offset: int
    next_time: int | None


class Chain:
    """An embedded chain with instant finality of nothing: it goes wherever the test wants it.

    ``accounts`` are funded with ``balance`` wei each; ``clock`` gives Unix seconds.
    Raises: DevnetUnavailable when pyrevm is missing.
    """

    def __init__(
        self,
        chain_id: int = 84532,
        accounts: Sequence[Address] | None = None,
        balance: int = 10_000 * ETHER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.chain_id = chain_id
        self.accounts = tuple(dev_accounts() if accounts is None else accounts)
        self.automine = True
        self.pool = Pool()
        self._clock = clock
        self._offset = 0
        self._next_time: int | None = None
        self._next_base_fee: int | None = None
        self._reorgs = 0
        self._lock = RLock()
        self._history = History(chain_id)
        self._snapshots: dict[int, _Snapshot] = {}
        self._last_snapshot = 0
        self._blocks: list[Block] = []
        self._by_hash: dict[Hash32, Block] = {}
        self._mined: dict[Hash32, tuple[Block, Receipt]] = {}
        for account in self.accounts:
            self.set_balance(account, balance)
        self._append(self._seal((), self._clock_time(), _FIRST_BASE_FEE))

    # ------------------------------------------------------------ looking

    @contextmanager
    def locked(self) -> Iterator[Chain]:
        """Hold the chain still for several looks."""
        with self._lock:
            yield self

    @property
    def head(self) -> Block:
        """The newest block."""
        return self._blocks[-1]

    @property
    def height(self) -> int:
        """The newest block's number."""
        return len(self._blocks) - 1

    def block(self, which: int | Hash32) -> Block | None:
        """Return a block by number or hash."""
        with self._lock:
            if isinstance(which, int):
                return self._blocks[which] if 0 <= which < len(self._blocks) else None
            return self._by_hash.get(which)

    def receipt(self, hash_: Hash32) -> tuple[Block, Receipt] | None:
        """Return a mined transaction's block and receipt."""
        with self._lock:
            return self._mined.get(hash_)

    def state(self, block: Block | None = None) -> Vm:
        """Return the state after ``block`` (default: now), for reading under :meth:`locked`."""
        if block is None or block.number == self.height:
            return self._history.now
        return self._history.at(block.position)

    @property
    def base_fee(self) -> int:
        """The next block's base fee in wei per gas."""
        return next_base_fee(self.head.header) if self._next_base_fee is None else self._next_base_fee

    def next_time(self) -> int:
        """Return the Unix second the next block would have if it were mined now."""
        if self._next_time is not None:
            return self._next_time
        return max(self._clock_time() + self._offset, self.head.header.timestamp)

    # ------------------------------------------------------------ calling

    def call(
        self, message: Message, block: Block | None = None, codes: Mapping[Address, bytes] = MappingProxyType({})
    ) -> Outcome:
        """Run a message on the state after ``block`` (default: the next block's state), accounts having ``codes``; undo it."""
        with self._lock:
            return self.state(block).call(self._context(block), message, codes)

    def estimate(self, message: Message, block: Block | None = None) -> int:
        """Return the least gas with which a message succeeds.  Raises: RpcError when it does not."""
        with self._lock:
            vm, context = self.state(block), self._context(block)
            return estimate(lambda gas: vm.call(context, replace(message, gas=gas)), message.gas)

    def _context(self, block: Block | None) -> BlockContext:
        if block is None:
            return BlockContext(self.height + 1, self.next_time(), COINBASE)
        time_ = self.next_time() if block.number == self.height else block.header.timestamp
        return BlockContext(block.number, time_, COINBASE)

    # ------------------------------------------------------------ sending and mining

    def submit(self, tx: Incoming) -> Hash32:
        """Take in a signed transaction, and mine it if it is ready and ``automine`` is on; return its hash.

        Raises: RpcError in go-ethereum's words when a node would refuse it.
        """
        with self._lock:
            if self.pool.get(tx.hash) is not None:  # before the nonce is looked at, as go-ethereum does
                raise RpcError("already known")
            admit(tx, self._history.now, self.chain_id)
            self.pool.add(tx)
            if self.automine and self._ready(self.base_fee):
                self.mine()
            return tx.hash

    def transaction_count(self, address: Address, *, pending: bool = False) -> int:
        """Return an account's next transaction number; with ``pending``, the first one not waiting in the pool."""
        with self._lock:
            nonce = self._history.now.nonce(address)
            return self.pool.pending_nonce(address, nonce) if pending else nonce

    def mine(self, blocks: int = 1, *, interval: int = 0, timestamp: int | None = None) -> Block:
        """Mine ``blocks`` blocks, ``interval`` seconds apart, the first at ``timestamp`` if given; return the last."""
        with self._lock:
            if timestamp is not None:
                self.set_next_time(timestamp)
            for i in range(blocks):
                if i and interval:
                    self.set_next_time(self.head.header.timestamp + interval)
                self._mine_one()
            return self.head

    def _ready(self, base_fee: int) -> list[Incoming]:
        return self.pool.ready(self._history.now.nonce, base_fee)

    def _mine_one(self) -> None:
        timestamp, base_fee = self.next_time(), self.base_fee
        context = BlockContext(self.height + 1, timestamp, COINBASE)
        receipts: list[Receipt] = []
        while True:
            used = receipts[-1].cumulative_gas if receipts else 0
            fitting = [tx for tx in self._ready(base_fee) if used + tx.gas <= GAS_LIMIT]
            if not fitting:
                break
            for tx in fitting:
                used = receipts[-1].cumulative_gas if receipts else 0
                if used + tx.gas <= GAS_LIMIT:
                    self._include(tx, context, base_fee, receipts)
        for tx in self.pool.stale(self._history.now.nonce):
            self.pool.drop(tx.hash)
        self._append(self._seal(tuple(receipts), timestamp, base_fee))
        self._next_time = self._next_base_fee = None

    def _include(self, tx: Incoming, context: BlockContext, base_fee: int, receipts: list[Receipt]) -> None:
        """Execute one transaction into the block; one that can no longer pay is forgotten, as nodes do."""
        self.pool.drop(tx.hash)
        if self._history.now.balance(tx.sender) < tx.most or self._history.now.code(tx.sender):
            return
        outcome = self._history.take(lambda vm: apply(vm, context, tx, base_fee))
        before = receipts[-1] if receipts else None
        receipts.append(
            Receipt(
                tx,
                len(receipts),
                outcome.success,
                outcome.gas_used,
                outcome.gas_used + (before.cumulative_gas if before else 0),
                tx.price(base_fee),
                outcome.created,
                outcome.logs,
                before.first_log + len(before.logs) if before else 0,
                b"" if outcome.success else outcome.output,
            )
        )

    def _seal(self, receipts: tuple[Receipt, ...], timestamp: int, base_fee: int) -> Block:
        logs: list[Log] = [log for receipt in receipts for log in receipt.logs]
        header = Header(
            parent=self._blocks[-1].hash if self._blocks else ZERO_HASH,
            number=len(self._blocks),
            timestamp=timestamp,
            base_fee=base_fee,
            gas_used=receipts[-1].cumulative_gas if receipts else 0,
            miner=COINBASE,
            transactions_root=_root([receipt.transaction.raw for receipt in receipts]),
            receipts_root=_root([(receipt.success, receipt.cumulative_gas) for receipt in receipts]),
            logs_bloom=bloom(logs),
            extra_data=b"x402 devnet" + self._reorgs.to_bytes(4, "big"),
        )
        return Block(header, receipts, self._history.position)

    def _append(self, block: Block) -> None:
        self._blocks.append(block)
        self._by_hash[block.hash] = block
        for receipt in block.receipts:
            self._mined[receipt.transaction.hash] = (block, receipt)

    # ------------------------------------------------------------ time

    def _clock_time(self) -> int:
        return int(self._clock())

    def increase_time(self, seconds: int) -> int:
        """Move the chain's clock ahead; return the whole offset in seconds.  Raises: RpcError past 2**53."""
        with self._lock:
            _check_time(self.next_time() + seconds)
            self._offset += seconds
            return self._offset

    def set_next_time(self, timestamp: int) -> None:
        """Give the next block this Unix second; the chain's clock runs on from there.

        Raises: RpcError when that is before the newest block, or past 2**53.
        """
        with self._lock:
            _check_time(timestamp)
            if timestamp < self.head.header.timestamp:
                raise RpcError(f"timestamp {timestamp} is before the previous block's {self.head.header.timestamp}")
            self._next_time = timestamp
            self._offset = timestamp - self._clock_time()

    def set_next_base_fee(self, wei: int) -> None:
        """Give the next block this base fee, in wei per gas."""
        with self._lock:
            self._next_base_fee = wei

    # ------------------------------------------------------------ cheating

    def set_balance(self, address: Address, wei: int) -> None:
        """Set an account's wei."""
        self._cheat(lambda vm: vm.set_balance(address, wei))

    def set_code(self, address: Address, code: bytes) -> None:
        """Put a contract's runtime code at an address."""
        self._cheat(lambda vm: vm.set_code(address, code))

    def set_storage(self, address: Address, slot: int, word: int) -> None:
        """Set one 256-bit storage word."""
        self._cheat(lambda vm: vm.set_storage(address, slot, word))

    def set_nonce(self, address: Address, nonce: int) -> None:
        """Set an account's nonce."""
        self._cheat(lambda vm: vm.set_nonce(address, nonce))

    def execute(self, message: Message) -> Outcome:
        """Run a message for good without a signature, a fee or a block: how contracts are put in place.

        Its logs are in the outcome and nowhere else: no block holds them.  Raises: RpcError when it reverts.
        """
        with self._lock:
            context = self._context(None)
            outcome = self._history.take(lambda vm: vm.execute(context, message))
            if not outcome.success:
                raise failure(outcome)
            return outcome

    def _cheat(self, step: Callable[[Vm], None]) -> None:
        with self._lock:
            self._history.take(step)

    # ------------------------------------------------------------ going back

    def snapshot(self) -> int:
        """Remember everything; return the id for :meth:`revert`."""
        with self._lock:
            self._last_snapshot += 1
            self._snapshots[self._last_snapshot] = _Snapshot(
                self.height, self._history.position, self.pool.copy(), self._offset, self._next_time
            )
            return self._last_snapshot

    def revert(self, snapshot: int) -> bool:
        """Go back to a snapshot, which is thereby used up with all later ones; return False for an unknown id."""
        with self._lock:
            state = self._snapshots.get(snapshot)
            if state is None:
                return False
            self._snapshots = {key: value for key, value in self._snapshots.items() if key < snapshot}
            self._truncate(state.height, state.position)
            self.pool = state.pool
            self._offset, self._next_time = state.offset, state.next_time
            return True

    def reorg(self, depth: int, *, requeue: bool = True, refill: bool = True) -> tuple[Hash32, ...]:
        """Undo the last ``depth`` blocks; return the hashes of the transactions they held.

        With ``requeue`` these wait in the pool again (and stay there until something is mined), else they are lost.  With
        ``refill`` as many empty blocks take their place, so that the chain does not get shorter.
        Cheats made after the surviving block are undone too.  Raises: RpcError when there are not so many blocks.
        """
        with self._lock:
            if not 0 < depth <= self.height:
                raise RpcError(f"cannot undo {depth} of {self.height} blocks")
            gone = self._blocks[-depth:]
            top = gone[-1].header.timestamp
            survivor = self._blocks[-depth - 1]
            self._snapshots = {k: v for k, v in self._snapshots.items() if v.height <= survivor.number}
            self._truncate(survivor.number, survivor.position)
            orphans = [receipt.transaction for block in gone for receipt in block.receipts]
            if refill:
                waiting, self.pool = self.pool, Pool()
                for block in gone:
                    self.set_next_time(min(block.header.timestamp, top))
                    self._mine_one()
                self.pool = waiting
            if requeue:
                for tx in orphans:
                    self.pool.drop(tx.hash)
                    self.pool.add(tx)
            return tuple(tx.hash for tx in orphans)

    def _truncate(self, height: int, position: int) -> None:
        for block in self._blocks[height + 1 :]:
            del self._by_hash[block.hash]
            for receipt in block.receipts:
                self._mined.pop(receipt.transaction.hash, None)
        del self._blocks[height + 1 :]
        self._history.rewind(position)
        self._reorgs += 1


def _check_time(timestamp: int) -> None:
    if timestamp > _LAST_TIME:
        raise RpcError(f"timestamp {timestamp} is too far away")


def _root(items: Sequence[rlp.Encodable]) -> Hash32:
    return Hash32("0x" + keccak(rlp.encode(list(items))).hex())
