"""Prices: what a seller writes, in atomic units, exactly or not at all.

A price that is not a whole number of atomic units is refused, not rounded: rounding is how ``"$0.0000009"`` became free of
charge (seeds.md Y27).  Zero has to be asked for.  A ``float`` is refused whatever its value, since 0.1 is not a tenth.  All
arithmetic is on integers; ``Decimal`` is only ever taken apart or put together, so the caller's decimal context has no say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

from .errors import LocalProtocolError, RemoteProtocolError
from .registry import Asset, Registry
from .values import UINT256_MAX, Address, Amount, Network, local, parse_address, parse_amount

__all__ = [
    "AssetAmount",
    "Price",
    "atomic",
    "atomic_to_human",
    "decimal_amount",
    "format_amount",
    "human_to_atomic",
]

_PRICE = re.compile(r"([^0-9A-Za-z.,+_\s-]?)((?:0|[1-9][0-9]*)(?:\.[0-9]+)?)(?: ([A-Za-z0-9._-]+))?", re.ASCII)
_LONGEST: Final = 400  # characters or digits: 2**256 at 255 decimals has 333
_HOW: Final = 'write "$0.01", "0.01 USDC", "0.01", Decimal("0.01") or a whole number of atomic units'


@dataclass(frozen=True, slots=True)
class AssetAmount:
    """A price in a given asset: ``amount`` atomic units (or their decimal digits) of ``asset``, by address or in full."""

    amount: Amount | int | str
    asset: Address | str | Asset


Price: TypeAlias = str | int | Decimal | AssetAmount
"""A price as a seller writes it; :func:`atomic` says what each form means."""


def atomic(price: Price, network: Network, registry: Registry, *, free: bool = False) -> tuple[Amount, Asset]:
    """Return what a price is in atomic units, and of which asset on ``network``.

    * ``"$0.01"``, ``"€2"``: of the asset the sign means there;
    * ``"0.01 USDC"``: of the asset with that code, after one blank;
    * ``"0.01"``, ``Decimal("0.01")``: of the default asset;
    * ``10000``, an int: *atomic units* of the default asset;
    * :class:`AssetAmount`: exactly that.  An address must be in the registry; a whole :class:`Asset` need not be.

    Raises: LocalProtocolError(field="price") saying what to write, for all else: a fraction of an atomic unit, more than
    2**256-1, zero unless ``free``, a minus sign, an exponent, a thousands separator, digits that are not ASCII, NaN,
    Infinity, bool, float.  Source: x402.md 5.1 "Price parsing", seeds.md 2.2.
    """
    if isinstance(price, AssetAmount):
        amount, asset = _asset_amount(price, network, registry)
    elif isinstance(price, str):
        amount, asset = _written(price, network, registry)
    elif isinstance(price, bool):
        raise _refused(f"a bool is no price; {_HOW}")
    elif isinstance(price, int):
        asset = registry.default(network, field="price")
        amount = price
    elif isinstance(price, Decimal):
        asset = registry.default(network, field="price")
        amount = _exact(*_parts(price), asset)
    elif isinstance(price, float):
        raise _refused('a float is not exact money; write the price as a string "0.01" or as Decimal("0.01")')
    else:
        raise _refused(f"{type(price).__name__} is no price; {_HOW}")
    return _payable(amount, free), asset


def _refused(message: str) -> LocalProtocolError:
    return LocalProtocolError(message, field="price")


def _payable(amount: int, free: bool) -> Amount:
    if amount < 0:
        raise _refused(f"a price cannot be negative; {_HOW}")
    if amount == 0 and not free:
        raise _refused("a price of zero gives the resource away; write a positive amount, or leave the price off what is free")
    if amount > UINT256_MAX:
        raise _refused("more than a token can hold (2**256-1 atomic units); write a smaller amount")
    return Amount(amount)


def _asset_amount(price: AssetAmount, network: Network, registry: Registry) -> tuple[int, Asset]:
    amount = price.amount
    if isinstance(amount, str):
        amount = local(parse_amount, amount, "price")
    elif isinstance(amount, bool) or not isinstance(amount, int):
        kind = type(amount).__name__
        raise _refused(f'an AssetAmount counts atomic units: write 10000 or "10000", not a {kind}')
    asset = price.asset
    if not isinstance(asset, Asset):
        address = local(parse_address, asset, "price")
        found = registry.asset(network, address)
        if found is None:
            raise _refused(f"{address} is not a registered asset of {network}; write an Asset, or add it using with_asset")
        asset = found
    elif asset.network != registry.resolve(network):
        raise _refused(f"the asset is on {asset.network}, not on {network}; write one of {network}'s")
    return amount, asset


def _written(text: str, network: Network, registry: Registry) -> tuple[int, Asset]:
    match = _PRICE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or match[1].isalnum() or (match[1] and match[3]):
        raise _refused(f"{_why(text)}; {_HOW}")
    sign, number, code = match.groups()
    if sign:
        asset = registry.by_symbol(network, sign, field="price")
    elif code:
        asset = registry.by_code(network, code, field="price")
    else:
        asset = registry.default(network, field="price")
    whole, _, fraction = number.partition(".")
    return _exact(int(whole + fraction), -len(fraction), asset), asset


def _why(text: str) -> str:
    """Say what is wrong with a price that is not one, for the most likely reasons."""
    number = text.lstrip("$€£¥")
    if not text:
        return "an empty string is no price"
    if len(text) > _LONGEST:
        return "too long to be a price"
    if re.match(r"[0-9.]+[eE][-+]?[0-9]", number, re.ASCII):
        return "no exponents"
    if "-" in text:
        return "a price cannot be negative"
    if "," in text or "_" in text:
        return "no thousands separator or decimal comma"
    if any(char.isalnum() and not char.isascii() for char in number):
        return "only the digits 0 to 9"
    if text != text.strip() or number != number.strip():
        return "no blanks around the number"
    if re.match(r"[0-9.]+[A-Za-z]", number, re.ASCII):
        return "one blank between number and code"
    return f"{text[:64]!r} is no price"


def _parts(number: Decimal) -> tuple[int, int]:
    """Return (coefficient, exponent) of a price; the number is coefficient * 10**exponent."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):  # NaN and the infinities have a letter there
        raise _refused(f"NaN and Infinity are no prices; {_HOW}")
    if len(digits) > _LONGEST:
        raise _refused(f"too many digits to be a price; {_HOW}")
    coefficient = int("".join(map(str, digits)))
    if sign and coefficient:
        raise _refused(f"a price cannot be negative; {_HOW}")
    return coefficient, exponent


