"""Settling by facilitators: no key, no gas, no transaction numbers; with ``endpoints``, the chain is asked for proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from x402core.commands import Command
from x402core.ledger import SettlementRecord
from x402core.machines.machine import Steps, translate
from x402core.machines.remote import RemotePolicy, RemoteSettlement
from x402core.values import Millis, Network

from .chain.nodes import Nodes
from .chain.transports import AsyncHttp
from .ledger.contract import Ledger
from .translate.chain import chain_table
from .translate.facilitator import Facilitators, MakeHeaders, amake_headers, facilitator_table
from .worker import Worker, now_millis

__all__ = ["RemoteSettler"]


class RemoteSettler(Worker):
    """Settle through ``facilitators``; the rest as :class:`~x402bind.worker.Worker`."""

    def __init__(
        self,
        ledger: Ledger,
        facilitators: Facilitators,
        http: AsyncHttp,
        *,
        endpoints: Mapping[Network, Nodes] | None = None,
        policy: RemotePolicy | None = None,
        clock: Callable[[], Millis] = now_millis,
        patience: float = 30.0,
        poll: float = 5.0,
        most: int = 64,
        lease: int = 60_000,
    ) -> None:
        chains = dict(endpoints or {})
        self.policy = policy or RemotePolicy(chain=bool(chains))
        self._http = http
        self._chain = {**facilitator_table(facilitators, clock), **chain_table(chains)}
        super().__init__(ledger, clock=clock, patience=patience, poll=poll, most=most, lease=lease)

    def machine(self) -> RemoteSettlement:
        """Return a machine that has a facilitator settle."""
        return RemoteSettlement(self.policy)

    def mine(self, record: SettlementRecord) -> bool:
        """Take up what no account of ours had begun: a journal of signed transactions belongs to its account's settler."""
        return not record.attempts

    def translated(self, driven: Steps) -> Steps:
        """Turn the machine's commands into HTTP calls."""
        return translate(driven, self._chain)

    def performers(self) -> Mapping[type[Command[Any]], Callable[[Any], Any]]:
        """Return who performs the leaves, beside the ledger."""
        return {**self._http.table, MakeHeaders: amake_headers}
