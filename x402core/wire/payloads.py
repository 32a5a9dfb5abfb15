"""The ``payload`` of a payment, for every way a permit moves money: what the payer signed, and the signature.

Shared by x402 v1 and v2 and by facilitators.  The offer says which kind it must be; each kind has one member that no other
has, and it must be that one alone, because a payload that can be read in two ways is two payments.  Amounts are atomic units,
times Unix seconds up to 2**256-1, for the judge to look at; nothing is compared with the offer here but the kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.events import Eip2612Permit, Eip3009Permit, Erc7710Permit, Method, Offer, Permit, Permit2Permit
from x402core.evm.address import checksum
from x402core.values import (
    Address,
    Amount,
    Hash32,
    Seconds,
    parse_address,
    parse_amount,
    parse_decimal,
    parse_hash32,
    parse_hex,
)

from .fields import Fields, Json
from .json import Writable

__all__ = ["CONTEXT_BYTES", "SIGNATURE_BYTES", "decode_payload", "encode_payload"]

SIGNATURE_BYTES: Final = (65, 8192)
"""The shortest signature, a key's own, and the longest that a contract wallet may want."""
CONTEXT_BYTES: Final = 8192
"""The longest permission context of a delegation (x402.md 2.3 gives no bound)."""
_UPTO: Final = "upto"
_KIND: Final = {
    Method.EIP3009: "authorization",
    Method.PERMIT2: "permit2Authorization",
    Method.ERC7710: "delegationManager",
    Method.EIP2612: "permit",
}
"""The member that tells one kind from the others."""

_Object: TypeAlias = dict[str, Writable]


def encode_payload(permit: Permit) -> _Object:
    """Write what was signed, and the signature.

    Raises: LocalProtocolError for a signature shorter than 65 bytes or longer than 8192, or a delegation longer than that.
    Source: x402.md 2.1 to 2.4; ``eip2612`` is our own.
    """
    if isinstance(permit, Erc7710Permit):
        return _write_7710(permit)
    least, most = SIGNATURE_BYTES
    if not least <= len(permit.signature) <= most:
        raise LocalProtocolError(f"a signature has {least} to {most} bytes", field="signature")
    signature: _Object = {"signature": _hex(permit.signature)}
    match permit:
        case Eip3009Permit():
            return {**signature, _KIND[permit.method]: _write_3009(permit)}
        case Permit2Permit():
            return {**signature, _KIND[permit.method]: _write_permit2(permit)}
        case Eip2612Permit():
            return {**signature, _KIND[permit.method]: _write_2612(permit)}


def decode_payload(payload: Fields, offer: Offer) -> Permit:
    """Read the permit of a payment that answers ``offer``, whose network it is for; the signature is unchecked.

    The asset is the offer's, but for Permit2, which names its token itself; a delegation's amount and payee are the offer's.

    Raises: RemoteProtocolError, with the pointer of the member at fault; of the kind's own member, when the payload is of
    another kind or of two.  Source: x402.md 2.1 to 2.4; ``eip2612`` is our own.
    """
    mine = _KIND[offer.method]
    if mine not in payload:
        raise payload.error(mine, f"missing: the offer is paid by {offer.method}")
    for other in _KIND.values():
        if other != mine and other in payload:
            raise payload.error(other, f"beside {mine}: a payload is of one kind")
    match offer.method:
        case Method.EIP3009:
            return _read_3009(payload, offer)
        case Method.PERMIT2:
            return _read_permit2(payload, offer)
        case Method.ERC7710:
            return _read_7710(payload, offer)
        case Method.EIP2612:
            return _read_2612(payload, offer)


# --- EIP-3009 --------------------------------------------------------------------------------------------------------


def _write_3009(permit: Eip3009Permit) -> _Object:
    return {
        "from": checksum(permit.payer),
        "to": checksum(permit.pay_to),
        "value": str(permit.amount),
        "validAfter": str(permit.valid_after),
        "validBefore": str(permit.valid_before),
        "nonce": permit.nonce,
    }


_ADDRESS, _NUMBER = "(0x[0-9a-fA-F]{40})", "(0|[1-9][0-9]{0,76})"  # 77 digits are less than 2**256
_AUTHORIZATION: Final = re.compile(rf"{_ADDRESS}\|{_ADDRESS}\|{_NUMBER}\|{_NUMBER}\|{_NUMBER}\|(0x[0-9a-fA-F]{{64}})", re.ASCII)


def _well_formed(document: Mapping[str, Json]) -> tuple[Address, Address, Amount, Seconds, Seconds, Hash32] | None:
    """Read the six members of an authorization at once; None for what the readers below are to judge, and name.

    The usual case, several times faster; it takes nothing that they refuse (a test compares the two).
    """
    try:
        joined = "|".join([document[name] for name in _ORDER])  # type: ignore[misc]  # what is no string is not joined
    except (KeyError, TypeError):
        return None
    found = _AUTHORIZATION.fullmatch(joined)
    if found is None:
        return None
    payer, pay_to, value, after, before, nonce = found.groups()
    return (
        Address(payer.lower()),
        Address(pay_to.lower()),
        Amount(int(value)),
        Seconds(int(after)),
        Seconds(int(before)),
        Hash32(nonce.lower()),
    )


