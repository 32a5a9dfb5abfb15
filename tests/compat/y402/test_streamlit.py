"""y402's Streamlit clients in real Streamlit runs, buying for real; the browser's wallet is a fake, which signs for real."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
from fastapi import FastAPI, Response

from tests.compat.y402.ground import Site, Till
from tests.shop import PRICE, Payer
from x402bind.chain.signers import shown_digest
from x402bind.compat.y402.api.fastapi.middleware import payment_required
from x402bind.compat.y402.api.fastapi.types.endpoint_settings import X402EndpointSettings
from x402core.evm.secp256k1 import sign

testing = pytest.importorskip("streamlit.testing.v1", reason="Streamlit is not installed: pip install streamlit")


class FakeWallet:
    """A browser's wallet: pending until its owner decides, then a real signature, or a refusal."""

    def __init__(self, payer: Payer) -> None:
        self.available = self.connected = True
        self.accounts = [payer.address]
        self.decision = "pending"
        self.asked: list[tuple[str, str]] = []
        self.forgotten: list[str] = []
        self._key = payer.key

    def request(self, method: str, params: list[Any], *, key: str) -> tuple[str, Any]:
        assert (method, params[0]) == ("eth_signTypedData_v4", self.accounts[0])
        self.asked.append((key, params[1]))
        if self.decision == "approve":
            return "success", "0x" + sign(shown_digest(json.loads(params[1])), self._key).hex()
        return ("error", "User rejected the request.") if self.decision == "reject" else ("pending", None)

    def forget(self, key: str) -> None:
        self.forgotten.append(key)


class Losing:
    """A session that loses the answers to payments, so many of them."""

    def __init__(self, inner: Any, lose: int) -> None:
        self.inner, self.lose, self.sent = inner, lose, list[str]()

    def request(self, method: str, url: str, **options: Any) -> Any:
        response = self.inner.request(method, url, **options)
        paid = (options.get("headers") or {}).get("X-Payment")
        if paid is not None:
            self.sent.append(paid)
            if self.lose:
                self.lose -= 1
                raise requests.ConnectionError("the answer was lost")
        return response


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Give the process its main module back: Streamlit puts its script there, which no spawned process could import."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


def page() -> None:
    """Be a Streamlit page that buys one thing; what it needs is in its session."""
    import streamlit as st

    from x402bind.compat.y402.clients.streamlit import httpx_sync, requests

    state = st.session_state
    how = {"policy": state["policy"]}
    if state["library"] == "requests":
        client: Any = requests.Y402Client(state["wallet"], session=state["session"], **how)
    else:
        client = httpx_sync.Y402Client(state["wallet"], client=state["session"], **how)
    try:
        state["result"] = client.post(state["url"], key="it", json={"n": 1})
        state["raised"] = None
    except Exception as error:  # noqa: BLE001 - looked at by the test
        state["raised"] = error


class Browser:
    """A page in Streamlit's own test runner."""

    def __init__(self, till: Till, url: str, library: str, policy: str = "$0.01", lose: int = 0) -> None:
        self.payer = till.ground.payer()
        self.wallet = FakeWallet(self.payer)
        self.session = Losing(requests.Session() if library == "requests" else httpx.Client(timeout=30), lose)
        self.at = testing.AppTest.from_function(page, default_timeout=60)
        told = {"wallet": self.wallet, "url": url, "library": library, "policy": policy, "session": self.session}
        for name, value in told.items():
            self.at.session_state[name] = value

    def run(self, decision: str = "pending") -> Any:
        """Run the page once; return the result."""
        self.wallet.decision = decision
        self.at.run()
        assert not self.at.exception, self.at.exception
        return self.at.session_state["result"]


@pytest.fixture
def runs() -> list[int]:
    return []


