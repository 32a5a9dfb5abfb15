"""What holds for every extension (x402.md 3.0): the server's word stands, the client may add to it; and what facilitators say.

A client sends back what it was shown, because the server may have priced by it; a server looks whether it did.  The members
that are made anew for each challenge are left out of that look: the payment may well answer an older one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from . import builder_code, offer_receipt, sign_in
from .headers import decode_header, encode_header
from .json import Fields, Json, Writable, canonical, pointer

__all__ = ["DYNAMIC", "EXTENSION_RESPONSES", "decode_responses", "echo_problem", "encode_responses", "merge"]

EXTENSION_RESPONSES: Final = "EXTENSION-RESPONSES"
DYNAMIC: Final[Mapping[str, frozenset[str]]] = {sign_in.KEY: sign_in.DYNAMIC, offer_receipt.KEY: offer_receipt.DYNAMIC}
"""The members of each extension's ``info`` that are no two challenges' the same."""

# --- the echo --------------------------------------------------------------------------------------------------------


def merge(server: Mapping[str, Json], client: Mapping[str, Json]) -> dict[str, Json]:
    """Return the extensions of a payment: all the server's, and what the client adds where the server says nothing.

    Builder codes are the exception: service codes add up, the client's first, and the app's code is the server's alone.
    """
    merged = _merge(server, client)
    if builder_code.KEY in client:
        ours, theirs = client[builder_code.KEY], server.get(builder_code.KEY)
        merged[builder_code.KEY] = _merge_codes(merged[builder_code.KEY], _info(theirs), _info(ours))
    return merged


def _merge(server: Mapping[str, Json], client: Mapping[str, Json]) -> dict[str, Json]:
    merged = dict(server)
    for key, ours in client.items():
        theirs = server.get(key)
        if key not in server:
            merged[key] = ours
        elif isinstance(theirs, dict) and isinstance(ours, dict):
            merged[key] = _merge(theirs, ours)
    return merged


def _merge_codes(extension: Json, server: Mapping[str, Json], client: Mapping[str, Json]) -> Json:
    if not isinstance(extension, dict) or not isinstance(extension.get("info"), dict):
        return extension
    info = {key: value for key, value in _info(extension).items() if key != "a" or "a" in server}
    theirs, ours = server.get("s"), client.get("s")
    if isinstance(theirs, list) and isinstance(ours, list):
        both = ours + theirs
        kept = [code for index, code in enumerate(both) if code not in both[:index]]
        info["s"] = kept[: builder_code.ECHOED]
    return {**extension, "info": info}


def _info(extension: Json) -> Mapping[str, Json]:
    info = extension.get("info") if isinstance(extension, dict) else None
    return info if isinstance(info, dict) else {}


def echo_problem(advertised: Mapping[str, Json], echoed: Mapping[str, Json]) -> str | None:
    """Return the pointer of the first advertised member that a payment does not bring back as it was; None when all is well.

    An extension the payment leaves out passes, and so does one that was never advertised, but for the seller's own builder
    code.  The pointer is made of our own keys only.  For x402 v2 alone.  Source: x402.md 3.0.
    """
    for key, extension in advertised.items():
        found = echoed.get(key)
        if found is None or not isinstance(extension, dict) or extension.get("info") is None:
            continue
        at = pointer(pointer("/extensions", key), "info")
        info = extension["info"]
        theirs = found.get("info") if isinstance(found, dict) else None
        if not isinstance(info, dict) or not isinstance(theirs, dict):
            if not _same(info, theirs):
                return at
            continue
        for name, value in info.items():
            if value is None or name in DYNAMIC.get(key, ()):
                continue
            if not (_contains(value, theirs.get(name)) if (key, name) == _ADDED_TO else _same(value, theirs.get(name))):
                return pointer(at, name)
    return _borrowed(_info(advertised.get(builder_code.KEY)), echoed.get(builder_code.KEY))


_ADDED_TO: Final = (builder_code.KEY, "s")


def _borrowed(info: Mapping[str, Json], echoed: Json) -> str | None:
    """Point at the seller's code in a payment to a seller who named none: it would be credited with what is not its own."""
    if not isinstance(echoed, dict):
        return None
    # where it has no info, the extension itself is read for one (x402.md 7.36)
    if echoed.get("a") is not None:
        return f"/extensions/{builder_code.KEY}/a"
    if _info(echoed).get("a") is not None and info.get("a") is None:
        return f"/extensions/{builder_code.KEY}/info/a"
    return None


def _same(ours: Json, theirs: Json) -> bool:
    """Tell whether two documents say the same: 1 and 1.0 do, 1 and true do not."""
    return canonical(ours) == canonical(theirs)


def _contains(ours: Json, theirs: Json) -> bool:
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return _same(ours, theirs)
    return set(map(canonical, ours)) <= set(map(canonical, theirs))


# --- the facilitator's answers ---------------------------------------------------------------------------------------


def encode_responses(responses: Mapping[str, Writable]) -> str:
    """Write what became of each extension as the text of ``EXTENSION-RESPONSES``: facilitator to server, never to a payer.

    Raises: LocalProtocolError for what JSON cannot say.  Source: x402.md 1.4.
    """
    return encode_header(responses)


def decode_responses(text: str) -> dict[str, Json]:
    """Read an ``EXTENSION-RESPONSES`` header: each extension's answer by its key.

    Raises: RemoteProtocolError for what is not base64 of an object of objects.  Source: x402.md 1.4.
    """
    fields = Fields(decode_header(text, source=EXTENSION_RESPONSES), "", EXTENSION_RESPONSES)
    return {key: fields.object(key).document for key in fields}
