"""Which of several offers is paid, and by which method a price is offered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from x402core.errors import LocalProtocolError
from x402core.events import Challenge, Dialect, Method, Offer, SettleMode
from x402core.policy import PayerPolicy, choose, offers
from x402core.registry import KNOWN
from x402core.values import Amount

NETWORK, PAYEE, SETTLER = "eip155:84532", "0x" + "11" * 20, "0x" + "22" * 20
PAYER = PayerPolicy.up_to("$0.05", NETWORK)


def offered(*methods: str) -> tuple[Offer, ...]:
    return offers("$0.01", NETWORK, PAYEE, dialects=(Dialect.V2,), methods=methods)


def test_permit2_pays_any_token() -> None:
    assert "permit2" not in KNOWN.default(NETWORK).methods
    (offer,) = offered("permit2")
    assert choose(PAYER, Challenge((offer,))) == offer


def test_the_token_s_own_way_comes_before_permit2_whatever_the_server_prefers() -> None:
    """Permit2 takes an allowance, which a payer may not have given."""
    permit2, own = offered("permit2", "eip3009")
    assert choose(PAYER, Challenge((permit2, own))) == own
    dear = replace(own, amount=own.amount * 100)
    assert choose(PAYER, Challenge((permit2, dear))) == permit2


def test_a_ceiling_is_offered_by_permit2_for_a_token_that_has_ways_of_its_own() -> None:
    made = offers("$0.01", NETWORK, PAYEE, scheme="upto", facilitator=SETTLER)
    assert [(offer.dialect, offer.scheme, offer.method) for offer in made] == [(Dialect.V2, "upto", Method.PERMIT2)]


def test_a_price_is_offered_by_the_token_s_own_way() -> None:
    made = offers("$0.01", NETWORK, PAYEE, dialects=(Dialect.V2,))
    assert [offer.method for offer in made] == [Method.EIP3009]


@pytest.mark.parametrize(
    "typed", ["0x9965507D1a55bcC2695C58ba16FB37d819B0A5dc", "0x9965507D1a55bcC2695C58ba16FB37d819B0A4DC"], ids=["digit", "case"]
)
def test_a_mistyped_payee_is_refused(typed: str) -> None:
    """EIP-55: what somebody configured in mixed case has to be right; without case there is nothing to check it by."""
    right = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"
    for fine in (right, right.lower(), "0x" + right[2:].upper()):
        offers("$0.01", "base-sepolia", fine)
    with pytest.raises(LocalProtocolError, match="EIP-55") as error:
        offers("$0.01", "base-sepolia", typed)
    assert error.value.field == "pay_to"


def test_of_offers_that_differ_in_price_alone_the_cheapest_is_paid() -> None:
    (offer,) = offered("eip3009")
    dear, cheap = replace(offer, amount=Amount(9_000)), replace(offer, amount=Amount(8_000))
    over = replace(offer, amount=Amount(10**9))
    for several in ((dear, cheap), (cheap, dear), (over, dear, cheap)):
        assert choose(PAYER, Challenge(several)) == cheap
    before = replace(cheap, settle=SettleMode.BEFORE)  # another way of paying is the server's to prefer
    assert choose(PAYER, Challenge((dear, before))) == dear
