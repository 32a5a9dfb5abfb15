"""Keys for access tokens, and tokens of one's own.

What ``Http402Server`` hands out is minted by the core, bound to payer, route and payment.  :func:`generate_token` and
:func:`verify_token` are for code that used them by itself; they say nothing of any payment.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets
import string
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from x402bind.compat.x402_mock.errors import InvalidTokenError, TokenExpiredError
from x402core.errors import LocalProtocolError

__all__ = ["create_private_key", "generate_token", "save_key_to_env", "verify_token"]

_SPECIAL: Final = "!@#$%^&*()_+-="
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def create_private_key(*, prefix: str = "", length: int = 32, use_special_chars: bool = False) -> str:
    """Return a random key of ``length`` letters and digits (and specials) behind ``prefix``: for tokens, not for money."""
    alphabet = string.ascii_letters + string.digits + (_SPECIAL if use_special_chars else "")
    return prefix + "".join(secrets.choice(alphabet) for _ in range(length))


def save_key_to_env(key_name: str, key_value: str, env_file: str = ".env") -> None:
    """Write a key into a ``.env`` file, in place of the line that had it, readable by its owner only; all or nothing.

    Raises: LocalProtocolError naming the argument.
    """
    if _NAME.fullmatch(key_name) is None:
        raise LocalProtocolError("a name of letters, digits and underscores", field="key_name")
    if not key_value.isprintable():
        raise LocalProtocolError("one line of printable text", field="key_value")
    path = Path(env_file)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    line = f"{key_name}={key_value}"
    at = next((index for index, each in enumerate(lines) if each.startswith(f"{key_name}=")), None)
    lines = [*lines, line] if at is None else [*lines[:at], line, *lines[at + 1 :]]
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    Path(temporary).replace(path)


def generate_token(*, private_key: str, expires_in: int = 3600, nonce_length: int = 16) -> str:
    """Return a signed token that says when it was made and when it ends."""
    now = int(time.time())
    payload = {"iat": now, "exp": now + expires_in, "nonce": secrets.token_urlsafe(nonce_length)}
    text = _b64(json.dumps(payload, separators=(",", ":"), sort_keys=True).encode())
    return f"{text}.{_b64(_mac(private_key, text))}"


def verify_token(*, token: str, private_key: str, leeway: int = 0) -> dict[str, Any]:
    """Return a token's payload.  Raises: InvalidTokenError whatever else the text is (A7); TokenExpiredError."""
    text, dot, signature = token.partition(".")
    try:
        mine = bool(dot) and hmac.compare_digest(_mac(private_key, text), _unb64(signature))
        payload = json.loads(_unb64(text)) if mine else None
    except (ValueError, binascii.Error):
        raise InvalidTokenError("Invalid token format") from None
    if not mine:
        raise InvalidTokenError("Signature verification failed" if dot else "Invalid token format")
    if not isinstance(payload, dict) or not isinstance(payload.get("exp"), int):
        raise InvalidTokenError("Invalid token format")
    if time.time() > payload["exp"] + leeway:
        raise TokenExpiredError("Token has expired")
    return payload


def _mac(key: str, text: str) -> bytes:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
