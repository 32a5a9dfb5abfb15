"""The ``bazaar`` extension (x402.md 3.3): from what a payment says of its resource to an entry of a catalog.

A facilitator lists what it was paid for.  What is listed comes from the payment, so that a payer could have written it: all
of it is checked, capped and cut to the members named here, and nothing of the payment's other extensions is listed.

Not done: ``info`` is not validated against the ``schema`` beside it, as that takes a JSON-Schema implementation; readers get
both.  Hence no ``$ref`` is ever followed here, and a schema that points outside itself is refused, so that none is followed
by whoever reads the list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from x402core.catalog import CatalogEntry, ResourceType
from x402core.errors import RemoteProtocolError
from x402core.events import Offer
from x402core.values import Millis, parse_origin

from .json import Fields, Json, Writable, dumps, loads
from .metadata import listed_icon, listed_mime_type, listed_name, listed_tags, listed_text
from .v2 import encode_offer

__all__ = [
    "KEY",
    "Discovery",
    "canonical",
    "catalog_entry",
    "decode_bazaar",
    "decode_output_schema",
    "listing",
    "route_template",
]

KEY: Final = "bazaar"
_MOST: Final = 32768  # bytes of an extension as listed
_MOST_ACCEPTS: Final = 16384  # bytes of the ways to pay
_URL: Final = 2048
_TOOL: Final = 128
_QUERIES: Final = ("GET", "HEAD", "DELETE")
_BODIES: Final = ("POST", "PUT", "PATCH")
_BODY_TYPES: Final = ("json", "form-data", "text")
_TRANSPORTS: Final = ("streamable-http", "sse")
_PARTS: Final = ("queryParams", "headers", "pathParams")
_ROUTE: Final = re.compile(r"/[a-zA-Z0-9_/:.\-~%]+", re.ASCII)
_PASSES: Final = 5
_VISIBLE: Final = re.compile(r"[!-\[\]-~\u00a1-\U0010ffff]+")
_ESCAPE: Final = re.compile(r"%[0-9a-fA-F]{2}")
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef", "$id")
# x402 v1 had no names of its own for these; its servers used all of them
_V1_QUERY: Final = ("queryParams", "query_params", "query", "params")
_V1_BODY: Final = ("bodyFields", "body_fields", "bodyParams", "body", "data", "properties")
_V1_HEADERS: Final = ("headerFields", "header_fields", "headers")
_V1_SCHEMA: Final[dict[str, Json]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"input": {"type": "object"}, "output": {"type": "object"}},
    "required": ["input"],
}


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a payment says of how its resource is called.

    ``tool`` is an MCP tool's name, ``route`` an HTTP route's template where the path has variable parts.  ``document`` is the
    extension as it is listed: ``info``, ``schema`` and ``routeTemplate``.
    """

    type: ResourceType
    tool: str
    route: str | None
    document: Mapping[str, Json]


# --- the extension ---------------------------------------------------------------------------------------------------


def decode_bazaar(document: Json, *, at: str = "", source: str = "body") -> Discovery:
    """Read a bazaar extension; a bad ``routeTemplate`` is left out, anything else that is wrong is an error.

    Raises: RemoteProtocolError with the pointer of the member at fault.  Source: x402.md 3.3.
    """
    fields = Fields(document, at, source)
    info, schema = fields.object("info"), fields.object("schema")
    asked = info.object("input")
    kind = asked.text("type", most=16)
    if kind == ResourceType.HTTP:
        _check_http(asked)
        tool = ""
    elif kind == ResourceType.MCP:
        tool = _check_mcp(asked)
    else:
        raise asked.error("type", "neither http nor mcp")
    _check_output(info)
    _check_references(schema)
    route = route_template(fields.document.get("routeTemplate")) if kind == ResourceType.HTTP else None
    listed: dict[str, Json] = {"info": info.document, "schema": schema.document}
    if route is not None:
        listed["routeTemplate"] = route
    if len(dumps(listed)) > _MOST:
        raise RemoteProtocolError(f"longer than {_MOST} bytes", pointer=at, source=source)
    return Discovery(ResourceType(kind), tool, route, listed)


