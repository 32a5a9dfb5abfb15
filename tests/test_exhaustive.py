"""A tiny world, all of it: payers × nonces × amounts × clock positions × every single failure, and two exchanges of one permit
interleaved in every way.

What must hold at each end: money is neither made nor lost, a permit is charged at most once, whoever is charged is served (if
it comes back), one charge lets one report out, and the same permit gets the same report again.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from tests.pair import World
from tests.world import (
    NETWORK,
    NOW,
    SELLER,
    SETTLER,
    TERMS,
    TERMS_BEFORE,
    TERMS_V2,
    authorization,
    paid_request,
    token_permit,
    token_request,
)
from x402bind.chain.devnet.keys import dev_accounts
from x402core.events import Dialect, Permit, RequestHead, SettleMode
from x402core.machines.settlement import SettlementMachine
from x402core.policy import Terms, offers
from x402core.values import Millis

PRICES = ("$0.01", "$0.02")
PAYERS = (0, 3, 4)
NONCES = (1, 2)
# seconds after the permit was signed at which it is presented: fresh; with a breath left; expired; and before our own clock
CLOCKS = (0, 290, 301, -30)
TROUBLES = ("before", "after", "gone", "done and gone")
MODES = {"after": SettleMode.AFTER, "before": SettleMode.BEFORE}


@cache
def terms(price: str, mode: str) -> Terms:
    """Return x402 v2 terms."""
    made = offers(price, NETWORK, SELLER, dialects=(Dialect.V2,), settle=MODES[mode], spender=SETTLER)
    return Terms(made, TERMS_V2.resource)


@cache
def presented(price: str, mode: str, by: int, nonce: int) -> tuple[Permit, RequestHead]:
    """Return a permit and the request that brings it."""
    offer = terms(price, mode).offers[0]
    permit = authorization(nonce, offer=offer, by=by)
    return permit, paid_request(permit, offer)


@cache
def own_commands(price: str, mode: str, clock: int) -> int:
    """Return how many commands an undisturbed exchange performs, its settlement's included."""
    world = at(World(terms(price, mode)), clock)
    world.serve(presented(price, mode, 0, 1)[1])
    return len(world.log)


