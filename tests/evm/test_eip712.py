"""The general encoder against ethers' 130 cases, the EIP's own example, and messages that must not be hashed."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError
from x402core.evm.address import checksum
from x402core.evm.eip712 import (
    domain_separator,
    encode_data,
    encode_type,
    hash_struct,
    type_hash,
    typed_data_digest,
)
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import public_address, recover, sign
from x402core.values import Address

from .vectors import load

CASES = load("eip712/typed-data.json")


def test_there_are_130() -> None:
    assert len(CASES) == 130


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_ethers_case(case: dict[str, Any]) -> None:
    types, primary, domain, data = case["types"], case["primaryType"], case["domain"], case["data"]
    assert "0x" + encode_data(types, primary, data).hex() == case["encoded"]
    digest = typed_data_digest(types, primary, domain, data)
    assert "0x" + digest.hex() == case["digest"]
    if "privateKey" in case:
        key, signature = bytes.fromhex(case["privateKey"][2:]), bytes.fromhex(case["signature"][2:])
        assert sign(digest, key) == signature
        assert recover(digest, signature) == public_address(key)


MAIL = {
    "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
    "Mail": [
        {"name": "from", "type": "Person"},
        {"name": "to", "type": "Person"},
        {"name": "contents", "type": "string"},
    ],
}
DOMAIN = {
    "name": "Ether Mail",
    "version": "1",
    "chainId": 1,
    "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
}
MESSAGE = {
    "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
    "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
    "contents": "Hello, Bob!",
}


def test_the_example_in_the_eip() -> None:
    assert encode_type(MAIL, "Mail") == ("Mail(Person from,Person to,string contents)Person(string name,address wallet)")
    assert type_hash(MAIL, "Mail").hex() == "a0cedeb2dc280ba39b857546d74f5549c3a1d7bdc2dd96bf881f76108e23dac2"
    assert domain_separator(DOMAIN).hex() == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"
    assert hash_struct(MAIL, "Mail", MESSAGE).hex() == ("c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e")
    digest = typed_data_digest(MAIL, "Mail", DOMAIN, MESSAGE)
    assert digest.hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
    assert public_address(keccak(b"cow")) == recover(digest, sign(digest, keccak(b"cow")))


def test_a_declared_domain_must_be_the_standards() -> None:
    fields = [{"name": name, "type": kind} for name, kind in (("name", "string"), ("chainId", "uint256"))]
    domain = {"name": "x", "chainId": 1}
    types = {**MAIL, "EIP712Domain": fields}
    digest = typed_data_digest(types, "Mail", domain, MESSAGE)
    full = {"types": types, "primaryType": "Mail", "domain": domain, "message": MESSAGE}
    assert digest == bytes(_hash_eip191_message(encode_typed_data(full_message=full)))
    assert digest == typed_data_digest(MAIL, "Mail", domain, MESSAGE)
    wrong: list[Any] = [fields[::-1], fields[:1], [*fields, {"name": "salt", "type": "bytes32"}], []]
    wrong.append([fields[0], {"name": "chainId", "type": "uint64"}])
    for declared in wrong:
        with pytest.raises(LocalProtocolError, match="EIP712Domain"):
            typed_data_digest({**MAIL, "EIP712Domain": declared}, "Mail", domain, MESSAGE)


def test_types_may_refer_to_themselves() -> None:
    types = {"Node": [{"name": "value", "type": "uint8"}, {"name": "children", "type": "Node[]"}]}
    assert encode_type(types, "Node") == "Node(uint8 value,Node[] children)"
    tree: dict[str, Any] = {"value": 1, "children": [{"value": 2, "children": []}]}
    assert len(typed_data_digest(types, "Node", {}, tree)) == 32
    for _ in range(100):
        tree = {"value": 1, "children": [tree]}
    with pytest.raises(LocalProtocolError, match="nested deeper"):
        typed_data_digest(types, "Node", {}, tree)


def _one(kind: str, value: object, **more: Any) -> bytes:
    return hash_struct({"T": [{"name": "a", "type": kind}], **more}, "T", {"a": value})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint8", 256),
        ("uint8", -1),
        ("uint8", True),
        ("uint8", 1.0),
        ("uint8", None),
        ("uint8", "1_0"),
        ("uint8", " 1"),
        ("uint8", "١"),
        ("uint8", ""),
        ("uint256", 2**256),
        ("uint256", "9" * 5000),
        ("int8", 128),
        ("int8", -129),
        ("int256", -(2**255) - 1),
        ("bool", 1),
        ("bool", "true"),
        ("address", "0x" + "00" * 19),
        ("address", "00" * 20),
        ("address", 0),
        ("bytes4", "0x000000"),
        ("bytes4", bytes(5)),
        ("bytes32", "0x" + "0" * 63),
        ("bytes", "0x0"),
        ("bytes", "0x 00"),
        ("bytes", "abc"),
        ("string", b"abc"),
        ("string", "\ud800"),
        ("uint8[]", 1),
        ("uint8[]", "ab"),
        ("uint8[2]", [1]),
        ("uint8[2]", [1, 2, 3]),
        ("uint8[][2]", [[1], [256]]),
    ],
)
def test_a_value_outside_its_type_is_refused(kind: str, value: object) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        _one(kind, value)
    assert caught.value.field.startswith("message.a")


@pytest.mark.parametrize(
    "kind",
    ["uint", "int", "uint7", "uint264", "uint0", "uint08", "bytes0", "bytes33", "bytes032", "Other", "", "uint8[",
     "uint8]", "uint8[-1]", "[]", "uint8 ", " uint8", "uint8\n", "uint8[" + "9" * 5000 + "]", "fixed128x18"],
)  # fmt: skip
def test_an_unknown_type_is_refused(kind: str) -> None:
    with pytest.raises(LocalProtocolError, match="unknown type"):
        _one(kind, 1)


def test_errors_name_the_path() -> None:
    types = {"Book": [{"name": "people", "type": "Person[]"}], "Person": MAIL["Person"]}
    good = {"name": "x", "wallet": "0x" + "11" * 20}
    for people, path in (
        ([good, {"name": "x", "wallet": "0x"}], "message.people[1].wallet"),
        ([good, good, {"name": 1, "wallet": "0x" + "11" * 20}], "message.people[2].name"),
        ([{"name": "x"}], "message.people[0].wallet"),
        ([{**good, "extra": 1}], "message.people[0].extra"),
        ([7], "message.people[0]"),
    ):
        with pytest.raises(LocalProtocolError) as caught:
            typed_data_digest(types, "Book", {}, {"people": people})
        assert caught.value.field == path


@pytest.mark.parametrize(
    "types",
    [
        {},
        {"T": [{"name": "a b", "type": "bool"}]},
        {"T": [{"name": "a", "type": "bool"}, {"name": "a", "type": "bool"}]},
        {"T": [{"name": "a"}]},
        {"T": [{"type": "bool"}]},
        {"T": ["bool a"]},
        {"T": [{"name": "a", "type": 7}]},
    ],
)
def test_malformed_types_are_refused(types: Any) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        hash_struct(types, "T", {"a": True})
    assert caught.value.field.startswith("types")


def test_a_struct_cannot_take_an_atomic_name_nor_the_domain_be_the_message() -> None:
    with pytest.raises(LocalProtocolError, match="no such struct"):
        hash_struct({"uint8": []}, "uint8", {})
    with pytest.raises(LocalProtocolError, match="primaryType"):
        typed_data_digest(MAIL, "EIP712Domain", DOMAIN, DOMAIN)
    with pytest.raises(LocalProtocolError, match=r"domain\.colour"):
        domain_separator({"name": "x", "chainId": "1", "colour": "red"})
    with pytest.raises(LocalProtocolError, match=r"domain\.chainId"):
        domain_separator({"name": "x", "chainId": -1})


def test_numbers_may_be_int_decimal_or_hex() -> None:
    assert _one("uint256", 255) == _one("uint256", "255") == _one("uint256", "0xff") == _one("uint256", "0xFF")
    assert _one("int16", -1) == _one("int16", "-1") != _one("int16", 1)
    assert _one("bytes3", b"abc") == _one("bytes3", "0x616263")


@given(
    st.integers(0, 2**256 - 1),
    st.integers(-(2**127), 2**127 - 1),
    st.binary(max_size=80),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.lists(st.lists(st.booleans(), min_size=2, max_size=2), max_size=4),
    st.binary(min_size=20, max_size=20),
)
def test_equals_eth_account(a: int, b: int, c: bytes, d: str, e: list[list[bool]], f: bytes) -> None:
    fields = {"a": "uint256", "b": "int128", "c": "bytes", "d": "string", "e": "bool[2][]", "f": "address"}
    types = {"T": [{"name": n, "type": k} for n, k in fields.items()], "U": [{"name": "t", "type": "T[]"}]}
    inner = {"a": a, "b": b, "c": c, "d": d, "e": e, "f": checksum(Address("0x" + f.hex()))}
    message = {"t": [inner, inner]}
    expected = encode_typed_data({"name": d}, types, message)
    assert typed_data_digest(types, "U", {"name": d}, message) == bytes(_hash_eip191_message(expected))
