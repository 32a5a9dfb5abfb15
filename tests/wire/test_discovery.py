"""The discovery endpoints: what may be asked, and how the catalog answers."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from x402core.catalog import CatalogEntry, CatalogQuery, ResourceType, terms
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.values import Millis
from x402core.wire.discovery import (
    decode_entry,
    encode_entry,
    encode_resources,
    encode_search,
    parse_resources,
    parse_search,
)

ENTRY = CatalogEntry(
    "https://a.example/x", "https://a.example/x", ResourceType.HTTP, 2, ({"scheme": "exact", "payTo": "0xAB"},), Millis(1)
)
FULL = replace(
    ENTRY,
    description="d",
    mime_type="text/plain",
    service_name="S",
    tags=("t", "u"),
    icon_url="https://a.example/i",
    extensions={"bazaar": {"info": {"n": Decimal("1.5"), "big": 2**200}}},
    last_updated=Millis(1_788_220_800_123),
)


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", CatalogQuery()),
        ("limit=&offset=&type=", CatalogQuery()),
        ("unknown=1", CatalogQuery()),
        ("limit=100&offset=999999999", CatalogQuery(limit=100, offset=999_999_999)),
        ("limit=1", CatalogQuery(limit=1)),
        ("type=mcp", CatalogQuery(type=ResourceType.MCP)),
        ("payTo=0XAbC", CatalogQuery(pay_to="0xabc")),
        ("payTo=So1aNa", CatalogQuery(pay_to="So1aNa")),
        ("network=eip155%3A84532", CatalogQuery(network="eip155:84532")),
        ("network=base-sepolia", CatalogQuery(network="eip155:84532")),
        ("network=nowhere", CatalogQuery(network="nowhere")),
        ("scheme=exact&extensions=bazaar", CatalogQuery(scheme="exact", extension="bazaar")),
    ],
)
def test_what_may_be_asked(query: str, asked: CatalogQuery) -> None:
    assert parse_resources(query) == asked
    assert CatalogQuery().limit == 20


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("limit=0", "/limit"),
        ("limit=101", "/limit"),
        ("limit=-1", "/limit"),
        ("limit=1_0", "/limit"),
        ("limit=1e1", "/limit"),
        ("limit=+10", "/limit"),
        ("limit=%D9%A1", "/limit"),
        ("offset=-1", "/offset"),
        ("offset=" + "9" * 5000, ""),
        ("offset=9999999999", "/offset"),
        ("type=ftp", "/type"),
        ("type=HTTP", "/type"),
        ("scheme=a%20b", "/scheme"),
        ("scheme=" + "a" * 129, "/scheme"),
        ("network=%00", "/network"),
        ("extensions=%C3%A9", "/extensions"),
        ("payTo=a%0Ab", "/payTo"),
        ("limit=1&limit=2", "/limit"),
        ("a~/b=1&a~/b=2", "/a~0~1b"),
        ("%00=1&%00=2", ""),
        ("x=%ff", ""),
        ("x=\ud800", ""),
        ("&".join(f"p{n}=1" for n in range(40)), ""),
    ],
)
def test_hostile_query_is_a_named_error(query: str, at: str) -> None:
    for parse in (parse_resources, lambda text: parse_search(f"query=x&{text}".replace("offset", "cursor"))):
        with pytest.raises(RemoteProtocolError) as caught:
            parse(query)
        assert (caught.value.source, caught.value.status) == ("query", 400)
        assert caught.value.pointer == at.replace("offset", "cursor" if parse is not parse_resources else "offset")


def test_a_search_needs_words() -> None:
    assert parse_search("query=Weather+Berlin&cursor=40&limit=2") == ("Weather Berlin", CatalogQuery(limit=2, offset=40))
    for query in ("", "query=", "query=%20%09", "query=" + "a" * 257):
        with pytest.raises(RemoteProtocolError) as caught:
            parse_search(query)
        assert caught.value.pointer == "/query"


def test_words_are_folded_and_counted() -> None:
    assert terms(" Straße STRASSE  x ") == ("strasse", "x")
    assert len(terms(" ".join(map(str, range(99))))) == 8


def test_a_page_of_the_catalog() -> None:
    page = json.loads(encode_resources((ENTRY, FULL), 7, CatalogQuery(limit=2, offset=4)))
    assert page["x402Version"] == 2
    assert page["pagination"] == {"limit": 2, "offset": 4, "total": 7}
    bare, full = page["items"]
    assert bare == {
        "resource": "https://a.example/x",
        "type": "http",
        "x402Version": 2,
        "accepts": [{"scheme": "exact", "payTo": "0xAB"}],
        "lastUpdated": "1970-01-01T00:00:00.001Z",
    }
    assert full["lastUpdated"] == "2026-09-01T00:00:00.123Z"
    assert full["tags"] == ["t", "u"]
    assert set(full) - set(bare) == {"description", "mimeType", "serviceName", "tags", "iconUrl", "extensions"}


@pytest.mark.parametrize(
    ("offset", "total", "cursor"), [(0, 5, "2"), (2, 5, "4"), (3, 5, None), (0, 2, None)], ids=["first", "next", "last", "all"]
)
def test_a_search_says_where_to_go_on(offset: int, total: int, cursor: str | None) -> None:
    page = json.loads(encode_search((ENTRY, FULL), total, CatalogQuery(limit=2, offset=offset)))
    assert [found["resource"] for found in page["resources"]] == ["https://a.example/x"] * 2
    assert page["pagination"] == {"limit": 2, "cursor": cursor}


def test_nothing_found_goes_on_nowhere() -> None:
    page = json.loads(encode_search((), 9, CatalogQuery(offset=50)))
    assert page == {"x402Version": 2, "resources": [], "pagination": {"limit": 20, "cursor": None}}


@pytest.mark.parametrize("at", [0, 10**18, -5])
def test_any_clock_can_be_written(at: int) -> None:
    assert encode_resources((replace(ENTRY, last_updated=Millis(at)),), 1, CatalogQuery())


@pytest.mark.parametrize("entry", [ENTRY, FULL], ids=["bare", "full"])
def test_a_stored_entry_comes_back(entry: CatalogEntry) -> None:
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"v":2}',
        encode_entry(ENTRY).replace(b'"http"', b'"ftp"'),
        encode_entry(ENTRY).replace(b'"accepts"', b'"a"'),
        encode_entry(ENTRY)[:-1],
    ],
)
def test_a_damaged_entry_is_told(data: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="catalog entry"):
        decode_entry(data)
