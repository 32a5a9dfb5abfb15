"""Prices worked out: what a seller wrote, by a setup, as offers of the core."""

from __future__ import annotations

import re
from typing import Final

from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.requirements import FinalRequiredPaymentDetails, RequirePaymentDetails, TokenAmount
from x402bind.compat.y402.core.types.setup import Y402Setup
from x402core.errors import LocalProtocolError
from x402core.events import Dialect, Offer, SettleMode
from x402core.evm.address import checksum
from x402core.money import AssetAmount
from x402core.policy import offers
from x402core.registry import Asset
from x402core.values import Amount, Network, local, parse_address

__all__ = ["PriceComputingError", "offers_of", "resolve_final_payment"]

_DIALECTS: Final = (Dialect.V2, Dialect.V1)
_WORD: Final = re.compile(r"[^a-z0-9._-]+")


class PriceComputingError(MisconfigurationError):
    """A price that means no amount."""


def offers_of(
    details: RequirePaymentDetails, setup: Y402Setup, *, timeout: int, settle: SettleMode = SettleMode.AFTER
) -> tuple[Offer, ...]:
    """Return one way to pay in every dialect that says it; ``timeout`` in seconds.

    Raises: PriceComputingError, MisconfigurationError naming the argument.
    """
    amount, asset = _priced(details, setup)
    try:
        return offers(
            AssetAmount(amount, asset),
            asset.network,
            details.pay_to_address,
            dialects=_DIALECTS,
            settle=settle,
            timeout=timeout,
            methods=("eip3009",),
            registry=setup.registry(),
        )
    except LocalProtocolError as error:
        raise PriceComputingError(error.message.removeprefix(f"{error.field}: "), field=error.field) from None


def resolve_final_payment(required_payment: RequirePaymentDetails, setup: Y402Setup) -> FinalRequiredPaymentDetails:
    """Return a price worked out, in y402's words.  Raises: as :func:`offers_of`."""
    amount, asset = _priced(required_payment, setup)
    return FinalRequiredPaymentDetails(
        network=required_payment.network,
        asset_address=checksum(asset.address),
        amount_required=str(amount),
        pay_to_address=required_payment.pay_to_address,
        eip712_domain={"name": asset.name, "version": asset.version},
    )


def _priced(details: RequirePaymentDetails, setup: Y402Setup) -> tuple[Amount, Asset]:
    network = setup.network(details.network)
    price = details.price
    if isinstance(price, TokenAmount):
        amount = Amount(int(price.amount))
        if amount == 0:
            raise PriceComputingError("a price of zero gives the endpoint away", field="price")
        return amount, _described(price, network)
    asset, amount = setup.priced(details.network, price)
    return amount, asset


def _described(price: TokenAmount, network: Network) -> Asset:
    """Return a token as the price itself describes it: it need not be in the setup (Y25)."""
    told, address = price.asset, local(parse_address, price.asset.address, "address")
    code = _WORD.sub("-", told.eip712.name.lower()).strip("-._")[:32] or f"t{address[2:10]}"
    return Asset(network, address, code, "", told.eip712.name, told.eip712.version, told.decimals, ("eip3009",))
