"""The standard methods of a node: eth_*, net_*, web3_* (EIP-1474)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from .block import Block, next_base_fee
from .chain import Chain
from .errors import INVALID_PARAMS, RpcError
from .estimate import failure
from .incoming import read
from .params import Params
from .requests import find_block, log_filter, message, overrides, state_block
from .views import block_view, data, log_views, number, receipt_view, transaction_view
from .vm import GAS_LIMIT

__all__ = ["METHODS", "Method"]

Method = Callable[[Chain, Params], object]

_TIP: Final = 1_000_000
"""The priority fee suggested, in wei per gas: a rollup's."""


def _client_version(_chain: Chain, _params: Params) -> object:
    return "x402-devnet/0.1.0/pyrevm"


def _net_version(chain: Chain, _params: Params) -> object:
    return str(chain.chain_id)


def _chain_id(chain: Chain, _params: Params) -> object:
    return number(chain.chain_id)


def _block_number(chain: Chain, _params: Params) -> object:
    return number(chain.height)


def _accounts(_chain: Chain, _params: Params) -> object:
    return []  # the node holds no keys


def _syncing(_chain: Chain, _params: Params) -> object:
    return False


def _block_by_number(chain: Chain, params: Params) -> object:
    block = find_block(chain, params.block(0))
    full = params.boolean(1, "full") if params.has(1) else False
    return None if block is None else block_view(block, full=full)


def _block_by_hash(chain: Chain, params: Params) -> object:
    block = chain.block(params.hash32(0))
    full = params.boolean(1, "full") if params.has(1) else False
    return None if block is None else block_view(block, full=full)


def _balance(chain: Chain, params: Params) -> object:
    address = params.address(0)
    return number(chain.state(state_block(chain, params.block(1))).balance(address))


def _code(chain: Chain, params: Params) -> object:
    address = params.address(0)
    return data(chain.state(state_block(chain, params.block(1))).code(address))


def _storage(chain: Chain, params: Params) -> object:
    address, slot = params.address(0), _slot(params, 1)
    word = chain.state(state_block(chain, params.block(2))).storage(address, slot)
    return data(word.to_bytes(32, "big"))


def _slot(params: Params, i: int) -> int:
    """A slot may come as a quantity or as 32 bytes."""
    text = params.raw(i, "slot")
    return int(params.hash32(i, "slot"), 16) if isinstance(text, str) and len(text) == 66 else params.quantity(i, "slot")


def _transaction_count(chain: Chain, params: Params) -> object:
    address, tag = params.address(0), params.block(1)
    if tag == "pending":
        return number(chain.transaction_count(address, pending=True))
    return number(chain.state(state_block(chain, tag)).nonce(address))


def _call(chain: Chain, params: Params) -> object:
    params.end(3)
    outcome = chain.call(message(params), state_block(chain, params.block(1)), overrides(params, 2))
    if not outcome.success:
        raise failure(outcome)
    return data(outcome.output)


def _estimate_gas(chain: Chain, params: Params) -> object:
    params.end(2)
    return number(chain.estimate(message(params), state_block(chain, params.block(1))))


def _gas_price(chain: Chain, _params: Params) -> object:
    return number(chain.base_fee + _TIP)


def _max_priority_fee(_chain: Chain, _params: Params) -> object:
    return number(_TIP)


def _fee_history(chain: Chain, params: Params) -> object:
    newest = state_block(chain, params.block(1)) or chain.head
    percentiles = params.numbers(2, "rewardPercentiles")
    if any(not 0 <= each <= 100 for each in percentiles) or percentiles != sorted(percentiles):
        raise RpcError("invalid reward percentile: they go up from 0 to 100", INVALID_PARAMS)
    count = min(params.number(0, "blockCount"), newest.number + 1, 1024)
    blocks = [block for n in range(newest.number - count + 1, newest.number + 1) if (block := chain.block(n)) is not None]
    following = chain.base_fee if newest is chain.head else next_base_fee(newest.header)
    history: dict[str, object] = {
        "oldestBlock": number(newest.number - count + 1),
        "baseFeePerGas": [number(fee) for fee in (*(block.header.base_fee for block in blocks), following)],
        "gasUsedRatio": [block.header.gas_used / GAS_LIMIT for block in blocks],
    }
    if percentiles:
        history["reward"] = [[number(tip) for tip in _tips(block, percentiles)] for block in blocks]
    return history


def _tips(block: Block, percentiles: list[int | Decimal]) -> list[int]:
    """Return the tips below which the given shares of a block's gas were bought."""
    base = block.header.base_fee
    paid = sorted((receipt.gas_price - base, receipt.gas_used) for receipt in block.receipts)
    found = []
    for percentile in percentiles:
        threshold, passed, tip = block.header.gas_used * percentile / 100, 0, 0
        for tip, gas in paid:  # noqa: B007  # the tip it stops at is the answer
            passed += gas
            if passed >= threshold:
                break
        found.append(tip)
    return found


def _send_raw_transaction(chain: Chain, params: Params) -> object:
    return chain.submit(read(params.data(0, "transaction")))


def _transaction_by_hash(chain: Chain, params: Params) -> object:
    hash_ = params.hash32(0)
    mined = chain.receipt(hash_)
    if mined is not None:
        return transaction_view(mined[1].transaction, *mined)
    waiting = chain.pool.get(hash_)
    return None if waiting is None else transaction_view(waiting)


def _transaction_receipt(chain: Chain, params: Params) -> object:
    mined = chain.receipt(params.hash32(0))
    return None if mined is None else receipt_view(*mined)


def _logs(chain: Chain, params: Params) -> object:
    wanted = log_filter(chain, params)
    return [
        view
        for block in wanted.blocks
        for receipt in block.receipts
        for log, view in zip(receipt.logs, log_views(block, receipt), strict=True)
        if wanted.takes(log)
    ]


METHODS: Final[Mapping[str, Method]] = {
    "web3_clientVersion": _client_version,
    "net_version": _net_version,
    "eth_chainId": _chain_id,
    "eth_blockNumber": _block_number,
    "eth_accounts": _accounts,
    "eth_syncing": _syncing,
    "eth_getBlockByNumber": _block_by_number,
    "eth_getBlockByHash": _block_by_hash,
    "eth_getBalance": _balance,
    "eth_getCode": _code,
    "eth_getStorageAt": _storage,
    "eth_getTransactionCount": _transaction_count,
    "eth_call": _call,
    "eth_estimateGas": _estimate_gas,
    "eth_gasPrice": _gas_price,
    "eth_maxPriorityFeePerGas": _max_priority_fee,
    "eth_feeHistory": _fee_history,
    "eth_sendRawTransaction": _send_raw_transaction,
    "eth_getTransactionByHash": _transaction_by_hash,
    "eth_getTransactionReceipt": _transaction_receipt,
    "eth_getLogs": _logs,
}
