"""Invariant: any bytes give a value or RemoteProtocolError, nothing else, and what is written reads back equal."""

from __future__ import annotations

import argparse
import random
import sys

from x402core.errors import RemoteProtocolError
from x402core.wire.headers import decode_header, encode_header
from x402core.wire.json import canonical, dumps, loads

SEEDS = (
    b'{"x402Version":2,"accepts":[{"scheme":"exact","amount":"10000","extra":{"name":"USD Coin"}}]}',
    b'{"amount":0.5,"metadata":{"decimals":6},"e":1e-7,"n":null,"t":true,"u":"\\ud83d\\ude00\\u0000"}',
    b'[[[[{"a":[1,-2.50,3E2,{"b":"\\"\\\\"}]}]]]]',
    b"eyJhIjpbMSwiPz8/Pj4+Iiw1LjBdfQ==",
    b'{"value":115792089237316195423570985008687907853269984665640564039457584007913129639935}',
)
PIECES = b'{ } [ ] " , : \\ \\ud800 \\udc00 NaN -Infinity 1e999 1e-77 -0.0 e+05 "a":1, \xff \xef\xbb\xbf \x00'.split()
PIECES += [b"9" * 5000, b"[" * 200, b"0" * 90]


def check(data: bytes) -> None:
    for as_header in (False, True):
        try:
            document = decode_header(data.decode("latin-1"), source="X-PAYMENT") if as_header else loads(data)
        except RemoteProtocolError:
            continue
        assert loads(dumps(document), most=2**24) == document
        assert canonical(loads(canonical(document), most=2**24)) == canonical(document)
        assert decode_header(encode_header(document), source="", most=2**24) == document


def mutate(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randrange(1, 6)):
        at, upto = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        piece = rng.choice([rng.choice(PIECES), rng.randbytes(rng.randrange(4)), data[at:upto]])
        data = data[:at] + piece + data[rng.choice((at, upto)) :]
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    for _ in range(options.runs):
        check(mutate(rng.choice(SEEDS), rng))


if __name__ == "__main__":
    try:
        import atheris  # type: ignore
    except ImportError:
        main()
    else:
        atheris.Setup(sys.argv, check)
        atheris.Fuzz()
