"""Danger: money moved twice, owed without limit, or forgotten (T2, T4, T5, T17).  The journal on every ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from x402bind.ledger import Ledger
from x402core.errors import LocalProtocolError
from x402core.events import Settlement
from x402core.ledger import SettlementRecord, Stored
from x402core.values import Address, Amount, Millis, Seconds

from .samples import KEY, NOW, OFFER, attempt, ended, endless, pending, permit, record, settled, void

OTHER_ASSET = Address("0x" + "07" * 20)


def test_an_intent_is_stored_once(ledger: Ledger) -> None:
    assert ledger.record(KEY) is None
    assert ledger.persist_intent(record()) is None
    assert ledger.persist_intent(record(created=NOW + 5)) == record()
    assert ledger.record_intent(record(), None) is Stored.DUPLICATE
    assert ledger.record(KEY) == record()


def test_a_second_settler_gets_what_the_first_signed(ledger: Ledger) -> None:
    ledger.persist_intent(record())
    known = record().with_attempt(attempt())
    assert ledger.persist(known) == known
    assert ledger.persist_intent(record()) == known


def test_exposure_is_the_sum_of_what_is_open(ledger: Ledger) -> None:
    most = Amount(250)
    assert ledger.record_intent(record(1), most) is Stored.STORED
    assert ledger.record_intent(record(2), most) is Stored.STORED
    assert ledger.record_intent(record(3), most) is Stored.OVER_EXPOSURE
    assert ledger.record(permit(3).key) is None
    assert ledger.record_intent(record(4, amount=50), most) is Stored.STORED, "exactly the limit is allowed"
    assert ledger.record_intent(record(1), Amount(0)) is Stored.DUPLICATE, "what is stored is not refused"


def test_exposure_counts_payer_and_asset_apart(ledger: Ledger) -> None:
    most = Amount(100)
    assert ledger.record_intent(record(1), most) is Stored.STORED
    assert ledger.record_intent(record(2, by=2), most) is Stored.STORED
    assert ledger.record_intent(record(3, asset=OTHER_ASSET), most) is Stored.STORED
    assert ledger.record_intent(record(4), most) is Stored.OVER_EXPOSURE


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (settled(), Stored.STORED),
        (void(), Stored.STORED),
        (void(final=False), Stored.OVER_EXPOSURE),
        (pending(), Stored.OVER_EXPOSURE),
    ],
)
def test_only_a_final_outcome_ends_exposure(ledger: Ledger, outcome: Settlement, again: Stored) -> None:
    ledger.record_intent(record(1), None)
    ledger.persist(ended(record(1), outcome))
    assert ledger.record_intent(record(2), Amount(100)) is again


def test_a_limit_of_nothing_admits_nothing_and_none_admits_all(ledger: Ledger) -> None:
    assert ledger.record_intent(record(1), Amount(0)) is Stored.OVER_EXPOSURE
    assert ledger.record_intent(record(1), None) is Stored.STORED


def test_amounts_are_whole_uint256s(ledger: Ledger) -> None:
    offer = replace(OFFER, amount=endless().amount)
    huge = SettlementRecord(endless(), offer, 1, NOW)
    assert ledger.record_intent(huge, Amount(2**256 - 1)) is Stored.STORED
    again = SettlementRecord(replace(endless(), nonce=1), offer, 1, NOW)
    assert ledger.record_intent(again, Amount(2**256 - 1)) is Stored.OVER_EXPOSURE
    assert ledger.record(huge.key) == huge


def test_what_is_owed_is_what_is_charged(ledger: Ledger) -> None:
    """An ``upto`` permit may allow more than the settlement moves."""
    charged = replace(record(amount=500), offer=replace(OFFER, amount=Amount(40)))
    assert ledger.record_intent(charged, Amount(100)) is Stored.STORED
    assert ledger.record_intent(record(2, amount=60), Amount(100)) is Stored.STORED
    assert ledger.record_intent(record(3, amount=1), Amount(100)) is Stored.OVER_EXPOSURE
    assert [known.amount for known in ledger.entries()] == [40, 60]


def rival(number: int, *, nonce: int = 0) -> SettlementRecord:
    """Return the intent of one of several EIP-2612 permits a payer signed with one nonce."""
    return SettlementRecord(replace(endless(), amount=Amount(100), nonce=nonce, deadline=Seconds(number)), OFFER, 1, NOW)


@pytest.mark.parametrize("first", [None, settled(), pending(), void(final=False)])
def test_two_permits_of_one_slot_are_not_settled_side_by_side(ledger: Ledger, first: Settlement | None) -> None:
    """One transfer on the chain would be taken for the proof of both."""
    ledger.persist_intent(rival(1))
    ledger.persist(ended(rival(1), first) if first is not None else rival(1))
    assert rival(1).key != rival(2).key
    assert ledger.record_intent(rival(2), None) is Stored.CONFLICT
    assert ledger.record_intent(rival(2), Amount(0)) is Stored.CONFLICT, "the amount does not matter"
    with pytest.raises(LocalProtocolError, match="slot"):
        ledger.persist_intent(rival(2))
    assert ledger.record(rival(2).key) is None
    assert ledger.record_intent(rival(1), None) is Stored.DUPLICATE, "itself is no rival"
    assert ledger.record_intent(rival(2, nonce=1), None) is Stored.STORED


def test_a_void_settlement_leaves_its_slot(ledger: Ledger) -> None:
    """A permit that expired unexecuted: the payer's next one has the same nonce."""
    ledger.persist_intent(rival(1))
    ledger.persist(ended(rival(1), void()))
    assert ledger.record_intent(rival(2), None) is Stored.STORED
    assert ledger.record_intent(rival(3), None) is Stored.CONFLICT
    ledger.persist(ended(rival(2), void()))
    assert ledger.persist_intent(rival(3)) is None


