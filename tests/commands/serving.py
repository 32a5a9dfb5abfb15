"""Commands that listen, each in a process of its own on loopback, stopped as a person stops them."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import IO, Any, Self

from tests.shop import until

from .running import COMMAND, Done, checked


class Serving:
    """``x402 ARGUMENTS``, at any port unless they say which, while the block runs; ``url`` is where it says that it is."""

    def __init__(self, *arguments: str, secrets: tuple[str, ...] = (), cwd: Path | None = None, **environ: str) -> None:
        self.arguments, self.secrets, self.cwd = (arguments[0], "--port", "0", *arguments[1:]), secrets, cwd
        self.environ = {**os.environ, **environ, "PYTHONUNBUFFERED": "1"}
        self.lines: dict[str, list[str]] = {"out": [], "err": []}
        self.done: Done | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*COMMAND, *self.arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.cwd,
        )
        for name, stream in (("out", self.process.stdout), ("err", self.process.stderr)):
            threading.Thread(target=self._read, args=(stream, self.lines[name]), daemon=True).start()
        until(lambda: self.lines["out"] or self.process.poll() is not None, 30)
        if not self.lines["out"]:
            self.stop()
            raise AssertionError(self.err)
        self.url = self.lines["out"][0].split(": ", 1)[1].strip()
        return self

    @staticmethod
    def _read(stream: IO[str] | None, lines: list[str]) -> None:
        assert stream is not None
        for line in stream:
            lines.append(line)

    @property
    def err(self) -> str:
        return "".join(self.lines["err"])

    def stop(self, how: int = signal.SIGINT) -> Done:
        """Press Ctrl-C, and return what was said and the exit code."""
        if self.done is None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            code = self.process.wait(20)
            out = "".join(self.lines["out"]).encode()
            self.done = Done(code, out, self.err)
        return self.done

    def __exit__(self, kind: object, *_: Any) -> None:
        done = self.stop()
        if kind is None:
            checked(done, self.secrets)