def _exact(coefficient: int, exponent: int, asset: Asset) -> int:
    amount = _scaled(coefficient, exponent + asset.decimals)
    if amount is None:
        smallest = format(atomic_to_human(Amount(1), asset.decimals), "f")
        raise _refused(
            f"{asset.code.upper()} has {asset.decimals} decimals and a price is never rounded; write a multiple of {smallest}"
        )
    return amount


def _scaled(coefficient: int, shift: int) -> int | None:
    """Return coefficient * 10**shift if it is whole, else None; beyond 2**256 the power may come short.

    Never builds a power of ten that the answer does not need: ``Decimal("1e-999999999")`` costs nothing.
    """
    if coefficient == 0:
        return 0
    if shift >= 0:
        return coefficient * int(10 ** min(shift, 78))  # already beyond 2**256
    if -shift > _LONGEST:  # longer than any coefficient that gets here
        return None
    amount, rest = divmod(coefficient, 10**-shift)
    return None if rest else amount


def format_amount(amount: Amount, asset: Asset) -> str:
    """Write an amount for people, exactly: ``$0.01`` with the asset's sign, else ``0.5 USDC`` with its code.

    A sign comes with two decimals or more, or none: ``$1.50``, ``$2``.  :func:`atomic` reads back the same amount, and the
    same asset where the asset is its sign's default.
    """
    text = format(decimal_amount(amount, asset), "f")
    if not asset.symbol:
        return f"{text} {asset.code.upper()}"
    whole, point, fraction = text.partition(".")
    return f"{asset.symbol}{whole}{point}{fraction.ljust(2, '0') if point else ''}"


def decimal_amount(amount: Amount, asset: Asset) -> Decimal:
    """Return an amount in units of its asset, exactly, without trailing zeros: 10000 of USDC is Decimal("0.01")."""
    return atomic_to_human(amount, asset.decimals)


# --- human amounts on the wire (the permit-token dialect) ---


def human_to_atomic(number: int | Decimal, decimals: int, at: str = "") -> Amount:
    """Return the atomic units of a human amount that a peer sent as a JSON number, such as ``0.5``.

    ``decimals`` is the asset's own, from our registry or the chain, never the peer's word (A5).

    Raises: RemoteProtocolError with pointer ``at`` for a fraction of an atomic unit, a negative or non-finite number, or
    more than 2**256-1: never rounded, in nobody's favour (A16).  Source: seeds.md 1.2.
    """
    if isinstance(number, bool) or not isinstance(number, (int, Decimal)):
        raise RemoteProtocolError("expected an amount as a number", pointer=at)
    coefficient, exponent = number, 0
    if isinstance(number, Decimal):
        sign, digits, power = number.as_tuple()
        if not isinstance(power, int) or len(digits) > _LONGEST:
            raise RemoteProtocolError("not an amount", pointer=at)
        coefficient, exponent = int("".join(map(str, digits))) * (-1 if sign else 1), power
    amount = _scaled(int(coefficient), exponent + decimals)
    if amount is None:
        raise RemoteProtocolError(f"more than {decimals} decimals", pointer=at)
    if not 0 <= amount <= UINT256_MAX:
        raise RemoteProtocolError("amount out of range", pointer=at)
    return Amount(amount)


def atomic_to_human(amount: Amount, decimals: int) -> Decimal:
    """Return atomic units as an exact human number without trailing zeros, to be written as a JSON number."""
    digits = str(amount)
    if decimals:
        digits = digits.rjust(decimals + 1, "0")
        digits = f"{digits[:-decimals]}.{digits[-decimals:]}".rstrip("0").rstrip(".")
    return Decimal(digits)
