"""What drives settlements in the background, for requests that wait and for intents that nobody waits for.

Every settlement is journaled in the ledger before anything else, so this object may die at any time: the next one, in this
process or another, takes up what is open.  A settlement is worked on by whoever holds its lease.

One task per open settlement, at most ``most`` of them busy at one time; a settlement that only waits keeps no other from its
turn.  Whether an outcome is reported as pending is decided by patience here, by nothing else.  How money is moved is the
machine's: by an account of ours (``settler.py``), or by a facilitator (``remote_settler.py``).
"""

from __future__ import annotations

import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final, TypeAlias, cast

import anyio
from anyio.abc import TaskGroup

from x402core.commands import AwaitSettlement, Command, RecordIntent, Report, SettlePayment, WakeAt
from x402core.errors import LocalProtocolError, Reason
from x402core.events import Offer, Pending, Resume, Settle, Settlement, Unsettled, same_payment
from x402core.ledger import SettlementRecord, Stored
from x402core.machines.machine import Steps, steps
from x402core.machines.remote import RemoteSettlement
from x402core.machines.settlement import SettlementMachine
from x402core.values import Millis

from .arguments import wait
from .drive import adispatch, arun
from .leaves import FirstOf, HttpCall
from .ledger.contract import Ledger
from .ledger.rows import is_final
from .ledger.threads import called
from .translate.ledger import LEDGER_COMMANDS, LedgerPerformer

__all__ = ["RETENTION", "SettlingMachine", "Worker", "now_millis"]

RETENTION: Final = 30 * 86_400
"""Seconds for which a payment that is over stays in the ledger after its permit's end."""
_TIDY: Final = 3600.0

_log: Final = logging.getLogger("x402bind.settler")
_NOT_RUNNING: Final = "the settler does not run: hand the lifespan through, or use 'async with seller.running()'"

SettlingMachine: TypeAlias = SettlementMachine | RemoteSettlement


