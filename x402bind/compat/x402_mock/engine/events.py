"""The events of a payment, and the bus that tells of them.

Hooks and subscribers learn of a payment; none of them is waited for longer than ``patience`` seconds, and what they raise is
logged: a payment is neither held up nor broken by who watches it (A7).  Permits show in a repr by their payer alone.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
from pydantic import BaseModel, ConfigDict

from x402bind.compat.x402_mock.adapters.unions import PermitTypes, TransactionConfirmationTypes, VerificationResultTypes
from x402bind.compat.x402_mock.schemas.bases import TransactionStatus, VerificationStatus
from x402bind.compat.x402_mock.schemas.https import ServerPaymentScheme, ServerTokenResponse

if TYPE_CHECKING:
    from x402bind.compat.x402_mock.adapters.adapters_hub import AdapterHub

__all__ = [
    "AuthorizationSuccessEvent",
    "BaseEvent",
    "BreakEvent",
    "Dependencies",
    "EventBus",
    "Http402PaymentEvent",
    "RequestInitEvent",
    "RequestTokenEvent",
    "SettleFailedEvent",
    "SettleSuccessEvent",
    "TokenIssuedEvent",
    "VerifyFailedEvent",
    "VerifySuccessEvent",
]

_log: Final = logging.getLogger("x402bind.compat.x402_mock")


class BaseEvent(BaseModel):
    """Something that happened."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def __repr__(self) -> str:
        """Show the kind: no token, no permit."""
        return f"{type(self).__name__}()"

    __str__ = __repr__


class RequestInitEvent(BaseEvent):
    """Somebody asked for a priced resource."""

    token: str | None
    token_endpoint: str = "/token"


class RequestTokenEvent(BaseEvent):
    """Somebody came with a permit."""

    permit: PermitTypes


class AuthorizationSuccessEvent(BaseEvent):
    """A request was let in; ``payload`` is what its handler is given."""

    payload: dict[str, Any]
    status_code: int = 200


class Http402PaymentEvent(BaseEvent):
    """A request was asked to pay."""

    reason: str
    access_token_endpoint: str
    payment_scheme: ServerPaymentScheme
    payment_instruction: str | None = None


class VerifySuccessEvent(BaseEvent):
    """A permit is good, and taken."""

    verification_result: VerificationResultTypes
    permit: PermitTypes


class VerifyFailedEvent(BaseEvent):
    """A permit is no good."""

    error_message: str
    status: VerificationStatus = VerificationStatus.UNKNOWN_ERROR


class TokenIssuedEvent(BaseEvent):
    """A token was handed out."""

    token_response: ServerTokenResponse


class SettleSuccessEvent(BaseEvent):
    """The money has moved: proved from the chain's logs."""

    settlement_result: TransactionConfirmationTypes


class SettleFailedEvent(BaseEvent):
    """The money has not moved and will not."""

    error_message: str
    status: TransactionStatus = TransactionStatus.FAILED


class BreakEvent(BaseEvent):
    """Nothing is to follow."""

    break_reason: str = ""


@dataclass(frozen=True)
class Dependencies:
    """What handlers are given beside the event."""

    adapters_hub: AdapterHub | None = None
    token_key: str | None = field(default=None, repr=False)
    token_expires_in: int | None = 3600


Handler = Callable[[Any, Dependencies], Awaitable[Any]]


class EventBus:
    """Who wants to know of what.  ``patience`` is how many seconds each may take."""

    def __init__(self, patience: float = 5.0) -> None:
        self.patience = patience
        self._subscribers: dict[type[BaseEvent], list[Handler]] = {}
        self._hooks: dict[type[BaseEvent], list[Handler]] = {}

    def subscribe(self, event_class: type[BaseEvent], handler: Handler) -> None:
        """Call an async function with each such event; what it returns is an event that follows.  Raises: TypeError."""
        self._subscribers.setdefault(event_class, []).append(_async(handler))

    def hook(self, event_class: type[BaseEvent], hook_func: Handler) -> None:
        """Call an async function with each such event, before those who subscribed.  Raises: TypeError."""
        self._hooks.setdefault(event_class, []).append(_async(hook_func))

    def wants(self, event_class: type[BaseEvent]) -> bool:
        """Say whether anybody wants to know of these."""
        return event_class in self._hooks or event_class in self._subscribers

    async def dispatch(self, event: BaseEvent, deps: Dependencies) -> AsyncGenerator[BaseEvent, None]:
        """Tell everyone of an event, side by side, hooks first; yield the events that follow."""
        await self._all(self._hooks.get(type(event), []), event, deps)
        for result in await self._all(self._subscribers.get(type(event), []), event, deps):
            if isinstance(result, BaseEvent):
                yield result
            elif result is not None:
                _log.error("a handler of %s returned a %s, which is no event", type(event).__name__, type(result).__name__)

    async def _all(self, handlers: list[Handler], event: BaseEvent, deps: Dependencies) -> list[Any]:
        results: list[Any] = []

        async def call(handler: Handler) -> None:
            try:
                with anyio.fail_after(self.patience):
                    results.append(await handler(event, deps))
            except TimeoutError:
                _log.error("%s took longer than %s s over %r", _name(handler), self.patience, event)
            except Exception:  # noqa: BLE001 - theirs: it is logged, and the payment goes on
                _log.exception("%s failed over %r", _name(handler), event)

        async with anyio.create_task_group() as tasks:
            for handler in handlers:
                tasks.start_soon(call, handler)
        return results


def _async(handler: Handler) -> Handler:
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"Handler must be a coroutine function, got {type(handler).__name__}")
    return handler


def _name(handler: Handler) -> str:
    return getattr(handler, "__qualname__", type(handler).__name__)
