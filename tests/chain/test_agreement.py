"""Proof of payment from several nodes (``agree``), and a raw transaction shown to several."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chain.conduct import PAYER, nonce
from tests.chain.scripted import NETWORK, Each, Says, Several, block
from x402bind.chain.errors import ChainUnavailable, NodeError
from x402bind.drive import run
from x402bind.leaves import HttpFailed, HttpReply
from x402bind.translate.chain import broadcast, get_receipts, read_chain, rebroadcast
from x402bind.translate.nodes import Sight, agreed
from x402core.commands import Broadcast, GetReceipts, ReadChain, Rebroadcast, Receipts, Sent
from x402core.evm.abi import event_topic
from x402core.evm.transaction import transaction_hash
from x402core.reads import AuthorizationTrace, Traced, TxReceipt
from x402core.values import Address, Hash32

TOKEN = Address("0x" + "7" * 40)
HASH = Hash32("0x" + "ab" * 32)
AWAY = HttpFailed("ConnectError", sent=False)
LOST = HttpFailed("ReadTimeout")


def seen(head: int, mined_at: int | None, *, ok: bool = True) -> dict[str, object]:
    """One node's view: its head, and in which block the transaction is."""
    receipt = {"transactionHash": HASH, "blockNumber": hex(mined_at or 0), "status": hex(ok), "logs": []}
    return {
        "eth_getTransactionReceipt": None if mined_at is None else receipt,
        "eth_getBlockByNumber": block(head, 1_700_000_000 + 2 * head),
    }


def receipts(several: Several) -> Receipts:
    return run(get_receipts(GetReceipts(NETWORK, (HASH,)), several.nodes), several)


def of(*views: Any, agree: int = 2) -> Several:
    return Several(*[(view,) for view in views], agree=agree)


# --------------------------------------------------------------------------------------------------------------- receipts


def test_a_receipt_that_two_nodes_show_is_believed() -> None:
    several = of(seen(10, 9), seen(10, 9))
    assert receipts(several).receipts == (TxReceipt(HASH, True, 9),)
    several.ended("ab")


def test_without_agreement_asked_for_one_node_is_enough() -> None:
    several = Several((seen(10, 9),), (), agree=1)
    assert receipts(several).head == 10
    several.ended("a")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (seen(10, 9), seen(10, 8)),
        (seen(10, 9), seen(10, 9, ok=False)),
        (seen(10, 9), seen(10, None)),
        (seen(10, 9), seen(12, None)),
        (seen(10, 9), seen(12, 11)),
        (seen(10, None), seen(12, 10)),
    ],
    ids=["block", "status", "only one", "reorganised away", "moved", "should have been seen"],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_hostile_nodes_that_contradict_one_another_prove_nothing(one: Any, other: Any, swapped: bool) -> None:
    several = of(other, one) if swapped else of(one, other)
    with pytest.raises(ChainUnavailable, match="disagree"):
        receipts(several)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_node_a_block_behind_does_not_contradict_and_the_older_view_counts(swapped: bool) -> None:
    views = [seen(10, 10), seen(9, None)]
    found = receipts(of(*(reversed(views) if swapped else views)))
    assert (found.head, found.receipts) == (9, (None,))


def test_a_node_far_behind_is_left_out_and_the_next_is_asked() -> None:
    for several in (of(seen(10, None), seen(100, 99), seen(100, 99)), of(seen(100, 99), seen(10, None), seen(100, 99))):
        assert receipts(several).receipts == (TxReceipt(HASH, True, 99),)
        several.ended("abc")


def test_a_node_that_is_away_is_replaced_and_too_few_prove_nothing() -> None:
    several = of(AWAY, seen(10, 9), seen(10, 9))
    assert receipts(several).head == 10
    with pytest.raises(ChainUnavailable, match=r"1 nodes answered .* 2 must agree"):
        receipts(of(AWAY, seen(10, 9)))


def test_a_trace_is_asked_of_all_who_must_agree_and_a_balance_of_one() -> None:
    read = AuthorizationTrace(TOKEN, PAYER, Hash32("0x" + nonce(5).hex()), 1)
    topics = [event_topic("AuthorizationUsed(address,bytes32)"), "0x" + PAYER[2:].rjust(64, "0"), read.nonce]
    log = {"address": TOKEN, "topics": topics, "data": "0x", "transactionHash": HASH}

    def view(*logs: object) -> tuple[dict[str, object], ...]:
        first = {"eth_getBlockByNumber": block(10), "eth_getLogs": list(logs), "eth_blockNumber": "0xa"}
        mined = {"transactionHash": HASH, "blockNumber": "0x9", "status": "0x1", "logs": [log]}
        return (first, {"eth_getTransactionReceipt": mined}) if logs else (first,)

    alike = Several(view(log), view(log), agree=2)
    found = run(read_chain(ReadChain(NETWORK, (read,)), alike.nodes), alike).of(read)
    assert found is not None
    assert found.block == 9
    alike.ended("aabb")
    apart = Several(view(log), view(), agree=2)
    with pytest.raises(ChainUnavailable, match="disagree"):
        run(read_chain(ReadChain(NETWORK, (read,)), apart.nodes), apart)
    single = Several(({"eth_getBlockByNumber": block(10), "eth_blockNumber": "0xa"},), (), agree=2)
    assert run(read_chain(ReadChain(NETWORK, ()), single.nodes), single).number == 10
    single.ended("a")


