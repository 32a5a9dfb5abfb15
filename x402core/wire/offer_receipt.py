"""The ``offer-receipt`` extension (x402.md 3.6): a seller's signed word for what it asks, and for what it was paid.

Spoken here: EIP-712, chain id 1 whatever the network, signed by the payee's key or one that the caller trusts instead.  A
compact JWS is recognised, and not read.  The signed strings are hashed as written, so they are kept as written; they are
compared by what they mean, since an address has several spellings and a network two names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Offer
from x402core.evm import secp256k1
from x402core.evm.address import checksum
from x402core.evm.digests import TypedData
from x402core.evm.eip712 import typed_data_digest
from x402core.registry import KNOWN, Registry
from x402core.values import Address, Network, Seconds, parse_address, parse_amount, parse_hex, parse_seconds

from .json import Fields, Json

__all__ = [
    "DYNAMIC",
    "KEY",
    "Jws",
    "OfferPayload",
    "ReceiptPayload",
    "SignedOffer",
    "SignedReceipt",
    "advertised",
    "attached",
    "check_offer",
    "check_receipt",
    "offer_digest",
    "offer_payload",
    "offer_typed_data",
    "presented_offers",
    "presented_receipt",
    "receipt_digest",
    "receipt_payload",
    "receipt_typed_data",
]

KEY: Final = "offer-receipt"
DYNAMIC: Final = frozenset(("offers",))
_VERSION: Final = 1
_EIP712: Final = "eip712"
_JWS: Final = "jws"
_MOST_JWS: Final = 16384
_Members: TypeAlias = tuple[tuple[str, str], ...]
_OFFER: Final[_Members] = (
    *(("version", "uint256"), ("resourceUrl", "string"), ("scheme", "string"), ("network", "string"), ("asset", "string")),
    *(("payTo", "string"), ("amount", "string"), ("validUntil", "uint256")),
)
_RECEIPT: Final[_Members] = (
    *(("version", "uint256"), ("network", "string"), ("resourceUrl", "string"), ("payer", "string")),
    *(("issuedAt", "uint256"), ("transaction", "string")),
)
_DOMAIN: Final[_Members] = (("name", "string"), ("version", "string"), ("chainId", "uint256"))


@dataclass(frozen=True, slots=True)
class OfferPayload:
    """What is asked, as signed; ``valid_until`` in Unix seconds, 0 for no end."""

    resource_url: str
    scheme: str
    network: str
    asset: str
    pay_to: str
    amount: str
    valid_until: Seconds = Seconds(0)


@dataclass(frozen=True, slots=True)
class ReceiptPayload:
    """What was paid for, as signed; ``issued_at`` in Unix seconds; ``transaction`` is "" where the seller keeps it private."""

    network: str
    resource_url: str
    payer: str
    issued_at: Seconds
    transaction: str = ""


@dataclass(frozen=True, slots=True)
class SignedOffer:
    """An offer and its 65-byte signature; ``accept_index`` is an unsigned hint, never to be relied on."""

    payload: OfferPayload
    signature: bytes
    accept_index: int | None = None


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt and its 65-byte signature."""

    payload: ReceiptPayload
    signature: bytes


@dataclass(frozen=True, slots=True)
class Jws:
    """An offer or receipt signed as a compact JWS, which is not read here."""

    text: str
    accept_index: int | None = None


# --- what is signed --------------------------------------------------------------------------------------------------


def offer_typed_data(payload: OfferPayload) -> TypedData:
    """Return an offer as a wallet signs it (``eth_signTypedData_v4``)."""
    return _typed_data("Offer", "x402 offer", _OFFER, dict(_offer_document(payload)))


def receipt_typed_data(payload: ReceiptPayload) -> TypedData:
    """Return a receipt as a wallet signs it (``eth_signTypedData_v4``)."""
    return _typed_data("Receipt", "x402 receipt", _RECEIPT, dict(_receipt_document(payload)))


def _typed_data(primary: str, name: str, members: _Members, message: dict[str, object]) -> TypedData:
    return {
        "types": {"EIP712Domain": _spelled(_DOMAIN), primary: _spelled(members)},
        "primaryType": primary,
        "domain": {"name": name, "version": "1", "chainId": 1},
        "message": message,
    }


def _spelled(members: _Members) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in members]


def offer_digest(payload: OfferPayload) -> bytes:
    """Return the 32 bytes an offer's signer signs.  Raises: LocalProtocolError for a time out of range."""
    return _digest(offer_typed_data(payload))


def receipt_digest(payload: ReceiptPayload) -> bytes:
    """Return the 32 bytes a receipt's signer signs.  Raises: LocalProtocolError for a time out of range."""
    return _digest(receipt_typed_data(payload))


def _digest(data: TypedData) -> bytes:
    return typed_data_digest(data["types"], data["primaryType"], data["domain"], data["message"])


