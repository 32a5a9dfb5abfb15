"""The three MCP tools on a real MCP server, under the hub's policy; what an agent must not learn is in no answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import Request

from tests.shop import FUNDS
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.clients.purse import Budget
from x402bind.compat.x402_mock.adapters import AdapterHub
from x402bind.compat.x402_mock.mcp import FacilitorTools
from x402bind.compat.x402_mock.servers import Http402Server
from x402core import LocalProtocolError

from .stand import CHAIN, PRICE, SELLER, Buyer, Sepolia, stand

mcp_server = pytest.importorskip("mcp.server.mcpserver", reason="the extra mcp is not installed")


def tools(hub: AdapterHub, **how: Any) -> Any:
    """Return a function that calls a tool and gives what it answered."""
    server = mcp_server.MCPServer("payments")
    FacilitorTools(hub, server, **how)

    async def call(name: str, **arguments: Any) -> Any:
        result = await server.call_tool(name, arguments)
        return json.loads(result.content[0].text)

    call.names = lambda: sorted(each.name for each in anyio.run(server.list_tools))  # type: ignore[attr-defined]
    return call


def wallet(payer: Buyer, **how: Any) -> AdapterHub:
    hub = AdapterHub(payer.key, payer.chain.url, **how)
    hub.register_payment_methods({"caip2": CHAIN, "amount": 0.8, "currency": "USDC"}, client_role=True)
    return hub


def seller(chain: Sepolia) -> AdapterHub:
    hub = AdapterHub(DEV_KEYS[SELLER].hex(), chain.url)
    hub.register_payment_methods(CHAIN, 0.5, "USDC")
    return hub


def test_each_role_has_its_own_tools(chain: Sepolia) -> None:
    assert tools(wallet(chain.payer(0)), client_role=True).names() == ["signature", "source_request"]
    assert tools(seller(chain)).names() == ["verify_and_settle"]


def test_a_permit_that_one_agent_signs_another_verifies_and_settles(chain: Sepolia) -> None:
    payer, hub = chain.payer(), seller(chain)
    offered = [each.model_dump(mode="json") for each in hub.get_payment_methods()]

    async def deal() -> Any:
        permit = await tools(wallet(payer), client_role=True)("signature", list_components=offered)
        settle = tools(hub)
        return await settle("verify_and_settle", permit=permit), await settle("verify_and_settle", permit={"permit_type": "x"})

    done, wrong = anyio.run(deal)
    assert (done["event"], done["settlement_result"]["status"]) == ("SettleSuccessEvent", "success")
    assert wrong["event"] == "VerifyFailedEvent"
    assert payer.money == FUNDS - PRICE


def echoing(app: Http402Server) -> None:
    """A server that says back what it is sent."""

    @app.get("/data")
    @app.payment_required
    async def data(request: Request):  # type: ignore[no-untyped-def]
        return {"heard": dict(request.headers)}


def test_a_resource_is_bought_and_no_secret_is_told(chain: Sepolia, tmp_path: Path) -> None:
    payer = chain.payer()
    hub = wallet(payer)
    call = tools(hub, client_role=True)
    with stand(chain, tmp_path, echoing) as it:
        answer = anyio.run(lambda: call("source_request", url=f"{it.url}/data"))
        it.settled()
    assert (answer["status_code"], answer["payment"]) == (200, "paid")
    assert json.loads(answer["body"])["heard"]["authorization"] == "Bearer [secret]"
    text = json.dumps(answer)
    assert not [secret for secret in hub.secrets() if secret in text]
    assert payer.key[2:] not in text
    assert payer.money == FUNDS - PRICE


def test_an_agent_goes_where_it_may_and_sets_no_credentials(chain: Sepolia) -> None:
    call = tools(wallet(chain.payer(0)), client_role=True, origins=["https://shop.test"])
    wrong = [
        {"url": "https://other.test/data"},
        {"url": "file:///etc/passwd"},
        {"url": "https://shop.test/", "method": "TRACE"},
        {"url": "https://shop.test/", "headers": {"Authorization": "Bearer mine"}},
    ]
    for arguments in wrong:
        assert set(anyio.run(lambda some=arguments: call("source_request", **some))) == {"error"}
    with pytest.raises(LocalProtocolError, match="origins"):
        FacilitorTools(wallet(chain.payer(0)), mcp_server.MCPServer("x"), True, origins=["shop"])


def test_caps_payees_and_the_budget_bind_an_agent(chain: Sepolia) -> None:
    offered = [each.model_dump(mode="json") for each in seller(chain).get_payment_methods()]
    dear = [{**offered[0], "amount": 0.9}]
    stranger = [{**offered[0], "pay_to": "0x" + "66" * 20}]
    payer = chain.payer(0)

    async def ask() -> list[Any]:
        free = tools(wallet(payer), client_role=True)
        pinned = tools(wallet(payer, payees=[chain.seller]), client_role=True)
        poor = tools(wallet(payer, budget=Budget.up_to("$0.60", CHAIN)), client_role=True)
        return [
            await free("signature", list_components=dear),
            await pinned("signature", list_components=stranger),
            await poor("signature", list_components=offered),
            await poor("signature", list_components=offered),
        ]

    over, foreign, first, second = anyio.run(ask)
    assert [set(each) == {"error"} for each in (over, foreign, first, second)] == [True, True, False, True]
    assert "cap" in over["error"]
    assert "payee" in foreign["error"]
    assert "budget" in second["error"]


def test_a_server_that_cannot_be_reached_is_an_error_not_a_crash(chain: Sepolia) -> None:
    call = tools(wallet(chain.payer(0)), client_role=True)
    answer = anyio.run(lambda: call("source_request", url="http://127.0.0.1:9/", timeout=2))
    assert answer["error"].startswith("ConnectError")
