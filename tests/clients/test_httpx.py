"""httpx clients that pay, against FakeSeller: in memory in three worlds, and over real sockets."""

from __future__ import annotations

import ast
import contextlib
import gzip
import itertools
import json
import re
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.clients.fakes import (
    BUSY,
    KEY,
    NETWORK,
    PRICE,
    RPC,
    WORLDS,
    Chunks,
    FakeNode,
    FakeSeller,
    Seen,
    in_world,
    ok,
    purse,
    run_async,
    served,
)
from x402bind.chain.rpc import Endpoint
from x402bind.chain.signers import PrivateKeySigner
from x402bind.clients import alike
from x402bind.clients import httpx as edge
from x402bind.clients import purse as shared
from x402bind.clients.held import Held
from x402bind.clients.httpx import (
    AsyncPaymentTransport,
    PaymentTransport,
    async_paying_client,
    outcome_of,
    pay_with,
    paying_client,
    raise_for_payment,
    transports,
)
from x402bind.clients.httpx.exchange import HttpxCall
from x402bind.clients.purse import MOST_BODY, Budget, Purse, TokenCache
from x402bind.drive import adispatch, dispatch
from x402bind.errors import PaymentDeclined, PaymentOutcomeUnknown
from x402core.commands import ApprovePayment, Outcome, OutcomeKind, SignTypedData, StoreToken
from x402core.errors import LocalProtocolError, Reason, Refusal, Reply
from x402core.events import Dialect, Token
from x402core.evm.secp256k1 import public_address
from x402core.machines.machine import Cancel
from x402core.policy import PayerPolicy, offers
from x402core.values import Millis, Network, Origin, Seconds
from x402core.wire import v2

SHOP = "https://shop.test"
every_world = pytest.mark.parametrize("world", WORLDS)


def kind_of(response: httpx.Response) -> OutcomeKind:
    outcome = outcome_of(response)
    assert outcome is not None
    return outcome.kind


def refusal_of(response: httpx.Response) -> Refusal:
    outcome = outcome_of(response)
    assert outcome is not None
    assert outcome.refusal is not None
    return outcome.refusal


def once(path: str, reply: Reply) -> Callable[[Seen], Reply | None]:
    """Answer a path in one way, always."""
    return lambda seen: reply if seen.path == path else None


# ------------------------------------------------------------------------------------------------------ what is bought


@every_world
def test_a_free_response_is_untouched(world: str) -> None:
    seller = FakeSeller()
    (response,) = in_world(world, purse(), seller.mock(), {"url": f"{SHOP}/free"})
    assert kind_of(response) is OutcomeKind.FREE
    assert response.json()["path"] == "/free"
    assert response.headers.get_list("Set-Cookie") == ["a=1", "b=2"]
    assert len(seller.seen) == 1


@every_world
def test_v2_is_paid(world: str) -> None:
    seller = FakeSeller()
    (response,) = in_world(world, purse(), seller.mock(), {"url": f"{SHOP}/v2?q=1", "method": "POST", "content": b"order"})
    assert response.status_code == 200
    assert response.json()["body"] == "order"
    outcome = outcome_of(raise_for_payment(response))
    assert outcome is not None
    assert (outcome.kind, outcome.amount) == (OutcomeKind.PAID, PRICE)
    assert outcome.receipt is not None
    assert outcome.receipt.transaction == "0x" + "ab" * 32
    assert [seen.url for seen in seller.seen] == [f"{SHOP}/v2?q=1"] * 2
    assert seller.permits[0].payer == public_address(bytes.fromhex(KEY[2:]))


@every_world
def test_a_token_is_bought_once_and_used_again(world: str) -> None:
    seller, node = FakeSeller(), FakeNode()
    url = {"url": f"{SHOP}/token-priced"}
    first, second, other = in_world(world, purse(), seller.mock(), url, url, {"url": f"{SHOP}/token-priced-too"}, node=node)
    assert [kind_of(r) for r in (first, second, other)] == [OutcomeKind.PAID, OutcomeKind.FREE, OutcomeKind.PAID]
    assert [r.status_code for r in (first, second, other)] == [200, 200, 200]
    bought_one = ["/token-priced", "/token", "/token-priced"]
    assert seller.paths == [*bought_one, "/token-priced", "/token-priced-too", "/token", "/token-priced-too"]
    assert not seller.seen[4].paid  # the first path's token does not go to the second
    assert (len(seller.permits), node.asked) == (2, 2)


@every_world
def test_a_token_goes_to_no_other_origin(world: str) -> None:
    seller = FakeSeller()
    calls = [
        {"url": f"{SHOP}/token-priced"},
        {"url": "https://other.test/token-priced"},
        {"url": "https://shop.test:8443/token-priced"},
    ]
    in_world(world, purse(), seller.mock(), *calls)
    assert [seen.paid for seen in seller.seen] == [False, True, True] * 3


