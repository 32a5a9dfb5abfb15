"""One chain for all tests of the edges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.shop import Ground, on_devnet


@pytest.fixture(scope="package")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground
