"""Who speaks with whom: rows of client, server, facilitator, version and method, each run and checked by balances.

A place of a row is a name in ``CLIENTS``, ``SERVERS``, ``FACILITATORS`` or ``PAYERS``: to put another there, enter its factory.
The parties of a :class:`Town` are started once, when a row first needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, Self

from tests.chains import PERMIT2, USDC
from tests.peers.official import FACILITATOR, NETWORK, Bought, OfficialClient, OfficialFacilitator, OfficialServer
from tests.peers.v1_stub import V1Stub
from tests.shop import FUNDS, PRICE, RELAYER, Ground, Payer, until
from x402bind.chain.devnet.keys import dev_accounts
from x402core.evm.abi import encode_call
from x402core.evm.digests import EXACT_PROXY, UPTO_PROXY
from x402core.values import Address

CHARGE = 4_000
BASE_SEPOLIA_V1 = "base-sepolia"
SETTLERS = {"official": FACILITATOR, "ours": RELAYER, "self": dev_accounts()[7]}
"""Who sends the transactions of a row, by its facilitator, and gets no money; "self" is a server that settles itself."""
PAYMENTS = {2: "payment-signature", 1: "x-payment"}
SPONSORINGS = {
    "eip2612": ("eip2612GasSponsoring", "signature"),
    "approval": ("erc20ApprovalGasSponsoring", "signedTransaction"),
}
"""The extension of each sponsoring, and a member of it that a client alone writes."""
CALLED = {"eip3009": USDC, "eip2612": USDC, "permit2": EXACT_PROXY, "upto": UPTO_PROXY}
"""What contract moves the money, by method."""


# ------------------------------------------------------------------------------------------------------ rows


@dataclass(frozen=True, slots=True)
class Row:
    """One case: who pays whom through whom, in which version, by which method (eip3009, permit2, upto and their variants).

    ``payer`` is what kind of account pays: one of a key (eoa), or a contract.
    """

    client: str
    server: str
    facilitator: str
    version: int
    method: str
    payer: str = "eoa"

    def __str__(self) -> str:
        payer = "" if self.payer == "eoa" else f"-{self.payer}"
        return f"{self.client}-{self.server}-{self.facilitator}-v{self.version}-{self.method}{payer}"

    @property
    def path(self) -> str:
        """Return what is bought; official clients prefer v2 where both are offered, so version 1 has a path of its own."""
        if self.method == "upto-zero":
            return "/upto?charge=0"
        return f"/{self.method}-v1" if self.version == 1 and self.client.startswith("official") else f"/{self.method}"

    @property
    def price(self) -> int:
        """Return the atomic units that have to change hands."""
        if self.method == "upto-zero":
            return 0
        return CHARGE if self.method.startswith("upto") else PRICE

    @property
    def cost(self) -> int:
        """Return what the payer has to reckon with: all of a permit that nothing was settled of, as it is still good."""
        return self.price or PRICE

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
    """A server that sells ``/<method>`` for PRICE to ``pay_to``; its upto paths charge CHARGE, or what the query says."""

    pay_to: Address

    @property
    def runs(self) -> int:
        """How often it has served what is to be paid for."""

    def url(self, path: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Purchase:
    """What a client is told to do; ``official_buy`` is how, if it is an official one."""

    url: str
    payer: Payer
    ground: Ground
    row: Row
    official_buy: Callable[..., Bought]


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
    how = {"version": purchase.row.version, "method": method, "rpc": rpc}
    return purchase.official_buy(purchase.url, purchase.payer.key, kind, **how)


def approve_permit2(ground: Ground, payer: Payer) -> None:
    """Have a payer let Permit2 move all of its tokens."""
    ground.rpc("anvil_setBalance", payer.address, hex(10**18))
    ground.rpc.must(payer.key, USDC, encode_call("approve(address,uint256)", PERMIT2, 2**256 - 1), gas=200_000)


def account(ground: Ground, row: Row) -> Payer:
    """Return a new payer; one who pays by Permit2 has approved it, or has ether where it sends an approval itself."""
    payer = ground.payer()
    if row.approved:
        approve_permit2(ground, payer)
    elif row.method.endswith("-approval"):
        ground.rpc("anvil_setBalance", payer.address, hex(10**18))
    return payer


PAYERS: dict[str, Callable[[Ground, Row], Payer]] = {"eoa": account}


class Town:
    """The parties on one chain, each started when first asked for and stopped with the context."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._stack = ExitStack()
        self._facilitators: dict[str, FacilitatorParty] = {}
        self._servers: dict[tuple[str, str], ServerParty] = {}
        self._official: OfficialClient | None = None

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

    def official_buy(self, *what: Any, **how: Any) -> Bought:
        """Buy with the official client, all of them in one process."""
        if self._official is None:
            self._official = self._stack.enter_context(OfficialClient())
        return self._official.buy(*what, **how)

    # -------------------------------------------------------------------------------------------------- one row

    def run(self, row: Row) -> Bought:
        """Buy once, and prove it by the receipt, the chain's own receipt, what everybody has afterwards, and one serving."""
        facilitator, server = self.facilitator(row.facilitator), self.server(row.server, row.facilitator)
        payer = PAYERS[row.payer](self.ground, row)
        before, served = self.money(server), server.runs
        try:
            bought = CLIENTS[row.client](Purchase(server.url(row.path), payer, self.ground, row, self.official_buy))
            assert (bought.error, bought.status) == (None, 200), bought
            if row.price:
                until(lambda: self.money(server) != before)
            self.check_sent(row, bought)
            self.check_receipt(row, payer, bought)
            self.check_money(row, payer, server, before)
            assert server.runs == served + 1, "the handler has not run exactly once"
            assert bought.cost in (None, row.cost), bought
        except BaseException as failure:
            failure.add_note(f"{server.log}\n{facilitator.log}")
            raise
        return bought

    def money(self, server: ServerParty) -> tuple[int, ...]:
        """Return what the payee and all who settle have."""
        return tuple(map(self.ground.balance, (server.pay_to, *SETTLERS.values())))

    def check_sent(self, row: Row, bought: Bought) -> None:
        """Demand that the payment was of the row's version, scheme, method and flow, sponsored as it says."""
        way, _, how = row.method.partition("-")
        sent: dict[str, Any] = bought.sent
        assert (bought.sent_header, sent["x402Version"]) == (PAYMENTS[row.version], row.version), sent
        accepted = sent if row.version == 1 else sent["accepted"]
        extra = accepted.get("extra", {})
        assert accepted["scheme"] == ("upto" if way == "upto" else "exact"), sent
        assert extra.get("assetTransferMethod", "eip3009") == ("permit2" if way == "upto" else way), sent
        assert extra.get("paymentFlow", "authorization") == ("upfront" if how == "upfront" else "authorization"), sent
        extensions = sent.get("extensions", {})
        for name, (key, member) in SPONSORINGS.items():
            assert (member in extensions.get(key, {}).get("info", {})) == (how == name), sent

    def check_receipt(self, row: Row, payer: Payer, bought: Bought) -> None:
        header, network = ("payment-response", NETWORK) if row.version == 2 else ("x-payment-response", BASE_SEPOLIA_V1)
        receipt: dict[str, Any] = bought.receipt
        assert (bought.receipt_header, receipt["success"], receipt["network"]) == (header, True, network), receipt
        assert receipt["payer"].lower() == payer.address, receipt
        assert receipt.get("amount", str(row.price)) == str(row.price), receipt
        if row.price:
            mined = self.ground.rpc("eth_getTransactionReceipt", receipt["transaction"])
            assert (mined["status"], mined["from"]) == ("0x1", SETTLERS[row.facilitator]), mined
            assert mined["to"] == CALLED.get(row.method.partition("-")[0], mined["to"]), mined
        else:
            assert (receipt["transaction"], receipt["amount"]) == ("", "0"), receipt

    def check_money(self, row: Row, payer: Payer, server: ServerParty, before: tuple[int, ...]) -> None:
        after = self.ground.balance(payer.address), *self.money(server)
        assert after == (FUNDS - row.price, before[0] + row.price, *before[1:]), after
