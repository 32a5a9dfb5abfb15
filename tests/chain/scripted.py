"""A fake HTTP leaf, for what no real node can be made to say: lost answers, two heads in one batch, other nodes' words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from x402bind.chain.nodes import Health, Nodes
from x402bind.chain.rpc import Endpoint
from x402bind.leaves import First, FirstOf, HttpCall, HttpFailed, HttpReply, Sleep
from x402core.commands import Command
from x402core.values import Network

NETWORK = Network("eip155:84532")
SECRET = "c0ffee-api-key"
ENDPOINT = Endpoint(f"https://node.test/v2/{SECRET}", NETWORK, (("Authorization", f"Bearer {SECRET}"),), timeout=3.0)


@dataclass(frozen=True)
class Says:
    """A JSON-RPC error object."""

    message: str
    code: int = -32000
    data: object = None


@dataclass(frozen=True)
class Each:
    """Results for one method called several times in one batch."""

    results: tuple[object, ...]


Turn = Mapping[str, object] | HttpReply | Exception


class ScriptedNode:
    """Answers one turn a request: a result (or Says, or Each) by method, a whole HTTP reply, or an exception to raise."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = list(turns)
        self.calls: list[list[tuple[str, list[Any]]]] = []
        self.pauses: list[float] = []

    @property
    def methods(self) -> list[list[str]]:
        return [[method for method, _ in request] for request in self.calls]

    def __call__(self, command: Command[Any]) -> object:
        if isinstance(command, Sleep):
            self.pauses.append(command.seconds)
            return None
        assert isinstance(command, HttpCall), command
        asked = json.loads(command.body)
        batch = asked if isinstance(asked, list) else [asked]
        self.calls.append([(each["method"], each["params"]) for each in batch])
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        if isinstance(turn, HttpReply):
            return turn
        left = {method: iter(said.results) for method, said in turn.items() if isinstance(said, Each)}
        entries = []
        for each in batch:
            method = each["method"]
            said = next(left[method]) if method in left else turn[method]
            entries.append({"jsonrpc": "2.0", "id": each["id"], **_outcome(said)})
        return HttpReply(200, (), json.dumps(entries if isinstance(asked, list) else entries[0]).encode())

    async def perform(self, command: Command[Any]) -> object:
        """Do the same in the async world."""
        return self(command)

    def ended(self) -> None:
        """Check that every turn was used."""
        assert not self.turns


class Slow(Exception):
    """A turn: no answer before the next node gave one."""


class Several:
    """Scripted nodes ``a``, ``b``, ... of one network, and the :class:`Nodes` that name them; ``clock`` is theirs to set."""

    def __init__(self, *scripts: tuple[Turn, ...], **how: Any) -> None:
        self.scripts = {name: ScriptedNode(*turns) for name, turns in zip("abc", scripts, strict=False)}
        self.clock = 1000.0
        self.a, *_ = endpoints = [Endpoint(f"https://{name}.test", NETWORK) for name in self.scripts]
        self.nodes = Nodes(tuple(endpoints), health=Health(lambda: self.clock, cool_off=30.0), **how)
        self.asked = ""
        self.pauses: list[float] = []

    def then(self, name: str, *turns: Turn) -> None:
        self.scripts[name].turns += turns

    def __call__(self, command: Command[Any]) -> object:
        if isinstance(command, Sleep):
            self.pauses.append(command.seconds)
            return None
        if isinstance(command, FirstOf):
            return self._race(command)
        assert isinstance(command, HttpCall), command
        name = command.url.removeprefix("https://")[0]
        self.asked += name
        return self.scripts[name](command)

    def _race(self, command: FirstOf) -> First:
        failed, slow = list[int](), list[int]()
        for number, call in enumerate(command.calls):
            try:
                reply = self(call)
            except HttpFailed:
                failed.append(number)
            except Slow:
                slow.append(number)
            else:
                assert isinstance(reply, HttpReply)
                return First(number, reply, tuple(failed), tuple(slow))
        raise HttpFailed("ReadTimeout")

    def ended(self, asked: str) -> None:
        """Check who was asked, in order, and that every turn was used."""
        assert self.asked == asked
        for script in self.scripts.values():
            script.ended()


def _outcome(said: object) -> dict[str, object]:
    if isinstance(said, Says):
        error: dict[str, object] = {"code": said.code, "message": said.message}
        return {"error": error if said.data is None else {**error, "data": said.data}}
    return {"result": said}


def block(number: int, time: int = 1_700_000_000, base_fee: int | None = 100) -> dict[str, str]:
    """Return a block as a node shows it."""
    fee = {} if base_fee is None else {"baseFeePerGas": hex(base_fee)}
    return {"number": hex(number), "timestamp": hex(time), "hash": "0x" + "b" * 64, **fee}


def word(number: int) -> str:
    """Return a 32-byte call result."""
    return f"0x{number:064x}"
