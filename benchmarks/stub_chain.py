"""A chain in memory for ``servers.py``: one token, every transaction mined at once.

Standard library only: both pythons run it.  It answers what a seller asks for an EIP-3009 payment, says what a real node would,
and counts what was settled.  An authorization that was used reverts, in a call and in a transaction.  Signatures are for the
seller to check: here nobody does.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

CHAIN = 84532
TOKEN = "036cbd53842c5426634e7929541ec2318f3dcf7e"
NAME, VERSION = "USDC", "2"
BLOCK_SECONDS = 2
_TRANSFER_WITH = "e3ee160e"  # transferWithAuthorization(..., uint8, bytes32, bytes32)
_TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
_DOMAIN = "8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f"
_ZEROS = "0" * 64
_BLOOM = "0x" + "00" * 256


class Reverted(Exception):
    """The token refused."""


class StubChain:
    """``answer`` one call, or ``answer_document`` for the bytes of a request; ``settled`` counts payments executed."""

    def __init__(self, keccak: Callable[[bytes], bytes]) -> None:
        self.keccak = keccak
        self.delay = 0.0
        self.settled = self.failed = self.sent = self.requests = 0
        self.asked: Counter[str] = Counter()
        self.receipts: dict[str, dict[str, Any]] = {}
        self.used: set[str] = set()
        self.views = {
            "3644e515": self._separator(),
            "06fdde03": _text(NAME),
            "54fd4d50": _text(VERSION),
            "313ce567": _word(6),
            "70a08231": _word(10**12),
        }

    def _separator(self) -> str:
        words = (
            _DOMAIN,
            self.keccak(NAME.encode()).hex(),
            self.keccak(VERSION.encode()).hex(),
            f"{CHAIN:064x}",
            TOKEN.zfill(64),
        )
        return "0x" + self.keccak(bytes.fromhex("".join(words))).hex()

    def answer_document(self, body: bytes) -> bytes:
        """Answer a JSON-RPC request, single or batch, at one block."""
        self.requests += 1
        asked, now = json.loads(body), time.time()
        if isinstance(asked, list):
            return json.dumps([self._entry(each, now) for each in asked]).encode()
        return json.dumps(self._entry(asked, now)).encode()

    def _entry(self, asked: dict[str, Any], now: float) -> dict[str, Any]:
        try:
            return {"jsonrpc": "2.0", "id": asked["id"], "result": self.answer(asked["method"], asked["params"], now)}
        except Reverted as why:
            error = {"code": 3, "message": f"execution reverted: {why}", "data": "0x"}
            return {"jsonrpc": "2.0", "id": asked["id"], "error": error}

    def answer(self, method: str, params: Any, now: float) -> Any:
        """Return a call's result.  Raises: Reverted; NotImplementedError for what no payment should need."""
        self.asked[method] += 1
        match method:
            case "eth_call":
                return self._call(params[0].get("data") or params[0]["input"])
            case "eth_sendRawTransaction":
                return self._send(params[0], now)
            case "eth_getTransactionReceipt":
                return self.receipts.get(params[0])
            case "eth_blockNumber":
                return hex(int(now) // BLOCK_SECONDS)
            case "eth_getBlockByNumber":
                return self._block(params[0], now)
            case "eth_getTransactionCount":
                return hex(self.sent)
            case "eth_getCode":
                return "0x60806040" if params[0].lower() == "0x" + TOKEN else "0x"
            case "eth_chainId":
                return hex(CHAIN)
            case "eth_getBalance":
                return hex(10**18)
            case "eth_gasPrice" | "eth_maxPriorityFeePerGas":
                return hex(10**6)
        raise NotImplementedError(method)

    def _block(self, at: str, now: float) -> dict[str, Any]:
        number = int(now) // BLOCK_SECONDS if at in ("latest", "pending") else int(at, 16)
        return {"number": hex(number), "timestamp": hex(number * BLOCK_SECONDS), "baseFeePerGas": hex(10**6)}

    def _call(self, data: str) -> str:
        selector = data[2:10]
        if selector in self.views:
            return self.views[selector]
        if selector == "e94a0102":  # authorizationState(address,bytes32)
            return _word(int(data[10:138] in self.used))
        if selector == _TRANSFER_WITH:
            if data[10:74] + data[330:394] in self.used:
                raise Reverted("FiatTokenV2: authorization is used or canceled")
            return "0x"
        raise NotImplementedError(f"eth_call {selector}")

    def _send(self, raw: str, now: float) -> str:
        start = raw.index(_TRANSFER_WITH) + 8
        payer, pay_to, value, _, _, nonce = (raw[at : at + 64] for at in range(start, start + 384, 64))
        name = "0x" + self.keccak(bytes.fromhex(raw[2:])).hex()
        if name not in self.receipts:
            self.execute(name, (payer, pay_to, value, nonce), now)
        return name

    def execute(self, name: str, what: tuple[str, str, str, str], now: float) -> None:
        """Mine transaction ``name``: it moves ``value`` from ``payer`` to ``pay_to`` unless ``nonce`` is used (all words)."""
        payer, pay_to, value, nonce = what
        good = payer + nonce not in self.used
        self.used.add(payer + nonce)
        self.settled, self.failed, self.sent = self.settled + good, self.failed + (not good), self.sent + 1
        block = hex(int(now) // BLOCK_SECONDS)
        where = {"transactionHash": name, "blockNumber": block, "blockHash": "0x" + _ZEROS, "transactionIndex": "0x0"}
        token = {"address": "0x" + TOKEN, "removed": False, **where}
        logs = [
            {**token, "topics": [_USED, "0x" + payer, "0x" + nonce], "data": "0x", "logIndex": "0x0"},
            {**token, "topics": [_TRANSFER, "0x" + payer, "0x" + pay_to], "data": "0x" + value, "logIndex": "0x1"},
        ]
        gas = {"gasUsed": "0x14f00", "cumulativeGasUsed": "0x14f00", "effectiveGasPrice": hex(2 * 10**6)}
        rest = {"type": "0x2", "contractAddress": None, "logsBloom": _BLOOM, "to": "0x" + TOKEN}
        self.receipts[name] = {**where, **gas, **rest, "status": hex(good), "logs": logs if good else []}


def _word(number: int) -> str:
    return f"0x{number:064x}"


def _text(text: str) -> str:
    return f"0x{32:064x}{len(text):064x}{text.encode().hex():0<64}"


class Bench:
    """What a measured server says of itself at ``/bench``: handlers run, payments settled, calls asked; and its profile."""

    def __init__(self, chain: StubChain) -> None:
        self.chain = chain
        self.served = 0
        self._profile: Any = None

    def ask(self, query: Any) -> dict[str, Any]:
        """Set ``delay`` (seconds a call takes), begin (``profile=1``) or end (``profile=0``) a profile; return the counters."""
        chain, told = self.chain, {}
        if "delay" in query:
            chain.delay = float(query["delay"])
        if query.get("profile") == "1":
            import cProfile

            self._profile = cProfile.Profile(time.perf_counter)
            self._profile.enable()
        elif query.get("profile") == "0":
            self._profile.disable()
            told["profile"] = {order: _listed(self._profile, order) for order in ("cumulative", "tottime")}
        counted = {"settled": chain.settled, "failed": chain.failed, "served": self.served, "requests": chain.requests}
        return {**told, **counted, "asked": dict(chain.asked)}


def _listed(profile: Any, order: str, most: int = 60) -> str:
    import io
    import pstats

    out = io.StringIO()
    pstats.Stats(profile, stream=out).sort_stats(order).print_stats(most)
    return out.getvalue()
