"""The settlement machine, told as transcripts from its start; with those of
``test_settlement_journal_playbook.py`` they take every row of its table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.playbook import Play, Playbook, transcript
from tests.rowcount import Rows
from tests.world import (
    BLOCK,
    LANE,
    LANES,
    NETWORK,
    NOW,
    PAYER,
    SETTLER,
    TOKEN_OFFER,
    V2_AFTER,
    after_end,
    attempt,
    authorization,
    cancelled_log,
    closing_facts,
    hash32,
    journal,
    paid_receipt,
    reverted,
    seen,
    settle,
    sign_all,
    token_permit,
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
from x402core.errors import Reason
from x402core.events import Unsettled
from x402core.evm.transaction import decode
from x402core.machines.settlement import SettlementMachine, SettlementPolicy, SettlementState
from x402core.reads import TxReceipt

rows = Rows(SettlementMachine)
P, T = authorization(), token_permit()
A = attempt(P, V2_AFTER, LANE)
INTENT = journal(P, V2_AFTER)
RECORD = journal(P, V2_AFTER, A)
FOREIGN = hash32(0xF0)
S = SettlementState


def machine(**policy: Any) -> SettlementMachine:
    """Return a new settlement."""
    return SettlementMachine(SettlementPolicy(**policy), SETTLER, trace=rows)


def stored(play: Play, **policy: Any) -> Playbook:
    """Play up to the first allocation (EIP-3009)."""
    book = play(machine(**policy)).feed(settle(P, V2_AFTER)).expect(PersistIntent(INTENT)).answer(None)
    return book.expect(AllocateTxNumbers(NETWORK, P.key, 1))


def journaling(play: Play, lane: Lane = LANE, **policy: Any) -> Playbook:
    """Play up to the journaling of the first attempt."""
    return stored(play, **policy).answer(lane).expect(SignTransactions).answer(sign_all).expect(PersistSignedTx)


def sending(play: Play, lane: Lane = LANE, **policy: Any) -> Playbook:
    """Play up to the first broadcast."""
    return journaling(play, lane, **policy).answer(None).expect(Broadcast)


def watching(play: Play, said: Sent = Sent.ACCEPTED, **policy: Any) -> Playbook:
    """Play up to the first wake-up after a broadcast."""
    return sending(play, **policy).answer(said).expect(PersistSent, record=lambda r: r.sent)


def looking(play: Play, **policy: Any) -> Playbook:
    """Play up to the first look."""
    return watching(play, **policy).woken().expect(GetReceipts, hashes=A.hashes)


def token_sending(play: Play) -> Playbook:
    """Play up to the first broadcast (EIP-2612: two transactions)."""
    book = play(machine()).feed(settle(T, TOKEN_OFFER)).expect(PersistIntent).answer(None)
    book.expect(AllocateTxNumbers, count=2).answer(LANES).expect(SignTransactions, transactions=lambda t: len(t) == 2)
    return book.answer(sign_all).expect(PersistSignedTx).answer(None).expect(Broadcast, raws=lambda raws: len(raws) == 2)


def absent(command: GetReceipts) -> Any:
    """Answer that nothing is mined."""
    return seen(*(None for _ in command.hashes))


def over(book: Playbook) -> Any:
    """Return an answer to GetReceipts: nothing is mined and the chain's clock is past the permit too."""
    return lambda command: seen(*(None for _ in command.hashes), head=BLOCK + 90, now=book.now)


def unused(book: Playbook, permit: Any = P, **how: Any) -> Any:
    """Return an answer to ReadChain: not executed."""
    return lambda _command: closing_facts(permit, now=book.now, **how)


def again(book: Playbook, lane: Lane, said: Sent = Sent.ACCEPTED) -> Playbook:
    """Play from an allocation to what a node said."""
    book.expect(AllocateTxNumbers).answer(lane).expect(SignTransactions).answer(sign_all).expect(PersistSignedTx).answer(None)
    return book.expect(Broadcast).answer(said)


# ------------------------------------------------------------------------------------------------------- the good ends


