"""The path rules of models.md 7.6, one monitor each, as they hold on the tables that reality demanded.

Adapted from 7.6, and why:

* "MintToken only after settled" is now "CommitClaim of the token machine only after RecordIntent said stored": the flow's
  promise is that the payer never waits for the chain, so the journaled intent is what a token stands on.
* "never released after settled/pending/unknown": and also never *kept* when money certainly did not move, else the payer's
  good permit would be wedged.  The one exception is a claim whose own answer was lost: it is given back, and the ledger keeps
  it where the journal knows of money (``releasable``).
* "a path with a Broadcast never ends in NOT_SENT": a Broadcast that a node definitely refused was not sent.
* "outcome persisted before reported": except what the journal told (ENDED_*), and the intent that could not be stored at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.table_rules import Impossible, Monitor, demand
from x402core.commands import (
    AdmitPayer,
    AllocateTxNumbers,
    ApprovePayment,
    AskFacilitator,
    AwaitSettlement,
    Broadcast,
    CatalogResource,
    ClaimPayment,
    CommitClaim,
    FillTxNumbers,
    InvokeHandler,
    KeepClaim,
    PersistIntent,
    PersistOutcome,
    PersistSent,
    PersistSignedTx,
    Rebroadcast,
    RecordIntent,
    ReleaseClaim,
    Report,
    ReportRefundDue,
    Respond,
    ReturnTxNumbers,
    SendRequest,
    SendTokenRequest,
    SettlePayment,
    SignTransactions,
    SignTypedData,
    StoreToken,
    StreamResponse,
)
from x402core.machines.client import ClientInput, ClientState
from x402core.machines.facilitator import FacilitatorInput, FacilitatorState
from x402core.machines.machine import Row
from x402core.machines.remote import RemoteInput, RemoteState
from x402core.machines.settlement import SettlementInput, SettlementMachine, SettlementState

__all__ = ["CLIENT", "FACILITATOR", "NUMBERS", "REMOTE", "SELLER", "SETTLEMENT"]

NONE, ASKED, OURS, LOST, THEIRS = "none", "asked", "ours", "answer lost", "theirs"
NOT_MOVED, MAYBE, MOVED = "not moved", "may have moved", "moved"

# ------------------------------------------------------------------------------------------------------------ the seller


@dataclass(frozen=True)
class _Seller:
    claim: str = NONE
    money: str = NOT_MOVED
    verified: bool = False
    settles: int = 0
    runs: int = 0
    served: bool = False
    free: bool = False  # served, and nothing is charged
    closed: str = ""
    refund: bool = False
    asking: str = ""  # the command waited for


_MONEY = {
    "SETTLED": MOVED,
    "STORED": MOVED,
    "SETTLE_REFUSED": NOT_MOVED,
    "SETTLE_UNAVAILABLE": NOT_MOVED,
    "OVER_EXPOSURE": NOT_MOVED,
    "CONFLICT": NOT_MOVED,
}


def _seller_step(memory: _Seller, row: Row) -> _Seller:
    memory = _seller_heard(memory, row.input.name)
    for command in row.commands:
        memory = _seller_does(memory, command, row)
    return memory


def _seller_heard(memory: _Seller, name: str) -> _Seller:
    """What the answer to the command waited for means."""
    match memory.asking, name:
        case "VerifyPayment", "VERIFIED":
            return replace(memory, verified=True)
        case "RecallPayment", "UNSERVED":
            return replace(memory, money=MOVED)
        case "ClaimPayment", "UNSERVED":
            return replace(memory, claim=OURS, money=MOVED)
        case "ClaimPayment", "TAKEN" | "TAKEN_SERVE_FIRST" | "TAKEN_SETTLE_FIRST":
            if not memory.verified:  # server.py, on_claim: without a verdict that is FAILED
                raise Impossible
            return replace(memory, claim=OURS)
        case "ClaimPayment", "FAILED" | "CANCEL":
            return replace(memory, claim=LOST)
        case "ClaimPayment", _:
            return replace(memory, claim=THEIRS)
        case "SettlePayment" | "RecordIntent", _:
            return replace(memory, money=_MONEY.get(name, MAYBE))
        case "InvokeHandler", "HANDLER_OK":
            return replace(memory, served=True)
        case "InvokeHandler", "HANDLER_OK_FREE":
            return replace(memory, served=True, free=True)
        case "StreamResponse", "STREAM_ENDED":
            return replace(memory, served=True)
    return memory


def _seller_does(memory: _Seller, command: type, row: Row) -> _Seller:
    where = f"{row.state.name}, {row.input.name}"
    if command is ClaimPayment:
        demand(memory.claim == NONE, f"{where}: a second claim")
        demand(memory.verified or memory.money == MOVED, f"{where}: claimed before it was verified or known to be paid")
        memory = replace(memory, claim=ASKED)
    elif command in (SettlePayment, RecordIntent):
        demand(memory.verified and memory.claim == OURS, f"{where}: money moved without proof and claim")
        demand(memory.settles == 0, f"{where}: a second settlement")
        demand(command is SettlePayment or memory.runs == 0, f"{where}: an intent after a handler")
        memory = replace(memory, settles=1, money=MAYBE)
    elif command is InvokeHandler:
        demand(memory.claim in (OURS, NONE), f"{where}: a handler runs for a claim that is not ours")
        known = row.input.name in ("TOKEN_LIVE", "SIGNED_IN")
        demand(memory.claim == OURS or known, f"{where}: a handler runs for nothing")
        demand(memory.runs == 0, f"{where}: a second handler run")
        demand(memory.money != MAYBE, f"{where}: a handler runs for money that may not come")
        memory = replace(memory, runs=1)
    elif command in (ReleaseClaim, KeepClaim, CommitClaim):
        demand(not memory.closed, f"{where}: closed twice")
        demand(memory.claim in (OURS, LOST), f"{where}: closes a claim that is not ours")
        memory = replace(memory, closed=command.__name__)
    elif command is ReportRefundDue:
        memory = replace(memory, refund=True)
    elif command is StreamResponse:
        demand(memory.money == MOVED and memory.runs == 1, f"{where}: streams what is not paid for")
    elif command is Respond:
        held = memory.claim == OURS and memory.money == MAYBE and memory.runs and memory.closed == "CommitClaim"
        demand(not held, f"{where}: committed and answered for money that may not have moved")
    return replace(memory, asking=command.__name__ if command.waits else memory.asking)


def _seller_end(memory: _Seller, row: Row) -> None:
    where = f"{row.state.name}, {row.input.name}"
    if memory.claim not in (OURS, LOST):
        demand(not memory.closed, f"{where}: closes a claim never taken")
        return
    minted = memory.asking == "RecordIntent" or (memory.asking == "ClaimPayment" and row.input.name == "UNSERVED")
    if memory.claim == LOST:
        want = {"ReleaseClaim"} if memory.money == NOT_MOVED else {"ReleaseClaim", "KeepClaim"}
    elif memory.money == NOT_MOVED:
        want = {"CommitClaim"} if memory.free else {"ReleaseClaim"}
    elif memory.money == MOVED and (memory.served or minted):
        want = {"CommitClaim"}
    else:
        want = {"KeepClaim"}
    demand(memory.closed in want, f"{where}: the claim ends by {memory.closed or 'nothing'}, not {sorted(want)}")
    due = memory.claim == OURS and memory.money == MOVED and not memory.served and not minted
    demand(memory.refund == due, f"{where}: refund due is {due}")


SELLER = (Monitor("claims and money", _Seller(), _seller_step, _seller_end),)


# ------------------------------------------------------------------------------------------------------------- the payer


@dataclass(frozen=True)
class _Payer:
    approvals: int = 0
    approved: bool = False
    signs: int = 0
    signed: bool = False
    left: bool = False
    token: bool = False


_C = ClientInput
_APPROVED = (_C.APPROVED, _C.APPROVED_UNREAD)
_SIGNED = (_C.SIGNED, _C.SIGNED_FOR_TOKEN)
_REFUSED = (_C.RECEIPT_FAILURE, _C.PAYMENT_REQUIRED, _C.TOKEN_REFUSED)
_BEFORE = {
    _C.RESPONSE: ClientState.DONE,
    _C.NO_ACCEPTABLE_OFFER: ClientState.DECLINED,
    _C.NOT_REPLAYABLE: ClientState.DECLINED,
    _C.ORIGIN_REFUSED: ClientState.DECLINED,
    _C.DECLINED: ClientState.DECLINED,
    _C.SIGN_FAILED: ClientState.DECLINED,
    _C.FACTS_NO_ALLOWANCE: ClientState.DECLINED,
    _C.OFFER_MALFORMED: ClientState.FAILED,
    _C.READ_FAILED: ClientState.FAILED,
    _C.IO_FAILED: ClientState.FAILED,
    _C.CANCEL: ClientState.ABANDONED,
}
"""How an exchange ends whose permit never left: never UNKNOWN, because the money is where it was."""


def _permit_signed(row: Row) -> bool:
    """Tell the payment's own signature from that of a sign-in, or of an allowance."""
    return row.input in _SIGNED and row.state is ClientState.SIGNING


