"""The chain, asked by JSON-RPC: each coarse command about it as a generator of HTTP calls, once for both worlds.

Facts come from one block.  A batch begins with the latest block and ends with the head's number: when both are the same, no
block came in between and every answer is from that block, in one round trip.  When the head moved, the reads are asked again
*at* the block that both saw.  (Behind a load balancer that spreads the calls of one batch over several nodes this proves
nothing; such a provider is to be asked through one session, or not at all.)

Sending is different from reading: it is never repeated at a node.  An answer that was lost, a node that was busy, a refusal
in words nobody has recorded are all UNCLEAR, and the settlement treats them as sent.

Each may be asked of one node or of :class:`~x402bind.chain.nodes.Nodes`; how several are asked is in ``translate/nodes.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from x402bind.chain import rpc
from x402bind.chain.errors import ChainUnavailable, NodeError, NodeErrorKind, RpcError
from x402bind.chain.nodes import Nodes, NodesLike, Where, nodes
from x402bind.chain.rpc import Answer, Endpoint, RpcCall
from x402bind.leaves import Sleep, shown
from x402core.commands import (
    Broadcast,
    Command,
    FillTxNumbers,
    GetReceipts,
    ReadChain,
    Rebroadcast,
    Receipts,
    ReturnTxNumbers,
    Sent,
    SignTransactions,
)
from x402core.errors import LocalProtocolError
from x402core.evm.transaction import transaction_hash
from x402core.machines.machine import ask
from x402core.reads import AuthorizationTrace, Facts, Read, TransferTrace
from x402core.values import Address, Network, Seconds

from . import nodes as several
from .chain_reads import parse_answer, read_call, trace
from .proof import prove_chain

__all__ = [
    "REFUSALS",
    "AccountView",
    "Endpoint",
    "broadcast",
    "chain_table",
    "ether",
    "fees_and_number",
    "fill",
    "get_receipts",
    "prove_chain",
    "read_chain",
    "rebroadcast",
    "retry_reads",
]

R = TypeVar("R")
Translation: TypeAlias = Generator[Command[Any], Any, R]
"""A translator at work: it yields finer commands, is sent their answers, and returns the coarse command's answer."""

_log: Final = logging.getLogger("x402bind.chain")
_LATEST: Final = "latest"
_HEAD: Final = RpcCall("eth_blockNumber")
_GWEI: Final = 10**9
_K = NodeErrorKind

RETRY_PAUSES: Final = (0.2, 0.5)
"""Seconds to wait before a read is asked once more."""

REFUSALS: Final[frozenset[NodeErrorKind]] = frozenset(
    {_K.INSUFFICIENT_FUNDS, _K.GAS, _K.FEE_TOO_LOW, _K.UNDERPRICED, _K.REPLACEMENT_UNDERPRICED, _K.INVALID}
)
"""Refusals of a raw transaction that are definite: the node that says so does not have it."""


# ---------------------------------------------------------------------------------------------------------- reading


def read_chain(command: ReadChain, where: Where) -> Translation[Facts]:
    """Fetch every read at one block, in one round trip unless the head moves meanwhile.

    A plan that looks for the transaction which paid is asked of as many nodes as must agree.
    Raises: NodeError, ChainUnavailable: a read that cannot be answered fails the command.
    """
    _check_network(command.network, where)
    run = several.agreed if several.is_proof(command.reads) else several.anywhere
    return (yield from run(where, lambda endpoint: _read_chain(command, endpoint), several.sight_of_facts))


def _read_chain(command: ReadChain, endpoint: Endpoint) -> Translation[Facts]:
    reads = tuple(dict.fromkeys(command.reads))
    head, answered = yield from _at_one_block(reads, endpoint)
    facts: dict[Any, object] = {}
    for read, answer in zip(reads, answered, strict=True):
        if isinstance(read, AuthorizationTrace | TransferTrace):
            if head.number < read.since:
                raise ChainUnavailable("the node is behind: its head is older than the block to search from")
            facts[read] = yield from trace(read, answer, head.number, endpoint)
        else:
            facts[read] = parse_answer(read, answer)
    return Facts(head.number, Seconds(head.time), facts, head.base_fee)


def _at_one_block(reads: Sequence[Read[Any]], endpoint: Endpoint) -> Translation[tuple[rpc.Block, Sequence[Answer]]]:
    """Ask at the latest block; when the head moves within the batch, ask again at the older of the two heads seen."""
    at = _LATEST
    while True:
        calls = (_block_at(at), *[read_call(read, at) for read in reads], _HEAD)
        first, *answered, last = yield from rpc.send(endpoint, calls)
        head, newest = rpc.block(first), rpc.quantity(last, "head")
        if at == _LATEST and head.number != newest:
            at = hex(min(head.number, newest))
            continue
        if at != _LATEST and head.number != int(at, 16):
            raise ChainUnavailable("the node answered with another block than it was asked for")
        return head, answered


def _block_at(at: str) -> RpcCall:
    return RpcCall("eth_getBlockByNumber", (at, False))