@transcript
def test_settled(play: Play) -> None:
    book = looking(play).answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0])))
    book.expect(PersistOutcome, record=lambda r: r.outcome.transaction == A.hashes[0] and r.sent)
    book.end(Report, transactions=A.hashes, foreign=False, block=BLOCK + 1, amount=10_000, state=S.CONFIRMED)


@transcript
def test_two_transactions_settle_a_permit(play: Play) -> None:
    book = token_sending(play).answer(Sent.ACCEPTED).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(lambda c: seen(TxReceipt(c.hashes[0], True, BLOCK + 1), paid_receipt(T, TOKEN_OFFER, c.hashes[1])))
    book.expect(PersistOutcome).end(Report, transactions=lambda t: len(t) == 2, foreign=False)


def test_what_is_signed(play: Play) -> None:
    book = token_sending(play)
    assert isinstance(book.last, Broadcast)
    (allow, by), (move, mover) = (decode(raw) for raw in book.last.raws)
    assert by == mover == SETTLER
    assert (allow.nonce, move.nonce) == LANES.numbers
    assert allow.to == move.to == T.asset
    assert (allow.data[:4].hex(), move.data[:4].hex()) == ("d505accf", "23b872dd")
    assert (allow.max_fee, allow.max_priority_fee) == (LANES.max_fee, LANES.max_priority_fee)
    book.answer(Sent.ACCEPTED)
    book.finish()


@transcript
def test_confirmations_are_waited_for(play: Play) -> None:
    book = looking(play, confirmations=3)
    for head in (1, 2):
        book.answer(lambda c, head=head: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), head=BLOCK + head)).woken().expect(
            GetReceipts
        )
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), head=BLOCK + 3)).expect(PersistOutcome).end(Report)


@transcript
def test_looks_become_rarer(play: Play) -> None:
    book = watching(play, look_first=200, look_most=4000)
    waits = []
    for _ in range(8):
        book.expect(WakeAt)
        waits.append(book.last.at - book.now)  # type: ignore[union-attr]
        book.at(book.last.at).answer(None).expect(GetReceipts).answer(absent).expect(Rebroadcast)  # type: ignore[union-attr]
    assert waits == [200, 400, 800, 1600, 3200, 4000, 4000, 4000]
    book.expect(WakeAt)
    book.finish()


# ---------------------------------------------------------------------------------------------------- nothing sent yet


@transcript
def test_the_intent_cannot_be_stored(play: Play) -> None:
    book = play(machine()).feed(settle(P, V2_AFTER)).expect(PersistIntent).fail()
    book.end(Report(Unsettled(Reason.UNAVAILABLE, NETWORK, PAYER, final=False)), state=S.NOT_SENT)


@transcript
def test_the_same_permit_journaled_for_another_payee_is_not_settled_again(play: Play) -> None:
    """A Permit2 witness names the payee, an EIP-2612 permit does not: what the journal has is compared, not only its key."""
    elsewhere = replace(INTENT, offer=replace(V2_AFTER, pay_to=PAYER))
    book = play(machine()).feed(settle(P, V2_AFTER)).expect(PersistIntent).answer(elsewhere)
    book.end(Report, outcome=lambda it: (it.final, it.transactions) == (True, ()), state=S.NOT_SENT)


@transcript
def test_trouble_before_sending_is_rested_over(play: Play) -> None:
    book = stored(play).fail("ChainUnavailable").woken().expect(AllocateTxNumbers).answer(LANE)
    book.expect(SignTransactions).fail("SignerGone").expect(ReturnTxNumbers(NETWORK, P.key)).woken()
    book.expect(AllocateTxNumbers).answer(LANE).expect(SignTransactions).answer((b"no signature",)).expect(
        ReturnTxNumbers
    ).woken()
    book.expect(AllocateTxNumbers).answer(LANE).expect(SignTransactions).answer(sign_all).expect(PersistSignedTx).fail().woken()
    again(book, LANE).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[-1]))).expect(PersistOutcome).end(Report)


