"""The purse a client pays from, and all of an exchange that is the same for every client library.

A :class:`Purse` is configuration: who signs, what policy allows, where chains are asked, who approves.  An :class:`Exchange`
is one request: an edge makes one, performs its ``steps``, and reads its ``outcome``.  An edge adds how requests are sent,
and nothing else.

A :class:`Trail` follows one request of the caller's through redirects and repetitions, because edges sit below both: money
goes to the origin that was asked, and one request pays once, however long a chain of redirects a server makes of it (defect
A6), and however often a layer above sends it again.
"""

from __future__ import annotations

import inspect
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias
from urllib.parse import urlsplit

from x402bind.arguments import mapping
from x402bind.chain.nodes import RPC, Nodes, NodesLike, nodes
from x402bind.chain.signers import AsyncSigner, Signer, check_signer, signer_of
from x402bind.errors import PaymentOutcomeUnknown
from x402bind.translate.chain import read_chain, retry_reads
from x402core.commands import (
    ApprovePayment,
    Command,
    Deliver,
    Outcome,
    OutcomeKind,
    ReadChain,
    SignMessage,
    SignTypedData,
    StoreToken,
)
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import CANCELLED, Begin, Method, Offer, Token
from x402core.machines.client import ClientExchange
from x402core.machines.machine import Steps, steps, translate
from x402core.money import Price, format_amount
from x402core.policy import Cap, PayerPolicy
from x402core.reads import Facts
from x402core.registry import KNOWN, Registry
from x402core.values import Amount, Millis, Network, Origin, Seconds, local, parse_address, parse_origin, seconds

__all__ = [
    "MOST_BODY",
    "MOST_KEPT",
    "Approve",
    "Budget",
    "Exchange",
    "Purse",
    "TokenCache",
    "Trail",
    "now",
    "origin_of",
    "wants_body",
]

Approve: TypeAlias = Callable[[ApprovePayment], "bool | Refusal | Awaitable[bool | Refusal]"]
"""Who is asked about a payment that policy allows: answer True, or False or a Refusal.  Async only for async clients."""

MOST_BODY: Final = 256 * 1024
"""Bytes of a response's body that the core gets to see."""
MOST_KEPT: Final = 1 << 20
"""Bytes of the longest body of a request that an edge reads into memory so that it can be sent again."""
_LAG: Final = 60
"""Seconds by which a chain's clock may be behind ours: a permit counts as expired only then."""
_MOST_TOKENS: Final = 1024
_log = logging.getLogger("x402bind")


def now() -> Millis:
    """Read the clock: Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


def origin_of(url: str) -> Origin | None:
    """Return a URL's origin, None for what has none: nothing can be paid for there."""
    try:
        return parse_origin(url)
    except RemoteProtocolError:
        return None


def wants_body(status: int) -> bool:
    """Say whether the core reads the body of a response with this status (``ResponseHead.body``)."""
    return status == HTTPStatus.PAYMENT_REQUIRED


