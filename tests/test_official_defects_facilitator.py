"""The official SDK's facilitator object behind HTTP (official-sdk.md 5): the same rows, asked of ours at /verify and /settle.

A refused payment is 200 with its reason, bytes that are no request are 400, our own trouble is 503; of nothing else is told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.facilitator.desk import Desk, Sale, request, request_v1
from tests.lying_facilitator import SECRET
from tests.odd_payments import AMOUNTS, SIGNATURES, STRUCTURES, TIMES, VALUES, Document, Odd, signed
from tests.shop import PRICE, Ground, TroubledNode, on_devnet, until
from x402core.errors import Reason
from x402core.wire import v1

R = Reason
paths = pytest.mark.parametrize("path", ["/verify", "/settle"])
both = pytest.mark.parametrize("version", [2, 1], ids=["v2", "v1"])


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture(scope="module")
def desk(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with Desk(ground, tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture(scope="module")
def sale(ground: Ground) -> Sale:
    """A payment that would be settled; no test here has it settled."""
    return Sale(ground)


@pytest.fixture
def unmoved(desk: Desk, sale: Sale) -> Iterator[None]:
    """Whatever the test does: nothing is sent, nothing journaled, nobody paid."""
    before = (desk.sent, desk.facilitator.ledger.entries(), sale.earned)
    yield
    assert (desk.sent, desk.facilitator.ledger.entries(), sale.earned) == before


def body_of(sale: Sale, version: int, **changed: Any) -> Document:
    """Return a request for a payment, truly signed for what was changed of it."""
    body = request(sale.permit, sale.offer)
    if changed:
        body["paymentPayload"]["payload"] = _payload(sale, **changed)
    return body if version == 2 else request_v1(body)


def _payload(sale: Sale, **changed: Any) -> Document:
    permit = signed(sale.payer, sale.offer, sale.ground, **changed)
    authorization = {
        "from": permit.payer,
        "to": permit.pay_to,
        "value": str(permit.amount),
        "validAfter": str(permit.valid_after),
        "validBefore": str(permit.valid_before),
        "nonce": permit.nonce,
    }
    return {"signature": "0x" + permit.signature.hex(), "authorization": authorization}


def refused(answer: httpx.Response, path: str, version: int, *reasons: Reason) -> None:
    """Assert a definite no, in the words of the version that was asked in."""
    assert answer.status_code == 200, answer.text
    told = answer.json()
    yes, why = ("isValid", "invalidReason") if path == "/verify" else ("success", "errorReason")
    assert told[yes] is False
    assert told[why] in [v1.code(reason) if version == 1 else str(reason) for reason in reasons], told
    if path == "/settle":
        assert told["transaction"] == ""


def malformed(answer: httpx.Response, at: str | None = None, *reasons: Reason) -> None:
    """Assert a 400 that names the member at fault, and nothing of Python."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json"), answer.text
    problem = answer.json()
    assert at is None or problem["pointer"] == at
    assert problem["title"] in (reasons or (R.INVALID_PAYLOAD,))
    assert not any(word in answer.text for word in ("Error", "Traceback", "object has no", "int()", "Decimal", "NoneType"))


# ---------------------------------------------------------------------------------------------------- input handling


@paths
@both
@pytest.mark.parametrize("odd", [*VALUES, *STRUCTURES], ids=str)
@pytest.mark.usefixtures("unmoved")
def test_a_payment_spelled_oddly_is_400_and_named(desk: Desk, sale: Sale, odd: Odd, version: int, path: str) -> None:
    """Rows "authorization.value ..." and "x402Version 3 or "2"" (was: accepted, or an exception's text)."""
    body = body_of(sale, version)
    odd.edit(body["paymentPayload"])
    malformed(desk.post(path, body), f"/paymentPayload{odd.at}", odd.reason)


@paths
@both
@pytest.mark.parametrize("version_said", [3, "2", True, None, 0, 2.0])
@pytest.mark.usefixtures("unmoved")
def test_a_request_of_no_version_is_400(desk: Desk, sale: Sale, version_said: Any, version: int, path: str) -> None:
    """Row "x402Version 3 or "2"", of the request itself."""
    malformed(desk.post(path, body_of(sale, version) | {"x402Version": version_said}), "/x402Version", R.INVALID_VERSION)


