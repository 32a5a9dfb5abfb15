"""y402 1.1.0's defects in setup and prices (seeds.md 3.3): for each, that it cannot happen here."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import x402bind.compat.y402
from tests.compat.y402.ground import base_sepolia
from x402bind.compat.y402.core.types.eip712 import EIP712Domain
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.requirements import RequirePaymentDetails, TokenAmount, TokenAsset
from x402bind.compat.y402.core.types.setup import Y402Setup
from x402bind.compat.y402.core.utils.prices import offers_of, resolve_final_payment

PAYEE = "0x" + "22" * 20
MINE = "0x" + "aB" * 20
LATER = {4, 5}  # there are no webhook workers yet
"""Storage and workers, which are another issue's."""


def setup_of(*tokens: str, network: str = "base", default: str | None = None) -> Y402Setup:
    setup = Y402Setup()
    setup.add_network(network)
    for code in tokens:
        setup.add_token(network, code, default_for_symbol=True)
    if default is not None:
        setup.set_default_token(network, default)
    return setup


def costs(price: Any, network: str = "base") -> RequirePaymentDetails:
    return RequirePaymentDetails(network=network, price=price, pay_to_address=PAYEE)


def amount(price: Any, setup: Y402Setup | None = None, network: str = "base-sepolia") -> int:
    return int(resolve_final_payment(costs(price, network), setup or base_sepolia()).amount_required)


@pytest.mark.parametrize("network", ["base", "base-sepolia", "avalanche", "avalanche-fuji", "sei", "sei-testnet", "polygon"])
def test_Y11_a_known_token_needs_its_code_only(network: str) -> None:
    setup = Y402Setup()
    setup.add_network(f" {network.upper()} ")
    setup.add_token(network, "USDC")
    assert setup.list_tokens(network) == ["usdc"]
    assert setup.get_token_metadata(network, "usdc")[1::2] == ("$", "2")


def test_Y11_a_symbol_is_one_sign_or_none() -> None:
    setup = Y402Setup()
    setup.add_network("mine", 1234567)
    setup.add_token("mine", "plain", "Plain", MINE, "1", 18)
    for wrong in ("$$", "1", " ", "."):
        with pytest.raises(MisconfigurationError, match="symbol"):
            setup.add_token("mine", "other", "Other", PAYEE, "1", 18, wrong)


def test_Y12_a_network_of_ones_own_takes_tokens() -> None:
    setup = Y402Setup()
    setup.add_network("mine", 1234567)
    setup.add_token("mine", "my", "My Token", MINE, "1", 18, "@", default_for_symbol=True)
    assert setup.parse_price_label("mine", "@0.5") == ("my", str(5 * 10**17))
    (v2, v1) = offers_of(costs("@0.5", "mine"), setup, timeout=60)
    assert (v2.network, v2.asset, v2.name, v1.amount) == ("eip155:1234567", MINE.lower(), "My Token", 5 * 10**17)
    with pytest.raises(MisconfigurationError, match="chain_id"):
        setup.add_network("nameless")
    with pytest.raises(MisconfigurationError, match="8453"):
        setup.add_network("base", 1)


def test_Y13_merging_keeps_tokens_and_every_default_and_changes_neither() -> None:
    left, right = setup_of("usdc", default="usdc"), setup_of("eurc", network="base")
    right.add_network("mine", 1234567)
    right.add_token("mine", "my", "My Token", MINE, "1", 18, "@", default_for_symbol=True)
    right.set_default_token("mine", "my")
    merged = left | right
    assert merged.list_tokens("base") == ["usdc", "eurc"]
    assert [merged.parse_price_label("base", label)[0] for label in ("$1", "€1")] == ["usdc", "eurc"]
    assert (merged.get_default_token("base"), merged.get_default_token("mine")) == ("usdc", "my")
    assert (left.list_tokens("base"), right.list_tokens("base")) == (["usdc"], ["eurc"])


def test_Y13_a_code_that_means_two_tokens_is_refused() -> None:
    left, right = setup_of("usdc"), Y402Setup()
    right.add_network("base")
    right.add_token("base", "usdc", "Other", MINE, "1", 18)
    with pytest.raises(MisconfigurationError, match="two tokens"):
        left | right


