"""The x402 v2 dialect: PaymentRequired, PaymentPayload and SettleResponse, to and from our own words.

All three travel in headers, as base64 of JSON (x402.md 1.1, 1.4).  Spoken here, on EVM: ``exact`` by EIP-3009, Permit2,
ERC-7710 and, a method of our own, EIP-2612, in the flows ``authorization`` and ``upfront``; ``upto`` by Permit2 (x402.md 1.7,
2).  The flow ``escrow`` is known by name; no scheme spoken here takes it.  An offer in any other tongue is skipped, because
one strange offer must not hide the payable ones beside it; an offer in ours that is malformed is an error with its pointer,
because guessing at money is worse than not paying.  Members nobody knows are let be; a null counts as absent; we write
neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Challenge, Dialect, Erc7710Permit, Offer, Payment, Permit, Permit2Permit, Receipt, Resource
from x402core.evm.address import checksum
from x402core.values import parse_address, parse_amount, parse_hash32, parse_network

from . import builder_code, identifier
from .extensions import merge
from .headers import decode_header, encode_header
from .json import Fields, Json, Writable, dumps
from .payloads import decode_payload, encode_payload
from .requirements import EXACT, SPOKEN, UPTO, encode_offer, foreign, printable, read_offer
from .sponsoring import decode_sponsorship, encode_sponsorship

__all__ = [
    "EXACT",
    "PAYMENT_REQUIRED",
    "PAYMENT_RESPONSE",
    "PAYMENT_SIGNATURE",
    "SPOKEN",
    "UPTO",
    "VERSION",
    "context_document",
    "decode_challenge",
    "decode_payment",
    "decode_receipt",
    "encode_challenge",
    "encode_note",
    "encode_offer",
    "encode_payment",
    "encode_receipt",
    "payment_document",
    "printable",
    "read_context",
    "read_offer",
    "read_payment",
    "read_receipt",
    "receipt_document",
]

PAYMENT_REQUIRED: Final = "PAYMENT-REQUIRED"
PAYMENT_SIGNATURE: Final = "PAYMENT-SIGNATURE"
PAYMENT_RESPONSE: Final = "PAYMENT-RESPONSE"
_X_PAYMENT: Final = "X-PAYMENT"

VERSION: Final = 2
_EVM: Final = "eip155:"
_PAYMENT_TEXT: Final = 32768  # characters of header: the longest signature, twice encoded, and the rest

_Object: TypeAlias = dict[str, Writable]
Echoes: TypeAlias = Iterable[tuple[Mapping[str, Writable], Offer]]
"""Offers as they were written: one that comes back word for word is not read again."""


# --- the challenge (PaymentRequired) ---------------------------------------------------------------------------------


def encode_challenge(challenge: Challenge) -> _Object:
    """Write the v2 offers of a challenge as a PaymentRequired document; offers of other dialects are left out.

    The TypeScript SDK wants ``resource``, so give it one.  Raises: LocalProtocolError as :func:`encode_offer` does.
    Source: x402.md 1.1.
    """
    document: _Object = {"x402Version": VERSION}
    if challenge.error:
        document["error"] = challenge.error
    document |= context_document(challenge.resource, {})
    document["accepts"] = [encode_offer(offer) for offer in challenge.offers if offer.dialect is Dialect.V2]
    return document | context_document(None, challenge.extensions)


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
        why = foreign(entry)
        if why is None:
            offers.append(read_offer(entry))
        else:
            skipped.append(why.label)
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
        hint = f"; a payment of version 1 goes in {_X_PAYMENT}" if version == 1 and fields.source == PAYMENT_SIGNATURE else ""
        raise RemoteProtocolError(
            f"expected the number {VERSION}{hint}",
            pointer=fields.where("x402Version"),
            source=fields.source,
            reason=Reason.INVALID_VERSION,
        )


def context_document(resource: Resource | None, extensions: Mapping[str, Json]) -> _Object:
    """Write the members that stand beside offers and permits: ``resource`` and ``extensions``, where there are any."""
    document: _Object = {}
    if resource is not None:
        document["resource"] = _resource(resource)
    if extensions:
        document["extensions"] = dict(extensions)
    return document


def read_context(fields: Fields) -> tuple[Resource | None, Mapping[str, Json]]:
    """Read those members.  Raises: RemoteProtocolError, with the pointer of the member at fault."""
    return _read_resource(fields), _read_extensions(fields)


def encode_note(resource: Resource, advertised: Mapping[str, Json], payment: Payment) -> bytes:
    """Return what a facilitator is told later of a payment besides its permit: what is sold, and what is said of it.

    By the seller, whose word a facilitator takes it for and lists under its payee (x402.md 3.3): ``resource`` and the
    ``advertised`` extensions are its own.  Of the payer's nothing goes further but the service codes it may add to any payment
    (x402.md 3.7, 3.10).  Its sponsorship is a part of the permit; its identifier, which makes a payment tellable from a copy
    (x402.md 3.5), stays between the payer and us.
    """
    services = builder_code.presented(payment.extensions).services
    told = {key: value for key, value in advertised.items() if key != identifier.KEY}
    if services:
        told = merge(told, {builder_code.KEY: {"info": {"s": list(services)}}})
    return dumps(context_document(resource, told))


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


# --- the payment (PaymentPayload) ------------------------------------------------------------------------------------


def encode_payment(payment: Payment) -> str:
    """Write a payment as the text of a PAYMENT-SIGNATURE header; the accepted offer's ``raw`` is echoed unchanged.

    Raises: LocalProtocolError for a payment that accepts no v2 offer, a permit by another method or on another network or
    asset than the offer (v2 does not say them twice), a signature shorter than 65 bytes or longer than 8192, or an offer
    changed after it was read.  Source: x402.md 1.1, 2.
    """
    return encode_header(payment_document(payment))


def payment_document(payment: Payment) -> _Object:
    """Write a payment as a PaymentPayload document.  Raises: LocalProtocolError as :func:`encode_payment` does."""
    permit, offer = payment.permit, payment.accepted
    if offer is None:
        raise LocalProtocolError("x402 v2 echoes the offer that is paid", field="accepted")
    _check_said_once(permit, offer)
    extensions = encode_sponsorship(permit, payment.extensions) if isinstance(permit, Permit2Permit) else payment.extensions
    return {
        "x402Version": VERSION,
        **context_document(payment.resource, {}),
        "accepted": _echo(offer),
        "payload": encode_payload(permit),
        **context_document(None, extensions),
    }


def _check_said_once(permit: Permit, offer: Offer) -> None:
    """Refuse to write a permit that would be read as another, as the payload leaves to the offer what both say."""
    if permit.method is not offer.method:
        raise LocalProtocolError(f"the offer is paid by {offer.method}, not {permit.method}", field="permit")
    if (permit.network, permit.asset) != (offer.network, offer.asset):
        raise LocalProtocolError("not on the accepted offer's network and asset", field="permit")
    if isinstance(permit, Erc7710Permit) and (permit.pay_to, permit.amount) != (offer.pay_to, offer.amount):
        raise LocalProtocolError("a delegation is redeemed for the accepted offer's payee and amount", field="permit")
    if isinstance(permit, Permit2Permit) and (permit.facilitator is not None) is not (offer.scheme == UPTO):
        raise LocalProtocolError("upto permits name a facilitator, and no others do", field="permit")


def _echo(offer: Offer) -> Mapping[str, Writable]:
    if offer.raw is None:
        return encode_offer(offer)
    entry = Fields(dict(offer.raw))
    try:
        read = read_offer(entry)
    except RemoteProtocolError:
        read = None
    # what a policy may add from its own tables is not on the wire; anything else would echo one price and sign another
    if read is None or replace(read, decimals=offer.decimals, symbol=offer.symbol) != offer:
        raise LocalProtocolError("the offer does not say what its raw JSON says", field="accepted")
    return offer.raw


def decode_payment(header: str, known: Echoes = ()) -> Payment:
    """Read a PAYMENT-SIGNATURE header: a permit, and the offer it accepts, which says its network and what it leaves out.

    A Permit2 permit brings along what it is sponsored by.  Raises: RemoteProtocolError, with the pointer of the member at
    fault: reason INVALID_VERSION for another version, UNSUPPORTED_SCHEME or INVALID_NETWORK for an offer not spoken here, the
    sponsorship's own reason for one that is refused.  Source: x402.md 1.1, 2, 3.1, 3.2.
    """
    document = decode_header(header, source=PAYMENT_SIGNATURE, most=_PAYMENT_TEXT)
    payment, refused = read_payment(Fields(document, "", PAYMENT_SIGNATURE), known)
    if refused is not None:
        raise RemoteProtocolError(refused.detail, pointer="/extensions", source=PAYMENT_SIGNATURE, reason=refused.reason)
    return payment


def read_payment(fields: Fields, known: Echoes = ()) -> tuple[Payment, Refusal | None]:
    """Read a PaymentPayload document: the payment, and why its sponsorship is refused, which it then comes without.

    Raises: RemoteProtocolError as :func:`decode_payment` does.
    """
    _version(fields)
    accepted = fields.object("accepted")
    offer = next((offer for document, offer in known if document == accepted.document), None) or read_offer(accepted)
    permit = decode_payload(fields.object("payload"), offer)
    extensions = _read_extensions(fields)
    refused = None
    if isinstance(permit, Permit2Permit):
        sponsor = decode_sponsorship(extensions, permit.payer, permit.asset)
        if isinstance(sponsor, Refusal):
            refused = sponsor
        else:
            permit = replace(permit, sponsor=sponsor)
    return Payment(permit, offer, _read_resource(fields), extensions), refused


# --- the receipt (SettleResponse) ------------------------------------------------------------------------------------


def encode_receipt(receipt: Receipt) -> str:
    """Write a receipt as the text of a PAYMENT-RESPONSE header.

    Raises: LocalProtocolError for ``settlement_pending`` without a transaction, which the specification forbids.
    Source: x402.md 1.1.
    """
    return encode_header(receipt_document(receipt))


def receipt_document(receipt: Receipt) -> _Object:
    """Write a receipt as a SettleResponse document.  Raises: LocalProtocolError as :func:`encode_receipt` does."""
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
    if receipt.extensions:
        document["extensions"] = dict(receipt.extensions)
    return document


def decode_receipt(header: str) -> Receipt:
    """Read a PAYMENT-RESPONSE header; ``success`` must be true or false, never a guess.

    On an EVM network the transaction is "" or 32 bytes of hex and the payer an address; on others the payer is left out.
    Any ``errorReason`` is taken (x402.md 7.1), with unprintable characters replaced.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 1.1.
    """
    return read_receipt(Fields(decode_header(header, source=PAYMENT_RESPONSE), "", PAYMENT_RESPONSE))


def read_receipt(fields: Fields) -> Receipt:
    """Read a SettleResponse document.  Raises: RemoteProtocolError as :func:`decode_receipt` does."""
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
        extensions=_read_extensions(fields),
    )
