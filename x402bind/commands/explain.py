"""What a message says, in words: challenges, payments and receipts, each as blocks of a sentence, facts and warnings.

Nothing here signs, pays or asks a chain.  Whether a signature is the payer's is computed; whether the chain would execute it
is not known here.  Our own registry is the measure of every token: what a peer says of one is quoted, never believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Final

from x402core.errors import LocalProtocolError, Refusal, RemoteProtocolError
from x402core.events import Challenge, Offer, Payment, Permit, Receipt, Resource
from x402core.evm.address import checksum
from x402core.evm.secp256k1 import recover
from x402core.evm.signatures import ContractSignature, DeploylessSignature, classify
from x402core.registry import KNOWN
from x402core.schemes import of
from x402core.schemes.judge import check
from x402core.values import Address, Seconds, local, parse_address

from .words import amount_words, asset_of, instant, link, network_of, network_words, span

__all__ = ["Block", "challenge_blocks", "offer_block", "payment_blocks", "receipt_blocks"]

_TOLD: Final = frozenset(
    {"network", "asset", "payer", "pay_to", "amount", "signature", "valid_after", "valid_before", "deadline", "until"}
)
_WHEN: Final = {
    "before": "before the resource is served",
    "after": "after the resource is served, before it is handed over",
    "background": "in the background; an access token is handed out at once",
}
_NOT_THE_KEY: Final = "THE SIGNATURE IS NOT MADE BY THE PAYER'S KEY: it counts only if the payer is a contract that takes it"
_ZERO: Final = "0x" + "00" * 20


@dataclass(frozen=True, slots=True)
class Block:
    """One thing that is explained: what it says, the facts by name, and what to beware of."""

    name: str
    says: str
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------------------------- challenge


def challenge_blocks(challenge: Challenge) -> tuple[Block, ...]:
    """Explain a 402: what it is for, and each way to pay."""
    count = len(challenge.offers)
    ways = {0: "in no way known here", 1: "in one way"}.get(count, f"in one of {count} ways")
    facts = [("error", challenge.error)] if challenge.error else []
    facts += _resource(challenge.resource)
    if challenge.token_endpoint is not None:
        facts.append(("permits go to", challenge.token_endpoint))
    facts += _listed("extensions", tuple(map(str, challenge.extensions)))
    facts += _listed("not understood", challenge.skipped)
    head = Block("challenge", f"the server asks to be paid, {ways}", tuple(facts))
    return head, *(offer_block(offer, f"offer {number}") for number, offer in enumerate(challenge.offers, 1))


def _listed(name: str, items: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, ", ".join(items))] if items else []


def _resource(resource: Resource | None) -> list[tuple[str, str]]:
    if resource is None:
        return []
    named = (("resource", resource.url), ("description", resource.description), ("content type", resource.mime_type))
    return [(name, value) for name, value in named if value]


def offer_block(offer: Offer, name: str) -> Block:
    """Explain one way to pay."""
    money = amount_words(offer.amount, offer.network, offer.asset, _stated_decimals(offer), offer.symbol)
    most = "at most " if offer.scheme == "upto" else ""
    facts = [
        ("network", network_words(offer.network)),
        ("payee", checksum(offer.pay_to)),
        ("how", f"{offer.scheme} by {offer.method}, spoken as {offer.dialect}"),
        ("valid for", f"at most {span(offer.timeout)} ({offer.timeout} s)"),
        ("settled", _WHEN.get(offer.settle, str(offer.settle))),
        ("asset", checksum(offer.asset)),
        ("token", _token(offer)),
        ("atomic units", str(offer.amount)),
    ]
    named = (("spender", offer.spender), ("facilitator", getattr(offer, "facilitator", None)))
    facts += [(label, checksum(address)) for label, address in named if address is not None]
    return Block(name, f"{most}{money} to {checksum(offer.pay_to)}", tuple(facts), tuple(_beware(offer)))


def _token(offer: Offer) -> str:
    known = asset_of(offer.network, offer.asset)
    stated = f"{offer.name!r} version {offer.version!r}"
    if known is None:
        return f"by its own word {stated}: NOT a token known here"
    return f"{stated}, as known here" if _same_domain(offer) else f"known here as {known.name!r} version {known.version!r}"


def _same_domain(offer: Offer) -> bool:
    known = asset_of(offer.network, offer.asset)
    return known is not None and (offer.name, offer.version) == (known.name, known.version)


def _stated_decimals(offer: Offer) -> int | None:
    """Return the decimals the peer states, wherever its dialect lets it."""
    if offer.decimals is not None:
        return offer.decimals
    extra = None if offer.raw is None else offer.raw.get("extra")
    stated = extra.get("decimals") if isinstance(extra, dict) else None
    return stated if isinstance(stated, int) and not isinstance(stated, bool) and 0 <= stated <= 255 else None


def _beware(offer: Offer) -> Iterator[str]:
    """Say what about an offer should keep a payer from signing."""
    known, decimals = asset_of(offer.network, offer.asset), _stated_decimals(offer)
    if network_of(offer.network) is None:
        yield f"{offer.network} IS NOT A NETWORK KNOWN HERE"
    if known is None:
        yield "THIS IS NOT A TOKEN KNOWN HERE: nothing it says of its name, sign or decimals is proved"
        for other in KNOWN.assets(offer.network):
            if {offer.name.lower(), offer.symbol.lower()} & {other.name.lower(), other.code}:
                yield f"IT CALLS ITSELF LIKE {other.code.upper()}, WHICH IS ANOTHER CONTRACT: {checksum(other.address)}"
    else:
        if not _same_domain(offer):
            yield (
                f"THE TOKEN IS DESCRIBED OTHERWISE THAN IT IS: {offer.name!r} version {offer.version!r}, but it is "
                f"{known.name!r} version {known.version!r}; a signature for this would be void, or for something else"
            )
        if decimals not in (None, known.decimals):
            yield f"THE DECIMALS ARE WRONG: it says {decimals}, the token has {known.decimals}, by which the price is shown"
        if offer.method not in known.methods:
            yield f"{known.code.upper()} cannot be paid by {offer.method}, as far as known here"
    if offer.pay_to == _ZERO:
        yield "THE PAYEE IS NOBODY: the zero address"
    if offer.amount == 0:
        yield "the price is nothing"


# ------------------------------------------------------------------------------------------------------------ payment


def payment_blocks(payment: Payment, now: Seconds, assumed: Offer | None = None) -> tuple[Block, ...]:
    """Explain a payment: who pays whom how much until when, whether the signature is the payer's, what it accepts.

    ``assumed`` stands in for the offer where the dialect echoes none.
    """
    permit = payment.permit
    offer = payment.accepted or assumed or _assumed(permit)
    facts = [("network", network_words(permit.network)), ("payer", checksum(permit.payer)), ("asset", checksum(permit.asset))]
    facts += [("atomic units", str(permit.amount)), *_window(permit, now), *_others(permit)]
    warnings: list[str] = []
    if offer is None:
        warnings.append("THIS IS NOT A TOKEN KNOWN HERE: without its name the digest cannot be computed")
    else:
        signature, sound = _signature(permit, offer)
        facts += signature
        warnings += [] if sound else [_NOT_THE_KEY]
        warnings += _refusals(permit, offer, now, payment.accepted is not None)
    facts += _resource(payment.resource)
    facts += _listed("extensions", tuple(map(str, payment.extensions)))
    blocks = [Block("payment", _who(permit, offer), tuple(facts), tuple(warnings))]
    if payment.accepted is not None:
        blocks.append(offer_block(payment.accepted, "accepted offer"))
    return tuple(blocks)


def _who(permit: Permit, offer: Offer | None) -> str:
    money = amount_words(permit.amount, permit.network, permit.asset)
    pay_to, spender = getattr(permit, "pay_to", None), getattr(permit, "spender", None)
    payee = pay_to or spender or (None if offer is None else offer.pay_to)
    verb = "pays" if pay_to is not None else "lets"
    tail = "" if pay_to is not None else " take"
    if pay_to is not None and offer is not None and offer.scheme == "upto":
        money = f"at most {money}"
    whom = "whoever settles" if payee is None else checksum(payee)
    if tail:
        return f"{checksum(permit.payer)} {verb} {whom}{tail} {money}, by {permit.method}"
    return f"{checksum(permit.payer)} {verb} {money} to {whom}, by {permit.method}"


def _window(permit: Permit, now: Seconds) -> list[tuple[str, str]]:
    begins, ends = getattr(permit, "valid_after", None), getattr(permit, "expires", None)
    facts = [] if not begins else [("valid after", instant(begins, now))]
    return facts if not ends else [*facts, ("valid until", instant(ends, now))]


def _others(permit: Permit) -> list[tuple[str, str]]:
    """Return whatever else a permit states, of any method."""
    found: list[tuple[str, str]] = []
    for each in fields(permit):
        value = getattr(permit, each.name)
        if each.name not in _TOLD and value is not None:
            found.append((each.name.replace("_", " "), _value(value)))
    return found


def _value(value: object) -> str:
    if isinstance(value, bytes):
        return f"0x{value[:32].hex()}{'...' if len(value) > 32 else ''} ({len(value)} bytes)"
    if is_dataclass(value):
        return type(value).__name__
    text = str(value)
    try:
        return checksum(local(parse_address, text, "address"))
    except LocalProtocolError:
        return text


def _assumed(permit: Permit) -> Offer | None:
    """Return the offer a permit would pay that echoes none, by the token's name as known here."""
    from x402core.events import Dialect, Method

    known = asset_of(permit.network, permit.asset)
    spender = getattr(permit, "spender", None)
    if known is None or spender is None or permit.method is not Method.EIP2612:
        return None
    return Offer(
        Dialect.PERMIT_TOKEN,
        permit.method,
        permit.network,
        permit.asset,
        permit.amount,
        Address(spender),
        Seconds(600),
        known.name,
        known.version,
        known.decimals,
    )


