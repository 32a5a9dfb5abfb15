"""One 402 in all dialects at once: v2 offers in the PAYMENT-REQUIRED header, v1 and permit-token offers in one JSON body.

A payer of any kind finds what it knows and overlooks the rest: the members of the two bodies have different names.  Reading
prefers the header, because a body may be anything (a paywall page, a proxy's own), and merges what all say, v2 first.
"""

from __future__ import annotations

from typing import Final

from x402core.errors import Reason, RemoteProtocolError, Reply, problem
from x402core.events import Challenge, Dialect, Headers, ResponseHead
from x402core.registry import KNOWN, Registry

from . import permit_token, v1, v2
from .headers import decode_header, encode_header, find_all, single
from .json import Fields, Json, Writable, dumps, loads
from .sign_in import SIGN_IN_WITH_X

__all__ = [
    "EXPOSED_HEADERS",
    "VARY",
    "carries_anything",
    "carries_payment",
    "carries_receipt",
    "decode_402",
    "encode_402",
    "no_such_scope",
    "too_large",
]

EXPOSED_HEADERS: Final = (
    "Access-Control-Expose-Headers",
    f"{v2.PAYMENT_REQUIRED}, {v2.PAYMENT_RESPONSE}, {v1.X_PAYMENT_RESPONSE}",
)
"""What a browser's script must be let read (x402.md 7.10)."""
VARY: Final = ("Vary", f"Authorization, {v2.PAYMENT_SIGNATURE}, {v1.X_PAYMENT}, {SIGN_IN_WITH_X}")
"""What an answer of a priced resource depends on."""

_PAYMENTS: Final = frozenset(name.lower() for name in (v2.PAYMENT_SIGNATURE, v1.X_PAYMENT))
_CARRIED: Final = _PAYMENTS | {"authorization", SIGN_IN_WITH_X.lower()}
_CHALLENGE_TEXT: Final = 65536  # characters of header: extensions bring schemas along (x402.md 7.11)
_HEADERS: Final[Headers] = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), VARY, EXPOSED_HEADERS)


def encode_402(challenge: Challenge, *, created_at: str, detail: str = "", registry: Registry = KNOWN) -> Reply:
    """Write a challenge as one 402 reply, never cached; ``created_at`` is ISO 8601 with its zone.

    ``detail`` says for a person what is wrong with the payment, naming the field.  With v2 offers alone the body is
    ``{"error", "detail"}``; without any there is no PAYMENT-REQUIRED.

    Raises: LocalProtocolError for an offer its dialect has no word for.  Source: x402.md 1.2, 1.4, seeds.md 1.2.
    """
    dialects = {offer.dialect for offer in challenge.offers}
    headers = _HEADERS
    if Dialect.V2 in dialects:
        headers = (*headers, (v2.PAYMENT_REQUIRED, encode_header(v2.encode_challenge(challenge))))
    body: dict[str, Writable] = {}
    if Dialect.V1 in dialects:
        body |= v1.encode_challenge(challenge, registry)
    if Dialect.PERMIT_TOKEN in dialects:
        body |= permit_token.encode_challenge(challenge, created_at=created_at)
    if not body:
        # no x402Version here: v2 clients take a body that has one for x402 v1 (x402.md 1.4)
        body["error"] = challenge.error or Reason.PAYMENT_REQUIRED
        if Dialect.V2 in dialects:
            detail = detail or f"The ways to pay are in the {v2.PAYMENT_REQUIRED} header (x402 version 2)."
    if detail:
        body["detail"] = detail
    return Reply(402, headers, dumps(body))


def decode_402(head: ResponseHead, registry: Registry = KNOWN) -> Challenge:
    """Read whatever a 402 offers, v2 first; one that offers nothing we know is ``Challenge(offers=())``, not an error.

    With a PAYMENT-REQUIRED header present a malformed body is noted in ``skipped``.

    Raises: RemoteProtocolError for a malformed or repeated PAYMENT-REQUIRED, or, without one, a malformed body of x402 v1 or
    the permit-token flow.  Source: x402.md 1.2, 1.4, seeds.md 1.2.
    """
    header = single(head.headers, v2.PAYMENT_REQUIRED)
    if header is None:
        return _from_body(head.body, registry) or Challenge(offers=())
    first = v2.decode_challenge(decode_header(header, source=v2.PAYMENT_REQUIRED, most=_CHALLENGE_TEXT))
    try:
        second = _from_body(head.body, registry)
    except RemoteProtocolError as error:
        second = Challenge(offers=(), skipped=(v2.printable(f"body: {error.message}"),))
    return first if second is None else _merged(first, second)


def _merged(first: Challenge, second: Challenge) -> Challenge:
    return Challenge(
        offers=first.offers + second.offers,
        error=first.error or second.error,
        resource=first.resource or second.resource,
        token_endpoint=first.token_endpoint or second.token_endpoint,
        extensions=first.extensions or second.extensions,
        skipped=first.skipped + second.skipped,
    )


def _from_body(body: bytes, registry: Registry) -> Challenge | None:
    if not body.lstrip().startswith(b"{") or not (b'"payment_scheme"' in body or b'"x402Version"' in body):
        return None  # not ours, whatever it is
    document = loads(body)
    fields = Fields(document)
    found = None
    if _is_v1(fields.document.get("x402Version")) and "accepts" in fields:
        found = v1.decode_challenge(document, registry)
    if "payment_scheme" in fields:
        token = permit_token.decode_challenge(document)
        found = token if found is None else _merged(found, token)
    return found


def _is_v1(version: Json) -> bool:
    return isinstance(version, int) and not isinstance(version, bool) and version == v1.VERSION


def carries_payment(headers: Headers) -> bool:
    """Say whether a request brings a permit along, so that a binding knows to digest its body; judges nothing."""
    return not _PAYMENTS.isdisjoint([name.lower() for name, _ in headers])


def carries_anything(headers: Headers) -> bool:
    """Say whether a request brings anything along that a price asks for: a permit, a token, a sign-in; judges nothing."""
    return not _CARRIED.isdisjoint([name.lower() for name, _ in headers])


def carries_receipt(headers: Headers) -> bool:
    """Say whether a reply tells its payer what became of the money, so that a binding sends it whatever else there is."""
    return bool(find_all(headers, v2.PAYMENT_RESPONSE) or find_all(headers, v1.X_PAYMENT_RESPONSE))


def too_large(most: int) -> Reply:
    """Return the 413 for a body that is longer than ``most`` bytes: a permit is bound to the body, so it must be read whole."""
    detail = f"The body of a paid request may be at most {most} bytes."
    return problem(413, detail, reason=Reason.INVALID_PAYLOAD, source="body")


def no_such_scope() -> Reply:
    """Return the 404 for a permit that was taken to a scope nothing is sold under."""
    return problem(404, "Nothing is sold under this scope.", reason=Reason.NO_MATCH, pointer="/scope", source="query")
