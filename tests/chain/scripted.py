"""A fake HTTP leaf, for what no real node can be made to say: lost answers, two heads in one batch, other nodes' words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from x402bind.chain.rpc import Endpoint
from x402bind.leaves import HttpCall, HttpReply, Sleep
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
