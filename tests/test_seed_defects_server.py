"""x402-mock 0.1.1's defects A1 to A19 once more, by other roads, against our seller: what a payer or a node may try."""

from __future__ import annotations

import base64
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.chains import USDC
from tests.shop import NETWORK, PRICE, STRANGER_KEY, Ground, Shop, TroubledNode, client, on_devnet, token_body, until, verified
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.devnet.token import place
from x402bind.clients.httpx import AsyncPaymentTransport, outcome_of
from x402bind.clients.purse import Purse
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402bind.settler import now_millis
from x402core import KNOWN, LocalProtocolError, offers
from x402core.access import KeyRing, TokenClaims, mint
from x402core.commands import OutcomeKind
from x402core.errors import Reason
from x402core.events import Dialect, Eip2612Permit, Method, Payment
from x402core.evm import digests
from x402core.evm.abi import encode_call
from x402core.evm.secp256k1 import sign
from x402core.evm.transaction import decode
from x402core.machines.settlement import SettlementPolicy
from x402core.schemes import of
from x402core.schemes.judge import Verified
from x402core.values import Millis, Seconds, chain_id
from x402core.wire import v2

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ROOT = Path(__file__).resolve().parent.parent
TOKEN = Dialect.PERMIT_TOKEN
KEY = b"k" * 32  # the Shop's
QUICK = SettlementPolicy(stuck_after=Millis(2000))


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def shop(ground: Ground, tmp_path: Path) -> Iterator[Shop]:
    with Shop(ground, tmp_path) as shop:
        yield shop


def buy(shop: Shop, permit: Any, scope: str = "/paid") -> httpx.Response:
    return httpx.post(f"{shop.url}/token", params={"scope": scope}, content=token_body(permit), timeout=20)


def permit_of(shop: Shop, payer: Any) -> Eip2612Permit:
    permit = payer.permit(shop.offer(TOKEN), shop.ground)
    assert isinstance(permit, Eip2612Permit)
    return permit


def held(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[0]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert isinstance(claims, dict)
    return claims


# ------------------------------------------------------------------------------------------------------ A2, A3, A4: permits


def test_A2_one_permit_in_ten_different_bodies_buys_one_token(shop: Shop) -> None:
    """Other whitespace, another created_at, another route: the claim is the authorization's, not that of its bytes."""
    permit = permit_of(shop, shop.ground.payer())
    bodies = []
    for turn in range(10):
        document = json.loads(token_body(permit))
        document["permit"]["created_at"] = f"2026-01-01T00:00:{turn:02}Z"
        bodies.append(json.dumps(document, indent=turn).encode())
    scopes = ["/paid", "/other"] * 5

    def post(scope: str, body: bytes) -> httpx.Response:
        return httpx.post(f"{shop.url}/token", params={"scope": scope}, content=body, timeout=20)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, scopes, bodies))
    (bought,) = (answer for answer in answers if answer.status_code == 200)
    assert {answer.status_code for answer in answers if answer is not bought} <= {402, 409}
    shop.settled()
    assert (shop.earned, len(shop.entries())) == (PRICE, 1)
    assert {post(*each).status_code for each in zip(scopes, bodies, strict=True)} == {200, 402}  # now as then: one gets it
    assert shop.earned == PRICE


def test_A2_two_processes_on_one_ledger_sell_one_token(ground: Ground, tmp_path: Path) -> None:
    pay_to = ground.payer(0).address
    with ExitStack() as stack:
        shops = [stack.enter_context(Shop(ground, tmp_path, url="http://shop.test", pay_to=pay_to)) for _ in range(2)]
        permit = permit_of(shops[0], ground.payer())
        body = token_body(permit)
        with ThreadPoolExecutor(8) as pool:
            urls = [f"{shop.url}/token?scope=%2Fpaid" for shop in shops] * 4
            answers = list(pool.map(lambda url: httpx.post(url, content=body, timeout=20), urls))
        assert len({answer.json()["access_token"] for answer in answers if answer.status_code == 200}) == 1
        assert {answer.status_code for answer in answers} <= {200, 409, 503}
        until(lambda: {entry.state for entry in shops[0].entries()} == {"settled"})
        assert (ground.balance(pay_to), len(shops[0].entries())) == (PRICE, 1)


