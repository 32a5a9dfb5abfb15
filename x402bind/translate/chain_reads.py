"""How each read of a plan is asked of a node, and how its answer is read: one table, :data:`READS`.

A call that must return a word and returns nothing was made to an address without that contract: it fails the read
(``NOT_A_CONTRACT``) and never passes for 0.  Only a :class:`~x402core.reads.Simulate` takes a refusal for an answer, and
only the contract's own: a revert or a halt of the EVM.

An :class:`~x402core.reads.AuthorizationTrace` alone may need more round trips (:func:`trace`): one for the receipt, and, when
a provider will not search so many blocks at once, one for each narrower search.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, TypeAlias

from x402bind.chain import rpc
from x402bind.chain.errors import ChainUnavailable, NodeError, NodeErrorKind
from x402bind.chain.rpc import Answer, Endpoint, RpcCall
from x402core.commands import Command
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.evm.abi import decode, encode_call, event_topic, revert_reason
from x402core.reads import (
    Allowance,
    AuthorizationState,
    AuthorizationTrace,
    BalanceOf,
    CodeAt,
    DomainSeparator,
    PermitNonce,
    Read,
    Simulate,
    Simulated,
    TxReceipt,
)
from x402core.values import Address, Hash32

__all__ = ["READS", "contract_call", "parse_answer", "read_call", "trace", "word"]

_Build: TypeAlias = Callable[[Any, str], RpcCall]
_Parse: TypeAlias = Callable[[Any, Answer], object]

_USED: Final = "AuthorizationUsed(address,bytes32)"
_CANCELED: Final = "AuthorizationCanceled(address,bytes32)"
_ENDED: Final = frozenset({NodeErrorKind.REVERTED, NodeErrorKind.HALTED})
_SPANS: Final = (10_000, 2_000, 500, 100, 10)  # what hosted providers allow of eth_getLogs, from generous to free of charge
_MOST_SEARCHES: Final = 100


def contract_call(to: Address, data: bytes, at: str, sender: Address | None = None) -> RpcCall:
    """Return an ``eth_call`` at block ``at`` (a hex number or a tag)."""
    request = {"to": to, "data": "0x" + data.hex()}
    if sender is not None:
        request["from"] = sender
    return RpcCall("eth_call", (request, at))


def word(answer: Answer, kind: str) -> object:
    """Return the one value of ABI type ``kind`` that a contract answered.

    Raises: NodeError (NOT_A_CONTRACT for an empty answer, OTHER for one that is not of this type); ChainUnavailable.
    """
    raw = rpc.data(answer, "call result")
    if not raw:
        raise NodeError(NodeErrorKind.NOT_A_CONTRACT, "the address has no code, or the contract not this function")
    try:
        return decode((kind,), raw)[0]
    except RemoteProtocolError:
        raise NodeError(NodeErrorKind.OTHER, f"the contract's answer is not a {kind}") from None


def _view(signature: str, *fields: str) -> _Build:
    """Return what builds a call of a view function of ``read.asset`` with these fields of the read as arguments."""

    def build(read: Any, at: str) -> RpcCall:
        return contract_call(read.asset, encode_call(signature, *[getattr(read, name) for name in fields]), at)

    return build


def _word(kind: str) -> _Parse:
    return lambda _read, answer: word(answer, kind)


def _simulation(read: Simulate, at: str) -> RpcCall:
    return contract_call(read.to, read.data, at, read.sender)


def _simulated(_read: Simulate, answer: Answer) -> Simulated:
    if isinstance(answer, NodeError) and answer.kind in _ENDED:
        reverted = answer.kind is NodeErrorKind.REVERTED
        return Simulated(False, revert_reason(answer.data) if reverted and answer.data else answer.message)
    rpc.data(answer, "call result")
    return Simulated(True)


def _log_search(read: AuthorizationTrace, first: str, last: str) -> RpcCall:
    topics = [[event_topic(_USED), event_topic(_CANCELED)], _topic(read.authorizer), read.nonce]
    return RpcCall("eth_getLogs", ({"address": read.asset, "fromBlock": first, "toBlock": last, "topics": topics},))


def _topic(address: Address) -> str:
    return "0x" + "0" * 24 + address[2:]


def _traces(read: AuthorizationTrace, answer: Answer) -> tuple[Hash32, ...]:
    """Return the transactions whose logs say so.  A node is not trusted to have filtered."""
    wanted = (event_topic(_USED), event_topic(_CANCELED))
    return tuple(
        [
            transaction
            for log, transaction in rpc.logs(answer)
            if log.address == read.asset
            and log.topics[:1] in ((wanted[0],), (wanted[1],))
            and log.topics[1:] == (_topic(read.authorizer), read.nonce)
        ]
    )


READS: Final[Mapping[type[Read[Any]], tuple[_Build, _Parse]]] = {
    BalanceOf: (_view("balanceOf(address)", "owner"), _word("uint256")),
    Allowance: (_view("allowance(address,address)", "owner", "spender"), _word("uint256")),
    PermitNonce: (_view("nonces(address)", "owner"), _word("uint256")),
    AuthorizationState: (_view("authorizationState(address,bytes32)", "authorizer", "nonce"), _word("bool")),
    DomainSeparator: (_view("DOMAIN_SEPARATOR()"), _word("bytes32")),
    CodeAt: (lambda read, at: RpcCall("eth_getCode", (read.address, at)), lambda _read, answer: rpc.data(answer, "code")),
    Simulate: (_simulation, _simulated),
    AuthorizationTrace: (lambda read, at: _log_search(read, hex(read.since), at), _traces),
}


def read_call(read: Read[Any], at: str) -> RpcCall:
    """Return the call that asks a read at a block.  Raises: LocalProtocolError for a read this binding does not know."""
    try:
        build, _ = READS[type(read)]
    except KeyError:
        raise LocalProtocolError(f"no node can be asked {type(read).__name__}", field="reads") from None
    return build(read, at)


def parse_answer(read: Read[Any], answer: Answer) -> object:
    """Return a read's answer (a trace's: the transactions found).  Raises: NodeError, ChainUnavailable."""
    return READS[type(read)][1](read, answer)


def trace(
    read: AuthorizationTrace, answer: Answer, head: int, endpoint: Endpoint
) -> Generator[Command[Any], Any, TxReceipt | None]:
    """Finish a trace: search in narrower spans if the node asks for it, then fetch the receipt.

    Raises: NodeError; ChainUnavailable, also when the node that knows the log has no receipt for it.
    """
    try:
        found = _traces(read, answer)
    except NodeError as error:
        if error.kind is not NodeErrorKind.RANGE:
            raise
        found = yield from _narrower(read, head, endpoint, error)
    if not found:
        return None
    answered = yield from rpc.call(endpoint, "eth_getTransactionReceipt", found[0])
    receipt = rpc.receipt(answered, found[0])
    if receipt is None:
        raise ChainUnavailable("the node has the log of a transaction but not its receipt")
    return receipt


def _narrower(
    read: AuthorizationTrace, head: int, endpoint: Endpoint, error: NodeError
) -> Generator[Command[Any], Any, tuple[Hash32, ...]]:
    """Search since..head in spans, ever narrower, until the node is content; raise its ``error`` when that gets too many."""
    for span in _SPANS:
        starts = range(read.since, head + 1, span)
        if len(starts) < 2:
            continue
        if len(starts) > _MOST_SEARCHES:
            break
        searches = [_log_search(read, hex(first), hex(min(first + span - 1, head))) for first in starts]
        answered = yield from rpc.send(endpoint, searches)
        try:
            return tuple([found for each in answered for found in _traces(read, each)])
        except NodeError as narrower:
            if narrower.kind is not NodeErrorKind.RANGE:
                raise
            error = narrower
    raise error
