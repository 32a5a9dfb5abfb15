"""The general rules, checked on what really happened: every transcript, faulted or not, has to keep them (models.md 7.6).

The same rules over the tables, for all paths at once, are in ``test_tables.py``; here the data counts too: which bytes were
journaled before which were sent, what a budget is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from x402core.commands import (
    AdmitPayer,
    ApprovePayment,
    AskFacilitator,
    Broadcast,
    CatalogResource,
    ClaimPayment,
    Command,
    CommitClaim,
    Deliver,
    InvokeHandler,
    KeepClaim,
    OutcomeKind,
    PersistIntent,
    PersistOutcome,
    PersistSignedTx,
    Rebroadcast,
    RecallSettlement,
    RecordIntent,
    ReleaseClaim,
    Report,
    ReportRefundDue,
    Respond,
    SendRequest,
    SendTokenRequest,
    Sent,
    SettlePayment,
    SignTypedData,
    StoreToken,
    StreamResponse,
    VerifyPayment,
)
from x402core.errors import Reason
from x402core.events import Answered, Cancelled, Event, Failed, ResponseHead, Resume, Settled, Unsettled, same_payment
from x402core.evm.digests import PERMIT2
from x402core.ledger import ClaimStatus, Stored
from x402core.machines.client import ClientExchange
from x402core.machines.facilitator import FacilitatorExchange
from x402core.machines.machine import Machine
from x402core.machines.remote import RemoteSettlement
from x402core.machines.settlement import SettlementMachine, SettlementState
from x402core.schemes.judge import Verified

__all__ = ["Entry", "check"]

Entry: TypeAlias = "Command[Any] | Event"
CLOSERS = (ReleaseClaim, CommitClaim, KeepClaim)


def check(machine: Machine[Any, Any], log: Sequence[Entry], *, safety_only: bool = False) -> None:
    """Assert every rule that speaks of this machine; ``safety_only``: it was never given a chance to end."""
    if not safety_only:
        assert machine.ended, f"did not end: {machine.state.name} after {len(log)} entries"
    commands = [entry for entry in log if isinstance(entry, Command)]
    finals = [command for command in commands if command.final]
    streams = [command for command in commands if isinstance(command, StreamResponse)]  # the answer, where it is no last word
    cancelled = any(isinstance(entry, Cancelled) for entry in log)
    if not safety_only:
        ends = len(finals) + len(streams)
        assert ends == 1 or (cancelled and not ends), f"{len(finals)} final answers, {len(streams)} streams"
        assert not finals or commands[-1] is finals[0], "a command after the final answer"
    if isinstance(machine, SettlementMachine):
        _settlement(machine, log, safety_only)
    elif isinstance(machine, ClientExchange):
        _client(log)
    elif isinstance(machine, FacilitatorExchange):
        _facilitator(log)
    elif isinstance(machine, RemoteSettlement):
        _remote(log)
    else:
        _seller(log, cancelled)


def answers(log: Sequence[Entry], kind: type[Command[Any]]) -> list[Any]:
    """Return what commands of a type were answered; their failures as ``Failed``."""
    return [
        entry.value if isinstance(entry, Answered) else entry
        for entry in log
        if isinstance(entry, Answered | Failed) and isinstance(entry.command, kind)
    ]


# ------------------------------------------------------------------------------------------------------------ the seller


def _seller(log: Sequence[Entry], cancelled: bool) -> None:
    commands = [entry for entry in log if isinstance(entry, Command)]
    claims = answers(log, ClaimPayment)
    ours = [c for c in claims if isinstance(c, Failed) or c.status in (ClaimStatus.TAKEN, ClaimStatus.UNSERVED)]
    asked = [c for c in commands if isinstance(c, ClaimPayment)]
    closers = [c for c in commands if isinstance(c, CLOSERS)]
    open_claim = len(ours) + (len(asked) - len(claims))  # an unanswered claim may have been taken
    assert len(closers) == open_claim <= 1, f"a claim taken is closed exactly once: {closers}"
    for closer in closers:
        assert (closer.key, closer.owner) == (asked[0].key, asked[0].owner), "somebody else's claim"
    _money(log, commands, closers)
    _handler(log, commands, ours)
    if any(isinstance(c, ReportRefundDue) for c in commands):
        assert any(isinstance(c, KeepClaim) for c in closers), "a refund is due for a claim that is kept"
    responses = [c for c in commands if isinstance(c, Respond)]
    for respond in responses:
        if respond.reply is not None:
            assert respond.reply.status in (200, 400, 402, 409, 413, 431, 500, 503), respond.reply


def _money(log: Sequence[Entry], commands: list[Command[Any]], closers: list[Any]) -> None:
    settles = [c for c in commands if isinstance(c, SettlePayment)]
    assert len(settles) <= 1, "a settlement is started at most once"
    for command in (*settles, *[c for c in commands if isinstance(c, RecordIntent)]):
        before = commands[: commands.index(command)]
        assert any(isinstance(c, ClaimPayment) for c in before), "money is moved for a claim only"
        assert isinstance(command.proof, Verified)  # type: ignore[attr-defined]
        assert any(isinstance(c, VerifyPayment) for c in before), "the proof is this exchange's own"
    outcome = answers(log, SettlePayment)
    recorded = answers(log, RecordIntent)
    for closer in closers:
        if isinstance(closer, ReleaseClaim):
            moved = settles and not (outcome and _never_sent(outcome[0]))
            journaled = any(isinstance(c, RecordIntent) for c in commands) and recorded not in (
                [Stored.OVER_EXPOSURE],
                [Stored.CONFLICT],
            )
            assert not moved, f"released although money may have moved: {outcome}"
            assert not journaled, f"released although the intent may be journaled: {recorded}"
        if isinstance(closer, CommitClaim):
            paid = [isinstance(o, Settled) for o in outcome] == [True] or recorded in ([Stored.STORED], [Stored.DUPLICATE])
            unserved = [c.status for c in answers(log, ClaimPayment) if not isinstance(c, Failed)] == [ClaimStatus.UNSERVED]
            assert paid or unserved or _free(log), "committed although nothing was paid or journaled"


def _free(log: Sequence[Entry]) -> bool:
    """Say whether nothing was charged of a ceiling: the handler said so, and the money was not asked for."""
    ceilings = [c.checked.offer.scheme for c in log if isinstance(c, VerifyPayment)] == ["upto"]
    said = [head.overrides for head in answers(log, InvokeHandler) if not isinstance(head, Failed)]
    return ceilings and said == ['{"amount":"0"}'] and not any(isinstance(c, SettlePayment) for c in log)


def _never_sent(outcome: object) -> bool:
    return isinstance(outcome, Unsettled) and outcome.final and not outcome.transactions


def _handler(log: Sequence[Entry], commands: list[Command[Any]], ours: list[Any]) -> None:
    runs = [c for c in commands if isinstance(c, InvokeHandler)]
    assert len(runs) <= 1, "one handler run"
    for run in runs:
        claimed = any(isinstance(c, ClaimPayment) for c in commands[: commands.index(run)])
        assert not claimed or ours, "a handler runs for money only after the claim is taken"
    if any(isinstance(c, StreamResponse) for c in commands):
        unserved = [c.status for c in ours if not isinstance(c, Failed)] == [ClaimStatus.UNSERVED]
        moved = any(isinstance(o, Settled) for o in answers(log, SettlePayment))
        assert moved or unserved, "a response streams before the money moved"
    held = runs and runs[0].hold
    if held:
        let_go = [c for c in commands if isinstance(c, Respond) and c.reply is None]
        done = answers(log, InvokeHandler)
        if let_go and done and not isinstance(done[0], Failed) and done[0].status < 400:
            moved = any(isinstance(o, Settled) for o in answers(log, SettlePayment))
            assert moved or _free(log), "a held response left before the money moved"


# ------------------------------------------------------------------------------------------------------------- the payer


def _client(log: Sequence[Entry]) -> None:
    commands = [entry for entry in log if isinstance(entry, Command)]
    signed = [c.typed_data["primaryType"] for c in commands if isinstance(c, SignTypedData)]
    spender = [c.typed_data["message"].get("spender") for c in commands if isinstance(c, SignTypedData)]
    sponsored = len(signed) == 2 and (signed[0], str(spender[0]).lower()) == ("Permit", PERMIT2)
    assert len(signed) <= 1 or sponsored, "one signature per exchange, and one more that lets Permit2 move the token"
    assert len({(c.url, c.body) for c in commands if isinstance(c, SendTokenRequest)}) <= 1, "never two permits"
    headers = [c.set_headers for c in commands if isinstance(c, SendRequest)]
    permits = {h for h in headers if h and h[0][0] in ("PAYMENT-SIGNATURE", "X-PAYMENT")}
    assert len(permits) <= 1, "never two permits"
    left = [c for c in commands if isinstance(c, SendTokenRequest) or (isinstance(c, SendRequest) and c.set_headers in permits)]
    for command in left:
        before = log[: log.index(command)]
        assert answers(before, ApprovePayment) == [True], "a permit left without approval"
        signatures = answers(before, SignTypedData)
        assert len(signatures) == len(signed)
        assert all(isinstance(each, bytes) for each in signatures), "a permit left without a signature"
    if any(isinstance(c, StoreToken) for c in commands):
        assert any(isinstance(r, ResponseHead) and r.status == 200 for r in answers(log, SendTokenRequest))
    for command in commands:
        if isinstance(command, Deliver):
            _outcome(command, bool(left))


def _outcome(deliver: Deliver, left: bool) -> None:
    outcome = deliver.outcome
    if not left:
        assert outcome.kind not in (OutcomeKind.PAID, OutcomeKind.UNKNOWN), f"{outcome.kind} without a permit"
        assert outcome.exposed_until is None
        assert outcome.amount == 0
    else:
        assert outcome.kind in (OutcomeKind.PAID, OutcomeKind.UNKNOWN, OutcomeKind.DECLINED), outcome.kind
        assert outcome.amount > 0, "a budget must count a permit that has left"
        if outcome.kind is not OutcomeKind.PAID:
            assert outcome.exposed_until is not None, "a permit that has left stays exposed"


# --------------------------------------------------------------------------------------------------------- the settlement


def _settlement(machine: SettlementMachine, log: Sequence[Entry], safety_only: bool) -> None:
    stored: set[tuple[bytes, ...]] = set()
    sent = False
    outcome = None
    began: object = None
    for entry in log:
        match entry:
            case Resume():
                began = entry.record
                stored |= {attempt.raws for attempt in entry.record.attempts}
            case Answered(command=PersistSignedTx() as command):
                stored.add(command.record.attempts[-1].raws)
            case Answered(value=value) if hasattr(value, "attempts"):  # PersistIntent found a stored record
                began = value
                stored |= {attempt.raws for attempt in value.attempts}
            case Broadcast() | Rebroadcast():
                assert entry.raws in stored, "bytes are journaled before they are broadcast"
                sent = sent or isinstance(entry, Rebroadcast)
            case Answered(command=Broadcast(), value=value):
                sent = sent or value in (Sent.ACCEPTED, Sent.UNCLEAR)
            case Failed(command=Broadcast()):
                sent = True
            case PersistOutcome():
                assert outcome is None, "one outcome"
                outcome = entry.record.outcome
            case Report() if began is not None and not same_payment(began.offer, machine._record.offer):
                assert entry.outcome.final
                assert not stored, "nothing is done about another's settlement"
            case Report():
                known = getattr(began, "outcome", None)
                unrecorded = isinstance(entry.outcome, Unsettled) and not entry.outcome.final
                assert entry.outcome == (outcome or known) or unrecorded, "the outcome is persisted before it is reported"
                if unrecorded:
                    assert entry.outcome.reason is Reason.UNAVAILABLE
                    assert not stored, "only what was never journaled may end without an outcome"
    if machine.state is SettlementState.NOT_SENT:
        assert not sent, "NOT_SENT although something may have been sent"
    if not safety_only and isinstance(outcome, Unsettled):
        assert outcome.final
        assert bool(outcome.transactions) or not sent, "what was sent is named"


# --------------------------------------------------------------------------------------------------------- a facilitator


def _facilitator(log: Sequence[Entry]) -> None:
    commands = [entry for entry in log if isinstance(entry, Command)]
    settles = [c for c in commands if isinstance(c, SettlePayment)]
    assert len(settles) <= 1, "a settlement is started at most once"
    for command in settles:
        before = log[: log.index(command)]
        assert answers(before, RecallSettlement) == [None], "what is journaled is not settled again"
        assert [type(each) for each in answers(before, VerifyPayment)] == [Verified], "nothing is sent that was not judged"
        assert answers(before, AdmitPayer) == [True], "nothing is sent beyond a quota"
    for command in commands:
        if isinstance(command, CatalogResource):
            assert isinstance(_last(log[: log.index(command)]), Settled), "listed without having been paid for"
        if isinstance(command, Respond):
            assert command.reply is not None
            assert command.reply.status in (200, 400, 503), command.reply


def _remote(log: Sequence[Entry]) -> None:
    outcome: object = None
    journaled = False
    for entry in log:
        match entry:
            case Resume() | Answered(command=PersistIntent()):
                journaled = True
                known = entry.record if isinstance(entry, Resume) else entry.value
                outcome = getattr(known, "outcome", None)
            case AskFacilitator():
                assert journaled, "asked before it was journaled"
                assert not isinstance(outcome, Settled | Unsettled), "asked about what has ended"
            case PersistOutcome():
                assert outcome is None, "one outcome"
                outcome = entry.record.outcome
                assert isinstance(outcome, Settled) or (isinstance(outcome, Unsettled) and outcome.final)
            case Report():
                nothing = isinstance(entry.outcome, Unsettled) and not answers(log, AskFacilitator)
                assert nothing or entry.outcome == outcome, "the outcome is persisted before it is reported"


def _last(log: Sequence[Entry]) -> object:
    return [entry.value for entry in log if isinstance(entry, Answered)][-1]
