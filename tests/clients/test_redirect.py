"""Redirects: neither a permit nor a token follows one, money goes to no other origin, and one call pays at most once."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from tests.clients.fakes import NETWORK, REDIRECTS, WORLDS, FakeSeller, Seen, in_world, purse, redirect
from x402bind.clients.httpx import PaymentTransport, outcome_of
from x402core.commands import OutcomeKind
from x402core.errors import Reason, Reply
from x402core.events import Dialect
from x402core.policy import PayerPolicy

SHOP, EVIL = "https://shop.test", "https://evil.test"
every_world = pytest.mark.parametrize("world", WORLDS)
every_redirect = pytest.mark.parametrize("status", REDIRECTS)


def at_evil(seller: FakeSeller) -> list[Seen]:
    return [seen for seen in seller.seen if seen.url.startswith(EVIL)]


def call(world: str, seller: FakeSeller, url: str) -> httpx.Response:
    request = {"url": url, "method": "POST", "content": b"order", "headers": {"Authorization": "Basic mine"}}
    (response,) = in_world(world, purse(), seller.mock(), request, follow_redirects=True)
    return response


@every_world
@every_redirect
@pytest.mark.parametrize("path", ["/v2", "/token-priced"])
def test_nothing_bought_follows_to_another_origin(world: str, status: int, path: str) -> None:
    """The answer to a paid request redirects elsewhere: what arrives there is the caller's request as it was."""
    seller = FakeSeller()
    seller.script = lambda seen: redirect(status, f"{EVIL}/catch") if seen.paid and seen.path == path else None
    response = call(world, seller, SHOP + path)
    (caught,) = at_evil(seller)
    assert response.status_code == 200
    assert not caught.paid
    assert caught.all("Authorization") == []  # httpx drops the caller's own
    assert len(seller.permits) == (path != "/v2")
    (hop,) = response.history
    outcome = outcome_of(hop)
    assert outcome is not None
    assert outcome.kind is (OutcomeKind.UNKNOWN if path == "/v2" else OutcomeKind.PAID)


@every_world
@every_redirect
def test_money_goes_to_no_other_origin_than_was_asked(world: str, status: int) -> None:
    """A redirect to a seller who was not asked: it gets no permit, however cheap it is."""
    seller = FakeSeller(lambda seen: redirect(status, f"{EVIL}/v2") if seen.url.startswith(SHOP) else None)
    response = call(world, seller, f"{SHOP}/start")
    outcome = outcome_of(response)
    assert outcome is not None
    assert response.status_code == 402
    assert (outcome.kind, outcome.amount) == (OutcomeKind.DECLINED, 0)
    assert outcome.refusal is not None
    assert outcome.refusal.reason is Reason.ORIGIN_REFUSED
    assert seller.permits == []
    assert len(at_evil(seller)) == 1


@every_world
def test_by_way_of_another_origin_and_back(world: str) -> None:
    """What counts is who asks for the money, not the way there."""

    def script(seen: Seen) -> Reply | None:
        if seen.path == "/start":
            return redirect(307, f"{EVIL}/catch")
        return redirect(307, f"{SHOP}/v2") if seen.path == "/catch" else None

    seller = FakeSeller(script)
    outcome = outcome_of(call(world, seller, f"{SHOP}/start"))
    assert outcome is not None
    assert outcome.kind is OutcomeKind.PAID
    assert [seen.paid for seen in at_evil(seller)] == [False]


@every_world
@every_redirect
def test_a_redirect_within_the_origin_is_paid_where_it_ends(world: str, status: int) -> None:
    seller = FakeSeller(lambda seen: redirect(status, "/v2") if seen.path == "/start" else None)
    response = call(world, seller, f"{SHOP}/start")
    outcome = outcome_of(response)
    assert outcome is not None
    assert outcome.kind is OutcomeKind.PAID
    assert seller.paths == ["/start", "/v2", "/v2"]


@every_world
@pytest.mark.parametrize("path", ["/v2", "/token-priced"])
def test_a_chain_of_priced_redirects_is_paid_once(world: str, path: str) -> None:
    """A6 by way of redirects: every answer to a payment sends the client on to pay again."""

    def script(seen: Seen) -> Reply | None:
        if seen.path == "/token":
            return None
        if not seen.paid:
            return seller.challenge(Dialect.V2 if path == "/v2" else Dialect.PERMIT_TOKEN)
        return redirect(307, f"{path}-{len(seller.seen)}")

    seller = FakeSeller(script)
    response = call(world, seller, SHOP + path)
    outcome = outcome_of(response)
    assert outcome is not None
    assert seller.paths == ([path, path, f"{path}-2"] if path == "/v2" else [path, "/token", path, f"{path}-3"])
    assert outcome.kind is OutcomeKind.DECLINED
    assert outcome.refusal is not None
    assert "paid once already" in outcome.refusal.detail


