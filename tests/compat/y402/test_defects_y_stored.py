"""y402 1.1.0's defects in what it stores (seeds.md 3.3), as far as a ledger is asked for the same here: Y17, Y22, Y23.

Its MongoDB storage and its webhook workers (Y4, Y5, and the rest of Y22 and Y23) are not here yet, and a storage manager that
would not be used is refused (``test_prices.py``).
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.compat.y402.ground import Site, Till, header_for
from tests.compat.y402.relay import Relay
from tests.compat.y402.shops import SHOPS
from tests.shop import PRICE
from x402bind.compat.y402.api.fastapi.middleware import payment_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings
from x402bind.ledger.contract import LedgerUnavailable
from x402bind.ledger.sqlite import SqliteLedger

shops = pytest.mark.parametrize("shop", SHOPS)


class Slow(SqliteLedger):
    """A ledger whose database takes its time over every claim."""

    seconds = 2.0

    def claim(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(self.seconds)
        return super().claim(*args, **kwargs)


class Failing(SqliteLedger):
    """A ledger whose database is away the first time that ``method`` is called."""

    method, failed = "", 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._away if name == super().__getattribute__("method") and not self.failed else found

    def _away(self, *args: Any, **kwargs: Any) -> Any:
        self.failed += 1
        raise LedgerUnavailable("the database is away")


def test_Y17_a_slow_database_does_not_stop_the_event_loop(till: Till) -> None:
    app, ledger = FastAPI(), Slow(str(till.folder / "ledger.db"))
    app.middleware("http")(payment_required(**till.arguments(ledger=ledger)))

    @X402EndpointSettings(payments_details=till.costs())
    @app.get("/paid")
    async def priced() -> str:
        return "paid"

    @app.get("/free")
    async def free() -> str:
        return "free"

    with Site(app) as site, ThreadPoolExecutor(1) as pool:
        header = header_for(httpx.get(f"{site.origin}/paid"), till.ground.payer())
        begun = time.monotonic()
        paying = pool.submit(httpx.get, f"{site.origin}/paid", headers=header, timeout=40)
        took = []
        while not paying.done():
            before = time.monotonic()
            assert httpx.get(f"{site.origin}/free").json() == "free"
            took.append(time.monotonic() - before)
            time.sleep(0.05)
        assert (paying.result().status_code, time.monotonic() - begun >= Slow.seconds) == (200, True)
    ledger.close()
    assert (len(took) > 3, max(took) < Slow.seconds / 2) == (True, True)


@shops
@pytest.mark.parametrize("method", ["recall", "claim", "persist_intent", "persist", "lease", "commit"])
def test_Y22_a_database_that_fails_ends_no_worker_and_takes_no_money_unanswered(till: Till, shop: Any, method: str) -> None:
    ledger = Failing(str(till.folder / "ledger.db"))
    with shop(till, gate={"ledger": ledger}) as url:
        asked, ledger.method = httpx.get(url), method
        headers = [header_for(asked, till.ground.payer()) for _ in range(2)]
        first, again, other = (httpx.get(url, headers=each, timeout=40).status_code for each in (headers[0], *headers))
    ledger.close()
    assert (ledger.failed, other) == (1, 200)
    assert {first, again} <= {200, 409, 503}
    assert till.earned == PRICE * (1 + (200 in (first, again)))


@shops
def test_Y23_two_servers_of_one_ledger_run_and_settle_a_payment_once(till: Till, shop: Any) -> None:
    relay, runs, going = Relay(till.url), list[str](), threading.Event()

    def handler(item: str) -> dict[str, int]:
        runs.append(item)
        going.wait(1)
        return {"run": len(runs)}

    with ExitStack() as stack:
        till.url = stack.enter_context(Site(relay)).origin
        urls = [stack.enter_context(shop(till, handler)) for _ in range(2)]
        header = header_for(httpx.get(urls[0]), till.ground.payer())
        assert urls[0] != urls[1]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda url: httpx.get(url, headers=header, timeout=40), urls * 3))
        again = [httpx.get(url, headers=header, timeout=40) for url in urls]
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert [(each.status_code, each.json()) for each in again] == [(200, {"run": 1})] * 2
    assert (runs, relay.asked.count("/settle"), till.earned) == (["it"], 1, PRICE)