@every_world
def test_an_expired_token_is_bought_anew_and_a_refused_one_replaced(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seller = FakeSeller(life=30)
    real, shift = shared.now, [0]
    monkeypatch.setattr(shared, "now", lambda: Millis(real() + shift[0]))

    def script(seen: Seen) -> None:
        if len(seller.seen) == 3:
            shift[0] = 31_000  # the client's clock: the token is not even sent
        if len(seller.seen) == 7:
            seller.tokens.clear()  # the server has forgotten it: sent, refused, bought anew

    seller.script = script
    answers = in_world(world, purse(), seller.mock(), *[{"url": f"{SHOP}/token-priced"}] * 3)
    assert [kind_of(r) for r in answers] == [OutcomeKind.PAID] * 3
    assert [seen.paid for seen in seller.seen] == [False, True, True, False, True, True, True, True, True]
    assert seller.paths[6:] == ["/token-priced", "/token", "/token-priced"]


@every_world
def test_a_token_request_carries_nothing_of_the_callers(world: str) -> None:
    seller = FakeSeller()
    secret = {"Authorization": "Basic c2VjcmV0", "Cookie": "session=secret", "X-Api-Key": "secret", "User-Agent": "mine/1"}
    in_world(
        world, purse(), seller.mock(), {"url": f"{SHOP}/token-priced", "headers": secret, "content": b"b", "method": "PUT"}
    )
    before, bought, after = seller.seen
    assert "secret" not in str(bought.headers)
    assert "Basic" not in str(bought.headers)
    assert bought.all("Content-Type") == ["application/json"]
    assert bought.all("User-Agent") == ["mine/1"]
    assert before.all("Authorization") == ["Basic c2VjcmV0"]
    assert after.all("Authorization") == ["Bearer tok-0"]
    assert after.all("Cookie") == ["session=secret"]
    assert (after.method, after.body) == ("PUT", b"b")


@every_world
def test_the_callers_headers_survive(world: str) -> None:
    """A17: the content type, headers given as a list with repeats, their order and their case."""
    seller = FakeSeller()
    headers = [("X-Tag", "one"), ("Content-Type", "text/csv"), ("x-tag", "two")]
    call = {"url": f"{SHOP}/v2", "method": "POST", "headers": headers, "content": b"a,b"}
    in_world(world, purse(), seller.mock(), call, cookies={"session": "1"}, auth=("me", "pw"), headers={"X-Default": "d"})
    unpaid, paid = seller.seen
    added = [(name, value) for name, value in paid.headers if name == v2.PAYMENT_SIGNATURE]
    assert len(added) == 1
    assert [pair for pair in paid.headers if pair not in added] == list(unpaid.headers)
    assert paid.all("X-Tag") == ["one", "two"]
    assert paid.all("Content-Type") == ["text/csv"]
    assert paid.all("Cookie") == ["session=1"]
    assert paid.body == b"a,b"


@every_world
def test_cookies_of_the_answer_reach_the_clients_jar(world: str) -> None:
    seller = FakeSeller()
    in_world(world, purse(), seller.mock(), {"url": f"{SHOP}/v2"}, {"url": f"{SHOP}/free"})
    assert seller.seen[-1].all("Cookie") == ["a=1; b=2"]


@every_world
def test_the_callers_request_is_not_touched(world: str) -> None:
    seller = FakeSeller()
    (response,) = in_world(world, purse(), seller.mock(), {"url": f"{SHOP}/v2"})
    assert v2.PAYMENT_SIGNATURE not in response.request.headers


def test_credentials_in_a_url_are_not_part_of_the_resource() -> None:
    seller, asked = FakeSeller(), list[str]()

    def approve(command: ApprovePayment) -> bool:
        asked.append(command.url)
        return True

    (response,) = in_world("sync", purse(approve=approve), seller.mock(), {"url": "https://me:pw@shop.test/v2#part"})
    assert kind_of(response) is OutcomeKind.PAID
    assert asked == ["https://shop.test/v2"]


# ------------------------------------------------------------------------------------------------------- what is not


@every_world
def test_a_stream_is_declined_before_money_moves(world: str) -> None:
    seller = FakeSeller()

    def parts() -> Iterator[bytes]:
        yield b"a"

    async def aparts() -> AsyncIterator[bytes]:
        yield b"a"

    call = {"url": f"{SHOP}/v2", "method": "POST", "content": parts() if world == "sync" else aparts()}
    (response,) = in_world(world, purse(), seller.mock(), call)
    assert response.status_code == 402
    assert refusal_of(response).reason is Reason.NOT_REPLAYABLE
    assert len(seller.seen) == 1
    with pytest.raises(PaymentDeclined, match="request_body_not_replayable"):
        raise_for_payment(response)


@every_world
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
def test_somebody_elses_402_passes_through(world: str, reply: Reply) -> None:
    """Y29: nothing is raised, nothing is lost, nothing is paid."""
    seller = FakeSeller(once("/other", reply))
    (response,) = in_world(world, purse(), seller.mock(), {"url": f"{SHOP}/other"})
    assert (response.status_code, kind_of(response)) == (402, OutcomeKind.FREE)
    assert response.content == (gzip.decompress(reply.body) if "gzip" in str(reply.headers) else reply.body)
    assert set(reply.headers) <= {(k.decode(), v.decode()) for k, v in response.headers.raw} | {
        (name, value) for name, value in reply.headers if response.headers[name] == value
    }
    assert len(seller.seen) == 1


def hostile() -> dict[str, Reply]:
    seller = FakeSeller()
    good = seller.challenge(Dialect.PERMIT_TOKEN)
    header = v2.PAYMENT_REQUIRED
    return {
        "garbage header": Reply(402, ((header, "!!!"),)),
        "two headers": Reply(402, 2 * tuple(pair for pair in seller.challenge(Dialect.V2).headers if pair[0] == header)),
        "duplicate keys": Reply(402, (), b'{"payment_scheme": {}, "payment_scheme": {}}'),
        "deep": Reply(402, (), b'{"payment_scheme": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "cut at the cap": Reply(402, (), good.body[:-1] + b" " * MOST_BODY + b"}"),
        "packed bomb": Reply(402, (("Content-Encoding", "gzip"),), gzip.compress(good.body[:-1] + b" " * 50_000_000 + b"}")),
        "not packed": Reply(402, (("Content-Encoding", "gzip"), (header, "e30=")), good.body),
        "foreign endpoint": seller.challenge(Dialect.PERMIT_TOKEN, endpoint="https://evil.test/token"),
        "expensive": FakeSellerAt("$1").challenge(Dialect.V2),
    }


def FakeSellerAt(price: str) -> FakeSeller:
    seller = FakeSeller()
    seller.offers = offers(price, NETWORK, seller.offers[0].pay_to)
    return seller


@every_world
@pytest.mark.parametrize("name", list(hostile()))
def test_hostile_402(world: str, name: str) -> None:
    """A 402 that may not be paid comes back with a typed outcome; nothing was signed and nothing is raised."""
    seller = FakeSeller(once("/hostile", hostile()[name]))
    signer = Counting()

    def check(response: httpx.Response) -> None:
        assert response.status_code == 402
        assert kind_of(response) in (OutcomeKind.DECLINED, OutcomeKind.FAILED)
        assert refusal_of(response).reason
        with pytest.raises(PaymentDeclined):
            raise_for_payment(response)

    headers = {"Accept-Encoding": "identity"}
    payer = purse(signer=signer)
    if world == "sync":
        client = httpx.Client(transport=PaymentTransport(seller.mock(), payer, chain=FakeNode().sync()))
        with client, client.stream("GET", f"{SHOP}/hostile", headers=headers) as response:
            check(response)
    else:

        async def main() -> None:
            transport = AsyncPaymentTransport(seller.mock(), payer, chain=FakeNode().anyio())
            async with (
                httpx.AsyncClient(transport=transport) as client,
                client.stream("GET", f"{SHOP}/hostile", headers=headers) as response,
            ):
                check(response)

        run_async(world, main)
    assert signer.signed == 0
    assert seller.paths == ["/hostile"]


class Counting:
    """A signer that counts."""

    def __init__(self) -> None:
        self._inner = PrivateKeySigner(KEY)
        self.address = self._inner.address
        self.signed = 0

    def sign(self, command: Any) -> Any:
        self.signed += 1
        return self._inner.sign(command)


@every_world
def test_a_402_for_every_request_is_paid_once(world: str) -> None:
    """A6: no answer makes one call sign twice."""
    for path in ("/v2", "/token-priced"):
        seller = FakeSeller()
        seller.script = lambda seen, seller=seller: None if seen.path == "/token" else seller.challenge(*Dialect)
        if path == "/token-priced":
            seller.script = lambda seen, seller=seller: seller.challenge(Dialect.PERMIT_TOKEN)
        signer = Counting()
        (response,) = in_world(world, purse(signer=signer), seller.mock(), {"url": SHOP + path})
        outcome = outcome_of(response)
        assert outcome is not None
        assert (response.status_code, outcome.kind, outcome.amount) == (402, OutcomeKind.DECLINED, PRICE)
        assert outcome.exposed_until is not None
        assert signer.signed == 1


@every_world
def test_a_402_without_a_node_says_what_to_configure(world: str) -> None:
    seller = FakeSeller()
    (response,) = in_world(world, purse(rpc=False), seller.mock(), {"url": f"{SHOP}/token-priced"})
    assert (response.status_code, kind_of(response)) == (402, OutcomeKind.FAILED)
    assert "rpc={'eip155:84532'" in refusal_of(response).detail
    assert "PermitNonce" in refusal_of(response).detail
    assert response.json()["payment_scheme"]  # and the 402 itself is all there


@every_world
def test_whoever_guards_the_purse_may_say_no(world: str) -> None:
    seller = FakeSeller()
    asked: list[ApprovePayment] = []

    def approve(command: ApprovePayment) -> Refusal:
        asked.append(command)
        return Refusal(Reason.NOT_APPROVED, "not today")

    (response,) = in_world(world, purse(approve=approve), seller.mock(), {"url": f"{SHOP}/v2"})
    assert refusal_of(response).detail == "not today"
    assert [(command.url, command.offer.amount) for command in asked] == [(f"{SHOP}/v2", PRICE)]
    assert len(seller.seen) == 1


@pytest.mark.parametrize("world", WORLDS[1:])
def test_an_async_guard_and_an_async_wallet(world: str) -> None:
    seller = FakeSeller()

    async def approve(_command: ApprovePayment) -> bool:
        await anyio.lowlevel.checkpoint()
        return True

    class Remote(Counting):
        async def sign(self, command: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return super().sign(command)

    (response,) = in_world(world, purse(approve=approve, signer=Remote()), seller.mock(), {"url": f"{SHOP}/v2"})
    assert kind_of(response) is OutcomeKind.PAID

    for wrong, field in ((purse(approve=approve), "approve"), (purse(signer=Remote()), "signer")):
        with pytest.raises(LocalProtocolError, match="async") as caught:
            PaymentTransport(seller.mock(), wrong)
        assert caught.value.field == field


@every_world
def test_a_wallet_that_fails_declines(world: str) -> None:
    class Broken(Counting):
        def sign(self, command: Any) -> Any:
            raise OSError("usb")

    (response,) = in_world(world, purse(signer=Broken()), FakeSeller().mock(), {"url": f"{SHOP}/v2"})
    assert refusal_of(response).reason is Reason.SIGNING_FAILED


# --------------------------------------------------------------------------------------------------- what goes wrong


@every_world
def test_an_error_before_the_permit_is_the_original(world: str) -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    seen: list[Outcome] = []
    with pytest.raises(httpx.ConnectError, match="no route"):
        in_world(world, purse(on_outcome=seen.append), httpx.MockTransport(broken), {"url": f"{SHOP}/v2"})
    assert [outcome.kind for outcome in seen] == [OutcomeKind.FAILED]


@every_world
@pytest.mark.parametrize(("path", "at"), [("/v2", 2), ("/token-priced", 2), ("/token-priced", 3)])
def test_an_error_after_the_permit_is_unknown(world: str, path: str, at: int) -> None:
    """The permit is out: neither the error nor what it points to shows it, and it is no httpx error to be retried."""
    seller, inner = FakeSeller(), None
    mock = seller.mock()

    def broken(request: httpx.Request) -> httpx.Response:
        if len(seller.seen) == at - 1:
            raise httpx.ReadTimeout("gone", request=request)
        return mock.handle_request(request)

    inner = httpx.MockTransport(broken)
    with pytest.raises(PaymentOutcomeUnknown) as caught:
        in_world(world, purse(), inner, {"url": SHOP + path})
    outcome, cause = caught.value.outcome, caught.value.__cause__
    assert (outcome.kind, outcome.amount) == (OutcomeKind.UNKNOWN, PRICE)
    assert outcome.exposed_until is not None
    assert outcome.exposed_until > time.time()
    assert isinstance(cause, httpx.ReadTimeout)
    assert v2.PAYMENT_SIGNATURE not in cause.request.headers
    assert "Authorization" not in cause.request.headers
    assert not isinstance(caught.value, httpx.HTTPError)
    assert str(PRICE) in str(caught.value)


@every_world
def test_a_2xx_without_receipt_is_delivered_as_unknown(world: str) -> None:
    seller = FakeSeller(lambda seen: ok(seen) if seen.paid else None)
    (response,) = in_world(world, purse(), seller.mock(), {"url": f"{SHOP}/v2"})
    assert (response.status_code, kind_of(response)) == (200, OutcomeKind.UNKNOWN)
    with pytest.raises(PaymentOutcomeUnknown):
        raise_for_payment(response)


@every_world
def test_the_same_permit_is_presented_again_when_asked_to_wait(world: str) -> None:
    seller = FakeSeller()
    seller.script = lambda seen: BUSY if seen.paid and len(seller.seen) < 4 else None
    policy = PayerPolicy.up_to("$0.05", NETWORK)
    quick = PayerPolicy(policy.caps, resend_after=Millis(1))
    (response,) = in_world(world, purse(policy=quick), seller.mock(), {"url": f"{SHOP}/v2"})
    assert kind_of(response) is OutcomeKind.PAID
    presented = [seen.all(v2.PAYMENT_SIGNATURE) for seen in seller.seen]
    assert presented[0] == []
    assert presented[1] == presented[2] == presented[3] != []


@every_world
def test_a_body_that_breaks_off_is_an_error_and_is_closed(world: str) -> None:
    class Broken(Chunks):
        def __iter__(self) -> Iterator[bytes]:
            yield b"{"
            raise httpx.ReadError("broken off")

    body = Broken(b"")
    inner = httpx.MockTransport(lambda _: httpx.Response(402, stream=body))
    with pytest.raises(httpx.ReadError, match="broken off"):
        in_world(world, purse(), inner, {"url": f"{SHOP}/v2"})
    assert body.closed


@every_world
def test_a_402_too_big_to_hold_gives_way_to_the_payment(world: str) -> None:
    """The v2 header suffices to pay, the rest of the page is dropped; when nothing is paid it can be read to its end."""
    seller = FakeSeller()
    page = b"<p>" + b"x" * MOST_BODY * 2
    plain = seller.challenge(Dialect.V2)
    big = Reply(402, tuple(pair for pair in plain.headers if pair[0] == v2.PAYMENT_REQUIRED), page)
    seller.script = lambda seen: None if seen.paid else big
    bodies: list[Chunks] = []
    inner = recorded(seller.mock(), bodies)
    (response,) = in_world(world, purse(), inner, {"url": f"{SHOP}/v2"})
    assert kind_of(response) is OutcomeKind.PAID
    assert bodies[0].closed
    assert bodies[0].parts
    (unpaid,) = in_world(world, purse("$0.001"), inner, {"url": f"{SHOP}/v2"})
    assert refusal_of(unpaid).reason is Reason.OVER_CAP
    assert unpaid.content == page


@every_world
def test_nothing_is_pinned_while_somebody_thinks_or_waits(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An approval may take minutes, a pause seconds: the connection is given back before, not after."""
    seller, bodies, free = FakeSeller(), list[Chunks](), list[bool]()
    seller.script = lambda seen: BUSY if seen.paid and len(seller.seen) < 3 else None

    def approve(_command: ApprovePayment) -> bool:
        free.append(bodies[-1].closed)
        return True

    def sleep(_seconds: float) -> Any:
        free.append(bodies[-1].closed)
        return None if world == "sync" else anyio.lowlevel.checkpoint()

    monkeypatch.setattr(transports, "time" if world == "sync" else "anyio", Clock(sleep))
    (response,) = in_world(world, purse(approve=approve), recorded(seller.mock(), bodies), {"url": f"{SHOP}/v2"})
    assert kind_of(response) is OutcomeKind.PAID
    assert free == [True, True]


class Clock:
    """A module that sleeps at once."""

    CancelScope = anyio.CancelScope

    def __init__(self, sleep: Callable[[float], Any]) -> None:
        self.sleep = sleep


@pytest.mark.parametrize("layers", [1, 2])
def test_a_packed_bomb_is_stopped_early(layers: int) -> None:
    packed = bytes(200_000_000)
    for _ in range(layers):
        packed = gzip.compress(packed, 9)
    held = holding(packed, {"Content-Encoding": ", ".join(["gzip"] * layers)})
    tracemalloc.start()
    try:
        assert len(held.plain()) == (MOST_BODY if layers == 1 else 0)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_packed_body_that_is_not_all_here_shows_nothing() -> None:
    """Or a document could be bought by whose page can no longer be read to its end."""
    document = b'{"payment_scheme": {}}'
    assert holding(gzip.compress(document), {"Content-Encoding": "gzip"}).plain() == document
    assert holding(gzip.compress(document) + b"x" * MOST_BODY, {"Content-Encoding": "gzip"}).plain() == b""


def holding(body: bytes, headers: dict[str, str]) -> Held:
    chunks = Chunks(body)
    return Held(httpx.Response(402, headers=headers, stream=chunks)).read(iter(chunks))


def recorded(mock: httpx.MockTransport, bodies: list[Chunks]) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        response = mock.handle_request(request)
        assert isinstance(response.stream, Chunks)
        bodies.append(response.stream)
        return response

    return httpx.MockTransport(handle)


def test_the_rest_of_a_page_given_up_cannot_be_taken_for_its_end() -> None:
    """Reading on after the connection was given back fails, loudly."""
    body = Chunks(b"x" * MOST_BODY * 2)
    inner = httpx.Response(402, stream=body)
    held = Held(inner).read(iter(body))
    inner.close()
    with pytest.raises(httpx.ReadError, match="given up"):
        b"".join(held)


@every_world
def test_an_inner_transport_that_reads_bodies_itself(world: str) -> None:
    seller = FakeSeller()
    mock = seller.mock()

    def handle(request: httpx.Request) -> httpx.Response:
        response = mock.handle_request(request)
        return httpx.Response(response.status_code, headers=response.headers, content=response.read())

    (response,) = in_world(world, purse(), httpx.MockTransport(handle), {"url": f"{SHOP}/token-priced"})
    assert kind_of(response) is OutcomeKind.PAID
    (response,) = in_world(world, purse("$0.001"), httpx.MockTransport(handle), {"url": f"{SHOP}/token-priced"})
    assert response.json()["payment_scheme"]


@every_world
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_402_is_read(world: str, encoding: str) -> None:
    import zlib

    pack = gzip.compress if encoding == "gzip" else zlib.compress
    seller = FakeSeller()

    def script(seen: Seen) -> Reply | None:
        reply = seller.answer(seen)
        if reply.status == 402:
            return Reply(402, (*reply.headers, ("Content-Encoding", encoding)), pack(reply.body))
        return None

    seller.script = script
    (response,) = in_world(world, purse(), seller.mock(), {"url": f"{SHOP}/token-priced"})
    assert kind_of(response) is OutcomeKind.PAID


# ---------------------------------------------------------------------------------------------------------- two worlds


PATHS = ("/free", "/v2", "/token-priced", "/both", "/busy", "/token-priced-busy", "/broken")


def shop_of(path: str) -> FakeSeller:
    """Return a seller who asks to wait once (/busy, /token-priced-busy), and then may hang up (/broken)."""
    seller = FakeSeller()

    def script(seen: Seen) -> Reply | None:
        asked = sum(one.paid for one in seller.seen)
        if path in ("/busy", "/broken") and not seen.paid:
            return seller.challenge(Dialect.V2)
        if path in ("/busy", "/broken", "/token-priced-busy") and seen.paid and asked == 1:
            return BUSY
        if path == "/broken" and seen.paid:
            raise httpx.ReadError("gone")
        return seller._v2(seen, Dialect.V2) if path == "/busy" else None

    seller.script = script
    return seller


def shown(command: object) -> str:
    if isinstance(command, alike.Send):
        return f"send {command.request.method} {command.request.url} {command.request.headers.raw}"
    return type(command).__name__ if isinstance(command, alike.Read | alike.Release) else repr(command)


Fault = tuple[int, str]


def transcript(world: str, path: str, monkeypatch: pytest.MonkeyPatch, at: Millis, fault: Fault | None = None) -> list[str]:
    """Return the leaf commands of an exchange at ``at`` (Unix milliseconds), in order; ``fault`` breaks one of them.

    Whatever breaks: one permit at most, one outcome told, and what the caller gets agrees with it.
    """
    log, told, count = list[str](), list[Outcome](), itertools.count()
    plain = HttpxCall.steps

    def logged(self: HttpxCall) -> Any:
        steps, answer, error = plain(self), None, None
        try:
            while True:
                command = steps.send(answer) if error is None else steps.throw(error)
                log.append(shown(command))
                index, answer, error = next(count), None, None
                try:
                    if fault == (index, "before"):
                        raise OSError("injected")
                    answer = yield command
                    if fault == (index, "after"):
                        raise OSError("injected")
                except (Exception, Cancel) as caught:  # noqa: BLE001 - passed on
                    error = caught
                    log.append(type(caught).__name__)
        except StopIteration as stop:
            log.append(repr(stop.value))
            return stop.value

    seller = shop_of(path)
    with monkeypatch.context() as patch:
        patch.setattr(HttpxCall, "steps", logged)
        patch.setattr(shared, "now", lambda: at)
        patch.setattr("secrets.token_bytes", lambda n: b"e" * n)
        quick = PayerPolicy(PayerPolicy.up_to("$0.05", NETWORK).caps, resend_after=Millis(1))
        response, raised = None, None
        try:
            (response,) = in_world(world, purse(policy=quick, on_outcome=told.append), seller.mock(), {"url": SHOP + path})
        except (PaymentOutcomeUnknown, OSError) as error:
            raised = error
    log.append(repr(raised))
    assert len(told) == 1
    assert response is None or outcome_of(response) is told[0]
    assert raised is None or isinstance(raised, PaymentOutcomeUnknown) == (told[0].amount > 0)
    assert len({permit.key for permit in seller.permits}) <= 1
    assert not seller.permits or told[0].amount == PRICE
    return log


@pytest.mark.parametrize("path", PATHS)
def test_all_worlds_give_the_same_commands(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """models.md 8: the same exchange, and the same one with any of its commands failing, undone or done and not heard of."""
    at = shared.now()
    whole, broken = transcript("sync", path, monkeypatch, at), 0
    for fault in (None, *itertools.product(range(100), ("before", "after"))):
        logs = [transcript(world, path, monkeypatch, at, fault) for world in WORLDS]
        assert logs[0] == logs[1] == logs[2]
        broken += "OSError" in logs[0]
        if "OSError" in logs[0] and logs[0][logs[0].index("OSError") - 1] == "_Release":  # the pool's loss, and nobody else's
            assert logs[0][-2:] == whole[-2:]
        if fault is not None and fault[1] == "before" and "OSError" not in logs[0]:  # there is no such command any more
            break
    assert broken >= (2 if path == "/free" else 12)


# ---------------------------------------------------------------------------------------------------------- concurrency


def test_threads_share_no_state() -> None:
    """Y9: every request of one client, from many threads, is its own exchange with its own permit."""
    seller = FakeSeller()
    client = httpx.Client(transport=PaymentTransport(seller.mock(), purse(), chain=FakeNode().sync()))
    with client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: client.post(f"{SHOP}/v2", content=str(n).encode()), range(40)))
    assert [kind_of(r) for r in answers] == [OutcomeKind.PAID] * 40
    assert [r.json()["body"] for r in answers] == [str(n) for n in range(40)]
    assert len({permit.key for permit in seller.permits}) == 40


@pytest.mark.parametrize("world", WORLDS[1:])
def test_tasks_share_no_state(world: str) -> None:
    seller = FakeSeller()

    async def main() -> list[httpx.Response]:
        answers: list[httpx.Response] = []
        async with httpx.AsyncClient(transport=AsyncPaymentTransport(seller.mock(), purse(rpc=False))) as client:

            async def one(n: int) -> None:
                answers.append(await client.post(f"{SHOP}/v2", content=str(n).encode()))

            async with anyio.create_task_group() as group:
                for n in range(40):
                    group.start_soon(one, n)
        return answers

    answers = run_async(world, main)
    assert [kind_of(r) for r in answers] == [OutcomeKind.PAID] * 40
    assert sorted(int(r.json()["body"]) for r in answers) == list(range(40))
    assert len({permit.key for permit in seller.permits}) == 40


def test_y9_every_request_of_a_client_is_paid() -> None:
    answers = in_world("sync", purse(), FakeSeller().mock(), *[{"url": f"{SHOP}/v2"}] * 4)
    assert [r.status_code for r in answers] == [200] * 4


# --------------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize(
    ("path", "at", "kind"),
    [
        ("/v2", 1, OutcomeKind.ABANDONED),
        ("/v2", 2, OutcomeKind.UNKNOWN),
        ("/token-priced", 2, OutcomeKind.UNKNOWN),
        ("/token-priced", 3, OutcomeKind.UNKNOWN),
    ],
)
def test_cancelled(world: str, path: str, at: int, kind: OutcomeKind) -> None:
    """The caller's cancellation passes through; what it leaves open is reported, and stays reserved."""
    seller, seen, budget = FakeSeller(), list[Outcome](), Budget.up_to("$1", NETWORK)
    mock = seller.mock()

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if len(seller.seen) == at - 1:
                await anyio.sleep(30)
            return await mock.handle_async_request(request)

    async def main() -> bool:
        transport = AsyncPaymentTransport(Slow(), purse(on_outcome=seen.append, budget=budget), chain=FakeNode().anyio())
        async with httpx.AsyncClient(transport=transport) as client:
            with anyio.move_on_after(0.2) as scope:
                await client.get(SHOP + path)
        return scope.cancelled_caught

    assert run_async(world, main)
    assert [outcome.kind for outcome in seen] == [kind]
    assert (seen[0].exposed_until is not None) == (kind is OutcomeKind.UNKNOWN)
    (cap,) = PayerPolicy.up_to("$1", NETWORK).caps
    assert budget.left(cap) == 1_000_000 - (PRICE if kind is OutcomeKind.UNKNOWN else 0)


@pytest.mark.parametrize("world", WORLDS[1:])
def test_cancelled_while_a_402_is_held(world: str) -> None:
    seller, bodies = FakeSeller(), list[Chunks]()
    plain = seller.challenge(Dialect.V2)
    seller.script = lambda _: Reply(402, plain.headers, b"x" * MOST_BODY * 2)

    async def approve(_command: ApprovePayment) -> bool:
        await anyio.sleep(30)
        return True

    async def main() -> bool:
        transport = AsyncPaymentTransport(recorded(seller.mock(), bodies), purse(rpc=False, approve=approve))
        async with httpx.AsyncClient(transport=transport) as client:
            with anyio.move_on_after(0.1) as scope:
                await client.get(f"{SHOP}/v2")
        return scope.cancelled_caught

    assert run_async(world, main)
    assert bodies[0].closed


def test_interrupted() -> None:
    """Sync: Ctrl-C after the permit has left is told to the purse, and is still Ctrl-C."""
    seller, seen = FakeSeller(), list[Outcome]()

    def script(request: Seen) -> None:
        if request.paid:
            raise KeyboardInterrupt

    seller.script = script
    with pytest.raises(KeyboardInterrupt):
        in_world("sync", purse(on_outcome=seen.append), seller.mock(), {"url": f"{SHOP}/v2"})
    assert [outcome.kind for outcome in seen] == [OutcomeKind.UNKNOWN]


@pytest.mark.parametrize("path", PATHS[:-1])
def test_interrupted_anywhere(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C and both loops' cancellation, at each command: one outcome is told, the same one, and no body is left open."""
    began = shared.now()
    with monkeypatch.context() as patch:
        patch.setattr(shared, "now", lambda: began)
        patch.setattr("secrets.token_bytes", lambda n: b"e" * n)
        for at in itertools.count():
            told = [interrupted(world, path, at, patch) for world in WORLDS]
            assert told[0] == told[1] == told[2]
            assert len(told[0]) == 1
            if told[0][0].kind in (OutcomeKind.PAID, OutcomeKind.FREE):  # it came to its end
                break
    assert at > 0


def interrupted(world: str, path: str, at: int, patch: pytest.MonkeyPatch) -> list[Outcome]:
    """Interrupt command number ``at`` and return what the purse was told."""
    told, bodies, seller, count = list[Outcome](), list[Chunks](), shop_of(path), itertools.count()
    scope: anyio.CancelScope
    quick = PayerPolicy(PayerPolicy.up_to("$0.05", NETWORK).caps, resend_after=Millis(1))
    payer, inner = purse(policy=quick, on_outcome=told.append), recorded(seller.mock(), bodies)

    def interrupting(table: Any) -> Any:
        perform = dispatch(table)

        def each(command: Any) -> Any:
            if next(count) == at:
                raise KeyboardInterrupt
            return perform(command)

        return each

    def cancelling(table: Any) -> Any:
        perform = adispatch(table)

        async def each(command: Any) -> Any:
            if next(count) == at:
                scope.cancel()
                await anyio.lowlevel.checkpoint()
            return await perform(command)

        return each

    async def main() -> None:
        nonlocal scope
        with anyio.CancelScope() as scope:
            async with httpx.AsyncClient(transport=AsyncPaymentTransport(inner, payer, chain=FakeNode().anyio())) as client:
                await client.get(SHOP + path)

    patch.setattr(transports, "dispatch", interrupting)
    patch.setattr(transports, "adispatch", cancelling)
    if world == "sync":
        with contextlib.suppress(KeyboardInterrupt):
            in_world(world, payer, inner, {"url": SHOP + path})
    else:
        run_async(world, main)
    assert all(body.closed for body in bodies)
    assert len({permit.key for permit in seller.permits}) <= 1
    assert not seller.permits or told[0].amount == PRICE
    return told


def test_a_coroutine_that_is_dropped_tells_its_outcome() -> None:
    """Nothing can be awaited then, but the purse can still be told, and the budget keeps what may have been taken."""
    seller, told, budget = FakeSeller(), list[Outcome](), Budget.up_to("$1", NETWORK)
    mock = seller.mock()

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if seller.seen:
                await anyio.sleep_forever()
            response = mock.handle_request(request)
            return httpx.Response(response.status_code, headers=response.headers, content=response.read())

    async def main() -> None:
        transport = AsyncPaymentTransport(Silent(), purse(rpc=False, on_outcome=told.append, budget=budget))
        coroutine = transport.handle_async_request(httpx.Request("GET", f"{SHOP}/v2"))
        coroutine.send(None)
        assert told == []
        coroutine.close()

    anyio.run(main)
    assert [(outcome.kind, outcome.amount) for outcome in told] == [(OutcomeKind.UNKNOWN, PRICE)]
    (cap,) = PayerPolicy.up_to("$1", NETWORK).caps
    assert budget.left(cap) == 1_000_000 - PRICE


# --------------------------------------------------------------------------------------------------------------- budget


@every_world
def test_a_budget_ends(world: str) -> None:
    seller = FakeSeller()
    payer = purse(budget=Budget.up_to("$0.025", NETWORK))
    answers = in_world(world, payer, seller.mock(), *[{"url": f"{SHOP}/v2"}] * 3)
    assert [kind_of(r) for r in answers] == [OutcomeKind.PAID, OutcomeKind.PAID, OutcomeKind.DECLINED]
    assert refusal_of(answers[2]) == Refusal(Reason.OVER_BUDGET, "the server asks $0.01, the budget has $0.005 left")


def settled(budget: Budget, kind: OutcomeKind, until: int | None = None) -> None:
    (offer, *_) = offers("$0.01", NETWORK, "0x" + "22" * 20)
    assert budget.reserve(offer) is None
    budget.settle(offer, Outcome(kind, offer, exposed_until=None if until is None else Seconds(until)))


def test_budget_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000]
    monkeypatch.setattr(shared, "now", lambda: Millis(clock[0] * 1000))
    budget = Budget.up_to("$0.10", NETWORK)
    (cap,) = PayerPolicy.up_to("$0.10", NETWORK).caps
    for kind in (OutcomeKind.ABANDONED, OutcomeKind.DECLINED, OutcomeKind.FAILED):
        settled(budget, kind)
    assert budget.left(cap) == 100_000
    settled(budget, OutcomeKind.PAID)
    settled(budget, OutcomeKind.UNKNOWN, until=1_100)
    settled(budget, OutcomeKind.DECLINED, until=1_100)
    assert budget.left(cap) == 70_000
    clock[0] = 1_100
    assert budget.left(cap) == 70_000  # the chain's clock may be behind
    clock[0] = 1_161
    assert budget.left(cap) == 80_000  # what was refused can no longer be taken; what is unknown may have been
    (other,) = PayerPolicy.up_to("$1", "eip155:8453").caps
    assert budget.left(other) == 0
    refusal = budget.reserve(offers("$0.01", "eip155:8453", "0x" + "22" * 20)[0])
    assert refusal is not None
    assert refusal.reason is Reason.OVER_BUDGET


def test_a_refused_allowance_counts_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """EIP-2612: a permit that was executed before it expired leaves an allowance, and that does not expire."""
    clock = [1_000]
    monkeypatch.setattr(shared, "now", lambda: Millis(clock[0] * 1000))
    budget = Budget.up_to("$0.10", NETWORK)
    (cap,) = PayerPolicy.up_to("$0.10", NETWORK).caps
    offer = FakeSeller().offer(Dialect.PERMIT_TOKEN)
    for until in (None, Seconds(1_100)):
        assert budget.reserve(offer) is None
        budget.settle(offer, Outcome(OutcomeKind.DECLINED, offer, exposed_until=until))
    clock[0] = 9_000
    assert budget.left(cap) == 90_000


def test_a_budget_is_never_overdrawn_by_threads() -> None:
    seller = FakeSeller()
    payer = purse(budget=Budget.up_to("$0.10", NETWORK))
    client = httpx.Client(transport=PaymentTransport(seller.mock(), payer, chain=FakeNode().sync()))
    with client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get(f"{SHOP}/v2"), range(30)))
    assert sum(kind_of(r) is OutcomeKind.PAID for r in answers) == len(seller.permits) == 10


# ------------------------------------------------------------------------------------------------- purse, token cache


def test_a_purse_shows_no_secret() -> None:
    payer = Purse.up_to(KEY, "$0.05", NETWORK, rpc={"base-sepolia": "https://node.test/v2/secret-api-key"})
    client = pay_with(httpx.Client(), payer)
    for text in (repr(payer), str(payer), repr(payer.signer), repr(payer.rpc), repr(client._transport), repr(vars(client))):
        assert "11" * 8 not in text
        assert "secret-api-key" not in text
    assert public_address(bytes.fromhex(KEY[2:])) in repr(payer)
    assert "$0.05" in repr(payer)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Purse.up_to("0xnot", "$1", NETWORK), "key"),
        (lambda: Purse.up_to(KEY, "$1"), "networks"),
        (lambda: Purse.up_to(KEY, 0.05, NETWORK), "price"),  # type: ignore[arg-type]
        (lambda: Purse.up_to(KEY, "$1", NETWORK, rpc={NETWORK: "node.test"}), "url"),
        (lambda: Purse.up_to(KEY, "$1", NETWORK, rpc=RPC), "rpc"),  # type: ignore[arg-type]
        (lambda: Purse.up_to(KEY, "$1", NETWORK, rpc={NETWORK: Endpoint(RPC, Network("eip155:8453"))}), "rpc"),
        (lambda: purse(on_outcome=anyio.sleep), "on_outcome"),
        (lambda: Purse(PrivateKeySigner(KEY), "$1"), "policy"),  # type: ignore[arg-type]
    ],
)
def test_a_purse_is_checked_when_it_is_made(make: Callable[[], object], field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        make()
    assert caught.value.field == field
    assert "0xnot" not in str(caught.value)


def test_the_token_cache_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "now", lambda: Millis(1_000_000))
    cache, origin = TokenCache(most=2), Origin("https://shop.test")
    for n in range(3):
        cache.store(StoreToken(origin, f"/{n}", Token(f"t{n}", Seconds(1_001))))
    cache.store(StoreToken(origin, "/1", Token("again", Seconds(1_000))))
    assert cache.find(origin, "/0") is None
    assert cache.find(origin, "/1") is None  # expired
    assert cache.find(origin, "/2") == Token("t2", Seconds(1_001))


