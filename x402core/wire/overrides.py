"""``Settlement-Overrides``: how a handler says what to charge of an ``upto`` ceiling (x402.md 1.4).

The text is the seller's own handler's, so what is wrong with it is a mistake of ours, never the payer's: nothing is charged
then, because a handler that meant to charge less must not charge all.
"""

from __future__ import annotations

import re
from decimal import ROUND_FLOOR, Decimal
from typing import Final

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.events import Offer
from x402core.values import Amount

from .json import Fields, loads

__all__ = ["SETTLEMENT_OVERRIDES", "charged"]

SETTLEMENT_OVERRIDES: Final = "Settlement-Overrides"
_AMOUNT = re.compile(
    r"(?P<atomic>[0-9]{1,78})|(?P<percent>[0-9]{1,3}(?:\.[0-9]{1,2})?)%|\$(?P<dollars>[0-9]{1,30}(?:\.[0-9]{1,36})?)"
)


def charged(overrides: str | None, offer: Offer) -> Amount:
    """Return the atomic units to charge: all of the offer's without overrides, else what their ``amount`` says.

    ``"1000"`` is atomic units, ``"50%"`` a share of the ceiling (two decimals at most, rounded down), ``"$0.05"`` the
    asset's own unit, exact.  Raises: LocalProtocolError for anything else, and for more than the ceiling.
    """
    if overrides is None:
        return offer.amount
    try:
        text = Fields(loads(overrides.encode(), most=1024), "", SETTLEMENT_OVERRIDES).text("amount", most=80)
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.text, field=SETTLEMENT_OVERRIDES) from None
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise LocalProtocolError('write "1000", "50%" or "$0.05" as the amount', field=SETTLEMENT_OVERRIDES)
    amount = _amount(found, offer)
    if amount > offer.amount:
        raise LocalProtocolError(f"{amount} is more than the ceiling of {offer.amount}", field=SETTLEMENT_OVERRIDES)
    return Amount(amount)


def _amount(found: re.Match[str], offer: Offer) -> int:
    if found["atomic"] is not None:
        return int(found["atomic"])
    if found["percent"] is not None:
        share = Decimal(found["percent"]) * 100
        return offer.amount * int(share.to_integral_value(ROUND_FLOOR)) // 10_000
    if offer.decimals is None:
        raise LocalProtocolError("the offer does not say its asset's decimals", field=SETTLEMENT_OVERRIDES)
    whole, _, part = found["dollars"].partition(".")
    if len(part.rstrip("0")) > offer.decimals:
        raise LocalProtocolError("finer than the asset's smallest unit", field=SETTLEMENT_OVERRIDES)
    return int(whole + part[: offer.decimals].ljust(offer.decimals, "0"))
