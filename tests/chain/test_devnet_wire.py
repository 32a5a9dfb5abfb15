"""The embedded node on the wire: sockets and bytes, friendly and hostile."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest

from tests.chain.ondevnet import NEW, A, OnDevnet
from tests.chains import Rpc, RpcFailure
from x402bind.chain.devnet import Chain, Devnet
from x402bind.chain.devnet.rpc import BODY_MOST, METHODS, answer

CHAIN_ID = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'


class Wire:
    """One TCP connection, by hand."""

    def __init__(self, devnet: Devnet) -> None:
        host, _, port = devnet.url.removeprefix("http://").partition(":")
        self.host = f"{host}:{port}"
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def post(self, body: bytes, headers: Mapping[str, str] | None = None, *, method: str = "POST") -> None:
        lines = {"Host": self.host, "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        self.socket.sendall(f"{method} / HTTP/1.1\r\n{head}\r\n".encode() + body)

    def read(self) -> tuple[int, dict[str, str], bytes]:
        """Return one response: status, headers in lower case, body."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, self.file.read(int(headers.get("content-length", 0)))

    def ended(self) -> bool:
        """Say whether the node has closed the connection."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class TestHttp(OnDevnet):
    @pytest.fixture
    def wire(self, devnet: Devnet) -> Iterator[Wire]:
        with closing(Wire(devnet)) as wire:
            yield wire

    def test_one_connection_serves_many_requests(self, wire: Wire) -> None:
        for _ in range(50):
            wire.post(CHAIN_ID)
            status, headers, body = wire.read()
            assert (status, headers["content-type"]) == (200, "application/json")
            assert json.loads(body) == {"jsonrpc": "2.0", "id": 1, "result": "0x14a34"}

    def test_requests_sent_together_are_answered_in_order(self, wire: Wire) -> None:
        for i in range(20):
            wire.post(json.dumps({"jsonrpc": "2.0", "id": i, "method": "eth_chainId"}).encode())
        assert [json.loads(wire.read()[2])["id"] for _ in range(20)] == list(range(20))

    def test_an_error_does_not_end_the_connection(self, wire: Wire) -> None:
        for body in (b"garbage", CHAIN_ID):
            wire.post(body)
            assert wire.read()[0] == 200

    def test_an_answer_does_not_wait_for_nagle(self, wire: Wire) -> None:
        """Head and body in two packets with Nagle's algorithm would cost 40 ms each time."""
        start = time.monotonic()
        for _ in range(25):
            wire.post(CHAIN_ID)
            wire.read()
        assert time.monotonic() - start < 0.5

    def test_a_client_that_asks_to_close_is_obeyed(self, wire: Wire) -> None:
        wire.post(CHAIN_ID, {"Connection": "close"})
        assert wire.read()[0] == 200
        assert wire.ended()

    def test_a_body_over_the_cap_is_not_even_read(self, wire: Wire) -> None:
        wire.post(b"", {"Content-Length": str(BODY_MOST + 1)})
        status, _, body = wire.read()
        assert status == 413
        assert str(BODY_MOST) in json.loads(body)["error"]["message"]
        assert wire.ended()

    @pytest.mark.parametrize("length", ["", "-1", "1e3", "0x10", "9" * 30, "٣"])
    def test_a_length_that_is_none_is_refused(self, wire: Wire, length: str) -> None:
        wire.post(b"", {"Content-Length": length})
        assert wire.read()[0] in (411, 413)
        assert wire.ended()

    def test_chunks_are_refused(self, wire: Wire) -> None:
        wire.post(b"0\r\n\r\n", {"Transfer-Encoding": "chunked"})
        assert wire.read()[0] == 411
        assert wire.ended()

    def test_a_foreign_host_name_is_refused(self, wire: Wire) -> None:
        wire.post(CHAIN_ID, {"Host": "evil.example:80"})
        assert wire.read()[0] == 403
        assert wire.ended()

    def test_a_browser_may_ask_first(self, wire: Wire) -> None:
        wire.post(b"", {"Origin": "http://localhost:3000"}, method="OPTIONS")
        status, headers, _ = wire.read()
        assert (status, headers["access-control-allow-origin"]) == (204, "*")
        wire.post(CHAIN_ID, {"Host": "localhost:1"})
        assert wire.read()[0] == 200

    def test_a_get_is_told_what_to_do(self, wire: Wire) -> None:
        wire.post(b"", method="GET")
        status, _, body = wire.read()
        assert status == 405
        assert "POST" in json.loads(body)["error"]["message"]

    def test_a_client_that_leaves_in_the_middle_harms_nobody(self, devnet: Devnet, rpc: Rpc) -> None:
        for sent in (b"", b"POST / HT", b"POST / HTTP/1.1\r\nContent-Length: 100\r\nHost: localhost\r\n\r\n{"):
            with closing(Wire(devnet)) as wire:
                wire.socket.sendall(sent)
        assert rpc("eth_chainId") == "0x14a34"

    def test_stopping_closes_open_connections(self) -> None:
        devnet = Devnet().start()
        with closing(Wire(devnet)) as wire:
            wire.post(CHAIN_ID)
            wire.read()
            devnet.stop()
            assert wire.ended()

    def test_it_listens_on_the_loopback_address_only(self, devnet: Devnet) -> None:
        assert devnet.url.startswith("http://127.0.0.1:")
        with pytest.raises(OSError):
            Devnet(port=int(devnet.url.rpartition(":")[2]))


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


