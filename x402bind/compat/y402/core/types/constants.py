"""The versions y402 names itself by: those of x402 v1, which it speaks."""

from __future__ import annotations

from typing import Final

__all__ = ["X402_VERSION", "Y402_VERSION"]

X402_VERSION: Final = 1
Y402_VERSION: Final = X402_VERSION
