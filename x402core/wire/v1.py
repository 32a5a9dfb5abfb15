"""The x402 v1 dialect: a 402's JSON body, the X-PAYMENT header and its receipt, to and from our own words (x402.md 1.2, 1.3).

Older than v2 and different in four ways: the challenge is the body, networks go by names, every offer repeats the resource,
and a payment does not say which offer it answers.  Spoken here: ``exact`` on EVM by EIP-3009, the one method v1 has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.events import Challenge, Dialect, Method, Offer, Permit, Receipt, Resource, SettleMode
from x402core.evm.address import checksum
from x402core.registry import Registry
from x402core.values import Network, parse_address, parse_amount, parse_hash32

from .headers import decode_header, encode_header
from .json import Fields, Json, Writable
from .payloads import decode_payload, encode_payload
from .requirements import EXACT, parse_timeout, printable
from .v2 import PAYMENT_SIGNATURE

__all__ = [
    "EXACT",
    "VERSION",
    "X_PAYMENT",
    "X_PAYMENT_RESPONSE",
    "code",
    "decode_challenge",
    "decode_payment",
    "decode_receipt",
    "encode_challenge",
    "encode_offer",
    "encode_payment",
    "encode_receipt",
    "encode_requirements",
    "payment_document",
    "read_offer",
    "read_payment",
    "read_receipt",
    "receipt_document",
]

X_PAYMENT: Final = "X-PAYMENT"
X_PAYMENT_RESPONSE: Final = "X-PAYMENT-RESPONSE"

VERSION: Final = 1
_EVM: Final = "eip155:"
_PAYMENT_TEXT: Final = 32768
_CODES: Final = {str(Reason.VALUE_MISMATCH): "invalid_exact_evm_payload_authorization_value"}
"""Codes that v1 spells its own way (x402.md 1.3)."""

_Object: TypeAlias = dict[str, Writable]


def code(reason: str) -> str:
    """Return a reason as v1 spells it."""
    return _CODES.get(reason, reason)


def _name(network: Network, registry: Registry, field: str = "network") -> str:
    name = registry.v1_name(network)
    if name is None:
        raise LocalProtocolError(f"{network} has no name in x402 v1", field=field)
    return name


def _network(fields: Fields, registry: Registry) -> Network | None:
    """Return the EVM network a v1 name stands for, None for any other; names have one spelling (x402.md 7.50)."""
    said = fields.text("network", most=256)
    try:
        network = registry.resolve(said)
    except LocalProtocolError:
        return None
    return network if network.startswith(_EVM) and registry.v1_name(network) == said else None


def _version(fields: Fields) -> None:
    version = fields.document.get("x402Version")
    if isinstance(version, bool) or not isinstance(version, int) or version != VERSION:
        hint = f"; a payment of version 2 goes in {PAYMENT_SIGNATURE}" if version == 2 and fields.source == X_PAYMENT else ""
        raise RemoteProtocolError(
            f"expected the number {VERSION}{hint}",
            pointer=fields.where("x402Version"),
            source=fields.source,
            reason=Reason.INVALID_VERSION,
        )


# --- the challenge (402 body) ----------------------------------------------------------------------------------------


def encode_challenge(challenge: Challenge, registry: Registry) -> _Object:
    """Write the v1 offers of a challenge as a 402's JSON body; offers of other dialects are left out.

    Raises: LocalProtocolError without a resource, and as :func:`encode_offer` does.  Source: x402.md 1.2, 1.3.
    """
    resource = challenge.resource
    if resource is None or not resource.url:
        raise LocalProtocolError("x402 v1 names the resource's URL in each offer", field="resource")
    ours = [offer for offer in challenge.offers if offer.dialect is Dialect.V1]
    return {
        "x402Version": VERSION,
        "error": code(challenge.error) or Reason.PAYMENT_REQUIRED,
        "accepts": [encode_requirements(offer, resource, challenge.extensions, registry) for offer in ours],
    }


def encode_requirements(offer: Offer, resource: Resource, extensions: Mapping[str, Json], registry: Registry) -> _Object:
    """Write an offer as v1 PaymentRequirements, with all that v1 can say of the resource.

    What a ``bazaar`` extension says stands in ``outputSchema``, where v1 catalogs look for it; v1 has no other extension.

    Raises: LocalProtocolError as :func:`encode_offer` does.  Source: x402.md 1.2, 1.3.
    """
    return encode_offer(offer, resource, registry) | _output_schema(extensions.get("bazaar"))


def _output_schema(bazaar: Json) -> _Object:
    """Tell a ``bazaar`` extension as v1 does; nothing where there is none of an HTTP resource."""
    info = bazaar.get("info") if isinstance(bazaar, dict) else None
    told = info.get("input") if isinstance(info, dict) else None
    if not isinstance(info, dict) or not isinstance(told, dict) or told.get("type") != "http":
        return {}
    schema: _Object = {"input": {**told, "discoverable": True}}
    output = info.get("output")
    example = output.get("example") if isinstance(output, dict) else None
    if example is not None:
        schema["output"] = example
    return {"outputSchema": schema}


def encode_offer(offer: Offer, resource: Resource, registry: Registry) -> _Object:
    """Write an offer as v1 PaymentRequirements.

    When the money moves is not said in v1: before the handler or after it.

    Raises: LocalProtocolError for what v1 has no word for: another dialect, scheme or method, the background settle mode, a
    network without a v1 name, a timeout of zero.
    """
    if offer.dialect is not Dialect.V1:
        raise LocalProtocolError(f"a {offer.dialect} offer is not spoken in x402 v1", field="dialect")
    if (offer.scheme, offer.method) != (EXACT, Method.EIP3009):
        raise LocalProtocolError(f"x402 v1 has no {offer.scheme} by {offer.method}", field="method")
    if offer.settle is SettleMode.BACKGROUND:
        raise LocalProtocolError("x402 v1 has no word for settling in the background", field="settle")
    if offer.timeout <= 0:
        raise LocalProtocolError("a permit needs at least a second to be valid in", field="timeout")
    return {
        "scheme": offer.scheme,
        "network": _name(offer.network, registry),
        "maxAmountRequired": str(offer.amount),
        "asset": checksum(offer.asset),
        "payTo": checksum(offer.pay_to),
        "resource": resource.url,
        "description": resource.description,
        "mimeType": resource.mime_type,
        "maxTimeoutSeconds": offer.timeout,
        "extra": {"name": offer.name, "version": offer.version},
    }


def decode_challenge(document: Json, registry: Registry, *, source: str = "body") -> Challenge:
    """Read a v1 402 body: the offers spoken here in the server's order, the others named in ``skipped``.

    Amounts are atomic units, timeouts seconds; each offer keeps its own JSON in ``raw``; the resource is the first offer's.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 1.2.
    """
    fields = Fields(document, "", source)
    _version(fields)
    offers: list[Offer] = []
    skipped: list[str] = []
    resource: Resource | None = None
    for entry in fields.objects("accepts"):
        scheme, said = entry.text("scheme"), entry.text("network")
        if scheme != EXACT or _network(entry, registry) is None:
            skipped.append(printable(f"{scheme} on {said} (version 1)"))
            continue
        offers.append(read_offer(entry, registry))
        described = Resource(entry.text_or("resource", ""), entry.text_or("description", ""), entry.text_or("mimeType", ""))
        resource = resource or described
    error = printable(fields.text_or("error", ""), 1024)
    return Challenge(tuple(offers), error, resource, skipped=tuple(skipped))


def read_offer(entry: Fields, registry: Registry) -> Offer:
    """Read v1 PaymentRequirements.

    Raises: RemoteProtocolError: UNSUPPORTED_SCHEME or INVALID_NETWORK for what is not spoken here.
    """
    if entry.text("scheme") != EXACT:
        at = entry.where("scheme")
        raise RemoteProtocolError("not spoken here", pointer=at, source=entry.source, reason=Reason.UNSUPPORTED_SCHEME)
    extra = entry.object("extra")
    return Offer(
        dialect=Dialect.V1,
        method=Method.EIP3009,
        network=_spoken(entry, registry),
        asset=entry.get(parse_address, "asset"),
        amount=entry.get(parse_amount, "maxAmountRequired"),
        pay_to=entry.get(parse_address, "payTo"),
        timeout=entry.get(parse_timeout, "maxTimeoutSeconds"),
        name=extra.text("name", most=256),
        version=extra.text("version", most=256),
        raw=entry.document,
    )


def _spoken(fields: Fields, registry: Registry) -> Network:
    network = _network(fields, registry)
    if network is None:
        at = fields.where("network")
        raise RemoteProtocolError("not a network spoken here", pointer=at, source=fields.source, reason=Reason.INVALID_NETWORK)
    return network


# --- the payment (X-PAYMENT) -----------------------------------------------------------------------------------------


def encode_payment(permit: Permit, offer: Offer, registry: Registry) -> str:
    """Write a permit as the text of an X-PAYMENT header.

    Raises: LocalProtocolError for an offer that is not v1's, or a network without a v1 name.  Source: x402.md 1.2.
    """
    return encode_header(payment_document(permit, offer, registry))


def payment_document(permit: Permit, offer: Offer, registry: Registry) -> _Object:
    """Write a permit as a v1 PaymentPayload document.  Raises: LocalProtocolError as :func:`encode_payment` does."""
    if offer.dialect is not Dialect.V1 or permit.method is not Method.EIP3009:
        raise LocalProtocolError("not an offer of x402 v1", field="offer")
    return {
        "x402Version": VERSION,
        "scheme": offer.scheme,
        "network": _name(offer.network, registry),
        "payload": encode_payload(permit),
    }


def decode_payment(header: str, offers: Iterable[Offer], registry: Registry) -> tuple[tuple[Permit, Offer], ...]:
    """Read an X-PAYMENT header as an answer to each of the v1 offers it may be for: those of its scheme and network.

    It names no token: the right offer is the one under whose token its signature stands.

    Raises: RemoteProtocolError, with the pointer of the member at fault: INVALID_VERSION, UNSUPPORTED_SCHEME or
    INVALID_NETWORK for what is not spoken here.  Source: x402.md 1.2.
    """
    fields = Fields(decode_header(header, source=X_PAYMENT, most=_PAYMENT_TEXT), "", X_PAYMENT)
    network, payload = read_payment(fields, registry)
    fitting = [offer for offer in offers if (offer.scheme, offer.network) == (EXACT, network)]
    return tuple((decode_payload(payload, offer), offer) for offer in fitting)


def read_payment(fields: Fields, registry: Registry) -> tuple[Network, Fields]:
    """Read a v1 PaymentPayload document: its network and its payload.  Raises: as :func:`decode_payment`."""
    _version(fields)
    if fields.text("scheme") != EXACT:
        at = fields.where("scheme")
        raise RemoteProtocolError("not spoken here", pointer=at, source=fields.source, reason=Reason.UNSUPPORTED_SCHEME)
    return _spoken(fields, registry), fields.object("payload")


# --- the receipt (X-PAYMENT-RESPONSE) --------------------------------------------------------------------------------


def encode_receipt(receipt: Receipt, registry: Registry) -> str:
    """Write a receipt as the text of an X-PAYMENT-RESPONSE header.

    Raises: LocalProtocolError without a payer, or for a network without a v1 name.  Source: x402.md 1.2.
    """
    return encode_header(receipt_document(receipt, registry))


def receipt_document(receipt: Receipt, registry: Registry) -> _Object:
    """Write a receipt as a v1 SettlementResponse document.  Raises: LocalProtocolError as :func:`encode_receipt` does."""
    if receipt.payer is None:
        raise LocalProtocolError("x402 v1 names the payer", field="payer")
    document: _Object = {"success": receipt.success}
    if receipt.reason:
        document["errorReason"] = code(receipt.reason)
    document["transaction"] = receipt.transaction
    document["network"] = _name(receipt.network, registry)
    document["payer"] = checksum(receipt.payer)
    return document


def decode_receipt(header: str, registry: Registry) -> Receipt:
    """Read an X-PAYMENT-RESPONSE header; ``success`` must be true or false, never a guess.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 1.2.
    """
    return read_receipt(Fields(decode_header(header, source=X_PAYMENT_RESPONSE), "", X_PAYMENT_RESPONSE), registry)


def read_receipt(fields: Fields, registry: Registry, *, nameless: bool = False) -> Receipt:
    """Read a v1 SettlementResponse document; ``nameless``: a success need not name its payer, some facilitators' do not.

    Raises: RemoteProtocolError as :func:`decode_receipt` does.
    """
    success = fields.boolean("success")
    transaction = fields.text_or("transaction", "", most=256)
    named = (success and not nameless) or fields.document.get("payer") not in (None, "")  # some failures name nobody
    return Receipt(
        success=success,
        network=_spoken(fields, registry),
        payer=fields.get(parse_address, "payer") if named else None,
        transaction=fields.get(parse_hash32, "transaction") if transaction else "",
        reason=printable(fields.text_or("errorReason", ""), 256),
    )
