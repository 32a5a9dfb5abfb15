"""The rules every table must keep, as data walks: nothing here runs a machine, so a broken table can be asked too.

A rule about paths is a *monitor*: a small memory and a step per row.  All pairs (state, memory) that can be reached are
explored, so a rule that holds here holds on every path, however long (loops included): that is more than walking paths up to
some depth.  A monitor may call a step impossible where the classifier's own condition says so; each such place has its line
of the machine in a comment, and ``tests/rules.py`` checks the same rules on what really happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from x402core.commands import Command, StreamResponse
from x402core.machines.machine import Input, Machine, Row, State

__all__ = ["Broken", "Impossible", "Monitor", "Spec", "broken", "explore", "paths", "reachable", "spec_of"]

Kind: TypeAlias = type[Command[Any]]


class Broken(Exception):
    """A rule does not hold; the text names it and where."""


class Impossible(Exception):
    """The classifier never gives this input with this history."""


@dataclass(frozen=True)
class Monitor:
    """A rule about paths: ``step(memory, row)`` gives the next memory, ``end(memory, row)`` speaks at the last row."""

    name: str
    start: Any
    step: Callable[[Any, Row], Any]
    end: Callable[[Any, Row], None]


@dataclass(frozen=True)
class Spec:
    """A table and what the test knows of it: which state waits for which command, and what that command can come to."""

    name: str
    table: tuple[Row, ...]
    start: State
    ends: frozenset[State]
    states: tuple[State, ...]
    inputs: tuple[Input, ...]
    cancel: Input | None
    failures: Mapping[Kind, Input]
    begins: frozenset[Input]
    waits: Mapping[State, Kind]
    accepts: Mapping[State, frozenset[Input]]
    monitors: tuple[Monitor, ...]
    cancellable_start: bool = False
    answers_cancel: bool = False
    rows: Mapping[tuple[State, Input], Row] = field(init=False)
    leaving: Mapping[State, tuple[Row, ...]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {(row.state, row.input): row for row in self.table})
        leaving: dict[State, tuple[Row, ...]] = dict.fromkeys(self.states, ())
        for row in self.table:
            leaving[row.state] += (row,)
        object.__setattr__(self, "leaving", leaving)

    def with_table(self, table: tuple[Row, ...]) -> Spec:
        """Return the same expectations of another table."""
        return replace(self, table=table)


def spec_of(
    machine: type[Machine[Any, Any]],
    *,
    begins: frozenset[Input],
    waits: Mapping[State, Kind],
    accepts: Mapping[Kind, frozenset[Input]],
    by_state: Mapping[State, frozenset[Input]],
    monitors: tuple[Monitor, ...],
    cancellable_start: bool = False,
    answers_cancel: bool = False,
) -> Spec:
    """Put a machine's table and the test's expectations together."""
    return Spec(
        name=machine.__name__,
        table=machine.TABLE,
        start=machine.START,
        ends=machine.ENDS,
        states=tuple(type(machine.START)),
        inputs=tuple(type(machine.TABLE[0].input)),
        cancel=machine.CANCEL,
        failures=machine.FAILURES,
        begins=begins,
        waits=waits,
        accepts={state: by_state.get(state, accepts[command]) for state, command in waits.items()},
        monitors=monitors,
        cancellable_start=cancellable_start,
        answers_cancel=answers_cancel,
    )


# ------------------------------------------------------------------------------------------------------- the local rules


def broken(spec: Spec) -> str | None:
    """Return the first rule a table breaks, in words, or None."""
    try:
        for rule in RULES:
            rule(spec)
        for monitor in spec.monitors:
            explore(spec, monitor)
    except Broken as why:
        return str(why)
    return None


def demand(holds: object, text: str) -> None:
    """Raise Broken unless ``holds``."""
    if not holds:
        raise Broken(text)


def one_row_each(spec: Spec) -> None:
    """State and input alone decide."""
    demand(len(spec.rows) == len(spec.table), "two rows for one state and input")


def all_reachable(spec: Spec) -> None:
    """No state is dead, and no input unused."""
    lost = set(spec.states) - reachable(spec, spec.start)
    demand(not lost, f"never reached: {sorted(s.name for s in lost)}")
    unused = set(spec.inputs) - {row.input for row in spec.table}
    demand(not unused, f"no row takes {sorted(i.name for i in unused)}")


def all_can_end(spec: Spec) -> None:
    """Every state can reach an end, and an end is an end."""
    for state in spec.states:
        demand(reachable(spec, state) & spec.ends, f"{state.name} cannot reach an end")
    for end in spec.ends:
        demand(not spec.leaving[end], f"{end.name} is an end with rows")


def waiting_asks_its_command(spec: Spec) -> None:
    """Entering a waiting state issues exactly its command, last; no other row issues one that is waited for."""
    for row in spec.table:
        waited = [command for command in row.commands if command.waits]
        want = [] if row.next in spec.ends else [spec.waits[row.next]] if row.next in spec.waits else None
        where = f"{row.state.name}, {row.input.name} -> {row.next.name}"
        demand(waited == want, f"{where} waits for {[c.__name__ for c in waited]}")
        demand(not want or row.commands[-1] is want[0], f"{where}: the command waited for is not last")


def one_final_answer(spec: Spec) -> None:
    """A row that ends gives the one final command, last, and no other row does; a seller answers no cancel, a payer's budget
    has to hear of it, and a response that streamed was the answer.
    """
    for row in spec.table:
        finals = [command for command in row.commands if command.final]
        where = f"{row.state.name}, {row.input.name}"
        if row.next not in spec.ends:
            demand(not finals, f"{where} answers and goes on")
        elif spec.waits.get(row.state) is StreamResponse:
            demand(not finals, f"{where} answers a second time")
        elif row.input is not spec.cancel or spec.answers_cancel:
            demand(len(finals) == 1 and row.commands[-1].final, f"{where} ends without its final answer")
        else:
            demand(not finals, f"{where}: answers nobody")


def waiting_takes_its_answers(spec: Spec) -> None:
    """A waiting state takes exactly what its command can come to: nothing else, and nothing is missing."""
    for state in spec.states:
        if state in spec.ends:
            continue
        given = {row.input for row in spec.leaving[state]}
        want = spec.begins if state is spec.start else spec.accepts[state]
        cancels = spec.cancel is not None and (state is not spec.start or spec.cancellable_start)
        want = want | {spec.cancel} if cancels and spec.cancel is not None else want
        demand(given == want, f"{state.name} takes {sorted(i.name for i in given ^ want)} or does not")


def nothing_twice(spec: Spec) -> None:
    """No row issues a command twice."""
    for row in spec.table:
        demand(len(set(row.commands)) == len(row.commands), f"{row.state.name}, {row.input.name}: a command twice")


def failures_are_rows(spec: Spec) -> None:
    """Whatever is waited for may fail."""
    for state, command in spec.waits.items():
        demand((state, spec.failures[command]) in spec.rows, f"{state.name}: {command.__name__} may not fail")


RULES: tuple[Callable[[Spec], None], ...] = (
    one_row_each,
    all_reachable,
    all_can_end,
    waiting_asks_its_command,
    one_final_answer,
    waiting_takes_its_answers,
    nothing_twice,
    failures_are_rows,
)


# ----------------------------------------------------------------------------------------------------------- the walkers


def reachable(spec: Spec, start: State) -> set[State]:
    """Return every state that can follow ``start``, itself included."""
    found, todo = {start}, [start]
    while todo:
        for row in spec.leaving[todo.pop()]:
            if row.next not in found:
                found.add(row.next)
                todo.append(row.next)
    return found


def explore(spec: Spec, monitor: Monitor) -> set[tuple[State, Any]]:
    """Explore every pair of state and memory; Raises: Broken with a shortest path that leads there."""
    first = (spec.start, monitor.start)
    came: dict[tuple[State, Any], tuple[tuple[State, Any], Row] | None] = {first: None}
    todo = deque([first])
    while todo:
        at = todo.popleft()
        for row in spec.leaving[at[0]]:
            try:
                memory = monitor.step(at[1], row)
                if row.next in spec.ends:
                    monitor.end(memory, row)
            except Impossible:
                continue
            except Broken as why:
                raise Broken(f"{monitor.name}: {why}; path {_trail(came, at, row)}") from None
            there = (row.next, memory)
            if there not in came:
                came[there] = (at, row)
                todo.append(there)
    return set(came)


def _trail(came: Mapping[Any, Any], at: Any, row: Row) -> str:
    steps = [row.input.name]
    while came[at] is not None:
        at, before = came[at]
        steps.append(before.input.name)
    return " > ".join(reversed(steps))


def paths(spec: Spec) -> Iterator[tuple[Row, ...]]:
    """Yield every path from the start to an end that uses each row at most once."""
    todo: list[tuple[State, tuple[Row, ...]]] = [(spec.start, ())]
    while todo:
        state, path = todo.pop()
        for row in spec.leaving[state]:
            if row in path:
                continue
            if row.next in spec.ends:
                yield (*path, row)
            else:
                todo.append((row.next, (*path, row)))
