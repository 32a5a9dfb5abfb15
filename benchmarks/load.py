"""The load for ``servers.py``: raw sockets, requests prebuilt and payments signed before the clock starts.

One JSON command a line on standard input, one JSON answer a line on standard output.  Every answer counts what came, by status
line; a paid request counts as good only with 200 and a PAYMENT-RESPONSE that says so, and all of these are read afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

from x402core.evm import digests
from x402core.evm.address import checksum
from x402core.evm.secp256k1 import public_address, signer
from x402core.values import Address, Hash32

PAYERS = [(public_address(key), signer(key)) for key in (secrets.token_bytes(32) for _ in range(64))]
HEADER = b"\r\npayment-response: "
_LENGTH, _END = b"\r\ncontent-length: ", b"\r\n\r\n"


def plain(path: str, header: str = "") -> bytes:
    """Return a request's bytes."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n{header}\r\n".encode()


class Connection(asyncio.Protocol):
    """A client that sends the next request when the answer to the last has come, after ``pause`` seconds."""

    def __init__(self, run: Run, pause: float = 0.0) -> None:
        self.run, self.pause = run, pause
        self.buffer = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def next(self) -> None:
        request = None if self.run.over else next(self.run.requests, None)
        if request is None:
            self.run.leave(self)
            return
        self.began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        data = self.buffer + data if self.buffer else data
        end = data.find(_END)
        at = data.find(_LENGTH, 0, end + 2)
        size = int(data[at + len(_LENGTH) : data.index(b"\r\n", at + 1)]) if end >= 0 and at >= 0 else 0
        if end < 0 or len(data) < end + 4 + size:
            self.buffer = data
            return
        self.buffer = b""
        self.run.took(data, end, now, now - self.began)
        if self.pause:
            self.run.loop.call_later(self.pause, self.next)
        else:
            self.next()

    def connection_lost(self, _error: Exception | None) -> None:
        self.run.lost(self)


class Run:
    """Connections under load until the deadline or until the requests run out; what is on its way then is waited for."""

    def __init__(self, requests: Iterable[bytes], *, status: int = 200, paid: bool = False) -> None:
        self.requests: Iterator[bytes] = iter(requests)
        self.wanted, self.paid = f"HTTP/1.1 {status} ".encode(), paid
        self.over, self.connections = False, set[Connection]()
        self.loop = asyncio.get_running_loop()
        self.done = self.loop.create_future()
        self.good = self.late = 0
        self.bad: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.receipts: list[bytes] = []
        self.last = self.deadline = 0.0

    async def open(self, port: int, count: int, pause: float = 0.0) -> None:
        for _ in range(count):
            _, made = await self.loop.create_connection(lambda: Connection(self, pause), "127.0.0.1", port)
            self.connections.add(made)

    def start(self, seconds: float) -> None:
        self.began = time.perf_counter()
        self.deadline = self.began + seconds
        self.loop.call_later(seconds, self.stop)
        for each in list(self.connections):
            each.next()

    def stop(self) -> None:
        self.over = True

    def took(self, data: bytes, end: int, now: float, latency: float) -> None:
        if not data.startswith(self.wanted):
            self.bad[data[:400].decode("latin-1")] += 1
            return
        if self.paid:
            at = data.find(HEADER, 0, end + 2)
            if at < 0:
                self.bad["no PAYMENT-RESPONSE"] += 1
                return
            self.receipts.append(data[at + len(HEADER) : data.index(b"\r\n", at + 2)])
        if now > self.deadline:
            self.late += 1
            return
        self.good += 1
        self.last = now
        self.latencies.append(latency)

    def leave(self, connection: Connection) -> None:
        self.connections.discard(connection)
        connection.transport.close()
        if not self.connections and not self.done.done():
            self.done.set_result(None)

    def lost(self, connection: Connection) -> None:
        if connection in self.connections:
            self.bad["connection lost"] += 1
            self.leave(connection)

    def result(self) -> dict[str, Any]:
        """Return the rate and the latencies.  Receipts are read only now."""
        seconds = (self.deadline if self.over else self.last) - self.began
        transactions = set()
        for each in self.receipts:
            receipt = json.loads(base64.b64decode(each))
            if receipt.get("success") is not True or len(receipt.get("transaction", "")) != 66:
                self.bad[f"receipt {receipt}"] += 1
            transactions.add(receipt.get("transaction"))
        if len(transactions) != len(self.receipts):
            self.bad["one transaction in two receipts"] += 1
        times = sorted(self.latencies)
        return {
            "rate": self.good / seconds if seconds > 0 else 0.0,
            "answers": self.good + self.late,
            "p50": _at(times, 0.5),
            "p99": _at(times, 0.99),
            "probes": len(times),
            "bad": dict(self.bad.most_common(3)),
        }


