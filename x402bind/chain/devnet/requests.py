"""From JSON-RPC parameters to what the chain understands: a call object, a block reference, a log filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from x402core.errors import RemoteProtocolError
from x402core.evm.transaction import AccessList
from x402core.values import Address, parse_address, parse_hash32, parse_hex

from .block import Block
from .chain import Chain
from .errors import INVALID_PARAMS, RpcError
from .params import BlockTag, Params, block_tag, quantity
from .vm import GAS_LIMIT, Log, Message

__all__ = ["LogFilter", "find_block", "log_filter", "message", "overrides", "state_block"]

_NOBODY = Address("0x" + 40 * "0")
_SAFE_DEPTH = 32
_FINAL_DEPTH = 64


def find_block(chain: Chain, tag: BlockTag) -> Block | None:
    """Return the block a reference means; None when there is none.

    ``safe`` and ``finalized`` are 32 and 64 blocks back, as on anvil; ``pending`` is the newest block.
    """
    back = {"latest": 0, "pending": 0, "safe": _SAFE_DEPTH, "finalized": _FINAL_DEPTH}
    if tag == "earliest":
        return chain.block(0)
    if isinstance(tag, str) and tag in back:
        return chain.block(max(chain.height - back[tag], 0))
    return chain.block(tag)  # type: ignore[arg-type]  # the tags are gone: a number or a hash is left


def state_block(chain: Chain, tag: BlockTag) -> Block | None:
    """Return the block whose state is meant, None for the pending one.  Raises: RpcError when there is no such block."""
    if tag == "pending":
        return None
    block = find_block(chain, tag)
    if block is None:
        raise RpcError("header not found")
    return block


def message(params: Params, i: int = 0) -> Message:
    """Return the message of an eth_call or eth_estimateGas object."""
    fields = params.mapping(i, "transaction")
    try:
        return _message(fields)
    except RemoteProtocolError as error:
        raise RpcError(f"invalid argument {i} (transaction{error.pointer}): {error.text}", INVALID_PARAMS) from None


def overrides(params: Params, i: int) -> dict[Address, bytes]:
    """Return the codes that accounts are lent for a call; nothing else of them can be overridden.  Raises: RpcError."""
    codes: dict[Address, bytes] = {}
    for account, given in (params.mapping(i, "overrides") if params.has(i) else {}).items():
        try:
            address = parse_address(account, "/" + account)
            if not isinstance(given, dict) or given.keys() != {"code"}:
                raise RemoteProtocolError("code, and nothing else, can be overridden", pointer="/" + account)
            codes[address] = parse_hex(given["code"], f"/{account}/code", most=1 << 20)
        except RemoteProtocolError as error:
            raise RpcError(f"invalid argument {i} (overrides{error.pointer}): {error.text}", INVALID_PARAMS) from None
    return codes


def _message(fields: Mapping[str, object]) -> Message:
    def number(name: str, default: int = 0) -> int:
        return default if fields.get(name) is None else quantity(fields[name], "/" + name)

    def address(name: str) -> Address | None:
        return None if fields.get(name) is None else parse_address(fields[name], "/" + name)

    given = [parse_hex(fields[name], "/" + name, most=1 << 20) for name in ("data", "input") if fields.get(name) is not None]
    if len(given) == 2 and given[0] != given[1]:
        raise RemoteProtocolError("data and input are both given and differ", pointer="/input")
    return Message(
        sender=address("from") or _NOBODY,
        to=address("to"),
        data=given[0] if given else b"",
        value=number("value"),
        gas=min(number("gas", GAS_LIMIT), GAS_LIMIT),
        gas_price=number("gasPrice", number("maxFeePerGas")),
        access_list=_access_list(fields.get("accessList")),
    )


def _access_list(value: object) -> AccessList:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise RemoteProtocolError("expected an array of objects", pointer="/accessList")
    entries = []
    for i, entry in enumerate(value):
        keys, at = entry.get("storageKeys", []), f"/accessList/{i}"
        if not isinstance(keys, list):
            raise RemoteProtocolError("expected an array", pointer=at + "/storageKeys")
        slots = tuple(parse_hash32(key, f"{at}/storageKeys/{j}") for j, key in enumerate(keys))
        entries.append((parse_address(entry.get("address"), at + "/address"), slots))
    return tuple(entries)


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs are asked for: blocks, contracts (none: all), and per topic position the accepted values (none: any)."""

    blocks: tuple[Block, ...]
    addresses: frozenset[str]
    topics: tuple[frozenset[str], ...]

    def takes(self, log: Log) -> bool:
        """Say whether a log is asked for."""
        if self.addresses and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        return all(not wanted or topic in wanted for wanted, topic in zip(self.topics, log.topics, strict=False))


def log_filter(chain: Chain, params: Params) -> LogFilter:
    """Return the filter of an eth_getLogs object.  Raises: RpcError."""
    fields = params.mapping(0, "filter")
    try:
        addresses = [parse_address(each, "/address") for each in _listed(fields.get("address"))]
        topics = [_topic(each, i) for i, each in enumerate(_listed(fields.get("topics")))]
        return LogFilter(_blocks(chain, fields), frozenset(addresses), tuple(topics))
    except RemoteProtocolError as error:
        raise RpcError(f"invalid argument 0 (filter{error.pointer}): {error.text}", INVALID_PARAMS) from None


def _blocks(chain: Chain, fields: Mapping[str, object]) -> tuple[Block, ...]:
    if fields.get("blockHash") is not None:
        if fields.get("fromBlock") is not None or fields.get("toBlock") is not None:
            raise RemoteProtocolError("blockHash excludes fromBlock and toBlock", pointer="/blockHash")
        block = chain.block(parse_hash32(fields["blockHash"], "/blockHash"))
        if block is None:
            raise RpcError("unknown block")
        return (block,)
    first = _height(chain, fields.get("fromBlock"), "/fromBlock")
    last = _height(chain, fields.get("toBlock"), "/toBlock")
    if first > last:
        raise RemoteProtocolError("the range ends before it begins", pointer="/fromBlock")
    found = [chain.block(i) for i in range(first, min(last, chain.height) + 1)]
    return tuple(block for block in found if block is not None)


def _height(chain: Chain, value: object, at: str) -> int:
    tag = "latest" if value is None else block_tag(value, at)
    if isinstance(tag, int):
        return tag
    block = find_block(chain, tag)
    return chain.height if block is None else block.number


def _listed(value: object) -> list[object]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _topic(value: object, i: int) -> frozenset[str]:
    """One position of a topic filter: null is any, a list is any of (an empty one, or null inside it, is any too)."""
    choices = _listed(value)
    if None in choices:
        return frozenset()
    return frozenset(parse_hash32(each, f"/topics/{i}") for each in choices)
