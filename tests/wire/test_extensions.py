"""The echo rule (x402.md 3.0), what a payment may add to it, and the facilitator's EXTENSION-RESPONSES."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import RemoteProtocolError
from x402core.values import Millis, Network
from x402core.wire import builder_code, identifier, offer_receipt, sign_in
from x402core.wire.extensions import decode_responses, echo_problem, encode_responses, merge
from x402core.wire.headers import encode_header
from x402core.wire.json import Json

from . import samples

SERVER: dict[str, Json] = {
    "bazaar": {"info": {"input": {"type": "http", "method": "GET"}, "tags": ["a", "b"], "paid": 1}, "schema": {"x": 1}},
    "payment-identifier": {"info": {"required": False}, "schema": {}},
}


def nested(*path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def test_the_client_adds_and_the_server_stands() -> None:
    client: dict[str, Json] = {
        "payment-identifier": {"info": {"required": True, "id": "pay_0123456789abcdef"}},
        "mine": {"info": {"x": 1}},
    }
    merged = merge(SERVER, client)
    assert merged["payment-identifier"] == {"info": {"required": False, "id": "pay_0123456789abcdef"}, "schema": {}}
    assert merged["mine"] == {"info": {"x": 1}}
    assert merged["bazaar"] == SERVER["bazaar"]
    assert echo_problem(SERVER, merged) is None


@given(samples.extensions, samples.extensions)
def test_whatever_is_merged_is_an_echo(server: dict[str, Json], client: dict[str, Json]) -> None:
    merged = merge(server, client)
    assert set(merged) == {*server, *client}
    assert echo_problem(server, merged) is None or "builder-code" in client


@given(samples.extensions)
def test_what_was_shown_comes_back_unchanged(server: dict[str, Json]) -> None:
    assert merge(server, {}) == server
    assert echo_problem(server, server) is None


def test_an_extension_left_out_or_never_shown_passes() -> None:
    assert echo_problem(SERVER, {}) is None
    assert echo_problem(SERVER, {"bazaar": None}) is None
    assert echo_problem(SERVER, {"mine": {"info": {"x": 1}}, "other": 7}) is None
    assert echo_problem({"odd": 7, "bare": {}, "none": {"info": None}}, {"odd": 8, "bare": 1, "none": {}}) is None


@pytest.mark.parametrize(
    ("echoed", "at"),
    [
        ({"bazaar": 7}, "/extensions/bazaar/info"),
        ({"bazaar": {}}, "/extensions/bazaar/info"),
        ({"bazaar": {"info": []}}, "/extensions/bazaar/info"),
        ({"bazaar": {"info": {}}}, "/extensions/bazaar/info/input"),
        (nested("payment-identifier", "info", value={"id": "x"}), "/extensions/payment-identifier/info/required"),
        (nested("payment-identifier", "info", "required", value=True), "/extensions/payment-identifier/info/required"),
        (nested("payment-identifier", "info", "required", value=0), "/extensions/payment-identifier/info/required"),
        (nested("payment-identifier", "info", "required", value=None), "/extensions/payment-identifier/info/required"),
    ],
)
def test_a_changed_member_is_pointed_at(echoed: dict[str, Json], at: str) -> None:
    assert echo_problem(SERVER, echoed) == at


@pytest.mark.parametrize(
    "change", [{"tags": ["b", "a"]}, {"tags": ["a", "b", "c"]}, {"paid": True}, {"paid": 2}, {"input": {}}]
)
def test_hostile_echo_of_another_value(change: dict[str, Json]) -> None:
    info = SERVER["bazaar"]["info"]  # type: ignore[index, call-overload]
    (name,) = change
    assert echo_problem(SERVER, {"bazaar": {"info": {**info, **change}}}) == f"/extensions/bazaar/info/{name}"  # type: ignore[dict-item]


def test_the_pointer_never_holds_what_the_payer_wrote() -> None:
    assert echo_problem({"a/b": {"info": {"c~d": 1}}}, {"a/b": {"info": {"c~d": "<script>"}}}) == "/extensions/a~1b/info/c~0d"


def test_what_is_new_in_each_challenge_is_not_compared() -> None:
    def asked(nonce: str, when: int, statement: str = "Hello") -> dict[str, Json]:
        chains = (Network("eip155:8453"),)
        return dict(
            sign_in.advertise("a.example", "https://a.example/b", nonce, Millis(when), chains, statement, Millis(when + 1))
        )

    assert echo_problem(asked("aaaaaaaa", 5000), asked("bbbbbbbb", 9000)) is None
    at = "/extensions/sign-in-with-x/info/statement"
    assert echo_problem(asked("aaaaaaaa", 5000), asked("bbbbbbbb", 9000, "Other")) == at
    assert echo_problem({offer_receipt.KEY: {"info": {"offers": [1]}}}, {offer_receipt.KEY: {"info": {"offers": [2]}}}) is None


def test_a_payment_identifier_is_an_addition() -> None:
    shown = dict(identifier.advertised(required=True))
    assert echo_problem(shown, identifier.identified(shown, "pay_0123456789abcdef")) is None


# --- builder codes ---------------------------------------------------------------------------------------------------


def codes(**info: Json) -> dict[str, Json]:
    return {"builder-code": {"info": info}}


def test_service_codes_add_up_the_clients_first() -> None:
    server, client = codes(a="shop", s=["x", "y"]), codes(a="thief", s=["mine", "y"])
    merged = merge(server, client)
    assert merged == codes(a="shop", s=["mine", "y", "x"])
    assert echo_problem(server, merged) is None
    many = merge(codes(s=[f"s{n}" for n in range(6)]), codes(s=[f"c{n}" for n in range(6)]))
    assert len(many["builder-code"]["info"]["s"]) == 10  # type: ignore[index, call-overload, arg-type]
    assert builder_code.presented(many).services == (*[f"c{n}" for n in range(6)], "s0", "s1", "s2", "s3")


def test_the_sellers_own_code_is_the_sellers() -> None:
    shown = codes(a="shop")
    assert echo_problem(shown, codes(a="shop", s=["mine"])) is None
    assert echo_problem(shown, codes(a="thief")) == "/extensions/builder-code/info/a"
    assert echo_problem(shown, codes(s=["mine"])) == "/extensions/builder-code/info/a"
    assert echo_problem(codes(s=["x"]), codes(s=["mine"])) == "/extensions/builder-code/info/s"


def test_hostile_payment_that_names_a_seller_who_named_none() -> None:
    assert merge({}, codes(a="thief", s=["mine"])) == codes(s=["mine"])
    assert merge(codes(s=["x"]), codes(a="thief")) == codes(s=["x"])
    assert echo_problem({}, codes(a="thief")) == "/extensions/builder-code/info/a"
    assert echo_problem(codes(s=["x"]), codes(a="thief", s=["x"])) == "/extensions/builder-code/info/a"
    assert echo_problem({}, {"builder-code": {"a": "thief"}}) == "/extensions/builder-code/a"
    assert echo_problem({}, codes(s=["mine"])) is None


# --- EXTENSION-RESPONSES ---------------------------------------------------------------------------------------------


@given(st.dictionaries(samples.names, st.dictionaries(samples.texts, samples.jsons, max_size=3), max_size=3))
def test_responses_round_trip(document: dict[str, Any]) -> None:
    assert decode_responses(encode_responses(document)) == document


@pytest.mark.parametrize("text", ["", "e30", "!", encode_header([]), encode_header({"bazaar": "success"})])
def test_responses_that_are_none(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="EXTENSION-RESPONSES"):
        decode_responses(text)
