"""The machine that has a facilitator settle, told as transcripts; together they take every row of its table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.playbook import Play, Playbook, transcript
from tests.rowcount import Rows
from tests.world import (
    BLOCK,
    NETWORK,
    NOW,
    PAYER,
    STRANGER,
    V2_AFTER,
    after_end,
    authorization,
    cancelled_log,
    closing_facts,
    hash32,
    journal,
    paid_receipt,
    settle,
    settled,
)
from x402core.commands import AskFacilitator, PersistIntent, PersistOutcome, PersistSent, ReadChain, Report, WakeAt
from x402core.errors import Reason
from x402core.events import Answered, Pending, Resume, Unsettled
from x402core.machines.remote import RemotePolicy, RemoteSettlement, RemoteState
from x402core.reads import TxReceipt
from x402core.schemes.remote import BEFORE_SENDING, NOT_HERE
from x402core.values import Millis

rows = Rows(RemoteSettlement)
P = authorization()
INTENT = journal(P, V2_AFTER)
FACILITATORS = replace(settled(P, block=0), foreign=True)
CHAIN = RemotePolicy(chain=True)
PROVE = RemotePolicy(chain=True, prove=True)
S = RemoteState


def no(reason: Reason, *hashes: Any) -> Unsettled:
    return Unsettled(reason, NETWORK, PAYER, hashes)


def asking(play: Play, policy: RemotePolicy | None = None) -> Playbook:
    """Play up to the first question."""
    book = play(RemoteSettlement(policy or RemotePolicy(), trace=rows)).feed(settle(P, V2_AFTER))
    book.expect(PersistIntent(INTENT)).answer(None).expect(PersistSent, record=lambda r: r.sent)
    return book.expect(AskFacilitator)


def used(block: int = BLOCK + 2) -> Any:
    """Answer that somebody executed it."""
    return closing_facts(P, used=True, trace=paid_receipt(P, V2_AFTER, hash32(0xF0), block))


def confirmed(book: Playbook, transaction: int) -> None:
    book.expect(PersistOutcome).end(Report, state=S.CONFIRMED, transaction=hash32(transaction), foreign=True, amount=10_000)


def void(book: Playbook, reason: Reason) -> None:
    book.expect(PersistOutcome).end(
        Report, state=S.VOID, outcome=lambda told: isinstance(told, Unsettled) and told.final and told.reason is reason
    )


# ------------------------------------------------------------------------------------------------------------- asked once


@transcript
def test_settled(play: Play) -> None:
    confirmed(asking(play).answer(FACILITATORS), 0xAB)


@transcript
def test_refused(play: Play) -> None:
    void(asking(play).answer(no(Reason.INSUFFICIENT_FUNDS)), Reason.INSUFFICIENT_FUNDS)


@transcript
def test_refused_with_a_chain_to_ask_is_refused_all_the_same(play: Play) -> None:
    void(asking(play, CHAIN).answer(no(Reason.INSUFFICIENT_FUNDS)), Reason.INSUFFICIENT_FUNDS)


@transcript
def test_used_and_nobody_to_ask_lasts_until_the_permit_is_over(play: Play) -> None:
    """Perhaps by somebody faster, and then it is paid: only its word is known, and only at the end is it taken."""
    book = asking(play).answer(no(Reason.NONCE_USED)).expect(WakeAt)
    assert isinstance(book.machine.outlook, Pending)  # type: ignore[attr-defined]
    void(book.at(after_end(P)).answer(None), Reason.NONCE_USED)


@transcript
def test_its_transaction_failed_and_nobody_to_ask_may_succeed_yet(play: Play) -> None:
    book = asking(play).answer(no(Reason.TRANSACTION_FAILED, hash32(9))).woken()
    confirmed(book.expect(AskFacilitator).answer(FACILITATORS), 0xAB)


@transcript
def test_its_transaction_failed_and_nobody_to_ask_lasts_until_the_permit_is_over(play: Play) -> None:
    book = asking(play).answer(no(Reason.TRANSACTION_FAILED, hash32(9))).expect(WakeAt).at(after_end(P)).answer(None)
    book.expect(PersistOutcome)
    book.end(Report, state=S.VOID, final=True, reason=Reason.TRANSACTION_FAILED, transactions=(hash32(9),))


@pytest.mark.parametrize("reason", [each for each in Reason if each not in BEFORE_SENDING])
@pytest.mark.parametrize("policy", [RemotePolicy(), CHAIN], ids=["blind", "chain"])
def test_only_a_refusal_before_anything_was_sent_is_an_end(reason: Reason, policy: RemotePolicy) -> None:
    for told in (no(reason), no(Reason.INSUFFICIENT_FUNDS, hash32(9))):  # whoever shows a transaction has sent one
        machine = RemoteSettlement(policy)
        (intent,) = machine.receive(settle(P, V2_AFTER), now=NOW)
        _, ask = machine.receive(Answered(intent, None), now=NOW)
        machine.receive(Answered(ask, told), now=NOW)
        assert machine.state is (S.CLOSING if policy.chain else S.RESTING)
        assert isinstance(machine.outlook, Pending)


def test_a_refusal_is_before_sending_or_is_not() -> None:
    assert {Reason.INSUFFICIENT_FUNDS, Reason.SIGNATURE, Reason.PERMIT2_BALANCE, *NOT_HERE} <= BEFORE_SENDING
    mayhap = {Reason.TRANSACTION_FAILED, Reason.NONCE_USED, Reason.PERMIT2_NONCE, Reason.SPONSOR_APPROVAL_FAILED}
    assert not BEFORE_SENDING & {*mayhap, Reason.INVALID_TRANSACTION_STATE, Reason.SETTLEMENT_PENDING, Reason.PAYMENT_SPENT}


def test_permit2_s_simulation_fails_for_a_used_nonce_too() -> None:
    for policy, state in ((RemotePolicy(), S.VOID), (CHAIN, S.CLOSING)):
        machine = RemoteSettlement(policy)
        (intent,) = machine.receive(settle(P, V2_AFTER), now=NOW)
        _, ask = machine.receive(Answered(intent, None), now=NOW)
        machine.receive(Answered(ask, no(Reason.PERMIT2_SIMULATION)), now=NOW)
        assert machine.state is state


@transcript
def test_pending_then_settled(play: Play) -> None:
    book = asking(play).answer(Pending(NETWORK, PAYER, (hash32(7),))).expect(WakeAt)
    assert book.machine.outlook == Pending(NETWORK, PAYER, (hash32(7),))  # type: ignore[attr-defined]
    book.at(book.last.at).answer(None).expect(AskFacilitator)  # type: ignore[union-attr]
    confirmed(book.answer(FACILITATORS), 0xAB)


@transcript
def test_the_pauses_grow_to_a_bound(play: Play) -> None:
    book, pauses = asking(play, RemotePolicy(ask_first=Millis(500), ask_most=Millis(3000))), []
    for _ in range(5):
        before = book.fail().now
        book.expect(WakeAt)
        pauses.append(book.last.at - before)  # type: ignore[union-attr]
        book.at(book.last.at).answer(None).expect(AskFacilitator)  # type: ignore[union-attr]
    assert pauses == [500, 1000, 2000, 3000, 3000]
    confirmed(book.answer(FACILITATORS), 0xAB)


# ------------------------------------------------------------------------------------------------------ answers that were lost


@transcript
def test_a_lost_answer_makes_a_refusal_doubtful(play: Play) -> None:
    book = asking(play, CHAIN).fail().woken().expect(AskFacilitator).answer(no(Reason.INSUFFICIENT_FUNDS))
    confirmed(book.expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_a_doubtful_refusal_and_the_chain_knows_nothing_yet(play: Play) -> None:
    book = asking(play, CHAIN).fail().woken().expect(AskFacilitator).answer(no(Reason.NONCE_USED))
    book.expect(ReadChain).answer(closing_facts(P)).woken().expect(AskFacilitator)
    confirmed(book.answer(FACILITATORS), 0xAB)


@transcript
def test_a_doubtful_refusal_and_nobody_to_ask_lasts_until_the_permit_is_over(play: Play) -> None:
    book = asking(play).fail().woken().expect(AskFacilitator).answer(no(Reason.NONCE_USED)).expect(WakeAt)
    void(book.at(after_end(P)).answer(None), Reason.NONCE_USED)


@transcript
def test_a_node_that_is_down_decides_nothing(play: Play) -> None:
    book = asking(play, CHAIN).fail().woken().expect(AskFacilitator).answer(no(Reason.NONCE_USED)).expect(ReadChain).fail()
    book.woken().expect(AskFacilitator).answer(no(Reason.NONCE_USED))
    confirmed(book.expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_expired_and_the_chain_says_unused(play: Play) -> None:
    book = asking(play, CHAIN).fail().expect(WakeAt).at(after_end(P)).answer(None).expect(ReadChain)
    void(book.answer(lambda _: closing_facts(P, now=book.now)), Reason.VALID_BEFORE)


@transcript
def test_expired_and_the_chain_says_used(play: Play) -> None:
    book = asking(play, CHAIN).fail().expect(WakeAt).at(after_end(P)).answer(None)
    confirmed(book.expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_cancelled_by_its_payer(play: Play) -> None:
    book = asking(play, CHAIN).fail().woken().expect(AskFacilitator).answer(no(Reason.NONCE_USED)).expect(ReadChain)
    cancel = TxReceipt(hash32(0xCC), True, BLOCK + 2, (cancelled_log(P),))
    void(book.answer(closing_facts(P, used=True, trace=cancel)), Reason.VALID_BEFORE)


# ------------------------------------------------------------------------------------------------------ somebody was faster


@transcript
def test_used_by_somebody_faster(play: Play) -> None:
    confirmed(asking(play, CHAIN).answer(no(Reason.NONCE_USED)).expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_its_transaction_failed_as_somebody_was_faster(play: Play) -> None:
    book = asking(play, CHAIN).answer(no(Reason.TRANSACTION_FAILED, hash32(9)))
    confirmed(book.expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_its_transaction_failed_and_the_permit_can_be_executed_yet(play: Play) -> None:
    """By anybody who has its signature: it is asked again, and void only when the contract says that it never can be."""
    book = asking(play, CHAIN).answer(no(Reason.TRANSACTION_FAILED, hash32(9)))
    book.expect(ReadChain).answer(closing_facts(P)).expect(WakeAt)
    assert book.machine.outlook == Pending(NETWORK, PAYER, (hash32(9),))  # type: ignore[attr-defined]
    book.at(book.last.at).answer(None).expect(AskFacilitator)  # type: ignore[union-attr]
    book.answer(no(Reason.INSUFFICIENT_FUNDS)).expect(ReadChain).answer(closing_facts(P)).woken()
    confirmed(book.expect(AskFacilitator).answer(no(Reason.TRANSACTION_FAILED)).expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_its_transaction_failed_and_nobody_was_faster(play: Play) -> None:
    book = asking(play, CHAIN).answer(no(Reason.TRANSACTION_FAILED, hash32(9))).expect(ReadChain)
    book.answer(closing_facts(P)).expect(WakeAt).at(after_end(P)).answer(None).expect(ReadChain)
    void(book.answer(lambda _: closing_facts(P, now=book.now)), Reason.TRANSACTION_FAILED)


@transcript
def test_its_transaction_failed_as_the_permit_is_used_and_its_log_is_not_found_yet(play: Play) -> None:
    book = asking(play, CHAIN).answer(no(Reason.TRANSACTION_FAILED)).expect(ReadChain)
    book.answer(closing_facts(P, used=True)).woken().expect(AskFacilitator).answer(no(Reason.NONCE_USED))
    confirmed(book.expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_its_transaction_failed_as_somebody_was_faster_not_deep_enough_yet(play: Play) -> None:
    book = asking(play, replace(CHAIN, confirmations=4)).answer(no(Reason.TRANSACTION_FAILED)).expect(ReadChain)
    book.answer(used(BLOCK + 3)).woken().expect(AskFacilitator).answer(no(Reason.NONCE_USED))
    confirmed(book.expect(ReadChain).answer(used(BLOCK + 2)), 0xF0)


@transcript
def test_its_transaction_failed_and_the_node_is_down(play: Play) -> None:
    book = asking(play, CHAIN).answer(no(Reason.TRANSACTION_FAILED)).expect(ReadChain).fail().woken()
    confirmed(book.expect(AskFacilitator).answer(no(Reason.NONCE_USED)).expect(ReadChain).answer(used()), 0xF0)


# ------------------------------------------------------------------------------------------------------------------ proof


@transcript
def test_its_word_is_proved(play: Play) -> None:
    confirmed(asking(play, PROVE).answer(FACILITATORS).expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_its_word_is_proved_as_deep_as_policy_asks(play: Play) -> None:
    book = asking(play, replace(PROVE, confirmations=4)).answer(FACILITATORS)
    book.expect(ReadChain).answer(used(BLOCK + 3)).woken().expect(AskFacilitator).answer(FACILITATORS)
    confirmed(book.expect(ReadChain).answer(used(BLOCK + 2)), 0xF0)


@transcript
def test_hostile_word_that_cannot_be_proved(play: Play) -> None:
    book = asking(play, PROVE).answer(FACILITATORS).expect(ReadChain).answer(closing_facts(P)).expect(WakeAt)
    assert isinstance(book.machine.outlook, Pending)  # type: ignore[attr-defined]
    book.at(after_end(P)).answer(None).expect(ReadChain)
    void(book.answer(lambda _: closing_facts(P, now=book.now)), Reason.VALID_BEFORE)


# --------------------------------------------------------------------------------------------------------------- the journal


@transcript
def test_taken_up_from_the_journal_it_doubts(play: Play) -> None:
    book = play(RemoteSettlement(CHAIN, trace=rows)).feed(Resume(INTENT)).expect(AskFacilitator(INTENT))
    confirmed(book.answer(no(Reason.INSUFFICIENT_FUNDS)).expect(ReadChain).answer(used()), 0xF0)


@transcript
def test_ended_in_the_journal(play: Play) -> None:
    for outcome, state in ((FACILITATORS, S.CONFIRMED), (no(Reason.NONCE_USED), S.VOID)):
        ended = replace(INTENT, outcome=outcome)
        play(RemoteSettlement(CHAIN, trace=rows)).feed(Resume(ended)).end(Report(outcome), state=state)
        book = play(RemoteSettlement(CHAIN, trace=rows)).feed(settle(P, V2_AFTER)).expect(PersistIntent)
        book.answer(ended).end(Report(outcome), state=state)


@transcript
def test_another_process_is_at_it(play: Play) -> None:
    book = play(RemoteSettlement(CHAIN, trace=rows)).feed(settle(P, V2_AFTER)).expect(PersistIntent)
    book.answer(INTENT).expect(AskFacilitator(INTENT))
    confirmed(book.answer(FACILITATORS), 0xAB)


@transcript
def test_journaled_for_another_payee(play: Play) -> None:
    book = play(RemoteSettlement(CHAIN, trace=rows)).feed(settle(P, V2_AFTER)).expect(PersistIntent)
    book.answer(replace(INTENT, offer=replace(V2_AFTER, pay_to=STRANGER)))
    book.end(Report, state=S.NOT_ASKED, reason=Reason.PAYMENT_SPENT)


@transcript
def test_a_journal_that_cannot_be_written(play: Play) -> None:
    book = play(RemoteSettlement(CHAIN, trace=rows)).feed(settle(P, V2_AFTER)).expect(PersistIntent).fail()
    book.end(Report(Unsettled(Reason.UNAVAILABLE, NETWORK, PAYER, final=False)), state=S.NOT_ASKED)


def test_every_row_was_taken() -> None:
    rows.check(__name__)
