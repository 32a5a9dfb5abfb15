"""Known networks and assets, as immutable data: what a name, a sign or a token address means.

Decimals, EIP-712 domain names and chain ids come from here or from the chain, never from a peer: a server that says
``decimals: 18`` must not turn a cap of 0.8 USDC into a permit for half a trillion (seeds.md A5, Y3).

A :class:`Registry` never changes.  ``with_network`` and ``with_asset`` return a new one and refuse to give a taken name or
code another meaning; ``a | b`` merges, and there the right side wins by design: networks and assets by their key,
defaults by theirs.  Merging is associative, the empty registry is its identity, and no asset is ever lost by it (Y13).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NoReturn, TypeAlias, TypeVar

from .errors import LocalProtocolError
from .values import Address, Network, chain_id, local, parse_address, parse_network

__all__ = ["KNOWN", "Asset", "Defaults", "NetworkInfo", "Registry"]

Defaults: TypeAlias = Mapping[tuple[Network, str], Address]
"""The asset a price means: by (network, sign), such as ``"$"``; the empty sign is for a price that names no asset."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_CODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
K = TypeVar("K")
V = TypeVar("V")

_METHOD = re.compile(r"[a-z0-9]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asset:
    """One token on one network; the text fields are normalised and checked here, once.

    ``code`` is what a price spells after the number ("usdc"), ``symbol`` the sign it may carry before it ("$", or ""),
    ``name`` and ``version`` the token's EIP-712 domain, ``methods`` the ways to move it, preferred first (``eip3009``,
    ``eip2612``, ``permit2``).

    Raises: LocalProtocolError naming the field.
    """

    network: Network
    address: Address
    code: str
    symbol: str
    name: str
    version: str
    decimals: int
    methods: tuple[str, ...]

    def __post_init__(self) -> None:
        put = object.__setattr__
        chain_id(local(parse_network, self.network, "network"))
        put(self, "address", local(parse_address, self.address, "address"))
        put(self, "code", _matching(_CODE, self.code, "code", 'a short word such as "usdc"'))
        # Y11: no sign at all is fine; most tokens have none
        if not isinstance(self.symbol, str) or (self.symbol and not _is_sign(self.symbol)):
            raise LocalProtocolError('write one currency sign such as "$", or "" for none', field="symbol")
        if not isinstance(self.name, str) or not self.name:
            raise LocalProtocolError('write the token\'s EIP-712 domain name, such as "USD Coin"', field="name")
        if not isinstance(self.version, str) or not self.version:
            raise LocalProtocolError('write the token\'s EIP-712 domain version, such as "2"', field="version")
        if not isinstance(self.decimals, int) or isinstance(self.decimals, bool) or not 0 <= self.decimals <= 255:
            raise LocalProtocolError("write a whole number from 0 to 255", field="decimals")
        if not isinstance(self.methods, tuple) or not self.methods:
            raise LocalProtocolError('write a tuple such as ("eip3009", "eip2612")', field="methods")
        for method in self.methods:
            if not isinstance(method, str) or _METHOD.fullmatch(method) is None:
                raise LocalProtocolError('write methods such as "eip3009" or "permit2"', field="methods")


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """One network: its CAIP-2 id, title, x402 v1 name, whether its money is play money, where to look up transactions.

    ``explorer`` is a URL that a transaction hash is appended to; ``aliases`` are further names it is known by.

    Raises: LocalProtocolError naming the field.
    """

    network: Network
    name: str
    v1_name: str | None = None
    testnet: bool = False
    explorer: str | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        local(parse_network, self.network, "network")
        if not isinstance(self.name, str) or not self.name.strip():
            raise LocalProtocolError("write the network's title", field="name")
        if self.v1_name is not None:
            put(self, "v1_name", _matching(_NAME, self.v1_name, "v1_name", 'a name such as "base-sepolia", or None'))
        if self.explorer is not None and not str(self.explorer).startswith(("https://", "http://")):
            raise LocalProtocolError("write a URL that a transaction hash is appended to, or None", field="explorer")
        aliases = (_matching(_NAME, alias, "aliases", 'names such as "base-mainnet"') for alias in self.aliases)
        put(self, "aliases", tuple(aliases))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds the network, the x402 v1 name first."""
        return self.aliases if self.v1_name is None else (self.v1_name, *self.aliases)


def _matching(pattern: re.Pattern[str], value: object, field: str, expected: str) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    if pattern.fullmatch(text) is None:
        raise LocalProtocolError(f"write {expected}", field=field)
    return text


def _is_sign(text: str) -> bool:
    """Tell whether a string can stand before a number and not be read as part of it, of a word or of a blank."""
    return len(text) == 1 and text.isprintable() and not text.isalnum() and not text.isspace() and text not in ".,+-_"


class Registry:
    """Networks and assets by name, address, code and sign; immutable; every look-up is one dictionary access.

    A network may be given by its CAIP-2 id or any of its names, in any case.  Assets may sit on any ``eip155`` network,
    listed or not (Y12).  Among entries with the same key, in one call as in a merge, the later one counts.

    Raises: LocalProtocolError, from the constructor for a default that is not among the assets, and from every look-up
    that does not return None, for what is not there; ``field`` names what to change.
    """

    __slots__ = ("_assets", "_chain_ids", "_codes", "_defaults", "_names", "_networks", "_on")

    _networks: dict[Network, NetworkInfo]
    _assets: dict[tuple[Network, Address], Asset]
    _defaults: dict[tuple[Network, str], Address]
    _names: dict[str, Network]
    _codes: dict[tuple[Network, str], Asset]
    _on: dict[Network, tuple[Asset, ...]]
    _chain_ids: Mapping[str, int]

    def __init__(
        self, networks: Iterable[NetworkInfo] = (), assets: Iterable[Asset] = (), defaults: Defaults | None = None
    ) -> None:
        put = object.__setattr__
        put(self, "_networks", _latest((info.network, info) for info in networks))
        put(self, "_assets", _latest(((asset.network, asset.address), asset) for asset in assets))
        put(self, "_defaults", dict(defaults or {}))
        for (network, symbol), address in self._defaults.items():
            if (network, address) not in self._assets:
                raise LocalProtocolError(f"the default for {symbol or 'prices'} is not an asset here", field="defaults")
        put(self, "_names", {name: info.network for info in self._networks.values() for name in info.names})
        put(self, "_codes", {(asset.network, asset.code): asset for asset in self._assets.values()})
        on: dict[Network, tuple[Asset, ...]] = {}
        for asset in self._assets.values():
            first = self._defaults.get((asset.network, "")) == asset.address
            others = on.get(asset.network, ())
            on[asset.network] = (asset, *others) if first else (*others, asset)
        put(self, "_on", on)
        ids = {
            name: chain_id(network)
            for name, network in self._names.items()
            if network.startswith("eip155:") and self._networks[network].v1_name == name
        }
        put(self, "_chain_ids", MappingProxyType(ids))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Registry does not change; with_asset, with_network and | return a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Registry does not change")

    def __reduce__(self) -> tuple[type[Registry], tuple[object, ...]]:
        return Registry, (tuple(self._networks.values()), tuple(self._assets.values()), self._defaults)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Registry):
            return NotImplemented
        # Order is part of the value: it decides which of two networks with one name, or assets with one code, is meant.
        return (
            list(self._networks.values()) == list(other._networks.values())
            and list(self._assets.values()) == list(other._assets.values())
            and self._defaults == other._defaults
        )

    def __hash__(self) -> int:
        return hash((tuple(self._networks), tuple(self._assets), frozenset(self._defaults.items())))

    def __repr__(self) -> str:
        return f"<Registry of {len(self._networks)} networks, {len(self._assets)} assets>"

    def __or__(self, other: Registry) -> Registry:
        """Merge two registries; the right side wins where both have the same key."""
        if not isinstance(other, Registry):
            return NotImplemented
        return Registry(
            (*self._networks.values(), *other._networks.values()),
            (*self._assets.values(), *other._assets.values()),
            {**self._defaults, **other._defaults},
        )

    # --- networks ---

    def network(self, name: str) -> NetworkInfo:
        """Return what is known of a network, by CAIP-2 id or any of its names."""
        network = self.resolve(name)
        info = self._networks.get(network)
        if info is None:
            raise LocalProtocolError(f"{network} is not registered; add it using with_network", field="network")
        return info

    def resolve(self, name: str) -> Network:
        """Return the CAIP-2 id of a network, by any of its names or by the id itself, which need not be registered."""
        text = name.strip() if isinstance(name, str) else ""
        if ":" in text:
            return local(parse_network, text, "network")
        network = self._names.get(text.lower())
        if network is None:
            what = f"{text[:64]!r} is no network I know" if text else "name a network"
            raise LocalProtocolError(f'{what}; write a CAIP-2 id such as "eip155:8453"', field="network")
        return network

    def networks(self) -> tuple[NetworkInfo, ...]:
        """Return every registered network."""
        return tuple(self._networks.values())

    def v1_name(self, network: Network) -> str | None:
        """Return the name a network goes by in x402 v1, or None if it has none."""
        info = self._networks.get(network)
        name = info.v1_name if info else None
        # after a merge the name may belong to another network: never call two networks the same on the wire
        return name if name is not None and self._names[name] == network else None

    def chain_ids(self) -> Mapping[str, int]:
        """Return the EVM chain ids by x402 v1 name, read-only (y402's ``X-Payment-Networks``)."""
        return self._chain_ids

    # --- assets ---

    def asset(self, network: str, address: str) -> Asset | None:
        """Return the asset at an address, in any letter case, or None if it is not registered."""
        found = self._assets.get((Network(network), Address(address)))
        return found or self._assets.get((self.resolve(network), local(parse_address, address, "address")))

    def by_code(self, network: str, code: str, *, field: str = "code") -> Asset:
        """Return the asset a code such as ``USDC`` means on a network; ``field`` is named in the error."""
        where = self.resolve(network)
        found = self._codes.get((where, code.strip().lower()))
        if found is None:
            raise LocalProtocolError(f"{where} has no asset {code[:64]!r}{self._choice(where)}", field=field)
        return found

    def by_symbol(self, network: str, symbol: str, *, field: str = "symbol") -> Asset:
        """Return the asset a currency sign such as ``$`` means on a network; ``field`` is named in the error."""
        where = self.resolve(network)
        address = self._defaults.get((where, symbol)) if symbol else None
        if address is None:
            raise LocalProtocolError(
                f"{symbol[:8]!r} means no asset on {where}{self._choice(where)}, or add one using "
                "with_asset(..., default_for_symbol=True)",
                field=field,
            )
        return self._assets[where, address]

    def default(self, network: str, *, field: str = "network") -> Asset:
        """Return the asset a price without code or sign is in; ``field`` is named in the error."""
        where = self.resolve(network)
        address = self._defaults.get((where, ""))
        if address is None:
            raise LocalProtocolError(
                f"{where} has no default asset{self._choice(where)}, or add one using with_asset(..., default=True)",
                field=field,
            )
        return self._assets[where, address]

    def assets(self, network: str) -> tuple[Asset, ...]:
        """Return the assets on a network, the default one first."""
        return self._on.get(self.resolve(network), ())

    def _choice(self, network: Network) -> str:
        codes = " or ".join(f'"0.01 {asset.code.upper()}"' for asset in self._on.get(network, ())[:4])
        return f"; write {codes}" if codes else "; none is registered there, use AssetAmount"

    # --- growing ---

    def with_network(self, info: NetworkInfo) -> Registry:
        """Return a registry with one network more, or replaced.  Raises: LocalProtocolError for another's name."""
        for name in info.names:
            if self._names.get(name, info.network) != info.network:
                taken = self._names[name]
                raise LocalProtocolError(f"the name {name!r} is {taken}'s; choose another, or merge with |", field="name")
        return self | Registry((info,))

    def with_asset(self, asset: Asset, *, default: bool = False, default_for_symbol: bool = False) -> Registry:
        """Return a registry with one asset more, or replaced.

        ``default`` makes it what a bare number means on its network, ``default_for_symbol`` what its sign means.

        Raises: LocalProtocolError for a code that is another asset's, or a default for a sign it does not have.
        """
        holder = self._codes.get((asset.network, asset.code))
        if holder is not None and holder.address != asset.address:
            raise LocalProtocolError(
                f"{asset.code!r} on {asset.network} is {holder.address}; choose another code, or merge with |", field="code"
            )
        if default_for_symbol and not asset.symbol:
            raise LocalProtocolError("the asset has no sign to be the default for", field="symbol")
        signs = ([""] if default else []) + ([asset.symbol] if default_for_symbol else [])
        return self | Registry((), (asset,), {(asset.network, sign): asset.address for sign in signs})


def _latest(entries: Iterable[tuple[K, V]]) -> dict[K, V]:
    """Return a dict in which a repeated key counts, and stands, where it came last: that makes merging associative."""
    found: dict[K, V] = {}
    for key, value in entries:
        found.pop(key, None)
        found[key] = value
    return found


# --- what is known ---------------------------------------------------------------------------------------------------

# CAIP-2 reference, title, x402 v1 name (x402.md 1.2, seeds.md 2.1), explorer, further names (seeds.md 1.3 and our own).
_MAINNETS: Final[tuple[tuple[int, str, str | None, str | None, tuple[str, ...]], ...]] = (
    (1, "Ethereum", "ethereum", "https://etherscan.io/tx/", ("ethereum-mainnet",)),
    (14, "Flare", "flare", "https://flarescan.com/tx/", ()),
    (50, "XDC", None, "https://xdcscan.com/tx/", ("xdc",)),
    (137, "Polygon", "polygon", "https://polygonscan.com/tx/", ("polygon-mainnet",)),
    (143, "Monad", "monad", "https://monadscan.com/tx/", ()),
    (988, "Stable", "stable", "https://stablescan.xyz/tx/", ()),
    (1329, "Sei", "sei", "https://seiscan.io/tx/", ()),
    (1514, "Story", "story", "https://www.storyscan.io/tx/", ()),
    (2741, "Abstract", "abstract", "https://abscan.org/tx/", ()),
    (3338, "peaq", "peaq", "https://peaq.subscan.io/tx/", ()),
    (4326, "MegaETH", "megaeth", None, ()),
    (4689, "IoTeX", "iotex", "https://iotexscan.io/tx/", ()),
    (8453, "Base", "base", "https://basescan.org/tx/", ("base-mainnet",)),
    (31612, "Mezo", None, "https://explorer.mezo.org/tx/", ("mezo",)),
    (36900, "ADI Chain", None, None, ("adi",)),
    (38833, "Igra", None, "https://explorer.igralabs.com/tx/", ("igra",)),
    (41923, "EDU Chain", "educhain", "https://educhain.blockscout.com/tx/", ()),
    (42161, "Arbitrum One", None, "https://arbiscan.io/tx/", ("arbitrum",)),
    (42220, "Celo", "celo", "https://celoscan.io/tx/", ()),
    (43114, "Avalanche C-Chain", "avalanche", "https://snowtrace.io/tx/", ()),
    (190415, "HPP", None, None, ("hpp",)),
    (723487, "Radius", None, None, ("radius",)),
)
_TESTNETS: Final[tuple[tuple[int, str, str | None, str | None, tuple[str, ...]], ...]] = (
    (51, "XDC Apothem", None, "https://testnet.xdcscan.com/tx/", ("xdc-apothem",)),
    (1328, "Sei Testnet", "sei-testnet", "https://testnet.seiscan.io/tx/", ()),
    (2201, "Stable Testnet", "stable-testnet", "https://testnet.stablescan.xyz/tx/", ()),
    (11124, "Abstract Testnet", "abstract-testnet", "https://sepolia.abscan.org/tx/", ()),
    (31337, "Local development chain", "local", None, ()),
    (31611, "Mezo Testnet", None, "https://explorer.test.mezo.org/tx/", ("mezo-testnet",)),
    (43113, "Avalanche Fuji", "avalanche-fuji", "https://testnet.snowtrace.io/tx/", ()),
    (72344, "Radius Testnet", None, None, ("radius-testnet",)),
    (80002, "Polygon Amoy", "polygon-amoy", "https://amoy.polygonscan.com/tx/", ()),
    (84532, "Base Sepolia", "base-sepolia", "https://sepolia.basescan.org/tx/", ()),
    (181228, "HPP Sepolia", None, None, ("hpp-sepolia",)),
    (421614, "Arbitrum Sepolia", None, "https://sepolia.arbiscan.io/tx/", ("arbitrum-sepolia",)),
    (11142220, "Celo Sepolia", None, "https://sepolia.celoscan.io/tx/", ("celo-sepolia",)),
    (11155111, "Ethereum Sepolia", "sepolia", "https://sepolia.etherscan.io/tx/", ("ethereum-sepolia",)),
    (324705682, "SKALE Base Sepolia", "skale-base-sepolia", None, ()),
)
# The clusters' explorer tells them apart by a query behind the hash, so only the main one has a base URL.
_SOLANA: Final = (
    ("5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "Solana", "solana", False, "https://explorer.solana.com/tx/"),
    ("EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "Solana Devnet", "solana-devnet", True, None),
    ("4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", "Solana Testnet", "solana-testnet", True, None),
)

_FIAT_TOKEN: Final = ("eip3009", "eip2612")  # Circle's FiatToken v2, native or bridged
_PERMIT2: Final = ("permit2", "eip2612")
_USD, _EUR, _NONE = "$", "€", ""

# chain id, address, code, sign, EIP-712 name, version, decimals, methods.  A chain's first row is its default asset, and
# the first row with a sign is what the sign means there.  From x402.md 2.0 "Default assets", which wins over the seeds;
# the rows it lacks are marked with their table.  They disagree on no address, and on one name: see Sepolia.
_ASSETS: Final[tuple[tuple[int, str, str, str, str, str, int, tuple[str, ...]], ...]] = (
    (8453, "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "usdc", _USD, "USD Coin", "2", 6, _FIAT_TOKEN),
    (8453, "0x60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42", "eurc", _EUR, "EURC", "2", 6, _FIAT_TOKEN),  # seeds 2.1
    (84532, "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
    (84532, "0x808456652fdb597867f38412077A9182bf77359F", "eurc", _EUR, "EURC", "2", 6, _FIAT_TOKEN),  # seeds 2.1
    (1, "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "usdc", _USD, "USD Coin", "2", 6, _FIAT_TOKEN),
    # seeds 1.3; x402-mock 0.3.0 calls it "USD Coin", but 0.1.1's "USDC" is what signatures are checked against (1.7)
    (11155111, "0x1c7D4B196Cb0C7B01d743Fbc6116a902379C7238", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
    (43114, "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", "usdc", _USD, "USD Coin", "2", 6, _FIAT_TOKEN),
    (43114, "0xc891eb4cbdeff6e073e859e987815ed1505c2acd", "eurc", _EUR, "Euro Coin", "2", 6, _FIAT_TOKEN),  # seeds 2.1
    (43113, "0x5425890298aed601595a70AB815c96711a31Bc65", "usdc", _USD, "USD Coin", "2", 6, _FIAT_TOKEN),  # seeds 2.1
    (43113, "0x5E44db7996c682E92a960b65AC713a54AD815c6B", "eurc", _EUR, "EUR Coin", "2", 6, _FIAT_TOKEN),  # seeds 2.1
    (4326, "0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7", "megausd", _USD, "MegaUSD", "1", 18, _PERMIT2),
    (143, "0x754704Bc059F8C67012fEd69BC8A327a5aafb603", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
    (988, "0x779Ded0c9e1022225f8E0630b35a9b54bE713736", "usdt0", _USD, "USDT0", "1", 6, ("eip3009",)),
    (2201, "0x78Cf24370174180738C5B8E352B6D14c83a6c9A9", "usdt0", _USD, "USDT0", "1", 6, ("eip3009",)),
    (137, "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "usdc", _USD, "USD Coin", "2", 6, _FIAT_TOKEN),
    (80002, "0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),  # seeds 2.1
    (42161, "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", "usdc", _USD, "USD Coin", "2", 6, _FIAT_TOKEN),
    (421614, "0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d", "usdc", _USD, "USD Coin", "2", 6, _FIAT_TOKEN),
    (31612, "0xdD468A1DDc392dcdbEf6db6e34E89AA338F9F186", "musd", _USD, "Mezo USD", "1", 18, _PERMIT2),
    (31611, "0x118917a40FAF1CD7a13dB0Ef56C86De7973Ac503", "musd", _USD, "Mezo USD", "1", 18, _PERMIT2),
    (723487, "0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb", "sbc", _USD, "Stable Coin", "1", 6, _PERMIT2),
    (72344, "0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb", "sbc", _USD, "Stable Coin", "1", 6, _PERMIT2),
    (36900, "0x9cb8142aEBBcdc60AF7c97Af897A67A8f3CA71C2", "usdc.e", _USD, "USDC.e", "2", 6, _FIAT_TOKEN),
    (190415, "0x401eCb1D350407f13ba348573E5630B83638E30D", "usdc.e", _USD, "Bridged USDC", "2", 6, _FIAT_TOKEN),
    (181228, "0x401eCb1D350407f13ba348573E5630B83638E30D", "usdc.e", _USD, "Bridged USDC", "2", 6, _FIAT_TOKEN),
    (50, "0xfA2958CB79b0491CC627c1557F441eF849Ca8eb1", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
    (51, "0xb5AB69F7bBada22B28e79C8FFAECe55eF1c771D4", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
    (38833, "0xA5b8BF902b2844dA17d4506cc827F7F1681735E7", "usdc", _USD, "USDC", "1", 6, ("permit2",)),
    (14, "0xe7cd86e13AC4309349F30B3435a9d337750fC82D", "usdt0", _USD, "USD₮0", "1", 6, ("eip3009",)),
    (42220, "0xcebA9300f2b948710d2653dD7B07f33A8B32118C", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
    (42220, "0x48065fbBE25f71C9282ddf5e1cD6D6A887483D5e", "usdt", _NONE, "Tether USD", "1", 6, ("eip3009",)),
    (42220, "0xD2ab3C9A02DBBAB236BfEC45D1d755DF4267F771", "usat", _NONE, "Tether America USD", "1", 6, ("eip3009",)),
    (11142220, "0x01C5C0122039549AD1493B8220cABEdD739BC44E", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
    (1329, "0xe15fC38F6D8c56aF07bbCBe3BAf5708A2Bf42392", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
    (1328, "0x4fCF1784B31630811181f670Aea7A7bEF803eaED", "usdc", _USD, "USDC", "2", 6, _FIAT_TOKEN),
)


def _known() -> Registry:
    networks = [
        NetworkInfo(Network(f"eip155:{chain}"), title, v1_name, testnet, explorer, aliases)
        for testnet, table in ((False, _MAINNETS), (True, _TESTNETS))
        for chain, title, v1_name, explorer, aliases in table
    ]
    networks += [
        NetworkInfo(Network(f"solana:{reference}"), title, v1_name, testnet, explorer)
        for reference, title, v1_name, testnet, explorer in _SOLANA
    ]
    assets = [
        Asset(Network(f"eip155:{chain}"), Address(address), code, sign, name, version, decimals, methods)
        for chain, address, code, sign, name, version, decimals, methods in _ASSETS
    ]
    defaults: dict[tuple[Network, str], Address] = {}
    for asset in assets:
        defaults.setdefault((asset.network, ""), asset.address)
        if asset.symbol:
            defaults.setdefault((asset.network, asset.symbol), asset.address)
    return Registry(networks, assets, defaults)


KNOWN: Final = _known()
"""The networks and assets of x402 and of both seeds (x402.md 1.2 and 2.0, seeds.md 1.3 and 2.1)."""
