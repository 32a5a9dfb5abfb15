"""x402-mock 0.1.1's defects A1 to A19 (seeds.md 3.1): for each, that it cannot happen here.  Real chain, sockets and ledger."""

from __future__ import annotations

import base64
import gc
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.shop import FUNDS, NETWORK, PRICE, Ground, Shop, TroubledNode, client, on_devnet, posted, token_body, until
from x402bind.clients.httpx import PaymentTransport, outcome_of
from x402bind.seller import Seller
from x402core import KNOWN, LocalProtocolError, PayerPolicy, offers
from x402core.commands import OutcomeKind
from x402core.errors import Reason, Refusal
from x402core.events import Challenge, Dialect, Eip2612Permit, Method
from x402core.evm import digests
from x402core.evm.secp256k1 import sign
from x402core.evm.transaction import decode
from x402core.machines.settlement import SettlementPolicy
from x402core.policy import choose
from x402core.schemes import of
from x402core.schemes.judge import Checked, check
from x402core.values import Amount, Seconds, chain_id
from x402core.wire import permit_token, v2

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TOKEN = Dialect.PERMIT_TOKEN


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


@pytest.fixture
def shop(ground: Ground, tmp_path: Path) -> Iterator[Shop]:
    with Shop(ground, tmp_path) as shop:
        yield shop


def buy(shop: Shop, permit: Any) -> httpx.Response:
    """Take a permit to the token endpoint as x402-mock's client does."""
    return httpx.post(f"{shop.url}/token?scope=%2Fpaid", content=token_body(permit), timeout=20)


def signed(shop: Shop, payer: Any, **changed: Any) -> Eip2612Permit:
    """Return a permit for the shop's price, signed after the changes."""
    offer = shop.offer(TOKEN)
    permit = replace(payer.permit(offer, shop.ground), **changed)
    assert isinstance(permit, Eip2612Permit)
    return replace(permit, signature=sign(of(offer).digest(permit, offer), payer.key))


def test_A1_the_seller_is_really_paid(shop: Shop) -> None:
    payer = shop.ground.payer()
    assert buy(shop, signed(shop, payer)).status_code == 200
    (entry,) = shop.settled()
    assert shop.ground.calls(entry.transactions) == ("permit", "transferFrom")
    assert (shop.ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)


def test_A2_one_permit_buys_one_token_however_often_it_is_presented(shop: Shop) -> None:
    payer = shop.ground.payer()
    permit, body = signed(shop, payer), None
    body = token_body(permit)
    post = f"{shop.url}/token?scope=%2Fpaid"
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: httpx.post(post, content=body, timeout=20), range(10)))
    tokens = {answer.json()["access_token"] for answer in answers if answer.status_code == 200}
    assert len(tokens) == 1
    assert {answer.status_code for answer in answers} <= {200, 409}
    shop.settled()
    assert (shop.earned, len(shop.entries())) == (PRICE, 1)


def test_A3_a_high_s_is_refused_before_the_chain_is_asked(ground: Ground, tmp_path: Path) -> None:
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url) as shop:
        permit = signed(shop, ground.payer())
        s = ORDER - int.from_bytes(permit.signature[32:64], "big")
        high = permit.signature[:32] + s.to_bytes(32, "big") + bytes([55 - permit.signature[64]])
        node.seen.clear()
        answer = buy(shop, replace(permit, signature=high))
        assert (answer.status_code, answer.json()["title"]) == (402, Reason.SIGNATURE)
        assert node.seen == []


def test_A4_a_permit_for_another_chain_is_no_payment(shop: Shop) -> None:
    permit = signed(shop, shop.ground.payer())
    document = json.loads(token_body(permit))
    document["permit"]["chain_id"] = 1
    answer = httpx.post(f"{shop.url}/token?scope=%2Fpaid", json=document)
    assert (answer.status_code, answer.json()["title"]) == (402, Reason.NO_MATCH)
    assert shop.entries() == ()


def test_A5_decimals_are_our_own_tables_never_the_servers_word() -> None:
    (*_, offer) = offers("$0.01", NETWORK, "0x" + "22" * 20)
    lying = replace(offer, decimals=18, amount=Amount(10**16))
    refusal = choose(PayerPolicy.up_to("$0.80", NETWORK), Challenge((lying,), token_endpoint="/token"))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.ASSET_MISMATCH
    assert choose(PayerPolicy.up_to("$0.80", NETWORK), Challenge((offer,), token_endpoint="/token")) == offer


