"""Is it the chain we mean, and are its tokens what we think?  Asked at start-up, of every node."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final, TypeAlias

from x402bind.chain import rpc
from x402bind.chain.errors import NodeError, RpcError, printable
from x402bind.chain.nodes import Nodes, Where
from x402bind.chain.rpc import Answer, Endpoint, RpcCall
from x402bind.leaves import shown
from x402core.commands import Command
from x402core.errors import LocalProtocolError
from x402core.evm.abi import encode_call
from x402core.evm.digests import domain
from x402core.registry import Asset
from x402core.values import chain_id

from .chain_reads import contract_call, word

__all__ = ["Problems", "of_every_node", "prove_chain"]

Problems: TypeAlias = Generator[Command[Any], Any, tuple[str, ...]]
"""What asks, and returns a sentence for each problem."""

_TOKEN_VIEWS: Final = (
    ("DOMAIN_SEPARATOR()", "bytes32"),
    ("name()", "string"),
    ("version()", "string"),
    ("decimals()", "uint8"),
)


def prove_chain(where: Where, assets: Sequence[Asset] = ()) -> Problems:
    """Compare the configuration with the chain, in one round trip a node; return a sentence for each problem, if any.

    The node's chain id must be the network's; each asset's ``DOMAIN_SEPARATOR()`` the one permits are verified with, and its
    ``decimals()`` those prices are reckoned in.  One of several nodes may be away: it is asked for its chain id before it is
    first used.  Raises: NodeError, ChainUnavailable when no node can be asked.
    """
    if any(asset.network != where.network for asset in assets):
        raise LocalProtocolError(f"an asset is not one of {where.network}", field="assets")
    if isinstance(where, Endpoint):
        return (yield from _prove_chain(where, assets))
    return (yield from of_every_node(where, lambda endpoint: _prove_chain(endpoint, assets)))


def of_every_node(where: Nodes, ask: Callable[[Endpoint], Problems]) -> Problems:
    """Ask every node, and return the problems of all, each with its node; one of several may be away.

    Raises: NodeError, ChainUnavailable when no node can be asked.
    """
    problems, away = list[str](), list[RpcError]()
    for endpoint in where.endpoints:
        prefix = f"{shown(endpoint.url)}: " if len(where.endpoints) > 1 else ""
        try:
            problems += [prefix + problem for problem in (yield from ask(endpoint))]
        except RpcError as error:
            away.append(error)
            where.health.failed(endpoint)
            where.health.doubt(endpoint)
    if len(away) == len(where.endpoints):
        raise away[0]
    return tuple(problems)


def _prove_chain(endpoint: Endpoint, assets: Sequence[Asset]) -> Problems:
    views = [contract_call(asset.address, encode_call(view), "latest") for asset in assets for view, _ in _TOKEN_VIEWS]
    first, *answered = yield from rpc.send(endpoint, (RpcCall("eth_chainId"), *views))
    expected, actual = chain_id(endpoint.network), rpc.quantity(first, "chain id")
    if actual != expected:
        return (f"url: the node serves chain {actual}, but network is {endpoint.network}",)
    told = iter([_told(answer, kind) for answer, (_, kind) in zip(answered, len(assets) * _TOKEN_VIEWS, strict=True)])
    return tuple([problem for asset in assets for problem in _asset_problems(asset, *[next(told) for _ in _TOKEN_VIEWS])])


def _told(answer: Answer, kind: str) -> object | None:
    """Return what a contract says, None when it does not say it."""
    try:
        return word(answer, kind)
    except NodeError as error:
        if error.passing:
            raise
        return None


def _asset_problems(asset: Asset, separator: object, name: object, version: object, decimals: object) -> Iterator[str]:
    which = f"asset {asset.code} ({asset.address})"
    if separator is None and decimals is None:
        yield f"{which}: address is not a token's on {asset.network}"
        return
    if decimals != asset.decimals:
        yield f"{which}: decimals is {asset.decimals}, the contract says {decimals}"
    if separator == domain(asset.name, asset.version, chain_id(asset.network), asset.address):
        return
    differing = [
        f"{field} is {ours!r}, the contract says {printable(theirs)!r}"
        for field, ours, theirs in (("name", asset.name, name), ("version", asset.version, version))
        if isinstance(theirs, str) and theirs != ours
    ]
    yield f"{which}: not the contract's EIP-712 domain: {'; '.join(differing) or 'check name and version'}"
