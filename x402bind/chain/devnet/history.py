"""Where the chain has been: the list of every change made to its state, replayed to stand at an earlier point.

pyrevm can copy no state, and executing is cheap (tens of microseconds a transaction), so the past is a recipe instead of a
copy: a snapshot is a position in the list, going back is replaying up to it, and a read at an old block replays beside the
present.  The cost grows with the chain's length; a development chain is short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .vm import Vm

__all__ = ["History"]

T = TypeVar("T")


class History:
    """The present state, and the way to every earlier one.  A position counts the steps taken before it."""

    def __init__(self, chain_id: int) -> None:
        self._chain_id = chain_id
        self._steps: list[Callable[[Vm], object]] = []
        self.now = Vm(chain_id)
        self._past = Vm(chain_id)
        self._past_position = 0

    @property
    def position(self) -> int:
        """How many steps led here."""
        return len(self._steps)

    def take(self, step: Callable[[Vm], T]) -> T:
        """Change the present by ``step``, which must do the same whenever it is repeated on the same state."""
        result = step(self.now)
        self._steps.append(step)
        return result

    def at(self, position: int) -> Vm:
        """Return the state at an earlier position, for reading only; valid until the next call of this method."""
        if position == self.position:
            return self.now
        if position < self._past_position:
            self._past, self._past_position = Vm(self._chain_id), 0
        for step in self._steps[self._past_position : position]:
            step(self._past)
        self._past_position = position
        return self._past

    def rewind(self, position: int) -> None:
        """Go back to an earlier position and forget what came after it."""
        if position < self.position:
            self.now = self.at(position)
            del self._steps[position:]
            self._past, self._past_position = Vm(self._chain_id), 0
