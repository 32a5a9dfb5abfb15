"""The x402 v2 dialect: PaymentRequired, PaymentPayload and SettleResponse, to and from our own words.

All three travel in headers, as base64 of JSON (x402.md 1.1, 1.4).  Spoken here: scheme ``exact`` on EVM by EIP-3009,
flows ``authorization`` and ``upfront`` (x402.md 1.7, 2.1).  An offer in any other tongue is skipped, because one strange
offer must not hide the payable ones beside it; an offer in ours that is malformed is an error with its exact pointer,
because guessing at money is worse than not paying.  Members nobody knows are let be; a null counts as absent; we write
neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.events import (
    Challenge,
    Dialect,
    Eip3009Permit,
    Method,
    Offer,
    Payment,
    Receipt,
    Resource,
    SettleMode,
)
from x402core.evm.address import checksum
from x402core.values import (
    Address,
    Network,
    Seconds,
    parse_address,
    parse_amount,
    parse_decimal,
    parse_hash32,
    parse_hex,
    parse_network,
    parse_seconds,
)

from .headers import decode_header, encode_header
from .json import Fields, Json, Writable

__all__ = [
    "PAYMENT_REQUIRED",
    "PAYMENT_RESPONSE",
    "PAYMENT_SIGNATURE",
    "decode_challenge",
    "decode_payment",
    "decode_receipt",
    "encode_challenge",
    "encode_offer",
    "encode_payment",
    "encode_receipt",
    "printable",
]

PAYMENT_REQUIRED: Final = "PAYMENT-REQUIRED"
PAYMENT_SIGNATURE: Final = "PAYMENT-SIGNATURE"
PAYMENT_RESPONSE: Final = "PAYMENT-RESPONSE"

VERSION: Final = 2
_EXACT: Final = "exact"
_EVM: Final = "eip155:"
_FLOWS: Final = {"authorization": SettleMode.AFTER, "upfront": SettleMode.BEFORE}
_SIGNATURE_BYTES: Final = (65, 8192)  # an EOA's, and the longest a contract wallet may want
_PAYMENT_TEXT: Final = 32768  # characters of header: the longest signature, twice encoded, and the rest
_LABEL: Final = 120

_Object: TypeAlias = dict[str, Writable]


def printable(text: str, most: int = _LABEL) -> str:
    """Return a peer's words fit for a log or a person: at most ``most`` printable characters, no controls, no bidi."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:most])
    return shown if len(text) <= most else shown[: most - 3] + "..."


# --- the challenge (PaymentRequired) ---------------------------------------------------------------------------------


def encode_challenge(challenge: Challenge) -> _Object:
    """Write the v2 offers of a challenge as a PaymentRequired document; offers of other dialects are left out.

    The TypeScript SDK wants ``resource``, so give it one.  Raises: LocalProtocolError as :func:`encode_offer` does.
    Source: x402.md 1.1.
    """
    document: _Object = {"x402Version": VERSION}
    if challenge.error:
        document["error"] = challenge.error
    if challenge.resource is not None:
        document["resource"] = _resource(challenge.resource)
    document["accepts"] = [encode_offer(offer) for offer in challenge.offers if offer.dialect is Dialect.V2]
    if challenge.extensions:
        document["extensions"] = dict(challenge.extensions)
    return document


def decode_challenge(document: Json, *, source: str = PAYMENT_REQUIRED) -> Challenge:
    """Read a PaymentRequired document: the offers spoken here in the server's order, the others named in ``skipped``.

    Amounts are atomic units, timeouts seconds; each offer keeps its own JSON in ``raw``.  An empty ``accepts`` is fine.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 1.1, 1.7, 2.1.
    """
    fields = Fields(document, "", source)
    _version(fields)
    offers: list[Offer] = []
    skipped: list[str] = []
    for entry in fields.objects("accepts"):
        foreign = _foreign(entry)
        if foreign is None:
            offers.append(_read_offer(entry))
        else:
            skipped.append(printable(foreign[0]))
    return Challenge(
        offers=tuple(offers),
        error=printable(fields.text_or("error", ""), 1024),
        resource=_read_resource(fields),
        extensions=_read_extensions(fields),
        skipped=tuple(skipped),
    )