def at(world: World, clock: int) -> World:
    """Set the clocks."""
    world.now = Millis(NOW + clock * 1000)
    world.chain.time = type(world.chain.time)(world.now // 1000)
    return world


def come_back(world: World, head: RequestHead) -> list[int]:
    """Present the same permit again until nothing changes any more, past every lease; return the statuses."""
    world.trouble = lambda machine, command: None
    statuses = []
    for later in (0, 1, 400, 401):
        world.now = Millis(max(world.now, NOW + later * 1000))
        world.work()
        reply = world.serve(head, bytes((100 + later % 100,)) * 32)
        statuses.append(reply.status if reply is not None else 0)
    return statuses


def holds(world: World, price: int, statuses: list[int], what: object, *, committed: bool = True) -> None:
    """Assert what must hold at the end."""
    assert world.chain.total == 5_000_000, what
    assert world.earned in (0, price), f"{what}: charged {world.earned}"
    assert statuses[-1] == (200 if world.earned else 402), f"{what}: charged {world.earned}, answered {statuses}"
    most = 1 if world.earned else 0
    # a report whose CommitClaim was lost is forgotten by the ledger, as that command's "On failure" says: it is made again
    assert len(world.delivered()) <= most + (not committed), f"{what}: {len(world.delivered())} reports for {world.earned}"
    assert not world.ledger.open_records(), what
    world.chain.mine()
    assert not world.chain.pool, f"{what}: a number is left waiting"


# ------------------------------------------------------------------------------------------------------ one failure at a time


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clock", CLOCKS)
def test_every_single_failure(mode: str, clock: int) -> None:
    runs = 0
    for price, what in itertools.product(PRICES, TROUBLES):
        by, nonce = (0, 1) if price == PRICES[0] else (3, 2)
        head = presented(price, mode, by, nonce)[1]
        for index in range(own_commands(price, mode, clock)):
            world = at(World(terms(price, mode)), clock)
            count = iter(range(10_000))
            failed: list[str] = []

            def trouble(
                machine: Any,
                command: Any,
                index: int = index,
                what: str = what,
                count: Iterator[int] = count,
                failed: list[str] = failed,
            ) -> str | None:
                if next(count) != index:
                    return None
                if isinstance(machine, SettlementMachine) and "gone" in what:
                    return None  # a settlement has no caller
                failed.append(type(command).__name__)
                return what

            world.trouble = trouble
            world.serve(head, b"a" * 32)
            statuses = come_back(world, head)
            amount = 10_000 if price == PRICES[0] else 20_000
            lost = bool(failed) and failed[0] in ("CommitClaim", "KeepClaim")
            holds(world, amount, statuses, (mode, clock, price, what, index, failed), committed=not lost)
            runs += 1
    assert runs >= 8


@pytest.mark.parametrize("mode", MODES)
def test_payers_nonces_and_amounts_do_not_mix(mode: str) -> None:
    for order in itertools.permutations(range(4)):
        world = World(terms(PRICES[0], mode))
        due: dict[int, int] = dict.fromkeys(PAYERS, 0)
        cases = list(itertools.product(PAYERS, NONCES))
        for by, nonce in [cases[i] for i in order]:
            reply = world.serve(presented(PRICES[0], mode, by, nonce)[1], bytes((by, nonce)) * 16)
            assert reply is not None
            assert reply.status == 200
            due[by] += 10_000
        for by, charged in due.items():
            assert world.balance(dev_accounts()[by]) == 1_000_000 - charged
        dear = presented(PRICES[1], mode, 0, 1)[1]
        assert world.serve(dear, b"d" * 32).status == 402  # type: ignore[union-attr]  # another offer than ours
        assert world.runs == len(order)
        assert len(world.delivered()) == len(order)


# --------------------------------------------------------------------------------------------------- two at the same moment


@dataclass
class Race:
    """Two exchanges of one permit, walked by a schedule of 0s and 1s."""

    world: World
    walks: list[tuple[Any, Generator[str, None, Any]]]

    def run(self, schedule: tuple[int, ...]) -> list[Any]:
        """Walk them in this order, then each to its end; return both answers."""
        ends: dict[int, Any] = {}
        for turn in (*schedule, *(0,) * 60, *(1,) * 60):
            if turn not in ends:
                try:
                    next(self.walks[turn][1])
                except StopIteration as stop:
                    ends[turn] = self.world.answered(self.walks[turn][0], stop.value)
        return [ends[0], ends[1]]


def schedules(first: int, second: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to interleave two walks of these lengths."""
    for chosen in itertools.combinations(range(first + second), first):
        yield tuple(0 if at in chosen else 1 for at in range(first + second))


def length(walk: Generator[str, None, Any]) -> int:
    """Return how many steps a walk takes."""
    return sum(1 for _ in walk)


@pytest.mark.parametrize("mode", MODES)
def test_two_exchanges_of_one_permit_interleaved_in_every_way(mode: str) -> None:
    head = presented(PRICES[0], mode, 0, 1)[1]
    steps = length(World(terms(PRICES[0], mode)).serving(head)[1]) + 1
    count = 0
    for schedule in schedules(steps, steps):
        world = World(terms(PRICES[0], mode))
        race = Race(world, [world.serving(head, b"a" * 32), world.serving(head, b"b" * 32)])
        answers = race.run(schedule)
        statuses = sorted(answer.status for answer in answers)
        # never 402: one recalled as new and judged after the other had settled asks the ledger again
        assert statuses in ([200, 200], [200, 409], [200, 503]), schedule
        assert (world.runs, world.earned) == (1, 10_000), schedule
        if statuses == [200, 200]:
            assert answers[0] == answers[1], schedule
        again = world.serve(head, b"c" * 32)
        assert again in answers, schedule
        count += 1
    assert count > 500


@pytest.mark.parametrize("mode", MODES)
def test_two_exchanges_interleaved_while_one_fails(mode: str) -> None:
    """The second begins after each step of the first, whose next command fails; later the payer comes back once more."""
    head = presented(PRICES[0], mode, 0, 1)[1]
    steps = length(World(terms(PRICES[0], mode)).serving(head)[1])
    for begin, fail, what in itertools.product(range(steps + 1), range(steps), TROUBLES):
        world = World(terms(PRICES[0], mode))
        first, second = world.serving(head, b"a" * 32), world.serving(head, b"b" * 32)
        count = iter(range(10_000))
        failed: list[str] = []

        def trouble(
            machine: Any,
            command: Any,
            count: Iterator[int] = count,
            fail: int = fail,
            what: str = what,
            failed: list[str] = failed,
        ) -> str | None:
            if isinstance(machine, SettlementMachine) or machine.owner != (b"a" * 32).hex() or next(count) != fail:
                return None
            failed.append(type(command).__name__)
            return what

        world.trouble = trouble
        Race(world, [first, second]).run((0,) * begin + (1,) * 60)
        statuses = come_back(world, head)
        lost = bool(failed) and failed[0] in ("CommitClaim", "KeepClaim")
        holds(world, 10_000, statuses, (mode, begin, fail, what, failed, statuses), committed=not lost)


def test_two_token_requests_interleaved_in_every_way() -> None:
    request = token_request(token_permit())
    steps = length(World(TERMS).issuing(request, b"a" * 32)[1]) + 1
    for schedule in schedules(steps, steps):
        world = World(TERMS)
        answers = Race(world, [world.issuing(request, b"a" * 32), world.issuing(request, b"b" * 32)]).run(schedule)
        statuses = sorted(answer.status for answer in answers)
        assert statuses in ([200, 200], [200, 409]), schedule
        tokens = {answer.body for answer in answers if answer.status == 200}
        assert len(tokens) == 1, schedule
        world.work()
        assert world.earned == 10_000


def test_two_permits_of_one_nonce_interleaved_in_every_way() -> None:
    """Two permits, both good when judged, of which the chain can execute one: one token."""
    requests = [token_request(token_permit(valid=300)), token_request(token_permit(valid=200))]
    steps = length(World(TERMS).issuing(requests[0], b"a" * 32)[1]) + 1
    for schedule in schedules(steps, steps):
        world = World(TERMS)
        answers = Race(world, [world.issuing(r, bytes((n,)) * 32) for n, r in enumerate(requests)]).run(schedule)
        assert sorted(answer.status for answer in answers) == [200, 402], schedule
        world.work()
        assert world.earned == 10_000


def test_both_settle_modes_are_in_the_world() -> None:
    assert {TERMS_V2.offers[0].settle, TERMS_BEFORE.offers[0].settle} == set(MODES.values())
