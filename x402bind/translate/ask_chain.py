"""Which chain a node serves, asked before anything is configured: so that a command can be given a URL and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from x402bind.chain import rpc
from x402bind.chain.errors import RpcError
from x402bind.chain.rpc import Endpoint
from x402bind.chain.transports import SyncHttp
from x402bind.drive import dispatch, run
from x402bind.leaves import shown
from x402core.errors import LocalProtocolError
from x402core.values import eip155

__all__ = ["named"]


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
