"""Bytes into every decoder of x402core/wire: a value or the one declared error comes out, nothing else.

    python fuzz/fuzz_wire.py --runs 100000 --seed 1      random mutations of valid documents; no dependencies
    python fuzz/fuzz_wire.py --atheris [libFuzzer args]  coverage-guided, if atheris is installed

The first byte of an input chooses the decoder.  What a decoder accepts is encoded and decoded once more and must be the
same value: no peer can send a document that we would hand on as another.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError, Reply
from x402core.events import (
    Challenge,
    Dialect,
    Eip2612Permit,
    Eip3009Permit,
    Erc7710Permit,
    Method,
    Offer,
    Payment,
    Permit2Permit,
    Receipt,
    Resource,
    ResponseHead,
    Settled,
    SettleMode,
    SponsoredApproval,
    SponsoredPermit,
    Token,
)
from x402core.ledger import Attempt, SettlementRecord
from x402core.registry import KNOWN
from x402core.values import Address, Amount, Hash32, Millis, Network, Origin, Seconds
from x402core.wire import (
    builder_code,
    extensions,
    facilitator,
    http,
    journal,
    offer_receipt,
    permit_token,
    sign_in,
    sponsoring,
    v1,
    v2,
)
from x402core.wire.json import Fields, dumps, loads

NOW = Seconds(1_800_000_000)
WHEN = "2026-09-01T12:00:00Z"
PARTY = Address("0x" + "ab" * 20)
HASH = Hash32("0x" + "cd" * 32)
CHAIN = Network("eip155:84532")
V2 = Offer(Dialect.V2, Method.EIP3009, CHAIN, PARTY, Amount(10000), PARTY, Seconds(60), "USDC", "2")
TOKEN = replace(
    V2, dialect=Dialect.PERMIT_TOKEN, method=Method.EIP2612, decimals=6, symbol="USDC", settle=SettleMode.BACKGROUND
)
V1 = replace(V2, dialect=Dialect.V1)
UPTO = replace(V2, scheme="upto", method=Method.PERMIT2, facilitator=PARTY)
CHALLENGE = Challenge((V2, TOKEN), "Payment required", Resource("https://a.example/b"), "/token", {"x": {"info": [None, 1]}})
P3009 = Eip3009Permit(CHAIN, PARTY, PARTY, PARTY, Amount(10000), Seconds(0), Seconds(NOW + 60), HASH, b"\x1b" * 65)
P2612 = Eip2612Permit(CHAIN, PARTY, PARTY, PARTY, Amount(10000), 7, Seconds(NOW + 60), b"\x1b" * 65)
P_PERMIT2 = Permit2Permit(
    *(CHAIN, PARTY, PARTY, PARTY, Amount(10000), PARTY, 7, Seconds(0), Seconds(NOW + 60), b"\x1b" * 65),
    sponsor=SponsoredPermit(Amount(10000), 7, Seconds(NOW + 60), b"\x1b" * 65),
)
P_UPTO = replace(P_PERMIT2, facilitator=PARTY, sponsor=None)
P7710 = Erc7710Permit(CHAIN, PARTY, PARTY, PARTY, Amount(10000), PARTY, b"context")
PAID = {
    "exact": Payment(P3009, V2, Resource("https://a.example/b")),
    "permit2": Payment(P_PERMIT2, replace(V2, method=Method.PERMIT2), extensions=sponsoring.advertised()),
    "upto": Payment(P_UPTO, UPTO),
    "erc7710": Payment(P7710, replace(V2, method=Method.ERC7710, facilitator=PARTY)),
    "eip2612": Payment(P2612, replace(V2, method=Method.EIP2612, spender=PARTY)),
}
SETTLED = Settled(HASH, CHAIN, PARTY, Amount(10000), 12, (HASH,))
RECORD = SettlementRecord(
    P3009, V2, 1, Millis(1), (Attempt((1,), 2, 1, (b"raw",), (HASH,), Millis(2)),), sent=True, outcome=SETTLED
)


@dataclass(frozen=True)
class Target:
    """A decoder of bytes, the encoder that undoes it (None: nothing to undo), the errors it may raise, a valid input."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes] | None
    errors: tuple[type[Exception], ...]
    seed: bytes
    armoured: bool = False  # base64 of JSON: mutate the JSON, or nothing ever gets through


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _payment(payment: Payment) -> bytes:
    assert payment.accepted is not None
    if payment.permit.asset != payment.accepted.asset:  # read as it was signed, for the judge; of our own we write none such
        return b""
    return v2.encode_payment(payment).encode()


