"""Verifying and settling as a bus of events, for code that drives one itself (and for the MCP tools).

``Http402Server`` does not: there the core's machines take the permit, journal the intent and mint the token; the bus is told.
"""

from __future__ import annotations

from x402bind.chain.errors import RpcError
from x402bind.compat.x402_mock.engine.events import (
    Dependencies,
    EventBus,
    RequestTokenEvent,
    SettleFailedEvent,
    SettleSuccessEvent,
    VerifyFailedEvent,
    VerifySuccessEvent,
)
from x402bind.compat.x402_mock.errors import PaymentMethodError
from x402bind.compat.x402_mock.schemas.bases import TransactionStatus, VerificationStatus
from x402core.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["handle_request_token", "handle_settlement", "setup_event_bus"]


async def handle_request_token(event: RequestTokenEvent, deps: Dependencies) -> VerifySuccessEvent | VerifyFailedEvent:
    """Judge a permit."""
    assert deps.adapters_hub is not None
    try:
        result = await deps.adapters_hub.verify_signature(event.permit)
    except (LocalProtocolError, RemoteProtocolError, PaymentMethodError) as error:
        return VerifyFailedEvent(error_message=str(error), status=VerificationStatus.UNKNOWN_ERROR)
    if result.is_success():
        return VerifySuccessEvent(verification_result=result, permit=event.permit)
    return VerifyFailedEvent(error_message=result.message, status=result.status)


async def handle_settlement(event: VerifySuccessEvent, deps: Dependencies) -> SettleSuccessEvent | SettleFailedEvent:
    """Move a permit's money."""
    assert deps.adapters_hub is not None
    try:
        result = await deps.adapters_hub.settle(event.permit)
    except RpcError as error:
        return SettleFailedEvent(error_message=f"the node did not answer: {error}", status=TransactionStatus.NETWORK_ERROR)
    except (LocalProtocolError, RemoteProtocolError, PaymentMethodError) as error:
        return SettleFailedEvent(error_message=str(error), status=TransactionStatus.INVALID_TRANSACTION)
    if result.is_success():
        return SettleSuccessEvent(settlement_result=result)
    return SettleFailedEvent(error_message=result.error_message or result.status.value, status=result.status)


def setup_event_bus(enable_auto_settlement: bool = True, *, patience: float = 120.0) -> EventBus:
    """Return a bus that judges permits and, unless told not to, settles them."""
    bus = EventBus(patience)
    bus.subscribe(RequestTokenEvent, handle_request_token)
    if enable_auto_settlement:
        bus.subscribe(VerifySuccessEvent, handle_settlement)
    return bus
