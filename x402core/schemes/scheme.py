"""What a payment method must say about itself, and the registry of the methods there are.

A scheme is a set of pure functions over one kind of permit.  It never reads the chain: ``plan`` and ``closing`` list reads,
``judge`` and ``close`` decide over the facts those reads gave.  To add a method, write one file with one such class and add
it to the table in ``schemes/__init__``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final, Protocol, TypeVar

from x402core.errors import Reason, Refusal
from x402core.events import Method, Offer
from x402core.reads import Facts, Log, Read, TxReceipt
from x402core.values import Address, Hash32, Network, Seconds

from .wallets import SignedBy, Wallets

__all__ = ["EXPIRY_MARGIN", "LONGEST_VALIDITY", "TRANSFER", "UPTO", "Call", "Closing", "Scheme", "moved", "topic", "window"]

EXPIRY_MARGIN: Final = 6
"""Seconds a permit must still have: x402.md 2.0, "time buffer"."""
LONGEST_VALIDITY: Final = 3600
"""Seconds ahead that any permit may reach, unless the offer itself asks for more; the official peers set no bound at all."""
UPTO: Final = "upto"
"""The scheme whose permit is a ceiling (x402.md 2.4)."""
CLOCK_SKEW: Final = 60
"""Seconds a payer's clock may run ahead of ours before its window counts as too long."""

TRANSFER: Final = Hash32("0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
"""Topic of ERC-20 ``Transfer(address,address,uint256)``."""


@dataclass(frozen=True, slots=True)
class Call:
    """One contract call of a settlement: target, calldata, gas limit (a ceiling; only gas used is paid)."""

    to: Address
    data: bytes
    gas: int


class Closing(Enum):
    """What the chain says of a permit whose own transaction did not do it."""

    USED = "used"  # executed, by whoever: the receipt is the proof
    CANCELLED = "cancelled"  # the payer cancelled it on chain
    UNUSED_FINAL = "unused_final"  # not executed, and it can no longer be
    UNUSED_YET = "unused_yet"  # not executed, but it still could be
    UNUSED_ALLOWED = "unused_allowed"  # the permit is dead, but an allowance lets what we sent still move the money
    UNCLEAR = "unclear"  # spent, and the money may have moved where it cannot be told whose it was: neither paid nor unpaid
    UNUSED_RETRY = "unused_retry"  # not executed, and nothing of ours can execute it any more: send again


P = TypeVar("P")


class Scheme(Protocol[P]):
    """One way a permit moves money."""

    scheme: ClassVar[str]
    method: ClassVar[Method]
    namespace: ClassVar[str]
    expired: ClassVar[Reason]
    """What this method calls a permit that is over."""

    def digest(self, permit: P, offer: Offer) -> bytes:
        """Return the 32 bytes the payer signs."""

    def typed_data(self, permit: P, offer: Offer) -> Mapping[str, object]:
        """Return the same as readable typed data (eth_signTypedData_v4)."""

    def needs(self, offer: Offer, payer: Address) -> tuple[Read[Any], ...]:
        """List what a payer must read before it can prepare a permit; often nothing."""

    def prepare(
        self, offer: Offer, payer: Address, *, now: Seconds, validity: Seconds, nonce: Hash32, facts: Facts | None
    ) -> P:
        """Return the unsigned permit for an offer, valid ``validity`` seconds from ``now``."""

    def check(self, permit: P, offer: Offer, wallets: Wallets) -> SignedBy | Refusal:
        """Refuse what can be refused without chain or clock (payee, asset, amount, signature); say whose signature it is."""

    def window(self, permit: P, offer: Offer, now: Seconds) -> Refusal | None:
        """Refuse a permit outside its validity at ``now``."""

    def plan(self, permit: P, offer: Offer, by: SignedBy) -> tuple[Read[Any], ...]:
        """List the chain reads that ``judge`` decides over."""

    def judge(self, permit: P, offer: Offer, by: SignedBy, facts: Facts, reads: tuple[Read[Any], ...]) -> Refusal | None:
        """Refuse a permit that the chain would not execute; ``reads`` is what ``plan`` listed."""

    def calls(self, permit: P, offer: Offer) -> tuple[Call, ...]:
        """Return the calls that move the money, in order; the last one does it, to ``offer.amount`` atomic units."""

    def preludes(self, permit: P) -> tuple[bytes, ...]:
        """Return raw transactions of others that must be mined before ours can succeed; often none."""

    def paid(self, permit: P, offer: Offer, receipt: TxReceipt) -> bool:
        """Say whether this transaction's logs prove that the permit was executed to the payee, to the atomic unit."""

    def closing(self, permit: P, offer: Offer, since: int) -> tuple[Read[Any], ...]:
        """List the reads that ``close`` decides over, when our own transaction did not do it."""

    def close(self, permit: P, offer: Offer, facts: Facts, mined: TxReceipt | None) -> tuple[Closing, TxReceipt | None]:
        """Say what became of the permit; ``mined`` is our own failed money-moving transaction at a final depth, if any."""


def window(
    valid_after: Seconds,
    expires: Seconds,
    offer: Offer,
    now: Seconds,
    early: Reason = Reason.VALID_AFTER,
    late: Reason = Reason.VALID_BEFORE,
) -> Refusal | None:
    """Refuse a validity that has not begun, ends too soon or reaches too far (x402.md 2.1 checks 7 and 8)."""
    if valid_after > now:
        return Refusal(early, "validAfter is in the future")
    if expires < now + EXPIRY_MARGIN:
        return Refusal(late, f"validBefore (deadline) is less than {EXPIRY_MARGIN} seconds away")
    longest = max(offer.timeout, LONGEST_VALIDITY)
    if expires > now + longest + CLOCK_SKEW:
        return Refusal(Reason.VALIDITY_TOO_LONG, f"validBefore (deadline) is more than {longest} seconds away")
    return None


def topic(address: Address) -> Hash32:
    """Return an address as an indexed event argument."""
    return Hash32("0x" + "0" * 24 + address[2:])


def moved(log: Log, offer: Offer, payer: Address) -> bool:
    """Say whether a log is exactly this payment: ``Transfer(payer, pay_to, amount)`` emitted by the asset."""
    return (
        log.address == offer.asset
        and log.topics == (TRANSFER, topic(payer), topic(offer.pay_to))
        and len(log.data) == 32
        and int.from_bytes(log.data, "big") == offer.amount
    )


def same_asset(network: Network, asset: Address, offer: Offer) -> Refusal | None:
    """Refuse a permit for another chain or token than the offer's."""
    if network != offer.network:
        return Refusal(Reason.NETWORK_MISMATCH, f"the permit is for {network}, the offer for {offer.network}")
    if asset != offer.asset:
        return Refusal(Reason.ASSET_MISMATCH, "the permit is for another token than the offer")
    return None
