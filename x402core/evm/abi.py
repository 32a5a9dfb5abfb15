"""Contract calls as bytes, and a node's answers as values (Solidity documentation, "Contract ABI Specification").

A function or event is named by its canonical signature, ``transfer(address,uint256)``.  Where every value is one word
(address, bool, uintN, bytesN), as in all hot calls, it is packed here; all else goes through eth_abi, loaded when needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.values import Address, Hash32

from .keccak import keccak

__all__ = ["decode", "encode", "encode_call", "event_topic", "revert_reason", "selector"]

# Bytes that eth_abi is given to decode, by the most array brackets in one type.  Pointers may share what they point at: of
# 124 kB of bytes[] eth_abi 6.0 makes 120 MB, and more brackets multiply that.  Of these: 0.5 MB for each run in the type.
_MOST: Final = (65536, 8192, 2048, 1024, 1024)
_DEPTH: Final = 6  # of nested tuples: eth_abi reads static ones twice at each level
_BRACKETS: Final = 16  # of arrays in all the types: far from where eth_abi's recursion would end
_REASON_LENGTH: Final = 200
_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_HEX: Final = {("address", 0): re.compile("0x[0-9a-fA-F]{40}"), ("bytes", 32): re.compile("0x[0-9a-fA-F]{64}")}
_SIZES: Final = {"address": (0,), "bool": (0,), "uint": range(8, 257, 8), "bytes": range(1, 33)}
_Word: TypeAlias = tuple[str, int]
_WORDS: Final[dict[str, _Word]] = {f"{base}{size or ''}": (base, size) for base, sizes in _SIZES.items() for size in sizes}
_ELEMENTARY: Final = frozenset((*_WORDS, "bytes", "string", *[f"int{bits}" for bits in range(8, 257, 8)]))
_LEAF: Final = re.compile("[A-Za-z][A-Za-z0-9]*")


class _Row(NamedTuple):
    """Types in a row: their names, which of them are words, whether all are, and the most bytes eth_abi is given."""

    names: tuple[str, ...]
    words: tuple[_Word | None, ...]
    packed: bool
    most: int


def selector(signature: str) -> bytes:
    """Return the 4 bytes that select a function.  Raises: LocalProtocolError unless the signature is canonical."""
    return _function(signature)[0][:4]


def event_topic(signature: str) -> Hash32:
    """Return an event's topic 0.  Raises: LocalProtocolError unless canonical (no ``indexed``, no names)."""
    return Hash32("0x" + _function(signature)[0].hex())


def encode_call(signature: str, *args: object) -> bytes:
    """Return calldata: the selector and the encoded arguments.

    Arguments: ``int`` (not ``bool``) for numbers, an address as 0x hex, ``bytes`` for bytes and bytesN, a Hash32 for
    bytes32 too, ``list`` or ``tuple`` for arrays and tuples (whose items are held to eth_abi's rules: no Hash32, and a
    mixed-case address by its checksum).  Raises: LocalProtocolError naming the argument.
    """
    digest, row = _function(signature)
    return digest[:4] + _encode(row, args, "args")


def encode(types: Sequence[str], values: Sequence[object]) -> bytes:
    """Return the encoding of values without a selector (Solidity's ``abi.encode``).  Raises: LocalProtocolError."""
    return _encode(_types(types), values, "values")


def decode(types: Sequence[str], data: bytes) -> tuple[object, ...]:
    """Return the values a contract returned or a log carries; bytes beyond them are ignored, as contracts ignore them.

    Addresses come back lower-case, arrays and tuples as tuples.  Raises: RemoteProtocolError when the data is not an
    encoding of these types, or longer than 64 KiB (8, 2, 1, 1 KiB for a type with 1 to 4 array brackets; words alone may be any
    length); LocalProtocolError for an unknown type.
    """
    row = _types(types)
    if not isinstance(data, bytes):
        raise LocalProtocolError("expected bytes", field="data")
    if row.packed:
        return tuple([_unpack(word, data[32 * n : 32 * n + 32]) for n, word in enumerate(row.words) if word])
    if len(data) > row.most:
        raise RemoteProtocolError(f"ABI: longer than {row.most} bytes")
    from eth_abi.abi import decode as unfold
    from eth_abi.exceptions import DecodingError

    try:
        return unfold(row.names, data, strict=True)
    except (DecodingError, OverflowError, ValueError) as error:  # the last two: a pointer beyond any file, not UTF-8
        raise RemoteProtocolError(f"ABI: {type(error).__name__}") from None


def revert_reason(data: bytes) -> str:
    """Return why a call reverted, for people and logs: at most 200 printable characters.

    ``Error(string)`` gives its text, ``Panic(uint256)`` its code, a custom error its selector in hex, no data "reverted
    without a reason".  It never raises: the text comes from whatever contract was called.
    """
    head, body = data[:4], data[4:]
    if not data:
        return "reverted without a reason"
    try:
        if head == selector("Error(string)"):
            return _printable(_reason(body)) or "reverted without a reason"
        if head == selector("Panic(uint256)"):
            return f"Panic(0x{decode(('uint256',), body)[0]:02x})"
    except RemoteProtocolError:
        return f"malformed error 0x{head.hex()}"
    return f"custom error 0x{head.hex()}"