def get_receipts(command: GetReceipts, where: Where) -> Translation[Receipts]:
    """Fetch receipts and, last, the head, so that the head is never older than a receipt; of all nodes that must agree.

    Raises: NodeError; ChainUnavailable, also when a receipt is newer than the head (two nodes answered as one).
    """
    _check_network(command.network, where)
    return (yield from several.agreed(where, lambda each: _get_receipts(command, each), several.sight_of_receipts))


def _get_receipts(command: GetReceipts, endpoint: Endpoint) -> Translation[Receipts]:
    asked = [RpcCall("eth_getTransactionReceipt", (each,)) for each in command.hashes]
    *answered, last = yield from rpc.send(endpoint, (*asked, _block_at(_LATEST)))
    head = rpc.block(last)
    receipts = tuple([rpc.receipt(answer, each) for each, answer in zip(command.hashes, answered, strict=True)])
    if any(found is not None and found.block > head.number for found in receipts):
        raise ChainUnavailable("the node's head is older than a receipt it gave")
    return Receipts(head.number, Seconds(head.time), receipts)


def retry_reads(make: Callable[[], Translation[R]], pauses: Sequence[float] = RETRY_PAUSES) -> Translation[R]:
    """Run a read, and again after each pause (seconds) while it fails in a passing way: no answer, or a rate limit.

    Only for reads: what may have moved money is never repeated by itself.  Raises: what the last try raises.
    """
    for pause in pauses:
        try:
            return (yield from make())
        except RpcError as error:
            if not error.passing:
                raise
        yield from ask(Sleep(pause))
    return (yield from make())


# ---------------------------------------------------------------------------------------------------------- sending


def broadcast(command: Broadcast, where: Where) -> Translation[Sent]:
    """Send raw transactions in order, one by one, stopping at the first that is not taken; sum up what became of them.

    ``REJECTED`` and ``NUMBER_TAKEN`` speak of the first transaction: with it refused, no later one can be executed.  When the
    first was taken, any trouble with a later one is ``UNCLEAR``.  With several nodes, see :func:`_send_raw`.
    """
    _check_network(command.network, where)
    for raw in command.before:  # the payer's own: mined already, refused or taken, the payment's own fate tells
        yield from _send_raw(raw, where)
    for position, raw in enumerate(command.raws):
        said = yield from _send_raw(raw, where)
        if said is not Sent.ACCEPTED:
            return said if position == 0 else Sent.UNCLEAR
    return Sent.ACCEPTED


def fill(command: FillTxNumbers, where: Where) -> Translation[None]:
    """Have transactions signed that do nothing, and send each; a number that is taken already is filled.

    Numbers that could not be filled are given back, for the next allocation to fill.
    """
    _check_network(command.network, where)
    try:
        signatures = yield from ask(SignTransactions(command.network, command.transactions))
        for transaction, signature in zip(command.transactions, signatures, strict=True):
            said = yield from _send_raw(transaction.sign_with(signature), where)
            if said is Sent.REJECTED:
                raise ChainUnavailable("a filler was refused")
    except Exception:
        yield from ask(ReturnTxNumbers(command.network, command.key))
        raise


def rebroadcast(command: Rebroadcast, where: Where) -> Translation[None]:
    """Send raw transactions once more in one batch to every node; whatever one says of them is as it was.

    Raises: ChainUnavailable, NodeError when no node took the batch.
    """
    _check_network(command.network, where)
    if not command.raws:
        return
    told, trouble = False, list[RpcError]()
    for endpoint in _each(where):
        try:
            yield from rpc.send(endpoint, [RpcCall("eth_sendRawTransaction", ("0x" + raw.hex(),)) for raw in command.raws])
            told = True
        except RpcError as error:
            trouble.append(error)
    if not told:
        raise trouble[-1]


def _send_raw(raw: bytes, where: Where) -> Translation[Sent]:
    """Send one raw transaction to one node after the other until one takes it; say what is certain about it.

    * One node has it: ACCEPTED, whatever others said.  A refusal may be that node's own: its pool's prices, its stale view.
    * Its number is used, and no node may have it: NUMBER_TAKEN.
    * Every node that was reached refused it for good: REJECTED.  A node to which not a byte was sent cannot have it.
    * Anything else: UNCLEAR.
    """
    said = set[Sent]()
    for endpoint in _each(where):
        try:
            if isinstance(where, Nodes):
                yield from several.prove(where, endpoint)
            found = yield from _offer(raw, endpoint)
        except RpcError as error:
            if isinstance(where, Nodes):
                where.health.failed(endpoint)
            if not isinstance(error, ChainUnavailable) or error.sent:
                said.add(Sent.UNCLEAR)
            continue
        if found is Sent.ACCEPTED:
            return found
        if found is Sent.NUMBER_TAKEN:
            return Sent.UNCLEAR if Sent.UNCLEAR in said else found
        said.add(found)
    return Sent.REJECTED if said == {Sent.REJECTED} else Sent.UNCLEAR


