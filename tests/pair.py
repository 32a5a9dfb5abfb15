"""A payer's machine against a seller's, over a Fake network, one ledger, one Fake chain and one virtual clock.

Nothing waits and nothing is random: a wake-up moves the clock to its time and mines a block.  ``World.trouble`` may make any
command fail before it is performed, after (its answer is lost), or take the caller away there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from tests.fakechain import FakeChain
from tests.world import (
    ENTROPY,
    KEYS,
    NOW,
    ORIGIN,
    PAYER,
    POLICY,
    SELLER,
    SETTLER,
    TERMS,
    URL,
    dev_accounts,
    reply_head,
    sign_all,
)
from x402bind.ledger.memory import MemoryLedger
from x402bind.translate.ledger import LEDGER_COMMANDS, LedgerPerformer
from x402core.commands import (
    AllocateTxNumbers,
    ApprovePayment,
    Broadcast,
    Command,
    Deliver,
    FillTxNumbers,
    GetReceipts,
    InvokeHandler,
    Lane,
    Outcome,
    ReadChain,
    Rebroadcast,
    ReportRefundDue,
    Respond,
    SendRequest,
    SendTokenRequest,
    SettlePayment,
    SignTransactions,
    SignTypedData,
    StoreToken,
    StreamResponse,
    VerifyPayment,
    WakeAt,
)
from x402core.errors import Reply
from x402core.events import Begin, Event, HandlerHead, Pending, RequestHead, Resume, Settle, Settlement, Token, TokenRequest
from x402core.evm.secp256k1 import sign
from x402core.machines.client import ClientExchange
from x402core.machines.machine import Cancel, Machine, steps
from x402core.machines.server import ServerExchange
from x402core.machines.settlement import SettlementMachine, SettlementPolicy
from x402core.machines.token import TokenExchange
from x402core.policy import PayerPolicy, Terms
from x402core.schemes.judge import early, judge, plan
from x402core.values import Millis

__all__ = ["MOST_STEPS", "Lost", "Served", "World"]

MOST_STEPS = 500
RICH = 1_000_000


class Lost(Exception):
    """The network broke."""


@dataclass
class Served:
    """One exchange of the seller's: what the driver holds for it."""

    run: int | None = None
    reply: Reply | None = None
    sent: Reply | None = None


