"""What the official SDK takes, or trips over, in a payer's header (official-sdk.md 5, "Input handling"), against our seller.

Every row is sent as x402 v2 and, where it has a meaning there, as v1, to a seller behind uvicorn whose settler works.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest

from tests.odd_payments import AMOUNTS, SIGNATURES, STRUCTURES, TIMES, VALUES, Document, Odd, document, signed, text
from tests.servers.visitor import visit
from tests.shop import PRICE, Ground, Payer, Shop, fresh, on_devnet
from x402core.errors import Reason
from x402core.events import Dialect, Offer
from x402core.wire import v1, v2

HEADERS = {Dialect.V2: v2.PAYMENT_SIGNATURE, Dialect.V1: v1.X_PAYMENT}
R = Reason
both = pytest.mark.parametrize("dialect", [Dialect.V2, Dialect.V1], ids=["v2", "v1"])


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture(scope="module")
def shop(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(ground, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def payer(ground: Ground) -> Payer:
    return ground.payer()


@pytest.fixture
def unsold(shop: Shop) -> Iterator[None]:
    """Whatever the test does: no handler runs, nothing is claimed, nobody is charged."""
    before = (shop.api.runs, shop.entries(), shop.earned)
    yield
    assert (shop.api.runs, shop.entries(), shop.earned) == before


def get(shop: Shop, *headers: tuple[str, str | bytes], path: str = "/paid") -> httpx.Response:
    return httpx.get(shop.url + path, headers=[(k.encode(), v if isinstance(v, bytes) else v.encode()) for k, v in headers])


def good(shop: Shop, payer: Payer, dialect: Dialect = Dialect.V2, **changed: Any) -> Document:
    """Return a payment that would be taken."""
    offer = shop.offer(dialect)
    return document(signed(payer, offer, shop.ground, **changed), offer)


def refused(answer: httpx.Response, reason: Reason) -> None:
    """Assert a 402 that says why, in both of its places, and brings the terms to try again with."""
    assert answer.status_code == 402, answer.text
    header = json.loads(base64.b64decode(answer.headers[v2.PAYMENT_REQUIRED]))
    assert (header["error"], answer.json()["error"]) == (reason, v1.code(reason))
    assert header["accepts"]
    assert answer.json()["detail"]


def malformed(answer: httpx.Response, source: str, at: str | None = None, reason: Reason = R.INVALID_PAYLOAD) -> None:
    """Assert a 400 that names the member at fault, and nothing of Python."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json"), answer.text
    problem = answer.json()
    assert (problem["source"], problem["title"]) == (source, reason)
    assert at is None or problem["pointer"] == at
    assert not any(word in answer.text for word in ("Error", "Traceback", "object has no", "int()", "Decimal", "NoneType"))


# ------------------------------------------------------------------------------------------------- what is no payment


def padded(shop: Shop, payer: Payer, dialect: Dialect) -> str:
    """Return a good payment whose base64 has both odd letters and a padding."""
    payment = good(shop, payer, dialect)
    for blanks in range(3):
        payment["note"] = "?>?>~~" + " " * blanks
        if (found := text(payment)).endswith("="):
            assert "/" in found or "+" in found
            return found
    raise AssertionError("no padding")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def doubled(found: str) -> str:
    """Return a payment with one key twice, the same both times."""
    data = base64.b64decode(found).decode()
    return b64(data.replace('"value": "10000"', '"value": "10000", "value": "10000"').encode())


NO_PAYMENT: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda _: "",
    "not base64": lambda _: "!!!!",
    "not JSON": lambda _: b64(b"hello"),
    "null": lambda _: b64(b"null"),
    "[]": lambda _: b64(b"[]"),
    "{}": lambda _: b64(b"{}"),
    "a number": lambda _: b64(b"2"),
    "a string": lambda _: b64(b'"x"'),
    "deep nesting": lambda _: b64(b"[" * 20_000),
    "deep objects": lambda _: b64(b'{"a":' * 4_000 + b"1" + b"}" * 4_000),
    "NaN": lambda _: b64(b'{"x402Version":NaN}'),
    "Infinity": lambda _: b64(b'{"x402Version":-Infinity}'),
    "1e999": lambda _: b64(b'{"x402Version":1e999}'),
    "a number of 5000 digits": lambda _: b64(b'{"x402Version":' + b"1" * 5000 + b"}"),
    "latin-1": lambda _: "é".encode("latin-1") * 8,
    "latin-1 inside": lambda found: found[:8].encode() + b"\xe9" + found[8:].encode(),
    "not UTF-8 inside": lambda _: b64(b'{"x402Version":"\xff"}'),
    "UTF-16": lambda found: b64(base64.b64decode(found).decode().encode("utf-16")),
    "a byte order mark": lambda found: b64(b"\xef\xbb\xbf" + base64.b64decode(found)),
    "half a surrogate pair": lambda _: b64(b'{"x402Version":"\\ud800"}'),
    "the JSON itself": lambda found: base64.b64decode(found),
    "duplicate JSON keys": doubled,
    "garbage inside the base64": lambda found: found[:12] + "*" + found[12:],
    "blanks inside the base64": lambda found: found[:12] + " " + found[12:],
    "base64 unpadded": lambda found: found.rstrip("="),
    "base64 padded too much": lambda found: found + "=",
    "base64 in two pieces": lambda found: found + found,
    "base64url": lambda found: found.replace("+", "-").replace("/", "_"),
}


