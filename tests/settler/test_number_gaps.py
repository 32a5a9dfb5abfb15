"""Numbers under trouble (T7): a failed send, a lost answer or a stuck transaction must not stop the next payment."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from tests.settler.bench import QUICK, Bench, came, record, settle, settled
from tests.shop import FIRST, FUNDS, PRICE, RELAYER, RELAYER_KEY, TroubledNode
from x402core.events import Method, Settled
from x402core.machines.settlement import SettlementPolicy
from x402core.values import Millis

REFUSALS = [
    "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1",
    "replacement transaction underpriced",
    "transaction underpriced",
    "nonce too low: next nonce 9, tx nonce 0",
    "nonce too high",
    "something nobody has recorded",
    "txpool is full",
]


async def _two(bench: Bench, node: TroubledNode) -> None:
    async with bench.settling(rpc=node.url) as settler, anyio.create_task_group() as tasks:
        for method in FIRST:
            tasks.start_soon(settle, settler, bench.proof(method))


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refused_send_stops_nobody(bench: Bench, text: str) -> None:
    left = [text]
    with TroubledNode(bench.ground.url) as node:
        node.filter = lambda call: left.pop() if left and call["method"] == "eth_sendRawTransaction" else None
        anyio.run(_two, bench, node)
    bench.earned(2)
    assert not left
    assert bench.ground.sent_by() == bench.ground.sent_by(tag="pending")


def test_an_answer_is_lost_and_the_transaction_is_not_sent_twice(bench: Bench) -> None:
    with TroubledNode(bench.ground.url) as node:
        node.lose = {"eth_sendRawTransaction"}
        anyio.run(_two, bench, node)
    bench.earned(2)
    assert bench.ground.sent_by() == 3


@pytest.mark.parametrize("method", FIRST)
@pytest.mark.parametrize("asked", ["eth_getTransactionCount", "eth_sendRawTransaction", "eth_getTransactionReceipt"])
def test_the_node_is_gone_for_a_while(bench: Bench, asked: str, method: Method) -> None:
    with TroubledNode(bench.ground.url) as node:

        def fall(call: dict[str, Any]) -> str | None:
            node.down = node.down or call["method"] == asked
            return "going down" if node.down else None

        node.filter = fall

        async def go() -> None:
            async with bench.settling(rpc=node.url) as settler:
                await record(settler, bench.proof(method))
                await came(lambda: node.down)
                node.filter = lambda call: None
                node.down = False
                await settled(settler)

        anyio.run(go)
    bench.earned(1)
    assert bench.ground.sent_by() == (1 if method is Method.EIP3009 else 2)


@pytest.mark.parametrize("method", FIRST)
def test_a_stuck_transaction_is_replaced_at_higher_fees(bench: Bench, method: Method) -> None:
    policy = SettlementPolicy(look_first=Millis(5), look_most=Millis(40), stuck_after=Millis(150))
    proof = bench.proof(method)

    async def go() -> None:
        with bench.ground.automine_off():
            async with bench.settling(policy=policy) as settler:
                await record(settler, proof)
                stored = await came(lambda: (r := settler.ledger.record(proof.permit.key)) and len(r.attempts) >= 2 and r)
                first, second = stored.attempts[:2]
                assert first.numbers == second.numbers
                assert 10 * second.max_fee >= 11 * first.max_fee
                assert 10 * second.max_priority_fee >= 11 * first.max_priority_fee
                pending = partial(bench.ground.rpc, "eth_getTransactionByHash", second.hashes[-1])
                await came(pending)
                assert bench.ground.rpc("eth_getTransactionByHash", first.hashes[0]) is None
                bench.ground.rpc("evm_mine")
                await settled(settler)

    anyio.run(go)
    bench.earned(1)
    assert bench.ground.sent_by() == (1 if method is Method.EIP3009 else 2)


def test_a_relayer_without_gas_gets_some(bench: Bench) -> None:
    bench.ground.rpc("anvil_setBalance", RELAYER, "0x0")
    proof = bench.proof()

    async def go() -> None:
        async with bench.settling(patience=0.3) as settler:
            assert not (await settle(settler, proof)).transactions
            bench.earned(0)
            bench.ground.rpc("anvil_setBalance", RELAYER, hex(10**18))
            await settled(settler)

    anyio.run(go)
    bench.earned(1)
    assert bench.ground.balance(proof.permit.payer) == FUNDS - PRICE


def test_a_number_taken_from_outside_is_passed_over(bench: Bench) -> None:
    """Somebody else uses the same account: their transaction has the number that we were given."""
    rpc = bench.ground.rpc
    with TroubledNode(bench.ground.url) as node:
        taken: list[Any] = []

        def take(call: dict[str, Any]) -> None:
            if call["method"] == "eth_sendRawTransaction" and not taken:
                taken.append(call)  # at once: two sends may come at one time
                rpc.must(RELAYER_KEY, RELAYER, gas=21_000)

        node.filter = take
        anyio.run(_two, bench, node)
    assert taken
    bench.earned(2)


@pytest.mark.xfail(reason="core: a transaction that no node ever takes holds its number until its permit ends", strict=True)
def test_one_payer_whom_the_node_will_not_serve_does_not_stop_the_others(bench: Bench) -> None:
    banned = bench.ground.payer()
    with TroubledNode(bench.ground.url) as node:

        def refuse(call: dict[str, Any]) -> str | None:
            sends = call["method"] == "eth_sendRawTransaction"
            return "denied by policy" if sends and banned.address[2:] in call["params"][0] else None

        node.filter = refuse

        async def go() -> Any:
            async with bench.settling(rpc=node.url, patience=1.5, policy=QUICK) as settler:
                await record(settler, bench.proof(payer=banned))
                await came(lambda: "eth_sendRawTransaction" in node.seen)
                return await settle(settler, bench.proof())

        assert isinstance(anyio.run(go), Settled)
