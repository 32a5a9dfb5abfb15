"""requests sessions that pay, in trouble: what is not paid for, what goes wrong, and what the caller gets then."""

from __future__ import annotations

import gzip
import io
import threading
import time
from typing import Any

import pytest
import requests

from tests.clients.fakes import BUSY, NETWORK, PRICE, FakeSeller, Seen, ok, purse
from tests.clients.sessions import DECLINED, FREE, PAID, UNKNOWN, Recording, paying, told
from tests.clients.wires import on_wire
from x402bind.clients.purse import MOST_BODY, Budget
from x402bind.clients.requests import (
    raise_for_payment,
)
from x402bind.errors import PaymentOutcomeUnknown
from x402core.commands import Outcome, OutcomeKind
from x402core.errors import Reason, Reply
from x402core.events import Dialect
from x402core.policy import PayerPolicy
from x402core.values import Millis
from x402core.wire import v2

# ------------------------------------------------------------------------------------------------------- what is not


@pytest.mark.parametrize(
    "reply",
    [
        Reply(402, (("Content-Type", "text/html"),), b"<h1>Pay</h1>"),
        Reply(402, (("Content-Type", "application/json"),), b'{"detail": "buy credits"}'),
        Reply(402, (("Content-Encoding", "gzip"),), gzip.compress(b"<h1>Pay</h1>")),
        Reply(402, (("WWW-Authenticate", "L402 x"),), b""),
        Reply(402, (("X-Big", "1"),), b"<p>" + b"x" * (MOST_BODY * 2)),
    ],
    ids=["html", "json", "gzip", "empty", "big"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_y29_somebody_elses_402_passes_through(shop: str, seller: FakeSeller, reply: Reply, stream: bool) -> None:
    """Nothing is raised, nothing is lost, nothing is paid."""
    seller.script = lambda _: Reply(reply.status, (*reply.headers, ("Set-Cookie", "c=3")), reply.body)
    with paying() as session:
        response = session.get(f"{shop}/other", stream=stream)
        body = b"".join(response.iter_content(1000)) if stream else response.content
        assert session.cookies.get_dict() == {"c": "3"}
    assert (response.status_code, told(response).kind) == (402, FREE)
    assert body == (gzip.decompress(reply.body) if "gzip" in str(reply.headers) else reply.body)
    assert {(name, response.headers[name]) for name, _ in reply.headers} == set(reply.headers)
    assert len(seller.seen) == 1


def test_y29_an_offer_that_is_declined_can_be_read_to_its_end(shop: str, seller: FakeSeller) -> None:
    with paying(purse("$0.001")) as session:
        response = session.get(f"{shop}/token-priced")
    assert told(response).kind is DECLINED
    assert response.json()["payment_scheme"]


def test_a_packed_offer_is_read(shop: str, seller: FakeSeller) -> None:
    def script(seen: Seen) -> Reply | None:
        reply = seller.answer(seen)
        return (
            Reply(402, (*reply.headers, ("Content-Encoding", "gzip")), gzip.compress(reply.body))
            if reply.status == 402
            else None
        )

    seller.script = script
    with paying() as session:
        assert told(session.get(f"{shop}/token-priced")).kind is PAID


@pytest.mark.parametrize("packed", ["gzip", "gzip, gzip", "plain", "broken"])
def test_a_hostile_402_is_declined(shop: str, seller: FakeSeller, packed: str) -> None:
    """A bomb, a bomb in a bomb, an offer that ends behind the cap, and one that is not what it says."""
    offer = seller.challenge(Dialect.PERMIT_TOKEN)
    body = offer.body[:-1] + b" " * 20_000_000 + b"}"
    bodies = {
        "gzip": gzip.compress(body),
        "plain": body,
        "broken": offer.body,
        "gzip, gzip": gzip.compress(gzip.compress(body)),
    }
    encoding = () if packed == "plain" else (("Content-Encoding", "gzip" if packed == "broken" else packed),)
    seller.script = lambda _: Reply(402, encoding, bodies[packed])
    with paying() as session:
        response = session.get(f"{shop}/hostile", stream=True)
        assert response.status_code == 402
        assert told(response).kind in (FREE, DECLINED, OutcomeKind.FAILED)
        response.close()
    assert (seller.permits, seller.paths) == ([], ["/hostile"])


def test_two_challenge_headers_are_two(shop: str, seller: FakeSeller) -> None:
    """requests joins headers of one name; the core sees them as they came, and does not choose."""
    (header,) = [pair for pair in seller.challenge(Dialect.V2).headers if pair[0] == v2.PAYMENT_REQUIRED]
    seller.script = lambda _: Reply(402, (header, header))
    with paying() as session:
        assert told(session.get(f"{shop}/v2")).kind is not PAID
    assert seller.permits == []


def test_plain_http_is_refused_except_to_loopback(shop: str, seller: FakeSeller) -> None:
    """By way of a proxy, which sees everything: a named shop without TLS gets no permit, one on this machine does."""
    with paying() as session:
        session.proxies = {"http": shop}
        refused, paid = session.get("http://shop.test/v2"), session.get("http://127.0.0.1:9/v2")
    assert told(refused).refusal is not None
    assert told(refused).refusal.reason is Reason.ORIGIN_REFUSED  # type: ignore[union-attr]
    assert (refused.status_code, paid.status_code, told(paid).kind) == (402, 200, PAID)
    assert [seen.paid for seen in seller.seen] == [False, False, True]


def test_a6_a_402_for_every_request_is_paid_once(shop: str, seller: FakeSeller) -> None:
    seller.script = lambda seen: seller.challenge(Dialect.V2)
    with paying() as session:
        response = session.get(f"{shop}/v2")
    assert (response.status_code, told(response).kind, told(response).amount) == (402, DECLINED, PRICE)
    assert len(seller.seen) == 2


# ----------------------------------------------------------------------------------------------------- what goes wrong


def test_an_error_before_the_permit_is_the_original() -> None:
    outcomes: list[Outcome] = []
    with (
        on_wire(lambda _: None) as url,
        paying(purse(on_outcome=outcomes.append)) as session,
        pytest.raises(requests.ConnectionError),
    ):
        session.get(f"{url}/v2")
    assert [each.kind for each in outcomes] == [OutcomeKind.FAILED]


@pytest.mark.parametrize(("path", "at"), [("/v2", 2), ("/token-priced", 2), ("/token-priced", 3)])
def test_a_connection_that_breaks_after_the_permit_is_unknown(seller: FakeSeller, path: str, at: int) -> None:
    """Neither the error nor what it points to shows the permit, and it is no requests error to be retried."""
    count = iter(range(1, 9))
    budget = Budget.up_to("$1", NETWORK)
    with (
        on_wire(lambda seen: None if next(count) == at else seller(seen)) as url,
        paying(purse(budget=budget)) as session,
        pytest.raises(PaymentOutcomeUnknown) as caught,
    ):
        session.get(url + path)
    outcome, cause = caught.value.outcome, caught.value.__cause__
    assert (outcome.kind, outcome.amount) == (UNKNOWN, PRICE)
    assert outcome.exposed_until is not None
    assert outcome.exposed_until > time.time()
    assert isinstance(cause, requests.ConnectionError)
    assert cause.request is not None
    assert v2.PAYMENT_SIGNATURE not in cause.request.headers
    assert "Authorization" not in cause.request.headers
    assert not isinstance(caught.value, requests.RequestException)
    (cap,) = PayerPolicy.up_to("$1", NETWORK).caps
    assert budget.left(cap) == 1_000_000 - PRICE


def test_a_402_that_breaks_off_is_requests_own_error(seller: FakeSeller) -> None:
    with (
        on_wire(lambda _: Reply(402, (("Content-Length", "100"),), b"{")) as url,
        paying() as session,
        pytest.raises(requests.exceptions.ChunkedEncodingError) as caught,
    ):
        session.get(f"{url}/v2")
    assert isinstance(caught.value.request, requests.PreparedRequest)


def test_a_paid_response_that_breaks_off_has_its_outcome(seller: FakeSeller) -> None:
    """The body is the caller's to read; what is known about the money is known before."""

    def cut(seen: Seen) -> Reply:
        reply = seller(seen)
        return Reply(reply.status, (*reply.headers, ("Content-Length", "1000")), reply.body) if reply.status == 200 else reply

    with on_wire(cut) as url, paying() as session:
        response = session.get(f"{url}/v2", stream=True)
        assert told(response).kind is PAID
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            _ = response.content


def test_timeouts_are_the_callers_for_every_request(seller: FakeSeller) -> None:
    hold = threading.Event()
    with on_wire(lambda seen: hold.wait(5) and None if seen.paid else seller(seen)) as url, paying() as session:
        for path in ("/v2", "/token-priced"):
            began = time.monotonic()
            with pytest.raises(PaymentOutcomeUnknown) as caught:
                session.get(url + path, timeout=0.2)
            assert time.monotonic() - began < 2
            assert isinstance(caught.value.__cause__, requests.ReadTimeout)
        hold.set()


def test_a_2xx_without_receipt_is_delivered_as_unknown(shop: str, seller: FakeSeller) -> None:
    seller.script = lambda seen: ok(seen) if seen.paid else None
    with paying() as session:
        response = session.get(f"{shop}/v2")
    assert (response.status_code, told(response).kind) == (200, UNKNOWN)
    with pytest.raises(PaymentOutcomeUnknown):
        raise_for_payment(response)


def test_the_same_permit_is_presented_again_when_asked_to_wait(shop: str, seller: FakeSeller) -> None:
    seller.script = lambda seen: BUSY if seen.paid and len(seller.seen) < 4 else None
    quick = PayerPolicy(PayerPolicy.up_to("$0.05", NETWORK).caps, resend_after=Millis(1))
    with paying(purse(policy=quick)) as session:
        response = session.post(f"{shop}/v2", data=io.BytesIO(b"file"))
    assert (told(response).kind, response.json()["body"]) == (PAID, "file")
    presented = [seen.all(v2.PAYMENT_SIGNATURE) for seen in seller.seen]
    assert presented[0] == []
    assert presented[1] == presented[2] == presented[3] != []
    assert [seen.body for seen in seller.seen] == [b"file"] * 4


def test_interrupted_in_the_middle(shop: str) -> None:
    """Ctrl-C after the permit has left is told to the purse, and is still Ctrl-C."""

    class Interrupted(Recording):
        def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            if self.sent:
                raise KeyboardInterrupt
            return super().send(request, **options)

    outcomes: list[Outcome] = []
    with paying(purse(on_outcome=outcomes.append), http=Interrupted()) as session, pytest.raises(KeyboardInterrupt):
        session.get(f"{shop}/v2")
    assert [each.kind for each in outcomes] == [UNKNOWN]
