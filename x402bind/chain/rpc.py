"""JSON-RPC 2.0 over HTTP, pure: several calls as one request, and an answer's bytes as values or one of two errors.

Whatever a node sends, the outcome of :func:`answers` is a tuple with one entry a call (a result, or a
:class:`~x402bind.chain.errors.NodeError` as a value), or one raised :class:`~x402bind.chain.errors.RpcError`.  The readers
below (:func:`quantity`, :func:`data`, ...) hold single results to their type in the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from x402bind.leaves import MOST_BYTES, HttpCall, HttpFailed, HttpReply, shown
from x402core.commands import Command
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.events import Headers
from x402core.machines.machine import ask
from x402core.reads import Log, TxReceipt
from x402core.values import Hash32, Network, chain_id, parse_address, parse_hash32, parse_hex
from x402core.wire.json import Json, Writable, loads

from .errors import ChainUnavailable, NodeError, NodeErrorKind, classify, printable

__all__ = [
    "Answer",
    "Block",
    "Endpoint",
    "RpcCall",
    "answers",
    "block",
    "call",
    "data",
    "logs",
    "member",
    "objects",
    "quantity",
    "receipt",
    "request",
    "result",
    "send",
]

Answer: TypeAlias = "Json | NodeError"
"""A call's result, or the node's refusal of this one call as a value."""

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_HEX_IN_WORDS = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_JSON: Final[Headers] = (("Content-Type", "application/json"), ("Accept", "application/json"))
_OK: Final = 200
_TOO_MANY_REQUESTS: Final = 429
_MOST_DATA: Final = 1 << 20
_MOST_LOGS: Final = 4096
_DEPTH: Final = 16
_written: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
"""Requests are ours, of hex strings and flags alone: what our own JSON is careful with does not occur in them."""


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """A node: where, for which network (``eip155:...``), extra headers (keys), seconds to wait for an answer.

    Raises: LocalProtocolError naming the field.
    """

    url: str
    network: Network
    headers: Headers = ()
    timeout: float = 10.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise LocalProtocolError("expected an http:// or https:// URL of a JSON-RPC node", field="url")
        chain_id(self.network)
        if not self.timeout > 0:
            raise LocalProtocolError("seconds must be above zero", field="timeout")

    def __repr__(self) -> str:
        """Show neither path nor headers: providers put keys there."""
        return f"Endpoint({shown(self.url)}, {self.network})"


@dataclass(frozen=True, slots=True)
class RpcCall:
    """One method call with its positional parameters."""

    method: str
    params: tuple[Writable, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """What we use of a block: number, Unix time in seconds, base fee in wei per gas (None before EIP-1559)."""

    number: int
    time: int
    base_fee: int | None


# ------------------------------------------------------------------------------------------------------- asking a node


def request(endpoint: Endpoint, calls: Sequence[RpcCall]) -> HttpCall:
    """Return the one HTTP call that asks a node everything: a batch with ids 0, 1, ..., or a plain call if it is one."""
    documents: list[Writable] = [
        {"jsonrpc": "2.0", "id": number, "method": each.method, "params": each.params} for number, each in enumerate(calls)
    ]
    body = _written(documents[0] if len(documents) == 1 else documents).encode()
    return HttpCall("POST", endpoint.url, (*_JSON, *endpoint.headers), body, endpoint.timeout)


def send(endpoint: Endpoint, calls: Sequence[RpcCall]) -> Generator[Command[Any], Any, tuple[Answer, ...]]:
    """Ask a node everything in one HTTP round trip.  Raises: ChainUnavailable, NodeError (for the whole request)."""
    try:
        reply = yield from ask(request(endpoint, calls))
    except HttpFailed as error:
        raise ChainUnavailable(f"{shown(endpoint.url)}: {error}", sent=error.sent) from None
    return answers(len(calls), reply)


def call(endpoint: Endpoint, method: str, *params: Writable) -> Generator[Command[Any], Any, Json]:
    """Make one call.  Raises: ChainUnavailable, NodeError."""
    (answer,) = yield from send(endpoint, (RpcCall(method, params),))
    return result(answer)


# --------------------------------------------------------------------------------------------------- reading an answer


def answers(count: int, reply: HttpReply) -> tuple[Answer, ...]:
    """Return what a node answered to ``count`` calls, in their order.

    Raises: ChainUnavailable for any status but 200 and for garbage; NodeError when it refused the request as a whole.
    """
    if reply.status == _TOO_MANY_REQUESTS:
        raise NodeError(NodeErrorKind.RATE_LIMITED, "HTTP 429", code=_TOO_MANY_REQUESTS)
    if reply.status != _OK:
        raise ChainUnavailable(f"the node answered HTTP {reply.status}")
    try:
        document = loads(reply.body, most=MOST_BYTES, depth=_DEPTH, source="rpc")
    except RemoteProtocolError as error:
        raise ChainUnavailable(f"the node's answer is not sound JSON: {error.text}") from None
    if isinstance(document, dict):
        if count != 1 or document.get("id") is None:
            _refused_whole(document)
        document = [document]
    if isinstance(document, list) and len(document) == 1 < count and isinstance(document[0], dict):
        _refused_whole(document[0])  # so does go-ethereum when a batch is too large
    if not isinstance(document, list) or len(document) != count:
        raise ChainUnavailable("the node's answer does not fit the request: not one entry for each call")
    found: dict[int, Answer] = {}
    for entry in document:
        number, answer = _entry(entry)
        if number in found or not 0 <= number < count:
            raise ChainUnavailable("the node's answer does not fit the request: an id twice, or one never sent")
        found[number] = answer
    return tuple([found[number] for number in range(count)])


def _refused_whole(document: dict[str, Json]) -> None:
    """Raise what a lone object in the place of a batch means: an error for all of it, or garbage."""
    error = document.get("error")
    if isinstance(error, dict):
        raise _node_error(error)
    raise ChainUnavailable("the node's answer does not fit the request: one object for a batch")


def _entry(entry: Json) -> tuple[int, Answer]:
    number = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(number, int) or isinstance(number, bool):
        raise ChainUnavailable("the node's answer does not fit the request: an entry without our id")
    error, outcome = entry.get("error"), entry.get("result")
    if error is None:
        if "result" not in entry:
            raise ChainUnavailable("the node's answer has neither a result nor an error")
        return number, outcome
    if not isinstance(error, dict) or outcome is not None:
        raise ChainUnavailable("the node's answer has a malformed error")
    return number, _node_error(error)


def _node_error(error: dict[str, Json]) -> NodeError:
    code, message, extra = error.get("code"), error.get("message"), error.get("data")
    if isinstance(extra, dict):  # some proxies wrap it once more
        extra = extra.get("data")
    words = extra if isinstance(extra, str) else ""
    number = code if isinstance(code, int) and abs(code) < 10**9 else 0
    text = message if isinstance(message, str) else ""
    found = _HEX_IN_WORDS.search(words)
    revert = bytes.fromhex(found[0][2:]) if found is not None and len(found[0]) <= 2 * _MOST_DATA else b""
    return NodeError(classify(number, text, words), printable(text), revert, number)


def result(answer: Answer) -> Json:
    """Return a call's result.  Raises: NodeError when the node refused it."""
    if isinstance(answer, NodeError):
        raise answer
    return answer


