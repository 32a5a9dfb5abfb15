"""What a ledger writes down comes back the same, and what was not written by us is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError, Reason, Reply
from x402core.events import Settled, Unsettled
from x402core.ledger import Attempt, SettlementRecord
from x402core.values import Amount, Hash32, Millis, Seconds
from x402core.wire import journal

from . import samples

ATTEMPT = Attempt((7, 8), 2_000_000_000, 1_000_000, (b"\x02raw", b"\x02raw2"), (Hash32("0x" + "aa" * 32),) * 2, Millis(2))
SETTLED = Settled(
    Hash32("0x" + "aa" * 32), samples.BASE_SEPOLIA, samples.PAYER, Amount(10000), 12, (Hash32("0x" + "aa" * 32),), True
)
RECORD = SettlementRecord(samples.PERMIT_3009, samples.V2_OFFER, 11, Millis(1), (ATTEMPT,), True, SETTLED)


@given(samples.records)
def test_a_record_comes_back_the_same(record: SettlementRecord) -> None:
    data = journal.encode_record(record)
    assert journal.decode_record(data) == record
    assert journal.encode_record(journal.decode_record(data)) == data


@given(samples.replies)
def test_a_reply_comes_back_the_same(reply: Reply) -> None:
    assert journal.decode_reply(journal.encode_reply(reply)) == reply


@given(samples.settleds)
def test_a_proof_comes_back_the_same(settled: Settled) -> None:
    assert journal.decode_settled(journal.encode_settled(settled)) == settled


def test_the_stored_shape_is_pinned() -> None:
    """Changing this test means a new ``v`` and a reader for the old one: ledgers outlive releases."""
    assert json.loads(journal.encode_record(RECORD)) == {
        "v": 1,
        "permit": {
            "method": "eip3009",
            "network": "eip155:84532",
            "asset": samples.USDC,
            "payer": samples.PAYER,
            "amount": "10000",
            "signature": "0x" + samples.PERMIT_3009.signature.hex(),
            "pay_to": samples.PAY_TO,
            "valid_after": "0",
            "valid_before": "1893456000",
            "nonce": "0x" + "11" * 32,
        },
        "offer": {
            "dialect": "x402-v2",
            "method": "eip3009",
            "network": "eip155:84532",
            "asset": samples.USDC,
            "amount": "10000",
            "pay_to": samples.PAY_TO,
            "timeout": 60,
            "name": "USDC",
            "version": "2",
            "symbol": "",
            "settle": "after",
            "scheme": "exact",
        },
        "since": 11,
        "created": 1,
        "attempts": [
            {
                "numbers": [7, 8],
                "max_fee": "2000000000",
                "max_priority_fee": "1000000",
                "raws": ["0x02726177", "0x0272617732"],
                "hashes": ["0x" + "aa" * 32] * 2,
                "at": 2,
            }
        ],
        "sent": True,
        "outcome": {
            "kind": "settled",
            "network": "eip155:84532",
            "payer": samples.PAYER,
            "transactions": ["0x" + "aa" * 32],
            "transaction": "0x" + "aa" * 32,
            "amount": "10000",
            "block": 12,
            "foreign": True,
        },
    }
    assert journal.encode_reply(Reply(402, (("A", "b"), ("A", "c")), b"\x00\xff")) == (
        b'{"v":1,"status":402,"headers":[["A","b"],["A","c"]],"body":"AP8="}'
    )


def test_raw_is_not_kept() -> None:
    offer = replace(samples.V2_OFFER, raw={"scheme": "exact"})
    back = journal.decode_record(journal.encode_record(replace(RECORD, offer=offer)))
    assert back.offer == offer
    assert back.offer.raw is None


def test_a_permit_may_end_beyond_any_clock() -> None:
    far = replace(samples.PERMIT_2612, deadline=Seconds(2**256 - 1), nonce=2**256 - 1)
    assert journal.decode_record(journal.encode_record(replace(RECORD, permit=far))).permit == far


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        at: Any = document
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at[int(last) if isinstance(at, list) else last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("v", 2),
        ("v", "1"),
        ("v", True),
        ("later", 1),
        ("permit", None),
        ("permit/method", "permit3"),
        ("permit/amount", 10000),
        ("permit/amount", "010000"),
        ("permit/spender", samples.PAY_TO),
        ("permit/signature", "0x0"),
        ("permit/nonce", "7"),
        ("permit/valid_before", 1893456000),
        ("offer/network", "base"),
        ("offer/settle", "later"),
        ("offer/decimals", "6"),
        ("offer/raw", {}),
        ("since", -1),
        ("since", 1.5),
        ("sent", "yes"),
        ("attempts/0/numbers/1", "8"),
        ("attempts/0/raws/0", "02726177"),
        ("attempts/0/hashes/1", "0x" + "aa" * 31),
        ("attempts/0/hashes", ["0x" + "aa" * 32]),
        ("attempts/0/gas", 1),
        ("outcome/kind", "lost"),
        ("outcome/transaction", ""),
        ("outcome/foreign", 0),
        ("outcome/final", True),
    ],
)
def test_damage_is_named(path: str, value: object) -> None:
    document = json.loads(journal.encode_record(RECORD))
    _set(path, value)(document)
    with pytest.raises(LocalProtocolError, match="the journal's settlement record") as caught:
        journal.decode_record(json.dumps(document).encode())
    assert caught.value.field == "/" + path


@pytest.mark.parametrize("member", ["v", "permit", "offer", "since", "created", "attempts", "sent"])
def test_a_lost_member_is_named(member: str) -> None:
    document = json.loads(journal.encode_record(RECORD))
    del document[member]
    with pytest.raises(LocalProtocolError) as caught:
        journal.decode_record(json.dumps(document).encode())
    assert caught.value.field == "/" + member


def test_a_reason_of_a_later_release_is_named() -> None:
    void = Unsettled(Reason.NONCE_USED, samples.SEPOLIA, samples.PAYER)
    data = journal.encode_record(replace(RECORD, outcome=void)).replace(Reason.NONCE_USED.encode(), b"out_of_luck")
    with pytest.raises(LocalProtocolError) as caught:
        journal.decode_record(data)
    assert caught.value.field == "/outcome/reason"


def test_a_settlement_that_is_not_settled_is_no_proof() -> None:
    data = journal.encode_settled(SETTLED).replace(b'"kind":"settled"', b'"kind":"pending"')
    with pytest.raises(LocalProtocolError) as caught:
        journal.decode_settled(data)
    assert caught.value.field == "/kind"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b'{"v":1,"status":99,"headers":[],"body":""}', "/status"),
        (b'{"v":1,"status":200,"headers":[["a"]],"body":""}', "/headers/0"),
        (b'{"v":1,"status":200,"headers":[{"a":"b"}],"body":""}', "/headers/0"),
        (b'{"v":1,"status":200,"headers":[["a",1]],"body":""}', "/headers/0"),
        (b'{"v":1,"status":200,"headers":[],"body":"AP8"}', "/body"),
        (b'{"v":1,"status":200,"headers":[],"body":"A P8="}', "/body"),
        (b'{"v":1,"status":200,"status":201,"headers":[],"body":""}', "/status"),
        (b"", ""),
        (b"[]", ""),
    ],
)
def test_a_damaged_reply_is_named(data: bytes, field: str) -> None:
    with pytest.raises(LocalProtocolError, match="the journal's reply") as caught:
        journal.decode_reply(data)
    assert caught.value.field == field


def test_what_cannot_be_written_is_refused_on_the_way_in() -> None:
    with pytest.raises(LocalProtocolError):
        journal.encode_reply(Reply(200, (("A", "\ud800"),)))
    with pytest.raises(LocalProtocolError, match="too long"):
        journal.encode_reply(Reply(200, (), bytes(49 * 1024 * 1024)))


@pytest.mark.parametrize("decode", [journal.decode_record, journal.decode_reply, journal.decode_settled])
@given(data=st.binary(max_size=80) | samples.jsons.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_value_or_one_error(decode: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        decode(data)
