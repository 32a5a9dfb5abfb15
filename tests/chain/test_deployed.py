"""Is there code where money would go through, asked of several nodes: who is skipped, who is doubted, and what is said."""

from __future__ import annotations

import pytest

from tests.chain.scripted import NETWORK, Each, Several, Turn
from x402bind.chain.errors import ChainUnavailable
from x402bind.drive import run
from x402bind.leaves import HttpFailed, HttpReply
from x402bind.translate.deployed import prove_code
from x402core.evm.digests import EXACT_PROXY, PERMIT2
from x402core.values import chain_id

NEEDED = {PERMIT2: ('method "permit2"',), EXACT_PROXY: ('method "permit2"',)}
OURS, AWAY = hex(chain_id(NETWORK)), HttpFailed("ConnectError")


def code(first: str, second: str, chain: str = OURS) -> Turn:
    return {"eth_chainId": chain, "eth_getCode": Each((first, second))}


def test_what_has_no_code_is_named_with_its_node_and_what_is_there_is_not() -> None:
    several = Several((code("0x00", "0x"),), (code("0x00", "0x00"),))
    (problem,) = run(prove_code(several.nodes, NEEDED), several)
    assert problem.startswith(f"https://a.test: x402's proxy for exact has no code at {EXACT_PROXY} on {NETWORK}")
    assert [several.nodes.health.doubted(each) for each in several.nodes.endpoints] == [False, False]
    several.ended("ab")


@pytest.mark.parametrize("chain", ["0x1", "0x0"])
def test_a_node_of_another_chain_says_nothing_of_ours(chain: str) -> None:
    several = Several((code("0x", "0x", chain),), (code("0x00", "0x00"),))
    assert run(prove_code(several.nodes, NEEDED), several) == ()
    several.ended("ab")
    several = Several((code("0x00", "0x00", chain),), (code("0x", "0x00"),))
    (problem,) = run(prove_code(several.nodes, NEEDED), several)
    assert problem.startswith("https://b.test: Permit2 has no code")


@pytest.mark.parametrize("trouble", [AWAY, HttpReply(502), HttpReply(200, (), b"<html>")])
def test_a_node_that_is_away_is_doubted_and_asked_last(trouble: Turn) -> None:
    several = Several((trouble,), (code("0x00", "0x00"),))
    a, b = several.nodes.endpoints
    assert run(prove_code(several.nodes, NEEDED), several) == ()
    assert (several.nodes.health.doubted(a), several.nodes.health.doubted(b)) == (True, False)
    assert several.nodes.in_order == (b, a)
    several.ended("ab")


def test_with_no_node_there_the_first_one_s_trouble_is_raised() -> None:
    several = Several((AWAY,), (HttpReply(502),))
    with pytest.raises(ChainUnavailable, match=r"a\.test"):
        run(prove_code(several.nodes, NEEDED), several)
    assert [several.nodes.health.doubted(each) for each in several.nodes.endpoints] == [True, True]


def test_where_nothing_is_needed_nobody_is_asked() -> None:
    several = Several((), ())
    assert run(prove_code(several.nodes, {}), several) == ()
    several.ended("")
