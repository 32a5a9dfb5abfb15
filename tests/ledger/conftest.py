"""One conformance suite, five ledgers: every test that takes ``ledger`` runs on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from x402bind.ledger import Ledger, MemoryLedger, SqliteLedger


class Reopened:
    """A sqlite ledger opened afresh for every call: whatever a call did not write down is gone by the next."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            ledger = SqliteLedger(self._path)
            try:
                return getattr(ledger, name)(*args, **more)
            finally:
                ledger.close()

        return call

    def close(self) -> None:
        """Nothing is open."""


class Alternating:
    """Two open connections to one file that take turns: what one has written the other must see."""

    def __init__(self, path: str) -> None:
        self._both = [SqliteLedger(path), SqliteLedger(path)]

    def __getattr__(self, name: str) -> Any:
        self._both.reverse()
        return getattr(self._both[0], name)

    def close(self) -> None:
        """Close both."""
        for ledger in self._both:
            ledger.close()


MAKERS: dict[str, Callable[[Path], object]] = {
    "memory": lambda path: MemoryLedger(),
    "sqlite": lambda path: SqliteLedger(str(path)),
    "sqlite-in-memory": lambda path: SqliteLedger(":memory:"),
    "sqlite-reopened": lambda path: Reopened(str(path)),
    "sqlite-alternating": lambda path: Alternating(str(path)),
}


@pytest.fixture(params=MAKERS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Return an empty ledger of each kind."""
    made = cast(Ledger, MAKERS[request.param](tmp_path / "ledger.db"))
    yield made
    made.close()


@pytest.fixture(params=["memory", "sqlite"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Return an empty ledger that threads may share."""
    made = cast(Ledger, MAKERS[request.param](tmp_path / "ledger.db"))
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return where a sqlite ledger may be made."""
    return str(tmp_path / "ledger.db")