@paths
@both
@pytest.mark.parametrize("odd", SIGNATURES, ids=str)
@pytest.mark.usefixtures("unmoved")
def test_a_signature_that_is_none_is_told_so(desk: Desk, sale: Sale, odd: Odd, version: int, path: str) -> None:
    """Rows "high-s signature" (was: broadcast, upfront), "signature 64 bytes / 0x" (was: undeployed_smart_wallet)."""
    body = body_of(sale, version)
    odd.edit(body["paymentPayload"])
    if odd.status == 402:
        refused(desk.post(path, body), path, version, odd.reason)
    else:
        malformed(desk.post(path, body), f"/paymentPayload{odd.at}", odd.reason)


@paths
@both
@pytest.mark.parametrize(("row", "changed"), AMOUNTS, ids=[row for row, _ in AMOUNTS])
@pytest.mark.usefixtures("unmoved")
def test_another_amount_than_required_is_refused(
    desk: Desk, sale: Sale, row: str, changed: dict[str, Any], version: int, path: str
) -> None:
    """Row "negative, underpaid, overpaid value"; signed truly."""
    refused(desk.post(path, body_of(sale, version, **changed)), path, version, R.VALUE_MISMATCH)


@paths
@both
@pytest.mark.parametrize(("row", "changed", "reason"), TIMES, ids=[row for row, *_ in TIMES])
@pytest.mark.usefixtures("unmoved")
def test_a_payment_outside_its_time_is_refused(
    desk: Desk, sale: Sale, row: str, changed: Callable[[int], dict[str, int]], reason: Reason, version: int, path: str
) -> None:
    """Rows "expired, +3 s, validAfter in future" and "validBefore year 9999" (was: accepted)."""
    refused(desk.post(path, body_of(sale, version, **changed(int(time.time())))), path, version, reason)


def _set(where: str, name: str, value: object) -> Callable[[Document], None]:
    def edit(body: Document) -> None:
        for step in where.split("/"):
            body = body[step]
        body[name] = value

    return edit


OTHER = "0x" + "66" * 20
TAMPERED: dict[str, tuple[Callable[[Document], None], tuple[Reason, ...]]] = {
    "accepted.amount": (_set("paymentPayload/accepted", "amount", "1"), (R.VALUE_MISMATCH,)),
    "accepted.payTo": (_set("paymentPayload/accepted", "payTo", OTHER), (R.RECIPIENT_MISMATCH,)),
    "accepted.asset": (_set("paymentPayload/accepted", "asset", OTHER), (R.ASSET_MISMATCH,)),
    "accepted.network": (_set("paymentPayload/accepted", "network", "eip155:8453"), (R.NETWORK_MISMATCH,)),
    "requirements.amount": (_set("paymentRequirements", "amount", "1"), (R.VALUE_MISMATCH,)),
    "requirements.payTo": (_set("paymentRequirements", "payTo", OTHER), (R.RECIPIENT_MISMATCH,)),
    "requirements.asset": (_set("paymentRequirements", "asset", OTHER), (R.ASSET_MISMATCH, R.ASSET_NOT_ALLOWED)),
    "requirements.network": (_set("paymentRequirements", "network", "eip155:8453"), (R.NETWORK_MISMATCH, R.INVALID_NETWORK)),
    "the domain's name": (_set("paymentRequirements/extra", "name", "USD Coin"), (R.SIGNATURE,)),
    "the domain's version": (_set("paymentRequirements/extra", "version", "1"), (R.SIGNATURE,)),
    "authorization.to": (_set("paymentPayload/payload/authorization", "to", OTHER), (R.RECIPIENT_MISMATCH,)),
    "authorization.from": (_set("paymentPayload/payload/authorization", "from", OTHER), (R.SIGNATURE,)),
    "authorization.nonce": (_set("paymentPayload/payload/authorization", "nonce", "0x" + "66" * 32), (R.SIGNATURE,)),
    "authorization.validBefore": (
        _set("paymentPayload/payload/authorization", "validBefore", str(int(time.time()) + 900)),
        (R.SIGNATURE,),
    ),
}


