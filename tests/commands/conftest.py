"""One chain for all tests of the commands, and a clean environment for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shop import Ground, Shop, on_devnet


@pytest.fixture(scope="package")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def shop(ground: Ground, tmp_path: Path) -> Iterator[Shop]:
    with Shop(ground, tmp_path) as shop:
        yield shop


@pytest.fixture(autouse=True)
def no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("X402_PRIVATE_KEY", "X402_KEYSTORE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
