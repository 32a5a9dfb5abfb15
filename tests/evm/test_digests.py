"""The written-out digests: golden vectors, type hashes from their strings, and equality with both general encoders."""

from __future__ import annotations

import json

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from x402core.errors import LocalProtocolError
from x402core.evm import digests, eip712
from x402core.evm.digests import (
    PERMIT2,
    TypedData,
    domain,
    permit2_domain,
    permit2_exact_digest,
    permit2_typed_data,
    permit2_upto_digest,
    permit_digest,
    permit_typed_data,
    transfer_authorization_digest,
    transfer_authorization_typed_data,
)
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import recover, recover_pure, sign
from x402core.values import Address, Hash32

from .vectors import (
    ACCOUNT1,
    CHAIN,
    KEY,
    NONCE,
    PAY_TO,
    PAYER,
    USDC,
    V1_DIGEST,
    V1_DOMAIN,
    V1_SIGNATURE,
    V2_DIGEST,
    V2_DOMAIN,
    V2_SIGNATURE,
    V3_DIGEST,
    V3_SIGNATURE,
    V4_DIGEST,
    WITNESS_TO,
)

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: Address("0x" + raw.hex()))
numbers = st.one_of(st.integers(0, 2**256 - 1), st.integers(0, 2**40))
hashes = st.binary(min_size=32, max_size=32).map(lambda raw: Hash32("0x" + raw.hex()))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
chains = st.integers(1, 2**53)


def test_type_hashes_are_those_of_their_strings() -> None:
    tokens = "TokenPermissions(address token,uint256 amount)"
    exact, upto = "Witness(address to,uint256 validAfter)", "Witness(address to,address facilitator,uint256 validAfter)"
    transfer = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,"
    for constant, text in {
        digests._DOMAIN: "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        digests._PERMIT2_DOMAIN: "EIP712Domain(string name,uint256 chainId,address verifyingContract)",
        digests._TRANSFER: "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,"
        "uint256 validBefore,bytes32 nonce)",
        digests._PERMIT: "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)",
        digests._TOKEN_PERMISSIONS: tokens,
        digests._EXACT_WITNESS: exact,
        digests._UPTO_WITNESS: upto,
        digests._EXACT_PERMIT: transfer + "Witness witness)" + tokens + exact,
        digests._UPTO_PERMIT: transfer + "Witness witness)" + tokens + upto,
    }.items():
        assert keccak(text.encode()) == constant


def test_golden_v1_eip3009() -> None:
    separator = domain("USDC", "2", CHAIN, USDC)
    assert separator == V1_DOMAIN
    digest = transfer_authorization_digest(separator, PAYER, PAY_TO, 10000, 0, 1893456000, NONCE)
    assert digest == V1_DIGEST
    assert sign(digest, KEY) == V1_SIGNATURE
    assert recover(digest, V1_SIGNATURE) == recover_pure(digest, V1_SIGNATURE) == PAYER


def test_golden_v2_permit2_exact() -> None:
    separator = permit2_domain(CHAIN)
    assert separator == V2_DOMAIN
    digest = permit2_exact_digest(separator, USDC, 1000000, 1, 9999999999, WITNESS_TO, 0)
    assert digest == V2_DIGEST
    assert sign(digest, KEY) == V2_SIGNATURE


def test_golden_v3_permit2_upto() -> None:
    digest = permit2_upto_digest(permit2_domain(CHAIN), USDC, 1000000, 1, 9999999999, WITNESS_TO, ACCOUNT1, 0)
    assert digest == V3_DIGEST
    assert sign(digest, KEY) == V3_SIGNATURE


def test_golden_v4_eip2612() -> None:
    assert permit_digest(domain("USDC", "2", CHAIN, USDC), PAYER, PERMIT2, 1000000, 0, 9999999999) == V4_DIGEST


def both_general_encoders(document: TypedData) -> bytes:
    """Return the digest of readable typed data, after a JSON round trip, by our general encoder and eth-account's."""
    wire = json.loads(json.dumps(document))
    digest = eip712.typed_data_digest(wire["types"], wire["primaryType"], wire["domain"], wire["message"])
    assert digest == bytes(_hash_eip191_message(encode_typed_data(full_message=wire)))
    return digest


