"""The fixture every transcript test takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.playbook import Play


@pytest.fixture
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Return a maker of playbooks; each has to be ended before the test ends."""
    maker = Play()
    failed = request.session.testsfailed
    yield maker
    if request.session.testsfailed == failed:
        maker.check()
