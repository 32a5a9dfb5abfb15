"""The two leaf loops: the same command logs, errors thrown in, and a clean-up at whichever command the caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from x402bind.drive import adispatch, arun, dispatch, resume, run, run_to
from x402core.commands import Command
from x402core.errors import LocalProtocolError
from x402core.machines.machine import Cancel, translate


@dataclass(frozen=True, slots=True)
class Step(Command[str]):
    name: str


@dataclass(frozen=True, slots=True)
class Coarse(Command[str]):
    name: str


@dataclass(frozen=True, slots=True)
class Undo(Command[None]):
    name: str


Gen = Generator[Command[Any], Any, str]


def exchange() -> Gen:
    """Three steps; whoever goes away after a claim sees it undone, and the undoing may fail."""
    got = [(yield Step("look"))]
    claimed = False
    try:
        got.append((yield Step("claim")))
        claimed = True
        try:
            got.append((yield Coarse("settle")))
        except ValueError as error:
            got.append(f"failed: {error}")
        got.append((yield Step("serve")))
    except Cancel:
        if claimed:
            yield Undo("first")
            yield Undo("second")
        return "cancelled"
    return ",".join(got)


def finer(command: Coarse) -> Gen:
    one: str = yield Step(f"{command.name}.1")
    two: str = yield Step(f"{command.name}.2")
    return one + two


def whole() -> Gen:
    return translate(exchange(), {Coarse: finer})


ALL = ["look", "claim", "settle.1", "settle.2", "serve"]


class World:
    """Performs every step by its name; at ``stop`` it does what ``then`` says."""

    def __init__(self, stop: str = "", then: Callable[[], Any] | None = None) -> None:
        self.log: list[str] = []
        self.stop = stop
        self.then = then

    def perform(self, command: Command[Any]) -> Any:
        assert isinstance(command, Step | Undo)
        self.log.append(command.name)
        if command.name == self.stop:
            assert self.then is not None
            return self.then()
        return command.name if isinstance(command, Step) else None

    async def aperform(self, command: Command[Any]) -> Any:
        await anyio.lowlevel.checkpoint()
        answer = self.perform(command)
        if asyncio.iscoroutine(answer):
            await answer
        await anyio.lowlevel.checkpoint()
        return answer


def drive_sync(gen: Gen, world: World) -> str:
    return run(gen, world.perform)


def drive_async(backend: str) -> Callable[[Gen, World], str]:
    def drive(gen: Gen, world: World) -> str:
        async def main() -> str:
            return await arun(gen, world.aperform)

        return anyio.run(main, backend=backend)

    return drive


Drive = Callable[[Gen, World], str]


@pytest.fixture(params=[drive_sync, drive_async("asyncio"), drive_async("trio")], ids=["sync", "asyncio", "trio"])
def drive(request: pytest.FixtureRequest) -> Drive:
    found: Drive = request.param
    return found


def raising(error: BaseException) -> Callable[[], Any]:
    def now() -> Any:
        raise error

    return now


# --------------------------------------------------------------------------------------------------- the same in all


def test_the_logs_and_the_results_are_the_same(drive: Drive) -> None:
    world = World()
    assert drive(whole(), world) == "look,claim,settle.1settle.2,serve"
    assert world.log == ALL


@pytest.mark.parametrize("stop", ["settle.1", "settle.2"])
def test_an_error_is_thrown_into_the_generator_that_asked(drive: Drive, stop: str) -> None:
    world = World(stop, raising(ValueError("no")))
    assert drive(whole(), world) == "look,claim,failed: no,serve"
    assert world.log == [each for each in ALL if each != "settle.2" or stop == "settle.2"]


@pytest.mark.parametrize("stop", ["look", "claim", "serve"])
def test_an_error_nobody_understands_comes_out(drive: Drive, stop: str) -> None:
    world = World(stop, raising(ValueError("no")))
    with pytest.raises(ValueError, match=r"^no$"):
        drive(whole(), world)
    assert world.log[-1] == stop


def test_a_stop_iteration_of_the_performer_is_an_error_like_any_other(drive: Drive) -> None:
    def careful() -> Gen:
        try:
            yield Step("look")
        except StopIteration as stop:
            return f"saw {stop.value}"
        return "missed"

    world = World("look", raising(StopIteration(5)))
    if drive is drive_sync:
        assert drive(careful(), world) == "saw 5"
    else:  # a coroutine turns it into a RuntimeError before we see it (PEP 479)
        with pytest.raises(RuntimeError):
            drive(careful(), world)


def test_a_generator_without_a_question_is_fine(drive: Drive) -> None:
    def silent() -> Gen:
        return "done"
        yield

    assert drive(silent(), World()) == "done"


# ------------------------------------------------------------------------------------------- the caller goes away

OWED = {"look": [], "claim": [], "settle.1": ["first", "second"], "settle.2": ["first", "second"], "serve": ["first", "second"]}


def upto(stop: str) -> list[str]:
    return ALL[: ALL.index(stop) + 1]


@pytest.mark.parametrize("gone", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("stop", ALL)
def test_an_interrupt_at_each_command_cleans_up_and_goes_on(stop: str, gone: type[BaseException]) -> None:
    world = World(stop, raising(gone("bye")))
    with pytest.raises(gone, match=r"^bye$"):
        run(whole(), world.perform)
    assert world.log == upto(stop) + OWED[stop]


@pytest.mark.parametrize("stop", ALL)
def test_an_asyncio_cancel_at_each_command_cleans_up_and_goes_on(stop: str) -> None:
    async def main() -> World:
        waiting = asyncio.Event()

        async def hang() -> None:
            waiting.set()
            await asyncio.Event().wait()

        world = World(stop, hang)
        task = asyncio.create_task(arun(whole(), world.aperform))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return world

    assert asyncio.run(main()).log == upto(stop) + OWED[stop]


@pytest.mark.parametrize("stop", ALL)
def test_a_trio_cancel_at_each_command_cleans_up_and_goes_on(stop: str) -> None:
    async def main() -> World:
        with trio.CancelScope() as scope:

            async def hang() -> None:
                scope.cancel()
                await trio.sleep_forever()

            world = World(stop, hang)
            await arun(whole(), world.aperform)
        assert scope.cancelled_caught
        return world

    assert trio.run(main).log == upto(stop) + OWED[stop]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_anyio_timeout_cleans_up(backend: str) -> None:
    async def main() -> World:
        async def hang() -> None:
            await anyio.sleep(60)

        world = World("serve", hang)
        with anyio.move_on_after(0.02) as scope:
            await arun(whole(), world.aperform)
        assert scope.cancelled_caught
        return world

    assert anyio.run(main, backend=backend).log == upto("serve") + OWED["serve"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_clean_up_that_hangs_is_given_up(backend: str) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def perform(command: Command[Any]) -> Any:
            assert isinstance(command, Step | Undo)
            log.append(command.name)
            if command.name in ("serve", "first"):
                await anyio.sleep(60)
            return ""

        with anyio.move_on_after(0.02):
            try:
                await arun(whole(), perform, grace=0.02)
            except BaseException as gone:
                log.extend(gone.__notes__)
                raise
        return log

    assert anyio.run(main, backend=backend) == [*ALL, "first", "the clean-up was given up after 0.02 seconds"]


def test_a_clean_up_that_fails_does_not_hide_why_the_caller_went() -> None:
    log: list[str] = []

    def perform(command: Command[Any]) -> Any:
        assert isinstance(command, Step | Undo)
        log.append(command.name)
        if command.name == "serve":
            raise KeyboardInterrupt
        if command.name == "first":
            raise OSError("disk")
        return ""

    with pytest.raises(KeyboardInterrupt) as caught:
        run(whole(), perform)
    assert log == [*ALL, "first"]
    assert caught.value.__notes__ == ["the clean-up failed: OSError('disk')"]


def test_a_generator_that_knows_no_cancel_is_closed() -> None:
    closed = []

    def careless() -> Gen:
        try:
            yield Step("look")
        finally:
            closed.append(True)
        return ""

    with pytest.raises(KeyboardInterrupt):
        run(careless(), World("look", raising(KeyboardInterrupt())).perform)
    assert closed == [True]


def test_an_interrupt_inside_the_generator_comes_out() -> None:
    def interrupted() -> Gen:
        yield Step("look")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted(), World().perform)


def test_a_coroutine_that_is_closed_awaits_nothing() -> None:
    class Forever:
        def __await__(self) -> Generator[None, None, None]:
            yield

    log: list[str] = []

    async def perform(command: Command[Any]) -> Any:
        assert isinstance(command, Step | Undo)
        log.append(command.name)
        if command.name in ("serve", "first"):
            await Forever()
        return ""

    async def main() -> None:
        coroutine = arun(whole(), perform)
        coroutine.send(None)
        coroutine.close()  # a RuntimeError if it were to await its clean-up

    asyncio.run(main())
    assert log == ALL


# --------------------------------------------------------------------------------------------------------- dispatch


def test_dispatch_looks_a_command_up() -> None:
    assert dispatch({Step: lambda command: command.name})(Step("x")) == "x"


def test_a_command_nobody_performs_is_a_misuse() -> None:
    with pytest.raises(LocalProtocolError, match="Undo"):
        dispatch({Step: lambda command: command.name})(Undo("x"))
    with pytest.raises(LocalProtocolError, match="Undo"):
        anyio.run(adispatch({}), Undo("x"))


async def asynchronous(command: Step) -> str:
    await anyio.lowlevel.checkpoint()
    return command.name


def test_an_async_function_in_the_sync_world_is_refused_at_once() -> None:
    with pytest.raises(LocalProtocolError, match="arun"):
        dispatch({Step: asynchronous})


def test_the_async_world_takes_both_kinds() -> None:
    perform = adispatch({Step: asynchronous, Undo: lambda command: command.name})

    async def main() -> tuple[Any, Any]:
        return await perform(Step("x")), await perform(Undo("y"))

    assert anyio.run(main) == ("x", "y")


# ------------------------------------------------------------------------------------------------------ left, and gone on


@pytest.mark.parametrize(("answer", "result"), [("paid", "paid"), (ValueError("no"), "failed: no")])
def test_a_generator_is_left_at_a_command_and_gone_on_with(answer: object, result: str) -> None:
    world, gen = World(), exchange()
    assert run_to(gen, world.perform, Coarse) == Coarse("settle")
    assert world.log == ["look", "claim"]
    assert resume(gen, world.perform, answer) == f"look,claim,{result},serve"


def test_what_comes_to_its_end_before_that_command_is_run() -> None:
    world = World()
    assert run_to(whole(), world.perform, Coarse) == "look,claim,settle.1settle.2,serve"


def test_going_on_is_interrupted_and_cleaned_up() -> None:
    world, gen = World("serve", raising(KeyboardInterrupt())), exchange()
    run_to(gen, world.perform, Coarse)
    with pytest.raises(KeyboardInterrupt):
        resume(gen, world.perform, "paid")
    assert world.log == ["look", "claim", "serve", "first", "second"]
