"""A seller, put together once: who is paid, on which chains, through which ledger and account.

This is configuration and wiring, no protocol: it turns prices into ``Terms``, builds exchanges, and gives the edges
(``servers/``) what their commands are performed with.  Misconfiguration is refused here, with the argument's name.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from x402core.access import KeyRing
from x402core.commands import Command, ReportRefundDue
from x402core.errors import LocalProtocolError
from x402core.events import Dialect, Method, Offer, Resource, SettleMode
from x402core.evm.address import own_address
from x402core.machines.answers import LEASE_MARGIN
from x402core.machines.machine import Finer, Machine, Steps, steps, translate
from x402core.machines.remote import RemotePolicy
from x402core.machines.server import ServerExchange
from x402core.machines.settlement import SettlementPolicy
from x402core.machines.token import TokenExchange
from x402core.money import Price
from x402core.policy import DIALECTS, SignInTerms, Terms, TokenTerms, offers
from x402core.registry import KNOWN, Registry
from x402core.schemes.scheme import EXPIRY_MARGIN
from x402core.schemes.wallets import Wallets
from x402core.values import Address, Amount, Millis, Network, Seconds, local, parse_origin
from x402core.wire import sponsoring
from x402core.wire.json import Json
from x402core.wire.v2 import EXACT, UPTO

from .arguments import addresses, check_call, mapping, several, whole
from .attester import Attester
from .chain.nodes import RPC, Nodes, NodesLike, nodes
from .chain.signers import Signer, signer_of
from .chain.transports import AsyncHttp
from .drive import AsyncPerform, adispatch, arun
from .ledger import ledger_of
from .ledger.contract import Ledger, LedgerUnavailable
from .ledger.threads import called
from .pricing import PaymentOption, Prices, each
from .remote_settler import RemoteSettler
from .settler import Settler
from .translate.chain import chain_table, prove_chain
from .translate.deployed import Sold, needs, prove_code
from .translate.facilitator import Facilitators, RemoteFacilitator, facilitator_table, supported_by
from .translate.ledger import LedgerPerformer
from .translate.verify import verify_table
from .worker import Worker, now_millis

__all__ = ["Seller"]

_log: Final = logging.getLogger("x402bind.seller")


class Seller:
    """Sell on the networks of ``rpc`` (a network's name to its node's URL, or several), settled through ``key``'s account.

    * ``facilitator``: settle through it, or them, instead: no ``key``, no gas; name the ``networks``.  Each is asked in the
      version its ``/supported`` lists, v2 or else v1, which has EIP-3009 only and may want the public ``url``.  With ``rpc``
      too, what a facilitator refuses, or with ``prove`` also what it says it did, is proved on the chain.
    * ``pay_to``: who is paid (default: the settling account itself).
    * ``ledger``: ``"sqlite:FILE"`` or a ledger of your own.  ``"memory:"`` forgets claims and settlements on exit.
    * ``token_key``: 32 or more secret bytes that sign access tokens; needed for the permit-token flow.
    * ``settle``: ``"after"`` the handler (default) or ``"before"`` it, for x402.
    * ``methods``: the ways to move an asset, preferred first, as ``("eip3009", "permit2")``; default: each asset's own first.
    * ``factories``: contracts that may deploy a payer's wallet, at the expense of whoever settles (default: none).
    * ``managers``: delegation managers through which payers may pay, needed for the method ``"erc7710"`` (default: none).
    * ``sign_in``: those who have paid may come back by signing in (``sign-in-with-x``), as long as the price stays; needs
      ``url``.  Not for ``upto``, nor for a price that is worked out for each request.
    * ``identifier_required``: refuse a payment that brings no ``payment-identifier``.
    * ``attest``: a key or signer that signs every offer and receipt (``offer-receipt``): the payee's, best of all.
    * ``extensions``: further extensions to advertise, as they go on the wire (``bazaar``, ``builder-code``).
    * ``url``: the public base URL, as payers see it; what a Host header says is never believed.
    * ``timeout``: seconds a payer has from signing until the payment is taken up, 6 or more.
    * ``patience``: seconds a request waits for its settlement before it is answered "pending".

    Raises: LocalProtocolError naming the argument.
    """

    def __init__(
        self,
        *,
        key: str | bytes | Signer | None = None,
        rpc: Mapping[str, NodesLike] = MappingProxyType({}),
        ledger: str | Ledger,
        facilitator: str | RemoteFacilitator | Iterable[str | RemoteFacilitator] | None = None,
        networks: Iterable[str] = (),
        prove: bool = False,
        pay_to: str | None = None,
        token_key: bytes | KeyRing | None = None,
        token_lifetime: int = 3600,
        most_open: int | None = None,
        settle: str = "after",
        methods: Iterable[str] | None = None,
        factories: Iterable[str] = (),
        managers: Iterable[str] = (),
        sign_in: bool = False,
        identifier_required: bool = False,
        attest: str | bytes | Signer | None = None,
        extensions: Mapping[str, Json] = MappingProxyType({}),
        timeout: int = 300,
        url: str = "",
        registry: Registry = KNOWN,
        settlement: SettlementPolicy | None = None,
        patience: float = 30.0,
        clock: Callable[[], Millis] = now_millis,
        on_refund_due: Callable[[ReportRefundDue], object] | None = None,
    ) -> None:
        check_call(on_refund_due, "on_refund_due")
        self.timeout = whole(timeout, "timeout", EXPIRY_MARGIN, "seconds", "with fewer left no payment is taken")
        try:
            self.settle_mode = SettleMode(settle)
        except ValueError:
            raise LocalProtocolError("write 'after' or 'before'", field="settle") from None
        self.registry = registry
        self.signer: Signer | None = None if key is None else signer_of(key)
        self.facilitators = None if facilitator is None else Facilitators(facilitator, registry=registry)
        self.endpoints: dict[Network, Nodes] = {
            (network := registry.resolve(name)): nodes(value, network) for name, value in mapping(rpc, "rpc", RPC).items()
        }
        names = several(networks, "networks", '("base-sepolia",)')
        self.networks = tuple(dict.fromkeys((*map(registry.resolve, names), *self.endpoints)))
        self._check_settler(pay_to)
        self.pay_to: str = self._account if pay_to is None else pay_to
        self.ledger = ledger_of(ledger)
        self.ring = KeyRing.single(token_key) if isinstance(token_key, bytes) else token_key
        if not isinstance(self.ring, KeyRing | None):
            raise LocalProtocolError(
                f"write 32 or more secret bytes, or a KeyRing, not {type(token_key).__name__}", field="token_key"
            )
        self.token_lifetime = Seconds(whole(token_lifetime, "token_lifetime", 1, "seconds"))
        self.most_open = None if most_open is None else Amount(whole(most_open, "most_open", 0, "atomic units"))
        self.methods = None if methods is None else several(methods, "methods", '("eip3009",)')
        self.wallets = Wallets(
            factories=addresses(factories, "factories"),
            managers=addresses(managers, "managers"),
        )
        self.identifier_required = identifier_required
        self.attester = Attester(attest, timeout, clock)
        self.extensions = extensions
        if url:
            local(parse_origin, url, "url")
        elif sign_in:
            raise LocalProtocolError("signing in needs the public URL", field="url")
        self.sign_in = sign_in
        self.url = url.rstrip("/")
        self.clock = clock
        self.http = AsyncHttp()
        self.settler: Worker
        if self.facilitators is not None:
            policy = RemotePolicy(chain=bool(self.endpoints), prove=prove)
            self.settler = RemoteSettler(
                self.ledger,
                self.facilitators,
                self.http,
                endpoints=self.endpoints,
                policy=policy,
                clock=clock,
                patience=patience,
            )
        else:
            assert self.signer is not None
            self.settler = Settler(
                self.ledger, self.signer, self.endpoints, self.http, policy=settlement, clock=clock, patience=patience
            )
        self.settler.keep = max(self.settler.keep, 2 * self.token_lifetime)  # a token's payment is looked up while it lives
        asking = verify_table(clock)
        if self.facilitators is not None:
            asking |= facilitator_table(self.facilitators, clock, frozenset(self.endpoints))
        chain = chain_table(self.endpoints)
        self._table = {**chain, **{kind: _composed(finer, chain) for kind, finer in asking.items()}}
        self._kinds: dict[Network, Address] = {}
        self.performer = LedgerPerformer(self.ledger, clock)
        self._on_refund_due = on_refund_due
        self._sold: set[Sold] = set()
        self._proved: frozenset[Sold] = frozenset()

    def _check_settler(self, pay_to: str | None) -> None:
        """Refuse what nobody could settle, or nobody would be paid for."""
        if not self.networks:
            if self.facilitators is not None:
                raise LocalProtocolError('name at least one network, as ("base-sepolia",)', field="networks")
            raise LocalProtocolError(f"name at least one network and its node's URL: {RPC}", field="rpc")
        if self.facilitators is None:
            if self.signer is None:
                raise LocalProtocolError("who settles? give a key (is its variable not set?), or a facilitator", field="key")
            if missing := [network for network in self.networks if network not in self.endpoints]:
                raise LocalProtocolError(f"no node for {', '.join(missing)}", field="rpc")
        elif self.signer is not None:
            raise LocalProtocolError("the facilitator settles: it takes no key of yours", field="key")
        elif pay_to is None:
            raise LocalProtocolError("who is paid? the facilitator only settles", field="pay_to")
        if pay_to is not None and int(own_address(pay_to, "pay_to"), 16) == 0:
            raise LocalProtocolError("the zero address cannot be a payee", field="pay_to")

    @property
    def _account(self) -> Address:
        assert self.signer is not None
        return self.signer.address

    # ------------------------------------------------------------------------------------------------------------ terms

    def terms(
        self,
        prices: Prices,
        path: str,
        *,
        token_path: str = "/token",
        description: str = "",
        mime_type: str = "",
        scheme: str = "exact",
        tokens: bool = True,
    ) -> Terms:
        """Return what a path costs: a price on every network of this seller, on those you name, or offers of your own.

        ``scheme`` ``"upto"`` makes the price a ceiling, of which the handler says what it charges (``Settlement-Overrides``).
        Tokens bought for it, at ``token_path``, open this path and no other; without ``tokens`` none are sold.
        Raises: LocalProtocolError naming the argument.
        """
        offered = tuple(offer for price in each(prices) for offer in self._offered(price, scheme))
        if not self.wallets.managers and any(offer.method is Method.ERC7710 for offer in offered):
            raise LocalProtocolError("erc7710 is paid through a delegation manager: name those you trust", field="managers")
        if not tokens:
            offered = tuple(offer for offer in offered if offer.dialect is not Dialect.PERMIT_TOKEN)
        token = None
        if self.ring is not None and any(offer.dialect is Dialect.PERMIT_TOKEN for offer in offered):
            audience = self.url or "x402"
            endpoint = urlsplit(self.url).path + token_path
            token = TokenTerms(self.ring, audience, path, endpoint, self.token_lifetime, self.most_open)
        sold = {Sold(offer.network, offer.asset, offer.scheme, offer.method) for offer in offered}
        if unsettled := self._unsettled(sold):
            raise LocalProtocolError(f"no facilitator settles {unsettled}", field="prices")
        self._sold |= sold
        lasts = self.sign_in and all(offer.scheme == EXACT for offer in offered)  # what is metered is paid each time
        sponsored = any(offer.method is Method.PERMIT2 for offer in offered)
        return Terms(
            offered,
            Resource(self.url + path, description, mime_type),
            token,
            self.clock(),
            wallets=self.wallets,
            extensions={**(sponsoring.advertised() if sponsored else {}), **self.extensions},
            identifier_required=self.identifier_required,
            sign_in=SignInTerms(parse_origin(self.url), path) if lasts else None,
            forward=self.facilitators is not None,
            registry=self.registry,
        )

    def _offered(self, price: Price | PaymentOption | Offer, scheme: str) -> tuple[Offer, ...]:
        if isinstance(price, Offer):
            self._check(price)
            return (price,)
        option = price if isinstance(price, PaymentOption) else PaymentOption(price)
        networks = self.networks if option.network is None else (self.registry.resolve(option.network),)
        if unknown := [network for network in networks if network not in self.networks]:
            raise LocalProtocolError(f"a price is for {unknown[0]}, which this seller is not set up for", field="prices")
        pay_to = self.pay_to if option.pay_to is None else option.pay_to
        if int(own_address(pay_to, "pay_to"), 16) == 0:
            raise LocalProtocolError("the zero address cannot be a payee", field="pay_to")
        return tuple(
            offer for network in networks for offer in self._offers(option.price, network, option.scheme or scheme, pay_to)
        )

    def _offers(self, price: Price, network: Network, scheme: str, pay_to: str) -> tuple[Offer, ...]:
        """Return a price on one network in every dialect this seller can settle."""
        token = self.ring is not None and self.facilitators is None and scheme == EXACT
        spoken = DIALECTS if token else tuple(dialect for dialect in DIALECTS if dialect is not Dialect.PERMIT_TOKEN)
        account = self._kinds.get(network) if self.facilitators is not None else self._account
        if scheme == UPTO and account is None:
            raise LocalProtocolError("ask the facilitator who settles first: await seller.prepare()", field="scheme")
        return offers(
            price,
            network,
            pay_to,
            dialects=spoken,
            settle=self.settle_mode,
            timeout=self.timeout,
            spender=account,
            methods=self.methods,
            scheme=scheme,
            facilitator=account,
            registry=self.registry,
        )

    def _check(self, offer: Offer) -> None:
        """Refuse an offer that nobody here could settle: its payer would be served, and nobody paid."""
        if offer.network not in self.networks:
            raise LocalProtocolError(f"an offer is for {offer.network}, for which rpc names no node", field="prices")
        if self.facilitators is not None:
            if offer.dialect is Dialect.PERMIT_TOKEN:
                raise LocalProtocolError("facilitators do not settle the permit-token flow", field="prices")
            return
        if offer.method is Method.EIP2612 and (offer.spender or offer.pay_to) != self._account:
            raise LocalProtocolError(f"an offer's spender is not {self._account}, who settles here", field="prices")
        if offer.scheme == UPTO and offer.facilitator != self._account:
            raise LocalProtocolError(f"an offer's facilitator is not {self._account}, who settles here", field="prices")

    def _unsettled(self, sold: Iterable[Sold]) -> str:
        """Name what is sold and, as far as the facilitators have said, settled by none of them; "" where nothing is."""
        group = self.facilitators
        found = () if group is None else (each for each in sold if not group.settles(each.scheme, each.method, each.network))
        return ", ".join(sorted({f"{each.scheme} by {each.method} on {each.network}" for each in found}))

    async def prepare(self) -> None:
        """Ask the facilitators what they settle, in which version, and who does: needed before an ``upto`` price through one.

        Raises: LocalProtocolError when none of them settles on a network sold on, or what was priced; FacilitatorUnavailable
        when none answers.
        """
        if self.facilitators is None:
            return
        async with self._asking() as perform:
            said = await arun(supported_by(self.facilitators), perform)
        for network in self.networks:
            if not said.settles_on(network, self.registry):
                raise LocalProtocolError(f"the facilitator does not settle on {network}", field="facilitator")
            account = said.facilitator(network)
            if account is not None:
                self._kinds[network] = account
        if unsettled := self._unsettled(self._sold):
            raise LocalProtocolError(f"no facilitator settles {unsettled}", field="facilitator")

    async def prove(self) -> None:
        """Ask every node whether it serves the chain it should, and every asset sold for whether it is what we think.

        What is sold by Permit2 needs contracts, too: they have to be there.  The facilitators, where there are any, are asked
        what they settle.  Raises: LocalProtocolError listing what to change; ChainUnavailable, NodeError or
        FacilitatorUnavailable when one cannot be asked.
        """
        self._proved = frozenset(self._sold)
        await self.prepare()
        problems: list[str] = []
        for network, endpoint in self.endpoints.items():
            sold = [each for each in self._proved if each.network == network]
            assets = [asset for asset in self.registry.assets(network) if any(asset.address == each.asset for each in sold)]
            contracts = needs(sold, [asset.address for asset in assets])
            async with self._asking() as perform:
                told = await arun(prove_chain(endpoint, assets), perform)
                told = told or await arun(prove_code(endpoint, contracts), perform)
            problems += [f"{network}: {problem}" for problem in told]
        if problems:
            raise LocalProtocolError("; ".join(problems), field="rpc")
        if isinstance(self.settler, Settler):
            async with self._asking() as perform:
                await self.settler.look_for_gas(perform)

    @property
    def proved(self) -> bool:
        """True when nothing was priced since :meth:`prove` began."""
        return self._proved == self._sold

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AsyncPerform]:
        """Hold connections of their own for questions before the start, which may be asked in another event loop."""
        http = AsyncHttp()
        try:
            yield adispatch({**self.settler.performers(), **http.table})
        finally:
            with anyio.CancelScope(shield=True):
                await http.aclose()

    # -------------------------------------------------------------------------------------------------------- exchanges

    def server_exchange(self, terms: Terms) -> ServerExchange:
        """Return a fresh machine for one request."""
        return ServerExchange(terms, entropy=secrets.token_bytes(16))

    def token_exchange(self, terms: Terms) -> TokenExchange:
        """Return a fresh machine for one POST to the token endpoint."""
        return TokenExchange(terms, entropy=secrets.token_bytes(32))

    def driven(self, machine: Machine[Any, Any], event: Any) -> Steps:
        """Drive a machine, with everything translated down to leaves that an edge performs."""
        return translate(steps(machine, event, self.clock), self._table)

    async def on_ledger(self, command: Command[Any], held: Callable[[], Any]) -> Any:
        """Perform a ledger command, in a thread where the ledger blocks."""
        return await called(self.ledger, self.performer.perform, command, held)

    async def hold_claim(self, key: str, owner: str) -> None:
        """Extend a claim's lease for as long as this runs: beside a handler, so that a slow one is not run a second time."""
        pause = 1.0  # a settlement that took its time may have left little of the lease
        while True:
            await anyio.sleep(pause)
            pause = LEASE_MARGIN / 3000
            until = Millis(self.clock() + LEASE_MARGIN)
            try:
                await called(self.ledger, self.ledger.extend, key, owner, until)
            except LedgerUnavailable as error:  # the lease is long: there is time to try again
                _log.warning("a claim's lease could not be extended: %s", error)

    def refunding(self, key: str, *, served: bool = False) -> bool:
        """Say that a payment is being paid back: from now on it buys nothing, neither again nor by its token nor by signing in.

        True to one caller: pay the money back. False: do not; it has not arrived, is paid back already, or was served
        since. Where it may be served this very moment, or its server died while it did, it is False until the claim's
        lease ends, a minute after the permit does: ask again then. ``served`` pays back, too, what was served. ``key`` is
        that of :class:`~x402core.commands.ReportRefundDue` or of an entry of the ledger, which is written to in this
        thread. Raises: LedgerUnavailable; the ledger's entries then say whether the claim is ``refunded``.
        """
        return self.ledger.refund(key, now=self.clock(), served=served)

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

    def forked(self) -> object:
        """Have a forked child forget its parent's work and connections; return them, to be kept as long as the process."""
        return (self.settler.forked(), self.http.forked())

    async def aclose(self) -> None:
        """Let go of connections and the ledger."""
        await self.http.aclose()
        self.ledger.close()


def _composed(finer: Finer, table: Mapping[type[Command[Any]], Finer]) -> Finer:
    """Return what translates a command by ``finer``, and what that asks by ``table``."""
    return lambda command: translate(finer(command), table)
