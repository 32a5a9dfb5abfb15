"""What is said between a server and its facilitator: what is asked of it, and what it answers (x402.md 1.5)."""

from __future__ import annotations

from x402core.evm.address import checksum
from x402core.values import Seconds
from x402core.wire import facilitator
from x402core.wire.fields import Json
from x402core.wire.json import dumps

from .explain import Block, offer_block, payment_blocks
from .words import network_words

__all__ = ["request", "supported", "verified"]


def request(document: Json, now: Seconds) -> tuple[Block, ...]:
    """Explain the body of a POST to ``/verify`` or ``/settle``; the two do not differ."""
    ask = facilitator.decode_request(dumps(document), settle=False)
    why = ask.refusal
    warnings = (
        () if why is None else (f"a facilitator would refuse it: {why.reason}" + (f" ({why.detail})" if why.detail else ""),)
    )
    says = f"a facilitator is asked to verify or settle a payment of x402 version {ask.version}"
    head = Block("request", says, (), warnings)
    return head, *payment_blocks(ask.payment, now, ask.offer), offer_block(ask.offer, "requirements")


def verified(document: Json, _now: Seconds) -> tuple[Block, ...]:
    """Explain the answer of ``/verify``."""
    answer = facilitator.decode_verify(dumps(document))
    facts = () if answer.payer is None else (("payer", checksum(answer.payer)),)
    if answer.valid:
        return (Block("answer", "the facilitator says the payment is valid; nothing has moved yet", facts),)
    return (Block("answer", f"the facilitator refuses the payment: {answer.reason or 'for no stated reason'}", facts),)


def supported(document: Json, _now: Seconds) -> tuple[Block, ...]:
    """Explain the answer of ``/supported``."""
    said = facilitator.decode_supported(dumps(document))
    kinds = tuple((f"version {kind.version}", f"{kind.scheme} on {network_words(kind.network)}") for kind in said.kinds)
    signers = tuple((f"settled by, on {where}", ", ".join(who)) for where, who in said.signers.items())
    extensions = (("extensions", ", ".join(said.extensions)),) if said.extensions else ()
    return (Block("answer", f"the facilitator settles {len(kinds)} kinds of payment", (*kinds, *signers, *extensions)),)
