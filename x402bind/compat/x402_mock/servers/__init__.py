"""The server."""

from __future__ import annotations

from .apps import Http402Server
from .security import create_private_key, generate_token, save_key_to_env, verify_token

__all__ = ["Http402Server", "create_private_key", "generate_token", "save_key_to_env", "verify_token"]
