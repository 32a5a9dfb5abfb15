"""The official SDK's client before a hostile 402 (official-sdk.md 5, "Client against a hostile 402"): ours, in both worlds.

The 402 is a real shop's with lies in it, served by a server on loopback; a signer counts what it is asked to sign.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.shop import FUNDS, NETWORK, Ground, Payer, Shop, client, on_devnet
from tests.test_seed_defects_client import Asked, Hostile, pay, told
from x402bind.clients.httpx import async_paying_client, outcome_of, paying_client, raise_for_payment
from x402bind.clients.purse import Budget, Purse
from x402bind.errors import PaymentDeclined, PaymentError
from x402core.commands import OutcomeKind
from x402core.errors import LocalProtocolError, Reason
from x402core.events import Dialect
from x402core.policy import PayerPolicy
from x402core.wire import v2

K, R = OutcomeKind, Reason
Document = dict[str, Any]
both_worlds = pytest.mark.parametrize("how", ["sync", "async"])
both = pytest.mark.parametrize("version", [2, 1], ids=["v2", "v1"])


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture(scope="module")
def terms(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Document]:
    """The 402 of a shop of ours, as v2 and as v1 says it."""
    with Shop(ground, tmp_path_factory.mktemp("terms")) as shop:
        answer = httpx.get(shop.paid)
    first = {name: answer.json()[name] for name in ("x402Version", "error", "accepts")}
    return {2: json.loads(base64.b64decode(answer.headers[v2.PAYMENT_REQUIRED])), 1: first}


@dataclass
class Counting:
    """A signer that remembers what it was asked to sign."""

    payer: Payer
    asked: list[Any] = field(default_factory=list)

    @property
    def address(self) -> Any:
        return self.payer.address

    def sign(self, command: Any) -> Any:
        self.asked.append(command)
        return self.payer.signer.sign(command)


def offering(document: Document) -> Callable[[Asked], tuple[int, dict[str, str], bytes]]:
    """Serve a 402 where its version has it."""
    body = json.dumps(document).encode()
    if document.get("x402Version") == 1:
        return lambda _: (402, {"Content-Type": "application/json"}, body)
    return lambda _: (402, {v2.PAYMENT_REQUIRED: base64.b64encode(body).decode()}, b"{}")


def lying(terms: dict[int, Document], version: int, **changed: Any) -> Document:
    """Return a 402 whose one offer was changed: by member, or by ``edit``."""
    document = deepcopy(terms[version])
    (offer,) = document["accepts"]
    edit = changed.pop("edit", None)
    if edit is not None:
        edit(document)
    if version == 1 and "amount" in changed:
        changed["maxAmountRequired"] = changed.pop("amount")
    if version == 1 and changed.get("network") == "eip155:8453":
        changed["network"] = "base"
    offer.update(changed)
    return document


def asked_by(document: Document, signer: Counting, how: str = "sync", most: str = "$1") -> httpx.Response:
    """Send a client that pays up to a dollar to a server with these terms."""
    with Hostile(offering(document)) as hostile:
        return pay(how, Purse(signer, PayerPolicy.up_to(most, NETWORK)), f"{hostile.url}/paid")


def unsigned(answer: httpx.Response, signer: Counting, *reasons: Reason) -> None:
    """Assert that nothing was signed, and that the caller is told so by an error of one type."""
    assert (answer.status_code, signer.asked) == (402, [])
    outcome = told(answer)
    assert (outcome.kind in (K.DECLINED, K.FAILED, K.FREE), outcome.amount, outcome.exposed_until) == (True, 0, None)
    assert outcome.refusal is not None
    assert not reasons or outcome.refusal.reason in reasons, outcome.refusal
    with pytest.raises(PaymentDeclined) as caught:
        raise_for_payment(answer)
    assert isinstance(caught.value, PaymentError)


# --------------------------------------------------------------------------------------------------- what is not signed

REFUSED: dict[str, tuple[dict[str, Any], Reason]] = {
    "over the cap": ({"amount": "1000001"}, R.OVER_CAP),
    "the most there is": ({"amount": str(2**256 - 1)}, R.OVER_CAP),
    "an unknown token": ({"asset": "0x" + "66" * 20}, R.UNKNOWN_ASSET),
    "another chain, mainnet": ({"network": "eip155:8453"}, R.NETWORK_NOT_ALLOWED),
    "another chain and its token": (
        {
            "network": "eip155:8453",
            "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
            "extra": {"name": "USD Coin", "version": "2"},
        },
        R.NETWORK_NOT_ALLOWED,
    ),
    "payTo the zero address": ({"payTo": "0x" + "0" * 40}, R.INVALID_REQUIREMENTS),
    "nothing to be paid": ({"amount": "0"}, R.INVALID_REQUIREMENTS),
    "another name of the token": ({"extra": {"name": "USD Coin", "version": "2"}}, R.ASSET_MISMATCH),
    "another version of the token": ({"extra": {"name": "USDC", "version": "1"}}, R.ASSET_MISMATCH),
    "maxTimeoutSeconds -5": ({"maxTimeoutSeconds": -5}, R.INVALID_PAYLOAD),
    "maxTimeoutSeconds 0": ({"maxTimeoutSeconds": 0}, R.INVALID_PAYLOAD),
    "maxTimeoutSeconds a string": ({"maxTimeoutSeconds": "300"}, R.INVALID_PAYLOAD),
    "maxTimeoutSeconds a float": ({"maxTimeoutSeconds": 300.5}, R.INVALID_PAYLOAD),
    "maxTimeoutSeconds 10^30": ({"maxTimeoutSeconds": 10**30}, R.INVALID_PAYLOAD),
    "maxTimeoutSeconds null": ({"maxTimeoutSeconds": None}, R.INVALID_PAYLOAD),
    "payTo a name": ({"payTo": "bob.eth"}, R.INVALID_PAYLOAD),
    "payTo null": ({"payTo": None}, R.INVALID_PAYLOAD),
    "asset empty": ({"asset": ""}, R.INVALID_PAYLOAD),
    "extra null": ({"extra": None}, R.INVALID_PAYLOAD),
}


@both
@pytest.mark.parametrize("row", REFUSED)
def test_a_402_that_asks_for_what_the_payer_did_not_allow_is_not_signed(
    ground: Ground, terms: dict[int, Document], row: str, version: int
) -> None:
    """Row "Refuses > $1, unknown token"; "Signs: ... -5, payTo zero address, any registered chain incl. Base mainnet"."""
    changed, reason = REFUSED[row]
    signer = Counting(ground.payer(0))
    unsigned(asked_by(lying(terms, version, **changed), signer), signer, reason)


AMOUNTS: dict[str, Any] = {
    "negative": "-1",
    "in letters": "abc",
    "with an exponent": "1e4",
    "in hex": "0x2710",
    "with blanks": " 10000 ",
    "with an underscore": "10_000",
    "in Arabic digits": "١٠٠٠٠",
    "with a sign": "+10000",
    "with a leading zero": "010000",
    "a fraction": "1.5",
    "in dollars": "$0.01",
    "a number": 10_000,
    "a float": 10_000.0,
    "null": None,
    "empty": "",
    "a list": ["10000"],
    "a boolean": True,
    "beyond 2**256": str(2**256),
    "of 5000 digits": "9" * 5000,
    "NaN": float("nan"),
    "Infinity": float("inf"),
}


@both
@both_worlds
@pytest.mark.parametrize("row", AMOUNTS)
def test_a_bad_amount_is_a_refusal_by_type_not_a_value_error(
    ground: Ground, terms: dict[int, Document], row: str, version: int, how: str
) -> None:
    """Row "Bad amounts raise bare ValueError/ValueOutOfBounds"."""
    signer = Counting(ground.payer(0))
    answer = asked_by(lying(terms, version, amount=AMOUNTS[row]), signer, how)
    unsigned(answer, signer, R.INVALID_PAYLOAD)
    refusal = told(answer).refusal
    assert refusal is not None
    assert not any(word in refusal.detail for word in ("Error", "int()", "Decimal", "NoneType"))


NO_TERMS: dict[str, Callable[[Document], object]] = {
    "no accepts": lambda d: d.pop("accepts"),
    "accepts empty": lambda d: d.update(accepts=[]),
    "accepts null": lambda d: d.update(accepts=None),
    "accepts an object": lambda d: d.update(accepts={}),
    "accepts of words": lambda d: d.update(accepts=["exact"]),
    "accepts of nulls": lambda d: d.update(accepts=[None]),
    "another scheme": lambda d: d["accepts"][0].update(scheme="deferred"),
    "x402Version 3": lambda d: d.update(x402Version=3),
    "x402Version a string": lambda d: d.update(x402Version="2"),
    "x402Version missing": lambda d: d.pop("x402Version"),
    "three hundred offers": lambda d: d.update(accepts=d["accepts"] * 300),
}


@both
@pytest.mark.parametrize("row", NO_TERMS)
def test_a_402_without_terms_we_know_is_given_back_unpaid(
    ground: Ground, terms: dict[int, Document], row: str, version: int
) -> None:
    """Row "Refuses ... no accepts"."""
    document = deepcopy(terms[version])
    NO_TERMS[row](document)
    signer = Counting(ground.payer(0))
    served = offering(terms[version] | {"x402Version": version})(None)[1:]  # type: ignore[arg-type]
    body = json.dumps(document).encode()
    headers = {v2.PAYMENT_REQUIRED: base64.b64encode(body).decode()} if version == 2 else served[0]
    with Hostile(lambda _: (402, headers, body if version == 1 else b"{}")) as hostile:
        answer = pay("sync", Purse(signer, PayerPolicy.up_to("$1", NETWORK)), f"{hostile.url}/paid")
    assert (answer.status_code, signer.asked, told(answer).amount) == (402, [], 0)
    assert told(answer).kind is not K.PAID


@pytest.mark.parametrize(
    "header", ["", "!!!!", "bnVsbA==", "W10=", "e30=", base64.b64encode(b"[" * 20_000).decode(), "A" * 60_000, "e30"]
)
def test_terms_that_are_no_document_are_given_back_unpaid(ground: Ground, header: str) -> None:
    """Row "Input handling", at the client: a PAYMENT-REQUIRED that is not one."""
    signer = Counting(ground.payer(0))
    with Hostile(lambda _: (402, {v2.PAYMENT_REQUIRED: header}, b"{}")) as hostile:
        unsigned(pay("sync", Purse(signer, PayerPolicy.up_to("$1", NETWORK)), f"{hostile.url}/paid"), signer)


# ------------------------------------------------------------------------------------------------------ what is signed


@both
@both_worlds
def test_a_permit_is_valid_for_minutes_whatever_the_server_wants(
    ground: Ground, terms: dict[int, Document], version: int, how: str
) -> None:
    """Row "Signs: maxTimeoutSeconds 10^12 (valid 31 000 years)"."""
    signer = Counting(ground.payer(0))
    asked_by(lying(terms, version, maxTimeoutSeconds=10**12), signer, how)
    (command,) = signer.asked
    message = command.typed_data["message"]
    assert int(message["validBefore"]) <= time.time() + PayerPolicy().longest_validity + 1
    assert (int(message["value"]), command.typed_data["domain"]["chainId"]) == (10_000, 84532)


def test_the_good_offer_beside_lies_is_the_one_signed(ground: Ground, terms: dict[int, Document]) -> None:
    """Row "Refuses > $1, unknown token", all of it in one 402."""
    document = deepcopy(terms[2])
    (offer,) = document["accepts"]
    document["accepts"] = [
        *[
            {**offer, **REFUSED[row][0]}
            for row in ("over the cap", "an unknown token", "another chain, mainnet", "payTo the zero address")
        ],
        {**offer, "scheme": "deferred", "network": "solana:x"},
        offer,
    ]
    signer = Counting(ground.payer(0))
    asked_by(document, signer)
    (command,) = signer.asked
    assert int(command.typed_data["message"]["value"]) == 10_000


def test_ninety_nine_cents_again_and_again_end_with_the_budget(ground: Ground, tmp_path: Path) -> None:
    """Row "unlimited number of $0.99 payments"."""
    payer = ground.payer(10 * FUNDS)
    with Shop(ground, tmp_path, prices={"/paid": "$0.99"}) as shop:
        purse = Purse(payer.signer, PayerPolicy.up_to("$1", NETWORK), budget=Budget.up_to("$3", NETWORK))
        with client(purse) as (paying, _):
            answers = [paying.get(shop.paid) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [402] * 3
        assert {told(answer).refusal.reason for answer in answers[3:]} == {R.OVER_BUDGET}  # type: ignore[union-attr]
        assert (shop.earned, ground.balance(payer.address)) == (3 * 990_000, 10 * FUNDS - 3 * 990_000)


@pytest.mark.parametrize("receipt", [False, True], ids=["no receipt", "a lie of a receipt"])
def test_a_server_that_takes_permits_and_says_402_cannot_collect_more_than_the_budget(
    ground: Ground, terms: dict[int, Document], receipt: bool
) -> None:
    """Row "unlimited number of $0.99 payments", eight at once, from a server that keeps what it is sent."""
    document = lying(terms, 2, amount="990000")
    signer = Counting(ground.payer(0))
    said = {"success": False, "errorReason": "nope", "transaction": "", "network": NETWORK}
    header = {v2.PAYMENT_RESPONSE: base64.b64encode(json.dumps(said).encode()).decode()} if receipt else {}

    def script(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = offering(document)(asked)
        return status, {**headers, **header} if v2.PAYMENT_SIGNATURE in asked.headers else headers, body

    purse = Purse(signer, PayerPolicy.up_to("$1", NETWORK), budget=Budget.up_to("$3", NETWORK))
    with Hostile(script) as hostile, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: pay("sync", purse, f"{hostile.url}/paid"), range(12)))
    assert len(signer.asked) == 3


# --------------------------------------------------------------------------------------------------- before it is sent


@pytest.mark.parametrize("make", [paying_client, async_paying_client])
@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("price", (b"k" * 32, "$0.0000001", NETWORK)),
        ("price", (b"k" * 32, 0.05, NETWORK)),
        ("price", (b"k" * 32, "-1", NETWORK)),
        ("networks", (b"k" * 32, "$1")),
        ("network", (b"k" * 32, "$1", "atlantis")),
        ("key", ("0x12", "$1", NETWORK)),
    ],
)
def test_a_client_that_is_set_up_wrongly_says_so_at_once(make: Callable[..., Any], field: str, given: tuple[Any, ...]) -> None:
    """Row "Prices and start-up", at the client."""
    with pytest.raises(LocalProtocolError) as caught:
        make(*given)
    assert (caught.value.field, "0x12" in str(caught.value)) == (field, False)


def test_what_is_no_402_is_nobodys_business(ground: Ground, terms: dict[int, Document]) -> None:
    """Terms in an answer of another status are not looked at."""
    signer = Counting(ground.payer(0))
    _, headers, body = offering(terms[2])(Asked("GET", "/", {}, b""))
    purse = replace(ground.payer(0).purse(ground, Dialect.V2), signer=signer)
    for status in (200, 401, 403, 500, 503):
        with Hostile(lambda _, status=status: (status, headers, body)) as hostile:  # type: ignore[misc]
            answer = pay("sync", purse, f"{hostile.url}/paid")
        assert (answer.status_code, signer.asked) == (status, [])
        assert outcome_of(answer).kind is K.FREE  # type: ignore[union-attr]
