from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any

import eth_abi
import pytest
from eth_abi.grammar import parse
from hypothesis import assume, given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.evm import abi
from x402core.evm.abi import decode, encode, encode_call, event_topic, revert_reason, selector

from .vectors import NONCE, PAY_TO, PAYER

SELECTORS = {  # x402.md 2.0
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)": "e3ee160e",
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)": "cf092995",
    "authorizationState(address,bytes32)": "e94a0102",
    "isValidSignature(bytes32,bytes)": "1626ba7e",
    "approve(address,uint256)": "095ea7b3",
    "allowance(address,address)": "dd62ed3e",
    "balanceOf(address)": "70a08231",
    "nonces(address)": "7ecebe00",
    "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)": "d505accf",
    "settle(((address,uint256),uint256,uint256),address,(address,uint256),bytes)": "13cd3b53",
    "PERMIT2()": "6afdd850",
    "nonceBitmap(address,uint256)": "4fe02b44",
    "tryAggregate(bool,(address,bytes)[])": "bce38bd7",
}


def test_selectors_and_topics() -> None:
    for signature, expected in SELECTORS.items():
        assert selector(signature).hex() == expected
    assert event_topic("AuthorizationUsed(address,bytes32)") == (
        "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
    )


@pytest.mark.parametrize(
    "bad",
    ["", "transfer", "transfer(", "transfer)", "transfer(uint)", "transfer(address, uint256)", "(address)", "f(a)",
     "f(uint256))", "f((uint256)", "f()()", "f(uint256,)", "f(,uint256)", "f(uint7)", "f(uint08)", "f(uint0)",
     "f(bytes33)", "f(address20)", "f(uint256[0])", "f(uint256[01])", "f(())", "f(uint256[)", "f(uint256)x", " f()",
     "f(uint256) returns (bool)", "f(uint256 amount)", "1f()", "f(uint256[][)", "f(function)", "f(uint[])", "f((uint,bool))",
     "f(function[])", "f(bool)[]", "f(fixed128x18)",
     "f(fixed128x18[])", "f(byte)", "f(hash32)", "f(bool8)", "f(string8)", "f(bytes08)", "f(uint256,)[]",
     "f\n(bool)", "f(bool)\n", "f(bool[]\n)", "f(\u0661)", "\ud800(bool)", "f(" + "(" * 3000,
     "f(" + "(" * 50 + "bool" + ")" * 51, "f(bool8[])",
     "f(bool" + "[]" * 5000 + ")", "f(bool" + "[1]" * 5 + ")", "f(()[])"],
)  # fmt: skip
def test_signatures_that_are_not_canonical(bad: str) -> None:
    for function in (selector, event_topic):
        with pytest.raises(LocalProtocolError):
            function(bad)


def test_a_transfer() -> None:
    assert encode_call("transfer(address,uint256)", PAY_TO, 5) == bytes.fromhex(
        "a9059cbb" + "00" * 12 + PAY_TO[2:] + "00" * 31 + "05"
    )
    assert encode_call("PERMIT2()") == bytes.fromhex("6afdd850")
    assert encode_call("f(bytes32)", NONCE) == encode_call("f(bytes32)", bytes.fromhex(NONCE[2:]))


@pytest.mark.parametrize("bad", [None, 5, b"f()", [], {}])
def test_signatures_that_are_no_strings(bad: Any) -> None:
    for function in (selector, event_topic, encode_call):
        with pytest.raises(LocalProtocolError) as caught:
            function(bad)
        assert caught.value.field == "signature"


@pytest.mark.parametrize(
    "bad",
    [None, 5, "uint256", {"uint256"}, (None,), ([],), ("uint",), ("uint8,bool",), ("uint8)", "(bool"), ("",), ("bool", "")],
)
def test_types_that_are_none(bad: Any) -> None:
    with pytest.raises(LocalProtocolError, match="types"):
        encode(bad, (1,))
    with pytest.raises(LocalProtocolError, match="types"):
        decode(bad, bytes(64))


def test_misuse_names_the_argument() -> None:
    for values in (None, 5, "a", {1}, b"a"):
        with pytest.raises(LocalProtocolError, match="values"):
            encode(("uint8",), values)  # type: ignore[arg-type]
    for data in (None, "0x", 5, bytearray(32)):
        for name in ("bool", "bytes"):
            with pytest.raises(LocalProtocolError, match="data"):
                decode((name,), data)  # type: ignore[arg-type]


HOT = """
import sys
from x402core.evm import abi
word = bytes(32)
abi.encode_call("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)",
                "0x" + "11" * 20, "0x" + "22" * 20, 1, 0, 2, "0x" + "33" * 32, 27, word, word)
abi.decode(("uint256", "bool", "address", "bytes32"), bytes(128))
abi.event_topic("AuthorizationUsed(address,bytes32)")
abi.selector("Error(string)")
abi.revert_reason(abi.encode_call("Panic(uint256)", 1))
print([name for name in ("eth_abi", "eth_utils", "parsimonious") if name in sys.modules])
"""


