"""Reads, as no real node can be made to answer them: moving heads, worded refusals, lies.  All answers are scripted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chain.conduct import PAYER, nonce
from tests.chain.scripted import ENDPOINT, NETWORK, Each, Says, ScriptedNode, block, word
from tests.chains import GWEI
from x402bind.chain.errors import ChainUnavailable, NodeError, NodeErrorKind
from x402bind.drive import run
from x402bind.leaves import HttpFailed, HttpReply
from x402bind.translate.chain import (
    chain_table,
    fees_and_number,
    get_receipts,
    read_chain,
    retry_reads,
)
from x402core.commands import Command, GetReceipts, ReadChain
from x402core.errors import LocalProtocolError
from x402core.evm.abi import event_topic
from x402core.machines.machine import translate
from x402core.reads import (
    AuthorizationState,
    AuthorizationTrace,
    BalanceOf,
    CodeAt,
    Facts,
    Read,
    Simulate,
)
from x402core.values import Address, Hash32, Network

NOWHERE = Address("0x" + "9" * 40)
USED = event_topic("AuthorizationUsed(address,bytes32)")


def hash32(number: int) -> Hash32:
    return Hash32("0x" + nonce(number).hex())


TOKEN = Address("0x" + "7" * 40)
BALANCE = BalanceOf(TOKEN, PAYER)
TRACE = AuthorizationTrace(TOKEN, PAYER, hash32(5), since=1000)


def read(fake: ScriptedNode, *asked: Read[Any]) -> Facts:
    facts = run(read_chain(ReadChain(NETWORK, asked), ENDPOINT), fake)
    fake.ended()
    return facts


def test_when_the_head_moves_the_reads_are_asked_again_at_the_older_block() -> None:
    fake = ScriptedNode(
        {"eth_getBlockByNumber": block(5), "eth_call": word(1), "eth_blockNumber": "0x6"},
        {"eth_getBlockByNumber": block(5), "eth_call": word(2), "eth_blockNumber": "0x7"},
    )
    facts = read(fake, BALANCE)
    assert (facts.number, facts.of(BALANCE)) == (5, 2)
    assert [request[0][1] for request in fake.calls] == [["latest", False], ["0x5", False]]
    assert [request[1][1][1] for request in fake.calls] == ["latest", "0x5"]


def test_a_node_that_answers_with_another_block_is_not_believed() -> None:
    fake = ScriptedNode(
        {"eth_getBlockByNumber": block(5), "eth_blockNumber": "0x6"},
        {"eth_getBlockByNumber": block(4), "eth_blockNumber": "0x6"},
    )
    with pytest.raises(ChainUnavailable):
        read(fake)


def test_a_node_that_lost_the_block_is_our_trouble() -> None:
    with pytest.raises(ChainUnavailable):
        read(ScriptedNode({"eth_getBlockByNumber": None, "eth_blockNumber": "0x6"}))


@pytest.mark.parametrize("refusal", [Says("header not found"), Says("something"), Says("over rate limit", -32016)])
def test_a_failed_read_fails_the_plan(refusal: Says) -> None:
    for failing in (BALANCE, Simulate(TOKEN, b"\1"), CodeAt(TOKEN)):
        turn = {"eth_getBlockByNumber": block(5), "eth_call": refusal, "eth_getCode": refusal, "eth_blockNumber": "0x5"}
        with pytest.raises(NodeError):
            read(ScriptedNode(turn), failing)


@pytest.mark.parametrize("answer", ["0x01", word(1)[:-2], "0x" + "f" * 64])
def test_an_answer_of_another_type_fails_the_read(answer: str) -> None:
    turn = {"eth_getBlockByNumber": block(5), "eth_call": answer, "eth_blockNumber": "0x5"}
    with pytest.raises(NodeError):
        read(ScriptedNode(turn), AuthorizationState(TOKEN, PAYER, hash32(1)))


def log(transaction: int, **other: object) -> dict[str, object]:
    topics = [USED, "0x" + PAYER[2:].rjust(64, "0"), hash32(5)]
    return {"address": TOKEN, "topics": topics, "data": "0x", "transactionHash": hash32(transaction), **other}


def mined(transaction: int, at: int) -> dict[str, object]:
    return {"transactionHash": hash32(transaction), "blockNumber": hex(at), "status": "0x1", "logs": [log(transaction)]}


def heads(number: int, logs: object) -> dict[str, object]:
    return {"eth_getBlockByNumber": block(number), "eth_getLogs": logs, "eth_blockNumber": hex(number)}


def test_a_trace_is_searched_in_narrower_spans_when_the_provider_asks_for_it() -> None:
    refused = Says("query returned more than 10000 results", -32005)
    fake = ScriptedNode(
        heads(5000, refused),
        {"eth_getLogs": Each(([], Says("exceed maximum block range: 500", -32701), []))},
        {"eth_getLogs": Each(([], [log(9)], *[[]] * 7))},
        {"eth_getTransactionReceipt": mined(9, 1600)},
    )
    found = read(fake, TRACE).of(TRACE)
    assert found is not None
    assert found.transaction == hash32(9)
    spans = [[(int(p["fromBlock"], 16), int(p["toBlock"], 16)) for _, (p,) in request] for request in fake.calls[1:3]]
    assert spans[0] == [(1000, 2999), (3000, 4999), (5000, 5000)]
    assert spans[1][0] == (1000, 1499)
    assert spans[1][-1] == (5000, 5000)


def test_a_search_that_would_never_end_is_given_up() -> None:
    refused = Says("exceed maximum block range: 10", -32701)
    fake = ScriptedNode(heads(10**6, refused), {"eth_getLogs": refused})
    with pytest.raises(NodeError) as caught:
        read(fake, TRACE)
    assert caught.value.kind is NodeErrorKind.RANGE


def test_logs_that_do_not_fit_are_not_believed() -> None:
    wrong = [
        log(1, address=NOWHERE),
        log(2, topics=[USED, "0x" + PAYER[2:].rjust(64, "0"), hash32(6)]),
        log(3, topics=[]),
        log(4, removed=True),
    ]
    assert read(ScriptedNode(heads(1000, wrong)), TRACE).of(TRACE) is None


def test_a_node_behind_the_payment_is_our_trouble() -> None:
    with pytest.raises(ChainUnavailable, match="behind"):
        read(ScriptedNode(heads(999, Says("invalid block range params", -32602))), TRACE)


def test_a_log_without_a_receipt_is_our_trouble() -> None:
    with pytest.raises(ChainUnavailable):
        read(ScriptedNode(heads(1000, [log(9)]), {"eth_getTransactionReceipt": None}), TRACE)


def test_a_receipt_newer_than_the_head_is_our_trouble() -> None:
    fake = ScriptedNode({"eth_getTransactionReceipt": mined(9, 8), "eth_getBlockByNumber": block(7)})
    with pytest.raises(ChainUnavailable):
        run(get_receipts(GetReceipts(NETWORK, (hash32(9),)), ENDPOINT), fake)


def counts(**turn: object) -> dict[str, object]:
    base = {"eth_getTransactionCount": Each(("0x5", "0x7")), "eth_getBlockByNumber": block(7, base_fee=10 * GWEI)}
    return {**base, "eth_maxPriorityFeePerGas": "0x64", **turn}


def fees(**turn: object) -> Any:
    return run(fees_and_number(ENDPOINT, PAYER), ScriptedNode(counts(**turn)))


def test_a_node_that_suggests_no_tip_gets_the_default() -> None:
    view = fees(eth_maxPriorityFeePerGas=Says("Method not found", -32601))
    assert (view.next_number, view.pending_number) == (5, 7)
    assert (view.max_fee, view.max_priority_fee) == (21 * GWEI, GWEI)


def test_fees_out_of_all_proportion_are_refused() -> None:
    with pytest.raises(ChainUnavailable, match="more than"):
        fees(eth_maxPriorityFeePerGas=hex(10**6 * GWEI))
    with pytest.raises(ChainUnavailable, match="base fee"):
        fees(eth_getBlockByNumber=block(7, base_fee=None))


def test_a_pending_count_below_the_mined_one_is_the_mined_one() -> None:
    view = fees(eth_getTransactionCount=Each(("0x5", "0x4")))
    assert (view.next_number, view.pending_number) == (5, 5)


# ---------------------------------------------------------------------------------------------------------- retries


GOOD = {"eth_getBlockByNumber": block(5), "eth_call": word(1), "eth_blockNumber": "0x5"}


@pytest.mark.parametrize("trouble", [HttpFailed("ReadTimeout"), HttpReply(503), HttpReply(429), HttpReply(200, (), b"<html>")])
def test_a_read_is_tried_three_times(trouble: Any) -> None:
    command = ReadChain(NETWORK, (BALANCE,))
    fake = ScriptedNode(trouble, trouble, GOOD)
    assert run(retry_reads(lambda: read_chain(command, ENDPOINT)), fake).of(BALANCE) == 1
    assert fake.pauses == [0.2, 0.5]
    gone = ScriptedNode(trouble, trouble, trouble)
    with pytest.raises((ChainUnavailable, NodeError)):
        run(retry_reads(lambda: read_chain(command, ENDPOINT)), gone)
    gone.ended()


def test_a_definite_refusal_is_not_asked_again() -> None:
    fake = ScriptedNode({**GOOD, "eth_call": Says("execution reverted", 3)})
    with pytest.raises(NodeError):
        run(retry_reads(lambda: read_chain(ReadChain(NETWORK, (BALANCE,)), ENDPOINT)), fake)
    fake.ended()


def asking(command: Command[Any]) -> Any:
    return (yield command)


def test_the_drivers_table_translates_and_retries() -> None:
    fake = ScriptedNode(HttpReply(502), GOOD)
    facts = run(translate(asking(ReadChain(NETWORK, (BALANCE,))), chain_table({NETWORK: ENDPOINT})), fake)
    assert facts.of(BALANCE) == 1
    assert len(fake.pauses) == 1


def test_a_network_nobody_configured_is_a_misuse() -> None:
    with pytest.raises(LocalProtocolError):
        run(translate(asking(ReadChain(Network("eip155:1"), ())), chain_table({NETWORK: ENDPOINT})), ScriptedNode())
    with pytest.raises(LocalProtocolError):
        run(read_chain(ReadChain(Network("eip155:1"), ()), ENDPOINT), ScriptedNode())
