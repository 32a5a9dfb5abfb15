"""The seller's token endpoint: a permit in, an access token out, the settlement journaled before the token exists.

Theory of operation.  The permit-token flow's promise is that the payer never waits for the chain.  So the money is not moved
here: the permit is checked, recalled, judged and claimed as in ``server.py``; then the *intent* is journaled; only then is a
token minted.  A worker settles what is journaled.  When a settlement ends void, tokens of that payment stop working.

Rules: a token exists only after its intent is stored (defect A2).  One permit gives one token: presented again it gives the
same one.  What one payer may owe is bounded (``TokenTerms.most_open``), and whoever is over it is refused before a token.

Replies keep the words x402-mock's clients expect.  Not its business: which scope is sold (the binding picks the terms).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import auto
from typing import Any, ClassVar

from x402core.access import TokenClaims, mint
from x402core.commands import (
    ClaimPayment,
    Command,
    CommitClaim,
    KeepClaim,
    RecallPayment,
    RecordIntent,
    ReleaseClaim,
    Respond,
    VerifyPayment,
)
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError, Reply
from x402core.events import Dialect, Failed, Permit, Token, TokenRequest
from x402core.ledger import Claim, ClaimStatus, Stored
from x402core.policy import Terms
from x402core.schemes.judge import Checked, Verified, check
from x402core.values import Millis, Seconds, seconds
from x402core.wire import permit_token

from . import answers
from .answers import LEASE_MARGIN
from .machine import Commands, Input, Machine, Row, State, Trace

__all__ = ["LEASE_MARGIN", "TokenExchange", "TokenInput", "TokenState"]


class TokenState(State):
    """Where a token request stands."""

    IDLE = auto()
    RECALLING = auto()
    VERIFYING = auto()
    RECALLING_USED = auto()
    CLAIMING = auto()
    RECORDING = auto()
    DONE = auto()


class TokenInput(Input):
    """What happened, named by outcome."""

    MALFORMED = auto()
    UNMATCHED = auto()
    REFUSED = auto()
    PERMIT = auto()
    NEW = auto()
    ANSWERED = auto()
    HELD = auto()
    PENDING = auto()
    SPENT = auto()
    VOID = auto()
    UNSERVED = auto()
    VERIFIED = auto()
    USED = auto()
    TAKEN = auto()
    STORED = auto()
    OVER_EXPOSURE = auto()
    CONFLICT = auto()
    FAILED = auto()
    CANCEL = auto()


S, I = TokenState, TokenInput  # noqa: E741


class TokenExchange(Machine[TokenState, TokenInput]):
    """One POST to the token endpoint.  ``entropy``: 32 random bytes; they name the claim's owner and the token's nonce."""

    __slots__ = ("checked", "entropy", "owner", "proof", "request", "terms", "used")

    TABLE: ClassVar[tuple[Row, ...]] = (
        Row(S.IDLE, I.MALFORMED, S.DONE, "do_answer", (Respond,)),
        Row(S.IDLE, I.UNMATCHED, S.DONE, "do_refuse", (Respond,)),
        Row(S.IDLE, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
        Row(S.IDLE, I.PERMIT, S.RECALLING, "do_recall", (RecallPayment,)),
        Row(S.RECALLING, I.NEW, S.VERIFYING, "do_verify", (VerifyPayment,)),
        Row(S.RECALLING, I.UNSERVED, S.CLAIMING, "do_claim_settled", (ClaimPayment,)),
        Row(S.RECALLING, I.ANSWERED, S.DONE, "do_answer_again", (Respond,)),
        Row(S.RECALLING, I.HELD, S.DONE, "do_busy", (Respond,)),
        Row(S.RECALLING, I.PENDING, S.DONE, "do_pending", (Respond,)),
        Row(S.RECALLING, I.SPENT, S.DONE, "do_refuse", (Respond,)),
        Row(S.RECALLING, I.VOID, S.DONE, "do_refuse", (Respond,)),
        Row(S.RECALLING, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
        Row(S.RECALLING, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.VERIFYING, I.VERIFIED, S.CLAIMING, "do_claim", (ClaimPayment,)),
        Row(S.VERIFYING, I.USED, S.RECALLING_USED, "do_recall_used", (RecallPayment,)),
        Row(S.VERIFYING, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
        Row(S.VERIFYING, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
        Row(S.VERIFYING, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.RECALLING_USED, I.NEW, S.DONE, "do_refuse_used", (Respond,)),
        Row(S.RECALLING_USED, I.UNSERVED, S.CLAIMING, "do_claim_settled", (ClaimPayment,)),
        Row(S.RECALLING_USED, I.ANSWERED, S.DONE, "do_answer_again", (Respond,)),
        Row(S.RECALLING_USED, I.HELD, S.DONE, "do_busy", (Respond,)),
        Row(S.RECALLING_USED, I.PENDING, S.DONE, "do_pending", (Respond,)),
        Row(S.RECALLING_USED, I.SPENT, S.DONE, "do_refuse", (Respond,)),
        Row(S.RECALLING_USED, I.VOID, S.DONE, "do_refuse", (Respond,)),
        Row(S.RECALLING_USED, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
        Row(S.RECALLING_USED, I.CANCEL, S.DONE, "do_nothing"),
        Row(S.CLAIMING, I.TAKEN, S.RECORDING, "do_record", (RecordIntent,)),
        Row(S.CLAIMING, I.UNSERVED, S.DONE, "do_mint", (CommitClaim, Respond)),
        Row(S.CLAIMING, I.ANSWERED, S.DONE, "do_answer_again", (Respond,)),
        Row(S.CLAIMING, I.HELD, S.DONE, "do_busy", (Respond,)),
        Row(S.CLAIMING, I.PENDING, S.DONE, "do_pending", (Respond,)),
        Row(S.CLAIMING, I.SPENT, S.DONE, "do_refuse", (Respond,)),
        Row(S.CLAIMING, I.VOID, S.DONE, "do_refuse", (Respond,)),
        Row(S.CLAIMING, I.FAILED, S.DONE, "do_release_unavailable", (ReleaseClaim, Respond)),
        Row(S.CLAIMING, I.CANCEL, S.DONE, "do_release", (ReleaseClaim,)),
        Row(S.RECORDING, I.STORED, S.DONE, "do_mint", (CommitClaim, Respond)),
        Row(S.RECORDING, I.OVER_EXPOSURE, S.DONE, "do_release_refuse", (ReleaseClaim, Respond)),
        Row(S.RECORDING, I.CONFLICT, S.DONE, "do_release_refuse", (ReleaseClaim, Respond)),
        Row(S.RECORDING, I.FAILED, S.DONE, "do_keep_unavailable", (KeepClaim, Respond)),
        Row(S.RECORDING, I.CANCEL, S.DONE, "do_keep", (KeepClaim,)),
    )
    START = S.IDLE
    ENDS = frozenset({S.DONE})
    CANCEL = I.CANCEL
    BEGINS: ClassVar[Mapping[type, str]] = {TokenRequest: "on_request"}
    ANSWERS: ClassVar[Mapping[type[Command[Any]], str]] = {
        RecallPayment: "on_recalled",
        VerifyPayment: "on_judged",
        ClaimPayment: "on_claim",
        RecordIntent: "on_recorded",
    }
    FAILURES: ClassVar[Mapping[type[Command[Any]], Input]] = {
        RecallPayment: I.FAILED,
        VerifyPayment: I.FAILED,
        ClaimPayment: I.FAILED,
        RecordIntent: I.FAILED,
    }

    def __init__(self, terms: Terms, *, entropy: bytes, trace: Trace | None = None) -> None:
        super().__init__(trace=trace)
        if len(entropy) != 32:
            raise LocalProtocolError("needs 32 random bytes", field="entropy")
        if terms.token is None:
            raise LocalProtocolError("these terms sell no tokens", field="terms")
        self.terms = terms
        self.entropy = entropy
        self.owner = entropy[:16].hex()
        self.request = ""
        self.checked: Checked | None = None
        self.proof: Verified | None = None
        self.used: Refusal | None = None

    # ------------------------------------------------------------------------------------------------------- classify

    def on_request(self, event: TokenRequest, _now: Millis) -> tuple[TokenInput, object]:
        """A body was posted.  A claim is bound to its very bytes: a settled permit is public on the chain, they are not."""
        terms = self.terms.token
        assert terms is not None
        self.request = f"token {terms.audience} {terms.scope} {hashlib.sha256(event.body).hexdigest()}"
        try:
            permit = permit_token.decode_token_request(event.body).permit
        except RemoteProtocolError as error:
            return I.MALFORMED, permit_token.encode_refusal(error)
        offers = [offer for offer in self.terms.offers if offer.dialect is Dialect.PERMIT_TOKEN]
        found = [offer for offer in offers if (offer.network, offer.asset) == (permit.network, permit.asset)]
        if not found:
            return I.UNMATCHED, Refusal(Reason.NO_MATCH, "no offer for this token on this chain")
        fitting = [offer for offer in found if offer.method is permit.method]
        checked = check(permit, (fitting or found)[0])
        return (I.REFUSED if isinstance(checked, Refusal) else I.PERMIT), checked

    def on_recalled(self, claim: Claim, _now: Millis) -> tuple[TokenInput, object]:
        """The ledger says what it knows of this permit."""
        return (I.NEW, None) if claim.status is ClaimStatus.TAKEN else _classify(claim)

    def on_judged(self, verdict: Verified | Refusal, _now: Millis) -> tuple[TokenInput, object]:
        """The judge has spoken; a permit it finds used may have been used by this very request, a moment ago."""
        if isinstance(verdict, Refusal):
            return (I.USED if verdict.reason is Reason.NONCE_USED else I.REFUSED), verdict
        return I.VERIFIED, verdict

    def on_claim(self, claim: Claim, _now: Millis) -> tuple[TokenInput, object]:
        """The ledger has decided the claim."""
        if claim.status is not ClaimStatus.TAKEN:
            return _classify(claim)
        return (I.FAILED if self.proof is None else I.TAKEN), None  # recalled as settled, and gone since

    def on_recorded(self, stored: Stored, _now: Millis) -> tuple[TokenInput, object]:
        """The intent is journaled, or refused; a duplicate is this very intent, stored by an exchange that then vanished."""
        if stored is Stored.OVER_EXPOSURE:
            return I.OVER_EXPOSURE, Refusal(Reason.OVER_BUDGET, "too much of this payer's is still unsettled")
        if stored is Stored.CONFLICT:
            return I.CONFLICT, Refusal(Reason.NONCE_USED, "another permit of this payer has the same nonce")
        return I.STORED, None

    # -------------------------------------------------------------------------------------------------------- actions

    def do_answer(self, reply: Reply, _now: Millis) -> Commands:
        """Answer bytes that are no token request."""
        return (Respond(reply),)

    def do_refuse(self, why: Refusal, _now: Millis) -> Commands:
        """Refuse the permit, saying why; no fresh offer: the payer asks the resource for that."""
        return (Respond(permit_token.encode_refusal(why, status=402)),)

    def do_recall(self, checked: Checked, _now: Millis) -> Commands:
        """Ask the ledger before the chain."""
        self.checked = checked
        return (RecallPayment(checked.permit.key, self.request),)

    def do_verify(self, _data: None, _now: Millis) -> Commands:
        """Have the permit judged against the chain."""
        assert self.checked is not None
        return (VerifyPayment(self.checked),)

    def do_recall_used(self, why: Refusal, _now: Millis) -> Commands:
        """Ask the ledger once more: an exchange that raced with this one may have settled the permit meanwhile."""
        self.used = why
        return (RecallPayment(self._permit.key, self.request),)

    def do_refuse_used(self, _data: None, now: Millis) -> Commands:
        """Refuse a permit that was used, and not here."""
        assert self.used is not None
        return self.do_refuse(self.used, now)

    def do_claim(self, proof: Verified, now: Millis) -> Commands:
        """Claim the permit for this scope."""
        self.proof = proof
        return self.do_claim_settled(None, now)

    def do_claim_settled(self, _claim: Claim | None, now: Millis) -> Commands:
        """Claim a permit that was settled for this scope, but whose token was never kept."""
        permit = self._permit
        until = Millis(max(permit.expires * 1000, now) + LEASE_MARGIN)
        return (ClaimPayment(permit.key, self.request, self.owner, until),)

    @property
    def _permit(self) -> Permit:
        assert self.checked is not None
        return self.checked.permit

    def do_record(self, _data: None, _now: Millis) -> Commands:
        """Journal the intent to settle."""
        assert self.proof is not None
        assert self.terms.token is not None
        return (RecordIntent(self.proof, self.terms.token.most_open),)

    def do_mint(self, _data: object, now: Millis) -> Commands:
        """Mint the token, keep the reply for whoever lost it, and answer."""
        assert self.terms.token is not None
        permit, terms = self._permit, self.terms.token
        issued = seconds(now)
        claims = TokenClaims(
            payer=permit.payer,
            network=permit.network,
            payment=permit.key,
            audience=terms.audience,
            scope=terms.scope,
            issued=issued,
            expires=Seconds(issued + terms.lifetime),
            nonce=self.entropy[16:].hex(),
        )
        reply = permit_token.encode_token_reply(Token(mint(claims, terms.ring), claims.expires), issued)
        return (CommitClaim(permit.key, self.owner, None, reply), Respond(reply))

    def do_answer_again(self, claim: Claim, _now: Millis) -> Commands:
        """Give the same token once more."""
        return (Respond(claim.reply),)

    def do_busy(self, _claim: Claim, _now: Millis) -> Commands:
        """Answer 409: another exchange is at work on this permit."""
        return (Respond(answers.busy()),)

    def do_pending(self, claim: Claim, _now: Millis) -> Commands:
        """Answer 503: this permit is being settled, and its token was never kept."""
        return (Respond(answers.pending(self._permit, claim.transactions)),)

    def do_unavailable(self, _why: Failed, _now: Millis) -> Commands:
        """Answer 503: nothing was claimed."""
        return (Respond(answers.unavailable()),)

    def do_release(self, _data: None, _now: Millis) -> Commands:
        """Give the claim up: nothing was journaled."""
        return (self._release(),)

    def do_release_unavailable(self, _why: Failed, _now: Millis) -> Commands:
        """Give the claim up (ours, if it was taken at all) and answer 503."""
        return (self._release(), Respond(answers.unavailable()))

    def do_release_refuse(self, why: Refusal, _now: Millis) -> Commands:
        """Give the claim up and refuse."""
        return (self._release(), Respond(permit_token.encode_refusal(why, status=402)))

    def do_keep(self, _data: object, _now: Millis) -> Commands:
        """Leave the claim to the journal: the intent may or may not be in it."""
        return (KeepClaim(self._permit.key, self.owner),)

    def do_keep_unavailable(self, _why: Failed, now: Millis) -> Commands:
        """As ``do_keep``, and answer 503."""
        return (*self.do_keep(None, now), Respond(answers.unavailable()))

    def _release(self) -> ReleaseClaim:
        return ReleaseClaim(self._permit.key, self.owner)


def _classify(claim: Claim) -> tuple[TokenInput, object]:
    match claim.status:
        case ClaimStatus.ANSWERED:
            return I.ANSWERED, claim
        case ClaimStatus.HELD:
            return I.HELD, claim
        case ClaimStatus.VOID:
            return I.VOID, Refusal(Reason.INVALID_TRANSACTION_STATE, "this payment ended without money")
        case ClaimStatus.SERVED:
            return I.SPENT, answers.SERVED
        case ClaimStatus.REFUNDED:
            return I.SPENT, answers.REFUNDED
        case ClaimStatus.SPENT:
            return I.SPENT, Refusal(Reason.PAYMENT_SPENT)
        case ClaimStatus.UNSERVED:
            return I.UNSERVED, claim
        case _:
            return I.PENDING, claim
