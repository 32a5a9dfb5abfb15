"""Which networks and tokens an endpoint is paid on, and which of them a price means.

A setup is filled step by step, as y402's is; what it comes to is one of our registries.  Three things y402's README promises
and its code does not do are done: known tokens need no symbol (Y11), networks of one's own take tokens (Y12), and ``a | b``
is a new setup with the networks and tokens of both and every default (Y13).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from x402core.errors import LocalProtocolError
from x402core.evm.address import checksum
from x402core.money import atomic, decimal_amount, format_amount
from x402core.registry import KNOWN, Asset, NetworkInfo, Registry
from x402core.values import Address, Amount, Network, chain_id, eip155, local, parse_address, parse_amount

from .errors import MisconfigurationError

__all__ = ["Y402Setup"]

_METHODS: Final = ("eip3009",)
"""How a token moves that only y402's arguments describe: the one way x402 v1 has."""


class _Chain:
    """One network of a setup: its tokens by code, and which of them prices mean, by sign and (None) by whole number."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.tokens: dict[str, Asset] = {}
        self.defaults: dict[str | None, str] = {}

    def copy(self) -> _Chain:
        other = _Chain(self.network)
        other.tokens, other.defaults = dict(self.tokens), dict(self.defaults)
        return other


class Y402Setup:
    """Networks and tokens by the names sellers give them; names are stripped and in lower case.

    Raises: MisconfigurationError, from every method, naming the argument.
    """

    def __init__(self) -> None:
        self._chains: dict[str, _Chain] = {}

    # ------------------------------------------------------------------------------------------------------- filling

    def add_network(self, network: str, chain_id: int = 0) -> None:
        """Add a network: a known one by its name, one of your own with its chain id."""
        name = _name(network, "network")
        if name in self._chains:
            raise MisconfigurationError(f"{name!r} is set up already", field="network")
        known = KNOWN.chain_ids().get(name)
        if known is None and (isinstance(chain_id, bool) or not isinstance(chain_id, int) or chain_id < 1):
            raise MisconfigurationError(f"{name!r} is no network I know: give its chain id", field="chain_id")
        if known is not None and chain_id not in (0, known):  # every payer takes the name for the other chain
            raise MisconfigurationError(f"{name!r} is chain {known}; give yours another name", field="network")
        where = eip155(known or chain_id)
        if any(chain.network == where for chain in self._chains.values()):
            raise MisconfigurationError(f"chain {known or chain_id} is set up by another name", field="chain_id")
        self._chains[name] = _Chain(where)
        try:
            self.own()
        except LocalProtocolError:
            del self._chains[name]
            raise MisconfigurationError('write a name such as "my-chain"', field="network") from None

    def add_token(
        self,
        network: str,
        code: str,
        name: str = "",
        address: str = "",
        version: str = "",
        decimals: int = 0,
        symbol: str = "",
        default_for_symbol: bool = False,
    ) -> None:
        """Add a token: of a known one the code is enough, and the rest overrides what is known."""
        chain, code = self._chain(network), _name(code, "code")
        if code in chain.tokens:
            raise MisconfigurationError(f"{code!r} is set up already on {network!r}", field="code")
        asset = _asset(chain.network, code, name, address, version, decimals, symbol)
        if any(other.address == asset.address for other in chain.tokens.values()):
            raise MisconfigurationError(f"the token is set up already on {network!r}", field="address")
        chain.tokens[code] = asset
        if default_for_symbol:
            chain.defaults[asset.symbol] = code

    def set_default_for_symbol_token(self, network: str, code: str) -> None:
        """Have a token be what its sign means on its network, or, without a sign, what a plain number as text means."""
        chain, asset = self._token(network, code)
        chain.defaults[asset.symbol] = asset.code

    def set_default_token(self, network: str, code: str) -> None:
        """Have a token be what a price that is a whole number counts, in minimal units."""
        chain, asset = self._token(network, code)
        chain.defaults[None] = asset.code

    def __or__(self, other: Y402Setup) -> Y402Setup:
        """Merge: where both say something, the left one's networks and tokens stand, and the right one's defaults.

        Raises: MisconfigurationError for a name or a code that means another chain or token in the other: whoever uses it
        would be paid in what they did not mean.
        """
        if not isinstance(other, Y402Setup):
            return NotImplemented
        merged = Y402Setup()
        merged._chains = {name: chain.copy() for name, chain in self._chains.items()}
        for name, chain in other._chains.items():
            if name not in merged._chains:
                merged.add_network(name, chain_id(chain.network))
            _merge(merged._chains[name], chain, name)
        return merged

    # ------------------------------------------------------------------------------------------------------- asking

    def get_default_token(self, network: str) -> str | None:
        """Return the code of what a price that is a whole number means, None where nothing does."""
        chain = self._chains.get(network.strip().lower())
        return None if chain is None else chain.defaults.get(None)

    def list_tokens(self, network: str) -> list[str]:
        """Return the codes of a network's tokens."""
        return list(self._chain(network).tokens)

    def get_token_metadata(self, network: str, code: str) -> tuple[str, str, str, str, int]:
        """Return (name, symbol, address, version, decimals) of a token."""
        _, asset = self._token(network, code)
        return asset.name, asset.symbol, checksum(asset.address), asset.version, asset.decimals

    def get_payment_data(self, network: str, token: str, value: str) -> tuple[int, str, str, str]:
        """Return (chain id, code, name, price label) of ``value`` minimal units of the token at an address, in any case."""
        chain = self._chain(network)
        address = local(parse_address, token, "token")
        asset = next((each for each in chain.tokens.values() if each.address == address), None)
        if asset is None:
            raise MisconfigurationError(f"{token} is no token of {network!r}", field="token")
        amount = local(parse_amount, value, "value")
        return chain_id(chain.network), asset.code, asset.name, _label(amount, asset)

    def get_chain_id(self, network: str) -> int:
        """Return the chain id of a network."""
        return chain_id(self._chain(network).network)

    def get_chain_ids_mapping(self) -> dict[str, int]:
        """Return the chain id of every network, by name: what ``X-Payment-Networks`` says."""
        return {name: chain_id(chain.network) for name, chain in self._chains.items()}

    def parse_price_label(self, network: str, label: str) -> tuple[str, str]:
        """Return (token code, minimal units) of a price such as ``"$1.25"``: exact, or refused (Y27)."""
        asset, amount = self.priced(network, label)
        return asset.code, str(amount)

    def priced(self, network: str, price: object) -> tuple[Asset, Amount]:
        """Return what a text, a number of minimal units or a Decimal means here; see ``Price``."""
        chain = self._chain(network)
        if isinstance(price, bool):
            raise MisconfigurationError("a bool is no price", field="price")
        numbered = isinstance(price, int) or not isinstance(price, str)
        registry = Registry((), chain.tokens.values(), dict(_defaults(chain, None if numbered else "")))
        try:
            amount, asset = atomic(price.strip() if isinstance(price, str) else price, chain.network, registry)  # type: ignore[arg-type]
        except LocalProtocolError as error:
            raise MisconfigurationError(error.message.removeprefix("price: "), field="price") from None
        return asset, amount

    def network(self, network: str) -> Network:
        """Return the CAIP-2 id of a network of this setup."""
        return self._chain(network).network

    def own(self) -> Registry:
        """Return what this setup adds to what is known, by its names."""
        assets = [asset for chain in self._chains.values() for asset in chain.tokens.values()]
        defaults = dict(pair for chain in self._chains.values() for pair in _defaults(chain, ""))
        return Registry([_info(name, chain.network) for name, chain in self._chains.items()], assets, defaults)

    def registry(self) -> Registry:
        """Return all that is known, and what this setup adds."""
        return KNOWN | self.own()

    # ------------------------------------------------------------------------------------------------------- inside

    def _chain(self, network: str) -> _Chain:
        chain = self._chains.get(_name(network, "network"))
        if chain is None:
            known = ", ".join(self._chains) or "none yet"
            raise MisconfigurationError(f"{network!r} is not set up ({known}): add_network comes first", field="network")
        return chain

    def _token(self, network: str, code: str) -> tuple[_Chain, Asset]:
        chain = self._chain(network)
        asset = chain.tokens.get(_name(code, "code"))
        if asset is None:
            raise MisconfigurationError(f"{code!r} is no token of {network!r}: add_token comes first", field="code")
        return chain, asset


