"""A facilitator's HTTP API (x402.md 1.5), both ends: what is asked of ``/verify`` and ``/settle``, and what is answered.

A request names the payment and the requirements it must meet; the requirements are the asker's word and are what the payment
is judged by.  What the payer echoed is compared with them first, so that a mix-up is told by its own name.  A refused payment
is an answer like any other (200, with the reason); bytes that are no request are an error.

We ask in the version that the facilitator lists, whatever dialect the payer spoke: what was signed is the same.  v1 knows
``exact`` by EIP-3009 alone, networks by name, and of the extensions ``bazaar``'s ``outputSchema``: another method is not asked
about there, other extensions are left out.  Of an answer we keep JSON booleans, addresses, hashes and codes; a facilitator's
sentences are for its own log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from x402core.catalog import CatalogEntry
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError, Reply
from x402core.events import Dialect, Headers, Method, Offer, Payment, Permit, Receipt, Resource, SettleMode
from x402core.evm.address import checksum
from x402core.registry import KNOWN, Registry
from x402core.values import Address, Amount, Millis, Network, parse_address

from . import bazaar, builder_code, sponsoring, v1, v2
from .extensions import EXTENSION_RESPONSES, encode_responses
from .json import Fields, Json, Writable, dumps, loads
from .payloads import decode_payload

if TYPE_CHECKING:
    from x402core.policy import FacilitatorTerms

__all__ = [
    "SETTLE",
    "SUPPORTED",
    "VERIFY",
    "Ask",
    "Kind",
    "Supported",
    "VerifyAnswer",
    "attribution",
    "decode_request",
    "decode_settle",
    "decode_supported",
    "decode_verify",
    "encode_refusal",
    "encode_request",
    "encode_settled",
    "encode_supported",
    "encode_valid",
]

VERIFY: Final = "/verify"
SETTLE: Final = "/settle"
SUPPORTED: Final = "/supported"

_MOST: Final = 262144  # bytes of a request or an answer
_NOTE: Final = 16384
_HEADERS: Final[Headers] = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
_EXTENSIONS: Final = (sponsoring.EIP2612, sponsoring.APPROVAL, bazaar.KEY, builder_code.KEY)
_Object: TypeAlias = dict[str, Writable]


# --- what is asked, at the facilitator -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to verify or settle ``payment`` by ``offer``, the requirements; ``version`` is that of its objects.

    ``refusal`` is why it cannot even be judged.  ``charge`` is what an ``upto`` payment is settled for, in atomic units, when
    ``offer.amount`` is its ceiling; None for all of it.  ``entry`` is what the payment wants listed in a catalog, ``unlisted``
    why that cannot be.
    """

    version: int
    settle: bool
    payment: Payment
    offer: Offer
    refusal: Refusal | None = None
    charge: Amount | None = None
    entry: CatalogEntry | None = None
    unlisted: str = ""
    registry: Registry = field(default=KNOWN, repr=False, compare=False)


def decode_request(body: bytes, *, settle: bool, registry: Registry = KNOWN) -> Ask:
    """Read the body of a POST to ``/verify`` or, with ``settle``, to ``/settle``, of x402 v1 or v2.

    Raises: RemoteProtocolError, with the pointer of the member at fault: INVALID_VERSION for another version, or two;
    UNSUPPORTED_SCHEME or INVALID_NETWORK for requirements not spoken here.  Source: x402.md 1.5, 2.4.
    """
    fields = Fields(loads(body, most=_MOST), "", "body")
    version = _version(fields)
    if version not in (v1.VERSION, v2.VERSION):
        raise _bad_version(fields, f"expected the number {v1.VERSION} or {v2.VERSION}")
    payload, requirements = fields.object("paymentPayload"), fields.object("paymentRequirements")
    if _version(payload) != version:
        raise _bad_version(payload, f"not the request's version, {version}")
    read = _read_v1 if version == v1.VERSION else _read_v2
    ask = read(payload, requirements, registry, settle)
    return _listed(ask, payload, requirements) if settle and ask.refusal is None else ask


def _version(fields: Fields) -> int | None:
    """Return the version an object says it is of, None for what is no whole number."""
    version = fields.document.get("x402Version")
    return version if isinstance(version, int) and not isinstance(version, bool) else None


