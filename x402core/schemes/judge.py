"""The one judge: nothing else in the project can make a :class:`Verified`, and nothing settles without one.

Three steps, each a proof the next one demands (law 5)::

    check(permit, offer)         -> Checked  | Refusal     no chain, no clock: shape, payee, amount, signature
    judge(checked, facts, now)   -> Verified | Refusal     the chain's facts, and the validity window

``check`` stands apart because a replay of a settled payment must prove that it is the payer's before it gets the kept answer,
while its window may be over and the chain would call it used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, final

from x402core.errors import LocalProtocolError, Reason, Refusal
from x402core.events import Eip3009Permit, Offer, Permit
from x402core.reads import CodeAt, Facts, Read
from x402core.values import Amount, Millis, seconds

from . import of
from .scheme import EXPIRY_MARGIN, UPTO
from .wallets import DEPLOYED, SignedBy, Wallets, inner

__all__ = ["Checked", "Verdict", "Verified", "charge", "check", "early", "judge", "plan", "vouched"]

_SEAL: Final = object()


class _Sealed:
    __slots__ = ("offer", "permit")

    def __init__(self, seal: object, permit: Permit, offer: Offer) -> None:
        if seal is not _SEAL:
            raise LocalProtocolError(f"only the judge makes a {type(self).__name__}")
        self.permit = permit
        self.offer = offer

    def __reduce__(self) -> str:
        raise LocalProtocolError(f"a {type(self).__name__} is a proof: it is not copied or pickled, but judged again")


@final
class Checked(_Sealed):
    """A permit made for this offer, and signed by its payer's key or, ``by`` says which, by what only the chain can ask.

    Made by :func:`check` only.
    """

    __slots__ = ("by", "reads")

    def __init__(self, seal: object, permit: Permit, offer: Offer, by: SignedBy) -> None:
        super().__init__(seal, permit, offer)
        self.by = by
        self.reads: tuple[Read[Any], ...] | None = None  # planned once


@final
class Verified(_Sealed):
    """Proof that the chain would execute this permit for this offer at ``block``.

    Made by :func:`judge`, by :func:`vouched` from a facilitator's definite word, and by :func:`charge` from another.
    """

    __slots__ = ("block",)

    def __init__(self, seal: object, permit: Permit, offer: Offer, block: int) -> None:
        super().__init__(seal, permit, offer)
        self.block = block


def check(permit: Permit, offer: Offer, wallets: Wallets = DEPLOYED) -> Checked | Refusal:
    """Judge what needs neither chain nor clock; total: every refusal is a value."""
    if permit.method is not offer.method:
        return Refusal(Reason.UNSUPPORTED_SCHEME, f"the offer takes {offer.method}, the permit is {permit.method}")
    by = of(offer).check(permit, offer, wallets)
    return by if isinstance(by, Refusal) else Checked(_SEAL, permit, offer, by)


def early(checked: Checked, now: Millis) -> Refusal | None:
    """Refuse a permit outside its window before any chain read is spent on it."""
    return of(checked.offer).window(checked.permit, checked.offer, seconds(now))


def plan(checked: Checked) -> tuple[Read[Any], ...]:
    """List the chain reads the judge needs, to be answered at one block."""
    if checked.reads is None:
        checked.reads = of(checked.offer).plan(checked.permit, checked.offer, checked.by)
    return checked.reads


def judge(checked: Checked, facts: Facts, now: Millis) -> Verified | Refusal:
    """Judge a checked permit: its window against our clock, its end against the block's too, then the chain's facts.

    Only the end, because the head of a quiet chain lags behind every clock; that a permit has begun is what the simulation
    at that block shows.
    """
    scheme = of(checked.offer)
    permit, offer = checked.permit, checked.offer
    refusal = scheme.window(permit, offer, seconds(now))
    if refusal is None and permit.expires < facts.time + EXPIRY_MARGIN:
        refusal = Refusal(scheme.expired, "the chain's own clock is past it")
    if refusal is None:
        refusal = scheme.judge(permit, offer, checked.by, facts, plan(checked))
    if refusal is not None:
        return refusal
    return Verified(_SEAL, _unwrapped(permit, checked.by, facts), offer, facts.number)


def _unwrapped(permit: Permit, by: SignedBy, facts: Facts) -> Permit:
    """Drop the deployment of a wallet that exists by now: whoever settles would pay for a call that fails."""
    if by is SignedBy.UNDEPLOYED and isinstance(permit, Eip3009Permit) and facts.of(CodeAt(permit.payer)):
        return replace(permit, signature=inner(permit.signature))
    return permit


def vouched(checked: Checked, verdict: Verdict) -> Verified | Refusal:
    """Take a remote facilitator's definite answer for this very permit and offer: as good as its word, and no better.

    Raises: LocalProtocolError for an answer to another question.
    """
    if verdict.asked is not checked:
        raise LocalProtocolError("the verdict is about another payment", field="verdict")
    return Verified(_SEAL, checked.permit, checked.offer, verdict.block) if verdict.refusal is None else verdict.refusal


def charge(proof: Verified, amount: Amount) -> Verified | Refusal:
    """Return the proof for settling less than was signed (``upto``, x402.md 2.4); exactly what was signed stays as it is.

    ``amount`` is in atomic units, above zero: nothing is not settled at all.
    """
    if amount == proof.offer.amount:
        return proof
    if proof.offer.scheme != UPTO or amount > proof.permit.amount:
        return Refusal(Reason.UPTO_EXCEEDS, f"{amount} is to be charged, {proof.permit.amount} was signed")
    if amount <= 0:
        raise LocalProtocolError("nothing is not settled", field="amount")
    return Verified(_SEAL, proof.permit, replace(proof.offer, amount=amount), proof.block)


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a remote facilitator answered about ``asked``: valid when ``refusal`` is None.

    ``block`` is the chain's head before it was asked, 0 where no chain is configured.
    """

    asked: Checked
    refusal: Refusal | None = None
    block: int = 0
