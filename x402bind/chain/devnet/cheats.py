"""What no real chain lets you do: methods named and shaped as anvil's and hardhat's, so that tests run on either node.

``devnet_reorg`` is ours: it gives the orphaned transactions back to the pool, as a real reorganisation does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .chain import Chain
from .errors import INVALID_PARAMS, RpcError
from .eth import Method
from .params import Params
from .views import number

__all__ = ["METHODS"]


def _set_balance(chain: Chain, params: Params) -> None:
    chain.set_balance(params.address(0), params.number(1, "balance"))


def _set_code(chain: Chain, params: Params) -> None:
    chain.set_code(params.address(0), params.data(1, "code"))


def _set_nonce(chain: Chain, params: Params) -> None:
    nonce = params.number(1, "nonce")
    if nonce >= 2**64:
        raise RpcError("invalid argument 1 (nonce): more than 64 bits", INVALID_PARAMS)
    chain.set_nonce(params.address(0), nonce)


def _set_storage(chain: Chain, params: Params) -> object:
    slot = params.raw(1, "slot")
    wide = isinstance(slot, str) and len(slot) == 66
    chain.set_storage(
        params.address(0),
        int(params.hash32(1, "slot"), 16) if wide else params.quantity(1, "slot"),
        int(params.hash32(2, "value"), 16),
    )
    return True


def _increase_time(chain: Chain, params: Params) -> object:
    return chain.increase_time(params.number(0, "seconds"))


def _set_next_time(chain: Chain, params: Params) -> None:
    chain.set_next_time(params.number(0, "timestamp"))


def _set_next_base_fee(chain: Chain, params: Params) -> None:
    chain.set_next_base_fee(params.number(0, "baseFeePerGas"))


def _evm_mine(chain: Chain, params: Params) -> object:
    """One block, at a timestamp if given."""
    chain.mine(timestamp=params.number(0, "timestamp") if params.has(0) else None)
    return "0x0"


def _anvil_mine(chain: Chain, params: Params) -> None:
    blocks = params.number(0, "blocks") if params.has(0) else 1
    if blocks > 100_000:
        raise RpcError("invalid argument 0 (blocks): at most 100000 at once", INVALID_PARAMS)
    chain.mine(blocks, interval=params.number(1, "interval") if params.has(1) else 0)


def _snapshot(chain: Chain, _params: Params) -> object:
    return number(chain.snapshot())


def _revert(chain: Chain, params: Params) -> object:
    return chain.revert(params.number(0, "snapshot"))


def _get_automine(chain: Chain, _params: Params) -> object:
    return chain.automine


def _set_automine(chain: Chain, params: Params) -> None:
    chain.automine = params.boolean(0, "enabled")


def _drop_transaction(chain: Chain, params: Params) -> object:
    hash_ = params.hash32(0)
    return hash_ if chain.pool.drop(hash_) else None


def _anvil_reorg(chain: Chain, params: Params) -> None:
    """Replace the last blocks by empty ones; their transactions are lost."""
    if params.has(1) and params.raw(1, "transactions") != []:
        raise RpcError("invalid argument 1 (transactions): only an empty list is supported", INVALID_PARAMS)
    chain.reorg(params.number(0, "depth"), requeue=False)


def _anvil_rollback(chain: Chain, params: Params) -> None:
    """Take the last blocks away; their transactions are lost."""
    chain.reorg(params.number(0, "depth") if params.has(0) else 1, requeue=False, refill=False)


def _devnet_reorg(chain: Chain, params: Params) -> object:
    """Replace the last blocks by empty ones; return the hashes of their transactions, which wait in the pool again."""
    return list(chain.reorg(params.number(0, "depth")))


METHODS: Final[Mapping[str, Method]] = {
    "anvil_setBalance": _set_balance,
    "anvil_setCode": _set_code,
    "anvil_setNonce": _set_nonce,
    "anvil_setStorageAt": _set_storage,
    "anvil_setNextBlockBaseFeePerGas": _set_next_base_fee,
    "anvil_mine": _anvil_mine,
    "anvil_getAutomine": _get_automine,
    "anvil_dropTransaction": _drop_transaction,
    "anvil_reorg": _anvil_reorg,
    "anvil_rollback": _anvil_rollback,
    "evm_increaseTime": _increase_time,
    "evm_setNextBlockTimestamp": _set_next_time,
    "evm_mine": _evm_mine,
    "evm_snapshot": _snapshot,
    "evm_revert": _revert,
    "evm_setAutomine": _set_automine,
    "devnet_reorg": _devnet_reorg,
}
