"""The two leaf loops: perform what a generator of commands yields, send it the answers, return what it returns.

``run`` and ``arun`` differ by an ``await``; all driving logic is in ``x402core.machines.machine``.  The rules of both:

* an ``Exception`` of the performer is thrown into the generator, which knows what its failure means;
* any other ``BaseException`` (KeyboardInterrupt, SystemExit, a loop's cancellation) means that the caller went away:
  ``Cancel`` is thrown in, the clean-up commands that come out are performed, and then the original is raised again, so a
  claim is released or kept, never forgotten.  Under ``arun`` the clean-up is shielded and has ``grace`` seconds.

What a clean-up itself fails with is added to the original as a note: the caller asked to go, and goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Final, TypeAlias, TypeVar, cast

from x402core.commands import Command
from x402core.errors import LocalProtocolError
from x402core.machines.machine import Cancel

__all__ = ["GRACE", "AsyncPerform", "Perform", "adispatch", "arun", "dispatch", "resume", "run", "run_to"]

R = TypeVar("R")
Perform: TypeAlias = Callable[[Command[Any]], Any]
AsyncPerform: TypeAlias = Callable[[Command[Any]], Awaitable[Any]]
Performers: TypeAlias = Mapping[type[Command[Any]], Callable[[Any], Any]]

GRACE: Final = 10.0
"""Seconds that a cancelled exchange has for its clean-up."""


def run(gen: Generator[Command[Any], Any, R], perform: Perform) -> R:
    """Perform every command of ``gen`` in this thread and return its result.

    Raises: what ``gen`` raises; what interrupted the performer, once the clean-up is done.
    """
    return cast("R", _walk(gen, lambda: next(gen), perform, None))


def run_to(gen: Generator[Command[Any], Any, R], perform: Perform, until: type[Command[Any]]) -> R | Command[Any]:
    """Do as :func:`run`, but return the first command of type ``until`` in place of performing it: see :func:`resume`."""
    return _walk(gen, lambda: next(gen), perform, until)


def resume(gen: Generator[Command[Any], Any, R], perform: Perform, answer: object) -> R:
    """Go on with a generator that :func:`run_to` left at a command: with its answer, or the exception it failed with.

    Raises: as :func:`run`.
    """
    went_on = _walk(gen, lambda: gen.throw(answer) if isinstance(answer, Exception) else gen.send(answer), perform, None)
    return cast("R", went_on)


def _walk(
    gen: Generator[Command[Any], Any, R],
    first: Callable[[], Command[Any]],
    perform: Perform,
    until: type[Command[Any]] | None,
) -> R | Command[Any]:
    try:
        return _loop(gen, first(), perform, until)
    except StopIteration as stop:  # it had nothing to ask
        result: R = stop.value
        return result
    except Exception:
        raise
    except BaseException as gone:
        _clean_up(gen, perform, gone)
        raise


def _loop(
    gen: Generator[Command[Any], Any, R], command: Command[Any], perform: Perform, until: type[Command[Any]] | None = None
) -> R | Command[Any]:
    try:
        while type(command) is not until:
            try:
                answer = perform(command)
            except Exception as error:  # noqa: BLE001 - thrown in: the generator decides what it means
                command = gen.throw(error)
            else:
                command = gen.send(answer)
    except StopIteration as stop:
        result: R = stop.value
        return result
    return command


def _clean_up(gen: Generator[Command[Any], Any, Any], perform: Perform, gone: BaseException) -> None:
    try:
        _loop(gen, gen.throw(Cancel()), perform)
    except (StopIteration, Cancel):  # nothing to clean up, or nobody who knows how
        pass
    except Exception as error:  # noqa: BLE001 - the caller's leaving goes before it
        gone.add_note(f"the clean-up failed: {error!r}")
    finally:
        gen.close()


async def arun(gen: Generator[Command[Any], Any, R], perform: AsyncPerform, *, grace: float = GRACE) -> R:
    """Perform every command of ``gen`` under any event loop and return its result.

    ``grace`` is in seconds.  Raises: what ``gen`` raises; the loop's cancellation, once the clean-up is done.
    """
    try:
        return await _aloop(gen, next(gen), perform)
    except StopIteration as stop:
        result: R = stop.value
        return result
    except Exception:
        raise
    except GeneratorExit:  # this coroutine is being closed: nothing can be awaited any more
        gen.close()
        raise
    except BaseException as gone:
        await _aclean_up(gen, perform, gone, grace)
        raise


async def _aloop(gen: Generator[Command[Any], Any, R], command: Command[Any], perform: AsyncPerform) -> R:
    try:
        while True:
            try:
                answer = await perform(command)
            except Exception as error:  # noqa: BLE001 - thrown in: the generator decides what it means
                command = gen.throw(error)
            else:
                command = gen.send(answer)
    except StopIteration as stop:
        result: R = stop.value
        return result


async def _aclean_up(gen: Generator[Command[Any], Any, Any], perform: AsyncPerform, gone: BaseException, grace: float) -> None:
    import anyio

    try:
        command = gen.throw(Cancel())
        with anyio.move_on_after(grace, shield=True) as scope:
            await _aloop(gen, command, perform)
        if scope.cancelled_caught:
            gone.add_note(f"the clean-up was given up after {grace} seconds")
    except (StopIteration, Cancel):
        pass
    except Exception as error:  # noqa: BLE001 - the caller's leaving goes before it
        gone.add_note(f"the clean-up failed: {error!r}")
    finally:
        gen.close()


def dispatch(table: Performers) -> Perform:
    """Return a performer that looks a command's type up in ``table``.

    Raises: LocalProtocolError for a coroutine function, now and not at the first payment; later, for a command nobody
    performs.
    """
    for kind, function in table.items():
        if inspect.iscoroutinefunction(function):
            raise LocalProtocolError(f"an async function cannot perform {kind.__name__} here: use arun", field="table")
    performers = dict(table)

    def perform(command: Command[Any]) -> Any:
        return _performer(performers, command)(command)

    return perform


def adispatch(table: Performers) -> AsyncPerform:
    """Return the same for ``arun``; functions may be async or not.  Raises, when called: as :func:`dispatch`'s."""
    performers = dict(table)

    async def perform(command: Command[Any]) -> Any:
        answer = _performer(performers, command)(command)
        return await answer if hasattr(type(answer), "__await__") else answer

    return perform


def _performer(table: Performers, command: Command[Any]) -> Callable[[Any], Any]:
    found = table.get(type(command))
    if found is None:
        raise LocalProtocolError(f"nothing here performs {type(command).__name__}", field="table")
    return found