def _name(value: object, field: str) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    if not text:
        raise MisconfigurationError("write a name", field=field)
    return text


def _info(name: str, network: Network) -> NetworkInfo:
    try:
        known = KNOWN.network(network)
    except LocalProtocolError:
        return NetworkInfo(network, name, v1_name=name)
    aliases = tuple(dict.fromkeys((*known.aliases, *((known.v1_name,) if known.v1_name else ()))))
    return replace(known, v1_name=name, aliases=tuple(alias for alias in aliases if alias != name))


def _known(network: Network, code: str) -> Asset | None:
    return next((asset for asset in KNOWN.assets(network) if asset.code == code), None)


def _asset(network: Network, code: str, name: str, address: str, version: str, decimals: int, symbol: str) -> Asset:
    """Return a token as its arguments say, and, where they are silent, as it is known."""
    known = _known(network, code)
    if known is None:
        missing = next((field for field, value in (("address", address), ("version", version)) if not value), None)
        if missing is not None:
            raise MisconfigurationError(f"{code!r} is no token I know there: give its {missing}", field=missing)
        known = Asset(network, local(parse_address, address, "address"), code, "", code.upper(), version, decimals, _METHODS)
    where = local(parse_address, address, "address") if address else known.address
    methods = known.methods if where == known.address else _METHODS
    try:
        return Asset(
            network,
            where,
            code,
            symbol or known.symbol,
            name.strip() or known.name,
            version or known.version,
            decimals or known.decimals,
            methods,
        )
    except LocalProtocolError as error:
        raise MisconfigurationError(error.message.removeprefix(f"{error.field}: "), field=error.field) from None