def now_millis() -> Millis:
    """Read the wall clock in Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


class _Job:
    """One settlement at work.  ``news`` is set when there is something to tell whoever waits; ``leased`` is since when."""

    __slots__ = ("leased", "machine", "news", "offer", "outcome")

    def __init__(self, machine: SettlingMachine, offer: Offer) -> None:
        self.machine = machine
        self.offer = offer
        self.news = anyio.Event()
        self.outcome: Settlement | None = None
        self.leased: Millis | None = None


class _Lost(BaseException):
    """Another worker holds the lease now.  Not an Exception, so that it ends the drive instead of failing a command."""


class Worker(ABC):
    """Settle in the background.  Use as ``async with worker.running():``.

    ``patience`` is how many seconds :meth:`settle` waits before it answers Pending; ``poll`` how often, in seconds, the
    journal is looked through for intents of other processes; ``most`` how many settlements ask a node, or a facilitator, at
    once; ``lease`` how many milliseconds a settlement stays a silent worker's own.

    It also keeps the ledger from growing for ever: once an hour it forgets payments that are over and whose permits ended
    ``keep`` seconds ago (30 days).  Set ``keep`` before it runs; let it be longer than any access token lives.
    """

    keep: int = RETENTION

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Callable[[], Millis] = now_millis,
        patience: float = 30.0,
        poll: float = 5.0,
        most: int = 64,
        lease: int = 60_000,
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.patience = wait(patience, "patience")
        self.poll = poll
        self.lease = lease
        self._performer = LedgerPerformer(ledger, clock)
        self._worker = secrets.token_hex(8)
        self._jobs: dict[str, _Job] = {}
        self._tasks: TaskGroup | None = None
        self._woken = anyio.Event()
        self._busy = anyio.CapacityLimiter(most)
        self._leaves = adispatch({**dict.fromkeys(LEDGER_COMMANDS, self._ledger), **self.performers()})

    def forked(self) -> object:
        """Have a forked child forget its parent's work; return it, to be kept: what is let go of may end the parent's.

        The child needs a name of its own: under its parent's, two processes would hold one lease, and settle a payment twice.
        """
        inherited = (self._tasks, self._jobs, self._busy, self._woken)
        self._worker = secrets.token_hex(8)
        self._tasks, self._jobs, self._woken = None, {}, anyio.Event()
        self._busy = anyio.CapacityLimiter(self._busy.total_tokens)
        return inherited

    # ------------------------------------------------------------------------------------------ what a way of settling is

    @abstractmethod
    def machine(self) -> SettlingMachine:
        """Return a fresh machine for one settlement."""

    @abstractmethod
    def mine(self, record: SettlementRecord) -> bool:
        """Say whether an open settlement of the journal is for this worker to take up."""

    @abstractmethod
    def translated(self, driven: Steps) -> Steps:
        """Replace the machine's commands by those this worker performs."""

    @abstractmethod
    def performers(self) -> Mapping[type[Command[Any]], Callable[[Any], Any]]:
        """Return who performs the leaves, beside the ledger."""

    # ----------------------------------------------------------------------------------------------------- for callers

    async def settle(self, command: SettlePayment) -> Settlement:
        """Settle a verified payment; answer when it has ended, or with its outlook when patience has.

        With no worker running nothing is begun: a transaction nobody looks after is not sent.
        On failure: unknown; the journal says what happened.
        """
        key = command.proof.permit.key
        if self._tasks is None:
            _log.error(_NOT_RUNNING)
            permit = command.proof.permit
            return Unsettled(Reason.UNAVAILABLE, permit.network, permit.payer)
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(self.machine(), command.proof.offer)
            self._tasks.start_soon(self._work, key, job, Settle(command.proof, command.suffix, command.note))
        elif not same_payment(job.offer, command.proof.offer):  # at work for somebody else: a permit pays once
            permit = command.proof.permit
            return Unsettled(Reason.PAYMENT_SPENT, permit.network, permit.payer)
        with anyio.move_on_after(self.patience):
            await job.news.wait()
        return self._answer(job, command)

    def _answer(self, job: _Job, command: SettlePayment) -> Settlement:
        if job.outcome is not None:
            return job.outcome
        permit = command.proof.permit
        return Pending(permit.network, permit.payer) if job.machine.record is None else job.machine.outlook

    async def wait(self, command: AwaitSettlement) -> Settlement:
        """Wait for a settlement that is journaled already; answer its outcome, or its outlook when patience has ended.

        Raises: LocalProtocolError when the journal does not have it.
        """
        job = self._jobs.get(command.key)
        if job is None:
            self._woken.set()
        with anyio.move_on_after(self.patience):
            while (await self._known(command.key)).outcome is None:
                job = self._jobs.get(command.key)
                if job is not None:
                    await job.news.wait()
                    if job.outcome is not None or job.machine.failed is not None:
                        break  # else another worker has its lease: the journal will tell
                await anyio.sleep(0.05)
        record = await self._known(command.key)
        if record.outcome is not None or job is None or job.machine.record is None:
            return record.outcome or Pending(record.permit.network, record.permit.payer, record.hashes)
        return job.outcome or job.machine.outlook

    async def _known(self, key: str) -> SettlementRecord:
        record = cast("SettlementRecord | None", await self._call(self.ledger.record, key))
        if record is None:
            raise LocalProtocolError("no such settlement", field="key")
        return record

    async def record(self, command: RecordIntent) -> Stored:
        """Journal an intent and wake the worker.  On failure: unknown whether it was stored.

        Raises: LocalProtocolError when there is no worker: what would be served for this intent would never be paid for.
        """
        if self._tasks is None:
            _log.error(_NOT_RUNNING)
            raise LocalProtocolError("the settler does not run", field="running")
        stored = cast("Stored", await self._ledger(command))
        self._woken.set()
        return stored

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work in the background while the body runs: first on what the journal left open, then on what comes."""
        if self._tasks is not None:
            raise LocalProtocolError("this settler runs already")
        raised: Exception | None = None
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                tasks.start_soon(self._take_up)
                tasks.start_soon(self._tidy_up)
                yield
            except Exception as error:  # noqa: BLE001 - the body's own, raised again outside: a task group would wrap it
                raised = error
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()
        if raised is not None:
            raise raised

    @property
    def works(self) -> bool:
        """True while settlements are worked on."""
        return self._tasks is not None

    async def drain(self, within: float = 30.0) -> bool:
        """Wait until nothing is open, at most ``within`` seconds; say whether that came about."""
        with anyio.move_on_after(within):
            while self._jobs or await self._call(self.ledger.open_records):
                self._woken.set()
                await anyio.sleep(0.02)
            return True
        return False

    # ------------------------------------------------------------------------------------------------------ the worker

    async def _take_up(self) -> None:
        """Start a job for every open record nobody works on, now and whenever woken."""
        while True:
            self._woken = anyio.Event()
            try:
                for record in await self._call(self.ledger.open_records):
                    if record.key not in self._jobs and self._tasks is not None and self.mine(record):
                        job = self._jobs[record.key] = _Job(self.machine(), record.offer)
                        self._tasks.start_soon(self._work, record.key, job, None)
            except Exception as error:  # noqa: BLE001 - a ledger that is down must not end the worker
                _log.warning("cannot read the journal: %s", type(error).__name__)
            with anyio.move_on_after(self.poll):
                await self._woken.wait()

    async def _tidy_up(self) -> None:
        """Forget what is long over, every hour; not at once: a server that forks does so when it has just started."""
        while True:
            await anyio.sleep(_TIDY)
            try:
                pruned = await self._call(self.ledger.prune, Millis(self.clock() - self.keep * 1000))
                if pruned:
                    _log.info("forgot %d payments that ended more than %d seconds ago", pruned, self.keep)
            except Exception as error:  # noqa: BLE001 - a ledger that is down must not end the worker
                _log.warning("cannot tidy up the journal: %s", type(error).__name__)

    async def _work(self, key: str, job: _Job, begun: Settle | None) -> None:
        """Drive one settlement, new or journaled, to its end, or until its lease is lost or we are stopped."""
        try:
            event = await self._begin(key, job, begun)
            driven = self.translated(steps(job.machine, event, self.clock))
            final = await arun(driven, lambda command: self._perform(key, job, command))
            if isinstance(final, Report):
                job.outcome = final.outcome
        except _Lost:
            _log.info("another worker settles %s", key)
        except Exception:  # noqa: BLE001 - one settlement's trouble must not stop the others; its record stays open
            _log.exception("settling %s broke off", key)
        finally:
            over = is_final(job.outcome)
            try:
                if not over:  # the next job for it has the same lease: it must not begin before ours is given up
                    await self._unlease(key)
            finally:
                self._jobs.pop(key, None)
                job.news.set()
            if over:
                await self._unlease(key)

    async def _begin(self, key: str, job: _Job, begun: Settle | None) -> Settle | Resume:
        """Take the lease and say what to begin with.

        A journaled settlement is read again under the lease: whoever had it may have sent it, and ended it, since it was
        listed.  Where the ledger cannot even give a lease nothing was begun, and a payment is given back.
        """
        try:
            await self._renew(key, job)
        except Exception:
            if begun is not None:
                permit = begun.proof.permit
                job.outcome = Unsettled(Reason.UNAVAILABLE, permit.network, permit.payer)
            raise
        if begun is not None:
            return begun
        record = await self._call(self.ledger.record, key)
        if record is None:
            raise _Lost
        return Resume(record)

    async def _unlease(self, key: str) -> None:
        """Let others take the settlement up at once, also when we are being stopped."""
        try:
            with anyio.CancelScope(shield=True) if self.ledger.blocking else nullcontext():
                await self._call(self.ledger.unlease, key, self._worker)
        except Exception as error:  # noqa: BLE001 - the lease ends by itself
            _log.info("could not give up the lease of %s: %s", key, type(error).__name__)

    async def _perform(self, key: str, job: _Job, command: Command[Any]) -> Any:
        if isinstance(command, WakeAt):
            if job.machine.failed is not None:  # bad news need not wait for patience to end
                job.news.set()
            await anyio.sleep(max(0, command.at - self.clock()) / 1000)
            return await self._renew(key, job)
        try:
            if isinstance(command, HttpCall | FirstOf):
                return await self._in_turn(command)
            return await self._leaves(command)
        except Exception as error:
            _log.warning("%s failed for %s: %s", type(command).__name__, key, type(error).__name__)
            raise

    async def _in_turn(self, command: Command[Any]) -> Any:
        """Ask somebody else, when fewer than ``most`` of us do.  A place that is free is taken without giving up the loop."""
        who = object()
        try:
            self._busy.acquire_on_behalf_of_nowait(who)
        except anyio.WouldBlock:
            await self._busy.acquire_on_behalf_of(who)
        try:
            return await self._leaves(command)
        finally:
            self._busy.release_on_behalf_of(who)

    async def _renew(self, key: str, job: _Job) -> None:
        """Renew the lease, unless most of it is left: then it is ours still."""
        now = self.clock()
        if job.leased is not None and 0 <= now - job.leased < self.lease // 4:  # a clock may be set back
            return
        if not await self._call(self._take_lease, key, Millis(now + self.lease), now):
            raise _Lost
        job.leased = now

    def _take_lease(self, key: str, until: Millis, now: Millis) -> bool:
        return self.ledger.lease(key, self._worker, until, now=now)

    async def _ledger(self, command: Command[Any]) -> Any:
        return await self._call(self._performer.perform, command)

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the ledger: in a thread when it blocks."""
        return await called(self.ledger, function, *args)
