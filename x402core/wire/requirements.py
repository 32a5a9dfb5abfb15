"""Offers as x402 v2 writes them (PaymentRequirements, x402.md 1.1, 1.7, 2.0 to 2.4), and which of them are spoken here."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.events import Dialect, Method, Offer, SettleMode
from x402core.evm.address import checksum
from x402core.values import Seconds, parse_address, parse_amount, parse_network, parse_seconds

from .fields import Fields
from .json import Writable

__all__ = ["EXACT", "SPOKEN", "UPTO", "Foreign", "encode_offer", "foreign", "parse_timeout", "printable", "read_offer"]

EXACT: Final = "exact"
UPTO: Final = "upto"
SPOKEN: Final = (
    (EXACT, Method.EIP3009),
    (EXACT, Method.PERMIT2),
    (EXACT, Method.ERC7710),
    (EXACT, Method.EIP2612),
    (UPTO, Method.PERMIT2),
)
"""Every (scheme, method) there are words for; the schemes that know how to settle them are the same (a test says so)."""
_DEFAULT: Final = {EXACT: Method.EIP3009, UPTO: Method.PERMIT2}
_NAMED: Final = (Method.EIP3009, Method.EIP2612)  # signed under the token's own domain, which nobody looks up (x402.md 7.26)
_SETTLED_BY: Final = (UPTO, Method.ERC7710)
"""The scheme that must name who settles, and the method that may, for delegations to one account only."""
_EVM: Final = "eip155:"
_FLOWS: Final = {"authorization": SettleMode.AFTER, "upfront": SettleMode.BEFORE}
_ESCROW: Final = "escrow"
_LABEL: Final = 120

_Object: TypeAlias = dict[str, Writable]


def printable(text: str, most: int = _LABEL) -> str:
    """Return a peer's words fit for a log or a person: at most ``most`` printable characters, no controls, no bidi."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:most])
    return shown if len(text) <= most else shown[: most - 3] + "..."


# --- writing ---------------------------------------------------------------------------------------------------------


def encode_offer(offer: Offer) -> _Object:
    """Write an offer as PaymentRequirements: EIP-55 addresses, decimal strings; method and flow only if not the default.

    Raises: LocalProtocolError for what v2 has no word for: another dialect, scheme or method, the background settle mode,
    ``upto`` settled before the handler or by nobody, a network that is not EVM, a timeout of zero.
    Source: x402.md 1.1, 1.7, 2.1 to 2.4.
    """
    if offer.dialect is not Dialect.V2:
        raise LocalProtocolError(f"a {offer.dialect} offer is not spoken in x402 v2", field="dialect")
    if (offer.scheme, offer.method) not in SPOKEN:
        raise LocalProtocolError(f"x402 v2 has no {offer.scheme} by {offer.method} here", field="method")
    if offer.settle is SettleMode.BACKGROUND:
        raise LocalProtocolError("x402 v2 has no word for settling in the background", field="settle")
    if offer.settle is SettleMode.BEFORE and offer.scheme == UPTO:
        raise LocalProtocolError("what upto charges is known when the handler has run", field="settle")
    if not offer.network.startswith(_EVM):
        raise LocalProtocolError(f"{offer.network} is not an EVM network", field="network")
    if offer.timeout <= 0:
        raise LocalProtocolError("a permit needs at least a second to be valid in", field="timeout")
    if offer.scheme == UPTO and offer.facilitator is None:
        raise LocalProtocolError("upto names the account that settles", field="facilitator")
    return {
        "scheme": offer.scheme,
        "network": offer.network,
        "amount": str(offer.amount),
        "asset": checksum(offer.asset),
        "payTo": checksum(offer.pay_to),
        "maxTimeoutSeconds": offer.timeout,
        "extra": _extra(offer),
    }


def _extra(offer: Offer) -> _Object:
    extra: _Object = {}
    for key, text in (("name", offer.name), ("version", offer.version)):
        if text or offer.method in _NAMED:
            extra[key] = text
    if offer.method is not Method.EIP3009:
        extra["assetTransferMethod"] = offer.method
    if offer.settle is SettleMode.BEFORE:
        extra["paymentFlow"] = "upfront"
    if offer.facilitator is not None and (offer.scheme in _SETTLED_BY or offer.method in _SETTLED_BY):
        extra["facilitatorAddress"] = checksum(offer.facilitator)
    if offer.spender is not None and offer.method is Method.EIP2612:
        extra["spender"] = checksum(offer.spender)
    return extra


# --- reading ---------------------------------------------------------------------------------------------------------