def test_A3_a_high_s_is_refused_in_x402_v2_too(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url) as shop:
        offer = shop.offer(Dialect.V2)
        permit = payer.permit(offer, ground)
        s = ORDER - int.from_bytes(permit.signature[32:64], "big")
        high = permit.signature[:32] + s.to_bytes(32, "big") + bytes([55 - permit.signature[64]])
        node.seen.clear()
        answer = httpx.get(
            shop.paid, headers={v2.PAYMENT_SIGNATURE: v2.encode_payment(Payment(replace(permit, signature=high), offer))}
        )
        assert (answer.status_code, node.seen, shop.api.runs, shop.entries()) == (402, [], 0, ())


@pytest.mark.parametrize("stated", [1, 84532])
def test_A4_a_permit_signed_for_another_chain_is_refused_whatever_it_states(shop: Shop, stated: int) -> None:
    """x402-mock took the payer's word for the chain: signed for chain 1, it bought a token and could never settle."""
    payer, offer = shop.ground.payer(), shop.offer(TOKEN)
    honest = permit_of(shop, payer)
    separator = digests.domain(offer.name, offer.version, 1, offer.asset)
    digest = digests.permit_digest(separator, payer.address, honest.spender, honest.amount, honest.nonce, honest.deadline)
    document = json.loads(token_body(replace(honest, signature=sign(digest, payer.key))))
    document["permit"]["chain_id"] = stated
    answer = httpx.post(f"{shop.url}/token?scope=%2Fpaid", json=document)
    assert (answer.status_code, answer.json()["title"]) == (402, Reason.NO_MATCH if stated == 1 else Reason.SIGNATURE)
    assert shop.entries() == ()


# ---------------------------------------------------------------------------------------------------- A7, A9: access tokens


def _signed(payload: bytes) -> str:
    """Return a token whose MAC is right and whose payload is what the seller never minted."""
    import hashlib
    import hmac

    text = base64.urlsafe_b64encode(payload).rstrip(b"=")
    return (text + b"." + base64.urlsafe_b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).rstrip(b"=")).decode()


ODD_HEADERS: dict[str, list[tuple[str, str]]] = {
    "no scheme": [("Authorization", "a.b")],
    "no token": [("Authorization", "Bearer")],
    "a blank": [("Authorization", "Bearer ")],
    "empty": [("Authorization", "")],
    "basic": [("Authorization", "Basic Og==")],
    "two": [("Authorization", "Bearer a.b"), ("Authorization", "Bearer a.b")],
    "two in one": [("Authorization", "Bearer a.b, Bearer a.b")],
    "NUL-like": [("Authorization", "Bearer %00.%00")],
    "not JSON": [("Authorization", f"Bearer {_signed(b'not JSON')}")],
    "not an object": [("Authorization", f"Bearer {_signed(b'[1]')}")],
    "no members": [("Authorization", f"Bearer {_signed(b'{}')}")],
    "members of other types": [
        ("Authorization", f"Bearer {_signed(json.dumps(dict.fromkeys(('kid', 'exp', 'aud'), 1)).encode())}")
    ],
    "x402-mock's own": [("Authorization", f"Bearer {_signed(json.dumps({'exp': 2**40, 'iat': 0, 'nonce': 'n'}).encode())}")],
    "exp beyond integers": [("Authorization", "Bearer " + _signed(b'{"kid":"1","exp":1e999}'))],
    "nested": [("Authorization", "Bearer " + _signed(b"[" * 700 + b"]" * 700))],
    "not UTF-8": [("Authorization", "Bearer " + _signed(b'{"kid":"\xff"}'))],
}


@pytest.mark.parametrize("name", ODD_HEADERS)
def test_A7_an_odd_authorization_is_answered_at_once_even_with_a_right_mac(shop: Shop, name: str) -> None:
    began = time.monotonic()
    answer = httpx.get(shop.paid, headers=ODD_HEADERS[name], timeout=5)
    assert (answer.status_code, shop.api.runs) == (402, 0)
    assert answer.json()["access_token_endpoint"]
    assert time.monotonic() - began < 2


def test_A7_a_hundred_malformed_bearers_do_not_keep_the_server_from_stopping(ground: Ground, tmp_path: Path) -> None:
    with Shop(ground, tmp_path) as shop:
        with ThreadPoolExecutor(10) as pool:
            answers = pool.map(lambda n: httpx.get(shop.paid, headers=held("a." * (n % 7)), timeout=10).status_code, range(100))
            assert set(answers) == {402}
        began = time.monotonic()
    assert time.monotonic() - began < 5