def _bad_version(fields: Fields, why: str) -> RemoteProtocolError:
    at = fields.where("x402Version")
    return RemoteProtocolError(why, pointer=at, source=fields.source, reason=Reason.INVALID_VERSION)


def _listed(ask: Ask, payload: Fields, requirements: Fields) -> Ask:
    """Add what is to be listed; what cannot be listed stops no payment."""
    try:
        return replace(ask, entry=bazaar.listing(payload.document, requirements.document, Millis(0)))
    except RemoteProtocolError as error:
        return replace(ask, unlisted=v2.printable(str(error), 256))  # its pointer may be of the payer's making


def _read_v1(payload: Fields, requirements: Fields, registry: Registry, settle: bool) -> Ask:
    offer = v1.read_offer(requirements, registry)
    network, signed = v1.read_payment(payload, registry)
    refusal = None
    if network != offer.network:
        refusal = Refusal(Reason.NETWORK_MISMATCH, "the payment is for another network than the requirements")
    return Ask(v1.VERSION, settle, Payment(decode_payload(signed, offer)), offer, refusal, registry=registry)


def _read_v2(payload: Fields, requirements: Fields, registry: Registry, settle: bool) -> Ask:
    offer = v2.read_offer(requirements)
    payment, refusal = v2.read_payment(payload)
    accepted = payment.accepted
    assert accepted is not None
    refusal = _mismatch(accepted, offer) or refusal
    charge = None
    if offer.scheme == v2.UPTO and settle:  # what is asked is the charge then, what was accepted the ceiling (x402.md 2.4)
        charge, offer = offer.amount, replace(offer, amount=accepted.amount)
    return Ask(v2.VERSION, settle, payment, offer, refusal, charge, registry=registry)


def _mismatch(accepted: Offer, asked: Offer) -> Refusal | None:
    """Refuse a payment made for other requirements than those it is brought with."""
    permit2 = asked.method is Method.PERMIT2
    amounts = (None, None) if asked.scheme == v2.UPTO else (accepted.amount, asked.amount)
    for name, (ours, theirs), reason in (
        ("scheme", (accepted.scheme, asked.scheme), Reason.INVALID_SCHEME),
        ("network", (accepted.network, asked.network), Reason.NETWORK_MISMATCH),
        ("extra.assetTransferMethod", (accepted.method, asked.method), Reason.INVALID_REQUIREMENTS),
        ("payTo", (accepted.pay_to, asked.pay_to), Reason.PERMIT2_RECIPIENT if permit2 else Reason.RECIPIENT_MISMATCH),
        ("amount", amounts, Reason.PERMIT2_AMOUNT if permit2 else Reason.VALUE_MISMATCH),
        ("asset", (accepted.asset, asked.asset), Reason.PERMIT2_TOKEN if permit2 else Reason.ASSET_MISMATCH),
    ):
        if ours != theirs:
            return Refusal(reason, f"accepted.{name} is not the requirements'")
    return None


def attribution(ask: Ask, code: str = "", service: str = "") -> bytes:
    """Return what goes behind the calldata of a settlement: the payment's builder codes and our own (x402.md 3.7).

    Raises: LocalProtocolError for a malformed code of ours.
    """
    found = builder_code.presented(ask.payment.extensions)
    return builder_code.suffix(builder_code.attribution(found, code, service, version=ask.version))


# --- what is answered, by the facilitator ----------------------------------------------------------------------------


def encode_valid(ask: Ask) -> Reply:
    """Answer that the payment would settle."""
    return _reply({"isValid": True, "payer": checksum(ask.payment.permit.payer)})


def encode_refusal(ask: Ask, why: Refusal) -> Reply:
    """Answer why the payment is refused: a VerifyResponse or a SettleResponse, in the version that was asked in."""
    permit = ask.payment.permit
    if ask.settle:
        return encode_settled(ask, Receipt(False, ask.offer.network, permit.payer, reason=str(why.reason)), why.detail)
    document: _Object = {"isValid": False, "invalidReason": _code(ask, str(why.reason))}
    if why.detail:
        document["invalidMessage"] = why.detail
    return _reply({**document, "payer": checksum(permit.payer)})


