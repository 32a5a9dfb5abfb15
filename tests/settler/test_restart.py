"""The settler dies between any two of its steps; the next one takes the journal up, and the payee has exactly one payment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.settler.bench import Bench, settle, settled
from tests.shop import FIRST, FUNDS, PRICE, RELAYER, Ground, Shop, token_body, until
from x402bind.chain.transports import AsyncHttp
from x402bind.leaves import HttpCall, HttpReply
from x402bind.ledger import SqliteLedger
from x402bind.settler import now_millis
from x402core.commands import SettlePayment
from x402core.events import Dialect, Method, Settled
from x402core.values import Millis


class Killed(BaseException):
    """The process is no more."""


class Life:
    """Ends before or after the n-th thing done in the world; then nothing is done any more, no clean-up either."""

    def __init__(self, end: int | None = None, *, before: bool = False) -> None:
        self.end, self.before = end, before
        self.steps = 0
        self.over = False

    def begin(self) -> None:
        self.over = self.over or (self.before and self.steps == self.end)
        if self.over:
            raise Killed

    def done(self) -> None:
        self.over = self.over or (not self.before and self.steps == self.end)
        self.steps += 1
        if self.over:
            raise Killed


class MortalLedger(SqliteLedger):
    """The ledger of a process with a limited life."""

    def __init__(self, path: str, life: Life) -> None:
        super().__init__(path)
        self._life = life

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("persist_intent", "persist", "allocate", "return_numbers", "lease"):
            return found
        life = self._life

        def mortal(*args: Any, **named: Any) -> Any:
            life.begin()
            answer = found(*args, **named)
            life.done()
            return answer

        return mortal


class MortalHttp(AsyncHttp):
    """The network of a process with a limited life."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self.life = life

    async def call(self, command: HttpCall) -> HttpReply:
        self.life.begin()
        reply = await super().call(command)
        self.life.done()
        return reply


async def live(bench: Bench, proof: Any, life: Life) -> None:
    """Settle in a process with a limited life."""
    options = {"ledger": MortalLedger(str(bench.file), life), "http": MortalHttp(life), "lease": 1, "poll": 60}
    try:
        async with bench.settling(**options) as settler:
            await settler.settle(SettlePayment(proof))
    except* Killed:
        assert life.over


async def survive(bench: Bench, proof: Any) -> None:
    """Take over in a new process: whatever is journaled is finished, and whoever asks again is told."""
    async with bench.settling() as settler:
        await settled(settler)
        assert isinstance(await settle(settler, proof), Settled)
        assert isinstance(await settle(settler, bench.proof()), Settled)  # the lane is not blocked for the next one


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("method", FIRST)
def test_death_between_any_two_steps(ground: Ground, tmp_path: Path, method: Method, before: bool) -> None:
    bench, life = Bench(ground, tmp_path / "whole"), Life()
    bench.folder.mkdir()
    anyio.run(live, bench, bench.proof(method), life)
    assert life.steps >= 7
    bench.earned(1)
    for end in range(life.steps):
        bench = Bench(ground, tmp_path / str(end))
        bench.folder.mkdir()
        proof, first = bench.proof(method), Life(end, before=before)
        anyio.run(live, bench, proof, first)
        assert first.over
        anyio.run(survive, bench, proof)
        bench.earned(2)
        assert ground.balance(proof.permit.payer) == FUNDS - PRICE
        assert ground.sent_by(tag="latest") == ground.sent_by(tag="pending")


# ------------------------------------------------------------------------------------------------- a process, really killed


@contextmanager
def process(ground: Ground, folder: Path, pay_to: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a seller in a process of its own."""
    config = {"rpc": ground.url, "ledger": str(folder / "ledger.db"), "pay_to": pay_to}
    command = [sys.executable, "-m", "tests.settler.seller_process", json.dumps(config)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        until(lambda: child.poll() is None and _answers(url))
        yield child, url
    finally:
        child.kill()
        child.wait(10)
        assert child.stdout is not None
        child.stdout.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/paid").status_code == 402
    except httpx.TransportError:
        return False


def test_a_seller_is_killed_while_it_settles_and_the_next_one_finishes(ground: Ground, tmp_path: Path) -> None:
    payer, shop = ground.payer(), Shop(ground, tmp_path)
    with process(ground, tmp_path, shop.pay_to) as (child, url), ground.automine_off():
        permit = payer.permit(shop.offer(Dialect.PERMIT_TOKEN), ground)
        reply = httpx.post(f"{url}/token?scope=%2Fpaid", content=token_body(permit))
        assert reply.status_code == 200
        until(lambda: ground.sent_by(tag="pending") == 2)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    ground.rpc("evm_mine")  # mined while nobody looks
    with process(ground, tmp_path, shop.pay_to) as (_, url):
        (entry,) = shop.settled()
        assert (entry.state, ground.calls(entry.transactions)) == ("settled", ("permit", "transferFrom"))
        token = {"Authorization": f"Bearer {reply.json()['access_token']}"}
        assert httpx.get(f"{url}/paid", headers=token).status_code == 200
    assert (ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)
    assert ground.sent_by(RELAYER) == 2


def test_a_seller_is_killed_with_a_request_waiting_and_the_payer_gets_his_answer(ground: Ground, tmp_path: Path) -> None:
    payer, shop = ground.payer(), Shop(ground, tmp_path)
    with process(ground, tmp_path, shop.pay_to) as (child, url), ground.automine_off():
        headers = payer.header(shop.offer(), ground)
        with httpx.stream("GET", f"{url}/slow", timeout=10) as unpriced:  # only to see that the process serves
            assert unpriced.status_code == 200
        request = subprocess.Popen([sys.executable, "-c", _ASK, f"{url}/paid", json.dumps(headers)], stderr=subprocess.DEVNULL)
        until(lambda: ground.sent_by(tag="pending") == 1)
        os.kill(child.pid, signal.SIGKILL)
        assert request.wait(10) != 0
    ground.rpc("evm_mine")
    with process(ground, tmp_path, shop.pay_to) as (_, url):
        shop.settled()
        assert httpx.get(f"{url}/paid", headers=headers).status_code == 409  # whose claim it was may still be alive
    assert (ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)
    shop.seller.ledger.close()
    later = partial(_plus, 400_000)
    with Shop(ground, tmp_path, clock=later, url="http://127.0.0.1", pay_to=shop.pay_to) as again:
        again_headers = headers
        served = httpx.get(again.paid, headers=again_headers)
        assert (served.status_code, served.json()["run"]) == (200, 1)
        assert again.settled()[0].transactions == again.entries()[0].transactions
    assert (ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)


def _plus(more: int) -> Millis:
    return Millis(now_millis() + more)


_ASK = """
import json, sys, httpx
httpx.get(sys.argv[1], headers=json.loads(sys.argv[2]), timeout=20)
"""