def _reason(body: bytes) -> str:
    """Return the string of an ``Error(string)``, whatever its padding holds: FiatToken's is not all zeros."""
    offset, length = int.from_bytes(body[:32], "big"), int.from_bytes(body[32:64], "big")
    if offset != 32 or len(body) < 64 + length:
        raise RemoteProtocolError("not an ABI string", source="data")
    return body[64 : 64 + length].decode("utf-8", "replace")


def _printable(text: str) -> str:
    """Replace what a terminal or a log line might obey, and cut."""
    clean = "".join([c if c.isprintable() else "?" for c in text[:_REASON_LENGTH]])
    return clean if len(text) <= _REASON_LENGTH else clean[:-1] + "…"


def _function(signature: str) -> tuple[bytes, _Row]:
    if not isinstance(signature, str):
        raise LocalProtocolError("expected a string", field="signature")
    return _signature(signature)


@lru_cache(maxsize=512)
def _signature(signature: str) -> tuple[bytes, _Row]:
    """Return a signature's hash and its argument types."""
    name, bracket, types = signature.partition("(")
    row = _row(bracket + types)
    if row is None or _NAME.fullmatch(name) is None:
        raise LocalProtocolError("not a signature such as transfer(address,uint256)", field="signature")
    return keccak(signature.encode()), row


def _types(types: Sequence[str]) -> _Row:
    if isinstance(types, (list, tuple)) and all(isinstance(name, str) for name in types):
        row = _row(f"({','.join(types)})")
        if row is not None and row.names == tuple(types):
            return row
    raise LocalProtocolError("not a list or tuple of canonical ABI types", field="types")


@lru_cache(maxsize=1024)
def _row(listed: str) -> _Row | None:
    """Return the types in ``(a,b,(c,d))``; None unless each is canonical: no blanks, no ``uint`` for ``uint256``."""
    names = tuple(listed[1:-1].split(",")) if listed != "()" else ()
    if not _ELEMENTARY.issuperset(names):
        depth = max(accumulate([(c == "(") - (c == ")") for c in listed]), default=0)
        names = _parse(listed) if depth <= _DEPTH and listed.count("[") <= _BRACKETS else ()
    arrays = max([name.count("[") for name in names], default=0)
    if f"({','.join(names)})" != listed or arrays >= len(_MOST):
        return None
    words = tuple([_WORDS.get(name) for name in names])
    return _Row(names, words, None not in words, _MOST[arrays])


def _parse(listed: str) -> tuple[str, ...]:
    """Return what eth_abi finds in a tuple type; nothing where there is a type that is none."""
    from eth_abi.exceptions import ParseError
    from eth_abi.grammar import parse
    from eth_abi.registry import registry

    if not _ELEMENTARY.issuperset(_LEAF.findall(listed)):  # eth_abi takes uint, bool8 and others besides
        return ()
    try:
        registry.get_encoder(listed)
        return tuple([part.to_type_str() for part in parse(listed).components])
    except (ParseError, ValueError):
        return ()


def _pack(word: _Word, value: object) -> bytes | None:
    """Return a value as one word; None when it is not of that type."""
    base, size = word
    if base == "uint" and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << size:
        return value.to_bytes(32, "big")
    if base == "bool" and isinstance(value, bool):
        return value.to_bytes(32, "big")
    if base == "bytes" and isinstance(value, bytes) and len(value) == size:
        return value.ljust(32, b"\0")
    if isinstance(value, str) and word in _HEX and _HEX[word].fullmatch(value):  # our Hash32 is spelled in hex
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    return None


def _unpack(word: _Word, data: bytes) -> object:
    """Return the value of one word.  Raises: RemoteProtocolError unless packing gives that very word again."""
    base, size = word
    value: object = int.from_bytes(data, "big")
    if base == "bool":
        value = value == 1
    elif base != "uint":
        value = data[:size] if base == "bytes" else Address("0x" + data[12:].hex())
    if _pack(word, value) != data:
        raise RemoteProtocolError(f"ABI: not a value of type {base}{size or ''}, or cut off")
    return value


def _encode(row: _Row, values: Sequence[object], field: str) -> bytes:
    if not isinstance(values, (list, tuple)):
        raise LocalProtocolError("expected a list or tuple", field=field)
    if len(values) != len(row.names):
        raise LocalProtocolError(f"expected {len(row.names)} values, got {len(values)}", field=field)
    packed = [_pack(word, value) if word else b"" for word, value in zip(row.words, values, strict=True)]
    if None in packed:
        raise _misfit(row, packed.index(None), field)
    if row.packed:
        return b"".join(filter(None, packed))
    from eth_abi.abi import encode as fold
    from eth_abi.exceptions import EncodingError

    plain = [_unpack(word, raw) if word and raw else v for word, raw, v in zip(row.words, packed, values, strict=True)]
    for at, name in enumerate(row.names):
        try:
            fold((name,), (plain[at],))  # alone, so that the one at fault can be named
        except (EncodingError, TypeError, ValueError):  # the last for a lone surrogate, which UTF-8 cannot spell
            raise _misfit(row, at, field) from None
    return fold(row.names, plain)


def _misfit(row: _Row, at: int, field: str) -> LocalProtocolError:
    return LocalProtocolError(f"not a value of type {row.names[at]}", field=f"{field}[{at}]")
