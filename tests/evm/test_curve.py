"""The group law, the scalar splitting, and the exceptional cases on a group small enough to try everything."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from coincurve import PublicKey
from hypothesis import example, given
from hypothesis import strategies as st

from x402core.evm import curve
from x402core.evm.curve import BETA, GX, GY, INFINITY, LAMBDA, Affine, Jacobian, N, P

scalars = st.integers(0, N - 1)


def affine(point: Jacobian) -> Affine | None:
    x, y, z = point
    if not z:
        return None
    i = pow(z, -1, P)
    return x * i * i % P, y * i * i * i % P


def oracle(scalar: int) -> Affine:
    return PublicKey.from_secret((scalar % N).to_bytes(32, "big")).point()


def test_constants() -> None:
    assert (GY * GY - GX**3 - 7) % P == 0
    assert pow(BETA, 3, P) == 1
    assert pow(LAMBDA, 3, N) == 1
    assert affine(curve.multiply(LAMBDA, (GX, GY))) == (BETA * GX % P, GY)
    assert curve.multiply(N, (GX, GY))[2] == 0


@given(scalars)
@example(0)
@example(1)
@example(N - 1)
@example(LAMBDA)
@example(N - LAMBDA)
@example(N // 2)
def test_split_is_short_and_right(scalar: int) -> None:
    a, b = curve.split(scalar)
    assert (a + b * LAMBDA - scalar) % N == 0
    assert max(abs(a), abs(b)) < 2**129


@given(st.integers(-(2**129), 2**129), st.integers(2, 12))
def test_wnaf_is_sparse_and_right(scalar: int, width: int) -> None:
    digits = curve.wnaf(scalar, width)
    assert sum(digit << bit for bit, digit in digits) == scalar
    assert all(digit % 2 and abs(digit) < 1 << (width - 1) for _, digit in digits)
    bits = [bit for bit, _ in digits]
    assert all(b - a >= width for a, b in itertools.pairwise(bits))


def test_odd_multiples_and_tables() -> None:
    base = oracle(12345)
    for count in (1, 2, 8):
        multiples = curve.odd_multiples(base, count)
        assert multiples == [oracle(12345 * (2 * i + 1)) for i in range(count)]
    plain, turned = curve.signed_tables(curve.odd_multiples(base, 8))
    assert set(plain) == set(turned) == {d for d in range(-15, 16) if d % 2}
    for digit in plain:
        assert plain[digit] == oracle(12345 * digit)
        assert turned[digit] == oracle(12345 * digit * LAMBDA)


@given(scalars, scalars, st.integers(1, N - 1))
@example(1, 1, 1)  # G + G
@example(1, N - 1, 1)  # G - G
@example(0, 0, 1)
@example(0, 1, 2)
@example(2, 0, 2)
@example(LAMBDA, 1, LAMBDA)
@example(5, N - 1, 5)
def test_linear_combination(u1: int, u2: int, k: int) -> None:
    total = (u1 + u2 * k) % N
    assert curve.linear_combination(u1, u2, oracle(k)) == (oracle(total) if total else None)


def test_the_complete_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "interleave", lambda terms: INFINITY)
    draw = random.Random(1)
    for _ in range(50):
        u1, u2, k = (draw.randrange(1, N) for _ in range(3))
        assert curve.linear_combination(u1, u2, oracle(k)) == oracle(u1 + u2 * k)
    assert curve.linear_combination(N - 6, 3, oracle(2)) is None


def test_lift_x() -> None:
    lifted = curve.lift_x(GX, GY & 1)
    assert lifted == (GX, GY)
    assert curve.lift_x(GX, 1 - (GY & 1)) == (GX, P - GY)
    assert curve.lift_x(5, 0) is None  # 5**3 + 7 is no square


# --- a small group: the formulas never use the curve's constant, so y**2 = x**3 + b serves, with a subgroup of order 199


def _small_group(order: int = 199) -> list[Affine | None]:
    """Return [infinity, Q, 2Q, ...] of a subgroup of this prime order on some y**2 = x**3 + b over the same field."""
    trace = P + 1 - N
    v = math.isqrt((4 * P - trace * trace) // 3)
    traces = [sign * t for sign in (1, -1) for t in (trace, (trace + 3 * v) // 2, (trace - 3 * v) // 2)]
    for cofactor in [(P + 1 - t) // order for t in traces if (P + 1 - t) % order == 0]:
        for b in range(1, 30):
            for x in range(1, 30):
                square = (x**3 + b) % P
                y = pow(square, (P + 1) // 4, P)
                if y * y % P != square:
                    continue
                point = affine(curve.multiply(cofactor, (x, y)))
                if point is not None and curve.multiply(order, point)[2] == 0:
                    return [affine(curve.multiply(i, point)) for i in range(order)]
    raise AssertionError("no such group")


GROUP = _small_group()
ORDER = len(GROUP)


def _scaled(index: int, z: int) -> Jacobian:
    point = GROUP[index]
    return (z, z, 0) if point is None else (point[0] * z * z % P, point[1] * z * z * z % P, z)


def test_complete_addition_exhaustively() -> None:
    assert len(set(GROUP)) == ORDER
    for i in range(ORDER):
        assert affine(curve.double(_scaled(i, 3))) == GROUP[2 * i % ORDER]
        for j in range(0, ORDER, 1 + i % 2):
            assert affine(curve.add(_scaled(i, 7), _scaled(j, 11))) == GROUP[(i + j) % ORDER]


def test_interleave_is_right_or_says_so_exhaustively() -> None:
    """Every a*Q + b*(turned Q): a sum that meets equal or opposite points must come out as Z = 0, never wrong."""
    first = GROUP[1]
    assert first is not None
    plain, turned = curve.signed_tables(curve.odd_multiples(first, 8))
    turn = GROUP.index(turned[1])
    digits = [curve.wnaf(i, 5) for i in range(ORDER)]
    refused = 0
    for a in range(ORDER):
        for b in range(ORDER):
            terms = [(bit, plain[d]) for bit, d in digits[a]] + [(bit, turned[d]) for bit, d in digits[b]]
            if not terms:
                continue
            point = affine(curve.interleave(terms))
            if point is None:
                refused += 1
            else:
                assert point == GROUP[(a + b * turn) % ORDER]
    assert 0 < refused < ORDER * ORDER // 10
