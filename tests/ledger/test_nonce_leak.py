"""Danger: one leaked transaction number stops every later payment, one shared number loses one (T7)."""

from __future__ import annotations

import pytest

from x402bind.ledger import Ledger
from x402core.errors import LocalProtocolError
from x402core.values import Address, Network

from .samples import ACCOUNT, NETWORK, attempt, ended, permit, record, settled, void

OTHER_ACCOUNT = Address("0x" + "0c" * 20)
OTHER_NETWORK = Network("eip155:1")


def ask(ledger: Ledger, number: int, count: int = 1, *, floor: int = 5) -> tuple[int, ...]:
    return ledger.allocate(NETWORK, ACCOUNT, permit(number).key, count, floor=floor)


def give_back(ledger: Ledger, number: int) -> None:
    ledger.return_numbers(NETWORK, permit(number).key)


def sign(ledger: Ledger, number: int, *numbers: int, fee: int = 10) -> None:
    ledger.persist_intent(record(number))
    ledger.persist(record(number).with_attempt(attempt(*numbers, fee=fee)))


def test_numbers_rise_from_the_chains_next(ledger: Ledger) -> None:
    assert ask(ledger, 1) == (5,)
    assert ask(ledger, 2, 2) == (6, 7)
    assert ask(ledger, 3) == (8,)


def test_lanes_are_apart(ledger: Ledger) -> None:
    ask(ledger, 1, 3)
    assert ledger.allocate(NETWORK, OTHER_ACCOUNT, permit(2).key, 1, floor=5) == (5,)
    assert ledger.allocate(OTHER_NETWORK, ACCOUNT, permit(2).key, 1, floor=5) == (5,)
    ledger.return_numbers(OTHER_NETWORK, permit(1).key)
    assert ask(ledger, 3) == (8,), "another network's return gives nothing back here"


def test_asked_again_the_same_numbers_come_back(ledger: Ledger) -> None:
    assert ask(ledger, 1, 2) == (5, 6)
    assert ask(ledger, 2) == (7,)
    assert ask(ledger, 1, 2) == (5, 6)
    assert ask(ledger, 1, 2, floor=4) == (5, 6)


def test_numbers_the_chain_has_passed_are_exchanged(ledger: Ledger) -> None:
    assert ask(ledger, 1, 2) == (5, 6)
    assert ask(ledger, 2) == (7,)
    assert ask(ledger, 1, 2, floor=6) == (6, 8)
    assert ask(ledger, 3, floor=6) == (9,)


def test_another_count_is_another_lot(ledger: Ledger) -> None:
    assert ask(ledger, 1) == (5,)
    assert ask(ledger, 2) == (6,)
    assert ask(ledger, 1, 2) == (5, 7)
    assert ask(ledger, 1) == (5,)
    assert ask(ledger, 3) == (7,)


def test_returned_numbers_fill_the_gap_first(ledger: Ledger) -> None:
    ask(ledger, 1), ask(ledger, 2), ask(ledger, 3)
    give_back(ledger, 2)
    give_back(ledger, 2)
    assert ask(ledger, 4, 2) == (6, 8)
    give_back(ledger, 3)
    give_back(ledger, 4)
    assert ask(ledger, 5) == (6,), "and the top sinks again"


def test_a_failed_send_does_not_leak_its_number(ledger: Ledger) -> None:
    """official Python SDK: one failed send, and 8, 9, 10 wait for 7 for ever."""
    for payment in range(1, 20):
        assert ask(ledger, payment) == (5,)
        sign(ledger, payment, 5, fee=payment)
        give_back(ledger, payment)


def test_a_signed_number_is_nobody_elses(ledger: Ledger) -> None:
    assert ask(ledger, 1) == (5,)
    sign(ledger, 1, 5)
    assert ask(ledger, 2) == (6,)
    assert ask(ledger, 3, floor=3) == (3,), "a lower floor shows a gap below"
    assert ask(ledger, 4, 3, floor=3) == (4, 7, 8)