def _first_payment(data: bytes) -> Any:
    return v1.decode_payment(_text(data), (V1,), KNOWN)


def _request(permit: Any, offer: Offer, **extensions: Any) -> bytes:
    note = v2.encode_note(Resource("https://a.example/b"), extensions, Payment(permit, extensions=extensions))
    return facilitator.encode_request(permit, offer, note)


def _ask(data: bytes) -> Any:
    ask = facilitator.decode_request(data, settle=True)
    facilitator.attribution(ask, "bc_wallet")
    facilitator.encode_refusal(ask, Refusal(Reason.SIGNATURE))
    return facilitator.encode_settled(ask, Receipt(True, ask.offer.network, PARTY, HASH))


def _sponsorship(data: bytes) -> Any:
    return sponsoring.decode_sponsorship(_object(data), PARTY, PARTY)


def _body_402(challenge: Challenge) -> bytes:
    return http.encode_402(challenge, created_at=WHEN).body


def _body_of_offers(challenge: Challenge) -> bytes:
    if any((offer.decimals or 0) > 77 for offer in challenge.offers):  # JSON of ours has 78 digits behind the point at most
        return b""
    return dumps(permit_token.encode_challenge(challenge, created_at=WHEN))


def _decode_body_402(data: bytes) -> Challenge:
    return http.decode_402(ResponseHead(402, (), data))


def _decode_header_402(data: bytes) -> Challenge:
    return http.decode_402(ResponseHead(402, ((v2.PAYMENT_REQUIRED, _text(data)),), b""))


def _header_402(challenge: Challenge) -> bytes:
    headers = dict(http.encode_402(replace(challenge, token_endpoint="/token"), created_at=WHEN).headers)
    return headers[v2.PAYMENT_REQUIRED].encode()


def _token_request(payment: Payment) -> bytes:
    assert isinstance(payment.permit, Eip2612Permit)
    return permit_token.encode_token_request(payment.permit, created_at=WHEN)


def _token_reply(data: bytes) -> Token:
    return permit_token.decode_token_reply(200, data, NOW)


ADVERTISED = {**builder_code.advertised("bc_myapp", ("sdk",)), "x": {"info": {"input": {"method": "GET"}, "paid": 1}}}
PROOF = sign_in.encode_proof(
    sign_in.Proof(
        domain="a.example",
        address=PARTY,
        uri="https://a.example/b",
        chain=CHAIN,
        type="eip191",
        nonce="a1b2c3d4",
        issued_at="2026-09-01T12:00:00Z",
        resources=("https://a.example/b",),
        signature="0x" + "1b" * 65,
    )
).encode()
SIGNED_OFFER = offer_receipt.SignedOffer(offer_receipt.offer_payload(V2, "https://a.example/b", now=NOW), b"\x1b" * 65, 0)
SIGNED_RECEIPT = offer_receipt.SignedReceipt(
    offer_receipt.receipt_payload(CHAIN, "https://a.example/b", PARTY, issued_at=NOW), b"\x1b" * 65
)


def _object(data: bytes) -> dict[str, Any]:
    return Fields(loads(data)).document


def _proof(data: bytes) -> sign_in.Proof:
    proof = sign_in.decode_proof(_text(data))
    sign_in.check_sign_in(proof, origin=Origin("https://a.example"), now=Millis(1_788_264_001_000))
    return proof


