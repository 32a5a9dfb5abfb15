"""The fast reader of an authorization takes nothing that the strict one refuses, and reads the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import RemoteProtocolError
from x402core.values import parse_address, parse_amount, parse_decimal, parse_hash32
from x402core.wire import payloads
from x402core.wire.fields import Fields

SOUND = {
    "from": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "to": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
    "value": "10000",
    "validAfter": "0",
    "validBefore": "1893456000",
    "nonce": "0x" + "aB" * 32,
}
HEX = ["0x" + "1" * 40, "0x" + "1" * 64]
ODD = ["", "0", "00", "+1", " 1", "1_0", "１", "1|2", *HEX, "9" * 77, "9" * 78, str(2**256), 1, None, [], True]
STRICT = {
    "from": parse_address,
    "to": parse_address,
    "value": parse_amount,
    "validAfter": parse_decimal,
    "validBefore": parse_decimal,
    "nonce": parse_hash32,
}


@given(st.sampled_from([*SOUND]), st.one_of(st.sampled_from(ODD), st.text(max_size=80)))
def test_both_readers_agree(member: str, value: Any) -> None:
    authorization = {**SOUND, member: value}
    fast = payloads._well_formed(authorization)
    try:
        slow = tuple(Fields(authorization).get(parse, name) for name, parse in STRICT.items())
    except RemoteProtocolError:
        assert fast is None
        return
    assert fast in (None, slow)


def test_the_usual_case_is_fast() -> None:
    assert payloads._well_formed(SOUND) is not None
