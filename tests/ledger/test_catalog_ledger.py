"""The catalog on every ledger: what is listed, what is found, what is forgotten; and what a rival cannot do to an entry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from x402bind.ledger import Ledger
from x402core.catalog import MOST_PER_PAYEE, CatalogQuery, ResourceType
from x402core.errors import LocalProtocolError
from x402core.values import Millis

from .samples import LATER, NETWORK, NOW, entry, payer

ALL = CatalogQuery(limit=100)


def listed(ledger: Ledger, query: CatalogQuery = ALL) -> list[str]:
    return [found.key.rpartition("/")[2] for found in ledger.resources(query)[0]]


def test_what_was_listed_comes_back_whole(ledger: Ledger) -> None:
    full = entry(
        description="a\nb",
        mime_type="text/plain",
        service_name="Shop",
        tags=("x", "Y"),
        icon_url="https://shop.example/i.png",
        version=1,
        extensions={"bazaar": {"info": {"n": 1, "deep": [None, True, {"k": "\u00e9\U0001f600"}]}, "schema": {}}},
    )
    ledger.catalogue(full)
    assert ledger.resources(ALL) == ((full,), 1)
    assert ledger.search("shop", ALL) == ((full,), 1)


def test_a_newer_entry_replaces_and_an_older_one_does_not(ledger: Ledger) -> None:
    ledger.catalogue(entry(1, description="old"))
    ledger.catalogue(entry(2))
    ledger.catalogue(entry(1, description="new", at=LATER))
    ledger.catalogue(entry(1, description="late news", at=NOW))
    assert [found.description for found in ledger.resources(ALL)[0]] == ["new", ""], "in its place"
    assert ledger.search("old", ALL) == ((), 0)


def test_an_entry_is_found_by_what_it_says_now(ledger: Ledger) -> None:
    ledger.catalogue(entry())
    ledger.catalogue(entry(at=LATER, accepts=({**entry().accepts[0], "scheme": "upto"},), extensions={}, type=ResourceType.MCP))
    assert listed(ledger, CatalogQuery(scheme="upto", type=ResourceType.MCP)) == ["1"]
    for old in (CatalogQuery(scheme="exact"), CatalogQuery(extension="bazaar"), CatalogQuery(type=ResourceType.HTTP)):
        assert listed(ledger, old) == []


def test_a_rival_who_pays_himself_replaces_nobodys_entry(ledger: Ledger) -> None:
    """Anybody can pay for a URL, and name himself as the payee: that proves nothing about whose it is."""
    ledger.catalogue(entry(1, to=1))
    ledger.catalogue(entry(1, to=2, at=LATER))
    found, total = ledger.resources(CatalogQuery(pay_to=payer(1)))
    assert (found, total) == ((entry(1, to=1),), 1)


def test_of_one_payees_entries_the_oldest_are_forgotten(ledger: Ledger) -> None:
    ledger.catalogue(entry(999, to=2))
    for number in range(MOST_PER_PAYEE):
        ledger.catalogue(entry(number, at=NOW + 10 + (number * 7) % MOST_PER_PAYEE))
    ledger.catalogue(entry(500, at=LATER))
    ledger.catalogue(entry(501, at=NOW))
    found, total = ledger.resources(CatalogQuery(pay_to=payer(1), limit=100))
    assert total == MOST_PER_PAYEE
    assert {e.last_updated for e in found} == {*range(NOW + 11, NOW + 10 + MOST_PER_PAYEE), LATER}
    assert listed(ledger, CatalogQuery(pay_to=payer(2))) == ["999"], "nobody pushes another's out"


def test_pages_are_cut_from_one_order(ledger: Ledger) -> None:
    for number in (3, 1, 2, 5, 4):
        ledger.catalogue(entry(number, to=number, at=NOW + number))
    ledger.catalogue(entry(3, to=3, at=LATER))
    assert listed(ledger) == ["3", "1", "2", "5", "4"], "first listed first"
    assert listed(ledger, CatalogQuery(limit=2, offset=1)) == ["1", "2"]
    assert ledger.resources(CatalogQuery(limit=2, offset=4)) == ((entry(4, to=4, at=NOW + 4),), 5)
    assert ledger.resources(CatalogQuery(offset=9)) == ((), 5)
    found, total = ledger.search("SHOP goods", CatalogQuery(limit=3, offset=1))
    assert ([e.last_updated - NOW for e in found], total) == ([5, 4, 2], 5), "a search: the latest first"


WAYS = (
    {"scheme": "exact", "network": "eip155:1", "payTo": "0x" + "AB" * 20},
    {"scheme": "upto", "network": "base-sepolia", "payTo": "T1"},
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (CatalogQuery(type=ResourceType.HTTP), ["1", "2"]),
        (CatalogQuery(type=ResourceType.MCP), ["3"]),
        (CatalogQuery(extension="bazaar"), ["1"]),
        (CatalogQuery(extension="baza"), []),
        (CatalogQuery(extension='bazaar"\n\n"x'), []),
        (CatalogQuery(extension="x,y"), ["3"]),
        (CatalogQuery(scheme="upto"), ["2"]),
        (CatalogQuery(scheme="exact", network="eip155:1"), ["2"]),
        (CatalogQuery(scheme="upto", network="eip155:1"), []),  # no one way to pay is both
        (CatalogQuery(network=NETWORK), ["1", "2", "3"]),  # by whatever name
        (CatalogQuery(pay_to="0x" + "ab" * 20), ["2"]),
        (CatalogQuery(pay_to="t1"), []),
        (CatalogQuery(pay_to="T1", type=ResourceType.MCP), []),
        (CatalogQuery(scheme="%"), []),
    ],
)
def test_what_a_query_finds(ledger: Ledger, query: CatalogQuery, found: list[str]) -> None:
    ledger.catalogue(entry(1))
    ledger.catalogue(entry(2, accepts=WAYS, extensions={}))
    ledger.catalogue(entry(3, type=ResourceType.MCP, extensions={"x,y": {}, "x": 1}))
    assert listed(ledger, query) == found
    assert ledger.resources(query)[1] == len(found)
    assert sorted(e.key[-1] for e in ledger.search("shop.example", query)[0]) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("weather", [1]),
        ("WEATHER berlin", [1]),
        ("weather paris", []),
        ("goods/2", [2]),
        ("tagged", [2]),
        ("Straße", [1]),
        ("STRASSE", [1]),
        ("%", []),
        ("_", []),
        ("'; DROP TABLE x402_catalog; --", []),
        ("a b c d e f g h nothing-of-the-kind", []),
    ],
)
def test_a_search_looks_for_every_word(ledger: Ledger, text: str, found: list[int]) -> None:
    ledger.catalogue(entry(1, description="Weather in Berlin, Große Straße", service_name="Wetter"))
    ledger.catalogue(entry(2, tags=("Tagged",)))
    assert [int(e.key[-1]) for e in ledger.search(text, ALL)[0]] == found


def test_what_nobody_can_pay_is_not_listed(ledger: Ledger) -> None:
    with pytest.raises(LocalProtocolError, match="accepts"):
        ledger.catalogue(replace(entry(), accepts=()))
    assert ledger.resources(ALL) == ((), 0)


def test_a_payee_is_told_by_value_whatever_the_case(ledger: Ledger) -> None:
    lower = entry(to=0xAB)
    upper = replace(entry(to=0xAB, at=LATER), accepts=({**lower.accepts[0], "payTo": payer(0xAB)},))
    assert lower.accepts != upper.accepts
    ledger.catalogue(lower)
    ledger.catalogue(upper)
    assert ledger.resources(ALL) == ((upper,), 1)


def test_pruning_leaves_the_catalog(ledger: Ledger) -> None:
    ledger.catalogue(entry())
    assert ledger.prune(Millis(NOW + 10**9)) == 0
    assert listed(ledger) == ["1"]
