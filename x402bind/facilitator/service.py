"""A facilitator, put together once: which chains, through which account and ledger, for whom.

Configuration and wiring, no protocol: it builds exchanges (``x402core.machines.facilitator``) and performs their commands.
Misconfiguration is refused here, with the argument's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

from x402bind.arguments import addresses, mapping, several
from x402bind.chain.nodes import RPC, Nodes, NodesLike, nodes
from x402bind.chain.signers import Signer, signer_of
from x402bind.chain.transports import AsyncHttp
from x402bind.drive import adispatch, arun
from x402bind.ledger import ledger_of
from x402bind.ledger.contract import Ledger
from x402bind.ledger.threads import called
from x402bind.settler import Settler, now_millis
from x402bind.translate.chain import chain_table, prove_chain
from x402bind.translate.ledger import LEDGER_COMMANDS, LedgerPerformer
from x402bind.translate.verify import verify_table
from x402core.commands import AdmitPayer, AwaitSettlement, Command, Respond, SettlePayment
from x402core.errors import LocalProtocolError, Reply
from x402core.events import FacilitatorRequest
from x402core.machines.facilitator import FacilitatorExchange
from x402core.machines.machine import Trace, steps, translate
from x402core.machines.settlement import SettlementPolicy
from x402core.policy import FacilitatorTerms
from x402core.registry import KNOWN, Asset, Registry
from x402core.schemes.wallets import Wallets
from x402core.values import Address, Millis, Network, local, parse_address
from x402core.wire.facilitator import encode_supported

from .quota import Quota, QuotaBook

__all__ = ["Facilitator"]


class Facilitator:
    """Settle other sellers' payments on the networks of ``rpc``, through ``key``'s account, which pays for the gas.

    * ``assets``: allow-list of tokens, as ``"usdc"`` on every network or ``"eip155:84532/0x..."``; default: those the registry
      knows on these networks.  ``assets=None`` settles any token.
    * ``payees``: allow-list of payees (default: anybody).
    * ``factories``: contracts that may deploy a payer's wallet at our expense (default: none).
    * ``managers``: delegation managers (ERC-7710) through which payers may pay, of the MetaMask Delegation Framework's format
      (default: none); its nodes have to take state overrides in ``eth_call``.
    * ``quota``: how often one payer may be settled for.
    * ``code``, ``service``: our ERC-8021 attribution codes.
    * ``patience``: seconds a request waits for its settlement before it is answered ``settlement_pending``; keep it below what
      those who ask wait for an answer (ours: 30 s).

    Raises: LocalProtocolError naming the argument.
    """

    def __init__(
        self,
        *,
        key: str | bytes | Signer,
        rpc: Mapping[str, NodesLike],
        ledger: str | Ledger,
        assets: Iterable[str] | None = ("known",),
        payees: Iterable[str] | None = None,
        factories: Iterable[str] = (),
        managers: Iterable[str] = (),
        quota: Quota | None = None,
        code: str = "",
        service: str = "",
        registry: Registry = KNOWN,
        settlement: SettlementPolicy | None = None,
        patience: float = 20.0,
        clock: Callable[[], Millis] = now_millis,
    ) -> None:
        if not mapping(rpc, "rpc", RPC):
            raise LocalProtocolError(f"name at least one network and its node's URL: {RPC}", field="rpc")
        self.registry = registry
        self.signer = signer_of(key)
        self.endpoints: dict[Network, Nodes] = {
            (network := registry.resolve(name)): nodes(value, network) for name, value in rpc.items()
        }
        assets = None if assets is None else several(assets, "assets", '("usdc",)')
        allowed = None if assets is None else self._allowed(assets)
        self.named = self._allowed(tuple(name for name in assets or () if name != "known"))
        self.terms = FacilitatorTerms(
            accounts=dict.fromkeys(self.endpoints, self.signer.address),
            assets=None if allowed is None else frozenset((asset.network, asset.address) for asset in allowed),
            payees=None if payees is None else addresses(payees, "payees"),
            wallets=Wallets(
                factories=addresses(factories, "factories"),
                managers=addresses(managers, "managers"),
            ),
            code=code,
            service=service,
            registry=registry,
        )
        self.clock = clock
        self.ledger = ledger_of(ledger)
        self.http = AsyncHttp()
        self.settler = Settler(
            self.ledger, self.signer, self.endpoints, self.http, policy=settlement, clock=clock, patience=patience
        )
        self._ledger = LedgerPerformer(self.ledger, clock)
        self._quota = QuotaBook(quota or Quota(), clock, self.terms.wallets.managers)
        self._verify = verify_table(clock, any_asset=allowed is None)
        self._chain = chain_table(self.endpoints)
        self._perform = adispatch(
            {
                **self.http.table,
                **dict.fromkeys(LEDGER_COMMANDS, self._on_ledger),
                SettlePayment: self.settler.settle,
                AwaitSettlement: self.settler.wait,
                AdmitPayer: self._quota.admit,
            }
        )

    def _allowed(self, named: tuple[str, ...]) -> tuple[Asset, ...]:
        found: list[Asset] = []
        for name in named:
            if name == "known":
                found += [asset for network in self.endpoints for asset in self.registry.assets(network)]
                continue
            network, _, address = name.partition("/")
            if address:
                asset = self.registry.asset(self.registry.resolve(network), local(parse_address, address, "assets"))
                if asset is None:
                    raise LocalProtocolError(f"{name} is not in the registry: add it with with_asset()", field="assets")
                found.append(asset)
            else:
                found += [self.registry.by_code(each, name, field="assets") for each in self.endpoints]
        return tuple(found)

    @property
    def address(self) -> Address:
        """The account that settles and pays for the gas."""
        return self.signer.address

    def supported(self) -> bytes:
        """Return the answer of ``GET /supported``."""
        return encode_supported(self.terms)

    async def prove(self) -> None:
        """Ask every node whether it serves the chain it should, and every asset that was named whether it is what we think.

        Raises: LocalProtocolError listing what to change; ChainUnavailable or NodeError when a node cannot be asked.
        """
        problems: list[str] = []
        for network, endpoint in self.endpoints.items():
            named = [asset for asset in self.named if asset.network == network]
            told = await arun(prove_chain(endpoint, named), adispatch(self.http.table))
            problems += [f"{network}: {problem}" for problem in told]
        if problems:
            raise LocalProtocolError("; ".join(problems), field="rpc")
        await self.settler.look_for_gas(adispatch(self.http.table))

    async def answer(self, request: FacilitatorRequest, trace: Trace | None = None) -> Reply:
        """Answer one POST to ``/verify`` or ``/settle``."""
        machine = FacilitatorExchange(self.terms, trace=trace)
        driven = translate(translate(steps(machine, request, self.clock), self._verify), self._chain)
        final = await arun(driven, self._perform)
        assert isinstance(final, Respond)
        assert final.reply is not None
        return final.reply

    async def on_ledger(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the ledger: in a thread where it blocks."""
        return await called(self.ledger, function, *args)

    async def _on_ledger(self, command: Command[Any]) -> Any:
        return await self.on_ledger(self._ledger.perform, command)

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
