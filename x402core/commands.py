"""What the core asks of the world.

A command is a value: a machine returns it, a driver performs it and feeds the answer back (law 3).  ``Command[R]`` names the
answer's type.  Three kinds: commands that are *waited for*; commands merely *done* (``waits = False``: the exchange goes on
whatever becomes of them); and one *final* command per exchange, which the driver loop returns.

Every docstring ends in *On failure*: what is safe to assume when performing it raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from .catalog import CatalogEntry
from .errors import Refusal, Reply
from .events import HandlerHead, Headers, Offer, Payer, Receipt, ResponseHead, Settled, Settlement, Token
from .ledger import Claim, Grant, PaymentState, SettlementRecord, SignedIn, Stored
from .reads import Facts, Read, SignatureValid, TxReceipt
from .values import Address, Amount, Hash32, Millis, Network, Origin, Seconds

if TYPE_CHECKING:
    from .evm.transaction import Transaction
    from .schemes.judge import Checked, Verified

__all__ = [
    "HANDLER_RESPONSE",
    "AdmitPayer",
    "AllocateTxNumbers",
    "ApprovePayment",
    "AskFacilitator",
    "AwaitSettlement",
    "Broadcast",
    "CatalogResource",
    "CheckPayment",
    "CheckSignIn",
    "ClaimPayment",
    "Command",
    "CommitClaim",
    "Deliver",
    "FillTxNumbers",
    "GetReceipts",
    "InvokeHandler",
    "KeepClaim",
    "Lane",
    "Outcome",
    "OutcomeKind",
    "PersistIntent",
    "PersistOutcome",
    "PersistSent",
    "PersistSignedTx",
    "ReadChain",
    "Rebroadcast",
    "RecallPayment",
    "RecallSettlement",
    "Receipts",
    "RecordIntent",
    "ReleaseClaim",
    "Report",
    "ReportRefundDue",
    "Respond",
    "ReturnTxNumbers",
    "SendRequest",
    "SendTokenRequest",
    "Sent",
    "SettlePayment",
    "SignMessage",
    "SignTransactions",
    "SignTypedData",
    "StoreToken",
    "StreamResponse",
    "VerifyPayment",
    "WakeAt",
]

R = TypeVar("R")


class Command(Generic[R]):
    """Core to driver: do this, tell me the answer (an ``R``)."""

    __slots__ = ()
    waits: ClassVar[bool] = True
    final: ClassVar[bool] = False


class _HandlerResponse(Enum):
    HANDLER_RESPONSE = "the response the handler gave, held by the driver"


HANDLER_RESPONSE: Final = _HandlerResponse.HANDLER_RESPONSE

# ---------------------------------------------------------------------------------------------------------- the payer


@dataclass(frozen=True, slots=True)
class SendRequest(Command[ResponseHead]):
    """Send the caller's request with these headers set; answer the head, with the body of a 402 only (capped).

    On failure: it is unknown whether the server saw it.
    """

    set_headers: Headers = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApprovePayment(Command["bool | Refusal"]):
    """Ask whoever guards the purse (a budget, a person) about an offer that policy already accepted.

    Answer True, or False / a Refusal that says why not.  On failure: nothing was signed; the payment is declined.
    """

    offer: Offer
    url: str


@dataclass(frozen=True, slots=True)
class SignTypedData(Command[bytes]):
    """Ask the payer's wallet for a 65-byte signature of ``digest``; ``typed_data`` is the same in eth_signTypedData_v4 form.

    On failure: no signature exists, so no money can move.
    """

    account: Address
    digest: bytes
    typed_data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SignMessage(Command[bytes]):
    """Ask the payer's wallet for a 65-byte EIP-191 signature of ``message``, whose digest is ``digest``.  It moves no money.

    On failure: nobody is signed in; the payment path goes on.
    """

    account: Address
    digest: bytes
    message: str


@dataclass(frozen=True, slots=True)
class SendTokenRequest(Command[ResponseHead]):
    """POST ``body`` (JSON) to the token endpoint, without following redirects; answer head and body.

    On failure: unknown; the permit may have been taken.
    """

    url: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoreToken(Command[None]):
    """Keep an access token for this origin and path, so that the next request uses it.

    On failure: the next request pays again; nothing is lost but that.
    """

    waits: ClassVar[bool] = False
    origin: Origin
    path: str
    token: Token


class OutcomeKind(Enum):
    """How a client exchange ended, as to the money."""

    FREE = "free"  # nothing was asked, or a token already held was enough
    PAID = "paid"  # the server says so: a receipt, or a token it issued and did not reject
    DECLINED = "declined"  # we would not pay, or the server refused the payment
    FAILED = "failed"  # the exchange broke before any permit left
    UNKNOWN = "unknown"  # a permit left and no definite answer came back
    ABANDONED = "abandoned"  # the caller went away before any permit left


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the money.  ``exposed_until``: Unix seconds to which a signed permit of ``amount`` may still be executed.

    A budget must keep that amount reserved until then, whatever else happens (models.md 7.1).  ``presented`` is the header that
    carried the permit: sent with the same request again it asks for what was paid for, and is never paid for twice.
    """

    kind: OutcomeKind
    offer: Offer | None = None
    receipt: Receipt | None = None
    refusal: Refusal | None = None
    exposed_until: Seconds | None = None
    presented: Headers = field(default=(), repr=False, compare=False)

    @property
    def amount(self) -> Amount:
        """Atomic units paid or exposed; 0 when no permit ever left.  Of a settled ``upto`` permit: what was charged."""
        if self.offer is None or not (self.kind is OutcomeKind.PAID or self.exposed_until is not None):
            return Amount(0)
        receipt = self.receipt
        settled = self.exposed_until is None and receipt is not None and receipt.amount is not None
        return receipt.amount if settled else self.offer.amount  # type: ignore[union-attr,return-value]  # settled says so


