"""What the cryptography of a payment costs, as ratios measured in one run: ``python benchmarks/crypto.py [--json]``.

Every comparison runs its two sides in turn, round by round, so that a busy machine slows both; the ratio is of the minima
(and of the medians, beside it).  Absolute times are information only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from coincurve import PrivateKey, PublicKey
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_keys.backends.native.main import NativeECCBackend
from eth_keys.datatypes import PrivateKey as EthPrivateKey
from eth_keys.datatypes import Signature

from x402core.evm import abi, digests, eip712, keccak, secp256k1
from x402core.values import Address, Hash32

KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
PAYER = secp256k1.public_address(KEY)
TOKEN = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
PAY_TO = Address("0x209693bc6afc0c5328ba36faf03c514ef312287c")
NONCE = Hash32("0x" + "11" * 32)
MESSAGE = (PAYER, PAY_TO, 10000, 0, 1893456000, NONCE)

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison; times in microseconds, ``ratio`` = reference / ours (minima)."""

    name: str
    ours: float
    reference: float
    ratio: float
    ratio_median: float
    target: str


def measure(name: str, ours: Work, reference: Work, target: str, *, rounds: int, ours_calls: int, calls: int) -> Result:
    """Time both sides in alternating rounds of many calls."""
    samples: tuple[list[float], list[float]] = ([], [])
    ours(), reference()
    for _ in range(rounds):
        for side, (work, count) in enumerate(((ours, ours_calls), (reference, calls))):
            start = time.perf_counter()
            for _ in range(count):
                work()
            samples[side].append((time.perf_counter() - start) / count * 1e6)
    low, mid = [min(each) for each in samples], [statistics.median(each) for each in samples]
    return Result(name, low[0], low[1], low[1] / low[0], mid[1] / mid[0], target)


def _recover(rounds: int) -> list[Result]:
    digest = digests.transfer_authorization_digest(digests.domain("USDC", "2", 84532, TOKEN), *MESSAGE)
    signature = secp256k1.sign(digest, KEY)
    low = signature[:64] + bytes((signature[64] - 27,))
    native = NativeECCBackend()

    def eth_keys() -> object:
        # KeyAPI(backend).Signature ignores its backend; this one does not
        return Signature(low, backend=native).recover_public_key_from_msg_hash(digest).to_canonical_address()

    def coincurve() -> object:
        return PublicKey.from_signature_and_message(low, digest, hasher=None).format(False)

    fast = {"rounds": rounds, "ours_calls": 100, "calls": 100}
    return [
        measure(
            "recover, pure Python : eth_keys native",
            lambda: secp256k1.recover_pure(digest, signature),
            eth_keys,
            ">= 5",
            rounds=rounds,
            ours_calls=10,
            calls=2,
        ),
        measure(
            "recover, coincurve : coincurve direct, no address",
            lambda: secp256k1.recover(digest, signature),
            coincurve,
            ">= 0.77 (1/1.3)",
            **fast,
        ),
    ]


def _digest(rounds: int) -> list[Result]:
    document = digests.transfer_authorization_typed_data("USDC", "2", 84532, TOKEN, *MESSAGE)
    whole = dict(document)

    def ours() -> bytes:
        return digests.transfer_authorization_digest(digests.domain("USDC", "2", 84532, TOKEN), *MESSAGE)

    def general() -> bytes:
        return eip712.typed_data_digest(document["types"], document["primaryType"], document["domain"], document["message"])

    def eth_account() -> bytes:
        return bytes(_hash_eip191_message(encode_typed_data(full_message=whole)))

    if not ours() == general() == eth_account():
        raise SystemExit("the digests differ")
    calls = {"rounds": rounds, "ours_calls": 300, "calls": 20}
    return [
        measure("EIP-3009 digest : eth-account", ours, eth_account, ">= 10", **calls),
        measure("EIP-712, general encoder : eth-account", general, eth_account, "", **calls),
    ]


def _sign(rounds: int) -> list[Result]:
    digest = b"\x07" * 32
    sign, cached = secp256k1.signer(KEY), PrivateKey(KEY)
    native = EthPrivateKey(KEY, backend=NativeECCBackend())
    return [
        measure(
            "sign, coincurve : coincurve direct, cached key",
            lambda: sign(digest),
            lambda: cached.sign_recoverable(digest, hasher=None),
            "",
            rounds=rounds,
            ours_calls=100,
            calls=100,
        ),
        measure(
            "sign : eth-account",
            lambda: sign(digest),
            lambda: Account.unsafe_sign_hash(digest, KEY),
            "",
            rounds=rounds,
            ours_calls=100,
            calls=20,
        ),
        measure(
            "sign : eth_keys native",
            lambda: sign(digest),
            lambda: native.sign_msg_hash(digest),
            "",
            rounds=rounds,
            ours_calls=100,
            calls=2,
        ),
    ]


def _abi(rounds: int) -> list[Result]:
    import eth_abi

    signature = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
    types = signature.partition("(")[2][:-1].split(",")
    args = (*MESSAGE[:5], b"\x11" * 32, 27, b"\x22" * 32, b"\x33" * 32)
    answer = ("uint256",), bytes(31) + b"\x07"
    wrapped = ("address", "bytes", "bytes"), (PAYER, b"\x01" * 200, b"\x02" * 65)
    raw = eth_abi.encode(*wrapped)
    calls = {"rounds": rounds, "ours_calls": 200, "calls": 20}
    if abi.encode(types, args) != eth_abi.encode(types, args) or abi.encode(*wrapped) != raw:
        raise SystemExit("the encodings differ")
    return [
        measure(
            "calldata, 9 words : eth_abi",
            lambda: abi.encode_call(signature, *args),
            lambda: eth_abi.encode(types, args),
            ">= 3",
            **calls,
        ),
        measure("answer, 1 word : eth_abi", lambda: abi.decode(*answer), lambda: eth_abi.decode(*answer), ">= 2", **calls),
        measure(
            "ERC-6492 wrapper, through eth_abi : eth_abi",
            lambda: abi.decode(wrapped[0], raw),
            lambda: eth_abi.decode(wrapped[0], raw),
            ">= 0.8",
            **calls,
        ),
    ]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    results = [each for part in (_recover, _digest, _sign, _abi) for each in part(options.rounds)]
    backends = {"keccak": keccak.backend(), "recover": secp256k1.backend(), "python": sys.version.split()[0]}
    if options.json:
        print(json.dumps({"backends": backends, "results": [asdict(each) for each in results]}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in backends.items()))
    print(f"{'ours : reference':<52}{'ours us':>10}{'ref us':>10}{'ratio':>9}{'median':>9}  target")
    for each in results:
        figures = f"{each.ours:>10.1f}{each.reference:>10.1f}{each.ratio:>8.2f}x{each.ratio_median:>8.2f}x"
        print(f"{each.name:<52}{figures}  {each.target}")


if __name__ == "__main__":
    main()
