"""Everybody with everybody, on anvil with Circle's own token and Uniswap's Permit2, one of ours in each row.

``python -m tests.peers.test_x402_matrix`` prints the rows and how many they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest

from tests.contracts import place_all
from tests.peers import matrix, ours, wallets
from tests.peers.matrix import Row, Town, account
from tests.peers.official import OfficialFacilitator, official_python
from tests.shop import FUNDS, NETWORK, PRICE, RELAYER, Ground, Payer, async_client, client, fresh, on_anvil, paid_for, until
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402core.events import Dialect, Offer
from x402core.evm.digests import EXACT_PROXY, UPTO_PROXY
from x402core.policy import offers
from x402core.values import Address
from x402core.wire.facilitator import encode_request

pytestmark = pytest.mark.peer

matrix.FACILITATORS |= {"ours": ours.OurFacilitator, "self": ours.Nobody}
matrix.SERVERS |= {"ours": ours.OurServer, "ours-proving": ours.OurProvingServer}
matrix.CLIENTS |= {"ours-httpx": ours.with_httpx, "ours-httpx-async": ours.with_httpx_async, "hand": wallets.by_hand}
matrix.PAYERS |= {
    "erc1271": wallets.erc1271,
    "erc1271-long": wallets.erc1271_long,
    "erc6492": wallets.erc6492,
    "erc7710": wallets.erc7710,
    "eip7702": wallets.eip7702,
}

OURS = ("ours-httpx", "ours-httpx-async")
OFFICIAL = ("official-httpx", "official-requests")
HOME = (("ours", "self"), ("ours", "ours"))
ABROAD = (("ours", "official"), ("official-fastapi", "ours"), ("official-flask", "ours"))
STRANGE = (("official-fastapi", "official"), ("official-flask", "official"))
EVERYWHERE = (*HOME, *ABROAD, *STRANGE)
SPONSORED = ("permit2-eip2612", "upto-eip2612")
APPROVED = ("permit2-approval", "upto-approval")
METHODS = ("eip3009", "eip3009-upfront", "permit2", "permit2-upfront", "upto", "upto-zero", *SPONSORED)


def everybody() -> Iterator[Row]:
    """What clients pay by themselves, in version 2; the official SDK with itself is the baseline's."""
    for method in METHODS:
        for server, facilitator in EVERYWHERE:
            yield from (Row(each, server, facilitator, 2, method) for each in OURS)
            if (server, facilitator) not in STRANGE:
                yield from (Row(each, server, facilitator, 2, method) for each in OFFICIAL)


def approvals() -> Iterator[Row]:
    """The payer's own approval, which our client does not sign."""
    for method in APPROVED:
        yield from (Row("hand", server, facilitator, 2, method) for server, facilitator in EVERYWHERE)
        yield from (Row(each, server, facilitator, 2, method) for each in OFFICIAL for server, facilitator in (*HOME, *ABROAD))


def version_1() -> Iterator[Row]:
    """The first version: nobody but us has a server for it, so a stub in plain terms stands in for theirs."""
    for server, facilitator in (*HOME, ("ours", "official"), ("stub", "ours")):
        yield from (Row(each, server, facilitator, 1, "eip3009") for each in (*OURS, *OFFICIAL))
    yield from (Row(each, "stub", "official", 1, "eip3009") for each in OURS)


def contracts() -> Iterator[Row]:
    """Payers that are contracts; the official facilitator deploys none, so that a wallet still to be made pays through ours."""
    for server, facilitator in EVERYWHERE[:5]:
        for method in ("eip3009", "permit2", "upto"):
            yield from (Row("ours-httpx", server, facilitator, 2, method, payer) for payer in ("erc1271", "eip7702"))
            yield Row("hand", server, facilitator, 2, method, "erc1271-long")
        yield Row("official-httpx", server, facilitator, 2, "eip3009", "eip7702")
        if facilitator != "official":
            yield Row("hand", server, facilitator, 2, "eip3009", "erc6492")
            yield Row("ours-httpx", server, facilitator, 2, "permit2-eip2612", "erc1271")
    for server, facilitator in (*HOME, ("stub", "ours")):
        yield from (Row("ours-httpx", server, facilitator, 1, "eip3009", payer) for payer in ("erc1271", "eip7702"))


