"""The client."""

from __future__ import annotations

from .http_client import Http402Client

__all__ = ["Http402Client"]
