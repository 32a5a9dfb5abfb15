from __future__ import annotations

import sys

import pytest
from eth_hash.auto import keccak as reference
from hypothesis import given
from hypothesis import strategies as st

from x402core.evm import keccak as module
from x402core.evm.keccak import backend, keccak

_KNOWN = {
    b"": "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470",
    b"abc": "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
    b"Transfer(address,address,uint256)": "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
}


@pytest.fixture(params=["safe-pysha3", "pycryptodome", "impostor"])
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the module choose anew, with sha3 present, absent, or replaced by NIST's."""
    import hashlib
    import types

    monkeypatch.setattr(module, "_new", module._choose)
    monkeypatch.setattr(module, "_name", "")
    if request.param == "pycryptodome":
        monkeypatch.setitem(sys.modules, "sha3", None)
    if request.param == "impostor":
        impostor = types.ModuleType("sha3")
        impostor.keccak_256 = hashlib.sha3_256  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "sha3", impostor)
    return str(request.param)


def test_known_answers_with_every_backend(chosen: str) -> None:
    for data, digest in _KNOWN.items():
        assert keccak(data).hex() == digest
    assert backend() == ("safe-pysha3" if chosen == "safe-pysha3" else "pycryptodome")


def test_block_boundaries_with_every_backend(chosen: str) -> None:
    for length in (1, 55, 56, 64, 135, 136, 137, 271, 272, 273, 1000):
        assert keccak(b"x" * length) == reference(b"x" * length)


@given(st.binary(max_size=600))
def test_equals_eth_hash(data: bytes) -> None:
    assert keccak(data) == reference(data)
