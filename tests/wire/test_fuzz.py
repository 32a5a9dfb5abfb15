"""The fuzz target runs, and its mutations reach both sides of every decoder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_fuzz_target_finds_nothing() -> None:
    script = Path(__file__).parents[2] / "fuzz" / "fuzz_wire.py"
    done = subprocess.run(
        [sys.executable, script, "--runs", "12000", "--seed", "402"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[:-1]]
    assert len(lines) == 37
    for name, fed, _, taken, _ in lines:
        assert int(taken) > 0, name
        assert int(taken) < int(fed) or name == "permit_token.refusal"
