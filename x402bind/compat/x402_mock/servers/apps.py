"""``Http402Server``: a FastAPI application whose handlers can be put behind a payment.

app = Http402Server(token_key=create_private_key(), token_expires_in=300)
app.add_payment_method(chain_id="eip155:11155111", amount=0.5, currency="USDC")

@app.get("/api/data")
@app.payment_required
async def data(payload): ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from decimal import Decimal
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.requests import Request

from x402bind.compat.x402_mock.adapters.adapters_hub import AdapterHub, Component
from x402bind.compat.x402_mock.engine.events import (
    AuthorizationSuccessEvent,
    BaseEvent,
    Dependencies,
    EventBus,
    Handler,
    RequestInitEvent,
)
from x402bind.ledger.contract import Ledger
from x402bind.seller import Seller
from x402core.access import KeyRing
from x402core.errors import LocalProtocolError
from x402core.machines.settlement import SettlementPolicy

from .announcer import Announcer
from .gate import Gate, HeldSettler
from .handlers import adapted, payload_of

__all__ = ["Http402Server"]

F = TypeVar("F", bound=Callable[..., Any])


class Http402Server(FastAPI):
    """Sell handlers for access tokens, and settle what they are bought with.

    ``token_key`` (32 characters or more) signs tokens, which live ``token_expires_in`` seconds.  Without
    ``enable_auto_settlement`` what was taken waits in the journal until ``adapter_hub.settle(permit)`` is called.
    Permits are taken at ``token_endpoint``.

    Beyond x402-mock: ``ledger`` remembers claims and settlements across restarts; ``url`` is the public one, which tokens are
    bound to; ``most_open`` bounds what one payer may owe, in atomic units; ``settlement`` is the policy of settling;
    ``prove=False`` starts without asking the chain whether the configuration is right.

    Raises: LocalProtocolError naming the argument.
    """

    def __init__(
        self,
        token_key: str,
        adapter_hub: AdapterHub | None = None,
        token_expires_in: int = 3600,
        enable_auto_settlement: bool = True,
        token_endpoint: str = "/token",
        *,
        ledger: str | Ledger = "sqlite:x402-mock.db",
        url: str = "",
        most_open: int | None = None,
        settlement: SettlementPolicy | None = None,
        prove: bool = True,
        **fastapi_kwargs: Any,
    ) -> None:
        try:
            self._ring = KeyRing.single(token_key.encode())
        except LocalProtocolError:
            raise LocalProtocolError("at least 32 characters: create_private_key() makes one", field="token_key") from None
        self.adapter_hub = adapter_hub or AdapterHub()
        self.token_endpoint = token_endpoint
        self.depends = Dependencies(self.adapter_hub, token_key, token_expires_in)
        self.event_bus = EventBus()
        self.seller: Seller | None = None
        self._auto = enable_auto_settlement
        self._how: dict[str, Any] = {"ledger": ledger, "url": url, "most_open": most_open, "settlement": settlement}
        self._prove = prove
        self._gate = Gate(token_endpoint)
        self._announcer = Announcer(self.event_bus, self.depends, token_endpoint)
        super().__init__(**fastapi_kwargs)

    # --------------------------------------------------------------------------------------------------------- set-up

    def add_payment_method(
        self,
        payment_component: Component | str | None = None,
        amount: float | str | Decimal | None = None,
        currency: str | None = None,
        *,
        chain_id: str | None = None,
    ) -> None:
        """Take payments in one more way: a component (0.3.0), or chain id, amount and currency (0.1.1).

        Raises: LocalProtocolError, PaymentMethodError or pydantic's ValidationError naming the field; LocalProtocolError once
        the application has started.
        """
        if self.seller is not None:
            raise LocalProtocolError("the application has started", field="add_payment_method")
        self.adapter_hub.register_payment_methods(payment_component, amount, currency, chain_id=chain_id)

    def payment_required(self, route_handler: F) -> F:
        """Put a handler behind the payment: directly above it, under the route's decorator.

        Path, query, body, dependencies and sync handlers work as in FastAPI; who paid is in ``payload`` (a dict).
        """
        return self._gate.guard(adapted(route_handler, self._payload))  # type: ignore[return-value]

    async def _payload(self, request: Request) -> dict[str, Any]:
        payload = payload_of(request)
        if self.event_bus.wants(RequestInitEvent) or self.event_bus.wants(AuthorizationSuccessEvent):
            asked = RequestInitEvent(token=request.headers.get("authorization"), token_endpoint=self.token_endpoint)
            self._announcer.tell(asked, AuthorizationSuccessEvent(payload=payload))
        return payload

    # --------------------------------------------------------------------------------------------------------- events

    def subscribe(self, event_class: type[BaseEvent], handler: Handler) -> None:
        """Call an async function of (event, deps) with each such event; an event it returns follows.  Raises: TypeError."""
        self.event_bus.subscribe(event_class, handler)

    def add_hook(self, event_class: type[BaseEvent], hook: Handler) -> None:
        """Call an async function of (event, deps) with each such event.  Raises: TypeError."""
        self.event_bus.hook(event_class, hook)

    def hook(self, event_class: type[BaseEvent]) -> Callable[[Handler], Handler]:
        """Return a decorator that does as :meth:`add_hook`."""

        def decorator(hook: Handler) -> Handler:
            self.event_bus.hook(event_class, hook)
            return hook

        return decorator

    # --------------------------------------------------------------------------------------------------------- serving

    def _open(self) -> None:
        """Put the seller together from what was configured, once, before anything is served."""
        if self.seller is not None or not self._gate.guards:
            return
        evm = self.adapter_hub.evm
        offers = tuple(evm.offers)
        if not offers:
            raise LocalProtocolError("handlers are priced, and no payment method was added", field="add_payment_method")
        seller = Seller(
            key=evm.signer,
            rpc=evm.rpc(dict.fromkeys(offer.network for offer in offers)),
            token_key=self._ring,
            token_lifetime=self.depends.token_expires_in or 3600,
            registry=evm.registry,
            **self._how,
        )
        if not self._auto:
            seller.settler = HeldSettler(
                seller.ledger, evm.signer, seller.endpoints, seller.http, policy=self._how["settlement"]
            )
        self._gate.open(self, seller, offers, prove=self._prove)
        self.seller = self._announcer.seller = seller
        evm.attach(seller.settler)  # type: ignore[arg-type]  # without a facilitator it is a Settler

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve one connection."""
        self._open()
        if scope["type"] == "lifespan":
            async with self._announcer.running():
                await super().__call__(scope, receive, send)
        elif scope["type"] == "http":
            await self._announcer.watch(super().__call__, scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