def test_A6_a_token_endpoint_that_asks_for_money_gets_no_second_signature(shop: Shop) -> None:
    payer = shop.ground.payer()
    seen: list[httpx.Request] = []

    def hostile(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        assert len(seen) < 5
        return httpx.get(shop.paid)  # 402, whatever was asked

    with httpx.Client(transport=PaymentTransport(httpx.MockTransport(hostile), payer.purse(shop.ground, TOKEN))) as paying:
        response = paying.get(shop.paid)
    outcome = outcome_of(response)
    assert outcome is not None
    assert (outcome.kind, [r.method for r in seen]) == (OutcomeKind.DECLINED, ["GET", "POST"])


@pytest.mark.parametrize("bearer", ["a.b", ".", "..", "a", "=.=", "eyJ9.e30", "x" * 9000, "é.é", f"{'A' * 40}.{'A' * 43}"])
def test_A7_a_malformed_bearer_is_answered_at_once(shop: Shop, bearer: str) -> None:
    answer = httpx.get(shop.paid, headers={"Authorization": f"Bearer {bearer}".encode()}, timeout=5)
    assert answer.status_code == 402
    assert httpx.get(shop.paid, timeout=5).status_code == 402


@pytest.mark.parametrize("network", ["eip155:1", "eip155:8453", "eip155:137", "eip155:11155111"])
def test_A8_every_chains_own_domain_verifies(ground: Ground, network: str) -> None:
    payer = ground.payer()
    offer = next(o for o in offers("$0.01", network, "0x" + "22" * 20) if o.method is Method.EIP2612)
    asset = KNOWN.asset(network, offer.asset)
    assert asset is not None
    separator = digests.domain(asset.name, asset.version, chain_id(offer.network), offer.asset)
    permit = Eip2612Permit(offer.network, offer.asset, payer.address, offer.pay_to, offer.amount, 0, Seconds(2**32), b"")
    digest = digests.permit_digest(separator, payer.address, offer.pay_to, offer.amount, 0, 2**32)
    assert isinstance(check(replace(permit, signature=sign(digest, payer.key)), offer), Checked)


def test_A9_a_token_opens_what_was_paid_for_and_nothing_else(ground: Ground, shop: Shop, tmp_path: Path) -> None:
    token = buy(shop, signed(shop, ground.payer())).json()["access_token"]
    held = {"Authorization": f"Bearer {token}"}
    assert httpx.get(shop.paid, headers=held).status_code == 200
    other = httpx.get(f"{shop.url}/other", headers=held)
    assert (other.status_code, other.json()["reason"]) == (402, Reason.TOKEN_SCOPE)
    payload = token.split(".")[0]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert set(claims) == {"aud", "exp", "iat", "kid", "net", "nonce", "pay", "scope", "sub"}
    (tmp_path / "b").mkdir()
    with Shop(ground, tmp_path / "b") as another:  # the same key, another audience and another ledger
        assert httpx.get(another.paid, headers=held).status_code == 402


def test_A9_a_token_stops_working_when_its_settlement_ends_void(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    quick = SettlementPolicy(stuck_after=2000)  # type: ignore[arg-type]
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url, settlement=quick) as shop:
        permit = signed(shop, payer)
        node.refuse["eth_sendRawTransaction"] = "insufficient funds for gas * price + value"
        answer = buy(shop, permit)
        held = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert httpx.get(shop.paid, headers=held).status_code == 200
        ground.drain(payer)
        node.refuse.clear()
        (entry,) = shop.settled()
        assert entry.state == "void"
        refused = httpx.get(shop.paid, headers=held)
        assert (refused.status_code, refused.json()["reason"]) == (402, Reason.TOKEN_REVOKED)


def test_A10_a_token_that_is_held_is_used(shop: Shop) -> None:
    payer = shop.ground.payer()
    with client(payer.purse(shop.ground, TOKEN)) as (paying, wire):
        assert [paying.get(shop.paid).status_code for _ in range(3)] == [200] * 3
    assert sum(posted(request) for request in wire.sent) == 1
    shop.settled()
    assert shop.earned == PRICE


def test_A11_the_payers_order_decides() -> None:
    payee = "0x" + "22" * 20
    usdc, eurc = offers("$0.01", "base", payee)[0], offers("€0.01", "base", payee)[0]
    dollars_first = PayerPolicy.up_to("$1", "base").also("€1", "base")
    euros_first = PayerPolicy.up_to("€1", "base").also("$1", "base")
    for offered in (Challenge((usdc, eurc)), Challenge((eurc, usdc))):
        assert choose(dollars_first, offered) == usdc
        assert choose(euros_first, offered) == eurc


def test_A12_settlements_at_one_time_get_numbers_of_their_own(shop: Shop) -> None:
    payers = [shop.ground.payer() for _ in range(10)]
    permits = [signed(shop, payer) for payer in payers]
    with ThreadPoolExecutor(10) as pool:
        assert {answer.status_code for answer in pool.map(lambda permit: buy(shop, permit), permits)} == {200}
    entries = shop.settled(10)
    assert shop.earned == 10 * PRICE
    numbers = set()
    for entry in entries:
        record = shop.seller.ledger.record(entry.key)
        assert record is not None
        for raw in record.attempts[-1].raws:
            transaction, _ = decode(raw)  # EIP-1559, or it raises
            numbers.add(transaction.nonce)
    assert len(numbers) == 20


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_call"])
def test_A13_a_node_in_trouble_is_our_trouble(ground: Ground, tmp_path: Path, method: str) -> None:
    payer = ground.payer()
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url) as shop:
        permit = signed(shop, payer)
        node.refuse[method] = "internal error"
        answer = buy(shop, permit)
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        purse = replace(payer.purse(ground, TOKEN), rpc={NETWORK: node.url})
        with client(purse) as (paying, wire):
            outcome = outcome_of(paying.get(shop.paid))
        assert outcome is not None
        assert (outcome.kind, len(wire.sent)) == (OutcomeKind.FAILED, 1)  # nothing was signed, least of all a nonce of -1
        node.refuse.clear()
        assert buy(shop, permit).status_code == 200


