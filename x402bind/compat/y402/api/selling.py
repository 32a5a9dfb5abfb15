"""What ``payment_required`` is told, for every framework alike: the seller it comes to, and what each endpoint costs.

The seller is made when the endpoints are known, since a network of an endpoint's own setup is one of the seller's.  Nothing
here decides about money: an endpoint becomes a :class:`~x402bind.pricing.Listing` on a :class:`~x402bind.pricing.Shelf`.
"""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from x402bind.compat.y402.core.types.endpoint_settings import X402EndpointSettings, checked, settings_of
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.facilitator import FacilitatorConfig
from x402bind.compat.y402.core.types.paywall import PaywallConfig
from x402bind.compat.y402.core.types.registry import FinalEndpointSetupRegistry
from x402bind.compat.y402.core.types.setup import Y402Setup
from x402bind.compat.y402.core.utils.prices import offers_of
from x402bind.compat.y402.storage.base import StorageManager
from x402bind.compat.y402.storage.dummy import StorageManager as Dummy
from x402bind.ledger.contract import Ledger
from x402bind.pricing import Listing, Paid, Shelf
from x402bind.seller import Seller
from x402bind.servers.sale import Counter
from x402core.errors import LocalProtocolError
from x402core.events import Headers, Offer, SettleMode
from x402core.registry import KNOWN
from x402core.values import Network
from x402core.wire.headers import find_all

from .page import Html, Page
from .seller import Y402Seller

__all__ = ["LEDGER", "Endpoint", "Options", "Selling", "state_of"]

