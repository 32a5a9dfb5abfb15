"""How each read of a plan is asked of a node, and how its answer is read: one table, :data:`READS`.

A call that must return a word and returns nothing was made to an address without that contract: it fails the read
(``NOT_A_CONTRACT``) and never passes for 0.  Only a simulation and a question about a signature take a refusal for an
answer, and only the contract's own: a revert or a halt of the EVM.

The traces alone may need more round trips (:func:`trace`): one for what they found, and, when a provider will not search so
many blocks at once, one for each narrower search.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, TypeAlias

from x402bind.chain import rpc
from x402bind.chain.errors import ChainUnavailable, NodeError, NodeErrorKind
from x402bind.chain.rpc import Answer, Endpoint, RpcCall
from x402core.commands import Command
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.evm import bundle
from x402core.evm.abi import decode, encode_call, event_topic, revert_reason, selector
from x402core.evm.digests import PERMIT2
from x402core.reads import (
    Allowance,
    AuthorizationState,
    AuthorizationTrace,
    BalanceOf,
    CodeAt,
    DomainSeparator,
    NativeBalance,
    NonceBitmap,
    PermitNonce,
    Read,
    SignatureValid,
    Simulate,
    SimulateAll,
    Simulated,
    SimulatePayment,
    Traced,
    TransactionCount,
    TransferTrace,
    TxReceipt,
)
from x402core.values import Address, Hash32, parse_address, parse_hash32
from x402core.wire.json import Writable

__all__ = ["READS", "contract_call", "parse_answer", "read_call", "trace", "word"]

_Build: TypeAlias = Callable[[Any, str], RpcCall]
_Parse: TypeAlias = Callable[[Any, Answer], object]

_USED: Final = "AuthorizationUsed(address,bytes32)"
_CANCELED: Final = "AuthorizationCanceled(address,bytes32)"
_ENDED: Final = frozenset({NodeErrorKind.REVERTED, NodeErrorKind.HALTED})
_SPANS: Final = (10_000, 2_000, 500, 100, 10)  # what hosted providers allow of eth_getLogs, from generous to free of charge
_MOST_SEARCHES: Final = 100
_MOST_TRACED: Final = 32
_TRANSFER: Final = "Transfer(address,address,uint256)"
_IS_VALID: Final = "isValidSignature(bytes32,bytes)"


def contract_call(to: Address, data: bytes, at: str, sender: Address | None = None) -> RpcCall:
    """Return an ``eth_call`` at block ``at`` (a hex number or a tag)."""
    return _eth_call({"to": to, "data": "0x" + data.hex()} | ({} if sender is None else {"from": sender}), at)


def _eth_call(request: dict[str, str], at: str) -> RpcCall:
    return RpcCall("eth_call", (dict[str, Writable](request), at))


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
    sender = {} if read.sender is None else {"from": read.sender}
    gas = {} if read.gas is None else {"gas": hex(read.gas)}
    return _eth_call({"to": read.to, "data": "0x" + read.data.hex()} | sender | gas, at)


def _refused(answer: Answer) -> Simulated | None:
    """Return how the EVM ended a call that did not succeed."""
    if not isinstance(answer, NodeError) or answer.kind not in _ENDED:
        return None
    reverted = answer.kind is NodeErrorKind.REVERTED
    return Simulated(False, revert_reason(answer.data) if reverted and answer.data else answer.message)


def _simulated(_read: Simulate, answer: Answer) -> Simulated:
    if (refused := _refused(answer)) is not None:
        return refused
    rpc.data(answer, "call result")
    return Simulated(True)


def _simulated_all(_read: SimulateAll, answer: Answer) -> Simulated:
    """Take for success only what our own creation code answers: some nodes run no creation code in a call."""
    if (refused := _refused(answer)) is not None:
        return refused
    if rpc.data(answer, "call result") != bundle.DONE:
        raise NodeError(NodeErrorKind.OTHER, "the node does not run creation code in a call")
    return Simulated(True)


def _payment(read: SimulatePayment, at: str) -> RpcCall:
    """Call the sender as if it had code; nobody else's call has to come from where it says."""
    code, data = bundle.payment(read.to, read.data, read.asset, read.pay_to, read.amount)
    request: dict[str, Writable] = {"to": read.sender, "data": "0x" + data.hex()}
    return RpcCall("eth_call", (request, at, {read.sender: {"code": "0x" + code.hex()}}))


def _simulated_payment(_read: SimulatePayment, answer: Answer) -> Simulated:
    """Take for an answer only what our own code says: some nodes lend no code, and some do not say that they do not."""
    if (refused := _refused(answer)) is not None:
        return refused
    told = rpc.data(answer, "call result")
    if told not in (bundle.DONE, bundle.UNPAID):
        raise NodeError(NodeErrorKind.OTHER, "the node does not override an account's code in a call")
    return Simulated(told == bundle.DONE, "" if told == bundle.DONE else "the payee was not paid the amount")


def _signature_question(read: SignatureValid, at: str) -> RpcCall:
    return contract_call(read.account, encode_call(_IS_VALID, read.digest, read.signature), at)


def _signature_valid(_read: SignatureValid, answer: Answer) -> bool:
    """Take only ERC-1271's magic value for a yes; an account without code answers nothing, and that is a no."""
    if _refused(answer) is not None:
        return False
    told = rpc.data(answer, "call result")
    return len(told) >= 32 and told[:4] == selector(_IS_VALID)


