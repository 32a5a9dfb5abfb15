"""The least gas with which a message succeeds, found as nodes find it: run it with all of it, then narrow down."""

from __future__ import annotations

from collections.abc import Callable

from .errors import RpcError, reverted
from .vm import Outcome

__all__ = ["estimate", "failure"]


def estimate(run: Callable[[int], Outcome], most: int) -> int:
    """Return the least gas <= ``most`` with which ``run`` succeeds.  Raises: RpcError saying why it fails even with all.

    What a successful run spent, before refunds, is nearly always enough; a call inside that keeps back a 64th of the gas
    (EIP-150) may need more, hence the search.
    """
    whole = run(most)
    if not whole.success:
        raise failure(whole)
    low = whole.gas_used + whole.gas_refunded
    if _succeeds(run, low):
        return low
    high = most
    while high - low > 1:
        middle = (low + high) // 2
        if _succeeds(run, middle):
            high = middle
        else:
            low = middle
    return high


def failure(outcome: Outcome) -> RpcError:
    """Return the error for a message that did not succeed."""
    return RpcError(outcome.halt) if outcome.halt else reverted(outcome.output)


def _succeeds(run: Callable[[int], Outcome], gas: int) -> bool:
    try:
        return run(gas).success
    except RpcError:  # less than the intrinsic gas
        return False