@both
@pytest.mark.parametrize("row", NO_PAYMENT)
@pytest.mark.usefixtures("unsold")
def test_what_is_no_payment_is_400_and_not_taken_for_no_payment(shop: Shop, payer: Payer, row: str, dialect: Dialect) -> None:
    """Row "empty / not base64 / null / [] / {} / deep nesting / NaN / latin-1" (was: 402, as if nothing had been sent);
    row "base64 with garbage characters inside" (was: accepted), "unpadded" (was: 402)."""
    sent = NO_PAYMENT[row](padded(shop, payer, dialect))
    began = time.monotonic()
    malformed(
        get(shop, (HEADERS[dialect], sent)), HEADERS[dialect], reason=R.INVALID_VERSION if row == "{}" else R.INVALID_PAYLOAD
    )
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("unsold")
def test_a_payment_of_one_version_in_the_header_of_the_other_is_told_so(shop: Shop, payer: Payer) -> None:
    """Row "v1 payload in PAYMENT-SIGNATURE" (was: 500, AttributeError)."""
    first = get(shop, (v2.PAYMENT_SIGNATURE, text(good(shop, payer, Dialect.V1))))
    malformed(first, v2.PAYMENT_SIGNATURE, "/x402Version", R.INVALID_VERSION)
    assert "X-PAYMENT" in first.json()["detail"]
    second = get(shop, (v1.X_PAYMENT, text(good(shop, payer, Dialect.V2))))
    malformed(second, v1.X_PAYMENT, "/x402Version", R.INVALID_VERSION)
    assert "PAYMENT-SIGNATURE" in second.json()["detail"]


@both
@pytest.mark.parametrize("odd", STRUCTURES, ids=str)
@pytest.mark.usefixtures("unsold")
def test_a_member_that_is_missing_or_of_another_kind_is_named(shop: Shop, payer: Payer, odd: Odd, dialect: Dialect) -> None:
    """Row "x402Version 3 or "2"" (was: accepted, 200), and its like."""
    payment = good(shop, payer, dialect)
    odd.edit(payment)
    malformed(get(shop, (HEADERS[dialect], text(payment))), HEADERS[dialect], odd.at, odd.reason)


# ---------------------------------------------------------------------------------------------- how amounts are spelled


@both
@pytest.mark.parametrize("odd", VALUES, ids=str)
@pytest.mark.usefixtures("unsold")
def test_an_amount_has_one_spelling(shop: Shop, payer: Payer, odd: Odd, dialect: Dialect) -> None:
    """Rows "authorization.value ..." (was: some accepted, some 402 with the text of a Python exception)."""
    payment = good(shop, payer, dialect)
    odd.edit(payment)
    malformed(get(shop, (HEADERS[dialect], text(payment))), HEADERS[dialect], odd.at, odd.reason)


@both
@pytest.mark.parametrize(("row", "changed"), AMOUNTS, ids=[row for row, _ in AMOUNTS])
@pytest.mark.usefixtures("unsold")
def test_another_amount_than_asked_is_refused(
    shop: Shop, payer: Payer, row: str, changed: dict[str, Any], dialect: Dialect
) -> None:
    """Row "negative, underpaid, overpaid value"; signed truly."""
    refused(get(shop, (HEADERS[dialect], text(good(shop, payer, dialect, **changed)))), R.VALUE_MISMATCH)


# --------------------------------------------------------------------------------------------------- what was tampered with


def _accepted(name: str, value: object) -> Callable[[Document], object]:
    return lambda payment: payment["accepted"].update({name: value})


def _domain(**changed: str) -> Callable[[Document], object]:
    return lambda payment: payment["accepted"]["extra"].update(changed)


