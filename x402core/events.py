"""The protocol's own words, and what drivers feed in.

Five words, in order, name everything: a :class:`Challenge` (402) carries :class:`Offer` s; the payer answers one with a
signed :data:`Permit`; the server may mint an access :class:`Token`; a :data:`Settlement` moves the money.  Every dialect on
the wire is a translation into these and back (``wire/``).

Below them stand the values a driver feeds into a machine: the beginnings (:class:`Begin`, :class:`RequestHead`, ...), the
:class:`Answered` and :class:`Failed` of a command, :class:`Cancelled`.  All are immutable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from .errors import Reason, RemoteProtocolError
from .evm import delegation
from .values import Address, Amount, Hash32, Network, Origin, Seconds

if TYPE_CHECKING:
    from .commands import Command
    from .ledger import SettlementRecord
    from .schemes.judge import Verified
    from .wire.json import Json

__all__ = [
    "Answered",
    "Begin",
    "Cancelled",
    "Challenge",
    "Dialect",
    "Eip2612Permit",
    "Eip3009Permit",
    "Erc7710Permit",
    "Event",
    "FacilitatorRequest",
    "Failed",
    "HandlerHead",
    "Headers",
    "Method",
    "Offer",
    "Payer",
    "Payment",
    "Pending",
    "Permit",
    "Permit2Permit",
    "Receipt",
    "RequestHead",
    "Resource",
    "ResponseHead",
    "Resume",
    "Settle",
    "SettleMode",
    "Settled",
    "Settlement",
    "SponsoredApproval",
    "SponsoredPermit",
    "Sponsorship",
    "Token",
    "TokenRequest",
    "Unsettled",
    "same_payment",
]

Headers = tuple[tuple[str, str], ...]
"""A header list: repeats and order kept, names in any case."""


@unique
class Dialect(StrEnum):
    """How an offer is spoken on the wire."""

    V2 = "x402-v2"
    V1 = "x402-v1"
    PERMIT_TOKEN = "permit-token"


@unique
class Method(StrEnum):
    """How an asset moves (``extra.assetTransferMethod`` of x402 v2; ``permit_type`` of the permit-token flow)."""

    EIP3009 = "eip3009"
    EIP2612 = "eip2612"
    PERMIT2 = "permit2"
    ERC7710 = "erc7710"


@unique
class SettleMode(StrEnum):
    """When the money moves, seen from the handler (architecture.md, "Order of a paid request")."""

    BEFORE = "before"
    AFTER = "after"
    BACKGROUND = "background"


# ------------------------------------------------------------------------------------------------ challenge and offers


@dataclass(frozen=True, slots=True)
class Resource:
    """What is sold: an absolute URL and a description for people (x402 v2 ``ResourceInfo``)."""

    url: str
    description: str = ""
    mime_type: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to pay: ``amount`` atomic units of ``asset`` on ``network`` to ``pay_to``.

    ``name`` and ``version`` are the asset's EIP-712 domain as the offer states it; a payer signs only after finding the same
    in its own registry.  ``timeout`` is the longest validity in seconds.  ``spender`` is the account that submits an EIP-2612
    permit (the payee itself unless it says otherwise); ``facilitator`` the only account that may settle an ``upto`` permit,
    whose ``amount`` is a ceiling.  ``raw`` keeps a peer's own JSON, so that it can be echoed unchanged; it takes no part in
    comparison.
    """

    dialect: Dialect
    method: Method
    network: Network
    asset: Address
    amount: Amount
    pay_to: Address
    timeout: Seconds
    name: str
    version: str
    decimals: int | None = None
    symbol: str = ""
    spender: Address | None = None
    settle: SettleMode = SettleMode.AFTER
    scheme: str = "exact"
    facilitator: Address | None = None
    raw: Mapping[str, Json] | None = field(default=None, compare=False, repr=False)


def same_payment(one: Offer, other: Offer) -> bool:
    """Say whether a permit that settles one offer settles the other: the same money to the same payee, in the same way."""
    return _moved(one) == _moved(other)


def _moved(offer: Offer) -> tuple[object, ...]:
    return offer.network, offer.asset, offer.pay_to, offer.amount, offer.scheme, offer.method


@dataclass(frozen=True, slots=True)
class Challenge:
    """A 402: the offers this core understands, in the server's order, and what surrounds them.

    ``skipped`` names, for a person, the offers left out because their scheme, method or network is unknown here.
    ``token_endpoint`` is where the permit-token flow takes its permits, as the server wrote it (a path or a URL).
    """

    offers: tuple[Offer, ...]
    error: str = ""
    resource: Resource | None = None
    token_endpoint: str | None = None
    extensions: Mapping[str, Json] = field(default_factory=dict, compare=False)
    skipped: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------------------------- the permits


