from __future__ import annotations

import pytest
from eth_abi import encode

from x402core.errors import Reason, RemoteProtocolError
from x402core.evm.curve import N
from x402core.evm.signatures import ContractSignature, DeploylessSignature, EoaSignature, classify

from .vectors import PAYER, V1_SIGNATURE

MAGIC = bytes.fromhex("6492" * 16)


def test_sixty_five_bytes_are_a_keys() -> None:
    signature = classify(V1_SIGNATURE)
    assert isinstance(signature, EoaSignature)
    assert bytes(signature) == V1_SIGNATURE
    assert signature.v == 27


@pytest.mark.parametrize("data", [b"\1", bytes(64), bytes(66), bytes(1000), MAGIC[:-1], MAGIC + b"\0"])
def test_other_lengths_are_a_contracts(data: bytes) -> None:
    assert classify(data) == ContractSignature(data)


def test_erc6492() -> None:
    wrapped = encode(["address", "bytes", "bytes"], [PAYER, b"deploy me", V1_SIGNATURE]) + MAGIC
    assert classify(wrapped) == DeploylessSignature(PAYER, b"deploy me", V1_SIGNATURE)


S = int.from_bytes(V1_SIGNATURE[32:64], "big")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(65),
        V1_SIGNATURE[:64] + b"\0",
        V1_SIGNATURE[:32] + (N - S).to_bytes(32, "big") + b"\x1c",
        MAGIC,
        bytes(32) + MAGIC,
        b"\xff" * 96 + MAGIC,
        bytes(33) + MAGIC,  # 65 bytes: a key's, and no good one
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        classify(data)
    assert caught.value.reason is Reason.SIGNATURE
