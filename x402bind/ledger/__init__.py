"""Ledgers: where claims, settlements and transaction numbers are remembered, behind one contract."""

from __future__ import annotations

from typing import Final

from x402core.errors import LocalProtocolError

from .contract import Entry, EntryState, Ledger, LedgerUnavailable
from .memory import MemoryLedger
from .sqlite import SqliteLedger

__all__ = ["Entry", "EntryState", "Ledger", "LedgerUnavailable", "MemoryLedger", "SqliteLedger", "ledger_of", "open_ledger"]

_HOW: Final = 'write "memory:" (forgets on exit) or "sqlite:" and a path'


def open_ledger(url: str) -> Ledger:
    """Open the ledger a configuration names: ``memory:`` or ``sqlite:path/to/file``.

    Raises: LocalProtocolError naming what to write; LedgerUnavailable when the storage cannot be used.
    """
    kind, colon, rest = url.partition(":")
    match kind, colon, rest:
        case "memory", ":", "":
            return MemoryLedger()
        case "sqlite", ":", path if path:
            return SqliteLedger(path)
        case _:
            raise LocalProtocolError(_HOW, field="ledger")


def ledger_of(value: str | Ledger) -> Ledger:
    """Return the ledger a user wrote, or one of their own.  Raises: as :func:`open_ledger`."""
    if isinstance(value, str):
        return open_ledger(value)
    if not callable(getattr(value, "claim", None)):
        kind = "None" if value is None else type(value).__name__
        raise LocalProtocolError(f"{kind} is no ledger: {_HOW}", field="ledger")
    return value
