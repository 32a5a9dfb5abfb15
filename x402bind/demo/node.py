"""The demo's own errands on a chain: deploy the token, mint, read balances.  Any node will do; the devnet is the default."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from x402bind.chain import rpc
from x402bind.chain.devnet.token import deploy_calldata, initialize_calldata
from x402bind.chain.errors import RpcError
from x402bind.chain.rpc import Endpoint
from x402bind.chain.signers import PrivateKeySigner
from x402bind.chain.transports import SyncHttp
from x402bind.drive import dispatch, run
from x402bind.translate.chain import broadcast, fees_and_number, get_receipts, read_chain
from x402core.commands import Broadcast, Command, GetReceipts, ReadChain, Sent, SignTransactions
from x402core.evm.abi import encode_call
from x402core.evm.address import create_address
from x402core.evm.transaction import Transaction, transaction_hash
from x402core.reads import BalanceOf, TxReceipt
from x402core.registry import KNOWN, Asset, NetworkInfo, Registry
from x402core.values import Address, Network, chain_id, eip155

__all__ = ["DemoFailed", "Node", "demo_registry"]

R = TypeVar("R")
_PATIENCE: Final = 60.0
NAME, VERSION, SYMBOL, DECIMALS = "Demo Dollar", "1", "DUSD", 6


class DemoFailed(Exception):
    """The demo cannot go on; the text says what to do about it."""


def demo_registry(network: Network, asset: Address) -> Registry:
    """Return the known networks and assets with the demo's own dollar as what "$" means on ``network``."""
    dollar = Asset(network, asset, SYMBOL.lower(), "$", NAME, VERSION, DECIMALS, ("eip3009", "eip2612"))
    registry = KNOWN
    if network not in {info.network for info in KNOWN.networks()}:
        registry = registry.with_network(NetworkInfo(network, f"chain {chain_id(network)}", None, True, None))
    return registry.with_asset(dollar, default=True, default_for_symbol=True)


@dataclass(frozen=True, slots=True)
class Node:
    """A node, and an account on it that pays for gas."""

    endpoint: Endpoint
    signer: PrivateKeySigner
    http: SyncHttp

    @classmethod
    def at(cls, url: str, key: str) -> Node:
        """Return the node at a URL, having asked which chain it is.  Raises: DemoFailed when it does not answer."""
        http = SyncHttp()
        signer = PrivateKeySigner(key)
        try:
            asked = run(rpc.call(Endpoint(url, eip155(1)), "eth_chainId"), dispatch(http.table))
            return cls(Endpoint(url, eip155(rpc.quantity(asked, "chain id"))), signer, http)
        except RpcError as error:
            raise DemoFailed(f"the node does not answer: {error}") from None

    @property
    def network(self) -> Network:
        """The node's chain."""
        return self.endpoint.network

    def do(self, errand: Generator[Command[Any], Any, R]) -> R:
        """Run a translator against this node."""
        return run(errand, dispatch(self.http.table))

    def send(self, to: Address | None, data: bytes, gas: int) -> TxReceipt:
        """Send one transaction and wait for it.  Raises: DemoFailed."""
        view = self.do(fees_and_number(self.endpoint, self.signer.address))
        tx = Transaction(chain_id(self.network), view.pending_number, view.max_priority_fee, view.max_fee, gas, to, 0, data)
        (signature,) = self.signer.sign(SignTransactions(self.network, (tx,)))
        raw = tx.sign_with(signature)
        sent = self.do(broadcast(Broadcast(self.network, (raw,)), self.endpoint))
        if sent in (Sent.REJECTED, Sent.NUMBER_TAKEN):
            raise DemoFailed(f"the node refused a transaction of {self.signer.address}: has that account money for gas?")
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            (receipt,) = self.do(get_receipts(GetReceipts(self.network, (transaction_hash(raw),)), self.endpoint)).receipts
            if receipt is not None:
                if not receipt.ok:
                    raise DemoFailed(f"transaction {receipt.transaction} failed on the chain")
                return receipt
            time.sleep(0.05)
        raise DemoFailed(f"a transaction was not mined within {_PATIENCE:.0f} seconds")

    def deploy_dollar(self, payer: Address, amount: int) -> Address:
        """Deploy the demo's dollar and mint ``amount`` atomic units to ``payer``; return its address."""
        number = self.do(fees_and_number(self.endpoint, self.signer.address)).pending_number
        self.send(None, deploy_calldata(), 3_000_000)
        dollar = create_address(self.signer.address, number)
        self.send(dollar, initialize_calldata(NAME, VERSION, SYMBOL, DECIMALS, self.signer.address), 500_000)
        self.send(dollar, encode_call("mint(address,uint256)", payer, amount), 200_000)
        return dollar

    def balances(self, asset: Address, payer: Address, pay_to: Address) -> dict[str, int]:
        """Return both balances in atomic units, read at one block."""
        reads = (BalanceOf(asset, payer), BalanceOf(asset, pay_to))
        facts = self.do(read_chain(ReadChain(self.network, reads), self.endpoint))
        return {"payer": facts.of(reads[0]), "pay_to": facts.of(reads[1])}
