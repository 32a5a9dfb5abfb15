"""``VerifyPayment`` judged by ourselves: the window first, then one planned read of the chain, then the judge."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from x402core.commands import Command, ReadChain, VerifyPayment
from x402core.errors import Refusal
from x402core.machines.machine import Finer, ask
from x402core.schemes.judge import Verified, early, judge, plan
from x402core.values import Millis

__all__ = ["verify", "verify_table"]


def verify(command: VerifyPayment, clock: Callable[[], Millis]) -> Generator[Command[Any], Any, Verified | Refusal]:
    """Judge a checked payment; only one inside its window costs a chain read."""
    checked = command.checked
    refusal = early(checked, clock())
    if refusal is not None:
        return refusal
    facts = yield from ask(ReadChain(checked.permit.network, plan(checked)))
    return judge(checked, facts, clock())


def verify_table(clock: Callable[[], Millis]) -> dict[type[Command[Any]], Finer]:
    """Return the translation table of the local judge."""
    return {VerifyPayment: lambda command: verify(command, clock)}
