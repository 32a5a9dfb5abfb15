"""Who speaks with whom: rows of client, server, facilitator, version and method, each run and checked by balances.

A place of a row is a name in ``CLIENTS``, ``SERVERS`` or ``FACILITATORS``: to put another there, enter its factory.  The
parties of a :class:`Town` are started once, when a row first needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, Self

from tests.chains import PERMIT2, USDC
from tests.peers.official import FACILITATOR, NETWORK, Bought, OfficialFacilitator, OfficialServer, official_buy
from tests.peers.v1_stub import V1Stub
from tests.shop import FUNDS, PRICE, Ground, Payer, until
from x402core.evm.abi import encode_call
from x402core.values import Address

CHARGE = 4_000
BASE_SEPOLIA_V1 = "base-sepolia"


# ------------------------------------------------------------------------------------------------------ rows


@dataclass(frozen=True, slots=True)
class Row:
    """One case: who pays whom through whom, in which version, by which method (eip3009, permit2, upto and their variants)."""

    client: str
    server: str
    facilitator: str
    version: int
    method: str

    def __str__(self) -> str:
        return f"{self.client}-{self.server}-{self.facilitator}-v{self.version}-{self.method}"

    @property
    def price(self) -> int:
        """Return the atomic units that have to change hands."""
        return CHARGE if self.method.startswith("upto") else PRICE

    @property
    def approved(self) -> bool:
        """Whether the payer has to have approved Permit2 beforehand: a sponsored one has not, and others do not need it."""
        return self.method.partition("-")[0] in ("permit2", "upto") and not self.sponsored

    @property
    def sponsored(self) -> bool:
        return self.method.endswith(("-eip2612", "-approval"))


# ------------------------------------------------------------------------------------------------------ parties


class Party(Protocol):
    """Whatever runs: ``log`` is read when a row fails."""

    @property
    def log(self) -> str: ...


class FacilitatorParty(Party, Protocol):
    """A facilitator at ``url``."""

    @property
    def url(self) -> str: ...


class ServerParty(Party, Protocol):
    """A server that sells ``/<method>`` for PRICE to ``pay_to``; its upto paths charge CHARGE."""

    pay_to: Address

    def url(self, path: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Purchase:
    """What a client is told to do."""

    url: str
    payer: Payer
    ground: Ground
    row: Row


FACILITATORS: dict[str, Callable[[Ground], AbstractContextManager[FacilitatorParty]]] = {
    "official": OfficialFacilitator,
}
SERVERS: dict[str, Callable[[Ground, str], AbstractContextManager[ServerParty]]] = {
    "official-fastapi": lambda _, facilitator: OfficialServer(facilitator, "fastapi"),
    "official-flask": lambda _, facilitator: OfficialServer(facilitator, "flask"),
    "stub": lambda _, facilitator: V1Stub(facilitator),
}
CLIENTS: dict[str, Callable[[Purchase], Bought]] = {
    "official-httpx": lambda purchase: _official(purchase, "httpx"),
    "official-requests": lambda purchase: _official(purchase, "requests"),
}


def _official(purchase: Purchase, kind: str) -> Bought:
    rpc = purchase.ground.url if purchase.row.sponsored else None
    method = purchase.row.method.partition("-")[0]
    return official_buy(purchase.url, purchase.payer.key, kind, version=purchase.row.version, method=method, rpc=rpc)


def approve_permit2(ground: Ground, payer: Payer) -> None:
    """Have a payer let Permit2 move all of its tokens."""
    ground.rpc("anvil_setBalance", payer.address, hex(10**18))
    ground.rpc.must(payer.key, USDC, encode_call("approve(address,uint256)", PERMIT2, 2**256 - 1), gas=200_000)


class Town:
    """The parties on one chain, each started when first asked for and stopped with the context."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._stack = ExitStack()
        self._facilitators: dict[str, FacilitatorParty] = {}
        self._servers: dict[tuple[str, str], ServerParty] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def facilitator(self, name: str) -> FacilitatorParty:
        if name not in self._facilitators:
            self._facilitators[name] = self._stack.enter_context(FACILITATORS[name](self.ground))
        return self._facilitators[name]

    def server(self, name: str, facilitator: str) -> ServerParty:
        url = self.facilitator(facilitator).url
        if (name, facilitator) not in self._servers:
            self._servers[name, facilitator] = self._stack.enter_context(SERVERS[name](self.ground, url))
        return self._servers[name, facilitator]

    # -------------------------------------------------------------------------------------------------- one row

    def run(self, row: Row) -> Bought:
        """Buy once, and prove it by the receipt, by the chain's own receipt and by what everybody has afterwards."""
        facilitator, server = self.facilitator(row.facilitator), self.server(row.server, row.facilitator)
        payer = self.payer(row)
        before = self.ground.balance(server.pay_to), self.ground.balance(FACILITATOR)
        try:
            bought = CLIENTS[row.client](Purchase(server.url(f"/{row.method}"), payer, self.ground, row))
            assert (bought.error, bought.status) == (None, 200), bought
            until(lambda: self.ground.balance(server.pay_to) != before[0])
            self.check_receipt(row, payer, bought)
            self.check_money(row, payer, server, before)
        except BaseException as failure:
            failure.add_note(f"{server.log}\n{facilitator.log}")
            raise
        return bought

    def payer(self, row: Row) -> Payer:
        """Return a new payer; one who pays by Permit2 has approved it, or has ether where it sends an approval itself."""
        payer = self.ground.payer()
        if row.approved:
            approve_permit2(self.ground, payer)
        elif row.method.endswith("-approval"):
            self.ground.rpc("anvil_setBalance", payer.address, hex(10**18))
        return payer

    def check_receipt(self, row: Row, payer: Payer, bought: Bought) -> None:
        header, network = ("payment-response", NETWORK) if row.version == 2 else ("x-payment-response", BASE_SEPOLIA_V1)
        receipt: dict[str, Any] = bought.receipt
        assert (bought.receipt_header, receipt["success"], receipt["network"]) == (header, True, network), receipt
        assert receipt["payer"].lower() == payer.address, receipt
        assert receipt.get("amount", str(row.price)) == str(row.price), receipt
        assert self.ground.rpc("eth_getTransactionReceipt", receipt["transaction"])["status"] == "0x1", receipt

    def check_money(self, row: Row, payer: Payer, server: ServerParty, before: tuple[int, int]) -> None:
        balance = self.ground.balance
        after = balance(payer.address), balance(server.pay_to) - before[0], balance(FACILITATOR) - before[1]
        assert after == (FUNDS - row.price, row.price, 0), after