def _payer_step(memory: _Payer, row: Row) -> _Payer:
    where = f"{row.state.name}, {row.input.name}"
    memory = replace(
        memory,
        approved=memory.approved or row.input in _APPROVED,
        signed=memory.signed or _permit_signed(row),
        token=memory.token or row.input is _C.TOKEN_ISSUED,
    )
    sponsored = row.next is not ClientState.SPONSORING or row.input is _C.FACTS_SPONSORED
    demand(sponsored, f"{where}: signs an allowance nobody asked for")
    if row.input is _C.RECEIPT_SUCCESS or row.input is _C.TOKEN_ISSUED:
        demand(memory.left, f"{where}: a receipt for a permit that never left")
    demand(
        (StoreToken in row.commands) == (row.input is _C.TOKEN_ISSUED), f"{where}: StoreToken exactly when a token is issued"
    )
    for command in row.commands:
        if command is ApprovePayment:
            demand(memory.approvals == 0, f"{where}: approval asked twice")
            memory = replace(memory, approvals=1)
        elif command is SignTypedData:
            demand(memory.approved, f"{where}: signs what nobody approved")
            sponsored = row.state is ClientState.SPONSORING  # the allowance for this very payment was signed first
            demand(memory.signs == int(sponsored), f"{where}: a second signature")
            memory = replace(memory, signs=memory.signs + 1)
        elif command is SendTokenRequest or (command is SendRequest and memory.signed):
            demand(memory.approved and memory.signed, f"{where}: a permit leaves without approval and signature")
            again = memory.left and row.input in (_C.TICK, _C.TOKEN_ISSUED)
            demand(again or _permit_signed(row), f"{where}: a permit leaves again without being asked to")
            demand(command is SendRequest or not memory.token, f"{where}: a permit leaves for a second token")
            memory = replace(memory, left=True)
    return memory


