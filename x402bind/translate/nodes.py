"""Asking several nodes as if they were one: failover, hedging, staleness, agreement.

* :func:`anywhere` -- a read, by the first node that can answer it.  A contract's own refusal is an answer; any other
  trouble is a reason to ask the next node.  One read is answered by one node alone, so its facts are still of one block.
* :func:`agreed` -- a read that money hangs on, believed when as many nodes as ``Nodes.agree`` tell the same.

A node that is behind the others is asked last, and what it said is used only when no other answers (the highest, if all
are behind).  Nodes at different heads do not contradict one another where the difference is in the blocks that only one has:
then the older view is returned, which every one of them confirms.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from x402bind.chain import rpc
from x402bind.chain.errors import ChainUnavailable, NodeError, NodeErrorKind, RpcError
from x402bind.chain.nodes import Nodes, Where
from x402bind.chain.rpc import Endpoint
from x402bind.leaves import FirstOf, HttpCall, HttpFailed, HttpReply, shown
from x402core.commands import Command, Receipts
from x402core.machines.machine import ask, translate
from x402core.reads import (
    AuthorizationState,
    AuthorizationTrace,
    Facts,
    NonceBitmap,
    PermitNonce,
    Read,
    TransferTrace,
    TxReceipt,
)
from x402core.values import chain_id

__all__ = ["Sight", "agreed", "anywhere", "is_proof", "prove", "sight_of_facts", "sight_of_receipts"]

R = TypeVar("R")
_Run: TypeAlias = Generator[Command[Any], Any, R]
_Make: TypeAlias = Callable[[Endpoint], Generator[Command[Any], Any, R]]

_ANSWERS: Final = frozenset({NodeErrorKind.REVERTED, NodeErrorKind.HALTED, NodeErrorKind.NOT_A_CONTRACT})
"""What a contract refuses, or the lack of one: no other node of the chain will say otherwise."""

_PROOFS: Final = (AuthorizationTrace, TransferTrace, AuthorizationState, PermitNonce, NonceBitmap)


@dataclass(frozen=True, slots=True)
class Sight:
    """What of a result is compared between nodes: the head's number and Unix time, and what may prove a payment, in order."""

    number: int
    time: int
    proofs: tuple[object, ...] = ()


def sight_of_facts(facts: Facts) -> Sight:
    """Return what is compared of a plan's answers."""
    return Sight(facts.number, facts.time, tuple([facts.answers[read] for read in facts.answers if isinstance(read, _PROOFS)]))


def sight_of_receipts(receipts: Receipts) -> Sight:
    """Return what is compared of receipts."""
    return Sight(receipts.head, receipts.time, receipts.receipts)


def is_proof(reads: Iterable[Read[Any]]) -> bool:
    """Say whether money hangs on the answers: a plan that looks for the transaction which paid."""
    return any(isinstance(read, AuthorizationTrace | TransferTrace) for read in reads)


def anywhere(where: Where, make: _Make[R], sight: Callable[[R], Sight] | None = None) -> _Run[R]:
    """Run a read at one node, and at the next when that cannot answer.

    ``make`` begins with one HTTP request.  ``sight`` tells which head the answer is from, where it tells.
    Raises: NodeError, ChainUnavailable: the answer; or what the last node said that may pass, when none had one.
    """
    if isinstance(where, Endpoint) or len(where.endpoints) == 1:
        endpoint = where if isinstance(where, Endpoint) else where.endpoints[0]
        if isinstance(where, Nodes):
            yield from prove(where, endpoint)
        return (yield from make(endpoint))
    waiting, late, trouble = list(where.in_order), list[tuple[int, R]](), list[RpcError]()
    while waiting:
        try:
            endpoint, found = yield from _next(where, waiting, make)
        except RpcError as error:
            if _is_answer(error):
                raise
            trouble.append(error)
            continue
        if sight is None or not _is_late(where, endpoint, sight(found)):
            return found
        late.append((sight(found).time, found))
    if late:
        return max(late, key=lambda each: each[0])[1]
    raise next((each for each in reversed(trouble) if each.passing), trouble[-1])


def agreed(where: Where, make: _Make[R], sight: Callable[[R], Sight]) -> _Run[R]:
    """Run a read at as many nodes as must agree, and return the oldest view once they do.

    Raises: NodeError; ChainUnavailable, also when too few can be asked, or they contradict one another.
    """
    if isinstance(where, Endpoint) or where.agree == 1:
        return (yield from anywhere(where, make, sight))
    views: list[tuple[Sight, R, Endpoint]] = []
    for endpoint in where.in_order:
        try:
            found = yield from _one(where, endpoint, make)
        except RpcError as error:
            if _is_answer(error):
                raise
            continue
        views.append((sight(found), found, endpoint))
        views = _together(where, views)
        if len(views) == where.agree:
            return _common([(seen, found) for seen, found, _ in views])
    raise ChainUnavailable(f"{len(views)} nodes answered alike and in time, and {where.agree} must agree")


