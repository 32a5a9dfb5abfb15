"""Recovery: three implementations, thousands of signatures, and the ones chosen to hurt."""

from __future__ import annotations

import itertools
import random
import sys

import pytest
from coincurve import PrivateKey, PublicKey
from eth_keys.backends.native.main import NativeECCBackend
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.evm import secp256k1
from x402core.evm.curve import HALF_N, LAMBDA, N, P
from x402core.evm.secp256k1 import (
    parse_signature,
    recover,
    recover_public_key,
    recover_public_key_pure,
    recover_pure,
    sign,
    signer,
)

from . import vectors

NATIVE = NativeECCBackend()


def build(r: int, s: int, v: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((v,))


def by_coincurve(digest: bytes, signature: bytes) -> bytes | None:
    try:
        public = PublicKey.from_signature_and_message(signature[:64] + bytes((signature[64] - 27,)), digest, hasher=None)
    except ValueError:
        return None
    return public.format(False)[1:]


def by_native(digest: bytes, signature: bytes) -> bytes | None:
    try:
        low = signature[:64] + bytes((signature[64] - 27,))
        return NATIVE.ecdsa_recover(digest, Signature(low, backend=NATIVE)).to_bytes()
    except BadSignature:
        return None


def by_us(digest: bytes, signature: bytes) -> bytes | None:
    try:
        return recover_public_key_pure(digest, signature)
    except RemoteProtocolError as error:
        return None if error.reason is Reason.SIGNATURE else b"another reason"


def test_random_signatures_against_both() -> None:
    draw = random.Random(20)
    for i in range(1500):
        digest, v = draw.randbytes(32), 27 + draw.randrange(2)
        anything = build(draw.randrange(1, N), draw.randrange(1, HALF_N + 1), v)  # half of these r lie on no point
        signature = sign(digest, draw.randbytes(32)) if i % 2 else anything
        ours = by_us(digest, signature)
        assert ours == by_coincurve(digest, signature)
        if i < 300:
            assert ours == by_native(digest, signature)


def _adversarial() -> list[tuple[bytes, bytes]]:
    """Choose R = k*G and the two scalars, then solve for the z and s that lead to them: collisions, cancellations, zeros."""
    small = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 2**64, 2**127, 2**128, 2**255 % N, LAMBDA, N - LAMBDA, HALF_N]
    scalars = small + [N - each for each in small if each]
    cases = []
    for k, u2 in itertools.product([1, 2, 3, 5, 16, 511, 1023, LAMBDA, HALF_N], scalars):
        x, y = PublicKey.from_secret(k.to_bytes(32, "big")).point()
        r, s = x % N, u2 * x % N
        v = 27 + (y & 1)
        if s > HALF_N:
            s, v = N - s, 55 - v  # (-s)(-R) = s*R
        if not s:
            continue
        meets = [u2 * k, -u2 * k, u2 * k * LAMBDA, -u2 * k * LAMBDA, u2 * k * LAMBDA**2]
        for u1 in [0, 1, N - 1, 2, LAMBDA, *meets, *[m + d for m in meets[:2] for d in (-1, 1, 2)]]:
            z = -u1 * r % N
            cases.append((z.to_bytes(32, "big"), build(r, s, v)))
            if z + N < 2**256:
                cases.append(((z + N).to_bytes(32, "big"), build(r, s, v)))
    return cases


def test_adversarial_signatures_against_both() -> None:
    cases = _adversarial()
    assert len(cases) > 3500
    nowhere = 0
    for i, (digest, signature) in enumerate(cases):
        ours = by_us(digest, signature)
        nowhere += ours is None
        assert ours == by_coincurve(digest, signature)
        if i % 40 == 0 and ours is not None:
            assert ours == by_native(digest, signature)
    assert nowhere > 200  # the sums that cancel


@pytest.mark.parametrize("digest", [bytes(32), b"\xff" * 32, N.to_bytes(32, "big"), (N + 1).to_bytes(32, "big")])
def test_digests_at_and_above_the_order(digest: bytes) -> None:
    signature = sign(digest, vectors.KEY)
    assert recover(digest, signature) == recover_pure(digest, signature) == vectors.PAYER
    assert by_us(digest, signature) == by_coincurve(digest, signature)


R, S = int.from_bytes(vectors.V1_SIGNATURE[:32], "big"), int.from_bytes(vectors.V1_SIGNATURE[32:64], "big")


