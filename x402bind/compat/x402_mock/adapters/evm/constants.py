"""Chains, tokens, nodes and amounts, looked up in our own registry: nothing is asked of the Internet, nothing on import."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from typing import Final

from pydantic import BaseModel, Field

from x402bind.compat.x402_mock.settings import Settings
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.money import atomic_to_human, human_to_atomic
from x402core.registry import KNOWN
from x402core.values import Amount, Network, chain_id

__all__ = [
    "AssetConfig",
    "ChainConfig",
    "amount_to_value",
    "get_all_chain_configs",
    "get_chain_config",
    "get_infra_key_from_env",
    "get_private_key_from_env",
    "get_rpc_key_from_env",
    "get_rpc_url",
    "is_chain_supported",
    "node_url",
    "parse_caip2_eip155_chain_id",
    "value_to_amount",
]

_CAIP2 = re.compile(r"eip155[:-]([1-9][0-9]{0,19})", re.ASCII | re.IGNORECASE)

# chain id -> the provider's name for it (Infura, Alchemy; "" where it has none), and a node that asks for no key
_NODES: Final[dict[int, tuple[str, str, str]]] = {
    1: ("mainnet", "eth-mainnet", "https://ethereum-rpc.publicnode.com"),
    10: ("optimism-mainnet", "opt-mainnet", "https://mainnet.optimism.io"),
    137: ("polygon-mainnet", "polygon-mainnet", "https://polygon-bor-rpc.publicnode.com"),
    8453: ("base-mainnet", "base-mainnet", "https://mainnet.base.org"),
    42161: ("arbitrum-mainnet", "arb-mainnet", "https://arb1.arbitrum.io/rpc"),
    43113: ("avalanche-fuji", "avax-fuji", "https://api.avax-test.network/ext/bc/C/rpc"),
    43114: ("avalanche-mainnet", "avax-mainnet", "https://api.avax.network/ext/bc/C/rpc"),
    80002: ("polygon-amoy", "polygon-amoy", "https://rpc-amoy.polygon.technology"),
    84532: ("base-sepolia", "base-sepolia", "https://sepolia.base.org"),
    421614: ("arbitrum-sepolia", "arb-sepolia", "https://sepolia-rollup.arbitrum.io/rpc"),
    11155111: ("sepolia", "eth-sepolia", "https://ethereum-sepolia-rpc.publicnode.com"),
}


class AssetConfig(BaseModel):
    """A token."""

    address: str
    name: str
    decimals: int
    version: str


class ChainConfig(BaseModel):
    """A chain with its tokens."""

    network: str
    name: str
    type: str = "evm"
    rpc_url: str
    public_rpc_url: str
    explorer_url: str
    assets: dict[str, AssetConfig] = Field(default_factory=dict)


def parse_caip2_eip155_chain_id(caip2: str) -> int:
    """Return the chain id of ``eip155:1`` or ``eip155-1``.  Raises: LocalProtocolError."""
    match = _CAIP2.fullmatch(caip2)
    if match is None:
        raise LocalProtocolError("expected eip155: and a chain id", field="caip2")
    return int(match[1])


def get_rpc_url(chain_id: int | str, infra_key: str | None = None) -> str | None:
    """Return a node's URL: Infura's with a key, else one that asks for none; None for a chain without."""
    number = chain_id if isinstance(chain_id, int) else parse_caip2_eip155_chain_id(chain_id)
    infura, _, public = _NODES.get(number, ("", "", ""))
    return f"https://{infura}.infura.io/v3/{infra_key}" if infura and infra_key else public or None


def node_url(network: Network, settings: Settings) -> str:
    """Return the URL of a node for a network where nobody named one.  Raises: LocalProtocolError(field="rpc_url")."""
    number = chain_id(network)
    alchemy = _NODES.get(number, ("", "", ""))[1]
    if settings.infura_key is None and settings.alchemy_key is not None and alchemy:
        return f"https://{alchemy}.g.alchemy.com/v2/{settings.alchemy_key}"
    url = get_rpc_url(number, settings.infura_key)
    if url is None:
        raise LocalProtocolError(f"no node is known for {network}: name one", field="rpc_url")
    return url


def get_chain_config(chain_id: str) -> ChainConfig | None:
    """Return a chain by its CAIP-2 id, None for one without tokens we know."""
    return get_all_chain_configs().get(chain_id)


def get_all_chain_configs() -> dict[str, ChainConfig]:
    """Return the EVM chains we know, with their tokens, by CAIP-2 id."""
    found: dict[str, ChainConfig] = {}
    for info in KNOWN.networks():
        assets = {
            asset.code.upper(): AssetConfig(
                address=asset.address, name=asset.name, decimals=asset.decimals, version=asset.version
            )
            for asset in KNOWN.assets(info.network)
        }
        if assets and info.network.startswith("eip155:"):
            number = chain_id(info.network)
            infura, _, public = _NODES.get(number, ("", "", ""))
            found[info.network] = ChainConfig(
                network=info.names[0] if info.names else info.network,
                name=info.name,
                rpc_url=f"https://{infura}.infura.io/v3/{{RPC_KEYS}}" if infura else public,
                public_rpc_url=public,
                explorer_url=(info.explorer or "").removesuffix("tx/").rstrip("/"),
                assets=assets,
            )
    return found


def is_chain_supported(chain_id: str) -> bool:
    """Say whether a chain has tokens we know."""
    return get_chain_config(chain_id) is not None


def get_private_key_from_env() -> str | None:
    """Return ``EVM_PRIVATE_KEY`` of the environment."""
    return Settings.of(os.environ).private_key


def get_infra_key_from_env() -> str | None:
    """Return ``EVM_INFURA_KEY`` of the environment."""
    return Settings.of(os.environ).infura_key


def get_rpc_key_from_env(name: str) -> str | None:
    """Return a node provider's key, ``EVM_INFURA_KEY`` or ``EVM_ALCHEMY_KEY``."""
    settings = Settings.of(os.environ)
    return {"EVM_INFURA_KEY": settings.infura_key, "EVM_ALCHEMY_KEY": settings.alchemy_key}.get(name)


def amount_to_value(*, amount: float | str | Decimal, decimals: int) -> int:
    """Return atomic units, exactly.  Raises: LocalProtocolError for a fraction of one, or what is no amount."""
    try:
        return human_to_atomic(Decimal(str(amount)), decimals)
    except (ArithmeticError, RemoteProtocolError):
        raise LocalProtocolError(f"no amount of whole atomic units at {decimals} decimals", field="amount") from None


def value_to_amount(*, value: int | str | Decimal, decimals: int) -> float:
    """Return atomic units as a number for people: a float, as x402-mock's is; no money is reckoned with it."""
    return float(atomic_to_human(Amount(int(value)), decimals))
