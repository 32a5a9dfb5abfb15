"""Who has paid for what, and which sign-in nonces are used up, in the SQLite ledger's file.

A grant belongs to the payment that bought it: it is worth something from when that is known good, and falls with a void one, or
one that is paid back.  Of payments that are forgotten, and so can be neither, one is remembered, so that a resource and a payer
have few rows however often the payer buys.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, TypeAlias

from x402core.ledger import ClaimRow, Grant, SettlementRecord, SignedIn
from x402core.values import Address, Millis

from . import rows

__all__ = ["drop_grants", "remember_grant", "sign_in", "thin_grants", "use_nonce"]

_Looks: TypeAlias = Callable[[sqlite3.Connection, str], tuple[ClaimRow | None, SettlementRecord | None]]

_PAID: Final = "SELECT key FROM x402_grants WHERE resource = ? AND payer = ?"
_ADD: Final = "INSERT OR IGNORE INTO x402_grants (resource, payer, key) VALUES (?, ?, ?)"
_THIN: Final = """DELETE FROM x402_grants AS mine WHERE key = ? AND EXISTS (SELECT 1 FROM x402_grants AS other
    WHERE other.resource = mine.resource AND other.payer = mine.payer AND other.key <> mine.key
    AND NOT EXISTS (SELECT 1 FROM x402_claims WHERE key = other.key)
    AND NOT EXISTS (SELECT 1 FROM x402_records WHERE key = other.key))"""
_USED: Final = "SELECT 1 FROM x402_nonces WHERE payer = ? AND nonce = ? AND until > ?"
_USE: Final = "INSERT OR REPLACE INTO x402_nonces (payer, nonce, until) VALUES (?, ?, ?)"


def remember_grant(db: sqlite3.Connection, grant: Grant, key: str) -> None:
    """Remember what a payment bought, though another bought it already: that may be paid back."""
    db.execute(_ADD, (grant.resource, grant.payer, key))


def thin_grants(db: sqlite3.Connection, key: str) -> None:
    """Forget what a forgotten payment bought where another such bought it too: that cannot fall, and stands for both."""
    db.execute(_THIN, (key,))


def sign_in(db: sqlite3.Connection, look: _Looks, grant: Grant, nonce: str, until: Millis, now: Millis) -> SignedIn:
    """Say what a sign-in is to be told, using nothing up."""
    if until <= now or db.execute(_USED, (grant.payer, nonce, now)).fetchone() is not None:
        return SignedIn.NONCE_USED
    good = any(rows.firm(*look(db, key)) for key in _keys(db, grant.resource, grant.payer))
    return SignedIn.GRANTED if good else SignedIn.NOT_PAID


def use_nonce(db: sqlite3.Connection, payer: Address, nonce: str, until: Millis, now: Millis) -> None:
    """Use a nonce up, and forget those whose time is over."""
    db.execute("DELETE FROM x402_nonces WHERE until <= ?", (now,))
    db.execute(_USE, (payer, nonce, rows.lasting(until)))


def drop_grants(db: sqlite3.Connection, key: str) -> None:
    """Forget what a payment bought: it came to nothing."""
    db.execute("DELETE FROM x402_grants WHERE key = ?", (key,))


def _keys(db: sqlite3.Connection, resource: str, payer: Address) -> tuple[str, ...]:
    return tuple(key for (key,) in db.execute(_PAID, (resource, payer)).fetchall())