def proved() -> Iterator[Row]:
    """A server of ours that believes no facilitator and asks the chain."""
    for facilitator in ("ours", "official"):
        for method in METHODS:
            yield from (Row(each, "ours-proving", facilitator, 2, method) for each in ("ours-httpx", "official-httpx"))
        yield from (Row("official-httpx", "ours-proving", facilitator, 2, method) for method in APPROVED)
        yield Row("official-requests", "ours-proving", facilitator, 1, "eip3009")
        yield Row("hand", "ours-proving", facilitator, 2, "eip3009", "erc1271-long")
    yield Row("hand", "ours-proving", "ours", 2, "eip3009", "erc6492")


def our_own() -> Iterator[Row]:
    """Methods that no official Python peer has."""
    for server, facilitator in HOME:
        yield from (Row(each, server, facilitator, 2, "eip2612") for each in OURS)
        yield Row("hand", server, facilitator, 2, "erc7710", "erc7710")


ROWS = (*everybody(), *approvals(), *version_1(), *contracts(), *proved(), *our_own())
assert len(set(map(str, ROWS))) == len(ROWS)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    official_python()
    with on_anvil() as ground, Town(ground) as town:
        place_all(ground.rpc)
        yield town


@pytest.mark.anvil
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_is_paid(town: Town, row: Row) -> None:
    town.run(row)


# ------------------------------------------------------------------------------------------------------ and what must not be

DIRECT = ("eip3009", "permit2", "upto", "eip2612")


@dataclass(frozen=True)
class Payment:
    """A payment as a server brings it to our facilitator."""

    payer: Payer
    offer: Offer
    body: bytes

    @classmethod
    def signed(cls, ground: Ground, method: str, settler: Address = RELAYER) -> Payment:
        scheme, moves = ("upto", "permit2") if method == "upto" else ("exact", method)
        how = {"spender": settler, "facilitator": settler, "methods": (moves,), "scheme": scheme}
        (offer,) = offers("$0.01", NETWORK, fresh().address, dialects=(Dialect.V2,), **how)
        payer = account(ground, Row("", "", "", 2, method))
        return cls(payer, offer, encode_request(payer.permit(offer, ground), offer))

    def settle(self, url: str) -> Any:
        answer = httpx.post(f"{url}/settle", content=self.body, timeout=60, verify=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def money(self, ground: Ground) -> tuple[int, int]:
        return ground.balance(self.payer.address), ground.balance(self.offer.pay_to)


@pytest.mark.anvil
@pytest.mark.parametrize("method", ["eip3009", "eip3009-upfront", "eip3009-v1", "permit2", "upto"])
@pytest.mark.parametrize("facilitator", ["self", "ours", "official"])
def test_replay_of_a_payment_gets_the_same_answer_and_is_charged_once(town: Town, facilitator: str, method: str) -> None:
    row = Row("ours-httpx", "ours", facilitator, 2, method)
    server, payer = town.server("ours", facilitator), account(town.ground, row)
    before, served = town.money(server), server.runs
    with client(payer.purse(town.ground)) as (http, wire):
        first = http.get(server.url(row.path))
        again = [wire.again(lambda sent: any(name in sent.headers for name in matrix.PAYMENTS.values())) for _ in range(2)]
    for each in again:
        assert (each.status_code, each.content, receipt(each)) == (200, first.content, receipt(first))
    assert server.runs == served + 1
    town.check_money(row, payer, server, before)


def receipt(response: httpx.Response) -> list[str]:
    return [response.headers[name] for name in ours.RECEIPTS if name in response.headers]


@pytest.mark.anvil
@pytest.mark.parametrize("method", DIRECT)
def test_replay_of_a_settle_posted_eight_times_at_once_is_one_transaction(town: Town, method: str) -> None:
    url, ground = town.facilitator("ours").url, town.ground
    payment = Payment.signed(ground, method)
    sent = ground.sent_by()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: payment.settle(url), range(8)))
    assert all(answer["success"] is True for answer in answers), answers
    assert len({answer["transaction"] for answer in answers}) == 1
    assert ground.sent_by() == sent + (2 if method == "eip2612" else 1)  # which takes a permit and a transfer
    assert payment.money(ground) == (FUNDS - PRICE, PRICE)


@pytest.mark.anvil
@pytest.mark.parametrize("method", DIRECT)
def test_hostile_an_empty_wallet_costs_us_no_transaction(town: Town, method: str) -> None:
    url, ground = town.facilitator("ours").url, town.ground
    payment = Payment.signed(ground, method)
    ground.drain(payment.payer)
    sent, height = ground.sent_by(tag="pending"), ground.rpc("eth_blockNumber")
    for _ in range(3):
        answer = payment.settle(url)
        assert (answer["success"], answer["transaction"]) == (False, ""), answer
        assert answer["errorReason"] in ("insufficient_funds", "permit2_insufficient_balance"), answer
    assert (ground.sent_by(tag="pending"), ground.rpc("eth_blockNumber")) == (sent, height)
    assert payment.money(ground) == (0, 0)


