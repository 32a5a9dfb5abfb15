"""What the settler's tests share: settlers on one ledger file, and proofs to settle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.shop import NETWORK, PRICE, RELAYER_KEY, Ground, Payer, fresh, offer_of, on_devnet, verified
from x402bind.chain.rpc import Endpoint
from x402bind.chain.signers import PrivateKeySigner
from x402bind.chain.transports import AsyncHttp
from x402bind.ledger import SqliteLedger
from x402bind.settler import Settler
from x402core.commands import RecordIntent, SettlePayment
from x402core.events import Method
from x402core.machines.settlement import SettlementPolicy
from x402core.schemes.judge import Verified
from x402core.values import Millis

QUICK = SettlementPolicy(look_first=Millis(5), look_most=Millis(40))


@dataclass
class Bench:
    """A chain of one's own, a ledger file, a payee."""

    ground: Ground
    folder: Path
    pay_to: str = field(default_factory=lambda: fresh().address)

    def proof(self, method: Method = Method.EIP3009, payer: Payer | None = None, **how: Any) -> Verified:
        """Return a new payment the judge let pass."""
        payer = payer or self.ground.payer()
        offer = offer_of(method, self.pay_to)
        return verified(payer.permit(offer, self.ground, **how), offer, self.ground)

    @property
    def file(self) -> Path:
        return self.folder / "ledger.db"

    def ledger(self) -> SqliteLedger:
        return SqliteLedger(str(self.file))

    @asynccontextmanager
    async def settling(self, *, rpc: str | None = None, **options: Any) -> AsyncIterator[Settler]:
        """Run a settler with a ledger connection of its own."""
        ledger = options.pop("ledger", None) or self.ledger()
        http = options.pop("http", None) or AsyncHttp()
        options = {"policy": QUICK, "patience": 10.0, "poll": 0.02, **options}
        endpoint = Endpoint(rpc or self.ground.url, NETWORK, timeout=3.0)
        signer = options.pop("signer", None) or PrivateKeySigner(RELAYER_KEY)
        settler = Settler(ledger, signer, {NETWORK: endpoint}, http, **options)
        try:
            async with settler.running():
                yield settler
        finally:
            with anyio.CancelScope(shield=True):
                await http.aclose()
            ledger.close()

    def earned(self, payments: int) -> None:
        """Demand that the payee has exactly so many payments."""
        assert self.ground.balance(self.pay_to) == payments * PRICE


async def settle(settler: Settler, proof: Verified) -> Any:
    with anyio.fail_after(15):
        return await settler.settle(SettlePayment(proof))


async def record(settler: Settler, proof: Verified) -> Any:
    return await settler.record(RecordIntent(proof))


async def settled(settler: Settler) -> None:
    """Wait until nothing is open."""
    assert await settler.drain(15), "a settlement did not end"


async def came(true: Any, seconds: float = 10) -> Any:
    """Wait, without blocking the loop, for something on the chain."""
    with anyio.fail_after(seconds):
        while not (value := true()):  # noqa: ASYNC110 - a chain or a disk: nothing there sets an event
            await anyio.sleep(0.005)
        return value


@pytest.fixture
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def bench(ground: Ground, tmp_path: Path) -> Bench:
    return Bench(ground, tmp_path)
