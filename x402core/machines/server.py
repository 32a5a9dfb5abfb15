"""The seller's side of one request for a priced resource.

Theory of operation.  A request brings a permit (x402 v2 or v1), an access token (permit-token flow), a signature of somebody
who has paid before (``sign-in-with-x``), or nothing.  A permit is checked without chain or clock first (``payments.py``); then
the ledger is asked whether this very payment was seen before; only a new one costs a chain read and is judged; then it is
claimed; then served and settled in the order the offer says.

Rules:

* A handler runs for money only after the claim is taken; a settlement starts only with a ``Verified``.
* A claim taken is closed exactly once: released when money definitely did not move, committed when it did, kept otherwise.
* The same permit for the same request gets the same answer and receipt, even if the price has changed meanwhile; for another
  request it is refused.
* Of an ``upto`` permit the handler says how much is charged; nothing charged is nothing settled, and the permit is spent.
* Whatever is our trouble is 503, and the payer may present the same permit again.

Invariants are data: ``tests/test_tables.py`` walks every path.  Not its business: matching requests to prices (the binding
gates the endpoint), bodies, the token endpoint (``token.py``), moving money (``settlement.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from x402core.access import TokenClaims, check_token
from x402core.commands import (
    HANDLER_RESPONSE,
    CheckPayment,
    CheckSignIn,
    ClaimPayment,
    Command,
    CommitClaim,
    InvokeHandler,
    KeepClaim,
    RecallPayment,
    ReleaseClaim,
    ReportRefundDue,
    Respond,
    SettlePayment,
    StreamResponse,
    VerifyPayment,
)
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError, Reply, problem
from x402core.events import (
    Dialect,
    Failed,
    HandlerHead,
    Headers,
    Payer,
    Pending,
    Permit,
    Receipt,
    RequestHead,
    Settled,
    Settlement,
    SettleMode,
    Unsettled,
)
from x402core.ledger import Claim, ClaimStatus, Grant, PaymentState, SignedIn
from x402core.policy import Terms
from x402core.schemes.judge import Checked, Verified, charge
from x402core.schemes.scheme import UPTO
from x402core.values import Amount, Millis
from x402core.wire import http, overrides
from x402core.wire.headers import parse_bearer, single

from . import answers
from .answers import LEASE_MARGIN
from .machine import Commands, Input, Machine, Row, Trace
from .payments import Arrived, arrived, fingerprint
from .server_table import SERVER_TABLE, ServerInput, ServerState
from .sign_in import SIGN_IN, advertised, asked_to_sign_in, granted

__all__ = ["LEASE_MARGIN", "ServerExchange", "ServerInput", "ServerState", "fingerprint"]

_UNPAID: Final = Refusal(Reason.PAYMENT_REQUIRED)
_TOKENLESS: Final = Refusal(Reason.TOKEN_MISSING)


S, I = ServerState, ServerInput  # noqa: E741


class ServerExchange(Machine[ServerState, ServerInput]):
    """One request for a priced resource.  ``entropy``: 16 or more random bytes that name this exchange as a claim's owner."""

    __slots__ = ("arrival", "checked", "claims", "owner", "proof", "request", "settled", "signed_in", "terms", "used")

    TABLE: ClassVar[tuple[Row, ...]] = SERVER_TABLE
    START = S.IDLE
    ENDS = frozenset({S.DONE})
    CANCEL = I.CANCEL
    BEGINS: ClassVar[Mapping[type, str]] = {RequestHead: "on_request"}
    ANSWERS: ClassVar[Mapping[type[Command[Any]], str]] = {
        CheckPayment: "on_payment_state",
        CheckSignIn: "on_signed_in",
        RecallPayment: "on_recalled",
        VerifyPayment: "on_judged",
        ClaimPayment: "on_claim",
        InvokeHandler: "on_handled",
        StreamResponse: "on_streamed",
        SettlePayment: "on_settlement",
    }
    FAILURES: ClassVar[Mapping[type[Command[Any]], Input]] = {
        CheckPayment: I.FAILED,
        CheckSignIn: I.FAILED,
        RecallPayment: I.FAILED,
        VerifyPayment: I.FAILED,
        ClaimPayment: I.FAILED,
        InvokeHandler: I.HANDLER_RAISED,
        StreamResponse: I.STREAM_BROKE,
        SettlePayment: I.SETTLE_UNKNOWN,
    }

    def __init__(self, terms: Terms, *, entropy: bytes, trace: Trace | None = None) -> None:
        super().__init__(trace=trace)
        if len(entropy) < 16:
            raise LocalProtocolError("needs at least 16 random bytes", field="entropy")
        self.terms = terms
        self.owner = entropy.hex()
        self.request = ""
        self.claims: TokenClaims | None = None
        self.signed_in: CheckSignIn | None = None
        self.arrival: Arrived | None = None
        self.checked: Checked | None = None
        self.proof: Verified | None = None
        self.settled: Settled | None = None
        self.used: Refusal | None = None

    # ------------------------------------------------------------------------------------------------------- classify

    def on_request(self, head: RequestHead, now: Millis) -> tuple[ServerInput, object]:
        """A request arrived: with a permit, with a token, with a sign-in, or with none of them."""
        if not http.carries_anything(head.headers):  # most have nothing, and are not searched four times
            return I.UNPAID, _UNPAID if self.terms.token is None else _TOKENLESS
        try:
            found = arrived(head, self.terms, now)
            if found is not None:
                return self._found(found)
            asked = asked_to_sign_in(head.headers, self.terms, now)
            authorization = single(head.headers, "Authorization")
        except RemoteProtocolError as error:
            return I.MALFORMED, error.reply
        if asked is not None:
            return I.SIGN_IN, asked
        if self.terms.token is None:
            return I.UNPAID, _UNPAID
        if authorization is None:
            return I.UNPAID, _TOKENLESS
        token = parse_bearer(authorization)
        if token is None:
            return I.TOKEN_INVALID, Refusal(Reason.TOKEN_HEADER)
        terms = self.terms.token
        claims = check_token(token, terms.ring, now=now, audience=terms.audience, scope=terms.scope)
        return (I.TOKEN_INVALID, claims) if isinstance(claims, Refusal) else (I.TOKEN, claims)

    @staticmethod
    def _found(found: Arrived | Refusal) -> tuple[ServerInput, object]:
        if isinstance(found, Arrived):
            return I.PAYMENT, found
        return (I.UNMATCHED if found.reason is Reason.NO_MATCH else I.REFUSED), found

    def on_signed_in(self, answer: SignedIn, _now: Millis) -> tuple[ServerInput, object]:
        """The ledger says whether whoever signed in has paid before; if not, the payment path goes on, without a word."""
        return (I.SIGNED_IN, None) if answer is SignedIn.GRANTED else (I.UNPAID, _UNPAID)

    def on_payment_state(self, state: PaymentState, _now: Millis) -> tuple[ServerInput, object]:
        """The ledger says whether the payment behind a token stands; one it has never heard of does not."""
        return (I.TOKEN_LIVE, None) if state is PaymentState.GOOD else (I.TOKEN_REVOKED, Refusal(Reason.TOKEN_REVOKED))

    def on_recalled(self, claim: Claim, _now: Millis) -> tuple[ServerInput, object]:
        """The ledger says what it knows of this payment; one for a price of yesterday is known, or it is no match."""
        if claim.status is not ClaimStatus.TAKEN:
            return _CLAIMS[claim.status](claim)
        assert self.arrival is not None
        stale = self.arrival.stale
        return (I.UNMATCHED, stale) if stale is not None else (I.NEW, None)

    def on_judged(self, verdict: Verified | Refusal, _now: Millis) -> tuple[ServerInput, object]:
        """The judge has spoken; a permit it finds used may have been used by this very request, a moment ago."""
        if isinstance(verdict, Refusal):
            return (I.USED if verdict.reason is Reason.NONCE_USED else I.REFUSED), verdict
        return I.VERIFIED, verdict

    def on_claim(self, claim: Claim, _now: Millis) -> tuple[ServerInput, object]:
        """The ledger has decided the claim."""
        if claim.status is not ClaimStatus.TAKEN:
            return _CLAIMS[claim.status](claim)
        if self.proof is None:  # the row we recalled is gone: without a verdict there is nothing to serve on
            return I.FAILED, None
        before = self.proof.offer.settle is SettleMode.BEFORE
        return (I.TAKEN_SETTLE_FIRST if before else I.TAKEN_SERVE_FIRST), None

    def on_handled(self, head: HandlerHead, _now: Millis) -> tuple[ServerInput, object]:
        """The handler has answered; from 400 up it failed, and is not charged for where that can still be helped."""
        if head.status >= 400:
            return I.HANDLER_FAILED, head
        if self.state in (S.SERVING_SETTLED, S.SERVING_AGAIN):
            return (I.HANDLER_OK if head.held else I.HANDLER_STREAMS), head
        if self.state is not S.SERVING_PAID:
            return I.HANDLER_OK, head
        assert self.proof is not None
        try:
            amount = overrides.charged(head.overrides, self.proof.offer)
        except LocalProtocolError:  # the handler's own mistake: charging all would be another
            return I.HANDLER_MISCHARGED, None
        if amount == 0 and self.proof.offer.scheme == UPTO:
            return I.HANDLER_OK_FREE, head
        less = charge(self.proof, amount)
        return (I.HANDLER_MISCHARGED, None) if isinstance(less, Refusal) else (I.HANDLER_OK, less)

    def on_streamed(self, _answer: None, _now: Millis) -> tuple[ServerInput, object]:
        """The handler's stream was sent to its end, or its payer has left."""
        return I.STREAM_ENDED, None

    def on_settlement(self, settlement: Settlement, _now: Millis) -> tuple[ServerInput, object]:
        """The settler has answered."""
        match settlement:
            case Settled():
                return I.SETTLED, settlement
            case Pending():
                return I.SETTLE_PENDING, settlement.transactions
            case Unsettled(final=True, transactions=()):
                ours = settlement.reason is Reason.UNAVAILABLE
                return (I.SETTLE_UNAVAILABLE if ours else I.SETTLE_REFUSED), settlement
            case Unsettled():
                unknown = not settlement.transactions
                return (I.SETTLE_UNKNOWN if unknown else I.SETTLE_FAILED), settlement

    # -------------------------------------------------------------------------------------------------------- actions

    @property
    def permit(self) -> Permit:
        """The permit of this exchange, once one was checked."""
        assert self.checked is not None
        return self.checked.permit

    def do_refuse(self, why: Refusal, now: Millis) -> Commands:
        """Answer 402 with the reason."""
        return (Respond(self._refused(why, now)),)

    def _refused(self, why: Refusal, now: Millis, add: Headers = ()) -> Reply:
        return answers.refused(self.terms, why, add, advertised(self.terms, bytes.fromhex(self.owner), now))

    def do_answer(self, reply: Reply, _now: Millis) -> Commands:
        """Answer what the error carries."""
        return (Respond(reply),)

    def do_check_token(self, claims: TokenClaims, _now: Millis) -> Commands:
        """Ask whether the payment behind the token still stands."""
        self.claims = claims
        return (CheckPayment(claims.payment),)

    def do_serve_token(self, _data: None, _now: Millis) -> Commands:
        """Serve a token's holder; nothing is settled, so nothing is held."""
        assert self.claims is not None
        return (InvokeHandler(self._token_payer(self.claims), hold=False),)

    def _token_payer(self, claims: TokenClaims) -> Payer:
        ways = [offer for offer in self.terms.offers if offer.dialect is Dialect.PERMIT_TOKEN]
        bought = [offer for offer in ways if claims.payment.startswith(f"{offer.method}/{offer.network}/{offer.asset}/")]
        bought = bought or [offer for offer in ways if claims.payment.startswith(f"{offer.method}/{offer.network}/")]
        offer = (bought or ways)[0]
        return Payer(claims.payer, offer.amount, offer.asset, claims.network, claims.payment)

    def do_unavailable(self, _why: Failed, _now: Millis) -> Commands:
        """Answer 503: nothing was claimed."""
        return (Respond(answers.unavailable()),)

    def do_respond_private(self, _head: HandlerHead, _now: Millis) -> Commands:
        """Send what the handler gave."""
        return (Respond(None, answers.PRIVATE),)

    def do_broken(self, _why: Failed, _now: Millis) -> Commands:
        """Answer 500 for a handler that raised."""
        return (Respond(_broken()),)

    def do_check_sign_in(self, asked: CheckSignIn, _now: Millis) -> Commands:
        """Ask the ledger whether whoever signed in has paid for this before."""
        self.signed_in = asked
        return (asked,)

    def do_serve_signed_in(self, _data: None, _now: Millis) -> Commands:
        """Serve somebody who has paid before; nothing is settled, so nothing is held."""
        assert self.signed_in is not None
        offer = self.terms.offers[0]
        payer = Payer(self.signed_in.payer, Amount(0), offer.asset, offer.network, f"{SIGN_IN}/{self.signed_in.nonce}")
        return (InvokeHandler(payer, hold=False),)

    def do_recall(self, found: Arrived, _now: Millis) -> Commands:
        """Ask the ledger before the chain."""
        self.arrival, self.checked, self.request = found, found.checked, found.request
        return (self._recall(),)

    def _recall(self) -> RecallPayment:
        assert self.arrival is not None
        return RecallPayment(self.permit.key, self.request, self.arrival.identifier)

    def do_conflict(self, _claim: Claim, _now: Millis) -> Commands:
        """Answer 409: the payer gave this identifier to another payment (x402.md 3.5)."""
        return (Respond(answers.conflict()),)

    def do_verify(self, _data: None, _now: Millis) -> Commands:
        """Have the payment judged against the chain."""
        assert self.arrival is not None
        return (VerifyPayment(self.arrival.checked, self.arrival.note),)

    def do_recall_used(self, why: Refusal, _now: Millis) -> Commands:
        """Ask the ledger once more: an exchange that raced with this one may have settled the payment meanwhile."""
        self.used = why
        return (self._recall(),)

    def do_refuse_used(self, _data: None, now: Millis) -> Commands:
        """Refuse a permit that was used, and not here."""
        assert self.used is not None
        return (Respond(self._refused(self.used, now)),)

    def do_claim(self, _claim: Claim | None, now: Millis) -> Commands:
        """Claim a payment that was settled but whose answer was never kept; there is nothing left to judge."""
        assert self.arrival is not None
        until = Millis(max(self.permit.expires * 1000, now) + LEASE_MARGIN)
        return (ClaimPayment(self.permit.key, self.request, self.owner, until, self.arrival.identifier),)

    def do_claim_verified(self, proof: Verified, now: Millis) -> Commands:
        """Claim a payment the judge let pass."""
        self.proof = proof
        return self.do_claim(None, now)

    def do_serve_first(self, _data: None, _now: Millis) -> Commands:
        """Run the handler and hold its response: nothing leaves before the money has moved."""
        return (InvokeHandler(answers.context(self.permit), hold=True, owner=self.owner),)

    def do_settle(self, _data: None, _now: Millis) -> Commands:
        """Move the money before anything is served."""
        assert self.proof is not None
        assert self.arrival is not None
        return (SettlePayment(self.proof, note=self.arrival.note),)

    def do_settle_served(self, proof: Verified, _now: Millis) -> Commands:
        """Move the money for a response that is held: what the handler said of an ``upto`` permit, else all of it."""
        assert self.arrival is not None
        self.proof = proof
        return (SettlePayment(proof, note=self.arrival.note),)

    def do_commit_free(self, _head: HandlerHead, _now: Millis) -> Commands:
        """Close the claim of an ``upto`` permit nothing is charged of, and let the held response go."""
        commit = CommitClaim(self.permit.key, self.owner, None, HANDLER_RESPONSE)
        return (commit, Respond(None, self._receipt(None)))

    def do_serve_after_settling(self, settled: Settled, _now: Millis) -> Commands:
        """Run the handler for money that has moved."""
        self.settled = settled
        return (InvokeHandler(answers.context(self.permit, settled), hold=False, owner=self.owner),)

    def do_serve_settled(self, claim: Claim, _now: Millis) -> Commands:
        """Run the handler for a payment settled earlier, by this very request, and never answered."""
        self.settled = claim.settled
        return (InvokeHandler(answers.context(self.permit, claim.settled), hold=False, owner=self.owner),)

    def do_answer_again(self, claim: Claim, _now: Millis) -> Commands:
        """Give the same answer and receipt once more."""
        assert claim.reply is not None
        add = self._receipt(claim.settled)
        reply = Reply(claim.reply.status, (*claim.reply.headers, *add), claim.reply.body)
        return (Respond(reply, attest=self._attest(claim.settled)),)

    def do_busy(self, _claim: Claim, _now: Millis) -> Commands:
        """Answer 409: another exchange is at work on this payment."""
        return (Respond(answers.busy()),)

    def do_pending(self, claim: Claim, _now: Millis) -> Commands:
        """Answer 503: the money is under way."""
        return (Respond(answers.pending(self.permit, claim.transactions, self._dialect)),)

    def do_release(self, _data: None, _now: Millis) -> Commands:
        """Give the claim up: no money moved."""
        return (self._release(),)

    def do_release_unavailable(self, _why: object, _now: Millis) -> Commands:
        """Give the claim up (ours, if it was taken at all) and answer 503."""
        return (self._release(), Respond(answers.unavailable()))

    def do_release_respond(self, _head: HandlerHead, _now: Millis) -> Commands:
        """Give the claim up and pass the failed handler's response on: it is not charged for."""
        return (self._release(), Respond(None, answers.PRIVATE))

    def do_release_broken(self, _why: Failed, _now: Millis) -> Commands:
        """Give the claim up for a handler that raised."""
        return (self._release(), Respond(_broken()))

    def do_release_refuse(self, why: Unsettled, now: Millis) -> Commands:
        """Give the claim up: the settlement was refused before anything was sent."""
        return (self._release(), Respond(self._unsettled(why, now)))

    def do_commit_respond(self, settled: Settled, _now: Millis) -> Commands:
        """Close the claim as paid, keeping the held response, and let it go with its receipt."""
        commit = CommitClaim(self.permit.key, self.owner, settled, HANDLER_RESPONSE, self._grant)
        return (commit, Respond(None, self._receipt(settled), self._attest(settled)))

    def do_commit_served(self, _head: HandlerHead, _now: Millis) -> Commands:
        """Close the claim as paid and served, keeping the response that was held."""
        commit = CommitClaim(self.permit.key, self.owner, self.settled, HANDLER_RESPONSE, self._grant)
        return (commit, Respond(None, self._receipt(self.settled), self._attest(self.settled)))

    def do_stream(self, _head: HandlerHead, _now: Millis) -> Commands:
        """Let a response go as it comes; the claim stays ours until it has ended."""
        return (StreamResponse(self._receipt(self.settled), self._attest(self.settled)),)

    def do_commit_streamed(self, _data: None, _now: Millis) -> Commands:
        """Close the claim as paid and served; nothing was held that could be kept."""
        return (CommitClaim(self.permit.key, self.owner, self.settled, None, self._grant),)

    def do_keep(self, _data: None, _now: Millis) -> Commands:
        """Leave the claim to the journal."""
        return (KeepClaim(self.permit.key, self.owner, grant=self._grant),)

    def do_keep_refuse(self, why: Unsettled, now: Millis) -> Commands:
        """Leave the claim to the journal: our transaction failed, but the permit could still be executed."""
        return (KeepClaim(self.permit.key, self.owner, grant=self._grant), Respond(self._unsettled(why, now)))

    def do_keep_pending(self, transactions: tuple[Any, ...], _now: Millis) -> Commands:
        """Leave the claim to the journal and answer 503."""
        return (*self.do_keep(None, _now), Respond(answers.pending(self.permit, transactions, self._dialect)))

    def do_keep_unavailable(self, _why: object, _now: Millis) -> Commands:
        """Leave the claim to the journal: nothing is known about the money."""
        return (KeepClaim(self.permit.key, self.owner, grant=self._grant), Respond(answers.unavailable()))

    def do_keep_served(self, _data: None, _now: Millis) -> Commands:
        """Leave the claim to the journal, with the held response for when the money has arrived."""
        return (KeepClaim(self.permit.key, self.owner, HANDLER_RESPONSE, grant=self._grant),)

    def do_keep_served_refuse(self, why: Unsettled, now: Millis) -> Commands:
        """As ``do_keep_refuse``, with the held response."""
        return (*self.do_keep_served(None, now), Respond(self._unsettled(why, now)))

    def do_keep_served_pending(self, transactions: tuple[Any, ...], _now: Millis) -> Commands:
        """As ``do_keep_pending``, with the held response."""
        return (*self.do_keep_served(None, _now), Respond(answers.pending(self.permit, transactions, self._dialect)))

    def do_keep_served_unavailable(self, _why: object, _now: Millis) -> Commands:
        """As ``do_keep_unavailable``, with the held response."""
        return (*self.do_keep_served(None, _now), Respond(answers.unavailable()))

    def do_refund(self, _data: None, _now: Millis) -> Commands:
        """Leave a paid and unserved claim open, so that the same permit can still be served, and tell the seller."""
        keep = KeepClaim(self.permit.key, self.owner, settled=self.settled, grant=self._grant)
        return (keep, ReportRefundDue(self.permit.key, self.permit.payer))

    def do_refund_respond(self, _head: HandlerHead, now: Millis) -> Commands:
        """As ``do_refund``, passing the failed handler's response on with the receipt."""
        return (*self.do_refund(None, now), Respond(None, self._receipt(self.settled)))

    def do_refund_broken(self, _why: Failed, now: Millis) -> Commands:
        """As ``do_refund``, for a handler that raised."""
        return (*self.do_refund(None, now), self._broken_paid())

    def _broken_paid(self) -> Respond:
        broken = _broken()
        return Respond(Reply(broken.status, (*broken.headers, *self._receipt(self.settled)), broken.body))

    def _release(self) -> ReleaseClaim:
        return ReleaseClaim(self.permit.key, self.owner)

    @property
    def _grant(self) -> Grant | None:
        """What this payment lets its payer come back for, by signing in."""
        assert self.checked is not None
        return granted(self.terms, self.checked)

    def _receipt(self, settled: Settled | None) -> Headers:
        assert self.arrival is not None
        if settled is not None:
            return (*answers.PRIVATE, *answers.receipt_header(answers.receipt(self.permit, settled), self._dialect))
        if self.arrival.checked.offer.scheme == UPTO:  # nothing was charged
            return (*answers.PRIVATE, *answers.receipt_header(answers.nothing(self.permit), self._dialect))
        return answers.PRIVATE

    def _attest(self, settled: Settled | None) -> Receipt | None:
        """Return the receipt to be signed, where there is one and v2 has a place for its signature."""
        spoken = settled is not None and self._dialect.dialect is Dialect.V2
        return answers.receipt(self.permit, settled) if spoken and settled is not None else None

    @property
    def _dialect(self) -> answers.Spoken:
        assert self.arrival is not None
        return answers.Spoken(self.arrival.dialect, self.terms.registry)

    def _unsettled(self, why: Unsettled, now: Millis) -> Reply:
        proof = answers.receipt_header(answers.failed_receipt(self.permit, why.reason, why.transactions), self._dialect)
        return self._refused(Refusal(why.reason), now, proof)


_CLAIMS: Mapping[ClaimStatus, Callable[[Claim], tuple[ServerInput, object]]] = {
    ClaimStatus.UNSERVED: lambda claim: (I.UNSERVED, claim),
    ClaimStatus.HELD: lambda claim: (I.HELD, claim),
    ClaimStatus.PENDING: lambda claim: (I.PENDING, claim),
    ClaimStatus.ANSWERED: lambda claim: (I.ANSWERED, claim),
    ClaimStatus.CONFLICT: lambda claim: (I.CONFLICT, claim),
    ClaimStatus.VOID: lambda _claim: (I.VOID, Refusal(Reason.INVALID_TRANSACTION_STATE, "this payment ended without money")),
    ClaimStatus.SERVED: lambda _claim: (I.SPENT, answers.SERVED),
    ClaimStatus.REFUNDED: lambda _claim: (I.SPENT, answers.REFUNDED),
    ClaimStatus.SPENT: lambda _claim: (I.SPENT, Refusal(Reason.PAYMENT_SPENT)),
}


def _broken() -> Reply:
    return problem(500, "The server failed to answer.", reason=Reason.UNAVAILABLE)
