"""FastAPI: put a price on an operation, by a decorator or by a dependency.

    payments = Payments(app, seller)

    @app.get("/report")
    @payments.required("$0.01")
    async def report(): ...

    @app.get("/other")
    async def other(payer: Annotated[Paid, payments.paid("$0.02")]): ...

Whatever the operation declares (parameters, dependencies, background tasks, response models) works as before, and its OpenAPI
documents the 402.  How routes are found and audited: ``starlette.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from starlette.requests import HTTPConnection

from x402bind.pricing import Listing, Paid, Pricing

from . import starlette
from .marks import Mark

__all__ = ["Payments"]

_SAID: Final = {
    "type": "object",
    "properties": {
        "x402Version": {"type": "integer"},
        "error": {"type": "string"},
        "accepts": {"type": "array", "items": {"type": "object"}},
    },
}


class Payments(starlette.Payments):
    """As for Starlette, with :meth:`paid` besides, and the 402 in the schema of every priced operation."""

    def paid(self, price: Pricing | Listing, **listing: Any) -> Any:
        """Return a dependency that puts a price on every operation that has it, and gives it the :class:`Paid`.

        Arguments and errors are as for :meth:`required`.  On a router, or where it is included, it prices all its operations.
        """
        from fastapi import Depends

        found = _PaidBy(self.listed(price, **listing))
        self._marks.append(found.mark)
        self._audited = False
        return Depends(found)

    def _marks_of(self, found: starlette.Found, endpoint: Any) -> Iterator[Mark]:
        yield from super()._marks_of(found, endpoint)
        for call in _calls(getattr(found.says, "dependant", None)):
            if isinstance(call, _PaidBy) and any(call.mark is each for each in self._marks):
                yield call.mark

    def _sell(self, found: starlette.Found, listing: Listing) -> None:
        super()._sell(found, listing)
        for told in (found.says, found.route):
            responses = getattr(told, "responses", None)
            if isinstance(responses, dict):
                responses.setdefault(402, _documented())


class _PaidBy:
    """A dependency that was sold by its listing, or raises."""

    def __init__(self, listing: Listing) -> None:
        self.mark = Mark(listing, self, "a dependency that payments.paid() made")

    async def __call__(self, connection: HTTPConnection) -> Paid:
        self.mark.check()
        paid: Paid = connection.scope["x402"]
        return paid


def _calls(dependant: Any) -> Iterator[Any]:
    if dependant is not None:
        yield dependant.call
        for each in dependant.dependencies:
            yield from _calls(each)


def _documented() -> dict[str, Any]:
    header = {"description": "What to pay, in base64 (x402 v2).", "schema": {"type": "string"}}
    content = {"application/json": {"schema": _SAID}}
    return {"description": "Payment Required", "headers": {"PAYMENT-REQUIRED": header}, "content": content}
