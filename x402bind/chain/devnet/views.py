"""Blocks, transactions, receipts and logs as the JSON of the execution API (EIP-1474 and ethereum/execution-apis)."""

from __future__ import annotations

from .block import ZERO_HASH, Block, Receipt, bloom
from .incoming import Incoming
from .vm import GAS_LIMIT

__all__ = ["block_view", "data", "log_views", "number", "receipt_view", "transaction_view"]

_NO_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"


def number(value: int) -> str:
    """Return a QUANTITY: 0x hex without leading zeros."""
    return hex(value)


def data(value: bytes) -> str:
    """Return DATA: 0x and two digits a byte."""
    return "0x" + value.hex()


def block_view(block: Block, *, full: bool) -> dict[str, object]:
    """Return a block, its transactions as hashes or (``full``) as objects."""
    header = block.header
    transactions = [
        transaction_view(receipt.transaction, block, receipt) if full else receipt.transaction.hash
        for receipt in block.receipts
    ]
    return {
        "number": number(header.number),
        "hash": header.hash,
        "parentHash": header.parent,
        "timestamp": number(header.timestamp),
        "baseFeePerGas": number(header.base_fee),
        "gasLimit": number(GAS_LIMIT),
        "gasUsed": number(header.gas_used),
        "miner": header.miner,
        "extraData": data(header.extra_data),
        "logsBloom": data(header.logs_bloom),
        "transactionsRoot": header.transactions_root,
        "receiptsRoot": header.receipts_root,
        "stateRoot": ZERO_HASH,
        "sha3Uncles": _NO_UNCLES,
        "mixHash": ZERO_HASH,
        "nonce": "0x0000000000000000",
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "size": number(sum(len(receipt.transaction.raw) for receipt in block.receipts) + 540),
        "uncles": [],
        "transactions": transactions,
    }


def transaction_view(tx: Incoming, block: Block | None = None, receipt: Receipt | None = None) -> dict[str, object]:
    """Return a transaction, mined (with its block and receipt) or waiting."""
    view: dict[str, object] = {
        "hash": tx.hash,
        "type": number(tx.kind),
        "nonce": number(tx.nonce),
        "from": tx.sender,
        "to": tx.to,
        "value": number(tx.value),
        "gas": number(tx.gas),
        "gasPrice": number(receipt.gas_price if receipt else tx.max_fee),
        "input": data(tx.data),
        "v": number(tx.v),
        "r": number(tx.r),
        "s": number(tx.s),
        "blockHash": block.hash if block else None,
        "blockNumber": number(block.number) if block else None,
        "transactionIndex": number(receipt.index) if receipt else None,
    }
    if tx.chain_id is not None:
        view["chainId"] = number(tx.chain_id)
    if tx.kind:
        view["yParity"] = number(tx.v)
        view["accessList"] = [{"address": account, "storageKeys": list(keys)} for account, keys in tx.access_list]
    if tx.kind == 2:
        view["maxFeePerGas"] = number(tx.max_fee)
        view["maxPriorityFeePerGas"] = number(tx.max_tip)
    return view


def receipt_view(block: Block, receipt: Receipt) -> dict[str, object]:
    """Return a receipt."""
    tx = receipt.transaction
    return {
        "transactionHash": tx.hash,
        "transactionIndex": number(receipt.index),
        "blockHash": block.hash,
        "blockNumber": number(block.number),
        "from": tx.sender,
        "to": tx.to,
        "contractAddress": receipt.created,
        "type": number(tx.kind),
        "status": number(int(receipt.success)),
        "gasUsed": number(receipt.gas_used),
        "cumulativeGasUsed": number(receipt.cumulative_gas),
        "effectiveGasPrice": number(receipt.gas_price),
        "logs": log_views(block, receipt),
        "logsBloom": data(bloom(receipt.logs)),
    }


def log_views(block: Block, receipt: Receipt) -> list[dict[str, object]]:
    """Return a receipt's logs, each saying where it stands."""
    return [
        {
            "address": log.address,
            "topics": list(log.topics),
            "data": data(log.data),
            "blockHash": block.hash,
            "blockNumber": number(block.number),
            "transactionHash": receipt.transaction.hash,
            "transactionIndex": number(receipt.index),
            "logIndex": number(receipt.first_log + i),
            "removed": False,
        }
        for i, log in enumerate(receipt.logs)
    ]
