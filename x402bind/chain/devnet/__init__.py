"""An embedded Ethereum chain for development, tests and demos: a real EVM behind a real JSON-RPC node, in process.

>>> with Devnet(chain_id=84532) as devnet:          # doctest: +SKIP
...     token = place(devnet.chain, "0x036CbD53842c5426634e7929541eC2318f3dCF7e")
...     token.mint(dev_accounts()[1], 1_000_000)
...     client = httpx.Client(base_url=devnet.url)

Needs pyrevm (``pip install 'x402core[demo]'``), which is imported when a chain is made and not before.
"""

from __future__ import annotations

from .chain import ETHER, Chain
from .devnet import Devnet
from .errors import DevnetUnavailable, RpcError
from .keys import DEV_KEYS, dev_accounts

__all__ = ["DEV_KEYS", "ETHER", "Chain", "Devnet", "DevnetUnavailable", "RpcError", "dev_accounts"]
