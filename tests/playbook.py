"""The transcript language: what is fed to a machine, what it asks for, what it is told, and how it ends.

    play(server(TERMS)).feed(paid_request()) \\
        .expect(RecallPayment, key=KEY).answer(NEW) \\
        .expect(VerifyPayment).fail("node is down") \\
        .end(Respond, status=503)

``expect`` takes the next command in order, by type or by value, and checks fields by value or by a predicate.  ``answer`` and
``fail`` speak to the command expected last.  A mismatch prints both transcripts as a diff; a playbook that is not ended fails
its test (``conftest.play``).

Every ended transcript is checked against the general rules (:mod:`tests.rules`).  A test marked ``@transcript`` is also run
again for every n with its n-th waited command failing, and with the caller going away there (``test_playbook_faults.py``);
what the machine then asks is answered by :func:`tests.replies.benign`, or fails as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from tests import rules
from tests.replies import benign
from tests.world import NOW
from x402core.commands import Command, WakeAt
from x402core.events import CANCELLED, Answered, Event, Failed
from x402core.machines.machine import Machine
from x402core.values import Millis

__all__ = ["REGISTRY", "Fault", "Injected", "Play", "Playbook", "transcript"]

MOST_STEPS = 400
"""Commands after which a machine that has not ended is in a livelock."""

WIDTH = 400
"""Characters of a line in a diff."""

Script = Callable[["Play"], None]
REGISTRY: dict[str, Script] = {}
"""Every transcript, by name: what ``test_playbook_faults.py`` runs."""


def transcript(script: Script) -> Script:
    """Register a test for fault injection."""
    REGISTRY[f"{script.__module__.rpartition('.')[2]}:{script.__name__}"] = script
    return script


@dataclass(frozen=True)
class Fault:
    """Make the ``at``-th waited command (from 0) fail, or the caller go away there; then go on ``kindly`` or not."""

    at: int
    cancel: bool = False
    kindly: bool = True


class Injected(Exception):
    """A fault was injected and everything that follows from it was checked; the rest of the transcript does not apply."""


class Playbook:
    """One machine on one transcript."""

    def __init__(self, machine: Machine[Any, Any], *, now: Millis = NOW, fault: Fault | None = None) -> None:
        self.machine = machine
        self.now = now
        self.fault = fault
        self.log: list[rules.Entry] = []
        self.issued: list[Command[Any]] = []
        self.last: Command[Any] | None = None
        self.waited = 0
        self.ended = False
        self._expected: list[str] = []
        self._actual: list[str] = []

    # ------------------------------------------------------------------------------------------------- what is fed

    def feed(self, event: Event) -> Self:
        """Feed a beginning."""
        self._say(f"< {event!r}")
        return self._receive(event)

    def answer(self, value: object = None) -> Self:
        """Answer the command expected last; a function is called with the command to make the answer."""
        command = self._asked("answer")
        self._inject(command)
        given = value(command) if callable(value) and not isinstance(value, type) else value
        self._say(f"< answered {type(command).__name__}: {given!r}")
        return self._receive(Answered(command, given))

    def fail(self, why: str = "Trouble") -> Self:
        """Say that the command expected last could not be performed."""
        command = self._asked("fail")
        self._inject(command)
        self._say(f"< failed {type(command).__name__}: {why}")
        return self._receive(Failed(command, why))

    def cancel(self) -> Self:
        """Say that the caller went away."""
        self._say("< cancelled")
        return self._receive(CANCELLED)

    def tick(self, milliseconds: int) -> Self:
        """Let time pass."""
        self.now = Millis(self.now + milliseconds)
        return self

    def at(self, now: Millis) -> Self:
        """Let time pass until ``now``, or to when a wake-up was asked for."""
        self.now = max(self.now, now)
        return self

    def woken(self) -> Self:
        """Expect a wake-up, let its time come, and wake."""
        self.expect(WakeAt)
        assert isinstance(self.last, WakeAt)
        return self.at(self.last.at).answer(None)

    # ---------------------------------------------------------------------------------------------- what is expected

    def expect(self, spec: type[Command[Any]] | Command[Any], **fields: object) -> Self:
        """Expect the next command: by type, or by value; check fields by value or by a predicate."""
        name = spec.__name__ if isinstance(spec, type) else repr(spec)
        shown = ", ".join(f"{key}={'...' if callable(want) else repr(want)}" for key, want in fields.items())
        self._expected.append(f"> {name}({shown})" if isinstance(spec, type) else f"> {name}")
        command = self.issued.pop(0) if self.issued else None
        fits = isinstance(command, spec) if isinstance(spec, type) else command == spec
        wrong = (
            []
            if not fits
            else [f"{key} is {_field(command, key)!r}" for key, want in fields.items() if not _fits(command, key, want)]
        )
        if not fits or wrong:
            self._actual.append((f"({'; '.join(wrong)}) " if wrong else "") + f"> {command!r}")
            raise AssertionError(self._diff())
        self._actual.append(self._expected[-1])
        self.last = command
        return self

    def end(self, spec: type[Command[Any]] | Command[Any] | None = None, *, state: object = None, **fields: object) -> Self:
        """Expect the last command (if there is one) and that the machine has ended, in ``state`` when given."""
        if spec is not None:
            self.expect(spec, **fields)
            if self.last is not None and not self.last.final:
                raise AssertionError(f"{self.last!r} is no end\n{self._diff()}")
        if self.issued or not self.machine.ended:
            self._expected.append("the end")
            self._actual += [f"> {command!r}" for command in self.issued] or [f"still in {self.machine.state.name}"]
            raise AssertionError(self._diff())
        if state is not None:
            assert self.machine.state is state, f"ended in {self.machine.state}, not {state}"
        rules.check(self.machine, self.log)
        self.ended = True
        return self

    # ------------------------------------------------------------------------------------------------------ inside

    def _receive(self, event: Event) -> Self:
        if self.issued:
            self._expected.append("(something fed)")
            self._actual += [f"> {command!r}" for command in self.issued]
            raise AssertionError("fed although commands are not expected yet\n" + self._diff())
        self._step(event)
        return self

    def _step(self, event: Event) -> None:
        self.log.append(event)
        commands = self.machine.receive(event, now=self.now)
        self.log.extend(commands)
        self.issued.extend(commands)

    def _asked(self, verb: str) -> Command[Any]:
        if self.last is None or not self.last.waits:
            raise AssertionError(f"nothing to {verb}: the command expected last is {self.last!r}")
        return self.last

    def _inject(self, command: Command[Any]) -> None:
        """Run the fault instead of the transcript when its turn has come, to the end, and check the rules."""
        turn, self.waited = self.waited, self.waited + 1
        if self.fault is None or self.fault.at != turn:
            return
        self.issued.clear()
        if self.fault.cancel:
            self._step(CANCELLED)
        else:
            self._step(Failed(command, "Injected"))
        self.finish(kindly=self.fault.kindly)
        raise Injected

    def finish(self, *, kindly: bool = True) -> None:
        """Answer whatever comes, kindly or with failure, until the machine ends; then check the rules."""
        for _ in range(MOST_STEPS):
            if self.machine.ended:
                break
            command = self.machine.awaiting
            assert command is not None, f"hangs in {self.machine.state.name}: it waits for nothing"
            if isinstance(command, WakeAt):
                self.now = max(self.now, command.at)
            self.issued.clear()
            if kindly:
                self._step(Answered(command, benign(self.machine, command, self.now)))
            else:
                self._step(Failed(command, "Injected"))
        rules.check(self.machine, self.log, safety_only=not self.machine.ended and not kindly)
        self.ended = True

    def _say(self, line: str) -> None:
        self._expected.append(line)
        self._actual.append(line)

    def _diff(self) -> str:
        return "the transcripts differ (- expected, + happened):\n" + "\n".join(
            difflib.ndiff([_short(line) for line in self._expected], [_short(line) for line in self._actual])
        )


class Play:
    """Make playbooks; the fixture ``play`` checks at the end of the test that each was ended."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self.books: list[Playbook] = []

    def __call__(self, machine: Machine[Any, Any], *, now: Millis = NOW) -> Playbook:
        book = Playbook(machine, now=now, fault=self.fault if not self.books else None)
        self.books.append(book)
        return book

    def check(self) -> None:
        """Fail for a playbook that nobody ended."""
        unfinished = [book for book in self.books if not book.ended]
        assert not unfinished, f"unfinished playbook: {type(unfinished[0].machine).__name__} has no .end()"


def _short(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 20]} ... {line[-15:]}"


def _field(command: object, key: str) -> object:
    """Look a field up in a command, or in the reply or outcome it carries."""
    for holder in (command, getattr(command, "reply", None), getattr(command, "outcome", None)):
        if holder is not None and hasattr(holder, key):
            return getattr(holder, key)
    raise AssertionError(f"{type(command).__name__} has no {key}")


def _fits(command: object, key: str, want: object) -> bool:
    value = _field(command, key)
    return bool(want(value)) if callable(want) and not isinstance(want, type) else value == want
