"""What an endpoint costs, as sellers write it; and what a 402 of x402 v1 says, as selectors are shown it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from x402core.errors import RemoteProtocolError
from x402core.values import parse_address, parse_amount

from .eip712 import EIP712Domain
from .errors import MisconfigurationError

__all__ = ["FinalRequiredPaymentDetails", "PaymentRequirements", "Price", "RequirePaymentDetails", "TokenAmount", "TokenAsset"]


def _address(value: object, field: str) -> str:
    try:
        return parse_address(value)
    except RemoteProtocolError as error:
        raise MisconfigurationError(error.text, field=field) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAsset:
    """A token by its ``address``, in any letter case (Y25), which need not be in the setup.

    Raises: MisconfigurationError naming the field.
    """

    address: str
    decimals: int
    eip712: EIP712Domain

    def __post_init__(self) -> None:
        _address(self.address, "address")
        if isinstance(self.decimals, bool) or not isinstance(self.decimals, int) or not 0 <= self.decimals <= 255:
            raise MisconfigurationError("write a whole number from 0 to 255", field="decimals")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAmount:
    """``amount`` of the token's minimal units, as digits or an int.  Raises: MisconfigurationError for what is no amount."""

    amount: str | int
    asset: TokenAsset

    def __post_init__(self) -> None:
        try:
            parse_amount(str(self.amount) if type(self.amount) is int else self.amount)
        except RemoteProtocolError as error:
            raise MisconfigurationError(error.text, field="amount") from None


Price: TypeAlias = str | int | Decimal | TokenAmount
"""``"$1.25"``; minimal units of the network's default token; units of it as a Decimal; or just that much of just that token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirePaymentDetails:
    """One way to pay: a price on a network of the setup, to an address.

    Whether the price means an amount is known only with a setup: it is refused when the endpoint is set up, not when the
    first payer comes.  Raises: MisconfigurationError naming the field.
    """

    scheme: Literal["exact"] = "exact"
    network: str
    price: Price
    pay_to_address: str

    def __post_init__(self) -> None:
        if self.scheme != "exact":
            raise MisconfigurationError("'exact' is the only one", field="scheme")
        if not isinstance(self.network, str) or not self.network.strip():
            raise MisconfigurationError("name a network of the setup", field="network")
        if int(_address(self.pay_to_address, "pay_to_address"), 16) == 0:
            raise MisconfigurationError("the zero address cannot be a payee", field="pay_to_address")
        if isinstance(self.price, bool) or not isinstance(self.price, str | int | Decimal | TokenAmount):
            raise MisconfigurationError(
                'write "$1.25", a whole number of minimal units, a Decimal or a TokenAmount', field="price"
            )
        if self.price == "":
            raise MisconfigurationError("an empty string is no price", field="price")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequirements:
    """One entry of a v1 402's ``accepts``, as a requirements selector is shown it; amounts are minimal units, as digits."""

    scheme: str = "exact"
    network: str
    max_amount_required: str
    resource: str = ""
    description: str = ""
    mime_type: str = "application/json"
    output_schema: Any = None
    pay_to: str
    max_timeout_seconds: int
    asset: str
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRequiredPaymentDetails:
    """A price worked out: ``amount_required`` in minimal units, as digits, of the token at ``asset_address``."""

    scheme: str = "exact"
    network: str
    asset_address: str
    amount_required: str
    pay_to_address: str
    eip712_domain: Mapping[str, str]
