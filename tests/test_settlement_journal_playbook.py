"""The settlement machine, told as transcripts: how it is taken up from the journal, how it ends, and what it says meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.playbook import Play, transcript
from tests.test_settlement_playbook import (
    INTENT,
    RECORD,
    A,
    P,
    S,
    T,
    absent,
    again,
    machine,
    over,
    sending,
    token_sending,
    unused,
    watching,
)
from tests.world import (
    BLOCK,
    NETWORK,
    NOW,
    PAYER,
    TOKEN_OFFER,
    V2_AFTER,
    after_end,
    closing_facts,
    hash32,
    paid_receipt,
    reverted,
    seen,
    settle,
    settled,
    sign_all,
)
from x402core.commands import (
    AllocateTxNumbers,
    Broadcast,
    FillTxNumbers,
    GetReceipts,
    Lane,
    PersistIntent,
    PersistOutcome,
    PersistSent,
    PersistSignedTx,
    ReadChain,
    Rebroadcast,
    Report,
    ReturnTxNumbers,
    Sent,
    SignTransactions,
    WakeAt,
)
from x402core.errors import LocalProtocolError, Reason
from x402core.events import CANCELLED, Pending, Resume, Unsettled
from x402core.machines.settlement import SettlementMachine
from x402core.reads import TxReceipt

FOREIGN = hash32(0xF0)


# ------------------------------------------------------------------------------ it always ends, and blocks nobody after it


@transcript
def test_numbers_given_back_are_not_filled(play: Play) -> None:
    """Number 7 was rejected and given back: by now it may carry another payment, which a filler would replace."""
    book = (
        sending(play).answer(Sent.REJECTED).expect(ReadChain).answer(closing_facts(P, now=NOW)).expect(ReturnTxNumbers).woken()
    )
    again(book, Lane((9,), 3 * 10**9, 10**6)).expect(PersistSent).woken().at(after_end(P)).expect(GetReceipts)
    book.answer(over(book)).expect(ReadChain).answer(unused(book)).expect(GetReceipts).answer(over(book))
    book.expect(FillTxNumbers, transactions=lambda t: [x.nonce for x in t] == [9]).expect(PersistOutcome).end(
        Report, state=S.VOID
    )


@transcript
def test_the_payer_used_the_nonce_elsewhere_while_we_could_not_send(play: Play) -> None:
    book = play(machine()).feed(settle(T, TOKEN_OFFER)).expect(PersistIntent).answer(None).expect(AllocateTxNumbers).fail()
    book.at(after_end(T)).woken().expect(ReadChain).answer(unused(book, T, nonce=1)).expect(ReturnTxNumbers)
    book.expect(PersistOutcome).end(Report, state=S.NOT_SENT)


@transcript
def test_the_payer_used_the_nonce_elsewhere_while_we_waited_in_the_pool(play: Play) -> None:
    book = token_sending(play).answer(Sent.ACCEPTED).expect(PersistSent).woken().at(after_end(T)).expect(GetReceipts)
    book.answer(over(book)).expect(ReadChain).answer(unused(book, T, nonce=1)).expect(GetReceipts).answer(over(book))
    book.expect(FillTxNumbers, transactions=lambda t: [x.nonce for x in t] == [7, 8]).expect(PersistOutcome)
    book.end(Report, state=S.VOID)


@transcript
def test_half_a_bundle_is_mined_and_the_other_half_repriced_after_the_permits_end_too(play: Play) -> None:
    book = token_sending(play).answer(Sent.ACCEPTED).expect(PersistSent).woken().at(after_end(T)).expect(GetReceipts)
    book.answer(lambda c: seen(TxReceipt(c.hashes[0], True, BLOCK + 1), None, head=BLOCK + 90, now=book.now))
    book.expect(SignTransactions).answer(sign_all).expect(PersistSignedTx).answer(None).expect(Broadcast).answer(
        Sent.NUMBER_TAKEN
    )
    book.expect(GetReceipts)
    book.answer(
        lambda c: seen(
            TxReceipt(c.hashes[0], True, BLOCK + 1), None, None, paid_receipt(T, TOKEN_OFFER, c.hashes[3]), now=book.now
        )
    )
    book.expect(PersistOutcome).end(Report, foreign=False, state=S.CONFIRMED)


# ------------------------------------------------------------------------------------------------------- from the journal


@transcript
def test_an_intent_is_taken_up(play: Play) -> None:
    book = play(machine()).feed(Resume(INTENT)).expect(AllocateTxNumbers)
    book.finish()


@transcript
def test_a_signed_attempt_is_taken_up_as_sent(play: Play) -> None:
    book = play(machine()).feed(Resume(RECORD)).expect(GetReceipts, hashes=A.hashes).answer(absent)
    book.expect(Rebroadcast(NETWORK, A.raws)).woken().expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]))).expect(PersistOutcome).end(Report)


@transcript
def test_a_signed_attempt_that_was_never_sent_ends_void_not_unsent(play: Play) -> None:
    book = play(machine(), now=after_end(P)).feed(Resume(RECORD)).expect(GetReceipts)
    book.answer(over(book)).expect(ReadChain).answer(unused(book)).expect(GetReceipts).answer(over(book))
    book.expect(FillTxNumbers).expect(PersistOutcome).end(Report, transactions=A.hashes, state=S.VOID)


@transcript
def test_what_has_ended_is_told_again(play: Play) -> None:
    paid, void = settled(P), Unsettled(Reason.VALID_BEFORE, NETWORK, PAYER, A.hashes)
    for outcome, state in ((paid, S.CONFIRMED), (void, S.VOID)):
        ended = replace(RECORD, outcome=outcome)
        play(machine()).feed(Resume(ended)).end(Report(outcome), state=state)
        play(machine()).feed(settle(P, V2_AFTER)).expect(PersistIntent).answer(ended).end(Report(outcome), state=state)


@transcript
def test_a_settlement_begun_twice_goes_on(play: Play) -> None:
    book = play(machine()).feed(settle(P, V2_AFTER)).expect(PersistIntent).answer(INTENT).expect(AllocateTxNumbers)
    book.finish()
    book = play(machine()).feed(settle(P, V2_AFTER)).expect(PersistIntent).answer(RECORD).expect(GetReceipts)
    book.finish()


# ----------------------------------------------------------------------------------------------------------- the outlook


def test_the_outlook(play: Play) -> None:
    book = sending(play)
    subject = book.machine
    assert isinstance(subject, SettlementMachine)
    assert subject.outlook == Pending(NETWORK, PAYER), "nothing is sent"
    book.answer(Sent.ACCEPTED)
    assert subject.outlook == Pending(NETWORK, PAYER, A.hashes)
    book.expect(PersistSent).woken().expect(GetReceipts).answer(lambda c: seen(reverted(c.hashes[0])))
    assert subject.outlook == Unsettled(Reason.TRANSACTION_FAILED, NETWORK, PAYER, A.hashes, final=False)
    book.expect(ReadChain).answer(closing_facts(P, used=True, trace=paid_receipt(P, V2_AFTER, FOREIGN))).expect(PersistOutcome)
    book.end(Report)
    assert subject.outlook.transaction == FOREIGN  # type: ignore[union-attr]


def test_it_cannot_be_cancelled(play: Play) -> None:
    book = watching(play).expect(WakeAt)
    with pytest.raises(LocalProtocolError, match="cannot be cancelled"):
        book.machine.receive(CANCELLED, now=NOW)
    assert book.machine.state is S.WATCHING
    book.finish()
