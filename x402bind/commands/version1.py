"""The messages of x402 version 1: a 402 in the body, ``X-PAYMENT`` and ``X-PAYMENT-RESPONSE``.

A payment of version 1 names no token.  Its signature does: of the tokens known on the network, it is the one under whose
name the signature is the payer's.
"""

from __future__ import annotations

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.events import Dialect, Method, Offer, Payment, Permit
from x402core.evm.secp256k1 import recover
from x402core.registry import KNOWN
from x402core.schemes import of
from x402core.values import Seconds, parse_address, parse_amount
from x402core.wire import v1
from x402core.wire.fields import Fields, Json
from x402core.wire.headers import encode_header
from x402core.wire.v1 import X_PAYMENT, X_PAYMENT_RESPONSE

from .explain import Block, challenge_blocks, payment_blocks, receipt_blocks

__all__ = ["X_PAYMENT", "X_PAYMENT_RESPONSE", "challenge", "payment", "receipt"]


def challenge(document: Json, _now: Seconds) -> tuple[Block, ...]:
    """Explain a 402's body."""
    return challenge_blocks(v1.decode_challenge(document, KNOWN))


def payment(document: Json, now: Seconds) -> tuple[Block, ...]:
    """Explain a payment, and find its token by its signature."""
    offers = _offers(Fields(document, "", X_PAYMENT))
    pairs: tuple[tuple[Permit, Offer], ...] = v1.decode_payment(encode_header(document), offers, KNOWN)
    if not pairs:
        raise RemoteProtocolError("no token known here is on this network", pointer="/network", source=X_PAYMENT)
    permit, offer = next((pair for pair in pairs if _signs(*pair)), pairs[0])
    return payment_blocks(Payment(permit), now, offer)


def receipt(document: Json, _now: Seconds) -> tuple[Block, ...]:
    """Explain a receipt."""
    return receipt_blocks(v1.decode_receipt(encode_header(document), KNOWN))


def _offers(fields: Fields) -> tuple[Offer, ...]:
    """Return what the payment would pay exactly, in each token known on its network."""
    signed = fields.object("payload").object("authorization")
    pay_to, amount = signed.get(parse_address, "to"), signed.get(parse_amount, "value")
    try:
        assets = KNOWN.assets(fields.text("network", most=64))
    except LocalProtocolError:
        raise fields.error("network", "not a network known here") from None
    return tuple(
        Offer(
            Dialect.V1,
            Method.EIP3009,
            asset.network,
            asset.address,
            amount,
            pay_to,
            Seconds(3600),
            asset.name,
            asset.version,
            asset.decimals,
            asset.code.upper(),
        )
        for asset in assets
    )


def _signs(permit: Permit, offer: Offer) -> bool:
    try:
        return recover(of(offer).digest(permit, offer), permit.signature) == permit.payer
    except (LocalProtocolError, RemoteProtocolError):
        return False
