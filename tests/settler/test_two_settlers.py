"""Several settlers on one ledger and one account: each payment is settled once, and nobody spins, waits or steals."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from tests.settler.bench import Bench, came, record, settle, settled
from tests.shop import FIRST, RELAYER, TroubledNode
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


class SlowListing(CountingLedger):
    """Gives the first listing that is not empty out late."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.listed, self.go = threading.Event(), threading.Event()

    def open_records(self) -> Any:
        found = super().open_records()
        if found and not self.listed.is_set():
            self.listed.set()
            assert self.go.wait(10)
        return found


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
    proofs = [bench.proof(method) for method in FIRST * 3]

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
                async with bench.settling(ledger=counting, poll=60):
                    await came(lambda: counting.leases)
                    for _ in range(30):  # time enough to spin in
                        await anyio.to_thread.run_sync(bench.ground.balance, bench.pay_to)
                    assert (counting.looks, counting.leases) == (1, 1)
                bench.ground.rpc("evm_mine")

    anyio.run(go)
    bench.earned(1)


def test_what_was_listed_before_another_settled_it_is_not_sent_again(bench: Bench) -> None:
    """A second transferFrom would use up the allowance of the payer's next permit."""
    slow = SlowListing(str(bench.file))

    async def go() -> None:
        with TroubledNode(bench.ground.url) as node:

            def fall(call: dict[str, Any]) -> str | None:
                node.down = node.down or call["method"] == "eth_getTransactionCount"
                return "down" if node.down else None

            node.filter = fall
            async with bench.settling(rpc=node.url) as one:
                await record(one, bench.proof(Method.EIP2612))
                await came(lambda: node.down)
                async with bench.settling(ledger=slow):
                    await came(slow.listed.is_set)
                    node.filter = lambda call: None
                    node.down = False
                    await settled(one)
                    slow.go.set()
                    await came(lambda: slow.looks >= 3)

    anyio.run(go)
    bench.earned(1)
    assert (bench.ground.sent_by(), bench.ground.sent_by(tag="pending")) == (2, 2)


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


def test_a_job_that_broke_off_takes_no_lease_from_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have the process's name on it: while the first gives its lease up, the second must not have begun."""

    async def go() -> None:
        proof = bench.proof()
        key, going = proof.permit.key, threading.Event()
        async with bench.settling(poll=60) as settler:
            ledger, jobs = settler.ledger, list[bool]()
            plain = type(ledger).unlease

            def unlease(self: Any, key: str, worker: str) -> None:
                jobs.append(key in settler._jobs)
                plain(self, key, worker)
                going.set()

            def breaks(*_: Any) -> Any:
                raise RuntimeError("broke off")

            monkeypatch.setattr(type(ledger), "unlease", unlease)
            with monkeypatch.context() as patch:
                patch.setattr(type(settler), "translated", breaks)
                assert isinstance(await settler.settle(SettlePayment(proof)), Pending)
            await came(going.is_set)
            assert jobs == [True], "it was its own still when the lease was given up"
            assert isinstance(await settler.settle(SettlePayment(proof)), Settled)
            assert key not in settler._jobs

    anyio.run(go)
    bench.earned(1)


def test_a_settlement_that_only_waits_keeps_no_other_from_its_turn(bench: Bench) -> None:
    async def go() -> None:
        poor = bench.ground.payer()
        hopeless, good = bench.proof(payer=poor), bench.proof()
        bench.ground.drain(poor)
        async with bench.settling(most=1) as settler:
            await record(settler, hopeless)
            await came(lambda: bench.ground.sent_by() == 1)  # it failed, and waits for its permit's end
            await record(settler, good)
            await came(lambda: bench.ground.sent_by() == 2)

    anyio.run(go)
    bench.earned(1)


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
