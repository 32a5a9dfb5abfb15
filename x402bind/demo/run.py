"""The demo, directed: start the three processes, look at the chain between their steps, check everything, say how it went."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.chain.rpc import Endpoint
from x402bind.chain.signers import PrivateKeySigner
from x402bind.leaves import shown
from x402bind.ledger import open_ledger
from x402core.evm.address import checksum
from x402core.values import Address

from .node import DemoFailed, Node, demo_registry
from .seller import PATH, PRICE
from .story import Story

__all__ = ["DemoFailed", "run_demo"]

PURSE: Final = 1_000_000
AMOUNT: Final = 10_000
_CALLS: Final = {"permit-token": ("permit", "transferFrom"), "x402-v2": ("transferWithAuthorization",)}
_PATIENCE: Final = 60.0


class _Process:
    """A process of ours: a configuration in on standard input, lines out."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._module = module
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # a terminal's Ctrl-C is for the director, who ends the others
        )

    def tell(self, line: str) -> None:
        """Write one line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def finish_telling(self) -> None:
        """Close its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def line(self) -> str:
        """Read one line.  Raises: DemoFailed when it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise DemoFailed(f"{self._module} ended before its work was done")
        return line.rstrip("\n")

    def url(self) -> str:
        """Read the line that says where it listens."""
        return self.line().removeprefix("listening on ")

    def stop(self) -> None:
        """End it, kindly first."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[_Process]:
    process = _Process(module, *arguments)
    try:
        yield process
    finally:
        process.stop()


def run_demo(rpc: str | None, key: str | None, out: TextIO | None) -> dict[str, Any]:
    """Run the demo against a node (default: an embedded devnet) and return its transcript; tell it on ``out``.

    Raises: DemoFailed with what to do about it.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="x402-demo-")))
        if rpc is None:
            rpc = stack.enter_context(_process("x402bind.chain.devnet", "--port", "0")).url()
        gas_key = DEV_KEYS[0].hex() if key is None else key
        node = Node.at(rpc, gas_key)
        stack.callback(node.http.close)
        payer_key, pay_to = secrets.token_hex(32), PrivateKeySigner(secrets.token_bytes(32)).address
        payer = PrivateKeySigner(payer_key).address
        asset = node.deploy_dollar(payer, PURSE)
        common = {"rpc": rpc, "network": node.network, "asset": asset, "pay_to": pay_to}
        selling = stack.enter_context(_process("x402bind.demo.seller"))
        secret = {"key": gas_key, "token_key": secrets.token_hex(32), "ledger": str(folder / "ledger.db")}
        selling.tell(json.dumps({**common, **secret}))
        selling.finish_telling()
        url = selling.url() + PATH
        paying = stack.enter_context(_process("x402bind.demo.payer"))
        paying.tell(json.dumps({**common, "key": payer_key, "url": url}))
        stage = _Stage(node, asset, payer, pay_to, folder / "ledger.db", paying, out)
        stage.introduce(url)
        flows = [stage.flow(number, dialect) for number, dialect in enumerate(_CALLS, 1)]
        seconds = time.monotonic() - began
        checks = {f"{flow['dialect']}: {name}": held for flow in flows for name, held in flow["checks"].items()}
        stage.story.verdict(checks, seconds)
        return {
            "network": node.network,
            "node": "devnet" if key is None else shown(rpc),
            "asset": checksum(asset),
            "price": PRICE,
            "flows": flows,
            "ok": all(checks.values()),
            "seconds": round(seconds, 2),
        }


class _Stage:
    """Everyone's addresses, the payer's process, and the chain to look at."""

    def __init__(
        self, node: Node, asset: Address, payer: Address, pay_to: Address, ledger: Path, paying: _Process, out: TextIO | None
    ) -> None:
        dollar = demo_registry(node.network, asset).asset(node.network, asset)
        assert dollar is not None
        self.node, self.asset, self.payer, self.pay_to = node, asset, payer, pay_to
        self.ledger, self.paying = ledger, paying
        self.story = Story(out, dollar)

    def introduce(self, url: str) -> None:
        """Say who is who."""
        endpoint: Endpoint = self.node.endpoint
        self.story.stage(
            {
                "chain": f"{shown(endpoint.url)}  {endpoint.network}, Demo Dollar at {checksum(self.asset)}",
                "seller": f"{url}  {PRICE}, paid to {checksum(self.pay_to)}",
                "payer": f"{checksum(self.payer)} with {self.story.money(PURSE)} and no ether",
            }
        )

    def flow(self, number: int, dialect: str) -> dict[str, Any]:
        """Watch one flow from its 402 to its replay; return its part of the transcript."""
        before = self._balances()
        self.story.title(number, dialect)
        events = [*self._until("outcome")]
        outcome, done = events[-1], next(event for event in events if event["event"] == "done")
        waited = dialect == "permit-token"
        if waited:
            self.story.say("  settling in the background:")
        transactions = self._transactions(dialect)
        self.story.settled(_CALLS[dialect], transactions)
        after = self._balances()
        self.story.balances(before, after)
        self.paying.tell("")
        replay = [*self._until("replay")][-1]
        last = self._balances()
        charged = after["payer"] - last["payer"]
        self.story.replay(replay, charged)
        self.paying.tell("")
        return {
            "dialect": dialect,
            "status": done["status"],
            "amount": AMOUNT,
            "payer": checksum(self.payer),
            "pay_to": checksum(self.pay_to),
            "calls": list(_CALLS[dialect]),
            "transactions": list(transactions),
            "balances_before": before,
            "balances_after": after,
            "replay": {"status": replay["status"], "same_answer": replay["same_answer"], "charged": charged},
            "checks": _checks(done, outcome, replay, before, after, last, transactions),
        }

    def _balances(self) -> dict[str, int]:
        return self.node.balances(self.asset, self.payer, self.pay_to)

    def _until(self, last: str) -> Iterator[dict[str, Any]]:
        while True:
            event: dict[str, Any] = json.loads(self.paying.line())
            self.story.event(event)
            yield event
            if event["event"] == last:
                return

    def _transactions(self, dialect: str) -> tuple[str, ...]:
        """Wait for the settlement in the seller's ledger and return its transactions.  Raises: DemoFailed."""
        prefix = {"permit-token": "eip2612/", "x402-v2": "eip3009/"}[dialect]
        ledger = open_ledger(f"sqlite:{self.ledger}")
        until = time.monotonic() + _PATIENCE
        try:
            while time.monotonic() < until:
                for entry in ledger.entries():
                    if entry.key.startswith(prefix) and entry.state in ("settled", "void"):
                        return entry.transactions
                time.sleep(0.02)
        finally:
            ledger.close()
        raise DemoFailed(f"the {dialect} payment was not settled within {_PATIENCE:.0f} seconds")


def _checks(
    done: Mapping[str, Any],
    outcome: Mapping[str, Any],
    replay: Mapping[str, Any],
    before: Mapping[str, int],
    after: Mapping[str, int],
    last: Mapping[str, int],
    transactions: tuple[str, ...],
) -> dict[str, bool]:
    return {
        "the resource was served": done["status"] == 200 and bool(done["body"]),
        "the payer counts it as paid": outcome["kind"] == "paid" and outcome["amount"] == AMOUNT,
        "the payer paid the exact price": before["payer"] - after["payer"] == AMOUNT,
        "the seller got the exact price": after["pay_to"] - before["pay_to"] == AMOUNT,
        "every transaction is on the chain": bool(transactions),
        "the replay got the same answer": replay["status"] == 200 and replay["same_answer"] is True,
        "the replay cost nothing": last == after,
    }
