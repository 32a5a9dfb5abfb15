"""The official SDK with itself, on anvil with Circle's own token: so that a row of the matrix that fails is ours to mend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chains import place_permit2
from tests.contracts import place_proxies
from tests.peers.matrix import Row, Town, approve_permit2
from tests.peers.official import OfficialFacilitator, OfficialServer, official_buy, official_python
from tests.shop import FUNDS, on_anvil

pytestmark = pytest.mark.peer

CLIENTS = ("official-httpx", "official-requests")
SERVERS = ("official-fastapi", "official-flask")
SPONSORED = ("permit2-eip2612", "permit2-approval", "upto-eip2612", "upto-approval")
ROWS = (
    *(Row(client, server, "official", 2, "eip3009") for client in CLIENTS for server in SERVERS),
    *(Row(client, server, "official", 2, method) for client in CLIENTS for server in SERVERS for method in ("permit2", "upto")),
    *(Row("official-httpx", server, "official", 2, "eip3009-upfront") for server in SERVERS),
    Row("official-httpx", "official-fastapi", "official", 2, "permit2-upfront"),
    *(Row("official-httpx", "official-fastapi", "official", 2, method) for method in SPONSORED),
    *(Row(client, "stub", "official", 1, "eip3009") for client in CLIENTS),
)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    official_python()
    with on_anvil() as ground, Town(ground) as town:
        place_permit2(ground.rpc)
        place_proxies(ground.rpc)
        yield town


@pytest.mark.anvil
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_is_paid_by_itself(town: Town, row: Row) -> None:
    town.run(row)


@pytest.mark.anvil
def test_its_client_without_money_is_refused_and_nothing_moves(town: Town) -> None:
    server = town.server("official-fastapi", "official")
    before, payer = town.ground.balance(server.pay_to), town.ground.payer(1)
    bought = official_buy(server.url("/eip3009"), payer.key)
    assert (bought.error, bought.status, bought.requests) == (None, 402, 2)
    assert (town.ground.balance(server.pay_to), town.ground.balance(payer.address)) == (before, 1)


@pytest.mark.anvil
def test_its_client_that_speaks_one_version_pays_no_other(town: Town) -> None:
    payer = town.ground.payer()
    for server, version in ((town.server("official-flask", "official"), 1), (town.server("stub", "official"), 2)):
        bought = official_buy(server.url("/eip3009"), payer.key, version=version)
        assert (bought.status, bought.requests, bought.sent) == (402, 1, None)
        assert bought.error is not None
    assert town.ground.balance(payer.address) == FUNDS


@pytest.mark.anvil
def test_its_upto_of_nothing_is_served_and_settles_nothing(town: Town) -> None:
    server, payer = town.server("official-fastapi", "official"), town.ground.payer()
    approve_permit2(town.ground, payer)
    bought = official_buy(server.url("/upto?charge=0"), payer.key)
    assert (bought.status, bought.receipt["transaction"], bought.receipt["amount"]) == (200, "", "0")
    assert town.ground.balance(payer.address) == FUNDS


@pytest.mark.anvil
def test_its_word_for_a_settlement_is_not_enough() -> None:
    """Where the Permit2 proxy is not deployed it verifies, settles "successfully" and serves, and nobody is paid."""
    official_python()
    with on_anvil() as ground, OfficialFacilitator(ground) as facilitator, OfficialServer(facilitator.url) as server:
        payer = ground.payer()
        approve_permit2(ground, payer)
        bought = official_buy(server.url("/permit2"), payer.key)
        assert bought.status == 200, server.log
        assert bought.receipt["success"] is True
        assert (ground.balance(server.pay_to), ground.balance(payer.address)) == (0, FUNDS)
