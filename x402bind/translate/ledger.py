"""Ledger commands as ledger calls: one row each, no decision.

``AllocateTxNumbers`` has no row, because its answer needs the chain's next number and fees too: the settler reads those and
calls :meth:`LedgerPerformer.allocate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from x402bind.ledger.contract import Ledger
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
    PersistSent,
    PersistSignedTx,
    RecallPayment,
    RecallSettlement,
    RecordIntent,
    ReleaseClaim,
    ReturnTxNumbers,
)
from x402core.errors import LocalProtocolError, Reply
from x402core.ledger import Claim, PaymentState, SettlementRecord, SignedIn, Stored
from x402core.values import Address, Millis

__all__ = ["LEDGER_COMMANDS", "Held", "LedgerPerformer", "nothing_held"]

R = TypeVar("R")
Held = Callable[[], Reply | None]
"""What gives the response the driver holds for this exchange, or None when it holds none."""


def nothing_held() -> None:
    """Hold no response."""


class LedgerPerformer:
    """Perform the core's ledger commands on ``ledger``; ``clock`` reads Unix milliseconds.  Threads may share one.

    A call blocks as the ledger's do (``ledger.blocking``).
    """

    __slots__ = ("clock", "ledger")

    def __init__(self, ledger: Ledger, clock: Callable[[], Millis]) -> None:
        self.ledger = ledger
        self.clock = clock

    def perform(self, command: Command[R], held: Held = nothing_held) -> R:
        """Return the answer to a command of :data:`LEDGER_COMMANDS`.

        Raises: LocalProtocolError for any other command.  On failure: as the command's docstring says.
        """
        act = LEDGER_COMMANDS.get(type(command))
        if act is None:
            raise LocalProtocolError(f"{type(command).__name__} is not the ledger's", field="command")
        return cast(R, act(self, command, held))

    def allocate(self, command: AllocateTxNumbers, account: Address, *, floor: int) -> tuple[int, ...]:
        """Hand out the numbers asked for; ``floor`` is the chain's next number of ``account``, of its latest block.

        On failure: ask again; the same numbers come back.
        """
        return self.ledger.allocate(command.network, account, command.key, command.count, floor=floor)


def _recall(performer: LedgerPerformer, command: RecallPayment, held: Held) -> Claim:
    return performer.ledger.recall(command.key, command.request, now=performer.clock(), identifier=command.identifier)


def _claim(performer: LedgerPerformer, command: ClaimPayment, held: Held) -> Claim:
    who, until, now = command.owner, command.until, performer.clock()
    return performer.ledger.claim(command.key, command.request, who, until, now=now, identifier=command.identifier)


def _release(performer: LedgerPerformer, command: ReleaseClaim, held: Held) -> None:
    performer.ledger.release(command.key, command.owner)


def _commit(performer: LedgerPerformer, command: CommitClaim, held: Held) -> None:
    performer.ledger.commit(command.key, command.owner, command.settled, _reply(command, held), command.grant)


def _keep(performer: LedgerPerformer, command: KeepClaim, held: Held) -> None:
    performer.ledger.keep(command.key, command.owner, _reply(command, held), command.settled, command.grant)


def _check(performer: LedgerPerformer, command: CheckPayment, held: Held) -> PaymentState:
    return performer.ledger.payment_state(command.key)


def _sign_in(performer: LedgerPerformer, command: CheckSignIn, held: Held) -> SignedIn:
    now = performer.clock()
    return performer.ledger.sign_in(command.resource, command.payer, command.nonce, command.until, now=now)


def _recall_settlement(performer: LedgerPerformer, command: RecallSettlement, held: Held) -> SettlementRecord | None:
    return performer.ledger.record(command.key)


def _catalog(performer: LedgerPerformer, command: CatalogResource, held: Held) -> None:
    performer.ledger.catalogue(command.entry)


def _record_intent(performer: LedgerPerformer, command: RecordIntent, held: Held) -> Stored:
    proof = command.proof
    record = SettlementRecord(proof.permit, proof.offer, since=proof.block, created=performer.clock())
    return performer.ledger.record_intent(record, command.most_open)


def _persist_intent(performer: LedgerPerformer, command: PersistIntent, held: Held) -> SettlementRecord | None:
    return performer.ledger.persist_intent(command.record)


def _persist(performer: LedgerPerformer, command: PersistSignedTx | PersistSent | PersistOutcome, held: Held) -> None:
    performer.ledger.persist(command.record)


def _return_numbers(performer: LedgerPerformer, command: ReturnTxNumbers, held: Held) -> None:
    performer.ledger.return_numbers(command.network, command.key)


def _reply(command: CommitClaim | KeepClaim, held: Held) -> Reply | None:
    return held() if command.reply is HANDLER_RESPONSE else command.reply


LEDGER_COMMANDS: Final[Mapping[type[Command[Any]], Callable[[LedgerPerformer, Any, Held], object]]] = {
    RecallPayment: _recall,
    ClaimPayment: _claim,
    ReleaseClaim: _release,
    CommitClaim: _commit,
    KeepClaim: _keep,
    CheckPayment: _check,
    CheckSignIn: _sign_in,
    RecallSettlement: _recall_settlement,
    CatalogResource: _catalog,
    RecordIntent: _record_intent,
    PersistIntent: _persist_intent,
    PersistSignedTx: _persist,
    PersistSent: _persist,
    PersistOutcome: _persist,
    ReturnTxNumbers: _return_numbers,
}
"""Every command the ledger performs alone, and how."""