@dataclass
class World:
    """Everything outside the machines."""

    terms: Terms = TERMS
    policy: SettlementPolicy = field(default_factory=SettlementPolicy)
    patience: int = 20  # wake-ups a seller waits for a settlement
    status: int = 200  # what the handler answers
    held: bool = True
    breaks: bool = False  # whether a stream breaks off

    def __post_init__(self) -> None:
        self.now = NOW
        self.chain = FakeChain(dict.fromkeys(dev_accounts()[:1] + dev_accounts()[3:7], RICH))
        self.ledger = MemoryLedger()
        self.performer = LedgerPerformer(self.ledger, self.clock)
        self.runs = 0
        self.refunds: list[str] = []
        self.tokens: list[Token] = []
        self.served: list[Served] = []
        self.trouble: Callable[[Machine[Any, Any], Command[Any]], str | None] = lambda machine, command: None
        self.between: Callable[[str], None] = lambda what: None
        self.log: list[str] = []

    def clock(self) -> Millis:
        """Read the virtual clock."""
        return self.now

    def sleep_until(self, at: Millis) -> None:
        """Let time pass, and a block be mined."""
        late = max(0, at - self.now)
        self.now = Millis(self.now + late)
        self.chain.mine(max(1, self.now // 1000 - self.chain.time))

    # ------------------------------------------------------------------------------------------------------- driving

    def drive(self, machine: Machine[Any, Any], event: Event, perform: Callable[[Command[Any]], Any]) -> Command[Any] | None:
        """Drive a machine to its end (or its caller's)."""
        walk = self.walk(machine, event, perform)
        try:
            while True:
                next(walk)
        except StopIteration as stop:
            final: Command[Any] | None = stop.value
            return final

    def walk(
        self, machine: Machine[Any, Any], event: Event, perform: Callable[[Command[Any]], Any]
    ) -> Generator[str, None, Command[Any] | None]:
        """Drive a machine command by command: yields before each one, for whoever interleaves."""
        gen = steps(machine, event, self.clock)
        answer: Any = None
        raised: BaseException | None = None
        try:
            command = next(gen)
            for _ in range(MOST_STEPS):
                yield type(command).__name__
                answer, raised = self._perform(machine, command, perform)
                command = gen.throw(raised) if raised is not None else gen.send(answer)
        except StopIteration as stop:
            final: Command[Any] | None = stop.value
            return final
        raise AssertionError(f"livelock in {machine.state.name}")

    def _perform(
        self, machine: Machine[Any, Any], command: Command[Any], perform: Callable[[Command[Any]], Any]
    ) -> tuple[Any, BaseException | None]:
        self.log.append(type(command).__name__)
        trouble = self.trouble(machine, command)
        if trouble == "before":
            return None, Lost()
        if trouble == "gone":
            return None, Cancel()
        try:
            answer = perform(command)
        except Exception as error:  # noqa: BLE001 - thrown into the machine's steps, as a driver does
            return None, error
        self.between(type(command).__name__)
        if trouble == "after":
            return None, Lost()
        return answer, Cancel() if trouble == "done and gone" else None

    # ---------------------------------------------------------------------------------------------------- the seller

    def serve(self, head: RequestHead, entropy: bytes = ENTROPY) -> Reply | None:
        """Answer a request for the priced resource; None when the caller went away."""
        return self.finish(*self.serving(head, entropy))

    def serving(self, head: RequestHead, entropy: bytes = ENTROPY) -> tuple[Served, Generator[str, None, Command[Any] | None]]:
        """Return a request being served, command by command."""
        exchange = Served()
        self.served.append(exchange)
        machine = ServerExchange(self.terms, entropy=entropy)
        return exchange, self.walk(machine, head, lambda command: self.sell(exchange, command))

    def finish(self, exchange: Served, walk: Generator[str, None, Command[Any] | None]) -> Reply | None:
        """Walk an exchange to its end and return its answer."""
        try:
            while True:
                next(walk)
        except StopIteration as stop:
            return self.answered(exchange, stop.value)

    def answered(self, exchange: Served, final: Command[Any] | None) -> Reply | None:
        """Return what leaves for a final command."""
        if isinstance(final, Respond):
            reply = final.reply or exchange.reply
            assert reply is not None, "nothing is held that could be let go"
            exchange.sent = Reply(reply.status, (*reply.headers, *final.add_headers), reply.body)
        return exchange.sent

    def issue(self, request: TokenRequest, entropy: bytes = ENTROPY) -> Reply | None:
        """Answer a POST to the token endpoint."""
        return self.finish(*self.issuing(request, entropy))

    def issuing(self, request: TokenRequest, entropy: bytes) -> tuple[Served, Generator[str, None, Command[Any] | None]]:
        """Return a token request being served, command by command."""
        exchange = Served()
        machine = TokenExchange(self.terms, entropy=entropy)
        return exchange, self.walk(machine, request, lambda command: self.sell(exchange, command))

    def sell(self, exchange: Served, command: Command[Any]) -> Any:
        """Perform a seller's command."""
        match command:
            case _ if type(command) in LEDGER_COMMANDS:
                return self.performer.perform(command, lambda: exchange.reply)
            case VerifyPayment():
                refusal = early(command.checked, self.now)
                return refusal or judge(command.checked, self.chain.facts(plan(command.checked)), self.now)
            case InvokeHandler():
                self.runs += 1
                exchange.run = self.runs
                exchange.reply = Reply(self.status, (("X-Run", str(self.runs)),), f"report {self.runs}".encode())
                return HandlerHead(self.status, held=self.held)
            case StreamResponse():
                reply = exchange.reply
                assert reply is not None
                exchange.sent = Reply(reply.status, (*reply.headers, *command.add_headers), reply.body)
                if self.breaks:
                    raise Lost
                return None
            case SettlePayment():
                return self.settle(Settle(command.proof))
            case ReportRefundDue():
                self.refunds.append(command.key)
                return None
        raise AssertionError(command)

    # --------------------------------------------------------------------------------------------------- the settler

    def settle(self, event: Settle | Resume) -> Settlement:
        """Settle, at most as long as patience lasts."""
        machine = SettlementMachine(self.policy, SETTLER)
        wakes = 0
        walk = self.walk(machine, event, self.move)
        try:
            while True:
                if next(walk) == "WakeAt":
                    wakes += 1
                    if wakes > self.patience:
                        walk.close()
                        permit = event.proof.permit if isinstance(event, Settle) else event.record.permit
                        return machine.outlook if machine.record else Pending(permit.network, permit.payer)
        except StopIteration as stop:
            outcome: Settlement = stop.value.outcome
            return outcome

    def work(self) -> None:
        """Take up every open settlement, as a background worker does."""
        for record in self.ledger.open_records():
            self.settle(Resume(record))

    def move(self, command: Command[Any]) -> Any:
        """Perform a settlement's command."""
        match command:
            case _ if type(command) in LEDGER_COMMANDS:
                return self.performer.perform(command)
            case AllocateTxNumbers():
                floor = self.chain.state.numbers.get(SETTLER, 0)
                return Lane(self.performer.allocate(command, SETTLER, floor=floor), 2 * 10**9 + self.chain.base_fee, 10**6)
            case SignTransactions():
                return sign_all(command)
            case Broadcast() | Rebroadcast():
                return self.chain.send(command.raws)
            case FillTxNumbers():
                for transaction in command.transactions:
                    self.chain.send([transaction.sign_with(sign(transaction.signing_hash(), KEYS[2]))])
                return None
            case GetReceipts():
                return self.chain.look(command.hashes)
            case ReadChain():
                return self.chain.facts(command.reads)
            case WakeAt():
                return self.sleep_until(command.at)
        raise AssertionError(command)

    # ----------------------------------------------------------------------------------------------------- the payer

    def pay(
        self, policy: PayerPolicy = POLICY, *, by: int = 0, entropy: bytes = ENTROPY, token: Token | None = None
    ) -> Outcome:
        """Run a payer's exchange against this seller."""
        machine = ClientExchange(policy, dev_accounts()[by], entropy=entropy)
        counter = iter(range(1000))

        def perform(command: Command[Any]) -> Any:
            match command:
                case SendRequest():
                    reply = self.serve(RequestHead("GET", "/report", command.set_headers), bytes((next(counter),)) * 32)
                case SendTokenRequest():
                    reply = self.issue(TokenRequest(command.body), bytes((next(counter),)) * 32)
                case ApprovePayment():
                    return True
                case SignTypedData():
                    return sign(command.digest, KEYS[by])
                case ReadChain():
                    return self.chain.facts(command.reads)
                case StoreToken():
                    return self.tokens.append(command.token)
                case WakeAt():
                    return self.sleep_until(command.at)
                case _:
                    raise AssertionError(command)
            if reply is None:
                raise Lost
            return reply_head(reply)

        final = self.drive(machine, Begin("GET", URL, ORIGIN, token=token), perform)
        assert isinstance(final, Deliver)
        return final.outcome

    # ------------------------------------------------------------------------------------------------------- asking

    def balance(self, account: Any = PAYER) -> int:
        """Return a balance."""
        return self.chain.state.balances.get(account, 0)

    @property
    def earned(self) -> int:
        """Return what the seller has."""
        return self.balance(SELLER)

    def delivered(self) -> set[bytes]:
        """Return the different reports that left."""
        return {s.sent.body for s in self.served if s.sent is not None and s.sent.status == 200}
