"""Builder codes (x402.md 3.7): in documents, where a bad one is dropped, and behind calldata, where one spelling counts."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.wire.builder_code import Codes, advertised, attribution, codes, parse_suffix, presented, suffix
from x402core.wire.extensions import merge
from x402core.wire.json import Json

MARKER = bytes.fromhex("80218021802180218021802180218021")
code = st.from_regex(r"[a-z0-9_]{1,32}", fullmatch=True)
some_codes = st.builds(Codes, st.just("") | code, st.just("") | code, st.lists(code, max_size=11).map(tuple))


def test_a_challenge_a_payment_a_facilitator() -> None:
    shown = advertised("bc_shop", ("shop_sdk",))
    paid = merge(shown, codes(("my_agent",)))
    found = presented(paid)
    assert found == Codes("bc_shop", "", ("my_agent", "shop_sdk"))
    assert attribution(found, "bc_fac", "fac_sdk") == Codes("bc_shop", "bc_fac", ("my_agent", "shop_sdk", "fac_sdk"))
    assert attribution(found, version=1) == Codes("", "", ("my_agent", "shop_sdk"))
    assert attribution(Codes(wallet="somebody")) == Codes()


def test_bad_codes_are_dropped_and_ten_services_taken() -> None:
    services: list[Json] = ["ok", "Not", "", "x" * 33, 7, None, "ok", ["ok"], "ünder", "a\n", *[f"s{n}" for n in range(20)]]
    found = presented({"builder-code": {"info": {"a": "NO", "w": 7, "s": services}}})
    assert found == Codes("", "", ("ok", *[f"s{n}" for n in range(9)]))
    assert len(attribution(found, "", "own").services) == 11
    assert attribution(found, "", "s1") == found


@pytest.mark.parametrize("extension", [None, 7, [], {}, {"info": 7}, {"info": {"s": "abc"}}, {"info": None}])
def test_no_codes_at_all(extension: Json) -> None:
    assert presented({"builder-code": extension}) == Codes()
    assert presented({}) == Codes()


def test_codes_at_the_extension_itself_as_the_specification_shows_them() -> None:
    assert presented({"builder-code": {"a": "shop", "s": ["x"]}}) == Codes("shop", "", ("x",))


@pytest.mark.parametrize("bad", ["", "UPPER", "x" * 33, "a-b", "a\n", "ü"])
def test_our_own_bad_codes(bad: str) -> None:
    with pytest.raises(LocalProtocolError, match="services"):
        Codes(services=(bad,))
    if bad:
        with pytest.raises(LocalProtocolError, match="app"):
            advertised(bad)
        with pytest.raises(LocalProtocolError, match="wallet"):
            attribution(Codes(), bad)


def test_limits() -> None:
    six = tuple(f"s{n}" for n in range(6))
    for make in (lambda: codes(six), lambda: advertised("", six), lambda: Codes(services=six + six)):
        with pytest.raises(LocalProtocolError, match="at most"):
            make()


# --- behind calldata -------------------------------------------------------------------------------------------------


def test_nothing_to_say_no_suffix() -> None:
    assert suffix(Codes()) == b""
    assert parse_suffix(b"") is None
    assert parse_suffix(b"\xa9\x05\x9c\xbb" + bytes(64)) is None


@given(some_codes, st.binary(max_size=80))
def test_a_suffix_is_read_back(found: Codes, calldata: bytes) -> None:
    written = suffix(found)
    if found:
        assert parse_suffix(calldata + written) == found
        length = int.from_bytes(written[-19:-17], "big")
        members: dict[str, object] = {key: value for key, value in (("a", found.app), ("w", found.wallet)) if value}
        members |= {"s": list(found.services)} if found.services else {}
        assert written[:length] == cbor2.dumps(members)  # the general encoder writes the same
        assert len(written) == length + 19


@pytest.mark.parametrize("length", [1, 23, 24, 32])
def test_a_code_of_any_length(length: int) -> None:
    found = Codes("a" * length, "", ("s" * length,))
    assert suffix(found).startswith(cbor2.dumps({"a": found.app, "s": list(found.services)}))
    assert parse_suffix(suffix(found)) == found


def test_a_marker_elsewhere_is_no_suffix() -> None:
    written = suffix(Codes("shop"))
    assert parse_suffix(written + b"\0") is None
    assert parse_suffix(suffix(Codes("first")) + written) == Codes("shop")
    assert parse_suffix(b"\x00\x01" + MARKER) is None  # schema 1
    assert parse_suffix(MARKER) is None


def behind(document: object, *, schema: int = 2, length: int | None = None, **options: bool) -> bytes:
    data = document if isinstance(document, bytes) else cbor2.dumps(document, **options)
    return data + (len(data) if length is None else length).to_bytes(2, "big") + bytes((schema,)) + MARKER


@pytest.mark.parametrize(
    "calldata",
    [
        b"\x02" + MARKER,
        b"\x00\x02" + MARKER,
        behind({"a": "shop"}, length=500),
        behind({"a": "shop"}, length=3),
        behind(b""),
        behind({}),
        behind({"s": ["x"], "a": "shop"}),  # another order
        behind({"a": "shop", "x": "y"}),
        behind({"a": "Shop"}),
        behind({"a": "shöp"}),
        behind({"a": 7}),
        behind({"a": ["shop"]}),
        behind({"s": []}),
        behind({"s": ["x"] * 12}),
        behind({"s": "x"}),
        behind(["a", "shop"]),
        behind(b"\xa1\x61a\x78\x04shop"),  # a length not in its shortest form
        behind(b"\xa1\x61a\x7f\x64shop\xff"),  # a length left open
        behind(b"\xa2\x61a\x64shop\x61a\x64shop"),  # the same key twice
        behind(b"\xa1\x61a\x64shop\x00"),
        behind(b"\xa1\x61a\x64sh"),
        behind(b"\xa1\x61a\x78"),
        behind(b"\xa1\x61s\x9f"),
    ],
)
def test_hostile_suffix(calldata: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="ERC-8021"):
        parse_suffix(b"\xa9\x05\x9c\xbb" + calldata)


@given(st.binary(max_size=60))
def test_any_bytes_before_the_marker(data: bytes) -> None:
    for calldata in (data + MARKER, behind(data)):
        try:
            found = parse_suffix(calldata)
        except RemoteProtocolError:
            continue
        assert found is None or calldata.endswith(suffix(found))
