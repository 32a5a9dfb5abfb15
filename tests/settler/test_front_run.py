"""Somebody submits the payer's permit before us: paid is paid (T13), and a spent permit with its allowance is as good (T14)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.settler.bench import Bench, record, settle, settled
from tests.shop import FIRST, FUNDS, PRICE, STRANGER_KEY, Ground, Shop, TroubledNode, token_body
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.chain.signers import PrivateKeySigner
from x402core.events import Dialect, Method, Permit, Settled
from x402core.machines.settlement import SettlementPolicy
from x402core.schemes import of
from x402core.values import Millis
from x402core.wire import v2
from x402core.wire.v2 import decode_receipt


def submit(ground: Ground, permit: Permit, offer: Any) -> str:
    """Have a stranger submit the first call of a permit, which anybody may."""
    call = of(offer).calls(permit, offer)[0]
    return ground.rpc.must(STRANGER_KEY, call.to, call.data, gas=call.gas)["transactionHash"]


class Rival:
    """A stranger who watches for our transaction and gets in before it."""

    def __init__(self, ground: Ground, permit: Permit, offer: Any) -> None:
        self.ground, self.permit, self.offer = ground, permit, offer
        self.transaction = ""

    def __call__(self, call: dict[str, Any]) -> None:
        if call["method"] == "eth_sendRawTransaction" and not self.transaction:
            self.transaction = submit(self.ground, self.permit, self.offer)


def test_a_stranger_is_first_and_the_payer_is_served(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url) as shop:
        offer = shop.offer()
        permit = payer.permit(offer, ground)
        node.filter = rival = Rival(ground, permit, offer)
        headers = payer.header(offer, ground, permit=permit)
        response = httpx.get(shop.paid, headers=headers, timeout=20)
        assert response.status_code == 200
        receipt = decode_receipt(response.headers[v2.PAYMENT_RESPONSE])
        assert (receipt.success, receipt.transaction) == (True, rival.transaction)
        (entry,) = shop.entries()
        assert entry.state == "settled"
        assert rival.transaction in entry.transactions
        assert (ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)
        again = httpx.get(shop.paid, headers=headers)
        assert (again.status_code, again.content, shop.api.runs) == (200, response.content, 1)


@pytest.mark.parametrize("method", FIRST)
def test_a_stranger_between_the_verdict_and_our_send(bench: Bench, method: Method) -> None:
    async def go() -> None:
        proof = bench.proof(method)
        theirs = submit(bench.ground, proof.permit, proof.offer)
        async with bench.settling() as settler:
            outcome = await settle(settler, proof)
            assert isinstance(outcome, Settled)
            foreign = method is Method.EIP3009
            assert (outcome.foreign, outcome.transaction == theirs) == (foreign, foreign)
            again = bench.proof(method)
            assert isinstance(await settle(settler, again), Settled)

    anyio.run(go)
    bench.earned(2)


def test_the_same_authorization_settled_by_two_sellers_processes(bench: Bench, tmp_path: Path) -> None:
    """A second facilitator has it too: two ledgers, two accounts, one payment."""
    other = Bench(bench.ground, tmp_path / "other", bench.pay_to)
    other.folder.mkdir()
    proof = bench.proof()

    async def go() -> None:
        outcomes: list[Any] = []

        async def one(settler: Any) -> None:
            outcomes.append(await settle(settler, proof))

        second = PrivateKeySigner(DEV_KEYS[7])
        async with bench.settling() as ours, other.settling(signer=second) as theirs, anyio.create_task_group() as tasks:
            tasks.start_soon(one, ours)
            tasks.start_soon(one, theirs)
        assert all(isinstance(each, Settled) for each in outcomes)
        assert len({each.transaction for each in outcomes}) == 1
        assert sorted(each.foreign for each in outcomes) == [False, True]

    anyio.run(go)
    bench.earned(1)


def test_a_permit_front_run_after_its_token_was_minted(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    policy = SettlementPolicy(look_first=Millis(5), look_most=Millis(40))
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url, settlement=policy) as shop:
        offer = shop.offer(Dialect.PERMIT_TOKEN)
        permit = payer.permit(offer, ground)
        node.filter = rival = Rival(ground, permit, offer)
        reply = httpx.post(f"{shop.url}/token?scope=%2Fpaid", content=token_body(permit))
        assert reply.status_code == 200
        (entry,) = shop.settled()
        assert entry.state == "settled"
        assert rival.transaction
        assert (ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)


def test_one_payer_s_many_permits_in_a_row(bench: Bench) -> None:
    """Each has the token's next nonce; one settlement's transfer never uses up another's allowance."""
    payer = bench.ground.payer()

    async def go() -> None:
        async with bench.settling() as one, bench.settling() as two:
            for turn in range(4):
                await record((one, two)[turn % 2], bench.proof(Method.EIP2612, payer))
                await settled(one)

    anyio.run(go)
    bench.earned(4)
    assert bench.ground.balance(payer.address) == FUNDS - 4 * PRICE