# --- the seller ------------------------------------------------------------------------------------------------------


def offer_payload(offer: Offer, resource_url: str, *, now: Seconds, validity: Seconds | None = None) -> OfferPayload:
    """Return what to sign for an offer, good for ``validity`` seconds (the offer's own timeout unless it says)."""
    return OfferPayload(
        resource_url=resource_url,
        scheme=offer.scheme,
        network=offer.network,
        asset=checksum(offer.asset),
        pay_to=checksum(offer.pay_to),
        amount=str(offer.amount),
        valid_until=Seconds(now + (offer.timeout if validity is None else validity)),
    )


def receipt_payload(
    network: Network,
    resource_url: str,
    payer: Address,
    *,
    issued_at: Seconds,
    transaction: str = "",
    include_tx_hash: bool = False,
) -> ReceiptPayload:
    """Return what to sign for a payment that settled.

    The transaction is left out unless asked for: with it, whoever sees the receipt finds the payer's other payments.
    """
    return ReceiptPayload(network, resource_url, checksum(payer), issued_at, transaction if include_tx_hash else "")


def advertised(offers: Sequence[SignedOffer]) -> Mapping[str, Json]:
    """Return the extension of a challenge that brings signed offers."""
    written: list[Json] = []
    for offer in offers:
        index: dict[str, Json] = {} if offer.accept_index is None else {"acceptIndex": offer.accept_index}
        written.append({**_signed(_offer_document(offer.payload), offer.signature), **index})
    items = _signed_schema(_OFFER, {"acceptIndex": {"type": "integer"}})
    return {KEY: {"info": {"offers": written}, "schema": _schema("offers", {"type": "array", "items": items})}}


def attached(receipt: SignedReceipt) -> Mapping[str, Json]:
    """Return the extension of a SettleResponse that brings a signed receipt."""
    entry = _signed(_receipt_document(receipt.payload), receipt.signature)
    return {KEY: {"info": {"receipt": entry}, "schema": _schema("receipt", _signed_schema(_RECEIPT, {}))}}


def _signed(payload: dict[str, Json], signature: bytes) -> dict[str, Json]:
    return {"format": _EIP712, "payload": payload, "signature": "0x" + signature.hex()}


def _offer_document(payload: OfferPayload) -> dict[str, Json]:
    return {
        "version": _VERSION,
        "resourceUrl": payload.resource_url,
        "scheme": payload.scheme,
        "network": payload.network,
        "asset": payload.asset,
        "payTo": payload.pay_to,
        "amount": payload.amount,
        "validUntil": payload.valid_until,
    }


def _receipt_document(payload: ReceiptPayload) -> dict[str, Json]:
    return {
        "version": _VERSION,
        "network": payload.network,
        "resourceUrl": payload.resource_url,
        "payer": payload.payer,
        "issuedAt": payload.issued_at,
        "transaction": payload.transaction,
    }


def _signed_schema(members: _Members, more: dict[str, Json]) -> dict[str, Json]:
    payload: dict[str, Json] = {name: {"type": "string" if kind == "string" else "integer"} for name, kind in members}
    signed: dict[str, Json] = {
        "format": {"enum": [_EIP712, _JWS]},
        "payload": {"type": "object", "properties": payload, "required": list(payload)},
        "signature": {"type": "string"},
        **more,
    }
    return {"type": "object", "properties": signed, "required": ["format", "signature"]}


def _schema(name: str, member: dict[str, Json]) -> dict[str, Json]:
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "type": "object", "properties": {name: member}, "required": [name]}


# --- reading ---------------------------------------------------------------------------------------------------------


def presented_offers(extensions: Mapping[str, Json], source: str) -> tuple[SignedOffer | Jws, ...]:
    """Return the signed offers a challenge brings, in its order, unverified.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 3.6.
    """
    info = _info(extensions, source)
    if info is None or "offers" not in info:
        return ()
    return tuple([_read_offer(entry) for entry in info.objects("offers", most=64)])


def presented_receipt(extensions: Mapping[str, Json], source: str) -> SignedReceipt | Jws | None:
    """Return the signed receipt a SettleResponse brings, unverified; None when it brings none.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 3.6.
    """
    info = _info(extensions, source)
    entry = None if info is None else info.object_or_none("receipt")
    if entry is None:
        return None
    if _format(entry) == _JWS:
        return Jws(entry.text("signature", most=_MOST_JWS))
    fields = _payload(entry)
    payload = ReceiptPayload(
        network=fields.text("network", most=128),
        resource_url=fields.text("resourceUrl"),
        payer=fields.text("payer", most=256),
        issued_at=fields.get(parse_seconds, "issuedAt"),
        transaction=fields.text_or("transaction", "", most=256),
    )
    return SignedReceipt(payload, _signature(entry))


