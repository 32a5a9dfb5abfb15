"""Prices: exact or refused; never rounded, never a float, never free by accident."""

from __future__ import annotations

import ast
import inspect
import time
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from x402core import money
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.money import (
    AssetAmount,
    Price,
    atomic,
    atomic_to_human,
    decimal_amount,
    format_amount,
    human_to_atomic,
)
from x402core.registry import KNOWN, Asset
from x402core.values import UINT256_MAX, Address, Amount, Network

BASE = Network("eip155:8453")
MEGAETH = Network("eip155:4326")
CELO = Network("eip155:42220")
CUSTOM = Network("eip155:424242")
USDC = KNOWN.default(BASE)
EURC = KNOWN.by_code(BASE, "eurc")
MEGAUSD = KNOWN.default(MEGAETH)
TIGHT = Context(prec=1, Emax=1, Emin=-1)  # whatever the host application set must not matter


def of(decimals: int, symbol: str = "@", code: str = "play") -> Asset:
    address = Address("0x" + "ab" * 20)
    return Asset(CUSTOM, address, code, symbol, "Play", "1", decimals, ("permit2",))


def refused(price: Any, network: Network = BASE, **options: Any) -> str:
    with pytest.raises(LocalProtocolError) as caught:
        atomic(price, network, KNOWN, **options)
    assert caught.value.field == "price"
    assert len(str(caught.value)) < 500
    return caught.value.message


# --- what a price means ---


