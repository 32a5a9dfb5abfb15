"""What a call costs does not grow with what the ledger has seen: counted in steps of SQLite's own machine, not in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from x402bind.ledger import SqliteLedger
from x402core.values import Millis

from .samples import ACCOUNT, LATER, NETWORK, NOW, REPLY, REQUEST, attempt, ended, permit, record, settled

SEEN = 400


def pay(ledger: SqliteLedger, number: int) -> dict[str, int]:
    """Take a payment through the ledger, and return the steps that each call took."""
    key, steps = permit(number).key, dict[str, int]()
    signed = record(number).with_attempt(attempt(number))

    def take(name: str, call: Callable[[], Any]) -> None:
        counted = [0]

        def count() -> int:
            counted[0] += 1
            return 0

        for db in (ledger._file._db, ledger._file._reader):
            if db is not None:
                db.set_progress_handler(count, 1)
        call()
        steps[name] = counted[0]

    take("recall", lambda: ledger.recall(key, REQUEST, now=NOW))
    take("claim", lambda: ledger.claim(key, REQUEST, "a", LATER, now=NOW))
    take("persist_intent", lambda: ledger.persist_intent(record(number)))
    take("lease", lambda: ledger.lease(key, "w", LATER, now=NOW))
    take("allocate", lambda: ledger.allocate(NETWORK, ACCOUNT, key, 1, floor=number))
    take("persist signed", lambda: ledger.persist(signed))
    take("open", ledger.open_records)
    take("persist outcome", lambda: ledger.persist(ended(signed, settled(number))))
    take("unlease", lambda: ledger.unlease(key, "w"))
    take("commit", lambda: ledger.commit(key, "a", settled(number), REPLY))
    take("payment_state", lambda: ledger.payment_state(key))
    take("refund", lambda: ledger.refund(key, now=Millis(NOW)))
    return steps


@pytest.fixture
def grown() -> Any:
    ledger = SqliteLedger(":memory:")
    first = [pay(ledger, number) for number in (1, 2, 3)][-1]
    for number in range(4, SEEN):
        pay(ledger, number)
    yield first, pay(ledger, SEEN)
    ledger.close()


def test_no_call_takes_more_steps_when_much_was_seen(grown: Any) -> None:
    first, last = grown
    assert {name: (first[name], steps) for name, steps in last.items() if steps > first[name] + 20} == {}
    assert all(steps > 0 for steps in first.values()), first
