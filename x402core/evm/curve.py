"""The secp256k1 group (SEC 2, 2.4.1): what public-key recovery needs of it, fast in plain Python integers.

Theory.  Recovery is one sum u1*G + u2*R of public values, so nothing here is constant time, and nothing here may ever
see a private key.  Both scalars are split in two halves of 128 bits by the curve's endomorphism (x, y) -> (BETA*x, y),
which multiplies by LAMBDA (Gallant, Lambert, Vanstone 2001), and the four halves are written in width-w NAF, so that one
chain of 128 doublings serves all four and only every (w+1)-th bit of each costs an addition.  Every table holds affine
points: the additions are mixed ones.

Exceptions.  The addition in :func:`interleave` is the incomplete one.  When its operands are equal or opposite it
yields Z = 0, and every later doubling or addition keeps Z = 0; so the loop carries no test: its caller looks once, at
the end, and falls back to :func:`add` and :func:`double`, which are complete.
"""

from __future__ import annotations

from functools import cache
from typing import Final, TypeAlias

__all__ = ["GX", "GY", "HALF_N", "N", "P", "add", "double", "interleave", "lift_x", "linear_combination", "multiply"]

P: Final = 2**256 - 2**32 - 977
N: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_N: Final = N // 2
GX: Final = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
GY: Final = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8
# a cube root of one in the field and the one in the scalars that goes with it: LAMBDA*(x, y) = (BETA*x, y)
BETA: Final = 0x7AE96A2B657C07106E64479EAC3434E99CF0497512F58995C1396C28719501EE
LAMBDA: Final = 0x5363AD4CC05C30E0A5261C028812645A122E22EA20816678DF02967C1B23BD72
# the reduced basis (_A1, -_B1), (_A2, _A1) of the lattice {(a, b): a + b*LAMBDA = 0 mod N}
_A1: Final = 0x3086D221A7D46BCDE86C90E49284EB15
_B1: Final = 0xE4437ED6010E88286F547FA90ABFE4C3
_A2: Final = 0x114CA50F7A8E2F3F657C1108D9D44CFD8

_R_WIDTH: Final = 5  # 8 odd multiples: the ninth would cost more than it saves
_G_WIDTH: Final = 10  # 256 odd multiples, built once in about 2 ms

Affine: TypeAlias = tuple[int, int]
Jacobian: TypeAlias = tuple[int, int, int]
"""(X, Y, Z) stands for (X/Z**2, Y/Z**3); Z = 0 is the point at infinity."""
INFINITY: Final[Jacobian] = (1, 1, 0)


def double(point: Jacobian) -> Jacobian:
    """Return 2*point, for every point."""
    x, y, z = point
    yy = y * y % P
    s = 4 * x * yy % P
    m = 3 * x * x % P
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P


def add(a: Jacobian, b: Jacobian) -> Jacobian:
    """Return a + b, for every pair of points: equal, opposite or infinite ones too."""
    x1, y1, z1 = a
    x2, y2, z2 = b
    if not z1:
        return b
    if not z2:
        return a
    zz1, zz2 = z1 * z1 % P, z2 * z2 % P
    u1, s1 = x1 * zz2 % P, y1 * zz2 * z2 % P
    h, r = (x2 * zz1 - u1) % P, (y2 * zz1 * z1 - s1) % P
    if not h:
        return INFINITY if r else double(a)
    hh = h * h % P
    hhh, v = h * hh % P, u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P


def multiply(scalar: int, point: Affine) -> Jacobian:
    """Return scalar*point by plain double-and-add, for every scalar >= 0: the slow, complete path."""
    total = INFINITY
    for bit in f"{scalar:b}":
        total = double(total)
        if bit == "1":
            total = add(total, (*point, 1))
    return total