@every_world
def test_a_token_endpoint_that_redirects_gets_no_second_try(world: str) -> None:
    seller = FakeSeller(lambda seen: redirect(307, f"{EVIL}/token") if seen.path == "/token" else None)
    response = call(world, seller, f"{SHOP}/token-priced")
    outcome = outcome_of(response)
    assert outcome is not None
    assert response.status_code == 402
    assert outcome.kind is OutcomeKind.UNKNOWN
    assert at_evil(seller) == []


@every_world
def test_a_held_token_stays_with_its_origin(world: str) -> None:
    """The second call uses the token, and is redirected elsewhere: the token is not seen there."""
    seller = FakeSeller()

    def script(seen: Seen) -> Reply | None:
        return redirect(308, f"{EVIL}/token-priced") if seen.path == "/token-priced" and len(seller.seen) == 4 else None

    seller.script = script
    url = {"url": f"{SHOP}/token-priced"}
    first, second = in_world(world, purse(), seller.mock(), url, url, follow_redirects=True)
    assert first.status_code == 200
    assert second.status_code == 402
    assert [seen.paid for seen in at_evil(seller)] == [False]


def test_the_same_request_sent_again_pays_once() -> None:
    """Who sends it again (a caller, a retry, an auth flow) cannot be told from below: a second payment takes a new request."""
    seller = FakeSeller()
    with httpx.Client(transport=PaymentTransport(seller.mock(), purse(rpc=False))) as client:
        request = client.build_request("GET", f"{SHOP}/v2")
        first, again, anew = (outcome_of(client.send(r)) for r in (request, request, client.build_request("GET", f"{SHOP}/v2")))
        free = client.build_request("GET", f"{SHOP}/free")
        assert [client.send(free).status_code for _ in range(2)] == [200, 200]
    assert first is not None
    assert again is not None
    assert anew is not None
    assert [one.kind for one in (first, again, anew)] == [OutcomeKind.PAID, OutcomeKind.DECLINED, OutcomeKind.PAID]
    assert again.refusal is not None
    assert "make a new one" in again.refusal.detail
    assert len(seller.permits) == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_layer_above_that_retries_pays_once(status: int) -> None:
    """As httpx-retries does: the same request object, again, on any 5xx.  The money of the first may be gone."""

    class Retrying(httpx.BaseTransport):
        def __init__(self, inner: httpx.BaseTransport) -> None:
            self.inner = inner

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answers = [self.inner.handle_request(request) for _ in range(3)]
            return answers[-1]

    seller = FakeSeller()
    seller.script = lambda seen: Reply(status, (), b"") if seen.paid else None
    policy = replace(PayerPolicy.up_to("$0.05", NETWORK), resend=0)
    with httpx.Client(transport=Retrying(PaymentTransport(seller.mock(), purse(policy=policy, rpc=False)))) as client:
        client.get(f"{SHOP}/v2")
    assert [seen.paid for seen in seller.seen] == [False, True, False, False]


def test_an_auth_flow_pays_once() -> None:
    """The server takes the payment and then asks for a password: httpx sends the same request again."""
    challenge = Reply(401, (("WWW-Authenticate", 'Digest realm="x", nonce="y", qop="auth"'),), b"")
    seller = FakeSeller()
    seller.script = lambda seen: challenge if seen.paid else None
    with httpx.Client(transport=PaymentTransport(seller.mock(), purse(rpc=False)), auth=httpx.DigestAuth("me", "pw")) as client:
        response = client.get(f"{SHOP}/v2")
    assert response.status_code == 402
    assert [seen.paid for seen in seller.seen] == [False, True, False]


def test_next_request_is_a_redirect_too() -> None:
    seller = FakeSeller(lambda seen: redirect(307, f"{EVIL}/v2") if seen.path == "/start" else None)
    with httpx.Client(transport=PaymentTransport(seller.mock(), purse(rpc=False))) as client:
        response = client.get(f"{SHOP}/start")
        assert response.next_request is not None
        outcome = outcome_of(client.send(response.next_request))
    assert outcome is not None
    assert outcome.kind is OutcomeKind.DECLINED
    assert seller.permits == []
