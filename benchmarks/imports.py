"""What importing costs: fresh interpreters, with and without, in turn; the medians' difference and the modules loaded."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

ROUNDS = 15
SUBJECTS = {
    "x402core": "import x402core",
    "x402core, every public name": "import x402core; [getattr(x402core, n) for n in x402core.__all__]",
}


def wall(code: str) -> float:
    """Return the milliseconds a fresh interpreter takes to run ``code``."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return 1000 * (time.perf_counter() - began)


def modules(code: str) -> int:
    """Return how many modules ``code`` loads that a bare interpreter has not."""
    count = f"import sys; n = len(sys.modules)\n{code}\nprint(len(sys.modules) - n)"
    return int(subprocess.run([sys.executable, "-c", count], check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Measure and print."""
    figures = {}
    for name, code in SUBJECTS.items():
        bare, loaded = [], []
        for _ in range(ROUNDS):
            bare.append(wall("pass"))
            loaded.append(wall(code))
        over = statistics.median(loaded) - statistics.median(bare)
        figures[name] = {"ms_over_bare": round(over, 1), "modules": modules(code)}
    if "--json" in sys.argv:
        print(json.dumps(figures, indent=2))
    else:
        for name, figure in figures.items():
            print(f"{name:<30} {figure['ms_over_bare']:>7} ms over a bare interpreter, {figure['modules']} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