def test_A14_the_handler_gets_the_request_unchanged_and_knows_who_paid(ground: Ground, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        seen.update(scope=dict(scope), body=body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    payer = ground.payer()
    with Shop(ground, tmp_path, app=echo) as shop, client(payer.purse(ground, Dialect.V2)) as (paying, _):
        paying.post(f"{shop.paid}?q=1&q=2", content=b"the body", headers=[("X-Mine", "a"), ("X-Mine", "b")])
    scope = seen["scope"]
    assert (scope["method"], scope["path"], scope["query_string"], seen["body"]) == ("POST", "/paid", b"q=1&q=2", b"the body")
    assert [value for name, value in scope["headers"] if name == b"x-mine"] == [b"a", b"b"]
    assert (scope["x402"].payer, scope["x402"].amount, scope["x402"].network) == (payer.address, PRICE, NETWORK)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"{", None),
        (b"[]", None),
        (b"{}", "/version"),
        (b'{"version":"Version 0.1","permit":{"permit_type":"EIP2612"}}', "/permit/"),
    ],
)
def test_A15_bad_json_names_the_field(shop: Shop, body: bytes, pointer: str | None) -> None:
    answer = httpx.post(f"{shop.url}/token?scope=%2Fpaid", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert pointer is None or answer.json()["pointer"].startswith(pointer)


def test_A16_amounts_are_exact_or_refused() -> None:
    payee = "0x" + "22" * 20
    for wrong in ("$0.0000001", "1e-7", "DOGE 1", "1 DOGE", "$NaN", "", "$-1", "$0"):
        with pytest.raises(LocalProtocolError, match="price"):
            offers(wrong, NETWORK, payee)
    with pytest.raises(LocalProtocolError, match="price"):
        offers(0.5, NETWORK, payee)  # type: ignore[arg-type]
    assert [offer.amount for offer in offers("$1", NETWORK, payee)] == [1_000_000] * 3
    assert [offer.amount for offer in offers(Decimal("0.000001"), NETWORK, payee)] == [1, 1, 1]
    (*_, whole) = offers("$1", NETWORK, payee)
    document = permit_token.encode_challenge(Challenge((whole,), token_endpoint="/token"), created_at="2026-01-01T00:00:00Z")
    assert permit_token.decode_challenge(json.loads(json.dumps(document, default=int))).offers[0].amount == 1_000_000


def test_A17_the_callers_request_stays_the_callers(shop: Shop) -> None:
    payer = shop.ground.payer()
    with client(payer.purse(shop.ground, TOKEN)) as (paying, wire):
        headers = [("Content-Type", "text/csv"), ("X-Mine", "a"), ("X-Mine", "b")]
        with paying.stream("POST", shop.paid, content=b"a,b", headers=headers) as response:
            assert response.status_code == 200
            assert json.loads(b"".join(response.iter_bytes()))["paid_by"] == payer.address
    first, bought, last = wire.sent
    for request in (first, last):
        assert (request.headers["Content-Type"], request.content) == ("text/csv", b"a,b")
        assert request.headers.get_list("X-Mine") == ["a", "b"]
    assert bought.headers["Content-Type"] == "application/json"


def test_A18_hashes_are_hashes_and_depth_is_waited_for(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    gc.collect()  # what other tests left lying about is theirs
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with Shop(ground, tmp_path, settlement=SettlementPolicy(confirmations=3)) as shop:
            assert buy(shop, signed(shop, payer)).status_code == 200
            until(lambda: shop.entries()[0].state == "sent" and shop.earned == PRICE)
            assert shop.entries()[0].state == "sent"  # mined, and not deep enough
            ground.rpc("evm_mine")
            ground.rpc("evm_mine")
            (entry,) = shop.settled()
            assert all(re.fullmatch(r"0x[0-9a-f]{64}", each) for each in entry.transactions)
            record = shop.seller.ledger.record(entry.key)
        gc.collect()  # an open connection would tell now
    assert record is not None
    assert record.outcome is not None
    assert getattr(record.outcome, "block", 0) == int(
        ground.rpc("eth_getTransactionReceipt", entry.transactions[-1])["blockNumber"], 16
    )


def test_A19_times_have_zones_and_imports_have_no_effects(shop: Shop, tmp_path: Path) -> None:
    body = httpx.get(shop.paid).json()
    (component,) = body["payment_scheme"]["payment_components"]
    assert component["created_at"].endswith("Z")
    (tmp_path / ".env").write_text("EVM_PRIVATE_KEY=from-a-file\n")
    code = "import os, builtins; b = set(vars(builtins)); import x402core, x402bind.seller, x402bind.clients.httpx as c;"
    code += "assert 'EVM_PRIVATE_KEY' not in os.environ; assert not (set(x402core.__all__) & b)"
    root = str(Path(__file__).resolve().parent.parent)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, check=True)


def test_A19_the_payee_needs_no_key_and_no_gas(shop: Shop) -> None:
    """Whoever is paid may be a cold wallet: the settling account is another."""
    assert shop.pay_to != shop.seller.signer.address
    payer = shop.ground.payer()
    with client(payer.purse(shop.ground, Dialect.V2)) as (paying, _):
        assert paying.get(shop.paid).status_code == 200
    assert (shop.earned, int(shop.ground.rpc("eth_getBalance", shop.pay_to, "latest"), 16)) == (PRICE, 0)


def test_A19_checking_a_payment_needs_no_key(ground: Ground) -> None:
    """The judge is pure; only a Seller, which settles, wants a key, and says so."""
    payer = ground.payer()
    (offer, *_) = offers("$0.01", NETWORK, "0x" + "22" * 20)
    decoded = v2.decode_payment(payer.header(offer, ground)[v2.PAYMENT_SIGNATURE])
    assert isinstance(check(decoded.permit, offer), Checked)
    with pytest.raises(LocalProtocolError, match="key"):
        Seller(key="not a key", rpc={NETWORK: ground.url}, ledger="memory:")


def test_every_defect_has_a_test() -> None:
    found = {int(number) for number in re.findall(r"^def test_A(\d+)_", Path(__file__).read_text(), re.MULTILINE)}
    assert found == set(range(1, 20))