@dataclass(frozen=True, slots=True)
class Eip3009Permit:
    """A signed ``TransferWithAuthorization`` (EIP-3009): anyone may submit it, once, inside its window (Unix seconds)."""

    network: Network
    asset: Address
    payer: Address
    pay_to: Address
    amount: Amount
    valid_after: Seconds
    valid_before: Seconds
    nonce: Hash32
    signature: bytes = field(repr=False)

    @property
    def method(self) -> Method:
        """How this permit moves money."""
        return Method.EIP3009

    @property
    def expires(self) -> Seconds:
        """Unix seconds from which the token contract refuses it."""
        return self.valid_before

    @property
    def key(self) -> str:
        """The canonical authorization, never the signature's bytes: what a claim is keyed by."""
        return f"eip3009/{self.network}/{self.asset}/{self.payer}/{self.nonce}"

    @property
    def slot(self) -> str:
        """What the chain executes at most once: here, the authorization itself."""
        return self.key


@dataclass(frozen=True, slots=True)
class Eip2612Permit:
    """A signed ``Permit`` (EIP-2612): allows ``spender`` to move ``amount`` of ``payer``; ``nonce`` is the token's."""

    network: Network
    asset: Address
    payer: Address
    spender: Address
    amount: Amount
    nonce: int
    deadline: Seconds
    signature: bytes = field(repr=False)

    @property
    def method(self) -> Method:
        """How this permit moves money."""
        return Method.EIP2612

    @property
    def expires(self) -> Seconds:
        """Unix seconds after which the token contract refuses it."""
        return self.deadline

    @property
    def key(self) -> str:
        """The canonical authorization, never the signature's bytes: what a claim is keyed by."""
        return f"{self.slot}/{self.spender}/{self.amount}/{self.deadline}"

    @property
    def slot(self) -> str:
        """What the chain executes at most once: the payer's nonce.

        Wider than the key, because after a permit that expired unexecuted the payer's next one has the same nonce; two of
        one slot must not be settled side by side.
        """
        return f"eip2612/{self.network}/{self.asset}/{self.payer}/{self.nonce}"


@dataclass(frozen=True, slots=True)
class SponsoredPermit:
    """An EIP-2612 permit that lets Permit2 move the token, executed together with the payment (``eip2612GasSponsoring``)."""

    amount: Amount
    nonce: int
    deadline: Seconds
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SponsoredApproval:
    """The payer's own signed ``approve`` transaction, to be sent before the payment (``erc20ApprovalGasSponsoring``)."""

    raw: bytes = field(repr=False)


Sponsorship = SponsoredPermit | SponsoredApproval


@dataclass(frozen=True, slots=True)
class Permit2Permit:
    """A signed Permit2 transfer with x402's witness (x402.md 2.2, 2.4); ``spender`` is the proxy that may execute it.

    ``amount`` is what may be moved at most; with a ``facilitator`` (``upto``) less may be, and only by that account.
    """

    network: Network
    asset: Address
    payer: Address
    pay_to: Address
    amount: Amount
    spender: Address
    nonce: int
    valid_after: Seconds
    deadline: Seconds
    signature: bytes = field(repr=False)
    facilitator: Address | None = None
    sponsor: Sponsorship | None = None

    @property
    def method(self) -> Method:
        """How this permit moves money."""
        return Method.PERMIT2

    @property
    def expires(self) -> Seconds:
        """Unix seconds after which Permit2 refuses it."""
        return self.deadline

    @property
    def key(self) -> str:
        """The canonical authorization, never the signature's bytes: what a claim is keyed by.

        Of a nonce only, as Permit2 has one for all tokens and spenders of an owner: whoever signs two permits with one nonce
        has signed one payment.
        """
        return f"permit2/{self.network}/{self.payer}/{self.nonce}"

    @property
    def slot(self) -> str:
        """What the chain executes at most once: the owner's nonce."""
        return self.key


@dataclass(frozen=True, slots=True)
class Erc7710Permit:
    """A delegation that lets whoever settles move ``amount`` of the delegator (x402.md 2.3): proved by simulation alone.

    It has no end of its own: ``until`` (Unix seconds) is when we stop trying.  One delegation buys one answer: it is public
    once it was used, and binds neither payee nor amount, so that a second use would let anybody spend the delegator's money.
    """

    network: Network
    asset: Address
    payer: Address
    pay_to: Address
    amount: Amount
    manager: Address
    context: bytes = field(repr=False)
    until: Seconds = Seconds(0)

    @property
    def method(self) -> Method:
        """How this permit moves money."""
        return Method.ERC7710

    @property
    def expires(self) -> Seconds:
        """Unix seconds after which we do not redeem it."""
        return self.until

    @property
    def signature(self) -> bytes:
        """The permission context: what whoever redeems it presents."""
        return self.context

    @property
    def key(self) -> str:
        """The canonical authorization: what its delegator signed, under this manager.

        Never the context's bytes, of which signature and caveat args are anybody's to vary.  A context that is no encoding of
        delegations, which every check refuses, is named by its bytes.
        """
        try:
            said = delegation.spent(delegation.decode(self.context)).hex()
        except RemoteProtocolError:
            said = f"malformed/{hashlib.sha256(self.context).hexdigest()}"
        return f"erc7710/{self.network}/{self.manager}/{said}"

    @property
    def slot(self) -> str:
        """What may be executed once."""
        return self.key


