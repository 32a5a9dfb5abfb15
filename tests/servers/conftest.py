"""One chain for all tests of the edges, and shops with applications of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.shop import Ground, Shop, on_devnet


@pytest.fixture(scope="package")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def open_shop(ground: Ground, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Return a function that opens a shop with an application of its own."""
    opened: list[Shop] = []

    def make(build: Callable[..., Any], **seller: Any) -> Shop:
        shop = Shop(ground, tmp_path, door=build, **{"token_key": None, **seller})
        opened.append(shop.__enter__())
        return shop

    yield make
    for shop in opened:
        shop.__exit__()