def _payer_end(memory: _Payer, row: Row) -> None:
    where = f"{row.state.name}, {row.input.name}"
    if not memory.left:
        want = _BEFORE.get(row.input)  # type: ignore[call-overload]
    elif row.input is _C.RECEIPT_SUCCESS or (row.input is _C.RESPONSE and memory.token):
        want = ClientState.DONE
    elif row.input in _REFUSED and not memory.token:
        want = ClientState.DECLINED
    else:
        want = ClientState.UNKNOWN
    demand(row.next is want, f"{where}: ends {row.next.name}, not {want.name if want else 'at all'}")


CLIENT = (Monitor("one permit, approved and signed", _Payer(), _payer_step, _payer_end),)


# --------------------------------------------------------------------------------------------------------- the settlement

_S, _I = SettlementState, SettlementInput


@dataclass(frozen=True)
class _Settling:
    asking: type | None = None
    recorded: bool = False  # the intent is journaled
    attempts: bool = False  # something signed is journaled and known
    ready: bool = False  # what was just journaled may be broadcast
    sent: bool = False
    alive: bool = False  # something of ours may wait in a pool, or have been executed
    taken: bool = False  # our number was taken by somebody
    failed: bool = False  # our money-mover is mined and did not pay
    held: bool = False  # numbers are held that no node has seen
    new: bool = False  # what is being signed with was just handed out
    doubt: bool = False  # the journal may hold an attempt with new numbers that was never broadcast
    for_good: bool = False  # the token contract says it will never be executed
    filled: bool = False
    persisted: bool = False


