"""Networks by name: what x402 v1 calls a chain, and which name counts.

The client's own map goes before what everybody knows, and that before what the server says in ``X-Payment-Networks``: a
server may teach a name that nobody had, and never what "base-sepolia" is (Y3).  What a chain is called on the wire, and what
our registry calls it, may differ; a 402 is read in our names, and the payment speaks the server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.policy import PayerPolicy
from x402core.registry import KNOWN, NetworkInfo, Registry
from x402core.values import Network, eip155
from x402core.wire.headers import decode_header

__all__ = ["DEFAULT_CHAIN_ID_BY_NAME", "Names", "decode_x_payment_networks"]

_KNOWN_TO_Y402: Final = (
    *("base", "base-sepolia", "avalanche", "avalanche-fuji", "sei", "sei-testnet", "polygon", "polygon-amoy", "local"),
)
DEFAULT_CHAIN_ID_BY_NAME: Final[dict[str, int]] = {name: KNOWN.chain_ids()[name] for name in _KNOWN_TO_Y402}
_MOST: Final = 4096  # names a server may send


def decode_x_payment_networks(header: str) -> dict[str, int]:
    """Return chain ids by name.  Raises: RemoteProtocolError for what is no such map."""
    document = decode_header(header, source="X-Payment-Networks", most=1 << 17)
    if not isinstance(document, dict) or len(document) > _MOST:
        raise RemoteProtocolError("expected an object of chain ids", source="X-Payment-Networks")
    for name, chain in document.items():
        if isinstance(chain, bool) or not isinstance(chain, int) or not 0 < chain < 10**18:
            raise RemoteProtocolError("expected a chain id", source="X-Payment-Networks", pointer=f"/{name}")
    return document  # type: ignore[return-value]


class Names:
    """The chain ids a client knows by name: its own, then its registry's.

    Raises: MisconfigurationError for what is no chain id.
    """

    def __init__(self, own: Mapping[str, int] | None = None, registry: Registry = KNOWN) -> None:
        for name, chain in (own or {}).items():
            if isinstance(chain, bool) or not isinstance(chain, int) or chain < 1:
                raise MisconfigurationError(f"{name!r} is no chain id", field="chain_id_by_name")
        self.known: dict[str, int] = {**KNOWN.chain_ids(), **registry.chain_ids(), **(own or {})}

    def network(self, name: str, told: Mapping[str, int]) -> Network | None:
        """Return the chain of a name; ``told`` is the server's map, asked last."""
        chain = self.known.get(name, told.get(name))
        return None if chain is None else eip155(chain)

    @staticmethod
    def speaking(policy: PayerPolicy) -> PayerPolicy:
        """Return a policy whose registry has a name for every network it pays on: a v1 payment needs one."""
        registry = policy.registry
        for network in {cap.asset.network for cap in policy.caps}:
            if registry.v1_name(network) is None:
                registry = registry | Registry((_named(network, registry),))
        return replace(policy, registry=registry)


def _named(network: Network, registry: Registry) -> NetworkInfo:
    name = network.replace(":", "-")
    try:
        return replace(registry.network(network), v1_name=name)
    except LocalProtocolError:
        return NetworkInfo(network, name, v1_name=name)