def test_A9_each_claim_of_a_token_counts(shop: Shop) -> None:
    """Minted with the right key, one claim changed: each is what keeps the token to its purchase."""
    payer = shop.ground.payer()
    token = buy(shop, permit_of(shop, payer)).json()["access_token"]
    said = claims_of(token)
    assert (said["sub"], said["net"], said["aud"], said["scope"]) == (payer.address, NETWORK, shop.url, "/paid")
    true = TokenClaims(
        said["sub"], said["net"], said["pay"], said["aud"], said["scope"], said["iat"], said["exp"], said["nonce"]
    )
    ring = KeyRing.single(KEY)
    wrong = {
        "audience": (replace(true, audience="http://another.test"), ring, Reason.TOKEN_SCOPE),
        "scope": (replace(true, scope="/other"), ring, Reason.TOKEN_SCOPE),
        "expired": (replace(true, expires=Seconds(true.issued - 1)), ring, Reason.TOKEN_EXPIRED),
        "payment": (replace(true, payment=true.payment + "0"), ring, Reason.TOKEN_REVOKED),
        "key id": (true, KeyRing.single(KEY, "2"), Reason.TOKEN_SIGNATURE),
        "key": (true, KeyRing.single(b"x" * 32), Reason.TOKEN_SIGNATURE),
    }
    for name, (claims, keys, reason) in wrong.items():
        answer = httpx.get(shop.paid, headers=held(mint(claims, keys)))
        assert (name, answer.status_code, answer.json()["reason"]) == (name, 402, reason)
    assert httpx.get(shop.paid, headers=held(mint(true, ring))).status_code == 200


def test_A9_a_token_ends_and_a_retired_key_opens_nothing(ground: Ground, tmp_path: Path) -> None:
    ahead = [0]
    with ExitStack() as stack:

        def open_shop(ring: KeyRing) -> Shop:
            clock = lambda: Millis(now_millis() + ahead[0])  # noqa: E731
            how: dict[str, Any] = {"token_key": ring, "url": "http://shop.test", "clock": clock, "token_lifetime": 600}
            return stack.enter_context(Shop(ground, tmp_path, **how))

        first = open_shop(KeyRing({"old": b"o" * 32}, "old"))
        answer = buy(first, permit_of(first, ground.payer()))
        token, lifetime = answer.json()["access_token"], answer.json()["expires_in"]
        assert (claims_of(token)["kid"], lifetime) == ("old", 600)
        first.settled()
        rotated = open_shop(KeyRing({"old": b"o" * 32, "new": b"n" * 32}, "new"))
        retired = open_shop(KeyRing({"new": b"n" * 32}, "new"))
        assert [httpx.get(shop.paid, headers=held(token)).status_code for shop in (first, rotated, retired)] == [200, 200, 402]
        ahead[0] = 601_000
        over = httpx.get(first.paid, headers=held(token))
        assert (over.status_code, over.json()["reason"]) == (402, Reason.TOKEN_EXPIRED)


# ------------------------------------------------------------------------------------------------- A8: chains other than ours


