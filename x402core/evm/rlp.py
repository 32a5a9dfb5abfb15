"""Recursive Length Prefix, Ethereum's serialisation of byte strings and lists (Yellow Paper, appendix B).

Encoding is total over its types.  Decoding is strict: one item has one encoding, and any other spelling of it (a long
form where a short one fits, a length with leading zeros, bytes left over) is refused, as hashes are over the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["Encodable", "Item", "decode", "encode", "to_int"]

Encodable: TypeAlias = bytes | int | Sequence["Encodable"]
"""What :func:`encode` takes; an int >= 0 stands for its big-endian bytes without leading zeros."""
Item: TypeAlias = bytes | tuple["Item", ...]
"""What :func:`decode` returns."""

_MAX_DEPTH: Final = 32  # a transaction needs 4; deeper is an attempt on the stack


def encode(item: Encodable) -> bytes:
    """Return the RLP of bytes, a whole number or a sequence of these.  Raises: LocalProtocolError for anything else."""
    if isinstance(item, int):
        if item < 0:
            raise LocalProtocolError("RLP has no negative numbers", field="item")
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, (bytes, bytearray)):
        if len(item) == 1 and item[0] < 0x80:
            return bytes(item)
        return _prefix(0x80, len(item)) + item
    if isinstance(item, (list, tuple)):
        body = b"".join([encode(part) for part in item])
        return _prefix(0xC0, len(body)) + body
    raise LocalProtocolError(f"RLP cannot encode {type(item).__name__}", field="item")


def _prefix(base: int, length: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((base + 55 + len(size),)) + size


def decode(data: bytes) -> Item:
    """Return the one item ``data`` encodes: bytes, or a tuple of items.  Raises: RemoteProtocolError if not canonical."""
    item, end = _decode(data, 0, len(data), 0)
    if end != len(data):
        raise RemoteProtocolError(f"RLP: {len(data) - end} bytes left over")
    return item


def to_int(item: Item, most: int, what: str) -> int:
    """Return the number <= ``most`` an item is.  Raises: RemoteProtocolError (list, leading zero, too large)."""
    if not isinstance(item, bytes):
        raise RemoteProtocolError(f"RLP: {what} is a list")
    if item[:1] == b"\0":
        raise RemoteProtocolError(f"RLP: {what} has a leading zero")
    number = int.from_bytes(item, "big")
    if number > most:
        raise RemoteProtocolError(f"RLP: {what} is too large")
    return number


def _decode(data: bytes, at: int, end: int, depth: int) -> tuple[Item, int]:
    """Decode the item at ``at`` that must not reach past ``end``; return it and where it stops."""
    if at >= end:
        raise RemoteProtocolError("RLP: an item is missing")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    start, stop = _extent(data, at, end, 0xC0 if first >= 0xC0 else 0x80)
    if first < 0xC0:
        if stop - start == 1 and data[start] < 0x80:
            raise RemoteProtocolError("RLP: a small byte in the long form")
        return data[start:stop], stop
    if depth >= _MAX_DEPTH:
        raise RemoteProtocolError("RLP: lists nested too deeply")
    items = []
    while start < stop:
        item, start = _decode(data, start, stop, depth + 1)
        items.append(item)
    return tuple(items), stop


def _extent(data: bytes, at: int, end: int, base: int) -> tuple[int, int]:
    """Return where the payload of the item at ``at`` starts and stops."""
    length = data[at] - base
    start = at + 1
    if length > 55:
        size = length - 55
        start += size
        field = data[at + 1 : start]
        length = int.from_bytes(field, "big")
        if start > end or field[0] == 0 or length < 56:
            raise RemoteProtocolError("RLP: a length that is cut off or not in its shortest form")
    if start + length > end:
        raise RemoteProtocolError("RLP: an item reaches past its end")
    return start, start + length