class TokenCache:
    """The access tokens a purse has bought, by origin and path: a token goes nowhere else.  Thread-safe; forgets the oldest."""

    def __init__(self, most: int = _MOST_TOKENS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._tokens: OrderedDict[tuple[Origin, str], Token] = OrderedDict()

    def store(self, command: StoreToken) -> None:
        """Keep a token for its origin and path."""
        key = command.origin, command.path
        with self._lock:
            self._tokens[key] = command.token
            self._tokens.move_to_end(key)
            while len(self._tokens) > self._most:
                self._tokens.popitem(last=False)

    def find(self, origin: Origin, path: str) -> Token | None:
        """Return the token held for this origin and path, unless it has expired."""
        with self._lock:
            token = self._tokens.get((origin, path))
            if token is not None and token.expires_at <= seconds(now()):
                del self._tokens[origin, path]
                return None
            return token


class Budget:
    """The most a purse gives away in all, by asset, for as long as this object lives.  Thread-safe; share one among purses.

    Counted for good: what was paid, and what may have been (an unknown outcome).  What the server refused after the permit
    had left: until that has expired (EIP-3009), or for good where an allowance may outlive it (EIP-2612).  That a refusal is
    true is the server's word: whoever cannot take it looks at the chain, or pins payees and origins in the policy.
    """

    def __init__(self, caps: Iterable[Cap]) -> None:
        self._lock = threading.Lock()
        self._caps = {(cap.asset.network, cap.asset.address): cap for cap in caps}
        self._spent = dict.fromkeys(self._caps, 0)
        self._reserved = dict.fromkeys(self._caps, 0)
        self._exposed: dict[object, list[tuple[Seconds, Amount]]] = {key: [] for key in self._caps}

    @classmethod
    def up_to(cls, price: Price, *networks: str, registry: Registry = KNOWN) -> Budget:
        """Return a budget of ``price`` on each of these networks.  Raises: LocalProtocolError naming the argument."""
        return cls(PayerPolicy.up_to(price, *networks, registry=registry).caps)

    def left(self, cap: Cap) -> Amount:
        """Return the atomic units of a cap's asset that may still be promised."""
        with self._lock:
            key = cap.asset.network, cap.asset.address
            return Amount(max(0, self._caps[key].most - self._taken(key))) if key in self._caps else Amount(0)

    def _taken(self, key: tuple[Network, Any]) -> int:
        self._exposed[key] = [entry for entry in self._exposed[key] if entry[0] + _LAG > seconds(now())]
        return self._spent[key] + self._reserved[key] + sum(amount for _, amount in self._exposed[key])

    def reserve(self, offer: Offer) -> Refusal | None:
        """Set an offer's amount aside, or say why not.  What was reserved must be settled."""
        key = offer.network, offer.asset
        with self._lock:
            cap = self._caps.get(key)
            if cap is None:
                return Refusal(Reason.OVER_BUDGET, f"no budget for asset {offer.asset} on {offer.network}")
            left = cap.most - self._taken(key)
            if offer.amount > left:
                asks, has = format_amount(offer.amount, cap.asset), format_amount(Amount(max(0, left)), cap.asset)
                return Refusal(Reason.OVER_BUDGET, f"the server asks {asks}, the budget has {has} left")
            self._reserved[key] += offer.amount
            return None

    def settle(self, offer: Offer, outcome: Outcome) -> None:
        """Turn a reservation into what became of it."""
        key = offer.network, offer.asset
        with self._lock:
            self._reserved[key] -= offer.amount
            if outcome.kind is OutcomeKind.PAID and outcome.exposed_until is None:
                self._spent[key] += outcome.amount
            elif outcome.kind is OutcomeKind.UNKNOWN or (outcome.exposed_until is not None and offer.method is Method.EIP2612):
                self._spent[key] += offer.amount
            elif outcome.exposed_until is not None:
                self._exposed[key].append((outcome.exposed_until, offer.amount))


@dataclass(frozen=True, slots=True, repr=False)
class Purse:
    """What a client pays from.

    ``signer`` signs permits; ``policy`` says which offers may be paid; ``rpc`` maps a network (``eip155:84532`` or a name the
    registry knows) to the URL of a node, or to several, which paying by EIP-2612 needs; ``approve`` is asked before each
    payment; ``budget`` bounds them all together; ``on_outcome`` is told how every exchange ended, the cancelled ones too;
    ``tokens`` are those bought so far.

    Raises: LocalProtocolError naming the field.
    """

    signer: Signer | AsyncSigner
    policy: PayerPolicy
    rpc: Mapping[str, NodesLike] = field(default_factory=dict)
    approve: Approve | None = None
    budget: Budget | None = None
    on_outcome: Callable[[Outcome], object] | None = None
    tokens: TokenCache = field(default_factory=TokenCache)

    def __post_init__(self) -> None:
        if not isinstance(self.policy, PayerPolicy):
            raise LocalProtocolError('expected a PayerPolicy: PayerPolicy.up_to("$0.05", "eip155:84532")', field="policy")
        local(parse_address, check_signer(self.signer).address, "signer")
        if _is_async(self.on_outcome):
            raise LocalProtocolError(
                "must not be async: it is also called while an exchange is being cancelled", field="on_outcome"
            )
        endpoints: dict[str, NodesLike] = {}
        for name, value in mapping(self.rpc, "rpc", RPC).items():
            network = self.policy.registry.resolve(name)
            endpoints[network] = nodes(value, network)
        object.__setattr__(self, "rpc", MappingProxyType(endpoints))

    @classmethod
    def up_to(
        cls,
        key: str | bytes | Signer | AsyncSigner,
        most: Price,
        *networks: str,
        rpc: Mapping[str, NodesLike] | None = None,
    ) -> Purse:
        """Return a purse that pays at most ``most`` per payment on these networks; ``key`` is a private key or a signer."""
        return cls(signer_of(key), PayerPolicy.up_to(most, *networks), {} if rpc is None else rpc)

    def check_sync(self) -> None:
        """Refuse what only an async client can call, now and not at the first payment."""
        for function, name in ((self.approve, "approve"), (self.signer.sign, "signer")):
            if _is_async(function):
                raise LocalProtocolError("is async: use an async client", field=name)

    def read(self, command: ReadChain) -> Generator[Command[Any], Any, Facts]:
        """Ask the node configured for the network.  Raises: LocalProtocolError that says what to configure."""
        where = self.rpc.get(command.network)
        if not isinstance(where, Nodes):
            reads = ", ".join([type(read).__name__ for read in command.reads])
            how = f"rpc={{'{command.network}': 'https://...'}}"
            raise LocalProtocolError(f"this payment needs {reads} from {command.network}: configure {how}", field="rpc")
        return (yield from retry_reads(lambda: read_chain(command, where)))

    def __repr__(self) -> str:
        """Show neither keys nor URLs."""
        caps = ", ".join([f"{format_amount(cap.most, cap.asset)} on {cap.asset.network}" for cap in self.policy.caps])
        return f"Purse({self.signer.address}, at most {caps or 'nothing'} per payment)"


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


@dataclass(slots=True)
class Trail:
    """One request of the caller's, redirected or repeated: the origin that was asked, and whether a permit has left for it."""

    origin: Origin
    paid: bool = False


class Exchange:
    """One request of a paying client: perform ``steps`` with ``table`` and the edge's own performers, then read ``outcome``."""

    remedy: ClassVar[str] = ""
    """What the caller can do about a body that cannot be sent again, in the words of the edge."""

    def __init__(self, purse: Purse, trail: Trail, method: str, url: str, *, replayable: bool) -> None:
        self.purse = purse
        self.trail = trail
        self.url = url
        token = purse.tokens.find(parse_origin(url), urlsplit(url).path)
        chains = frozenset(Network(name) for name in purse.rpc)
        self.begin = Begin(method, url, trail.origin, replayable, token, chains, self.remedy)
        payer = local(parse_address, purse.signer.address, "signer")
        self.machine = ClientExchange(purse.policy, payer, entropy=secrets.token_bytes(32))
        self.outcome: Outcome | None = None
        self._reserved: Offer | None = None
        self._trouble: LocalProtocolError | None = None

    def steps(self) -> Steps:
        """Drive the machine; whatever way it ends, a cancel included, the outcome is booked and reported."""
        try:
            final = yield from translate(steps(self.machine, self.begin, now), {ReadChain: self._read})
            assert isinstance(final, Deliver)
            self._close(final.outcome)
            return final
        finally:  # closed (a coroutine that was dropped) or broken: nothing can be performed any more, but it can be told
            if self.outcome is None and not self.machine.ended:
                for command in self.machine.receive(CANCELLED, now=now()):
                    if isinstance(command, Deliver):
                        self._close(command.outcome)

    @property
    def table(self) -> dict[type[Command[Any]], Callable[[Any], Any]]:
        """What every edge performs alike."""
        return {
            ApprovePayment: self._approve,
            SignTypedData: self.purse.signer.sign,
            SignMessage: self.purse.signer.sign,
            StoreToken: self.purse.tokens.store,
        }

    def _approve(self, command: ApprovePayment) -> bool | Refusal | Awaitable[bool | Refusal]:
        if self.trail.paid:
            return Refusal(Reason.NOT_APPROVED, "this request has paid once already: make a new one to pay again")
        if self.purse.budget is not None:
            refusal = self.purse.budget.reserve(command.offer)
            if refusal is not None:
                return refusal
            self._reserved = command.offer
        return True if self.purse.approve is None else self.purse.approve(command)

    def _read(self, command: ReadChain) -> Generator[Command[Any], Any, Facts]:
        try:
            return (yield from self.purse.read(command))
        except LocalProtocolError as error:  # ours to mend: keep the sentence that says how
            self._trouble = error
            raise

    def _close(self, outcome: Outcome) -> None:
        if self._trouble is not None and outcome.refusal is not None:
            outcome = replace(outcome, refusal=Refusal(outcome.refusal.reason, str(self._trouble)))
        self.outcome = outcome
        self.trail.paid = self.trail.paid or outcome.amount > 0
        if self._reserved is not None and self.purse.budget is not None:
            self.purse.budget.settle(self._reserved, outcome)
        if self.purse.on_outcome is not None:
            try:
                self.purse.on_outcome(outcome)
            except Exception:  # noqa: BLE001 - a response that was paid for is not lost over its bookkeeping
                _log.exception("on_outcome raised")

    def fail(self, error: Exception) -> Exception:
        """Return what to raise when a request could not be sent: the error itself, unless a permit had left."""
        assert self.outcome is not None
        return error if self.outcome.exposed_until is None else PaymentOutcomeUnknown(self.outcome)

    @staticmethod
    def pause(at: Millis) -> float:
        """Return how many seconds from now ``at`` is."""
        return max(0, at - now()) / 1000