TAMPERED: dict[str, tuple[Callable[[Document], object], Reason]] = {
    "amount": (_accepted("amount", "1"), R.NO_MATCH),
    "payTo": (_accepted("payTo", "0x" + "66" * 20), R.NO_MATCH),
    "asset": (_accepted("asset", "0x" + "66" * 20), R.NO_MATCH),
    "network": (_accepted("network", "eip155:8453"), R.NO_MATCH),
    "timeout": (_accepted("maxTimeoutSeconds", 3600), R.NO_MATCH),
    "domain's name": (_domain(name="USD Coin"), R.NO_MATCH),
    "domain's version": (_domain(version="1"), R.NO_MATCH),
    "method": (_domain(assetTransferMethod="permit2"), R.INVALID_PAYLOAD),
    "flow": (_domain(paymentFlow="upfront"), R.NO_MATCH),
    "scheme": (_accepted("scheme", "deferred"), R.UNSUPPORTED_SCHEME),
    "another chain's family": (_accepted("network", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"), R.INVALID_NETWORK),
    "network in v1's words": (_accepted("network", "base-sepolia"), R.INVALID_NETWORK),
}


@pytest.mark.parametrize("row", TAMPERED)
@pytest.mark.usefixtures("unsold")
def test_what_the_payer_says_it_accepts_must_be_an_offer_of_ours(shop: Shop, payer: Payer, row: str) -> None:
    """Row "tampered amount/payTo/asset/network/scheme/domain/timeout" (was: refused correctly)."""
    edit, reason = TAMPERED[row]
    payment = good(shop, payer)
    edit(payment)
    answer = get(shop, (v2.PAYMENT_SIGNATURE, text(payment)))
    if reason is R.NO_MATCH:
        assert (answer.status_code, answer.json()["error"]) == (402, reason)
    else:
        malformed(answer, v2.PAYMENT_SIGNATURE, reason=reason)


@both
@pytest.mark.usefixtures("unsold")
def test_what_was_signed_for_another_payee_token_or_chain_is_refused(shop: Shop, payer: Payer, dialect: Dialect) -> None:
    """Row "tampered ..." again, with the lie in what was signed."""
    ours = shop.offer(dialect)

    def sent(permit_of: Offer, **changed: Any) -> httpx.Response:
        payment = document(signed(payer, ours, shop.ground, **changed), ours)
        payment["payload"] = document(signed(payer, permit_of, shop.ground, **changed), ours)["payload"]
        return get(shop, (HEADERS[dialect], text(payment)))

    refused(sent(ours, pay_to=fresh().address), R.RECIPIENT_MISMATCH)
    for changed in ({"name": "USD Coin"}, {"version": "1"}):
        refused(sent(replace(ours, raw=None, **changed)), R.SIGNATURE)  # type: ignore[arg-type]


@pytest.mark.parametrize("row", ["scheme", "network", "a network we do not sell on"])
@pytest.mark.usefixtures("unsold")
def test_a_payment_of_v1_for_another_scheme_or_network_is_refused(shop: Shop, payer: Payer, row: str) -> None:
    """Row "tampered network/scheme", in v1."""
    payment = good(shop, payer, Dialect.V1)
    payment |= {"scheme": {"scheme": "upto"}, "network": {"network": "eip155:84532"}}.get(row, {"network": "base"})
    answer = get(shop, (v1.X_PAYMENT, text(payment)))
    if row == "scheme":
        malformed(answer, v1.X_PAYMENT, "/scheme", R.UNSUPPORTED_SCHEME)
    elif row == "network":
        malformed(answer, v1.X_PAYMENT, "/network", R.INVALID_NETWORK)
    else:
        assert (answer.status_code, answer.json()["error"]) == (402, R.NO_MATCH)


# --------------------------------------------------------------------------------------------------------- time, signature


@both
@pytest.mark.parametrize(("row", "changed", "reason"), TIMES, ids=[row for row, *_ in TIMES])
@pytest.mark.usefixtures("unsold")
def test_a_payment_outside_its_time_is_refused(
    shop: Shop, payer: Payer, row: str, changed: Callable[[int], dict[str, int]], reason: Reason, dialect: Dialect
) -> None:
    """Row "expired, +3 s, validAfter in future" (was: refused); "validBefore year 9999" (was: accepted)."""
    refused(get(shop, (HEADERS[dialect], text(good(shop, payer, dialect, **changed(int(time.time())))))), reason)


@both
@pytest.mark.parametrize("odd", SIGNATURES, ids=str)
@pytest.mark.usefixtures("unsold")
def test_a_signature_that_is_none_is_told_so(shop: Shop, payer: Payer, odd: Odd, dialect: Dialect) -> None:
    """Row "high-s signature" (was: refused only by simulation); "signature 64 bytes / 0x" (was: "undeployed wallet")."""
    payment = good(shop, payer, dialect)
    odd.edit(payment)
    answer = get(shop, (HEADERS[dialect], text(payment)))
    if odd.status == 402:
        refused(answer, odd.reason)
        assert odd.why in answer.json()["detail"]  # seen from the bytes: no chain was asked
    else:
        malformed(answer, HEADERS[dialect], odd.at, odd.reason)


# ------------------------------------------------------------------------------------------------- what may well be odd


def _lower(payment: Document) -> None:
    for name in ("payTo", "asset"):
        payment["accepted"][name] = payment["accepted"][name].lower()


def _upper(payment: Document) -> None:
    signed_by = payment["payload"]["authorization"]
    for name in ("from", "to", "nonce"):
        signed_by[name] = "0x" + signed_by[name][2:].upper()


TAKEN: dict[str, Callable[[Document], object]] = {
    "unknown extensions": lambda p: p.update(extensions={"example.org/loyalty": {"info": {"card": "7"}, "schema": {}}}),
    "another resource.url": lambda p: p.update(resource={"url": "https://another.example/thing"}),
    "extra keys in accepted.extra": lambda p: p["accepted"]["extra"].update(feeTier="gold", nested={"a": [1, 1.5, None]}),
    "unknown members": lambda p: p.update(note="hello", client={"name": "x"}),
    "nulls for what is absent": lambda p: p.update(extensions=None, resource=None),
    "lower-case payTo and asset": _lower,
    "upper-case hex in what was signed": _upper,
}


@pytest.mark.parametrize("row", TAKEN)
def test_what_does_not_touch_the_money_is_let_be(shop: Shop, payer: Payer, row: str) -> None:
    """Rows "unknown extensions; other resource.url; extra keys in accepted.extra" (accepted);
    "lower-case payTo/asset echoed" (was: refused, by comparing strings)."""
    payment = good(shop, payer)
    TAKEN[row](payment)
    runs, earned = shop.api.runs, shop.earned
    answer = get(shop, (v2.PAYMENT_SIGNATURE, text(payment)))
    assert (answer.status_code, shop.api.runs - runs, shop.earned - earned) == (200, 1, PRICE), answer.text


# ------------------------------------------------------------------------------------------------------ HTTP around it


@pytest.mark.parametrize("names", [(v2.PAYMENT_SIGNATURE,) * 2, (v1.X_PAYMENT,) * 2, (v2.PAYMENT_SIGNATURE, v1.X_PAYMENT)])
@pytest.mark.usefixtures("unsold")
def test_two_payments_in_one_request_are_none(shop: Shop, payer: Payer, names: tuple[str, str]) -> None:
    """Row "two PAYMENT-SIGNATURE headers" (was: FastAPI takes the first, Flask joins them)."""
    spoken = {name: dialect for dialect, name in HEADERS.items()}
    sent = [(name, text(good(shop, payer, spoken[name]))) for name in names]
    malformed(get(shop, *sent), names[1])
    assert get(shop, (names[0], sent[0][1] + ", " + sent[0][1])).status_code == 400


@both
@pytest.mark.usefixtures("unsold")
def test_a_header_of_1_3_megabytes_is_refused_unread(shop: Shop, dialect: Dialect) -> None:
    """Row "1.3 MB garbage header" (was: parsed, 402): by our own limit, and by whatever the server in front does."""

    async def go() -> None:
        answer = await visit(shop.app, headers={HEADERS[dialect]: "A" * 1_300_000})
        assert (answer.status, json.loads(answer.body)["source"]) == (431, HEADERS[dialect])

    anyio.run(go)
    host, port = shop.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"GET /paid HTTP/1.1\r\nHost: x\r\n" + HEADERS[dialect].encode() + b": " + b"A" * 1_300_000 + b"\r\n\r\n")
        assert 400 <= int(raw.makefile("rb").readline().split()[1]) < 500


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"},
        {"Forwarded": "host=evil.example"},
        {"Referer": "http://evil.example/", "Origin": "http://evil.example"},
    ],
    ids=lambda headers: next(iter(headers)),
)
@pytest.mark.parametrize("path", ["/paid", "/paid?next=</script><script>alert(1)//", "/paid?x=%0d%0aSet-Cookie:%20a=b"])
@pytest.mark.usefixtures("unsold")
def test_nothing_of_the_request_is_reflected_in_the_402(shop: Shop, headers: dict[str, str], path: str) -> None:
    """Row "Host: evil.example" (was: reflected, and signed into payload.resource); row "</script> in URL"."""
    answer = get(shop, *headers.items(), path=path)
    terms = base64.b64decode(answer.headers[v2.PAYMENT_REQUIRED]).decode()
    whole = f"{answer.headers.multi_items()}{terms}{answer.text}"
    assert answer.status_code == 402
    assert not any(word in whole for word in ("evil", "<script", "gopher", "a=b"))
    assert json.loads(terms)["resource"]["url"] == shop.paid
