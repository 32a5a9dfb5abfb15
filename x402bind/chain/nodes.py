"""Several nodes for one network: which there are, how they are to be used, and how each has been doing lately.

:class:`Nodes` is configuration; :class:`Health` is what a process has seen of them, the one mutable thing here.  Health only
ever decides the *order* in which nodes are asked.  Nothing that a node does, or says of the chain, shuts another one out.
How they are asked is in ``translate/nodes.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError
from x402core.values import Network

from .rpc import Endpoint

__all__ = ["RPC", "Health", "Nodes", "NodesLike", "Where", "nodes"]

RPC: Final = '{"base-sepolia": "http://..."}'
"""How nodes are written, for whoever wrote something else."""
_MOST_BEATEN: Final = 3


class Health:
    """What was seen of some nodes; may be used from many threads.

    A node that failed comes last for ``cool_off`` seconds of ``clock``; so does one that was beaten three times in a row in
    a hedged read.  A head is compared with what the other nodes showed within the same span, so a chain that is set back
    (a development chain) is followed a little later.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, cool_off: float = 30.0) -> None:
        self._clock = clock
        self._cool_off = cool_off
        self._lock = threading.Lock()
        self._failed: dict[Endpoint, float] = {}
        self._beaten: dict[Endpoint, int] = {}
        self._heads: dict[Endpoint, tuple[float, int]] = {}
        self._doubted: set[Endpoint] = set()

    def order(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Return the nodes as they are to be asked: as configured, and last those that failed, the longest ago first."""
        with self._lock:
            since = self._clock() - self._cool_off
            late = {each: at for each, at in self._failed.items() if at > since}
        return tuple(sorted(endpoints, key=lambda each: late.get(each, float("-inf"))))

    def failed(self, endpoint: Endpoint) -> None:
        """Note that a node gave no answer, or none that can be used now."""
        with self._lock:
            self._failed[endpoint] = self._clock()
            self._beaten.pop(endpoint, None)

    def beaten(self, endpoint: Endpoint) -> None:
        """Note that a node asked earlier answered later than another."""
        with self._lock:
            count = self._beaten[endpoint] = self._beaten.get(endpoint, 0) + 1
        if count >= _MOST_BEATEN:
            self.failed(endpoint)

    def worked(self, endpoint: Endpoint) -> None:
        """Note that a node answered."""
        with self._lock:
            self._failed.pop(endpoint, None)
            self._beaten.pop(endpoint, None)

    def behind(self, endpoint: Endpoint, head: int) -> int:
        """Note a node's head, by its timestamp; return how many seconds of the chain another's was ahead of it lately."""
        with self._lock:
            now = self._clock()
            self._heads[endpoint] = (now, head)
            seen = [at for each, (when, at) in self._heads.items() if each != endpoint and when > now - self._cool_off]
        return max(0, max(seen, default=head) - head)

    def doubt(self, endpoint: Endpoint) -> None:
        """Note that a node could not be asked which chain it serves."""
        with self._lock:
            self._doubted.add(endpoint)

    def trust(self, endpoint: Endpoint) -> None:
        """Note that a node has proved which chain it serves."""
        with self._lock:
            self._doubted.discard(endpoint)

    def doubted(self, endpoint: Endpoint) -> bool:
        """Return whether a node must say which chain it serves before it is believed."""
        with self._lock:
            return endpoint in self._doubted


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of one network, the preferred first.

    * ``hedge_after``: seconds after which a read that was not answered is asked of the next node too (None: never).
    * ``agree``: how many nodes must tell the same of receipts and of an authorization's trace before it is believed.
    * ``most_lag``: by how many seconds of the chain's time a node may be behind another and still be asked first.

    Raises: LocalProtocolError naming the field.
    """

    endpoints: tuple[Endpoint, ...]
    hedge_after: float | None = None
    agree: int = 1
    most_lag: int = 15
    health: Health = field(default_factory=Health, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise LocalProtocolError("name at least one node", field="endpoints")
        if len({each.network for each in self.endpoints}) > 1:
            raise LocalProtocolError("nodes of different networks", field="endpoints")
        if len({each.url for each in self.endpoints}) < len(self.endpoints):
            raise LocalProtocolError("the same node twice", field="endpoints")  # it would agree with itself
        if self.hedge_after is not None and not self.hedge_after > 0:
            raise LocalProtocolError("seconds must be above zero", field="hedge_after")
        if not 1 <= self.agree <= len(self.endpoints):
            raise LocalProtocolError("must be between 1 and the number of nodes", field="agree")
        if not self.most_lag > 0:
            raise LocalProtocolError("seconds must be above zero", field="most_lag")

    @property
    def network(self) -> Network:
        """The network they all serve."""
        return self.endpoints[0].network

    @property
    def in_order(self) -> tuple[Endpoint, ...]:
        """The nodes as they are to be asked now."""
        return self.health.order(self.endpoints)


Where: TypeAlias = Endpoint | Nodes
"""Whom to ask: one node, or several by their rules."""

NodesLike: TypeAlias = "str | Endpoint | Nodes | tuple[str | Endpoint, ...] | list[str | Endpoint]"
"""How a user may write it: a URL, several, or values of their own."""


def nodes(value: NodesLike, network: Network) -> Nodes:
    """Return what a user wrote for ``network`` as :class:`Nodes`.  Raises: LocalProtocolError naming the field."""
    if not isinstance(value, Nodes):
        each = (value,) if isinstance(value, str | Endpoint) else tuple(value) if isinstance(value, tuple | list) else ()
        if not each or not all(isinstance(one, str | Endpoint) for one in each):
            raise LocalProtocolError(f"write the URL of a node for {network}, or several", field="rpc")
        value = Nodes(tuple([Endpoint(one, network) if isinstance(one, str) else one for one in each]))
    if value.network != network:
        raise LocalProtocolError(f"the node for {network} is one of {value.network}", field="rpc")
    return value
