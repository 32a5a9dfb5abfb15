"""Strict JSON, shared by every dialect: one document has one meaning, or it is refused.

Two peers that read a duplicated ``"to"`` or a rounded ``"value"`` differently are a payment bug, so :func:`loads`
refuses what the standard decoder lets through (models.md 9.2): duplicate keys, ``NaN``, ``1e999``, 5,000-digit numbers,
bottomless nesting, lone surrogates, UTF-16, a byte order mark.  A fraction is read as the exact ``Decimal`` that was
written; a binary float never exists.  Whatever the bytes, the outcome is a value or one
:class:`~x402core.errors.RemoteProtocolError`.
"""

from __future__ import annotations

import json as _json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from json.encoder import encode_basestring as _quote
from typing import Final, NoReturn, TypeAlias, TypeVar

from x402core.errors import LocalProtocolError, RemoteProtocolError

from .fields import Fields, Item, Json, pointer

__all__ = ["Fields", "Item", "Json", "Writable", "canonical", "dumps", "loads", "pointer"]

Writable: TypeAlias = "bool | int | Decimal | str | Sequence[Writable] | Mapping[str, Writable] | None"
"""What :func:`dumps` takes: :data:`Json`, and tuples and read-only mappings as well."""

T = TypeVar("T")

_DIGITS: Final = 78  # as many as 2**256 has, on each side of the point
_FRACTION_TEXT: Final = 2 * _DIGITS + 8  # sign, point, "e-123", some slack; longer is refused before it is read
_EXPONENT = re.compile(r"[eE][-+]?0*+[0-9]{4}", re.ASCII)
_WRITE_DEPTH: Final = 128  # a cycle, or nothing we ever build
_POINTER_TEXT: Final = 256
# Strings are skipped whole and possessively: without that, `"\"\"\"...` left open would take quadratic time.
_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|([\[{])|([\]}])', re.DOTALL)


# --- reading ---------------------------------------------------------------------------------------------------------


class _Doubt(Exception):
    """A number or an object the strict reader will not take; :func:`_explain` finds out where."""


class _Bad:
    """The place of a refused value, in the second reading that looks for its pointer."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


def _integer(text: str) -> int:
    if len(text) - text.startswith("-") > _DIGITS:
        raise _Doubt(f"a number of more than {_DIGITS} digits")
    return int(text)


def _fraction(text: str) -> Decimal:
    if len(text) > _FRACTION_TEXT or _EXPONENT.search(text):
        raise _Doubt("a number too long or too large to be meant")
    number = Decimal(text)  # exact: the constructor takes no notice of the caller's decimal context
    if not _plain(number):
        raise _Doubt(f"a number of more than {_DIGITS} digits on a side of the point")
    return number


def _plain(number: Decimal) -> bool:
    """Tell whether a finite number, written without an exponent, has at most 78 digits on each side of the point."""
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_DIGITS and number.adjusted() < _DIGITS


def _constant(name: str) -> NoReturn:
    raise _Doubt(f"{name.lstrip('-')} is not JSON")


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Doubt("the same key twice in one object")
    return found


_STRICT = _json.JSONDecoder(parse_int=_integer, parse_float=_fraction, parse_constant=_constant, object_pairs_hook=_pairs)


_DEEPEST: Final = 512
"""No caller gets more: some packages raise Python's recursion limit so far that the decoder overruns the C stack."""


def loads(data: bytes, *, most: int = 65536, depth: int = 32, source: str = "body") -> Json:
    """Read one JSON document of at most ``most`` bytes and ``depth`` (512 at most) nested arrays and objects.

    Whole numbers come as ``int`` (at most 78 digits), others as the exact ``Decimal`` that was written (at most 78
    digits on each side of the point).  ``source`` names the document in the error: ``body``, or a header's name.

    Raises: RemoteProtocolError (status 413 for too many bytes, else 400) and nothing else, whatever the bytes; its
    pointer names the value at fault where the document could be read that far.  Source: RFC 8259; models.md 9.2.
    """
    if len(data) > most:
        raise RemoteProtocolError(f"longer than {most} bytes", source=source, status=413)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"not UTF-8 (byte {error.start})", source=source) from None
    if text.startswith("\ufeff"):
        raise RemoteProtocolError("JSON must not begin with a byte order mark", source=source)
    depth = min(depth, _DEEPEST)
    if _deeper(text, depth):
        raise RemoteProtocolError(f"nested deeper than {depth}", source=source)
    try:
        document: Json = _STRICT.decode(text)
        # Only an escape can smuggle half a surrogate pair past strict UTF-8.
        fault = _fault(document) if "\\ud" in text or "\\uD" in text else None
    except _Doubt as doubt:
        fault = _explain(text, str(doubt))
    except _json.JSONDecodeError as error:
        raise RemoteProtocolError(f"not JSON: {error.msg} (character {error.pos})", source=source) from None
    except RecursionError:  # the caller's own stack was nearly full
        raise RemoteProtocolError("nested too deep", source=source) from None
    if fault is not None:
        why, at = fault
        raise RemoteProtocolError(why, pointer=at, source=source)
    return document


def _deeper(text: str, depth: int) -> bool:
    """Tell whether brackets outside strings nest deeper than ``depth``; a document with few brackets is not scanned."""
    if text.count("[") + text.count("{") <= depth:
        return False
    level = 0
    for match in _STRUCTURE.finditer(text):
        if match.lastindex == 1:
            level += 1
            if level > depth:
                return True
        elif match.lastindex == 2:
            level -= 1
    return False


def _marking(parse: Callable[[str], T]) -> Callable[[str], T | _Bad]:
    def mark(text: str) -> T | _Bad:
        try:
            return parse(text)
        except _Doubt as doubt:
            return _Bad(str(doubt))

    return mark


