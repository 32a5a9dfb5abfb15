"""The bazaar: what was paid for is listed and found, and what cannot be listed is paid for all the same."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.facilitator.desk import Desk, Sale
from tests.shop import PRICE, Ground, until

BAZAAR = {
    "info": {
        "input": {"type": "http", "method": "GET", "queryParams": {"city": "Berlin"}},
        "output": {"type": "json", "example": {"degrees": 21}},
    },
    "schema": {"type": "object", "properties": {"input": {"type": "object"}}, "required": ["input"]},
}
RESOURCE = {"url": "https://weather.example/now?city=Berlin", "description": "The weather, anywhere", "mimeType": "text/plain"}


def listed(sale: Sale, **changes: Any) -> dict[str, Any]:
    body = sale.body
    body["paymentPayload"] |= {"extensions": {"bazaar": BAZAAR}, "resource": RESOURCE, **changes}
    return body


def told(response: Any) -> Any:
    text = response.headers.get("extension-responses")
    return None if text is None else json.loads(base64.b64decode(text))["bazaar"]


def found(desk: Desk, path: str = "/discovery/resources") -> list[dict[str, Any]]:
    document = desk.get(path).json()
    return document.get("items", document.get("resources"))  # type: ignore[no-any-return]


def test_what_was_paid_for_is_found(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    assert desk.verify(listed(sale))["isValid"] is True
    assert found(desk) == []  # only what was paid for is listed
    response = desk.post("/settle", listed(sale))
    assert (response.json()["success"], told(response)) == (True, {"status": "success"})
    (item,) = found(desk)
    assert (item["resource"], item["type"], item["x402Version"]) == ("https://weather.example/now", "http", 2)
    assert item["accepts"][0]["payTo"].lower() == sale.pay_to
    for words, count in (("weather", 1), ("WEATHER+anywhere", 1), ("stocks", 0)):
        assert len(found(desk, f"/discovery/search?query={words}")) == count, words
    assert len(found(desk, f"/discovery/resources?payTo={sale.pay_to}")) == 1
    assert found(desk, "/discovery/resources?network=eip155:8453") == []


def test_the_list_survives_the_process(ground: Ground, tmp_path: Path) -> None:
    with Desk(ground, tmp_path) as desk:
        desk.settle(listed(Sale(ground)))
    with Desk(ground, tmp_path, key=desk.key) as again:
        assert len(found(again)) == 1


def test_a_payment_without_the_extension_is_not_listed(desk: Desk, ground: Ground) -> None:
    response = desk.post("/settle", Sale(ground).body)
    assert (response.json()["success"], told(response), found(desk)) == (True, None, [])


def test_a_payment_that_failed_lists_nothing(desk: Desk, ground: Ground) -> None:
    response = desk.post("/settle", listed(Sale(ground, payer=ground.payer(0))))
    assert (response.json()["success"], told(response), found(desk)) == (False, None, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"extensions": {"bazaar": {"info": {"input": {"type": "ftp"}}, "schema": {}}}},
        {"extensions": {"bazaar": "please"}},
        {"resource": {"url": "javascript:alert(1)"}},
        {"resource": {"url": "https://user:secret@weather.example/"}},
        {"extensions": {"bazaar": {**BAZAAR, "schema": {"$ref": "https://evil.example/schema"}}}},
    ],
)
def test_hostile_listings_are_rejected_and_the_payment_is_not(desk: Desk, ground: Ground, changes: dict[str, Any]) -> None:
    sale = Sale(ground)
    response = desk.post("/settle", listed(sale, **changes))
    assert response.json()["success"] is True, response.text
    answer = told(response)
    assert answer["status"] == "rejected"
    assert answer["rejectedReason"]
    assert "secret" not in json.dumps(answer)
    assert (found(desk), sale.earned) == ([], PRICE)


def test_a_catalog_that_is_out_of_order_stops_no_payment(desk: Desk, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(type(desk.facilitator.ledger), "catalogue", broken)
    sale = Sale(ground)
    assert desk.settle(listed(sale))["success"] is True
    assert sale.earned == PRICE


def test_a_slow_chain_is_listed_by_whoever_waited(ground: Ground, tmp_path: Path) -> None:
    sale = Sale(ground)
    with Desk(ground, tmp_path, patience=0.2) as desk:
        with ground.automine_off():
            assert told(desk.post("/settle", listed(sale))) is None  # pending: nothing was paid yet
            desk.facilitator.settler.patience = 10.0
            ground.rpc("evm_mine")
        response = until(lambda: (response := desk.post("/settle", listed(sale))).json()["success"] and response)
        assert (told(response) is not None) == (len(found(desk)) == 1)  # the header says what is so


def test_replay_lists_nothing_more(desk: Desk, ground: Ground) -> None:
    """One payment must not fill a payee's part of the catalog."""
    sale = Sale(ground)
    desk.settle(listed(sale))
    again = desk.post("/settle", listed(sale, resource={**RESOURCE, "url": "https://spam.example/"}))
    assert (again.json()["success"], told(again)) == (True, None)
    assert [item["resource"] for item in found(desk)] == ["https://weather.example/now"]


def test_a_resource_of_version_1(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    body = sale.body_v1
    body["paymentRequirements"]["outputSchema"] = {
        "input": {"type": "http", "method": "GET", "discoverable": True},
        "output": {"degrees": "number"},
    }
    assert told(desk.post("/settle", body)) == {"status": "success"}
    (item,) = found(desk)
    assert (item["resource"], item["x402Version"]) == ("https://seller.example/thing", 1)


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=1e9", "offset=x", "limit=1&limit=2"])
def test_hostile_queries_are_named(desk: Desk, query: str) -> None:
    response = desk.get(f"/discovery/resources?{query}")
    assert response.status_code == 400
    assert query.partition("=")[0] in response.text


def test_a_search_needs_words(desk: Desk) -> None:
    assert desk.get("/discovery/search").status_code == 400