def test_a_callback_that_raises_does_not_lose_the_response(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_outcome: Outcome) -> None:
        raise RuntimeError("bookkeeping")

    (response,) = in_world("sync", purse(on_outcome=broken), FakeSeller().mock(), {"url": f"{SHOP}/v2"})
    assert kind_of(response) is OutcomeKind.PAID
    assert "on_outcome raised" in caplog.text


# ---------------------------------------------------------------------------------------------- clients, real sockets


@pytest.fixture
def seller() -> FakeSeller:
    return FakeSeller()


@pytest.fixture
def shop(seller: FakeSeller) -> Iterator[str]:
    with served(seller.asgi) as url:
        yield url


@contextmanager
def node_served(node: FakeNode) -> Iterator[str]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        answer = node(httpx.Request("POST", "http://node", content=body)).read()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": answer})

    with served(app) as url:
        yield url


def test_one_line_and_it_pays(shop: str, seller: FakeSeller) -> None:
    with node_served(FakeNode()) as node, paying_client(KEY, "$0.05", NETWORK, rpc={NETWORK: node}, base_url=shop) as client:
        assert [client.get(path).status_code for path in ("/free", "/v2", "/both", "/token-priced", "/token-priced")] == [
            200
        ] * 5
    assert seller.paths == ["/free", *["/v2"] * 2, *["/both"] * 2, "/token-priced", "/token", *["/token-priced"] * 2]