@dataclass(frozen=True, slots=True)
class Deliver(Command[None]):
    """End a client exchange: hand the caller the last response, if there is one, and this outcome.

    On failure: nothing of the protocol is left to do.
    """

    waits: ClassVar[bool] = False
    final: ClassVar[bool] = True
    outcome: Outcome


# ---------------------------------------------------------------------------------------------------------- the seller


@dataclass(frozen=True, slots=True)
class RecallPayment(Command[Claim]):
    """Look up, without taking anything, what is stored for this authorization (``ledger.recall``).

    ``identifier`` as in :class:`ClaimPayment`.  On failure: nothing is known; answer 503.
    """

    key: str
    request: str
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class VerifyPayment(Command["Verified | Refusal"]):
    """Judge a statically checked payment against the chain; ``note`` is what a facilitator is told of it besides.

    On failure: our trouble, nothing is known; answer 503.
    """

    checked: Checked
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class ClaimPayment(Command[Claim]):
    """Atomically claim one authorization for one request and owner, with a lease in Unix milliseconds (``ledger.decide``).

    ``identifier`` is the name the payer gave the payment, in the payer's own scope; "" is none (x402.md 3.5).
    On failure: treat as held by somebody else until ``until``.
    """

    key: str
    request: str
    owner: str
    until: Millis
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseClaim(Command[None]):
    """Give up this owner's claim: no money moved through this exchange.  Another owner's claim is left alone.

    Where a settlement of this authorization is journaled (an earlier exchange's), the claim is kept instead: the journal
    tells.  On failure: the claim stays until its lease ends; no money is at risk.
    """

    waits: ClassVar[bool] = False
    key: str
    owner: str


@dataclass(frozen=True, slots=True)
class CommitClaim(Command[None]):
    """Close this owner's claim as paid (or journaled), with the answer to give the same request again.

    ``reply`` is the core's own answer, ``HANDLER_RESPONSE`` the one the driver holds, None when there is none to keep.
    ``grant`` is what the payer may have again by signing in.
    On failure: the settlement journal still says what happened; a replay is told to wait until the lease ends.
    """

    waits: ClassVar[bool] = False
    key: str
    owner: str
    settled: Settled | None
    reply: Reply | _HandlerResponse | None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class KeepClaim(Command[None]):
    """Close this owner's claim with the outcome open: the settlement journal will tell.  Never frees the authorization.

    ``reply`` and ``grant`` as in :class:`CommitClaim`: given out once the money has arrived.  ``settled`` when it is known to
    have.  On failure: as there.
    """

    waits: ClassVar[bool] = False
    key: str
    owner: str
    reply: Reply | _HandlerResponse | None = None
    settled: Settled | None = None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class CheckPayment(Command[PaymentState]):
    """Say whether the payment behind an access token still stands.  On failure: our trouble; answer 503."""

    key: str