def _check_http(asked: Fields) -> None:
    method = asked.text("method", most=16)
    if method in _BODIES:
        if asked.text("bodyType", most=16) not in _BODY_TYPES:
            raise asked.error("bodyType", f"not one of {', '.join(_BODY_TYPES)}")
        if "body" not in asked:
            raise asked.error("body", "missing")
    elif method not in _QUERIES:
        raise asked.error("method", f"not one of {', '.join((*_QUERIES, *_BODIES))}")
    for part in _PARTS:
        asked.object_or_none(part)


def _check_mcp(asked: Fields) -> str:
    """Return the tool's name, which the specification calls ``tool`` and the SDKs ``toolName`` (x402.md 7.35)."""
    names = {asked.text(key, most=_TOOL) for key in ("tool", "toolName") if key in asked}
    if len(names) != 1:
        raise asked.error("tool", "named twice, and differently" if names else "missing")
    (tool,) = names
    if not tool.isprintable() or not tool.strip():
        raise asked.error("tool", "not a printable name")
    _check_references(asked.object("inputSchema"))
    if asked.text_or("transport", _TRANSPORTS[0], most=32) not in _TRANSPORTS:
        raise asked.error("transport", f"not one of {', '.join(_TRANSPORTS)}")
    asked.text_or("description", "")
    return tool


def _check_output(info: Fields) -> None:
    output = info.object_or_none("output")
    if output is not None:
        output.text_or("type", "")
        output.text_or("format", "")


