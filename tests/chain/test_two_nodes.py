"""Two real nodes: one killed in the middle of things, one that stays behind.  Each is a chain of its own with one history."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from tests.chain.conduct import PAYEE, PAYER, PAYER_KEY
from tests.chain.scripted import NETWORK
from tests.chains import BASE_SEPOLIA, Anvil, Rpc
from x402bind.chain.errors import ChainUnavailable
from x402bind.chain.nodes import Nodes
from x402bind.chain.rpc import Endpoint
from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.drive import adispatch, arun, dispatch, run
from x402bind.translate.chain import broadcast, chain_table, fees_and_number, get_receipts, prove_chain, read_chain, rebroadcast
from x402core.commands import Broadcast, GetReceipts, ReadChain, Rebroadcast, Sent
from x402core.evm.transaction import transaction_hash
from x402core.machines.machine import translate
from x402core.reads import CodeAt
from x402core.values import Hash32

pytestmark = pytest.mark.anvil
CODE = CodeAt(PAYEE)
SINCE = 1_900_000_000


@dataclass
class Pair:
    """Two anvils with the same genesis; they never hear of each other, so what happens to both is done to both."""

    first: Anvil
    second: Anvil
    http: SyncHttp

    def nodes(self, **how: Any) -> Nodes:
        return Nodes(tuple([Endpoint(each.url, NETWORK, timeout=5) for each in (self.first, self.second)]), **how)

    def perform(self, command: Any) -> Any:
        return dispatch(self.http.table)(command)

    def mine(self, anvil: Anvil, blocks: int, time: int) -> None:
        rpc = Rpc(anvil.url)
        rpc("evm_setNextBlockTimestamp", time)
        rpc("anvil_mine", hex(blocks))
        rpc.close()

    def wait(self, anvil: Anvil, raw: bytes) -> None:
        """Wait until a node has mined it: taking a transaction and mining it are two things."""
        rpc = Rpc(anvil.url)
        rpc.wait(transaction_hash(raw))
        rpc.close()

    def sign(self) -> bytes:
        rpc = Rpc(self.second.url)
        raw = bytes.fromhex(rpc.sign(PAYER_KEY, PAYEE, gas=21_000)[2:])
        rpc.close()
        return raw


def pid(anvil: Anvil) -> int:
    assert anvil._process is not None
    return anvil._process.pid


def kill(anvil: Anvil) -> None:
    """Kill a node and see it dead, but leave it to its owner to bury: until then nobody else can have its number."""
    os.killpg(pid(anvil), signal.SIGKILL)
    os.waitid(os.P_PID, pid(anvil), os.WEXITED | os.WNOWAIT)


@pytest.fixture
def pair() -> Iterator[Pair]:
    born = ("--timestamp", str(SINCE))
    with Anvil(BASE_SEPOLIA, *born) as first, Anvil(BASE_SEPOLIA, *born) as second, SyncHttp() as http:
        yield Pair(first, second, http)


def test_a_node_killed_in_the_middle_costs_one_failure_and_nothing_else(pair: Pair) -> None:
    several = pair.nodes()
    command, table = ReadChain(NETWORK, (CODE,)), chain_table({NETWORK: several})
    assert run(prove_chain(several), pair.perform) == ()
    assert run(translate(asking(command), table), pair.perform).of(CODE) == b""
    kill(pair.first)
    for _ in range(3):
        assert run(translate(asking(command), table), pair.perform).of(CODE) == b""
    assert several.in_order == tuple(reversed(several.endpoints))
    assert run(fees_and_number(several, PAYER), pair.perform).next_number == 0
    raw = pair.sign()
    assert run(broadcast(Broadcast(NETWORK, (raw,)), several), pair.perform) is Sent.ACCEPTED
    pair.wait(pair.second, raw)
    found = run(get_receipts(GetReceipts(NETWORK, (transaction_hash(raw),)), several), pair.perform)
    assert found.receipts[0] is not None
    assert found.receipts[0].ok
    with pytest.raises(ChainUnavailable, match="2 must agree"):
        run(get_receipts(GetReceipts(NETWORK, (transaction_hash(raw),)), pair.nodes(agree=2)), pair.perform)


def asking(command: Any) -> Any:
    return (yield command)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_hedged_reads_outlive_a_killed_node_in_the_async_world_too(pair: Pair, backend: str) -> None:
    several = pair.nodes(hedge_after=0.05)

    async def main() -> None:
        async with AsyncHttp() as http:
            for alive in (True, False):
                if not alive:
                    kill(pair.first)
                facts = await arun(read_chain(ReadChain(NETWORK, (CODE,)), several), adispatch(http.table))
                assert facts.of(CODE) == b""
        assert several.in_order == tuple(reversed(several.endpoints))

    anyio.run(main, backend=backend)


def test_a_frozen_node_is_overtaken(pair: Pair) -> None:
    several = pair.nodes(hedge_after=0.05)
    os.killpg(pid(pair.first), signal.SIGSTOP)
    try:

        async def main() -> None:
            async with AsyncHttp() as http:
                for _ in range(4):
                    facts = await arun(read_chain(ReadChain(NETWORK, (CODE,)), several), adispatch(http.table))
                    assert facts.of(CODE) == b""

        anyio.run(main)
        assert several.in_order == tuple(reversed(several.endpoints))
    finally:
        os.killpg(pid(pair.first), signal.SIGCONT)


def test_a_lagging_node_is_passed_over_for_the_higher(pair: Pair) -> None:
    several = pair.nodes()
    pair.mine(pair.second, 40, SINCE + 600)
    read = ReadChain(NETWORK, (CODE,))
    several.health.failed(several.endpoints[0])
    assert run(read_chain(read, several), pair.perform).number == 40
    several.health.worked(several.endpoints[0])
    assert run(read_chain(read, several), pair.perform).number == 40
    assert several.in_order == tuple(reversed(several.endpoints))
    pair.mine(pair.first, 40, SINCE + 600)  # it has caught up
    several.health.worked(several.endpoints[0])
    kill(pair.second)
    assert run(read_chain(read, several), pair.perform).number == 40


def test_a_payment_counts_once_both_nodes_show_it_in_the_same_block(pair: Pair) -> None:
    several, raw = pair.nodes(agree=2), pair.sign()
    command = GetReceipts(NETWORK, (Hash32(transaction_hash(raw)),))
    for anvil in (pair.first, pair.second):
        rpc = Rpc(anvil.url)
        rpc("evm_setNextBlockTimestamp", SINCE + 2)
        rpc.close()
    assert run(broadcast(Broadcast(NETWORK, (raw,)), several), pair.perform) is Sent.ACCEPTED  # by the first alone
    pair.wait(pair.first, raw)
    behind = run(get_receipts(command, several), pair.perform)
    assert (behind.head, behind.receipts) == (0, (None,))
    run(rebroadcast(Rebroadcast(NETWORK, (raw,)), several), pair.perform)
    pair.wait(pair.second, raw)
    agreed = run(get_receipts(command, several), pair.perform)
    assert agreed.head == 1
    assert agreed.receipts[0] is not None
    assert agreed.receipts[0].block == 1


def test_two_histories_prove_nothing(pair: Pair) -> None:
    several, raw = pair.nodes(agree=2), pair.sign()
    command = GetReceipts(NETWORK, (Hash32(transaction_hash(raw)),))
    rpc = Rpc(pair.first.url)
    rpc("evm_setNextBlockTimestamp", SINCE + 2)
    rpc.wait(rpc("eth_sendRawTransaction", "0x" + raw.hex()))
    rpc.close()
    pair.mine(pair.second, 1, SINCE + 2)  # the same height, without the transaction
    with pytest.raises(ChainUnavailable, match="disagree"):
        run(get_receipts(command, several), pair.perform)


def test_a_node_of_another_chain_is_found_at_start_up(pair: Pair) -> None:
    with Anvil(1) as foreign:
        several = Nodes((Endpoint(pair.first.url, NETWORK), Endpoint(foreign.url, NETWORK)))
        problems = run(prove_chain(several), pair.perform)
    assert problems == (f"{foreign.url}: url: the node serves chain 1, but network is eip155:84532",)