@paths
@pytest.mark.parametrize(
    ("version", "row"),
    [(2, row) for row in TAMPERED] + [(1, row) for row in TAMPERED if not row.startswith("accepted")],  # v1 accepts nothing
)
@pytest.mark.usefixtures("unmoved")
def test_what_was_tampered_with_is_refused_by_name(desk: Desk, sale: Sale, row: str, version: int, path: str) -> None:
    """Row "tampered amount/payTo/asset/network/scheme/domain/timeout"."""
    edit, reasons = TAMPERED[row]
    body = body_of(sale, version)
    if version == 1 and row in ("requirements.amount", "requirements.network"):
        edit = {
            "requirements.amount": _set("paymentRequirements", "maxAmountRequired", "1"),
            "requirements.network": _set("paymentRequirements", "network", "base"),
        }[row]
    edit(body)
    refused(desk.post(path, body), path, version, *reasons)


NO_REQUEST: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"hello",
    "null": b"null",
    "[]": b"[]",
    "{}": b"{}",
    "a number": b"2",
    "NaN": b'{"x402Version":NaN}',
    "1e999": b'{"x402Version":1e999}',
    "deep nesting": b"[" * 20_000,
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "latin-1": b'{"x402Version":"\xe9"}',
    "UTF-16": '{"x402Version":2}'.encode("utf-16"),
    "half a surrogate pair": b'{"x402Version":"\\ud800"}',
    "a number of 5000 digits": b'{"x402Version":' + b"1" * 5000 + b"}",
    "a payload that is a string": b'{"x402Version":2,"paymentPayload":"e30=","paymentRequirements":{}}',
    "requirements missing": b'{"x402Version":2,"paymentPayload":{"x402Version":2}}',
}


@paths
@pytest.mark.parametrize("row", NO_REQUEST)
@pytest.mark.usefixtures("unmoved")
def test_what_is_no_request_is_400_at_once(desk: Desk, row: str, path: str) -> None:
    """Row "empty / not base64 / null / [] / {} / deep nesting / NaN / latin-1", for a body."""
    began = time.monotonic()
    malformed(desk.post(path, NO_REQUEST[row]), None, R.INVALID_PAYLOAD, R.INVALID_VERSION)
    assert time.monotonic() - began < 5


@paths
@both
@pytest.mark.usefixtures("unmoved")
def test_a_key_twice_is_two_payments_and_none(desk: Desk, sale: Sale, version: int, path: str) -> None:
    """Row "duplicate JSON keys": whoever reads the first pays another amount than whoever reads the last."""
    text = json.dumps(body_of(sale, version)).replace('"value": "10000"', '"value": "10000", "value": "1"')
    malformed(desk.post(path, text.encode()))


@paths
@pytest.mark.usefixtures("unmoved")
def test_a_body_of_1_3_megabytes_is_413(desk: Desk, path: str) -> None:
    """Row "1.3 MB garbage header", for a body."""
    assert desk.post(path, b'"' + b"A" * 1_300_000 + b'"').status_code == 413


@both
def test_what_does_not_touch_the_money_is_let_be(desk: Desk, ground: Ground, version: int) -> None:
    """Rows "unknown extensions; other resource.url; extra keys in accepted.extra", "lower-case payTo/asset echoed"."""
    sale = Sale(ground)
    body = body_of(sale, version)
    payload, required = body["paymentPayload"], body["paymentRequirements"]
    for offer in (payload.get("accepted", {}), required):
        offer |= {name: offer[name].lower() for name in ("payTo", "asset") if name in offer}
    required["extra"]["feeTier"] = "gold"
    payload |= {"note": 1, "extensions": {"example.org/x": {"info": {}, "schema": {}}}}
    if version == 2:
        payload["resource"] = {"url": "https://another.example/thing"}
    assert desk.verify(body)["isValid"] is True
    assert (desk.settle(body)["success"], sale.earned) == (True, PRICE)