@pytest.mark.parametrize("function", [recover, recover_pure, recover_public_key])
@pytest.mark.parametrize(
    ("signature", "text"),
    [
        (b"", "65 bytes, not 0"),
        (vectors.V1_SIGNATURE[:64], "65 bytes, not 64"),
        (vectors.V1_SIGNATURE + b"\0", "65 bytes, not 66"),
        (build(R, S, 0), "v must be 27 or 28, not 0"),
        (build(R, S, 1), "v must be"),
        (build(R, S, 26), "v must be"),
        (build(R, S, 29), "v must be"),
        (build(R, S, 255), "v must be"),
        (build(0, S, 27), "r is not between"),
        (build(N, S, 27), "r is not between"),
        (build(N + 1, S, 27), "r is not between"),
        (build(P, S, 27), "r is not between"),
        (build(2**256 - 1, S, 27), "r is not between"),
        (build(R, 0, 27), "s is zero or above half"),
        (build(R, HALF_N + 1, 27), "s is zero or above half"),
        (build(R, N - S, 28), "s is zero or above half"),
        (build(R, N, 27), "s is zero or above half"),
        (build(5, S, 27), "no public key"),
    ],
)
def test_malformed_signatures_are_refused_alike(function: object, signature: bytes, text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=text) as caught:
        function(vectors.V1_DIGEST, signature)  # type: ignore[operator]
    assert caught.value.reason is Reason.SIGNATURE


def test_the_largest_accepted_values() -> None:
    assert parse_signature(build(N - 1, HALF_N, 28)) == (N - 1, HALF_N, 28)
    assert parse_signature(build(1, 1, 27)) == (1, 1, 27)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_digest_of_another_length_is_our_mistake(length: int) -> None:
    for function in (recover, recover_pure, lambda d, s: signer(vectors.KEY)(d)):
        with pytest.raises(LocalProtocolError, match="32 bytes"):
            function(bytes(length), vectors.V1_SIGNATURE)


def test_without_coincurve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secp256k1, "_recover", secp256k1._first)
    assert secp256k1.backend() == "coincurve"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "coincurve", None)
        patch.setattr(secp256k1, "_recover", secp256k1._first)
        assert recover(vectors.V1_DIGEST, vectors.V1_SIGNATURE) == vectors.PAYER
        assert secp256k1.backend() == "python"
        assert sign(vectors.V1_DIGEST, vectors.KEY) == vectors.V1_SIGNATURE
        assert secp256k1.public_address(vectors.KEY) == vectors.PAYER


def test_signing_is_deterministic_low_s_and_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(21)
    for _ in range(60):
        key, digest = draw.randbytes(32), draw.randbytes(32)
        signature = sign(digest, key)
        parse_signature(signature)
        assert recover(digest, signature) == secp256k1.public_address(key)
        assert signature == secp256k1._signer_eth_keys(key)(digest)
        assert signature[:64] == PrivateKey(key).sign_recoverable(digest, hasher=None)[:64]


def test_bad_keys_never_appear_in_the_error() -> None:
    for key in (b"", b"\x42" * 31, b"\x42" * 33, bytes(32), N.to_bytes(32, "big"), b"\xff" * 32):
        for function in (secp256k1.signer, secp256k1.public_address, lambda k: sign(bytes(32), k)):
            with pytest.raises(LocalProtocolError) as caught:
                function(key)
            assert caught.value.field == "key"
            assert (key.hex() or "x") not in str(caught.value)
    with pytest.raises(LocalProtocolError, match="32 bytes"):
        secp256k1.signer("0x" + "42" * 32)  # type: ignore[arg-type]


def test_a_signer_does_not_show_its_key() -> None:
    assert vectors.KEY.hex() not in repr(signer(vectors.KEY))
    assert repr(vectors.KEY)[2:-1] not in repr(signer(vectors.KEY))


def test_edge_keys() -> None:
    for key in (1, 2, N - 1):
        raw = key.to_bytes(32, "big")
        assert recover_pure(b"\x07" * 32, sign(b"\x07" * 32, raw)) == secp256k1.public_address(raw)


def test_both_paths_return_the_same_public_key() -> None:
    for digest, signature in ((vectors.V1_DIGEST, vectors.V1_SIGNATURE), (vectors.V2_DIGEST, vectors.V2_SIGNATURE)):
        assert recover_public_key(digest, signature) == recover_public_key_pure(digest, signature)
        assert recover(digest, signature) == recover_pure(digest, signature) == vectors.PAYER
