"""Several settlers on one ledger and one account: each payment is settled once, and nobody spins, waits or steals."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.settler.bench import Bench, came, record, settle, settled
from tests.shop import RELAYER, fresh
from x402bind.ledger import LedgerUnavailable, SqliteLedger
from x402core.commands import SettlePayment
from x402core.errors import LocalProtocolError, Reason
from x402core.events import Method, Pending, Settled, Unsettled


class CountingLedger(SqliteLedger):
    """Counts how often it is asked."""

    leases = looks = 0

    def lease(self, *args: Any, **named: Any) -> bool:
        self.leases += 1
        return super().lease(*args, **named)

    def open_records(self) -> Any:
        self.looks += 1
        return super().open_records()


class BrokenLedger(CountingLedger):
    """A disk that can be read and, while ``full``, not written."""

    full = True

    def lease(self, *args: Any, **named: Any) -> bool:
        answer = super().lease(*args, **named)
        if self.full:
            raise LedgerUnavailable("database or disk is full")
        return answer


@pytest.mark.parametrize("world", ["asyncio", "trio"])
def test_fifty_payers_at_one_time(bench: Bench, world: str) -> None:
    proofs = [bench.proof() for _ in range(50)]
    start = bench.ground.sent_by()

    async def go() -> None:
        ended: list[Any] = []

        async def one(proof: Any) -> None:
            ended.append(await settle(settler, proof))

        async with bench.settling(most=8) as settler, anyio.create_task_group() as tasks:
            for proof in proofs:
                tasks.start_soon(one, proof)
        assert all(isinstance(each, Settled) for each in ended)
        assert len({each.transaction for each in ended}) == 50

    anyio.run(go, backend=world)
    bench.earned(50)
    assert bench.ground.sent_by() - start == 50  # each number once, none left out
    assert bench.ground.sent_by() == bench.ground.sent_by(tag="pending")


def test_two_settlers_share_ledger_and_account(bench: Bench) -> None:
    proofs = [bench.proof(method) for method in (*Method, *Method, *Method)]

    async def go() -> None:
        async with bench.settling() as one, bench.settling() as two:
            for place, proof in enumerate(proofs):
                await record((one, two)[place % 2], proof)
            await settled(one)
            await settled(two)

    anyio.run(go)
    bench.earned(len(proofs))
    assert bench.ground.sent_by() == 9  # three with one transaction, three with two


def test_a_settler_without_the_lease_does_not_spin(bench: Bench) -> None:
    counting = CountingLedger(str(bench.file))

    async def go() -> None:
        proof = bench.proof()
        with bench.ground.automine_off():
            async with bench.settling(poll=60) as one, anyio.create_task_group() as tasks:
                tasks.start_soon(settle, one, proof)
                await came(lambda: bench.ground.sent_by(tag="pending") == 1)
                async with bench.settling(ledger=counting):
                    await came(lambda: counting.looks >= 5)
                    assert counting.leases <= counting.looks
                bench.ground.rpc("evm_mine")

    anyio.run(go)
    bench.earned(1)


def test_a_ledger_that_cannot_be_written_does_not_make_it_spin(bench: Bench) -> None:
    broken = BrokenLedger(str(bench.file))

    async def go() -> None:
        proof = bench.proof()
        async with bench.settling(ledger=broken) as settler:
            outcome = await settle(settler, proof)
            assert outcome == Unsettled(Reason.UNAVAILABLE, proof.permit.network, proof.permit.payer)
            await record(settler, proof)
            before = broken.looks
            await came(lambda: broken.looks >= before + 5)
            assert broken.leases <= broken.looks + 2
            broken.full = False
            await settled(settler)

    anyio.run(go)
    bench.earned(1)


def test_who_loses_the_lease_stops_and_the_other_finishes(bench: Bench) -> None:
    async def go() -> None:
        proof = bench.proof()
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await one.settle(SettlePayment(proof)))

        with bench.ground.automine_off():
            async with bench.settling(lease=1, poll=60) as one, anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await came(lambda: bench.ground.sent_by(tag="pending") == 1)
                async with bench.settling() as two:
                    await came(lambda: answers)
                    assert isinstance(answers[0], Pending)
                    assert answers[0].transactions
                    bench.ground.rpc("evm_mine")
                    await settled(two)

    anyio.run(go)
    bench.earned(1)
    assert bench.ground.sent_by() == 1


def test_settlements_that_only_wait_keep_no_other_from_its_turn(bench: Bench) -> None:
    async def go() -> None:
        poor = fresh()
        async with bench.settling(signer=poor, most=1) as penniless, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(settle, penniless, bench.proof())
            await came(lambda: len(penniless._jobs) == 3)
            bench.ground.rpc("anvil_setBalance", poor.address, hex(10**18))
            tasks.start_soon(settle, penniless, bench.proof())

    anyio.run(go)
    bench.earned(4)


def test_an_intent_is_refused_where_nobody_would_settle_it(bench: Bench) -> None:
    async def go() -> None:
        async with bench.settling() as settler:
            pass
        with pytest.raises(LocalProtocolError, match="does not run"):
            await record(settler, bench.proof(Method.EIP2612))

    anyio.run(go)


def test_the_body_s_own_error_comes_out_as_it_is(bench: Bench) -> None:
    async def go() -> None:
        async with bench.settling():
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        anyio.run(go)


def test_patience_ends_and_the_work_goes_on(bench: Bench) -> None:
    async def go() -> None:
        proof = bench.proof()
        with bench.ground.automine_off():
            async with bench.settling(patience=0.1) as settler:
                answer = await settle(settler, proof)
                assert isinstance(answer, Pending)
                bench.ground.rpc("evm_mine")
                await settled(settler)

    anyio.run(go)
    bench.earned(1)
    assert bench.ground.sent_by(RELAYER) == 1
