"""Fixtures every test may take, and the one rule about peers.

A peer (anvil, real contracts, x402-mock) that is not installed skips the tests that need it, each saying how to install it.
With ``X402_CI=1`` nothing may be skipped: a skip is a failure then.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.chains import Missing
from tests.install_peers import PEERS
from tests.playbook import Play

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background jobs ignore it, and so would all they start
    signal.signal(signal.SIGINT, signal.default_int_handler)
_CI = os.environ.get("X402_CI") == "1"
_PYTHONS = {
    "mock": "X402_MOCK_PYTHON",
    "mock3": "X402_MOCK3_PYTHON",
    "y402": "X402_Y402_PYTHON",
    "x402": "X402_OFFICIAL_PYTHON",
    "oldest": "X402_OLDEST_PYTHON",
}
for _peer, _variable in _PYTHONS.items():
    _python = PEERS / _peer / "bin" / "python"
    if _python.exists():
        os.environ.setdefault(_variable, str(_python))


@pytest.fixture
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Return a maker of playbooks; each has to be ended before the test ends."""
    maker = Play()
    failed = request.session.testsfailed
    yield maker
    if request.session.testsfailed == failed:
        maker.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Skip a test whose fixtures miss a peer."""
    try:
        return (yield)
    except Missing as missing:
        _missing(missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Skip a test that misses a peer itself."""
    try:
        return (yield)
    except Missing as missing:
        _missing(missing)


def _missing(missing: Missing) -> None:
    if _CI:
        raise missing
    pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Turn a skip into a failure where nothing may be skipped; an expected failure with its reason is not a skip."""
    report = yield
    if _CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