def _defaults(chain: _Chain, plain: str | None) -> Iterator[tuple[tuple[Network, str], Address]]:
    """Yield what each sign means; what a price without any means is ``plain``'s, or else the whole numbers'."""
    for sign, code in chain.defaults.items():
        if sign:
            yield (chain.network, sign), chain.tokens[code].address
    bare = chain.defaults.get(plain, chain.defaults.get(None))
    if bare is not None:
        yield (chain.network, ""), chain.tokens[bare].address


def _merge(into: _Chain, chain: _Chain, name: str) -> None:
    if into.network != chain.network:
        ids = f"{chain_id(into.network)} and {chain_id(chain.network)}"
        raise MisconfigurationError(f"{name!r} is two chains, {ids}", field="network")
    renamed: dict[str, str] = {}
    for code, asset in chain.tokens.items():
        same = next((own for own in into.tokens.values() if own.address == asset.address), None)
        if same is not None:
            renamed[code] = same.code
        elif code in into.tokens:
            raise MisconfigurationError(f"{code!r} on {name!r} is two tokens", field="code")
        else:
            into.tokens[code] = asset
    for sign, code in chain.defaults.items():
        asset = into.tokens[renamed.get(code, code)]
        into.defaults[None if sign is None else asset.symbol] = asset.code


def _label(amount: Amount, asset: Asset) -> str:
    """Write an amount as webhooks are told it: ``$0.15`` with the token's sign, else the plain number."""
    return format_amount(amount, asset) if asset.symbol else format(decimal_amount(amount, asset), "f")
