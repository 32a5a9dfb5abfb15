"""JSON-RPC, pure: what nodes say in recorded words, and every kind of garbage."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.chain.scripted import ENDPOINT, SECRET
from x402bind.chain import rpc
from x402bind.chain.errors import WORDINGS, ChainUnavailable, NodeError, NodeErrorKind, classify, printable
from x402bind.chain.rpc import Endpoint, RpcCall
from x402bind.leaves import MOST_BYTES, HttpReply
from x402bind.translate.chain import REFUSALS
from x402core.errors import LocalProtocolError
from x402core.values import Hash32, Network

K = NodeErrorKind
HASH = Hash32("0x" + "ab" * 32)

# (node, code, message, data, kind).  "live" rows were recorded from the node itself (anvil 1.7.1, our devnet); the others
# are the strings in the nodes' sources and in providers' documentation and bug reports.
RECORDED: tuple[tuple[str, int, str, str, NodeErrorKind], ...] = (
    ("devnet live", -32000, "nonce too low: next nonce 1, tx nonce 0", "", K.NONCE_TOO_LOW),
    ("devnet live", -32000, "already known", "", K.ALREADY_KNOWN),
    ("devnet live", -32000, "replacement transaction underpriced", "", K.REPLACEMENT_UNDERPRICED),
    ("devnet live", -32000, "insufficient funds for gas * price + value: balance 0, tx cost 4", "", K.INSUFFICIENT_FUNDS),
    ("devnet live", -32000, "intrinsic gas too low: gas 20000, minimum needed 21000", "", K.GAS),
    ("devnet live", -32000, "exceeds block gas limit", "", K.GAS),
    ("devnet live", -32000, "invalid chain id for signer: have 1 want 84532", "", K.INVALID),
    ("devnet live", -32000, "invalid opcode: INVALID", "", K.HALTED),
    ("devnet live", -32000, "out of gas", "", K.HALTED),
    ("devnet live", -32000, "header not found", "", K.UNKNOWN_BLOCK),
    ("devnet live", -32601, "the method eth_nope does not exist/is not available", "", K.NO_SUCH_METHOD),
    ("devnet live", 3, "execution reverted: FiatToken: bad", "0x08c379a0", K.REVERTED),
    ("anvil live", -32003, "nonce too low", "", K.NONCE_TOO_LOW),
    ("anvil live", -32003, "transaction already imported", "", K.ALREADY_KNOWN),
    ("anvil live", -32003, "replacement transaction underpriced", "", K.REPLACEMENT_UNDERPRICED),
    ("anvil live", -32003, "Insufficient funds for gas * price + value", "", K.INSUFFICIENT_FUNDS),
    ("anvil live", -32003, "max fee per gas less than block base fee", "", K.FEE_TOO_LOW),
    ("anvil live", -32000, "intrinsic gas too low", "", K.GAS),
    ("anvil live", -32000, "intrinsic gas too high -- tx.gas_limit > env.block.gas_limit", "", K.GAS),
    ("anvil live", -32003, "invalid chain id for signer", "", K.INVALID),
    ("anvil live", -32602, "Failed to decode transaction", "", K.INVALID),
    ("anvil live", -32603, "EVM error InvalidFEOpcode", "", K.HALTED),
    ("anvil live", -32603, "EVM error OutOfGas", "", K.HALTED),
    ("anvil live", -32602, "BlockOutOfRangeError: block height is 4 but requested was 16777215", "", K.UNKNOWN_BLOCK),
    ("anvil live", -32601, "Method not found", "", K.NO_SUCH_METHOD),
    ("anvil live", 3, "execution reverted", "0x", K.REVERTED),
    ("anvil", -32000, "Tx: [0xab] insufficient gas price to replace existing transaction", "", K.REPLACEMENT_UNDERPRICED),
    ("geth", -32000, "transaction underpriced: tip needed 1000000, tip permitted 1", "", K.UNDERPRICED),
    ("geth", -32000, "transaction gas price below minimum: gas tip cap 0, minimum needed 1", "", K.UNDERPRICED),
    ("geth", -32000, "max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 7", "", K.FEE_TOO_LOW),
    ("geth", -32000, "nonce too high", "", K.NONCE_TOO_HIGH),
    ("geth", -32000, "txpool is full", "", K.POOL_FULL),
    ("geth", -32000, "account limit exceeded", "", K.POOL_FULL),
    ("geth", -32000, "insufficient gas for floor data gas cost: have 21000, want 30000", "", K.GAS),
    ("geth", -32000, "future transaction tries to replace pending", "", K.REPLACEMENT_UNDERPRICED),
    ("geth", -32000, "invalid sender", "", K.INVALID),
    ("geth", -32000, "sender not an eoa: address 0x00, len(code): 23", "", K.INVALID),
    ("geth", -32000, "tx fee (1.21 ether) exceeds the configured cap (1.00 ether)", "", K.INVALID),
    ("geth", -32000, "rlp: expected input list for types.LegacyTx", "", K.INVALID),
    ("geth", -32000, "typed transaction too short", "", K.INVALID),
    ("geth", -32000, "execution reverted", "", K.REVERTED),
    ("geth", -32000, "stack underflow (0 <=> 1)", "", K.HALTED),
    ("geth", -32000, "missing trie node 0b1c (path ) state 0x0b1c is not available", "", K.UNKNOWN_BLOCK),
    ("geth", -32000, "authority nonce too low", "", K.OTHER),
    ("geth, old", -32000, "known transaction: 0bdc", "", K.ALREADY_KNOWN),
    ("erigon", -32000, "INTERNAL_ERROR: could not replace existing tx", "", K.REPLACEMENT_UNDERPRICED),
    ("erigon", -32000, "INTERNAL_ERROR: nonce too low", "", K.NONCE_TOO_LOW),
    ("erigon", -32000, "INTERNAL_ERROR: insufficient funds", "", K.INSUFFICIENT_FUNDS),
    ("erigon", -32000, "INTERNAL_ERROR: IntrinsicGas", "", K.GAS),
    ("erigon", -32000, "INTERNAL_ERROR: underpriced", "", K.UNDERPRICED),
    ("erigon", -32000, "INTERNAL_ERROR: fee too low", "", K.UNDERPRICED),
    ("erigon", -32000, "existing txn with same hash", "", K.ALREADY_KNOWN),
    ("erigon", -32000, "pending sub-pool is full", "", K.POOL_FULL),
    ("erigon", -32000, "INTERNAL_ERROR: RLPTooLong", "", K.INVALID),
    ("nethermind", -32010, "AlreadyKnown", "", K.ALREADY_KNOWN),
    ("nethermind", -32010, "OldNonce, Current nonce: 3, nonce of rejected tx: 2", "", K.NONCE_TOO_LOW),
    ("nethermind", -32010, "InsufficientFunds, Account balance: 0, cumulative cost: 21000", "", K.INSUFFICIENT_FUNDS),
    ("nethermind", -32010, "FeeTooLow, MaxFeePerGas too low.", "", K.UNDERPRICED),
    ("nethermind", -32010, "FeeTooLowToCompete", "", K.UNDERPRICED),
    ("nethermind", -32010, "ReplacementNotAllowed, existing fee 9", "", K.REPLACEMENT_UNDERPRICED),
    ("nethermind", -32010, "GasLimitExceeded, Gas limit: 1, gas limit of rejected tx: 2", "", K.GAS),
    ("nethermind", -32010, "NonceGap, Future nonce. Expected nonce: 2", "", K.NONCE_TOO_HIGH),
    ("nethermind", -32010, "gas limit reached, Gas limit: 30000000", "", K.GAS),
    ("nethermind", -32015, "VM execution error.", "Reverted 0x08c379a0", K.REVERTED),
    ("nethermind", -32015, "VM execution error.", "Bad instruction fe", K.HALTED),
    ("reth", -32000, "nonce too low: next nonce 5, tx nonce 4", "", K.NONCE_TOO_LOW),
    ("reth", -32003, "insufficient funds for gas * price + value: have 0 want 21000", "", K.INSUFFICIENT_FUNDS),
    ("reth", -32000, "transaction feeCap 6 below chain minimum", "", K.FEE_TOO_LOW),
    ("reth", -32003, "transaction discarded outright due to pool size constraints", "", K.POOL_FULL),
    ("reth", -32003, "transaction priority fee below minimum required priority fee 1000", "", K.UNDERPRICED),
    ("reth", -32003, "EVM error: InvalidFEOpcode", "", K.HALTED),
    ("reth", -32003, "out of gas: gas required exceeds: 50000000", "", K.HALTED),
    ("reth", -32602, "invalid block range", "", K.UNKNOWN_BLOCK),
    ("by its code", 3, "ERC20: insufficient funds", "0x", K.REVERTED),
    ("ganache, hardhat", -32000, "VM Exception while processing transaction: revert ERC20: no", "", K.REVERTED),
    ("alchemy", 429, "Your app has exceeded its compute units per second capacity. If ...", "", K.RATE_LIMITED),
    ("alchemy", -32602, "Log response size exceeded. You can make eth_getLogs requests with ...", "", K.RANGE),
    ("alchemy", -32600, "Under the Free tier plan, you can make ... up to a 10 block range.", "", K.RANGE),
    ("infura", -32005, "project ID request rate exceeded", "", K.RATE_LIMITED),
    ("infura", -32005, "daily request count exceeded, request rate limited", "", K.RATE_LIMITED),
    ("infura", -32005, "query returned more than 10000 results", "", K.RANGE),
    ("quicknode", -32007, "50/second request limit reached - reduce calls per second", "", K.RATE_LIMITED),
    ("quicknode", -32614, "eth_getLogs is limited to a 10,000 range", "", K.RANGE),
    ("publicnode", -32701, "exceed maximum block range: 50000", "", K.RANGE),
    ("base public", -32016, "over rate limit", "", K.RATE_LIMITED),
    ("cloudflare", -32000, "Too Many Requests", "", K.RATE_LIMITED),
    ("nobody", -32000, "something else entirely", "", K.OTHER),
    ("nobody", 0, "", "", K.OTHER),
)  # fmt: skip


@pytest.mark.parametrize(("node", "code", "message", "data", "kind"), RECORDED, ids=[f"{r[0]}: {r[2][:40]}" for r in RECORDED])
def test_the_table_knows_recorded_words(node: str, code: int, message: str, data: str, kind: NodeErrorKind) -> None:
    assert classify(code, message, data) is kind, node


def test_every_row_has_a_recorded_sample() -> None:
    assert {kind for kind, _ in WORDINGS} <= {kind for *_, kind in RECORDED}


@given(st.sampled_from([message for *_, message, _, _ in RECORDED]))
def test_a_contracts_words_cannot_pass_for_the_nodes(words: str) -> None:
    """A revert reason is chosen by the called contract; no such text may end a settlement or hide a failed simulation."""
    assert classify(3, f"execution reverted: {words}") is K.REVERTED
    assert classify(-32000, f"execution reverted: {words}") is K.REVERTED
    assert classify(-32000, f"VM Exception while processing transaction: revert {words}") is K.REVERTED


@given(st.integers(), st.text(), st.text())
def test_classify_is_total(code: int, message: str, data: str) -> None:
    assert isinstance(classify(code, message, data), NodeErrorKind)


def test_only_definite_refusals_are_refusals() -> None:
    unclear = {K.OTHER, K.RATE_LIMITED, K.POOL_FULL, K.NONCE_TOO_HIGH, K.ALREADY_KNOWN, K.NONCE_TOO_LOW, K.REVERTED, K.HALTED}
    assert not REFUSALS & unclear


# ----------------------------------------------------------------------------------------------------------- asking


def test_one_call_is_an_object_and_several_are_a_batch() -> None:
    single = rpc.request(ENDPOINT, [RpcCall("eth_chainId")])
    assert json.loads(single.body) == {"jsonrpc": "2.0", "id": 0, "method": "eth_chainId", "params": []}
    double = rpc.request(ENDPOINT, [RpcCall("a", ("0x1", False)), RpcCall("b", ({"to": "0x2"},))])
    assert [(each["id"], each["method"], each["params"]) for each in json.loads(double.body)] == [
        (0, "a", ["0x1", False]),
        (1, "b", [{"to": "0x2"}]),
    ]
    assert double.timeout == 3.0
    assert dict(double.headers)["Authorization"] == f"Bearer {SECRET}"


def test_no_repr_shows_a_key() -> None:
    assert repr(ENDPOINT) == "Endpoint(https://node.test, eip155:84532)"
    assert SECRET not in repr(rpc.request(ENDPOINT, [RpcCall("eth_chainId")]))


@pytest.mark.parametrize("url", ["", "node.test", "ftp://node.test", "http://", "http://[::1", "http://node.test:99999"])
def test_an_endpoint_needs_a_url(url: str) -> None:
    with pytest.raises(LocalProtocolError, match=r"^url: "):
        Endpoint(url, Network("eip155:1"))


def test_an_endpoint_needs_an_evm_network_and_a_timeout() -> None:
    with pytest.raises(LocalProtocolError, match=r"^network: "):
        Endpoint("http://node.test", Network("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"))
    with pytest.raises(LocalProtocolError, match=r"^timeout: "):
        Endpoint("http://node.test", Network("eip155:1"), timeout=0)


# ---------------------------------------------------------------------------------------------------------- answers


def reply(document: object, status: int = 200) -> HttpReply:
    return HttpReply(status, (), document if isinstance(document, bytes) else json.dumps(document).encode())


def test_answers_come_back_in_the_order_of_the_calls() -> None:
    entries = [
        {"id": 2, "result": "c"},
        {"id": 0, "result": None},
        {"id": 1, "error": {"code": -32000, "message": "already known"}},
    ]
    first, second, third = rpc.answers(3, reply(entries))
    assert (first, third) == (None, "c")
    assert isinstance(second, NodeError)
    assert second.kind is K.ALREADY_KNOWN


def test_an_error_object_for_a_whole_batch_is_the_nodes_refusal() -> None:
    whole = {"jsonrpc": "2.0", "id": None, "error": {"code": -32005, "message": "batch too large"}}
    with pytest.raises(NodeError) as caught:
        rpc.answers(2, reply(whole))
    assert caught.value.kind is K.RATE_LIMITED
    with pytest.raises(NodeError):
        rpc.answers(1, reply(whole))


def test_a_429_is_a_rate_limit() -> None:
    with pytest.raises(NodeError) as caught:
        rpc.answers(1, HttpReply(429, (), b"slow down"))
    assert caught.value.kind is K.RATE_LIMITED
    assert caught.value.passing


@pytest.mark.parametrize(
    "data",
    ["0x08c379a0", {"data": "0x08c379a0", "message": "revert"}, "Reverted 0x08c379a0"],
    ids=["geth", "wrapped", "nethermind"],
)
def test_revert_data_is_found_in_every_shape(data: object) -> None:
    (answer,) = rpc.answers(1, reply({"id": 0, "error": {"code": 3, "message": "execution reverted", "data": data}}))
    assert isinstance(answer, NodeError)
    assert answer.data == bytes.fromhex("08c379a0")


GARBAGE: tuple[tuple[str, object], ...] = (
    ("nothing", b""),
    ("html", b"<html>502</html>"),
    ("not utf-8", b"\xff\xfe"),
    ("nan", b'[{"id":0,"result":NaN},{"id":1,"result":0}]'),
    ("a key twice", b'[{"id":0,"id":0,"result":1},{"id":1,"result":0}]'),
    ("deep", b"[" * 100_000),
    ("a number", 5),
    ("null", None),
    ("an object without an error", {"id": 0, "result": 1}),
    ("an object with a worded error", {"id": None, "error": "no"}),
    ("too few", [{"id": 0, "result": 1}]),
    ("too many", [{"id": 0, "result": 1}, {"id": 1, "result": 1}, {"id": 2, "result": 1}]),
    ("an id twice", [{"id": 0, "result": 1}, {"id": 0, "result": 1}]),
    ("a foreign id", [{"id": 0, "result": 1}, {"id": 7, "result": 1}]),
    ("a negative id", [{"id": 0, "result": 1}, {"id": -1, "result": 1}]),
    ("ids as text", [{"id": "0", "result": 1}, {"id": "1", "result": 1}]),
    ("ids as booleans", [{"id": False, "result": 1}, {"id": True, "result": 1}]),
    ("no ids", [{"result": 1}, {"result": 1}]),
    ("no result", [{"id": 0}, {"id": 1, "result": 1}]),
    ("a worded error", [{"id": 0, "error": "no"}, {"id": 1, "result": 1}]),
    ("both", [{"id": 0, "result": 1, "error": {"code": 1, "message": ""}}, {"id": 1, "result": 1}]),
    ("no entries", [[], 3]),
)


@pytest.mark.parametrize("document", [each for _, each in GARBAGE], ids=[name for name, _ in GARBAGE])
def test_garbage_is_our_trouble(document: object) -> None:
    with pytest.raises(ChainUnavailable):
        rpc.answers(2, reply(document))


def test_an_answer_too_long_is_our_trouble() -> None:
    with pytest.raises(ChainUnavailable, match="longer than"):
        rpc.answers(1, reply(b'{"id":0,"result":"' + b"0" * MOST_BYTES + b'"}'))


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 401, 403, 404, 500, 502, 503, 504])
def test_any_other_status_is_our_trouble(status: int) -> None:
    with pytest.raises(ChainUnavailable):
        rpc.answers(1, reply({"id": 0, "result": "0x1"}, status))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("0x1"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "result", "error", "code", "message", "data", "x"]), inner, max_size=5)
    ),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {"id": st.integers(-1, 2) | json_values},
    optional={
        "result": json_values,
        "error": json_values | st.fixed_dictionaries({"code": json_values, "message": json_values}),
    },
)
documents = st.lists(entries, max_size=3) | entries | json_values


@given(st.integers(1, 2), documents, st.sampled_from([200, 200, 200, 429, 500]))
def test_any_document_gives_answers_or_an_rpc_error(count: int, document: Any, status: int) -> None:
    with suppress(ChainUnavailable, NodeError):
        assert len(rpc.answers(count, reply(document, status))) == count


@given(st.integers(1, 3), st.binary(max_size=200))
def test_any_bytes_give_answers_or_an_rpc_error(count: int, body: bytes) -> None:
    with suppress(ChainUnavailable, NodeError):
        assert len(rpc.answers(count, HttpReply(200, (), body))) == count


hexes = st.sampled_from(["0x", "0x0", "0x01", "0x" + "ab" * 32, "0x" + "ab" * 20, "0xg", "0X1", "1", "0x" + "f" * 65])
members = st.dictionaries(
    st.sampled_from(
        ["number", "timestamp", "baseFeePerGas", "blockNumber", "status", "transactionHash", "logs", "address", "topics"]
    ),
    hexes | json_values,
)
results = json_values | hexes | members | st.lists(members, max_size=3)


@given(results, st.sampled_from(["quantity", "data", "block", "logs", "receipt", "objects"]))
@example({"blockNumber": "0x1", "status": "0x1", "transactionHash": str(HASH), "logs": [{"topics": "0x"}]}, "receipt")
@example([{"topics": ["0x" + "ab" * 32] * 5, "address": "0x" + "ab" * 20, "data": "0x"}], "logs")
def test_any_result_is_read_or_is_our_trouble(value: Any, reader: str) -> None:
    readers: dict[str, Callable[[Any], object]] = {
        "quantity": rpc.quantity,
        "data": rpc.data,
        "block": rpc.block,
        "logs": rpc.logs,
        "receipt": lambda each: rpc.receipt(each, HASH),
        "objects": lambda each: rpc.objects(each, "things"),
    }
    try:
        readers[reader](json.loads(json.dumps(value)))
    except ChainUnavailable as error:
        told = str(error)
    else:
        told = ""
    assert "ab" * 20 not in told


def test_a_receipt_must_be_the_one_asked_for() -> None:
    sound = {"blockNumber": "0x5", "status": "0x0", "transactionHash": HASH, "logs": []}
    found = rpc.receipt(sound, HASH)  # type: ignore[arg-type]
    assert found is not None
    assert (found.ok, found.block) == (False, 5)
    assert rpc.receipt(None, HASH) is None
    assert rpc.receipt({**sound, "blockNumber": None}, HASH) is None  # type: ignore[dict-item]
    for wrong in ({"transactionHash": "0x" + "cd" * 32}, {"status": "0x2"}, {"status": None}):
        with pytest.raises(ChainUnavailable):
            rpc.receipt({**sound, **wrong}, HASH)  # type: ignore[dict-item]


@given(st.text())
def test_foreign_text_is_made_printable(text: str) -> None:
    clean = printable(text)
    assert clean.isprintable()
    assert len(clean) <= 300


def test_errors_survive_a_process_boundary() -> None:
    """A worker pool may hand them over."""
    assert str(pickle.loads(pickle.dumps(ChainUnavailable("gone")))) == "gone"
    refused = pickle.loads(pickle.dumps(NodeError(K.GAS, "intrinsic gas too low", b"\1", -32000)))
    assert (refused.kind, refused.data, refused.code, str(refused)) == (K.GAS, b"\1", -32000, "gas: intrinsic gas too low")
