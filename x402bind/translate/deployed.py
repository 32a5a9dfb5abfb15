"""Is there code where money would go through?  Asked at start-up, of every node.

A payment by Permit2 goes through contracts that are at one address on every chain, and on some chains not there at all.  A
payer whose offer needs one that is missing would sign in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from x402bind.chain import rpc
from x402bind.chain.nodes import Nodes
from x402bind.chain.rpc import Endpoint, RpcCall
from x402core.events import Method
from x402core.evm.digests import EXACT_PROXY, PERMIT2, UPTO_PROXY
from x402core.schemes import SCHEMES
from x402core.schemes.permit2 import Permit2Exact, Permit2Upto
from x402core.values import Address, Network, chain_id
from x402core.wire.v2 import EXACT

from .proof import Problems, of_every_node

__all__ = ["Sold", "needs", "prove_code"]

_NAMES: Final[Mapping[Address, str]] = {
    PERMIT2: "Permit2",
    EXACT_PROXY: "x402's proxy for exact",
    UPTO_PROXY: "x402's proxy for upto",
}


class Sold(NamedTuple):
    """What something is sold for, but for the price: an asset, and how it is to be moved."""

    network: Network
    asset: Address
    scheme: str
    method: Method


def needs(sold: Iterable[Sold], known: Iterable[Address] = ()) -> dict[Address, tuple[str, ...]]:
    """Return the contracts that what is sold would be settled through, and the words by which it is sold so.

    ``known`` are assets that are asked what they are, and so need not be asked whether they are.
    """
    found: dict[Address, tuple[str, ...]] = {}
    known = frozenset(known)
    for each in sorted(sold):
        scheme = SCHEMES.get((each.scheme, each.method, each.network.partition(":")[0]))
        if isinstance(scheme, Permit2Exact | Permit2Upto):
            word = f'method "{each.method}"' if each.scheme == EXACT else f'scheme "{each.scheme}"'
            for contract in (PERMIT2, scheme.proxy, each.asset):
                if contract not in known:
                    found[contract] = tuple(dict.fromkeys((*found.get(contract, ()), word)))
    return found


def prove_code(where: Nodes, needed: Mapping[Address, tuple[str, ...]]) -> Problems:
    """Ask every node for the code of what is needed, in one round trip each; return a sentence for each that has none.

    Ask :func:`~.proof.prove_chain` before; as there, one of several nodes may be away.
    Raises: NodeError, ChainUnavailable when no node can be asked.
    """
    if not needed:
        return ()
    return (yield from of_every_node(where, lambda endpoint: _missing(endpoint, needed)))


def _missing(endpoint: Endpoint, needed: Mapping[Address, tuple[str, ...]]) -> Problems:
    calls = [RpcCall("eth_getCode", (contract, "latest")) for contract in needed]
    first, *answers = yield from rpc.send(endpoint, (RpcCall("eth_chainId"), *calls))
    if rpc.quantity(first, "chain id") != chain_id(endpoint.network):
        return ()  # it was away when it was asked for its chain, and is asked once more before it is used
    codes = [rpc.data(answer, "code") for answer in answers]
    return tuple([_problem(endpoint.network, *each) for each, code in zip(needed.items(), codes, strict=True) if not code])


def _problem(network: Network, contract: Address, words: tuple[str, ...]) -> str:
    name, ways = _NAMES.get(contract, "the asset"), " and ".join(words)
    return f"{name} has no code at {contract} on {network}, where {ways} would be settled through it: leave {ways} out there"
