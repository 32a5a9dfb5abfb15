"""The worker keeps the ledger from growing for ever, and from nothing else: what is long over goes, now and every hour."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.settler.bench import Bench, came, settle
from tests.shop import Ground
from x402bind import worker
from x402bind.settler import now_millis
from x402bind.worker import RETENTION
from x402core.events import Settled
from x402core.values import Millis

DAY = 86_400_000


@pytest.fixture
def bench(ground: Ground, tmp_path: Path) -> Bench:
    return Bench(ground, tmp_path)


def test_what_is_long_over_is_forgotten_and_the_rest_is_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_TIDY", 0.02)

    async def main() -> None:
        proof, ledger = bench.proof(), bench.ledger()
        async with bench.settling() as settler:
            assert settler.keep == RETENTION == 30 * 86_400
            assert isinstance(await settle(settler, proof), Settled)
        until = Millis(proof.permit.expires * 1000)
        for key, ends in (("eip3009/free", until), ("eip3009/endless", Millis(2**60))):
            ledger.claim(key, "request", "owner", ends, now=now_millis())
        for days, left in ((0, 3), (29, 3), (31, 1)):
            async with bench.settling(clock=lambda days=days: Millis(now_millis() + days * DAY)):
                await anyio.sleep(0.2)
                await came(lambda left=left: len(ledger.entries()) == left)
        assert [entry.key for entry in ledger.entries()] == ["eip3009/endless"]
        ledger.close()

    anyio.run(main)


def test_it_is_done_again_and_again_whatever_happens(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_TIDY", 0.02)
    asked: list[int] = []

    async def main() -> None:
        ledger = bench.ledger()

        def prune(before: Millis) -> int:
            asked.append(before)
            raise OSError("disk full")

        monkeypatch.setattr(ledger, "prune", prune)
        async with bench.settling(ledger=ledger) as settler:
            await came(lambda: len(asked) > 2)
            assert isinstance(await settle(settler, bench.proof()), Settled)

    anyio.run(main)
    assert all(abs(now_millis() - RETENTION * 1000 - before) < 60_000 for before in asked)
