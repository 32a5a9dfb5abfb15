"""How many settlements ask a node, or a facilitator, at once: as many as the worker is told, also in a forked child."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest

from x402bind.leaves import FirstOf, HttpCall, HttpReply
from x402bind.ledger import MemoryLedger
from x402bind.worker import SettlingMachine, Worker
from x402core.commands import Command
from x402core.ledger import SettlementRecord
from x402core.machines.machine import Steps


class Asker(Worker):
    """A worker whose node answers when ``go`` is set; ``at_once`` is how many ever waited for it together."""

    def __init__(self, most: int) -> None:
        super().__init__(MemoryLedger(), most=most)
        self.go = anyio.Event()
        self.asking = self.at_once = self.answered = 0

    def performers(self) -> Mapping[type[Command[Any]], Callable[[Any], Any]]:
        return {HttpCall: self._ask, FirstOf: self._ask}

    async def _ask(self, command: Command[Any]) -> HttpReply:
        self.asking += 1
        self.at_once = max(self.at_once, self.asking)
        try:
            await self.go.wait()
            if "broken" in getattr(command, "url", ""):
                raise OSError("broken")
        finally:
            self.asking -= 1
        self.answered += 1
        return HttpReply(200, (), b"")

    async def ask(self, command: Command[Any]) -> None:
        """Ask as a settlement does."""
        try:
            await self._perform("key", None, command)  # type: ignore[arg-type]
        except OSError:
            return

    def machine(self) -> SettlingMachine:
        raise NotImplementedError

    def mine(self, record: SettlementRecord) -> bool:
        raise NotImplementedError

    def translated(self, driven: Steps) -> Steps:
        raise NotImplementedError


CALL = HttpCall("POST", "https://node.test/")
BROKEN = HttpCall("POST", "https://node.test/broken")
KINDS: dict[str, Command[Any]] = {"one": CALL, "race": FirstOf((CALL, CALL), 0.1)}


@pytest.mark.parametrize("forked", [False, True])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_no_more_ask_at_once_than_the_worker_is_told_and_all_have_their_turn(kind: str, most: int, forked: bool) -> None:
    async def test() -> None:
        worker = Asker(most)
        kept = worker.forked() if forked else None
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(worker.ask, KINDS[kind])
                await anyio.wait_all_tasks_blocked()
                assert (worker.asking, worker.answered) == (most, 0)
                worker.go.set()
        assert (worker.at_once, worker.asking, worker.answered) == (most, 0, 10)
        del kept

    anyio.run(test)


def test_whoever_fails_or_is_stopped_gives_his_turn_back() -> None:
    async def test() -> None:
        worker = Asker(1)
        with anyio.fail_after(10):
            with anyio.move_on_after(0.01):
                await worker.ask(CALL)
            worker.go.set()
            await worker.ask(BROKEN)
            await worker.ask(CALL)
        assert (worker.asking, worker.answered) == (0, 1)

    anyio.run(test)