def test_an_older_record_changes_nothing(ledger: Ledger) -> None:
    first, second = attempt(fee=10), attempt(fee=20)
    steps = [record()]
    steps.append(steps[-1].with_attempt(first))
    steps.append(replace(steps[-1], sent=True))
    steps.append(steps[-1].with_attempt(second))
    steps.append(ended(steps[-1], settled()))
    ledger.persist_intent(steps[0])
    for newest, step in enumerate(steps):
        ledger.persist(step)
        for older in steps[: newest + 1]:
            assert ledger.persist(older) == step
        assert ledger.record(KEY) == step


def test_attempts_two_workers_signed_are_both_remembered(ledger: Ledger) -> None:
    """The longer list does not win: whatever was signed may have been sent (T5)."""
    ledger.persist_intent(record())
    one, two = attempt(fee=10), attempt(fee=20)
    ledger.persist(record().with_attempt(one))
    ledger.persist(record().with_attempt(two))
    assert ledger.record(KEY) == replace(record(), attempts=(one, two))
    ledger.persist(record().with_attempt(replace(two, at=Millis(NOW + 9))))
    assert ledger.record(KEY) == replace(record(), attempts=(one, two)), "the same raw bytes are the same attempt"


@pytest.mark.parametrize("last", [settled(), void()])
@pytest.mark.parametrize("other", [settled(9), void(), void(final=False), pending()])
def test_a_final_outcome_stays(ledger: Ledger, last: Settlement, other: Settlement) -> None:
    ledger.persist_intent(record())
    ledger.persist(ended(record(), last))
    assert ledger.persist(ended(record(), other)).outcome == last
    assert ledger.persist(record()).outcome == last
    assert ledger.record(KEY) == ended(record(), last)


@pytest.mark.parametrize("first", [void(final=False), pending()])
def test_an_outcome_that_is_not_final_gives_way(ledger: Ledger, first: Settlement) -> None:
    ledger.persist_intent(record())
    ledger.persist(ended(record(), first))
    assert ledger.open_records() == (ended(record(), first),)
    ledger.persist(record())
    assert ledger.record(KEY) == ended(record(), first)
    ledger.persist(ended(record(), settled()))
    assert ledger.record(KEY) == ended(record(), settled())
    assert ledger.open_records() == ()


def test_what_was_signed_after_the_end_is_remembered_still(ledger: Ledger) -> None:
    ledger.persist_intent(record())
    ledger.persist(ended(record(), void()))
    ledger.persist(record().with_attempt(attempt()))
    assert ledger.record(KEY) == ended(record().with_attempt(attempt()), void())
    assert ledger.open_records() == ()


def test_nothing_is_persisted_without_an_intent(ledger: Ledger) -> None:
    with pytest.raises(LocalProtocolError, match="no intent"):
        ledger.persist(record().with_attempt(attempt()))
    assert ledger.record(KEY) is None


def test_another_permit_of_the_same_authorization_is_refused(ledger: Ledger) -> None:
    ledger.persist_intent(record())
    other = replace(record(), permit=replace(permit(), signature=b"\x09" * 65))
    assert other.key == KEY
    with pytest.raises(LocalProtocolError, match="another permit"):
        ledger.persist(other)


def test_open_records_come_oldest_first(ledger: Ledger) -> None:
    made = [record(1, created=NOW + 2), record(2, created=NOW), record(3, created=NOW + 1), record(4, created=NOW)]
    for intent in made:
        ledger.persist_intent(intent)
    assert ledger.open_records() == (made[1], made[3], made[2], made[0])
    ledger.persist(ended(made[2], void()))
    assert ledger.open_records() == (made[1], made[3], made[0])


def test_one_worker_at_a_time(ledger: Ledger) -> None:
    until = Millis(NOW + 1000)
    assert ledger.lease(KEY, "w1", until, now=NOW)
    assert not ledger.lease(KEY, "w2", until, now=NOW)
    assert ledger.lease("another", "w2", until, now=NOW)
    assert ledger.lease(KEY, "w1", Millis(NOW + 2000), now=NOW), "renewed"
    assert not ledger.lease(KEY, "w2", Millis(NOW + 9000), now=Millis(NOW + 1999))
    assert ledger.lease(KEY, "w2", Millis(NOW + 9000), now=Millis(NOW + 2000)), "over at its very millisecond"
    assert not ledger.lease(KEY, "w1", Millis(NOW + 9000), now=Millis(NOW + 2000))


def test_a_lease_is_given_up_by_its_holder_only(ledger: Ledger) -> None:
    until = Millis(NOW + 1000)
    ledger.lease(KEY, "w1", until, now=NOW)
    ledger.unlease(KEY, "w2")
    assert not ledger.lease(KEY, "w2", until, now=NOW)
    ledger.unlease(KEY, "w1")
    ledger.unlease(KEY, "w1")
    assert ledger.lease(KEY, "w2", until, now=NOW)
