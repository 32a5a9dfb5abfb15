"""The bazaar extension: what a payment says of its resource, as a catalog's entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from x402core.catalog import CatalogEntry, ListedOffer, ResourceType
from x402core.errors import RemoteProtocolError
from x402core.values import Millis
from x402core.wire.bazaar import KEY, canonical, catalog_entry, decode_bazaar, decode_output_schema, listing, route_template
from x402core.wire.json import Json

NOW = Millis(1_788_220_800_000)
SCHEMA: dict[str, Json] = {"type": "object", "properties": {"input": {"$ref": "#/$defs/in"}}, "$defs": {"in": {}}}
QUERY: dict[str, Json] = {"type": "http", "method": "GET", "queryParams": {"city": "Berlin"}}
BODY: dict[str, Json] = {"type": "http", "method": "POST", "bodyType": "json", "body": {"q": 1}}
TOOL: dict[str, Json] = {"type": "mcp", "tool": "forecast", "inputSchema": {"type": "object"}}
WAY: dict[str, Json] = {"scheme": "exact", "network": "eip155:84532", "payTo": "0x" + "AB" * 20, "amount": "10"}
WAY_V1: dict[str, Json] = {
    "scheme": "exact",
    "network": "base-sepolia",
    "payTo": "0x" + "ab" * 20,
    "maxAmountRequired": "10",
    "resource": "https://api.example/v1/weather?city=Berlin",
    "description": "weather",
    "mimeType": "application/json",
    "outputSchema": {"input": {"type": "http", "method": "GET", "query_params": {"city": "string"}}, "output": {"t": "number"}},
}


def extension(asked: Mapping[str, Json], **more: Json) -> dict[str, Json]:
    return {"info": {"input": dict(asked), "output": {"type": "json", "example": {"t": 1}}}, "schema": SCHEMA, **more}


def entry(asked: Mapping[str, Json], url: str, **more: Json) -> CatalogEntry:
    return catalog_entry({"url": url}, (WAY,), decode_bazaar(extension(asked, **more)), NOW)


@pytest.mark.parametrize(
    "asked", [QUERY, BODY, TOOL, {**BODY, "bodyType": "text", "body": ""}, {"type": "http", "method": "HEAD"}]
)
def test_a_good_extension_is_listed_as_it_is(asked: dict[str, Json]) -> None:
    found = decode_bazaar(extension(asked, surplus=1))
    assert found.document == extension(asked), "members nobody named are not listed"
    assert found.type == asked["type"]


@pytest.mark.parametrize("name", ["tool", "toolName"])
def test_a_tool_goes_by_either_name(name: str) -> None:
    asked = {"type": "mcp", name: "forecast", "inputSchema": {}, "transport": "sse"}
    assert decode_bazaar(extension(asked)).tool == "forecast"
    assert decode_bazaar(extension({**TOOL, "toolName": "forecast"})).tool == "forecast"


BAD: list[tuple[Any, str]] = [
    (None, ""),
    ({"schema": {}}, "/info"),
    ({"info": {"input": QUERY}}, "/schema"),
    ({"info": {"input": QUERY}, "schema": []}, "/schema"),
    (extension({**QUERY, "type": "ftp"}), "/info/input/type"),
    (extension({"type": "http"}), "/info/input/method"),
    (extension({**QUERY, "method": "get"}), "/info/input/method"),
    (extension({**QUERY, "method": "CONNECT"}), "/info/input/method"),
    (extension({**QUERY, "queryParams": "city"}), "/info/input/queryParams"),
    (extension({**QUERY, "headers": []}), "/info/input/headers"),
    (extension({**QUERY, "pathParams": 1}), "/info/input/pathParams"),
    (extension({**BODY, "bodyType": "xml"}), "/info/input/bodyType"),
    (extension({"type": "http", "method": "PUT", "body": {}}), "/info/input/bodyType"),
    (extension({"type": "http", "method": "PATCH", "bodyType": "json"}), "/info/input/body"),
    (extension({"type": "mcp", "inputSchema": {}}), "/info/input/tool"),
    (extension({**TOOL, "toolName": "another"}), "/info/input/tool"),
    (extension({**TOOL, "tool": "a\nb"}), "/info/input/tool"),
    (extension({**TOOL, "tool": " "}), "/info/input/tool"),
    (extension({"type": "mcp", "tool": "t"}), "/info/input/inputSchema"),
    (extension({**TOOL, "transport": "stdio"}), "/info/input/transport"),
    ({"info": {"input": QUERY, "output": 1}, "schema": {}}, "/info/output"),
    ({"info": {"input": QUERY, "output": {"type": 1}}, "schema": {}}, "/info/output/type"),
    (extension({**QUERY, "queryParams": {"x": "y" * 40_000}}), ""),
]


@pytest.mark.parametrize(("document", "at"), BAD, ids=[at or "whole" for _, at in BAD])
def test_a_bad_extension_is_named(document: Any, at: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_bazaar(document, at="/extensions/bazaar")
    assert caught.value.pointer == f"/extensions/bazaar{at}"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://evil.example/s.json"},
        {"properties": {"a": {"items": [{"$ref": "other.json#/a"}]}}},
        {"$id": "https://evil.example/"},
        {"$dynamicRef": "x"},
    ],
)
def test_hostile_schema_that_points_outside_is_not_passed_on(schema: dict[str, Json]) -> None:
    with pytest.raises(RemoteProtocolError, match="points outside"):
        decode_bazaar({"info": {"input": QUERY}, "schema": schema})
    with pytest.raises(RemoteProtocolError, match="points outside"):
        decode_bazaar(extension({**TOOL, "inputSchema": schema}))


def test_a_property_may_be_called_like_a_reference() -> None:
    assert decode_bazaar({"info": {"input": QUERY}, "schema": {"properties": {"$ref": {"type": "string"}}}})


@pytest.mark.parametrize("route", ["/users/:userId", "/a", "/a/:b/c.json", "/~x/%20/", "/%41", "/a-b_c.d"])
def test_a_route_template_is_taken(route: str) -> None:
    assert route_template(route) == route


HOSTILE_ROUTES = [
    None,
    7,
    "",
    "/",
    "users",
    "//x y",
    "/a?b",
    "/a#b",
    "/a\n",
    "/é",
    "/..",
    "/a/../b",
    "/%2e%2e/x",
    "/%252e%252e/x",
    "/%25252e%25252e",
    "/http://evil.example",
    "/http:%2f%2fevil.example",
    "/http%3A%252F%252Fevil",
    "/%00",
    "/%0a",
    "/%2525252525252541",
    "/" + "a" * 3000,
]


@pytest.mark.parametrize("route", HOSTILE_ROUTES)
def test_hostile_route_template_is_ignored(route: Json) -> None:
    assert route_template(route) is None
    found = entry(QUERY, "https://api.example/users/7", routeTemplate=route)
    assert found.key == "https://api.example/users/7"
    assert "routeTemplate" not in found.extensions[KEY]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://api.example/users/7?q=1#x", "https://api.example/users/7"),
        ("HTTPS://API.example:443", "https://api.example/"),
        ("http://api.example:8080/a//b/", "http://api.example:8080/a//b/"),
        ("https://api.example/a%2fb/é", "https://api.example/a%2Fb/%C3%A9"),
    ],
)
def test_a_resource_has_one_name(url: str, key: str) -> None:
    found = entry(QUERY, url)
    assert (found.key, found.resource) == (key, key)


def test_a_route_names_all_its_paths() -> None:
    found = [entry(QUERY, f"https://api.example/users/{n}?x", routeTemplate="/users/:userId") for n in (1, 2)]
    assert found[0] == found[1]
    assert found[0].key == "https://api.example/users/:userId"
    assert found[0].extensions[KEY]["routeTemplate"] == "/users/:userId"  # type: ignore[call-overload,index]


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("mcp://tool/forecast", "mcp://tool/forecast#forecast"),
        ("https://mcp.example/sse?k=1#f", "https://mcp.example/sse?k=1#forecast"),
    ],
)
def test_a_tool_is_named_by_url_and_tool(url: str, key: str) -> None:
    found = entry(TOOL, url, routeTemplate="/users/:userId")
    assert (found.key, found.resource + "#forecast") == (key, key)
    assert "routeTemplate" not in found.extensions[KEY]  # type: ignore[operator]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/a",
        "ftp://api.example/",
        "mcp://tool/x",
        "https://",
        "https://user@api.example/",
        "https://api.example:99999/",
        "https://api.example/a b",
        "https://api.example/\na",
        "https://api.example\\@evil.example/",
        "https://api.example/a/../b",
        "https://api.example/%2e%2E/b",
        "https://api.example/./b",
        "https://[::1/",
        "https://api.example/" + "a" * 3000,
        "javascript:alert(1)",
    ],
)
def test_hostile_url_names_nothing(url: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        entry(QUERY, url)
    assert caught.value.pointer == "/resource/url"
    with pytest.raises(RemoteProtocolError):
        canonical("javascript:alert(1)", decode_bazaar(extension(TOOL)))


def settle_body(**more: Json) -> dict[str, Json]:
    resource: dict[str, Json] = {"url": "https://api.example/weather", "description": "w", "serviceName": "W", "tags": ["a", 1]}
    return {"x402Version": 2, "resource": resource, "extensions": {KEY: extension(QUERY), "other": {"secret": 1}}, **more}


def test_a_v2_payment_is_listed() -> None:
    found = listing(settle_body(), WAY, NOW)
    assert found is not None
    assert found.key == "https://api.example/weather"
    assert (found.version, found.last_updated, found.accepts) == (2, NOW, (WAY,))
    assert (found.description, found.service_name, found.tags) == ("w", "W", ("a",))
    assert found.extensions == {KEY: extension(QUERY)}, "nothing else that the payment carried"
    assert found.offers == (ListedOffer("exact", "eip155:84532", "0x" + "ab" * 20),)
    assert found.payee == "0x" + "ab" * 20


def test_a_payment_without_the_extension_is_not_listed() -> None:
    assert listing(settle_body(extensions={"other": {}}), WAY, NOW) is None
    assert listing(settle_body(extensions=None), WAY, NOW) is None
    assert listing({"x402Version": 1}, {**WAY_V1, "outputSchema": None}, NOW) is None


@pytest.mark.parametrize(
    ("body", "at"),
    [
        (settle_body(resource=None), "/paymentPayload/resource"),
        (settle_body(extensions={KEY: 1}), "/paymentPayload/extensions/bazaar"),
        ({}, "/paymentPayload/x402Version"),
    ],
)
def test_what_keeps_a_payment_off_the_list_is_named(body: dict[str, Json], at: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        listing(body, WAY, NOW)
    assert caught.value.pointer == at


def test_a_v1_payment_is_listed_as_v2_would_say_it() -> None:
    found = listing({"x402Version": 1}, WAY_V1, NOW)
    assert found is not None
    assert (found.key, found.version) == ("https://api.example/v1/weather", 1)
    assert (found.description, found.mime_type) == ("weather", "application/json")
    assert found.accepts == (WAY_V1,)
    assert found.offers[0].network == "eip155:84532"
    told = found.extensions[KEY]
    assert isinstance(told, dict)
    assert told["info"] == {
        "input": {"type": "http", "method": "GET", "queryParams": {"city": "string"}},
        "output": {"type": "json", "example": {"t": "number"}},
    }


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"method": "get", "params": {"a": 1}}, {"method": "GET", "queryParams": {"a": 1}}),
        ({"method": "GET", "query": {}, "headers": {"H": "x"}}, {"method": "GET", "queryParams": {}, "headers": {"H": "x"}}),
        ({"method": "POST", "data": {"a": 1}}, {"method": "POST", "bodyType": "json", "body": {"a": 1}}),
        ({"method": "PUT", "bodyType": "text"}, {"method": "PUT", "bodyType": "text", "body": {}}),
        (
            {"method": "POST", "body_fields": {"a": 1}, "body": {"b": 1}},
            {"method": "POST", "bodyType": "json", "body": {"a": 1}},
        ),
        (
            {"method": "POST", "query_params": {"q": 1}},
            {"method": "POST", "bodyType": "json", "body": {}, "queryParams": {"q": 1}},
        ),
        ({"method": "GET", "discoverable": True}, {"method": "GET"}),
        ({"method": "GET", "discoverable": False}, None),
        ({"method": "GET", "discoverable": "yes"}, None),
        ({"method": "TRACE"}, None),
        ({}, None),
        ({"method": 1}, None),
        ({"method": "GET", "type": "mcp"}, None),
    ],
)
def test_v1_said_it_in_many_ways(asked: dict[str, Json], told: dict[str, Json] | None) -> None:
    found = decode_output_schema({"outputSchema": {"input": {"type": "http", **asked}}})
    if told is None:
        assert found is None
    else:
        assert found is not None
        assert found.document["info"] == {"input": {"type": "http", **told}}


@pytest.mark.parametrize("schema", [None, 1, [], {}, {"input": None}, {"input": []}])
def test_v1_that_says_nothing_lists_nothing(schema: Json) -> None:
    assert decode_output_schema({"outputSchema": schema}) is None
    assert decode_output_schema({}) is None


def test_an_entry_has_a_bound() -> None:
    for ways in ((), ({**WAY, "extra": "x" * 20_000},)):
        with pytest.raises(RemoteProtocolError) as caught:
            catalog_entry({"url": "https://a.example/"}, ways, decode_bazaar(extension(QUERY)), NOW)
        assert caught.value.pointer == "/paymentRequirements"


def test_an_entry_shares_nothing_with_the_payment() -> None:
    way = dict(WAY)
    found = catalog_entry({"url": "https://a.example/"}, (way,), decode_bazaar(extension(QUERY)), NOW)
    way["payTo"] = "0x" + "00" * 20
    assert found.accepts == (WAY,)
    assert found.type is ResourceType.HTTP