_NEEDS_SENT = (_I.UNUSED_FOR_GOOD, _I.UNUSED_YET, _I.STUCK, _I.USED_OURS_UNMINED)
_NEEDS_UNSENT = (_I.UNUSED_FOR_GOOD_UNSENT, _I.UNUSED_YET_UNSENT)
_NEEDS_ATTEMPTS = (
    _I.RECEIPT_ABSENT,
    _I.RECEIPT_SHALLOW,
    _I.RECEIPT_PAID,
    _I.RECEIPT_PAID_OURS_UNMINED,
    _I.RECEIPT_UNPAID,
    _I.STUCK,
)
_PAID = (_I.USED, _I.USED_OURS_UNMINED, _I.RECEIPT_PAID, _I.RECEIPT_PAID_OURS_UNMINED, _I.ENDED_PAID)
_FOR_GOOD = (_I.NONE_PAID, _I.NONE_PAID_UNMINED, _I.ENDED_UNPAID)
_DEAD = (_I.RECEIPT_ABSENT_NUMBER_TAKEN, _I.UNUSED_RETRY)
"""Nothing of ours waits any more: out of every pool, because its number is used; or mined, and failed."""
_UNMINED = (_I.RECEIPT_PAID_OURS_UNMINED, _I.USED_OURS_UNMINED, _I.NONE_PAID_UNMINED)


def _settling_step(memory: _Settling, row: Row) -> _Settling:
    _possible(memory, row)
    memory = _settling_heard(memory, row)
    may_be_sent = row.input in (_I.ACCEPTED, _I.UNCLEAR)
    demand(
        (PersistSent in row.commands) == may_be_sent, f"{row.state.name}, {row.input.name}: the journal hears of every sending"
    )
    again = row.input in (_I.RECEIPT_ABSENT, _I.UNUSED_YET)
    demand((Rebroadcast in row.commands) == again, f"{row.state.name}, {row.input.name}: what may be lost is sent again")
    for command in row.commands:
        memory = _settling_does(memory, command, row)
    _settling_enters(memory, row)
    return memory


def _possible(memory: _Settling, row: Row) -> None:
    """The classifier's own conditions (settlement.py, on_facts and on_receipts)."""
    if row.input in _NEEDS_SENT and not memory.sent:
        raise Impossible
    if row.input in _NEEDS_UNSENT and memory.sent:
        raise Impossible
    if row.input in _NEEDS_ATTEMPTS and not memory.attempts:
        raise Impossible
    if row.input is _I.RECEIPT_ABSENT_NUMBER_TAKEN and not memory.taken:
        raise Impossible
    if row.input is _I.UNUSED_RETRY and not memory.failed:  # eip2612.py, close: our own transfer failed
        raise Impossible
    if row.input in (_I.RECEIPT_PAID, _I.USED, _I.NONE_PAID) and memory.doubt:  # settlement.py, _unmined
        raise Impossible


def _settling_heard(memory: _Settling, row: Row) -> _Settling:
    match row.input:
        case _I.STORED if memory.asking is PersistIntent:
            return replace(memory, recorded=True)
        case _I.STORED if memory.asking is PersistSignedTx:
            return replace(memory, attempts=True, ready=True)
        case _I.FRESH | _I.ENDED_PAID | _I.ENDED_UNPAID:
            return replace(memory, recorded=True)
        case _I.JOURNALED:  # nobody knows whether it was sent
            return replace(memory, recorded=True, attempts=True, sent=True, alive=True)
        case _I.FAILED if memory.asking is PersistSignedTx and memory.new:
            return replace(memory, doubt=True)
        case _I.NUMBERED:
            return replace(memory, held=True, new=True)
        case _I.STUCK:
            return replace(memory, new=False)
        case _I.ACCEPTED | _I.UNCLEAR:
            return replace(memory, sent=True, alive=True, held=False)
        case _I.NUMBER_TAKEN:
            return replace(memory, taken=True)
        case _I.RECEIPT_UNPAID:
            return replace(memory, failed=True)
        case _ if row.input in _DEAD:
            return replace(memory, alive=False, held=memory.held and row.input is not _I.UNUSED_RETRY)
        case _I.UNUSED_FOR_GOOD | _I.UNUSED_FOR_GOOD_UNSENT:
            return replace(memory, for_good=True)
    return memory


