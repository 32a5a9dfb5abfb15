"""What an adapter for one kind of chain has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["AdapterFactory"]


class AdapterFactory(ABC):
    """One kind of chain: sign, verify and settle permits there."""

    @abstractmethod
    async def verify_signature(self, permit: Any, payment_requirement: Any) -> Any:
        """Say whether a permit pays what is required."""

    @abstractmethod
    async def settle(self, permit: Any) -> Any:
        """Move a permit's money and say what became of it."""

    @abstractmethod
    async def get_balance(self, address: str, token_address: str | None = None) -> int:
        """Return an account's atomic units of a token."""

    @abstractmethod
    async def signature(self, payment_component: Any) -> Any:
        """Return a signed permit for a component."""

    @abstractmethod
    def get_wallet_address(self) -> str:
        """Return the wallet's address."""
