"""Shops to do the official SDK's probes to: what their handlers do, who settles for them, and what a payer gets to see."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx

from tests.lying_facilitator import Facilitator
from tests.shop import RELAYER, Ground, Shop
from x402bind.servers.held import Receive, Scope, Send
from x402core.machines.settlement import SettlementPolicy
from x402core.values import Millis
from x402core.wire import v2

__all__ = ["QUICK", "App", "Feed", "at_once", "broadcast", "everything", "get", "receipt", "remote", "selling"]

QUICK = SettlementPolicy(look_first=Millis(5), look_most=Millis(40))


class App:
    """An application that answers as told; ``work`` is done first, ``more`` after its response."""

    def __init__(
        self,
        status: int = 200,
        *headers: tuple[bytes, bytes],
        body: bytes = b"served",
        work: Callable[[], Any] | None = None,
        more: Callable[[], Any] | None = None,
    ) -> None:
        self.status, self.headers, self.body, self.work, self.more = status, list(headers), body, work, more
        self.runs = 0
        self.cancelled = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += scope["type"] == "http"
        assert scope["type"] == "http"
        try:
            if self.work is not None:
                await anyio.to_thread.run_sync(self.work, abandon_on_cancel=True)
            await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
            await send({"type": "http.response.body", "body": self.body})
            if self.more is not None:
                self.more()
        except anyio.get_cancelled_exc_class():
            self.cancelled.set()
            raise


class Feed:
    """An application that streams ``most`` chunks, never to end unless told; it notes when it was made to stop."""

    def __init__(self, chunk: bytes = b"tick\n", most: int = 10**9) -> None:
        self.chunk, self.most, self.sent = chunk, most, 0
        self.gate = threading.Event()  # closed: one chunk only
        self.stopped = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.listen, receive, tasks.cancel_scope)  # as frameworks do
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while self.sent < self.most:
                    await send({"type": "http.response.body", "body": self.chunk, "more_body": True})
                    self.sent += 1
                    await self.opened()
                await send({"type": "http.response.body", "body": b""})
                tasks.cancel_scope.cancel()
        finally:
            self.stopped.set()

    async def opened(self) -> None:
        await anyio.lowlevel.checkpoint()
        while not self.gate.is_set():  # noqa: ASYNC110 - set from another thread
            await anyio.sleep(0.005)

    @staticmethod
    async def listen(receive: Receive, streaming: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        streaming.cancel()


@contextmanager
def selling(ground: Ground, folder: Path, app: Any = None, **how: Any) -> Iterator[Shop]:
    with Shop(ground, folder, app=app, **{"settlement": QUICK, **how}) as shop:
        yield shop


@contextmanager
def remote(ground: Ground, folder: Path, facilitator: Facilitator, app: Any = None, **how: Any) -> Iterator[Shop]:
    """Run a seller that knows no chain, only a facilitator."""
    given: dict[str, Any] = {"key": None, "rpc": "", "facilitator": facilitator.url, "networks": ("base-sepolia",)}
    with Shop(ground, folder, app=app, **{**given, "patience": 0.4, "token_key": None, **how}) as shop:
        yield shop


def get(url: str, headers: dict[str, str], **how: Any) -> httpx.Response:
    return httpx.request(how.pop("method", "GET"), url, headers=headers, timeout=30, **how)


def at_once(url: str, headers: dict[str, str], times: int = 8) -> list[httpx.Response]:
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(lambda _: get(url, headers), range(times)))


def receipt(answer: httpx.Response) -> Any:
    return json.loads(base64.b64decode(answer.headers[v2.PAYMENT_RESPONSE]))


def everything(answer: httpx.Response) -> str:
    """Return all that a payer is told, what is in base64 spelled out."""
    told = [answer.text, *(f"{name}: {value}" for name, value in answer.headers.multi_items())]
    for name in (v2.PAYMENT_REQUIRED, v2.PAYMENT_RESPONSE):
        told += [base64.b64decode(value).decode() for value in answer.headers.get_list(name)]
    return "\n".join(told)


def broadcast(ground: Ground) -> int:
    """Count what our account has sent, mined or not."""
    return ground.sent_by(RELAYER, "pending")
