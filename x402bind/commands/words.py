"""Money, names and times in words: what the commands print.  What a peer chose is printable when it leaves here."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from x402core.commands import Outcome, OutcomeKind
from x402core.errors import LocalProtocolError
from x402core.events import Receipt
from x402core.evm.address import checksum
from x402core.money import atomic_to_human, format_amount
from x402core.registry import KNOWN, Asset, NetworkInfo
from x402core.values import Address, Amount, Network
from x402core.wire.v2 import printable

__all__ = [
    "amount_words",
    "asset_of",
    "cost",
    "in_words",
    "instant",
    "link",
    "network_of",
    "network_words",
    "receipt_document",
    "shown",
    "span",
    "spent",
]

_FAR: Final = 253_402_300_800  # Unix seconds of the year 10000
_CHARGED: Final = (OutcomeKind.PAID, OutcomeKind.UNKNOWN)
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def shown(text: str, most: int = 500) -> str:
    """Return a text that may have a peer's words in it, fit for a terminal."""
    return printable(text, most)


def asset_of(network: str, asset: str) -> Asset | None:
    """Return the asset as our registry knows it, None for one it does not know."""
    try:
        return KNOWN.asset(network, asset)
    except LocalProtocolError:
        return None


def network_of(network: str) -> NetworkInfo | None:
    """Return what our registry knows of a network, or None."""
    try:
        return KNOWN.network(network)
    except LocalProtocolError:
        return None


def network_words(network: str) -> str:
    """Return a network's title and id."""
    info = network_of(network)
    if info is None:
        return f"{network} (a network not known here)"
    return f"{info.name} ({info.network})" + (", play money" if info.testnet else "")


def amount_words(amount: int, network: str, asset: Address, decimals: int | None = None, symbol: str = "") -> str:
    """Return an amount with the name our registry has for its asset; ``decimals`` and ``symbol`` are the peer's own word."""
    known = asset_of(network, asset)
    atomic = f"{amount} atomic units of {checksum(asset)}"
    if known is None:
        if decimals is None:
            return atomic
        human = format(atomic_to_human(Amount(amount), decimals), "f")
        return f"{atomic}; by the peer's own word {human} {symbol or 'of it'}"
    return in_words(amount, known)


def in_words(amount: int, asset: Asset) -> str:
    """Return an amount of an asset, for people and in atomic units."""
    text = format_amount(Amount(amount), asset)
    return f"{text} ({asset.code.upper()}, {amount} atomic units)" if asset.symbol else f"{text} ({amount} atomic units)"


def link(network: Network, transaction: str) -> str | None:
    """Return where a transaction can be looked up, when that is known."""
    info = network_of(network)
    return info.explorer + transaction if info is not None and info.explorer is not None and transaction else None


def span(seconds: int) -> str:
    """Return a duration in its two largest units."""
    left = abs(seconds)
    counts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or counts:
            counts.append(f"{count} {unit}" if count else "")
    return " ".join(filter(None, counts[:2])) or "0 s"


def instant(at: int, now: int | None = None) -> str:
    """Return Unix seconds as a time in UTC, and how far that is from ``now`` (default: the clock)."""
    if not 0 < at < _FAR:
        return "since ever" if at <= 0 else "for ever, as good as"
    away = at - (int(time.time()) if now is None else now)
    when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{when} ({f'in {span(away)}' if away > 0 else f'{span(away)} ago'})"


# ----------------------------------------------------------------------------------------------------- what it cost


def spent(outcome: Outcome) -> str:
    """Say how much of what goes, or would go, to whom and where."""
    offer = outcome.offer
    assert offer is not None
    amount = outcome.amount if outcome.kind in _CHARGED else offer.amount
    money = amount_words(amount, offer.network, offer.asset)
    return f"{money} to {checksum(offer.pay_to)} on {network_words(offer.network)}"


def cost(outcome: Outcome) -> dict[str, str | None] | None:
    """Return what was paid, or may have been, for a JSON document; None when nothing was."""
    offer, receipt = outcome.offer, outcome.receipt
    if offer is None or outcome.kind not in _CHARGED:
        return None
    amount = outcome.amount
    known = asset_of(offer.network, offer.asset)
    transaction = "" if receipt is None else shown(receipt.transaction)
    return {
        "amount": str(amount),
        "shown": None if known is None else format_amount(amount, known),
        "code": None if known is None else known.code.upper(),
        "asset": checksum(offer.asset),
        "network": offer.network,
        "pay_to": checksum(offer.pay_to),
        "transaction": transaction,
        "link": link(offer.network, transaction),
    }


def receipt_document(receipt: Receipt) -> dict[str, str | bool | None]:
    """Return a receipt for a JSON document, in the specification's own words (x402.md 1.1, SettleResponse)."""
    return {
        "success": receipt.success,
        "network": receipt.network,
        "payer": None if receipt.payer is None else checksum(receipt.payer),
        "transaction": shown(receipt.transaction),
        "amount": None if receipt.amount is None else str(receipt.amount),
        "errorReason": shown(receipt.reason),
    }
