"""Access tokens: mint and check, pure.

A token is ``base64url(claims JSON) . base64url(HMAC-SHA256(key, first part))``, the shape of x402-mock's (seeds.md 1.2), so
its own clients carry it unchanged; but where that token says only when it ends, this one is bound to its payer, its
audience and scope, its payment and the id of the key that signed it (defect A9).  What no signature can say -- that the
settlement behind it ended void -- is asked of the ledger (``CheckPayment``) on every use.

Malformed text of any kind gives a :class:`~x402core.errors.Refusal`, never an exception (defect A7).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from .errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from .values import Address, Millis, Network, Seconds, parse_address, parse_network, parse_seconds, seconds
from .wire.fields import Fields
from .wire.json import dumps, loads

__all__ = ["KeyRing", "TokenClaims", "check_token", "mint"]

_MOST: Final = 2048
_SHORTEST_KEY: Final = 32
_KID = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The HMAC keys by id; ``active`` signs, all of them check, so that keys rotate without breaking held tokens.

    Keys are at least 32 bytes.  Raises: LocalProtocolError.  The keys never show in a repr.
    """

    keys: Mapping[str, bytes] = field(repr=False)
    active: str

    def __post_init__(self) -> None:
        for kid, key in self.keys.items():
            if _KID.fullmatch(kid) is None:
                raise LocalProtocolError("a key id is 1 to 32 letters, digits, dots, dashes or underscores", field="keys")
            if not isinstance(key, bytes) or len(key) < _SHORTEST_KEY:
                raise LocalProtocolError(f"key {kid!r} is not at least {_SHORTEST_KEY} bytes", field="keys")
        if self.active not in self.keys:
            raise LocalProtocolError(f"no key is called {self.active!r}", field="active")
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))

    @classmethod
    def single(cls, key: bytes, kid: str = "1") -> KeyRing:
        """Return a ring of one key."""
        return cls({kid: key}, kid)


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token says: who paid, for what, by which payment (``Permit.key``), and until when (Unix seconds)."""

    payer: Address
    network: Network
    payment: str
    audience: str
    scope: str
    issued: Seconds
    expires: Seconds
    nonce: str


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _b64(data) != text:  # non-zero trailing bits: a second spelling of the same token
        raise ValueError("not canonical")
    return data


def _mac(key: bytes, payload: str) -> bytes:
    return hmac.new(key, payload.encode(), hashlib.sha256).digest()


def mint(claims: TokenClaims, ring: KeyRing) -> str:
    """Return the token text for these claims, signed with the ring's active key."""
    payload = _b64(
        dumps(
            {
                "aud": claims.audience,
                "exp": claims.expires,
                "iat": claims.issued,
                "kid": ring.active,
                "net": claims.network,
                "nonce": claims.nonce,
                "pay": claims.payment,
                "scope": claims.scope,
                "sub": claims.payer,
            }
        )
    )
    return f"{payload}.{_b64(_mac(ring.keys[ring.active], payload))}"


def check_token(text: str, ring: KeyRing, *, now: Millis, audience: str, scope: str) -> TokenClaims | Refusal:
    """Check a token's form, signature, time, audience and scope, in that order; total."""
    match = _TOKEN.fullmatch(text) if len(text) <= _MOST else None
    if match is None:
        return Refusal(Reason.TOKEN_FORMAT)
    payload, signature = match[1], match[2]
    try:
        fields = Fields(loads(_unb64(payload), most=_MOST, source="token"), source="token")
        key = ring.keys.get(fields.text("kid"))
        if key is None or not hmac.compare_digest(_mac(key, payload), _unb64(signature)):
            return Refusal(Reason.TOKEN_SIGNATURE)
        claims = TokenClaims(
            payer=fields.get(parse_address, "sub"),
            network=fields.get(parse_network, "net"),
            payment=fields.text("pay"),
            audience=fields.text("aud"),
            scope=fields.text("scope"),
            issued=fields.get(parse_seconds, "iat"),
            expires=fields.get(parse_seconds, "exp"),
            nonce=fields.text("nonce"),
        )
    except (RemoteProtocolError, ValueError, binascii.Error):
        return Refusal(Reason.TOKEN_FORMAT)
    if seconds(now) >= claims.expires:
        return Refusal(Reason.TOKEN_EXPIRED)
    if (claims.audience, claims.scope) != (audience, scope):
        return Refusal(Reason.TOKEN_SCOPE, "this token was bought for something else")
    return claims
