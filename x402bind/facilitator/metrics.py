"""Counters in the Prometheus text format (version 0.0.4), without a client library: a dictionary and a writer."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What a facilitator has done: requests by path and outcome, how long they took, and gauges asked when read."""

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]] | None = None) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self._gauges = dict(gauges or {})

    def count(self, path: str, outcome: str, seconds: float | None = None) -> None:
        """Count one request that took ``seconds``; None for one that was not even looked at."""
        with self._lock:
            self._requests[path, outcome] += 1
            if seconds is None:
                return
            self._buckets.setdefault(path, [0] * (len(_BOUNDS) + 1))[bisect_left(_BOUNDS, seconds)] += 1
            self._sums[path] = self._sums.get(path, 0.0) + seconds

    def text(self) -> str:
        """Return everything in the exposition format."""
        with self._lock:
            lines = ["# HELP x402_requests_total Requests by path and outcome.", "# TYPE x402_requests_total counter"]
            for (path, outcome), count in sorted(self._requests.items()):
                lines.append(f'x402_requests_total{{path="{path}",outcome="{outcome}"}} {count}')
            lines += ["# HELP x402_request_seconds How long requests took.", "# TYPE x402_request_seconds histogram"]
            for path, buckets in sorted(self._buckets.items()):
                total = 0
                for bound, count in zip((*map(str, _BOUNDS), "+Inf"), buckets, strict=True):
                    total += count
                    lines.append(f'x402_request_seconds_bucket{{path="{path}",le="{bound}"}} {total}')
                lines.append(f'x402_request_seconds_sum{{path="{path}"}} {self._sums[path]:.6f}')
                lines.append(f'x402_request_seconds_count{{path="{path}"}} {total}')
        for name, (text, read) in sorted(self._gauges.items()):
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {read():g}"]
        return "\n".join(lines) + "\n"