def _offer(raw: bytes, endpoint: Endpoint) -> Translation[Sent]:
    """Send one raw transaction to one node and say what is certain of it there.  Raises: ChainUnavailable."""
    ours = transaction_hash(raw)
    try:
        answer = yield from rpc.call(endpoint, "eth_sendRawTransaction", "0x" + raw.hex())
    except NodeError as error:
        if error.kind is NodeErrorKind.ALREADY_KNOWN:
            return Sent.ACCEPTED
        if error.kind is NodeErrorKind.NONCE_TOO_LOW:
            return (yield from _number_used(raw, endpoint))
        _log.warning("%s does not take transaction %s: %s", shown(endpoint.url), ours, error)
        return Sent.REJECTED if error.kind in REFUSALS else Sent.UNCLEAR
    return Sent.ACCEPTED if isinstance(answer, str) and answer.lower() == ours else Sent.UNCLEAR


def _number_used(raw: bytes, endpoint: Endpoint) -> Translation[Sent]:
    """Find out whether the number was used by this very transaction: then it is mined, and nothing is lost (law 7)."""
    ours = transaction_hash(raw)
    try:
        answer = yield from rpc.call(endpoint, "eth_getTransactionReceipt", ours)
        return Sent.NUMBER_TAKEN if rpc.receipt(answer, ours) is None else Sent.ACCEPTED
    except RpcError:
        return Sent.UNCLEAR


# ------------------------------------------------------------------------------------------ the account and its fees


@dataclass(frozen=True, slots=True)
class AccountView:
    """Where an account stands: its next number as mined, and counting what waits in the pool; fees in wei per gas."""

    next_number: int
    pending_number: int
    max_fee: int
    max_priority_fee: int


def fees_and_number(
    where: Where, account: Address, *, default_tip: int = _GWEI, most_fee: int = 5_000 * _GWEI
) -> Translation[AccountView]:
    """Fetch an account's next transaction numbers and the fees to offer, in one round trip.

    ``max_fee`` is twice the base fee and the tip, so that the base fee may rise for six full blocks; the tip is what the
    node suggests, or ``default_tip`` where it suggests none.  Raises: NodeError; ChainUnavailable, also when the chain has
    no base fee (EIP-1559) or asks more than ``most_fee``: a node's mistake must not burn the settling account's money.
    """
    return (yield from several.anywhere(where, lambda each: _fees_and_number(each, account, default_tip, most_fee)))


def _fees_and_number(endpoint: Endpoint, account: Address, default_tip: int, most_fee: int) -> Translation[AccountView]:
    calls = (
        RpcCall("eth_getTransactionCount", (account, _LATEST)),
        RpcCall("eth_getTransactionCount", (account, "pending")),
        _block_at(_LATEST),
        RpcCall("eth_maxPriorityFeePerGas"),
    )
    mined, waiting, latest, suggested = yield from rpc.send(endpoint, calls)
    base = rpc.block(latest).base_fee
    if base is None:
        raise ChainUnavailable("the chain has no base fee: EIP-1559 transactions are not possible")
    tip = default_tip if isinstance(suggested, NodeError) else rpc.quantity(suggested, "priority fee")
    max_fee = 2 * base + tip
    if max_fee > most_fee:
        raise ChainUnavailable(f"the node asks {max_fee} wei per gas, more than the {most_fee} allowed")
    next_number = rpc.quantity(mined, "transaction count")
    return AccountView(next_number, max(next_number, rpc.quantity(waiting, "transaction count")), max_fee, tip)


def ether(where: Where, account: Address) -> Translation[int]:
    """Fetch what an account has to pay for gas with, in wei.  Raises: NodeError, ChainUnavailable."""
    told = yield from several.anywhere(where, lambda each: rpc.call(each, "eth_getBalance", account, _LATEST))
    return rpc.quantity(told, "balance")


# ------------------------------------------------------------------------------------------------------- for drivers


def chain_table(endpoints: Mapping[Network, NodesLike]) -> dict[type[Command[Any]], Callable[[Any], Translation[Any]]]:
    """Return the translation table of every chain command, reads retried, sends not.

    Raises: LocalProtocolError for a node of another network.
    """
    known = {network: nodes(value, network) for network, value in endpoints.items()}

    def at(command: Any) -> Nodes:
        try:
            return known[command.network]
        except KeyError:
            raise LocalProtocolError(f"no node is configured for {command.network}", field="endpoints") from None

    return {
        ReadChain: lambda command: retry_reads(lambda: read_chain(command, at(command))),
        GetReceipts: lambda command: retry_reads(lambda: get_receipts(command, at(command))),
        Broadcast: lambda command: broadcast(command, at(command)),
        Rebroadcast: lambda command: rebroadcast(command, at(command)),
        FillTxNumbers: lambda command: fill(command, at(command)),
    }


def _each(where: Where) -> tuple[Endpoint, ...]:
    return (where,) if isinstance(where, Endpoint) else where.in_order


def _check_network(network: Network, where: Where) -> None:
    if network != where.network:
        raise LocalProtocolError(f"asked about {network}, but this node is for {where.network}", field="network")
