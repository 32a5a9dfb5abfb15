"""The settling process dies after any command, and another takes the settlement up from what the journal holds.

Whatever is lost, the same permit is executed once, the same outcome is told, and no number of the lane stays unmined.  The
journal is what was stored, written and read again as bytes (``wire/journal``).
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.pair import RICH, World
from tests.world import SELLER, SETTLER, TOKEN_OFFER, V2_AFTER, authorization, hash32, journal, token_permit, verified
from x402core.events import Offer, Permit, Resume, Settle, Settled, Unsettled
from x402core.machines.settlement import SettlementMachine, SettlementPolicy
from x402core.wire.journal import decode_record, encode_record

PRICE = 10_000
CASES = pytest.mark.parametrize(
    ("permit", "offer"), [(authorization(), V2_AFTER), (token_permit(), TOKEN_OFFER)], ids=["eip3009", "eip2612"]
)
POLICY = SettlementPolicy(confirmations=2)


class Crash(BaseException):
    """The process is gone."""


def walk(world: World, event: Settle | Resume, *, die_at: int, performed: bool) -> Any:
    """Drive a settlement; die at its n-th command, before or after performing it.  Return its final command, or None."""
    count = iter(range(10_000))
    machine = SettlementMachine(POLICY, SETTLER)

    def perform(command: Any) -> Any:
        dying = next(count) == die_at
        if dying and not performed:
            raise Crash
        answer = world.move(command)
        if dying:
            raise Crash
        return answer

    try:
        return world.drive(machine, event, perform)
    except Crash:
        return None


def take_up(world: World, permit: Permit, offer: Offer) -> Any:
    """Take the settlement up again: from the journal as bytes, or from the start when nothing was stored."""
    stored = world.ledger.record(permit.key)
    if stored is None:
        return walk(world, Settle(verified(permit, offer)), die_at=-1, performed=False)
    read = decode_record(encode_record(stored))
    assert read == stored
    return walk(world, Resume(read), die_at=-1, performed=False)


def length(permit: Permit, offer: Offer) -> int:
    """Return how many commands an undisturbed settlement takes."""
    world = World(policy=POLICY)
    assert walk(world, Settle(verified(permit, offer)), die_at=-1, performed=False) is not None
    return len(world.log)


def settled_once(world: World, final: Any, numbers: int) -> None:
    """Assert that the money moved once, that the outcome says so, and that the lane is free."""
    assert isinstance(final.outcome, Settled)
    assert (world.balance(SELLER), world.balance()) == (PRICE, RICH - PRICE)
    assert world.chain.total == 5 * RICH
    world.chain.mine()
    assert not world.chain.pool, "a number waits for one that never comes"
    assert world.chain.state.numbers[SETTLER] == numbers
    assert not world.ledger.open_records()


@CASES
@pytest.mark.parametrize("performed", [False, True], ids=["before", "after"])
def test_dead_at_every_command(permit: Permit, offer: Offer, performed: bool) -> None:
    calls = 1 if offer is V2_AFTER else 2
    for die_at in range(length(permit, offer)):
        world = World(policy=POLICY)
        walk(world, Settle(verified(permit, offer)), die_at=die_at, performed=performed)
        settled_once(world, take_up(world, permit, offer), calls)


@CASES
def test_dead_twice(permit: Permit, offer: Offer) -> None:
    calls = 1 if offer is V2_AFTER else 2
    count = length(permit, offer)
    for first in range(count):
        for second in range(count):
            world = World(policy=POLICY)
            walk(world, Settle(verified(permit, offer)), die_at=first, performed=True)
            stored = world.ledger.record(permit.key)
            event = Settle(verified(permit, offer)) if stored is None else Resume(stored)
            walk(world, event, die_at=second, performed=False)
            settled_once(world, take_up(world, permit, offer), calls)


@CASES
def test_every_write_of_the_journal_fails_once_before_and_once_after(permit: Permit, offer: Offer) -> None:
    for name in ("PersistSignedTx", "PersistSent", "PersistOutcome", "AllocateTxNumbers", "ReturnTxNumbers"):
        for when in ("before", "after"):
            world = World(policy=POLICY)
            troubles = iter([when])
            world.trouble = lambda m, c, t=troubles, n=name: next(t, None) if type(c).__name__ == n else None
            outcome = world.settle(Settle(verified(permit, offer)))
            assert isinstance(outcome, Settled), (name, when)
            world.trouble = lambda m, c: None
            world.work()
            assert world.balance(SELLER) == PRICE
            assert not world.chain.pool
            assert not world.ledger.open_records()


@CASES
def test_two_workers_at_once_pay_once(permit: Permit, offer: Offer) -> None:
    """The lease is what keeps a second worker away; where it fails, the contract and the journal still do."""
    for behind in range(1, 12):
        world = World(policy=POLICY)
        first = world.walk(SettlementMachine(POLICY, SETTLER), Settle(verified(permit, offer)), world.move)
        for _ in range(behind):
            next(first, None)
        stored = world.ledger.record(permit.key)
        if stored is None:
            continue
        second = world.walk(SettlementMachine(POLICY, SETTLER), Resume(stored), world.move)
        ends: list[Any] = []
        alive = [first, second]
        while alive:
            for each in list(alive):
                try:
                    next(each)
                except StopIteration as stop:
                    ends.append(stop.value)
                    alive.remove(each)
        assert len(ends) == 2
        assert world.balance(SELLER) == PRICE, behind
        assert all(isinstance(end.outcome, Settled) for end in ends), behind


def test_what_ended_is_never_worked_on_again() -> None:
    for outcome in (None, Unsettled, Settled):
        world = World(policy=POLICY)
        if outcome is Unsettled:
            world.chain.state.balances.clear()
            world.chain.state.balances[SELLER] = 5 * RICH
        permit = authorization(7)
        first = world.settle(Settle(verified(permit, V2_AFTER)))
        before = world.chain.number
        stored = world.ledger.record(permit.key)
        assert stored is not None
        if stored.outcome is not None:
            assert world.settle(Resume(stored)) == first
            assert world.chain.number == before


def test_a_record_survives_its_bytes() -> None:
    record = journal(token_permit(), TOKEN_OFFER)
    assert decode_record(encode_record(record)) == record
    assert hash32(1) != hash32(2)
