"""One ASGI connection at a time, played by hand: what a server would send, when the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from x402bind.servers.held import App, Message
from x402core.errors import LocalProtocolError


class Visit:
    """One request.  ``gone`` is set to hang up."""

    def __init__(
        self,
        app: App,
        path: str = "/paid",
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] | dict[str, str] = (),
        body: bytes = b"",
        query: str = "",
        **scope: Any,
    ) -> None:
        pairs = headers.items() if isinstance(headers, dict) else headers
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode("latin-1"),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
            **scope,
        }
        self._app = app
        self._parts = [{"type": "http.request", "body": body, "more_body": False}]
        self.gone = anyio.Event()
        self.begun = anyio.Event()
        self.over = anyio.Event()
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if self._parts:
            return self._parts.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.begun.set()
            if not message.get("more_body", False):
                self.over.set()
                self.gone.set()  # as servers do when a response is complete

    async def run(self) -> Visit:
        with anyio.fail_after(20):
            await self._app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        assert [m["type"] for m in self.sent].count("http.response.start") == 1, self.sent
        return int(self.sent[0]["status"])

    def all(self, name: str) -> list[str]:
        return [v.decode("latin-1") for k, v in self.sent[0]["headers"] if k.decode("latin-1").lower() == name.lower()]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


async def visit(app: App, path: str = "/paid", **how: Any) -> Visit:
    """Make one request and wait for the application to return."""
    return await Visit(app, path, **how).run()


class Life:
    """A lifespan: what the application said, and how to end it."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.refusal: LocalProtocolError | None = None
        self.up = anyio.Event()
        self.down = anyio.Event()

    @property
    def types(self) -> list[str]:
        return [message["type"].removeprefix("lifespan.") for message in self.said]


@asynccontextmanager
async def living(app: App) -> AsyncIterator[Life]:
    """Take an application through its lifespan around the body."""
    life = Life()
    questions = ["lifespan.startup"]

    async def receive() -> Message:
        if questions:
            return {"type": questions.pop()}
        await life.down.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        life.said.append(message)
        if message["type"].startswith("lifespan.startup."):
            life.up.set()

    async def run() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        except LocalProtocolError as error:  # which servers make nothing more of, as they were told
            assert life.types == ["startup.failed"]
            life.refusal = error
        finally:
            life.up.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        with anyio.fail_after(10):
            await life.up.wait()
        yield life
        life.down.set()
