"""A stage for payments: a dollar where a chain has its own, a payer with money, and the lines that tell a shell of them.

The parts are development accounts, each with ether from the start: 0 sells and settles for itself, 1 pays, 2 settles for
others (not 0: the numbers of one account's transactions are given out by one ledger), 3 is paid.
"""

from __future__ import annotations

from x402core.evm.address import checksum
from x402core.registry import Asset

from .devnet import Devnet
from .keys import DEV_KEYS, dev_accounts
from .token import place

__all__ = ["set_up"]


def set_up(devnet: Devnet, dollar: Asset, amount: int) -> str:
    """Put ``dollar`` in its place, mint ``amount`` whole ones to the payer, and return lines that a shell can take.

    Raises: RpcError when a token is there already.
    """
    seller, payer, settler, _ = DEV_KEYS[:4]
    token = place(
        devnet.chain,
        dollar.address,
        name=dollar.name,
        version=dollar.version,
        symbol=dollar.code.upper(),
        decimals=dollar.decimals,
    )
    token.mint(dev_accounts()[1], amount * 10**dollar.decimals)
    devnet.chain.mine()  # a reorganisation of what comes later leaves the money where it is
    lines = (
        f"# {amount} {dollar.code.upper()} ({checksum(dollar.address)}) for {checksum(dev_accounts()[1])}",
        "# keys that everybody knows: for this chain only",
        "# every start is a new chain: a ledger of an old one (payments.db) knows other transaction numbers, so remove it",
        f"export RPC={devnet.url}",
        f"export KEY=0x{seller.hex()}",
        f"export PAYER_KEY=0x{payer.hex()}",
        f"export SETTLER_KEY=0x{settler.hex()}",
        f"export PAYEE={checksum(dev_accounts()[3])}",
    )
    return "\n".join(lines) + "\n"
