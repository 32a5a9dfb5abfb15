"""The frame all machines share: a table, one way in, one way out, and the only driving loop.

A machine is its table (law 2): ``(state, input) -> (next state, commands, action)``.  Inputs are not events: ``classify``
names the *outcome* an event stands for (``verified``, ``refused``, ``claim_held``), so that state and input alone decide.
What is not in the table is an error, never a default.

:meth:`Machine.receive` assigns the state last: when it raises, the machine is where it was.
It checks that an action issued exactly the commands its row declares, so the table that tests walk and documents show is
the table that runs.

:func:`steps` drives a machine: it yields commands and is sent answers (or thrown errors).  :func:`translate` replaces coarse
commands by generators of finer ones.  Neither knows whether the world is sync or async.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from x402core.commands import Command
from x402core.errors import LocalProtocolError
from x402core.events import CANCELLED, Answered, Cancelled, Event, Failed
from x402core.values import Millis

__all__ = ["Cancel", "Finer", "Input", "Machine", "Row", "State", "Steps", "ask", "steps", "translate"]

Commands = tuple[Command[Any], ...]
Action = Callable[[Any, Any, Millis], Commands]
Steps = Generator[Command[Any], Any, "Command[Any] | None"]
"""A driven machine: yields commands, is sent answers, returns its final command (None when it ended without one)."""


class State(Enum):
    """Base of every machine's states.  Identity hash: a table lookup takes 54 ns instead of 88 (models.md 9.5)."""

    __hash__ = object.__hash__


class Input(Enum):
    """Base of every machine's inputs."""

    __hash__ = object.__hash__