def prove(where: Nodes, endpoint: Endpoint) -> _Run[None]:
    """Have a node that could not be asked at start-up say which chain it serves.  Raises: NodeError, ChainUnavailable."""
    if where.health.doubted(endpoint):
        told = rpc.quantity((yield from rpc.call(endpoint, "eth_chainId")), "chain id")
        if told != chain_id(endpoint.network):
            raise ChainUnavailable(f"{shown(endpoint.url)} serves chain {told}, not {endpoint.network}", sent=False)
        where.health.trust(endpoint)


# ------------------------------------------------------------------------------------------------------------ one node


def _is_answer(error: RpcError) -> bool:
    return isinstance(error, NodeError) and error.kind in _ANSWERS


def _one(where: Nodes, endpoint: Endpoint, make: _Make[R]) -> _Run[R]:
    """Run a read at this node, and note how it did."""
    try:
        yield from prove(where, endpoint)
        found = yield from make(endpoint)
    except RpcError as error:
        if error.passing:
            where.health.failed(endpoint)
        raise
    where.health.worked(endpoint)
    return found


def _is_late(where: Nodes, endpoint: Endpoint, seen: Sight) -> bool:
    late = where.health.behind(endpoint, seen.time) > where.most_lag
    if late:
        where.health.failed(endpoint)
    return late


# -------------------------------------------------------------------------------------------------------------- hedging


def _next(where: Nodes, waiting: list[Endpoint], make: _Make[R]) -> _Run[tuple[Endpoint, R]]:
    """Ask the next node, or race the next two, taking off the list those that need not be asked again."""
    racing = waiting[:2]
    if where.hedge_after is None or len(racing) < 2 or any(where.health.doubted(each) for each in racing):
        endpoint = waiting.pop(0)
        return endpoint, (yield from _one(where, endpoint, make))
    calls = tuple([_first_call(make(each)) for each in racing])
    try:
        won = yield from ask(FirstOf(calls, where.hedge_after))
    except HttpFailed as error:
        for each in racing:
            waiting.remove(each)
            where.health.failed(each)
        raise ChainUnavailable(f"{' and '.join([shown(each.url) for each in racing])}: {error}") from None
    for number in (*won.failed, *won.beaten):
        waiting.remove(racing[number])
        (where.health.failed if number in won.failed else where.health.beaten)(racing[number])
    endpoint = racing[won.position]
    waiting.remove(endpoint)
    return endpoint, (yield from _one(where, endpoint, lambda each: translate(make(each), _given(won.reply))))


def _first_call(run: _Run[Any]) -> HttpCall:
    call = next(run)
    run.close()
    assert isinstance(call, HttpCall), call
    return call


def _given(reply: HttpReply) -> dict[type[Command[Any]], Callable[[HttpCall], _Run[HttpReply]]]:
    """Return the table with which a run gets ``reply`` to its first request, and makes its further ones itself."""
    replies = [reply]

    def answer(call: HttpCall) -> _Run[HttpReply]:
        return replies.pop() if replies else (yield from ask(call))

    return {HttpCall: answer}


# ------------------------------------------------------------------------------------------------------------ agreement


def _together(where: Nodes, views: list[tuple[Sight, R, Endpoint]]) -> list[tuple[Sight, R, Endpoint]]:
    """Return the views that are not far behind the newest, which is to be preferred."""
    newest = max(seen.time for seen, *_ in views)
    for seen, _, endpoint in views:
        if newest - seen.time > where.most_lag:
            where.health.failed(endpoint)
    return [each for each in views if newest - each[0].time <= where.most_lag]


def _common(views: list[tuple[Sight, R]]) -> R:
    """Return the oldest view, with which every other must agree."""
    views = sorted(views, key=lambda each: each[0].number)
    (oldest, found), *others = views
    for newer, _ in others:
        if not all(_fits(a, b, oldest, newer) for a, b in zip(oldest.proofs, newer.proofs, strict=True)):
            raise ChainUnavailable("nodes disagree about what was paid")
    return found


def _fits(a: object, b: object, older: Sight, newer: Sight) -> bool:
    """Say whether ``b``, seen at a later head, may follow on ``a``: by blocks that only the newer view has."""
    if a == b:
        return True
    if newer.number == older.number:
        return False
    if isinstance(b, TxReceipt):
        return a is None and b.block > older.number
    if isinstance(a, tuple) and isinstance(b, tuple):  # of Traced
        return all(each in b for each in a) and all(each in a for each in b if each.receipt.block <= older.number)
    return isinstance(a, int) and isinstance(b, int) and b > a  # flags, bitmaps and nonces only rise
