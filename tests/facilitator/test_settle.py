"""``/verify`` and ``/settle``: who pays, who is paid, and that it happens once however often it is asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.facilitator.desk import Desk, Sale
from tests.shop import FUNDS, PRICE, Ground, until
from x402core.events import Method


def test_a_payment_is_verified_then_settled(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    assert desk.verify(sale.body) == {"isValid": True, "payer": sale.body["paymentPayload"]["payload"]["authorization"]["from"]}
    assert (sale.earned, desk.sent) == (0, 0)  # verifying changes nothing
    told = desk.settle(sale.body)
    assert (told["success"], told["network"], told["amount"]) == (True, "eip155:84532", str(PRICE))
    assert told["payer"].lower() == sale.payer.address
    assert ground.calls((told["transaction"],)) == ("transferWithAuthorization",)
    assert (sale.earned, sale.left, desk.sent) == (PRICE, FUNDS - PRICE, 1)


def test_a_payment_of_version_1(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    assert desk.verify(sale.body_v1)["isValid"] is True
    told = desk.settle(sale.body_v1)
    assert (told["success"], told["network"]) == (True, "base-sepolia")
    assert (sale.earned, desk.sent) == (PRICE, 1)
    assert desk.settle(sale.body)["transaction"] == told["transaction"]  # asked in the other version: the same payment


def test_replay_of_a_settle_gets_the_stored_outcome(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    told = desk.settle(sale.body)
    assert desk.settle(sale.body) == told
    assert desk.verify(sale.body)["invalidReason"] == "invalid_exact_evm_nonce_already_used"
    assert (sale.earned, desk.sent) == (PRICE, 1)


def test_replay_of_a_settle_at_the_next_process(ground: Ground, tmp_path: Path) -> None:
    sale = Sale(ground)
    with Desk(ground, tmp_path) as desk:
        told = desk.settle(sale.body)
    with Desk(ground, tmp_path, key=desk.key) as again:
        assert again.settle(sale.body) == told
        assert again.sent == 1
    assert sale.earned == PRICE


def test_replay_of_a_settle_sixteen_at_once(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(desk.settle, [sale.body] * 16))
    assert told == [told[0]] * 16
    assert told[0]["success"] is True
    assert (sale.earned, desk.sent) == (PRICE, 1)


def test_many_payments_at_once(desk: Desk, ground: Ground) -> None:
    sales = [Sale(ground) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(desk.settle, [sale.body for sale in sales]))
    assert [each["success"] for each in told] == [True] * 8
    assert len({each["transaction"] for each in told}) == desk.sent == 8
    assert [sale.earned for sale in sales] == [PRICE] * 8


def test_what_another_facilitator_settled_is_refused_here(desk: Desk, ground: Ground, tmp_path: Path) -> None:
    sale = Sale(ground)
    (tmp_path / "other").mkdir()
    with Desk(ground, tmp_path / "other") as other:
        assert other.settle(sale.body)["success"] is True
    told = desk.settle(sale.body)
    assert (told["success"], told["errorReason"]) == (False, "invalid_exact_evm_nonce_already_used")
    assert told["transaction"] == ""
    assert (sale.earned, desk.sent) == (PRICE, 0)


def test_a_stored_outcome_is_not_told_for_another_payment(desk: Desk, ground: Ground) -> None:
    """The permit of EIP-2612 does not say whom it pays: what it settled for one payee is nothing to another."""
    sale = Sale(ground, method=Method.EIP2612, spender=desk.account)
    assert desk.settle(sale.body)["success"] is True
    other = Sale(ground, method=Method.EIP2612, spender=desk.account, payer=sale.payer)
    body = other.body | {"paymentPayload": other.body["paymentPayload"] | {"payload": sale.body["paymentPayload"]["payload"]}}
    told = desk.settle(body)
    assert (told["success"], told["errorReason"]) == (False, "payment_already_used_for_another_request")
    assert (sale.earned, other.earned, desk.sent) == (PRICE, 0, 2)


def test_a_slow_chain_is_pending_with_the_transaction_then_success(ground: Ground, tmp_path: Path) -> None:
    sale = Sale(ground)
    with Desk(ground, tmp_path, patience=0.5) as desk:
        with ground.automine_off():
            first = desk.settle(sale.body)
            assert (first["success"], first["errorReason"]) == (False, "settlement_pending")
            assert ground.rpc("eth_getTransactionByHash", first["transaction"])["from"] == desk.account
            again = desk.settle(sale.body)
            assert (again["errorReason"], again["transaction"]) == ("settlement_pending", first["transaction"])
            v1 = desk.settle(sale.body_v1)
            assert (v1["success"], v1["transaction"]) == (False, first["transaction"])
            assert desk.sent == 1
            ground.rpc("evm_mine")
        told = until(lambda: (told := desk.settle(sale.body)) and told["success"] and told)
        assert told["transaction"] == first["transaction"]
        assert (sale.earned, desk.sent) == (PRICE, 1)


def test_a_slow_chain_and_a_restart(ground: Ground, tmp_path: Path) -> None:
    sale = Sale(ground)
    with ground.automine_off():
        with Desk(ground, tmp_path, patience=0.3) as desk:
            first = desk.settle(sale.body)
        ground.rpc("evm_mine")
    with Desk(ground, tmp_path, key=desk.key) as again:
        told = again.settle(sale.body)
        assert (told["success"], told["transaction"]) == (True, first["transaction"])
        assert (sale.earned, again.sent) == (PRICE, 1)


@pytest.mark.parametrize("version", [1, 2])
def test_an_empty_wallet_costs_us_nothing(desk: Desk, ground: Ground, version: int) -> None:
    sale = Sale(ground, payer=ground.payer(0))
    body = sale.body if version == 2 else sale.body_v1
    for _ in range(3):
        told = desk.settle(body)
        assert (told["success"], told["errorReason"], told["transaction"]) == (False, "insufficient_funds", "")
    assert desk.verify(body)["invalidReason"] == "insufficient_funds"
    assert desk.sent == 0


def test_a_wallet_emptied_between_verify_and_settle(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    assert desk.verify(sale.body)["isValid"] is True
    ground.drain(sale.payer)
    assert desk.settle(sale.body)["errorReason"] == "insufficient_funds"
    assert desk.sent == 0
