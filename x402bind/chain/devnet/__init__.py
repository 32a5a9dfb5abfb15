"""An embedded Ethereum chain for development, tests and demos: a real EVM behind a real JSON-RPC node, in process.

>>> from x402bind.chain.devnet import Devnet, dev_accounts
>>> from x402bind.chain.devnet.token import place
>>> with Devnet(chain_id=84532) as devnet:  # any client can ask devnet.url
...     dollar = place(devnet.chain)  # where Circle's USDC lives on Base Sepolia
...     dollar.mint(dev_accounts()[1], 1_000_000)  # atomic units: one dollar
...     dollar.balance_of(dev_accounts()[1])
1000000

``python -m x402bind.chain.devnet --dollars`` runs such a chain by itself, and prints what a shell needs to use it.
Needs pyrevm (``pip install 'x402core[demo]'``), which is imported when a chain is made and not before.
"""

from __future__ import annotations

from .chain import ETHER, Chain
from .devnet import Devnet
from .errors import DevnetUnavailable, RpcError
from .keys import DEV_KEYS, dev_accounts

__all__ = ["DEV_KEYS", "ETHER", "Chain", "Devnet", "DevnetUnavailable", "RpcError", "dev_accounts"]
