"""Addresses: how they are spelled (EIP-55), and how they follow from a public key or a deployment."""

from __future__ import annotations

from functools import lru_cache

from x402core.errors import LocalProtocolError
from x402core.values import Address, local, parse_address

from . import rlp
from .keccak import keccak

__all__ = ["address_bytes", "checksum", "create_address", "own_address", "public_key_address"]


@lru_cache(maxsize=4096)
def checksum(address: Address) -> str:
    """Return an address in EIP-55 mixed case, as wallets and the x402 SDKs write it."""
    digits = address[2:]
    mask = keccak(digits.encode()).hex()
    return "0x" + "".join([c.upper() if m >= "8" else c for c, m in zip(digits, mask, strict=False)])


def own_address(value: object, field: str) -> Address:
    """Check an address that somebody configured: in mixed case its checksum has to be right, or a digit was mistyped.

    Raises: LocalProtocolError naming ``field``.  Source: EIP-55.  What a peer sends is compared by value, whatever its case.
    """
    address = local(parse_address, value, field)
    digits = str(value)[2:]
    if digits not in (digits.lower(), digits.upper()) and checksum(address) != f"0x{digits}":
        raise LocalProtocolError("its EIP-55 checksum is wrong: look for a mistyped digit", field=field)
    return address


def address_bytes(address: Address) -> bytes:
    """Return the 20 bytes of an address.  Raises: LocalProtocolError when it is not one."""
    try:
        raw = bytes.fromhex(address[2:])
    except ValueError:
        raw = b""
    if len(raw) != 20 or len(address) != 42 or address[:2] != "0x":
        raise LocalProtocolError("not an address: 0x and 40 hex digits", field="address")
    return raw


def public_key_address(public_key: bytes) -> Address:
    """Return the address of a 64-byte public key x || y: the last 20 bytes of its hash (Yellow Paper, appendix F)."""
    if len(public_key) != 64:
        raise LocalProtocolError(f"a public key is 64 bytes, not {len(public_key)}", field="public_key")
    return Address("0x" + keccak(public_key)[12:].hex())


def create_address(sender: Address, nonce: int) -> Address:
    """Return the address of the contract deployed by ``sender``'s transaction number ``nonce`` (Yellow Paper, 7)."""
    return Address("0x" + keccak(rlp.encode((address_bytes(sender), nonce)))[12:].hex())
