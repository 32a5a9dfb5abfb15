"""Which rows of a table the transcripts took: the machine's ``trace`` hook is pointed here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.playbook import REGISTRY, Play
from x402core.machines.machine import Input, Machine, State

__all__ = ["Rows"]


class Rows:
    """Remember rows taken by one machine's transcripts."""

    def __init__(self, machine: type[Machine[Any, Any]]) -> None:
        self.machine = machine
        self.taken: set[tuple[State, Input]] = set()

    def __call__(self, name: str, state: State, input_: Input, next_: State) -> None:
        """Note one row (the ``trace`` hook)."""
        assert name == self.machine.__name__
        self.taken.add((state, input_))

    def check(self, *modules: str) -> None:
        """Assert that every row was taken; run the modules' transcripts first, so that one test can be run alone."""
        for module in modules:
            import_module(module)
        own = tuple(module.rpartition(".")[2] + ":" for module in modules)
        for name, script in REGISTRY.items():
            if name.startswith(own):
                script(Play())
        rows = {(row.state, row.input) for row in self.machine.TABLE}
        missed = sorted(f"{state.name}, {input_.name}" for state, input_ in rows - self.taken)
        assert not missed, f"no transcript takes {missed}"
        assert self.taken <= rows
