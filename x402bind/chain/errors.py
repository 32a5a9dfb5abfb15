"""What can go wrong between us and a chain's node, in two words: it is not there, or it says no.

* :class:`ChainUnavailable` -- no answer that means anything: transport, HTTP status, garbage.  Our trouble, not the payer's.
* :class:`NodeError` -- the node's own JSON-RPC error, its wording mapped to the closed :class:`NodeErrorKind`.

Every node words its refusals differently and gives most of them the same code, so :data:`WORDINGS` is the one place that
knows the words of go-ethereum, erigon, nethermind, besu, reth, anvil, the embedded devnet and the hosted providers (the idea is
viem's; the recorded samples are in ``tests/chain/test_rpc.py``).  The table is read from the top, the first match counts.
It is money-relevant: a kind in ``translate.chain.REFUSALS`` lets a settlement conclude that no node has its transaction,
so those rows match whole phrases, and what no row knows is ``OTHER``, from which nothing is concluded.

The texts of a node are for our own logs.  No driver puts an exception's text into an answer to a peer.
"""

from __future__ import annotations

import re
from enum import Enum, unique
from typing import Final

__all__ = ["WORDINGS", "ChainUnavailable", "NodeError", "NodeErrorKind", "RpcError", "classify", "printable"]

_MOST_TEXT: Final = 300


@unique
class NodeErrorKind(Enum):
    """What a node meant."""

    REVERTED = "reverted"  # the contract said no
    HALTED = "halted"  # the EVM stopped: out of gas, invalid opcode
    NONCE_TOO_LOW = "nonce_too_low"
    NONCE_TOO_HIGH = "nonce_too_high"
    ALREADY_KNOWN = "already_known"
    REPLACEMENT_UNDERPRICED = "replacement_underpriced"  # another transaction with this number waits; not enough more
    UNDERPRICED = "underpriced"  # below what this node's pool takes
    FEE_TOO_LOW = "fee_too_low"  # below the block's base fee
    INSUFFICIENT_FUNDS = "insufficient_funds"
    GAS = "gas"  # the gas limit is below the minimum or above the block's
    INVALID = "invalid"  # malformed, wrong chain, wrong signature
    POOL_FULL = "pool_full"
    RANGE = "range"  # eth_getLogs: too many blocks or results at once
    RATE_LIMITED = "rate_limited"
    UNKNOWN_BLOCK = "unknown_block"  # not there yet, or pruned
    NOT_READY = "not_ready"  # the node is syncing or indexing, or had no time for the request
    NO_SUCH_METHOD = "no_such_method"
    NOT_A_CONTRACT = "not_a_contract"  # a call that must answer words answered nothing
    OTHER = "other"


_K = NodeErrorKind


def _row(kind: NodeErrorKind, *patterns: str) -> tuple[NodeErrorKind, re.Pattern[str]]:
    return kind, re.compile("|".join(patterns))