def _checked_offers(offers: tuple[Any, ...]) -> tuple[Any, ...]:
    for offer in offers:
        offer_receipt.check_offer(offer, V2, "https://a.example/b", now=NOW)
    return offers


def _foreign(signed: tuple[Any, ...]) -> bool:
    return any(isinstance(one, offer_receipt.Jws) for one in signed)


def _echo(data: bytes) -> str | None:
    document = _object(data)
    extensions.merge(document, ADVERTISED)
    extensions.merge(ADVERTISED, document)
    builder_code.presented(document)
    return extensions.echo_problem(ADVERTISED, document)


BAZAAR = {"info": {"input": {"type": "http", "method": "GET"}}, "schema": {"properties": {"input": {"type": "object"}}}}
ASKED_V1 = {
    "x402Version": 1,
    "paymentPayload": v1.payment_document(P3009, V1, KNOWN),
    "paymentRequirements": {
        **v1.encode_offer(V1, Resource("https://a.example/b"), KNOWN),
        "outputSchema": {"input": {"type": "http", "method": "GET", "queryParams": {"a": "b"}}, "output": {"c": 1}},
    },
}
SUPPORTED = dumps(
    {
        "kinds": [{"x402Version": 2, "scheme": "upto", "network": CHAIN, "extra": {"facilitatorAddress": PARTY}}],
        "extensions": ["bazaar"],
        "signers": {"eip155:*": [PARTY]},
    }
)
APPROVAL = {
    sponsoring.APPROVAL: {
        "info": {"from": PARTY, "asset": PARTY, "spender": PARTY, "amount": "1", "signedTransaction": "0x02", "version": "1"}
    }
}
REMOTE = (RemoteProtocolError,)
LOCAL = (LocalProtocolError,)
TARGETS: dict[str, Target] = {
    **{
        f"v2.payment.{name}": Target(
            lambda data: v2.decode_payment(_text(data)), _payment, REMOTE, v2.encode_payment(paid).encode(), armoured=True
        )
        for name, paid in PAID.items()
    },
    "v1.payment": Target(
        _first_payment,
        lambda pairs: v1.encode_payment(*pairs[0], KNOWN).encode() if pairs else b"",
        REMOTE,
        v1.encode_payment(P3009, V1, KNOWN).encode(),
        armoured=True,
    ),
    "v1.receipt": Target(
        lambda data: v1.decode_receipt(_text(data), KNOWN),
        None,  # a failure need not name a payer; ours does
        REMOTE,
        v1.encode_receipt(Receipt(True, CHAIN, PARTY, HASH), KNOWN).encode(),
        armoured=True,
    ),
    "facilitator.request": Target(
        _ask, None, REMOTE, _request(P3009, V2, bazaar=BAZAAR, **builder_code.advertised("bc_myapp", ("sdk",)))
    ),
    "facilitator.upto": Target(_ask, None, REMOTE, _request(P_UPTO, replace(UPTO, amount=Amount(7)))),
    "facilitator.v1": Target(_ask, None, REMOTE, dumps(ASKED_V1)),
    "facilitator.verify": Target(
        facilitator.decode_verify, None, REMOTE, dumps({"isValid": False, "invalidReason": "invalid_payload", "payer": PARTY})
    ),
    "facilitator.settle": Target(
        facilitator.decode_settle, None, REMOTE, dumps(v2.receipt_document(Receipt(True, CHAIN, PARTY, HASH, Amount(10000))))
    ),
    "facilitator.settle_v1": Target(
        lambda data: facilitator.decode_settle(data, version=1),
        None,
        REMOTE,
        dumps(v1.receipt_document(Receipt(True, CHAIN, PARTY, HASH), KNOWN)),
    ),
    "facilitator.supported": Target(facilitator.decode_supported, None, REMOTE, SUPPORTED),
    "sponsoring.permit": Target(_sponsorship, None, REMOTE, dumps(sponsoring.encode_sponsorship(P_PERMIT2, {}))),
    "sponsoring.approval": Target(_sponsorship, None, REMOTE, dumps(APPROVAL)),
    "v2.receipt": Target(
        lambda data: v2.decode_receipt(_text(data)),
        None,  # a peer may say settlement_pending without a transaction; we may not
        REMOTE,
        v2.encode_receipt(Receipt(True, CHAIN, PARTY, HASH, Amount(10000))).encode(),
        armoured=True,
    ),
    "http.header": Target(
        _decode_header_402,
        lambda challenge: _header_402(challenge) if challenge.offers else b"",
        REMOTE,
        _header_402(CHALLENGE),
        armoured=True,
    ),
    "http.body": Target(_decode_body_402, None, REMOTE, _body_402(CHALLENGE)),
    "http.body.v1": Target(_decode_body_402, None, REMOTE, _body_402(replace(CHALLENGE, offers=(V1, V1, TOKEN)))),
    "permit_token.challenge": Target(
        lambda data: permit_token.decode_challenge(loads(data)), _body_of_offers, REMOTE, _body_402(CHALLENGE)
    ),
    "permit_token.request": Target(permit_token.decode_token_request, _token_request, REMOTE, _token_request(Payment(P2612))),
    "permit_token.reply": Target(
        _token_reply,
        lambda token: permit_token.encode_token_reply(token, NOW).body,
        REMOTE,
        permit_token.encode_token_reply(Token("abc.def", Seconds(NOW + 300)), NOW).body,
    ),
    "permit_token.refusal": Target(
        lambda data: permit_token.decode_refusal(400, data), None, (), b'{"error":"no","title":"insufficient_funds"}'
    ),
    "sign_in.proof": Target(_proof, lambda proof: sign_in.encode_proof(proof).encode(), REMOTE, PROOF, armoured=True),
    "sign_in.advertised": Target(
        lambda data: sign_in.advertised(_object(data), "body"),
        None,
        REMOTE,
        dumps(sign_in.advertise("a.example", "https://a.example/b", "a1b2c3d4", Millis(1), (CHAIN,), "Hello", Millis(2))),
    ),
    "offer_receipt.offers": Target(
        lambda data: _checked_offers(offer_receipt.presented_offers(_object(data), "body")),
        lambda offers: b"" if _foreign(offers) else dumps(offer_receipt.advertised(offers)),
        REMOTE,
        dumps(offer_receipt.advertised([SIGNED_OFFER])),
    ),
    "offer_receipt.receipt": Target(
        lambda data: offer_receipt.presented_receipt(_object(data), "body"),
        lambda receipt: b"" if receipt is None or _foreign((receipt,)) else dumps(offer_receipt.attached(receipt)),
        REMOTE,
        dumps(offer_receipt.attached(SIGNED_RECEIPT)),
    ),
    "builder_code.suffix": Target(
        builder_code.parse_suffix,
        lambda codes: b"" if codes is None else builder_code.suffix(codes),
        REMOTE,
        builder_code.suffix(builder_code.Codes("bc_myapp", "bc_myfacilitator", ("my_client",))),
    ),
    "extensions.responses": Target(
        lambda data: extensions.decode_responses(_text(data)),
        lambda responses: extensions.encode_responses(responses).encode(),
        REMOTE,
        extensions.encode_responses({"bazaar": {"status": "success"}}).encode(),
        armoured=True,
    ),
    "extensions.echo": Target(_echo, None, REMOTE, dumps(ADVERTISED)),
    "journal.record": Target(journal.decode_record, journal.encode_record, LOCAL, journal.encode_record(RECORD)),
    **{
        f"journal.{name}": Target(journal.decode_record, journal.encode_record, LOCAL, journal.encode_record(record))
        for name, record in {
            "permit2": replace(RECORD, permit=P_PERMIT2, suffix=b"suffix", note=b"note"),
            "upto": replace(RECORD, permit=replace(P_UPTO, sponsor=SponsoredApproval(b"raw")), offer=UPTO),
            "erc7710": replace(RECORD, permit=P7710),
        }.items()
    },
    "journal.reply": Target(
        journal.decode_reply, journal.encode_reply, LOCAL, journal.encode_reply(Reply(200, (("A", "b"),), b"body"))
    ),
    "journal.settled": Target(journal.decode_settled, journal.encode_settled, LOCAL, journal.encode_settled(SETTLED)),
}
NAMES = tuple(TARGETS)


