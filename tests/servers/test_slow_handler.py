"""A handler slower than its claim's lease: the lease is extended while it runs, so that nobody runs it a second time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.shop import RELAYER_KEY
from x402bind.ledger.memory import MemoryLedger
from x402bind.seller import Seller
from x402core.ledger import ClaimStatus
from x402core.machines.answers import LEASE_MARGIN
from x402core.values import Millis


class Over(Exception):
    """The handler has answered."""


def test_a_lease_is_extended_as_long_as_the_handler_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000
    ledger = MemoryLedger()
    seller = Seller(key=RELAYER_KEY, rpc={"base-sepolia": "http://127.0.0.1:1"}, ledger=ledger, clock=lambda: Millis(now))
    assert ledger.claim("key", "request", "owner", Millis(now + 1000), now=Millis(now)).status is ClaimStatus.TAKEN
    seen: list[ClaimStatus] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        if now > 1_000_000:  # from the second time on: what another exchange would be told
            seen.append(ledger.recall("key", "request", now=Millis(now)).status)
        if len(seen) == 10:
            raise Over
        now += int(seconds * 1000)

    monkeypatch.setattr(anyio, "sleep", sleep)

    async def serve() -> Any:
        await seller.hold_claim("key", "owner")

    with pytest.raises(Over):
        anyio.run(serve)
    assert seen == [ClaimStatus.HELD] * 10  # ten times a third of the margin, and once without it the lease ends:
    assert ledger.recall("key", "request", now=Millis(now + LEASE_MARGIN)).status is ClaimStatus.TAKEN