def encode_settled(ask: Ask, receipt: Receipt, detail: str = "") -> Reply:
    """Answer what became of the money, with a sentence of ours for a person.

    Raises: LocalProtocolError for ``settlement_pending`` without a transaction.
    """
    first = ask.version == v1.VERSION
    document = v1.receipt_document(receipt, ask.registry) if first else v2.receipt_document(receipt)
    if detail:
        document["errorMessage"] = detail
    return _reply(document, _responses(ask) if receipt.success else ())


def _responses(ask: Ask) -> Headers:
    """Return what became of the payment's listing, for the resource server alone (x402.md 1.4)."""
    if ask.entry is None and not ask.unlisted:
        return ()
    told: _Object = {"status": "rejected", "rejectedReason": ask.unlisted} if ask.unlisted else {"status": "success"}
    return ((EXTENSION_RESPONSES, encode_responses({bazaar.KEY: told})),)


def encode_supported(terms: FacilitatorTerms) -> bytes:
    """Write the body of ``GET /supported``: each network's schemes in v2, and in v1 where the network has a name there.

    Source: x402.md 1.5, 2.4.
    """
    kinds: list[Writable] = []
    for network, account in terms.accounts.items():
        for scheme in dict.fromkeys(scheme for scheme, _ in v2.SPOKEN):
            extra: _Object = {"extra": {"facilitatorAddress": checksum(account)}} if scheme == v2.UPTO else {}
            kinds.append({"x402Version": v2.VERSION, "scheme": scheme, "network": network, **extra})
        name = terms.registry.v1_name(network)
        if name is not None:
            kinds.append({"x402Version": v1.VERSION, "scheme": v1.EXACT, "network": name})
    signers = [checksum(account) for account in dict.fromkeys(terms.accounts.values())]
    return dumps({"kinds": kinds, "extensions": _EXTENSIONS, "signers": {"eip155:*": signers}})


def _code(ask: Ask, reason: str) -> str:
    return v1.code(reason) if ask.version == v1.VERSION else reason


def _reply(document: _Object, headers: Headers = ()) -> Reply:
    return Reply(200, (*_HEADERS, *headers), dumps(document))


# --- the asker's side ------------------------------------------------------------------------------------------------


def encode_request(
    permit: Permit, offer: Offer, note: bytes = b"", *, version: int = v2.VERSION, registry: Registry = KNOWN
) -> bytes:
    """Write the body of a POST to ``/verify`` or ``/settle``, for an offer of any dialect, in x402 v2 or v1.

    What was accepted is the permit's amount, what is required the offer's: for ``upto`` the charge (x402.md 2.4).  ``note`` is
    of :func:`~x402core.wire.v2.encode_note`'s making.

    Raises: LocalProtocolError for what the version has no word for, RemoteProtocolError for another note.
    """
    settle = SettleMode.AFTER if offer.settle is SettleMode.BACKGROUND else offer.settle
    required = replace(offer, dialect=Dialect.V2, settle=settle, raw=None)
    resource, extensions = v2.read_context(Fields(loads(note, source="note"), "", "note")) if note else (None, {})
    payment = Payment(permit, replace(required, amount=permit.amount), resource, extensions)
    payload, requirements = _asked_v1(payment, required, registry) if version == v1.VERSION else _asked_v2(payment, required)
    return dumps({"x402Version": version, "paymentPayload": payload, "paymentRequirements": requirements})


def _asked_v2(payment: Payment, required: Offer) -> tuple[_Object, _Object]:
    return v2.payment_document(payment), v2.encode_offer(required)


def _asked_v1(payment: Payment, required: Offer, registry: Registry) -> tuple[_Object, _Object]:
    """Write both in v1: the same authorization, without the extensions, and the resource with the requirements."""
    permit = payment.permit
    if (permit.network, permit.asset) != (required.network, required.asset):
        raise LocalProtocolError("not on the required network and asset", field="permit")
    offer = replace(required, dialect=Dialect.V1)
    requirements = v1.encode_requirements(offer, payment.resource or Resource(""), payment.extensions, registry)
    return v1.payment_document(permit, offer, registry), requirements