@pytest.mark.parametrize(
    ("price", "network", "expected"),
    [
        ("$0.01", BASE, (10_000, USDC)),
        ("$1.25", BASE, (1_250_000, USDC)),
        ("$0.000001", BASE, (1, USDC)),
        ("$0.0100000000", BASE, (10_000, USDC)),
        ("$2", BASE, (2_000_000, USDC)),
        ("€2", BASE, (2_000_000, EURC)),
        ("0.01", BASE, (10_000, USDC)),
        ("1", BASE, (1_000_000, USDC)),
        ("0.01 USDC", BASE, (10_000, USDC)),
        ("0.5 eurc", BASE, (500_000, EURC)),
        (Decimal("0.01"), BASE, (10_000, USDC)),
        (Decimal("1E-6"), BASE, (1, USDC)),
        (Decimal("1E+2"), BASE, (100_000_000, USDC)),
        (10_000, BASE, (10_000, USDC)),
        (1, BASE, (1, USDC)),
        ("$0.5", MEGAETH, (5 * 10**17, MEGAUSD)),
        ("$0.000000000000000001", MEGAETH, (1, MEGAUSD)),
        ("1 USDT", CELO, (1_000_000, KNOWN.by_code(CELO, "usdt"))),
        ("1 USDC.e", Network("eip155:190415"), (1_000_000, KNOWN.default("hpp"))),
        (AssetAmount("10000", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"), BASE, (10_000, USDC)),
        (AssetAmount(10_000, USDC.address), BASE, (10_000, USDC)),
        (AssetAmount(10_000, EURC), BASE, (10_000, EURC)),
    ],
    ids=str,
)
def test_what_a_price_means(price: Price, network: Network, expected: tuple[int, Asset]) -> None:
    with localcontext(TIGHT):
        assert atomic(price, network, KNOWN) == expected


def test_Y25_an_asset_of_the_sellers_own_needs_no_registration() -> None:
    assert atomic(AssetAmount("7", of(18)), CUSTOM, KNOWN) == (7, of(18))
    with pytest.raises(LocalProtocolError, match="eip155:424242"):
        atomic(AssetAmount("7", of(18)), BASE, KNOWN)
    assert "with_asset" in refused(AssetAmount("7", of(18).address))


def test_Y12_prices_work_on_a_custom_network() -> None:
    registry = KNOWN.with_asset(of(18), default=True, default_for_symbol=True)
    for price in ("@0.5", "0.5", "0.5 PLAY", Decimal("0.5"), 5 * 10**17):
        assert atomic(price, CUSTOM, registry) == (5 * 10**17, of(18))


def test_Y13_prices_work_under_a_merged_registry() -> None:
    merged = KNOWN | KNOWN.with_asset(of(2, "$"), default=True, default_for_symbol=True)
    assert atomic("$0.05", CUSTOM, merged) == (5, of(2, "$"))
    assert atomic("$0.05", BASE, merged) == (50_000, USDC)


# --- what is no price ---


@pytest.mark.parametrize("price", ["$0.0000009", "$0.0000019", "0.1234567", "1.0000001 USDC", Decimal("1e-7")], ids=str)
def test_Y27_tiny_price_is_refused_not_free(price: Price) -> None:
    assert "multiple of 0.000001" in refused(price)
    assert "multiple of 0.000001" in refused(price, free=True)


@pytest.mark.parametrize("price", ["$0", "0", "0.00", "0 USDC", 0, Decimal(0), Decimal("-0.0"), AssetAmount("0", USDC.address)])
def test_Y27_zero_must_be_asked_for(price: Price) -> None:
    assert "leave the price off what is free" in refused(price)
    assert atomic(price, BASE, KNOWN, free=True) == (0, USDC)


@pytest.mark.parametrize(
    "price", ["$-1", "-1", "-$1", "-0.01 USDC", -1, Decimal("-0.01"), Decimal("-1e-9"), AssetAmount(-1, USDC)]
)
def test_a_negative_price_is_refused_even_if_free(price: Price) -> None:
    assert "negative" in refused(price, free=True)


@pytest.mark.parametrize("price", ["$nan", "NaN", "$Infinity", "-inf", "$sNaN", Decimal("NaN"), Decimal("Infinity")], ids=str)
def test_Y27_nan_and_infinity_are_refused(price: Price) -> None:
    refused(price)


def test_an_endless_nan_is_refused_briefly() -> None:
    refused(Decimal("NaN" + "1" * 10_000))
    refused(Decimal("sNaN"))


def test_Y27_the_empty_string_is_a_clear_error() -> None:
    assert 'write "$0.01"' in refused("")


@pytest.mark.parametrize("price", [True, False])
def test_Y27_a_bool_is_no_price(price: bool) -> None:
    assert "bool" in refused(price)
    refused(AssetAmount(price, USDC))


@pytest.mark.parametrize("price", [0.01, 1.0, 0.0, 1e-7, float("nan"), float("inf")])
def test_A16_a_float_is_refused_with_what_to_write(price: float) -> None:
    assert '"0.01"' in refused(price)
    assert "Decimal" in refused(price)
    refused(AssetAmount(price, USDC))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("price", "why"),
    [
        ("$1e3", "exponent"),
        ("1E-2", "exponent"),
        ("$1,000", "separator"),
        ("1_000", "separator"),
        ("0,01", "separator"),
        ("1.50USDT", "blank"),
        ("$٠.٠١", "digits"),
        ("٣", "digits"),
        ("٣5", "digits"),
        ("0.0１", "digits"),
        (" $0.01", "blanks"),
        ("$0.01\n", "blanks"),
        ("$ 0.01", "blanks"),
        ("$", "no price"),
        ("$.5", "no price"),
        ("5.", "no price"),
        ("1.2.3", "no price"),
        ("007", "no price"),
        ("+1", "no price"),
        ("$$1", "no price"),
        ("1$", "no price"),
        ("0.01  USDC", "no price"),
        ("$0.01 USDC", "no price"),
        ("0x10", "blank"),
        ("free", "no price"),
        ("1" * 401, "too long"),
    ],
)
def test_what_is_no_price_says_why(price: str, why: str) -> None:
    message = refused(price)
    assert why in message
    assert 'write "$0.01"' in message


@pytest.mark.parametrize("price", ["£1", "@0.5", "1 DOGE", "%1"])
def test_A16_an_unknown_currency_is_refused_with_the_known_ones(price: str) -> None:
    assert '"0.01 USDC" or "0.01 EURC"' in refused(price)


def test_a_network_without_a_default_asset_says_so() -> None:
    assert "AssetAmount" in refused("0.01", Network("eip155:31337"))
    assert "AssetAmount" in refused(1, Network("eip155:31337"))
    assert "AssetAmount" in refused("$1", Network("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"))


@pytest.mark.parametrize("amount", ["-5", "abc", "1.5", "", "010", "1_0", " 1", "٣", None, Decimal(5), b"5"])
def test_an_asset_amount_is_checked_at_start_up(amount: Any) -> None:
    refused(AssetAmount(amount, USDC))


@pytest.mark.parametrize("asset", ["bob", "", None, 5, "0x12"])
def test_an_asset_amounts_asset_is_checked(asset: Any) -> None:
    refused(AssetAmount("5", asset))


@pytest.mark.parametrize("price", [None, b"$1", ("$1",), {}, 1j, Fraction(1, 100)], ids=repr)
def test_other_types_are_refused(price: Any) -> None:
    assert "is no price" in refused(price)


@pytest.mark.parametrize(
    "price",
    [2**256, "9" * 390, Decimal("1e77"), Decimal("1e999999"), Decimal("9" * 390), AssetAmount(2**256, USDC), 10**5000],
    ids=lambda price: str(price)[:12] if not isinstance(price, int) else "int",
)
def test_more_than_a_token_can_hold_is_refused(price: Price) -> None:
    refused(price)
    assert atomic(UINT256_MAX, BASE, KNOWN)[0] == UINT256_MAX


@pytest.mark.parametrize("price", [Decimal("1e-999999"), Decimal("1e999999"), Decimal("-1e-999999"), Decimal("1" * 5000)])
def test_an_absurd_exponent_costs_nothing(price: Decimal) -> None:
    started = time.perf_counter()
    refused(price)
    assert time.perf_counter() - started < 0.05


@given(st.text() | st.text(st.sampled_from("$€0123456789.,-+eE USDC"), max_size=12))
def test_whatever_the_text_a_price_or_local_protocol_error(text: str) -> None:
    try:
        amount, asset = atomic(text, BASE, KNOWN)
    except LocalProtocolError as error:
        caught = error
    else:
        assert 0 < amount <= UINT256_MAX
        assert Fraction(amount, 10**asset.decimals) == Fraction(text.strip("$€USDCEuscder "))
        return
    assert caught.field == "price"


@given(st.decimals(), st.integers(0, 255))
def test_whatever_the_decimal_exact_or_refused(price: Decimal, decimals: int) -> None:
    registry = KNOWN.with_asset(of(decimals), default=True)
    try:
        amount, asset = atomic(price, CUSTOM, registry, free=True)
    except LocalProtocolError:
        finite = price.is_finite()
        exact = Fraction(price) * 10**decimals if finite else None
        assert exact is None or exact < 0 or exact.denominator != 1 or exact > UINT256_MAX
        return
    assert Fraction(amount, 10**asset.decimals) == Fraction(price)


# --- writing ---


@pytest.mark.parametrize(
    ("amount", "asset", "text"),
    [
        (10_000, USDC, "$0.01"),
        (1_500_000, USDC, "$1.50"),
        (2_000_000, USDC, "$2"),
        (1, USDC, "$0.000001"),
        (0, USDC, "$0"),
        (500_000, EURC, "€0.50"),
        (500_000, KNOWN.by_code(CELO, "usdt"), "0.5 USDT"),
        (1, MEGAUSD, "$0.000000000000000001"),  # Y27: never "1E-18"
        (7, of(0, ""), "7 PLAY"),
        (10**18, of(18, ""), "1 PLAY"),
        (UINT256_MAX, of(0, ""), f"{UINT256_MAX} PLAY"),
    ],
)
def test_Y27_labels_are_exact_and_plain(amount: int, asset: Asset, text: str) -> None:
    with localcontext(TIGHT):
        assert format_amount(Amount(amount), asset) == text


amounts = st.integers(1, UINT256_MAX).map(Amount) | st.integers(1, 10**9).map(Amount)


@given(amounts, st.integers(0, 255), st.sampled_from(["", "@", "€"]))
def test_what_is_written_is_the_same_price_again(amount: Amount, decimals: int, symbol: str) -> None:
    asset = of(decimals, symbol)
    registry = KNOWN.with_asset(asset, default_for_symbol=bool(symbol))
    with localcontext(TIGHT):
        assert atomic(format_amount(amount, asset), CUSTOM, registry) == (amount, asset)


@given(amounts, st.sampled_from([asset for info in KNOWN.networks() for asset in KNOWN.assets(info.network)]))
def test_every_known_asset_round_trips(amount: Amount, asset: Asset) -> None:
    assert atomic(format_amount(amount, asset), asset.network, KNOWN) == (amount, asset)
    written = format(decimal_amount(amount, asset), "f")
    assert atomic(f"{written} {asset.code}", asset.network, KNOWN) == (amount, asset)
    assert atomic(decimal_amount(amount, asset), asset.network, KNOWN)[0] == amount or asset != KNOWN.default(asset.network)


def test_decimal_amount_is_exact() -> None:
    with localcontext(TIGHT):
        assert str(decimal_amount(Amount(1_234_560_000), USDC)) == "1234.56"
        assert str(decimal_amount(Amount(0), USDC)) == "0"
        assert decimal_amount(Amount(UINT256_MAX), MEGAUSD).as_tuple().exponent == -18


# --- the permit-token dialect's human amounts ---


@pytest.mark.parametrize(
    ("number", "decimals", "expected"),
    [
        (Decimal("0.5"), 6, 500_000),
        (Decimal("0.50"), 6, 500_000),
        (Decimal("1E-6"), 6, 1),
        (1, 6, 1_000_000),  # A16: an int is an amount too
        (0, 6, 0),
        (Decimal("0.0"), 6, 0),
        (Decimal("-0.0"), 6, 0),
        (Decimal("1.5E+1"), 0, 15),
        (UINT256_MAX, 0, UINT256_MAX),
    ],
)
def test_A16_human_amounts_are_exact(number: int | Decimal, decimals: int, expected: int) -> None:
    with localcontext(TIGHT):
        assert human_to_atomic(number, decimals) == expected


@pytest.mark.parametrize(
    "number",
    [
        *(Decimal("1e-7"), Decimal("0.1234567"), -1, Decimal("-0.5"), Decimal("NaN"), Decimal("Infinity"), True, 0.5, "0.5"),
        *(None, 2**256, Decimal("1e999999"), Decimal("1e-999999"), Decimal("1" * 5000)),
    ],
    ids=lambda number: str(number)[:12],
)
def test_A16_a_human_amount_that_is_not_exact_is_the_peers_error(number: Any) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        human_to_atomic(number, 6, "/payment_components/0/amount")
    assert caught.value.pointer == "/payment_components/0/amount"


def test_A5_a_cap_compares_atomic_units_of_our_own_decimals() -> None:
    offered = Decimal("0.5")  # the server also says "decimals": 18, which nobody asks about
    cap, asset = atomic("0.8", BASE, KNOWN)
    assert human_to_atomic(offered, asset.decimals) == 500_000 <= cap
    assert human_to_atomic(offered, 18) > cap  # what the seed signed


@given(amounts, st.integers(0, 77))
def test_human_amounts_round_trip(amount: Amount, decimals: int) -> None:
    with localcontext(TIGHT):
        human = atomic_to_human(amount, decimals)
        assert human_to_atomic(human, decimals) == amount
    assert Fraction(human) == Fraction(amount, 10**decimals)
    exponent = human.as_tuple().exponent
    assert isinstance(exponent, int)
    assert -decimals <= exponent <= 0


@given(st.integers() | st.decimals(), st.integers(0, 255))
def test_whatever_the_number_an_exact_amount_or_remote_protocol_error(number: int | Decimal, decimals: int) -> None:
    try:
        amount = human_to_atomic(number, decimals)
    except RemoteProtocolError:
        assume(isinstance(number, int) or number.is_finite())
        exact = Fraction(number) * 10**decimals
        assert exact.denominator != 1 or not 0 <= exact <= UINT256_MAX
        return
    assert Fraction(amount, 10**decimals) == Fraction(number)


def test_no_float_arithmetic_anywhere() -> None:
    tree = ast.parse(inspect.getsource(money))
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
        assert not isinstance(node, ast.Div)
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"float", "round"})