def _log_search(read: AuthorizationTrace | TransferTrace, first: str, last: str) -> RpcCall:
    topics: list[Writable]
    if isinstance(read, TransferTrace):
        topics = [event_topic(_TRANSFER), _topic(read.payer), _topic(read.pay_to)]
    else:
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


def _transfers(read: TransferTrace, answer: Answer) -> tuple[Hash32, ...]:
    """Return the transactions with such a transfer, each once, in order; none of nothing, which anybody can make at will."""
    wanted = (event_topic(_TRANSFER), _topic(read.payer), _topic(read.pay_to))
    found = [tx for log, tx in rpc.logs(answer) if log.address == read.asset and log.topics == wanted and any(log.data)]
    return tuple(dict.fromkeys(found))


READS: Final[Mapping[type[Read[Any]], tuple[_Build, _Parse]]] = {
    BalanceOf: (_view("balanceOf(address)", "owner"), _word("uint256")),
    Allowance: (_view("allowance(address,address)", "owner", "spender"), _word("uint256")),
    PermitNonce: (_view("nonces(address)", "owner"), _word("uint256")),
    AuthorizationState: (_view("authorizationState(address,bytes32)", "authorizer", "nonce"), _word("bool")),
    DomainSeparator: (_view("DOMAIN_SEPARATOR()"), _word("bytes32")),
    CodeAt: (lambda read, at: RpcCall("eth_getCode", (read.address, at)), lambda _read, answer: rpc.data(answer, "code")),
    Simulate: (_simulation, _simulated),
    SimulateAll: (lambda read, at: _eth_call({"data": "0x" + bundle.initcode(read.calls).hex()}, at), _simulated_all),
    SimulatePayment: (_payment, _simulated_payment),
    SignatureValid: (_signature_question, _signature_valid),
    NonceBitmap: (
        lambda read, at: contract_call(PERMIT2, encode_call("nonceBitmap(address,uint256)", read.owner, read.word), at),
        _word("uint256"),
    ),
    NativeBalance: (
        lambda read, at: RpcCall("eth_getBalance", (read.account, at)),
        lambda _read, answer: rpc.quantity(answer, "balance"),
    ),
    TransactionCount: (
        lambda read, at: RpcCall("eth_getTransactionCount", (read.account, at)),
        lambda _read, answer: rpc.quantity(answer, "transaction count"),
    ),
    AuthorizationTrace: (lambda read, at: _log_search(read, hex(read.since), at), _traces),
    TransferTrace: (lambda read, at: _log_search(read, hex(read.since), at), _transfers),
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
    read: AuthorizationTrace | TransferTrace, answer: Answer, head: int, endpoint: Endpoint
) -> Generator[Command[Any], Any, TxReceipt | tuple[Traced, ...] | None]:
    """Finish a trace: search in narrower spans if the node asks for it, then fetch what was found.

    Raises: NodeError; ChainUnavailable, also when the node that knows the log has no receipt for it.
    """
    try:
        found = _found(read, answer)
    except NodeError as error:
        if error.kind is not NodeErrorKind.RANGE:
            raise
        found = yield from _narrower(read, head, endpoint, error)
    if isinstance(read, TransferTrace):
        return (yield from _traced(tuple(dict.fromkeys(found))[-_MOST_TRACED:], endpoint))
    if not found:
        return None
    answered = yield from rpc.call(endpoint, "eth_getTransactionReceipt", found[0])
    return _receipt(answered, found[0])


def _found(read: AuthorizationTrace | TransferTrace, answer: Answer) -> tuple[Hash32, ...]:
    return _transfers(read, answer) if isinstance(read, TransferTrace) else _traces(read, answer)


def _receipt(answer: Answer, transaction: Hash32) -> TxReceipt:
    receipt = rpc.receipt(answer, transaction)
    if receipt is None:
        raise ChainUnavailable("the node has the log of a transaction but not its receipt")
    return receipt


def _traced(found: tuple[Hash32, ...], endpoint: Endpoint) -> Generator[Command[Any], Any, tuple[Traced, ...]]:
    """Fetch transactions and their receipts, all in one round trip."""
    if not found:
        return ()
    methods = ("eth_getTransactionByHash", "eth_getTransactionReceipt")
    answered = yield from rpc.send(endpoint, [RpcCall(method, (each,)) for each in found for method in methods])
    pairs = zip(found, answered[::2], answered[1::2], strict=True)
    return tuple([Traced(_receipt(receipt, each), *_called(called, each)) for each, called, receipt in pairs])


def _called(answer: Answer, transaction: Hash32) -> tuple[Address | None, bytes]:
    """Return what a transaction calls, and with what data."""
    found = rpc.result(answer)
    if not isinstance(found, dict):
        raise ChainUnavailable("the node has the log of a transaction but not the transaction")
    try:
        if parse_hash32(found.get("hash")) != transaction:
            raise ChainUnavailable("the node answered with another transaction than it was asked for")
        to = found.get("to")
        return None if to is None else parse_address(to), rpc.data(rpc.member(found, "input"), "input")
    except RemoteProtocolError:
        raise ChainUnavailable("the node's answer is not a transaction") from None


def _narrower(
    read: AuthorizationTrace | TransferTrace, head: int, endpoint: Endpoint, error: NodeError
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
            return tuple([found for each in answered for found in _found(read, each)])
        except NodeError as narrower:
            if narrower.kind is not NodeErrorKind.RANGE:
                raise
            error = narrower
    raise error
