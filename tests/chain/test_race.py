"""The first of several requests, and how many may be under way: races and queues, with no clock in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest

from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.leaves import First, FirstOf, HttpCall, HttpFailed
from x402core.errors import LocalProtocolError

FOREVER, AT_ONCE = 3600.0, 0.0


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Servers:
    """Each host answers as its name says, once ``go`` is set if it is slow; what was asked and what was dropped is kept."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.dropped: list[str] = []
        self.go = anyio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        self.asked.append(host)
        if host.startswith("slow"):
            try:
                await self.go.wait()
            except BaseException:
                self.dropped.append(host)
                raise
        return answer(host)

    def http(self, **limits: int) -> AsyncHttp:
        return AsyncHttp(httpx.AsyncClient(transport=httpx.MockTransport(self)), **limits)


def answer(host: str) -> httpx.Response:
    if host.startswith("away"):
        raise httpx.ConnectError("no")
    if host.startswith("lost"):
        raise httpx.ReadError("no")
    if host.startswith("broken"):
        raise ZeroDivisionError
    return httpx.Response(503 if host.startswith("sorry") else 200, stream=httpx.ByteStream(host.encode()))


def call(host: str, timeout: float = 60.0) -> HttpCall:
    return HttpCall("POST", f"http://{host}/", (), b"", timeout)


def race(*hosts: str, after: float) -> FirstOf:
    return FirstOf(tuple([call(host) for host in hosts]), after)


def play(backend: str, body: Callable[[Servers], Awaitable[None]]) -> Servers:
    async def main() -> Servers:
        servers = Servers()
        with anyio.fail_after(20):
            await body(servers)
        return servers

    return anyio.run(main, backend=backend)


def outcome(first: First) -> tuple[Any, ...]:
    return first.reply.body.decode(), first.position, first.failed, first.beaten


RACES = (
    (race("fast-a", "fast-b", after=FOREVER), ("fast-a", 0, (), ()), ["fast-a"]),
    (race("slow-a", "fast-b", after=AT_ONCE), ("fast-b", 1, (), (0,)), ["slow-a", "fast-b"]),
    (race("away-a", "fast-b", after=FOREVER), ("fast-b", 1, (0,), ()), ["away-a", "fast-b"]),
    (race("sorry-a", "fast-b", after=FOREVER), ("fast-b", 1, (0,), ()), ["sorry-a", "fast-b"]),
    (race("slow-a", "lost-b", "fast-c", after=AT_ONCE), ("fast-c", 2, (1,), (0,)), ["slow-a", "lost-b", "fast-c"]),
    (race("sorry-a", "away-b", after=FOREVER), ("sorry-a", 0, (1,), ()), ["sorry-a", "away-b"]),
)


@pytest.mark.parametrize(("command", "expected", "asked"), RACES)
def test_the_first_good_answer_counts_and_failures_begin_the_next(
    backend: str, command: FirstOf, expected: Any, asked: list[str]
) -> None:
    async def body(servers: Servers) -> None:
        assert outcome(await servers.http().first(command)) == expected

    servers = play(backend, body)
    assert servers.asked == asked
    assert servers.dropped == [host for host in asked if host.startswith("slow")]  # nobody is left waiting


def test_the_slower_may_still_win_when_the_other_fails(backend: str) -> None:
    async def body(servers: Servers) -> None:
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                assert outcome(await servers.http().first(race("slow-a", "lost-b", after=AT_ONCE))) == ("slow-a", 0, (1,), ())

            tasks.start_soon(run)
            while len(servers.asked) < 2:
                await anyio.lowlevel.checkpoint()
            servers.go.set()

    play(backend, body)


@pytest.mark.parametrize(("hosts", "sent"), [(("away-a", "away-b"), False), (("away-a", "lost-b"), True)])
def test_a_race_that_nobody_wins_says_whether_anything_left(backend: str, hosts: tuple[str, ...], sent: bool) -> None:
    async def body(servers: Servers) -> None:
        with pytest.raises(HttpFailed) as caught:
            await servers.http().first(race(*hosts, after=FOREVER))
        assert caught.value.sent is sent

    play(backend, body)