@given(names, names, chains, addresses, addresses, addresses, numbers, numbers, numbers, hashes)
def test_transfer_authorization_equals_the_general_encoders(
    name: str,
    version: str,
    chain: int,
    token: Address,
    payer: Address,
    pay_to: Address,
    amount: int,
    after: int,
    before: int,
    nonce: Hash32,
) -> None:
    message = (payer, pay_to, amount, after, before, nonce)
    digest = transfer_authorization_digest(domain(name, version, chain, token), *message)
    readable = transfer_authorization_typed_data(name, version, chain, token, *message)
    assert digest == both_general_encoders(readable)


@given(names, names, chains, addresses, addresses, addresses, numbers, numbers, numbers)
def test_permit_equals_the_general_encoders(
    name: str,
    version: str,
    chain: int,
    token: Address,
    owner: Address,
    spender: Address,
    amount: int,
    nonce: int,
    deadline: int,
) -> None:
    message = (owner, spender, amount, nonce, deadline)
    digest = permit_digest(domain(name, version, chain, token), *message)
    assert digest == both_general_encoders(permit_typed_data(name, version, chain, token, *message))


@given(chains, addresses, numbers, numbers, numbers, addresses, numbers, addresses)
def test_permit2_equals_the_general_encoders(
    chain: int,
    token: Address,
    amount: int,
    nonce: int,
    deadline: int,
    pay_to: Address,
    after: int,
    facilitator: Address,
) -> None:
    separator = permit2_domain(chain)
    exact = permit2_exact_digest(separator, token, amount, nonce, deadline, pay_to, after)
    assert exact == both_general_encoders(permit2_typed_data(chain, token, amount, nonce, deadline, pay_to, after))
    upto = permit2_upto_digest(separator, token, amount, nonce, deadline, pay_to, facilitator, after)
    readable = permit2_typed_data(chain, token, amount, nonce, deadline, pay_to, after, facilitator)
    assert upto == both_general_encoders(readable)


GOOD = (PAYER, PAY_TO, 1, 2, 3, NONCE)


@pytest.mark.parametrize(
    ("position", "bad"),
    [(2, -1), (2, 2**256), (3, -1), (4, 2**256), (0, "0x12"), (1, "0x" + "zz" * 20), (5, "0x" + "11" * 31),
     (0, "0x" + "11" * 21)],
)  # fmt: skip
def test_values_that_no_parser_lets_through_are_our_mistake(position: int, bad: object) -> None:
    args = [*GOOD[:position], bad, *GOOD[position + 1 :]]
    with pytest.raises(LocalProtocolError):
        transfer_authorization_digest(V1_DOMAIN, *args)  # type: ignore[arg-type]


def test_misuse_elsewhere() -> None:
    with pytest.raises(LocalProtocolError, match="32 bytes"):
        transfer_authorization_digest(b"", *GOOD)
    with pytest.raises(LocalProtocolError):
        domain("\ud800", "1", 1, USDC)
    with pytest.raises(LocalProtocolError):
        domain("USDC", "1", -1, USDC)
    with pytest.raises(LocalProtocolError):
        permit2_domain(2**256)
    with pytest.raises(LocalProtocolError):
        permit_digest(V1_DOMAIN, PAYER, PAYER, 1, -1, 1)
    with pytest.raises(LocalProtocolError):
        permit2_exact_digest(V2_DOMAIN, USDC, 2**256, 1, 1, PAY_TO, 0)
    with pytest.raises(LocalProtocolError):
        permit2_upto_digest(V2_DOMAIN, USDC, 1, 1, 1, PAY_TO, PAYER, -1)


def test_every_field_is_signed() -> None:
    seen = {transfer_authorization_digest(V1_DOMAIN, *GOOD)}
    others = (ACCOUNT1, ACCOUNT1, 9, 9, 9, "0x" + "22" * 32)
    for i, other in enumerate(others):
        args = [*GOOD[:i], other, *GOOD[i + 1 :]]
        seen.add(transfer_authorization_digest(V1_DOMAIN, *args))  # type: ignore[arg-type]
    assert len(seen) == 7
