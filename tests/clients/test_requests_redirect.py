"""Redirects under requests: nothing bought follows one, money goes to no other origin, and one call pays at most once.

Two sellers on two ports are two origins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import requests

from tests.clients.fakes import NETWORK, REDIRECTS, FakeNode, FakeSeller, Seen, purse, redirect, served
from x402bind.clients.purse import Purse
from x402bind.clients.requests import PaymentAdapter, outcome_of
from x402core.commands import Outcome, OutcomeKind
from x402core.errors import Reason, Reply
from x402core.events import Dialect
from x402core.policy import PayerPolicy

every_redirect = pytest.mark.parametrize("status", REDIRECTS)


@dataclass
class Town:
    """The shop that is asked, and the one nobody asked."""

    here: FakeSeller
    there: FakeSeller
    shop: str
    evil: str

    def session(self, payer: Purse | None = None) -> requests.Session:
        session = requests.Session()
        session.mount("http://", PaymentAdapter(session.adapters["http://"], payer or purse(), chain=FakeNode().sync()))
        return session

    def call(self, path: str) -> requests.Response:
        with self.session() as session:
            headers = {"Authorization": "Basic mine"}
            return session.post(self.shop + path, data=b"order", headers=headers, timeout=10)


@pytest.fixture
def town() -> Iterator[Town]:
    here, there = FakeSeller(), FakeSeller()
    with served(here.asgi) as shop, served(there.asgi) as evil:
        yield Town(here, there, shop, evil)


def told(response: requests.Response) -> Outcome:
    outcome = outcome_of(response)
    assert outcome is not None
    return outcome


@every_redirect
@pytest.mark.parametrize("path", ["/v2", "/token-priced"])
def test_nothing_bought_follows_to_another_origin(town: Town, status: int, path: str) -> None:
    """The answer to a paid request redirects elsewhere: what arrives there is the caller's request as it was."""
    town.here.script = lambda seen: redirect(status, f"{town.evil}/catch") if seen.paid and seen.path == path else None
    response = town.call(path)
    (caught,) = town.there.seen
    assert response.status_code == 200
    assert not caught.paid
    assert caught.all("Authorization") == []  # requests drops the caller's own
    assert len(town.here.permits) == (path != "/v2")
    (hop,) = response.history
    assert told(hop).kind is (OutcomeKind.UNKNOWN if path == "/v2" else OutcomeKind.PAID)
    assert told(response).kind is OutcomeKind.FREE


@every_redirect
def test_money_goes_to_no_other_origin_than_was_asked(town: Town, status: int) -> None:
    town.here.script = lambda _: redirect(status, f"{town.evil}/v2")
    response = town.call("/start")
    outcome = told(response)
    assert (response.status_code, outcome.kind, outcome.amount) == (402, OutcomeKind.DECLINED, 0)
    assert outcome.refusal is not None
    assert outcome.refusal.reason is Reason.ORIGIN_REFUSED
    assert (town.there.permits, len(town.there.seen)) == ([], 1)


def test_by_way_of_another_origin_and_back(town: Town) -> None:
    """What counts is who asks for the money, not the way there."""
    town.here.script = lambda seen: redirect(307, f"{town.evil}/catch") if seen.path == "/start" else None
    town.there.script = lambda _: redirect(307, f"{town.shop}/v2")
    response = town.call("/start")
    assert told(response).kind is OutcomeKind.PAID
    assert [told(hop).kind for hop in response.history] == [OutcomeKind.FREE] * 2
    assert [seen.paid for seen in town.there.seen] == [False]


@every_redirect
def test_a_redirect_within_the_origin_is_paid_where_it_ends(town: Town, status: int) -> None:
    town.here.script = lambda seen: redirect(status, "/v2") if seen.path == "/start" else None
    response = town.call("/start")
    assert told(response).kind is OutcomeKind.PAID
    assert town.here.paths == ["/start", "/v2", "/v2"]
    assert town.here.seen[-1].body == (b"order" if status in (307, 308) else b"")


