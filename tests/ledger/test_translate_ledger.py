"""Ledger commands as ledger calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from x402bind.ledger import Ledger, MemoryLedger
from x402bind.translate.ledger import LEDGER_COMMANDS, LedgerPerformer
from x402core import commands
from x402core.catalog import CatalogQuery
from x402core.commands import (
    HANDLER_RESPONSE,
    AllocateTxNumbers,
    CatalogResource,
    CheckPayment,
    CheckSignIn,
    ClaimPayment,
    Command,
    CommitClaim,
    KeepClaim,
    PersistIntent,
    PersistOutcome,
    PersistSignedTx,
    RecallPayment,
    RecallSettlement,
    RecordIntent,
    ReleaseClaim,
    ReturnTxNumbers,
    WakeAt,
)
from x402core.errors import LocalProtocolError, Reply
from x402core.events import Offer, Permit
from x402core.ledger import Claim, ClaimStatus, Grant, PaymentState, SettlementRecord, SignedIn, Stored
from x402core.schemes.judge import Verified
from x402core.values import Amount, Millis

from .samples import (
    ACCOUNT,
    KEY,
    LATER,
    NETWORK,
    NOW,
    OFFER,
    OTHER_REPLY,
    REPLY,
    REQUEST,
    attempt,
    ended,
    entry,
    payer,
    permit,
    record,
    settled,
    void,
)


@dataclass
class Proof:
    """What the judge's proof shows."""

    permit: Permit
    offer: Offer
    block: int


PROOF = cast(Verified, Proof(permit(), OFFER, 4711))
TAKE = ClaimPayment(KEY, REQUEST, "a", LATER)


class Clock:
    """A clock set by hand."""

    now = NOW

    def __call__(self) -> Millis:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def performer(ledger: Ledger, clock: Clock) -> LedgerPerformer:
    return LedgerPerformer(ledger, clock)


def test_a_claim_is_taken_recalled_and_released(performer: LedgerPerformer, clock: Clock) -> None:
    recall = RecallPayment(KEY, REQUEST)
    assert performer.perform(recall).status is ClaimStatus.TAKEN
    assert performer.perform(TAKE).status is ClaimStatus.TAKEN
    assert performer.perform(recall).status is ClaimStatus.HELD
    clock.now = LATER
    assert performer.perform(recall).status is ClaimStatus.TAKEN, "the clock is read at every call"
    performer.perform(ReleaseClaim(KEY, "b"))
    assert performer.perform(CheckPayment(KEY)) is PaymentState.GOOD
    performer.perform(ReleaseClaim(KEY, "a"))
    assert performer.perform(CheckPayment(KEY)) is PaymentState.UNKNOWN


@pytest.mark.parametrize(
    ("reply", "kept"), [(HANDLER_RESPONSE, REPLY), (OTHER_REPLY, OTHER_REPLY), (None, None)], ids=["held", "own", "none"]
)
def test_a_commit_keeps_the_right_answer(performer: LedgerPerformer, reply: Any, kept: Reply | None) -> None:
    performer.perform(TAKE)
    performer.perform(CommitClaim(KEY, "a", settled(), reply), lambda: REPLY)
    status = ClaimStatus.SERVED if kept is None else ClaimStatus.ANSWERED
    assert performer.perform(RecallPayment(KEY, REQUEST)) == Claim(status, settled(), kept)


@pytest.mark.parametrize("reply", [HANDLER_RESPONSE, OTHER_REPLY, None])
def test_a_keep_keeps_the_right_answer(performer: LedgerPerformer, reply: Any) -> None:
    performer.perform(TAKE)
    performer.perform(RecordIntent(PROOF))
    performer.perform(KeepClaim(KEY, "a", reply), lambda: REPLY)
    performer.perform(PersistOutcome(ended(record(), settled())))
    kept = {HANDLER_RESPONSE: REPLY}.get(reply, reply)
    assert performer.perform(RecallPayment(KEY, REQUEST)).reply == kept


def test_a_keep_passes_the_proof_on(performer: LedgerPerformer) -> None:
    performer.perform(TAKE)
    performer.perform(KeepClaim(KEY, "a", settled=settled()))
    assert performer.perform(RecallPayment(KEY, REQUEST)) == Claim(ClaimStatus.UNSERVED, settled())


