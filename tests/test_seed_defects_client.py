"""x402-mock 0.1.1's defects A5, A6, A10, A11, A13, A16 and A17 by other roads, against our client: what a server may try.

The hostile server is a real one on loopback, its 402 the one of a real shop with lies in it; the chain executes.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import anyio
import httpx
import pytest

from tests.chains import USDC
from tests.shop import FUNDS, NETWORK, PRICE, RELAYER, Api, Ground, Payer, Shop, async_client, client, fresh, on_devnet, until
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.chain.devnet.token import DevUSD, place
from x402bind.clients.httpx import outcome_of, paying_client
from x402bind.clients.purse import Purse
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402core import KNOWN, LocalProtocolError, PayerPolicy, offers
from x402core.commands import Outcome, OutcomeKind
from x402core.errors import Reason
from x402core.events import Dialect
from x402core.evm.address import checksum
from x402core.wire import v2

TOKEN = Dialect.PERMIT_TOKEN
Answer = tuple[int, dict[str, str], bytes]
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def shop(ground: Ground, tmp_path: Path) -> Iterator[Shop]:
    with Shop(ground, tmp_path) as shop:
        yield shop


@dataclass
class Counting:
    """A signer that remembers what it was asked to sign."""

    payer: Payer
    asked: list[Any] = field(default_factory=list)

    @property
    def address(self) -> Any:
        return self.payer.address

    def sign(self, command: Any) -> Any:
        self.asked.append(command)
        return self.payer.signer.sign(command)


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Hostile:
    """A server on loopback that answers as its script says, and remembers what it was asked."""

    def __init__(self, script: Callable[[Asked], Answer]) -> None:
        self.seen: list[Asked] = []
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(self.command, self.path, dict(self.headers.items()), body)
                hostile.seen.append(asked)
                status, headers, content = script(asked) if len(hostile.seen) < 60 else (500, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def methods(self) -> list[str]:
        return [asked.method for asked in self.seen]


def challenge(shop: Shop) -> dict[str, Any]:
    """Return the 402 of a real shop, permit-token only, for lies to be put in."""
    document = httpx.get(shop.paid).json()
    assert isinstance(document, dict)
    return document


def pay(how: str, purse: Purse, url: str, **request: Any) -> httpx.Response:
    """Get a resource with a client that pays, in one of the two worlds."""
    if how == "sync":
        with client(purse) as (paying, _):
            return paying.request(request.pop("method", "GET"), url, **request)

    async def go() -> httpx.Response:
        paying, _ = async_client(purse)
        async with paying:
            return await paying.request(request.pop("method", "GET"), url, **request)

    return anyio.run(go)


def told(response: httpx.Response) -> Outcome:
    outcome = outcome_of(response)
    assert outcome is not None
    return outcome


both_worlds = pytest.mark.parametrize("how", ["sync", "async"])


# ---------------------------------------------------------------------------------------------------- A5: lies about money


def _lie(**changed: Any) -> Callable[[dict[str, Any]], None]:
    def change(component: dict[str, Any]) -> None:
        for name, value in changed.items():
            (component if name in component else component["metadata"])[name] = value

    return change


LIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "18 decimals under the cap": _lie(decimals=18, amount=0.5, amount_atomic=str(5 * 10**17)),
    "18 decimals, the same atomic amount": _lie(decimals=18, amount=0.00000000000001),
    "no decimals": _lie(decimals=0, amount=1, amount_atomic="1"),
    "another name": _lie(name="Tether"),
    "another version": _lie(version="1"),
    "atomic and human amounts that differ": _lie(amount=0.01, amount_atomic="800000"),
    "over the cap": _lie(amount=0.81, amount_atomic="810000"),
    "another token": _lie(token="0x" + "77" * 20),
    "another chain": _lie(chain_id=1),
    "a wallet of its own beside a spender": _lie(wallet_address="0x" + "66" * 20),
}


@both_worlds
@pytest.mark.parametrize("lie", LIES)
def test_A5_a_lie_about_the_money_gets_no_signature(shop: Shop, how: str, lie: str) -> None:
    payer = shop.ground.payer()
    document = challenge(shop)
    (component,) = document["payment_scheme"]["payment_components"]
    LIES[lie](component)
    signer = Counting(payer)
    policy = replace(PayerPolicy.up_to("$0.80", NETWORK), dialects=(TOKEN,))  # the body's other offer, x402 v1, is honest
    purse = Purse(signer, policy, {NETWORK: shop.ground.url})
    with Hostile(lambda _: (402, JSON, json.dumps(document).encode())) as hostile:
        response = pay(how, purse, f"{hostile.url}/paid")
    assert (response.status_code, signer.asked, hostile.methods) == (402, [], ["GET"])
    assert (told(response).kind is OutcomeKind.PAID, told(response).amount) == (False, 0)


@both_worlds
def test_A5_what_is_signed_is_the_price_in_our_own_decimals(shop: Shop, how: str) -> None:
    signer = Counting(shop.ground.payer())
    purse = replace(signer.payer.purse(shop.ground, TOKEN), signer=signer)
    assert told(pay(how, purse, shop.paid)).kind is OutcomeKind.PAID
    (command,) = signer.asked
    assert command.typed_data["domain"] == {
        "name": "USDC",
        "version": "2",
        "chainId": 84532,
        "verifyingContract": checksum(USDC),
    }
    assert int(command.typed_data["message"]["value"]) == PRICE


# ------------------------------------------------------------------------------------------------ A6: one signature a call


@both_worlds
@pytest.mark.parametrize("status", [402, 401, 409, 500, 503, 200])
def test_A6_whatever_the_token_endpoint_answers_there_is_one_signature(shop: Shop, how: str, status: int) -> None:
    """x402-mock: fifty signatures from one GET.  Ours: one permit, presented a bounded number of times."""
    document = json.dumps(challenge(shop)).encode()

    def script(asked: Asked) -> Answer:
        return (status if asked.method == "POST" else 402, {**JSON, "Retry-After": "0"}, document)

    signer = Counting(shop.ground.payer())
    purse = replace(signer.payer.purse(shop.ground, TOKEN), signer=signer)
    with Hostile(script) as hostile:
        response = pay(how, purse, f"{hostile.url}/paid")
    assert (response.status_code, len(signer.asked), hostile.methods.count("GET")) == (402, 1, 1)
    posts = [asked.body for asked in hostile.seen if asked.method == "POST"]
    assert 1 <= len(posts) <= 1 + purse.policy.resend
    assert len(set(posts)) == 1
    assert told(response).kind is not OutcomeKind.PAID


@both_worlds
def test_A6_a_token_that_opens_nothing_is_not_bought_again(shop: Shop, how: str) -> None:
    """The endpoint sells, the resource answers 402 to its own token for ever."""
    document = json.dumps(challenge(shop)).encode()
    token = json.dumps({"access_token": "a.b", "token_type": "Bearer", "expires_in": 300}).encode()
    signer = Counting(shop.ground.payer())
    purse = replace(signer.payer.purse(shop.ground, TOKEN), signer=signer)
    with Hostile(lambda asked: (200, JSON, token) if asked.method == "POST" else (402, JSON, document)) as hostile:
        response = pay(how, purse, f"{hostile.url}/paid")
    assert (response.status_code, len(signer.asked), hostile.methods) == (402, 1, ["GET", "POST", "GET"])
    assert told(response).kind is not OutcomeKind.FREE


@both_worlds
@pytest.mark.parametrize("by", ["url", "authority", "backslash", "redirect"])
def test_A6_no_permit_leaves_the_origin_that_was_asked(shop: Shop, how: str, by: str) -> None:
    signer = Counting(shop.ground.payer())
    purse = replace(signer.payer.purse(shop.ground, TOKEN), signer=signer)
    with ExitStack() as stack:
        other = stack.enter_context(Hostile(lambda _: (200, JSON, b"{}")))
        there = other.url.removeprefix("http:")
        document = challenge(shop)
        places = {"url": f"{other.url}/token", "authority": f"{there}/token", "backslash": there.replace("/", "\\") + "/token"}
        document["access_token_endpoint"] = places.get(by, "/token")
        body = json.dumps(document).encode()

        def script(asked: Asked) -> Answer:
            return (307, {"Location": f"{other.url}/token"}, b"") if asked.method == "POST" else (402, JSON, body)

        hostile = stack.enter_context(Hostile(script))
        response = pay(how, purse, f"{hostile.url}/paid", follow_redirects=True)
    assert (response.status_code, other.seen) == (402, [])
    assert len(signer.asked) == (by in ("redirect", "backslash"))  # to RFC 3986 a backslash is no slash: a path of this origin
    assert told(response).kind is not OutcomeKind.PAID


# ------------------------------------------------------------------------------------------------ A10: tokens held


@both_worlds
def test_A10_twenty_requests_are_one_purchase_and_each_path_its_own(shop: Shop, how: str) -> None:
    payer = shop.ground.payer()
    signer = Counting(payer)
    purse = replace(payer.purse(shop.ground, TOKEN), signer=signer)
    assert [pay(how, purse, shop.paid).status_code for _ in range(10)] == [200] * 10  # ten clients of one purse
    assert pay(how, purse, shop.paid, method="POST", content=b"x", params={"page": "2"}).status_code == 200
    shop.settled()
    assert (len(signer.asked), shop.earned) == (1, PRICE)
    assert pay(how, purse, f"{shop.url}/other").status_code == 200
    shop.settled(2)
    assert (len(signer.asked), shop.earned) == (2, 2 * PRICE)


def test_A10_two_purchases_back_to_back_never_pay_twice_or_raise(shop: Shop) -> None:
    """A token contract has one permit number at a time: until the first is settled the second is refused, in words.

    x402-mock raised pydantic's ValidationError here.  What we promise: a response, its reason, no second charge, and that it
    goes through once the chain has moved on.
    """
    ground, payer = shop.ground, shop.ground.payer()
    purse = payer.purse(ground, TOKEN)
    with ground.automine_off():
        assert told(pay("sync", purse, shop.paid)).kind is OutcomeKind.PAID
        response = pay("sync", purse, f"{shop.url}/other")
        outcome = told(response)
        assert (response.status_code, outcome.kind) == (402, OutcomeKind.DECLINED)
        assert outcome.refusal is not None
        # the very same permit when no second has passed between the two, another of the same number when one has
        assert outcome.refusal.reason in (Reason.PAYMENT_SPENT, Reason.NONCE_USED)
        ground.rpc("evm_mine")
        until(lambda: shop.entries()[0].state == "settled" or ground.rpc("evm_mine") is None)
    shop.settled()
    assert pay("sync", purse, f"{shop.url}/other").status_code == 200
    shop.settled(2)
    assert (shop.earned, ground.balance(payer.address)) == (2 * PRICE, FUNDS - 2 * PRICE)


def test_A10_eight_at_one_time_pay_once_and_the_token_serves_all(shop: Shop) -> None:
    payer = shop.ground.payer()
    purse = payer.purse(shop.ground, TOKEN)
    with ThreadPoolExecutor(8) as pool:
        outcomes = [told(response) for response in pool.map(lambda _: pay("sync", purse, shop.paid), range(8))]
    assert {outcome.kind for outcome in outcomes} <= {OutcomeKind.PAID, OutcomeKind.FREE, OutcomeKind.DECLINED}
    assert OutcomeKind.PAID in {outcome.kind for outcome in outcomes}
    shop.settled()
    assert (shop.earned, len(shop.entries())) == (
        sum(o.kind is OutcomeKind.PAID for o in outcomes) * PRICE,
        shop.earned // PRICE,
    )
    assert told(pay("sync", purse, shop.paid)).kind is OutcomeKind.FREE


# ------------------------------------------------------------------------------------------------ A11: whose order counts


@pytest.fixture(scope="module")
def euro(ground: Ground) -> DevUSD:
    assert ground.devnet is not None
    return place(ground.devnet.chain, KNOWN.by_code("base-sepolia", "eurc").address, name="EURC", version="2", symbol="EURC")


@pytest.mark.parametrize("dialect", [Dialect.V2, TOKEN])
@pytest.mark.parametrize("first", ["$0.01", "€0.01"])
@pytest.mark.parametrize("sold", [("$0.01", "€0.01"), ("€0.01", "$0.01")], ids=["dollars first", "euros first"])
def test_A11_the_payers_order_decides_which_token_moves(
    ground: Ground, tmp_path: Path, euro: DevUSD, sold: tuple[str, str], first: str, dialect: Dialect
) -> None:
    payer, payee = ground.payer(), fresh().address
    euro.mint(payer.address, FUNDS)
    offered = [offer for price in sold for offer in offers(price, NETWORK, payee, spender=RELAYER)]
    (second,) = {*sold} - {first}
    policy = replace(PayerPolicy.up_to(first, NETWORK).also(second, NETWORK), dialects=(dialect,))
    with Shop(ground, tmp_path, pay_to=payee, prices={"/paid": offered}) as shop:
        purse = Purse(payer.signer, policy, {NETWORK: ground.url})
        assert pay("sync", purse, shop.paid).status_code == 200
        shop.settled()
    moved = {"$0.01": ground.balance(payee), "€0.01": euro.balance_of(payee)}
    assert moved == {first: PRICE, second: 0}


# -------------------------------------------------------------------------------------------------------- A16: exact amounts

PRICES = ["$0.07", "$0.29", "$1.1", "$3", "$1000000", "$0.000001", "$1234567.891234", "$4503599627.370497"]


def test_A16_every_price_is_exact_on_the_wire_in_both_dialects(ground: Ground, tmp_path: Path) -> None:
    """Prices that binary floats get wrong: the JSON number is the decimal itself, the atomic amount an exact string."""
    with Shop(ground, tmp_path, prices={f"/{n}": price for n, price in enumerate(PRICES)}) as shop:
        for n, price in enumerate(PRICES):
            answer = httpx.get(f"{shop.url}/{n}")
            exact, atomic = Decimal(price[1:]), str(int(Decimal(price[1:]) * 10**6))
            document = json.loads(answer.content, parse_float=Decimal, parse_int=Decimal)
            (component,) = document["payment_scheme"]["payment_components"]
            assert (component["amount"], component["amount_atomic"]) == (exact, atomic)
            (accepted,) = json.loads(base64.b64decode(answer.headers[v2.PAYMENT_REQUIRED]))["accepts"]
            assert accepted["amount"] == atomic


@both_worlds
@pytest.mark.parametrize("price", ["$3", "$0.000001", "$0.29"])
def test_A16_whole_and_least_amounts_are_paid_to_the_unit(ground: Ground, tmp_path: Path, how: str, price: str) -> None:
    """A whole number crosses the wire as ``3``, the least as ``0.000001`` or ``1e-06``: both are what is paid."""
    amount = int(Decimal(price[1:]) * 10**6)
    payer = ground.payer(5_000_000)
    purse = Purse(payer.signer, replace(PayerPolicy.up_to(price, NETWORK), dialects=(TOKEN,)), {NETWORK: ground.url})
    with Shop(ground, tmp_path, prices={"/paid": price}) as shop:
        assert told(pay(how, purse, shop.paid)).amount == amount
        shop.settled()
        assert (shop.earned, ground.balance(payer.address)) == (amount, 5_000_000 - amount)


@pytest.mark.parametrize(
    "price", [0.5, True, None, "$0.0000001", "1e-7", "10 DOGE", "€0.01 usdc", "$1,000", "$inf", "0x10", "$٣"], ids=repr
)
def test_A16_what_is_no_exact_price_is_refused_at_set_up(price: Any) -> None:
    seller = Seller(key=DEV_KEYS[0], rpc={NETWORK: "http://127.0.0.1:9"}, ledger="memory:", token_key=b"k" * 32)
    with pytest.raises(LocalProtocolError, match="price"):
        PaymentMiddleware(Api(), seller, {"/paid": price})
    with pytest.raises(LocalProtocolError, match="price"):
        paying_client("11" * 32, price, "base-sepolia")


# ------------------------------------------------------------------------------------------------------- A17: the caller's


@both_worlds
@pytest.mark.parametrize("dialect", [Dialect.V2, TOKEN])
def test_A17_what_the_caller_sent_is_sent_again_as_it_was(shop: Shop, how: str, dialect: Dialect) -> None:
    payer = shop.ground.payer()
    headers = [("Content-Type", "text/csv"), ("X-Mine", "a"), ("X-Mine", "b"), ("Accept", "text/plain"), ("Cookie", "c=1")]
    if how == "sync":
        with (
            client(payer.purse(shop.ground, dialect)) as (paying, wire),
            paying.stream("POST", shop.paid, content=b"a,b", headers=headers) as response,
        ):
            chunks = b"".join(response.iter_bytes())
    else:
        paying_async, wire = async_client(payer.purse(shop.ground, dialect))

        async def go() -> bytes:
            async with paying_async, paying_async.stream("POST", shop.paid, content=b"a,b", headers=headers) as response:
                return b"".join([chunk async for chunk in response.aiter_bytes()])

        chunks = anyio.run(go)
    assert json.loads(chunks)["paid_by"] == payer.address
    mine = [request for request in wire.sent if request.url.path == "/paid"]
    assert len(mine) == 2
    for request in mine:
        got = [(name, value) for name, value in request.headers.multi_items() if name in {n.lower() for n, _ in headers}]
        assert (got, request.content) == ([(name.lower(), value) for name, value in headers], b"a,b")
    for request in wire.sent:
        assert request.url.path == "/paid" or "cookie" not in request.headers


@both_worlds
def test_A17_a_body_that_cannot_be_sent_twice_is_never_paid_for(shop: Shop, how: str) -> None:
    signer = Counting(shop.ground.payer())
    purse = replace(signer.payer.purse(shop.ground), signer=signer)

    def parts() -> Iterator[bytes]:
        yield b"a,"
        yield b"b"

    async def async_parts() -> AsyncIterator[bytes]:
        yield b"a,"
        yield b"b"

    response = pay(how, purse, shop.paid, method="POST", content=parts() if how == "sync" else async_parts())
    assert (response.status_code, signer.asked, told(response).kind) == (402, [], OutcomeKind.DECLINED)
    assert response.json()["payment_scheme"]


@both_worlds
@pytest.mark.parametrize(
    "answer",
    [
        (200, {"Content-Type": "text/html"}, b"<h1>200</h1>"),
        (200, JSON, b'{"access_token":5}'),
        (200, JSON, b'{"access_token":"a b","token_type":"Bearer","expires_in":300}'),
        (200, JSON, b""),
        (400, JSON, b'{"error":"Verification failed"}'),
        (500, {"Content-Type": "text/plain"}, b"Traceback"),
    ],
    ids=["html", "a number", "no token", "nothing", "400", "500"],
)
def test_A17_trouble_at_the_token_endpoint_is_an_outcome_and_the_402_is_delivered(shop: Shop, how: str, answer: Answer) -> None:
    """x402-mock: pydantic's ValidationError.  Ours: the response that was asked for, whole, and what became of the money."""
    document = json.dumps(challenge(shop)).encode()
    signer = Counting(shop.ground.payer())
    purse = replace(signer.payer.purse(shop.ground, TOKEN), signer=signer)
    with Hostile(lambda asked: answer if asked.method == "POST" else (402, JSON, document)) as hostile:
        response = pay(how, purse, f"{hostile.url}/paid")
    outcome = told(response)
    assert (response.status_code, response.content, len(signer.asked)) == (402, document, 1)
    assert outcome.kind in (OutcomeKind.DECLINED, OutcomeKind.UNKNOWN)
    assert (outcome.exposed_until is not None, outcome.amount) == (True, PRICE)  # the permit is out: a budget counts it
