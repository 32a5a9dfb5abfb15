"""At the door: what makes a node refuse a transaction before it waits in the pool (go-ethereum's ``validateTx``)."""

from __future__ import annotations

from .errors import RpcError
from .incoming import Incoming
from .vm import GAS_LIMIT, Vm

__all__ = ["admit", "intrinsic_gas"]

_MAX_INITCODE = 49_152  # EIP-3860


def admit(tx: Incoming, vm: Vm, chain_id: int) -> None:
    """Check a transaction against the rules and the present state.  Raises: RpcError in go-ethereum's words."""
    if tx.chain_id is None:
        raise RpcError("only replay-protected (EIP-155) transactions allowed over RPC")
    if tx.chain_id != chain_id:
        raise RpcError(f"invalid chain id for signer: have {tx.chain_id} want {chain_id}")
    if tx.max_tip > tx.max_fee:
        raise RpcError(
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas: {tx.max_tip}, maxFeePerGas: {tx.max_fee}"
        )
    if tx.gas > GAS_LIMIT:
        raise RpcError("exceeds block gas limit")
    if tx.to is None and len(tx.data) > _MAX_INITCODE:
        raise RpcError(f"max initcode size exceeded: code size {len(tx.data)}, limit {_MAX_INITCODE}")
    needed = intrinsic_gas(tx)
    if tx.gas < needed:
        raise RpcError(f"intrinsic gas too low: gas {tx.gas}, minimum needed {needed}")
    if vm.code(tx.sender):
        raise RpcError(f"sender not an eoa: address {tx.sender}")
    nonce = vm.nonce(tx.sender)
    if tx.nonce < nonce:
        raise RpcError(f"nonce too low: next nonce {nonce}, tx nonce {tx.nonce}")
    balance = vm.balance(tx.sender)
    if balance < tx.most:
        raise RpcError(
            f"insufficient funds for gas * price + value: balance {balance}, tx cost {tx.most}, overshot {tx.most - balance}"
        )


def intrinsic_gas(tx: Incoming) -> int:
    """Return the gas a transaction costs before it runs (EIP-2028, EIP-2930, EIP-3860)."""
    zeros = tx.data.count(0)
    gas = 21_000 + 4 * zeros + 16 * (len(tx.data) - zeros)
    if tx.to is None:
        gas += 32_000 + 2 * ((len(tx.data) + 31) // 32)
    return gas + sum(2_400 + 1_900 * len(keys) for _, keys in tx.access_list)