@dataclass(frozen=True, slots=True)
class CheckSignIn(Command[SignedIn]):
    """Let a payer who proved an address have what it paid for, once per nonce; the nonce is kept until Unix ms ``until``.

    ``until`` lies beyond the last moment the proof is accepted.  ``contract``: the network and the read that prove a contract's
    signature, to be asked first; a driver turns that down as NOT_PAID.  On failure: nothing is granted; answer 503.
    """

    resource: str
    payer: Address
    nonce: str
    until: Millis
    contract: tuple[Network, SignatureValid] | None = None


@dataclass(frozen=True, slots=True)
class InvokeHandler(Command[HandlerHead]):
    """Run the seller's handler; ``payer`` says who paid, ``hold`` asks to hold the response until told to respond.

    ``owner`` holds the claim the handler runs under (its key is ``payer.payment``): while it runs long, its lease is extended.

    On failure: the handler raised, or its response outgrew what may be held: treat as a failed handler.
    """

    payer: Payer | None
    hold: bool
    owner: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class SettlePayment(Command[Settlement]):
    """Move the money; the ``proof`` can only come from the judge.  Answer within the seller's patience, Pending if need be.

    ``suffix`` goes after the last call's data (ERC-8021 attribution); ``note`` is for a facilitator that settles.

    On failure: the outcome is unknown and the claim is kept.
    """

    proof: Verified
    suffix: bytes = b""
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class RecordIntent(Command[Stored]):
    """Journal a settlement for the background settler; refuse it over ``most_open`` unsettled atomic units of this payer.

    On failure: unknown whether it was stored; the claim is kept.
    """

    proof: Verified
    most_open: Amount | None = None


@dataclass(frozen=True, slots=True)
class AwaitSettlement(Command[Settlement]):
    """Wait, within the facilitator's patience, for a settlement that is journaled already; answer its outlook then.

    On failure: nothing is known; the journal says what happened.
    """

    key: str


@dataclass(frozen=True, slots=True)
class AdmitPayer(Command[bool]):
    """Count one settlement against a payer's quota, and one deployment if its wallet is still to be made; False: over it.

    The same ``key`` (the permit's) is counted once, however often it is asked about: a repeated settle is no second one.
    On failure: nothing was counted; nothing is settled.
    """

    payer: Address
    network: Network
    key: str
    deploys: bool = False


@dataclass(frozen=True, slots=True)
class ReportRefundDue(Command[None]):
    """Tell the seller that a payer paid and was not served; the same permit can still be presented, and served, later.

    It is said each time that serving fails, so a seller who acts on it knows ``key`` again.  Paying back does not close the
    claim.  On failure: the ledger still shows a paid, unserved claim.
    """

    waits: ClassVar[bool] = False
    key: str
    payer: Address


@dataclass(frozen=True, slots=True)
class RecallSettlement(Command["SettlementRecord | None"]):
    """Look up what is journaled for this authorization.  On failure: nothing is known; answer 503, settle nothing."""

    key: str


@dataclass(frozen=True, slots=True)
class CatalogResource(Command[None]):
    """List a paid resource for others to find (bazaar, x402.md 3.3).  On failure: it is not listed this time."""

    waits: ClassVar[bool] = False
    entry: CatalogEntry


@dataclass(frozen=True, slots=True)
class Respond(Command[None]):
    """End a server or token exchange: send ``reply``; None sends the handler's response with ``add_headers`` added.

    ``attest`` is a receipt to be signed first, where the seller signs receipts (``answers.attested``); unsigned it is as good.

    On failure: the peer is gone; nothing of the protocol is left to do.
    """

    waits: ClassVar[bool] = False
    final: ClassVar[bool] = True
    reply: Reply | None
    add_headers: Headers = ()
    attest: Receipt | None = None


@dataclass(frozen=True, slots=True)
class StreamResponse(Command[None]):
    """Let the handler's response, already paid for, go as it comes, with ``add_headers`` added; answer when it has ended.

    A payer who leaves before that has not been failed: answer as if it had ended.  ``attest`` as for :class:`Respond`.

    On failure: the handler broke off.  What was sent is sent; what was paid for was not served.
    """

    add_headers: Headers = ()
    attest: Receipt | None = None


# ------------------------------------------------------------------------------------------------- chain and settlement


@dataclass(frozen=True, slots=True)
class ReadChain(Command[Facts]):
    """Read facts, all at one block, in one round trip.  On failure: nothing was changed; ask again freely."""

    network: Network
    reads: tuple[Read[Any], ...]