# ------------------------------------------------------------------------------------------------------ typed results


def _bad(what: str) -> ChainUnavailable:
    return ChainUnavailable(f"the node's answer has no valid {what}")


def member(members: dict[str, Json], name: str) -> Json:
    """Return a member of a result object.  Raises: ChainUnavailable when it is missing."""
    try:
        return members[name]
    except KeyError:
        raise _bad(name) from None


def quantity(value: Answer, what: str = "number") -> int:
    """Return a hex quantity of at most 256 bits.  Raises: NodeError; ChainUnavailable when it is none."""
    value = result(value)
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise _bad(what)
    return int(value, 16)


def data(value: Answer, what: str = "data") -> bytes:
    """Return hex bytes.  Raises: NodeError; ChainUnavailable when they are none."""
    try:
        return parse_hex(result(value), most=_MOST_DATA)
    except RemoteProtocolError:
        raise _bad(what) from None


def objects(value: Answer, what: str, most: int = _MOST_LOGS) -> list[dict[str, Json]]:
    """Return an array of objects.  Raises: NodeError; ChainUnavailable when it is none."""
    found = result(value)
    if not isinstance(found, list) or len(found) > most:
        raise _bad(what)
    entries = [entry for entry in found if isinstance(entry, dict)]
    if len(entries) != len(found):
        raise _bad(what)
    return entries


def block(value: Answer) -> Block:
    """Return a block.  Raises: NodeError; ChainUnavailable also when the node does not have it."""
    found = result(value)
    if not isinstance(found, dict):
        raise ChainUnavailable("the node does not have the block" if found is None else "the node's answer is not a block")
    fee = found.get("baseFeePerGas")
    return Block(
        quantity(member(found, "number"), "block number"),
        quantity(member(found, "timestamp"), "block timestamp"),
        None if fee is None else quantity(fee, "base fee"),
    )


def logs(value: Answer) -> tuple[tuple[Log, Hash32], ...]:
    """Return event logs, each with its transaction; those a reorg removed are left out.  Raises: as :func:`objects`."""
    try:
        return tuple(
            [
                (_log(entry), parse_hash32(entry.get("transactionHash")))
                for entry in objects(value, "logs")
                if entry.get("removed") is not True
            ]
        )
    except RemoteProtocolError:
        raise _bad("log") from None


def _log(entry: dict[str, Json]) -> Log:
    topics = entry.get("topics")
    if not isinstance(topics, list) or len(topics) > 4:
        raise _bad("log")
    return Log(
        parse_address(entry.get("address")),
        tuple([parse_hash32(topic) for topic in topics]),
        data(entry.get("data"), "log data"),
    )


def receipt(value: Answer, transaction: Hash32) -> TxReceipt | None:
    """Return the receipt of ``transaction``, None while it is not mined.  Raises: NodeError; ChainUnavailable."""
    found = result(value)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise _bad("receipt")
    if found.get("blockNumber") is None:
        return None
    status = quantity(member(found, "status"), "receipt status")
    try:
        if status > 1 or parse_hash32(found.get("transactionHash")) != transaction:
            raise _bad("receipt")
        entries = objects(member(found, "logs"), "logs")
        return TxReceipt(transaction, status == 1, quantity(found["blockNumber"], "block number"), tuple(map(_log, entries)))
    except RemoteProtocolError:
        raise _bad("receipt") from None
