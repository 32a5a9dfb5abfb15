"""The seller's process is killed while its facilitator settles: the next one takes the journal up, and the payer pays once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.facilitator.desk import Desk
from tests.facilitator.relay import Relay, selling
from tests.shop import FUNDS, PRICE, Ground, fresh, until
from x402bind.ledger import SqliteLedger
from x402bind.worker import now_millis
from x402core.values import Millis


@contextmanager
def process(url: str, file: Path, pay_to: str, settle: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a seller in a process of its own."""
    config = {"facilitator": url, "ledger": str(file), "pay_to": pay_to, "settle": settle}
    command = [sys.executable, "-m", "tests.facilitator.seller_process", json.dumps(config)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        until(lambda: _answers(address))
        yield child, address
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


@pytest.mark.parametrize("settle", ["after", "before"])
@pytest.mark.parametrize("reached", [False, True], ids=["never-reached", "answer-lost"])
def test_killed_while_the_facilitator_settles(ground: Ground, desk: Desk, tmp_path: Path, settle: str, reached: bool) -> None:
    payer, pay_to, file = ground.payer(), fresh().address, tmp_path / "seller.db"
    with Relay(desk.url) as relay:
        (relay.lose if reached else relay.held).add("/settle")
        (tmp_path / "offer").mkdir()
        with selling(ground, tmp_path / "offer", desk.url, settle=settle, pay_to=pay_to) as shop:
            headers = payer.header(shop.offer(), ground)
        with process(relay.url, file, pay_to, settle) as (child, url):

            def pay() -> None:
                with suppress(httpx.HTTPError):
                    httpx.get(f"{url}/paid", headers=headers, timeout=20)

            asking = threading.Thread(target=pay)
            asking.start()
            until(lambda: "/settle" in relay.paths)
            if reached:
                until(lambda: desk.sent == 1 and ground.balance(pay_to) == PRICE)
            os.kill(child.pid, signal.SIGKILL)
            child.wait(10)
            asking.join(20)
        assert ground.balance(pay_to) == (PRICE if reached else 0)
        relay.lose, relay.held = set(), set()
        relay.hold.set()
        with process(relay.url, file, pay_to, settle):
            ledger = SqliteLedger(str(file))
            until(lambda: not ledger.open_records())
            (entry,) = ledger.entries()
            assert (entry.state, len(entry.transactions)) == ("settled", 1)
            ledger.close()
        assert (ground.balance(pay_to), ground.balance(payer.address), desk.sent) == (PRICE, FUNDS - PRICE, 1)
        later = {"clock": lambda: Millis(now_millis() + 400_000), "url": "http://127.0.0.1", "pay_to": pay_to}
        with selling(ground, tmp_path, relay.url, settle=settle, ledger=f"sqlite:{file}", **later) as again:
            response = httpx.get(again.paid, headers=headers, timeout=20)  # his claim's owner is presumed gone by now
            assert (response.status_code, response.json()["run"]) == (200, 1)
        assert (ground.balance(pay_to), ground.balance(payer.address), desk.sent) == (PRICE, FUNDS - PRICE, 1)
