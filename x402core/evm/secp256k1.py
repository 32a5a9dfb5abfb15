"""ECDSA over secp256k1 as Ethereum uses it: recover a signer from a digest, and sign one.

A signature is 65 bytes, r || s || v, with v 27 or 28 and s in the lower half of the order (EIP-2, and the ``ECRecover``
library of the USDC token, which rejects everything else on chain).  The form is checked before any backend sees it, so
that a payment's verdict cannot depend on which accelerator happens to be installed.

Recovery runs in libsecp256k1 (``coincurve``) when that is installed, else in :mod:`x402core.evm.curve`.  Keys are
arguments, never state: a caller that signs often keeps the closure :func:`signer` returns, and with it the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.values import Address

from .address import public_key_address
from .curve import HALF_N, N, lift_x, linear_combination

__all__ = [
    "backend",
    "parse_signature",
    "public_address",
    "recover",
    "recover_public_key",
    "recover_public_key_pure",
    "recover_pure",
    "sign",
    "signer",
]

_UNRECOVERABLE: Final = "no public key gives this signature"


def recover(digest: bytes, signature: bytes) -> Address:
    """Return the address whose key made the 65-byte ``signature`` over the 32-byte ``digest``.

    Raises: RemoteProtocolError (``Reason.SIGNATURE``) for a wrong length, v, r or s, or when no key could have made it.
    """
    return public_key_address(recover_public_key(digest, signature))


def recover_pure(digest: bytes, signature: bytes) -> Address:
    """Return what :func:`recover` returns, computed without libsecp256k1."""
    return public_key_address(recover_public_key_pure(digest, signature))


def recover_public_key(digest: bytes, signature: bytes) -> bytes:
    """Return the signer's public key, 64 bytes x || y (SEC 1, 4.1.6).  Raises: as :func:`recover`."""
    r, s, v = parse_signature(signature)
    _check_digest(digest)
    return _recover(digest, signature, r, s, v)


def recover_public_key_pure(digest: bytes, signature: bytes) -> bytes:
    """Return what :func:`recover_public_key` returns, computed without libsecp256k1."""
    r, s, v = parse_signature(signature)
    _check_digest(digest)
    return _recover_pure(digest, signature, r, s, v)


def parse_signature(signature: bytes) -> tuple[int, int, int]:
    """Return (r, s, v) of a 65-byte signature: 1 <= r < n, 1 <= s <= n/2, v 27 or 28.

    Raises: RemoteProtocolError (``Reason.SIGNATURE``).  On chain v = 0 or 1 reverts, so it is refused, not repaired.
    """
    if len(signature) != 65:
        raise _refused(f"signature must be 65 bytes, not {len(signature)}")
    v = signature[64]
    if v != 27 and v != 28:
        raise _refused(f"signature's v must be 27 or 28, not {v}")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not 0 < r < N:
        raise _refused("signature's r is not between 1 and the group order")
    if not 0 < s <= HALF_N:
        raise _refused("signature's s is zero or above half the group order")
    return r, s, v


def backend() -> str:
    """Return the name of what recovers: ``coincurve`` or ``python``."""
    return "coincurve" if _load() is _recover_coincurve else "python"


def _refused(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(text, reason=Reason.SIGNATURE)


def _check_digest(digest: bytes) -> None:
    if len(digest) != 32:
        raise LocalProtocolError(f"a digest is 32 bytes, not {len(digest)}", field="digest")


_Recover = Callable[[bytes, bytes, int, int, int], bytes]


def _recover_pure(digest: bytes, _signature: bytes, r: int, s: int, v: int) -> bytes:
    """Compute Q = (s*R - z*G) / r.

    R's x is r itself, never r + n: v says 27 or 28, and 29 and 30, which would mean that, are not accepted on chain.
    """
    point = lift_x(r, v - 27)
    if point is None:
        raise _refused(_UNRECOVERABLE)
    inverse = pow(r, -1, N)
    public = linear_combination(-int.from_bytes(digest, "big") * inverse % N, s * inverse % N, point)
    if public is None:  # s*R = z*G: Q would be the point at infinity
        raise _refused(_UNRECOVERABLE)
    return public[0].to_bytes(32, "big") + public[1].to_bytes(32, "big")


def _recover_coincurve(digest: bytes, signature: bytes, _r: int, _s: int, v: int) -> bytes:
    from coincurve import PublicKey

    try:
        public = PublicKey.from_signature_and_message(signature[:64] + _RECOVERY_ID[v - 27], digest, hasher=None)
    except ValueError:
        raise _refused(_UNRECOVERABLE) from None
    return public.format(False)[1:]


_RECOVERY_ID: Final = (b"\0", b"\1")


def _load() -> _Recover:
    """Choose the backend, at the first use and not at import."""
    global _recover
    try:
        import coincurve  # noqa: F401
    except ImportError:
        _recover = _recover_pure
    else:
        _recover = _recover_coincurve
    return _recover


def _first(digest: bytes, signature: bytes, r: int, s: int, v: int) -> bytes:
    return _load()(digest, signature, r, s, v)


_recover: _Recover = _first


def signer(key: bytes) -> Callable[[bytes], bytes]:
    """Return a function that signs 32-byte digests with ``key`` as :func:`sign` does; the closure holds the key.

    Raises: LocalProtocolError when ``key`` is not 32 bytes with 1 <= key < n; the error never contains the key.
    """
    _check_key(key)
    try:
        from coincurve import PrivateKey
    except ImportError:
        return _signer_eth_keys(key)
    sign_recoverable = PrivateKey(key).sign_recoverable

    def sign_digest(digest: bytes) -> bytes:
        _check_digest(digest)
        compact = sign_recoverable(digest, hasher=None)
        return compact[:64] + bytes((27 + compact[64],))

    return sign_digest


def _signer_eth_keys(key: bytes) -> Callable[[bytes], bytes]:
    from eth_keys.backends.native.main import NativeECCBackend
    from eth_keys.datatypes import PrivateKey

    private = PrivateKey(key, backend=NativeECCBackend())

    def sign_digest(digest: bytes) -> bytes:
        _check_digest(digest)
        compact = private.sign_msg_hash(digest).to_bytes()
        return compact[:64] + bytes((27 + compact[64],))

    return sign_digest


def sign(digest: bytes, key: bytes) -> bytes:
    """Return the 65-byte signature r || s || v over a 32-byte ``digest``: RFC 6979 nonce, low s, v 27 or 28.

    Raises: LocalProtocolError for an invalid key or digest.  Signing often with one key?  Keep a :func:`signer`.
    """
    return signer(key)(digest)


def public_address(key: bytes) -> Address:
    """Return the address of a 32-byte private ``key``.  Raises: LocalProtocolError, never with the key in it."""
    _check_key(key)
    try:
        from coincurve import PublicKey
    except ImportError:
        from eth_keys.backends.native.main import NativeECCBackend
        from eth_keys.datatypes import PrivateKey

        return public_key_address(PrivateKey(key, backend=NativeECCBackend()).public_key.to_bytes())
    return public_key_address(PublicKey.from_valid_secret(key).format(False)[1:])


def _check_key(key: bytes) -> None:
    if not isinstance(key, bytes) or len(key) != 32:
        raise LocalProtocolError("a private key is 32 bytes", field="key")
    if not 0 < int.from_bytes(key, "big") < N:
        raise LocalProtocolError("a private key is between 1 and the group order", field="key")
