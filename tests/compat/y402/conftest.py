"""One chain and one facilitator for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.y402.ground import Till, our_facilitator
from tests.shop import Ground, on_devnet


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture(scope="module")
def facilitator(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with our_facilitator(ground, tmp_path_factory.mktemp("facilitator")) as url:
        yield url


@pytest.fixture
def till(ground: Ground, facilitator: str, tmp_path: Path) -> Till:
    return Till(ground, facilitator, tmp_path)