def _version(fields: Fields) -> None:
    version = fields.document.get("x402Version")
    # [py] takes a missing version for 2 (x402.md 7.8); a document that does not say what it is, is not ours
    if isinstance(version, bool) or not isinstance(version, int) or version != VERSION:
        raise RemoteProtocolError(
            f"expected the number {VERSION}",
            pointer=fields.where("x402Version"),
            source=fields.source,
            reason=Reason.INVALID_VERSION,
        )


def _resource(resource: Resource) -> _Object:
    document: _Object = {"url": resource.url}
    if resource.description:
        document["description"] = resource.description
    if resource.mime_type:
        document["mimeType"] = resource.mime_type
    return document


def _read_resource(fields: Fields) -> Resource | None:
    found = fields.object_or_none("resource")
    if found is None:
        return None
    return Resource(found.text("url"), found.text_or("description", ""), found.text_or("mimeType", ""))


def _read_extensions(fields: Fields) -> Mapping[str, Json]:
    found = fields.object_or_none("extensions")
    return {} if found is None else found.document


# --- offers (PaymentRequirements) ------------------------------------------------------------------------------------


def encode_offer(offer: Offer) -> _Object:
    """Write an offer as PaymentRequirements: EIP-55 addresses, decimal strings, ``paymentFlow`` only if not the default.

    Raises: LocalProtocolError for what v2 has no word for: another dialect or method, the background settle mode, a
    network that is not EVM, a timeout of zero.  Source: x402.md 1.1, 1.7, 2.1.
    """
    if offer.dialect is not Dialect.V2:
        raise LocalProtocolError(f"a {offer.dialect} offer is not spoken in x402 v2", field="dialect")
    if offer.scheme != _EXACT or offer.method is not Method.EIP3009:
        raise LocalProtocolError(f"x402 v2 is spoken here for exact by eip3009, not {offer.method}", field="method")
    if offer.settle is SettleMode.BACKGROUND:
        raise LocalProtocolError("x402 v2 has no word for settling in the background", field="settle")
    if not offer.network.startswith(_EVM):
        raise LocalProtocolError(f"{offer.network} is not an EVM network", field="network")
    if offer.timeout <= 0:
        raise LocalProtocolError("a permit needs at least a second to be valid in", field="timeout")
    extra: _Object = {"name": offer.name, "version": offer.version}
    if offer.settle is SettleMode.BEFORE:
        extra["paymentFlow"] = "upfront"
    return {
        "scheme": offer.scheme,
        "network": offer.network,
        "amount": str(offer.amount),
        "asset": checksum(offer.asset),
        "payTo": checksum(offer.pay_to),
        "maxTimeoutSeconds": offer.timeout,
        "extra": extra,
    }


def _foreign(entry: Fields) -> tuple[str, str, Reason] | None:
    """Say what in an offer is not spoken here: (a label for people, the pointer, the reason); None if all of it is."""
    scheme, network = entry.text("scheme"), entry.text("network")
    if scheme != _EXACT:
        return f"{scheme} on {network}", entry.where("scheme"), Reason.UNSUPPORTED_SCHEME
    if not network.startswith(_EVM):
        return f"{scheme} on {network}", entry.where("network"), Reason.INVALID_NETWORK
    extra = entry.object_or_none("extra")
    if extra is None:
        return None
    method = extra.text_or("assetTransferMethod", Method.EIP3009)
    if method != Method.EIP3009:
        return f"{scheme}/{method} on {network}", extra.where("assetTransferMethod"), Reason.UNSUPPORTED_SCHEME
    flow = extra.text_or("paymentFlow", "authorization")
    if flow not in _FLOWS:  # a client must not pay a flow it does not know (x402.md 1.7)
        return f"{scheme}, flow {flow}, on {network}", extra.where("paymentFlow"), Reason.UNSUPPORTED_SCHEME
    return None