def _marked_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        found[key] = _Bad("the same key twice in one object") if key in found else value
    return found


_MARKING = _json.JSONDecoder(
    parse_int=_marking(_integer),
    parse_float=_marking(_fraction),
    parse_constant=_marking(_constant),
    object_pairs_hook=_marked_pairs,
)


def _explain(text: str, why: str) -> tuple[str, str]:
    """Read a refused document once more, marking what is refused, and return the reason and the pointer."""
    try:
        return _fault(_MARKING.decode(text)) or (why, "")
    except (_json.JSONDecodeError, RecursionError):  # and it is broken further on as well
        return why, ""


_Path: TypeAlias = "tuple[_Path, str] | None"


def _fault(document: object) -> tuple[str, str] | None:
    """Return the first refused value or unsound string, in document order, as (reason, pointer)."""
    stack: list[tuple[object, _Path]] = [(document, None)]
    while stack:
        value, path = stack.pop()
        if isinstance(value, _Bad):
            return value.why, _known(path)
        if isinstance(value, str):
            if not _sound(value):
                return "half a surrogate pair in a string", _known(path)
        elif isinstance(value, dict):
            if not all(map(_sound, value)):
                return "half a surrogate pair in a key", _known(path)
            stack.extend((member, (path, key)) for key, member in reversed(value.items()))
        elif isinstance(value, list):
            stack.extend((value[index], (path, str(index))) for index in reversed(range(len(value))))
    return None


def _sound(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _known(path: _Path) -> str:
    """Return a path's pointer, or its nearest ancestor's that is short and printable: the peer chose these keys."""
    keys: list[str] = []
    while path is not None:
        path, key = path
        keys.append(key)
    at = ""
    for key in reversed(keys):
        below = pointer(at, key) if len(key) <= _POINTER_TEXT else ""
        if not below or len(below) > _POINTER_TEXT or not key.isprintable():
            break
        at = below
    return at


# --- writing ---------------------------------------------------------------------------------------------------------


class _Unwritable(Exception):
    """Something JSON cannot say; ``path`` grows outwards as the exception passes each container."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path = ""


def dumps(value: Writable) -> bytes:
    """Write a document as compact UTF-8 JSON, keys in the order given, decimals without an exponent.

    Raises: LocalProtocolError naming the member, for a float, NaN, a number beyond 78 digits a side, half a surrogate
    pair, a key that is no string, any other type, or nesting beyond 128 (a cycle).  Source: x402.md 1.4.
    """
    return _dumps(value, ordered=False)


def canonical(value: Writable) -> bytes:
    """Write a document so that equal values are equal bytes: keys sorted, numbers in their shortest plain spelling.

    Keys sort by UTF-16 code units as in RFC 8785; whole numbers stay exact beyond 2**53, which is why this is not
    RFC 8785.  For digests and comparisons.  Raises: LocalProtocolError as :func:`dumps` does.
    """
    return _dumps(value, ordered=True)


def _dumps(value: Writable, *, ordered: bool) -> bytes:
    try:
        return _spell(value, ordered, 0).encode("utf-8")
    except _Unwritable as error:
        raise LocalProtocolError(error.why, field=f"document{error.path}") from None
    except UnicodeEncodeError:
        raise LocalProtocolError("half a surrogate pair cannot be written", field="document") from None


def _spell(value: object, ordered: bool, level: int) -> str:
    if isinstance(value, str):
        return _quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -(10**_DIGITS) < value < 10**_DIGITS:
            raise _Unwritable(f"a number of more than {_DIGITS} digits")
        return int.__repr__(value)
    if isinstance(value, Decimal):
        return _decimal(value, ordered)
    if level >= _WRITE_DEPTH:
        raise _Unwritable(f"nested deeper than {_WRITE_DEPTH}")
    if isinstance(value, (dict, Mapping)):  # dict first: it answers without asking the ABC
        return _object(value, ordered, level + 1)
    if isinstance(value, (list, tuple)):
        return _array(value, ordered, level + 1)
    hint = "; write a fraction as Decimal" if isinstance(value, float) else ""
    raise _Unwritable(f"cannot write {type(value).__name__} as JSON{hint}")


def _object(members: Mapping[object, object], ordered: bool, level: int) -> str:
    parts = []
    for key, member in _ordered(members) if ordered else members.items():
        if not isinstance(key, str):
            raise _Unwritable(f"an object's key must be a string, not {type(key).__name__}")
        try:
            parts.append(f"{_quote(key)}:{_spell(member, ordered, level)}")
        except _Unwritable as error:
            error.path = pointer("", key) + error.path
            raise
    return f"{{{','.join(parts)}}}"


def _ordered(members: Mapping[object, object]) -> list[tuple[object, object]]:
    return sorted(members.items(), key=lambda member: str(member[0]).encode("utf-16-be"))


def _array(elements: Sequence[object], ordered: bool, level: int) -> str:
    parts = []
    for index, element in enumerate(elements):
        try:
            parts.append(_spell(element, ordered, level))
        except _Unwritable as error:
            error.path = pointer("", index) + error.path
            raise
    return f"[{','.join(parts)}]"


def _decimal(number: Decimal, ordered: bool) -> str:
    if not number.is_finite():
        raise _Unwritable("JSON has no NaN and no Infinity")
    if not _plain(number):
        raise _Unwritable(f"a number of more than {_DIGITS} digits on a side of the point")
    text = format(number, "f")
    if ordered:
        text = text.rstrip("0").rstrip(".") if "." in text else text
        text = "0" if text == "-0" else text
    return text