def lift_x(x: int, odd: int) -> Affine | None:
    """Return the point with this x (0 <= x < P) and this parity of y, or None when the curve has none."""
    square = (x * x * x + 7) % P
    y = pow(square, (P + 1) // 4, P)  # a root, if there is one, as P = 3 mod 4
    if y * y % P != square:
        return None
    return x, (y if y & 1 == odd else P - y)


def split(scalar: int) -> tuple[int, int]:
    """Return (a, b), signed, below 2**129, with a + b*LAMBDA = scalar mod N: the nearest lattice point is subtracted."""
    c1 = (_A1 * scalar + HALF_N) // N
    c2 = (_B1 * scalar + HALF_N) // N
    return scalar - c1 * _A1 - c2 * _A2, c1 * _B1 - c2 * _A1


def wnaf(scalar: int, width: int) -> list[tuple[int, int]]:
    """Return the width-w NAF of a signed scalar: pairs (bit, odd digit with |digit| < 2**(w-1)), lowest first."""
    digits = []
    position, mask, half = 0, (1 << width) - 1, 1 << (width - 1)
    while scalar:
        zeros = (scalar & -scalar).bit_length() - 1
        scalar >>= zeros
        position += zeros
        digit = scalar & mask
        if digit >= half:
            digit -= mask + 1
        digits.append((position, digit))
        scalar -= digit
    return digits


def odd_multiples(point: Affine, count: int) -> list[Affine]:
    """Return point, 3*point, 5*point, ... (``count`` of them), affine, at the price of one inversion.

    The chain adds D = 2*point.  On the isomorphic curve where D's Z is one, D is affine, so the additions are mixed
    ones; each multiplies Z by a factor we keep, and the factors undo it from the last multiple back to the first.
    """
    dx, dy, scale = double((*point, 1))
    zz = scale * scale % P
    x, y = point[0] * zz % P, point[1] * zz * scale % P
    z = 1
    chain, factors = [(x, y)], [1]
    for _ in range(count - 1):
        zz = z * z % P
        h, r = (dx * zz - x) % P, (dy * zz * z - y) % P
        hh = h * h % P
        hhh, v = h * hh % P, x * hh % P
        x = (r * r - hhh - 2 * v) % P
        y = (r * (v - x) - y * hhh) % P
        z = z * h % P
        chain.append((x, y))
        factors.append(h)
    inverse = pow(z * scale, -1, P)
    multiples = []
    for (x, y), factor in zip(reversed(chain), reversed(factors), strict=True):
        square = inverse * inverse % P
        multiples.append((x * square % P, y * square * inverse % P))
        inverse = inverse * factor % P
    return multiples[::-1]


def signed_tables(multiples: list[Affine]) -> tuple[dict[int, Affine], dict[int, Affine]]:
    """Return {digit: digit*point} for odd digits of both signs, and the same for LAMBDA*point."""
    plain, turned = {}, {}
    for index, (x, y) in enumerate(multiples):
        digit, bx, negative = 2 * index + 1, BETA * x % P, P - y
        plain[digit], plain[-digit] = (x, y), (x, negative)
        turned[digit], turned[-digit] = (bx, y), (bx, negative)
    return plain, turned


@cache
def _g_tables() -> tuple[dict[int, Affine], dict[int, Affine]]:
    return signed_tables(odd_multiples((GX, GY), 1 << (_G_WIDTH - 2)))


def interleave(terms: list[tuple[int, Affine]]) -> Jacobian:
    """Return the sum of 2**bit * point over ``terms`` (bit, point), at least one; Z = 0 says: not computed.

    It sorts ``terms``.  This loop is where recovery spends its time, hence the formulas written out.
    """
    terms.sort(reverse=True)
    last, (x, y) = terms[0]
    z = 1
    for bit, (px, py) in [*terms[1:], (0, (0, 0))]:
        for _ in range(last - bit):
            yy = y * y % P
            z = 2 * y * z % P
            s = 4 * x * yy % P
            m = 3 * x * x % P
            x = (m * m - 2 * s) % P
            y = (m * (s - x) - 8 * yy * yy) % P
        last = bit
        if not py:
            break
        zz = z * z % P
        h = px * zz % P - x
        r = py * zz % P * z % P - y
        hh = h * h % P
        v = x * hh % P
        hhh = h * hh % P
        x = (r * r - hhh - 2 * v) % P
        y = (r * (v - x) - y * hhh) % P
        z = z * h % P
    return x, y, z


def linear_combination(u1: int, u2: int, point: Affine) -> Affine | None:
    """Return u1*G + u2*point (0 <= u1, u2 < N), or None when the sum is the point at infinity."""
    terms: list[tuple[int, Affine]] = []
    own = signed_tables(odd_multiples(point, 1 << (_R_WIDTH - 2)))
    for scalar, tables, width in ((u1, _g_tables(), _G_WIDTH), (u2, own, _R_WIDTH)):
        for half, table in zip(split(scalar), tables, strict=True):
            terms += [(bit, table[digit]) for bit, digit in wnaf(half, width)]
    x, y, z = interleave(terms) if terms else INFINITY
    if not z:
        x, y, z = add(multiply(u1, (GX, GY)), multiply(u2, point))
        if not z:
            return None
    inverse = pow(z, -1, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P
