"""The two extensions by which a payer without gas lets Permit2 move a token (x402.md 3.1, 3.2), read and written.

``eip2612GasSponsoring`` brings a token permit that is executed together with the payment, ``erc20ApprovalGasSponsoring`` the
payer's own signed ``approve`` transaction, to be sent before it.  A client always echoes what the server said of them, so an
extension counts as used only once it has members that a client alone writes.  Time, amount and signatures are the scheme's to
check; here is what needs no more than the payment itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Permit2Permit, SponsoredApproval, SponsoredPermit, Sponsorship
from x402core.evm import abi
from x402core.evm.address import checksum
from x402core.evm.digests import PERMIT2
from x402core.evm.transaction import decode_any
from x402core.values import Address, Seconds, parse_address, parse_amount, parse_decimal, parse_hex

from .fields import Fields, Json

__all__ = ["APPROVAL", "EIP2612", "advertised", "decode_sponsorship", "encode_sponsorship"]

EIP2612: Final = "eip2612GasSponsoring"
APPROVAL: Final = "erc20ApprovalGasSponsoring"
_SIGNATURE_BYTES: Final = 8192
_RAW_BYTES: Final = 8192  # an approve of type 2 takes some 200
_VERSION: Final = "1"
_BOTH: Final = ("from", "asset", "spender", "amount")
_PERMIT: Final = (*_BOTH, "nonce", "deadline", "signature")
_APPROVAL: Final = (*_BOTH, "signedTransaction")
_ADDRESS: Final[dict[str, Json]] = {"type": "string", "pattern": "^0x[a-fA-F0-9]{40}$"}
_NUMBER: Final[dict[str, Json]] = {"type": "string", "pattern": "^[0-9]+$"}
_BYTES: Final[dict[str, Json]] = {"type": "string", "pattern": "^0x[a-fA-F0-9]+$"}
_SHOWN: Final[dict[str, dict[str, Json]]] = {
    **dict.fromkeys(("from", "asset", "spender"), _ADDRESS),
    **dict.fromkeys(("amount", "nonce", "deadline"), _NUMBER),
    **dict.fromkeys(("signature", "signedTransaction"), _BYTES),
}

_Info: TypeAlias = dict[str, Json]


# --- the 402 ---------------------------------------------------------------------------------------------------------


def advertised(*, permits: bool = True, approvals: bool = True) -> Mapping[str, Json]:
    """Return the extensions of a challenge whose settler takes token permits, raw approvals, or both (x402.md 3.1, 3.2)."""
    found: _Info = {}
    if permits:
        words = "An EIP-2612 permit for Permit2 may come with the payment and is executed with it; no gas is needed."
        found[EIP2612] = _advertise(words, _PERMIT)
    if approvals:
        words = "A signed approve transaction for Permit2 may come with the payment and is sent before it."
        found[APPROVAL] = _advertise(words, _APPROVAL)
    return found


def _advertise(description: str, members: tuple[str, ...]) -> Json:
    properties: _Info = {name: _SHOWN[name] for name in members}
    return {
        "info": {"description": description, "version": _VERSION},
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {**properties, "version": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$"}},
            "required": [*members, "version"],
        },
    }


# --- the payment -----------------------------------------------------------------------------------------------------


def decode_sponsorship(extensions: Mapping[str, Json], payer: Address, asset: Address) -> Sponsorship | Refusal | None:
    """Return the sponsorship a Permit2 payment brings, why it is refused, or None when it brings none; never raises.

    A token permit goes before an approval.  Refused, in this order: a malformed one, one from another than ``payer``, for
    another token than ``asset``, for another spender than Permit2.  Source: x402.md 3.1, 3.2.
    """
    for key, members in ((EIP2612, _PERMIT), (APPROVAL, _APPROVAL)):
        info = _used(extensions.get(key), members)
        if info is not None:
            return _read(key, info, payer, asset)
    return None


def _used(extension: Json, members: tuple[str, ...]) -> _Info | None:
    """Return the ``info`` a client has written to; None for a mere echo."""
    info = extension.get("info") if isinstance(extension, dict) else None
    if not isinstance(info, dict) or all(info.get(name) is None for name in members):
        return None
    return info


def _read(key: str, info: _Info, payer: Address, asset: Address) -> Sponsorship | Refusal:
    permit = key == EIP2612
    fields = Fields(info, f"/extensions/{key}/info")
    try:
        parties = tuple(fields.get(parse_address, name) for name in ("from", "asset", "spender"))
        amount = fields.get(parse_amount, "amount")
        fields.text("version", most=32)
        sponsorship: Sponsorship = (
            SponsoredPermit(
                amount=amount,
                nonce=fields.get(parse_decimal, "nonce"),
                deadline=Seconds(fields.get(parse_decimal, "deadline")),
                signature=fields.get(_signature, "signature"),
            )
            if permit
            else SponsoredApproval(fields.get(_raw, "signedTransaction"))
        )
    except RemoteProtocolError as error:
        return Refusal(Reason.SPONSOR_PERMIT_FORMAT if permit else Reason.SPONSOR_APPROVAL_FORMAT, str(error))
    for found, expected, reason, what in zip(parties, (payer, asset, PERMIT2), _REASONS[key], _WHAT, strict=True):
        if found != expected:
            return Refusal(reason, f"{key}: {what}")
    return sponsorship


_REASONS: Final = {
    EIP2612: (Reason.SPONSOR_PERMIT_FROM, Reason.SPONSOR_PERMIT_ASSET, Reason.SPONSOR_PERMIT_SPENDER),
    APPROVAL: (Reason.SPONSOR_APPROVAL_FROM, Reason.SPONSOR_APPROVAL_ASSET, Reason.SPONSOR_APPROVAL_SPENDER),
}
_WHAT: Final = ("from is not the payer", "asset is not the payment's token", "spender is not Permit2")


def _signature(value: object, at: str) -> bytes:
    signature = parse_hex(value, at, most=_SIGNATURE_BYTES)
    if not signature:
        raise RemoteProtocolError("empty", pointer=at)
    return signature


def _raw(value: object, at: str) -> bytes:
    raw = parse_hex(value, at, most=_RAW_BYTES)
    if not raw:
        raise RemoteProtocolError("empty", pointer=at)
    return raw


def encode_sponsorship(permit: Permit2Permit, extensions: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a payment's extensions with the permit's sponsorship added to what the server advertised of it.

    Raises: LocalProtocolError for an approval that is no signed ``approve`` transaction, or too long.
    """
    sponsor = permit.sponsor
    if sponsor is None:
        return extensions
    own: _Info = {"from": checksum(permit.payer), "asset": checksum(permit.asset), "spender": checksum(PERMIT2)}
    match sponsor:
        case SponsoredPermit():
            key = EIP2612
            own |= {"amount": str(sponsor.amount), "nonce": str(sponsor.nonce), "deadline": str(sponsor.deadline)}
            own["signature"] = "0x" + sponsor.signature.hex()
        case SponsoredApproval():
            key = APPROVAL
            own |= {"amount": str(_approved(sponsor.raw)), "signedTransaction": "0x" + sponsor.raw.hex()}
    asked = extensions.get(key)
    asked = asked if isinstance(asked, dict) else {}
    info = asked.get("info")
    # the server's word stands (x402.md 3.0): ours are members it did not write, but for one that would be a lie
    told = info if isinstance(info, dict) else {}
    return {**extensions, key: {**asked, "info": {"version": _VERSION, **told, **own}}}


def _approved(raw: bytes) -> int:
    """Return the atomic units that a raw ``approve`` transaction allows."""
    if len(raw) > _RAW_BYTES:
        raise LocalProtocolError(f"longer than {_RAW_BYTES} bytes", field="sponsor")
    try:
        transaction, _ = decode_any(raw)
        _, amount = abi.decode(("address", "uint256"), transaction.data[4:])
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"no signed approve transaction: {error.text}", field="sponsor") from None
    assert isinstance(amount, int)
    return amount