def check(name: str, data: bytes) -> bool:
    """Feed one decoder; True if it took the bytes.  Raises: AssertionError, or whatever the bug raises."""
    target = TARGETS[name]
    try:
        value = target.decode(data)
    except target.errors:
        return False
    if target.encode is None:
        return True
    again = target.encode(value)
    if again:
        back = target.decode(again)
        same = back.offers == value.offers if isinstance(value, Challenge) else back == value
        assert same, f"{name}: {value!r} came back as {back!r}"
    return True


def one_input(data: bytes) -> None:
    """The atheris entry point."""
    if data:
        check(NAMES[data[0] % len(NAMES)], data[1:])


# --- the fallback: mutate what is valid ------------------------------------------------------------------------------

TOKENS = (
    *(b"null", b"true", b"0", b"-1", b"1e999", b"0.5", b'""', b"[]", b"{}", b'"0x"', b'"0"', b"NaN", b"2", b'"\\ud800"'),
    *(b"1" * 80, b"[" * 40, b'"x402Version":2,', b'"success":true,', b"\xff", b"\x00", b"115792089237316195423570985"),
    *(b'"eip155:1"', b'"exact"', b'"upfront"', b'"permit2"', b"e-77", b"\\u202e", b'"2612"'),
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, tokens or spans; often one, so that most of the document stays valid."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 1 and at < len(out):
            out[at] = rng.choice(b'0123456789abcdefx",:{}[]-.eE')
        elif kind == 2:
            del out[at : at + rng.choice((1, 1, 2, 8, 64))]
        elif kind == 3:
            out[at:at] = rng.choice(TOKENS)
        elif kind == 4:
            _value(out, rng)
        else:
            end = at + rng.randrange(1, 32)
            out[at:at] = out[at:end]
    return bytes(out)


def _value(out: bytearray, rng: random.Random) -> None:
    """Put a token in place of a whole member's value."""
    colons = [index for index, byte in enumerate(out) if byte == 0x3A]
    if colons:
        start = rng.choice(colons) + 1
        ends = [end for mark in b",}]" if (end := out.find(mark, start)) >= 0]
        out[start : min(ends, default=len(out))] = rng.choice(TOKENS)


def run(runs: int, seed: int) -> dict[str, tuple[int, int]]:
    """Return (inputs fed, inputs taken) for each decoder."""
    rng = random.Random(seed)
    counts = dict.fromkeys(NAMES, (0, 0))
    for index in range(runs):
        name = NAMES[index % len(NAMES)]
        target = TARGETS[name]
        if target.armoured and rng.random() < 0.9:
            data = b64encode(mutate(b64decode(target.seed), rng))
        else:
            data = mutate(target.seed, rng)
        try:
            taken = check(name, data)
        except Exception:
            print(f"{name} fails on {data!r} (run {index} of seed {seed})", file=sys.stderr)  # noqa: T201
            raise
        fed, yes = counts[name]
        counts[name] = (fed + 1, yes + taken)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="coverage-guided; the remaining arguments are libFuzzer's")
    options, rest = parser.parse_known_args()
    if options.atheris:
        import atheris  # type: ignore  # optional

        atheris.Setup([sys.argv[0], *rest], one_input)
        atheris.Fuzz()
        return
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    began = time.perf_counter()
    for name, (fed, taken) in run(options.runs, options.seed).items():
        print(f"{name:24} {fed:8} fed {taken:8} taken")  # noqa: T201
    print(f"{options.runs / (time.perf_counter() - began):.0f} runs/s, nothing but declared errors")  # noqa: T201


if __name__ == "__main__":
    main()
