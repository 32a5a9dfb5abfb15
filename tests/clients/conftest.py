"""A seller on a socket, and one chain for all tests of paying clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.fakes import FakeSeller, served
from tests.shop import Ground, on_devnet


@pytest.fixture(scope="package")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def seller() -> FakeSeller:
    return FakeSeller()


@pytest.fixture
def shop(seller: FakeSeller) -> Iterator[str]:
    with served(seller.asgi) as url:
        yield url
