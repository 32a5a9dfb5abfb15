"""A payment as it arrives at a priced resource: which dialect, which of our offers, whose signature, what it is called.

Everything a header can say is said here, once, for the server machine: static checks only, no chain and no clock (but for
the end of a delegation, which has none of its own).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from x402core.errors import Reason, Refusal, RemoteProtocolError
from x402core.events import Dialect, Erc7710Permit, Method, Offer, Payment, Permit, RequestHead
from x402core.policy import Terms
from x402core.schemes.judge import Checked, check
from x402core.schemes.wallets import SignedBy
from x402core.values import Millis, Seconds, seconds
from x402core.wire import identifier, v1, v2
from x402core.wire.extensions import echo_problem
from x402core.wire.headers import single
from x402core.wire.json import Json, Writable

__all__ = ["Arrived", "advertised", "arrived", "fingerprint", "stamped"]

NO_MATCH: Final = Refusal(Reason.NO_MATCH)
_NAMELESS: Final = (Method.PERMIT2, Method.ERC7710)  # signed without the token's own domain


@dataclass(frozen=True, slots=True)
class Arrived:
    """A statically checked payment: what its claim is bound to, and the identifier it brings ("" for none).

    ``note`` is what else it says, where a facilitator is to be told of it.  ``stale``: it is for a price we do not ask (any
    more), so that it buys nothing, for this reason; but what it bought before is still its payer's.
    """

    checked: Checked
    request: str
    identifier: str
    dialect: Dialect
    note: bytes = b""
    stale: Refusal | None = None


def arrived(head: RequestHead, terms: Terms, now: Millis) -> Arrived | Refusal | None:
    """Return the payment a request brings, why it is refused, or None when it brings none.

    Raises: RemoteProtocolError for bytes that are no payment, for a payment in both versions, and for one without an
    identifier where that is required.
    """
    second = single(head.headers, v2.PAYMENT_SIGNATURE)
    first = single(head.headers, v1.X_PAYMENT)
    if second is not None and first is not None:
        raise RemoteProtocolError(f"beside {v2.PAYMENT_SIGNATURE}: one payment in one version", source=v1.X_PAYMENT)
    if second is not None:
        return _second(head, second, terms, now)
    return None if first is None else _first(head, first, terms, now)


def _second(head: RequestHead, text: str, terms: Terms, now: Millis) -> Arrived | Refusal:
    payment = v2.decode_payment(text, _echoes(terms))
    accepted = payment.accepted
    ours = [offer for offer in terms.offers if accepted is not None and (offer is accepted or _same(offer, accepted))]
    stale = not ours
    if stale and accepted is not None:
        ours = _yesterdays(accepted, terms)
    if not ours:
        return NO_MATCH
    if not stale and (at := echo_problem(advertised(terms), payment.extensions)) is not None:
        return Refusal(Reason.ECHO_MISMATCH, f"not as it was advertised: {at}")
    name = identifier.presented(payment.extensions, v2.PAYMENT_SIGNATURE)
    if name is None and terms.identifier_required and not stale:
        at = f"/extensions/{identifier.KEY}/info/id"
        raise RemoteProtocolError("missing", pointer=at, source=v2.PAYMENT_SIGNATURE, reason=Reason.IDENTIFIER_MISSING)
    checked = check(stamped(payment.permit, ours[0], now), ours[0], terms.wallets)
    if isinstance(checked, Refusal):
        return NO_MATCH if stale else checked
    scoped = "" if name is None else f"{payment.permit.payer}/{name}"
    return Arrived(checked, fingerprint(head, text), scoped, Dialect.V2, _note(terms, payment), NO_MATCH if stale else None)


def _note(terms: Terms, payment: Payment) -> bytes:
    return v2.encode_note(terms.resource, terms.extensions, payment) if terms.forward else b""


def _yesterdays(accepted: Offer, terms: Terms) -> list[Offer]:
    """Return what a payment is for, if it is one of our offers but for how much and how long: prices change."""
    changed = [
        replace(offer, amount=accepted.amount, timeout=accepted.timeout, settle=accepted.settle)
        for offer in terms.offers
        if offer.dialect is Dialect.V2
    ]
    return [offer for offer in changed if _same(offer, accepted)]


def _first(head: RequestHead, text: str, terms: Terms, now: Millis) -> Arrived | Refusal:
    """Match a v1 payment, which names no token: it is for the offer under whose token its signature stands."""
    offers = [offer for offer in terms.offers if offer.dialect is Dialect.V1]
    payments = v1.decode_payment(text, offers, terms.registry)
    best = _best([check(stamped(permit, offer, now), offer, terms.wallets) for permit, offer in payments])
    if isinstance(best, Checked):
        return Arrived(best, fingerprint(head, text), "", Dialect.V1, _note(terms, Payment(best.permit)))
    was = [(permit, replace(offer, amount=permit.amount)) for permit, offer in payments if permit.amount != offer.amount]
    before = _best([check(stamped(permit, offer, now), offer, terms.wallets) for permit, offer in was])
    return Arrived(before, fingerprint(head, text), "", Dialect.V1, stale=best) if isinstance(before, Checked) else best


def _best(found: Sequence[Checked | Refusal]) -> Checked | Refusal:
    """Return the payment a key's signature stands under, else one a contract may know, else why there is none."""
    keyed = [each for each in found if isinstance(each, Checked) and each.by is SignedBy.KEY]
    return next(iter((*keyed, *[each for each in found if isinstance(each, Checked)], *found)), NO_MATCH)


@lru_cache(maxsize=4096)
def _echoes(terms: Terms) -> tuple[tuple[Mapping[str, Writable], Offer], ...]:
    """Return a price's offers as a payer is to echo them; written once (``terms`` compares by identity)."""
    return tuple((v2.encode_offer(offer), offer) for offer in terms.offers if offer.dialect is Dialect.V2)


def stamped(permit: Permit, offer: Offer, now: Millis) -> Permit:
    """Give a delegation, which has no end of its own, the offer's: we stop trying to redeem it then."""
    if isinstance(permit, Erc7710Permit):
        return replace(permit, until=Seconds(seconds(now) + offer.timeout))
    return permit


def advertised(terms: Terms) -> Mapping[str, Json]:
    """Return the extensions of a price's challenge, but for those made anew for each."""
    return {**identifier.advertised(required=terms.identifier_required), **terms.extensions}


def fingerprint(head: RequestHead, payment: str) -> str:
    """Return what a claim is bound to: method, raw target, body digest (threat T8) and the payment's own text, as SHA-256 hex.

    The text, because a settled permit is public on the chain: whoever copies it from there must not get the payer's answer.
    It is a secret as far as its ``payment-identifier`` is (our clients send a random one).
    """
    target = head.target.encode("utf-8", "surrogateescape")
    parts = (head.method.upper().encode(), target, head.body_digest, payment.encode("utf-8", "surrogateescape"))
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def _same(ours: Offer, accepted: Offer) -> bool:
    """Say whether an echoed offer is ours, by value (x402.md 5.1, "Matching rule v2"), whatever the case of its addresses."""
    return ours.dialect is Dialect.V2 and _terms(ours) == _terms(accepted)


def _terms(offer: Offer) -> tuple[object, ...]:
    named = offer.method not in _NAMELESS
    return (
        *(offer.scheme, offer.method, offer.network, offer.amount, offer.asset, offer.pay_to, offer.timeout, offer.settle),
        *((offer.name, offer.version) if named else ()),
        *(offer.facilitator if offer.scheme == v2.UPTO else None, offer.spender),
    )