@pytest.fixture
def url(till: Till, runs: list[int]) -> Iterator[str]:
    app = FastAPI()
    app.middleware("http")(payment_required(**till.arguments()))

    @X402EndpointSettings(payments_details=till.costs())
    @app.post("/it")
    async def it(body: dict[str, int]) -> dict[str, int]:
        runs.append(1)
        return body

    @app.post("/free")
    async def free() -> str:
        return "free"

    @app.post("/page")
    async def other() -> Response:
        return Response("<html>pay us by bank</html>", 402, media_type="text/html")

    with Site(app) as site:
        yield f"{site.origin}/it"


both = pytest.mark.parametrize("library", ["requests", "httpx"])


@both
def test_a_fake_wallet_approves_and_the_request_succeeds(till: Till, url: str, library: str) -> None:
    browser = Browser(till, url, library)
    assert [browser.run().status, browser.run().status] == ["pending", "pending"]
    result = browser.run("approve")
    assert (result.status, result.response.json(), till.earned) == ("success", {"n": 1}, PRICE)
    assert result.payment_response["success"] is True
    keys, typed = zip(*browser.wallet.asked, strict=True)
    assert (set(keys), len(set(typed))) == ({"y402:streamlit:sign:it"}, 1)  # one question, asked in every run
    assert browser.wallet.forgotten == ["y402:streamlit:sign:it"]


@both
def test_a_fake_wallets_authorization_is_sent_again_when_an_answer_is_lost(
    till: Till, url: str, runs: list[int], library: str
) -> None:
    browser = Browser(till, url, library, lose=2)
    browser.run()
    for _ in range(2):
        browser.wallet.decision = "approve"
        browser.at.run()
        assert isinstance(browser.at.session_state["raised"], requests.ConnectionError)
    result = browser.run("approve")
    assert (result.status, result.response.json()) == ("success", {"n": 1})
    assert (len(browser.session.sent), len(set(browser.session.sent))) == (3, 1)
    assert (till.earned, runs) == (PRICE, [1])


@both
def test_a_fake_wallet_that_rejects_is_an_error(till: Till, url: str, library: str) -> None:
    browser = Browser(till, url, library)
    browser.run()
    result = browser.run("reject")
    assert (result.status, result.error, till.earned) == ("error", "User rejected the request.", 0)
    assert browser.run().status == "pending"  # from the beginning


def test_a_fake_wallet_that_is_not_connected_is_an_error_and_not_an_exception(till: Till, url: str) -> None:
    browser = Browser(till, url, "requests")
    browser.wallet.connected = False
    result = browser.run()
    assert (result.status, "Connect a browser wallet" in result.error) == ("error", True)
    browser.wallet.available = False
    assert "window.ethereum" in browser.run().error


def test_a_fake_wallet_is_not_asked_for_more_than_the_policy(till: Till, url: str) -> None:
    browser = Browser(till, url, "requests", policy="$0.009")
    result = browser.run()
    assert (result.status, browser.wallet.asked) == ("error", [])
    assert "over_payment_cap" in result.error


def test_a_fake_wallet_is_not_asked_where_nothing_is_to_pay(till: Till, url: str) -> None:
    free = Browser(till, url.replace("/it", "/free"), "requests")
    assert (free.run().status, free.wallet.asked) == ("success", [])
    bank = Browser(till, url.replace("/it", "/page"), "requests")
    result = bank.run()
    assert (result.status, result.response.text) == ("error", "<html>pay us by bank</html>")


def test_a_fake_wallets_key_is_one_requests_until_it_is_decided(till: Till, url: str) -> None:
    browser = Browser(till, url, "requests")
    browser.run()
    browser.at.session_state["url"] = f"{url}?other"
    browser.at.run()
    assert "already associated" in str(browser.at.session_state["raised"])


def test_a_fake_wallets_permit_that_expires_is_an_error(till: Till, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(till, url, "requests")
    browser.run()
    flows = browser.at.session_state["y402:streamlit:payment_flows"]
    flows["it"]["expires_at"] = 0
    assert "expired" in browser.run("approve").error
