"""The two chains every flow is tried on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.shop import Ground, on_anvil, on_devnet


@pytest.fixture(scope="package", params=[on_devnet, pytest.param(on_anvil, marks=pytest.mark.anvil)], ids=["devnet", "anvil"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with request.param() as ground:
        yield ground
