"""x402-mock 0.3.0's three MCP tools, under the hub's policy.

For a payer ``signature`` and ``source_request``, for a payee ``verify_and_settle``.  What an agent may spend is what the hub
allows: a cap for each method, and its ``origins``, ``payees`` and ``budget``.  No key, token or node's URL is in an answer, not
even where a server says back what it was sent.

``mcp`` is any object with a ``tool()`` decorator: ``MCPServer`` of mcp 2, ``FastMCP`` of mcp 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import anyio

from x402bind.chain.errors import RpcError
from x402bind.clients.httpx import outcome_of
from x402bind.compat.x402_mock.adapters import AdapterHub
from x402bind.compat.x402_mock.clients import Http402Client
from x402bind.compat.x402_mock.engine import (
    Dependencies,
    EventChain,
    RequestTokenEvent,
    SettleFailedEvent,
    SettleSuccessEvent,
    VerifyFailedEvent,
)
from x402bind.compat.x402_mock.errors import X402MockError
from x402bind.compat.x402_mock.servers.flows import setup_event_bus
from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.values import Origin, local, parse_origin

from .bodies import UNPACKED, read_text

__all__ = ["FacilitorTools"]

_MOST: Final = 1 << 18  # bytes of a body that are read, and characters that an agent is given
_LONGEST: Final = 120.0  # seconds
_TRIPS: Final = 4  # requests that a purchase takes: asking, a token, asking with it, and once more
_OURS: Final = frozenset({"authorization", "host", "payment-signature", "x-payment", "cookie"})
_READING: Final = frozenset({"accept-encoding"})  # what is packed may unpack to anything
_KEPT: Final = frozenset({"set-cookie", "authorization", "payment-response", "x-payment-response"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class FacilitorTools:
    """Register the tools of a payer (``client_role``) or of a payee with ``mcp``.

    ``origins``, when given, are the only ones requests go to (default: the hub's).  Raises: LocalProtocolError.
    """

    def __init__(
        self, adapter_hub: AdapterHub, mcp: Any, client_role: bool = False, *, origins: Iterable[str] | None = None
    ) -> None:
        self.hub = adapter_hub
        named = None if origins is None else frozenset(local(parse_origin, each, "origins") for each in origins)
        self.origins: frozenset[Origin] | None = adapter_hub.origins if named is None else named
        for tool in (self.signature, self.source_request) if client_role else (self.verify_and_settle,):
            mcp.tool()(tool)

    # ------------------------------------------------------------------------------------------------------- the payer

    async def signature(self, list_components: list[dict[str, Any]]) -> dict[str, Any]:
        """Sign a payment permit for one of the payment components a server asks for in its 402 response.

        Within the caps that were configured, the method preferred here is chosen.  The permit is worth money: give it to that
        server's token endpoint only.
        """
        if self.origins is not None and self.hub.payees is None:  # of a component alone nobody knows whose it is
            return {"error": "payments go to named origins only: use source_request, or have payees named too"}
        try:
            permit = await self.hub.signature(list_components)
        except (LocalProtocolError, RemoteProtocolError, X402MockError, RpcError) as error:
            return {"error": self._clean(str(error))}
        document: dict[str, Any] = permit.model_dump(mode="json")
        return document

    async def source_request(
        self,
        url: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - an agent names it so
    ) -> dict[str, Any]:
        """Request a resource and pay for it if that is asked, within the caps that were configured.

        Returns status_code, headers, body, what became of the payment, and truncated: whether there was more of the body than
        is given, or was more to come when the time was over; or error.
        """
        wrong = self._refuse(url, method, headers or {})
        if wrong is not None:
            return {"error": wrong}
        seconds = max(0.1, min(timeout, _LONGEST))
        try:
            with anyio.move_on_after((_TRIPS + 1) * seconds):
                return await self._bought(method.upper(), url, headers or {}, seconds)
        except Exception as error:  # noqa: BLE001 - an agent is told the kind; texts may hold what it must not know
            return {"error": self._clean(f"{type(error).__name__}: {error}")}
        return {"error": "TimeoutError: the server took too long; a payment that had left by then may be settled"}

    async def _bought(self, method: str, url: str, headers: dict[str, str], seconds: float) -> dict[str, Any]:
        asked = {**{name: value for name, value in headers.items() if name.lower() not in _READING}, **UNPACKED}
        async with (
            Http402Client(adapter_hub=self.hub, timeout=seconds) as client,
            client.stream(method, url, headers=asked) as response,
        ):
            outcome = outcome_of(response)
            body, whole = await read_text(response, _MOST, seconds)
        shown = {name: self._clean(value) for name, value in response.headers.items() if name not in _KEPT}
        return {
            "status_code": response.status_code,
            "headers": shown,
            "body": self._clean(body, whole=whole),
            "truncated": not whole,
            "payment": "none" if outcome is None else outcome.kind.value,
        }

    def _refuse(self, url: str, method: str, headers: dict[str, str]) -> str | None:
        try:
            origin = parse_origin(url)
        except RemoteProtocolError:
            return "url: expected an absolute http or https URL"
        if self.origins is not None and origin not in self.origins:
            return f"url: {origin} is not an allowed origin"
        if method.upper() not in _METHODS:
            return "method: not an HTTP method that is sent here"
        if forbidden := _OURS & {name.lower() for name in headers}:
            return f"headers: {', '.join(sorted(forbidden))} is not for tools to set"
        return None

    def _clean(self, text: str, *, whole: bool = True) -> str:
        """Cut a text and take out of it what an agent must not learn; of one that is not ``whole``, the last may be cut off."""
        secrets = self.hub.secrets()
        for secret in secrets:
            text = text.replace(secret, "[secret]")
        for secret in () if whole else secrets:
            text = text[: len(text) - next((n for n in range(len(secret) - 1, 0, -1) if text.endswith(secret[:n])), 0)]
        return text[:_MOST]

    # ------------------------------------------------------------------------------------------------------- the payee

    async def verify_and_settle(self, permit: dict[str, Any]) -> dict[str, Any]:
        """Verify a payment permit for the payment methods offered here, and move its money on chain."""
        bus = setup_event_bus()
        deps = Dependencies(adapters_hub=self.hub)
        try:
            event = RequestTokenEvent.model_validate({"permit": permit})
        except ValueError as error:
            return {"event": "VerifyFailedEvent", "error_message": self._clean(f"permit: {error}"), "status": "unknown_error"}
        async for told in EventChain(bus, deps).execute(event):
            if isinstance(told, SettleSuccessEvent | SettleFailedEvent | VerifyFailedEvent):
                return {"event": type(told).__name__, **self._cleaned(told.model_dump(mode="json", exclude_none=True))}
        return {"event": "SettleFailedEvent", "error_message": "it took too long", "status": "timeout"}

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._cleaned(each) for key, each in value.items()}
        return self._clean(value) if isinstance(value, str) else value
