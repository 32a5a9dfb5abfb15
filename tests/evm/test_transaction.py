"""Transactions against eth-account's: what we sign it accepts, what it signs we read, and nothing else passes."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.evm import rlp
from x402core.evm.address import checksum
from x402core.evm.curve import N
from x402core.evm.secp256k1 import sign
from x402core.evm.transaction import PricedTransaction, Transaction, decode, decode_any, transaction_hash
from x402core.values import Address, Hash32

from .vectors import KEY, NONCE, PAY_TO, PAYER

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: Address("0x" + raw.hex()))
slots = st.binary(min_size=32, max_size=32).map(lambda raw: Hash32("0x" + raw.hex()))
access_lists = st.lists(st.tuples(addresses, st.lists(slots, max_size=3).map(tuple)), max_size=3).map(tuple)
transactions = st.builds(
    Transaction,
    chain_id=st.integers(1, 2**53),
    nonce=st.integers(0, 2**64 - 1),
    max_priority_fee=st.integers(0, 2**128),
    max_fee=st.integers(0, 2**128),
    gas=st.integers(0, 2**64 - 1),
    to=st.none() | addresses,
    value=st.integers(0, 2**256 - 1),
    data=st.binary(max_size=100),
    access_list=access_lists,
)


def as_eth_account(t: Transaction) -> dict[str, Any]:
    return {
        "type": 2,
        "chainId": t.chain_id,
        "nonce": t.nonce,
        "maxPriorityFeePerGas": t.max_priority_fee,
        "maxFeePerGas": t.max_fee,
        "gas": t.gas,
        "to": "" if t.to is None else checksum(t.to),
        "value": t.value,
        "data": t.data,
        "accessList": [{"address": a, "storageKeys": list(keys)} for a, keys in t.access_list],
    }


@given(transactions)
@settings(max_examples=60)
def test_same_bytes_as_eth_account(transaction: Transaction) -> None:
    theirs = Account.sign_transaction(as_eth_account(transaction), KEY)
    raw = transaction.sign_with(sign(transaction.signing_hash(), KEY))
    assert raw == bytes(theirs.raw_transaction)
    assert transaction_hash(raw) == "0x" + bytes(theirs.hash).hex()
    assert decode(raw) == decode_any(raw) == (transaction, PAYER)
    assert Account.recover_transaction(raw).lower() == PAYER


def _priced(**more: Any) -> dict[str, Any]:
    return {"nonce": 7, "gasPrice": 10**9, "gas": 21000, "to": checksum(PAY_TO), "value": 5, "data": b"hi", **more}


@pytest.mark.parametrize("chain", [1, 31337, 84532, 2**40])
def test_legacy_with_replay_protection(chain: int) -> None:
    signed = Account.sign_transaction(_priced(chainId=chain), KEY)
    transaction, sender = decode_any(bytes(signed.raw_transaction))
    assert transaction == PricedTransaction(0, chain, 7, 10**9, 21000, PAY_TO, 5, b"hi")
    assert sender == PAYER


def test_legacy_without_replay_protection() -> None:
    signed = Account.sign_transaction(_priced(), KEY)
    transaction, sender = decode_any(bytes(signed.raw_transaction))
    assert transaction == PricedTransaction(0, None, 7, 10**9, 21000, PAY_TO, 5, b"hi")
    assert sender == PAYER


def test_type_1() -> None:
    access = [{"address": checksum(PAYER), "storageKeys": [NONCE]}]
    signed = Account.sign_transaction(_priced(type=1, chainId=1, accessList=access), KEY)
    transaction, sender = decode_any(bytes(signed.raw_transaction))
    assert transaction == PricedTransaction(1, 1, 7, 10**9, 21000, PAY_TO, 5, b"hi", ((PAYER, (NONCE,)),))
    assert sender == PAYER


def test_deployment_in_every_type() -> None:
    for more in ({"chainId": 1}, {"chainId": 1, "type": 1, "accessList": []}):
        signed = Account.sign_transaction(_priced(**more) | {"to": ""}, KEY)
        assert decode_any(bytes(signed.raw_transaction))[0].to is None


GOOD = Transaction(84532, 1, 10, 20, 100000, PAY_TO, 0, b"\x01\x02")
RAW = GOOD.sign_with(sign(GOOD.signing_hash(), KEY))
FIELDS: list[Any] = list(rlp.decode(RAW[1:]))


def tampered(index: int, item: Any) -> bytes:
    return b"\x02" + rlp.encode([*FIELDS[:index], item, *FIELDS[index + 1 :]])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x02",
        b"\x00",
        b"\x03" + RAW[1:],
        b"\x04" + RAW[1:],
        b"\x7f" + RAW[1:],
        b"\x80",
        RAW[:-1],
        RAW + b"\0",
        RAW[1:],  # no type byte: a list of 12 is no legacy transaction
        b"\x01" + RAW[1:],
        b"\x02" + rlp.encode(FIELDS[:11]),
        b"\x02" + rlp.encode([*FIELDS, b""]),
        b"\x02" + rlp.encode(b"abc"),
        tampered(0, b"\0\1"),
        tampered(1, b"\1" + bytes(8)),  # nonce of 65 bits
        tampered(1, ()),
        tampered(4, b"\1" + bytes(8)),
        tampered(5, bytes(19)),
        tampered(5, (b"",)),
        tampered(6, b"\1" + bytes(32)),
        tampered(7, ()),
        tampered(8, b""),
        tampered(8, (b"",)),
        tampered(8, ((bytes(19), ()),)),
        tampered(8, ((bytes(20), b""),)),
        tampered(8, ((bytes(20), (bytes(31),)),)),
        tampered(8, ((bytes(20), (), ()),)),
        tampered(9, 2),
        tampered(9, 27),
        tampered(9, b"\0"),
        tampered(10, 0),
        tampered(10, N),
        tampered(11, 0),
        tampered(11, b"\0" + FIELDS[11]),
        tampered(11, b"\1" + bytes(32)),
    ],
)
def test_other_bytes_are_refused(raw: bytes) -> None:
    for function in (decode, decode_any):
        with pytest.raises(RemoteProtocolError):
            function(raw)


def test_a_high_s_is_refused() -> None:
    s = int.from_bytes(FIELDS[11], "big")
    raw = b"\x02" + rlp.encode([*FIELDS[:9], 1 - len(FIELDS[9]), FIELDS[10], N - s])
    with pytest.raises(RemoteProtocolError, match="half the group order") as caught:
        decode(raw)
    assert caught.value.reason is Reason.SIGNATURE


@pytest.mark.parametrize("v", [0, 1, 26, 29, 34])
def test_a_legacy_v_that_means_nothing(v: int) -> None:
    signed = Account.sign_transaction(_priced(), KEY)
    fields = list(rlp.decode(bytes(signed.raw_transaction)))
    with pytest.raises(RemoteProtocolError, match="v is none"):
        decode_any(rlp.encode([*fields[:6], v, *fields[7:]]))


@given(st.binary(max_size=150))
def test_any_bytes_are_refused_politely(raw: bytes) -> None:
    for head in (b"", b"\x01", b"\x02"):
        try:
            decode_any(head + raw)
        except RemoteProtocolError:
            continue


def test_a_changed_field_changes_the_sender() -> None:
    changed = tampered(6, 1)
    assert decode(changed)[0].value == 1
    assert decode(changed)[1] != PAYER


@pytest.mark.parametrize(
    ("field", "bad"),
    [("nonce", -1), ("nonce", 2**64), ("gas", 2**64), ("value", 2**256), ("chain_id", -1), ("max_fee", 1.5)],
)
def test_numbers_out_of_range_are_our_mistake(field: str, bad: Any) -> None:
    good: dict[str, Any] = {"chain_id": 1, "nonce": 1, "max_priority_fee": 1, "max_fee": 1, "gas": 1, "to": None}
    with pytest.raises(LocalProtocolError) as caught:
        Transaction(**(good | {field: bad}))
    assert caught.value.field == field
    with pytest.raises(LocalProtocolError):
        Transaction(**(good | {"to": "0x12"}))


def test_a_malformed_signature_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        GOOD.sign_with(bytes(65))
