"""The replies the server and token machines give, built once and shared: one place for status codes and headers.

402 is for the payer to act on; 400 for bytes that are not the protocol; 409 for a payment that is at work this very moment;
503 for our own trouble and for money under way: never 402, so that a client does not sign again (defects A13, T4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from x402core.commands import Respond, StreamResponse
from x402core.errors import Reason, Refusal, Reply, problem
from x402core.events import Challenge, Dialect, Headers, Payer, Permit, Receipt, Settled
from x402core.policy import Terms
from x402core.registry import KNOWN, Registry
from x402core.values import Amount, Hash32
from x402core.wire import http, permit_token, v1, v2
from x402core.wire.json import Json

from .payments import advertised

__all__ = [
    "LEASE_MARGIN",
    "PRIVATE",
    "REFUNDED",
    "SERVED",
    "Spoken",
    "attested",
    "busy",
    "challenge",
    "conflict",
    "context",
    "nothing",
    "pending",
    "receipt",
    "receipt_header",
    "unavailable",
]

A = TypeVar("A", Respond, StreamResponse)

LEASE_MARGIN: Final = 60_000
"""Milliseconds a claim outlives its permit.  A handler for money that has moved may be run again when it takes longer than
that: a claim's owner is presumed gone then.
"""
PRIVATE: Final[Headers] = (("Cache-Control", "private"), http.VARY)
"""Added to whatever was paid for: a shared cache must not give it away (threat T21)."""
SERVED: Final = Refusal(Reason.PAYMENT_SERVED, "This payment was served. Its answer, a stream or a long one, was not kept.")
"""Why a payment that has bought its answer buys no second one."""
REFUNDED: Final = Refusal(Reason.PAYMENT_REFUNDED, "This payment was paid back.")
"""Why a payment buys nothing any more."""
_LATER: Final[Headers] = (("Retry-After", "1"),)


@lru_cache(maxsize=4096)
def challenge(terms: Terms, error: str) -> Reply:
    """Return the 402 for these terms with this error; a price's is encoded once (``terms`` compares by identity)."""
    return _encode(terms, error, "", {})


def _encode(terms: Terms, error: str, detail: str, fresh: Mapping[str, Json]) -> Reply:
    return http.encode_402(
        Challenge(
            offers=terms.offers,
            error=error,
            resource=terms.resource,
            token_endpoint=None if terms.token is None else terms.token.address,
            extensions={**advertised(terms), **fresh},
        ),
        created_at=permit_token.timestamp(terms.since),
        detail=detail,
        registry=terms.registry,
    )


def refused(terms: Terms, refusal: Refusal, add: Headers = (), fresh: Mapping[str, Json] = MappingProxyType({})) -> Reply:
    """Return a 402 that says why the payment was refused, in a code and our own words; ``fresh`` extensions are its alone."""
    reason = str(refusal.reason)
    once = refusal.detail or fresh
    reply = _encode(terms, reason, refusal.detail, fresh) if once else challenge(terms, reason)
    return reply if not add else Reply(reply.status, (*reply.headers, *add), reply.body)


def receipt(permit: Permit, settled: Settled) -> Receipt:
    """Return the receipt of a settled payment."""
    return Receipt(True, permit.network, permit.payer, settled.transaction, settled.amount)


def nothing(permit: Permit) -> Receipt:
    """Return the receipt of an ``upto`` payment nothing was charged of: no transaction (x402.md 2.4)."""
    return Receipt(True, permit.network, permit.payer, "", Amount(0))


def failed_receipt(permit: Permit, reason: Reason, transactions: tuple[Hash32, ...] = ()) -> Receipt:
    """Return the receipt of a payment that did not settle (yet)."""
    return Receipt(False, permit.network, permit.payer, transactions[-1] if transactions else "", reason=str(reason))


def attested(command: A, attest: Callable[[Receipt], Mapping[str, Json]]) -> A:
    """Return an answer whose receipt carries what ``attest`` says of it (``offer-receipt``, x402.md 3.6)."""
    if command.attest is None:
        return command
    text = v2.encode_receipt(replace(command.attest, extensions=attest(command.attest)))

    def signed(headers: Headers) -> Headers:
        return tuple((name, text if name == v2.PAYMENT_RESPONSE else value) for name, value in headers)

    command = replace(command, add_headers=signed(command.add_headers), attest=None)
    if isinstance(command, Respond) and command.reply is not None:
        reply = command.reply
        return replace(command, reply=Reply(reply.status, signed(reply.headers), reply.body))
    return command


class Spoken(NamedTuple):
    """The dialect a payment came in, and the registry that knows the networks' names."""

    dialect: Dialect
    registry: Registry


V2: Final = Spoken(Dialect.V2, KNOWN)


def receipt_header(proof: Receipt, spoken: Spoken = V2) -> Headers:
    """Return ``PAYMENT-RESPONSE`` (v1: ``X-PAYMENT-RESPONSE``), readable to browsers too."""
    if spoken.dialect is Dialect.V1:
        name, text = v1.X_PAYMENT_RESPONSE, v1.encode_receipt(proof, spoken.registry)
    else:
        name, text = v2.PAYMENT_RESPONSE, v2.encode_receipt(proof)
    return ((name, text), ("Access-Control-Expose-Headers", name))


def unavailable() -> Reply:
    """Return the 503 for our own trouble; nothing was charged, the same payment may be presented again."""
    return problem(503, "Try again with the same payment.", reason=Reason.UNAVAILABLE, headers=_LATER)


def busy() -> Reply:
    """Return the 409 for a payment another exchange is working on."""
    detail = "This payment is being worked on. Present it again to get its answer."
    return problem(409, detail, reason=Reason.PAYMENT_IN_PROGRESS, headers=_LATER)


def conflict() -> Reply:
    """Return the 409 for an identifier that its payer gave to another payment before (x402.md 3.5)."""
    detail = "This payment identifier was used for another payment. Present that one again, or take a new identifier."
    return problem(409, detail, reason=Reason.IDENTIFIER_CONFLICT)


def pending(permit: Permit, transactions: tuple[Hash32, ...], spoken: Spoken = V2) -> Reply:
    """Return the 503 for money under way, with the transaction to look at once there is one (x402.md 1.1)."""
    detail = "The settlement has not ended. Present the same payment again to get its answer."
    if not transactions:
        return problem(503, detail, reason=Reason.UNAVAILABLE, headers=_LATER)
    proof = receipt_header(failed_receipt(permit, Reason.SETTLEMENT_PENDING, transactions), spoken)
    return problem(503, detail, reason=Reason.SETTLEMENT_PENDING, headers=(*_LATER, *proof))


def context(permit: Permit, settled: Settled | None = None) -> Payer:
    """Return what a handler may know about its payer."""
    return Payer(
        payer=permit.payer,
        amount=permit.amount,
        asset=permit.asset,
        network=permit.network,
        payment=permit.key,
        transaction=None if settled is None else settled.transaction,
    )
