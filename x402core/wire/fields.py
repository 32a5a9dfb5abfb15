"""Read the members of a JSON object, strictly, and name what is wrong by its RFC 6901 pointer.

For the dialect decoders, which get both this and the bytes' reader from :mod:`x402core.wire.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TypeAlias, TypeVar

from x402core.errors import RemoteProtocolError

__all__ = ["Fields", "Item", "Json", "pointer"]

Json: TypeAlias = "bool | int | Decimal | str | list[Json] | dict[str, Json] | None"
"""A JSON document: whole numbers are ``int``, other numbers exact ``Decimal``; never a float."""
Item: TypeAlias = "Fields | Json"
"""One element of an array: an object comes as :class:`Fields`, which knows its pointer."""

T = TypeVar("T")
_Parse: TypeAlias = Callable[[object, str], T]  # values.parse_*
# The class below has methods called `list` and `object`, which hide the builtins in its annotations.
_Items: TypeAlias = list[Item]
_Objects: TypeAlias = "list[Fields]"
_Texts: TypeAlias = list[str]


def pointer(at: str, key: str | int) -> str:
    """Return the RFC 6901 pointer of a member of what ``at`` points to (``~`` and ``/`` in a key are escaped)."""
    text = str(key)
    if "~" in text or "/" in text:
        text = text.replace("~", "~0").replace("/", "~1")
    return f"{at}/{text}"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, Decimal)):
        return "a number"
    names: dict[type, str] = {str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)


class Fields:
    """Read the members of one JSON object strictly; every error names the member by its RFC 6901 pointer.

    ``at`` is the pointer of the object itself and ``source`` the document's name.  An explicit ``null`` counts as
    absent (x402.md 1.1, "Null tolerance"): refused where the member is required, the default where it is not.  Members
    nobody asks for are let be.

    Raises: RemoteProtocolError, from every reading method, and from the constructor if not given an object.
    """

    __slots__ = ("at", "document", "source")

    def __init__(self, document: Json, at: str = "", source: str = "") -> None:
        if not isinstance(document, dict):
            raise RemoteProtocolError(f"expected an object, got {_kind(document)}", pointer=at, source=source)
        self.document: dict[str, Json] = document
        self.at = at
        self.source = source

    def __contains__(self, key: str) -> bool:
        """Tell whether the member is there and not null."""
        return self.document.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        """Name the members that are not null, in document order."""
        return (key for key, value in self.document.items() if value is not None)

    def where(self, key: str | int) -> str:
        """Return the pointer of a member, there or not."""
        return pointer(self.at, key)

    def error(self, key: str, message: str) -> RemoteProtocolError:
        """Make the error that says what is wrong with a member."""
        return RemoteProtocolError(message, pointer=self.where(key), source=self.source)

    def _need(self, key: str) -> Json:
        value = self.document.get(key)
        if value is None:
            raise self.error(key, "null where a value is required" if key in self.document else "missing")
        return value

    def _wrong(self, key: str, expected: str, value: object) -> RemoteProtocolError:
        return self.error(key, f"expected {expected}, got {_kind(value)}")

    def text(self, key: str, *, most: int = 4096) -> str:
        """Return a required string of at most ``most`` characters."""
        value = self._need(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        if len(value) > most:
            raise self.error(key, f"longer than {most} characters")
        return value

    def text_or(self, key: str, default: T, *, most: int = 4096) -> str | T:
        """Return a string, or ``default`` if it is absent or null."""
        return default if self.document.get(key) is None else self.text(key, most=most)

    def number(self, key: str) -> int | Decimal:
        """Return a required number, exactly as written; ``true`` is not a number."""
        value = self._need(key)
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            raise self._wrong(key, "a number", value)
        return value

    def integer(self, key: str) -> int:
        """Return a required whole number, written without point or exponent."""
        value = self.number(key)
        if not isinstance(value, int):
            raise self.error(key, "expected a whole number")
        return value

    def boolean(self, key: str) -> bool:
        """Return a required ``true`` or ``false``; ``"yes"`` and ``1`` are neither."""
        value = self._need(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def object(self, key: str) -> Fields:
        """Return a required object."""
        return Fields(self._need(key), self.where(key), self.source)

    def object_or_none(self, key: str) -> Fields | None:
        """Return an object, or None if it is absent or null."""
        return None if self.document.get(key) is None else self.object(key)

    def list(self, key: str, *, most: int = 256) -> _Items:
        """Return a required array's elements, at most ``most``: objects as :class:`Fields`, the rest as they are."""
        value = self._need(key)
        if not isinstance(value, list):
            raise self._wrong(key, "an array", value)
        if len(value) > most:
            raise self.error(key, f"more than {most} elements")
        at = self.where(key)
        return [
            Fields(element, pointer(at, index), self.source) if isinstance(element, dict) else element
            for index, element in enumerate(value)
        ]

    def objects(self, key: str, *, most: int = 256) -> _Objects:
        """Return the elements of a required array of objects."""
        return [self._element(key, index, item, Fields) for index, item in enumerate(self.list(key, most=most))]

    def texts(self, key: str, *, most: int = 256) -> _Texts:
        """Return the elements of a required array of strings."""
        return [self._element(key, index, item, str) for index, item in enumerate(self.list(key, most=most))]

    def _element(self, key: str, index: int, item: Item, kind: type[T]) -> T:
        if isinstance(item, kind):
            return item
        expected = "a string" if kind is str else "an object"
        found = "an object" if isinstance(item, Fields) else _kind(item)
        at = pointer(self.where(key), index)
        raise RemoteProtocolError(f"expected {expected}, got {found}", pointer=at, source=self.source)

    def get(self, parse: _Parse[T], key: str) -> T:
        """Return a required member through one of the ``values.parse_*`` functions."""
        value = self._need(key)
        try:
            return parse(value, "")  # a pointer is made when there is something to point at
        except RemoteProtocolError as error:
            raise error.within(self.where(key), source=error.source or self.source) from None

    def optional(self, parse: _Parse[T], key: str) -> T | None:
        """Return a member through a ``values.parse_*`` function, or None if it is absent or null."""
        return None if self.document.get(key) is None else self.get(parse, key)
