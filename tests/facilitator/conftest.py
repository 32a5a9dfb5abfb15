"""One embedded chain for all tests of this folder; every test has accounts and a facilitator of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.facilitator.desk import Desk
from tests.shop import Ground, on_devnet


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def desk(ground: Ground, tmp_path: Path) -> Iterator[Desk]:
    with Desk(ground, tmp_path) as desk:
        yield desk