Permit = Eip3009Permit | Eip2612Permit | Permit2Permit | Erc7710Permit


@dataclass(frozen=True, slots=True)
class Payment:
    """A permit as it arrived, with the offer the payer says it accepts (None where the dialect echoes none)."""

    permit: Permit
    accepted: Offer | None = None
    resource: Resource | None = None
    extensions: Mapping[str, Json] = field(default_factory=dict, compare=False)


# ------------------------------------------------------------------------------------------- token, settlement, receipt


@dataclass(frozen=True, slots=True)
class Token:
    """An access token as its holder sees it: opaque text, sent as ``Authorization: Bearer``, until ``expires_at``."""

    value: str = field(repr=False)
    expires_at: Seconds


@dataclass(frozen=True, slots=True)
class Settled:
    """The chain executed the authorization, proved from logs.  ``transaction`` moved the money; ``transactions`` are all ours.

    When another submitter executed it, ``transaction`` is theirs and ``foreign`` is true: paid is paid.
    """

    transaction: Hash32
    network: Network
    payer: Address
    amount: Amount
    block: int
    transactions: tuple[Hash32, ...] = ()
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """Not settled yet, still being worked on.  ``transactions`` may be empty when nothing has been broadcast so far."""

    network: Network
    payer: Address
    transactions: tuple[Hash32, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Money did not move.  ``final``: it never will through this permit; otherwise the permit may still be executed.

    With ``transactions`` empty nothing was ever broadcast.
    """

    reason: Reason
    network: Network
    payer: Address
    transactions: tuple[Hash32, ...] = ()
    final: bool = True


Settlement = Settled | Pending | Unsettled


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the payer is told about the money (x402 ``SettleResponse``); ``transaction`` is "" when nothing was broadcast."""

    success: bool
    network: Network
    payer: Address | None
    transaction: str = ""
    amount: Amount | None = None
    reason: str = ""
    extensions: Mapping[str, Json] = field(default_factory=dict, compare=False, repr=False)


# ----------------------------------------------------------------------------------------------- what drivers feed in


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a client exchange.  ``replayable``: the binding can send the body a second time.  ``token``: one it holds.

    ``chains`` are those it can ask: what is only good to know before signing is read there, and nowhere else.  ``remedy``
    is what the caller can do about a body that is not replayable: the end of that refusal's text, and nothing else.
    """

    method: str
    url: str
    origin: Origin
    replayable: bool = True
    token: Token | None = None
    chains: frozenset[Network] = frozenset()
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Start a server exchange.  ``target`` is the raw path with its query; ``body_digest`` is SHA-256 of the body, or b""."""

    method: str
    target: str
    headers: Headers
    body_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class FacilitatorRequest:
    """Start a facilitator exchange.  ``path`` is ``/verify`` or ``/settle``; the body is whole, capped by the binding."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Start a token exchange: the body POSTed to the token endpoint, capped by the binding."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """Start a settlement with the judge's proof; ``suffix`` and ``note`` as in :class:`~x402core.ledger.SettlementRecord`."""

    proof: Verified
    suffix: bytes = b""
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class Resume:
    """Take a settlement up again from its journal."""

    record: SettlementRecord


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response as the client core sees it; ``body`` only for a 402 or a token reply (capped), else b""."""

    status: int
    headers: Headers
    body: bytes = b""
    url: str = ""


@dataclass(frozen=True, slots=True)
class HandlerHead:
    """What the seller's handler answered; the binding holds the body.  ``held``: the whole body is held and can be kept.

    ``overrides`` is the text of its ``Settlement-Overrides`` header, which the binding does not send on (x402.md 1.4).
    """

    status: int
    held: bool = True
    overrides: str | None = None


@dataclass(frozen=True, slots=True)
class Payer:
    """What a handler may know about who paid: passed along with ``InvokeHandler``."""

    payer: Address
    amount: Amount
    asset: Address
    network: Network
    payment: str
    transaction: Hash32 | None = None


R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Answered(Generic[R]):
    """The driver performed ``command``; ``value`` is its answer."""

    command: Command[R]
    value: R


@dataclass(frozen=True, slots=True)
class Failed:
    """The driver could not perform ``command``; ``why`` is an exception's type name, never its text."""

    command: Command[Any]
    why: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The caller went away."""


CANCELLED: Final = Cancelled()

Event = Begin | RequestHead | TokenRequest | FacilitatorRequest | Settle | Resume | Answered[Any] | Failed | Cancelled