def test_the_hot_calls_load_no_library() -> None:
    done = subprocess.run([sys.executable, "-c", HOT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def pointer(words: int) -> bytes:
    """Return a word that may be a pointer to another, or a short length."""
    return word(32 * words if words < 11 else 2**255 if words == 12 else 1)


# --- random types and values, against eth_abi -----------------------------------------------------------------------

words = st.one_of(
    st.sampled_from(["address", "bool", "bytes32", "uint256"]),
    st.integers(1, 32).map(lambda n: f"uint{8 * n}"),
    st.integers(1, 32).map(lambda n: f"bytes{n}"),
)
elementary = st.one_of(words, st.sampled_from(["bytes", "string"]), st.integers(1, 32).map(lambda n: f"int{8 * n}"))
types = st.recursive(
    elementary,
    lambda inner: st.one_of(
        inner.map(lambda t: f"{t}[]"),
        st.tuples(inner, st.integers(1, 3)).map(lambda p: f"{p[0]}[{p[1]}]"),
        st.lists(inner, min_size=1, max_size=4).map(lambda ts: f"({','.join(ts)})"),
    ),
    max_leaves=6,
)
rows = st.lists(types, max_size=4)


def known(listed: list[str]) -> bool:
    """Whether types nest no deeper than ours may."""
    return abi._row(f"({','.join(listed)})") is not None


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a parsed type."""
    if kind.is_array:
        low, high = (kind.arrlist[-1] * 2) or (0, 3)
        return st.lists(values(kind.item_type), min_size=low, max_size=high).map(tuple)
    if hasattr(kind, "components"):
        return st.tuples(*[values(part) for part in kind.components])
    match kind.base, kind.sub:
        case "address", _:
            return st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
        case "bool", _:
            return st.booleans()
        case "string", _:
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
        case "bytes", None:
            return st.binary(max_size=70)
        case "bytes", size:
            return st.binary(min_size=size, max_size=size)
        case "uint", size:
            return st.integers(0, 2**size - 1)
        case _, size:
            return st.integers(-(2 ** (size - 1)), 2 ** (size - 1) - 1)


@given(st.lists(words, max_size=8), st.data())
def test_words_are_packed_and_read_as_eth_abi_does(listed: list[str], data: st.DataObject) -> None:
    args = tuple(data.draw(values(parse(name))) for name in listed)
    raw = encode(listed, args)
    assert raw == eth_abi.encode(listed, args)
    assert decode(listed, raw) == args == eth_abi.decode(listed, raw)
    assert abi._row(f"({','.join(listed)})").packed  # type: ignore[union-attr]


@given(st.lists(words, min_size=1, max_size=4), st.data())
def test_words_are_refused_as_eth_abi_does(listed: list[str], data: st.DataObject) -> None:
    raw = data.draw(
        st.binary(max_size=32 * len(listed)).map(lambda b: b.rjust(32 * len(listed), b"\0")) | st.binary(max_size=140)
    )
    try:
        expected: object = eth_abi.decode(listed, raw)
    except eth_abi.exceptions.DecodingError:
        expected = RemoteProtocolError
    try:
        ours: object = decode(listed, raw)
    except RemoteProtocolError:
        ours = RemoteProtocolError
    assert ours == expected


@given(rows, st.data())
def test_encodes_and_decodes_as_eth_abi_does(listed: list[str], data: st.DataObject) -> None:
    assume(known(listed))
    args = tuple(data.draw(values(parse(name))) for name in listed)
    raw = encode(listed, args)
    assert raw == eth_abi.encode(listed, args)
    signature = f"f({','.join(listed)})"
    assert encode_call(signature, *args) == selector(signature) + raw
    brackets = max((name.count("[") for name in listed), default=0)
    if brackets and len(raw) > abi._MOST[brackets]:
        with pytest.raises(RemoteProtocolError, match="longer than"):
            decode(listed, raw)
    else:
        assert decode(listed, raw) == args


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(st.characters(), max_size=66)
    | st.binary(max_size=33).map(lambda raw: "0x" + raw.hex())
    | st.binary(max_size=33)
    | st.binary(max_size=33).map(bytearray),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(rows, st.lists(anything, max_size=4))
def test_any_argument_is_encoded_or_named(listed: list[str], args: list[Any]) -> None:
    for name, arg in zip(listed, args, strict=False):
        found = "nothing"
        try:
            assert len(encode_call(f"f(bool,{name})", True, arg)) % 32 == 4
        except LocalProtocolError as error:
            found = error.field
        assert found in (("nothing", "args[1]") if known(["bool", name]) else ("signature",))


@given(st.text(st.sampled_from("()[],0128aubintesrgdfx .") | st.characters(), max_size=40))
def test_any_text_is_a_signature_or_a_local_error(text: str) -> None:
    for function, field in ((selector, "signature"), (lambda name: decode((name,), b""), "types")):
        found = field
        try:
            function(text)
        except LocalProtocolError as error:
            found = error.field
        except RemoteProtocolError:
            found = "types"
        assert found == field


@given(rows, st.binary(max_size=300) | st.lists(st.integers(0, 12), max_size=30).map(lambda ns: b"".join(map(pointer, ns))))
def test_any_bytes_are_a_value_or_a_remote_error(listed: list[str], raw: bytes) -> None:
    assume(known(listed))
    try:
        ours = decode(listed, raw)
    except RemoteProtocolError:
        return
    assert ours == eth_abi.decode(listed, raw)


@given(st.sampled_from(["bytes", "string", "uint8[]", "(bool,bytes)[]", "address", "bytes4[2]", "int8"]), st.data())
def test_damaged_bytes_are_refused_or_mean_what_eth_abi_says(name: str, data: st.DataObject) -> None:
    raw = bytearray(encode([name], [data.draw(values(parse(name)))]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        ours = decode([name], bytes(raw))
    except RemoteProtocolError:
        return
    assert ours == eth_abi.decode([name], bytes(raw))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("uint256", b""),
        ("uint256", bytes(31)),
        ("uint8", word(256)),
        ("int8", word(128)),
        ("bool", word(2)),
        ("address", b"\1" + bytes(31)),
        ("bytes4", bytes(31) + b"\1"),
        ("bytes", word(32)),
        ("bytes", word(32) + word(1)),
        ("bytes", word(32) + word(1) + b"x"),  # not padded
        ("bytes", word(32) + word(1) + b"xy" + bytes(30)),  # padded with something
        ("bytes", word(2**255) + word(0)),
        ("bytes", word(2**256 - 1) + word(0)),
        ("bytes", word(32) + word(2**255)),
        ("string", word(32) + word(1) + b"\xff" + bytes(31)),
        ("uint256[]", word(32) + word(2) + word(1)),
        ("uint256[]", word(32) + word(2**255)),
        ("uint256[]", word(0)),
        ("bytes[]", word(32) + word(2**64)),
        ("bytes", word(0) + word(0)),  # the pointer itself would be the length
        ("bytes[]", word(32) + word(1) + word(0) + word(0)),
        ("(bool,bytes)", word(32) + word(0) + word(0)),
    ],
)
def test_malformed_answers(name: str, raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode([name], raw)


def nested(levels: int, size: int, tail: bytes) -> bytes:
    """Return arrays in one another, each of ``size`` pointers to the same next one, and the last to ``tail``."""
    for _ in range(levels):
        tail = word(size) + word(32 * size) * size + tail
    return word(32) + tail


def blob(room: int) -> bytes:
    length = room // 32 * 32 - 32
    return word(length) + b"\1" * length


def bombs() -> list[tuple[str, bytes]]:
    """Return the worst of each kind that may still be decoded: as many pointers as bytes pointed at."""
    found = [("bytes", word(32) + blob(65500)), ("(bytes,bytes,bytes)", word(32) + word(96) * 3 + blob(65300))]
    for levels in range(1, 5):
        most = abi._MOST[levels]
        for share in (2, 3, 4, 5, 6):  # of the room that is pointers
            size = most * (share - 1) // share // levels // 32 - 2
            if size > 0:
                found.append(("bytes" + "[]" * levels, nested(levels, size, blob(most - 32 * (levels * (size + 1) + 1)))))
                found.append(("address" + "[]" * levels, nested(levels - 1, size, word(size) + word(2**160 - 1) * size)))
    found.append((",".join(["bytes[]"] * 8), word(256) * 8 + nested(1, 120, blob(8192 - 32 * 130))[32:]))
    size = 128
    for count in (2, 4, 8):  # an array of pointers to one tuple of pointers to one run
        heads = word(32 * count) * count
        name = f"({','.join(['bytes'] * count)})[]"
        found.append((name, nested(1, size, heads + blob(8192 - 32 * (2 + size + count)))))
    return found


@pytest.mark.parametrize(("name", "raw"), bombs())
def test_a_bomb_within_the_limits_unfolds_to_a_few_megabytes(name: str, raw: bytes) -> None:
    encode(("bytes[]",), ([],))  # the library is not what is measured
    tracemalloc.start()
    try:
        decode(name.split(",") if name[0] != "(" else [name], raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_bomb_beyond_the_limits_is_not_given_to_eth_abi() -> None:
    """2000 pointers to one run of 60 kB: 124 kB that eth_abi turns into 120 MB."""
    with pytest.raises(RemoteProtocolError, match="longer than 8192 bytes"):
        decode(["bytes[]"], nested(1, 2000, blob(60032)))
    with pytest.raises(RemoteProtocolError, match="longer than 65536 bytes"):
        decode(["bytes"], word(32) + blob(65536))
    with pytest.raises(RemoteProtocolError, match="longer than 1024 bytes"):
        decode(["bytes[2][2][2][2]"], bytes(1056))
    for deeper in ("bytes[][][][][]", "bytes" + "[2]" * 12, ",".join(["bool[]"] * 17)):
        with pytest.raises(LocalProtocolError):
            decode(deeper.split(","), bytes(1024))


def test_words_may_be_followed_by_any_number_of_bytes() -> None:
    assert decode(["uint8"], word(7) + bytes(100_000)) == (7,)


def test_trailing_bytes_are_ignored() -> None:
    assert decode(["uint8"], word(7) + b"more") == (7,)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint256", -1),
        ("uint256", 2**256),
        ("uint256", True),
        ("uint256", "1"),
        ("uint8", 256),
        ("int8", 128),
        ("bool", 1),
        ("address", PAYER[2:]),
        ("address", bytes(20)),
        ("address", PAYER + "\n"),
        ("bytes32", bytes(31)),
        ("bytes32", "0x11"),
        ("bytes4", "0x11111111"),
        ("bytes", "0x11"),
        ("string", b"x"),
        ("string", "\ud800"),
        ("uint8[2]", (1,)),
        ("uint8[]", 5),
        ("uint8[]", "ab"),
        ("(uint8,bool)", (1,)),
        ("(uint8,bool)", (1, 1)),
        ("int8", True),
        ("int8", "1"),
        ("address[]", ["0x"]),
        ("bytes32[]", [NONCE]),
        ("string[]", ["\ud800"]),
        ("(address,bytes)[]", [(PAYER, "0x")]),
    ],
)
def test_arguments_that_do_not_fit(kind: str, value: object) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_call(f"f(uint8,{kind})", 1, value)
    assert caught.value.field.startswith("args[1]")


def test_a_word_beside_something_dynamic_is_held_to_the_same_rules() -> None:
    """A Hash32 in hex, an address in any case: what eth_abi alone would refuse."""
    signature = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
    mixed = "0x" + PAY_TO[2:].upper()
    assert encode_call(signature, PAYER, mixed, 1, 2, 3, NONCE, b"abc") == selector(signature) + eth_abi.encode(
        signature.partition("(")[2][:-1].split(","), (PAYER, PAY_TO, 1, 2, 3, bytes.fromhex(NONCE[2:]), b"abc")
    )
    for args in (("0x11", b""), (bytes(31), b"")):
        with pytest.raises(LocalProtocolError, match=r"args\[0\]: not a value of type bytes32"):
            encode_call("f(bytes32,bytes)", *args)


def test_the_number_of_arguments_counts() -> None:
    with pytest.raises(LocalProtocolError, match="expected 2 values, got 1"):
        encode_call("transfer(address,uint256)", PAYER)


# --- reverts --------------------------------------------------------------------------------------------------------


def error(text: str) -> bytes:
    return encode_call("Error(string)", text)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "reverted without a reason"),
        (error("FiatTokenV2: invalid signature"), "FiatTokenV2: invalid signature"),
        (error(""), "reverted without a reason"),
        (error("a\x1b[31m\r\nb\u202ec"), "a?[31m??b?c"),
        (error("x" * 200), "x" * 200),
        (error("x" * 5000), "x" * 199 + "…"),
        (encode_call("Panic(uint256)", 0x11), "Panic(0x11)"),
        (encode_call("Panic(uint256)", 1), "Panic(0x01)"),
        (selector("Error(string)"), "malformed error 0x08c379a0"),
        (selector("Error(string)") + word(2**255), "malformed error 0x08c379a0"),
        # FiatToken's padding is not all zeros: the text counts, as Solidity reads it
        (selector("Error(string)") + word(32) + word(5) + b"funds".ljust(31, b"\0") + b"\x41", "funds"),
        (selector("Panic(uint256)") + b"\1", "malformed error 0x4e487b71"),
        (encode_call("InvalidAmount()"), "custom error 0x" + selector("InvalidAmount()").hex()),
        (b"\x01", "custom error 0x01"),
    ],
)
def test_revert_reasons(data: bytes, reason: str) -> None:
    assert revert_reason(data) == reason


@given(st.binary(max_size=100), st.sampled_from([b"", selector("Error(string)"), selector("Panic(uint256)")]))
def test_a_revert_reason_is_always_short_and_printable(data: bytes, head: bytes) -> None:
    reason = revert_reason(head + data)
    assert reason.isprintable()
    assert 0 < len(reason) <= abi._REASON_LENGTH