def _signature(permit: Permit, offer: Offer) -> tuple[list[tuple[str, str]], bool]:
    """Return the digest and whose signature it is, and False where it is certainly not the payer's key's."""
    signature = getattr(permit, "signature", None)
    try:
        digest = of(offer).digest(permit, offer)
    except (LocalProtocolError, AttributeError):  # a method without one: only a chain can judge it
        return [("signature", "only a chain can judge this method")], True
    text, sound = _signer(permit.payer, digest, signature) if isinstance(signature, bytes) else ("none of its own", True)
    return [("digest", "0x" + digest.hex()), ("signature", text)], sound


def _signer(payer: Address, digest: bytes, signature: bytes) -> tuple[str, bool]:
    try:
        kind = classify(signature)
        if isinstance(kind, DeploylessSignature):
            return f"of a wallet that {checksum(kind.factory)} would deploy (ERC-6492): only a chain can judge it", True
        if isinstance(kind, ContractSignature):
            return "a contract's (ERC-1271): only a chain can judge it", True
        signer = recover(digest, signature)
    except RemoteProtocolError as error:
        return f"no key's: {error.text}", False
    if signer == payer:
        return "recovers to the payer", True
    return f"recovers to {checksum(signer)}, which is not the payer", False


def _refusals(permit: Permit, offer: Offer, now: Seconds, echoed: bool) -> Iterator[str]:
    """Say why a server would refuse it, as far as that shows without a chain."""
    try:
        over = of(offer).window(permit, offer, now) if permit.expires else None  # some have no end of their own
        verdicts = (check(permit, offer) if echoed else None, over)
    except LocalProtocolError as error:
        yield f"this way of paying cannot be judged here: {error}"
        return
    for verdict in verdicts:
        if isinstance(verdict, Refusal):
            yield f"a server would refuse it: {verdict.reason}" + (f" ({verdict.detail})" if verdict.detail else "")


# ------------------------------------------------------------------------------------------------------------ receipt


def receipt_blocks(receipt: Receipt) -> tuple[Block, ...]:
    """Explain a receipt: what the server says became of the money."""
    if receipt.success:
        says = "the server says the payment is settled"
    elif receipt.transaction:
        says = "the server says the payment is not settled, though a transaction was sent"
    else:
        says = "the server says the payment was not settled"
    facts = [("network", network_words(receipt.network))]
    facts += [] if receipt.payer is None else [("payer", checksum(receipt.payer))]
    facts += [] if receipt.amount is None else [("amount", f"{receipt.amount} atomic units")]
    facts += [("transaction", receipt.transaction)] if receipt.transaction else []
    where = link(receipt.network, receipt.transaction)
    facts += [] if where is None else [("look it up", where)]
    facts += [("reason", receipt.reason)] if receipt.reason else []
    warnings = ("settled without a transaction: nothing to look up",) if receipt.success and not receipt.transaction else ()
    return (Block("receipt", says, tuple(facts), warnings),)
