"""y402's README beside ours: the same programs, with the imports changed, and no longer than they were.

Each pair is y402's (its own words cut to what runs) and ours.  Ours is run as it stands.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests.shop import fresh

OURS, THEIRS = "x402bind.compat.y402", "y402"

CLIENTS = """
from eth_account import Account
from y402.clients.httpx import Y402Client as make_402_client
account = Account.from_key(KEY)
client = make_402_client(account)
"""
SETUP = """
from y402.core.types.setup import Y402Setup
setup = Y402Setup()
setup.add_network("base")
setup.add_network("some_network_name", 1111111)
setup.add_token("base", "usdc")
setup.add_token("base", "my_token", "The Token Name", TOKEN, "1", 18, "@", default_for_symbol=True)
setup.set_default_for_symbol_token("base", "my_token")
setup.set_default_token("base", "my_token")
"""
FASTAPI = """
from fastapi import FastAPI, APIRouter
from y402.api.fastapi.middleware import payment_required
from y402.api.fastapi.types.endpoint_settings import X402EndpointSettings
from y402.core.types.facilitator import FacilitatorConfig
from y402.core.types.requirements import RequirePaymentDetails
from y402.core.types.schema import HTTPInputSchema
app = FastAPI(title="The shop")
app.middleware("http")(
    payment_required(
        mime_type="application/json",
        default_max_deadline_seconds=60,
        paywall_config=None,
        custom_paywall_html=None,
        facilitator_config=FacilitatorConfig(),
        client_http_library="httpx",
        setup=setup,
        storage_manager=None,
    )
)
router = APIRouter()
@X402EndpointSettings(
    resource_url="/the/url",
    description="Accepts a payload bla bla bla...",
    input_schema=HTTPInputSchema(body_type="json", body_fields={"foo": "Some foo"}),
    output_schema={"foo": "Some foo field"},
    mime_type="application/json",
    tags=["some", "tags"],
    webhook_name="some_webhook_name",
    storage_collection="some_collection",
    payments_details=[RequirePaymentDetails(network="base", price="@1.5", pay_to_address=PAYEE)],
)
@router.post("/the/url")
async def endpoint():
    return {}
app.include_router(router)
"""
FLASK = """
from flask import Flask
from y402.api.flask.decorator import payment_required
from y402.api.flask.types.endpoint_settings import X402EndpointSettings
from y402.core.types.facilitator import FacilitatorConfig
from y402.core.types.requirements import RequirePaymentDetails
app = Flask("shop")
require_payment = payment_required(
    mime_type="application/json",
    default_max_deadline_seconds=60,
    facilitator_config=FacilitatorConfig(),
    client_http_library="httpx_sync",
    setup=setup,
)
@app.post("/the/url/<reference>")
@require_payment
@X402EndpointSettings(
    reference_param="reference",
    description="This endpoint does ...",
    max_deadline_seconds=60,
    input_schema=None,
    mime_type=None,
    tags=["some", "tags"],
    webhook_name="some_webhook_name",
    storage_collection="some_collection",
    payments_details=[RequirePaymentDetails(network="base", price=1000, pay_to_address=PAYEE)],
)
def my_endpoint(reference):
    return {}
"""
AMOUNT = """
from y402.core.types.eip712 import EIP712Domain
from y402.core.types.requirements import RequirePaymentDetails, TokenAmount, TokenAsset
domain = EIP712Domain(name="The Token Name", version="1")
price = TokenAmount(amount="1000", asset=TokenAsset(address=TOKEN, decimals=18, eip712=domain))
details = RequirePaymentDetails(scheme="exact", network="base", price=price, pay_to_address=PAYEE)
"""
STREAMLIT = """
from y402.clients.streamlit.requests import Y402Client
client = Y402Client(wallet)
"""


def ours(snippet: str) -> str:
    """Change the imports, and say what a client pays at most: nothing else."""
    changed = re.sub(rf"^from {THEIRS}\.", f"from {OURS}.", snippet, flags=re.MULTILINE)
    return changed.replace("make_402_client(account)", 'make_402_client(account, policy="$0.10")').replace(
        "Y402Client(wallet)", 'Y402Client(wallet, policy="$0.10")'
    )


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    known = {"KEY": Account.create().key.hex(), "TOKEN": "0x" + "11" * 20, "PAYEE": fresh().address, "wallet": object()}
    exec(ours(SETUP), known)
    return known


@pytest.mark.parametrize("module", ["httpx", "httpx_sync"])
def test_a_client_is_made_as_there(names: dict[str, Any], module: str) -> None:
    exec(ours(CLIENTS.replace("clients.httpx ", f"clients.{module} ")), names)
    assert callable(names["client"].get)


def test_a_session_is_made_as_there(names: dict[str, Any]) -> None:
    snippet = CLIENTS.replace("clients.httpx import Y402Client", "clients.requests import y402_requests")
    exec(ours(snippet), names)
    assert callable(names["client"].get)


def test_a_setup_is_filled_as_there(names: dict[str, Any]) -> None:
    setup = names["setup"]
    assert (setup.list_tokens("base"), setup.get_default_token("base")) == (["usdc", "my_token"], "my_token")
    assert setup.get_chain_ids_mapping() == {"base": 8453, "some_network_name": 1111111}


def test_a_fastapi_server_is_made_as_there(names: dict[str, Any]) -> None:
    from starlette.testclient import TestClient

    exec(ours(FASTAPI).replace("setup=setup,", "setup=setup, prove=False,"), names)  # there is no Internet here
    with TestClient(names["app"]) as client:
        answer = client.post("/the/url", json={})
    assert (answer.status_code, answer.json()["accepts"][0]["maxAmountRequired"]) == (402, "1500000000000000000")


def test_a_flask_server_is_made_as_there(names: dict[str, Any]) -> None:
    exec(ours(FLASK).replace("setup=setup,", "setup=setup, prove=False,"), names)
    answer = names["app"].test_client().post("/the/url/ref", json={})
    assert (answer.status_code, answer.get_json()["accepts"][0]["maxAmountRequired"]) == (402, "1000")
    names["require_payment"].close()


def test_an_amount_is_written_as_there(names: dict[str, Any]) -> None:
    exec(ours(AMOUNT), names)
    assert names["details"].price.amount == "1000"


def test_a_streamlit_client_is_made_as_there(names: dict[str, Any]) -> None:
    pytest.importorskip("streamlit", reason="Streamlit is not installed: pip install streamlit")
    exec(ours(STREAMLIT), names)
    assert callable(names["client"].get)


def test_ours_is_never_longer_than_theirs() -> None:
    for snippet in (CLIENTS, SETUP, FASTAPI, FLASK, AMOUNT, STREAMLIT):
        assert len(ours(snippet).splitlines()) == len(snippet.splitlines())
        assert not re.search(rf"^from {THEIRS}\.", ours(snippet), re.MULTILINE)