def _read_offer(entry: Fields) -> Offer:
    extra = entry.object("extra")  # the token's EIP-712 domain, which nobody looks up (x402.md 7.26)
    return Offer(
        dialect=Dialect.V2,
        method=Method.EIP3009,
        network=entry.get(parse_network, "network"),
        asset=entry.get(parse_address, "asset"),
        amount=entry.get(parse_amount, "amount"),
        pay_to=entry.get(parse_address, "payTo"),
        timeout=entry.get(_timeout, "maxTimeoutSeconds"),
        name=extra.text("name", most=256),
        version=extra.text("version", most=256),
        settle=_FLOWS[extra.text_or("paymentFlow", "authorization")],
        raw=entry.document,
    )


def _timeout(value: object, at: str) -> Seconds:
    timeout = parse_seconds(value, at)
    if timeout == 0:
        raise RemoteProtocolError("a permit needs at least a second to be valid in", pointer=at)
    return timeout


# --- the payment (PaymentPayload) ------------------------------------------------------------------------------------


def encode_payment(payment: Payment) -> str:
    """Write a payment as the text of a PAYMENT-SIGNATURE header; the accepted offer's ``raw`` is echoed unchanged.

    Raises: LocalProtocolError for a payment that accepts no v2 offer, a permit on another network or asset than the
    offer (v2 does not say them twice), a signature shorter than 65 bytes or longer than 8192, or an offer changed after
    it was read.  Source: x402.md 1.1, 2.1.
    """
    permit, offer = payment.permit, payment.accepted
    if offer is None:
        raise LocalProtocolError("x402 v2 echoes the offer that is paid", field="accepted")
    if not isinstance(permit, Eip3009Permit):
        raise LocalProtocolError(f"x402 v2 is spoken here by eip3009, not {permit.method}", field="permit")
    if (permit.network, permit.asset) != (offer.network, offer.asset):
        raise LocalProtocolError("not on the accepted offer's network and asset", field="permit")
    least, most = _SIGNATURE_BYTES
    if not least <= len(permit.signature) <= most:
        raise LocalProtocolError(f"a signature has {least} to {most} bytes", field="signature")
    document: _Object = {"x402Version": VERSION}
    if payment.resource is not None:
        document["resource"] = _resource(payment.resource)
    document["accepted"] = _echo(offer)
    document["payload"] = _payload(permit)
    if payment.extensions:
        document["extensions"] = dict(payment.extensions)
    return encode_header(document)


def _echo(offer: Offer) -> Mapping[str, Writable]:
    if offer.raw is None:
        return encode_offer(offer)
    entry = Fields(dict(offer.raw))
    try:
        read = _read_offer(entry) if _foreign(entry) is None else None
    except RemoteProtocolError:
        read = None
    # what a policy may add from its own tables is not on the wire; anything else would echo one price and sign another
    if read is None or replace(read, decimals=offer.decimals, symbol=offer.symbol, spender=offer.spender) != offer:
        raise LocalProtocolError("the offer does not say what its raw JSON says", field="accepted")
    return offer.raw


def _payload(permit: Eip3009Permit) -> _Object:
    return {
        "signature": "0x" + permit.signature.hex(),
        "authorization": {
            "from": checksum(permit.payer),
            "to": checksum(permit.pay_to),
            "value": str(permit.amount),
            "validAfter": str(permit.valid_after),
            "validBefore": str(permit.valid_before),
            "nonce": permit.nonce,
        },
    }