def _check_references(schema: Fields) -> None:
    """Refuse a schema that refers to anything outside itself."""
    stack: list[Json] = [schema.document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            for key in _REFERENCES:
                named = value.get(key)
                if isinstance(named, str) and not named.startswith("#"):
                    raise RemoteProtocolError(f"a {key} that points outside", pointer=schema.at, source=schema.source)
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def route_template(value: Json) -> str | None:
    """Return a route's template such as ``/users/:userId``, or None for anything that is none (then the path counts).

    However often it is percent-decoded, it must not climb (``..``) or name another place (``://``).
    """
    if not isinstance(value, str) or len(value) > _URL or _ROUTE.fullmatch(value) is None:
        return None
    before = value
    for _ in range(_PASSES):
        if ".." in before or "://" in before or not before.isprintable():
            return None
        after = unquote(before)
        if after == before:
            return value
        before = after
    return None  # still not at its end: nobody means that


# --- x402 v1 ---------------------------------------------------------------------------------------------------------


def decode_output_schema(requirements: Mapping[str, Json]) -> Discovery | None:
    """Read what v1 requirements say of their resource in ``outputSchema``, told as v2 would; None when they say nothing.

    None too when it is marked as not discoverable, and for whatever is no ``http`` input: v1 never fixed its form.
    Raises: RemoteProtocolError when it is too long.  Source: x402.md 3.3.
    """
    schema = requirements.get("outputSchema")
    asked = schema.get("input") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(asked, dict) or asked.get("type") != ResourceType.HTTP:
        return None
    method = asked.get("method")
    if not isinstance(method, str) or asked.get("discoverable", True) is not True:
        return None
    told = _v1_input(method.upper(), asked)
    if told is None:
        return None
    info: dict[str, Json] = {"input": told}
    output = schema.get("output")
    if isinstance(output, dict):
        info["output"] = {"type": "json", "example": output}
    return decode_bazaar({"info": info, "schema": _V1_SCHEMA}, at="/outputSchema")


def _v1_input(method: str, asked: Mapping[str, Json]) -> dict[str, Json] | None:
    told: dict[str, Json] = {"type": ResourceType.HTTP.value, "method": method}
    if method in _BODIES:
        kind = asked.get("bodyType", asked.get("body_type"))
        told["bodyType"] = kind if kind in _BODY_TYPES else "json"
        told["body"] = _first(asked, _V1_BODY) or {}
        named: Sequence[str] = _V1_QUERY[:2]  # the looser names may mean the body here
    elif method in _QUERIES:
        named = _V1_QUERY
    else:
        return None
    for part, names in (("queryParams", named), ("headers", _V1_HEADERS)):
        found = _first(asked, names)
        if found is not None:
            told[part] = found
    return told


def _first(asked: Mapping[str, Json], names: Sequence[str]) -> dict[str, Json] | None:
    found = (asked.get(name) for name in names)
    return next((value for value in found if isinstance(value, dict)), None)


# --- entries ---------------------------------------------------------------------------------------------------------


def canonical(url: str, discovery: Discovery, *, at: str = "/resource/url", source: str = "body") -> str:
    """Return the name a resource has in a catalog.

    HTTP: origin and route template, or path, without query.  MCP: the URL without fragment, ``#``, and the tool.
    Raises: RemoteProtocolError for what is not such a URL.
    """
    try:
        if len(url) > _URL or _VISIBLE.fullmatch(url) is None:
            raise RemoteProtocolError("not a URL, or too long for one")
        if discovery.type is ResourceType.MCP:
            return f"{_tool_url(url)}#{discovery.tool}"
        return parse_origin(url) + (discovery.route or _path(url))
    except RemoteProtocolError as error:
        raise RemoteProtocolError(error.text, pointer=at, source=source) from None


def _path(url: str) -> str:
    path = _ESCAPE.sub(lambda escape: escape[0].upper(), quote(urlsplit(url).path, safe="/%:@!$&'()*+,;=-._~"))
    if any(part in (".", "..") for part in path.replace("%2E", ".").split("/")):
        raise RemoteProtocolError("a path with steps in it has several names")
    return path or "/"


def _tool_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise RemoteProtocolError("not a URL") from None
    if parts.scheme == "mcp":
        return parts._replace(fragment="").geturl()
    return parse_origin(url) + _path(url) + (f"?{parts.query}" if parts.query else "")


def catalog_entry(
    resource: Json,
    accepts: Sequence[Offer | Mapping[str, Json]],
    discovery: Discovery,
    now: Millis,
    *,
    version: int = 2,
    source: str = "body",
) -> CatalogEntry:
    """Make a catalog's entry of a ResourceInfo document and the ways to pay, as they stood on the wire, the paid one first.

    Raises: RemoteProtocolError for a URL that names nothing, LocalProtocolError for an offer that cannot be written.
    """
    told = Fields(resource, "/resource", source)
    url = told.text("url", most=_URL)
    key = canonical(url, discovery, at=told.where("url"), source=source)
    ways = _ways(accepts, source)
    return CatalogEntry(
        key=key,
        resource=key if discovery.type is ResourceType.HTTP else _tool_url(url),
        type=discovery.type,
        version=version,
        accepts=ways,
        last_updated=now,
        description=listed_text(told.document.get("description")),
        mime_type=listed_mime_type(told.document.get("mimeType")),
        service_name=listed_name(told.document.get("serviceName")),
        tags=listed_tags(told.document.get("tags")),
        icon_url=listed_icon(told.document.get("iconUrl")),
        extensions={KEY: dict(discovery.document)},
    )


def _ways(accepts: Sequence[Offer | Mapping[str, Json]], source: str) -> tuple[Mapping[str, Json], ...]:
    """Return the ways to pay as plain JSON of bounded size, nothing shared with the caller."""
    written: list[Writable] = []
    for way in accepts:
        if isinstance(way, Offer):
            written.append(way.raw if way.raw is not None else encode_offer(way))
        else:
            written.append(way)
    text = dumps(written)
    if len(text) > _MOST_ACCEPTS or not written:
        what = f"longer than {_MOST_ACCEPTS} bytes" if written else "no way to pay"
        raise RemoteProtocolError(what, pointer="/paymentRequirements", source=source)
    again = loads(text, source=source)
    return tuple(way for way in again if isinstance(way, dict)) if isinstance(again, list) else ()


def listing(payload: Json, requirements: Json, now: Millis) -> CatalogEntry | None:
    """Return the entry for a payment of either version (x402.md 1.5: the members of a /settle body); None if it has none.

    List it only once the payment has settled: what is listed should have cost something.
    Raises: RemoteProtocolError that says what is wrong, fit for ``EXTENSION-RESPONSES``.
    """
    paid, asked = Fields(payload, "/paymentPayload", "body"), Fields(requirements, "/paymentRequirements", "body")
    if paid.integer("x402Version") == 1:
        found = decode_output_schema(asked.document)
        if found is None:
            return None
        names = (("url", "resource"), ("description", "description"), ("mimeType", "mimeType"))
        resource: dict[str, Json] = {ours: asked.document.get(theirs) for ours, theirs in names}
        return catalog_entry(resource, (asked.document,), found, now, version=1)
    extensions = paid.object_or_none("extensions")
    if extensions is None or KEY not in extensions:
        return None
    found = decode_bazaar(extensions.document[KEY], at=extensions.where(KEY))
    return catalog_entry(paid.object("resource").document, (asked.document,), found, now)
