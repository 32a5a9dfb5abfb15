"""The parameters of a JSON-RPC call, taken one by one, strictly; every refusal names the parameter (-32602)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, TypeVar

from x402core.errors import RemoteProtocolError
from x402core.values import Address, Hash32, parse_address, parse_hash32, parse_hex

from .errors import INVALID_PARAMS, RpcError

__all__ = ["BlockTag", "Params", "quantity"]

BlockTag = int | Hash32 | str
"""A block number, a block hash, or one of the five tags."""

TAGS: Final = ("latest", "pending", "earliest", "safe", "finalized")
_MOST_BYTES: Final = 1 << 20
_QUANTITY: Final = re.compile(r"0x(?:0|[1-9a-fA-F][0-9a-fA-F]{0,63})", re.ASCII)

T = TypeVar("T")


class Params:
    """Positional parameters.  ``call.<name>(i, "what")`` returns the i-th one, or raises RpcError that says what is wrong."""

    def __init__(self, values: list[object]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def end(self, most: int) -> None:
        """Refuse more than ``most`` parameters."""
        if len(self._values) > most:
            raise RpcError(f"too many arguments, want at most {most}", INVALID_PARAMS)

    def has(self, i: int) -> bool:
        """Say whether the i-th parameter was given and is not null."""
        return i < len(self._values) and self._values[i] is not None

    def raw(self, i: int, name: str) -> object:
        """Return the i-th parameter as it came."""
        if not self.has(i):
            raise RpcError(f"missing value for required argument {i} ({name})", INVALID_PARAMS)
        return self._values[i]

    def address(self, i: int, name: str = "address") -> Address:
        """Return a 20-byte address."""
        return self._parse(parse_address, i, name)

    def hash32(self, i: int, name: str = "hash") -> Hash32:
        """Return 32 bytes of hex."""
        return self._parse(parse_hash32, i, name)

    def data(self, i: int, name: str = "data") -> bytes:
        """Return bytes, one mebibyte at most."""
        return self._parse(lambda value, at: parse_hex(value, at, most=_MOST_BYTES), i, name)

    def number(self, i: int, name: str) -> int:
        """Return a quantity, as 0x hex or as a JSON number."""
        return self._parse(_number, i, name)

    def quantity(self, i: int, name: str) -> int:
        """Return a quantity, as 0x hex only."""
        return self._parse(quantity, i, name)

    def boolean(self, i: int, name: str) -> bool:
        """Return true or false."""
        value = self.raw(i, name)
        if not isinstance(value, bool):
            raise _refused(i, name, "expected true or false")
        return value

    def mapping(self, i: int, name: str) -> Mapping[str, object]:
        """Return a JSON object."""
        value = self.raw(i, name)
        if not isinstance(value, dict):
            raise _refused(i, name, "expected an object")
        return value

    def numbers(self, i: int, name: str) -> list[int | Decimal]:
        """Return a list of JSON numbers; empty when it is missing."""
        value = self._values[i] if self.has(i) else []
        if not isinstance(value, list) or not all(type(each) in (int, Decimal) for each in value):
            raise _refused(i, name, "expected an array of numbers")
        return value

    def block(self, i: int, name: str = "block") -> BlockTag:
        """Return a block reference, "latest" when it is missing (EIP-1898 objects too)."""
        return self._parse(block_tag, i, name) if self.has(i) else "latest"

    def _parse(self, parse: Callable[[object, str], T], i: int, name: str) -> T:
        try:
            return parse(self.raw(i, name), "")
        except RemoteProtocolError as error:
            raise _refused(i, f"{name}{error.pointer}", error.text) from None


def quantity(value: object, at: str = "") -> int:
    """Return a number from 0x hex without leading zeros.  Raises: RemoteProtocolError."""
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise RemoteProtocolError("not a quantity: 0x and hex digits without leading zeros", pointer=at)
    return int(value, 16)


def block_tag(value: object, at: str = "") -> BlockTag:
    """Return a block reference: a tag, a number, or an EIP-1898 object.  Raises: RemoteProtocolError."""
    if isinstance(value, dict):
        if "blockHash" in value:
            return parse_hash32(value["blockHash"], at + "/blockHash")
        return quantity(value.get("blockNumber"), at + "/blockNumber")
    if isinstance(value, str) and value in TAGS:
        return value
    try:
        return quantity(value, at)
    except RemoteProtocolError:
        raise RemoteProtocolError(f"not a block: {', '.join(TAGS)} or a 0x number", pointer=at) from None


def _number(value: object, at: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**256:
        return value
    return quantity(value, at)


def _refused(i: int, name: str, text: str) -> RpcError:
    return RpcError(f"invalid argument {i} ({name}): {text}", INVALID_PARAMS)