class Row(NamedTuple):
    """One row: in ``state``, on ``input``, run ``action``, which issues exactly ``commands``, and go to ``next``."""

    state: State
    input: Input
    next: State
    action: str
    commands: tuple[type[Command[Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class _Compiled:
    next: State
    action: Action
    commands: tuple[type[Command[Any]], ...]


S = TypeVar("S", bound=State)
I = TypeVar("I", bound=Input)  # noqa: E741 - the letter the literature uses for the input alphabet
Trace = Callable[[str, State, Input, State], None]


class Machine(Generic[S, I]):
    """A protocol machine.  Subclasses give ``TABLE``, ``START``, ``ENDS``, ``CANCEL`` and the classification maps.

    ``BEGINS`` maps an event's type, ``ANSWERS`` and ``FAILURES`` a command's type, to the name of the method that turns the
    event (or the answer) into ``(input, data)``.  All names are resolved when the class is made; an unknown one is an error
    then and there, and so is an action that no row uses.
    """

    __slots__ = ("awaiting", "state", "trace")

    TABLE: ClassVar[tuple[Row, ...]]
    START: ClassVar[State]
    ENDS: ClassVar[frozenset[State]]
    CANCEL: ClassVar[Input | None] = None
    BEGINS: ClassVar[Mapping[type, str]]
    ANSWERS: ClassVar[Mapping[type[Command[Any]], str]]
    FAILURES: ClassVar[Mapping[type[Command[Any]], Input]]

    _rows: ClassVar[dict[tuple[State, Input], _Compiled]]
    _begins: ClassVar[dict[type, Callable[..., tuple[Any, object]]]]
    _answers: ClassVar[dict[type, Callable[..., tuple[Any, object]]]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._rows = {}
        for row in cls.TABLE:
            if (row.state, row.input) in cls._rows:
                raise TypeError(f"{cls.__name__}: two rows for {row.state.name}, {row.input.name}")
            cls._rows[row.state, row.input] = _Compiled(row.next, getattr(cls, row.action), row.commands)
        cls._begins = {event: getattr(cls, name) for event, name in cls.BEGINS.items()}
        cls._answers = {command: getattr(cls, name) for command, name in cls.ANSWERS.items()}
        unused = {name for name in vars(cls) if name.startswith("do_")} - {row.action for row in cls.TABLE}
        if unused:
            raise TypeError(f"{cls.__name__}: no row uses {sorted(unused)}")

    def __init__(self, *, trace: Trace | None = None) -> None:
        self.state: State = self.START
        self.awaiting: Command[Any] | None = None
        self.trace = trace

    @property
    def ended(self) -> bool:
        """True once the machine takes no more events."""
        return self.state in self.ENDS

    def receive(self, event: Event, *, now: Millis) -> Commands:
        """Feed one event at Unix milliseconds ``now``; return the commands to perform, in order.

        Raises: LocalProtocolError for an event out of turn; the state has then not changed.
        """
        name, data = self._classify(event, now)
        row = self._rows.get((self.state, name))
        if row is None:
            raise LocalProtocolError(f"{type(self).__name__} in {self.state.name} does not take {name.name.lower()}")
        commands = row.action(self, data, now)
        if tuple(map(type, commands)) != row.commands:
            issued = [type(command).__name__ for command in commands]
            raise AssertionError(f"{type(self).__name__}: {self.state.name}, {name.name} issued {issued}")
        if self.trace is not None:
            self.trace(type(self).__name__, self.state, name, row.next)
        self.awaiting = commands[-1] if commands and commands[-1].waits else None
        self.state = row.next
        return commands

    def _classify(self, event: Event, now: Millis) -> tuple[Input, Any]:
        kind = type(event)
        if kind is Answered or kind is Failed:
            assert isinstance(event, Answered | Failed)
            if event.command is not self.awaiting:
                raise LocalProtocolError(f"{type(self).__name__} in {self.state.name} did not ask for this answer")
            if isinstance(event, Failed):
                return self.FAILURES[type(event.command)], event
            return self._answers[type(event.command)](self, event.value, now)
        if isinstance(event, Cancelled):
            if self.CANCEL is None:
                raise LocalProtocolError(f"{type(self).__name__} cannot be cancelled")
            return self.CANCEL, None
        begin = self._begins.get(kind)
        if begin is None or self.state is not self.START:  # a second beginning is nobody's row
            raise LocalProtocolError(f"{type(self).__name__} in {self.state.name} does not take {kind.__name__}")
        return begin(self, event, now)

    def do_nothing(self, _data: object, _now: Millis) -> Commands:
        """Issue no command."""
        return ()


class Cancel(BaseException):
    """Thrown into driven steps by a driver whose caller went away; the steps then yield only what must still be done."""


def steps(machine: Machine[Any, Any], first: Event, clock: Callable[[], Millis]) -> Steps:
    """Drive a machine from ``first`` to its end: the whole driving logic, once, for every world.

    An exception thrown in for a waited command becomes ``Failed``; for one merely done it is dropped here (each such
    command's *On failure* says why that is safe; drivers may log it).  On :class:`Cancel`, commands already owed and those
    the machine answers a cancel with are still yielded; nothing waited for is started again.
    """
    queue = deque(machine.receive(first, now=clock()))
    while queue:
        command = queue.popleft()
        if command.final:
            return command
        event: Event
        try:
            event = Answered(command, (yield command))
        except Cancel:
            owed = [c for c in (command, *queue) if not c.waits]
            if not machine.ended and machine.CANCEL is not None:  # a settlement is left to its journal
                owed += machine.receive(CANCELLED, now=clock())
            return (yield from _owed(owed))
        except Exception as error:  # noqa: BLE001 - whatever it was, the table says what a failure means
            event = Failed(command, type(error).__name__)
        if command.waits:
            queue.extend(machine.receive(event, now=clock()))
    return None


def _owed(commands: list[Command[Any]]) -> Steps:
    for command in commands:
        if command.final:
            return command
        try:
            yield command
        except Exception:  # noqa: BLE001, S112 - as in steps: a command merely done, each docstring says why that is safe
            continue
    return None


R = TypeVar("R")
T = TypeVar("T")
Finer = Callable[[Any], Generator[Command[Any], Any, Any]]


def ask(command: Command[R]) -> Generator[Command[Any], Any, R]:
    """Yield one command and return its answer, typed: ``facts = yield from ask(ReadChain(...))``."""
    answer: R = yield command
    return answer


def translate(
    coarse: Generator[Command[Any], Any, T], table: Mapping[type[Command[Any]], Finer]
) -> Generator[Command[Any], Any, T]:
    """Replace each command whose type is in ``table`` by a generator of finer ones; its errors are thrown back in place."""
    try:
        command = next(coarse)
        while True:
            finer = table.get(type(command))
            try:
                answer = (yield command) if finer is None else (yield from finer(command))
            except (Exception, Cancel) as error:  # noqa: BLE001 - thrown in where the coarse command stands
                command = coarse.throw(error)
            else:
                command = coarse.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
