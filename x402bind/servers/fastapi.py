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

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, Unpack

from fastapi.params import Depends
from starlette.requests import HTTPConnection

from x402bind.pricing import Listing, Paid, Pricing
from x402bind.seller import Seller

from . import starlette
from .door import Options
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


class _Price(Depends):
    """A dependency, and what depends on it and nothing else: so FastAPI takes it as itself, and within a ``Depends``."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__  # some releases have a Depends that is compared by value, and has none

    def __init__(self, payer: Callable[..., Any]) -> None:
        super().__init__(payer)
        itself = inspect.Parameter("paid", inspect.Parameter.KEYWORD_ONLY, default=self, annotation=Paid)
        vars(self)["__signature__"] = inspect.Signature([itself])

    async def __call__(self, paid: Paid) -> Paid:
        return paid


class Payments(starlette.Payments):
    """As for Starlette, with :meth:`paid` besides, and the 402 in the schema of every priced operation."""

    def __init__(self, app: Any, seller: Seller, **options: Unpack[Options]) -> None:
        super().__init__(app, seller, **options)
        self._dependencies: dict[Any, Mark] = {}

    def paid(self, price: Pricing | Listing, **listing: Any) -> Any:
        """Return a dependency that puts a price on every operation that has it, and gives it the :class:`Paid`.

        It is a ``Depends`` already; within another one, ``Depends(payments.paid("$0.02"))``, it is the same.
        Arguments and errors are as for :meth:`required`.  On a router, or where it is included, it prices all its operations.
        """

        async def payer(connection: HTTPConnection) -> Paid:
            found.check()
            paid: Paid = connection.scope["x402"]
            return paid

        found = self._dependencies[payer] = Mark(self._listed(price, listing), payer, "a dependency made by payments.paid()")
        self._note(found)
        return _Price(payer)

    def _marks_of(self, found: starlette.Found) -> Iterator[Mark]:
        yield from super()._marks_of(found)
        for call in _calls(getattr(found.says, "dependant", None)):
            if (mark := self._dependencies.get(call)) is not None:
                yield mark

    def _sell(self, found: starlette.Found, by: Mark) -> None:
        super()._sell(found, by)
        for told in (found.says, found.route):
            responses = getattr(told, "responses", None)
            if isinstance(responses, dict):
                responses.setdefault(402, _documented())


def _calls(dependant: Any) -> Iterator[Any]:
    if dependant is not None:
        yield dependant.call
        for each in dependant.dependencies:
            yield from _calls(each)


def _documented() -> dict[str, Any]:
    header = {"description": "What to pay, in base64 (x402 v2).", "schema": {"type": "string"}}
    content = {"application/json": {"schema": _SAID}}
    return {"description": "Payment Required", "headers": {"PAYMENT-REQUIRED": header}, "content": content}
