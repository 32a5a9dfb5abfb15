"""What a node knows, asked before anything is configured: which chain it serves, and what a token there is.

So that a command can be given a URL and an address, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from x402bind.chain import rpc
from x402bind.chain.errors import NodeError, RpcError, printable
from x402bind.chain.rpc import Answer, Endpoint
from x402bind.chain.transports import SyncHttp
from x402bind.drive import dispatch, run
from x402bind.leaves import shown
from x402core.errors import LocalProtocolError
from x402core.evm.abi import encode_call
from x402core.evm.digests import domain
from x402core.registry import Asset
from x402core.values import Address, Network, chain_id, eip155

from .chain_reads import contract_call, word

__all__ = ["named", "token_at"]

_VIEWS: Final = (
    ("name()", "string"),
    ("version()", "string"),
    ("symbol()", "string"),
    ("decimals()", "uint8"),
    ("DOMAIN_SEPARATOR()", "bytes32"),
)
_NOBODY: Final = "0x" + "00" * 20
_VERSIONS: Final = ("1", "2")  # what a token that has no version() may be signed as


def named(given: Iterable[str]) -> list[str]:
    """Return every ``URL`` as ``NETWORK=URL``, having asked the node for its chain id; what has a network stays as it is.

    Raises: LocalProtocolError when a node cannot be asked.
    """
    http = SyncHttp()
    try:
        return [each if "://" not in each.partition("=")[0] else f"{_network(each, http)}={each}" for each in given]
    finally:
        http.close()


def _network(url: str, http: SyncHttp) -> str:
    try:
        asked = rpc.call(Endpoint(url, eip155(1)), "eth_chainId")
        return eip155(rpc.quantity(run(asked, dispatch(http.table)), "chain id"))
    except RpcError as error:
        raise LocalProtocolError(f"{shown(url)} does not say which chain it serves: {error}", field="rpc") from None


def token_at(network: Network, address: Address, url: str, sign: str = "") -> Asset:
    """Ask a node what the token at an address is: its EIP-712 domain, decimals and ways to be moved; ``sign`` is what prices
    in it are written with.

    What it says of its domain counts only when it has the ``DOMAIN_SEPARATOR()`` that follows from it (EIP-712, EIP-5267).
    Raises: LocalProtocolError saying what to do, for what is no token or cannot be signed for.
    """
    calls = [contract_call(address, encode_call(view), "latest") for view, _ in _VIEWS]
    calls.append(contract_call(address, encode_call("authorizationState(address,bytes32)", _NOBODY, bytes(32)), "latest"))
    calls.append(contract_call(address, encode_call("nonces(address)", _NOBODY), "latest"))
    http = SyncHttp()
    try:
        answers = run(rpc.send(Endpoint(url, network), calls), dispatch(http.table))
    except RpcError as error:
        raise LocalProtocolError(f"{shown(url)} cannot be asked: {error}", field="rpc") from None
    finally:
        http.close()
    *views, state, nonce = answers
    name, version, code, decimals, separator = [_said(each, kind) for each, (_, kind) in zip(views, _VIEWS, strict=True)]
    if not isinstance(name, str) or not isinstance(decimals, int):
        raise LocalProtocolError(f"no token is at {address} on {network}", field="asset")
    versions = (version,) if isinstance(version, str) else _VERSIONS
    fits = [each for each in versions if each and separator == domain(name, each, chain_id(network), address)]
    if not fits:
        raise LocalProtocolError(
            f"{printable(name)!r} says not as what it is signed for: its DOMAIN_SEPARATOR() does not follow from name() and "
            "version(). Find its EIP-712 domain, and sell in Python: Seller(registry=KNOWN.with_asset(Asset(...)))",
            field="asset",
        )
    first = "eip3009" if isinstance(_said(state, "bool"), bool) else "permit2"
    methods = (first, "eip2612") if isinstance(_said(nonce, "uint256"), int) else (first,)
    short = re.sub(r"[^a-z0-9]", "", code.lower())[:16] if isinstance(code, str) else ""
    return Asset(network, address, short if short[:1].isalpha() else "token", sign, name, fits[0], decimals, methods)


def _said(answer: Answer, kind: str) -> object | None:
    try:
        return word(answer, kind)
    except NodeError:
        return None
