"""The rule about peers (tests/conftest.py), shown on pytest itself: a missing one skips and says how to get it; CI fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ANVIL = "tests/e2e/test_first_money.py::test_a_402_offers_both_ways_and_is_never_stored"
MOCK = "tests/peers/test_x402_mock.py::test_our_client_buys_from_its_server_which_is_never_paid"
OFFICIAL = "tests/peers/test_official_baseline.py::test_its_word_for_a_settlement_is_not_enough"
PERMIT2 = "tests/chain/test_real_usdc.py::test_permit2_stands_at_its_canonical_address"


def pytest_without_peers(test: str, ci: str, folder: Path) -> tuple[int, str]:
    """Run one test on the embedded chain or on anvil, in an environment where no peer is to be found."""
    empty = {
        "X402_MOCK_PYTHON": "",
        "X402_MOCK3_PYTHON": "",
        "X402_Y402_PYTHON": "",
        "X402_OLDEST_PYTHON": "",
        "X402_OFFICIAL_PYTHON": "",
        "X402_NODE_MODULES": str(folder / "nowhere"),
        "X402_CI": ci,
        "PATH": "/usr/bin:/bin",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("X402_")} | empty
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "--basetemp", str(folder / "base"), test]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return ran.returncode, ran.stdout


@pytest.mark.parametrize("test", [f"{ANVIL}[anvil]", f"{MOCK}[devnet]", f"{PERMIT2}[devnet]", OFFICIAL])
def test_a_missing_peer_skips_with_a_reason_and_fails_in_ci(test: str, tmp_path: Path) -> None:
    code, said = pytest_without_peers(test, "", tmp_path)
    assert code == 0, said
    assert re.search(r"SKIPPED \[1\] .*missing: python -m tests.install_peers", said), said
    code, said = pytest_without_peers(test, "1", tmp_path)
    assert code == 1, said
    assert re.search(r"^1 (failed|error)", said, re.MULTILINE), said
    assert "python -m tests.install_peers" in said


def test_what_needs_no_peer_runs_without_any(tmp_path: Path) -> None:
    code, said = pytest_without_peers(f"{ANVIL}[devnet]", "1", tmp_path)
    assert (code, "1 passed" in said) == (0, True), said


def test_every_test_that_speaks_with_a_peer_is_marked() -> None:
    """So that ``-m "not peer and not anvil"`` is the whole suite of a machine without them."""
    folder = ROOT / "tests" / "peers"
    files = sorted(folder.glob("test_*.py"))
    assert files
    for file in files:
        assert "pytestmark = pytest.mark.peer" in file.read_text(encoding="utf-8"), file