def _at(times: list[float], share: float) -> float:
    return 1000 * times[min(len(times) - 1, int(share * len(times)))] if times else float("nan")


# ------------------------------------------------------------------------------------------------------------ signing


def offered(port: int, path: str) -> dict[str, Any]:
    """Return the 402's terms of a path."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 402, (answer.status, answer.read())
    terms: dict[str, Any] = json.loads(base64.b64decode(answer.headers["PAYMENT-REQUIRED"]))
    connection.close()
    return terms


def signed(port: int, path: str, count: int) -> list[bytes]:
    """Return so many requests, each with a permit of its own for the path's first EIP-3009 offer."""
    terms = offered(port, path)
    offer = next(
        each
        for each in terms["accepts"]
        if each["scheme"] == "exact" and each["extra"].get("assetTransferMethod", "eip3009") == "eip3009"
    )
    extra, asset, pay_to = offer["extra"], Address(offer["asset"].lower()), Address(offer["payTo"].lower())
    domain = digests.domain(extra["name"], extra["version"], int(offer["network"].split(":")[1]), asset)
    after = int(time.time()) - 60
    before = after + 60 + offer["maxTimeoutSeconds"]
    requests, amount = [], int(offer["amount"])
    said = {"x402Version": 2, "resource": terms["resource"], "accepted": offer}
    for number in range(count):
        payer, sign = PAYERS[number % len(PAYERS)]
        nonce = Hash32("0x" + secrets.token_hex(32))
        signature = sign(digests.transfer_authorization_digest(domain, payer, pay_to, amount, after, before, nonce))
        numbers = {"value": str(amount), "validAfter": str(after), "validBefore": str(before), "nonce": nonce}
        authorization = {"from": checksum(payer), "to": offer["payTo"], **numbers}
        payment = {**said, "payload": {"signature": "0x" + signature.hex(), "authorization": authorization}}
        header = base64.b64encode(json.dumps(payment, separators=(",", ":")).encode()).decode()
        requests.append(plain(path, f"payment-signature: {header}\r\n"))
    return requests


# ----------------------------------------------------------------------------------------------------------- commands


async def rate(port: int, path: str, connections: int, seconds: float, status: int = 200, pay: int = 0) -> dict[str, Any]:
    """Measure requests per second: the same one again and again, or ``pay`` payments."""
    run = Run(signed(port, path, pay) if pay else repeat(plain(path)), status=status, paid=bool(pay))
    await run.open(port, connections)
    run.start(seconds)
    await run.done
    return run.result()


async def latency(port: int, seconds: float, payers: int = 0, pay: int = 0) -> dict[str, Any]:
    """Measure how long an unpriced route takes, asked 2 ms after its last answer, while ``payers`` clients pay."""
    probe = Run(repeat(plain("/free")))
    await probe.open(port, 1, pause=0.002)
    paying = Run(signed(port, "/paid", pay), paid=True) if payers else None
    if paying is not None:
        await paying.open(port, payers)
        paying.start(seconds + 0.5)
        await asyncio.sleep(0.5)
    probe.start(seconds)
    await probe.done
    told = probe.result()
    if paying is not None:
        await paying.done
        assert paying.over, "too few payments were signed"
        told["paying"] = paying.result()
    return told


async def first_byte(port: int, path: str, count: int) -> dict[str, Any]:
    """Measure the seconds from a paid request to the first byte of its body, and to its end, one at a time."""
    first, whole, answers, bad = [], [], 0, Counter[str]()
    for request in signed(port, path, count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(_END)
        body = await reader.read(1)
        while b"piece" not in body and (more := await reader.read(1)):
            body += more
        first.append(time.perf_counter() - began)
        while b"piece 9\n" not in body and (more := await reader.read(4096)):
            body += more
        whole.append(time.perf_counter() - began)
        writer.close()
        if head.startswith(b"HTTP/1.1 200 ") and HEADER in head and b"piece 9\n" in body:
            answers += 1
        else:
            bad[head.decode("latin-1")] += 1
    return {"first": sorted(first)[count // 2], "whole": sorted(whole)[count // 2], "answers": answers, "bad": dict(bad)}


COMMANDS: dict[str, Callable[..., Any]] = {"rate": rate, "latency": latency, "first_byte": first_byte}


def main() -> None:
    """Do as told until standard input ends."""
    import uvloop

    gc.disable()  # no pause of the client's own in anybody's latency
    for line in sys.stdin:
        asked = json.loads(line)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            told = runner.run(COMMANDS[asked.pop("do")](**asked))
        print(json.dumps(told), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
