"""The permit-token dialect: x402-mock 0.1.1's flow, as its models put it on the wire (seeds.md 1.2).

A 402 whose JSON body names components and a token endpoint; a POST of a signed EIP-2612 permit to that endpoint; an
access token in return.  To its components we add members its models let be: ``amount_atomic`` (the price as an exact
decimal string), ``pay_to``, ``spender``, ``max_timeout_seconds``.  What it gets wrong on the wire, and we do not:

* A5: a server's decimals, name and version are *stated* in the offer, never trusted; policy compares them with its own.
* A15: every malformed body has one answer, 400 with the pointer of the member at fault.
* A16: amounts are read as the exact decimal that was written, whole or not, and never rounded.
* A19: its times are naive local ones; ours are aware, in UTC, and its models take them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError, Reply
from x402core.events import (
    Challenge,
    Dialect,
    Eip2612Permit,
    Eip3009Permit,
    Method,
    Offer,
    Payment,
    Permit2Permit,
    SettleMode,
    Token,
)
from x402core.evm.address import checksum
from x402core.money import atomic_to_human, human_to_atomic
from x402core.values import (
    Amount,
    Millis,
    Seconds,
    chain_id,
    parse_address,
    parse_amount,
    parse_seconds,
    seconds,
)

from . import permit_token3
from .headers import is_token68
from .json import Fields, Json, Writable, dumps, loads
from .permit_token3 import TIMEOUT, encode_signature, network, signature, uint256
from .v2 import printable

__all__ = [
    "VERSION",
    "decode_challenge",
    "decode_refusal",
    "decode_token_reply",
    "decode_token_request",
    "encode_challenge",
    "encode_refusal",
    "encode_token_reply",
    "encode_token_request",
    "timestamp",
]

VERSION: Final = "Version 0.1"
_EIP2612: Final = "EIP2612"
_TOKEN_TEXT: Final = 8192
_TOKEN_LIFE: Final = 366 * 86400  # seconds; nobody's "never expires" is believed longer
_INSTRUCTION: Final = (
    "Payment required to access this resource. Sign a permit for one of payment_scheme.payment_components and POST it to "
    "the access_token_endpoint."
)
_TOKEN_INSTRUCTION: Final = "Send this token in the Authorization header, as a Bearer token, to access the resource."
_REASONS: Final = {str(reason): reason for reason in Reason}
_NO_STORE: Final = ("Cache-Control", "no-store")

_Object: TypeAlias = dict[str, Writable]


def timestamp(now: Millis) -> str:
    """Return a driver's clock reading as ISO 8601 in UTC, whole seconds: what ``created_at`` wants (A19).

    Raises: LocalProtocolError after the year 9999.
    """
    try:
        return datetime.fromtimestamp(seconds(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        raise LocalProtocolError("not a time between 1970 and 9999", field="now") from None


# --- the challenge (402 body) ----------------------------------------------------------------------------------------


def encode_challenge(challenge: Challenge, *, created_at: str) -> _Object:
    """Write the permit-token offers of a challenge as the 402's JSON body; offers of other dialects are left out.

    ``created_at`` is ISO 8601 with its zone (:func:`timestamp`).  ``amount`` is exact in human units; x402-mock's own
    client reads it as a binary float, so it pays amounts of up to 15 significant digits.

    An offer by EIP-3009 beside one of the same money by EIP-2612 makes them one component, which payers of 0.3.0 read too.

    Raises: LocalProtocolError for a challenge without token endpoint, or an offer without decimals or by another method
    than EIP-2612.  Source: seeds.md 1.2, 1.7.
    """
    if challenge.token_endpoint is None:
        raise LocalProtocolError("the permit-token flow needs an endpoint to take permits", field="token_endpoint")
    return {
        "reason": challenge.error or Reason.TOKEN_MISSING,
        "access_token_endpoint": challenge.token_endpoint,
        "payment_scheme": {
            "payment_components": _components(challenge, created_at),
            "protocol_version": VERSION,
        },
        "payment_instruction": _INSTRUCTION,
    }


def _components(challenge: Challenge, created_at: str) -> list[Writable]:
    offers = [offer for offer in challenge.offers if offer.dialect is Dialect.PERMIT_TOKEN]
    first, later = ([_money(o) for o in offers if o.method is method] for method in (Method.EIP2612, Method.EIP3009))
    return [
        _component(offer, created_at, later=offer.scheme == permit_token3.DIRECT or _money(offer) in later)
        for offer in offers
        if offer.method is not Method.EIP3009 or _money(offer) not in first
    ]


def _money(offer: Offer) -> tuple[object, ...]:
    return offer.network, offer.asset, offer.amount, offer.pay_to


def _component(offer: Offer, created_at: str, *, later: bool) -> _Object:
    if offer.method is not Method.EIP2612 and offer.scheme != permit_token3.DIRECT:
        raise LocalProtocolError(f"the permit-token flow pays by eip2612, not {offer.method}", field="method")
    if offer.decimals is None:
        raise LocalProtocolError("the permit-token flow states amounts in human units: say the decimals", field="decimals")
    if offer.timeout <= 0:
        raise LocalProtocolError("a permit needs at least a second to be valid in", field="timeout")
    component: _Object = {
        "payment_type": "evm",
        "amount": atomic_to_human(offer.amount, offer.decimals),
        "currency": offer.symbol,
        "metadata": {
            "symbol": offer.symbol,
            "name": offer.name,
            "decimals": offer.decimals,
            "network": offer.network,
            "version": offer.version,
            "wallet_address": checksum(offer.spender or offer.pay_to),  # whom x402-mock's client permits to spend
        },
        "created_at": created_at,
        "token": checksum(offer.asset),
        "chain_id": chain_id(offer.network),
        "amount_atomic": str(offer.amount),
        "pay_to": checksum(offer.pay_to),
        "max_timeout_seconds": offer.timeout,
    }
    if offer.spender is not None:
        component["spender"] = checksum(offer.spender)
    if later:
        component |= permit_token3.members(offer)
    if offer.method is Method.PERMIT2:
        del component["chain_id"]  # payers of 0.1.1 are not to take it for theirs
    return component


def decode_challenge(document: Json, *, source: str = "body") -> Challenge:
    """Read a 402 body: offers with the server's decimals, symbol, name and version as stated, for policy to compare (A5).

    An offer's amount is ``amount_atomic``, which must be the human amount times ten to the decimals; alone, the human
    amount is converted exactly (A16).  Components of an unknown type are named in ``skipped``.  The offers are settled in
    the background; their timeout is 600 seconds unless they say otherwise.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: seeds.md 1.2.
    """
    fields = Fields(document, "", source)
    scheme = fields.object("payment_scheme")
    _version(scheme, "protocol_version")
    offers: list[Offer] = []
    skipped: list[str] = []
    for component in scheme.objects("payment_components"):
        kind = component.text("payment_type", most=256)
        if kind != "evm":
            skipped.append(printable(f"permit-token on {kind}"))
        elif "caip2" in component and "chain_id" not in component:  # x402-mock 0.3.0 (seeds.md 1.7)
            skipped.append(printable(f"permit-token of a later version on {component.text('caip2')}"))
        else:
            offers.append(_read_component(component))
    return Challenge(
        offers=tuple(offers),
        error=printable(fields.text_or("reason", ""), 1024),
        token_endpoint=fields.get(_endpoint, "access_token_endpoint"),
        skipped=tuple(skipped),
    )


def _version(fields: Fields, key: str) -> None:
    if fields.text(key) != VERSION:
        raise RemoteProtocolError(
            f"expected {VERSION}", pointer=fields.where(key), source=fields.source, reason=Reason.INVALID_VERSION
        )


def _endpoint(value: object, at: str) -> str:
    if not isinstance(value, str) or not value or len(value) > 2048:
        raise RemoteProtocolError("expected a path or a URL of at most 2048 characters", pointer=at)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise RemoteProtocolError("has characters no URL has", pointer=at)
    return value


def _read_component(fields: Fields) -> Offer:
    metadata = fields.object("metadata")
    decimals = metadata.get(_decimals, "decimals")
    wallet = metadata.get(parse_address, "wallet_address")
    pay_to = fields.optional(parse_address, "pay_to") or wallet
    spender = fields.optional(parse_address, "spender")
    if spender is not None and spender != wallet:
        raise fields.error("spender", "not the address in metadata.wallet_address")
    return Offer(
        dialect=Dialect.PERMIT_TOKEN,
        method=Method.EIP2612,
        network=fields.get(network, "chain_id"),
        asset=fields.get(parse_address, "token"),
        amount=_amount(fields, decimals),
        pay_to=pay_to,
        timeout=fields.optional(_timeout, "max_timeout_seconds") or TIMEOUT,
        name=metadata.text("name", most=256),
        version=metadata.text("version", most=256),
        decimals=decimals,
        symbol=metadata.text_or("symbol", "", most=64),
        spender=spender or (wallet if wallet != pay_to else None),
        settle=SettleMode.BACKGROUND,
        raw=fields.document,
    )


def _amount(fields: Fields, decimals: int) -> Amount:
    human = fields.number("amount")
    at = fields.where("amount")
    try:
        amount = human_to_atomic(human, decimals, at)
    except RemoteProtocolError as error:
        raise error.within(source=fields.source) from None
    if fields.optional(parse_amount, "amount_atomic") not in (None, amount):
        raise fields.error("amount_atomic", "not the amount in atomic units")
    return amount


def _timeout(value: object, at: str) -> Seconds:
    timeout = parse_seconds(value, at)
    if timeout == 0:
        raise RemoteProtocolError("a permit needs at least a second to be valid in", pointer=at)
    return timeout


def _decimals(value: object, at: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise RemoteProtocolError("expected decimals as a whole number from 0 to 255", pointer=at)
    return value


# --- the token request -----------------------------------------------------------------------------------------------


def encode_token_request(
    permit: Eip2612Permit | Eip3009Permit | Permit2Permit, *, created_at: str, identifier: str = ""
) -> bytes:
    """Write the JSON body to POST to the token endpoint; amounts and times are JSON numbers, as x402-mock has them.

    ``identifier`` is our additive ``payment_id``: random text that sets this body apart from what the chain will publish.

    Raises: LocalProtocolError for a signature that is not 65 bytes ending in 27 or 28.  Source: seeds.md 1.2.
    """
    named: _Object = {"payment_id": identifier} if identifier else {}
    return dumps({"version": VERSION, **named, "permit": _permit(permit, created_at)})


def _permit(permit: Eip2612Permit | Eip3009Permit | Permit2Permit, created_at: str) -> _Object:
    if isinstance(permit, Eip3009Permit):
        return permit_token3.encode_permit(permit, created_at=created_at)
    if isinstance(permit, Permit2Permit):
        return permit_token3.encode_permit2(permit, created_at=created_at)
    return {
        "permit_type": _EIP2612,
        "owner": checksum(permit.payer),
        "spender": checksum(permit.spender),
        "token": checksum(permit.asset),
        "value": permit.amount,
        "nonce": permit.nonce,
        "deadline": permit.deadline,
        "chain_id": chain_id(permit.network),
        "created_at": created_at,
        "signature": encode_signature(permit.signature, _EIP2612, created_at),
    }


def decode_token_request(body: bytes) -> Payment:
    """Read a token request: the permit, with no offer echoed; the signature put together as r, s, v and unchecked.

    Numbers must be JSON whole numbers below 2**256; ``r`` and ``s`` may lack leading zeros.

    Raises: RemoteProtocolError, with the pointer of the member at fault, whatever the bytes (A15).  Source: seeds.md 1.2.
    """
    fields = Fields(loads(body), "", "body")
    _version(fields, "version")
    permit = fields.object("permit")
    kind = permit.text("permit_type", most=256)
    if kind == permit_token3.ERC3009 and "authorizer" in permit:  # else it is its type that is wrong
        return Payment(permit_token3.decode_permit(permit))
    if kind == permit_token3.PERMIT2_TYPE and "amount" in permit:
        return Payment(permit_token3.decode_permit2(permit))
    if kind != _EIP2612:
        where = permit.where("permit_type")
        raise RemoteProtocolError("expected EIP2612", pointer=where, source=permit.source, reason=Reason.UNSUPPORTED_SCHEME)
    return Payment(
        Eip2612Permit(
            network=permit.get(network, "chain_id"),
            asset=permit.get(parse_address, "token"),
            payer=permit.get(parse_address, "owner"),
            spender=permit.get(parse_address, "spender"),
            amount=Amount(permit.get(uint256, "value")),
            nonce=permit.get(uint256, "nonce"),
            deadline=Seconds(permit.get(uint256, "deadline")),
            signature=signature(permit.object("signature"), _EIP2612),
        )
    )


# --- the token reply -------------------------------------------------------------------------------------------------


def encode_token_reply(token: Token, now: Seconds, metadata: Mapping[str, Writable] | None = None) -> Reply:
    """Write the 200 that hands out a token; ``expires_in`` is counted from ``now`` (Unix seconds), ``metadata`` added.

    Raises: LocalProtocolError for a token that has expired or could not follow ``Bearer``.  Source: seeds.md 1.2.
    """
    if not is_token68(token.value):
        raise LocalProtocolError("not a bearer token (RFC 6750 2.1)", field="token")
    if token.expires_at < now:
        raise LocalProtocolError("expired before it was handed out", field="token")
    body = dumps(
        {
            "access_token": token.value,
            "token_type": "Bearer",
            "expires_in": token.expires_at - now,
            "metadata": {"Token Instruction": _TOKEN_INSTRUCTION, **(metadata or {})},
        }
    )
    return Reply(200, (("Content-Type", "application/json"), _NO_STORE), body)


def decode_token_reply(status: int, body: bytes, now: Seconds) -> Token:
    """Read the 200 that hands out a token, which is good for at most 366 days from ``now`` (Unix seconds).

    A missing ``expires_in`` means "never expires" to x402-mock, and 366 days here.

    Raises: RemoteProtocolError for another status (:func:`decode_refusal` reads those) or a malformed body.
    Source: seeds.md 1.2, RFC 6750.
    """
    if status != 200:
        raise RemoteProtocolError(f"the token endpoint answered {status}", source="body", status=502)
    fields = Fields(loads(body), "", "body")
    if fields.text("token_type", most=64).lower() != "bearer":
        raise fields.error("token_type", "expected Bearer")
    value = fields.text("access_token", most=_TOKEN_TEXT)
    if not is_token68(value):
        raise fields.error("access_token", "not a bearer token (RFC 6750 2.1)")
    life = fields.optional(uint256, "expires_in")
    return Token(value, Seconds(now + (_TOKEN_LIFE if life is None else min(life, _TOKEN_LIFE))))


# --- refusals --------------------------------------------------------------------------------------------------------


def encode_refusal(refusal: Refusal | RemoteProtocolError, *, status: int = 400) -> Reply:
    """Write the answer to a permit that buys no token: x402-mock's ``error`` and an RFC 9457 problem in one document.

    ``status`` counts for a :class:`Refusal`; an error brings its own.  Source: seeds.md 1.2, RFC 9457.
    """
    document: _Object = {"type": "about:blank"}
    if isinstance(refusal, Refusal):
        text = refusal.detail or refusal.reason
        document |= {"status": status, "title": refusal.reason, "detail": text}
    else:
        status, text = refusal.status, refusal.message
        document |= {"status": status, "title": refusal.reason, "detail": refusal.text}
        if refusal.pointer:
            document["pointer"] = refusal.pointer
        if refusal.source:
            document["source"] = refusal.source
    document["error"] = f"Verification failed: {text}"
    return Reply(status, (("Content-Type", "application/problem+json"), _NO_STORE), dumps(document))


def decode_refusal(status: int, body: bytes) -> Refusal:
    """Read any answer of a token endpoint that is not 200, and never fail: our reason if the body names one of ours.

    Otherwise UNAVAILABLE for a 429 or 5xx, INVALID_PAYLOAD for the rest.  The peer's words are not repeated.
    """
    try:
        known = _REASONS.get(Fields(loads(body)).text("title"))
    except RemoteProtocolError:
        known = None
    fallback = Reason.UNAVAILABLE if status == 429 or status >= 500 else Reason.INVALID_PAYLOAD
    return Refusal(known or fallback, f"the token endpoint answered {status}")