@transcript
def test_nothing_could_be_sent_until_the_permit_ended(play: Play) -> None:
    book = stored(play).fail().at(after_end(P)).woken().expect(ReadChain)
    book.answer(unused(book)).expect(ReturnTxNumbers).expect(PersistOutcome)
    book.end(Report(Unsettled(Reason.UNAVAILABLE, NETWORK, PAYER)), state=S.NOT_SENT)


@transcript
def test_the_end_is_asked_for_again(play: Play) -> None:
    book = stored(play).fail().at(after_end(P)).woken().expect(ReadChain).fail().woken().expect(GetReceipts, hashes=())
    book.answer(seen()).expect(ReadChain).answer(unused(book)).expect(ReturnTxNumbers).expect(PersistOutcome).end(Report)


@transcript
def test_our_clock_runs_ahead_of_the_chains(play: Play) -> None:
    book = stored(play).fail().at(after_end(P)).woken().expect(ReadChain).answer(closing_facts(P, now=NOW))
    book.expect(ReturnTxNumbers).woken().expect(ReadChain).answer(unused(book))
    book.expect(ReturnTxNumbers).expect(PersistOutcome).end(Report, final=True)


@transcript
def test_a_rejected_transaction_is_tried_again(play: Play) -> None:
    book = (
        sending(play).answer(Sent.REJECTED).expect(ReadChain).answer(closing_facts(P, now=NOW)).expect(ReturnTxNumbers).woken()
    )
    again(book, Lane((8,), 3 * 10**9, 10**6)).expect(PersistSent).woken().expect(GetReceipts, hashes=lambda h: len(h) == 2)
    book.answer(lambda c: seen(None, paid_receipt(P, V2_AFTER, c.hashes[1]))).expect(PersistOutcome).end(Report)


# ------------------------------------------------------------------------------------------------------- once it was sent


@transcript
def test_an_unclear_broadcast_counts_as_sent(play: Play) -> None:
    book = watching(play, Sent.UNCLEAR).woken().expect(GetReceipts).answer(absent)
    book.expect(Rebroadcast(NETWORK, A.raws)).woken().expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]))).expect(PersistOutcome).end(Report)


@transcript
def test_a_broken_broadcast_counts_as_sent(play: Play) -> None:
    sending(play).fail("ReadTimeout").expect(PersistSent).woken().expect(GetReceipts).fail().woken().expect(GetReceipts)
    play.books[-1].answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]))).expect(PersistOutcome).end(Report)


@transcript
def test_a_stuck_transaction_is_replaced_at_an_eighth_more(play: Play) -> None:
    book = looking(play).tick(46_000).answer(absent).expect(SignTransactions).answer(sign_all)
    book.expect(PersistSignedTx, record=lambda r: len(r.attempts) == 2).answer(None).expect(Broadcast)
    (old, _), (new, _) = decode(A.raws[0]), decode(book.last.raws[0])  # type: ignore[union-attr]
    assert (new.nonce, new.data) == (old.nonce, old.data)
    assert new.max_fee >= old.max_fee * 1.125
    assert new.max_priority_fee >= old.max_priority_fee * 1.125
    book.answer(Sent.ACCEPTED).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), None)).expect(PersistOutcome).end(Report, foreign=False)


@transcript
def test_a_replacement_that_fails_leaves_the_old_one(play: Play) -> None:
    book = looking(play).tick(46_000).answer(absent).expect(SignTransactions).fail().woken().expect(GetReceipts).answer(absent)
    book.expect(SignTransactions).answer(sign_all).expect(PersistSignedTx).fail().woken().expect(GetReceipts, hashes=A.hashes)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]))).expect(PersistOutcome).end(Report)


@transcript
def test_fees_have_a_ceiling(play: Play) -> None:
    book = looking(play, fee_most=LANE.max_fee).tick(46_000).answer(absent).expect(Rebroadcast).expect(WakeAt)
    book.finish()


