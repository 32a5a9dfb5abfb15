from __future__ import annotations

from typing import Any

import pytest
import rlp as reference
from hypothesis import example, given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.evm.rlp import decode, encode, to_int

items = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=20)


@given(items)
@example(b"")
@example(())
@example(b"\x7f")
@example(b"\x80")
@example(b"x" * 55)
@example(b"x" * 56)
@example(b"x" * 256)
@example(b"x" * 65536)
@example((b"x" * 54,))
@example((b"x" * 55,))
def test_round_trip_and_pyrlp(item: Any) -> None:
    raw = encode(item)
    assert raw == reference.encode(item)
    assert decode(raw) == item


@given(st.integers(0, 2**300))
def test_numbers(number: int) -> None:
    assert encode(number) == reference.encode(number)
    assert to_int(decode(encode(number)), 2**300, "n") == number


@given(st.binary(max_size=40))
def test_one_item_has_one_encoding(raw: bytes) -> None:
    """Any bytes either are refused or are exactly what their item encodes to."""
    try:
        item = decode(raw)
    except RemoteProtocolError:
        return
    assert encode(item) == raw


@pytest.mark.parametrize(
    "raw",
    [
        "",  # nothing
        "8100",  # 0x00 needs no prefix
        "817f",
        "b800",  # long form of the empty string
        "b801ff",
        "b837" + "ff" * 55,  # 55 bytes fit the short form
        "b90038" + "ff" * 56,  # a length with a leading zero
        "f800",
        "f837" + "01" * 55,
        "f90038" + "01" * 56,
        "8080",  # left over
        "c000",
        "83ffff",  # cut off
        "b8",
        "b9ff",
        "bf" + "ff" * 8,
        "c3ffff",
        "c28180",  # the inner item fills the list, canonical: kept below
        "c183",  # an item that reaches past its list
        "c2b8ff",
        "c1f8",
        "ff" + "ff" * 8,
        "c281",
    ],
)
def test_other_spellings_are_refused(raw: str) -> None:
    if raw == "c28180":
        assert decode(bytes.fromhex(raw)) == (b"\x80",)
        return
    with pytest.raises(RemoteProtocolError):
        decode(bytes.fromhex(raw))


def test_depth_is_bounded() -> None:
    item: Any = ()
    for _ in range(31):
        item = (item,)
    assert decode(encode(item)) == item
    with pytest.raises(RemoteProtocolError, match="too deeply"):
        decode(encode((item,)))
    raw = b"\xc0"
    for _ in range(5000):  # a list in a list in a list, built without recursion
        size = len(raw).to_bytes(2, "big").lstrip(b"\0")
        raw = (bytes((0xC0 + len(raw),)) if len(raw) < 56 else bytes((0xF7 + len(size),)) + size) + raw
    with pytest.raises(RemoteProtocolError, match="too deeply"):
        decode(raw)


@pytest.mark.parametrize("bad", [-1, "text", None, 1.5, {1: 2}, [b"", "x"]])
def test_what_cannot_be_encoded(bad: Any) -> None:
    with pytest.raises(LocalProtocolError):
        encode(bad)


def test_to_int_is_strict() -> None:
    for item, text in ((b"\0", "leading zero"), (b"\0\1", "leading zero"), (b"\1\0", "too large"), ((), "a list")):
        with pytest.raises(RemoteProtocolError, match=text):
            to_int(item, 255, "nonce")
    assert to_int(b"", 255, "nonce") == 0
