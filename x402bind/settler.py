"""The settler: drives settlements in the background, for requests that wait and for intents that nobody waits for.

Every settlement is journaled in the ledger before anything else, so this object may die at any time: the next one, in this
process or another, takes up what is open (``run``).  A settlement is worked on by whoever holds its lease.

One task per open settlement, at most ``most`` of them busy at one time; a settlement that only waits keeps no other from its
turn.  Transaction numbers come from the ledger, so one account may be shared by many settlers on one ledger.  Whether an
outcome is reported as pending is decided by patience here, by nothing else.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import anyio
from anyio.abc import TaskGroup

from x402core.commands import AllocateTxNumbers, Command, Lane, RecordIntent, Report, SettlePayment, SignTransactions, WakeAt
from x402core.errors import LocalProtocolError, Reason
from x402core.events import Eip2612Permit, Pending, Resume, Settle, Settlement, Unsettled
from x402core.evm.transaction import decode
from x402core.ledger import SettlementRecord, Stored
from x402core.machines.machine import ask, steps, translate
from x402core.machines.settlement import SettlementMachine, SettlementPolicy
from x402core.values import Address, Millis, Network

from .chain.rpc import Endpoint
from .chain.signers import Signer
from .chain.transports import AsyncHttp
from .drive import adispatch, arun
from .ledger.contract import Ledger
from .translate.chain import chain_table, fees_and_number, retry_reads
from .translate.ledger import LEDGER_COMMANDS, LedgerPerformer

__all__ = ["Settler", "TakeNumbers", "now_millis"]

_log: Final = logging.getLogger("x402bind.settler")
_NOT_RUNNING: Final = "the settler does not run: hand the lifespan through, or use 'async with seller.running()'"


def now_millis() -> Millis:
    """Read the wall clock in Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


class TakeNumbers(Command["tuple[int, ...]"]):
    """Take transaction numbers from the ledger, none below ``floor``.  On failure: ask again; the same ones come back."""

    __slots__ = ("command", "floor")

    def __init__(self, command: AllocateTxNumbers, floor: int) -> None:
        self.command = command
        self.floor = floor


class _Job:
    """One settlement at work.  ``news`` is set when there is something to tell whoever waits."""

    __slots__ = ("machine", "news", "outcome")

    def __init__(self, machine: SettlementMachine) -> None:
        self.machine = machine
        self.news = anyio.Event()
        self.outcome: Settlement | None = None


class _Lost(BaseException):
    """Another worker holds the lease now.  Not an Exception, so that it ends the drive instead of failing a command."""


