"""Several nodes asked as if they were one: who is asked next, who is asked last, and what is never asked twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.chain.conduct import PAYER
from tests.chain.scripted import NETWORK, Says, Several, Slow, block, word
from x402bind.chain.errors import ChainUnavailable, NodeError, NodeErrorKind
from x402bind.chain.nodes import Health, Nodes, nodes
from x402bind.chain.rpc import Endpoint
from x402bind.clients.purse import Purse
from x402bind.drive import run
from x402bind.leaves import HttpFailed, HttpReply
from x402bind.seller import Seller
from x402bind.translate.chain import chain_table, fees_and_number, prove_chain, read_chain
from x402core.commands import ReadChain
from x402core.errors import LocalProtocolError
from x402core.machines.machine import translate
from x402core.reads import BalanceOf, Facts
from x402core.values import Address, Network

TOKEN = Address("0x" + "7" * 40)
BALANCE = BalanceOf(TOKEN, PAYER)
AWAY = HttpFailed("ConnectError", sent=False)


def at(number: int, balance: int = 1, time: int | None = None) -> dict[str, object]:
    time = 1_700_000_000 + 2 * number if time is None else time
    return {"eth_getBlockByNumber": block(number, time), "eth_call": word(balance), "eth_blockNumber": hex(number)}


def refusing(*words: Any) -> dict[str, object]:
    return {**at(5), "eth_call": Says(*words)}


def read(several: Several) -> Facts:
    return run(read_chain(ReadChain(NETWORK, (BALANCE,)), several.nodes), several)


# ------------------------------------------------------------------------------------------------------ what users write


def test_a_user_writes_a_url_or_several_or_nodes_of_his_own() -> None:
    own = Endpoint("https://b.test", NETWORK, timeout=3)
    assert [each.url for each in nodes("https://a.test", NETWORK).endpoints] == ["https://a.test"]
    assert nodes(("https://a.test", own), NETWORK).endpoints == (Endpoint("https://a.test", NETWORK), own)
    kept = Nodes((own,))
    assert nodes(kept, NETWORK) is kept


@pytest.mark.parametrize("value", [None, 7, (), [], b"https://a.test", (None,), {"https://a.test"}])
def test_what_is_no_node_is_refused_by_name(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^rpc: "):
        nodes(value, NETWORK)


def test_nodes_of_another_network_are_refused() -> None:
    for value in (Endpoint("https://a.test", Network("eip155:1")), Nodes((Endpoint("https://a.test", Network("eip155:1")),))):
        with pytest.raises(LocalProtocolError, match=r"^rpc: .*eip155:1"):
            nodes(value, NETWORK)
    with pytest.raises(LocalProtocolError, match=r"^endpoints: "):
        nodes(("https://a.test", Endpoint("https://b.test", Network("eip155:1"))), NETWORK)


@pytest.mark.parametrize(
    ("how", "field"),
    [({"agree": 0}, "agree"), ({"agree": 3}, "agree"), ({"hedge_after": 0.0}, "hedge_after"), ({"most_lag": 0}, "most_lag")],
)
def test_rules_that_cannot_be_kept_are_refused(how: dict[str, Any], field: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"^{field}: "):
        Several((), (), **how)


def test_the_same_node_twice_would_agree_with_itself() -> None:
    with pytest.raises(LocalProtocolError, match="twice"):
        nodes(("https://a.test", "https://a.test"), NETWORK)


def test_no_repr_shows_a_key() -> None:
    assert "secret" not in repr(nodes(("https://a.test/secret", "https://b.test/secret"), NETWORK))


# ----------------------------------------------------------------------------------------------------------------- reads


@pytest.mark.parametrize(
    "trouble",
    [
        AWAY,
        HttpFailed("ReadTimeout"),
        HttpReply(503),
        HttpReply(429),
        HttpReply(200, (), b"<html>"),
        refusing("over rate limit", -32016),
        refusing("header not found"),
        refusing("node is syncing"),
    ],
)
def test_a_node_in_trouble_is_passed_over_and_asked_last_for_a_while(trouble: Any) -> None:
    several = Several((trouble,), (at(5), at(6)))
    assert read(several).number == 5
    assert read(several).number == 6
    several.ended("abb")
    several.clock += 31
    several.then("a", at(7))
    assert read(several).number == 7
    several.ended("abba")


def test_a_contracts_refusal_is_an_answer_and_nobody_else_is_asked() -> None:
    for words, kind in ((("execution reverted", 3), NodeErrorKind.REVERTED), (("out of gas",), NodeErrorKind.HALTED)):
        several = Several((refusing(*words),), ())
        with pytest.raises(NodeError) as caught:
            read(several)
        assert caught.value.kind is kind
        several.ended("a")
    several = Several(({**at(5), "eth_call": "0x"},), ())
    with pytest.raises(NodeError, match="no code"):
        read(several)
    several.ended("a")


def test_what_one_node_does_not_serve_another_may_and_the_first_is_none_the_worse() -> None:
    several = Several((refusing("Method not found", -32601), at(6)), (at(5),))
    assert read(several).number == 5
    assert read(several).number == 6
    several.ended("aba")


def test_when_nobody_answers_the_passing_trouble_is_told_so_that_it_is_tried_again() -> None:
    several = Several((AWAY,), (refusing("something else"),))
    with pytest.raises(ChainUnavailable, match=r"a\.test"):
        read(several)
    several.ended("ab")


def test_the_drivers_table_takes_urls_and_tries_all_nodes_again_after_a_pause() -> None:
    several = Several((AWAY, AWAY), (HttpReply(502), at(5)))
    table = chain_table({NETWORK: several.nodes})
    assert run(translate(_asking(), table), several).number == 5
    assert several.pauses == [0.2]
    several.ended("abab")
    with pytest.raises(LocalProtocolError, match=r"^rpc: "):
        chain_table({NETWORK: Endpoint("https://a.test", Network("eip155:1"))})


def _asking() -> Any:
    return (yield ReadChain(NETWORK, (BALANCE,)))


def test_one_read_is_answered_by_one_node_also_when_the_head_moves() -> None:
    moving = {**at(5), "eth_blockNumber": "0x6"}
    several = Several((moving, at(5)), ())
    assert read(several).number == 5
    several.ended("aa")


def test_fees_and_numbers_come_from_the_next_node_too() -> None:
    counts = {"eth_getTransactionCount": "0x5", "eth_getBlockByNumber": block(7), "eth_maxPriorityFeePerGas": "0x1"}
    several = Several((AWAY,), (counts,))
    assert run(fees_and_number(several.nodes, PAYER), several).next_number == 5
    several.ended("ab")


# ------------------------------------------------------------------------------------------------------------- staleness


def test_a_node_that_is_far_behind_is_passed_over_for_the_higher() -> None:
    several = Several((at(100), at(101)), (at(150),))
    assert read(several).number == 100  # nothing to compare with yet
    several.nodes.health.failed(several.a)
    assert read(several).number == 150
    several.clock += 29
    several.nodes.health.worked(several.a)
    several.then("b", at(160))
    assert read(several).number == 160
    several.ended("abab")


def test_when_only_the_node_behind_answers_its_answer_is_used() -> None:
    several = Several((at(100),), (at(150), AWAY))
    several.nodes.health.failed(several.a)
    assert read(several).number == 150
    several.nodes.health.worked(several.a)
    assert read(several).number == 100
    several.ended("bab")


def test_a_few_seconds_behind_are_nothing() -> None:
    several = Several((at(143),), (at(150),), most_lag=15)  # a block takes two
    several.nodes.health.failed(several.a)
    assert read(several).number == 150
    several.nodes.health.worked(several.a)
    assert read(several).number == 143
    several.ended("ba")


def test_hostile_a_node_that_claims_the_future_does_not_shut_the_others_out() -> None:
    several = Several((at(100), at(101)), (at(5, time=2**40), AWAY))
    several.nodes.health.failed(several.a)
    assert read(several).time == 2**40
    several.nodes.health.worked(several.a)
    assert read(several).number == 100
    several.clock += 31  # what it claimed is forgotten
    several.nodes.health.worked(several.a)
    assert read(several).number == 101
    several.ended("baba")


# --------------------------------------------------------------------------------------------------------------- hedging


def test_the_faster_of_two_answers_and_one_slow_answer_changes_no_preference() -> None:
    several = Several((Slow(), at(6)), (at(5),), hedge_after=0.1)
    assert read(several).number == 5
    assert read(several).number == 6
    several.ended("aba")


def test_a_node_beaten_three_times_in_a_row_is_asked_last() -> None:
    several = Several((Slow(), Slow(), Slow()), (at(5), at(6), at(7), at(8)), hedge_after=0.1)
    assert [read(several).number for _ in range(4)] == [5, 6, 7, 8]
    several.ended("abababb")


def test_a_hedged_read_stays_with_the_node_that_answered() -> None:
    moving = {**at(5), "eth_blockNumber": "0x6"}
    several = Several((Slow(),), (moving, at(5)), hedge_after=0.1)
    assert read(several).number == 5
    several.ended("abb")


def test_when_both_of_a_race_fail_the_third_is_asked() -> None:
    several = Several((AWAY,), (AWAY,), (at(5),), hedge_after=0.1)
    assert read(several).number == 5
    several.ended("abc")


def test_the_winner_of_a_race_may_still_be_in_trouble() -> None:
    several = Several((HttpReply(200, (), b"<html>"),), (at(5),), hedge_after=0.1)
    assert read(several).number == 5
    several.ended("ab")


# --------------------------------------------------------------------------------------------------------- the start-up


def test_every_node_is_proved_and_the_wrong_one_is_named() -> None:
    several = Several(({"eth_chainId": hex(84532)},), ({"eth_chainId": "0x1"},))
    problems = run(prove_chain(several.nodes), several)
    assert problems == ("https://b.test: url: the node serves chain 1, but network is eip155:84532",)
    several.ended("ab")


def test_a_node_away_at_start_up_proves_itself_before_it_is_used() -> None:
    several = Several((AWAY,), ({"eth_chainId": hex(84532)}, at(5)))
    assert run(prove_chain(several.nodes), several) == ()
    assert read(several).number == 5
    several.clock += 31
    several.then("a", {"eth_chainId": hex(84532)}, at(6), at(7))
    assert [read(several).number, read(several).number] == [6, 7]
    several.ended("abbaaa")


def test_hostile_a_node_that_comes_back_with_another_chain_is_not_believed() -> None:
    several = Several((AWAY, {"eth_chainId": "0x1"}), ({"eth_chainId": hex(84532)}, at(5)), hedge_after=0.1)
    assert run(prove_chain(several.nodes), several) == ()
    several.clock += 31
    assert read(several).number == 5
    several.ended("abab")


def test_with_no_node_there_the_start_fails() -> None:
    several = Several((AWAY,), (HttpReply(502),))
    with pytest.raises(ChainUnavailable):
        run(prove_chain(several.nodes), several)


# ---------------------------------------------------------------------------------------------------------------- health


def test_nodes_that_failed_are_ordered_by_who_failed_longest_ago() -> None:
    several = Several((), (), ())
    a, b, c = several.nodes.endpoints
    several.nodes.health.failed(a)
    several.clock += 1
    several.nodes.health.failed(b)
    assert several.nodes.in_order == (c, a, b)
    several.clock += 29.5
    assert several.nodes.in_order == (a, c, b)


def test_health_is_safe_in_threads() -> None:
    health, endpoints = Health(cool_off=0.0001), [Endpoint(f"https://{n}.test", NETWORK) for n in range(8)]

    def work(endpoint: Endpoint) -> None:
        for number in range(500):
            health.failed(endpoint)
            health.beaten(endpoint)
            health.behind(endpoint, number)
            assert set(health.order(endpoints)) == set(endpoints)
            health.worked(endpoint)

    threads = [threading.Thread(target=work, args=(each,)) for each in endpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert health.order(endpoints) == tuple(endpoints)


# ------------------------------------------------------------------------------------------------------ sellers and payers


def test_a_seller_and_a_purse_take_several_urls_under_the_networks_name() -> None:
    urls = ("https://a.test", "https://b.test")
    seller = Seller(key=b"\1" * 32, rpc={"base-sepolia": urls}, ledger="memory:")
    assert tuple(each.url for each in seller.endpoints[NETWORK].endpoints) == urls
    purse = Purse.up_to(b"\1" * 32, "$0.05", NETWORK, rpc={"base-sepolia": list(urls)})
    several = Several((AWAY,), (at(5),))
    assert run(purse.read(ReadChain(NETWORK, (BALANCE,))), several).number == 5
    several.ended("ab")
    for wrong in ((), Endpoint("https://a.test", Network("eip155:1"))):
        with pytest.raises(LocalProtocolError, match=r"^rpc: "):
            Seller(key=b"\1" * 32, rpc={"base-sepolia": wrong}, ledger="memory:")
        with pytest.raises(LocalProtocolError, match=r"^rpc: "):
            Purse.up_to(b"\1" * 32, "$0.05", NETWORK, rpc={"base-sepolia": wrong})
