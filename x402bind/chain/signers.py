"""Who signs: a private key in this process, or anything that looks like it from outside.

A signer never signs blind.  Of typed data, or of a text, it computes the digest itself, from what a wallet would show, and
refuses when the command asks for another one; for transactions it refuses another chain's.  A key is turned into a signing
function at once: the object holds no key that could be printed, pickled or logged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn, Protocol, TypeVar, overload

from x402core.commands import Command, SignMessage, SignTransactions, SignTypedData
from x402core.errors import LocalProtocolError
from x402core.evm import secp256k1
from x402core.evm.address import checksum
from x402core.evm.eip712 import typed_data_digest
from x402core.evm.keccak import keccak
from x402core.values import Address, chain_id

__all__ = ["AsyncSigner", "PrivateKeySigner", "Signer", "check_signer", "message_digest", "shown_digest", "signer_of"]

_KEY = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII)
_HOW: Final = "give a private key as 64 hex digits or 32 bytes, or a signer"
_PARTS: Final = ("types", "primaryType", "domain", "message")


class Signer(Protocol):
    """An account that signs, in the calling thread."""

    @property
    def address(self) -> Address:
        """The account."""

    @overload
    def sign(self, command: SignTypedData | SignMessage) -> bytes: ...
    @overload
    def sign(self, command: SignTransactions) -> tuple[bytes, ...]: ...


class AsyncSigner(Protocol):
    """An account that signs elsewhere: a remote key store, a wallet a person holds."""

    @property
    def address(self) -> Address:
        """The account."""

    @overload
    async def sign(self, command: SignTypedData | SignMessage) -> bytes: ...
    @overload
    async def sign(self, command: SignTransactions) -> tuple[bytes, ...]: ...


class PrivateKeySigner:
    """Sign with a private key: 32 bytes, or 64 hex digits with or without ``0x``.

    Raises: LocalProtocolError (``field`` "key") for anything else; no error, repr or pickle ever has the key in it.
    """

    __slots__ = ("_sign", "address")

    def __init__(self, key: bytes | str) -> None:
        raw = _key_bytes(key)
        self._sign = secp256k1.signer(raw)
        self.address: Address = secp256k1.public_address(raw)

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the 65-byte signature r || s || v of 32 bytes.  The caller vouches for what they stand for."""
        return self._sign(digest)

    @overload
    def sign(self, command: SignTypedData | SignMessage) -> bytes: ...
    @overload
    def sign(self, command: SignTransactions) -> tuple[bytes, ...]: ...
    def sign(self, command: SignTypedData | SignMessage | SignTransactions) -> bytes | tuple[bytes, ...]:
        """Perform a signing command.  Raises: LocalProtocolError when it is not what it says; nothing is signed then."""
        if isinstance(command, SignTypedData):
            return self._shown(command, shown_digest(command.typed_data), "the typed data")
        if isinstance(command, SignMessage):
            return self._shown(command, message_digest(command.message), "the message")
        chain = chain_id(command.network)
        if any(each.chain_id != chain for each in command.transactions):
            raise LocalProtocolError(f"a transaction is not for {command.network}", field="transactions")
        return tuple([self._sign(each.signing_hash()) for each in command.transactions])

    def _shown(self, command: SignTypedData | SignMessage, digest: bytes, what: str) -> bytes:
        if command.account != self.address:
            raise LocalProtocolError(f"this signer is {checksum(self.address)}, not the account asked for", field="account")
        if digest != command.digest:
            raise LocalProtocolError(f"the digest is not that of {what}", field="digest")
        return self._sign(digest)

    @property
    def table(self) -> dict[type[Command[Any]], Any]:
        """What this performs, for ``drive.dispatch``."""
        return {SignTypedData: self.sign, SignMessage: self.sign, SignTransactions: self.sign}

    def __repr__(self) -> str:
        """Show the address only."""
        return f"PrivateKeySigner({checksum(self.address)})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("a signer is not to be pickled or copied: it stands for a private key")


@overload
def signer_of(key: str | bytes | Signer | None, field: str = "key") -> Signer: ...
@overload
def signer_of(key: str | bytes | Signer | AsyncSigner | None, field: str = "key") -> Signer | AsyncSigner: ...
def signer_of(key: str | bytes | Signer | AsyncSigner | None, field: str = "key") -> Signer | AsyncSigner:
    """Return what signs for what a user wrote as ``field``.  Raises: LocalProtocolError that never has the key in it."""
    if isinstance(key, str | bytes):
        try:
            return PrivateKeySigner(key)
        except LocalProtocolError as error:
            raise LocalProtocolError(error.message.removeprefix("key: "), field=field) from None
    return check_signer(key, field)


S = TypeVar("S", bound="Signer | AsyncSigner")


def check_signer(signer: S | None, field: str = "signer") -> S:
    """Return a signer that is one.  Raises: LocalProtocolError(field=``field``)."""
    if signer is None or isinstance(signer, str | bytes):
        raise _no_key(signer, field)
    if not callable(getattr(signer, "sign", None)) or not isinstance(getattr(signer, "address", None), str):
        raise _no_key(signer, field)
    return signer


def message_digest(message: str) -> bytes:
    """Return the digest of a text as a wallet signs it (``personal_sign``, EIP-191 version 0x45)."""
    text = message.encode()
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)


def shown_digest(typed_data: Mapping[str, object]) -> bytes:
    """Return the digest of what a wallet shows (``eth_signTypedData_v4``).  Raises: LocalProtocolError when malformed."""
    types, primary, domain, message = (typed_data.get(name) for name in _PARTS)
    if not (isinstance(types, Mapping) and isinstance(primary, str) and isinstance(domain, Mapping)):
        raise LocalProtocolError("expected types, primaryType, domain and message", field="typed_data")
    if not isinstance(message, Mapping):
        raise LocalProtocolError("expected a message", field="typed_data")
    return typed_data_digest(types, primary, domain, message)


def _key_bytes(key: bytes | str) -> bytes:
    if isinstance(key, bytes) and len(key) == 32:
        return key
    match = _KEY.fullmatch(key) if isinstance(key, str) else None
    if match is None:
        raise _no_key(key, "key")
    return bytes.fromhex(match[1])


def _no_key(value: object, field: str) -> LocalProtocolError:
    """Say what to write instead; of what was written, its type at most."""
    text = isinstance(value, str | bytes)
    if value is None or (text and not value):
        return LocalProtocolError(f"{'empty' if text else 'None'}: is the variable not set? {_HOW}", field=field)
    return LocalProtocolError(f"{'no private key' if text else f'{type(value).__name__} does not sign'}: {_HOW}", field=field)
