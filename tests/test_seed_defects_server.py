"""x402-mock 0.1.1's defects by other roads, against our seller's HTTP: A2, A3, A4, A7, A9, A14, A15; what a payer may try."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.shop import NETWORK, PRICE, Ground, Shop, TroubledNode, client, on_devnet, token_body, until
from x402bind.settler import now_millis
from x402core.access import KeyRing, TokenClaims, mint
from x402core.errors import Reason
from x402core.events import Dialect, Eip2612Permit, Payment
from x402core.evm import digests
from x402core.evm.secp256k1 import sign
from x402core.values import Millis, Seconds
from x402core.wire import v2

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TOKEN = Dialect.PERMIT_TOKEN
KEY = b"k" * 32  # the Shop's


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
    text = base64.urlsafe_b64encode(payload).rstrip(b"=")
    return (text + b"." + base64.urlsafe_b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).rstrip(b"=")).decode()


ODD_HEADERS: dict[str, list[tuple[str, str]]] = {
    "no scheme": [("Authorization", "a.b")],
    "no token": [("Authorization", "Bearer")],
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
    if name == "two":  # two credentials are no credential (RFC 9110 11.6.2): the request itself is at fault
        assert (answer.status_code, answer.json()["source"], shop.api.runs) == (400, "Authorization", 0)
    else:
        assert (answer.status_code, shop.api.runs) == (402, 0)
        assert answer.json()["access_token_endpoint"]
    assert time.monotonic() - began < 2


def test_A7_a_hundred_malformed_bearers_do_not_keep_the_server_from_stopping(ground: Ground, tmp_path: Path) -> None:
    with Shop(ground, tmp_path) as shop:
        with ThreadPoolExecutor(10) as pool:
            answers = pool.map(
                lambda n: httpx.get(shop.paid, headers=held("a." * (1 + n % 7)), timeout=10).status_code, range(100)
            )
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
        b"[" * 50_000,
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