@st.composite
def setups(draw: st.DrawFn) -> Y402Setup:
    setup = Y402Setup()
    for network in draw(st.sets(st.sampled_from(["base", "base-sepolia", "avalanche"]))):
        setup.add_network(network)
        for code in draw(st.sets(st.sampled_from(["usdc", "eurc"]))):
            setup.add_token(network, code, default_for_symbol=draw(st.booleans()))
            if draw(st.booleans()):
                setup.set_default_token(network, code)
    return setup


def told(setup: Y402Setup) -> object:
    return {
        name: (sorted(setup.list_tokens(name)), setup.get_default_token(name), sorted(_signs(setup, name)))
        for name in sorted(setup.get_chain_ids_mapping())
    }


def _signs(setup: Y402Setup, name: str) -> list[str]:
    found = []
    for sign in "$€":
        try:
            found.append(sign + setup.parse_price_label(name, f"{sign}1")[0])
        except MisconfigurationError:
            continue
    return found


@given(setups(), setups(), setups())
def test_Y13_merging_is_associative_and_the_empty_setup_changes_nothing(a: Y402Setup, b: Y402Setup, c: Y402Setup) -> None:
    assert told((a | b) | c) == told(a | (b | c))
    assert told(a | Y402Setup()) == told(Y402Setup() | a) == told(a)


def test_Y19_nothing_here_needs_more_than_python_311() -> None:
    package = x402bind.compat.y402
    for file in Path(next(iter(package.__path__))).rglob("*.py"):
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 11))
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "streamlit" not in module.name:
            importlib.import_module(module.name)


@pytest.mark.parametrize(
    ("price", "atomic"),
    [("$1.25", 1_250_000), ("1.25", 1_250_000), ("$0.000001", 1), (7, 7), (Decimal("0.5"), 500_000), ("2 USDC", 2_000_000)],
)
def test_Y27_a_price_is_exact(price: Any, atomic: int) -> None:
    assert amount(price) == atomic


@pytest.mark.parametrize(
    "price",
    ["$0.0000009", "$0.0000019", "$0", 0, "", " ", "$", "$nan", "$inf", "$-1", -1, "$1,000", "$1e3", "£1", True, 0.1, None],
)
def test_Y27_or_it_is_refused_by_name(price: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"price|symbol") as refused:
        amount(price)
    assert refused.value.field == "price"


def test_Y27_a_label_is_written_as_people_write() -> None:
    setup = Y402Setup()
    setup.add_network("mine", 1234567)
    setup.add_token("mine", "my", "My Token", MINE, "1", 18, "@")
    setup.add_token("mine", "plain", "Plain", PAYEE, "1", 10)
    assert setup.get_payment_data("mine", MINE.lower(), "1")[3] == "@0.000000000000000001"
    assert setup.get_payment_data("mine", PAYEE, "150000")[3] == "0.000015"


def test_Y25_a_token_amount_needs_no_setup_and_any_letter_case() -> None:
    asset = TokenAsset(address=MINE.upper().replace("0X", "0x"), decimals=18, eip712=EIP712Domain(name="Token!", version="3"))
    price = TokenAmount(amount="123", asset=asset)
    assert amount(price) == 123
    (offer, _) = offers_of(costs(price, "base-sepolia"), base_sepolia(), timeout=60)
    assert (offer.asset, offer.name, offer.version, offer.decimals) == (MINE.lower(), "Token!", "3", 18)
    for wrong in ("1.5", "-1", "", "1e3", True, 1.0):
        with pytest.raises(MisconfigurationError, match="amount"):
            TokenAmount(amount=wrong, asset=asset)  # type: ignore[arg-type]


def test_every_defect_has_a_test_but_those_of_the_webhook_workers() -> None:
    files = Path(__file__).parent.glob("test_defects_y*.py")
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    found = {int(number) for number in re.findall(r"^def test_Y(\d+)_", text, re.MULTILINE)}
    assert found == set(range(1, 31)) - LATER