@dataclass(frozen=True, slots=True)
class PersistIntent(Command["SettlementRecord | None"]):
    """Store a new record; None when it was stored, the stored record when this settlement is already journaled.

    On failure: unknown whether it was stored; nothing is broadcast.
    """

    record: SettlementRecord


@dataclass(frozen=True, slots=True)
class Lane:
    """Transaction numbers handed out by the ledger, and the fees the chain asks now (wei per gas)."""

    numbers: tuple[int, ...]
    max_fee: int
    max_priority_fee: int


@dataclass(frozen=True, slots=True)
class AllocateTxNumbers(Command[Lane]):
    """Hand out ``count`` rising transaction numbers of the settling account for this settlement, lowest gap first.

    Asked again for the same key, the same numbers come back until they are returned or the chain passes one of them.
    On failure: none is taken.
    """

    network: Network
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class ReturnTxNumbers(Command[None]):
    """Give back numbers that no node has seen a transaction for.  On failure: a gap, filled by the next allocation."""

    waits: ClassVar[bool] = False
    network: Network
    key: str


@dataclass(frozen=True, slots=True)
class SignTransactions(Command["tuple[bytes, ...]"]):
    """Sign each transaction's hash with the settling account: 65-byte signatures, same order.

    On failure: nothing was signed.
    """

    network: Network
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class PersistSignedTx(Command[None]):
    """Store the record with its newest signed attempt.  On failure: unknown whether stored; nothing may be broadcast."""

    record: SettlementRecord


class Sent(Enum):
    """What a node said to a broadcast of one or more raw transactions, summed up."""

    ACCEPTED = "accepted"  # all taken, or already known
    NUMBER_TAKEN = "number_taken"  # the first was refused for its number
    REJECTED = "rejected"  # the first was refused for good: no node has it
    UNCLEAR = "unclear"  # anything else: treat as sent


@dataclass(frozen=True, slots=True)
class Broadcast(Command[Sent]):
    """Send raw transactions in order, stopping at the first refusal.  On failure: treat as sent.

    ``before`` are somebody else's, sent first; whatever is said of them is not part of the answer.
    """

    network: Network
    raws: tuple[bytes, ...]
    before: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Rebroadcast(Command[None]):
    """Send raw transactions once more, in case a node lost them.  On failure: try again at the next look."""

    waits: ClassVar[bool] = False
    network: Network
    raws: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FillTxNumbers(Command[None]):
    """Sign and broadcast transactions that do nothing, so that numbers of an ended settlement do not block the lane.

    On failure: the numbers are given back; the next allocation fills them.
    """

    waits: ClassVar[bool] = False
    network: Network
    key: str
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class Receipts:
    """Receipts asked for, in order (None: not mined), with the head block's number and Unix time."""

    head: int
    time: Seconds
    receipts: tuple[TxReceipt | None, ...]


@dataclass(frozen=True, slots=True)
class GetReceipts(Command[Receipts]):
    """Fetch receipts and the head block in one round trip.  On failure: nothing is known; look again later."""

    network: Network
    hashes: tuple[Hash32, ...]


@dataclass(frozen=True, slots=True)
class AskFacilitator(Command[Settlement]):
    """Ask a facilitator to settle a journaled payment; answer only its definite word about this very payment.

    Asking again is safe: a permit is executed once.  On failure: unknown; the facilitator may have settled it.
    """

    record: SettlementRecord


@dataclass(frozen=True, slots=True)
class WakeAt(Command[None]):
    """Wait until Unix milliseconds ``at`` (or earlier, when told that something changed).

    On failure: treat as woken.
    """

    at: Millis


@dataclass(frozen=True, slots=True)
class PersistSent(Command[None]):
    """Note in the journal that the newest attempt may be with a node.  On failure: it is presumed anyway."""

    waits: ClassVar[bool] = False
    record: SettlementRecord


@dataclass(frozen=True, slots=True)
class PersistOutcome(Command[None]):
    """Store the record with its outcome.  On failure: the settlement stays open in the journal and is looked at again."""

    waits: ClassVar[bool] = False
    record: SettlementRecord


@dataclass(frozen=True, slots=True)
class Report(Command[None]):
    """End a settlement with its outcome.  On failure: the journal has it."""

    waits: ClassVar[bool] = False
    final: ClassVar[bool] = True
    outcome: Settlement
