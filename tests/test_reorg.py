"""Blocks are taken back: a receipt is there, is gone, is there again; paid is what the chain says in the end."""

from __future__ import annotations

import itertools

import pytest

from tests.pair import RICH, World
from tests.playbook import Play, transcript
from tests.test_settlement_playbook import A, P, again, looking, over, sending, unused
from tests.world import (
    BLOCK,
    LANE,
    PAYER,
    SELLER,
    SETTLER,
    TERMS_V2,
    TOKEN_OFFER,
    V2_AFTER,
    after_end,
    authorization,
    hash32,
    paid_receipt,
    paid_request,
    reverted,
    seen,
    token_permit,
    transfer_log,
    used_log,
    verified,
)
from x402core.commands import (
    FillTxNumbers,
    GetReceipts,
    Lane,
    PersistOutcome,
    PersistSent,
    ReadChain,
    Rebroadcast,
    Report,
    ReturnTxNumbers,
    Sent,
)
from x402core.events import Offer, Permit, Settle, Settled
from x402core.machines.settlement import SettlementPolicy, SettlementState
from x402core.reads import TxReceipt
from x402core.schemes import of

PRICE = 10_000
FOREIGN = hash32(0xF0)


def test_one_transfer_pays_for_one_authorization() -> None:
    """A payer's own multicall may execute many authorizations in one transaction: a transfer proves the one before it."""
    other = authorization(nonce=9)
    moved, scheme = transfer_log(V2_AFTER, P.payer), of(V2_AFTER)
    both = TxReceipt(hash32(1), True, BLOCK, (used_log(P), moved, used_log(other)))
    assert scheme.paid(P, V2_AFTER, both)
    assert not scheme.paid(other, V2_AFTER, both)


@transcript
def test_there_and_gone_and_there_again(play: Play) -> None:
    book = looking(play, confirmations=2)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), head=BLOCK + 1)).woken().expect(GetReceipts)
    book.answer(seen(None, head=BLOCK + 1)).expect(Rebroadcast, raws=A.raws).woken().expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0], BLOCK + 2), head=BLOCK + 3)).expect(PersistOutcome)
    book.end(Report, block=BLOCK + 2, foreign=False)


@transcript
def test_reverted_and_then_unwound_and_then_paid(play: Play) -> None:
    book = (
        looking(play)
        .answer(lambda c: seen(reverted(c.hashes[0]), head=BLOCK + 1))
        .expect(ReadChain)
        .answer(unused(play.books[-1]))
    )
    book.expect(Rebroadcast).woken().expect(GetReceipts).answer(seen(None, head=BLOCK + 1)).expect(Rebroadcast).woken()
    book.expect(GetReceipts).answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0], BLOCK + 2), head=BLOCK + 2))
    book.expect(PersistOutcome).end(Report, foreign=False)


@transcript
def test_reverted_unwound_and_never_mined_again_fills_its_number(play: Play) -> None:
    book = (
        looking(play)
        .answer(lambda c: seen(reverted(c.hashes[0]), head=BLOCK + 1))
        .expect(ReadChain)
        .answer(unused(play.books[-1]))
    )
    book.expect(Rebroadcast).woken().at(after_end(P)).expect(GetReceipts).answer(over(book)).expect(ReadChain).answer(
        unused(book)
    )
    book.expect(GetReceipts).answer(over(book)).expect(FillTxNumbers, transactions=lambda t: [x.nonce for x in t] == [7])
    book.expect(PersistOutcome).end(Report, final=True, state=SettlementState.VOID)


@transcript
def test_executed_by_another_in_a_block_that_is_taken_back(play: Play) -> None:
    book = looking(play, confirmations=3).answer(lambda c: seen(reverted(c.hashes[0]), head=BLOCK + 3)).expect(ReadChain)
    book.answer(unused(book, used=True, trace=paid_receipt(P, V2_AFTER, FOREIGN, BLOCK + 3), block=BLOCK + 3))
    book.expect(Rebroadcast).woken().expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0], BLOCK + 4), head=BLOCK + 6)).expect(PersistOutcome)
    book.end(Report, foreign=False)


@transcript
def test_the_number_taken_from_us_is_ours_again(play: Play) -> None:
    """The stranger's block is unwound and our first attempt is mined after all: either of the two is proof."""
    book = (
        sending(play).answer(Sent.NUMBER_TAKEN).expect(GetReceipts).answer(lambda c: seen(None)).expect(ReturnTxNumbers).woken()
    )
    again(book, Lane((9,), LANE.max_fee, LANE.max_priority_fee)).expect(PersistSent).woken().expect(GetReceipts)
    book.answer(lambda c: seen(paid_receipt(P, V2_AFTER, c.hashes[0]), None)).expect(FillTxNumbers).expect(PersistOutcome)
    book.end(Report, foreign=False, transactions=A.hashes)


# ----------------------------------------------------------------------------------------------------- on the Fake chain


@pytest.mark.parametrize(
    ("permit", "offer"), [(authorization(), V2_AFTER), (token_permit(), TOKEN_OFFER)], ids=["3009", "2612"]
)
@pytest.mark.parametrize("drop", [False, True], ids=["kept", "dropped"])
def test_a_reorg_of_any_depth_at_any_moment(permit: Permit, offer: Offer, drop: bool) -> None:
    for depth, when in itertools.product((1, 2), range(1, 10)):
        world = World(policy=SettlementPolicy(confirmations=4))
        wakes = itertools.count(1)

        def between(
            what: str, world: World = world, depth: int = depth, when: int = when, wakes: itertools.count[int] = wakes
        ) -> None:
            if what == "WakeAt" and next(wakes) == when and len(world.chain.past) >= depth:
                world.chain.reorg(depth, drop=drop)

        world.between = between
        outcome = world.settle(Settle(verified(permit, offer)))
        assert isinstance(outcome, Settled), (depth, when)
        assert (world.balance(SELLER), world.chain.total) == (PRICE, 5 * RICH)
        assert outcome.transaction in world.chain.state.receipts
        assert world.chain.number - outcome.block + 1 >= 4


def test_a_front_runner_whose_block_is_taken_back() -> None:
    world = World(TERMS_V2, policy=SettlementPolicy(confirmations=3), patience=100)
    permit = authorization()
    done: list[str] = []

    def between(what: str) -> None:
        if what == "PersistSignedTx" and not done:
            world.chain.execute(permit, V2_AFTER, FOREIGN)
            done.append("run")
        elif what == "WakeAt" and done == ["run"]:
            world.chain.reorg(2)
            done.append("unwound")

    world.between = between
    reply = world.serve(paid_request(permit))
    assert reply is not None
    assert (reply.status, world.earned, world.runs) == (200, PRICE, 1)
    assert world.chain.state.used[PAYER, permit.nonce] != FOREIGN
    assert world.chain.state.numbers[SETTLER] == 1