_ORDER: Final = ("from", "to", "value", "validAfter", "validBefore", "nonce")


def _read_3009(payload: Fields, offer: Offer) -> Eip3009Permit:
    signed = payload.object("authorization")
    if (fast := _well_formed(signed.document)) is not None:
        payer, pay_to, amount, after, before, nonce = fast
        signature = payload.get(_signature, "signature")
        return Eip3009Permit(offer.network, offer.asset, payer, pay_to, amount, after, before, nonce, signature)
    return Eip3009Permit(
        network=offer.network,
        asset=offer.asset,
        payer=signed.get(parse_address, "from"),
        pay_to=signed.get(parse_address, "to"),
        amount=signed.get(parse_amount, "value"),
        valid_after=signed.get(_time, "validAfter"),
        valid_before=signed.get(_time, "validBefore"),
        nonce=signed.get(parse_hash32, "nonce"),
        signature=payload.get(_signature, "signature"),
    )


# --- Permit2 ---------------------------------------------------------------------------------------------------------


def _write_permit2(permit: Permit2Permit) -> _Object:
    witness: _Object = {"to": checksum(permit.pay_to)}
    if permit.facilitator is not None:
        witness["facilitator"] = checksum(permit.facilitator)
    witness["validAfter"] = str(permit.valid_after)
    return {
        "from": checksum(permit.payer),
        "permitted": {"token": checksum(permit.asset), "amount": str(permit.amount)},
        "spender": checksum(permit.spender),
        "nonce": str(permit.nonce),
        "deadline": str(permit.deadline),
        "witness": witness,
    }


def _read_permit2(payload: Fields, offer: Offer) -> Permit2Permit:
    """Read either witness; ``upto``'s alone names a facilitator."""
    signed = payload.object("permit2Authorization")
    permitted, witness = signed.object("permitted"), signed.object("witness")
    if offer.scheme != _UPTO and "facilitator" in witness:
        raise witness.error("facilitator", f"no part of the witness of {offer.scheme}")
    return Permit2Permit(
        network=offer.network,
        asset=permitted.get(parse_address, "token"),
        payer=signed.get(parse_address, "from"),
        pay_to=witness.get(parse_address, "to"),
        amount=permitted.get(parse_amount, "amount"),
        spender=signed.get(parse_address, "spender"),
        nonce=signed.get(parse_decimal, "nonce"),
        valid_after=witness.get(_time, "validAfter"),
        deadline=signed.get(_time, "deadline"),
        signature=payload.get(_signature, "signature"),
        facilitator=witness.get(parse_address, "facilitator") if offer.scheme == _UPTO else None,
    )


# --- ERC-7710 --------------------------------------------------------------------------------------------------------


def _write_7710(permit: Erc7710Permit) -> _Object:
    if not 0 < len(permit.context) <= CONTEXT_BYTES:
        raise LocalProtocolError(f"a permission context has 1 to {CONTEXT_BYTES} bytes", field="context")
    return {
        "delegationManager": checksum(permit.manager),
        "permissionContext": _hex(permit.context),
        "delegator": checksum(permit.payer),
    }


def _read_7710(payload: Fields, offer: Offer) -> Erc7710Permit:
    """Read a delegation; until when it is tried is not on the wire, and 0 here."""
    context = payload.get(_context, "permissionContext")
    if not context:
        raise payload.error("permissionContext", "empty")
    return Erc7710Permit(
        network=offer.network,
        asset=offer.asset,
        payer=payload.get(parse_address, "delegator"),
        pay_to=offer.pay_to,
        amount=offer.amount,
        manager=payload.get(parse_address, "delegationManager"),
        context=context,
    )


# --- EIP-2612 --------------------------------------------------------------------------------------------------------


def _write_2612(permit: Eip2612Permit) -> _Object:
    return {
        "owner": checksum(permit.payer),
        "spender": checksum(permit.spender),
        "value": str(permit.amount),
        "nonce": str(permit.nonce),
        "deadline": str(permit.deadline),
    }


def _read_2612(payload: Fields, offer: Offer) -> Eip2612Permit:
    signed = payload.object("permit")
    return Eip2612Permit(
        network=offer.network,
        asset=offer.asset,
        payer=signed.get(parse_address, "owner"),
        spender=signed.get(parse_address, "spender"),
        amount=signed.get(parse_amount, "value"),
        nonce=signed.get(parse_decimal, "nonce"),
        deadline=signed.get(_time, "deadline"),
        signature=payload.get(_signature, "signature"),
    )


# --- plain values ----------------------------------------------------------------------------------------------------


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _time(value: object, at: str) -> Seconds:
    return Seconds(parse_decimal(value, at))


def _context(value: object, at: str) -> bytes:
    return parse_hex(value, at, most=CONTEXT_BYTES)


def _signature(value: object, at: str) -> bytes:
    least, most = SIGNATURE_BYTES
    signature = parse_hex(value, at, most=most)
    if len(signature) < least:
        raise RemoteProtocolError(f"shorter than {least} bytes", pointer=at)
    return signature
