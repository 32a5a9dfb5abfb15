"""Settling by an account of our own: its key, its chains, its transaction numbers.

Numbers come from the ledger, so one account may be shared by many settlers on one ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from x402core.commands import AllocateTxNumbers, Broadcast, Command, Lane, Sent, SignTransactions
from x402core.errors import LocalProtocolError
from x402core.events import Eip2612Permit, Permit2Permit
from x402core.evm.transaction import decode
from x402core.ledger import SettlementRecord
from x402core.machines.machine import Finer, Steps, ask, translate
from x402core.machines.settlement import SettlementMachine, SettlementPolicy
from x402core.values import Address, Millis, Network

from .chain.errors import RpcError
from .chain.nodes import NodesLike, nodes
from .chain.signers import Signer
from .chain.transports import AsyncHttp
from .drive import AsyncPerform, arun
from .ledger.contract import Ledger
from .translate.chain import AccountView, chain_table, ether, fees_and_number, retry_reads
from .worker import Worker, now_millis

__all__ = ["Settler", "TakeNumbers", "now_millis"]

_log: Final = logging.getLogger("x402bind.settler")
_FRESH: Final = 250
"""Milliseconds for which an account's number and the fees are used again: many are paid within one block."""


class TakeNumbers(Command["tuple[int, ...]"]):
    """Take transaction numbers from the ledger, none below ``floor``.  On failure: ask again; the same ones come back."""

    __slots__ = ("command", "floor")

    def __init__(self, command: AllocateTxNumbers, floor: int) -> None:
        self.command = command
        self.floor = floor


class Settler(Worker):
    """Settle through ``signer``'s account on the chains behind ``endpoints``; the rest as :class:`~x402bind.worker.Worker`."""

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        endpoints: Mapping[Network, NodesLike],
        http: AsyncHttp,
        *,
        policy: SettlementPolicy | None = None,
        clock: Callable[[], Millis] = now_millis,
        patience: float = 30.0,
        poll: float = 5.0,
        most: int = 64,
        lease: int = 60_000,
    ) -> None:
        self.signer = signer
        self.policy = policy or SettlementPolicy()
        self._http = http
        self._endpoints = {network: nodes(value, network) for network, value in endpoints.items()}
        self._chain = chain_table(self._endpoints)
        self._table: dict[type[Command[Any]], Finer] = {
            **self._chain,
            AllocateTxNumbers: self._allocate,
            Broadcast: self._broadcast,
        }
        self._views: dict[Network, tuple[Millis, AccountView]] = {}
        self._foreign: set[Address] = set()
        super().__init__(ledger, clock=clock, patience=patience, poll=poll, most=most, lease=lease)

    def machine(self) -> SettlementMachine:
        """Return a machine that settles through our account."""
        return SettlementMachine(self.policy, self.signer.address)

    def mine(self, record: SettlementRecord) -> bool:
        """Leave what another account began to that account: its numbers are not ours, nor the allowance it is given."""
        permit, address = record.permit, self.signer.address
        begun = decode(record.attempts[-1].raws[0])[1] if record.attempts else address
        bound = permit.spender if isinstance(permit, Eip2612Permit) else None
        bound = permit.facilitator if isinstance(permit, Permit2Permit) else bound
        ours = begun == address and bound in (None, address)
        other = begun if begun != address else bound
        if not ours and other is not None and other not in self._foreign:
            self._foreign.add(other)
            _log.error(
                "the ledger has payments, such as %s, that %s is to settle; run a settler with its key", record.key, other
            )
        return ours

    def translated(self, driven: Steps) -> Steps:
        """Turn the machine's commands into JSON-RPC, signatures and ledger calls."""
        return translate(driven, self._table)

    def performers(self) -> Mapping[type[Command[Any]], Callable[[Any], Any]]:
        """Return who performs the leaves, beside the ledger."""
        return {**self._http.table, SignTransactions: self.signer.sign, TakeNumbers: self._take_numbers}

    async def look_for_gas(self, perform: AsyncPerform) -> None:
        """Say of which networks our account has nothing to pay for gas with: what is sold there cannot be settled."""
        for network, where in self._endpoints.items():
            with suppress(RpcError):  # it is only a warning
                if await arun(ether(where, self.signer.address), perform) == 0:
                    _log.warning(
                        "%s has no ether on %s: it pays for the gas of settlements, and none can be made",
                        self.signer.address,
                        network,
                    )

    def _allocate(self, command: AllocateTxNumbers) -> Generator[Command[Any], Any, Lane]:
        view = yield from self._view(command.network)
        numbers = yield from ask(TakeNumbers(command, view.next_number))
        return Lane(numbers, view.max_fee, view.max_priority_fee)

    def _view(self, network: Network) -> Generator[Command[Any], Any, AccountView]:
        """Return our account's number and the fees, at most ``_FRESH`` old: what is offered outlasts six full blocks, and an
        old number is only a lower floor.  A number that was taken meanwhile is refused, and then both are asked for anew.
        """
        until, view = self._views.get(network, (Millis(0), None))
        if view is None or not until - _FRESH <= self.clock() < until:  # a clock may be set back
            endpoint = self._endpoints.get(network)
            if endpoint is None:
                raise LocalProtocolError(f"no node is configured for {network}", field="endpoints")
            began = self.clock()
            view = yield from retry_reads(lambda: fees_and_number(endpoint, self.signer.address))
            self._views[network] = (Millis(began + _FRESH), view)
        return view

    def _broadcast(self, command: Broadcast) -> Generator[Command[Any], Any, Sent]:
        said: Sent = Sent.UNCLEAR
        try:
            said = yield from self._chain[Broadcast](command)
        finally:
            if said is not Sent.ACCEPTED:
                self._views.pop(command.network, None)
        return said

    async def _take_numbers(self, take: TakeNumbers) -> tuple[int, ...]:
        account: Address = self.signer.address
        return cast(
            "tuple[int, ...]", await self._call(lambda: self._performer.allocate(take.command, account, floor=take.floor))
        )