def _settling_does(memory: _Settling, command: type, row: Row) -> _Settling:
    where = f"{row.state.name}, {row.input.name}"
    if command is AllocateTxNumbers:
        demand(memory.recorded, f"{where}: numbers before the intent is journaled")
    elif command is SignTransactions:
        demand(row.input in (_I.NUMBERED, _I.STUCK), f"{where}: signs without numbers")
    elif command is PersistSignedTx:
        demand(row.input is _I.SIGNED, f"{where}: journals what is not signed")
    elif command is Broadcast:
        demand(memory.ready, f"{where}: broadcasts what is not journaled")
        memory = replace(memory, ready=False, taken=False, doubt=False)
    elif command is Rebroadcast:
        demand(memory.attempts, f"{where}: rebroadcasts nothing")
        memory = replace(memory, sent=True, alive=True)
    elif command is FillTxNumbers:
        # before the outcome is stored: that frees numbers in the ledger, and a filler must not race who gets them next
        demand(not memory.persisted and row.next in SettlementMachine.ENDS, f"{where}: fills too late, or without an end")
        memory = replace(memory, filled=True, doubt=False)
    elif command is ReturnTxNumbers:
        demand(not memory.alive, f"{where}: gives numbers back that a node has seen")
        memory = replace(memory, held=False, doubt=False)
    elif command is PersistOutcome:
        memory = replace(memory, persisted=True)
    elif command is Report:
        stored = row.input in (_I.ENDED_PAID, _I.ENDED_UNPAID)
        unrecorded = not memory.recorded and row.input in (_I.FAILED, _I.ANOTHERS)
        demand(memory.persisted != (stored or unrecorded), f"{where}: reports what is not persisted, or persists it again")
    return replace(memory, asking=command) if command.waits else memory


def _settling_enters(memory: _Settling, row: Row) -> None:
    where = f"{row.state.name}, {row.input.name}"
    match row.next:
        case _S.RESTING | _S.NUMBERING | _S.SIGNING | _S.JOURNALING:
            demand(not memory.alive, f"{where}: starts over although something sent may still be executed")
            # JOURNALING, FAILED: the signed bytes may be in the journal, so the ledger has to hand out the same numbers again
            rests = row.next is _S.RESTING and row.state not in (_S.JOURNALING, _S.NUMBERING)
            demand(not (rests and memory.held), f"{where}: rests on numbers others wait for")
        case _S.WATCHING | _S.RESIGNING | _S.REJOURNALING:
            # CLOSING, FAILED watches even where nothing was ever signed: the next look finds that out by itself
            lone = row.state is _S.CLOSING and row.input is _I.FAILED
            looked = row.state in (_S.WATCHING, _S.LOOKING) and row.input in (_I.TICK, _I.FAILED)
            demand(memory.attempts or lone or looked, f"{where}: watches what was never signed")
            demand(row.input not in _DEAD, f"{where}: watches what can no longer be mined")
        case _S.CLOSING:
            asked = row.input in (_I.EXPIRED, _I.REJECTED, _I.RECEIPT_UNPAID)
            demand(asked, f"{where}: asks the contract for no reason")
        case _S.PROVING:
            demand(memory.for_good, f"{where}: proves what the token contract has not said")


def _settling_end(memory: _Settling, row: Row) -> None:
    where = f"{row.state.name}, {row.input.name}"
    demand(memory.filled == (row.input in _UNMINED), f"{where}: numbers that will never be mined are filled, others are not")
    match row.next:
        case _S.CONFIRMED:
            demand(row.input in _PAID, f"{where}: confirmed without proof")
        case _S.VOID:
            stored = row.input is _I.ENDED_UNPAID
            demand(row.input in _FOR_GOOD, f"{where}: void although it may still be executed")
            demand(stored or memory.for_good, f"{where}: void, but the token contract was not asked")
            demand(stored or memory.sent, f"{where}: void, but nothing was sent")
        case _S.NOT_SENT:
            demand(not memory.sent, f"{where}: NOT_SENT although something may have been sent")
            demand(row.input is _I.UNUSED_FOR_GOOD_UNSENT or not memory.recorded, f"{where}: NOT_SENT, but it may still go")
            demand(not memory.held, f"{where}: numbers are not given back")


SETTLEMENT = (Monitor("journal before broadcast, proof before outcome", _Settling(), _settling_step, _settling_end),)


def _doubt_end(memory: _Settling, row: Row) -> None:
    demand(
        not memory.doubt,
        f"{row.state.name}, {row.input.name}: numbers that may be journaled as signed are never sent or given back",
    )


NUMBERS = Monitor("no number is lost when PersistSignedTx loses its answer", _Settling(), _settling_step, _doubt_end)
"""The ledger frees on a final outcome only what was never signed with; what it holds as signed has to be sent, filled or
given back, else every later number waits for it (T7)."""


# -------------------------------------------------------------------------------------------------------- the facilitator

