"""A browser, a chain, and a watch over every other host, for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.paywall.browser import Elsewhere, chromium
from tests.shop import Ground, on_devnet


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """Stand for every other host."""
    with Elsewhere() as elsewhere:
        yield elsewhere


@pytest.fixture(scope="module")
def browser(elsewhere: Elsewhere) -> Iterator[Any]:
    with chromium(elsewhere) as browser:
        yield browser


@pytest.fixture
def no_other_host(elsewhere: Elsewhere) -> Iterator[None]:
    """Whatever a page is made to show, no connection leaves for another host."""
    yield
    assert elsewhere.visitors() == 0


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground
