"""The plain values of the protocol, checked once, at the edge, strictly.

Each is a ``NewType`` over ``str`` or ``int`` in one canonical spelling, so that equality is identity of meaning: an
:data:`Address` and a :data:`Hash32` are lower-case hex, a :data:`Network` is CAIP-2, an :data:`Amount` counts atomic
units.  The ``parse_*`` functions take *anything* a decoder may have found and either return the value or raise
:class:`~x402core.errors.RemoteProtocolError` with the caller's JSON pointer.  For configuration, :func:`local` turns the
same check into a :class:`~x402core.errors.LocalProtocolError` that names the argument.

Strict means: ASCII digits only (``int()`` takes underscores, blanks and Arabic digits), exact lengths, no sign, no leading
zero, no ``0x`` for decimals (official-sdk.md section 5, "Input handling").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, NewType, TypeVar
from urllib.parse import urlsplit

from .errors import LocalProtocolError, Reason, RemoteProtocolError

__all__ = [
    "UINT256_MAX",
    "Address",
    "Amount",
    "Hash32",
    "Millis",
    "Network",
    "Origin",
    "Seconds",
    "chain_id",
    "eip155",
    "local",
    "parse_address",
    "parse_amount",
    "parse_decimal",
    "parse_hash32",
    "parse_hex",
    "parse_network",
    "parse_origin",
    "parse_seconds",
    "seconds",
]

Address = NewType("Address", str)
"""A 20-byte EVM address, ``0x`` and 40 lower-case hex digits.  ``evm.address.checksum`` gives the EIP-55 spelling."""
Hash32 = NewType("Hash32", str)
"""32 bytes, ``0x`` and 64 lower-case hex digits: a nonce, a transaction hash, a digest."""
Network = NewType("Network", str)
"""A CAIP-2 chain, ``namespace:reference``, for example ``eip155:84532``."""
Amount = NewType("Amount", int)
"""A count of an asset's atomic units, 0 <= amount < 2**256."""
Seconds = NewType("Seconds", int)
"""Unix time or a duration in whole seconds: what goes on the wire and on the chain."""
Millis = NewType("Millis", int)
"""Unix time in milliseconds: what drivers pass as ``now``."""
Origin = NewType("Origin", str)
"""``scheme://host[:port]``, lower case, default port left out (RFC 6454)."""

UINT256_MAX: Final = 2**256 - 1

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_HASH32 = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_CAIP2 = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}", re.ASCII)
_EIP155 = re.compile(r"eip155:([1-9][0-9]{0,17})", re.ASCII)
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}
_MAX_TIME: Final = 2**53 - 1  # a JSON number every peer reads exactly

_KINDS: Final[Mapping[type, str]] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    Decimal: "a number",
}

T = TypeVar("T")


def local(parse: Callable[[object, str], T], value: object, field: str) -> T:
    """Check a configured value with a ``parse_*`` function; Raises: LocalProtocolError naming ``field``."""
    try:
        return parse(value, "")
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.text, field=field) from None


def _bad(message: str, at: str, reason: Reason = Reason.INVALID_PAYLOAD) -> RemoteProtocolError:
    return RemoteProtocolError(message, pointer=at, reason=reason)


def _text(value: object, at: str, what: str) -> str:
    if not isinstance(value, str):
        raise _bad(f"expected {what} as a string, got {_kind(value)}", at)
    return value


def _kind(value: object) -> str:
    """Name a JSON type for an error message, never the value itself (it may be long, hostile or secret)."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def parse_address(value: object, at: str = "") -> Address:
    """Return an address in canonical lower case; any letter case is taken, as the chain compares values."""
    text = value if type(value) is str else _text(value, at, "an address")
    if _ADDRESS.fullmatch(text) is None:
        raise _bad("not an address: 0x and 40 hex digits", at)
    return Address(text.lower())


def parse_hash32(value: object, at: str = "") -> Hash32:
    """Return 32 bytes of hex in canonical lower case."""
    text = value if type(value) is str else _text(value, at, "32 bytes of hex")
    if _HASH32.fullmatch(text) is None:
        raise _bad("not 32 bytes: 0x and 64 hex digits", at)
    return Hash32(text.lower())


def parse_hex(value: object, at: str = "", *, most: int = 8192) -> bytes:
    """Return the bytes of ``0x`` hex, at most ``most`` of them; whole bytes only, no blanks."""
    text = _text(value, at, "hex")
    if len(text) > 2 * most + 2:
        raise _bad(f"longer than {most} bytes", at)
    if _HEX.fullmatch(text) is None:
        raise _bad("not hex: 0x and an even number of hex digits", at)
    return bytes.fromhex(text[2:])


def parse_decimal(value: object, at: str = "") -> int:
    """Return a uint256 from its decimal string: ASCII digits, no sign, no leading zero, no blanks."""
    text = value if type(value) is str else _text(value, at, "a decimal string")
    if _DECIMAL.fullmatch(text) is None:
        raise _bad("not a whole number in decimal digits", at)
    number = int(text)
    if number > UINT256_MAX:
        raise _bad("larger than 2**256-1", at)
    return number


def parse_amount(value: object, at: str = "") -> Amount:
    """Return an amount of atomic units from its decimal string."""
    return Amount(parse_decimal(value, at))


def parse_seconds(value: object, at: str = "") -> Seconds:
    """Return whole seconds from a JSON number (x402 ``maxTimeoutSeconds``), 0 <= n < 2**53; floats and bools are refused."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _bad(f"expected whole seconds as a number, got {_kind(value)}", at)
    if not 0 <= value <= _MAX_TIME:
        raise _bad("seconds out of range", at)
    return Seconds(value)


def parse_network(value: object, at: str = "") -> Network:
    """Return a CAIP-2 network; ``eip155`` references must be plain chain ids without leading zeros."""
    text = _text(value, at, "a CAIP-2 network")
    if _CAIP2.fullmatch(text) is None or (text.startswith("eip155:") and _EIP155.fullmatch(text) is None):
        raise _bad("not a CAIP-2 network such as eip155:84532", at, Reason.INVALID_NETWORK)
    return Network(text)


def eip155(chain: int) -> Network:
    """Return the CAIP-2 name of an EVM chain id."""
    return local(parse_network, f"eip155:{chain}", "chain")


def chain_id(network: Network) -> int:
    """Return the EVM chain id of an ``eip155`` network.  Raises: LocalProtocolError for another namespace."""
    match = _EIP155.fullmatch(network)
    if match is None:
        raise LocalProtocolError(f"{network} is not an EVM network", field="network")
    return int(match[1])


def parse_origin(value: object, at: str = "") -> Origin:
    """Return the origin of an absolute http(s) URL (RFC 6454): user info is refused, the default port dropped."""
    text = _text(value, at, "a URL")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _bad("not a URL", at) from None
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc:
        raise _bad("not an absolute http or https URL", at)
    name = f"[{host}]" if ":" in host else host
    if _HOST.fullmatch(name) is None:
        raise _bad("host name has characters a host cannot have", at)
    return Origin(f"{parts.scheme}://{name}" + ("" if port in (None, _PORTS[parts.scheme]) else f":{port}"))


def seconds(now: Millis) -> Seconds:
    """Return a driver's clock reading in whole seconds, rounded down."""
    return Seconds(now // 1000)