@dataclass(frozen=True, slots=True)
class VerifyAnswer:
    """What ``/verify`` said: ``reason`` is its code, "" when valid, and ``payer`` whom it named, if anybody."""

    valid: bool
    reason: str = ""
    payer: Address | None = None


def decode_verify(body: bytes) -> VerifyAnswer:
    """Read a VerifyResponse; ``isValid`` must be true or false, never a guess.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 1.1.
    """
    fields = Fields(loads(body, most=_MOST, source="verify"), "", "verify")
    valid = fields.boolean("isValid")
    payer = fields.get(parse_address, "payer") if fields.document.get("payer") not in (None, "") else None
    return VerifyAnswer(valid, "" if valid else v2.printable(fields.text_or("invalidReason", ""), 256), payer)


def decode_settle(body: bytes, *, version: int = v2.VERSION, registry: Registry = KNOWN) -> Receipt:
    """Read the SettleResponse to what was asked in a version.

    Raises: RemoteProtocolError as ``v2.read_receipt`` and ``v1.read_receipt`` do.
    """
    fields = Fields(loads(body, most=_MOST, source="settle"), "", "settle")
    return v1.read_receipt(fields, registry, nameless=True) if version == v1.VERSION else v2.read_receipt(fields)


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to pay that a facilitator settles; ``network`` is a CAIP-2 id or, in version 1, a name."""

    version: int
    scheme: str
    network: str
    extra: Mapping[str, Json] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Supported:
    """What a facilitator says that it settles; ``signers`` are its accounts by network pattern, as it spells them."""

    kinds: tuple[Kind, ...]
    extensions: tuple[str, ...] = ()
    signers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def takes(self, scheme: str, network: Network) -> bool:
        """Say whether it settles a scheme on a network, in x402 v2."""
        return self._lists(v2.VERSION, scheme, network)

    def version(self, scheme: str, method: Method, network: Network, registry: Registry = KNOWN) -> int | None:
        """Return the x402 version to ask it in about such payments: v2 where it lists them, else v1; None for neither.

        v1 has ``exact`` by EIP-3009 alone, on networks that have a name there.
        """
        if self.takes(scheme, network):
            return v2.VERSION
        name = registry.v1_name(network)
        first = name is not None and (scheme, method) == (v1.EXACT, Method.EIP3009) and self._lists(v1.VERSION, scheme, name)
        return v1.VERSION if first else None

    def settles_on(self, network: Network, registry: Registry = KNOWN) -> bool:
        """Say whether it settles anything spoken here on a network, in either version."""
        return any(self.version(scheme, method, network, registry) is not None for scheme, method in v2.SPOKEN)

    def _lists(self, version: int, scheme: str, network: str) -> bool:
        return any((kind.version, kind.scheme, kind.network) == (version, scheme, network) for kind in self.kinds)

    def facilitator(self, network: Network) -> Address | None:
        """Return the account that must be named in an ``upto`` offer, None when there is none to name (x402.md 2.4)."""
        for kind in self.kinds:
            if (kind.version, kind.scheme, kind.network) == (v2.VERSION, v2.UPTO, network):
                try:
                    return parse_address(kind.extra.get("facilitatorAddress"))
                except RemoteProtocolError:
                    continue
        return None


def decode_supported(body: bytes) -> Supported:
    """Read the body of ``GET /supported``; a v1 facilitator says nothing but ``kinds``.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 1.5.
    """
    fields = Fields(loads(body, most=_MOST, source="supported"), "", "supported")
    signers = fields.object_or_none("signers")
    extensions = fields.texts("extensions") if "extensions" in fields else []
    return Supported(
        tuple(_read_kind(kind) for kind in fields.objects("kinds", most=1024)),
        tuple(v2.printable(name) for name in extensions),
        {} if signers is None else {v2.printable(key): tuple(map(v2.printable, signers.texts(key))) for key in signers},
    )


def _read_kind(kind: Fields) -> Kind:
    extra = kind.object_or_none("extra")
    return Kind(
        version=kind.integer("x402Version"),
        scheme=v2.printable(kind.text("scheme")),
        network=v2.printable(kind.text("network")),
        extra={} if extra is None else extra.document,
    )
