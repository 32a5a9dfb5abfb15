"""One transaction, all it does to the state: run it, take the sender's number, charge for the gas, pay the tip."""

from __future__ import annotations

from x402core.values import UINT256_MAX

from .incoming import Incoming
from .vm import BlockContext, Message, Outcome, Vm

__all__ = ["apply"]


def apply(vm: Vm, block: BlockContext, tx: Incoming, base_fee: int) -> Outcome:
    """Execute an admitted transaction and return what it did; a failed one still pays.

    The base fee is burnt, the tip goes to the block's producer.  The charge is made after the run: the sender has no code,
    so nothing could have looked at its balance in between.
    """
    price = tx.price(base_fee)
    message = Message(tx.sender, tx.to, tx.data, tx.value, tx.gas, price, tx.access_list)
    outcome = vm.execute(block, message)
    vm.set_nonce(tx.sender, tx.nonce + 1)
    vm.set_balance(tx.sender, vm.balance(tx.sender) - outcome.gas_used * price)
    tip = outcome.gas_used * tx.tip(base_fee)
    vm.set_balance(block.coinbase, min(vm.balance(block.coinbase) + tip, UINT256_MAX))  # a cheat may have set the most
    return outcome
