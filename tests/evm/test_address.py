from __future__ import annotations

import pytest
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError
from x402core.evm.address import address_bytes, checksum, create_address, public_key_address
from x402core.values import Address

EIP55 = [  # all caps, all lower, normal: the EIP's own list
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("spelled", EIP55)
def test_eip55(spelled: str) -> None:
    assert checksum(Address(spelled.lower())) == spelled


@given(st.binary(min_size=20, max_size=20))
def test_equals_eth_utils(raw: bytes) -> None:
    address = Address("0x" + raw.hex())
    assert checksum(address) == to_checksum_address(address)
    assert address_bytes(address) == raw


@pytest.mark.parametrize(
    ("nonce", "created"),
    [  # Ethereum's well-known example, cow's first contracts
        (0, "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"),
        (1, "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8"),
        (2, "0xf778b86fa74e846c4f0a1fbd1335fe81c00a0c91"),
        (3, "0xfffd933a0bc612844eaf0c6fe3e5b8e9b6c1d19c"),
    ],
)
def test_create_address(nonce: int, created: str) -> None:
    assert create_address(Address("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"), nonce) == created


@pytest.mark.parametrize("bad", ["", "0x", "0x12", "11" * 20, "0x" + "11" * 21, "0x" + "zz" * 20, "0x 1" + "11" * 19])
def test_what_is_no_address(bad: str) -> None:
    with pytest.raises(LocalProtocolError):
        address_bytes(Address(bad))


def test_a_public_key_is_64_bytes() -> None:
    with pytest.raises(LocalProtocolError):
        public_key_address(bytes(65))
