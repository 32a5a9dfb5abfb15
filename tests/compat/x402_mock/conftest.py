"""One chain for a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .stand import Sepolia, on_devnet


@pytest.fixture(scope="module")
def chain() -> Iterator[Sepolia]:
    """The embedded chain, saying that it is Sepolia."""
    with on_devnet() as chain:
        yield chain
