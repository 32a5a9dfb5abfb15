"""Headers: base64 with one spelling, no silent choice between two payments, and no bearer that hurts."""

from __future__ import annotations

import base64
import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.wire.headers import decode_header, encode_header, find_all, is_token68, parse_bearer, single

documents: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**70), 10**70) | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=12,
)


def refused(value: str, **limits: Any) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_header(value, source="PAYMENT-SIGNATURE", **limits)
    assert caught.value.source == "PAYMENT-SIGNATURE"
    return caught.value


@given(documents)
def test_round_trip(document: Any) -> None:
    value = encode_header(document)
    assert decode_header(value, source="", most=10**6) == document
    assert json.loads(base64.b64decode(value, validate=True)) == document
    assert "\n" not in value


def test_the_spelling_on_the_wire() -> None:
    assert encode_header({"x402Version": 2}) == "eyJ4NDAyVmVyc2lvbiI6Mn0="
    assert decode_header("eyJ4NDAyVmVyc2lvbiI6Mn0=", source="") == {"x402Version": 2}
    assert decode_header(encode_header(["é", Decimal("0.50")]), source="") == ["é", Decimal("0.50")]
    with pytest.raises(LocalProtocolError):
        encode_header([0.5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "=",
        "e30",  # unpadded
        "e30==",
        "e30=e30=",
        "e30= ",
        " e30=",
        "e3\n0=",
        "e3!0=",
        "e31=",  # stray trailing bits, RFC 4648 3.5
        "W11=",
        "MX==",
        "e30=\x00",
        "é30=",
        "٣",
        "eyJhIjoiPz8_In0=",  # the URL-safe alphabet
        "eyJhIjoiPj4-In0=",
        "e30=,e30=",  # two headers joined by a proxy
        "{}",
    ],
)
def test_base64_has_one_spelling(value: str) -> None:
    assert "base64" in refused(value).text or not value


def test_the_document_inside_is_strict_json() -> None:
    inside = {b'{"to":1,"to":2}': "/to", b'{"a":[NaN]}': "/a/0", b'"\\ud800"': "", b"\xff": "", b"{": "", b"\xef\xbb\xbf1": ""}
    for data, at in inside.items():
        assert refused(base64.b64encode(data).decode()).pointer == at


def test_size_is_capped_before_decoding() -> None:
    assert refused("!" * 16385).status == 431
    assert refused("e30=", most=3).status == 431
    assert decode_header(encode_header("x" * 12000), source="") == "x" * 12000
    started = time.perf_counter()
    refused("A" * 1_300_000)
    assert time.perf_counter() - started < 0.05


@settings(max_examples=500)
@given(
    st.text(max_size=60)
    | st.text(st.sampled_from("ABCeyJ0+/=-_ \n"), max_size=24)
    | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode())
)
@example("\ud800")
@example("W10=")
def test_whatever_the_value_a_document_or_remote_protocol_error(value: str) -> None:
    try:
        document = decode_header(value, source="X-PAYMENT")
    except RemoteProtocolError:
        return
    assert base64.b64encode(base64.b64decode(value)).decode() == value
    assert decode_header(encode_header(document), source="") == document


# --- header lists ---


HEADERS = [("Host", "a"), ("X-Payment", "1"), ("set-cookie", "b"), ("Set-Cookie", "c"), ("authorization", "Bearer t")]


def test_names_compare_without_case_and_repeats_are_kept() -> None:
    assert find_all(HEADERS, "SET-COOKIE") == ["b", "c"]
    assert find_all(HEADERS, "x-payment") == ["1"]
    assert find_all(HEADERS, "payment-signature") == []
    assert find_all(iter(HEADERS), "Host") == ["a"]
    assert find_all([("to\u212aen", "x"), ("token", "y")], "TOKEN") == ["y"]  # KELVIN SIGN lowers to k


def test_two_payment_headers_are_two_payments() -> None:
    assert single(HEADERS, "X-PAYMENT") == "1"
    assert single(HEADERS, "PAYMENT-SIGNATURE") is None
    for second in ("2", "1"):  # the same value twice is no better
        with pytest.raises(RemoteProtocolError, match="two X-PAYMENT headers") as caught:
            single([*HEADERS, ("x-payment", second)], "X-PAYMENT")
        assert caught.value.status == 400
    with pytest.raises(RemoteProtocolError, match="3 A headers"):
        single([("a", "")] * 3, "A")


# --- bearer ---


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer abc.def", "abc.def"),
        ("bearer a", "a"),
        ("BEARER   a-._~+/9==", "a-._~+/9=="),
    ],
)
def test_a_bearer_token_is_found(value: str, token: str) -> None:
    assert parse_bearer(value) == token
    assert is_token68(token)


@pytest.mark.parametrize(
    "value",
    [
        *("", "Bearer", "Bearer ", "Bearer  ", "Bearera", "Basic YTpi", "Bearer a b", "Bearer a,b", "Bearer a ", " Bearer a"),
        *("Bearer\ta", "Bearer a\n", "Bearer =", "Bearer a=b", "Bearer é", "Bearer a\x00", 'Bearer "a"'),
        "Bearer " + "a" * 9000,
    ],
)
def test_A7_a_malformed_bearer_is_none_never_an_exception(value: str) -> None:
    assert parse_bearer(value) is None


def test_A7_the_bearer_that_hung_the_seed_is_just_a_token_to_check() -> None:
    assert parse_bearer("Bearer a.b") == "a.b"


@given(st.text())
def test_A7_whatever_the_value_no_exception(value: str) -> None:
    for text in (value, f"Bearer {value}"):
        token = parse_bearer(text)
        assert token is None or (is_token68(token) and text.lower().startswith("bearer "))
