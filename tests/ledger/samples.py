"""Payments to put into a ledger, made from small numbers; times are Unix milliseconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from x402core.catalog import CatalogEntry, ResourceType
from x402core.errors import Reason, Reply
from x402core.events import Dialect, Eip2612Permit, Eip3009Permit, Method, Offer, Pending, Settled, Settlement, Unsettled
from x402core.ledger import Attempt, SettlementRecord
from x402core.values import Address, Amount, Hash32, Millis, Network, Seconds
from x402core.wire.json import Json

NETWORK = Network("eip155:84532")
ASSET = Address("0x" + "a5" * 20)
SELLER = Address("0x" + "5e" * 20)
ACCOUNT = Address("0x" + "ac" * 20)
NOW = Millis(1_700_000_000_000)
LATER = Millis(NOW + 60_000)
LONG_AFTER = Millis(NOW + 86_400_000)
EXPIRES = Seconds(NOW // 1000 + 600)
REQUEST = "request-1"
OTHER_REQUEST = "request-2"
REPLY = Reply(200, (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")), b"\x00paid\xff")
OTHER_REPLY = Reply(200, (), b"another")


def hash32(number: int) -> Hash32:
    """Return 32 bytes that spell a number."""
    return Hash32(f"0x{number:064x}")


def payer(number: int) -> Address:
    """Return the address of payer ``number``."""
    return Address(f"0x{number:040x}")


OFFER = Offer(Dialect.V2, Method.EIP3009, NETWORK, ASSET, Amount(100), SELLER, Seconds(600), "DevUSD", "1")


def permit(number: int = 1, *, by: int = 1, amount: int = 100, asset: Address = ASSET) -> Eip3009Permit:
    """Return the ``number``-th permit of a payer."""
    signature = bytes([number % 256]) * 65
    return Eip3009Permit(NETWORK, asset, payer(by), SELLER, Amount(amount), Seconds(0), EXPIRES, hash32(number), signature)


def endless() -> Eip2612Permit:
    """Return a permit that uses the whole of its uint256s."""
    most = 2**256 - 1
    return Eip2612Permit(NETWORK, ASSET, payer(7), SELLER, Amount(most), 0, Seconds(most), b"\x01" * 65)


def record(number: int = 1, *, by: int = 1, amount: int = 100, asset: Address = ASSET, created: int = NOW) -> SettlementRecord:
    """Return an intent."""
    offer = replace(OFFER, amount=Amount(amount))
    return SettlementRecord(permit(number, by=by, amount=amount, asset=asset), offer, since=17, created=Millis(created))


def attempt(*numbers: int, fee: int = 10, at: Millis = NOW) -> Attempt:
    """Return a signed attempt; the same numbers (5, if none are given) and fee give the same raw bytes and hashes."""
    numbers = numbers or (5,)
    raws = tuple(b"\x02" + number.to_bytes(8, "big") + fee.to_bytes(8, "big") for number in numbers)
    hashes = tuple(hash32(0xABC0000 + number * 1000 + fee) for number in numbers)
    return Attempt(numbers, fee, 1, raws, hashes, at)


def settled(number: int = 1, *, by: int = 1, amount: int = 100) -> Settled:
    """Return the proof that a payment was executed."""
    moved = hash32(0xDDD000 + number)
    return Settled(moved, NETWORK, payer(by), Amount(amount), 18, (moved,))


def void(by: int = 1, *, final: bool = True) -> Unsettled:
    """Return an outcome without money."""
    return Unsettled(Reason.TRANSACTION_FAILED, NETWORK, payer(by), (hash32(0xBAD),), final)


def pending(by: int = 1) -> Pending:
    """Return an outcome that is none yet."""
    return Pending(NETWORK, payer(by))


def ended(known: SettlementRecord, outcome: Settlement) -> SettlementRecord:
    """Return the record with an outcome."""
    return replace(known, outcome=outcome)


def entry(number: int = 1, *, to: int = 1, at: int = NOW, **more: Any) -> CatalogEntry:
    """Return what is listed of the ``number``-th resource, paid to payee ``to``."""
    url = f"https://shop.example/goods/{number}"
    way: dict[str, Json] = {
        "scheme": "exact",
        "network": NETWORK,
        "payTo": payer(to).upper().replace("X", "x"),
        "amount": "100",
    }
    made = CatalogEntry(url, url, ResourceType.HTTP, 2, (way,), Millis(at), extensions={"bazaar": {"info": {}}})
    return replace(made, **more)


KEY = permit().key