def ask(chain: Chain, body: object) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = answer(chain, raw)
    return json.loads(reply) if reply else None


def call(method: str, *params: object, id_: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": list(params)}


class TestJsonRpc:
    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"id":' + b"9" * 5000 + b"}", b"nul", b'"\\ud8"', b"{'a':1}"],
        ids=lambda body: repr(body[:8]),
    )
    def test_what_is_not_json_is_a_parse_error(self, chain: Chain, body: bytes) -> None:
        reply = ask(chain, body)
        assert (reply["id"], reply["error"]["code"]) == (None, -32700)

    def test_deep_nesting_is_refused_before_the_decoder_sees_it(self, chain: Chain) -> None:
        """Python's decoder recurses in C up to the interpreter's limit.

        ``py_ecc``, which ``eth_account`` imports, raises that to 100,000; then 100 kB of brackets kill the process.
        """
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(1_000_000)
        try:
            for body in (b"[" * 1_000_000, b'{"a":' * 500_000, b'["\\"",' * 300_000, b'["' + b'\\"' * 1_000_000):
                assert ask(chain, body)["error"]["code"] == -32700
        finally:
            sys.setrecursionlimit(limit)
        flat = call("eth_call", {"to": NEW, "data": "0x", "note": "[{" * 1000 + '\\"'})
        assert ask(chain, flat)["result"] == "0x"

    @pytest.mark.parametrize("body", [1, "x", None, True, {}, {"id": 1}, {"jsonrpc": "1.0", "id": 1, "method": "x"}])
    def test_what_is_no_request_is_invalid(self, chain: Chain, body: object) -> None:
        reply = ask(chain, body) if not isinstance(body, dict) else ask(chain, {"id": None, **body})
        assert reply["error"]["code"] == -32600

    @pytest.mark.parametrize("method", [None, 1, ["eth_chainId"], {}])
    def test_a_method_is_a_string(self, chain: Chain, method: object) -> None:
        assert ask(chain, {"jsonrpc": "2.0", "id": 1, "method": method})["error"]["code"] == -32600

    @pytest.mark.parametrize("id_", [[], {}, True, 1.5])
    def test_an_id_is_a_string_a_whole_number_or_null(self, chain: Chain, id_: object) -> None:
        reply = ask(chain, call("eth_chainId", id_=id_))
        assert (reply["id"], reply["error"]["code"]) == (None, -32600)

    @pytest.mark.parametrize("id_", ["a", 0, -1, 10**30, "", None])
    def test_an_id_comes_back_as_it_was(self, chain: Chain, id_: object) -> None:
        assert ask(chain, call("eth_chainId", id_=id_)) == {"jsonrpc": "2.0", "id": id_, "result": "0x14a34"}

    def test_an_unknown_method_is_not_found(self, chain: Chain) -> None:
        error = ask(chain, call("eth_mine_bitcoin"))["error"]
        assert error == {"code": -32601, "message": "the method eth_mine_bitcoin does not exist/is not available"}
        assert len(ask(chain, call("x" * 10_000))["error"]["message"]) < 200

    def test_a_batch_answers_each_and_keeps_their_order(self, chain: Chain) -> None:
        batch = [call("eth_chainId", id_=3), call("nope", id_="b"), 7, call("eth_blockNumber", id_=1)]
        replies = ask(chain, batch)
        assert [reply["id"] for reply in replies] == [3, "b", None, 1]
        assert [reply.get("error", {}).get("code") for reply in replies] == [None, -32601, -32600, None]

    def test_a_notification_has_no_answer(self, chain: Chain) -> None:
        silent = {"jsonrpc": "2.0", "method": "evm_mine"}
        height = chain.height
        assert ask(chain, silent) is None
        assert ask(chain, [silent, silent]) is None
        assert ask(chain, [silent, call("eth_chainId")]) == [{"jsonrpc": "2.0", "id": 1, "result": "0x14a34"}]
        assert chain.height == height + 4

    def test_batches_have_bounds(self, chain: Chain) -> None:
        assert ask(chain, [])["error"] == {"code": -32600, "message": "empty batch"}
        assert ask(chain, [call("eth_chainId")] * 1001)["error"]["code"] == -32600
        assert len(ask(chain, [call("eth_chainId")] * 1000)) == 1000

    @pytest.mark.parametrize("params", [{}, {"address": NEW}, "x", 1])
    def test_parameters_come_by_position(self, chain: Chain, params: object) -> None:
        assert ask(chain, {**call("eth_getBalance"), "params": params})["error"]["code"] == -32602

    @pytest.mark.parametrize(
        ("method", "params", "named"),
        [
            ("eth_getBalance", [], "argument 0 (address)"),
            ("eth_getBalance", [None], "argument 0 (address)"),
            ("eth_getBalance", ["0x12"], "argument 0 (address)"),
            ("eth_getBalance", [NEW.replace("9", "g")], "argument 0 (address)"),
            ("eth_getBalance", [NEW, "newest"], "argument 1 (block)"),
            ("eth_getBalance", [NEW, 1], "argument 1 (block)"),
            ("eth_getBalance", [NEW, "0x01"], "argument 1 (block)"),
            ("eth_getBalance", [NEW, {"blockHash": "0x1"}], "argument 1 (block/blockHash)"),
            ("eth_getBlockByNumber", ["latest", "yes"], "argument 1 (full)"),
            ("eth_getBlockByHash", ["0x1", False], "argument 0 (hash)"),
            ("eth_getStorageAt", [NEW, "slot"], "argument 1 (slot)"),
            ("eth_call", [], "argument 0 (transaction)"),
            ("eth_call", ["0x"], "argument 0 (transaction)"),
            ("eth_call", [{"to": "me"}], "argument 0 (transaction/to)"),
            ("eth_call", [{"to": NEW, "data": "0x123"}], "argument 0 (transaction/data)"),
            ("eth_call", [{"to": NEW, "data": "0x12", "input": "0x34"}], "argument 0 (transaction/input)"),
            ("eth_call", [{"to": NEW, "value": 1}], "argument 0 (transaction/value)"),
            ("eth_call", [{"to": NEW, "gas": "0x" + "f" * 65}], "argument 0 (transaction/gas)"),
            ("eth_call", [{"to": NEW, "accessList": [{}]}], "argument 0 (transaction/accessList/0/address)"),
            ("eth_call", [{"to": NEW}, "latest", {}, {}], "too many arguments"),
            ("eth_call", [{"to": NEW}, "latest", {NEW: {"balance": "0x1"}}], f"argument 2 (overrides/{NEW})"),
            ("eth_call", [{"to": NEW}, "latest", {NEW: {"code": "0x1"}}], f"argument 2 (overrides/{NEW}/code)"),
            ("eth_call", [{"to": NEW}, "latest", {"me": {"code": "0x"}}], "argument 2 (overrides/me)"),
            ("eth_sendRawTransaction", ["02"], "argument 0 (transaction)"),
            ("eth_sendRawTransaction", ["0x" + "00" * (1 << 20) + "00"], "argument 0 (transaction)"),
            ("eth_getTransactionReceipt", ["0x" + 63 * "1"], "argument 0 (hash)"),
            ("eth_getLogs", [[]], "argument 0 (filter)"),
            ("eth_feeHistory", ["0x1", "latest", "50"], "argument 2 (rewardPercentiles)"),
            ("anvil_setBalance", [NEW, -1], "argument 1 (balance)"),
            ("anvil_setBalance", [NEW, 1.5], "argument 1 (balance)"),
            ("anvil_setStorageAt", [NEW, "0x0", "0x1"], "argument 2 (value)"),
            ("evm_setAutomine", ["true"], "argument 0 (enabled)"),
            ("evm_increaseTime", [True], "argument 0 (seconds)"),
        ],
    )
    def test_a_bad_parameter_is_named(self, chain: Chain, method: str, params: list[object], named: str) -> None:
        error = ask(chain, call(method, *params))["error"]
        assert error["code"] == -32602
        assert named in error["message"]

    def test_no_method_can_be_broken_by_its_parameters(self, chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
        """Whatever comes, the answer is a result or a refusal; -32603 would be a bug of ours."""
        strange: list[object] = [None, -1, 2**300, 1.5, "", "0x", "0x0", "0x" + 64 * "f", A, [], [[]], {}, {"to": A}, True]
        strange += [{"to": A, name: "0x" + 64 * "f"} for name in ("gas", "value", "gasPrice")]
        strange += [{"fromBlock": "0x" + 64 * "f"}, {"topics": [[[]]]}, {"accessList": [[]]}, {"data": "0x"}, "latest"]
        for method in METHODS.keys() - {"evm_revert"}:
            snapshot = chain.snapshot()
            for first in strange:
                for rest in ([], *([second] for second in strange), ["0x1", "0x" + 64 * "f"]):
                    reply = ask(chain, call(method, first, *rest))
                    assert reply.get("error", {}).get("code") != -32603, (method, first, rest, caplog.text)
            assert chain.revert(snapshot) or method in ("anvil_reorg", "anvil_rollback", "devnet_reorg")
            chain.automine = True

    def test_a_bug_of_ours_is_logged_and_not_shown(
        self, chain: Chain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(_chain: Chain, _params: object) -> object:
            raise ZeroDivisionError("secret")

        monkeypatch.setitem(METHODS, "eth_chainId", broken)  # type: ignore[arg-type]
        with caplog.at_level(logging.ERROR):
            reply = answer(chain, CHAIN_ID)
        assert json.loads(reply)["error"] == {"code": -32603, "message": "internal error"}
        assert "ZeroDivisionError: secret" in caplog.text


class TestProgram:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_prints_its_address_serves_and_ends_when_told(self, number: signal.Signals) -> None:
        command = [sys.executable, "-m", "x402bind.chain.devnet", "--port", "0", "--chain-id", "31337"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
            try:
                assert process.stdout is not None
                match = re.fullmatch(r"listening on (http://127\.0\.0\.1:[0-9]+)\n", process.stdout.readline())
                assert match
                rpc = Rpc(match[1])
                assert rpc("eth_chainId") == "0x7a69"
                process.send_signal(number)
                assert process.wait(10) == 0
                with pytest.raises((OSError, RpcFailure)):
                    rpc("eth_chainId")
            finally:
                process.kill()

    def test_a_port_that_is_taken_is_one_line_on_stderr(self) -> None:
        with Devnet() as devnet:
            port = devnet.url.rpartition(":")[2]
            command = [sys.executable, "-m", "x402bind.chain.devnet", "--port", port]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("devnet: ")
        assert done.stderr.count("\n") == 1