@transcript
def test_our_number_was_taken(play: Play) -> None:
    book = sending(play).answer(Sent.NUMBER_TAKEN).expect(GetReceipts).answer(absent).expect(ReturnTxNumbers).woken()
    again(book, Lane((9,), 3 * 10**9, 10**6)).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(lambda c: seen(None, paid_receipt(P, V2_AFTER, c.hashes[1]))).expect(PersistOutcome).end(Report)


@transcript
def test_our_number_was_taken_by_ourselves(play: Play) -> None:
    book = sending(play).answer(Sent.NUMBER_TAKEN).expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]))).expect(PersistOutcome).end(Report, foreign=False)


@transcript
def test_a_new_number_is_asked_for_until_it_comes(play: Play) -> None:
    dear = Lane((7,), 450 * 10**9, 10**6)
    book = sending(play, dear).answer(Sent.NUMBER_TAKEN).expect(GetReceipts).answer(absent).expect(ReturnTxNumbers).woken()
    book.expect(AllocateTxNumbers).fail().woken().expect(AllocateTxNumbers).answer(replace(dear, numbers=(9,)))
    book.expect(SignTransactions).fail().expect(ReturnTxNumbers).woken()  # not a dead number rebroadcast until the end
    again(book, replace(dear, numbers=(9,))).expect(PersistSent).expect(WakeAt)
    book.finish()


@transcript
def test_the_second_transaction_is_priced_out_and_replaced(play: Play) -> None:
    """The permit is mined, the transfer is not: both are signed again, and rebroadcast past the permit's used number."""
    book = token_sending(play).answer(Sent.ACCEPTED).expect(PersistSent).woken().tick(46_000).expect(GetReceipts)
    half = lambda c: seen(TxReceipt(c.hashes[0], True, BLOCK + 1), *(None for _ in c.hashes[1:]))  # noqa: E731
    book.answer(half).expect(SignTransactions).answer(sign_all).expect(PersistSignedTx).answer(None)
    book.expect(Broadcast).answer(Sent.NUMBER_TAKEN).expect(GetReceipts).answer(half).expect(
        Rebroadcast, raws=lambda r: len(r) == 2
    )
    book.woken().expect(GetReceipts)
    book.answer(lambda c: seen(TxReceipt(c.hashes[0], True, BLOCK + 1), None, None, paid_receipt(T, TOKEN_OFFER, c.hashes[3])))
    book.expect(PersistOutcome).end(Report, foreign=False)


# ---------------------------------------------------------------------------------------------------- asking the contract


@transcript
def test_reverted_because_somebody_else_executed_it_is_paid(play: Play) -> None:
    book = looking(play).answer(lambda c: seen(reverted(c.hashes[0], BLOCK + 2), head=BLOCK + 2)).expect(ReadChain)
    assert isinstance(book.machine.outlook, Unsettled)  # type: ignore[attr-defined]
    book.answer(unused(book, used=True, trace=paid_receipt(P, V2_AFTER, FOREIGN))).expect(PersistOutcome)
    book.end(Report, transaction=FOREIGN, foreign=True, transactions=(FOREIGN,), state=S.CONFIRMED)


@transcript
def test_executed_by_another_and_our_number_is_filled(play: Play) -> None:
    book = looking(play).at(after_end(P))
    book.answer(over(book)).expect(ReadChain).answer(unused(book, used=True, trace=paid_receipt(P, V2_AFTER, FOREIGN)))
    book.expect(FillTxNumbers, key=P.key, transactions=lambda t: [x.nonce for x in t] == [7]).expect(PersistOutcome)
    book.end(Report, foreign=True, state=S.CONFIRMED)


@transcript
def test_reverted_and_it_could_still_be_executed(play: Play) -> None:
    book = (
        looking(play)
        .answer(lambda c: seen(reverted(c.hashes[0]), head=BLOCK + 2))
        .expect(ReadChain)
        .answer(unused(book := play.books[-1]))
    )
    book.expect(Rebroadcast).woken().at(after_end(P)).expect(GetReceipts)
    book.answer(lambda c: seen(reverted(c.hashes[0]), head=BLOCK + 9)).expect(ReadChain).answer(unused(book))
    book.expect(GetReceipts).answer(lambda c: seen(reverted(c.hashes[0]), head=BLOCK + 9)).expect(PersistOutcome)
    book.end(Report(Unsettled(Reason.TRANSACTION_FAILED, NETWORK, PAYER, A.hashes)), state=S.VOID)


