"""How a ledger writes down what it must never forget: settlement records, receipts of money, kept replies.

Our own storage format, not a dialect: versioned JSON (``"v":1``), one shape per value, all integers of the chain as
decimal strings, all bytes as hex (a reply's body: base64).  Reading is as strict as for a stranger's bytes, because the
other writer may be an older or newer release of ours: a member we do not know is refused, not dropped, since dropping it
could lose money.  What cannot be read is a :class:`~x402core.errors.LocalProtocolError` that names the member.

An offer's ``raw`` is not kept: it exists to be echoed by a payer, and a journal belongs to whoever settles.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeVar, assert_never

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError, Reply
from x402core.events import (
    Dialect,
    Eip2612Permit,
    Eip3009Permit,
    Erc7710Permit,
    Method,
    Offer,
    Pending,
    Permit,
    Permit2Permit,
    Settled,
    Settlement,
    SettleMode,
    SponsoredApproval,
    SponsoredPermit,
    Sponsorship,
    Unsettled,
)
from x402core.ledger import Attempt, SettlementRecord
from x402core.values import (
    Hash32,
    Millis,
    Seconds,
    parse_address,
    parse_amount,
    parse_decimal,
    parse_hash32,
    parse_hex,
    parse_network,
    parse_seconds,
)

from .json import Fields, Writable, dumps, loads, pointer

__all__ = [
    "decode_record",
    "decode_reply",
    "decode_settled",
    "encode_record",
    "encode_reply",
    "encode_settled",
]

VERSION: Final = 1
_MOST: Final = 64 * 1024 * 1024  # bytes of one stored value; a kept reply is the largest
_MANY: Final = 1_000_000
_LATEST: Final = 2**63 - 1

T = TypeVar("T")
_Object = dict[str, Writable]


# --- what a ledger calls ---------------------------------------------------------------------------------------------


def encode_record(record: SettlementRecord) -> bytes:
    """Write a settlement record (the offer without its ``raw``).

    Raises: LocalProtocolError for what JSON cannot say, or for more than 64 MiB.
    """
    outcome: _Object = {} if record.outcome is None else {"outcome": _write_settlement(record.outcome)}
    for name, more in (("suffix", record.suffix), ("note", record.note)):
        if more:
            outcome[name] = _hex(more)
    return _store(
        {
            "permit": _write_permit(record.permit),
            "offer": _write_offer(record.offer),
            "since": record.since,
            "created": record.created,
            "attempts": [_write_attempt(attempt) for attempt in record.attempts],
            "sent": record.sent,
            **outcome,
        }
    )


def decode_record(data: bytes) -> SettlementRecord:
    """Read a settlement record.  Raises: LocalProtocolError naming the member that is not as :func:`encode_record` writes."""
    return _recall(data, "settlement record", _read_record)


def encode_reply(reply: Reply) -> bytes:
    """Write an HTTP answer kept for a replay.  Raises: LocalProtocolError as :func:`encode_record` does."""
    body = binascii.b2a_base64(reply.body, newline=False).decode("ascii")
    headers = [[name, value] for name, value in reply.headers]
    return _store({"status": reply.status, "headers": headers, "body": body})


def decode_reply(data: bytes) -> Reply:
    """Read a kept HTTP answer.  Raises: LocalProtocolError naming the member that is not as :func:`encode_reply` writes."""
    return _recall(data, "reply", _read_reply)


def encode_settled(settled: Settled) -> bytes:
    """Write the proof that a permit was executed.  Raises: LocalProtocolError as :func:`encode_record` does."""
    return _store(_write_settlement(settled))


def decode_settled(data: bytes) -> Settled:
    """Read such a proof.  Raises: LocalProtocolError naming the member that is not as :func:`encode_settled` writes."""
    return _recall(data, "settlement", _read_settled)


# --- the envelope ----------------------------------------------------------------------------------------------------


def _store(members: Mapping[str, Writable]) -> bytes:
    data = dumps({"v": VERSION, **members})
    if len(data) > _MOST:
        raise LocalProtocolError(f"too long for the journal: more than {_MOST} bytes", field="record")
    return data


def _recall(data: bytes, what: str, read: Callable[[Fields], T]) -> T:
    try:
        fields = Fields(loads(data, most=_MOST, depth=16))
        if fields.integer("v") != VERSION:
            raise fields.error("v", f"written by a version this release cannot read (it reads {VERSION})")
        return read(fields)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"the journal's {what} is damaged or foreign: {error.text}", field=error.pointer) from None


def _only(fields: Fields, *names: str) -> None:
    """Refuse members of a later release: what they say must not be lost."""
    for name in fields.document:
        if name not in names:
            raise RemoteProtocolError("a member this release does not know", pointer=fields.where(name))


# --- plain values ----------------------------------------------------------------------------------------------------


def _wrong(message: str, at: str) -> NoReturn:
    raise RemoteProtocolError(message, pointer=at)


def _count(value: object, at: str) -> int:
    """Return a JSON whole number from 0 to 2**63-1: block numbers, times, transaction numbers."""
    if not isinstance(value, int) or isinstance(value, bool):
        _wrong("expected a whole number", at)
    if not 0 <= value <= _LATEST:
        _wrong("number out of range", at)
    return value


def _millis(value: object, at: str) -> Millis:
    return Millis(_count(value, at))


def _time(value: object, at: str) -> Seconds:
    """Return seconds out of a permit: a uint256, so it may lie far beyond any clock."""
    return Seconds(parse_decimal(value, at))


def _bytes(value: object, at: str) -> bytes:
    return parse_hex(value, at, most=_MOST)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _all(fields: Fields, name: str, parse: Callable[[object, str], T]) -> tuple[T, ...]:
    at = fields.where(name)
    return tuple(parse(item, pointer(at, index)) for index, item in enumerate(fields.list(name, most=_MANY)))


def _word(fields: Fields, name: str, kind: type[T]) -> T:
    """Return a member of a closed StrEnum."""
    text = fields.text(name)
    try:
        return kind(text)  # type: ignore[call-arg]  # every kind is a StrEnum
    except ValueError:
        raise fields.error(name, f"not a {kind.__name__} this release knows") from None


# --- offers and permits ----------------------------------------------------------------------------------------------


def _write_offer(offer: Offer) -> _Object:
    written: _Object = {
        "dialect": offer.dialect,
        "method": offer.method,
        "network": offer.network,
        "asset": offer.asset,
        "amount": str(offer.amount),
        "pay_to": offer.pay_to,
        "timeout": offer.timeout,
        "name": offer.name,
        "version": offer.version,
        "symbol": offer.symbol,
        "settle": offer.settle,
        "scheme": offer.scheme,
    }
    if offer.decimals is not None:
        written["decimals"] = offer.decimals
    if offer.spender is not None:
        written["spender"] = offer.spender
    if offer.facilitator is not None:
        written["facilitator"] = offer.facilitator
    return written


_OFFER: Final = (
    *("dialect", "method", "network", "asset", "amount", "pay_to", "timeout", "name", "version", "symbol"),
    *("settle", "scheme", "decimals", "spender", "facilitator"),
)


def _read_offer(fields: Fields) -> Offer:
    _only(fields, *_OFFER)
    return Offer(
        dialect=_word(fields, "dialect", Dialect),
        method=_word(fields, "method", Method),
        network=fields.get(parse_network, "network"),
        asset=fields.get(parse_address, "asset"),
        amount=fields.get(parse_amount, "amount"),
        pay_to=fields.get(parse_address, "pay_to"),
        timeout=fields.get(parse_seconds, "timeout"),
        name=fields.text("name", most=_MOST),
        version=fields.text("version", most=_MOST),
        decimals=fields.optional(_count, "decimals"),
        symbol=fields.text("symbol", most=_MOST),
        spender=fields.optional(parse_address, "spender"),
        settle=_word(fields, "settle", SettleMode),
        scheme=fields.text("scheme", most=_MOST),
        facilitator=fields.optional(parse_address, "facilitator"),
    )


def _write_permit(permit: Permit) -> _Object:
    common: _Object = {
        "method": permit.method,
        "network": permit.network,
        "asset": permit.asset,
        "payer": permit.payer,
        "amount": str(permit.amount),
        "signature": _hex(permit.signature),
    }
    match permit:
        case Eip3009Permit():
            return {
                **common,
                "pay_to": permit.pay_to,
                "valid_after": str(permit.valid_after),
                "valid_before": str(permit.valid_before),
                "nonce": permit.nonce,
            }
        case Eip2612Permit():
            return {**common, "spender": permit.spender, "nonce": str(permit.nonce), "deadline": str(permit.deadline)}
        case Permit2Permit():
            return {**common, **_permit2(permit)}
        case Erc7710Permit():  # its context is the signature
            return {**common, "pay_to": permit.pay_to, "manager": permit.manager, "until": str(permit.until)}
        case _:
            assert_never(permit)


def _permit2(permit: Permit2Permit) -> _Object:
    written: _Object = {
        "pay_to": permit.pay_to,
        "spender": permit.spender,
        "nonce": str(permit.nonce),
        "valid_after": str(permit.valid_after),
        "deadline": str(permit.deadline),
    }
    if permit.facilitator is not None:
        written["facilitator"] = permit.facilitator
    match permit.sponsor:
        case SponsoredPermit() as sponsor:
            written["sponsor"] = {
                "amount": str(sponsor.amount),
                "nonce": str(sponsor.nonce),
                "deadline": str(sponsor.deadline),
                "signature": _hex(sponsor.signature),
            }
        case SponsoredApproval(raw):
            written["sponsor"] = {"raw": _hex(raw)}
    return written


_PERMIT: Final = ("method", "network", "asset", "payer", "amount", "signature", "nonce")


def _read_permit(fields: Fields) -> Permit:
    method = _word(fields, "method", Method)
    match method:
        case Method.EIP3009:
            return _read_3009(fields)
        case Method.EIP2612:
            return _read_2612(fields)
        case Method.PERMIT2:
            return _read_permit2(fields)
        case Method.ERC7710:
            return _read_7710(fields)
        case _:
            assert_never(method)


def _read_3009(fields: Fields) -> Eip3009Permit:
    _only(fields, *_PERMIT, "pay_to", "valid_after", "valid_before")
    return Eip3009Permit(
        network=fields.get(parse_network, "network"),
        asset=fields.get(parse_address, "asset"),
        payer=fields.get(parse_address, "payer"),
        pay_to=fields.get(parse_address, "pay_to"),
        amount=fields.get(parse_amount, "amount"),
        valid_after=fields.get(_time, "valid_after"),
        valid_before=fields.get(_time, "valid_before"),
        nonce=fields.get(parse_hash32, "nonce"),
        signature=fields.get(_bytes, "signature"),
    )


def _read_2612(fields: Fields) -> Eip2612Permit:
    _only(fields, *_PERMIT, "spender", "deadline")
    return Eip2612Permit(
        network=fields.get(parse_network, "network"),
        asset=fields.get(parse_address, "asset"),
        payer=fields.get(parse_address, "payer"),
        spender=fields.get(parse_address, "spender"),
        amount=fields.get(parse_amount, "amount"),
        nonce=fields.get(parse_decimal, "nonce"),
        deadline=fields.get(_time, "deadline"),
        signature=fields.get(_bytes, "signature"),
    )


def _read_permit2(fields: Fields) -> Permit2Permit:
    _only(fields, *_PERMIT, "pay_to", "spender", "valid_after", "deadline", "facilitator", "sponsor")
    sponsor = fields.object_or_none("sponsor")
    return Permit2Permit(
        network=fields.get(parse_network, "network"),
        asset=fields.get(parse_address, "asset"),
        payer=fields.get(parse_address, "payer"),
        pay_to=fields.get(parse_address, "pay_to"),
        amount=fields.get(parse_amount, "amount"),
        spender=fields.get(parse_address, "spender"),
        nonce=fields.get(parse_decimal, "nonce"),
        valid_after=fields.get(_time, "valid_after"),
        deadline=fields.get(_time, "deadline"),
        signature=fields.get(_bytes, "signature"),
        facilitator=fields.optional(parse_address, "facilitator"),
        sponsor=None if sponsor is None else _read_sponsor(sponsor),
    )


def _read_sponsor(fields: Fields) -> Sponsorship:
    if "raw" in fields:
        _only(fields, "raw")
        return SponsoredApproval(fields.get(_bytes, "raw"))
    _only(fields, "amount", "nonce", "deadline", "signature")
    return SponsoredPermit(
        amount=fields.get(parse_amount, "amount"),
        nonce=fields.get(parse_decimal, "nonce"),
        deadline=fields.get(_time, "deadline"),
        signature=fields.get(_bytes, "signature"),
    )


def _read_7710(fields: Fields) -> Erc7710Permit:
    _only(fields, *[name for name in _PERMIT if name != "nonce"], "pay_to", "manager", "until")
    return Erc7710Permit(
        network=fields.get(parse_network, "network"),
        asset=fields.get(parse_address, "asset"),
        payer=fields.get(parse_address, "payer"),
        pay_to=fields.get(parse_address, "pay_to"),
        amount=fields.get(parse_amount, "amount"),
        manager=fields.get(parse_address, "manager"),
        context=fields.get(_bytes, "signature"),
        until=fields.get(_time, "until"),
    )


# --- attempts and outcomes -------------------------------------------------------------------------------------------


def _write_attempt(attempt: Attempt) -> _Object:
    return {
        "numbers": attempt.numbers,
        "max_fee": str(attempt.max_fee),
        "max_priority_fee": str(attempt.max_priority_fee),
        "raws": [_hex(raw) for raw in attempt.raws],
        "hashes": attempt.hashes,
        "at": attempt.at,
    }


def _read_attempt(fields: Fields) -> Attempt:
    _only(fields, "numbers", "max_fee", "max_priority_fee", "raws", "hashes", "at")
    attempt = Attempt(
        numbers=_all(fields, "numbers", _count),
        max_fee=fields.get(parse_decimal, "max_fee"),
        max_priority_fee=fields.get(parse_decimal, "max_priority_fee"),
        raws=_all(fields, "raws", _bytes),
        hashes=_all(fields, "hashes", parse_hash32),
        at=fields.get(_millis, "at"),
    )
    if len(attempt.raws) != len(attempt.hashes):
        raise fields.error("hashes", "not one for each raw transaction")
    return attempt


def _write_settlement(outcome: Settlement) -> _Object:
    common: _Object = {"network": outcome.network, "payer": outcome.payer, "transactions": outcome.transactions}
    match outcome:
        case Settled():
            return {
                "kind": "settled",
                **common,
                "transaction": outcome.transaction,
                "amount": str(outcome.amount),
                "block": outcome.block,
                "foreign": outcome.foreign,
            }
        case Pending():
            return {"kind": "pending", **common}
        case Unsettled():
            return {"kind": "unsettled", **common, "reason": outcome.reason, "final": outcome.final}
        case _:
            assert_never(outcome)


_COMMON: Final = ("v", "kind", "network", "payer", "transactions")


def _hashes(fields: Fields) -> tuple[Hash32, ...]:
    return _all(fields, "transactions", parse_hash32)


def _read_settlement(fields: Fields) -> Settlement:
    match fields.text("kind"):
        case "settled":
            return _read_settled(fields)
        case "pending":
            _only(fields, *_COMMON)
            return Pending(fields.get(parse_network, "network"), fields.get(parse_address, "payer"), _hashes(fields))
        case "unsettled":
            _only(fields, *_COMMON, "reason", "final")
            return Unsettled(
                reason=_word(fields, "reason", Reason),
                network=fields.get(parse_network, "network"),
                payer=fields.get(parse_address, "payer"),
                transactions=_hashes(fields),
                final=fields.boolean("final"),
            )
    raise fields.error("kind", "not settled, pending or unsettled")


def _read_settled(fields: Fields) -> Settled:
    if fields.text("kind") != "settled":
        raise fields.error("kind", "not settled")
    _only(fields, *_COMMON, "transaction", "amount", "block", "foreign")
    return Settled(
        transaction=fields.get(parse_hash32, "transaction"),
        network=fields.get(parse_network, "network"),
        payer=fields.get(parse_address, "payer"),
        amount=fields.get(parse_amount, "amount"),
        block=fields.get(_count, "block"),
        transactions=_hashes(fields),
        foreign=fields.boolean("foreign"),
    )


# --- whole values ----------------------------------------------------------------------------------------------------


def _read_record(fields: Fields) -> SettlementRecord:
    _only(fields, "v", "permit", "offer", "since", "created", "attempts", "sent", "outcome", "suffix", "note")
    outcome = fields.object_or_none("outcome")
    return SettlementRecord(
        permit=_read_permit(fields.object("permit")),
        offer=_read_offer(fields.object("offer")),
        since=fields.get(_count, "since"),
        created=fields.get(_millis, "created"),
        attempts=tuple(_read_attempt(item) for item in fields.objects("attempts", most=_MANY)),
        sent=fields.boolean("sent"),
        outcome=None if outcome is None else _read_settlement(outcome),
        suffix=fields.optional(_bytes, "suffix") or b"",
        note=fields.optional(_bytes, "note") or b"",
    )


def _read_reply(fields: Fields) -> Reply:
    _only(fields, "v", "status", "headers", "body")
    status = fields.get(_count, "status")
    if not 100 <= status <= 599:
        raise fields.error("status", "not an HTTP status")
    return Reply(status, _all(fields, "headers", _header), fields.get(_base64, "body"))


def _header(value: object, at: str) -> tuple[str, str]:
    if isinstance(value, list) and len(value) == 2:
        name, text = value
        if isinstance(name, str) and isinstance(text, str):
            return name, text
    _wrong("expected a pair of strings", at)


def _base64(value: object, at: str) -> bytes:
    if not isinstance(value, str):
        _wrong("expected base64 as a string", at)
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        _wrong("not base64", at)
