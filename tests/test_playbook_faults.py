"""Every transcript once more for each of its waited commands: it fails, or the caller goes away there (models.md 10).

What follows is answered by a friendly world, or fails as well, and the general rules of ``tests/rules.py`` have to hold: no
exception, an end, a claim closed exactly once, no release after money may have moved, nothing sent that is not journaled.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache

import pytest

from tests.playbook import REGISTRY, Fault, Injected, Play, Playbook
from tests.world import NOW, SETTLER, V2_AFTER, authorization, settle
from x402core.commands import PersistIntent
from x402core.machines.settlement import SettlementMachine, SettlementPolicy

MODULES = (
    "test_client_playbook",
    "test_client_more_playbook",
    "test_server_playbook",
    "test_server_more_playbook",
    "test_token_playbook",
    "test_settlement_playbook",
    "test_settlement_journal_playbook",
    "test_replay",
    "test_cancel",
    "test_hostile_402",
    "test_reorg",
    "facilitator.test_exchange_playbook",
    "facilitator.test_remote_playbook",
)


def names() -> list[str]:
    """Return the names of all transcripts."""
    for module in MODULES:
        importlib.import_module(f"tests.{module}")
    return list(REGISTRY)


@cache
def length(name: str) -> tuple[int, bool]:
    """Return how many commands the first playbook of a transcript waits for, and whether its machine can be cancelled."""
    play = Play()
    REGISTRY[name](play)
    play.check()
    return play.books[0].waited, play.books[0].machine.CANCEL is not None


def faults(name: str) -> Iterator[Fault]:
    """Yield every fault a transcript can meet."""
    count, cancellable = length(name)
    for at in range(count):
        yield Fault(at)
        yield Fault(at, kindly=False)
        if cancellable:
            yield Fault(at, cancel=True)


@pytest.mark.parametrize("name", names())
def test_fail_at_every_command(name: str) -> None:
    for fault in faults(name):
        play = Play(fault)
        try:
            with pytest.raises(Injected):
                REGISTRY[name](play)
        except Exception as error:
            error.add_note(f"fault {fault} in {name}, which ended in {play.books[0].machine.state.name}")
            raise


def test_a_playbook_that_nobody_ends_is_noticed() -> None:
    play = Play()
    book = play(SettlementMachine(SettlementPolicy(), SETTLER)).feed(settle(authorization(), V2_AFTER)).expect(PersistIntent)
    with pytest.raises(AssertionError, match=r"unfinished playbook: SettlementMachine has no \.end"):
        play.check()
    with pytest.raises(AssertionError, match="still in RECORDING"):
        book.end()


def test_a_mismatch_shows_both_transcripts() -> None:
    book = Playbook(SettlementMachine(SettlementPolicy(), SETTLER), now=NOW).feed(settle(authorization(), V2_AFTER))
    with pytest.raises(AssertionError, match="the transcripts differ") as caught:
        book.expect(PersistIntent, record="another")
    assert "- > PersistIntent(record='another')" in str(caught.value)
    assert "+ (record is SettlementRecord(" in str(caught.value)


def test_how_much_was_injected() -> None:
    count = sum(len(list(faults(name))) for name in names())
    assert count > 500, count
