"""One embedded chain for all tests of this folder; every test has accounts and a facilitator of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chains import RealUSDC, Rpc
from tests.contracts import place_all
from tests.facilitator.desk import Desk, Town
from tests.shop import Ground, on_devnet
from x402bind.chain.devnet import Devnet


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def desk(ground: Ground, tmp_path: Path) -> Iterator[Desk]:
    with Desk(ground, tmp_path) as desk:
        yield desk


@pytest.fixture(scope="session")
def town() -> Iterator[Town]:
    """The embedded chain with Circle's USDC, Permit2, the proxies and smart wallets on it."""
    with Devnet() as devnet:
        rpc = Rpc(devnet.url)
        placed = place_all(rpc)
        RealUSDC.place(rpc)
        yield Town(Ground(devnet.url, rpc, devnet), placed)
        rpc.close()
