"""An event and all that follow from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from .events import BaseEvent, BreakEvent, Dependencies, EventBus

__all__ = ["EventChain"]

_DEEPEST: Final = 32  # handlers that answer one another for ever are cut off


class EventChain:
    """Tell a bus of an event, then of those its subscribers answer with."""

    def __init__(self, event_bus: EventBus, deps: Dependencies) -> None:
        self.event_bus = event_bus
        self.deps = deps

    async def execute(self, initial_event: BaseEvent) -> AsyncGenerator[BaseEvent, None]:
        """Yield the events that follow, each before those that follow from it; end whatever handlers do."""
        waiting = [(initial_event, 0)]
        while waiting:
            event, depth = waiting.pop(0)
            if isinstance(event, BreakEvent) or depth > _DEEPEST:
                continue
            async for following in self.event_bus.dispatch(event, self.deps):
                yield following
                waiting.append((following, depth + 1))
