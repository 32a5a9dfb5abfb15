"""How often one payer may be settled for, and have a wallet deployed, at the facilitator's expense.

Kept in memory, by process: a quota is against waste, not against loss; nothing is settled twice without it either.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from x402core.commands import AdmitPayer
from x402core.errors import LocalProtocolError
from x402core.values import Address, Millis, Network

__all__ = ["Quota", "QuotaBook"]

_MOST_PAYERS: Final = 65_536

_Times: TypeAlias = "deque[tuple[int, str]]"  # when, and which permit
_Book: TypeAlias = "OrderedDict[tuple[Network, Address], _Times]"


@dataclass(frozen=True, slots=True)
class Quota:
    """The most settlements, and deployments of wallets, for one payer within ``window`` seconds; deployments for all payers.

    ``delegations`` is the most settlements for all who pay through one delegation manager (ERC-7710): such a payer is proved
    only by having paid, so that nothing is counted in his name.
    """

    settlements: int = 600
    delegations: int = 600
    deployments: int = 2
    deployments_in_all: int = 60
    window: int = 3600

    def __post_init__(self) -> None:
        for name in ("settlements", "delegations", "window"):
            if getattr(self, name) <= 0:
                raise LocalProtocolError("must be positive", field=name)
        for name in ("deployments", "deployments_in_all"):
            if getattr(self, name) < 0:
                raise LocalProtocolError("must not be negative", field=name)


class QuotaBook:
    """Count against a quota.  Thread-safe; of very many payers it forgets those it heard of longest ago."""

    def __init__(self, quota: Quota, clock: Callable[[], Millis], managers: frozenset[Address] = frozenset()) -> None:
        self._quota = quota
        self._managers = managers
        self._clock = clock
        self._lock = threading.Lock()
        self._settled: _Book = OrderedDict()
        self._deployed: _Book = OrderedDict()
        self._all: _Times = deque()

    def admit(self, command: AdmitPayer) -> bool:
        """Count one settlement, and a deployment if it needs one; False, and nothing counted, when that is too many.

        What was counted already passes: whoever asks again must not be told no about a payment that is being settled.
        """
        key, now = (command.network, command.payer), self._clock()
        with self._lock:
            settled = self._recent(self._settled, key, now)
            if any(counted == command.key for _, counted in settled):
                return True
            if len(settled) >= (self._quota.delegations if command.payer in self._managers else self._quota.settlements):
                return False
            if command.deploys and not self._deploys(key, now, command.key):
                return False
            settled.append((now, command.key))
            return True

    def _deploys(self, key: tuple[Network, Address], now: int, permit: str) -> bool:
        deployed = self._recent(self._deployed, key, now)
        self._forget(self._all, now)
        if len(deployed) >= self._quota.deployments or len(self._all) >= self._quota.deployments_in_all:
            return False
        deployed.append((now, permit))
        self._all.append((now, permit))
        return True

    def _recent(self, book: _Book, key: tuple[Network, Address], now: int) -> _Times:
        times = book.setdefault(key, deque())
        book.move_to_end(key)
        while len(book) > _MOST_PAYERS:
            book.popitem(last=False)
        self._forget(times, now)
        return times

    def _forget(self, times: _Times, now: int) -> None:
        while times and times[0][0] <= now - self._quota.window * 1000:
            times.popleft()
