"""Encrypted keystores: Web3 Secret Storage, version 3, as geth and every wallet since writes them.

The password is stretched (scrypt or PBKDF2) into 32 bytes: half of them decrypt the key (AES-128-CTR), the other half prove
by a MAC (keccak) that the password is right.  The file says itself how much work that is, so the work is bounded here.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import public_address
from x402core.values import parse_hex
from x402core.wire.fields import Fields
from x402core.wire.json import loads

__all__ = ["decrypt"]

_MOST_MEMORY: Final = 1 << 30  # bytes scrypt may take: four times geth's default
_MOST_ROUNDS: Final = 10_000_000  # of PBKDF2: some 40 times geth's default
_MOST_LANES: Final = 16  # scrypt's p: each is done after the other, with r * n work
_DERIVED: Final = 32


def decrypt(document: bytes, password: str) -> bytes:
    """Return the 32-byte private key in a keystore file's JSON.

    Raises: LocalProtocolError (``field`` "keystore") for what is no such file, asks for too much work, has another address
    than its key, or for a wrong password; no text ever has key or password in it.  Source: Web3 Secret Storage, version 3.
    """
    try:
        return _decrypt(Fields(loads(document, source="keystore"), "", "keystore"), password.encode())
    except RemoteProtocolError as error:
        where = f"{error.pointer}: " if error.pointer else ""
        raise LocalProtocolError(f"{where}{error.text}", field="keystore") from None


def _decrypt(fields: Fields, password: bytes) -> bytes:
    if fields.integer("version") != 3:
        raise fields.error("version", "expected the number 3")
    crypto = fields.object("crypto" if "crypto" in fields else "Crypto")  # geth wrote the capital once
    if crypto.text("cipher") != "aes-128-ctr":
        raise crypto.error("cipher", "expected aes-128-ctr")
    ciphertext = _hex(crypto, "ciphertext", 32)
    iv = _hex(crypto.object("cipherparams"), "iv", 16)
    mac = _hex(crypto, "mac", 32)
    derived = _derive(crypto, password)
    if not hmac.compare_digest(keccak(derived[16:32] + ciphertext), mac):
        raise LocalProtocolError("wrong password, or a damaged file", field="keystore")
    key = _aes_ctr(derived[:16], iv, ciphertext)
    if fields.document.get("address") not in (None, ""):
        named = fields.text("address").lower().removeprefix("0x")
        if named != public_address(key)[2:]:
            raise fields.error("address", "not the address of the key inside")
    return key


def _derive(crypto: Fields, password: bytes) -> bytes:
    params = crypto.object("kdfparams")
    if params.integer("dklen") != _DERIVED:
        raise params.error("dklen", f"expected {_DERIVED}")
    salt = params.get(_octets, "salt")
    kdf = crypto.text("kdf")
    if kdf == "scrypt":
        n, r, p = (params.integer(name) for name in ("n", "r", "p"))
        if n < 2 or n & (n - 1) or r < 1 or 128 * n * r > _MOST_MEMORY:
            raise params.error("n", "not a power of two, or more memory than a gigabyte")
        if not 1 <= p <= _MOST_LANES:
            raise params.error("p", f"not from 1 to {_MOST_LANES}")
        memory = 128 * r * (n + p + 2) + 4096  # what OpenSSL counts, and a little
        try:
            return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=_DERIVED)
        except ValueError:  # such as an n too large for its r
            raise params.error("n", "not what scrypt takes") from None
    if kdf != "pbkdf2":
        raise crypto.error("kdf", "expected scrypt or pbkdf2")
    if params.text("prf") != "hmac-sha256":
        raise params.error("prf", "expected hmac-sha256")
    rounds = params.integer("c")
    if not 1 <= rounds <= _MOST_ROUNDS:
        raise params.error("c", f"not from 1 to {_MOST_ROUNDS}")
    return hashlib.pbkdf2_hmac("sha256", password, salt, rounds, _DERIVED)


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    from Crypto.Cipher import AES

    return AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=iv).decrypt(data)


def _hex(fields: Fields, name: str, size: int) -> bytes:
    """Return a member of exactly ``size`` bytes; some writers drop leading zeros, and none may be longer."""
    found = fields.get(_octets, name)
    if not found or len(found) > size:
        raise fields.error(name, f"expected {size} bytes of hex")
    return found.rjust(size, b"\0")


def _octets(value: object, at: str) -> bytes:
    if isinstance(value, str):
        digits = value.removeprefix("0x")
        value = "0x" + "0" * (len(digits) % 2) + digits
    return parse_hex(value, at, most=1024)
