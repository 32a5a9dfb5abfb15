"""EIP-712 for any types: what a user of the library, an offer or a sign-in message brings along.

Everything is checked before anything is hashed: every type must be known, every declared field present and no other, every
value in range, so that what was shown is what is signed.  The payment methods' own messages have faster, fixed encoders
in :mod:`x402core.evm.digests`, which the tests hold equal to this one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError

from .keccak import keccak

__all__ = ["Types", "domain_separator", "encode_data", "encode_type", "hash_struct", "type_hash", "typed_data_digest"]

Types: TypeAlias = Mapping[str, Sequence[Mapping[str, str]]]
"""Struct name -> its fields in order, each {"name": ..., "type": ...}, as ``eth_signTypedData_v4`` spells them."""

_DOMAIN_FIELDS: Final = {  # in this order, and each optional (EIP-712, "Definition of domainSeparator")
    "name": "string",
    "version": "string",
    "chainId": "uint256",
    "verifyingContract": "address",
    "salt": "bytes32",
}
_DOMAIN: Final = "EIP712Domain"
_MAX_DEPTH: Final = 64

_ARRAY = re.compile(r"(.+)\[([0-9]{0,9})\]", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_ATOMIC = re.compile(r"(uint|int)([1-9][0-9]*)|bytes([1-9][0-9]?)|bytes|string|bool|address", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,78}|0x[0-9a-fA-F]{1,64}", re.ASCII)
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)


def typed_data_digest(types: Types, primary: str, domain: Mapping[str, object], message: Mapping[str, object]) -> bytes:
    """Return the 32-byte digest of a message under a domain: keccak(0x1901 || domain separator || hashStruct(message)).

    ``types`` may declare ``EIP712Domain``, as wallets want it: the domain's fields, in the standard's order.
    Raises: LocalProtocolError that names the field at fault by its path (``message.to.wallets[0]``).
    """
    if primary == _DOMAIN:
        raise LocalProtocolError("the message cannot be the domain itself", field="primaryType")
    separator = domain_separator(domain)
    if _DOMAIN in types and _members(types, _DOMAIN) != [(n, k) for n, k in _DOMAIN_FIELDS.items() if n in domain]:
        # wallets disagree on whose order and fields count, the declaration's or the standard's: then nobody should sign
        raise LocalProtocolError("declared otherwise than the standard orders the domain's fields", field=_DOMAIN)
    return keccak(b"\x19\x01" + separator + hash_struct(types, primary, message))


def domain_separator(domain: Mapping[str, object]) -> bytes:
    """Return hashStruct of a domain; its type has the fields that ``domain`` has.  Raises: LocalProtocolError."""
    fields = [{"name": name, "type": kind} for name, kind in _DOMAIN_FIELDS.items() if name in domain]
    return hash_struct({_DOMAIN: fields}, _DOMAIN, domain, "domain")


def hash_struct(types: Types, primary: str, message: Mapping[str, object], at: str = "message") -> bytes:
    """Return hashStruct: keccak of :func:`encode_data`.  ``at`` is the path errors start with."""
    return keccak(encode_data(types, primary, message, at))


def type_hash(types: Types, primary: str) -> bytes:
    """Return keccak of :func:`encode_type`, 32 bytes."""
    return keccak(encode_type(types, primary).encode())


def encode_type(types: Types, primary: str) -> str:
    """Return a struct type as text: its own members, then the structs it uses, sorted (EIP-712, "encodeType").

    Raises: LocalProtocolError for an unknown or misnamed type, or a field declared twice.
    """
    members = {primary: _members(types, primary)}
    waiting = [primary]
    while waiting:
        for _, kind in members[waiting.pop()]:
            base = _base(kind)
            if not _is_atomic(base) and base not in members:
                members[base] = _members(types, base)
                waiting.append(base)
    order = [primary, *sorted(name for name in members if name != primary)]
    return "".join([f"{name}({','.join([f'{kind} {field}' for field, kind in members[name]])})" for name in order])


def encode_data(types: Types, primary: str, message: Mapping[str, object], at: str = "message") -> bytes:
    """Return a struct as it is hashed: its type hash and one word per member (EIP-712, "encodeData")."""
    return _encode_struct(types, primary, message, at, 0)


def _encode_struct(types: Types, name: str, message: object, at: str, depth: int) -> bytes:
    if not isinstance(message, Mapping):
        raise LocalProtocolError(f"expected an object of type {name}", field=at)
    words = [type_hash(types, name)]
    members = _members(types, name)
    for field in message:
        if all(field != known for known, _ in members):
            raise LocalProtocolError(f"{name} has no such field", field=f"{at}.{str(field)[:80]}")
    for field, kind in members:
        path = f"{at}.{field}"
        if field not in message:
            raise LocalProtocolError("missing", field=path)
        words.append(_encode_value(types, kind, message[field], path, depth))
    return b"".join(words)


def _encode_value(types: Types, kind: str, value: object, at: str, depth: int) -> bytes:
    """Return the word that stands for a value: itself, or the hash of what does not fit one."""
    if depth > _MAX_DEPTH:
        raise LocalProtocolError(f"nested deeper than {_MAX_DEPTH} levels", field=at)
    if array := _ARRAY.fullmatch(kind):
        if not isinstance(value, (list, tuple)) or (array[2] and len(value) != int(array[2])):
            raise LocalProtocolError(f"expected a list for {kind}", field=at)
        items = [_encode_value(types, array[1], item, f"{at}[{i}]", depth + 1) for i, item in enumerate(value)]
        return keccak(b"".join(items))
    if not _is_atomic(kind):
        return keccak(_encode_struct(types, kind, value, at, depth + 1))
    word = _encode_atomic(kind, value)
    if word is None:
        raise LocalProtocolError(f"not a value of type {kind}", field=at)
    return word


# --- types ----------------------------------------------------------------------------------------------------------


def _members(types: Types, name: str) -> list[tuple[str, str]]:
    """Return a struct's (field, type) pairs, checked."""
    if name not in types or _IDENTIFIER.fullmatch(name) is None or _is_atomic(name):
        raise LocalProtocolError(f"no such struct type: {name[:80]!r}", field="types")
    members = []
    for member in types[name]:
        field, kind = (member.get("name"), member.get("type")) if isinstance(member, Mapping) else (None, None)
        if not isinstance(field, str) or not isinstance(kind, str) or _IDENTIFIER.fullmatch(field) is None:
            raise LocalProtocolError("a member needs a name and a type", field=f"types.{name}")
        base = _base(kind)
        if not _is_atomic(base) and base not in types:
            raise LocalProtocolError(f"unknown type {kind[:80]!r}", field=f"types.{name}.{field}")
        members.append((field, kind))
    if len({field for field, _ in members}) != len(members):
        raise LocalProtocolError("a field is declared twice", field=f"types.{name}")
    return members