class Settler:
    """Settle through ``signer``'s account on the chains behind ``endpoints``.  Use as ``async with settler.running():``.

    ``patience`` is how many seconds :meth:`settle` waits before it answers Pending; ``poll`` how often, in seconds, the
    journal is looked through for intents of other processes; ``most`` how many settlements are busy at once; ``lease`` how
    many milliseconds a settlement stays a silent worker's own.
    """

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        endpoints: Mapping[Network, Endpoint],
        http: AsyncHttp,
        *,
        policy: SettlementPolicy | None = None,
        clock: Callable[[], Millis] = now_millis,
        patience: float = 30.0,
        poll: float = 5.0,
        most: int = 64,
        lease: int = 60_000,
    ) -> None:
        self.ledger = ledger
        self.signer = signer
        self.policy = policy or SettlementPolicy()
        self.clock = clock
        self.patience = patience
        self.poll = poll
        self.lease = lease
        self._endpoints = dict(endpoints)
        self._performer = LedgerPerformer(ledger, clock)
        self._chain = chain_table(self._endpoints)
        self._worker = secrets.token_hex(8)
        self._jobs: dict[str, _Job] = {}
        self._foreign: set[str] = set()
        self._tasks: TaskGroup | None = None
        self._woken = anyio.Event()
        self._busy = anyio.CapacityLimiter(most)
        self._leaves = adispatch(
            {
                **http.table,
                **dict.fromkeys(LEDGER_COMMANDS, self._ledger),
                SignTransactions: signer.sign,
                TakeNumbers: self._take_numbers,
            }
        )

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
            job = self._jobs[key] = _Job(self._machine())
            self._tasks.start_soon(self._work, key, job, Settle(command.proof))
        with anyio.move_on_after(self.patience):
            await job.news.wait()
        return self._answer(job, command)

    def _answer(self, job: _Job, command: SettlePayment) -> Settlement:
        if job.outcome is not None:
            return job.outcome
        permit = command.proof.permit
        return Pending(permit.network, permit.payer) if job.machine.record is None else job.machine.outlook

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
                yield
            except Exception as error:  # noqa: BLE001 - the body's own, raised again outside: a task group would wrap it
                raised = error
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()
        if raised is not None:
            raise raised

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
                    if record.key not in self._jobs and self._tasks is not None and self._is_ours(record):
                        job = self._jobs[record.key] = _Job(self._machine())
                        self._tasks.start_soon(self._work, record.key, job, None)
            except Exception as error:  # noqa: BLE001 - a ledger that is down must not end the worker
                _log.warning("cannot read the journal: %s", type(error).__name__)
            with anyio.move_on_after(self.poll):
                await self._woken.wait()

    def _is_ours(self, record: SettlementRecord) -> bool:
        """Leave what another account began to that account: its numbers are not ours, nor the allowance it is given."""
        permit, address = record.permit, self.signer.address
        begun = decode(record.attempts[-1].raws[0])[1] if record.attempts else address
        ours = begun == address and not (isinstance(permit, Eip2612Permit) and permit.spender != address)
        if not ours and record.key not in self._foreign:
            self._foreign.add(record.key)
            _log.error("%s is another account's to settle; run a settler with its key", record.key)
        return ours

    def _machine(self) -> SettlementMachine:
        return SettlementMachine(self.policy, self.signer.address)

    async def _work(self, key: str, job: _Job, begun: Settle | None) -> None:
        """Drive one settlement, new or journaled, to its end, or until its lease is lost or we are stopped."""
        try:
            event = await self._begin(key, job, begun)
            driven = translate(steps(job.machine, event, self.clock), {AllocateTxNumbers: self._allocate})
            final = await arun(translate(driven, self._chain), lambda command: self._perform(key, job, command))
            if isinstance(final, Report):
                job.outcome = final.outcome
        except _Lost:
            _log.info("another worker settles %s", key)
        except Exception:  # noqa: BLE001 - one settlement's trouble must not stop the others; its record stays open
            _log.exception("settling %s broke off", key)
        finally:
            self._jobs.pop(key, None)
            job.news.set()
            await self._unlease(key)

    async def _begin(self, key: str, job: _Job, begun: Settle | None) -> Settle | Resume:
        """Take the lease and say what to begin with.

        A journaled settlement is read again under the lease: whoever had it may have sent it, and ended it, since it was
        listed.  Where the ledger cannot even give a lease nothing was begun, and a payment is given back.
        """
        try:
            await self._renew(key)
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
            with anyio.CancelScope(shield=True):
                await self._call(self.ledger.unlease, key, self._worker)
        except Exception as error:  # noqa: BLE001 - the lease ends by itself
            _log.info("could not give up the lease of %s: %s", key, type(error).__name__)

    async def _perform(self, key: str, job: _Job, command: Command[Any]) -> Any:
        if isinstance(command, WakeAt):
            if job.machine.failed is not None:  # bad news need not wait for patience to end
                job.news.set()
            await anyio.sleep(max(0, command.at - self.clock()) / 1000)
            return await self._renew(key)
        try:
            async with self._busy:
                return await self._leaves(command)
        except Exception as error:
            _log.warning("%s failed for %s: %s", type(command).__name__, key, type(error).__name__)
            raise

    async def _renew(self, key: str) -> None:
        now = self.clock()
        if not await self._call(self._take_lease, key, Millis(now + self.lease), now):
            raise _Lost

    def _take_lease(self, key: str, until: Millis, now: Millis) -> bool:
        return self.ledger.lease(key, self._worker, until, now=now)

    def _allocate(self, command: AllocateTxNumbers) -> Generator[Command[Any], Any, Lane]:
        endpoint = self._endpoints.get(command.network)
        if endpoint is None:
            raise LocalProtocolError(f"no node is configured for {command.network}", field="endpoints")
        view = yield from retry_reads(lambda: fees_and_number(endpoint, self.signer.address))
        numbers = yield from ask(TakeNumbers(command, view.next_number))
        return Lane(numbers, view.max_fee, view.max_priority_fee)

    async def _take_numbers(self, take: TakeNumbers) -> tuple[int, ...]:
        account: Address = self.signer.address
        return cast(
            "tuple[int, ...]", await self._call(lambda: self._performer.allocate(take.command, account, floor=take.floor))
        )

    async def _ledger(self, command: Command[Any]) -> Any:
        return await self._call(self._performer.perform, command)

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the ledger: in a thread when it blocks."""
        if not self.ledger.blocking:
            return function(*args)
        return await anyio.to_thread.run_sync(function, *args)