def test_a_bug_in_a_race_is_raised_as_it_is(backend: str) -> None:
    async def body(servers: Servers) -> None:
        with pytest.raises(ZeroDivisionError):
            await servers.http().first(race("slow-a", "broken-b", after=AT_ONCE))
        assert servers.dropped == ["slow-a"]

    play(backend, body)


def test_whoever_goes_away_takes_the_whole_race_along(backend: str) -> None:
    async def body(servers: Servers) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(servers.http().first, race("slow-a", "slow-b", after=AT_ONCE))
            while len(servers.asked) < 2:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert sorted(servers.dropped) == ["slow-a", "slow-b"]

    play(backend, body)


def test_one_thread_asks_one_after_the_other_and_gives_up_early_on_all_but_the_last() -> None:
    given: list[tuple[str, float]] = []

    def answering(request: httpx.Request) -> httpx.Response:
        given.append((request.url.host, request.extensions["timeout"]["read"]))
        return answer(request.url.host)

    with SyncHttp(httpx.Client(transport=httpx.MockTransport(answering))) as http:
        for command, expected, _ in RACES:
            if "slow" not in command.calls[0].url:
                assert outcome(http.first(command)) == expected
        given.clear()
        assert outcome(http.first(race("lost-a", "away-b", "fast-c", after=AT_ONCE))) == ("fast-c", 2, (0, 1), ())
        assert given == [("lost-a", 20.0), ("away-b", 20.0), ("fast-c", 60.0)]
        with pytest.raises(HttpFailed):
            http.first(race("lost-a", "away-b", after=AT_ONCE))


# -------------------------------------------------------------------------------------------------------- back-pressure


def test_so_many_are_under_way_so_many_wait_and_one_more_is_refused_at_once(backend: str) -> None:
    async def body(servers: Servers) -> None:
        http, done = servers.http(most=2, queue=1), list[bytes]()

        async def run() -> None:
            done.append((await http.call(call("slow-a"))).body)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(run)
            while len(servers.asked) < 2:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            assert servers.asked == ["slow-a", "slow-a"]  # the third waits for its turn
            with pytest.raises(HttpFailed, match="too many") as caught:
                await http.call(call("slow-a"))
            assert not caught.value.sent
            assert (await http.call(call("fast-b"))).body == b"fast-b"  # another server has places of its own
            servers.go.set()
        assert done == 3 * [b"slow-a"]
        assert (await http.call(call("slow-a"))).body == b"slow-a"

    play(backend, body)


def test_whoever_waits_in_vain_never_left(backend: str) -> None:
    async def body(servers: Servers) -> None:
        http = servers.http(most=1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(http.call, call("slow-a"))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(HttpFailed, match="turn") as caught:
                await http.call(call("slow-a", timeout=0.01))
            assert not caught.value.sent
            assert servers.asked == ["slow-a"]
            servers.go.set()

    play(backend, body)


def test_failed_and_cancelled_requests_give_their_places_back(backend: str) -> None:
    async def body(servers: Servers) -> None:
        http = servers.http(most=1, queue=0)
        for _ in range(3):
            with pytest.raises(HttpFailed):
                await http.call(call("lost-a"))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(http.call, call("slow-a"))
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
        servers.go.set()
        assert (await http.call(call("slow-a"))).body == b"slow-a"

    play(backend, body)


def test_one_instance_may_serve_one_event_loop_after_another() -> None:
    http = AsyncHttp(most=1)
    for backend in ("asyncio", "trio", "asyncio"):

        async def body() -> None:
            with pytest.raises(HttpFailed):
                await http.call(HttpCall("POST", "http://127.0.0.1:1/", timeout=5))
            await http.aclose()

        anyio.run(body, backend=backend)


@pytest.mark.parametrize(("limits", "field"), [({"most": 0}, "most"), ({"queue": -1}, "queue")])
def test_a_bound_that_lets_nobody_through_is_refused(limits: dict[str, int], field: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"^{field}: "):
        AsyncHttp(**limits)