def _base(kind: str) -> str:
    """Return what an array of arrays is finally made of."""
    while array := _ARRAY.fullmatch(kind):
        kind = array[1]
    return kind


@lru_cache(maxsize=256)
def _is_atomic(kind: str) -> bool:
    """Tell whether a type is one of EIP-712's own; ``uint`` and ``int`` are not ("there are no aliases")."""
    match = _ATOMIC.fullmatch(kind)
    if match is None:
        return False
    if match[2]:
        return len(match[2]) <= 3 and int(match[2]) <= 256 and int(match[2]) % 8 == 0
    return match[3] is None or int(match[3]) <= 32


# --- values ---------------------------------------------------------------------------------------------------------


def _encode_atomic(kind: str, value: object) -> bytes | None:
    """Return the word of an atomic or dynamic value, None when the value is not of its type."""
    if kind == "string":
        try:
            return keccak(value.encode()) if isinstance(value, str) else None
        except UnicodeEncodeError:  # a lone surrogate, which JSON can spell and UTF-8 cannot
            return None
    if kind == "bool":
        return int(value).to_bytes(32, "big") if isinstance(value, bool) else None
    if kind == "address":
        raw = _bytes(value)
        return bytes(12) + raw if raw is not None and len(raw) == 20 else None
    if kind.startswith("bytes"):
        raw = _bytes(value)
        if raw is None or kind == "bytes":
            return None if raw is None else keccak(raw)
        size = int(kind[5:])
        return raw + bytes(32 - size) if len(raw) == size else None
    return _encode_number(kind, value)


def _bytes(value: object) -> bytes | None:
    if isinstance(value, str) and _HEX.fullmatch(value):
        return bytes.fromhex(value[2:])
    return bytes(value) if isinstance(value, (bytes, bytearray)) else None


def _encode_number(kind: str, value: object) -> bytes | None:
    """Encode an int, or its decimal or 0x text, as JSON carries numbers past 2**53."""
    signed = kind.startswith("int")
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value, 16 if value.startswith("0x") else 10)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    bits = int(kind.removeprefix("u")[3:])
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    return value.to_bytes(32, "big", signed=signed) if low <= value < high else None