@pytest.mark.parametrize("dialect", [Dialect.V2, TOKEN])
@pytest.mark.parametrize("network", ["eip155:1", "eip155:8453", "eip155:137"])
def test_A8_a_sale_on_a_mainnet_domain_is_paid(tmp_path: Path, network: str, dialect: Dialect) -> None:
    """A chain that says it is Ethereum, Base, Polygon, its USDC named as there: verified on chain, and settled."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["x402"].payer.encode()})

    asset = KNOWN.by_code(network, "usdc")
    payer, payee = dev_accounts()[1], dev_accounts()[5]

    async def sale(url: str) -> None:
        seller = Seller(
            key=DEV_KEYS[0], rpc={network: url}, ledger="memory:", token_key=KEY, url="http://127.0.0.1", pay_to=payee
        )
        edge = PaymentMiddleware(app, seller, {"/paid": "$0.25"})
        await seller.prove()
        purse = Purse.up_to(DEV_KEYS[1], "$1", network, rpc={network: url})
        purse = replace(purse, policy=replace(purse.policy, dialects=(dialect,)))
        paying = AsyncPaymentTransport(httpx.ASGITransport(edge), purse)
        async with seller.running(), httpx.AsyncClient(transport=paying, timeout=20) as http:
            response = await http.get("http://127.0.0.1/paid")
            outcome = outcome_of(response)
            assert outcome is not None
            assert (response.status_code, response.text, outcome.kind) == (200, payer, OutcomeKind.PAID)
            await seller.settler.drain(10)
        await seller.aclose()

    with Devnet(chain_id(asset.network)) as devnet:
        usdc = place(devnet.chain, asset.address, name="USD Coin", version="2")
        usdc.mint(payer, 1_000_000)
        anyio.run(sale, devnet.url)
        assert (usdc.balance_of(payer), usdc.balance_of(payee)) == (750_000, 250_000)


# ------------------------------------------------------------------------------------------------------- A12: settlement


def test_A12_a_journaled_settlement_survives_a_restart(ground: Ground, tmp_path: Path) -> None:
    """Sold while no transaction can be sent, stopped, started anew: it is settled without anybody asking."""
    pay_to = ground.payer(0).address
    with TroubledNode(ground.url) as node:
        node.refuse["eth_sendRawTransaction"] = "insufficient funds for gas * price + value"
        with Shop(ground, tmp_path, rpc=node.url, settlement=QUICK, pay_to=pay_to) as shop:
            assert buy(shop, permit_of(shop, ground.payer())).status_code == 200
            (before,) = shop.entries()
            assert before.state not in ("settled", "void")
    assert ground.balance(pay_to) == 0
    with Shop(ground, tmp_path, settlement=QUICK, pay_to=pay_to) as again:
        (entry,) = again.settled()
        assert (entry.key, entry.state, ground.balance(pay_to)) == (before.key, "settled", PRICE)
        record = again.seller.ledger.record(entry.key)
        assert record is not None
        fees = [decode(raw)[0] for raw in record.attempts[-1].raws]  # EIP-1559, or decode raises
        assert all(0 < tx.max_priority_fee <= tx.max_fee for tx in fees)


def test_A12_a_permit_that_a_stranger_submits_first_is_paid_all_the_same(ground: Ground, tmp_path: Path) -> None:
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url, settlement=QUICK) as shop:
        permit = permit_of(shop, ground.payer())
        node.refuse["eth_sendRawTransaction"] = "insufficient funds for gas * price + value"
        assert buy(shop, permit).status_code == 200
        r, s, v = permit.signature[:32], permit.signature[32:64], permit.signature[64]
        who = (permit.payer, permit.spender, permit.amount, permit.deadline)
        call = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
        ground.rpc.must(STRANGER_KEY, USDC, encode_call(call, *who, v, r, s), gas=200_000)
        node.refuse.clear()
        (entry,) = shop.settled()
        assert (entry.state, shop.earned) == ("settled", PRICE)


# ------------------------------------------------------------------------------------------------- A13: a node that lies


class OddNode(TroubledNode):
    """A node whose every ``eth_call`` answers the same odd thing, once it is told to."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.odd: Callable[[Any], Any] = lambda result: result

    def answer(self, body: bytes, target: str) -> bytes | None:
        raw = super().answer(body, target)
        assert raw is not None
        asked, answered = json.loads(body), json.loads(raw)
        many = isinstance(asked, list)
        methods = {each["id"]: each["method"] for each in (asked if many else [asked])}
        for each in answered if many else [answered]:
            if methods[each["id"]] == "eth_call":
                each["result"] = self.odd(each.get("result"))
        return json.dumps(answered).encode()


@pytest.mark.parametrize("odd", ["0x", None, "", 0, -1, "0x-1", "0xzz", [], {}, "0x" + "ff" * 31], ids=repr)
def test_A13_what_is_no_answer_is_not_taken_for_a_zero(ground: Ground, tmp_path: Path, odd: Any) -> None:
    """x402-mock made nonce -1 ("replay") and balance 0 ("insufficient") of these; and signed a nonce of -1."""
    payer = ground.payer()
    with OddNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url) as shop:
        permit = permit_of(shop, payer)
        node.odd = lambda _: odd
        for answer in (buy(shop, permit), httpx.get(shop.paid, headers=payer.header(shop.offer(), ground))):
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        signed: list[Any] = []
        true = payer.purse(ground, TOKEN)

        class Counting:
            address = payer.address

            def sign(self, command: Any) -> Any:
                signed.append(command)
                return payer.signer.sign(command)

        with client(replace(true, rpc={NETWORK: node.url}, signer=Counting())) as (paying, wire):
            outcome = outcome_of(paying.get(shop.paid))
        assert outcome is not None
        assert (outcome.kind, signed, len(wire.sent)) == (OutcomeKind.FAILED, [], 1)
        node.odd = lambda result: result
        assert buy(shop, permit).status_code == 200
        shop.settled()
    assert shop.earned == PRICE


