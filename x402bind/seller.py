"""A seller, put together once: who is paid, on which chains, through which ledger and account.

This is configuration and wiring, no protocol: it turns prices into ``Terms``, builds exchanges, and gives the edges
(``servers/``) what their commands are performed with.  Misconfiguration is refused here, with the argument's name.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from x402core.access import KeyRing
from x402core.commands import Command, ReportRefundDue
from x402core.errors import LocalProtocolError
from x402core.events import Dialect, Method, Offer, Resource, SettleMode
from x402core.machines.machine import Machine, Steps, steps, translate
from x402core.machines.server import ServerExchange
from x402core.machines.settlement import SettlementPolicy
from x402core.machines.token import TokenExchange
from x402core.money import Price
from x402core.policy import DIALECTS, Terms, TokenTerms, offers
from x402core.registry import KNOWN, Registry
from x402core.values import Address, Amount, Millis, Network, Seconds, local, parse_origin

from .chain.rpc import Endpoint
from .chain.signers import PrivateKeySigner, Signer
from .chain.transports import AsyncHttp
from .drive import adispatch, arun
from .ledger import open_ledger
from .ledger.contract import Ledger
from .settler import Settler, now_millis
from .translate.chain import chain_table, prove_chain
from .translate.ledger import LedgerPerformer
from .translate.verify import verify_table

__all__ = ["Seller"]

_log: Final = logging.getLogger("x402bind.seller")


class Seller:
    """Sell on the networks of ``rpc`` (a network's name to its node's URL), settled through ``key``'s account.

    * ``pay_to``: who is paid (default: the settling account itself).
    * ``ledger``: ``"sqlite:FILE"`` or a ledger of your own.  ``"memory:"`` forgets claims and settlements on exit.
    * ``token_key``: 32 or more secret bytes that sign access tokens; needed for the permit-token flow.
    * ``settle``: ``"after"`` the handler (default) or ``"before"`` it, for x402 v2.
    * ``url``: the public base URL, as payers see it; what a Host header says is never believed.
    * ``patience``: seconds a request waits for its settlement before it is answered "pending".

    Raises: LocalProtocolError naming the argument.
    """

    def __init__(
        self,
        *,
        key: str | bytes | Signer,
        rpc: Mapping[str, str],
        ledger: str | Ledger,
        pay_to: str | None = None,
        token_key: bytes | KeyRing | None = None,
        token_lifetime: int = 3600,
        most_open: int | None = None,
        settle: str = "after",
        timeout: int = 300,
        url: str = "",
        registry: Registry = KNOWN,
        settlement: SettlementPolicy | None = None,
        patience: float = 30.0,
        clock: Callable[[], Millis] = now_millis,
        on_refund_due: Callable[[ReportRefundDue], object] | None = None,
    ) -> None:
        if not rpc:
            raise LocalProtocolError("name at least one network and its node's URL", field="rpc")
        try:
            self.settle_mode = SettleMode(settle)
        except ValueError:
            raise LocalProtocolError("write 'after' or 'before'", field="settle") from None
        self.registry = registry
        self.signer: Signer = PrivateKeySigner(key) if isinstance(key, str | bytes) else key
        self.pay_to: str = pay_to or self.signer.address
        self.endpoints: dict[Network, Endpoint] = {
            (network := registry.resolve(name)): Endpoint(node, network) for name, node in rpc.items()
        }
        self.ledger = open_ledger(ledger) if isinstance(ledger, str) else ledger
        self.ring = KeyRing.single(token_key) if isinstance(token_key, bytes) else token_key
        self.token_lifetime = Seconds(token_lifetime)
        self.most_open = None if most_open is None else Amount(most_open)
        self.timeout = timeout
        if url:
            local(parse_origin, url, "url")
        self.url = url.rstrip("/")
        self.clock = clock
        self.http = AsyncHttp()
        self.settler = Settler(
            self.ledger, self.signer, self.endpoints, self.http, policy=settlement, clock=clock, patience=patience
        )
        self.performer = LedgerPerformer(self.ledger, clock)
        self._verify = verify_table(clock)
        self._chain = chain_table(self.endpoints)
        self._on_refund_due = on_refund_due
        self._sold: set[tuple[Network, Address]] = set()

    # ------------------------------------------------------------------------------------------------------------ terms

    def terms(
        self,
        prices: Price | Iterable[Offer],
        path: str,
        *,
        token_path: str = "/token",
        description: str = "",
        mime_type: str = "",
    ) -> Terms:
        """Return what a path costs: a price on every network of this seller, or offers of your own.

        Tokens bought for it, at ``token_path``, open this path and no other.
        Raises: LocalProtocolError naming the argument.
        """
        if isinstance(prices, Iterable) and not isinstance(prices, str):
            offered = tuple(prices)
            for offer in offered:
                self._check(offer)
        else:
            dialects = DIALECTS if self.ring is not None else (Dialect.V2,)
            offered = tuple(
                offer
                for network in self.endpoints
                for offer in offers(
                    prices,
                    network,
                    self.pay_to,
                    dialects=dialects,
                    settle=self.settle_mode,
                    timeout=self.timeout,
                    spender=self.signer.address,
                    registry=self.registry,
                )
            )
        token = None
        if self.ring is not None and any(offer.dialect is Dialect.PERMIT_TOKEN for offer in offered):
            audience = self.url or "x402"
            endpoint = urlsplit(self.url).path + token_path
            token = TokenTerms(self.ring, audience, path, endpoint, self.token_lifetime, self.most_open)
        self._sold |= {(offer.network, offer.asset) for offer in offered}
        return Terms(offered, Resource(self.url + path, description, mime_type), token, self.clock())

    def _check(self, offer: Offer) -> None:
        """Refuse an offer that nobody here could settle: its payer would be served, and nobody paid."""
        if offer.network not in self.endpoints:
            raise LocalProtocolError(f"an offer is for {offer.network}, for which rpc names no node", field="prices")
        if offer.method is Method.EIP2612 and (offer.spender or offer.pay_to) != self.signer.address:
            raise LocalProtocolError(f"an offer's spender is not {self.signer.address}, who settles here", field="prices")

    async def prove(self) -> None:
        """Ask every node whether it serves the chain it should, and every asset sold for whether it is what we think.

        Raises: LocalProtocolError listing what to change; ChainUnavailable or NodeError when a node cannot be asked.
        """
        problems: list[str] = []
        for network, endpoint in self.endpoints.items():
            assets = [asset for asset in self.registry.assets(network) if (network, asset.address) in self._sold]
            told = await arun(prove_chain(endpoint, assets), adispatch(self.http.table))
            problems += [f"{network}: {problem}" for problem in told]
        if problems:
            raise LocalProtocolError("; ".join(problems), field="rpc")

    # -------------------------------------------------------------------------------------------------------- exchanges

    def server_exchange(self, terms: Terms) -> ServerExchange:
        """Return a fresh machine for one request."""
        return ServerExchange(terms, entropy=secrets.token_bytes(16))

    def token_exchange(self, terms: Terms) -> TokenExchange:
        """Return a fresh machine for one POST to the token endpoint."""
        return TokenExchange(terms, entropy=secrets.token_bytes(32))

    def driven(self, machine: Machine[Any, Any], event: Any) -> Steps:
        """Drive a machine, with everything translated down to leaves that an edge performs."""
        return translate(translate(steps(machine, event, self.clock), self._verify), self._chain)

    async def on_ledger(self, command: Command[Any], held: Callable[[], Any]) -> Any:
        """Perform a ledger command, in a thread where the ledger blocks."""
        if not self.ledger.blocking:
            return self.performer.perform(command, held)
        return await anyio.to_thread.run_sync(self.performer.perform, command, held)

    def report_refund_due(self, command: ReportRefundDue) -> Any:
        """Tell whoever is to know that a payer paid and was not served; an awaitable answer is to be awaited."""
        _log.warning("a refund is due: %s by %s", command.key, command.payer)
        return None if self._on_refund_due is None else self._on_refund_due(command)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Settle in the background while the body runs; let the connections to nodes go with it."""
        try:
            async with self.settler.running():
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await self.http.aclose()

    async def aclose(self) -> None:
        """Let go of connections and the ledger."""
        await self.http.aclose()
        self.ledger.close()
