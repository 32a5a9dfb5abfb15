"""Payments spelled oddly: the rows of "Input handling" that the official SDK gets wrong, for every place a payment is read in.

Each edit is made on a payment that is good without it: signed by a payer with money, for the very offer it is sent to.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from tests.shop import Ground, Payer
from x402core import KNOWN
from x402core.errors import Reason
from x402core.events import Dialect, Eip3009Permit, Offer, Payment
from x402core.evm.secp256k1 import sign
from x402core.schemes import of
from x402core.wire import v1, v2
from x402core.wire.json import dumps

__all__ = ["AMOUNTS", "SIGNATURES", "STRUCTURES", "TIMES", "VALUES", "Odd", "document", "signed", "text"]

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
VALUE: Final = "/payload/authorization/value"
SIGNATURE: Final = "/payload/signature"
Document: TypeAlias = dict[str, Any]


def text(document: object) -> str:
    """Return any JSON as a header carries it."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def document(permit: Eip3009Permit, offer: Offer) -> Document:
    """Return a payment as its dialect writes it, to be edited."""
    if offer.dialect is Dialect.V1:
        written = v1.payment_document(permit, offer, KNOWN)
    else:
        written = v2.payment_document(Payment(permit, offer))
    return json.loads(dumps(written))  # type: ignore[no-any-return]


def signed(payer: Payer, offer: Offer, ground: Ground, **changed: Any) -> Eip3009Permit:
    """Return a permit that says something else than the offer, and truly signed."""
    permit = payer.permit(offer, ground)
    assert isinstance(permit, Eip3009Permit)
    if not changed:
        return permit
    permit = replace(permit, **changed)
    return replace(permit, signature=sign(of(offer).digest(permit, offer), payer.key))


@dataclass(frozen=True)
class Odd:
    """A row: what is edited, and what has to be said to it.

    ``at`` is the member at fault, where the bytes are; ``why`` is said to people, where that shows who judged.
    """

    row: str
    edit: Callable[[Document], object]
    reason: Reason = Reason.INVALID_PAYLOAD
    at: str | None = None
    why: str = ""

    @property
    def status(self) -> int:
        """Bytes that are no payment are 400; a payment refused is 402."""
        return 402 if self.at is None else 400

    def __str__(self) -> str:
        return self.row


def _put(at: str, value: object) -> Callable[[Document], None]:
    def edit(document: Document) -> None:
        *path, last = at.strip("/").split("/")
        for name in path:
            document = document[name]
        document[last] = value

    return edit


def _signature(change: Callable[[bytes], bytes]) -> Callable[[Document], None]:
    def edit(document: Document) -> None:
        document["payload"]["signature"] = "0x" + change(bytes.fromhex(document["payload"]["signature"][2:])).hex()

    return edit


def _high(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


VALUES: Final = [
    Odd(f"authorization.value {name}", _put(VALUE, value), at=VALUE)
    for name, value in {
        "with blanks": " 10000 ",
        "with an underscore": "10_000",
        "in Arabic digits": "١٠٠٠٠",
        "with a sign": "+10000",
        "with a leading zero": "010000",
        "as a number": 10000,
        "as a float": 10000.0,
        "with an exponent": "1e4",
        "in hex": "0x2710",
        "in letters": "abc",
        "empty": "",
        "null": None,
        "a list": [],
        "of 5000 digits": "1" * 5000,
        "as a number of 5000 digits": int("1" + "0" * 70),
        "negative": "-10000",
        "minus one": "-1",
        "as a boolean": True,
        "beyond 2**256": str(2**256),
        "with a line feed": "10000\n",
    }.items()
]

SIGNATURES: Final = [
    Odd("signature of 64 bytes", _signature(lambda s: s[:64]), at=SIGNATURE),
    Odd("signature 0x", _put(SIGNATURE, "0x"), at=SIGNATURE),
    Odd("signature empty", _put(SIGNATURE, ""), at=SIGNATURE),
    Odd("signature null", _put(SIGNATURE, None), at=SIGNATURE),
    Odd("signature without 0x", lambda d: d["payload"].update(signature=d["payload"]["signature"][2:]), at=SIGNATURE),
    Odd("signature with blanks", lambda d: d["payload"].update(signature=d["payload"]["signature"] + " "), at=SIGNATURE),
    Odd(
        "signature of half a byte more", lambda d: d["payload"].update(signature=d["payload"]["signature"] + "0"), at=SIGNATURE
    ),
    Odd("signature of 9000 bytes", _put(SIGNATURE, "0x" + "11" * 9000), at=SIGNATURE),
    Odd("signature of 66 bytes", _signature(lambda s: s + b"\0"), Reason.SIGNATURE),
    Odd("signature with a high s", _signature(_high), Reason.SIGNATURE, why="half the group order"),
    Odd("signature with v of 0 or 1", _signature(lambda s: s[:64] + bytes([s[64] - 27])), Reason.SIGNATURE, why="v must be"),
    Odd("signature with v of 29", _signature(lambda s: s[:64] + b"\x1d"), Reason.SIGNATURE),
    Odd("signature with the other v", _signature(lambda s: s[:64] + bytes([55 - s[64]])), Reason.SIGNATURE),
    Odd("signature of zeros", _signature(lambda s: bytes(65)), Reason.SIGNATURE),
    Odd("signature of a stranger", _signature(lambda s: bytes([s[0] ^ 1]) + s[1:]), Reason.SIGNATURE),
]

AMOUNTS: Final = [("underpaid", {"amount": 9_999}), ("overpaid", {"amount": 10_001}), ("paid nothing", {"amount": 0})]
"""Signed truly, and not what is asked."""

TIMES: Final[list[tuple[str, Callable[[int], dict[str, int]], Reason]]] = [
    ("expired", lambda now: {"valid_before": now - 1}, Reason.VALID_BEFORE),
    ("expiring in 3 seconds", lambda now: {"valid_before": now + 3}, Reason.VALID_BEFORE),
    ("validAfter in the future", lambda now: {"valid_after": now + 120}, Reason.VALID_AFTER),
    ("validBefore in the year 9999", lambda now: {"valid_before": 253_402_300_799}, Reason.VALIDITY_TOO_LONG),
    ("validBefore for ever", lambda now: {"valid_before": 2**256 - 1}, Reason.VALIDITY_TOO_LONG),
]

STRUCTURES: Final = [
    *[
        Odd(f"x402Version {version!r}", _put("/x402Version", version), Reason.INVALID_VERSION, "/x402Version")
        for version in (3, "2", True, None, 0, 2.0)
    ],
    Odd("x402Version missing", lambda d: d.pop("x402Version"), Reason.INVALID_VERSION, "/x402Version"),
    Odd("payload missing", lambda d: d.pop("payload"), at="/payload"),
    Odd("payload null", _put("/payload", None), at="/payload"),
    Odd("payload a list", _put("/payload", []), at="/payload"),
    Odd("authorization missing", lambda d: d["payload"].pop("authorization"), at="/payload/authorization"),
    Odd("authorization a string", _put("/payload/authorization", "x"), at="/payload/authorization"),
    Odd("nonce of 31 bytes", _put("/payload/authorization/nonce", "0x" + "11" * 31), at="/payload/authorization/nonce"),
    Odd("validBefore as a number", _put("/payload/authorization/validBefore", 9), at="/payload/authorization/validBefore"),
    Odd("from without 0x", _put("/payload/authorization/from", "11" * 20), at="/payload/authorization/from"),
    Odd("a permit2 beside", _put("/payload/permit2Authorization", {}), at="/payload/permit2Authorization"),
]
