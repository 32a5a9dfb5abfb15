"""The caller goes away: at every command of every exchange, before it is performed and after, and nothing is forgotten.

``steps`` is driven as ``x402bind.drive`` does it: ``Cancel`` is thrown in, and what comes out then is still performed.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.pair import World
from tests.test_client_playbook import client
from tests.world import (
    NOW,
    SETTLER,
    TERMS,
    TERMS_BEFORE,
    TERMS_V2,
    V2_AFTER,
    authorization,
    begin,
    paid_request,
    settle,
    token_request,
)
from x402core.commands import CommitClaim, Deliver, OutcomeKind, SendRequest
from x402core.ledger import ClaimStatus
from x402core.machines.machine import Cancel, steps
from x402core.machines.settlement import SettlementMachine, SettlementPolicy
from x402core.policy import Terms
from x402core.values import Millis

PRICE = 10_000


def commands_of(world: World, run: Any) -> list[str]:
    """Return the exchange's own commands, in order (a settlement's left out)."""
    seen: list[str] = []

    def note(machine: Any, command: Any) -> None:
        if not isinstance(machine, SettlementMachine):
            seen.append(type(command).__name__)

    world.trouble = note
    run(world)
    return seen


def at(index: int, what: str) -> Any:
    """Make trouble at the exchange's own command of that index."""
    count = iter(range(1000))

    def trouble(machine: Any, command: Any) -> str | None:
        if isinstance(machine, SettlementMachine):
            return None
        return what if next(count) == index else None

    return trouble


@pytest.mark.parametrize("what", ["gone", "done and gone", "before", "after"])
@pytest.mark.parametrize("terms", [TERMS_V2, TERMS_BEFORE], ids=["after", "before"])
def test_whenever_the_caller_of_a_seller_goes_the_same_permit_is_served_once_in_the_end(terms: Terms, what: str) -> None:
    offer = terms.offers[0]
    head = paid_request(authorization(offer=offer), offer)
    length = len(commands_of(World(terms), lambda world: world.serve(head)))
    for index in range(length):
        world = World(terms)
        world.trouble = at(index, what)
        world.serve(head, b"a" * 32)
        world.trouble = lambda machine, command: None
        statuses = []
        for again in range(4):
            world.work()
            world.now = Millis(world.now + 400_000) if again == 2 else world.now  # the lease of a lost claim ends
            reply = world.serve(head, bytes((again,)) * 32)
            statuses.append(reply.status if reply else None)
        charged = world.earned
        assert charged in (0, PRICE)
        assert statuses[-1] == (200 if charged else 402), f"at {index}: {statuses}, charged {charged}"
        assert world.runs - len(world.refunds) <= 2


@pytest.mark.parametrize("what", ["gone", "done and gone", "before", "after"])
def test_whenever_the_caller_of_a_token_endpoint_goes(what: str) -> None:
    length = len(commands_of(World(TERMS), lambda world: world.issue(token_request())))
    for index in range(length):
        world = World(TERMS)
        world.trouble = at(index, what)
        world.issue(token_request(), b"a" * 32)
        world.trouble = lambda machine, command: None
        world.work()
        reply = world.issue(token_request(), b"b" * 32)
        world.work()
        if reply is not None and reply.status in (409, 503):  # something of the claim was lost: told to wait for its lease
            world.now = Millis(world.now + 400_000)
            reply = world.issue(token_request(), b"c" * 32)
        assert reply is not None
        assert reply.status == (200 if world.earned else 402), f"{what} at {index}: {reply}"


@pytest.mark.parametrize("what", ["gone", "done and gone", "before", "after"])
def test_whenever_a_payer_goes_its_budget_knows(what: str) -> None:
    length = len(commands_of(World(TERMS), lambda world: world.pay()))
    for index in range(length):
        world = World(TERMS_V2)
        world.trouble = at(index, what)
        outcome = world.pay()
        world.work()
        assert world.balance() == 1_000_000 - world.earned
        if world.earned:
            assert outcome.amount == PRICE, f"{what} at {index}: charged, but the budget is told {outcome}"
        if outcome.kind in (OutcomeKind.ABANDONED, OutcomeKind.FAILED, OutcomeKind.FREE):
            assert world.earned == 0


def test_a_cancel_yields_only_what_is_owed() -> None:
    world = World(TERMS_V2)
    exchange, walk = world.serving(paid_request())
    names = [next(walk) for _ in range(4)]
    assert names == ["RecallPayment", "VerifyPayment", "ClaimPayment", "InvokeHandler"]
    world.trouble = lambda machine, command: "gone" if type(command).__name__ == "InvokeHandler" else None
    assert list(walk) == ["ReleaseClaim"]
    assert exchange.sent is None
    assert world.ledger.recall(authorization().key, "x", now=world.now).status is ClaimStatus.TAKEN


def test_a_cancel_while_committing_still_commits_and_answers() -> None:
    world = World(TERMS_V2)
    gone = iter(["gone"])
    world.trouble = lambda machine, command: next(gone, None) if isinstance(command, CommitClaim) else None
    reply = world.serve(paid_request())
    assert world.log.count("CommitClaim") == 2
    assert reply is not None
    assert reply.status == 200
    assert world.serve(paid_request(), b"b" * 32).body == reply.body  # type: ignore[union-attr]


def test_a_settlement_is_not_cancelled_but_left_to_the_journal() -> None:
    walk = steps(SettlementMachine(SettlementPolicy(), SETTLER), settle(authorization(), V2_AFTER), lambda: NOW)
    next(walk)
    with pytest.raises(StopIteration) as stop:
        walk.throw(Cancel())
    assert stop.value.value is None


def test_a_payer_that_goes_before_anything_left_is_told_so() -> None:
    walk = steps(client(), begin(), lambda: NOW)
    assert isinstance(next(walk), SendRequest)
    with pytest.raises(StopIteration) as stop:
        walk.throw(Cancel())
    assert isinstance(stop.value.value, Deliver)
    assert stop.value.value.outcome.kind is OutcomeKind.ABANDONED
