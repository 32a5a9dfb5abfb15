"""Recognise the messages of every dialect, by the header's name or by the members they have, and have them explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from x402core.errors import RemoteProtocolError
from x402core.events import Headers, ResponseHead
from x402core.values import Seconds
from x402core.wire import permit_token, v2
from x402core.wire.fields import Fields, Json
from x402core.wire.headers import decode_header, encode_header
from x402core.wire.http import decode_402
from x402core.wire.json import dumps, loads

from . import facilitators, version1
from .explain import Block, challenge_blocks, payment_blocks, receipt_blocks
from .words import instant

__all__ = ["Found", "read", "read_answer"]

_MOST: Final = 65536
_LINE = re.compile(r"(?:[<>*] )?([A-Za-z0-9-]+):[ \t]*(\S.*?)[ \t]*")
_Reader: TypeAlias = Callable[[Json, Seconds], tuple[Block, ...]]


@dataclass(frozen=True, slots=True)
class Found:
    """One message: its name for a person, the x402 version (None outside x402), and its explanation."""

    kind: str
    version: int | None
    blocks: tuple[Block, ...]


# -------------------------------------------------------------------------------------------------------- the messages


def _v2_challenge(document: Json, _now: Seconds) -> tuple[Block, ...]:
    return challenge_blocks(v2.decode_challenge(document))


def _v2_payment(document: Json, now: Seconds) -> tuple[Block, ...]:
    return payment_blocks(v2.decode_payment(encode_header(document)), now)


def _v2_receipt(document: Json, _now: Seconds) -> tuple[Block, ...]:
    return receipt_blocks(v2.decode_receipt(encode_header(document)))


def _permit_challenge(document: Json, _now: Seconds) -> tuple[Block, ...]:
    return challenge_blocks(permit_token.decode_challenge(document))


def _permit_payment(document: Json, now: Seconds) -> tuple[Block, ...]:
    return payment_blocks(permit_token.decode_token_request(dumps(document)), now)


def _token_reply(document: Json, now: Seconds) -> tuple[Block, ...]:
    token = permit_token.decode_token_reply(200, dumps(document), now)
    facts = (("valid until", instant(token.expires_at, now)), ("length", f"{len(token.value)} characters, not shown"))
    return (Block("token", "an access token, sent as Authorization: Bearer: whoever has it has access", facts),)


@dataclass(frozen=True, slots=True)
class _Message:
    """One message of a dialect: in which header it comes ("" for a body), which member gives it away, who reads it."""

    kind: str
    version: int | None
    header: str
    member: str
    read: _Reader


_MESSAGES: Final = (
    _Message("PAYMENT-REQUIRED: a 402 of x402 version 2", 2, v2.PAYMENT_REQUIRED, "accepts", _v2_challenge),
    _Message("PAYMENT-SIGNATURE: a payment of x402 version 2", 2, v2.PAYMENT_SIGNATURE, "payload", _v2_payment),
    _Message("PAYMENT-RESPONSE: a receipt of x402 version 2", 2, v2.PAYMENT_RESPONSE, "success", _v2_receipt),
    _Message("a 402 of x402 version 1 (body)", 1, "", "accepts", version1.challenge),
    _Message("X-PAYMENT: a payment of x402 version 1", 1, version1.X_PAYMENT, "payload", version1.payment),
    _Message("X-PAYMENT-RESPONSE: a receipt of x402 version 1", 1, version1.X_PAYMENT_RESPONSE, "success", version1.receipt),
    _Message("what a facilitator is asked", None, "", "paymentRequirements", facilitators.request),
    _Message("what a facilitator answers to /verify", None, "", "isValid", facilitators.verified),
    _Message("what a facilitator answers to /supported", None, "", "kinds", facilitators.supported),
    _Message("a 402 of the permit-token flow", None, "", "payment_scheme", _permit_challenge),
    _Message("a permit for an access token (permit-token flow)", None, "", "permit", _permit_payment),
    _Message("an access token (permit-token flow)", None, "", "access_token", _token_reply),
)


def _named(header: str) -> _Message | None:
    return next((each for each in _MESSAGES if each.header and each.header.lower() == header.lower()), None)


def _by_members(document: Json, source: str) -> _Message:
    """Find out what a document without a name is."""
    fields = Fields(document, "", source)
    version = 1 if _is_v1(fields) else 2
    for each in _MESSAGES:
        if each.member in fields and each.version in (None, version):
            return each
    raise RemoteProtocolError("JSON, but no message known here", source=source)


def _is_v1(fields: Fields) -> bool:
    version = fields.document.get("x402Version")
    if version is not None:
        return version == 1 and not isinstance(version, bool)
    network = fields.document.get("network")  # a receipt does not say its version: v1 names networks, v2 numbers them
    return "success" in fields and isinstance(network, str) and ":" not in network


# ------------------------------------------------------------------------------------------------------------- reading


def read(text: str, now: int) -> tuple[Found, ...]:
    """Explain header lines, JSON or base64.  Raises: RemoteProtocolError naming the member at fault."""
    if text.startswith("{"):
        return (_document(loads(text.encode("utf-8", "replace"), most=_MOST, source="JSON"), "JSON", now),)
    if text.startswith("HTTP/"):
        head, _, body = text.replace("\r\n", "\n").partition("\n\n")
        status = head.split(maxsplit=2)[1:2]
        return read_answer(402 if status == ["402"] else 0, tuple(_lines(head)), body.encode("utf-8", "replace"), now)
    pairs = tuple(_lines(text))
    found = tuple(_payments(pairs, now))
    if found:
        return found
    if len(pairs) == 1 and ":" in text and "\n" not in text:
        raise RemoteProtocolError(f"not a payment header known here: {_names()}", source=pairs[0][0])
    return (_document(decode_header(text, source="base64", most=_MOST), "base64", now),)


def read_answer(status: int, headers: Headers, body: bytes, now: int) -> tuple[Found, ...]:
    """Explain a server's answer.  Raises: RemoteProtocolError naming the member at fault."""
    found: list[Found] = []
    if status == 402:
        found.append(_answer_402(headers, body, now))
    else:
        kind = f"HTTP {status}" if status else "an HTTP answer"
        found.append(Found(kind, None, (Block("answer", "this is no 402: nothing is asked for here"),)))
    rest = tuple(pair for pair in headers if pair[0].upper() != v2.PAYMENT_REQUIRED)
    return (*found, *_payments(rest, now))


def _answer_402(headers: Headers, body: bytes, now: int) -> Found:
    challenge = decode_402(ResponseHead(402, headers, body))
    blocks = challenge_blocks(challenge)
    dialects = sorted({str(offer.dialect) for offer in challenge.offers})
    if not dialects and not challenge.skipped and body.lstrip().startswith(b"{"):
        document = loads(body, most=_MOST)
        if isinstance(document, dict) and "accepts" in document:
            return _document(document, "body", now)
    return Found(f"HTTP 402, spoken: {', '.join(dialects) or 'nothing known here'}", None, blocks)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Return the headers among lines as curl prints them."""
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            yield match[1], match[2]


def _payments(pairs: Headers, now: int) -> Iterator[Found]:
    """Explain every payment header in a list."""
    for name, value in pairs:
        message = _named(name)
        if message is not None:
            document = decode_header(value, source=message.header, most=_MOST)
            yield Found(message.kind, message.version, message.read(document, Seconds(now)))


def _document(document: Json, source: str, now: int) -> Found:
    message = _by_members(document, source)
    return Found(message.kind, message.version, message.read(document, Seconds(now)))


def _names() -> str:
    return ", ".join(each.header for each in _MESSAGES if each.header)
