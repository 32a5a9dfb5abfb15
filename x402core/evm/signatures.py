"""What kind of signature a payload carries, decided once, from its bytes alone.

An account without code signs with its key (65 bytes); a contract account validates bytes of its own making (ERC-1271); one
that is not deployed yet wraps them with the call that deploys it (ERC-6492).  Whether the payer *has* code, and so which
kind it may use, is the chain's to say (x402.md 2.0); an EIP-7702 delegation is such code and leaves no trace here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from x402core.errors import Reason, RemoteProtocolError
from x402core.values import Address

from . import abi
from .secp256k1 import parse_signature

__all__ = ["ContractSignature", "DeploylessSignature", "EoaSignature", "Signature", "classify"]

_ERC6492_SUFFIX: Final = bytes.fromhex("6492" * 16)


@dataclass(frozen=True, slots=True)
class EoaSignature:
    """A key's signature: 1 <= r < n, 1 <= s <= n/2, v 27 or 28."""

    r: int
    s: int
    v: int

    def __bytes__(self) -> bytes:
        """Return r || s || v, 65 bytes."""
        return self.r.to_bytes(32, "big") + self.s.to_bytes(32, "big") + bytes((self.v,))


@dataclass(frozen=True, slots=True)
class ContractSignature:
    """Bytes that only the payer's contract can judge (ERC-1271)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class DeploylessSignature:
    """A signature of a contract not deployed yet (ERC-6492): call ``factory`` with ``calldata``, then judge ``inner``."""

    factory: Address
    calldata: bytes
    inner: bytes


Signature: TypeAlias = EoaSignature | ContractSignature | DeploylessSignature


def classify(signature: bytes) -> Signature:
    """Return what a signature's bytes are.

    Raises: RemoteProtocolError (``Reason.SIGNATURE``) for no bytes, 65 bytes with an r, s or v the chain refuses, or an
    ERC-6492 suffix after bytes that are not its ABI encoding.
    """
    if len(signature) == 65:
        return EoaSignature(*parse_signature(signature))
    if not signature:
        raise RemoteProtocolError("signature is empty", reason=Reason.SIGNATURE)
    if not signature.endswith(_ERC6492_SUFFIX):
        return ContractSignature(signature)
    try:
        factory, calldata, inner = abi.decode(("address", "bytes", "bytes"), signature[:-32])
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"ERC-6492 signature: {error.text}", reason=Reason.SIGNATURE) from None
    assert isinstance(factory, str)
    assert isinstance(calldata, bytes)
    assert isinstance(inner, bytes)
    return DeploylessSignature(Address(factory), calldata, inner)
