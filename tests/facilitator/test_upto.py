"""``upto``: settled for what was used, for nothing, never for more than was signed; and the other methods, all through HTTP."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chains import PERMIT2, USDC
from tests.facilitator.desk import ETHER, Desk, Town, request
from tests.shop import FUNDS, NETWORK, PRICE, Payer, fresh
from x402core.events import Dialect, Method, Offer
from x402core.evm.abi import encode_call
from x402core.evm.secp256k1 import sign
from x402core.policy import offers
from x402core.schemes import of
from x402core.values import Amount, Hash32, Seconds

CEILING = PRICE


@pytest.fixture
def desk(town: Town, tmp_path: Path) -> Any:
    with Desk(town.ground, tmp_path) as desk:
        yield desk


def approving(town: Town) -> Payer:
    """Return a payer who lets Permit2 move his money."""
    payer = town.ground.payer()
    town.ground.rpc("anvil_setBalance", payer.address, hex(ETHER))
    town.ground.rpc.must(payer.key, USDC, encode_call("approve(address,uint256)", PERMIT2, 2**256 - 1), gas=200_000)
    return payer


def offered(desk: Desk, scheme: str, method: Method = Method.PERMIT2) -> Offer:
    made = offers(
        "$0.01",
        NETWORK,
        fresh().address,
        dialects=[Dialect.V2],
        methods=[method],
        scheme=scheme,
        spender=desk.account,
        facilitator=desk.account,
    )
    return made[0]


def signed(payer: Payer, offer: Offer, town: Town) -> Any:
    now, nonce = Seconds(town.ground.rpc.now()), Hash32("0x" + secrets.token_hex(32))
    permit = of(offer).prepare(offer, payer.address, now=now, validity=Seconds(300), nonce=nonce, facts=None)
    return replace(permit, signature=sign(of(offer).digest(permit, offer), payer.key))


def charged(permit: Any, offer: Offer, amount: int) -> dict[str, Any]:
    return request(permit, replace(offer, amount=Amount(amount)))


def test_upto_is_settled_for_less(desk: Desk, town: Town) -> None:
    payer, offer = approving(town), offered(desk, "upto")
    permit = signed(payer, offer, town)
    assert desk.verify(request(permit, offer))["isValid"] is True
    told = desk.settle(charged(permit, offer, 4_000))
    assert (told["success"], told["amount"]) == (True, "4000")
    assert (town.ground.balance(offer.pay_to), town.ground.balance(payer.address)) == (4_000, FUNDS - 4_000)
    assert desk.settle(charged(permit, offer, 4_000)) == told
    # the same permit for another charge: it has been used
    other = desk.settle(charged(permit, offer, 5_000))
    assert (other["success"], other["errorReason"]) == (False, "payment_already_used_for_another_request")
    assert (town.ground.balance(offer.pay_to), desk.sent) == (4_000, 1)


def test_upto_for_nothing_moves_nothing(desk: Desk, town: Town) -> None:
    payer, offer = approving(town), offered(desk, "upto")
    permit = signed(payer, offer, town)
    told = desk.settle(charged(permit, offer, 0))
    assert (told["success"], told["transaction"], told["amount"]) == (True, "", "0")
    assert (desk.sent, town.ground.balance(payer.address)) == (0, FUNDS)


def test_upto_for_all_of_it(desk: Desk, town: Town) -> None:
    payer, offer = approving(town), offered(desk, "upto")
    told = desk.settle(request(signed(payer, offer, town), offer))
    assert (told["success"], told["amount"], town.ground.balance(offer.pay_to)) == (True, str(CEILING), CEILING)


def test_hostile_charges_above_what_was_signed(desk: Desk, town: Town) -> None:
    payer, offer = approving(town), offered(desk, "upto")
    permit = signed(payer, offer, town)
    told = desk.settle(charged(permit, offer, CEILING + 1))
    assert (told["success"], told["errorReason"]) == (False, "invalid_upto_evm_payload_settlement_exceeds_amount")
    raised = charged(permit, offer, CEILING + 1)
    raised["paymentPayload"]["accepted"]["amount"] = str(CEILING + 1)  # the asker lies about what was accepted, too
    assert desk.settle(raised)["success"] is False
    assert (desk.sent, town.ground.balance(payer.address)) == (0, FUNDS)


def test_upto_names_whoever_settles(desk: Desk, town: Town) -> None:
    payer, offer = approving(town), replace(offered(desk, "upto"), facilitator=fresh().address)
    told = desk.settle(request(signed(payer, offer, town), offer))
    assert (told["success"], told["errorReason"], desk.sent) == (False, "upto_facilitator_mismatch", 0)


def test_exact_is_not_settled_for_less(desk: Desk, town: Town) -> None:
    payer, offer = approving(town), offered(desk, "exact")
    permit = signed(payer, offer, town)
    assert desk.settle(charged(permit, offer, 4_000))["errorReason"] == "permit2_amount_mismatch"
    told = desk.settle(request(permit, offer))
    assert (told["success"], town.ground.balance(offer.pay_to), desk.sent) == (True, PRICE, 1)


def test_replay_of_a_nonce_under_another_scheme_is_another_payment(desk: Desk, town: Town) -> None:
    """Permit2 has one nonce for both proxies: an exact payment that settled must not answer for an upto one."""
    payer, offer = approving(town), offered(desk, "exact")
    permit = signed(payer, offer, town)
    assert desk.settle(request(permit, offer))["success"] is True
    upto = replace(offered(desk, "upto"), pay_to=offer.pay_to)
    other = replace(signed(payer, upto, town), nonce=permit.nonce)
    other = replace(other, signature=sign(of(upto).digest(other, upto), payer.key))
    told = desk.settle(request(other, upto))
    assert (told["success"], told["errorReason"]) == (False, "payment_already_used_for_another_request")
    assert (town.ground.balance(offer.pay_to), desk.sent) == (PRICE, 1)


def test_permit2_without_an_allowance(desk: Desk, town: Town) -> None:
    payer, offer = town.ground.payer(), offered(desk, "exact")
    told = desk.settle(request(signed(payer, offer, town), offer))
    assert (told["errorReason"], desk.sent) == ("permit2_allowance_required", 0)


def test_our_own_method_over_x402(desk: Desk, town: Town) -> None:
    payer, offer = town.ground.payer(), offered(desk, "exact", Method.EIP2612)
    permit = payer.permit(offer, town.ground)
    told = desk.settle(request(permit, offer))
    assert (told["success"], town.ground.balance(offer.pay_to)) == (True, PRICE)
    elsewhere = replace(offered(desk, "exact", Method.EIP2612), spender=fresh().address)
    told = desk.settle(request(payer.permit(elsewhere, town.ground), elsewhere))
    assert told["errorReason"] == "invalid_exact_evm_payload_recipient_mismatch"