# A row is matched against "[code] message" in lower case, followed by "{data}" when the data is words.  REVERTED comes
# first and is anchored: behind it stands text the called contract chose, which must not be able to match another row.
WORDINGS: Final = (
    _row(
        _K.REVERTED,
        r"^\[3\]",
        r"^\[[-0-9]*\] (?:internal_error: )?execution reverted",
        r"^\[[-0-9]*\] (?:vm exception while processing transaction: )?revert(?:ed)?\b",
        r"^\[[-0-9]*\] vm execution error\.? \{revert",
    ),
    _row(
        _K.HALTED,
        r"^\[[-0-9]*\] (?:out ?of ?gas|evm error|invalid opcode|invalid jump|stack (?:underflow|limit)|write protection)",
        r"^\[[-0-9]*\] (?:invalid code|contract creation code storage|max call depth|bad instruction|out of memory)",
        r"^\[[-0-9]*\] transaction processing could not be completed due to an exception",
        r"^\[[-0-9]*\] vm execution error\.? \{(?:out of gas|bad instruction|bad jump|stack)",
    ),
    _row(
        _K.RATE_LIMITED,
        r"^\[(?:429|-32016|-32007|-32029)\]",
        r"rate limit",
        r"too many requests",
        r"request rate exceeded",
        r"request count exceeded",
        r"exceeded its (?:compute units|throughput)",
        r"requests? limit (?:reached|exceeded)",
        r"capacity exceeded",
        r"requests per second",
    ),
    _row(
        _K.UNKNOWN_BLOCK,
        r"header (?:range )?not found",
        r"unknown block",
        r"block not found",
        r"could not find block",
        r"resource not found",
        r"missing trie node",
        r"state .{0,90}is not available",
        r"pruned history",
        r"blockoutofrange",
        r"block (?:number )?(?:is )?out of range",
        r"invalid block range",
        r"beyond current head",
        r"world state unavailable",
    ),
    _row(
        _K.NOT_READY,
        r"transaction indexing is in progress",
        r"initial sync is still in progress",
        r"node is syncing",
        r"\] (?:request timed out|timeout expired)$",
    ),
    _row(
        _K.RANGE,
        r"block range",
        r"block span",
        r"range (?:is )?too (?:large|wide)",
        r"range (?:exceeds|limit)",
        r"limited to a ",
        r"query returned more than",
        r"too many (?:results|logs)",
        r"max(?:imum)? (?:number of )?results",
        r"response (?:size|too large)",
    ),
    _row(
        _K.ALREADY_KNOWN,
        r"already ?known",
        r"already ?imported",
        r"known transaction",
        r"existing txn with same hash",
        r"already in mempool",
        r"already exists in (?:the )?(?:mem)?pool",
        r"transaction already exists",
    ),
    _row(_K.NONCE_TOO_LOW, r"(?<!authority )nonce (?:is )?too low", r"oldnonce", r"nonce has already been used"),
    _row(
        _K.NONCE_TOO_HIGH,
        r"nonce ?(?:is )?too ?high",
        r"noncegap",
        r"nonce ?too ?far ?in ?(?:the )?future",
        r"nonce is too distant from current sender nonce",
        r"gapped-nonce tx",
    ),
    _row(
        _K.REPLACEMENT_UNDERPRICED,
        r"replacement transaction underpriced",
        r"could not replace existing tx",
        r"insufficient gas price to replace existing transaction",
        r"replacementnotallowed",
        r"future transaction tries to replace pending",
    ),
    _row(
        _K.FEE_TOO_LOW,
        r"max fee per gas (?:is )?less than block base fee",
        r"fee ?cap (?:is )?less than block base fee",
        r"feecap \d+ below chain minimum",
        r"(?<!blob )gas price below current base fee",
    ),
    _row(
        _K.UNDERPRICED,
        r"transaction underpriced",
        r"feetoolow",
        r"gas price below (?:configured )?minimum",
        r"tip cap \d+, minimum needed",
        r"priority fee below minimum",
        r"(?:: |\] )(?:underpriced|fee too low)$",
    ),
    _row(
        _K.INSUFFICIENT_FUNDS,
        r"insufficient ?funds",
        r"transaction overdraws from account",
        r"upfront cost exceeds account balance",
    ),
    _row(
        _K.GAS,
        r"intrinsic ?gas",
        r"floor data gas",
        r"gas required exceeds allowance",
        r"exceeds block(?:'s)? gas limit",
        r"gas limit is greater than the block",
        r"gas limit (?:is )?(?:too high|reached)",
        r"gas ?limit ?(?:cap ?)?exceeded",
        r"gas ?uint(?:64)? ?overflow",
    ),
    _row(
        _K.INVALID,
        r"(?:invalid|wrong|incorrect) ?(?:tx)?chain ?id",
        r"chainid (?:not supported|is required)",
        r"incompatible eip-155",
        r"only replay-protected",
        r"invalid sender",
        r"invalid ?(?:tx|transaction )?signature",
        r"invalid ?(?:tx|transaction )type",
        r"invalid transaction v, r, s",
        r"sender (?:is )?not an eoa",
        r"transaction type (?:is )?not (?:supported|activated)",
        r"unsupported transaction type",
        r"max (?:priority )?fee per gas (?:higher than|exceeds max fee)",
        r"invalidmaxpriorityfeepergas",
        r"transaction fee cap exceeded",
        r"tx fee \(.{1,40}\) exceeds the configured cap",
        r"transaction cost overflow",
        r"nonce has max value",
        r"negative value",
        r"oversized data",
        r"input data too large",
        r"transaction (?:invalid|too large)",
        r"initcode",
        r"failed ?to ?(?:decode|recover|resolvesender)",
        r"rlptoolong",
        r"\] (?:typed transaction too short|rlp: )",
    ),
    _row(
        _K.POOL_FULL,
        r"pool is full",
        r"pool size constraints",
        r"account limit exceeded",
        r"in-flight transaction limit reached",
        r"spammer",
    ),
    _row(
        _K.NO_SUCH_METHOD,
        r"^\[-32601\]",
        r"method not found",
        r"does not exist/is not available",
        r"unsupported method",
        r"^\[-32604\]",
    ),
    _row(_K.RATE_LIMITED, r"^\[-32005\]"),
)


class RpcError(Exception):
    """The abstract parent of both.  ``passing``: the same question may well be answered a moment later."""

    passing: bool = False


class ChainUnavailable(RpcError):
    """A node gave no answer that means anything.  ``sent`` false: it was not even asked.  The text is ours."""

    passing = True

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class NodeError(RpcError):
    """A node refused, in its own words (``message``: printable, cut; for logs only).  ``data`` is a revert's bytes."""

    def __init__(self, kind: NodeErrorKind, message: str, data: bytes = b"", code: int = 0) -> None:
        super().__init__(kind, message, data, code)
        self.kind = kind
        self.message = message
        self.data = data
        self.code = code
        self.passing = kind in _PASSING

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.message}" if self.message else self.kind.value


_PASSING: Final = frozenset({_K.RATE_LIMITED, _K.UNKNOWN_BLOCK, _K.NOT_READY})


def classify(code: int, message: str, data: str = "") -> NodeErrorKind:
    """Say what a node meant by an error: the first row of :data:`WORDINGS` that knows the words, else OTHER."""
    words = f" {{{data[:_MOST_TEXT]}}}" if data and not data.startswith("0x") else ""
    subject = f"[{code}] {message[:_MOST_TEXT]}{words}".lower()
    for kind, pattern in WORDINGS:
        if pattern.search(subject):
            return kind
    return NodeErrorKind.OTHER


def printable(text: str) -> str:
    """Return foreign text as one line of at most 300 printable characters."""
    return "".join([c if c.isprintable() else "?" for c in text[:_MOST_TEXT]])