# ------------------------------------------------------------------------------------------------- security and money


@both
def test_1_one_settle_eight_times_at_once_is_one_transaction(desk: Desk, ground: Ground, version: int) -> None:
    """Probe 1 (was: 8 transactions broadcast, 7 revert)."""
    sale, sent = Sale(ground), desk.sent
    body = body_of(sale, version)
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: desk.settle(body), range(8)))
    assert {each["success"] for each in told} == {True}
    assert len({each["transaction"] for each in told}) == 1
    assert (desk.sent - sent, sale.earned) == (1, PRICE)


@both
def test_2_an_unfunded_key_costs_no_gas_however_often(desk: Desk, ground: Ground, version: int) -> None:
    """Probe 2 (was: a reverting transaction of 59 k gas for each, with the same payload again too)."""
    sale, sent = Sale(ground, payer=ground.payer(0)), desk.sent
    body = body_of(sale, version)
    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda _: desk.post("/settle", body), range(8)):
            refused(answer, "/settle", version, R.INSUFFICIENT_FUNDS)
    assert desk.sent == sent


def test_2_a_settled_payment_settled_again_elsewhere_is_not_broadcast(desk: Desk, ground: Ground, tmp_path: Path) -> None:
    """Probe 2 (was: a sequential replay came back as transaction_failed: it was broadcast)."""
    sale = Sale(ground)
    assert desk.settle(sale.body)["success"] is True
    with Desk(ground, tmp_path) as other:
        refused(other.post("/settle", sale.body), "/settle", 2, R.NONCE_USED)
        assert other.sent == 0


def test_3_one_failed_broadcast_does_not_brick_us(ground: Ground, tmp_path: Path) -> None:
    """Probe 3 (was: the number was lost, all later payments queued behind the gap until a restart)."""
    failures = ["internal error"]
    with TroubledNode(ground.url) as node, Desk(ground, tmp_path, rpc=node.url) as desk:
        node.filter = lambda call: failures.pop() if failures and call["method"] == "eth_sendRawTransaction" else None
        sales = [Sale(ground) for _ in range(3)]
        assert [desk.settle(sale.body)["success"] for sale in sales] == [True] * 3
        assert (failures, [sale.earned for sale in sales]) == ([], [PRICE] * 3)
        assert ground.sent_by(desk.account) == desk.sent  # nothing is queued


def test_4_a_late_settlement_is_told_when_it_is_done(ground: Ground, tmp_path: Path) -> None:
    """Probe 4 (was: settlement_pending, and after it was mined, nonce_already_used)."""
    sale = Sale(ground)
    with Desk(ground, tmp_path, patience=0.3) as desk, ground.automine_off():
        late = desk.settle(sale.body)
        assert (late["success"], late["errorReason"], len(late["transaction"])) == (False, "settlement_pending", 66)
        ground.rpc("evm_mine")
        until(lambda: desk.settle(sale.body)["success"])
        assert (desk.settle(sale.body)["transaction"], sale.earned) == (late["transaction"], PRICE)


@paths
@pytest.mark.parametrize("trouble", ["down", "rate limit exceeded"])
def test_7_trouble_with_the_node_is_503_and_says_nothing_of_it(ground: Ground, tmp_path: Path, trouble: str, path: str) -> None:
    """Probe 7 (was: failed_to_verify_signature, simulation_failed, and the text of exceptions)."""
    sale = Sale(ground)
    with TroubledNode(ground.url) as node, Desk(ground, tmp_path, rpc=node.url) as desk:
        node.down = trouble == "down"
        node.filter = lambda call: f"{trouble}: {SECRET}"
        answer = desk.post(path, sale.body)
        assert (answer.status_code, answer.json()["title"]) == (503, R.UNAVAILABLE)
        assert not any(word in answer.text for word in (SECRET, "limit", node.url, "Error"))
        node.down, node.filter = False, lambda call: None
        assert desk.post(path, sale.body).json()["isValid" if path == "/verify" else "success"] is True
