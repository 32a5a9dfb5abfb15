"""Numbers and fees are asked for once for what is settled together, and anew once a number was refused."""

from __future__ import annotations

import json
from typing import Any

import anyio

from tests.settler.bench import Bench, settle
from x402bind.chain.transports import AsyncHttp
from x402bind.leaves import HttpCall, HttpReply
from x402bind.ledger import MemoryLedger
from x402bind.worker import now_millis
from x402core.events import Settled
from x402core.values import Millis


class Counting(AsyncHttp):
    """Counts how often the account's number is asked for."""

    asked = 0

    async def call(self, command: HttpCall) -> HttpReply:
        document = json.loads(command.body)
        calls = document if isinstance(document, list) else [document]
        self.asked += any(each["method"] == "eth_getTransactionCount" for each in calls)
        return await super().call(command)


class Clock:
    def __init__(self) -> None:
        self.now = now_millis()

    def __call__(self) -> Millis:
        return self.now


def test_what_is_settled_together_asks_for_number_and_fees_once(bench: Bench) -> None:
    async def go() -> None:
        http, clock = Counting(), Clock()
        async with bench.settling(http=http, clock=clock) as settler:
            for _ in range(3):
                assert isinstance(await settle(settler, bench.proof()), Settled)
            assert http.asked == 1
            clock.now = Millis(clock.now + 250)
            assert isinstance(await settle(settler, bench.proof()), Settled)
            assert http.asked == 2

    anyio.run(go)
    bench.earned(4)


def test_a_number_that_somebody_else_took_is_asked_for_anew(bench: Bench) -> None:
    """Two settlers of one account on two ledgers: the first does not know what the second has sent."""

    async def go() -> None:
        http, clock = Counting(), Clock()
        other: Any = bench.settling(ledger=MemoryLedger())
        async with bench.settling(http=http, clock=clock) as settler, other as stranger:
            assert isinstance(await settle(settler, bench.proof()), Settled)
            assert isinstance(await settle(stranger, bench.proof()), Settled)
            assert isinstance(await settle(settler, bench.proof()), Settled)
            assert http.asked == 2

    anyio.run(go)
    bench.earned(3)
