"""EVM chains: x402-mock's adapter over the core's judge, schemes and settlement.

Usable alone, as a facilitator of one's own: :meth:`EVMAdapter.settle` judges a permit, journals it in ``ledger`` and moves the
money.  Inside an ``Http402Server`` it settles through the server's journal (:meth:`attach`), so that numbers and permits are
counted once.  A node's trouble is said to be that, never a payer's fault (A13).  A key is asked for when one is needed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from x402bind.chain.errors import RpcError
from x402bind.chain.nodes import Nodes, nodes
from x402bind.chain.signers import PrivateKeySigner, Signer
from x402bind.chain.transports import AsyncHttp
from x402bind.compat.x402_mock.adapters.bases import AdapterFactory
from x402bind.compat.x402_mock.errors import PaymentMethodError
from x402bind.compat.x402_mock.schemas.bases import TransactionStatus, VerificationStatus
from x402bind.compat.x402_mock.settings import Settings
from x402bind.drive import adispatch, arun
from x402bind.ledger import open_ledger
from x402bind.ledger.contract import Ledger
from x402bind.settler import Settler
from x402bind.translate.chain import chain_table
from x402bind.translate.verify import verify
from x402bind.worker import now_millis
from x402core.commands import AwaitSettlement, ReadChain, SettlePayment, SignTypedData, VerifyPayment
from x402core.errors import LocalProtocolError, Reason, Refusal
from x402core.events import Offer, Pending, Settlement
from x402core.evm.address import checksum
from x402core.machines.machine import ask, translate
from x402core.reads import BalanceOf, Facts
from x402core.registry import KNOWN, Asset, Registry
from x402core.schemes import of
from x402core.schemes.judge import Checked, Verified, check
from x402core.values import Address, Hash32, Network, Seconds, local, parse_address, seconds

from . import constants, methods
from .schemas import EVMPaymentComponent, EVMTransactionConfirmation, EVMVerificationResult

__all__ = ["EVMAdapter"]

_VALIDITY: Final = 600


class EVMAdapter(AdapterFactory):
    """Sign, verify and settle on EVM chains, with one key (default: ``EVM_PRIVATE_KEY``, looked for when it is needed).

    ``rpc_url`` is the node of chains for which a component names none.  ``ledger`` remembers settlements of this adapter used
    alone (``"memory:"`` forgets them on exit).
    """

    def __init__(
        self,
        private_key: str | bytes | Signer | None = None,
        rpc_url: str | None = None,
        request_timeout: float = 60,
        *,
        ledger: str | Ledger = "memory:",
        registry: Registry = KNOWN,
    ) -> None:
        self._key = private_key
        self._signer: Signer | None = None
        self._rpc_url = rpc_url
        self._urls: dict[Network, str] = {}
        self._ledger = ledger
        self._http = AsyncHttp()
        self.settler: Settler | None = None  # a server's, once attached
        self.request_timeout = request_timeout
        self.registry = registry
        self.offers: list[Offer] = []

    # ------------------------------------------------------------------------------------------------------ the wallet

    @property
    def signer(self) -> Signer:
        """The wallet.  Raises: LocalProtocolError(field="evm_private_key") when there is none."""
        if self._signer is None:
            key = self._key or Settings.of(os.environ).private_key
            if key is None:
                raise LocalProtocolError("give a key, or set EVM_PRIVATE_KEY (load_env reads a .env)", field="evm_private_key")
            try:
                self._signer = PrivateKeySigner(key) if isinstance(key, str | bytes) else key
            except LocalProtocolError:
                raise LocalProtocolError("not a private key: 64 hex digits", field="evm_private_key") from None
        return self._signer

    @property
    def wallet_address(self) -> str:
        """The wallet's address."""
        return checksum(self.signer.address)

    def get_wallet_address(self) -> str:
        """Return the wallet's address."""
        return self.wallet_address

    # ---------------------------------------------------------------------------------------------------------- set-up

    def add(self, component: EVMPaymentComponent, *, client_role: bool) -> EVMPaymentComponent:
        """Take a component in: know its token, its node and, for a seller, what it asks for; return it completed.

        Raises: LocalProtocolError naming the field.
        """
        asset = methods.asset_of(component, self.registry)
        if self.registry.asset(asset.network, asset.address) is None:
            self.registry = self.registry.with_asset(asset)
        self._name_node(asset.network, component.rpc_url)
        if client_role:
            methods.cap_of(component, asset)
            return methods.completed(component, asset, pay_to=component.pay_to, wallet=None)
        account = self._account(component)
        offers = methods.offers_of(component, asset, account, timeout=_VALIDITY, registry=self.registry)
        self.offers += [offer for offer in offers if offer not in self.offers]
        pay_to = checksum(offers[0].pay_to)
        return methods.completed(component, asset, pay_to=pay_to, wallet=checksum(account))

    def _account(self, component: EVMPaymentComponent) -> Address:
        """Return who settles; for an adapter without a key, that can only verify, whoever is paid."""
        keyless = self._signer is None and self._key is None and Settings.of(os.environ).private_key is None
        if keyless and component.pay_to is not None:
            return local(parse_address, component.pay_to, "pay_to")
        return self.signer.address

    def _name_node(self, network: Network, url: str | None) -> None:
        if url and self._urls.get(network, url) != url:
            raise LocalProtocolError(f"another node was named for {network} before", field="rpc_url")
        if url:
            self._urls[network] = url
        elif network not in self._urls and self._rpc_url:
            self._urls[network] = self._rpc_url

    def asset(self, component: EVMPaymentComponent) -> Asset:
        """Return a component's token."""
        return methods.asset_of(component, self.registry)

    def rpc(self, networks: Iterable[Network]) -> dict[str, str]:
        """Return a node's URL for each of these networks.  Raises: LocalProtocolError(field="rpc_url")."""
        settings = Settings.of(os.environ)
        return {each: self._urls.get(each) or constants.node_url(each, settings) for each in networks}

    def attach(self, settler: Settler) -> None:
        """Settle through a server's journal from now on."""
        self.settler = settler

    # ----------------------------------------------------------------------------------------------------------- chain

    def _nodes(self, network: Network) -> Nodes:
        return nodes(self.rpc([network])[network], network)

    async def _read(self, command: ReadChain) -> Facts:
        asked = translate(ask(command), chain_table({command.network: self._nodes(command.network)}))
        facts: Facts = await arun(asked, adispatch(self._http.table))
        return facts

    async def get_balance(self, address: str, token_address: str | None = None, *, network: str | None = None) -> int:
        """Return an account's atomic units of a token we were told of.  Raises: LocalProtocolError, RpcError."""
        offered = [offer for offer in self.offers if network in (None, offer.network)]
        if token_address is None and not offered:
            raise LocalProtocolError("name a token", field="token_address")
        token = offered[0].asset if token_address is None else local(parse_address, token_address, "token_address")
        chains = [offer.network for offer in offered if offer.asset == token]
        where = Network(network) if network is not None else chains[0] if chains else None
        if where is None:
            raise LocalProtocolError("name the network", field="network")
        read = BalanceOf(token, local(parse_address, address, "address"))
        return (await self._read(ReadChain(where, (read,)))).of(read)

    # ------------------------------------------------------------------------------------------------------------ sign

    async def signature(self, payment_component: EVMPaymentComponent | dict[str, Any]) -> Any:
        """Return a signed permit for a server's component, as it stands: caps are the hub's to check.

        Raises: RemoteProtocolError for a malformed component; RpcError when a node that must be asked does not answer.
        """
        return await self.sign(methods.challenge_of([payment_component]).offers[0])

    async def sign(self, offer: Offer) -> Any:
        """Return a signed permit for an offer, as a model."""
        asset = self.registry.asset(offer.network, offer.asset)
        if asset is None or (asset.name, asset.version) != (offer.name, offer.version):
            raise LocalProtocolError("a permit is signed for a token we know, under its own name and version", field="token")
        scheme, payer = of(offer), self.signer.address
        needs = scheme.needs(offer, payer)
        facts = await self._read(ReadChain(offer.network, needs)) if needs else None
        now, nonce = seconds(now_millis()), Hash32("0x" + os.urandom(32).hex())
        unsigned = scheme.prepare(offer, payer, now=now, validity=Seconds(_VALIDITY), nonce=nonce, facts=facts)
        command = SignTypedData(payer, scheme.digest(unsigned, offer), scheme.typed_data(unsigned, offer))
        return methods.model_of(replace(unsigned, signature=self.signer.sign(command)))

    # ---------------------------------------------------------------------------------------------------------- verify

    def offer_for(self, permit: methods.Signed) -> Offer:
        """Return what a permit is to be judged by: chain, token and kind decide, never the payer's word alone (A4).

        Raises: PaymentMethodError when nothing registered fits.
        """
        asked = (permit.network, permit.asset, permit.method)
        for offer in self.offers:
            if (offer.network, offer.asset, offer.method) == asked:
                return offer
        raise PaymentMethodError(f"Payment component not registered for token: {checksum(permit.asset)} on {permit.network}")

    async def verify_signature(
        self, permit: Any, payment_requirement: EVMPaymentComponent | None = None
    ) -> EVMVerificationResult:
        """Judge a permit against what is asked and what its chain says; nothing is claimed.

        Raises: RemoteProtocolError, with a pointer, for what is no permit; PaymentMethodError for one nobody asked for.
        """
        read = methods.permit_of(permit)
        offer = self.offer_for(read) if payment_requirement is None else self._required(read, payment_requirement)
        try:
            verdict = await self._judge(read, offer)
        except RpcError:
            result = methods.refused(read, offer, Refusal(Reason.UNAVAILABLE, "the node did not answer"))
            assert result.status is VerificationStatus.BLOCKCHAIN_ERROR
            return result
        return methods.refused(read, offer, verdict) if isinstance(verdict, Refusal) else methods.verified(read, offer)

    def _required(self, permit: methods.Signed, component: EVMPaymentComponent) -> Offer:
        offers = methods.offers_of(
            component, self.asset(component), self._account(component), timeout=_VALIDITY, registry=self.registry
        )
        return next((offer for offer in offers if offer.method is permit.method), offers[0])

    async def _judge(self, permit: methods.Signed, offer: Offer) -> Verified | Refusal:
        checked = check(permit, offer)
        if not isinstance(checked, Checked):
            return checked
        judged = translate(verify(VerifyPayment(checked), now_millis), chain_table({offer.network: self._nodes(offer.network)}))
        verdict: Verified | Refusal = await arun(judged, adispatch(self._http.table))
        return verdict

    # ---------------------------------------------------------------------------------------------------------- settle

    async def settle(self, permit: Any) -> EVMTransactionConfirmation:
        """Move a permit's money, once however often it is asked, and say what became of it.

        On failure (an RpcError): nothing was sent.  Raises: as :meth:`verify_signature`.
        """
        read = methods.permit_of(permit)
        async with self._settling() as settler:
            outcome = await self._settled(read, settler)
        account = None if self._signer is None else self._signer.address
        if isinstance(outcome, EVMTransactionConfirmation):
            return outcome
        return methods.confirmation(read, outcome, account)

    async def _settled(self, permit: methods.Signed, settler: Settler) -> Settlement | EVMTransactionConfirmation:
        if await settler._call(settler.ledger.record, permit.key) is not None:
            release = getattr(settler, "release", None)
            if release is not None:
                release(permit.key)
            return await settler.wait(AwaitSettlement(permit.key))
        offer = self.offer_for(permit)
        verdict = await self._judge(permit, offer)
        if isinstance(verdict, Refusal):
            return EVMTransactionConfirmation(
                status=TransactionStatus.INVALID_TRANSACTION,
                tx_hash="",
                error_message=verdict.detail or str(verdict.reason),
                payer=checksum(permit.payer),
            )
        outcome = await settler.settle(SettlePayment(verdict))
        if isinstance(outcome, Pending) and await settler._call(settler.ledger.record, permit.key) is not None:
            return await settler.wait(AwaitSettlement(permit.key))  # another call of ours is at work on it
        return outcome

    @asynccontextmanager
    async def _settling(self) -> AsyncIterator[Settler]:
        """Have a settler run: the server's, else one of our own for as long as anybody settles."""
        if self.settler is not None and self.settler.works:
            yield self.settler
            return
        if isinstance(self._ledger, str):
            self._ledger = open_ledger(self._ledger)
        endpoints = {network: self._nodes(network) for network in dict.fromkeys(offer.network for offer in self.offers)}
        http = AsyncHttp()
        own = Settler(self._ledger, self.signer, endpoints, http)
        try:
            async with own.running():
                yield own
        finally:
            await http.aclose()

    def secrets(self) -> tuple[str, ...]:
        """Return what must be in no text that leaves: nodes' URLs, and the key as it was written."""
        settings = Settings.of(os.environ)
        written = [self._key, settings.private_key, settings.infura_key, settings.alchemy_key]
        texts = [each.hex() if isinstance(each, bytes) else each for each in written if isinstance(each, str | bytes)]
        return tuple(
            each for each in (self._rpc_url, *self._urls.values(), *(text.removeprefix("0x") for text in texts)) if each
        )

    async def aclose(self) -> None:
        """Let the connections to nodes go."""
        await self._http.aclose()
