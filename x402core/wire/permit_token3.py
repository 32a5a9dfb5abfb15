"""The permit-token dialect as x402-mock 0.3.0 speaks it: other components, ERC-3009 permits, the same flow (seeds.md 1.7).

Its component names the chain by ``caip2``, the payee by ``pay_to`` and the token's domain by members of its own, so that one
component serves payers of both versions: :func:`members` are what is added for the later ones.  What it gets wrong on the
wire, and we do not: B3, ``r`` and ``s`` are written whole, and read with or without their leading zeros.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.events import Challenge, Dialect, Eip3009Permit, Method, Offer, Permit2Permit, SettleMode
from x402core.evm.address import checksum
from x402core.evm.digests import PERMIT2
from x402core.money import human_to_atomic
from x402core.values import (
    UINT256_MAX,
    Amount,
    Network,
    Seconds,
    chain_id,
    parse_address,
    parse_hash32,
    parse_network,
)

from .json import Fields, Json, Writable
from .v2 import printable

__all__ = [
    "DIRECT",
    "ERC3009",
    "PERMIT2_TYPE",
    "TIMEOUT",
    "decode_offers",
    "decode_permit",
    "decode_permit2",
    "encode_permit",
    "encode_permit2",
    "encode_signature",
    "members",
    "network",
    "signature",
    "uint256",
]

ERC3009: Final = "ERC3009"
PERMIT2_TYPE: Final = "Permit2"
DIRECT: Final = "permit2-direct"
"""The scheme of 0.3.0's Permit2: no proxy, no witness, executed by the spender."""
TIMEOUT: Final = Seconds(600)  # what x402-mock's client signs, where the offer does not say
_HALF = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_CAIP2 = re.compile(r"eip155[:-]([1-9][0-9]{0,19})", re.ASCII | re.IGNORECASE)
_DECIMALS = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)

_Object: TypeAlias = dict[str, Writable]


# --- what both versions read alike -----------------------------------------------------------------------------------


def network(value: object, at: str) -> Network:
    """Read a chain id, a JSON whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RemoteProtocolError("expected a chain id as a positive whole number", pointer=at, reason=Reason.INVALID_NETWORK)
    return parse_network(f"eip155:{value}", at)


def uint256(value: object, at: str) -> int:
    """Read a JSON whole number below 2**256."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise RemoteProtocolError("expected a whole number", pointer=at)
    if not 0 <= value <= UINT256_MAX:
        raise RemoteProtocolError("not from 0 to 2**256-1", pointer=at)
    return value


def signature(fields: Fields, kind: str) -> bytes:
    """Read v, r and s of a signature of this ``kind`` (or of none) as 65 bytes, unchecked."""
    if fields.text_or("signature_type", kind, most=256) != kind:
        where = fields.where("signature_type")
        raise RemoteProtocolError(f"expected {kind}", pointer=where, source=fields.source, reason=Reason.UNSUPPORTED_SCHEME)
    v = fields.integer("v")
    if v not in (27, 28):
        raise fields.error("v", "expected 27 or 28")
    return fields.get(_half, "r") + fields.get(_half, "s") + bytes((v,))


def _half(value: object, at: str) -> bytes:
    if not isinstance(value, str) or _HALF.fullmatch(value) is None:
        raise RemoteProtocolError("expected 0x and at most 64 hex digits", pointer=at)
    return int(value, 16).to_bytes(32, "big")


def encode_signature(signed: bytes, kind: str, created_at: str) -> _Object:
    """Write a signature.  Raises: LocalProtocolError for one that is not 65 bytes ending in 27 or 28."""
    if len(signed) != 65 or signed[64] not in (27, 28):
        raise LocalProtocolError("the permit-token flow carries 65-byte signatures with v 27 or 28", field="signature")
    return {
        "signature_type": kind,
        "v": signed[64],
        "r": "0x" + signed[:32].hex(),
        "s": "0x" + signed[32:64].hex(),
        "created_at": created_at,
    }


# --- components ------------------------------------------------------------------------------------------------------


def members(offer: Offer) -> _Object:
    """Return what a component needs for payers of 0.3.0, beside what any has (type, amount, currency, token, metadata)."""
    return {
        "caip2": offer.network,
        "pay_to": checksum((offer.spender or offer.pay_to) if offer.method is Method.PERMIT2 else offer.pay_to),
        "token_name": offer.name,
        "token_decimals": offer.decimals,
        "token_version": offer.version,
    }


def decode_offers(document: Json, *, source: str = "body") -> Challenge:
    """Read the components that have 0.3.0's words (``caip2``, ``token_name``) as offers to pay by ERC-3009, or by Permit2.

    How the asset can be paid is for policy to say: unlike its own client's, our choice is not by symbol (B8).

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: seeds.md 1.7.
    """
    fields = Fields(document, "", source)
    offers: list[Offer] = []
    skipped: list[str] = []
    for component in fields.object("payment_scheme").objects("payment_components"):
        kind = component.text("payment_type", most=256)
        if kind != "evm":
            skipped.append(printable(f"permit-token on {kind}"))
        elif "chain_id" not in component or "token_name" in component:
            offers += _offers(component)
    endpoint = fields.text("access_token_endpoint", most=2048)
    return Challenge(tuple(offers), token_endpoint=endpoint, skipped=tuple(skipped))


