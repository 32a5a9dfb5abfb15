"""Every door under the oldest release of its framework that pyproject.toml allows: its own tests, in another environment.

``python -m tests.install_peers`` makes it (``OLDEST`` there).
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.chains import Missing
from tests.install_peers import OLDEST

ROOT = Path(__file__).resolve().parents[2]
DOORS = ("test_fastapi.py", "test_audit.py", "sync")


@pytest.fixture
def python() -> str:
    found = os.environ.get("X402_OLDEST_PYTHON")
    if not found:
        raise Missing("the oldest frameworks are missing: python -m tests.install_peers, or set X402_OLDEST_PYTHON")
    return found


def test_the_oldest_is_what_the_package_allows() -> None:
    allowed = (ROOT / "pyproject.toml").read_text()
    for name in ("fastapi", "starlette", "flask", "django"):
        (pinned,) = (each.partition("==")[2] for each in OLDEST if each.startswith(f"{name}=="))
        (least,) = set(re.findall(rf'"{name}>=([0-9.]+)"', allowed))
        assert pinned in (least, f"{least}.0"), name


@pytest.mark.peer
def test_the_doors_work_with_the_oldest_frameworks(python: str) -> None:
    environ = {**os.environ, "X402_CI": ""}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/servers/{door}" for door in DOORS)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "skipped" not in done.stdout
