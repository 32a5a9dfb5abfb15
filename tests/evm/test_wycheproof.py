"""C2SP Wycheproof, ECDSA with Bitcoin's rule: strict DER, low s only.  All 463 tests, with and without libsecp256k1."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest

from x402core.errors import RemoteProtocolError
from x402core.evm.curve import N, P
from x402core.evm.secp256k1 import recover_public_key, recover_public_key_pure

from .vectors import load

FILE = "wycheproof/ecdsa_secp256k1_sha256_bitcoin_test.json"


def strict_der(der: bytes) -> tuple[int, int] | None:
    """Parse SEQUENCE { INTEGER r, INTEGER s } in DER, short lengths only (72 bytes are enough); None for anything else."""
    if len(der) < 2 or der[0] != 0x30 or der[1] != len(der) - 2 or der[1] > 0x7F:
        return None
    rest, numbers = der[2:], []
    for _ in range(2):
        if len(rest) < 3 or rest[0] != 2 or not 0 < rest[1] <= len(rest) - 2 or rest[1] > 33:
            return None
        body, rest = rest[2 : 2 + rest[1]], rest[2 + rest[1] :]
        if body[0] >= 0x80 or (body[0] == 0 and len(body) > 1 and body[1] < 0x80):
            return None  # negative, or not the shortest form
        numbers.append(int.from_bytes(body, "big"))
    if rest or max(numbers) >> 256:
        return None
    return numbers[0], numbers[1]


def verifies(function: Any, public: bytes, test: dict[str, str]) -> bool:
    numbers = strict_der(bytes.fromhex(test["sig"]))
    if numbers is None:
        return False
    digest = hashlib.sha256(bytes.fromhex(test["msg"])).digest()
    compact = numbers[0].to_bytes(32, "big") + numbers[1].to_bytes(32, "big")
    for v in (27, 28):
        try:
            if function(digest, compact + bytes((v,))) == public:
                return True
        except RemoteProtocolError:
            continue
    return False


def _needs_v_29(test: dict[str, str]) -> bool:
    """Tell whether R's x exceeds the order, so that r = x - n: v would be 29 or 30, which no token contract takes."""
    if test["comment"] != "k*G has a large x-coordinate":
        return False
    numbers = strict_der(bytes.fromhex(test["sig"]))
    assert numbers is not None
    assert numbers[0] + N < P
    return True


@pytest.mark.parametrize("function", [recover_public_key, recover_public_key_pure])
def test_every_vector(function: Any) -> None:
    document = load(FILE)
    seen: Counter[str] = Counter()
    for group in document["testGroups"]:
        public = bytes.fromhex(group["publicKey"]["uncompressed"])[1:]
        for test in group["tests"]:
            expected = test["result"] == "valid" and not _needs_v_29(test)
            assert verifies(function, public, test) == expected, (test["tcId"], test["comment"])
            seen[test["result"]] += 1
            seen["v 29"] += _needs_v_29(test)
    assert seen["valid"] + seen["invalid"] == document["numberOfTests"] == 463
    assert seen["v 29"] == 1
    assert seen["valid"] > 100
