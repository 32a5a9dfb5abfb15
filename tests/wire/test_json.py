"""Strict JSON: one document has one meaning, or it is refused; nothing but RemoteProtocolError ever comes out."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from decimal import Context, Decimal, localcontext
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.values import parse_address, parse_amount, parse_network, parse_seconds
from x402core.wire.json import Fields, Json, canonical, dumps, loads, pointer

PAYMENT = (
    b'{"x402Version":2,"accepted":{"scheme":"exact","network":"eip155:84532","amount":"10000","maxTimeoutSeconds":60,'
    b'"extra":{"name":"USDC","version":"2"}},"payload":{"signature":"0x12","authorization":{"value":"10000"}},'
    b'"note":"caf\xc3\xa9 \\ud83d\\ude00","rate":0.5,"nothing":null,"flags":[true,false,[]]}'
)

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**70), max_value=10**70, places=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**78) + 1, 10**78 - 1)
    | decimals
    | st.text(st.characters(codec="utf-8"), max_size=20)
)
documents: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=5),
    max_leaves=25,
)


def refused(data: bytes, **limits: Any) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        loads(data, **limits)
    assert caught.value.source == limits.get("source", "body")
    assert len(str(caught.value)) < 600
    return caught.value


# --- reading ---


def test_a_payment_is_read() -> None:
    document = loads(PAYMENT)
    assert isinstance(document, dict)
    assert document["note"] == "café 😀"
    assert document["rate"] == Decimal("0.5")
    assert type(document["rate"]) is Decimal
    assert document["flags"] == [True, False, []]
    assert document["nothing"] is None
    assert document["accepted"]["maxTimeoutSeconds"] == 60  # type: ignore[index,call-overload]


@pytest.mark.parametrize("text", ["null", "true", " 1\r\n", '"x"', "[]", "{}", "-0", "0.10", '"\\u0000"', '"\\/"'])
def test_any_json_value_may_stand_alone(text: str) -> None:
    assert loads(text.encode()) == json.loads(text, parse_float=Decimal)


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b'{"to":1,"to":2}', "/to"),
        (b'{"to":1,"to":1}', "/to"),
        (b'{"to":1,"t\\u006f":2}', "/to"),
        (b'{"a":[0,{"to":1,"b":{},"to":2}]}', "/a/1/to"),
        (b'{"a/b":{"c~d":{"e":1,"e":2}}}', "/a~1b/c~0d/e"),
        (b'{"":{"":1,"":2}}', "//"),
        (b'{"x":{"k":1,"k":2},"x":3}', "/x"),
        (b'{"a":{"k":1,"k":2},"b":NaN}', "/a/k"),
    ],
)
def test_duplicate_keys_are_refused_and_named(data: bytes, at: str) -> None:
    error = refused(data)
    assert error.pointer == at
    assert "twice" in error.text
    assert error.reason is Reason.INVALID_PAYLOAD


def test_a_hostile_key_is_not_repeated_into_the_log() -> None:
    assert refused(b'{"a":{"' + b"k" * 5000 + b'":1,"' + b"k" * 5000 + b'":2}}').pointer == "/a"
    assert refused(b'{"a":{"x\\r\\nSet-Cookie":NaN}}').pointer == "/a"
    assert refused(b'{"a":{"\\u202e":{"b":NaN}}}').pointer == "/a"


@pytest.mark.parametrize("data", [b"NaN", b"Infinity", b"-Infinity", b'{"a":[NaN]}', b"nan", b"1e", b"+1", b".5", b"5."])
def test_what_is_not_a_json_number_is_refused(data: bytes) -> None:
    refused(data)


def test_the_constant_at_fault_is_named() -> None:
    assert refused(b'{"a":[1,-Infinity]}').pointer == "/a/1"


@pytest.mark.parametrize(
    "number",
    [
        *("1e999", "-1e999", "1e78", "1e-79", "1e99999999999999999999", "1e-99999999999999999999", "0e9999", "1E+0000999"),
        *("9" * 79, "-" + "9" * 79, "9" * 5000, "0." + "0" * 78 + "1", "0." + "1" * 5000, "9" * 79 + ".5"),
    ],
)
def test_a_number_too_large_or_too_fine_is_refused_where_it_stands(number: str) -> None:
    assert refused(f'{{"v":[{number}]}}'.encode()).pointer == "/v/0"


@pytest.mark.parametrize("number", ["9" * 78, "-" + "9" * 78, str(2**256 - 1), "0"])
def test_whole_numbers_are_exact_to_78_digits(number: str) -> None:
    assert loads(number.encode()) == int(number)


@pytest.mark.parametrize("number", ["0.1", "1e-18", "-1.50", "1e77", "0." + "0" * 77 + "1", "2.5E+3", "1e00005", "-0.0"])
def test_fractions_are_exact_whatever_the_callers_decimal_context(number: str) -> None:
    with localcontext(Context(prec=1, Emax=1, Emin=-1)):
        found = loads(number.encode())
        assert isinstance(found, Decimal)
        written = dumps(found)
    assert found.as_tuple() == Decimal(number).as_tuple()
    assert Decimal(written.decode()) == Decimal(number)
    assert b"e" not in written.lower()


def test_nesting_is_bounded_and_counted_outside_strings() -> None:
    assert loads(b"[" * 32 + b"]" * 32) is not None
    assert loads(b"[" * 31 + b"[],[]" + b"]" * 31) is not None
    refused(b"[" * 33 + b"]" * 33)
    refused(b"[" * 31 + b"[],[[]]" + b"]" * 31)
    refused(b'{"a":' * 33 + b"1" + b"}" * 33)
    assert loads(json.dumps("[{" * 500 + '"' + "[" * 500).encode()) is not None
    assert loads(json.dumps([[[]]] * 500).encode()) == [[[]]] * 500
    assert loads(b"[[1]]", depth=2) == [[1]]
    refused(b"[[1]]", depth=1)
    refused(b"[]", depth=0)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b"]" * 100_000])
def test_100000_deep_is_an_error_of_ours(data: bytes) -> None:
    refused(data, most=10**7)
    refused(data, most=10**7, depth=10**7)  # even for a caller who asks for trouble


@pytest.mark.parametrize("text", ['"\\"' * 16_000, '"' + '\\"' * 32_000, '"\\' * 20_000 + "[" * 99, '{"a":' * 9000])
def test_the_depth_scan_takes_linear_time(text: str) -> None:
    started = time.perf_counter()
    refused(text.encode() + b"[" * 40)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b'"\\ud800"', ""),
        (b'{"a":["\\uDFFF"]}', "/a/0"),
        (b'{"a":{"b":"x\\ud83d"}}', "/a/b"),
        (b'{"a":{"\\udc00":1}}', "/a"),
        (b'"\\ude00\\ud83d"', ""),
    ],
)
def test_lone_surrogates_are_refused(data: bytes, at: str) -> None:
    assert refused(data).pointer == at


def test_a_byte_order_mark_is_called_by_its_name() -> None:
    assert "byte order mark" in refused(b"\xef\xbb\xbf{}").text


def test_a_surrogate_pair_is_one_character() -> None:
    assert loads(b'{"\\ud83d\\ude00":"\\uD83D\\uDE00"}') == {"😀": "😀"}
    assert loads(b'"\\\\ud800"') == "\\ud800"


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_other_encodings_are_refused(codec: str) -> None:
    refused('{"a":"+é"}'.encode(codec))


@pytest.mark.parametrize("data", [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\xf4\x90\x80\x80"', b'"\xc3'])
def test_utf8_is_strict(data: bytes) -> None:
    assert "UTF-8" in refused(data).text


@pytest.mark.parametrize("data", [b"", b" ", b"{", b'{"a"}', b"[1,]", b"{'a':1}", b"1 2", b'"\n"', b"\x00", b"[1]//", b"01"])
def test_A15_bad_json_is_a_400_not_a_traceback(data: bytes) -> None:
    error = refused(data)
    assert error.status == 400
    assert error.reply.status == 400


def test_size_is_capped_before_anything_else() -> None:
    assert refused(b"\xff" * 65537).status == 413
    assert loads(b'"' + b"x" * 65534 + b'"') == "x" * 65534
    assert refused(b"[1]", most=2, source="X-PAYMENT").source == "X-PAYMENT"


def hostile() -> st.SearchStrategy[bytes]:
    pieces = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\ud800", b"\\u0022", b"NaN", b"-Infinity", b"1e999"]
    pieces += [b"9" * 5000, b"[" * 50, b'"to":1,"to":2', b"\xff", b"\xef\xbb\xbf", b"\x00", b"1e-78", b"null", b" "]
    return st.lists(st.sampled_from(pieces) | st.binary(max_size=3), max_size=12).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from([PAYMENT, b'[[[{"a":[1,-2.5e1,{"b":"\\"\\\\"}]}]]]', b'{"k":"\\ud83d\\ude00"}']))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(hostile()) + data[at + draw(st.integers(0, 3)) :]
    return data


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=200) | hostile() | mutated())
@example(b'"\\ud800"')
@example(b"[" * 100_000)
@example(b"1e999")
@example(b"9" * 5000)
def test_whatever_the_bytes_a_value_or_remote_protocol_error(data: bytes) -> None:
    try:
        document = loads(data)
    except RemoteProtocolError as caught:
        error = caught
    else:
        assert loads(dumps(document), most=10**7) == document
        return
    assert error.source == "body"
    assert error.reply.body.isascii()
    assert str(error).encode("utf-8").isascii() or error.pointer


# --- writing ---


@given(documents)
def test_what_is_written_reads_back(document: Json) -> None:
    with localcontext(Context(prec=2)):
        assert loads(dumps(document), most=10**7) == document


@given(documents)
def test_what_is_written_is_json_to_the_standard_library_too(document: Json) -> None:
    assert json.loads(dumps(document), parse_float=Decimal) == document


@given(documents)
def test_canonical_is_a_fixed_point(document: Json) -> None:
    once = canonical(document)
    assert canonical(loads(once, most=10**7)) == once


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(), max_size=6))
def test_canonical_does_not_depend_on_order(members: dict[str, int]) -> None:
    assert canonical(members) == canonical(dict(reversed(members.items())))


def test_compact_and_in_order() -> None:
    assert dumps({"b": 1, "a": [True, None, "é\u2028\n"]}) == '{"b":1,"a":[true,null,"é\u2028\\n"]}'.encode()
    assert dumps(("x", MappingProxyType({"y": ()}))) == b'["x",{"y":[]}]'
    assert dumps(Reason.INVALID_NETWORK) == b'"invalid_network"'
    assert dumps([Decimal("1E-7"), Decimal("1.50"), Decimal("1E+3"), 0]) == b"[0.0000001,1.50,1000,0]"


def test_canonical_spells_equal_values_alike() -> None:
    assert canonical({"b": Decimal("1.50"), "a": Decimal("2.0")}) == b'{"a":2,"b":1.5}'
    assert canonical([Decimal("-0.0"), Decimal("100"), Decimal("1E+2"), 100]) == b"[0,100,100,100]"
    # UTF-16 code units, as in RFC 8785 3.2.3: the surrogates of U+1F600 sort before U+FB33
    assert canonical({"\ufb33": 1, "😀": 2, "1": 3}) == '{"1":3,"😀":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ({"a": [0, 0.5]}, "document/a/1"),
        (float("nan"), "document"),
        ([Decimal("NaN")], "document/0"),
        ([Decimal("-Infinity")], "document/0"),
        (Decimal("1e78"), "document"),
        (Decimal("1e-79"), "document"),
        ({"x/y": 10**78}, "document/x~1y"),
        ([-(10**5000)], "document/0"),
        ({"a": {"b": b"bytes"}}, "document/a/b"),
        ({"a": {1: "x"}}, "document/a"),
        ({1, 2}, "document"),
        (["\ud800"], "document"),
    ],
)
@pytest.mark.parametrize("write", [dumps, canonical])
def test_what_json_cannot_say_is_our_callers_error(write: Any, value: Any, at: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        write(value)
    assert caught.value.field == at


def test_a_cycle_is_an_error_not_a_recursion() -> None:
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(LocalProtocolError, match="nested deeper"):
        dumps(loop)


# --- fields ---


OFFER = Fields(
    loads(
        b'{"scheme":"exact","network":"eip155:84532","amount":"10000","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e",'
        b'"maxTimeoutSeconds":60,"rate":0.5,"live":true,"extra":{"na/me":{"~":1}},"none":null,'
        b'"accepts":[{"amount":"1"},2],"tags":["a","b"],"offers":[{},{"x":1}]}'
    ),
    "/accepted",
    "PAYMENT-SIGNATURE",
)


def test_fields_are_read() -> None:
    assert OFFER.text("scheme") == "exact"
    assert OFFER.text_or("description", "") == ""
    assert OFFER.text_or("none", None) is None
    assert OFFER.text_or("scheme", None) == "exact"
    assert OFFER.number("rate") == Decimal("0.5")
    assert OFFER.number("maxTimeoutSeconds") == OFFER.integer("maxTimeoutSeconds") == 60
    assert OFFER.boolean("live") is True
    assert OFFER.get(parse_network, "network") == "eip155:84532"
    assert OFFER.get(parse_amount, "amount") == 10000
    assert OFFER.get(parse_seconds, "maxTimeoutSeconds") == 60
    assert OFFER.get(parse_address, "asset") == "0x036cbd53842c5426634e7929541ec2318f3dcf7e"
    assert OFFER.optional(parse_address, "payTo") is None
    assert OFFER.optional(parse_amount, "amount") == 10000
    assert OFFER.object("extra").at == "/accepted/extra"
    assert OFFER.object_or_none("none") is None
    assert OFFER.texts("tags") == ["a", "b"]
    assert [each.at for each in OFFER.objects("offers")] == ["/accepted/offers/0", "/accepted/offers/1"]
    first, second = OFFER.list("accepts")
    assert isinstance(first, Fields)
    assert (first.at, second) == ("/accepted/accepts/0", 2)
    assert "scheme" in OFFER
    assert "none" not in OFFER
    assert "none" not in list(OFFER)


@pytest.mark.parametrize(
    ("read", "at"),
    [
        (lambda: OFFER.text("missing"), "/accepted/missing"),
        (lambda: OFFER.text("none"), "/accepted/none"),
        (lambda: OFFER.text("rate"), "/accepted/rate"),
        (lambda: OFFER.text("scheme", most=4), "/accepted/scheme"),
        (lambda: OFFER.text_or("live", ""), "/accepted/live"),
        (lambda: OFFER.number("live"), "/accepted/live"),
        (lambda: OFFER.number("amount"), "/accepted/amount"),
        (lambda: OFFER.integer("rate"), "/accepted/rate"),
        (lambda: OFFER.boolean("maxTimeoutSeconds"), "/accepted/maxTimeoutSeconds"),
        (lambda: OFFER.boolean("scheme"), "/accepted/scheme"),
        (lambda: OFFER.object("tags"), "/accepted/tags"),
        (lambda: OFFER.object("none"), "/accepted/none"),
        (lambda: OFFER.object("extra").object("na/me").text("~"), "/accepted/extra/na~1me/~0"),
        (lambda: OFFER.list("extra"), "/accepted/extra"),
        (lambda: OFFER.list("tags", most=1), "/accepted/tags"),
        (lambda: OFFER.objects("accepts"), "/accepted/accepts/1"),
        (lambda: OFFER.texts("accepts"), "/accepted/accepts/0"),
        (lambda: OFFER.objects("accepts")[0].get(parse_network, "amount"), "/accepted/accepts/1"),
        (lambda: OFFER.objects("offers")[1].text("x"), "/accepted/offers/1/x"),
        (lambda: OFFER.get(parse_amount, "missing"), "/accepted/missing"),
        (lambda: OFFER.get(parse_amount, "none"), "/accepted/none"),
        (lambda: OFFER.get(parse_amount, "scheme"), "/accepted/scheme"),
        (lambda: OFFER.get(parse_seconds, "rate"), "/accepted/rate"),
        (lambda: OFFER.optional(parse_address, "network"), "/accepted/network"),
    ],
)
def test_every_error_points_at_the_member(read: Any, at: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read()
    assert (caught.value.source, caught.value.pointer) == ("PAYMENT-SIGNATURE", at)


def test_the_reason_of_the_parser_is_kept() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        OFFER.get(parse_network, "scheme")
    assert caught.value.reason is Reason.INVALID_NETWORK


@given(scalars | st.lists(scalars, max_size=2))
def test_fields_want_an_object(document: Json) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Fields(document, "/payload", "body")
    assert caught.value.pointer == "/payload"


@given(st.dictionaries(st.sampled_from(["a", "b/c", "~"]), documents, max_size=3), st.sampled_from(["a", "b/c", "~", "z"]))
def test_no_reader_raises_anything_else(document: dict[str, Json], key: str) -> None:
    fields = Fields(document)
    readers: list[Any] = [fields.text, fields.number, fields.integer, fields.boolean, fields.object, fields.list]
    readers += [fields.objects, fields.texts, fields.object_or_none, lambda k: fields.get(parse_amount, k)]
    readers += [lambda k: fields.optional(parse_address, k), lambda k: fields.text_or(k, "")]
    for read in readers:
        with suppress(RemoteProtocolError):
            read(key)


def test_pointers_are_escaped() -> None:
    assert pointer("", "a/b") == "/a~1b"
    assert pointer("/x", "~1") == "/x/~01"
    assert pointer("/x", 3) == "/x/3"
    assert pointer("", "") == "/"


def test_the_module_does_not_shadow_the_standard_library() -> None:
    assert sys.modules["json"] is json
    assert json.__name__ == "json"
