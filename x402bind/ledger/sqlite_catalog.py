"""The catalog in the SQLite ledger's file: entries as ``x402core.wire.discovery`` writes them, columns to find them by."""

from __future__ import annotations

import sqlite3
from typing import Final

from x402core.catalog import MOST_PER_PAYEE, CatalogEntry, CatalogQuery, terms
from x402core.wire.discovery import encode_entry
from x402core.wire.json import dumps

from . import rows

__all__ = ["find", "list_entry", "search"]

_UPSERT: Final = """INSERT INTO x402_catalog (key, payee, type, updated, extensions, words, body) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key, payee) DO UPDATE SET type = excluded.type, updated = excluded.updated,
        extensions = excluded.extensions, words = excluded.words, body = excluded.body
    WHERE x402_catalog.updated <= excluded.updated RETURNING seq"""
_OFFER: Final = "INSERT INTO x402_catalog_offers (entry, scheme, network, pay_to) VALUES (?, ?, ?, ?)"
_EXCESS: Final = "SELECT seq FROM x402_catalog WHERE payee = ? ORDER BY updated DESC, seq DESC LIMIT -1 OFFSET ?"


def list_entry(db: sqlite3.Connection, entry: CatalogEntry) -> None:
    """List an entry unless a newer one of its key and payee stands; forget the payee's oldest beyond the bound."""
    row = (rows.listable(entry).key, entry.payee, entry.type, entry.last_updated, _lines(*entry.extensions), entry.words)
    written = db.execute(_UPSERT, (*row, encode_entry(entry))).fetchone()
    if written is None:
        return
    (seq,) = written
    _drop_offers(db, seq)
    db.executemany(_OFFER, [(seq, *offer) for offer in entry.offers])
    for (old,) in db.execute(_EXCESS, (entry.payee, MOST_PER_PAYEE)).fetchall():
        _drop_offers(db, old)
        db.execute("DELETE FROM x402_catalog WHERE seq = ?", (old,))


def find(db: sqlite3.Connection, query: CatalogQuery) -> tuple[tuple[bytes, ...], int]:
    """Return the encoded entries of a query's part, first listed first, and how many match in all."""
    return _select(db, query, "seq", ())


def search(db: sqlite3.Connection, text: str, query: CatalogQuery) -> tuple[tuple[bytes, ...], int]:
    """Return the same of the entries that have every word of the text, the latest first."""
    return _select(db, query, "updated DESC, seq", terms(text))


def _select(db: sqlite3.Connection, query: CatalogQuery, order: str, words: tuple[str, ...]) -> tuple[tuple[bytes, ...], int]:
    where, values = _where(query, words)
    ((total,),) = db.execute(f"SELECT count(*) FROM x402_catalog WHERE {where}", values)
    page = f"SELECT body FROM x402_catalog WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
    found = db.execute(page, (*values, query.limit, query.offset)).fetchall()
    return tuple(body for (body,) in found), total


def _where(query: CatalogQuery, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the condition, made of our own words only, and the values it asks for."""
    columns = {"scheme": query.scheme, "network": query.network, "pay_to": query.pay_to}
    asked = {column: value for column, value in columns.items() if value is not None}
    parts = ["instr(words, ?) > 0" for _ in words]
    values = list(words)
    if query.type is not None:
        parts.append("type = ?")
        values.append(query.type)
    if query.extension is not None:
        parts.append("instr(extensions, ?) > 0")
        values.append(_lines(query.extension))
    if asked:
        fits = " AND ".join(f"{column} = ?" for column in asked)
        parts.append(f"seq IN (SELECT entry FROM x402_catalog_offers WHERE {fits})")
        values += asked.values()
    return " AND ".join(parts) or "1", tuple(values)


def _lines(*names: str) -> str:
    """Return names one a line, each as JSON, so that none can be taken for part of another or for two."""
    return "".join(f"\n{dumps(name).decode()}\n" for name in names)


def _drop_offers(db: sqlite3.Connection, entry: int) -> None:
    db.execute("DELETE FROM x402_catalog_offers WHERE entry = ?", (entry,))