LEDGER: Final = "sqlite:x402-ledger.db"
"""Where claims and settlements are journaled, unless told otherwise: a file in the working directory."""
_NOBODY: Final = "0x000000000000000000000000000000000000dead"  # never offered: every price names its own payee
_FIELD: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::[^{}]*)?\}")
_MOST: Final = 1024  # shelves per endpoint: whoever asks for ever new parameters makes us forget, not grow
_PAYMENTS: Final = uuid.UUID("5b1c4f7e-06f5-4b43-9a8c-0d2c9c0a4021")
Offers: TypeAlias = tuple[Offer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of ``payment_required``; see its frameworks' own."""

    mime_type: str = ""
    default_max_deadline_seconds: int = 60
    paywall_config: PaywallConfig | None = None
    custom_paywall_html: Html | None = None
    facilitator_config: FacilitatorConfig | None = None
    setup: Y402Setup | None = None
    storage_manager: StorageManager | None = None
    ledger: str | Ledger = LEDGER
    url: str = ""
    settle: str = "after"

    def __post_init__(self) -> None:
        if self.setup is not None and not isinstance(self.setup, Y402Setup):
            raise MisconfigurationError("write a Y402Setup", field="setup")
        if self.facilitator_config is not None and not isinstance(self.facilitator_config, FacilitatorConfig):
            raise MisconfigurationError("write a FacilitatorConfig", field="facilitator_config")
        seconds = self.default_max_deadline_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 1:
            raise MisconfigurationError("a whole number of seconds, one at least", field="default_max_deadline_seconds")
        if self.storage_manager is not None and not isinstance(self.storage_manager, Dummy):
            raise MisconfigurationError("storage managers do not come with this version yet", field="storage_manager")
        if self.settle not in ("after", "before"):
            raise MisconfigurationError("write 'after' or 'before' the endpoint", field="settle")


class Selling:
    """One ``payment_required``: the endpoints it sells, and, once they are known, the seller."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.setups = FinalEndpointSetupRegistry(options.setup)

    def seller(self, endpoints: Sequence[Any]) -> Seller:
        """Return a seller for these endpoints.  Raises: MisconfigurationError for prices and setups that cannot be meant."""
        names: dict[str, int] = {}
        networks: dict[Network, None] = {}
        registry = KNOWN
        for endpoint in endpoints:
            setup, settings = self.setups[endpoint], settings_of(endpoint)
            assert settings is not None
            for name, chain in setup.get_chain_ids_mapping().items():
                if names.setdefault(name, chain) != chain:
                    raise MisconfigurationError(f"{name!r} is two chains, {names[name]} and {chain}", field="custom_setup")
            details = settings.payments_details
            used = setup.get_chain_ids_mapping() if callable(details) else [each.network for each in checked(details)]
            networks |= dict.fromkeys(setup.network(name) for name in used)
            registry = registry | setup.own()
        config = self.options.facilitator_config or FacilitatorConfig()
        try:
            return Y402Seller(
                open_ended=self._dynamic(endpoints),
                facilitator=config.remote(),
                networks=tuple(networks),
                pay_to=_NOBODY,
                ledger=self.options.ledger,
                settle=self.options.settle,
                url=self.options.url,
                registry=registry,
            )
        except LocalProtocolError as error:
            raise MisconfigurationError(error.message, field="setup") from error

    def check(self, endpoint: Any) -> None:
        """Work an endpoint's price out, where it is no function.  Raises: MisconfigurationError for what means nothing."""
        found = settings_of(endpoint)
        if found is not None and not callable(found.payments_details):
            self.offers(found, self.setups[endpoint], found.payments_details)

    def offers(self, found: X402EndpointSettings, setup: Y402Setup, details: Any) -> Offers:
        """Return what an endpoint is offered for.  Raises: MisconfigurationError, PriceComputingError."""
        timeout = found.max_deadline_seconds or self.options.default_max_deadline_seconds
        mode = SettleMode(self.options.settle)
        return tuple(offer for each in checked(details) for offer in offers_of(each, setup, timeout=timeout, settle=mode))

    def _dynamic(self, endpoints: Iterable[Any]) -> bool:
        """Say whether some price is a function of the request, so that what is sold on is not known before."""
        return any(callable(found.payments_details) for each in endpoints if (found := settings_of(each)) is not None)


class Endpoint:
    """One endpoint: its counter, with the page of its own, and its shelves.

    ``params`` are those of its route, whole ``path`` (a template).  ``param_of`` returns a parameter of a framework's request;
    ``wait`` waits for a price that an async function computes, where nobody else can.
    Raises: MisconfigurationError for settings that do not fit the route.
    """

    def __init__(
        self,
        selling: Selling,
        seller: Seller,
        endpoint: Any,
        path: str,
        *,
        params: Iterable[str] | None,
        param_of: Callable[[Any, str], Any],
        wait: Callable[[Any], Offers] | None = None,
    ) -> None:
        found = settings_of(endpoint)
        assert found is not None
        self.settings: X402EndpointSettings = found
        self.options, self.seller, self.path = selling.options, seller, path
        self._selling = selling
        self.setup = selling.setups[endpoint]
        self._param_of, self._wait = param_of, wait
        html: Any = found.custom_paywall_html or self.options.custom_paywall_html
        page: Any = Page(self.setup.get_chain_ids_mapping(), found.paywall_config or self.options.paywall_config, html)
        self.counter = Counter(seller, paywall=page)
        self._shelves: dict[tuple[str, str | None, str], Shelf] = {}
        if params is not None:
            named = {found.reference_param} if found.reference_param else set()
            if missing := (named | set(_FIELD.findall(found.resource_url or ""))) - set(params):
                raise MisconfigurationError(f"{path} has no parameter {sorted(missing)[0]!r}", field="reference_param")
        details = found.payments_details
        self._fixed = None if callable(details) else selling.offers(found, self.setup, details)

    def shelf(self, method: str, params: Mapping[str, Any], asset: str = "") -> Shelf:
        """Return what is sold: at a method of the route, with its parameters, in one asset only if a payer names it."""
        url = self.settings.resource_url
        resource = None if url is None else _FIELD.sub(lambda name: quote(str(params[name[1]]), safe=""), url)
        if resource is not None and "://" not in resource:
            resource = "/" + resource.lstrip("/")
        key = method, resource, asset
        shelf = self._shelves.get(key)
        if shelf is None:
            if len(self._shelves) >= _MOST:
                self._shelves.clear()
            listing = self._listing(method, resource, asset)
            shelf = self._shelves[key] = Shelf(self.seller, listing, self.path, whole=False)
        return shelf

    def asset(self, headers: Headers) -> str | None:
        """Return the asset that a payer names beside its payment (``X-PAYMENT-ASSET``), None for one nothing is sold in."""
        named = {text.strip().lower() for text in find_all(headers, "X-PAYMENT-ASSET")}
        if len(named) != 1:
            return None if named else ""
        asset = named.pop()
        return asset if self._fixed is None or any(offer.asset == asset for offer in self._fixed) else None

    def _listing(self, method: str, resource: str | None, asset: str) -> Listing:
        found = self.settings
        return Listing(
            price=(lambda request: self._computed(request, asset)) if self._fixed is None else _in(self._fixed, asset),
            description=found.description or "",
            mime_type=found.mime_type or self.options.mime_type or "application/json",
            resource=resource,
            reference=self.reference,
            tags=tuple(found.tags or ()),
            extensions={"bazaar": self._schema(method)},
        )

    def reference(self, request: Any) -> str:
        """Return the seller's own word for what is sold by a request."""
        name = self.settings.reference_param
        if name is None:
            return ""
        value = self._param_of(request, name)
        if value is None:
            raise MisconfigurationError(f"{self.path} has no parameter {name!r}", field="reference_param")
        return str(value)

    def _schema(self, method: str) -> dict[str, Any]:
        found = self.settings
        told = {"type": "http", "method": method, **(found.input_schema.document() if found.input_schema else {})}
        info: dict[str, Any] = {"input": told}
        if found.output_schema is not None:
            info["output"] = {"type": "json", "example": found.output_schema}
        return {"info": info, "schema": {"type": "object", "required": ["input"]}}

    def _computed(self, request: Any, asset: str) -> Offers | Awaitable[Offers]:
        details = self.settings.payments_details
        assert callable(details)
        made = details(request)
        if not inspect.isawaitable(made):
            return _in(self._selling.offers(self.settings, self.setup, made), asset)
        later = self._awaited(made, asset)
        return later if self._wait is None else self._wait(later)

    async def _awaited(self, made: Awaitable[Any], asset: str) -> Offers:
        return _in(self._selling.offers(self.settings, self.setup, await made), asset)


def _in(offers: Offers, asset: str) -> Offers:
    return tuple(offer for offer in offers if offer.asset == asset) or offers


def state_of(paid: Paid) -> dict[str, Any]:
    """Return what a handler is told, in y402's two words and ours; the id is the payment's own, however often it is sent."""
    return {
        "payment_id": uuid.uuid5(_PAYMENTS, paid.payment),
        "reference": paid.reference,
        "tags": list(paid.tags),
        "payer": paid.payer,
        "amount": paid.amount,
        "asset": paid.asset,
        "network": paid.network,
        "transaction": paid.transaction,
    }