@transcript
def test_expired_in_the_pool_is_void_and_its_number_is_filled(play: Play) -> None:
    book = looking(play).at(after_end(P))
    book.answer(over(book)).expect(ReadChain).answer(unused(book)).expect(GetReceipts).answer(over(book))
    book.expect(FillTxNumbers)
    (filler,) = book.last.transactions  # type: ignore[union-attr]
    assert (filler.nonce, filler.to, filler.value, filler.data) == (7, SETTLER, 0, b"")
    assert filler.max_fee >= LANE.max_fee * 1.125
    book.expect(PersistOutcome).end(Report(Unsettled(Reason.VALID_BEFORE, NETWORK, PAYER, A.hashes)), state=S.VOID)


@transcript
def test_fees_above_the_sellers_own_limit_are_waited_out(play: Play) -> None:
    """Whatever a node asks, no transaction offers more than the policy says."""
    dear = Lane((7,), LANE.max_fee + 1, LANE.max_priority_fee)
    book = stored(play, fee_most=LANE.max_fee).answer(dear).expect(ReturnTxNumbers).woken().expect(AllocateTxNumbers)
    book.answer(LANE).expect(SignTransactions).finish()


@transcript
def test_numbers_that_come_when_the_permit_has_ended_are_given_back(play: Play) -> None:
    """A node may be long in answering; a transaction with a permit that is over would cost gas for nothing."""
    book = stored(play).at(after_end(P)).answer(LANE).expect(ReturnTxNumbers).woken().expect(ReadChain)
    book.answer(unused(book)).expect(ReturnTxNumbers).expect(PersistOutcome).end(Report, state=S.NOT_SENT)


@transcript
def test_expired_by_our_clock_only(play: Play) -> None:
    book = looking(play, fee_most=LANE.max_fee).at(after_end(P)).answer(absent).expect(Rebroadcast).expect(WakeAt)
    book.finish()


@transcript
def test_the_last_look_finds_it_paid(play: Play) -> None:
    book = looking(play).at(after_end(P))
    book.answer(over(book)).expect(ReadChain).answer(unused(book)).expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), head=BLOCK + 9)).expect(PersistOutcome).end(Report)


@transcript
def test_the_first_of_two_attempts_paid_and_the_seconds_number_is_filled(play: Play) -> None:
    for last in (False, True):
        book = sending(play).answer(Sent.NUMBER_TAKEN).expect(GetReceipts).answer(absent).expect(ReturnTxNumbers).woken()
        again(book, Lane((9,), 3 * 10**9, 10**6)).expect(PersistSent).woken().expect(GetReceipts)
        if last:
            book.at(after_end(P)).answer(over(book)).expect(ReadChain).answer(unused(book)).expect(GetReceipts)
        book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), None))
        book.expect(FillTxNumbers, transactions=lambda t: [x.nonce for x in t] == [9]).expect(PersistOutcome).end(
            Report, foreign=False
        )


@transcript
def test_the_last_look_finds_it_paid_but_shallow(play: Play) -> None:
    book = looking(play, confirmations=2).at(after_end(P))
    book.answer(over(book)).expect(ReadChain).answer(unused(book)).expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), head=BLOCK + 1)).woken().expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), head=BLOCK + 2)).expect(PersistOutcome).end(Report)


@transcript
def test_the_last_look_fails(play: Play) -> None:
    book = looking(play).at(after_end(P))
    book.answer(over(book)).expect(ReadChain).answer(unused(book)).expect(GetReceipts).fail().woken().expect(GetReceipts)
    book.finish()


