"""x402-mock 0.1.1's defects by other roads, around the chain: A8, A12, A13, A18, A19; what a node, or time, may do."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import x402bind
import x402core
from tests.chains import USDC
from tests.shop import NETWORK, PRICE, STRANGER_KEY, Ground, Shop, TroubledNode, client, on_devnet, token_body, until, verified
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.devnet.token import place
from x402bind.clients.httpx import AsyncPaymentTransport, outcome_of
from x402bind.clients.purse import Purse
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402core import KNOWN, LocalProtocolError, offers
from x402core.commands import OutcomeKind
from x402core.events import Dialect, Eip2612Permit, Method
from x402core.evm.abi import encode_call
from x402core.evm.secp256k1 import sign
from x402core.evm.transaction import decode
from x402core.machines.settlement import SettlementPolicy
from x402core.schemes import of
from x402core.schemes.judge import Verified
from x402core.values import Millis, chain_id

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


@pytest.mark.parametrize("odd", ["0x", None, -1, "0x" + "ff" * 31], ids=["empty", "null", "minus one", "31 bytes"])
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


# ------------------------------------------------------------------------------------------------------- A18, A19: hygiene


def test_A18_it_is_not_settled_before_it_is_deep_however_often_it_looks(ground: Ground, tmp_path: Path) -> None:
    """Mined, and looked at again and again: "sent" until two more blocks stand on it.  The hashes are the chain's own."""
    policy = SettlementPolicy(confirmations=3, look_first=Millis(5), look_most=Millis(20))
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url, settlement=policy) as shop:

        def looks() -> int:
            return node.seen.count("eth_getTransactionReceipt")

        assert buy(shop, permit_of(shop, ground.payer())).status_code == 200
        until(lambda: shop.earned == PRICE)
        for depth in (1, 2):
            before = looks()
            until(lambda least=before + 8: looks() >= least)
            assert (depth, [entry.state for entry in shop.entries()]) == (depth, ["sent"])
            ground.rpc("evm_mine")
        (entry,) = shop.settled()
        assert (entry.state, ground.calls(entry.transactions)) == ("settled", ("permit", "transferFrom"))
        assert all(re.fullmatch(r"0x[0-9a-f]{64}", each) for each in entry.transactions)


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
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", _LEAKS, str(tmp_path)]
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
    """What we offer for verify-only: check, plan, read, judge; no Seller, so no account.  A Seller settles: it wants a key."""
    payer = ground.payer()
    made = offers("$0.01", NETWORK, "0x" + "22" * 20, spender="0x" + "33" * 20)
    offer = next(offer for offer in made if offer.method is method)
    permit = payer.permit(offer, ground)
    assert isinstance(verified(permit, offer, ground), Verified)
    forged = replace(permit, signature=sign(of(offer).digest(permit, offer), b"\x07" * 32))
    with pytest.raises(AssertionError, match="signature"):
        verified(forged, offer, ground)
    with pytest.raises(LocalProtocolError, match="key"):
        Seller(rpc={NETWORK: ground.url}, ledger="memory:")
    with pytest.raises(LocalProtocolError, match="key"):
        Seller(key="", rpc={NETWORK: ground.url}, ledger="memory:")