@pytest.mark.parametrize("path", ["/v2", "/token-priced"])
def test_a6_a_chain_of_priced_redirects_is_paid_once(town: Town, path: str) -> None:
    """Every answer to a payment sends the client on to pay again."""

    def script(seen: Seen) -> Reply | None:
        if seen.path == "/token":
            return None
        if not seen.paid:
            return town.here.challenge(Dialect.V2 if path == "/v2" else Dialect.PERMIT_TOKEN)
        return redirect(307, f"{path}-{len(town.here.seen)}")

    town.here.script = script
    outcome = told(town.call(path))
    assert town.here.paths == ([path, path, f"{path}-2"] if path == "/v2" else [path, "/token", path, f"{path}-3"])
    assert outcome.kind is OutcomeKind.DECLINED
    assert outcome.refusal is not None
    assert "paid once already" in outcome.refusal.detail


def test_a_token_endpoint_that_redirects_gets_no_second_try(town: Town) -> None:
    town.here.script = lambda seen: redirect(307, f"{town.evil}/token") if seen.path == "/token" else None
    response = town.call("/token-priced")
    assert (response.status_code, told(response).kind) == (402, OutcomeKind.UNKNOWN)
    assert town.there.seen == []


def test_a_held_token_stays_with_its_origin(town: Town) -> None:
    """The second call uses the token, and is redirected elsewhere: the token is not seen there."""

    def script(seen: Seen) -> Reply | None:
        away = seen.path == "/token-priced" and len(town.here.seen) == 4
        return redirect(308, f"{town.evil}/token-priced") if away else None

    town.here.script = script
    with town.session() as session:
        first, second = (session.get(f"{town.shop}/token-priced", timeout=10) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 402)
    assert [seen.paid for seen in town.there.seen] == [False]


def test_the_same_request_sent_again_pays_once(town: Town) -> None:
    """Who sends it again (a caller, a retry, a login) cannot be told from below: a second payment takes a new request."""
    with town.session() as session:
        request = session.prepare_request(requests.Request("GET", f"{town.shop}/v2"))
        anew = session.prepare_request(requests.Request("GET", f"{town.shop}/v2"))
        outcomes = [told(session.send(each)) for each in (request, request, request.copy(), anew)]
        free = session.prepare_request(requests.Request("GET", f"{town.shop}/free"))
        assert [session.send(free).status_code for _ in range(2)] == [200, 200]
    assert [one.kind for one in outcomes] == [
        OutcomeKind.PAID,
        OutcomeKind.DECLINED,
        OutcomeKind.DECLINED,
        OutcomeKind.PAID,
    ]
    assert outcomes[1].refusal is not None
    assert "make a new one" in outcomes[1].refusal.detail
    assert len(town.here.permits) == 2


def test_a_login_asked_for_after_the_payment_pays_once(town: Town) -> None:
    """The server takes the payment and then asks for a password: the same request is sent again."""
    challenge = Reply(401, (("WWW-Authenticate", 'Digest realm="x", nonce="y", qop="auth"'),), b"")
    town.here.script = lambda seen: challenge if seen.paid else None
    with town.session(purse(policy=replace(PayerPolicy.up_to("$0.05", NETWORK), resend=0))) as session:
        response = session.get(f"{town.shop}/v2", auth=requests.auth.HTTPDigestAuth("me", "pw"), timeout=10)
    assert response.status_code == 402
    assert [seen.paid for seen in town.here.seen] == [False, True, False]


def test_the_next_request_is_a_redirect_too(town: Town) -> None:
    town.here.script = lambda _: redirect(307, f"{town.evil}/v2")
    with town.session() as session:
        response = session.get(f"{town.shop}/start", allow_redirects=False, timeout=10)
        assert response.next is not None
        outcome = told(session.send(response.next))
    assert outcome.kind is OutcomeKind.DECLINED
    assert town.there.permits == []
