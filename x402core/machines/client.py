"""The payer's side of one exchange: a request, a 402, one permit, the same request again.

Theory of operation.  The caller's request goes out unpaid (or with an access token already held).  A 402 is decoded into a
Challenge; policy chooses an offer, whoever guards the purse approves it, the wallet signs one permit.  In x402 v2 the permit
goes with the request itself; in the permit-token flow it goes to the token endpoint, and the token goes with the request.

Rules:

* One permit per exchange, ever.  A 402 after payment is a refusal, not an invitation.  Where the server asks to wait (409,
  503 with its word that this very payment is pending) the *same* permit is presented again, a bounded number of times.
* The nonce is ``keccak(entropy, origin, offer)``: the same exchange always signs the same authorization.
* Once a permit has left, no outcome but a definite receipt says what became of the money; every other outcome carries
  ``exposed_until``, because anyone who holds the permit can execute it until then.
* A Permit2 permit moves nothing without an allowance: where the chain can be asked and says there is none, the payer signs one
  too if the server will sponsor it (``eip2612GasSponsoring``), and else does not sign at all.
* Money goes to the origin that was asked, over https or to loopback, and the token endpoint must be of that origin too.

Not its business: bodies, redirects (bind below them), budgets across exchanges (``ApprovePayment``), storing tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import auto
from typing import Any, ClassVar, Final
from urllib.parse import urljoin, urlsplit

from x402core.commands import (
    ApprovePayment,
    Command,
    Deliver,
    Outcome,
    OutcomeKind,
    ReadChain,
    SendRequest,
    SendTokenRequest,
    SignMessage,
    SignTypedData,
    StoreToken,
    WakeAt,
)
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import (
    Begin,
    Challenge,
    Dialect,
    Eip2612Permit,
    Erc7710Permit,
    Failed,
    Method,
    Offer,
    Payment,
    Permit,
    Permit2Permit,
    Receipt,
    ResponseHead,
    SponsoredPermit,
    Token,
)
from x402core.evm import digests
from x402core.evm.digests import PERMIT2
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import parse_signature
from x402core.policy import PayerPolicy, choose
from x402core.reads import Allowance, Facts, PermitNonce, Read
from x402core.registry import Registry
from x402core.schemes import of
from x402core.schemes.scheme import UPTO
from x402core.values import Address, Hash32, Millis, Origin, Seconds, chain_id, parse_origin, seconds
from x402core.wire import builder_code, http, identifier, permit_token, sponsoring, v1, v2
from x402core.wire.extensions import merge
from x402core.wire.headers import single

from . import sign_in
from .machine import Commands, Input, Machine, Row, State, Trace

__all__ = ["ClientExchange", "ClientInput", "ClientState"]


class ClientState(State):
    """Where an exchange stands."""

    IDLE = auto()
    SENT = auto()
    CHOOSING = auto()
    READING = auto()
    SIGNING_IN = auto()
    SENT_SIGNED_IN = auto()
    SPONSORING = auto()
    SIGNING = auto()
    PAYING = auto()
    PAUSING = auto()
    EXCHANGING = auto()
    PAUSING_EXCHANGE = auto()
    REDEEMING = auto()
    DONE = auto()
    DECLINED = auto()
    FAILED = auto()
    UNKNOWN = auto()
    ABANDONED = auto()


class ClientInput(Input):
    """What happened, named by outcome."""

    BEGIN = auto()
    RESPONSE = auto()
    PAYMENT_REQUIRED = auto()
    SIGN_IN_OFFERED = auto()
    NO_ACCEPTABLE_OFFER = auto()
    NOT_REPLAYABLE = auto()
    ORIGIN_REFUSED = auto()
    OFFER_MALFORMED = auto()
    APPROVED = auto()
    APPROVED_UNREAD = auto()
    DECLINED = auto()
    FACTS = auto()
    FACTS_NO_ALLOWANCE = auto()
    FACTS_SPONSORED = auto()
    READ_FAILED = auto()
    SIGNED = auto()
    SIGNED_FOR_TOKEN = auto()
    SIGN_FAILED = auto()
    RECEIPT_SUCCESS = auto()
    RECEIPT_FAILURE = auto()
    ASKED_TO_WAIT = auto()
    TICK = auto()
    TOKEN_ISSUED = auto()
    TOKEN_REFUSED = auto()
    TOKEN_UNCLEAR = auto()
    TOKEN_REJECTED = auto()
    IO_FAILED = auto()
    CANCEL = auto()


_LONGEST_PAUSE: Final = 60_000
"""Milliseconds: a server that asks for more is for the caller to ask again."""

S, I = ClientState, ClientInput  # noqa: E741


class ClientExchange(Machine[ClientState, ClientInput]):
    """One request by a payer.  ``payer`` is the wallet's address; ``entropy`` 32 random bytes; make a new one per request."""

    __slots__ = (
        "asked",
        "begun",
        "challenge",
        "entropy",
        "headers",
        "offer",
        "pause",
        "payer",
        "permit",
        "policy",
        "resends",
        "signed_in",
        "sponsor",
        "unsigned",
    )

    TABLE: ClassVar[tuple[Row, ...]] = (
        Row(S.IDLE, I.BEGIN, S.SENT, "do_send", (SendRequest,)),
        Row(S.IDLE, I.CANCEL, S.ABANDONED, "do_abandon", (Deliver,)),
        Row(S.SENT, I.RESPONSE, S.DONE, "do_deliver_free", (Deliver,)),
        Row(S.SENT, I.PAYMENT_REQUIRED, S.CHOOSING, "do_ask_approval", (ApprovePayment,)),
        Row(S.SENT, I.SIGN_IN_OFFERED, S.SIGNING_IN, "do_sign_in", (SignMessage,)),
        Row(S.SENT, I.NO_ACCEPTABLE_OFFER, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.SENT, I.NOT_REPLAYABLE, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.SENT, I.ORIGIN_REFUSED, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.SENT, I.OFFER_MALFORMED, S.FAILED, "do_fail", (Deliver,)),
        Row(S.SENT, I.IO_FAILED, S.FAILED, "do_fail", (Deliver,)),
        Row(S.SENT, I.CANCEL, S.ABANDONED, "do_abandon", (Deliver,)),
        Row(S.SIGNING_IN, I.SIGNED, S.SENT_SIGNED_IN, "do_send_signed_in", (SendRequest,)),
        Row(S.SIGNING_IN, I.SIGN_FAILED, S.CHOOSING, "do_ask_approval_instead", (ApprovePayment,)),
        Row(S.SIGNING_IN, I.CANCEL, S.ABANDONED, "do_abandon", (Deliver,)),
        Row(S.SENT_SIGNED_IN, I.RESPONSE, S.DONE, "do_deliver_free", (Deliver,)),
        Row(S.SENT_SIGNED_IN, I.PAYMENT_REQUIRED, S.CHOOSING, "do_ask_approval", (ApprovePayment,)),
        Row(S.SENT_SIGNED_IN, I.NO_ACCEPTABLE_OFFER, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.SENT_SIGNED_IN, I.ORIGIN_REFUSED, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.SENT_SIGNED_IN, I.OFFER_MALFORMED, S.FAILED, "do_fail", (Deliver,)),
        Row(S.SENT_SIGNED_IN, I.IO_FAILED, S.FAILED, "do_fail", (Deliver,)),
        Row(S.SENT_SIGNED_IN, I.CANCEL, S.ABANDONED, "do_abandon", (Deliver,)),
        Row(S.CHOOSING, I.APPROVED, S.SIGNING, "do_sign", (SignTypedData,)),
        Row(S.CHOOSING, I.APPROVED_UNREAD, S.READING, "do_read", (ReadChain,)),
        Row(S.CHOOSING, I.DECLINED, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.CHOOSING, I.CANCEL, S.ABANDONED, "do_abandon", (Deliver,)),
        Row(S.READING, I.FACTS, S.SIGNING, "do_sign", (SignTypedData,)),
        Row(S.READING, I.FACTS_NO_ALLOWANCE, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.READING, I.FACTS_SPONSORED, S.SPONSORING, "do_sign_allowance", (SignTypedData,)),
        Row(S.READING, I.READ_FAILED, S.FAILED, "do_fail", (Deliver,)),
        Row(S.READING, I.CANCEL, S.ABANDONED, "do_abandon", (Deliver,)),
        Row(S.SPONSORING, I.SIGNED, S.SIGNING, "do_sign_sponsored", (SignTypedData,)),
        Row(S.SPONSORING, I.SIGN_FAILED, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.SPONSORING, I.CANCEL, S.ABANDONED, "do_abandon", (Deliver,)),
        Row(S.SIGNING, I.SIGNED, S.PAYING, "do_pay", (SendRequest,)),
        Row(S.SIGNING, I.SIGNED_FOR_TOKEN, S.EXCHANGING, "do_exchange", (SendTokenRequest,)),
        Row(S.SIGNING, I.SIGN_FAILED, S.DECLINED, "do_decline", (Deliver,)),
        Row(S.SIGNING, I.CANCEL, S.ABANDONED, "do_abandon", (Deliver,)),
        Row(S.PAYING, I.RECEIPT_SUCCESS, S.DONE, "do_deliver_paid", (Deliver,)),
        Row(S.PAYING, I.RECEIPT_FAILURE, S.DECLINED, "do_refused", (Deliver,)),
        Row(S.PAYING, I.PAYMENT_REQUIRED, S.DECLINED, "do_refused", (Deliver,)),
        Row(S.PAYING, I.ASKED_TO_WAIT, S.PAUSING, "do_wait", (WakeAt,)),
        Row(S.PAYING, I.RESPONSE, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.PAYING, I.IO_FAILED, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.PAYING, I.CANCEL, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.PAUSING, I.TICK, S.PAYING, "do_pay_again", (SendRequest,)),
        Row(S.PAUSING, I.CANCEL, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.EXCHANGING, I.TOKEN_ISSUED, S.REDEEMING, "do_redeem", (StoreToken, SendRequest)),
        Row(S.EXCHANGING, I.TOKEN_REFUSED, S.DECLINED, "do_refused", (Deliver,)),
        Row(S.EXCHANGING, I.ASKED_TO_WAIT, S.PAUSING_EXCHANGE, "do_wait", (WakeAt,)),
        Row(S.EXCHANGING, I.TOKEN_UNCLEAR, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.EXCHANGING, I.IO_FAILED, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.EXCHANGING, I.CANCEL, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.PAUSING_EXCHANGE, I.TICK, S.EXCHANGING, "do_exchange_again", (SendTokenRequest,)),
        Row(S.PAUSING_EXCHANGE, I.CANCEL, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.REDEEMING, I.RESPONSE, S.DONE, "do_deliver_paid", (Deliver,)),
        Row(S.REDEEMING, I.TOKEN_REJECTED, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.REDEEMING, I.IO_FAILED, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
        Row(S.REDEEMING, I.CANCEL, S.UNKNOWN, "do_deliver_unknown", (Deliver,)),
    )
    START = S.IDLE
    ENDS = frozenset({S.DONE, S.DECLINED, S.FAILED, S.UNKNOWN, S.ABANDONED})
    CANCEL = I.CANCEL
    BEGINS: ClassVar[Mapping[type, str]] = {Begin: "on_begin"}
    ANSWERS: ClassVar[Mapping[type[Command[Any]], str]] = {
        SendRequest: "on_response",
        ApprovePayment: "on_approval",
        ReadChain: "on_facts",
        SignTypedData: "on_signature",
        SignMessage: "on_signed_in",
        SendTokenRequest: "on_token_reply",
        WakeAt: "on_tick",
    }
    FAILURES: ClassVar[Mapping[type[Command[Any]], Input]] = {
        SendRequest: I.IO_FAILED,
        ApprovePayment: I.DECLINED,
        ReadChain: I.READ_FAILED,
        SignTypedData: I.SIGN_FAILED,
        SignMessage: I.SIGN_FAILED,
        SendTokenRequest: I.IO_FAILED,
        WakeAt: I.TICK,
    }

    def __init__(self, policy: PayerPolicy, payer: Address, *, entropy: bytes, trace: Trace | None = None) -> None:
        super().__init__(trace=trace)
        if len(entropy) != 32:
            raise LocalProtocolError("needs 32 random bytes", field="entropy")
        self.policy = policy
        self.payer = payer
        self.entropy = entropy
        self.begun: Begin | None = None
        self.challenge: Challenge | None = None
        self.offer: Offer | None = None
        self.sponsor: SponsoredPermit | None = None  # signed, or about to be
        self.signed_in: sign_in.Asked | None = None  # tried once at most
        self.unsigned: Permit | None = None
        self.permit: Permit | None = None  # set once it is signed and about to leave
        self.headers: tuple[tuple[str, str], ...] = ()
        self.asked: SendTokenRequest | None = None
        self.resends = 0
        self.pause = Millis(0)

    # ------------------------------------------------------------------------------------------------------- classify

    def on_begin(self, event: Begin, _now: Millis) -> tuple[ClientInput, object]:
        """A request begins."""
        return I.BEGIN, event

    def on_response(self, head: ResponseHead, now: Millis) -> tuple[ClientInput, object]:
        """A response head came back: what it means depends on what went out."""
        if self.permit is None:
            return self._first_response(head) if head.status == 402 else (I.RESPONSE, head)
        if self.offer is not None and self.offer.dialect is Dialect.PERMIT_TOKEN:
            return (I.TOKEN_REJECTED if head.status in (401, 402, 403) else I.RESPONSE), _refusal(head)
        return self._paid_response(head, now)

    def _first_response(self, head: ResponseHead) -> tuple[ClientInput, object]:
        assert self.begun is not None
        try:
            challenge = http.decode_402(head, self.policy.registry)
        except RemoteProtocolError as error:
            return I.OFFER_MALFORMED, Refusal(error.reason, str(error))
        if not challenge.offers and not challenge.skipped:
            return I.RESPONSE, head  # some other protocol's 402: the caller's to handle
        if (refusal := self._refuse_origin(head)) is not None:
            return I.ORIGIN_REFUSED, refusal
        chosen = choose(self.policy, challenge)
        if isinstance(chosen, Refusal):
            return I.NO_ACCEPTABLE_OFFER, chosen
        if chosen.dialect is Dialect.PERMIT_TOKEN and self._token_url(challenge) is None:
            return I.ORIGIN_REFUSED, Refusal(Reason.ORIGIN_REFUSED, "the token endpoint is not of the origin that was asked")
        if not self.begun.replayable:
            why = ": ".join(filter(None, ("the request's body cannot be sent a second time", self.begun.remedy)))
            return I.NOT_REPLAYABLE, Refusal(Reason.NOT_REPLAYABLE, why)
        if self.policy.sign_in and self.signed_in is None:
            asked = sign_in.asked(challenge, self.begun.origin, self.payer, [cap.asset.network for cap in self.policy.caps])
            if asked is not None:
                return I.SIGN_IN_OFFERED, (challenge, chosen, asked)
        return I.PAYMENT_REQUIRED, (challenge, chosen)

    def _refuse_origin(self, head: ResponseHead) -> Refusal | None:
        assert self.begun is not None
        origin = self.begun.origin
        if head.url and _origin(head.url) != origin:
            return Refusal(Reason.ORIGIN_REFUSED, "the 402 came from another origin than was asked")
        if self.policy.origins is not None and origin not in self.policy.origins:
            return Refusal(Reason.ORIGIN_REFUSED, f"{origin} is not an allowed origin")
        host = urlsplit(origin).hostname
        if origin.startswith("http://") and host not in ("127.0.0.1", "localhost", "::1") and self.policy.origins is None:
            return Refusal(Reason.ORIGIN_REFUSED, "a permit goes over https, or to loopback, or to an origin you allow by name")
        return None

    def _token_url(self, challenge: Challenge) -> str | None:
        """Return where permits are taken, if that is a URL of the very origin that was asked (defect A6)."""
        assert self.begun is not None
        url = urljoin(self.begun.url, challenge.token_endpoint or "")
        return url if challenge.token_endpoint and _origin(url) == self.begun.origin else None

    def _paid_response(self, head: ResponseHead, now: Millis) -> tuple[ClientInput, object]:
        assert self.permit is not None
        assert self.offer is not None
        receipt = _receipt(head, self.offer.dialect, self.policy.registry)
        if receipt is not None and not self._ours(receipt):
            return I.RESPONSE, Refusal(Reason.NETWORK_MISMATCH, "the receipt is for another payment than ours")
        if receipt is not None and receipt.success:  # whatever became of the handler: the money did move
            return I.RECEIPT_SUCCESS, receipt
        if (receipt is not None and receipt.reason == Reason.SETTLEMENT_PENDING) or _says_when(head):
            return (I.ASKED_TO_WAIT if self._patient(head, now) else I.RESPONSE), receipt
        if receipt is not None and not receipt.success:
            return I.RECEIPT_FAILURE, Refusal(Reason.TRANSACTION_FAILED, receipt.reason[:200])
        refused = head.status in (402, 412)  # 412 is what some peers say of a missing allowance (x402.md 1.4)
        return (I.PAYMENT_REQUIRED if refused else I.RESPONSE), _refusal(head)

    def _ours(self, receipt: Receipt) -> bool:
        """Say whether a receipt speaks of the payment we made (threat T27); what it leaves out it does not contradict."""
        permit = self.permit
        assert permit is not None
        assert self.offer is not None
        fits = receipt.amount in (None, permit.amount)
        if self.offer.scheme == UPTO and receipt.amount is not None:
            fits = receipt.amount <= permit.amount
        return receipt.network == permit.network and receipt.payer in (None, permit.payer) and (fits or not receipt.success)

    def _patient(self, head: ResponseHead, now: Millis) -> bool:
        """Say whether to wait as long as a server asks, and a little longer each time; not beyond the permit's end."""
        assert self.permit is not None
        self.pause = Millis(max(self.policy.resend_after * (self.resends + 1), _asked_pause(head)))
        lasts = self.pause <= _LONGEST_PAUSE and seconds(Millis(now + self.pause)) < self.permit.expires
        return lasts and self.resends < self.policy.resend

    def on_approval(self, answer: bool | Refusal, _now: Millis) -> tuple[ClientInput, object]:
        """Whoever guards the purse has answered."""
        assert self.offer is not None
        if answer is not True:
            return I.DECLINED, answer if isinstance(answer, Refusal) else Refusal(Reason.NOT_APPROVED)
        return (I.APPROVED_UNREAD if self._reads() else I.APPROVED), None

    def _reads(self) -> tuple[Read[Any], ...]:
        """List what must, or can, be read before signing."""
        assert self.offer is not None
        assert self.begun is not None
        if self.offer.method is Method.PERMIT2 and self.offer.network not in self.begun.chains:
            return ()  # an allowance is good to know of, but not part of the permit
        sponsored = (PermitNonce(self.offer.asset, self.payer),) if self._sponsored else ()
        return (*of(self.offer).needs(self.offer, self.payer), *sponsored)

    @property
    def _sponsored(self) -> bool:
        """Say whether the server executes an EIP-2612 permit for Permit2 before the payment, and the asset knows those."""
        assert self.challenge is not None
        assert self.offer is not None
        asset = self.policy.registry.asset(self.offer.network, self.offer.asset)
        knows = asset is not None and Method.EIP2612 in asset.methods
        return self.offer.method is Method.PERMIT2 and knows and sponsoring.EIP2612 in self.challenge.extensions

    def on_facts(self, facts: Facts, _now: Millis) -> tuple[ClientInput, object]:
        """What the permit needs to state was read."""
        assert self.offer is not None
        allowance = Allowance(self.offer.asset, self.payer, PERMIT2)
        if self.offer.method is not Method.PERMIT2 or facts.of(allowance) >= self.offer.amount:
            return I.FACTS, facts
        if self._sponsored:
            return I.FACTS_SPONSORED, facts
        why = "Permit2 may not move this much of the token: approve it first"
        return I.FACTS_NO_ALLOWANCE, Refusal(Reason.PERMIT2_ALLOWANCE, why)

    def on_signature(self, signature: bytes, _now: Millis) -> tuple[ClientInput, object]:
        """The wallet has signed; v of 0 or 1, as some wallets give, is spelled 27 or 28, and no other is a signature."""
        assert self.offer is not None
        found = _signature(signature)
        if isinstance(found, Refusal):
            return I.SIGN_FAILED, found
        token = self.offer.dialect is Dialect.PERMIT_TOKEN
        return (I.SIGNED_FOR_TOKEN if token else I.SIGNED), found

    def on_signed_in(self, signature: bytes, _now: Millis) -> tuple[ClientInput, object]:
        """The wallet has signed the sign-in message."""
        found = _signature(signature)
        return (I.SIGN_FAILED if isinstance(found, Refusal) else I.SIGNED), found

    def on_token_reply(self, head: ResponseHead, now: Millis) -> tuple[ClientInput, object]:
        """The token endpoint has answered; 4xx is a refusal, anything else but a well-formed token is unclear."""
        if head.status == 200:
            try:
                return I.TOKEN_ISSUED, permit_token.decode_token_reply(head.status, head.body, seconds(now))
            except RemoteProtocolError as error:
                return I.TOKEN_UNCLEAR, Refusal(error.reason, str(error))
        if head.status in (409, 503) and self._patient(head, now):
            return I.ASKED_TO_WAIT, None
        refused = 400 <= head.status < 500 and head.status not in (408, 409, 425, 429)
        why = permit_token.decode_refusal(head.status, head.body)
        return (I.TOKEN_REFUSED if refused else I.TOKEN_UNCLEAR), why

    def on_tick(self, _answer: None, _now: Millis) -> tuple[ClientInput, object]:
        """The pause is over."""
        return I.TICK, None

    # -------------------------------------------------------------------------------------------------------- actions

    def do_send(self, begin: Begin, _now: Millis) -> Commands:
        """Send the request as it is, or with the token we hold."""
        self.begun = begin
        headers = (("Authorization", f"Bearer {begin.token.value}"),) if begin.token is not None else ()
        return (SendRequest(headers),)

    def do_ask_approval(self, chosen: tuple[Challenge | None, Offer | None], _now: Millis) -> Commands:
        """Ask for approval of the offer policy chose."""
        assert self.begun is not None
        self.challenge, self.offer = chosen
        assert self.offer is not None
        return (ApprovePayment(self.offer, self.begun.url),)

    def do_sign_in(self, found: tuple[Challenge, Offer, sign_in.Asked], _now: Millis) -> Commands:
        """Ask the wallet to sign in; the payment is kept ready."""
        self.challenge, self.offer, self.signed_in = found
        return (SignMessage(self.payer, self.signed_in.digest, self.signed_in.message),)

    def do_send_signed_in(self, signature: bytes, _now: Millis) -> Commands:
        """Send the request again, signed in."""
        assert self.signed_in is not None
        return (SendRequest(((sign_in.SIGN_IN_WITH_X, self.signed_in.header(signature)),)),)

    def do_ask_approval_instead(self, _why: object, now: Millis) -> Commands:
        """Go on to the payment: the wallet would not sign in."""
        return self.do_ask_approval((self.challenge, self.offer), now)

    def do_read(self, _data: None, _now: Millis) -> Commands:
        """Read what the permit must state."""
        assert self.offer is not None
        return (ReadChain(self.offer.network, self._reads()),)

    def do_sign_allowance(self, facts: Facts, now: Millis) -> Commands:
        """Ask the wallet to let Permit2 move this payment's amount, for the server to execute with the payment."""
        assert self.offer is not None
        offer = self.offer
        asset = self.policy.registry.asset(offer.network, offer.asset)
        assert asset is not None
        nonce = facts.of(PermitNonce(offer.asset, self.payer))
        deadline = Seconds(seconds(now) + min(offer.timeout, self.policy.longest_validity))
        self.sponsor = SponsoredPermit(offer.amount, nonce, deadline, b"")
        chain = chain_id(offer.network)
        domain = digests.domain(asset.name, asset.version, chain, offer.asset)
        fields = (self.payer, digests.PERMIT2, offer.amount, nonce, deadline)
        typed = digests.permit_typed_data(asset.name, asset.version, chain, offer.asset, *fields)
        return (SignTypedData(self.payer, digests.permit_digest(domain, *fields), typed),)

    def do_sign_sponsored(self, signature: bytes, now: Millis) -> Commands:
        """Keep the allowance's signature and go on to the permit's."""
        assert self.sponsor is not None
        self.sponsor = replace(self.sponsor, signature=signature)
        return self.do_sign(None, now)

    def do_sign(self, facts: Facts | None, now: Millis) -> Commands:
        """Prepare the permit and ask the wallet."""
        assert self.offer is not None
        assert self.begun is not None
        offer, scheme = self.offer, of(self.offer)
        seed = f"{self.begun.origin}\n{offer.network}\n{offer.asset}\n{offer.pay_to}\n{offer.amount}"
        nonce = Hash32("0x" + keccak(self.entropy + seed.encode()).hex())
        validity = Seconds(min(offer.timeout, self.policy.longest_validity))
        self.unsigned = scheme.prepare(offer, self.payer, now=seconds(now), validity=validity, nonce=nonce, facts=facts)
        return (SignTypedData(self.payer, scheme.digest(self.unsigned, offer), scheme.typed_data(self.unsigned, offer)),)

    def do_pay(self, signature: bytes, _now: Millis) -> Commands:
        """Send the request again with the signed permit (x402)."""
        assert self.challenge is not None
        assert self.offer is not None
        assert self.unsigned is not None
        assert not isinstance(self.unsigned, Erc7710Permit)  # no offer by delegation is ever chosen
        permit: Permit = replace(self.unsigned, signature=signature)
        if isinstance(permit, Permit2Permit) and self.sponsor is not None:
            permit = replace(permit, sponsor=self.sponsor)
        if self.offer.dialect is Dialect.V1:
            self.headers = ((v1.X_PAYMENT, v1.encode_payment(permit, self.offer, self.policy.registry)),)
        else:
            extensions = identifier.identified(self.challenge.extensions, self._identifier)
            if self.policy.services:
                extensions = merge(extensions, builder_code.codes(self.policy.services))
            payment = Payment(permit, self.offer, self.challenge.resource, extensions)
            self.headers = ((v2.PAYMENT_SIGNATURE, v2.encode_payment(payment)),)
        self.permit = permit
        return (SendRequest(self.headers),)

    @property
    def _identifier(self) -> str:
        """What makes this payment tellable from a copy of its permit: random, and never on the chain."""
        return "pay_" + keccak(self.entropy + b"payment-identifier")[:16].hex()

    def do_wait(self, _receipt: Receipt | None, now: Millis) -> Commands:
        """Wait before presenting the same permit again."""
        self.resends += 1
        return (WakeAt(Millis(now + self.pause)),)

    def do_pay_again(self, _data: object, _now: Millis) -> Commands:
        """Present the same permit again: at worst it is refused as used, it can never be charged twice."""
        return (SendRequest(self.headers),)

    def do_exchange(self, signature: bytes, now: Millis) -> Commands:
        """Take the permit to the token endpoint."""
        assert self.challenge is not None
        assert isinstance(self.unsigned, Eip2612Permit)
        url = self._token_url(self.challenge)
        assert url is not None
        permit = replace(self.unsigned, signature=signature)
        created = permit_token.timestamp(now)
        body = permit_token.encode_token_request(permit, created_at=created, identifier=self._identifier)
        self.permit = permit
        self.asked = SendTokenRequest(url, body)
        return (self.asked,)

    def do_exchange_again(self, _data: object, _now: Millis) -> Commands:
        """Take the same permit to the token endpoint again: it gives the same token, or none."""
        assert self.asked is not None
        self.asked = replace(self.asked)  # a command is asked once: the new one is another object
        return (self.asked,)

    def do_redeem(self, token: Token, _now: Millis) -> Commands:
        """Keep the token and send the request with it."""
        assert self.begun is not None
        path = urlsplit(self.begun.url).path
        return (
            StoreToken(self.begun.origin, path, token),
            SendRequest((("Authorization", f"Bearer {token.value}"),)),
        )

    def do_deliver_free(self, _head: ResponseHead, _now: Millis) -> Commands:
        """Deliver a response nothing was paid for."""
        return (Deliver(Outcome(OutcomeKind.FREE)),)

    def do_deliver_paid(self, receipt: Receipt | Refusal | None, _now: Millis) -> Commands:
        """Deliver a response that was paid for."""
        proof = receipt if isinstance(receipt, Receipt) else None
        # what was not charged of an upto permit may still be, by whoever holds it, until it ends
        exposed = self._exposed() if proof is not None and proof.success and not proof.transaction else None
        return (Deliver(Outcome(OutcomeKind.PAID, self.offer, proof, exposed_until=exposed, presented=self.headers)),)

    def do_decline(self, why: Refusal | Failed | None, _now: Millis) -> Commands:
        """Deliver the 402: nothing was signed, or what was signed never left."""
        refusal = why if isinstance(why, Refusal) else Refusal(Reason.SIGNING_FAILED, _why(why))
        return (Deliver(Outcome(OutcomeKind.DECLINED, self.offer, refusal=refusal)),)

    def do_fail(self, why: Refusal | Failed, _now: Millis) -> Commands:
        """Deliver a failure from before any permit left."""
        refusal = why if isinstance(why, Refusal) else Refusal(Reason.UNAVAILABLE, _why(why))
        return (Deliver(Outcome(OutcomeKind.FAILED, self.offer, refusal=refusal)),)

    def do_refused(self, why: Refusal | None, _now: Millis) -> Commands:
        """Deliver a definite refusal of a permit that has left: it stays exposed until it expires."""
        return (Deliver(Outcome(OutcomeKind.DECLINED, self.offer, refusal=why, exposed_until=self._exposed())),)

    def do_deliver_unknown(self, why: object, _now: Millis) -> Commands:
        """Deliver without a definite word about the money."""
        refusal = why if isinstance(why, Refusal) else None
        proof = why if isinstance(why, Receipt) else None
        return (Deliver(Outcome(OutcomeKind.UNKNOWN, self.offer, proof, refusal, self._exposed(), self.headers)),)

    def do_abandon(self, _data: None, _now: Millis) -> Commands:
        """End before any permit left."""
        return (Deliver(Outcome(OutcomeKind.ABANDONED, self.offer)),)

    def _exposed(self) -> Seconds | None:
        return None if self.permit is None else self.permit.expires


def _origin(url: str) -> Origin | None:
    try:
        return parse_origin(url)
    except RemoteProtocolError:
        return None


def _receipt(head: ResponseHead, dialect: Dialect, registry: Registry) -> Receipt | None:
    """Return the receipt of a paid response; an unreadable one is no receipt: the outcome is then unknown."""
    try:
        if dialect is Dialect.V1:
            value = single(head.headers, v1.X_PAYMENT_RESPONSE)
            return None if value is None else v1.decode_receipt(value, registry)
        value = single(head.headers, v2.PAYMENT_RESPONSE)
        return None if value is None else v2.decode_receipt(value)
    except RemoteProtocolError:
        return None


def _signature(signature: bytes) -> bytes | Refusal:
    """Return a wallet's signature with v of 27 or 28 (some wallets say 0 or 1), or say that it is none."""
    if len(signature) == 65 and signature[64] < 2:
        signature = signature[:64] + bytes((signature[64] + 27,))
    try:
        parse_signature(signature)
    except RemoteProtocolError as error:
        return Refusal(Reason.SIGNING_FAILED, f"the wallet's answer is no signature: {error.text}")
    return signature


def _says_when(head: ResponseHead) -> bool:
    """Say whether a server in trouble asks to be asked again; a handler's own 409 or 503 does not, and is the answer."""
    return head.status in (409, 503) and any(name.lower() == "retry-after" for name, _ in head.headers)


def _asked_pause(head: ResponseHead) -> int:
    """Return the milliseconds that a server asks to wait, 0 where it names none (a date is not read)."""
    said = next((value.strip() for name, value in head.headers if name.lower() == "retry-after"), "")
    return int(said) * 1000 if said.isascii() and said.isdecimal() and len(said) < 9 else 0


def _refusal(head: ResponseHead) -> Refusal | None:
    """Return the server's own word for refusing a payment, for the caller's log: bounded, as it is a peer's text."""
    if head.status not in (402, 412):
        return None
    try:
        return Refusal(Reason.PAYMENT_REQUIRED, http.decode_402(head).error[:200])
    except RemoteProtocolError as error:
        return Refusal(error.reason, str(error)[:200])


def _why(failure: Failed | None) -> str:
    return "" if failure is None else f"{type(failure.command).__name__}: {failure.why}"