def _offers(fields: Fields) -> tuple[Offer, Offer]:
    """Return both ways 0.3.0 takes any token: which of them it can be paid by is for policy to say."""
    first = _offer(fields)
    return first, replace(first, method=Method.PERMIT2, scheme=DIRECT)


def _offer(fields: Fields) -> Offer:
    decimals = fields.get(_decimals, "token_decimals")
    try:
        amount = human_to_atomic(fields.number("amount"), decimals, fields.where("amount"))
    except RemoteProtocolError as error:
        raise error.within(source=fields.source) from None
    return Offer(
        dialect=Dialect.PERMIT_TOKEN,
        method=Method.EIP3009,
        network=fields.get(_caip2, "caip2"),
        asset=fields.get(parse_address, "token"),
        amount=amount,
        pay_to=fields.get(parse_address, "pay_to"),
        timeout=TIMEOUT,
        name=fields.text("token_name", most=256),
        version=fields.get(_version, "token_version"),
        decimals=decimals,
        symbol=fields.text_or("currency", "", most=64),
        settle=SettleMode.BACKGROUND,
        raw=fields.document,
    )


def _caip2(value: object, at: str) -> Network:
    match = _CAIP2.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise RemoteProtocolError("expected eip155: and a chain id", pointer=at, reason=Reason.INVALID_NETWORK)
    return parse_network(f"eip155:{match[1]}", at)


def _decimals(value: object, at: str) -> int:
    if isinstance(value, str) and _DECIMALS.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise RemoteProtocolError("expected decimals as a whole number from 0 to 255", pointer=at)
    return value


def _version(value: object, at: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > 256:
        raise RemoteProtocolError("expected the domain's version", pointer=at)
    return value


# --- permits ---------------------------------------------------------------------------------------------------------


def encode_permit(permit: Eip3009Permit, *, created_at: str) -> _Object:
    """Write an ERC-3009 permit.  Raises: LocalProtocolError as :func:`encode_signature`.  Source: seeds.md 1.7."""
    return {
        "permit_type": ERC3009,
        "token": checksum(permit.asset),
        "chain_id": chain_id(permit.network),
        "authorizer": checksum(permit.payer),
        "recipient": checksum(permit.pay_to),
        "value": permit.amount,
        "validAfter": permit.valid_after,
        "validBefore": permit.valid_before,
        "nonce": permit.nonce,
        "created_at": created_at,
        "signature": encode_signature(permit.signature, ERC3009, created_at),
    }


def decode_permit(fields: Fields) -> Eip3009Permit:
    """Read an ERC-3009 permit, its signature put together and unchecked.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: seeds.md 1.7.
    """
    return Eip3009Permit(
        network=fields.get(network, "chain_id"),
        asset=fields.get(parse_address, "token"),
        payer=fields.get(parse_address, "authorizer"),
        pay_to=fields.get(parse_address, "recipient"),
        amount=Amount(fields.get(uint256, "value")),
        valid_after=Seconds(fields.get(uint256, "validAfter")),
        valid_before=Seconds(fields.get(uint256, "validBefore")),
        nonce=fields.get(parse_hash32, "nonce"),
        signature=signature(fields.object("signature"), ERC3009),
    )


def encode_permit2(permit: Permit2Permit, *, created_at: str) -> _Object:
    """Write a Permit2 permit.  Raises: LocalProtocolError as :func:`encode_signature`.  Source: seeds.md 1.7."""
    return {
        "permit_type": PERMIT2_TYPE,
        "owner": checksum(permit.payer),
        "spender": checksum(permit.spender),
        "token": checksum(permit.asset),
        "amount": permit.amount,
        "nonce": permit.nonce,
        "deadline": permit.deadline,
        "chain_id": chain_id(permit.network),
        "permit2_address": checksum(PERMIT2),
        "created_at": created_at,
        "signature": encode_signature(permit.signature, PERMIT2_TYPE, created_at),
    }


def decode_permit2(fields: Fields) -> Permit2Permit:
    """Read a Permit2 permit of Permit2's own contract (B2); only its spender may execute it, and names the payee then.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: seeds.md 1.7.
    """
    if fields.optional(parse_address, "permit2_address") not in (None, PERMIT2):
        raise fields.error("permit2_address", "not Permit2's address")
    spender = fields.get(parse_address, "spender")
    return Permit2Permit(
        network=fields.get(network, "chain_id"),
        asset=fields.get(parse_address, "token"),
        payer=fields.get(parse_address, "owner"),
        pay_to=spender,
        amount=Amount(fields.get(uint256, "amount")),
        spender=spender,
        nonce=fields.get(uint256, "nonce"),
        valid_after=Seconds(0),
        deadline=Seconds(fields.get(uint256, "deadline")),
        signature=signature(fields.object("signature"), PERMIT2_TYPE),
        facilitator=spender,
    )
