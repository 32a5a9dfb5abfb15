"""``Worker.wait``: whoever asks about a settlement under way hears how it ended, or how it stands when patience ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.settler.bench import Bench, came, settle
from tests.shop import Ground
from x402bind.settler import Settler, now_millis
from x402core.commands import AwaitSettlement, SettlePayment
from x402core.errors import LocalProtocolError, Reason
from x402core.events import Pending, Settled, Unsettled
from x402core.ledger import SettlementRecord
from x402core.schemes.judge import Verified


@pytest.fixture
def bench(ground: Ground, tmp_path: Path) -> Bench:
    return Bench(ground, tmp_path)


async def wait(settler: Settler, proof: Verified) -> Any:
    with anyio.fail_after(15):
        return await settler.wait(AwaitSettlement(proof.permit.key))


def test_what_has_ended_is_told_at_once(bench: Bench) -> None:
    async def main() -> None:
        async with bench.settling() as settler:
            proof = bench.proof()
            outcome = await settle(settler, proof)
            assert isinstance(outcome, Settled)
            assert await wait(settler, proof) == outcome
            bench.earned(1)

    anyio.run(main)


def test_what_is_under_way_is_waited_for(bench: Bench) -> None:
    async def main() -> None:
        async with bench.settling() as settler:
            proof, heard = bench.proof(), []

            async def first() -> None:
                heard.append(await settle(settler, proof))

            async def second() -> None:
                heard.append(await wait(settler, proof))

            with bench.ground.automine_off():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(first)
                    await came(lambda: bench.ground.sent_by(tag="pending") > bench.ground.sent_by())
                    tasks.start_soon(second)
                    await anyio.sleep(0.05)
                    assert heard == []
                    bench.ground.rpc("evm_mine")
            assert len(heard) == 2
            assert heard[0] == heard[1]
            assert isinstance(heard[0], Settled)
            bench.earned(1)

    anyio.run(main)


def test_patience_ends_and_the_transaction_is_told(bench: Bench) -> None:
    async def main() -> None:
        async with bench.settling(patience=0.3) as settler:
            proof = bench.proof()
            with bench.ground.automine_off():
                first = await settle(settler, proof)
                assert isinstance(first, Pending)
                assert await wait(settler, proof) == first
                assert len(first.transactions) == 1
                bench.ground.rpc("evm_mine")
            settler.patience = 10.0
            assert isinstance(await wait(settler, proof), Settled)
            bench.earned(1)

    anyio.run(main)


def test_what_another_process_left_is_taken_up_by_whoever_waits(bench: Bench) -> None:
    """The journal is looked through once a minute here; waiting wakes it."""

    async def main() -> None:
        proof = bench.proof()
        async with bench.settling(poll=60) as settler:
            await anyio.sleep(0.1)  # its first look, at an empty journal, is over
            record = SettlementRecord(proof.permit, proof.offer, since=proof.block, created=now_millis())
            assert settler.ledger.persist_intent(record) is None
            assert isinstance(await wait(settler, proof), Settled)
            bench.earned(1)

    anyio.run(main)


def test_what_another_process_settles_meanwhile_is_heard(bench: Bench) -> None:
    async def main() -> None:
        proof = bench.proof()
        async with bench.settling(poll=60) as waiting, bench.settling(poll=60) as working:
            with bench.ground.automine_off():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(settle, working, proof)
                    await came(lambda: bench.ground.sent_by(tag="pending") > bench.ground.sent_by())
                    heard: list[Any] = []

                    async def wait_for_it() -> None:
                        heard.append(await wait(waiting, proof))

                    tasks.start_soon(wait_for_it)
                    await anyio.sleep(0.1)
                    bench.ground.rpc("evm_mine")
            assert isinstance(heard[0], Settled)
            bench.earned(1)

    anyio.run(main)


def test_what_nobody_works_on_is_pending(bench: Bench) -> None:
    async def main() -> None:
        proof = bench.proof()
        async with bench.settling(patience=0.2) as settler:
            pass
        ledger = settler.ledger = settler._performer.ledger = bench.ledger()
        record = SettlementRecord(proof.permit, proof.offer, since=proof.block, created=now_millis())
        ledger.persist_intent(record)
        assert await wait(settler, proof) == Pending(proof.permit.network, proof.permit.payer)
        assert await settler.settle(SettlePayment(proof)) == Unsettled(
            Reason.UNAVAILABLE, proof.permit.network, proof.permit.payer
        )
        ledger.close()
        bench.earned(0)

    anyio.run(main)


def test_what_was_never_journaled_is_a_mistake(bench: Bench) -> None:
    async def main() -> None:
        async with bench.settling() as settler:
            with pytest.raises(LocalProtocolError):
                await wait(settler, bench.proof())

    anyio.run(main)