@pytest.mark.parametrize("world", WORLDS[1:])
def test_one_line_and_it_pays_async(world: str, shop: str, seller: FakeSeller) -> None:
    async def main(node: str) -> None:
        async with async_paying_client(KEY, "$0.05", NETWORK, rpc={NETWORK: node}, base_url=shop) as client:
            for path in ("/free", "/v2", "/both", "/token-priced", "/token-priced"):
                assert (await client.get(path)).status_code == 200

    with node_served(FakeNode()) as node:
        run_async(world, lambda: main(node))
    assert len(seller.permits) == 3


@pytest.mark.parametrize("path", ["/v2", "/token-priced"])
def test_a_pool_of_one_connection_is_enough(shop: str, seller: FakeSeller, path: str) -> None:
    """A 402 that was not given back would make the payment wait for its own connection."""
    big = Reply(402, seller.challenge(Dialect.V2).headers, b"x" * MOST_BODY * 4)
    seller.script = lambda seen: big if seen.path == "/v2" and not seen.paid else None
    limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(5, pool=0.5)
    with node_served(FakeNode()) as node:
        options: dict[str, Any] = {"rpc": {NETWORK: node}, "base_url": shop, "limits": limits, "timeout": timeout}
        with paying_client(KEY, "$0.05", NETWORK, **options) as client:
            assert [client.get(path).status_code for _ in range(3)] == [200] * 3
        with paying_client(KEY, "$0.001", NETWORK, **options) as client:
            assert [client.get(path).status_code for _ in range(3)] == [402] * 3

        async def main() -> None:
            async with async_paying_client(KEY, "$0.05", NETWORK, **options) as client:
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(client.get, path)
                async with client.stream("GET", "/free") as response:
                    assert response.status_code == 200

        for world in WORLDS[1:]:
            run_async(world, main)