class Foreign(NamedTuple):
    """What in an offer is not spoken here: a label for people, the member's pointer, the reason."""

    label: str
    at: str
    reason: Reason


def foreign(entry: Fields) -> Foreign | None:
    """Say what in PaymentRequirements is not spoken here, None if all of it is.

    Raises: RemoteProtocolError for members that say nothing at all.
    """
    scheme, network = entry.text("scheme"), entry.text("network")
    if scheme not in _DEFAULT:
        return _foreign(f"{scheme} on {network}", entry.where("scheme"))
    if not network.startswith(_EVM):
        return _foreign(f"{scheme} on {network}", entry.where("network"), Reason.INVALID_NETWORK)
    extra = entry.object_or_none("extra")
    method = _method(extra, scheme)
    way = scheme if method == Method.EIP3009 else f"{scheme}/{method}"
    if (scheme, method) not in SPOKEN:
        return _foreign(f"{way} on {network}", Fields({}, entry.where("extra")).where("assetTransferMethod"))
    return _foreign_extra(entry, extra, scheme, f"{way} on {network}")


def _foreign_extra(entry: Fields, extra: Fields | None, scheme: str, way: str) -> Foreign | None:
    if extra is not None:
        flow = extra.text_or("paymentFlow", "authorization")
        # a client must not pay a flow it does not know (x402.md 1.7)
        if flow == _ESCROW or (flow in _FLOWS and scheme == UPTO and _FLOWS[flow] is SettleMode.BEFORE):
            return _foreign(f"{way}, flow {flow}, which no scheme here takes", extra.where("paymentFlow"))
        if flow not in _FLOWS:
            return _foreign(f"{way}, flow {flow}", extra.where("paymentFlow"))
    if scheme == UPTO and (extra is None or "facilitatorAddress" not in extra):
        # the specification's own example lacks it (x402.md 7.28): strange, but no reason to drop the offers beside it
        at = Fields({}, entry.where("extra")).where("facilitatorAddress")
        return _foreign(f"{way} without a facilitatorAddress", at, Reason.INVALID_REQUIREMENTS)
    return None


def _foreign(label: str, at: str, reason: Reason = Reason.UNSUPPORTED_SCHEME) -> Foreign:
    return Foreign(printable(label), at, reason)


def _method(extra: Fields | None, scheme: str) -> str:
    """Return the method an offer says, the scheme's own where it says none."""
    default = _DEFAULT[scheme]
    return default if extra is None else extra.text_or("assetTransferMethod", default)


def read_offer(entry: Fields) -> Offer:
    """Read PaymentRequirements: amounts in atomic units, the timeout in seconds; their JSON is kept in ``raw``.

    Raises: RemoteProtocolError, with the pointer of the member at fault: UNSUPPORTED_SCHEME, INVALID_NETWORK or
    INVALID_REQUIREMENTS for what is not spoken here.
    """
    why = foreign(entry)
    if why is not None:
        raise RemoteProtocolError(f"not spoken here: {why.label}", pointer=why.at, source=entry.source, reason=why.reason)
    scheme = entry.text("scheme")
    method = Method(_method(entry.object_or_none("extra"), scheme))
    extra = entry.object("extra")
    settled_by = scheme in _SETTLED_BY or method in _SETTLED_BY
    return Offer(
        dialect=Dialect.V2,
        method=method,
        network=entry.get(parse_network, "network"),
        asset=entry.get(parse_address, "asset"),
        amount=entry.get(parse_amount, "amount"),
        pay_to=entry.get(parse_address, "payTo"),
        timeout=entry.get(parse_timeout, "maxTimeoutSeconds"),
        name=_domain(extra, "name", method),
        version=_domain(extra, "version", method),
        spender=extra.optional(parse_address, "spender") if method is Method.EIP2612 else None,
        settle=_FLOWS[extra.text_or("paymentFlow", "authorization")],
        scheme=scheme,
        facilitator=extra.optional(parse_address, "facilitatorAddress") if settled_by else None,
        raw=entry.document,
    )


def _domain(extra: Fields, key: str, method: Method) -> str:
    return extra.text(key, most=256) if method in _NAMED else extra.text_or(key, "", most=256)


def parse_timeout(value: object, at: str) -> Seconds:
    """Return ``maxTimeoutSeconds``: whole seconds, one at least."""
    timeout = parse_seconds(value, at)
    if timeout == 0:
        raise RemoteProtocolError("a permit needs at least a second to be valid in", pointer=at)
    return timeout