@transcript
def test_the_contract_cannot_be_asked(play: Play) -> None:
    book = looking(play).at(after_end(P))
    book.answer(over(book)).expect(ReadChain).fail().woken().expect(GetReceipts)
    book.finish()


@transcript
def test_cancelled_by_the_payer_counts_when_it_is_deep(play: Play) -> None:
    cancelled = TxReceipt(FOREIGN, True, BLOCK + 8, (cancelled_log(P),))
    book = (
        looking(play, confirmations=3)
        .answer(lambda c: seen(reverted(c.hashes[0], BLOCK + 1), head=BLOCK + 8))
        .expect(ReadChain)
    )
    book.answer(unused(book, used=True, trace=cancelled, block=BLOCK + 8)).expect(Rebroadcast).woken().expect(GetReceipts)
    book.answer(lambda c: seen(reverted(c.hashes[0], BLOCK + 1), head=BLOCK + 10)).expect(ReadChain)
    book.answer(unused(book, used=True, trace=cancelled, block=BLOCK + 10)).expect(GetReceipts)
    book.answer(lambda c: seen(reverted(c.hashes[0], BLOCK + 1), head=BLOCK + 10)).expect(PersistOutcome)
    book.end(Report, final=True, reason=Reason.TRANSACTION_FAILED, state=S.VOID)


@transcript
def test_used_without_a_log_is_not_believed(play: Play) -> None:
    book = stored(play).fail().at(after_end(P)).woken().expect(ReadChain).answer(unused(book := play.books[-1], used=True))
    book.expect(ReturnTxNumbers).woken().expect(ReadChain)
    book.answer(unused(book, used=True, trace=paid_receipt(P, V2_AFTER, FOREIGN))).expect(PersistOutcome).end(
        Report, foreign=True
    )


@transcript
def test_our_transfer_failed_because_the_permit_was_never_executed(play: Play) -> None:
    """A stranger took the permit's number: the transfer found no allowance.  It is done again with new numbers."""
    book = token_sending(play).answer(Sent.ACCEPTED).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(lambda c: seen(None, reverted(c.hashes[1]), head=BLOCK + 2)).expect(ReadChain).answer(unused(book, T)).woken()
    again(book, Lane((9, 10), 3 * 10**9, 10**6)).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(
        lambda c: seen(
            None, reverted(c.hashes[1]), TxReceipt(c.hashes[2], True, BLOCK + 3), paid_receipt(T, TOKEN_OFFER, c.hashes[3])
        )
    )
    book.expect(FillTxNumbers, transactions=lambda t: [x.nonce for x in t] == [7])  # a stranger's: filling changes nothing
    book.expect(PersistOutcome).end(Report, foreign=False)


@transcript
def test_a_payer_without_money(play: Play) -> None:
    book = token_sending(play).answer(Sent.ACCEPTED).expect(PersistSent).woken().expect(GetReceipts)
    both = lambda c: seen(TxReceipt(c.hashes[0], True, BLOCK + 1), reverted(c.hashes[1]), head=BLOCK + 2)  # noqa: E731
    book.answer(both).expect(ReadChain).answer(unused(book, T, nonce=1, allowance=10_000)).expect(GetReceipts).answer(both)
    book.expect(PersistOutcome).end(Report, reason=Reason.TRANSACTION_FAILED, final=True, state=S.VOID)


@transcript
def test_a_newer_attempt_in_flight_is_waited_for(play: Play) -> None:
    book = token_sending(play).answer(Sent.ACCEPTED).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(lambda c: seen(None, reverted(c.hashes[1]), head=BLOCK + 2)).expect(ReadChain).answer(unused(book, T)).woken()
    again(book, Lane((9, 10), 3 * 10**9, 10**6)).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(lambda c: seen(None, reverted(c.hashes[1]), None, None, head=BLOCK + 3)).expect(Rebroadcast).expect(WakeAt)
    book.finish()
    assert book.machine.state is S.CONFIRMED


def test_every_row_was_taken() -> None:
    rows.check(__name__, "tests.test_settlement_journal_playbook")
