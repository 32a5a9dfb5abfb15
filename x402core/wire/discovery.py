"""The discovery endpoints (x402.md 1.5): their query strings and their answers; and catalog entries as a storage keeps them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

from x402core.catalog import CatalogEntry, CatalogQuery, ResourceType, listed_network, terms
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.values import Millis

from .json import Fields, Json, Writable, dumps, loads

__all__ = [
    "decode_entry",
    "encode_entry",
    "encode_resources",
    "encode_search",
    "parse_resources",
    "parse_search",
]

VERSION: Final = 2
LIMIT: Final = 20
MOST: Final = 100
_QUERY_TEXT: Final = 4096
_SEARCH_TEXT: Final = 256
_VALUE: Final = 128
_WHERE: Final = "query"
_COUNT: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_WORD: Final = re.compile(r"[!-~]+", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 253402300799999  # the last millisecond of the year 9999
_STORED: Final = 131072


# --- requests --------------------------------------------------------------------------------------------------------


def parse_resources(query: str) -> CatalogQuery:
    """Read the query string of ``GET /discovery/resources``; parameters nobody knows are let be, empty ones are absent.

    Raises: RemoteProtocolError (status 400, source ``query``) with the parameter's pointer.
    """
    found = _parameters(query)
    return _asked(found, _count(found, "offset", 0, 10**9 - 1, 0))


def parse_search(query: str) -> tuple[str, CatalogQuery]:
    """Read the query string of ``GET /discovery/search``: what to look for, and where; the cursor is an offset.

    Raises: RemoteProtocolError as :func:`parse_resources` does.
    """
    found = _parameters(query)
    text = found.get("query", "")
    if not terms(text):
        raise _bad("query", "missing")
    if len(text) > _SEARCH_TEXT:
        raise _bad("query", f"longer than {_SEARCH_TEXT} characters")
    return text, _asked(found, _count(found, "cursor", 0, 10**9 - 1, 0))


def _asked(found: Mapping[str, str], offset: int) -> CatalogQuery:
    kind = found.get("type")
    if kind is not None and kind not in tuple(ResourceType):
        raise _bad("type", "neither http nor mcp")
    pay_to, network = _word(found, "payTo"), _word(found, "network")
    return CatalogQuery(
        type=None if kind is None else ResourceType(kind),
        pay_to=pay_to.lower() if pay_to is not None and pay_to[:2] in ("0x", "0X") else pay_to,
        scheme=_word(found, "scheme"),
        network=None if network is None else listed_network(network),
        extension=_word(found, "extensions"),
        limit=_count(found, "limit", 1, MOST, LIMIT),
        offset=offset,
    )


def _parameters(query: str) -> dict[str, str]:
    if len(query) > _QUERY_TEXT:
        raise _bad("", f"longer than {_QUERY_TEXT} characters")
    try:
        query.encode("utf-8")
        pairs = parse_qsl(query, errors="strict", max_num_fields=32)
    except ValueError:  # UnicodeError is one
        raise _bad("", "not percent-encoded UTF-8, or too many parameters") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise _bad(name, "given twice") if name.isprintable() else _bad("", "a parameter is given twice")
        found[name] = value
    return found


def _word(found: Mapping[str, str], name: str) -> str | None:
    value = found.get(name)
    if value is not None and (len(value) > _VALUE or _WORD.fullmatch(value) is None):
        raise _bad(name, f"expected at most {_VALUE} printable ASCII characters")
    return value


def _count(found: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    value = found.get(name)
    if value is None:
        return default
    if _COUNT.fullmatch(value) is None or not least <= int(value) <= most:
        raise _bad(name, f"expected a whole number from {least} to {most}")
    return int(value)


def _bad(name: str, message: str) -> RemoteProtocolError:
    pointer = f"/{name[:_VALUE].replace('~', '~0').replace('/', '~1')}" if name else ""
    return RemoteProtocolError(message, pointer=pointer, source=_WHERE)


# --- answers ---------------------------------------------------------------------------------------------------------


def encode_resources(entries: tuple[CatalogEntry, ...], total: int, query: CatalogQuery) -> bytes:
    """Write the answer of ``GET /discovery/resources`` as JSON; ``total`` counts every match."""
    pagination = {"limit": query.limit, "offset": query.offset, "total": total}
    return dumps({"x402Version": VERSION, "items": [_item(entry) for entry in entries], "pagination": pagination})


def encode_search(entries: tuple[CatalogEntry, ...], total: int, query: CatalogQuery) -> bytes:
    """Write the answer of ``GET /discovery/search`` as JSON, with a cursor where there is more."""
    after = query.offset + len(entries)
    cursor = str(after) if entries and after < total else None
    pagination = {"limit": query.limit, "cursor": cursor}
    return dumps({"x402Version": VERSION, "resources": [_item(entry) for entry in entries], "pagination": pagination})


def _item(entry: CatalogEntry) -> dict[str, Writable]:
    item: dict[str, Writable] = {
        "resource": entry.resource,
        "type": entry.type,
        "x402Version": entry.version,
        "accepts": entry.accepts,
        "lastUpdated": _iso(entry.last_updated),
    }
    optional: dict[str, Writable] = {
        "description": entry.description,
        "mimeType": entry.mime_type,
        "serviceName": entry.service_name,
        "tags": entry.tags,
        "iconUrl": entry.icon_url,
        "extensions": entry.extensions,
    }
    return {**item, **{name: value for name, value in optional.items() if value}}


def _iso(at: Millis) -> str:
    """Return Unix milliseconds as ISO 8601 in UTC; a clock beyond the year 9999 shows its last moment."""
    moment = _EPOCH + timedelta(milliseconds=min(max(at, 0), _LATEST))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


# --- entries in a storage --------------------------------------------------------------------------------------------


def encode_entry(entry: CatalogEntry) -> bytes:
    """Write an entry for a storage.  Raises: LocalProtocolError for what JSON cannot say."""
    return dumps({"v": 1, "key": entry.key, "at": entry.last_updated, "item": _item(entry)})


def decode_entry(data: bytes) -> CatalogEntry:
    """Read a stored entry.  Raises: LocalProtocolError naming the member that is not as :func:`encode_entry` writes."""
    try:
        fields = Fields(loads(data, most=_STORED, depth=48))
        if fields.integer("v") != 1:
            raise fields.error("v", "written by a version this release cannot read")
        return _read_entry(fields, fields.object("item"))
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"a catalog entry is damaged or foreign: {error.text}", field=error.pointer) from None


def _read_entry(fields: Fields, item: Fields) -> CatalogEntry:
    kind = item.text("type")
    if kind not in tuple(ResourceType):
        raise item.error("type", "not a type this release knows")
    extensions = item.object_or_none("extensions")
    document: dict[str, Json] = {} if extensions is None else extensions.document
    return CatalogEntry(
        key=fields.text("key"),
        resource=item.text("resource"),
        type=ResourceType(kind),
        version=item.integer("x402Version"),
        accepts=tuple(way.document for way in item.objects("accepts")),
        last_updated=Millis(fields.integer("at")),
        description=item.text_or("description", ""),
        mime_type=item.text_or("mimeType", ""),
        service_name=item.text_or("serviceName", ""),
        tags=tuple(item.texts("tags")) if "tags" in item else (),
        icon_url=item.text_or("iconUrl", ""),
        extensions=document,
    )
