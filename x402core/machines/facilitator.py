"""A facilitator's side of one POST to ``/verify`` or ``/settle`` (x402.md 1.5).

Theory of operation.  A resource server brings a payment and the requirements it answers.  ``/verify`` judges it against the
chain and changes nothing.  ``/settle`` first asks the journal: what was settled, or is being settled, is answered from there
and never sent again; a new payment is judged, counted against its payer's quota, and then settled.

Rules:

* Nothing is broadcast that was not judged a moment ago: an empty wallet costs its owner a read, not us a transaction.
* Only what the judge let pass counts against a quota: who cannot sign for a payer must not use up what is the payer's.
* A delegator (ERC-7710) is not proved before he has paid: the delegation manager's quota counts, not one in his name.
* A settle repeated gets the stored outcome; one that takes too long is answered ``settlement_pending`` with its transaction.
* A stored settlement is told only to whoever asks with the same offer: the permit's payee, asset and amount.
* A refused payment is 200 with the reason; bytes that are no request are 400; our own trouble is 503.

Not its business: how money is moved (``settlement.py``), who may ask at all (the binding's authentication).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import auto
from typing import Any, ClassVar

from x402core.commands import (
    AdmitPayer,
    AwaitSettlement,
    CatalogResource,
    Command,
    RecallSettlement,
    Respond,
    SettlePayment,
    VerifyPayment,
)
from x402core.errors import Reason, Refusal, RemoteProtocolError, Reply
from x402core.events import Erc7710Permit, FacilitatorRequest, Method, Pending, Settled, Settlement, Unsettled, same_payment
from x402core.ledger import SettlementRecord
from x402core.policy import FacilitatorTerms
from x402core.schemes.judge import Checked, Verified, charge, check
from x402core.schemes.scheme import UPTO
from x402core.schemes.wallets import SignedBy, inner
from x402core.values import Amount, Millis
from x402core.wire import facilitator as wire

from . import answers
from .machine import Commands, Input, Machine, Row, State, Trace
from .payments import stamped

__all__ = ["FacilitatorExchange", "FacilitatorInput", "FacilitatorState"]


class FacilitatorState(State):
    """Where a request stands."""

    IDLE = auto()
    JUDGING = auto()
    RECALLING = auto()
    VERIFYING = auto()
    ADMITTING = auto()
    RECALLING_USED = auto()
    SETTLING = auto()
    AWAITING = auto()
    DONE = auto()


class FacilitatorInput(Input):
    """What happened, named by outcome."""

    VERIFY = auto()
    SETTLE = auto()
    MALFORMED = auto()
    REFUSED = auto()
    NEW = auto()
    STORED = auto()
    OPEN = auto()
    ADMITTED = auto()
    VERIFIED = auto()
    VERIFIED_FREE = auto()
    USED = auto()
    SETTLED = auto()
    SETTLED_LISTED = auto()
    PENDING = auto()
    UNSETTLED = auto()
    UNKNOWN = auto()
    FAILED = auto()
    CANCEL = auto()


S, I = FacilitatorState, FacilitatorInput  # noqa: E741


class FacilitatorExchange(Machine[FacilitatorState, FacilitatorInput]):
    """One POST to a facilitator that settles by ``terms``."""

    __slots__ = ("ask", "checked", "proof", "terms", "used")

    TABLE: ClassVar[tuple[Row, ...]] = (
        Row(S.IDLE, I.MALFORMED, S.DONE, "do_answer", (Respond,)),
        Row(S.IDLE, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
        Row(S.IDLE, I.VERIFY, S.JUDGING, "do_verify", (VerifyPayment,)),
        Row(S.IDLE, I.SETTLE, S.RECALLING, "do_recall", (RecallSettlement,)),
        Row(S.JUDGING, I.VERIFIED, S.DONE, "do_valid", (Respond,)),
        Row(S.JUDGING, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
        Row(S.JUDGING, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
        Row(S.JUDGING, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.RECALLING, I.NEW, S.VERIFYING, "do_verify", (VerifyPayment,)),
        Row(S.RECALLING, I.STORED, S.DONE, "do_tell", (Respond,)),
        Row(S.RECALLING, I.OPEN, S.AWAITING, "do_await", (AwaitSettlement,)),
        Row(S.RECALLING, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
        Row(S.RECALLING, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
        Row(S.RECALLING, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.VERIFYING, I.VERIFIED, S.ADMITTING, "do_admit", (AdmitPayer,)),
        Row(S.VERIFYING, I.VERIFIED_FREE, S.DONE, "do_charge_nothing", (Respond,)),
        Row(S.VERIFYING, I.USED, S.RECALLING_USED, "do_recall_used", (RecallSettlement,)),
        Row(S.VERIFYING, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
        Row(S.VERIFYING, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
        Row(S.VERIFYING, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.ADMITTING, I.ADMITTED, S.SETTLING, "do_settle", (SettlePayment,)),
        Row(S.ADMITTING, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
        Row(S.ADMITTING, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
        Row(S.ADMITTING, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.RECALLING_USED, I.NEW, S.DONE, "do_refuse_used", (Respond,)),
        Row(S.RECALLING_USED, I.STORED, S.DONE, "do_tell", (Respond,)),
        Row(S.RECALLING_USED, I.OPEN, S.AWAITING, "do_await", (AwaitSettlement,)),
        Row(S.RECALLING_USED, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
        Row(S.RECALLING_USED, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
        Row(S.RECALLING_USED, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.SETTLING, I.SETTLED, S.DONE, "do_tell", (Respond,)),
        Row(S.SETTLING, I.SETTLED_LISTED, S.DONE, "do_list", (CatalogResource, Respond)),
        Row(S.SETTLING, I.PENDING, S.DONE, "do_tell", (Respond,)),
        Row(S.SETTLING, I.UNSETTLED, S.DONE, "do_tell", (Respond,)),
        Row(S.SETTLING, I.UNKNOWN, S.DONE, "do_unavailable", (Respond,)),
        Row(S.SETTLING, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.AWAITING, I.SETTLED, S.DONE, "do_tell", (Respond,)),
        Row(S.AWAITING, I.SETTLED_LISTED, S.DONE, "do_list", (CatalogResource, Respond)),
        Row(S.AWAITING, I.PENDING, S.DONE, "do_tell", (Respond,)),
        Row(S.AWAITING, I.UNSETTLED, S.DONE, "do_tell", (Respond,)),
        Row(S.AWAITING, I.UNKNOWN, S.DONE, "do_unavailable", (Respond,)),
        Row(S.AWAITING, I.CANCEL, S.DONE, "do_nothing"),
    )
    START = S.IDLE
    ENDS = frozenset({S.DONE})
    CANCEL = I.CANCEL
    BEGINS: ClassVar[Mapping[type, str]] = {FacilitatorRequest: "on_request"}
    ANSWERS: ClassVar[Mapping[type[Command[Any]], str]] = {
        VerifyPayment: "on_judged",
        RecallSettlement: "on_recalled",
        AdmitPayer: "on_admitted",
        SettlePayment: "on_settlement",
        AwaitSettlement: "on_settlement",
    }
    FAILURES: ClassVar[Mapping[type[Command[Any]], Input]] = {
        VerifyPayment: I.FAILED,
        RecallSettlement: I.FAILED,
        AdmitPayer: I.FAILED,
        SettlePayment: I.UNKNOWN,
        AwaitSettlement: I.UNKNOWN,
    }

    def __init__(self, terms: FacilitatorTerms, *, trace: Trace | None = None) -> None:
        super().__init__(trace=trace)
        self.terms = terms
        self.ask: wire.Ask | None = None
        self.checked: Checked | None = None
        self.proof: Verified | None = None
        self.used: Refusal | None = None

    # ------------------------------------------------------------------------------------------------------- classify

    def on_request(self, event: FacilitatorRequest, now: Millis) -> tuple[FacilitatorInput, object]:
        """A body was posted."""
        try:
            ask = wire.decode_request(event.body, settle=event.path == wire.SETTLE, registry=self.terms.registry)
        except RemoteProtocolError as error:
            return I.MALFORMED, error.reply
        self.ask = ask
        if ask.refusal is not None:
            return I.REFUSED, ask.refusal
        refusal = self.terms.refuse(ask.offer)
        if refusal is not None:
            return I.REFUSED, refusal
        offer = ask.offer
        if offer.method is Method.ERC7710:  # simulated as the account that will redeem it
            offer = replace(offer, facilitator=self.terms.accounts[offer.network])
        checked = check(stamped(ask.payment.permit, offer, now), offer, self.terms.wallets)
        if isinstance(checked, Refusal):
            return I.REFUSED, checked
        return (I.SETTLE if ask.settle else I.VERIFY), checked

    def on_recalled(self, record: SettlementRecord | None, _now: Millis) -> tuple[FacilitatorInput, object]:
        """The journal says what it knows of this permit."""
        if record is None:
            return I.NEW, None
        if not self._same(record):
            return I.REFUSED, Refusal(Reason.PAYMENT_SPENT, "this permit was settled for another payment")
        ended = isinstance(record.outcome, Settled) or (isinstance(record.outcome, Unsettled) and record.outcome.final)
        return (I.STORED, record.outcome) if ended else (I.OPEN, record.key)

    def _same(self, record: SettlementRecord) -> bool:
        """Say whether a stored settlement is the one asked for: a permit alone does not say whom it pays, or how much.

        Nor does its nonce say who asks: a signature that only the chain could judge must be the one that was judged.
        """
        assert self.ask is not None
        ours, asked = record.permit.signature, self._checked.permit.signature
        if self._checked.by is not SignedBy.KEY and inner(ours) != inner(asked):
            return False
        return same_payment(record.offer, replace(self.ask.offer, amount=self._charge))

    @property
    def _charge(self) -> Amount:
        assert self.ask is not None
        return self.ask.offer.amount if self.ask.charge is None else self.ask.charge

    def on_admitted(self, within: bool, _now: Millis) -> tuple[FacilitatorInput, object]:
        """The payer's quota was looked at."""
        if not within:
            return I.REFUSED, Refusal(Reason.QUOTA, "too many settlements of this payer's")
        return I.ADMITTED, self.proof

    def on_judged(self, verdict: Verified | Refusal, _now: Millis) -> tuple[FacilitatorInput, object]:
        """The judge has spoken; a permit it finds used may have been used here, a moment ago."""
        assert self.ask is not None
        if isinstance(verdict, Refusal):
            used = verdict.reason is Reason.NONCE_USED and self.ask.settle
            return (I.USED if used else I.REFUSED), verdict
        if not self.ask.settle:
            return I.VERIFIED, verdict
        if self._charge == 0 and self.ask.offer.scheme == UPTO:
            return I.VERIFIED_FREE, None
        less = charge(verdict, self._charge)
        return (I.REFUSED if isinstance(less, Refusal) else I.VERIFIED), less

    def on_settlement(self, settlement: Settlement, _now: Millis) -> tuple[FacilitatorInput, object]:
        """The settler has answered; money under way without a transaction to show is not something to speak of yet."""
        assert self.ask is not None
        match settlement:
            case Settled():
                return (I.SETTLED if self.ask.entry is None else I.SETTLED_LISTED), settlement
            case Pending():
                return (I.PENDING if settlement.transactions else I.UNKNOWN), settlement
            case Unsettled(reason=Reason.UNAVAILABLE):
                return I.UNKNOWN, None
            case Unsettled(final=True):
                return I.UNSETTLED, settlement
            case Unsettled():  # a transaction failed, the permit may still be executed: to be asked again
                return (I.PENDING if settlement.transactions else I.UNKNOWN), settlement

    # -------------------------------------------------------------------------------------------------------- actions

    @property
    def _asked(self) -> wire.Ask:
        assert self.ask is not None
        return self.ask

    @property
    def _checked(self) -> Checked:
        assert self.checked is not None
        return self.checked

    def do_answer(self, reply: Reply, _now: Millis) -> Commands:
        """Answer bytes that are no request."""
        return (Respond(reply),)

    def do_refuse(self, why: Refusal, _now: Millis) -> Commands:
        """Answer what the payment was refused for."""
        return (Respond(wire.encode_refusal(self._asked, why)),)

    def do_refuse_used(self, _data: None, now: Millis) -> Commands:
        """Refuse a permit that was used, and not here."""
        assert self.used is not None
        return self.do_refuse(self.used, now)

    def do_verify(self, checked: Checked | None, _now: Millis) -> Commands:
        """Have the payment judged against the chain."""
        self.checked = checked or self.checked
        return (VerifyPayment(self._checked),)

    def do_valid(self, _proof: Verified, _now: Millis) -> Commands:
        """Answer that the payment would settle."""
        return (Respond(wire.encode_valid(self._asked)),)

    def do_unavailable(self, _why: object, _now: Millis) -> Commands:
        """Answer 503: ask again, nothing is done twice."""
        return (Respond(answers.unavailable()),)

    def do_recall(self, checked: Checked, _now: Millis) -> Commands:
        """Ask the journal before anything else."""
        self.checked = checked
        return (RecallSettlement(checked.permit.key),)

    def do_recall_used(self, why: Refusal, _now: Millis) -> Commands:
        """Ask the journal once more: a request that raced with this one may have settled the payment meanwhile."""
        self.used = why
        return (RecallSettlement(self._checked.permit.key),)

    def do_admit(self, proof: Verified, _now: Millis) -> Commands:
        """Count this settlement against its payer's quota, and a wallet's deployment where it is still to be made.

        Whose delegation it is only its manager's contract says, about an account that may be anything: that one is counted.
        """
        self.proof = proof
        permit = proof.permit
        deploys = self._checked.by is SignedBy.UNDEPLOYED and permit.signature == self._checked.permit.signature
        counted = permit.manager if isinstance(permit, Erc7710Permit) else permit.payer
        return (AdmitPayer(counted, permit.network, permit.key, deploys),)

    def do_settle(self, proof: Verified, _now: Millis) -> Commands:
        """Move the money."""
        return (SettlePayment(proof, wire.attribution(self._asked, self.terms.code, self.terms.service)),)

    def do_await(self, key: str, _now: Millis) -> Commands:
        """Wait for a settlement that is under way."""
        return (AwaitSettlement(key),)

    def do_charge_nothing(self, _data: None, _now: Millis) -> Commands:
        """Answer success without a transaction: nothing is to be charged (x402.md 2.4)."""
        return (Respond(wire.encode_settled(self._asked, answers.nothing(self._checked.permit))),)

    def do_tell(self, settlement: Settlement, _now: Millis) -> Commands:
        """Answer what became, or is becoming, of the money; one payment told again lists nothing more."""
        return (Respond(self._told(settlement, replace(self._asked, entry=None))),)

    def do_list(self, settlement: Settled, now: Millis) -> Commands:
        """As ``do_tell``, and list what was bought in the catalog."""
        assert self._asked.entry is not None
        entry = replace(self._asked.entry, last_updated=now)
        return (CatalogResource(entry), Respond(self._told(settlement, self._asked)))

    def _told(self, settlement: Settlement, ask: wire.Ask) -> Reply:
        permit = self._checked.permit
        match settlement:
            case Settled():
                receipt = answers.receipt(permit, settlement)
            case Pending() | Unsettled(final=False):
                receipt = answers.failed_receipt(permit, Reason.SETTLEMENT_PENDING, settlement.transactions)
            case Unsettled():
                receipt = answers.failed_receipt(permit, settlement.reason, settlement.transactions)
        return wire.encode_settled(ask, receipt)
