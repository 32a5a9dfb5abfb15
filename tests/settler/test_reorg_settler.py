"""The chain takes a payment back: below the depth asked for it is looked at again, and sent again when it was lost (T25)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.settler.bench import Bench, came, record, settle, settled
from tests.shop import FIRST, FUNDS, PRICE
from x402core.events import Method, Settled
from x402core.machines.settlement import SettlementPolicy
from x402core.values import Millis

DEEP = SettlementPolicy(look_first=Millis(5), look_most=Millis(40), confirmations=3)


@pytest.mark.parametrize("method", FIRST)
@pytest.mark.parametrize("cheat", ["devnet_reorg", "anvil_reorg", "anvil_rollback", "evm_revert"])
def test_a_payment_is_taken_back_before_it_is_deep(bench: Bench, method: Method, cheat: str) -> None:
    proof = bench.proof(method)
    rpc = bench.ground.rpc
    moved = len(_calls(method))

    async def go() -> None:
        rpc("evm_mine")
        snapshot = rpc("evm_snapshot")
        async with bench.settling(policy=DEEP) as settler:
            await record(settler, proof)
            await came(lambda: bench.ground.sent_by() == moved)
            bench.earned(1)
            rpc(cheat, *([snapshot] if cheat == "evm_revert" else [hex(moved)]))
            await came(lambda: _mined(rpc) or bench.ground.sent_by() == moved)  # it is sent anew, or waits in the pool again
            for _ in range(3):
                rpc("evm_mine")
            await settled(settler)
            stored = settler.ledger.record(proof.permit.key)
            assert stored is not None
            assert isinstance(stored.outcome, Settled)

    anyio.run(go)
    bench.earned(1)
    assert bench.ground.balance(proof.permit.payer) == FUNDS - PRICE
    assert bench.ground.sent_by() == moved


def _calls(method: Method) -> tuple[str, ...]:
    return ("transferWithAuthorization",) if method is Method.EIP3009 else ("permit", "transferFrom")


def _mined(rpc: Any) -> bool:
    rpc("evm_mine")
    return False


@pytest.mark.xfail(
    reason="ledger: the number of a settled transaction that a reorganisation lost is never used again", strict=True
)
def test_a_settled_payment_lost_for_good_does_not_stop_the_next_ones(bench: Bench) -> None:
    async def go() -> None:
        bench.ground.rpc("evm_mine")
        second = None
        async with bench.settling(patience=1.5) as settler:
            assert isinstance(await settle(settler, bench.proof()), Settled)
            second = bench.proof(payer=bench.ground.payer())
            bench.ground.rpc("anvil_rollback", hex(2))
            bench.ground.mint(second.permit.payer)
            assert isinstance(await settle(settler, second), Settled)

    anyio.run(go)