def test_A13_a_node_that_is_down_is_503_and_the_same_permit_is_taken_later(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url) as shop:
        permit, header = permit_of(shop, payer), payer.header(shop.offer(), ground)
        node.down = True
        for answer in (buy(shop, permit), httpx.get(shop.paid, headers=header, timeout=20)):
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        node.down = False
        assert (buy(shop, permit).status_code, httpx.get(shop.paid, headers=header, timeout=20).status_code) == (200, 200)
        shop.settled(2)
        assert shop.earned == 2 * PRICE


# ----------------------------------------------------------------------------------------------- A14, A15: HTTP as it came


@pytest.mark.parametrize("dialect", [Dialect.V2, TOKEN])
def test_A14_a_streamed_upload_reaches_the_handler_whole(ground: Ground, tmp_path: Path, dialect: Dialect) -> None:
    """Both dialects: path as it was escaped, query, repeated headers, cookies, a body larger than one message."""
    seen: dict[str, Any] = {}

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        seen.update(scope=dict(scope), body=body)
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"1"), (b"x-a", b"2")]})
        await send({"type": "http.response.body", "body": body[:3]})

    payer, body = ground.payer(), os.urandom(300_000)
    with Shop(ground, tmp_path, app=echo) as shop, client(payer.purse(ground, dialect)) as (paying, _):
        headers = [("Cookie", "a=1"), ("X-Mine", "a"), ("X-Mine", "b"), ("Content-Type", "application/x-mine")]
        response = paying.put(f"{shop.url}/p%61id?q=%2F&q=2&q", content=body, headers=headers)
    scope = seen["scope"]
    assert (response.status_code, response.content, response.headers.get_list("x-a")) == (201, body[:3], ["1", "2"])
    assert (scope["method"], scope["path"], scope["query_string"]) == ("PUT", "/paid", b"q=%2F&q=2&q")
    assert (scope["raw_path"], seen["body"] == body) == (b"/p%61id", True)
    assert [value for name, value in scope["headers"] if name == b"x-mine"] == [b"a", b"b"]
    assert (b"cookie", b"a=1") in scope["headers"]
    assert (scope["x402"].payer, scope["x402"].amount) == (payer.address, PRICE)


MEMBERS: list[tuple[str, Any, str]] = [
    ("permit_type", "EIP9999", "/permit/permit_type"),
    ("owner", "0x12", "/permit/owner"),
    ("owner", None, "/permit/owner"),
    ("spender", 5, "/permit/spender"),
    ("token", "USDC", "/permit/token"),
    ("value", 0.5, "/permit/value"),
    ("value", "10000", "/permit/value"),
    ("value", -1, "/permit/value"),
    ("value", True, "/permit/value"),
    ("value", 2**256, "/permit/value"),
    ("nonce", 1e3, "/permit/nonce"),
    ("deadline", "soon", "/permit/deadline"),
    ("chain_id", 0, "/permit/chain_id"),
    ("chain_id", "84532", "/permit/chain_id"),
    ("signature", "0x00", "/permit/signature"),
    ("signature", {}, "/permit/signature/v"),
    ("signature", {"v": 27, "r": "0x1", "s": "1"}, "/permit/signature/s"),
    ("signature", {"v": 29, "r": "0x1", "s": "0x1"}, "/permit/signature/v"),
]


@pytest.mark.parametrize(("member", "wrong", "pointer"), MEMBERS, ids=[f"{m}={w!r}"[:40] for m, w, _ in MEMBERS])
def test_A15_every_wrong_member_is_named_exactly(shop: Shop, member: str, wrong: Any, pointer: str) -> None:
    document = json.loads(token_body(permit_of(shop, shop.ground.payer())))
    document["permit"][member] = wrong
    answer = httpx.post(f"{shop.url}/token?scope=%2Fpaid", json=document)
    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer)
    del document["permit"][member]
    answer = httpx.post(f"{shop.url}/token?scope=%2Fpaid", json=document)
    assert (answer.status_code, answer.json()["pointer"]) == (400, f"/permit/{member}")
    assert shop.entries() == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b'{"version":"Version 0.1","version":"Version 0.1"}',
        b"[" * 100_000,
        b'{"a":' * 5000,
        b"NaN",
        b"1" * 5000,
    ],
    ids=["empty", "not UTF-8", "null", "twice", "deep", "deep objects", "NaN", "long number"],
)
def test_A15_what_is_no_request_is_400_at_once(shop: Shop, body: bytes) -> None:
    began = time.monotonic()
    answer = httpx.post(f"{shop.url}/token?scope=%2Fpaid", content=body, timeout=5)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert time.monotonic() - began < 2


