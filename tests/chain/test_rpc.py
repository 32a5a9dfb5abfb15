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

from tests.chain.recorded import RECORDED
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


def test_a_refused_batch_may_come_as_a_list_of_one() -> None:
    """go-ethereum puts "batch too large" into a list, under the first call's id."""
    whole = [{"jsonrpc": "2.0", "id": 0, "error": {"code": -32600, "message": "batch too large"}}]
    with pytest.raises(NodeError, match="batch too large"):
        rpc.answers(2, reply(whole))


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
