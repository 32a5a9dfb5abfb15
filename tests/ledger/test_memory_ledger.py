"""What only the ledger in memory can get wrong: slots in a dictionary, and a lock that every call shares.

The slots are asked of every ledger all the same.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from x402bind.ledger import Ledger, MemoryLedger
from x402core.errors import LocalProtocolError
from x402core.events import Eip2612Permit
from x402core.ledger import SettlementRecord, Stored
from x402core.values import Amount, Millis, Seconds

from .samples import ASSET, EXPIRES, KEY, NETWORK, NOW, OFFER, SELLER, ended, payer, record, void


def intent(amount: int, deadline: int = EXPIRES) -> SettlementRecord:
    """Return an intent of one payer's nonce 0: of one slot with every other, and of another key for another amount."""
    permit = Eip2612Permit(NETWORK, ASSET, payer(1), SELLER, Amount(amount), 0, Seconds(deadline), bytes([amount]) * 65)
    return SettlementRecord(permit, replace(OFFER, amount=Amount(amount)), since=17, created=NOW)


FIRST, SECOND, THIRD = intent(1), intent(2, EXPIRES + 86_400), intent(3)


@pytest.fixture
def passed_on(ledger: Ledger) -> Ledger:
    """Return a ledger with a slot whose first holder came to nothing, and whose second is still open."""
    assert ledger.record_intent(FIRST, None) is Stored.STORED
    ledger.persist(ended(FIRST, void()))
    assert ledger.record_intent(SECOND, None) is Stored.STORED
    return ledger


def test_a_void_payment_heard_of_again_leaves_its_slot_to_whoever_has_it_now(passed_on: Ledger) -> None:
    passed_on.persist(ended(FIRST, void()))
    assert passed_on.record_intent(THIRD, None) is Stored.CONFLICT


def test_a_void_payment_that_is_forgotten_leaves_its_slot_to_whoever_has_it_now(passed_on: Ledger) -> None:
    assert passed_on.prune(Millis((EXPIRES + 3600) * 1000)) == 1
    assert (passed_on.record(FIRST.key), passed_on.record(SECOND.key)) == (None, SECOND)
    assert passed_on.record_intent(THIRD, None) is Stored.CONFLICT


def test_a_slot_is_free_again_when_its_own_payment_is_void(passed_on: Ledger) -> None:
    passed_on.persist(ended(SECOND, void()))
    assert passed_on.record_intent(THIRD, None) is Stored.STORED


def test_whoever_uses_a_closed_ledger_twice_is_told_twice() -> None:
    ledger, told = MemoryLedger(), list[str]()
    ledger.persist_intent(record())
    ledger.close()

    def use() -> None:
        for _ in range(3):
            with pytest.raises(LocalProtocolError, match="closed") as caught:
                ledger.record(KEY)
            told.append(str(caught.value))
        ledger.close()  # nor does closing it wait

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(5)
    assert (thread.is_alive(), len(told)) == (False, 3)