def test_streams(shop: str, seller: FakeSeller) -> None:
    with paying_client(KEY, "$0.05", NETWORK) as client:
        with client.stream("GET", f"{shop}/v2") as response:
            assert kind_of(response) is OutcomeKind.PAID
            assert not response.is_stream_consumed
            assert json.loads(b"".join(response.iter_raw()))["path"] == "/v2"
        seller.script = lambda _: seller.challenge(Dialect.PERMIT_TOKEN)
        with client.stream("GET", f"{shop}/x") as response:
            assert kind_of(response) is OutcomeKind.FAILED
            assert "payment_scheme" in json.loads(b"".join(response.iter_bytes(7)))
        assert response.is_closed


def test_a_402_read_whole_keeps_its_connection(shop: str) -> None:
    opened: list[str] = []

    def trace(name: str, _info: object) -> None:
        opened.append(name)

    with paying_client(KEY, "$0.05", NETWORK) as client:
        client.get(f"{shop}/v2", extensions={"trace": trace})
    assert opened.count("connection.connect_tcp.complete") == 1
    assert opened.count("http11.send_request_headers.complete") == 2


def test_timeouts_are_the_callers(shop: str, seller: FakeSeller) -> None:
    def script(seen: Seen) -> None:
        if seen.paid:
            time.sleep(0.6)

    seller.script = script
    with (
        paying_client(KEY, "$0.05", NETWORK, timeout=0.2) as client,
        pytest.raises(PaymentOutcomeUnknown) as caught,
    ):
        client.get(f"{shop}/v2")
    assert isinstance(caught.value.__cause__, httpx.ReadTimeout)
    seller.script = lambda _: time.sleep(0.6)
    with paying_client(KEY, "$0.05", NETWORK, timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
        client.get(f"{shop}/v2")


def test_a_token_request_has_the_callers_timeout(shop: str, seller: FakeSeller) -> None:
    seller.script = lambda seen: time.sleep(0.6) if seen.path == "/token" else None
    with node_served(FakeNode()) as node, paying_client(KEY, "$0.05", NETWORK, rpc={NETWORK: node}, timeout=0.2) as client:
        began = time.monotonic()
        with pytest.raises(PaymentOutcomeUnknown):
            client.get(f"{shop}/token-priced")
        assert time.monotonic() - began < 0.55


# ------------------------------------------------------------------------------------- proxies, mounts, own transports


def test_a_proxy_does_not_bypass_payment(shop: str, seller: FakeSeller) -> None:
    """official-sdk.md: given proxy=, the official client mounts it over its own transport and pays for nothing."""
    with paying_client(KEY, "$0.05", NETWORK, proxy=shop, trust_env=False) as client:
        response = client.get("http://127.0.0.1:9/v2")  # nobody listens there: the proxy answers
    assert kind_of(response) is OutcomeKind.PAID
    assert seller.paths == ["/v2", "/v2"]


def test_a_proxy_of_the_environment_does_not_either(shop: str, seller: FakeSeller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", shop)
    monkeypatch.setenv("NO_PROXY", "free.test")
    with paying_client(KEY, "$0.05", NETWORK) as client:
        assert client._mounts
        assert kind_of(client.get("http://localhost:9/v2")) is OutcomeKind.PAID
        with pytest.raises(httpx.ConnectError):
            client.get("http://free.test:9/v2")


@every_world
def test_mounts_pay_too(world: str) -> None:
    """Y10: each request goes through the caller's own transport for it."""
    here, there = FakeSeller(), FakeSeller()
    options: dict[str, Any] = {"transport": here.mock(), "mounts": {"all://there.test": there.mock(), "all://none.test": None}}
    urls = [f"https://{host}.test/v2" for host in ("here", "there", "none")]
    if world == "sync":
        with paying_client(KEY, "$0.05", NETWORK, **options) as client:
            answers = [client.get(url) for url in urls]
    else:

        async def main() -> list[httpx.Response]:
            async with async_paying_client(KEY, "$0.05", NETWORK, **options) as client:
                return [await client.get(url) for url in urls]

        answers = run_async(world, main)
    assert [kind_of(r) for r in answers] == [OutcomeKind.PAID] * 3
    assert (len(here.seen), len(there.seen)) == (4, 2)


def test_a_client_pays_from_one_purse_only() -> None:
    client = paying_client(KEY, "$0.05", NETWORK)
    with pytest.raises(LocalProtocolError, match="pays already"):
        pay_with(client, purse())


@every_world
def test_the_inner_transport_is_entered_and_closed(world: str) -> None:
    events: list[str] = []

    class Inner(httpx.MockTransport):
        def __enter__(self) -> Inner:
            events.append("enter")
            return self

        def __exit__(self, *_: object) -> None:
            events.append("exit")

        async def __aenter__(self) -> Inner:
            events.append("enter")
            return self

        async def __aexit__(self, *_: object) -> None:
            events.append("exit")

    in_world(world, purse(), Inner(lambda _: httpx.Response(200)), {"url": f"{SHOP}/"})
    assert events == ["enter", "exit"]


def test_what_has_no_origin_passes_through() -> None:
    inner = httpx.MockTransport(lambda _: httpx.Response(402))
    response = httpx.Client(transport=PaymentTransport(inner, purse(rpc=False))).get("ftp://shop.test/")
    assert outcome_of(response) is None
    assert raise_for_payment(response) is response


# --------------------------------------------------------------------------------------------------------------- review


def test_the_edge_knows_no_protocol() -> None:
    """models.md 8, rule 1: no status code, no payment header's name; and httpx is imported nowhere else here."""
    files = list(Path(edge.__file__).parent.glob("*.py"))
    assert {file.stem for file in files} == {"__init__", "clients", "exchange", "transports", "uploads"}
    source = "".join(file.read_text() for file in files)
    code = re.sub(r'""".*?"""|#[^\n]*', "", source, flags=re.DOTALL)
    nodes = list(ast.walk(ast.parse(source)))
    numbers = [node.value for node in nodes if isinstance(node, ast.Constant) and type(node.value) in (int, float)]
    assert not [number for number in numbers if number > 1]
    assert not re.findall(
        r"(?i)HTTPStatus|\bcodes\b|is_(success|error|redirect|client_error|server_error)|raise_for_status", code
    )
    assert not re.findall(r"(?i)payment-(required|signature|response)|x-payment|authorization|bearer|OutcomeKind|Dialect", code)
    assert not [n for n in nodes if isinstance(n, ast.Compare) and "status" in ast.unparse(n)]
    assert not [n for n in nodes if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("x402core.wire")]
    assert "import httpx" not in Path(shared.__file__).read_text()


def test_importing_the_edge_brings_no_server_and_no_store() -> None:
    import subprocess
    import sys

    script = "import sys, x402bind.clients.httpx; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"requests", "sqlite3", "uvicorn", "x402bind.ledger", "x402bind.servers"} & set(loaded)


def test_errors_never_carry_the_permit() -> None:
    (offer, *_) = offers("$0.01", NETWORK, "0x" + "22" * 20)
    error = PaymentOutcomeUnknown(Outcome(OutcomeKind.UNKNOWN, offer, exposed_until=Seconds(5)))
    assert "signature" not in repr(error)
    assert "Unix second 5" in str(error)
    assert not any(isinstance(value, SignTypedData) for value in vars(error).values())
    assert error.outcome.amount == PRICE