def traced(number: int, at: int) -> Traced:
    return Traced(TxReceipt(Hash32("0x" + nonce(number).hex()), True, at), TOKEN, b"")


@pytest.mark.parametrize(
    ("older", "newer", "fits"),
    [
        (False, True, True),
        (True, False, False),
        (4, 5, True),
        (5, 4, False),
        ((), (traced(1, 11),), True),
        ((), (traced(1, 10),), False),
        ((traced(1, 9),), (traced(2, 11), traced(1, 9)), True),
        ((traced(1, 9),), (), False),
        ((traced(1, 9),), (traced(1, 11),), False),
    ],
)
def test_what_may_have_come_with_the_blocks_that_only_one_node_has(older: Any, newer: Any, fits: bool) -> None:
    def views(*sights: Sight) -> Any:
        several = Several((), (), agree=2)
        left = iter(sights)

        def make(_endpoint: object) -> Any:
            yield from ()
            return next(left)

        return run(agreed(several.nodes, make, lambda each: each), several)

    old, new = Sight(10, 20, (older,)), Sight(12, 24, (newer,))
    for pair in ((old, new), (new, old)):
        if fits:
            assert views(*pair) == old
        else:
            with pytest.raises(ChainUnavailable, match="disagree"):
                views(*pair)
    with pytest.raises(ChainUnavailable, match="disagree"):  # at one head nothing may differ
        views(old, Sight(10, 20, (newer,)))


# ---------------------------------------------------------------------------------------------------------- broadcasting

RAW = b"\x02raw"
TAKEN = {"eth_sendRawTransaction": transaction_hash(RAW)}
POOR = {"eth_sendRawTransaction": Says("insufficient funds")}
CHEAP = {"eth_sendRawTransaction": Says("transaction underpriced")}
KNOWN = {"eth_sendRawTransaction": Says("already known")}
BUSY = {"eth_sendRawTransaction": Says("over rate limit", -32016)}
USED = ({"eth_sendRawTransaction": Says("nonce too low")}, {"eth_getTransactionReceipt": None})


@pytest.mark.parametrize(
    ("scripts", "said", "asked"),
    [
        (((TAKEN,), ()), Sent.ACCEPTED, "a"),
        (((LOST,), (TAKEN,)), Sent.ACCEPTED, "ab"),
        (((LOST,), (KNOWN,)), Sent.ACCEPTED, "ab"),
        (((AWAY,), (TAKEN,)), Sent.ACCEPTED, "ab"),
        (((BUSY,), (TAKEN,)), Sent.ACCEPTED, "ab"),
        (((CHEAP,), (TAKEN,)), Sent.ACCEPTED, "ab"),
        (((LOST,), (POOR,), (TAKEN,)), Sent.ACCEPTED, "abc"),
        (((POOR,), (CHEAP,)), Sent.REJECTED, "ab"),
        (((AWAY,), (POOR,)), Sent.REJECTED, "ab"),
        (((POOR,), (AWAY,)), Sent.REJECTED, "ab"),
        (((LOST,), (POOR,)), Sent.UNCLEAR, "ab"),
        (((POOR,), (LOST,)), Sent.UNCLEAR, "ab"),
        (((POOR,), (HttpReply(502),)), Sent.UNCLEAR, "ab"),
        (((BUSY,), (POOR,)), Sent.UNCLEAR, "ab"),
        (((AWAY,), (AWAY,)), Sent.UNCLEAR, "ab"),
        ((USED, ()), Sent.NUMBER_TAKEN, "aa"),
        (((POOR,), USED), Sent.NUMBER_TAKEN, "abb"),
        (((AWAY,), USED), Sent.NUMBER_TAKEN, "abb"),
        (((LOST,), USED), Sent.UNCLEAR, "abb"),
    ],
)
def test_what_is_certain_of_a_transaction_shown_to_several(scripts: Any, said: Sent, asked: str) -> None:
    several = Several(*scripts)
    assert run(broadcast(Broadcast(NETWORK, (RAW,)), several.nodes), several) is said
    several.ended(asked)


def test_a_node_that_was_lost_is_shown_the_next_transaction_last() -> None:
    second = b"\x02second"
    several = Several((LOST,), (TAKEN, {"eth_sendRawTransaction": transaction_hash(second)}))
    assert run(broadcast(Broadcast(NETWORK, (RAW, second)), several.nodes), several) is Sent.ACCEPTED
    several.ended("abb")


def test_a_rebroadcast_goes_to_every_node_and_one_is_enough() -> None:
    command = Rebroadcast(NETWORK, (RAW, RAW))
    both = {"eth_sendRawTransaction": Each((Says("already known"), Says("nonce too low")))}
    several = Several((AWAY,), (both,), (both,))
    run(rebroadcast(command, several.nodes), several)
    several.ended("abc")
    with pytest.raises((ChainUnavailable, NodeError)):
        run(rebroadcast(command, (gone := Several((AWAY,), (HttpReply(502),))).nodes), gone)
