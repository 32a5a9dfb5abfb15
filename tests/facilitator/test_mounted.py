"""The facilitator within somebody else's application: its paths below a prefix, its lifespan run by the outer one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.facilitator.desk import Desk, Sale, Served
from tests.shop import PRICE, Ground
from x402bind.chain.transports import SyncHttp
from x402bind.drive import dispatch, run
from x402bind.translate.facilitator import RemoteFacilitator, supported


async def home(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("home")


def test_mounted_with_its_lifespan(ground: Ground, tmp_path: Path) -> None:
    desk = Desk(ground, tmp_path)
    outer = Starlette(routes=[Route("/", home), Mount("/pay/x402", desk.app)], lifespan=desk.app.lifespan)
    sale = Sale(ground)
    with Served(outer) as served:
        assert httpx.get(served.url).text == "home"
        base = served.url + "/pay/x402"
        assert httpx.post(base + "/verify", json=sale.body).json()["isValid"] is True
        assert httpx.post(base + "/settle", json=sale.body, timeout=20).json()["success"] is True
        assert httpx.get(base + "/health").status_code == 200
        assert httpx.get(base + "/nothing").status_code == 404
        assert httpx.get(base + "/settle").status_code == 405
        with SyncHttp() as http:
            assert run(supported(RemoteFacilitator(base)), dispatch(http.table)).kinds
    assert sale.earned == PRICE
    assert not desk.facilitator.settler.works  # stopped with the outer application
    desk.facilitator.ledger.close()


def test_mounted_within_a_lifespan_of_ones_own(ground: Ground, tmp_path: Path) -> None:
    desk = Desk(ground, tmp_path)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with desk.facilitator.running():
            yield

    sale = Sale(ground)
    with Served(Starlette(routes=[Mount("/x402", desk.app)], lifespan=lifespan)) as served:
        assert httpx.post(served.url + "/x402/settle", json=sale.body, timeout=20).json()["success"] is True
    desk.facilitator.ledger.close()


def test_mounted_and_forgotten_is_unavailable_not_a_refusal(ground: Ground, tmp_path: Path) -> None:
    desk = Desk(ground, tmp_path)
    sale = Sale(ground)
    with Served(Starlette(routes=[Mount("/x402", desk.app)])) as served:
        assert httpx.post(served.url + "/x402/settle", json=sale.body, timeout=20).status_code == 503
        assert httpx.get(served.url + "/x402/health").status_code == 503
    assert (sale.earned, desk.sent) == (0, 0)
    desk.facilitator.ledger.close()


def test_mounted_with_a_node_of_another_chain_does_not_start(ground: Ground, tmp_path: Path) -> None:
    desk = Desk(ground, tmp_path, rpc={"base": ground.url})
    with pytest.raises(RuntimeError, match="did not start"), Served(Starlette(lifespan=desk.app.lifespan)):
        pass
    desk.facilitator.ledger.close()
