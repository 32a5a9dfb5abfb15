"""The whole flow, our ``Http402Client`` buying from our ``Http402Server``, over a socket and a chain."""

from __future__ import annotations

from pathlib import Path

import anyio

from x402bind.clients.httpx import outcome_of
from x402core.commands import OutcomeKind

from .stand import PRICE, Sepolia, stand


def test_a_client_buys_uses_its_token_again_and_the_seller_is_paid(chain: Sepolia, tmp_path: Path) -> None:
    payer, before = chain.payer(), chain.balance(chain.seller)

    async def buy(url: str) -> None:
        async with payer.client() as client:
            for kind in (OutcomeKind.PAID, OutcomeKind.FREE):
                response = await client.get(f"{url}/data")
                assert response.json() == {"sold": True, "paid_by": payer.address}
                outcome = outcome_of(response)
                assert outcome is not None
                assert outcome.kind is kind

    with stand(chain, tmp_path) as it:
        anyio.run(buy, it.url)
        (entry,) = it.settled()
        assert (entry.state, entry.amount, entry.payer) == ("settled", PRICE, payer.address)
    assert (payer.money, chain.balance(chain.seller) - before) == (1_000_000 - PRICE, PRICE)