def decode_payment(header: str) -> Payment:
    """Read a PAYMENT-SIGNATURE header: an EIP-3009 permit and the offer it accepts, whose network and asset are its own.

    Amounts are atomic units; times are Unix seconds up to 2**256-1, for the judge to look at; the signature is 65 to 8192
    bytes, unchecked.

    Raises: RemoteProtocolError, with the pointer of the member at fault: reason INVALID_VERSION for another version,
    UNSUPPORTED_SCHEME or INVALID_NETWORK for an offer not spoken here.  Source: x402.md 1.1, 2.1.
    """
    fields = Fields(decode_header(header, source=PAYMENT_SIGNATURE, most=_PAYMENT_TEXT), "", PAYMENT_SIGNATURE)
    _version(fields)
    accepted = fields.object("accepted")
    foreign = _foreign(accepted)
    if foreign is not None:
        label, at, reason = foreign
        raise RemoteProtocolError(f"not spoken here: {printable(label)}", pointer=at, source=PAYMENT_SIGNATURE, reason=reason)
    offer = _read_offer(accepted)
    return Payment(
        permit=_read_permit(fields.object("payload"), offer.network, offer.asset),
        accepted=offer,
        resource=_read_resource(fields),
        extensions=_read_extensions(fields),
    )


def _read_permit(payload: Fields, network: Network, asset: Address) -> Eip3009Permit:
    signed = payload.object("authorization")
    return Eip3009Permit(
        network=network,
        asset=asset,
        payer=signed.get(parse_address, "from"),
        pay_to=signed.get(parse_address, "to"),
        amount=signed.get(parse_amount, "value"),
        valid_after=Seconds(signed.get(parse_decimal, "validAfter")),
        valid_before=Seconds(signed.get(parse_decimal, "validBefore")),
        nonce=signed.get(parse_hash32, "nonce"),
        signature=payload.get(_signature, "signature"),
    )


def _signature(value: object, at: str) -> bytes:
    least, most = _SIGNATURE_BYTES
    signature = parse_hex(value, at, most=most)
    if len(signature) < least:
        raise RemoteProtocolError(f"shorter than {least} bytes", pointer=at)
    return signature


# --- the receipt (SettleResponse) ------------------------------------------------------------------------------------


def encode_receipt(receipt: Receipt) -> str:
    """Write a receipt as the text of a PAYMENT-RESPONSE header.

    Raises: LocalProtocolError for ``settlement_pending`` without a transaction, which the specification forbids.
    Source: x402.md 1.1.
    """
    if receipt.reason == Reason.SETTLEMENT_PENDING and not receipt.transaction:
        raise LocalProtocolError("settlement_pending must name a transaction", field="transaction")
    document: _Object = {"success": receipt.success}
    if receipt.reason:
        document["errorReason"] = receipt.reason
    if receipt.payer is not None:
        document["payer"] = checksum(receipt.payer)
    document["transaction"] = receipt.transaction
    document["network"] = receipt.network
    if receipt.amount is not None:
        document["amount"] = str(receipt.amount)
    return encode_header(document)


def decode_receipt(header: str) -> Receipt:
    """Read a PAYMENT-RESPONSE header; ``success`` must be true or false, never a guess.

    On an EVM network the transaction is "" or 32 bytes of hex and the payer an address; on others the payer is left out.
    Any ``errorReason`` is taken (x402.md 7.1), with unprintable characters replaced.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 1.1.
    """
    fields = Fields(decode_header(header, source=PAYMENT_RESPONSE), "", PAYMENT_RESPONSE)
    success = fields.boolean("success")
    network = fields.get(parse_network, "network")
    evm = network.startswith(_EVM)
    transaction = fields.text("transaction", most=256)
    if transaction and evm:
        transaction = fields.get(parse_hash32, "transaction")
    elif not (transaction.isascii() and transaction.isprintable()):
        raise fields.error("transaction", "not printable ASCII")
    # some peers say "" for nobody
    payer = fields.get(parse_address, "payer") if evm and fields.document.get("payer") not in (None, "") else None
    return Receipt(
        success=success,
        network=network,
        payer=payer,
        transaction=transaction,
        amount=fields.optional(parse_amount, "amount"),
        reason=printable(fields.text_or("errorReason", ""), 256),
    )