def test_a_lost_answer_to_persisting_leaves_no_hole(ledger: Ledger) -> None:
    """The signed attempt is stored, its worker was told it failed and asks again: 5 was never sent, 6 would wait for ever."""
    assert ask(ledger, 1) == (5,)
    sign(ledger, 1, 5)
    assert ask(ledger, 1) == (5,)
    give_back(ledger, 1)
    assert ask(ledger, 2) == (5,)


def test_what_is_left_of_a_passed_lot_is_used_first(ledger: Ledger) -> None:
    """Somebody else's transaction took 5: the lane goes on with 6, which no node has seen."""
    assert ask(ledger, 1, 2) == (5, 6)
    sign(ledger, 1, 5, 6)
    assert ask(ledger, 2) == (7,)
    assert ask(ledger, 1, 2, floor=6) == (6, 8)


def test_a_passed_number_does_not_come_back_with_a_lagging_node(ledger: Ledger) -> None:
    ask(ledger, 1)
    sign(ledger, 1, 5)
    assert ask(ledger, 1, floor=6) == (6,)
    sign(ledger, 1, 5)
    give_back(ledger, 1)
    give_back(ledger, 1)
    assert ask(ledger, 2, 2, floor=5) == (6, 7)
    assert ask(ledger, 1, floor=5) == (8,)


def test_half_signed_lots_are_given_back_whole(ledger: Ledger) -> None:
    ask(ledger, 1, 2)
    sign(ledger, 1, 5)
    give_back(ledger, 1)
    assert ask(ledger, 2, 2) == (5, 6)


def test_a_smaller_lot_keeps_what_was_signed_with(ledger: Ledger) -> None:
    ask(ledger, 1, 2)
    sign(ledger, 1, 6)
    assert ask(ledger, 1) == (5,)
    assert ask(ledger, 2) == (7,), "6 may have been sent"


def test_an_old_attempt_signed_again_uses_its_new_numbers(ledger: Ledger) -> None:
    """Refused, given back, taken again and signed to the same bytes: the number is used as at the first time."""
    for _ in range(2):
        ask(ledger, 1)
        sign(ledger, 1, 5)
        give_back(ledger, 1)
    ask(ledger, 1)
    sign(ledger, 1, 5)
    ledger.persist(ended(record(1), void()))
    assert ask(ledger, 2) == (6,)


def test_another_payments_number_is_not_marked(ledger: Ledger) -> None:
    ask(ledger, 1)
    give_back(ledger, 1)
    assert ask(ledger, 2) == (5,)
    sign(ledger, 1, 5)
    ledger.persist_intent(record(2))
    ledger.persist(ended(record(2), void()))
    assert ask(ledger, 3) == (5,), "2 never signed with it"


def test_a_number_may_be_signed_with_again_at_higher_fees(ledger: Ledger) -> None:
    ask(ledger, 1)
    sign(ledger, 1, 5, fee=10)
    sign(ledger, 1, 5, fee=12)
    assert ledger.record(permit(1).key).hashes == (*attempt(5, fee=10).hashes, *attempt(5, fee=12).hashes)  # type: ignore[union-attr]
    assert ask(ledger, 2) == (6,)


@pytest.mark.parametrize("outcome", [settled(), void()])
def test_the_end_frees_what_was_never_signed_with(ledger: Ledger, outcome: object) -> None:
    ask(ledger, 1, 2)
    sign(ledger, 1, 5)
    ledger.persist(ended(record(1), outcome))  # type: ignore[arg-type]
    assert ask(ledger, 2, 2) == (6, 7), "5 was signed with, and may be on its way"


def test_an_absurd_floor_does_not_outlive_the_node_that_told_it(ledger: Ledger) -> None:
    assert ask(ledger, 1, floor=10**15) == (10**15,)
    assert ask(ledger, 2) == (5,)


@pytest.mark.parametrize(("count", "floor"), [(0, 5), (-1, 5), (1, -1), (1, 2**63)])
def test_nonsense_is_refused(ledger: Ledger, count: int, floor: int) -> None:
    with pytest.raises(LocalProtocolError):
        ask(ledger, 1, count, floor=floor)
    assert ask(ledger, 1) == (5,)
