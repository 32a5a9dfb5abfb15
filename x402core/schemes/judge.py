"""The one judge: nothing else in the project can make a :class:`Verified`, and nothing settles without one.

Three steps, each a proof the next one demands (law 5)::

    check(permit, offer)         -> Checked  | Refusal     no chain, no clock: shape, payee, amount, signature
    judge(checked, facts, now)   -> Verified | Refusal     the chain's facts, and the validity window

``check`` stands apart because a replay of a settled payment must prove that it is the payer's before it gets the kept answer,
while its window may be over and the chain would call it used.
"""

from __future__ import annotations

from typing import Any, Final, final

from x402core.errors import LocalProtocolError, Reason, Refusal
from x402core.events import Offer, Permit
from x402core.reads import Facts, Read
from x402core.values import Millis, seconds

from . import of
from .scheme import EXPIRY_MARGIN

__all__ = ["Checked", "Verified", "check", "early", "judge", "plan"]

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
    """Proof that a permit is well signed by its payer for this offer.  Made by :func:`check` only."""

    __slots__ = ()


@final
class Verified(_Sealed):
    """Proof that the chain would execute this permit for this offer at ``block``.  Made by :func:`judge` only."""

    __slots__ = ("block",)

    def __init__(self, seal: object, permit: Permit, offer: Offer, block: int) -> None:
        super().__init__(seal, permit, offer)
        self.block = block


def check(permit: Permit, offer: Offer) -> Checked | Refusal:
    """Judge what needs neither chain nor clock; total: every refusal is a value."""
    if permit.method is not offer.method:
        return Refusal(Reason.UNSUPPORTED_SCHEME, f"the offer takes {offer.method}, the permit is {permit.method}")
    refusal = of(offer).check(permit, offer)
    return Checked(_SEAL, permit, offer) if refusal is None else refusal


def early(checked: Checked, now: Millis) -> Refusal | None:
    """Refuse a permit outside its window before any chain read is spent on it."""
    return of(checked.offer).window(checked.permit, checked.offer, seconds(now))


def plan(checked: Checked) -> tuple[Read[Any], ...]:
    """List the chain reads the judge needs, to be answered at one block."""
    return of(checked.offer).plan(checked.permit, checked.offer)


def judge(checked: Checked, facts: Facts, now: Millis) -> Verified | Refusal:
    """Judge a checked permit: its window against our clock, its end against the block's too, then the chain's facts.

    Only the end, because the head of a quiet chain lags behind every clock; that a permit has begun is what the simulation
    at that block shows.
    """
    scheme = of(checked.offer)
    permit, offer = checked.permit, checked.offer
    refusal = scheme.window(permit, offer, seconds(now))
    if refusal is None and permit.expires < facts.time + EXPIRY_MARGIN:
        refusal = Refusal(Reason.VALID_BEFORE, "the chain's own clock is past it")
    if refusal is None:
        refusal = scheme.judge(permit, offer, facts)
    return Verified(_SEAL, permit, offer, facts.number) if refusal is None else refusal
