"""Telling a bus what happens in a server, beside the payments and never in their way.

What is told is read off the answers that left; settlements are followed in the journal to their end.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from pydantic import ValidationError

from x402bind.compat.x402_mock.adapters.evm import methods
from x402bind.compat.x402_mock.engine.events import (
    BaseEvent,
    Dependencies,
    EventBus,
    Http402PaymentEvent,
    RequestInitEvent,
    RequestTokenEvent,
    SettleFailedEvent,
    SettleSuccessEvent,
    TokenIssuedEvent,
    VerifyFailedEvent,
    VerifySuccessEvent,
)
from x402bind.compat.x402_mock.engine.executors import EventChain
from x402bind.compat.x402_mock.schemas.bases import VerificationStatus
from x402bind.compat.x402_mock.schemas.https import ServerTokenResponse
from x402bind.seller import Seller
from x402bind.servers.held import App, Message, Receive, Scope, Send
from x402core.commands import AwaitSettlement
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.events import Pending
from x402core.wire import permit_token

__all__ = ["Announcer"]

_log: Final = logging.getLogger("x402bind.compat.x402_mock")
_MOST: Final = 1 << 20  # bytes of a body that events are read off
_TAKEN: Final[tuple[type[BaseEvent], ...]] = (
    RequestTokenEvent,
    VerifySuccessEvent,
    VerifyFailedEvent,
    TokenIssuedEvent,
    SettleSuccessEvent,
    SettleFailedEvent,
)
_REFUSED: Final[tuple[type[BaseEvent], ...]] = (RequestInitEvent, Http402PaymentEvent)


class Announcer:
    """Tell ``bus`` of what passes, in tasks of its own while :meth:`running`."""

    def __init__(self, bus: EventBus, deps: Dependencies, token_path: str) -> None:
        self.bus, self.deps, self.token_path = bus, deps, token_path
        self.seller: Seller | None = None
        self._tasks: TaskGroup | None = None
        self._followed: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell while the body runs."""
        raised: Exception | None = None
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            except Exception as error:  # noqa: BLE001 - the body's own, raised again outside: a task group would wrap it
                raised = error
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()
        if raised is not None:
            raise raised

    def tell(self, *events: BaseEvent) -> None:
        """Have the bus told of events, one after the other, soon."""
        if self._tasks is not None:
            self._tasks.start_soon(self._tell, events)

    async def _tell(self, events: tuple[BaseEvent, ...]) -> None:
        for event in events:
            async for _ in EventChain(self.bus, self.deps).execute(event):
                pass

    # -------------------------------------------------------------------------------------------------------- watching

    async def watch(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for a request and tell what came of it."""
        asked = scope["path"].removeprefix(scope.get("root_path", ""))
        posted = scope["method"] == "POST" and asked == self.token_path
        if not any(self.bus.wants(each) for each in (_TAKEN if posted else _REFUSED)):
            return await app(scope, receive, send)
        heard, said = bytearray(), bytearray()
        status = 0

        async def hearing() -> Message:
            message = await receive()
            if posted and len(heard) <= _MOST:
                heard.extend(message.get("body", b""))
            return message

        async def saying(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif (posted or status == 402) and len(said) <= _MOST:
                said.extend(message.get("body", b""))
            await send(message)

        await app(scope, hearing, saying)
        try:
            if posted:
                self._token_asked(bytes(heard), status, bytes(said))
            elif status == 402:
                self._asked_to_pay(scope, bytes(said))
        except Exception:  # noqa: BLE001 - the answer has left: what is told of it breaks nothing
            _log.exception("what happened could not be told")
        return None

    def _asked_to_pay(self, scope: Scope, body: bytes) -> None:
        document = _object(body)
        authorization = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), None)
        try:
            event = Http402PaymentEvent.model_validate(document)
        except ValidationError:
            return  # a 402 of the application's own
        self.tell(RequestInitEvent(token=authorization, token_endpoint=self.token_path), event)

    def _token_asked(self, heard: bytes, status: int, said: bytes) -> None:
        answer = _object(said)
        try:
            permit = permit_token.decode_token_request(heard).permit
        except RemoteProtocolError as error:
            self.tell(VerifyFailedEvent(error_message=str(error)))
            return
        assert isinstance(permit, methods.Signed)
        asked = RequestTokenEvent(permit=methods.model_of(permit))
        if status != 200:
            why = permit_token.decode_refusal(status, said)
            found = methods.STATUS.get(why.reason, VerificationStatus.UNKNOWN_ERROR)
            self.tell(asked, VerifyFailedEvent(error_message=str(answer.get("error") or why.detail), status=found))
            return
        result = methods.verified(permit, self._offer(permit))
        issued = TokenIssuedEvent(token_response=ServerTokenResponse.model_validate(answer))
        self.tell(asked, VerifySuccessEvent(verification_result=result, permit=asked.permit), issued)
        self.follow(permit)

    def _offer(self, permit: methods.Signed) -> Any:
        assert self.deps.adapters_hub is not None
        return self.deps.adapters_hub.evm.offer_for(permit)

    # ------------------------------------------------------------------------------------------------------- following

    def follow(self, permit: methods.Signed) -> None:
        """Tell how a settlement ends, once."""
        wanted = self.bus.wants(SettleSuccessEvent) or self.bus.wants(SettleFailedEvent)
        if wanted and self._tasks is not None and permit.key not in self._followed:
            self._followed.add(permit.key)
            self._tasks.start_soon(self._follow, permit)

    async def _follow(self, permit: methods.Signed) -> None:
        assert self.seller is not None
        assert self.seller.signer is not None
        outcome = None
        try:
            while outcome is None or isinstance(outcome, Pending) or not getattr(outcome, "final", True):
                outcome = await self.seller.settler.wait(AwaitSettlement(permit.key))
        except LocalProtocolError:
            return  # it is another process's: that one tells
        except Exception:  # noqa: BLE001 - the ledger's trouble is logged, and is no payment's
            _log.exception("a settlement could not be followed")
            return
        finally:
            self._followed.discard(permit.key)
        result = methods.confirmation(permit, outcome, self.seller.signer.address)
        if result.is_success():
            await self._tell((SettleSuccessEvent(settlement_result=result),))
        else:
            await self._tell((SettleFailedEvent(error_message=result.error_message or "", status=result.status),))


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
