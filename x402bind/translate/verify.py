"""``VerifyPayment`` judged by ourselves: the window first, then one planned read of the chain, then the judge."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from x402bind.chain.errors import NodeError, NodeErrorKind
from x402core.commands import CheckSignIn, Command, ReadChain, VerifyPayment
from x402core.errors import Reason, Refusal
from x402core.ledger import SignedIn
from x402core.machines.machine import Finer, ask
from x402core.reads import CodeAt
from x402core.schemes.judge import Verified, early, judge, plan
from x402core.values import Millis

__all__ = ["check_sign_in", "verify", "verify_table"]


def verify(
    command: VerifyPayment, clock: Callable[[], Millis], *, any_asset: bool = False
) -> Generator[Command[Any], Any, Verified | Refusal]:
    """Judge a checked payment; only one inside its window costs a chain read.

    An asset that does not answer like a token is the node's trouble, as ours are proved at start-up; with ``any_asset`` it may
    be one nobody has ever looked at, so that its code is asked for.
    """
    checked = command.checked
    refusal = early(checked, clock())
    if refusal is not None:
        return refusal
    try:
        facts = yield from ask(ReadChain(checked.permit.network, plan(checked)))
    except NodeError as error:
        if not any_asset or error.kind is not NodeErrorKind.NOT_A_CONTRACT:
            raise
        code = CodeAt(checked.permit.asset)
        if (yield from ask(ReadChain(checked.permit.network, (code,)))).of(code):
            raise
        return Refusal(Reason.NOT_A_CONTRACT, "the asset's address has no code")
    return judge(checked, facts, clock())


def check_sign_in(command: CheckSignIn) -> Generator[Command[Any], Any, SignedIn]:
    """Ask a contract whether the signature is its own, where only it can say; then the ledger."""
    if command.contract is not None:
        network, read = command.contract
        facts = yield from ask(ReadChain(network, (read,)))
        if not facts.of(read):
            return SignedIn.NOT_PAID
    return (yield from ask(replace(command, contract=None)))


def verify_table(clock: Callable[[], Millis], *, any_asset: bool = False) -> dict[type[Command[Any]], Finer]:
    """Return the translation table of the local judge."""
    return {VerifyPayment: lambda command: verify(command, clock, any_asset=any_asset), CheckSignIn: check_sign_in}
