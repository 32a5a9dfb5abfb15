"""Every way to pay, through the settler: journaled, sent, found when a stranger was first, given up when dead."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.chains import USDC, Anvil, RealUSDC, Rpc
from tests.contracts import place_all
from tests.settler.test_methods_real import (
    FUNDS,
    GAS_MONEY,
    NETWORK,
    PRICE,
    RELAYER,
    RELAYER_KEY,
    STRANGER_KEY,
    Bench,
    approval,
    delegating,
    delegation,
    invalidate,
    managed,
    token_permit,
)
from x402bind.chain.rpc import Endpoint
from x402bind.chain.signers import PrivateKeySigner
from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.ledger import SqliteLedger
from x402bind.settler import Settler
from x402core.commands import SettlePayment
from x402core.errors import Reason
from x402core.events import Method, Offer, Permit, Settled, Unsettled
from x402core.machines.settlement import SettlementPolicy
from x402core.schemes.judge import Verified, charge
from x402core.values import Address, Amount, Millis, Seconds

pytestmark = pytest.mark.anvil

QUICK = SettlementPolicy(look_first=Millis(5), look_most=Millis(40), grace=Seconds(0))


@dataclass
class Clock:
    """The chain's clock, in milliseconds: the chain is told to hurry, and the settler with it."""

    rpc: Rpc

    def __call__(self) -> Millis:
        return Millis(self.rpc.now() * 1000)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Anvil() as node, SyncHttp() as http:
        rpc = Rpc(node.url)
        RealUSDC.place(rpc)
        yield Bench(rpc, place_all(rpc), Endpoint(node.url, NETWORK), http, Address("0x" + secrets.token_hex(20)))
        rpc.close()


def settle(bench: Bench, folder: Path, *proofs: Verified, key: bytes = RELAYER_KEY, meanwhile: Any = None) -> list[Any]:
    """Settle proofs one after the other and return what the settler reports; ``meanwhile`` happens beside the last."""

    async def go() -> list[Any]:
        ledger, http = SqliteLedger(str(folder / "ledger.db")), AsyncHttp()
        clock = Clock(Rpc(bench.endpoint.url))
        options: dict[str, Any] = {"policy": QUICK, "patience": 20.0, "poll": 0.02, "clock": clock}
        try:
            settler = Settler(ledger, PrivateKeySigner(key), {NETWORK: bench.endpoint}, http, **options)
            async with settler.running(), anyio.create_task_group() as tasks:
                if meanwhile is not None:
                    tasks.start_soon(meanwhile)
                with anyio.fail_after(25):
                    return [await settler.settle(SettlePayment(proof)) for proof in proofs]
        finally:
            with anyio.CancelScope(shield=True):
                await http.aclose()
            ledger.close()

    return anyio.run(go)


def paid_by(bench: Bench, how: str) -> tuple[Permit, Offer]:
    """Return a payment of each kind."""
    if how == "erc7710":
        return delegation(bench, delegating(bench), to=RELAYER), replace(bench.offer(Method.ERC7710), facilitator=RELAYER)
    scheme, _, sponsor = how.partition(" ")
    offer = bench.offer(Method.PERMIT2, scheme)
    key = bench.payer(approved=not sponsor, gas=GAS_MONEY)
    permit = bench.signed(offer, key)
    if sponsor == "permit":
        return replace(permit, sponsor=token_permit(key, PRICE, permit.deadline)), offer
    return (replace(permit, sponsor=approval(bench, key)) if sponsor else permit), offer


@pytest.mark.parametrize("how", ["exact", "exact permit", "exact approval", "upto", "upto permit", "erc7710"])
def test_settled(bench: Bench, tmp_path: Path, how: str) -> None:
    permit, offer = paid_by(bench, how)
    (outcome,) = settle(bench, tmp_path, bench.verified(permit, offer, managed(bench)))
    assert isinstance(outcome, Settled)
    assert (outcome.amount, outcome.foreign, outcome.payer) == (PRICE, False, permit.payer)
    assert bench.balances(permit.payer) == (FUNDS - PRICE, PRICE)


def test_less_than_the_ceiling_is_settled(bench: Bench, tmp_path: Path) -> None:
    permit, offer = paid_by(bench, "upto")
    proof = charge(bench.verified(permit, offer, managed(bench)), Amount(77))
    assert isinstance(proof, Verified)
    (outcome,) = settle(bench, tmp_path, proof)
    assert isinstance(outcome, Settled)
    assert outcome.amount == 77
    assert bench.balances(permit.payer) == (FUNDS - 77, 77)


@pytest.mark.parametrize("how", ["exact", "exact permit"])
def test_a_stranger_was_first(bench: Bench, tmp_path: Path, how: str) -> None:
    permit, offer = paid_by(bench, how)
    proof = bench.verified(permit, offer, managed(bench))
    theirs = bench.sent(permit, offer, STRANGER_KEY)
    (outcome,) = settle(bench, tmp_path, proof)
    assert isinstance(outcome, Settled)
    assert (outcome.foreign, outcome.transaction) == (True, theirs.transaction)
    assert bench.balances(permit.payer) == (FUNDS - PRICE, PRICE)


@pytest.mark.parametrize("scheme", ["exact", "upto"])
def test_the_payer_took_the_nonce_back(bench: Bench, tmp_path: Path, scheme: str) -> None:
    offer = bench.offer(Method.PERMIT2, scheme)
    key = bench.payer(approved=True)
    permit = bench.signed(offer, key)
    proof = bench.verified(permit, offer, managed(bench))
    invalidate(bench, key, permit)
    (outcome,) = settle(bench, tmp_path, proof, meanwhile=later(bench, permit))
    assert isinstance(outcome, Unsettled)
    assert (outcome.final, outcome.reason) == (True, Reason.TRANSACTION_FAILED)
    assert bench.balances(permit.payer) == (FUNDS, 0)


def later(bench: Bench, permit: Permit) -> Callable[[], Awaitable[None]]:
    """Let the permit's time pass once the settler's transaction has failed."""

    async def wait() -> None:
        rpc = Rpc(bench.endpoint.url)
        before = int(rpc("eth_getTransactionCount", RELAYER, "latest"), 16)
        while int(rpc("eth_getTransactionCount", RELAYER, "latest"), 16) == before:  # noqa: ASYNC110 - a chain sets no event
            await anyio.sleep(0.01)
        rpc("evm_setNextBlockTimestamp", hex(permit.expires + 1))
        rpc("evm_mine")

    return wait


def test_a_delegation_that_fails_is_not_tried_twice(bench: Bench, tmp_path: Path) -> None:
    permit, offer = paid_by(bench, "erc7710")
    proof = bench.verified(permit, offer, managed(bench))
    bench.sent(permit, offer)  # the context is used up, by us: a second transaction of ours cannot be paid
    before = int(bench.rpc("eth_getTransactionCount", RELAYER, "latest"), 16)
    (outcome,) = settle(bench, tmp_path, proof)
    assert isinstance(outcome, Unsettled)
    assert outcome.final
    assert int(bench.rpc("eth_getTransactionCount", RELAYER, "latest"), 16) == before + 1
    assert bench.rpc.balance(USDC, bench.pay_to) == PRICE
