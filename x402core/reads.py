"""Typed questions to a chain, all answered at one block (law 4: plan the reads, fetch them together, judge purely).

A scheme's ``plan`` lists reads; the binding fetches them in one HTTP round trip; ``facts.of(read)`` gives the answer with
its type.  A read that could not be fetched fails the whole ``ReadChain`` command: a failed read is never "balance 0".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from .errors import LocalProtocolError
from .values import Address, Hash32, Seconds

__all__ = [
    "Allowance",
    "AuthorizationState",
    "AuthorizationTrace",
    "BalanceOf",
    "CodeAt",
    "DomainSeparator",
    "Facts",
    "Log",
    "NativeBalance",
    "NonceBitmap",
    "PermitNonce",
    "Read",
    "SignatureValid",
    "Simulate",
    "SimulateAll",
    "SimulatePayment",
    "Simulated",
    "Traced",
    "TransactionCount",
    "TransferTrace",
    "TxReceipt",
]

R = TypeVar("R")


class Read(Generic[R]):
    """One question; its type parameter is the answer's type."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BalanceOf(Read[int]):
    """ERC-20 ``balanceOf(owner)`` in atomic units."""

    asset: Address
    owner: Address


@dataclass(frozen=True, slots=True)
class Allowance(Read[int]):
    """ERC-20 ``allowance(owner, spender)`` in atomic units."""

    asset: Address
    owner: Address
    spender: Address


@dataclass(frozen=True, slots=True)
class PermitNonce(Read[int]):
    """EIP-2612 ``nonces(owner)``."""

    asset: Address
    owner: Address


@dataclass(frozen=True, slots=True)
class AuthorizationState(Read[bool]):
    """EIP-3009 ``authorizationState(authorizer, nonce)``: true once used or cancelled."""

    asset: Address
    authorizer: Address
    nonce: Hash32


@dataclass(frozen=True, slots=True)
class DomainSeparator(Read[bytes]):
    """``DOMAIN_SEPARATOR()`` of a token (EIP-2612): 32 bytes."""

    asset: Address


@dataclass(frozen=True, slots=True)
class CodeAt(Read[bytes]):
    """The code at an address; empty for a plain account."""

    address: Address


@dataclass(frozen=True, slots=True)
class Simulated:
    """How a simulated call ended; ``revert`` is the contract's own words, for logs, never for a peer."""

    ok: bool
    revert: str = ""


@dataclass(frozen=True, slots=True)
class Simulate(Read[Simulated]):
    """``eth_call`` of ``data`` to ``to`` as ``sender`` (None: the zero address) with ``gas`` (None: what the node gives)."""

    to: Address
    data: bytes
    sender: Address | None = None
    gas: int | None = None


@dataclass(frozen=True, slots=True)
class SimulateAll(Read[Simulated]):
    """Calls made one after the other by one account that exists for this read only; the answer is the last one's.

    The others may fail.  For an account that is not deployed yet: deploy, then use (x402.md 2.0, ERC-6492).
    """

    calls: tuple[tuple[Address, bytes], ...]


@dataclass(frozen=True, slots=True)
class SimulatePayment(Read[Simulated]):
    """A call by ``sender``, an ordinary account, that is to bring ``pay_to`` exactly ``amount`` of an asset, no more or less.

    The node has to lend the sender code for the length of an ``eth_call`` (a state override), so that it can ask the token
    before and after.
    """

    to: Address
    data: bytes
    sender: Address
    asset: Address
    pay_to: Address
    amount: int


@dataclass(frozen=True, slots=True)
class SignatureValid(Read[bool]):
    """ERC-1271 ``isValidSignature(digest, signature)`` of ``account``: true only for its magic value."""

    account: Address
    digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class NonceBitmap(Read[int]):
    """Permit2 ``nonceBitmap(owner, word)``: 256 bits, one for each nonce of this word."""

    owner: Address
    word: int


@dataclass(frozen=True, slots=True)
class NativeBalance(Read[int]):
    """What an account has to pay for gas, in wei."""

    account: Address


@dataclass(frozen=True, slots=True)
class TransactionCount(Read[int]):
    """The number of an account's next transaction."""

    account: Address


@dataclass(frozen=True, slots=True)
class Log:
    """One event log of a transaction: emitting contract, topics, data."""

    address: Address
    topics: tuple[Hash32, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class TxReceipt:
    """A mined transaction: success, block number, its logs."""

    transaction: Hash32
    ok: bool
    block: int
    logs: tuple[Log, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationTrace(Read["TxReceipt | None"]):
    """The receipt of the transaction whose log says this EIP-3009 authorization was used or cancelled; None when none does.

    Both ``AuthorizationUsed`` and ``AuthorizationCanceled`` are looked for, from block ``since`` on (``eth_getLogs``).
    """

    asset: Address
    authorizer: Address
    nonce: Hash32
    since: int


@dataclass(frozen=True, slots=True)
class Traced:
    """A mined transaction together with what it called: the contract (None: a creation) and the calldata."""

    receipt: TxReceipt
    to: Address | None
    data: bytes


@dataclass(frozen=True, slots=True)
class TransferTrace(Read["tuple[Traced, ...]"]):
    """The transactions with a log ``Transfer(payer, pay_to, ...)`` of ``asset`` since block ``since``, the newest 32."""

    asset: Address
    payer: Address
    pay_to: Address
    since: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Answers to a plan, all at block ``number``: its timestamp in Unix seconds, its base fee in wei per gas if known."""

    number: int
    time: Seconds
    answers: Mapping[Read[Any], object]
    base_fee: int | None = None

    def of(self, read: Read[R]) -> R:
        """Return the answer to a read of the plan.  Raises: LocalProtocolError when the driver left it out."""
        try:
            return cast("R", self.answers[read])
        except KeyError:
            raise LocalProtocolError(f"the driver did not answer {type(read).__name__}", field="facts") from None