_F = FacilitatorInput


@dataclass(frozen=True)
class _Settler:
    recalled: bool = False  # the journal knows nothing of this permit
    verified: bool = False
    admitted: bool = False
    settling: bool = False
    asking: type | None = None


def _facilitator_step(memory: _Settler, row: Row) -> _Settler:
    where = f"{row.state.name}, {row.input.name}"
    memory = replace(
        memory,
        recalled=memory.recalled or (row.input is _F.NEW and row.state is FacilitatorState.RECALLING),
        verified=memory.verified or row.input is _F.VERIFIED,
        admitted=memory.admitted or row.input is _F.ADMITTED,
    )
    for command in row.commands:
        if command is AdmitPayer:
            demand(memory.verified and memory.recalled, f"{where}: a quota is used up by what was not judged")
        elif command is SettlePayment:
            ready = memory.recalled and memory.verified and memory.admitted
            demand(ready and not memory.settling, f"{where}: settles what it does not know, or has seen")
            memory = replace(memory, settling=True)
        elif command is AwaitSettlement:
            demand(not memory.settling and row.input is _F.OPEN, f"{where}: waits for what is not under way")
        elif command is CatalogResource:
            demand(row.input is _F.SETTLED_LISTED, f"{where}: lists what was not paid for")
        memory = replace(memory, asking=command) if command.waits else memory
    return memory


def _facilitator_end(memory: _Settler, row: Row) -> None:
    where = f"{row.state.name}, {row.input.name}"
    paid = row.input in (_F.SETTLED, _F.SETTLED_LISTED)
    settles = memory.asking in (SettlePayment, AwaitSettlement)
    demand(not paid or settles, f"{where}: tells of a settlement that was not asked for")
    lists = CatalogResource in row.commands
    demand(lists == (row.input is _F.SETTLED_LISTED), f"{where}: what is to be listed is, and nothing else")


FACILITATOR = (Monitor("known, judged, admitted, settled once", _Settler(), _facilitator_step, _facilitator_end),)


# -------------------------------------------------------------------------------------------- settling by a facilitator

_R, _RS = RemoteInput, RemoteState
_R_PAID = (_R.SETTLED, _R.USED, _R.ENDED_PAID)
_R_OVER = (_R.REFUSED, _R.UNUSED_FOR_GOOD, _R.EXPIRED_BLIND, _R.ENDED_UNPAID)


@dataclass(frozen=True)
class _Remote:
    recorded: bool = False
    persisted: bool = False


def _remote_step(memory: _Remote, row: Row) -> _Remote:
    where = f"{row.state.name}, {row.input.name}"
    stored = row.input in (_R.STORED, _R.OPEN, _R.ENDED_PAID, _R.ENDED_UNPAID)
    memory = replace(memory, recorded=memory.recorded or stored)
    fresh = row.state is _RS.RECORDING and row.input is _R.STORED
    demand((PersistSent in row.commands) == fresh, f"{where}: the journal hears when a permit first leaves")
    for command in row.commands:
        if command is AskFacilitator:
            demand(memory.recorded, f"{where}: asks before the intent is journaled")
        elif command is PersistOutcome:
            memory = replace(memory, persisted=True)
        elif command is Report:
            told = row.input in (_R.ENDED_PAID, _R.ENDED_UNPAID)
            unrecorded = not memory.recorded and row.input in (_R.FAILED, _R.ANOTHERS)
            demand(memory.persisted != (told or unrecorded), f"{where}: reports what is not persisted, or persists it again")
    if row.next is _RS.CLOSING:
        asked = row.input in (_R.SETTLED_UNPROVED, _R.REFUSED_DOUBTED, _R.EXPIRED)
        demand(asked, f"{where}: asks the contract for no reason")
    return memory


def _remote_end(memory: _Remote, row: Row) -> None:
    where = f"{row.state.name}, {row.input.name}"
    want = {_RS.CONFIRMED: _R_PAID, _RS.VOID: _R_OVER, _RS.NOT_ASKED: (_R.FAILED, _R.ANOTHERS)}[row.next]  # type: ignore[index]
    demand(row.input in want, f"{where}: ends {row.next.name} without reason")
    demand(row.next is not _RS.NOT_ASKED or not memory.recorded, f"{where}: gives up what is journaled")


REMOTE = (Monitor("journal before asking, outcome before report", _Remote(), _remote_step, _remote_end),)