# ------------------------------------------------------------------------------------------------------- A18, A19: hygiene

_LEAKS = """
import anyio, gc, sys, tempfile
from pathlib import Path
from tests.shop import Shop, async_client, client, on_devnet
from x402core.events import Dialect

def main(folder):
    with on_devnet() as ground, Shop(ground, folder) as shop:
        for dialect in (Dialect.V2, Dialect.PERMIT_TOKEN):
            payer = ground.payer()
            with client(payer.purse(ground, dialect)) as (paying, _):
                assert paying.get(shop.paid).status_code == 200

        async def go(dialect, payer):
            paying, _ = async_client(payer.purse(ground, dialect))
            async with paying:
                assert (await paying.get(shop.paid)).status_code == 200

        for dialect in (Dialect.V2, Dialect.PERMIT_TOKEN):
            anyio.run(go, dialect, ground.payer())
        shop.settled(4)

main(Path(sys.argv[1]))
gc.collect()
"""


def test_A18_no_connection_file_or_task_is_left_open(tmp_path: Path) -> None:
    """In a process of its own, to its end: sync and async clients, seller, ledger, chain; not one ResourceWarning."""
    command = [sys.executable, "-X", "tracemalloc=5", "-W", "error::ResourceWarning", "-c", _LEAKS, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_A19_no_time_on_our_wire_is_naive(shop: Shop) -> None:
    """In the 402, in a token's reply, in a refusal: each text that starts as a date says its zone."""
    payer = shop.ground.payer()
    permit = permit_of(shop, payer)
    documents = [httpx.get(shop.paid).json(), buy(shop, permit).json(), buy(shop, permit, "/other").json()]
    dates = [text for text in _texts(documents) if text[:4].isdigit() and text[4:5] == "-"]
    assert dates
    assert all(text.endswith("Z") for text in dates)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def test_A19_no_public_name_shadows_a_builtin() -> None:
    import builtins

    import x402bind
    import x402core

    shadows = {}
    for package in (x402core, x402bind):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                loaded = importlib.import_module(module.name)
                names = {name for name in vars(loaded) if not name.startswith("_")} & set(vars(builtins))
                shadows[module.name] = {name for name in names if vars(loaded)[name] is not vars(builtins)[name]}
    assert len(shadows) > 40
    assert {name: found for name, found in shadows.items() if found} == {}


_QUIET = """
import os, sys
def hook(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        raise SystemExit(f"{event} {arguments}")
    if event == "open" and ".env" in str(arguments[0]):
        raise SystemExit(f"read {arguments[0]}")
sys.addaudithook(hook)
before = dict(os.environ)
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402bind.clients.httpx import paying_client
seller = Seller(key="11" * 32, rpc={"base-sepolia": "https://node.test"}, ledger="memory:", token_key=b"k" * 32)
PaymentMiddleware(None, seller, {"/paid": "$0.01"})
paying_client("22" * 32, "$1", "base-sepolia", rpc={"base-sepolia": "https://node.test"}).close()
assert dict(os.environ) == before
"""


def test_A19_nothing_is_read_or_asked_at_import_and_set_up(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EVM_PRIVATE_KEY=from-a-file\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", _QUIET], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("method", [Method.EIP3009, Method.EIP2612])
def test_A19_a_payment_is_verified_on_chain_without_any_key(ground: Ground, method: Method) -> None:
    """What we offer for verify-only: check, plan, read, judge; no Seller, so no account.  (A Seller settles: it wants a key.)"""
    payer = ground.payer()
    made = offers("$0.01", NETWORK, "0x" + "22" * 20, spender="0x" + "33" * 20)
    offer = next(offer for offer in made if offer.method is method)
    permit = payer.permit(offer, ground)
    assert isinstance(verified(permit, offer, ground), Verified)
    forged = replace(permit, signature=sign(of(offer).digest(permit, offer), b"\x07" * 32))
    with pytest.raises(AssertionError, match="signature"):
        verified(forged, offer, ground)
    with pytest.raises(TypeError, match="key"):
        Seller(rpc={NETWORK: ground.url}, ledger="memory:")  # type: ignore[call-arg]
    with pytest.raises(LocalProtocolError, match="key"):
        Seller(key="", rpc={NETWORK: ground.url}, ledger="memory:")
