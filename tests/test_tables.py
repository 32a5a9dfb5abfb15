"""Rules over the tables themselves, for all six machines (models.md 7.6), and whether the rules would notice a wrong table.

``figures()`` counts what was looked at; ``python -m tests.test_tables`` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from tests.table_monitors import CLIENT, FACILITATOR, NUMBERS, REMOTE, SELLER, SETTLEMENT
from tests.table_rules import Spec, broken, explore, paths, spec_of
from tests.world import ENTROPY, NETWORK, NOW, PAYER, POLICY, SETTLER, TERMS
from x402core import commands as c
from x402core.commands import CommitClaim, KeepClaim, ReleaseClaim
from x402core.errors import LocalProtocolError
from x402core.machines.client import ClientExchange, ClientInput, ClientState
from x402core.machines.facilitator import FacilitatorExchange, FacilitatorInput, FacilitatorState
from x402core.machines.machine import Input, Machine, Row
from x402core.machines.remote import RemoteInput, RemotePolicy, RemoteSettlement, RemoteState
from x402core.machines.server import ServerExchange, ServerInput, ServerState
from x402core.machines.settlement import SettlementInput, SettlementMachine, SettlementPolicy, SettlementState
from x402core.machines.token import TokenExchange, TokenInput, TokenState
from x402core.policy import FacilitatorTerms

# ------------------------------------------------------------------- which state waits for what, and what that can come to

CI, CS = ClientInput, ClientState
_UNPAID = frozenset(
    {
        CI.RESPONSE,
        CI.PAYMENT_REQUIRED,
        CI.NO_ACCEPTABLE_OFFER,
        CI.NOT_REPLAYABLE,
        CI.ORIGIN_REFUSED,
        CI.OFFER_MALFORMED,
        CI.IO_FAILED,
    }
)
CLIENT_SPEC = spec_of(
    ClientExchange,
    begins=frozenset({CI.BEGIN}),
    cancellable_start=True,
    answers_cancel=True,
    waits={
        CS.SENT: c.SendRequest,
        CS.CHOOSING: c.ApprovePayment,
        CS.SIGNING_IN: c.SignMessage,
        CS.SENT_SIGNED_IN: c.SendRequest,
        CS.READING: c.ReadChain,
        CS.SPONSORING: c.SignTypedData,
        CS.SIGNING: c.SignTypedData,
        CS.PAYING: c.SendRequest,
        CS.PAUSING: c.WakeAt,
        CS.EXCHANGING: c.SendTokenRequest,
        CS.PAUSING_EXCHANGE: c.WakeAt,
        CS.REDEEMING: c.SendRequest,
    },
    accepts={
        c.SendRequest: frozenset(),
        c.ApprovePayment: frozenset({CI.APPROVED, CI.APPROVED_UNREAD, CI.DECLINED}),
        c.ReadChain: frozenset({CI.FACTS, CI.FACTS_NO_ALLOWANCE, CI.FACTS_SPONSORED, CI.READ_FAILED}),
        c.SignMessage: frozenset({CI.SIGNED, CI.SIGN_FAILED}),
        c.SignTypedData: frozenset({CI.SIGNED, CI.SIGNED_FOR_TOKEN, CI.SIGN_FAILED}),
        c.WakeAt: frozenset({CI.TICK}),
        c.SendTokenRequest: frozenset({CI.TOKEN_ISSUED, CI.TOKEN_REFUSED, CI.ASKED_TO_WAIT, CI.TOKEN_UNCLEAR, CI.IO_FAILED}),
    },
    by_state={  # what a response means depends on what went out (client.py, on_response)
        CS.SENT: _UNPAID | {CI.SIGN_IN_OFFERED},
        # signing in is tried once, and not for a request that cannot be sent again (client.py, _first_response)
        CS.SENT_SIGNED_IN: _UNPAID - {CI.NOT_REPLAYABLE},
        CS.SPONSORING: frozenset({CI.SIGNED, CI.SIGN_FAILED}),
        CS.PAYING: frozenset(
            {CI.RECEIPT_SUCCESS, CI.RECEIPT_FAILURE, CI.PAYMENT_REQUIRED, CI.ASKED_TO_WAIT, CI.RESPONSE, CI.IO_FAILED}
        ),
        CS.REDEEMING: frozenset({CI.RESPONSE, CI.TOKEN_REJECTED, CI.IO_FAILED}),
    },
    monitors=CLIENT,
)

VI, VS = ServerInput, ServerState
_KNOWN = frozenset({VI.ANSWERED, VI.HELD, VI.PENDING, VI.SPENT, VI.VOID, VI.UNSERVED, VI.CONFLICT, VI.FAILED})
SERVER_SPEC = spec_of(
    ServerExchange,
    begins=frozenset({VI.UNPAID, VI.MALFORMED, VI.UNMATCHED, VI.REFUSED, VI.TOKEN, VI.TOKEN_INVALID, VI.SIGN_IN, VI.PAYMENT}),
    waits={
        VS.CHECKING_TOKEN: c.CheckPayment,
        VS.CHECKING_SIGN_IN: c.CheckSignIn,
        VS.SERVING: c.InvokeHandler,
        VS.RECALLING: c.RecallPayment,
        VS.VERIFYING: c.VerifyPayment,
        VS.RECALLING_USED: c.RecallPayment,
        VS.CLAIMING: c.ClaimPayment,
        VS.SERVING_PAID: c.InvokeHandler,
        VS.SETTLING: c.SettlePayment,
        VS.SETTLING_FIRST: c.SettlePayment,
        VS.SERVING_SETTLED: c.InvokeHandler,
        VS.SERVING_AGAIN: c.InvokeHandler,
        VS.STREAMING: c.StreamResponse,
    },
    accepts={
        c.CheckPayment: frozenset({VI.TOKEN_LIVE, VI.TOKEN_REVOKED, VI.FAILED}),
        c.CheckSignIn: frozenset({VI.SIGNED_IN, VI.UNPAID, VI.FAILED}),
        c.InvokeHandler: frozenset({VI.HANDLER_OK, VI.HANDLER_FAILED, VI.HANDLER_RAISED}),
        c.StreamResponse: frozenset({VI.STREAM_ENDED, VI.STREAM_BROKE}),
        c.RecallPayment: _KNOWN | {VI.NEW},
        c.VerifyPayment: frozenset({VI.VERIFIED, VI.USED, VI.REFUSED, VI.FAILED}),
        c.ClaimPayment: _KNOWN | {VI.TAKEN_SERVE_FIRST, VI.TAKEN_SETTLE_FIRST},
        c.SettlePayment: frozenset(
            {
                VI.SETTLED,
                VI.SETTLE_REFUSED,
                VI.SETTLE_UNAVAILABLE,
                VI.SETTLE_FAILED,
                VI.SETTLE_PENDING,
                VI.SETTLE_UNKNOWN,
            }
        ),
    },
    by_state={  # what is charged is asked where nothing was charged yet (server.py, on_handled)
        VS.SERVING_PAID: frozenset(
            {VI.HANDLER_OK, VI.HANDLER_OK_FREE, VI.HANDLER_MISCHARGED, VI.HANDLER_FAILED, VI.HANDLER_RAISED}
        ),
        # a response that streams is let go of only where the money has moved already
        **dict.fromkeys(
            (VS.SERVING_SETTLED, VS.SERVING_AGAIN),
            frozenset({VI.HANDLER_OK, VI.HANDLER_STREAMS, VI.HANDLER_FAILED, VI.HANDLER_RAISED}),
        ),
        VS.RECALLING: _KNOWN | {VI.NEW, VI.UNMATCHED},  # a payment for yesterday's price is known, or is no match
    },
    monitors=SELLER,
)

TI, TS = TokenInput, TokenState
_TOKEN_KNOWN = frozenset({TI.ANSWERED, TI.HELD, TI.PENDING, TI.SPENT, TI.VOID, TI.UNSERVED, TI.FAILED})
TOKEN_SPEC = spec_of(
    TokenExchange,
    begins=frozenset({TI.MALFORMED, TI.UNMATCHED, TI.REFUSED, TI.PERMIT}),
    waits={
        TS.RECALLING: c.RecallPayment,
        TS.VERIFYING: c.VerifyPayment,
        TS.RECALLING_USED: c.RecallPayment,
        TS.CLAIMING: c.ClaimPayment,
        TS.RECORDING: c.RecordIntent,
    },
    accepts={
        c.RecallPayment: _TOKEN_KNOWN | {TI.NEW},
        c.VerifyPayment: frozenset({TI.VERIFIED, TI.USED, TI.REFUSED, TI.FAILED}),
        c.ClaimPayment: _TOKEN_KNOWN | {TI.TAKEN},
        c.RecordIntent: frozenset({TI.STORED, TI.OVER_EXPOSURE, TI.CONFLICT, TI.FAILED}),
    },
    by_state={},
    monitors=SELLER,
)

SI, SS = SettlementInput, SettlementState
SETTLEMENT_SPEC = spec_of(
    SettlementMachine,
    begins=frozenset({SI.BEGIN, SI.FRESH, SI.JOURNALED, SI.ENDED_PAID, SI.ENDED_UNPAID}),
    waits={
        SS.RECORDING: c.PersistIntent,
        SS.RESTING: c.WakeAt,
        SS.NUMBERING: c.AllocateTxNumbers,
        SS.SIGNING: c.SignTransactions,
        SS.JOURNALING: c.PersistSignedTx,
        SS.SENDING: c.Broadcast,
        SS.WATCHING: c.WakeAt,
        SS.LOOKING: c.GetReceipts,
        SS.RESIGNING: c.SignTransactions,
        SS.REJOURNALING: c.PersistSignedTx,
        SS.CLOSING: c.ReadChain,
        SS.PROVING: c.GetReceipts,
    },
    accepts={
        c.PersistIntent: frozenset({SI.STORED, SI.FRESH, SI.JOURNALED, SI.ENDED_PAID, SI.ENDED_UNPAID, SI.ANOTHERS, SI.FAILED}),
        c.WakeAt: frozenset({SI.TICK}),
        c.AllocateTxNumbers: frozenset({SI.NUMBERED, SI.UNUSABLE, SI.FAILED}),
        c.SignTransactions: frozenset({SI.SIGNED, SI.FAILED}),
        c.PersistSignedTx: frozenset({SI.STORED, SI.FAILED}),
        c.Broadcast: frozenset({SI.ACCEPTED, SI.UNCLEAR, SI.NUMBER_TAKEN, SI.REJECTED}),
        c.GetReceipts: frozenset(
            {
                SI.RECEIPT_ABSENT,
                SI.RECEIPT_ABSENT_NUMBER_TAKEN,
                SI.STUCK,
                SI.RECEIPT_SHALLOW,
                SI.RECEIPT_PAID,
                SI.RECEIPT_PAID_OURS_UNMINED,
                SI.RECEIPT_UNPAID,
                SI.EXPIRED,
                SI.FAILED,
            }
        ),
        c.ReadChain: frozenset(
            {
                SI.USED,
                SI.USED_OURS_UNMINED,
                SI.UNUSED_FOR_GOOD,
                SI.UNUSED_FOR_GOOD_UNSENT,
                SI.UNUSED_YET,
                SI.UNUSED_YET_UNSENT,
                SI.UNUSED_RETRY,
                SI.FAILED,
            }
        ),
    },
    by_state={
        SS.RESTING: frozenset({SI.TICK, SI.EXPIRED}),
        SS.PROVING: frozenset(
            {
                SI.RECEIPT_PAID,
                SI.RECEIPT_PAID_OURS_UNMINED,
                SI.RECEIPT_SHALLOW,
                SI.NONE_PAID,
                SI.NONE_PAID_UNMINED,
                SI.FAILED,
            }
        ),
    },
    monitors=(*SETTLEMENT, NUMBERS),
)

FI, FS = FacilitatorInput, FacilitatorState
_TOLD = frozenset({FI.SETTLED, FI.SETTLED_LISTED, FI.PENDING, FI.UNSETTLED, FI.UNKNOWN})
_JUDGED = frozenset({FI.VERIFIED, FI.REFUSED, FI.FAILED})
FACILITATOR_SPEC = spec_of(
    FacilitatorExchange,
    begins=frozenset({FI.MALFORMED, FI.REFUSED, FI.VERIFY, FI.SETTLE}),
    waits={
        FS.JUDGING: c.VerifyPayment,
        FS.RECALLING: c.RecallSettlement,
        FS.VERIFYING: c.VerifyPayment,
        FS.ADMITTING: c.AdmitPayer,
        FS.RECALLING_USED: c.RecallSettlement,
        FS.SETTLING: c.SettlePayment,
        FS.AWAITING: c.AwaitSettlement,
    },
    accepts={
        c.VerifyPayment: _JUDGED,
        c.RecallSettlement: frozenset({FI.NEW, FI.STORED, FI.OPEN, FI.REFUSED, FI.FAILED}),
        c.AdmitPayer: frozenset({FI.ADMITTED, FI.REFUSED, FI.FAILED}),
        c.SettlePayment: _TOLD,
        c.AwaitSettlement: _TOLD,
    },
    by_state={FS.VERIFYING: _JUDGED | {FI.VERIFIED_FREE, FI.USED}},
    monitors=FACILITATOR,
)

RI, RS = RemoteInput, RemoteState
REMOTE_SPEC = spec_of(
    RemoteSettlement,
    begins=frozenset({RI.BEGIN, RI.OPEN, RI.ENDED_PAID, RI.ENDED_UNPAID}),
    waits={RS.RECORDING: c.PersistIntent, RS.ASKING: c.AskFacilitator, RS.RESTING: c.WakeAt, RS.CLOSING: c.ReadChain},
    accepts={
        c.PersistIntent: frozenset({RI.STORED, RI.OPEN, RI.ENDED_PAID, RI.ENDED_UNPAID, RI.ANOTHERS, RI.FAILED}),
        c.AskFacilitator: frozenset({RI.SETTLED, RI.SETTLED_UNPROVED, RI.REFUSED, RI.REFUSED_DOUBTED, RI.PENDING, RI.FAILED}),
        c.WakeAt: frozenset({RI.TICK, RI.EXPIRED, RI.EXPIRED_BLIND}),
        c.ReadChain: frozenset({RI.USED, RI.UNUSED_FOR_GOOD, RI.UNUSED_YET, RI.FAILED}),
    },
    by_state={},
    monitors=REMOTE,
)

SPECS = {spec.name: spec for spec in (CLIENT_SPEC, SERVER_SPEC, TOKEN_SPEC, SETTLEMENT_SPEC, FACILITATOR_SPEC, REMOTE_SPEC)}
MACHINES: dict[str, type[Machine[Any, Any]]] = {
    m.__name__: m
    for m in (ClientExchange, ServerExchange, TokenExchange, SettlementMachine, FacilitatorExchange, RemoteSettlement)
}
_LOOPS = ("SettlementMachine", "RemoteSettlement")


def fresh(name: str) -> Machine[Any, Any]:
    """Return a new machine of that name."""
    match name:
        case "ClientExchange":
            return ClientExchange(POLICY, PAYER, entropy=ENTROPY)
        case "ServerExchange":
            return ServerExchange(TERMS, entropy=ENTROPY)
        case "TokenExchange":
            return TokenExchange(TERMS, entropy=ENTROPY)
        case "FacilitatorExchange":
            return FacilitatorExchange(FacilitatorTerms({NETWORK: SETTLER}))
        case "RemoteSettlement":
            return RemoteSettlement(RemotePolicy())
        case _:
            return SettlementMachine(SettlementPolicy(), SETTLER)


# --------------------------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize("name", SPECS)
def test_every_rule_holds(name: str) -> None:
    assert broken(SPECS[name]) is None


@pytest.mark.parametrize("name", SPECS)
def test_what_is_not_in_the_table_is_an_error_and_moves_nothing(name: str) -> None:
    machine, spec = MACHINES[name], SPECS[name]
    told: list[Input] = []

    class Told(machine):  # type: ignore[valid-type,misc]
        __slots__ = ()

        def _classify(self, event: object, now: object) -> tuple[Input, object]:
            return told[0], None

    tried = 0
    for state in spec.states:
        for name_ in spec.inputs:
            if (state, name_) in spec.rows:
                continue
            subject = Told.__new__(Told)
            Machine.__init__(subject)
            subject.state, told[:] = state, [name_]
            with pytest.raises(LocalProtocolError):
                subject.receive(None, now=NOW)
            assert subject.state is state
            assert subject.awaiting is None
            tried += 1
    assert tried + len(spec.table) == len(spec.states) * len(spec.inputs)


@pytest.mark.parametrize("name", SPECS)
def test_every_waited_command_can_be_answered_and_can_fail(name: str) -> None:
    machine, spec = MACHINES[name], SPECS[name]
    waited = {command for row in machine.TABLE for command in row.commands if command.waits}
    assert waited == set(machine.ANSWERS) == set(machine.FAILURES) == set(spec.waits.values())
    for state, command in spec.waits.items():
        assert machine.FAILURES[command] in spec.accepts[state]


def test_no_number_is_lost_with_the_answer_of_the_journal() -> None:
    assert len(explore(SETTLEMENT_SPEC, NUMBERS)) > len(SETTLEMENT_SPEC.states)


def test_only_exchanges_can_be_cancelled() -> None:
    assert SettlementMachine.CANCEL is RemoteSettlement.CANCEL is None
    for name in ("ClientExchange", "ServerExchange", "TokenExchange", "FacilitatorExchange"):
        spec = SPECS[name]
        assert all((state, spec.cancel) in spec.rows for state in spec.waits)


# --------------------------------------------------------------------------------------------------- would we notice?


@dataclass(frozen=True)
class Mutant:
    """One wrong table."""

    what: str
    spec: Spec


def mutants(spec: Spec) -> Iterator[Mutant]:
    """Yield every table that is one slip away from the right one."""
    closers = (ReleaseClaim, KeepClaim, CommitClaim)
    for at, row in enumerate(spec.table):
        where = f"{row.state.name}, {row.input.name}"

        def put(*rows: Row, at: int = at) -> Spec:
            return spec.with_table((*spec.table[:at], *rows, *spec.table[at + 1 :]))

        yield Mutant(f"{where}: no row", put())
        for state in spec.states:
            if state is not row.next:
                yield Mutant(f"{where} -> {state.name}", put(row._replace(next=state)))
        for i, command in enumerate(row.commands):
            less = (*row.commands[:i], *row.commands[i + 1 :])
            yield Mutant(f"{where}: no {command.__name__}", put(row._replace(commands=less)))
            twice = (*row.commands[:i], command, *row.commands[i:])
            yield Mutant(f"{where}: {command.__name__} twice", put(row._replace(commands=twice)))
            for other in closers:
                if command in closers and other is not command:
                    swapped = (*row.commands[:i], other, *row.commands[i + 1 :])
                    yield Mutant(f"{where}: {other.__name__} for {command.__name__}", put(row._replace(commands=swapped)))


SURVIVORS: dict[str, dict[str, str]] = {name: {} for name in SPECS}
SURVIVORS["SettlementMachine"] = {
    "NUMBERING, UNUSABLE: no ReturnTxNumbers": "held numbers come back at the next allocation; only other payments wait",
}
"""Mutants no rule of the tables catches, each with the reason why that is no gap, or what catches it instead."""


@cache
def survivors(name: str) -> tuple[int, tuple[str, ...]]:
    """Return how many mutants there are, and those no rule catches."""
    made = list(mutants(SPECS[name]))
    return len(made), tuple(mutant.what for mutant in made if broken(mutant.spec) is None)


@pytest.mark.parametrize("name", SPECS)
def test_a_wrong_table_is_noticed(name: str) -> None:
    made, alive = survivors(name)
    assert made > 8 * len(SPECS[name].table)
    assert set(alive) == set(SURVIVORS[name])


# ------------------------------------------------------------------------------------------------------------- figures


def figures() -> dict[str, dict[str, int]]:
    """Count what there is and what was walked, per machine."""
    found = {}
    for name, spec in SPECS.items():
        acyclic = name not in _LOOPS
        made, alive = survivors(name)
        found[name] = {
            "states": len(spec.states),
            "ends": len(spec.ends),
            "inputs": len(spec.inputs),
            "rows": len(spec.table),
            "pairs": len(spec.states) * len(spec.inputs),
            "pairs explored with their history": sum(len(explore(spec, monitor)) for monitor in spec.monitors),
            **({"paths": sum(1 for _ in paths(spec))} if acyclic else {}),
            "mutants": made,
            "caught": made - len(alive),
        }
    return found


def test_the_figures_can_be_told() -> None:
    assert figures()["ServerExchange"]["rows"] == len(ServerExchange.TABLE)


if __name__ == "__main__":
    for machine_name, counts in figures().items():
        sys.stdout.write(f"{machine_name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()) + "\n")
    for machine_name in SPECS:
        for what in survivors(machine_name)[1]:
            sys.stdout.write(f"  survivor {machine_name}: {what}\n")