@pytest.mark.anvil
@pytest.mark.parametrize("method", ["eip3009", "permit2"])
def test_a_slow_chain_is_pending_with_the_hash_and_then_settled(town: Town, method: str) -> None:
    ground, settler = town.ground, dev_accounts()[3]
    with ours.OurFacilitator(ground, key=DEV_KEYS[3], patience=1.0) as facilitator:
        payment = Payment.signed(ground, method, settler)
        sent = ground.sent_by(settler)
        with ground.automine_off():
            slow = payment.settle(facilitator.url)
            assert (slow["success"], slow["errorReason"]) == (False, "settlement_pending"), slow
            assert payment.settle(facilitator.url) == slow
            assert payment.money(ground) == (FUNDS, 0)
        ground.rpc("evm_mine")
        answer = until(lambda: (now := payment.settle(facilitator.url))["success"] and now)
        assert answer["transaction"] == slow["transaction"]
        assert ground.rpc("eth_getTransactionReceipt", slow["transaction"])["status"] == "0x1"
        assert (ground.sent_by(settler), payment.money(ground)) == (sent + 1, (FUNDS - PRICE, PRICE))


@pytest.mark.anvil
@pytest.mark.parametrize("remote", [False, True])
def test_a_slow_chain_is_no_refusal_to_our_server_s_payer(town: Town, remote: bool) -> None:
    ground, payer = town.ground, town.ground.payer()
    with ExitStack() as stack:
        url, how = "", {"key": DEV_KEYS[3]}
        if remote:
            facilitator = ours.OurFacilitator(ground, key=DEV_KEYS[3], patience=0.2)
            url, how = stack.enter_context(facilitator).url, {}
        server = stack.enter_context(ours.OurServer(ground, url, patience=2.0, **how))
        paying, wire = stack.enter_context(client(payer.purse(ground, resend=0)))
        with ground.automine_off():
            slow = paying.get(server.url("/eip3009"))
            assert (slow.status_code, slow.json()["title"]) == (503, "settlement_pending"), slow.text
        ground.rpc("evm_mine")
        served = until(lambda: (now := wire.again(paid_for)).status_code == 200 and now)
        assert (served.json()["run"], server.runs, ground.balance(server.pay_to)) == (1, 1, PRICE)


@pytest.mark.anvil
@pytest.mark.parametrize("path", ["/permit2", "/permit2-upfront", "/upto"])
def test_hostile_a_settlement_that_moved_nothing_serves_nobody(path: str) -> None:
    """Where the proxies are not deployed the official facilitator says that it has settled (see the baseline)."""
    with on_anvil() as ground, OfficialFacilitator(ground) as facilitator:
        place_all(ground.rpc)
        with ours.OurProvingServer(ground, facilitator.url, patience=2.0) as server:
            for proxy in (EXACT_PROXY, UPTO_PROXY):
                ground.rpc("anvil_setCode", proxy, "0x")
            payer = account(ground, Row("", "", "", 2, path[1:]))
            with client(payer.purse(ground, resend=0)) as (http, _):
                answer = http.get(server.url(path))
            assert (answer.status_code, answer.json()["title"]) == (503, "settlement_pending"), answer.text
            assert (ground.balance(server.pay_to), ground.balance(payer.address)) == (0, FUNDS)
            assert server.runs == (0 if path.endswith("upfront") else 1)  # and what ran was not handed out


@pytest.mark.anvil
@pytest.mark.parametrize("facilitator", ["self", "ours"])
def test_sixteen_payers_at_once(town: Town, facilitator: str) -> None:
    ground, server = town.ground, town.server("ours", facilitator)
    payers = [ground.payer() for _ in range(16)]
    before, served = ground.balance(server.pay_to), server.runs

    async def buy(payer: Payer) -> None:
        paying, _ = async_client(payer.purse(ground))
        async with paying:
            assert (await paying.get(server.url("/eip3009"))).status_code == 200

    async def everybody() -> None:
        async with anyio.create_task_group() as tasks:
            for payer in payers:
                tasks.start_soon(buy, payer)

    anyio.run(everybody)
    assert [ground.balance(payer.address) for payer in payers] == [FUNDS - PRICE] * 16
    assert (ground.balance(server.pay_to), server.runs) == (before + 16 * PRICE, served + 16)


if __name__ == "__main__":
    sys.stdout.write("\n".join([*map(str, ROWS), f"{len(ROWS)} rows", ""]))