def _info(extensions: Mapping[str, Json], source: str) -> Fields | None:
    if extensions.get(KEY) is None:
        return None
    return Fields(extensions[KEY], f"/extensions/{KEY}", source).object_or_none("info")


def _read_offer(entry: Fields) -> SignedOffer | Jws:
    index = entry.integer("acceptIndex") if "acceptIndex" in entry else None
    if _format(entry) == _JWS:
        return Jws(entry.text("signature", most=_MOST_JWS), index)
    fields = _payload(entry)
    payload = OfferPayload(
        resource_url=fields.text("resourceUrl"),
        scheme=fields.text("scheme", most=128),
        network=fields.text("network", most=128),
        asset=fields.text("asset", most=256),
        pay_to=fields.text("payTo", most=256),
        amount=fields.text("amount", most=128),
        valid_until=fields.optional(parse_seconds, "validUntil") or Seconds(0),
    )
    return SignedOffer(payload, _signature(entry), index)


def _format(entry: Fields) -> str:
    found = entry.text("format", most=32)
    if found not in (_EIP712, _JWS):
        raise entry.error("format", f'expected "{_EIP712}" or "{_JWS}"')
    return found


def _payload(entry: Fields) -> Fields:
    fields = entry.object("payload")
    if fields.integer("version") != _VERSION:
        raise fields.error("version", f"expected the number {_VERSION}")
    return fields


def _signature(entry: Fields) -> bytes:
    signature = entry.get(parse_hex, "signature")
    if len(signature) != 65:
        raise entry.error("signature", "expected 65 bytes")
    return signature


# --- the payer's look ------------------------------------------------------------------------------------------------


def check_offer(
    found: SignedOffer | Jws,
    offer: Offer,
    resource_url: str,
    *,
    now: Seconds,
    signers: Collection[Address] = (),
    registry: Registry = KNOWN,
) -> Address | Refusal:
    """Return who vouches for ``offer`` at this URL, or why the signed offer does not: compared by fields, never by index.

    The signer must be the offer's payee or one of ``signers``.  Source: x402.md 3.6.
    """
    if isinstance(found, Jws):
        return Refusal(Reason.OFFER_FORMAT, "a JWS is not read here")
    said = found.payload
    if (said.scheme, said.resource_url) != (offer.scheme, resource_url) or not _same_network(
        said.network, offer.network, registry
    ):
        return Refusal(Reason.OFFER_MISMATCH, "signed for another scheme, network or resource")
    try:
        terms = (parse_address(said.asset), parse_address(said.pay_to), parse_amount(said.amount))
    except RemoteProtocolError:
        terms = None
    if terms != (offer.asset, offer.pay_to, offer.amount):
        return Refusal(Reason.OFFER_MISMATCH, "signed for another asset, payee or amount")
    if said.valid_until and said.valid_until < now:
        return Refusal(Reason.OFFER_EXPIRED, "the signed offer has ended")
    return _signer(offer_digest(said), found.signature, {offer.pay_to, *signers})


def check_receipt(
    found: SignedReceipt | Jws,
    offer: Offer,
    resource_url: str,
    payer: Address,
    *,
    transaction: str = "",
    signers: Collection[Address] = (),
    registry: Registry = KNOWN,
) -> Address | Refusal:
    """Return who vouches that ``payer`` paid ``offer`` at this URL, or why the signed receipt does not.

    A receipt may keep its transaction private; one that it names must be ``transaction``, where the caller knows that.
    """
    if isinstance(found, Jws):
        return Refusal(Reason.OFFER_FORMAT, "a JWS is not read here")
    said = found.payload
    if said.resource_url != resource_url or not _same_network(said.network, offer.network, registry):
        return Refusal(Reason.OFFER_MISMATCH, "signed for another network or resource")
    if said.payer.lower() != payer:
        return Refusal(Reason.OFFER_MISMATCH, "signed for another payer")
    if said.transaction and transaction and said.transaction.lower() != transaction.lower():
        return Refusal(Reason.OFFER_MISMATCH, "signed for another transaction")
    return _signer(receipt_digest(said), found.signature, {offer.pay_to, *signers})


def _same_network(said: str, network: Network, registry: Registry) -> bool:
    try:
        return registry.resolve(said) == network
    except LocalProtocolError:  # a name nobody knows
        return False


def _signer(digest: bytes, signature: bytes, allowed: set[Address]) -> Address | Refusal:
    try:
        signer = secp256k1.recover(digest, signature)
    except RemoteProtocolError:
        return Refusal(Reason.OFFER_SIGNATURE, "no key makes this signature")
    if signer not in allowed:
        return Refusal(Reason.OFFER_SIGNER, "signed neither by the payee nor by anyone allowed to")
    return signer
