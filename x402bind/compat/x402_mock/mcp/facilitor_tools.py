"""x402-mock 0.3.0's three MCP tools, under the hub's policy.

For a payer ``signature`` and ``source_request``, for a payee ``verify_and_settle``.  What an agent may spend is what the hub
allows: a cap for each method, and its ``origins``, ``payees`` and ``budget``.  No key, token or node's URL is in an answer, not
even where a server says back what it was sent.

``mcp`` is any object with a ``tool()`` decorator: ``MCPServer`` of mcp 2, ``FastMCP`` of mcp 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

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

__all__ = ["FacilitorTools"]

_MOST: Final = 1 << 18  # characters of a body that an agent is given
_LONGEST: Final = 120.0  # seconds
_OURS: Final = frozenset({"authorization", "host", "payment-signature", "x-payment", "cookie"})
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

        Returns status_code, headers, body and what became of the payment; or error.
        """
        wrong = self._refuse(url, method, headers or {})
        if wrong is not None:
            return {"error": wrong}
        try:
            async with Http402Client(adapter_hub=self.hub, timeout=max(0.1, min(timeout, _LONGEST))) as client:
                response = await client.request(method.upper(), url, headers=headers)
                outcome = outcome_of(response)
        except Exception as error:  # noqa: BLE001 - an agent is told the kind; texts may hold what it must not know
            return {"error": self._clean(f"{type(error).__name__}: {error}")}
        shown = {name: self._clean(value) for name, value in response.headers.items() if name not in _KEPT}
        paid = "none" if outcome is None else outcome.kind.value
        return {"status_code": response.status_code, "headers": shown, "body": self._clean(response.text), "payment": paid}

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

    def _clean(self, text: str) -> str:
        """Cut a text and take out of it what an agent must not learn."""
        for secret in self.hub.secrets():
            text = text.replace(secret, "[secret]")
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
