"""Ledgers: where claims, settlements and transaction numbers are remembered, behind one contract."""

from __future__ import annotations

from x402core.errors import LocalProtocolError

from .contract import Entry, EntryState, Ledger, LedgerUnavailable
from .memory import MemoryLedger
from .sqlite import SqliteLedger

__all__ = ["Entry", "EntryState", "Ledger", "LedgerUnavailable", "MemoryLedger", "SqliteLedger", "open_ledger"]


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
            raise LocalProtocolError('write "memory:" (forgets on exit) or "sqlite:" and a path', field="ledger")