def test_no_held_response_is_none_to_keep(performer: LedgerPerformer) -> None:
    performer.perform(TAKE)
    performer.perform(CommitClaim(KEY, "a", settled(), HANDLER_RESPONSE))
    assert performer.perform(RecallPayment(KEY, REQUEST)) == Claim(ClaimStatus.SERVED, settled())


def test_an_intent_is_made_of_its_proof(performer: LedgerPerformer, clock: Clock) -> None:
    clock.now = Millis(NOW + 7)
    assert performer.perform(RecordIntent(PROOF, Amount(99))) is Stored.OVER_EXPOSURE
    assert performer.perform(RecordIntent(PROOF, Amount(100))) is Stored.STORED
    assert performer.perform(RecordIntent(PROOF, Amount(100))) is Stored.DUPLICATE
    assert performer.ledger.record(KEY) == SettlementRecord(permit(), OFFER, since=4711, created=Millis(NOW + 7))


def test_an_identifier_is_passed_on(performer: LedgerPerformer) -> None:
    assert performer.perform(ClaimPayment(KEY, REQUEST, "a", LATER, "0xpayer/pay_1")).status is ClaimStatus.TAKEN
    assert performer.perform(ClaimPayment("k2", REQUEST, "b", LATER, "0xpayer/pay_1")).status is ClaimStatus.CONFLICT
    assert performer.perform(RecallPayment("k2", REQUEST, "0xpayer/pay_1")).status is ClaimStatus.CONFLICT
    assert performer.perform(RecallPayment("k2", REQUEST)).status is ClaimStatus.TAKEN


def test_who_paid_may_sign_in_once_a_nonce(performer: LedgerPerformer) -> None:
    sign_in = CheckSignIn("/goods", payer(1), "nonce", LATER)
    assert performer.perform(sign_in) is SignedIn.NOT_PAID
    performer.perform(TAKE)
    performer.perform(CommitClaim(KEY, "a", settled(), None, Grant("/goods", payer(1))))
    assert performer.perform(sign_in) is SignedIn.GRANTED
    assert performer.perform(sign_in) is SignedIn.NONCE_USED


def test_a_settlement_is_recalled(performer: LedgerPerformer) -> None:
    assert performer.perform(RecallSettlement(KEY)) is None
    performer.perform(PersistIntent(record()))
    assert performer.perform(RecallSettlement(KEY)) == record()


def test_a_resource_is_listed(performer: LedgerPerformer) -> None:
    performer.perform(CatalogResource(entry()))
    assert performer.ledger.resources(CatalogQuery()) == ((entry(),), 1)
    assert not CatalogResource.waits, "a payment does not wait for a catalog"


def test_a_settlement_is_journaled_step_by_step(performer: LedgerPerformer) -> None:
    assert performer.perform(PersistIntent(record())) is None
    assert performer.perform(PersistIntent(record())) == record()
    ask = AllocateTxNumbers(NETWORK, KEY, 1)
    assert performer.allocate(ask, ACCOUNT, floor=5) == (5,)
    performer.perform(PersistSignedTx(record().with_attempt(attempt(5))))
    assert performer.ledger.record(KEY) == record().with_attempt(attempt(5))
    performer.perform(ReturnTxNumbers(NETWORK, KEY))
    assert performer.allocate(AllocateTxNumbers(NETWORK, "another", 1), ACCOUNT, floor=5) == (5,)
    performer.perform(PersistOutcome(ended(record().with_attempt(attempt(5)), void())))
    assert performer.perform(CheckPayment(KEY)) is PaymentState.VOID


def test_what_is_not_the_ledgers_is_refused() -> None:
    performer = LedgerPerformer(MemoryLedger(), lambda: NOW)
    others: list[Command[Any]] = [WakeAt(NOW), AllocateTxNumbers(NETWORK, KEY, 1)]
    for command in others:
        with pytest.raises(LocalProtocolError, match=type(command).__name__):
            performer.perform(command)


def test_every_ledger_command_has_its_row() -> None:
    words = ("Claim", "Persist", "Recall", "Intent", "CheckPayment", "ReturnTx", "SignIn", "Catalog")
    named = {name for name in commands.__all__ if any(word in name for word in words)}
    assert {kind.__name__ for kind in LEDGER_COMMANDS} == named
