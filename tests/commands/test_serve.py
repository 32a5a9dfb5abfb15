"""``x402 facilitator``, ``x402 serve`` and ``x402 pay`` in processes of their own: money moves, and nobody wrote code."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.shop import FUNDS, PRICE, RELAYER, RELAYER_KEY, Ground, fresh, until
from x402bind.chain.devnet.token import place
from x402core.evm.address import checksum
from x402core.values import Address

from .plain_v1 import x_payment
from .running import Done, run_apart, run_here
from .serving import Serving

SETTLER = RELAYER_KEY if isinstance(RELAYER_KEY, str) else RELAYER_KEY.hex()
PAYEE = "0x" + "11" * 20
REMOTE = ("--facilitator", "http://127.0.0.1:9")
PRICED = ("serve", "--price", "$0.01", "--network", "eip155:84532")


def facilitator(ground: Ground, *more: str) -> Serving:
    return Serving("facilitator", "--rpc", ground.url, "--key", "env:SETTLER", *more, secrets=(SETTLER,), SETTLER=SETTLER)


def self_settling(ground: Ground, pay_to: str, *more: str) -> Serving:
    own = ("--pay-to", pay_to, "--rpc", ground.url, "--key", "env:SETTLER")
    return Serving(*PRICED, *own, *more, secrets=(SETTLER,), SETTLER=SETTLER)


def pay(url: str, key: bytes, *more: str) -> Done:
    return run_apart("pay", url, "--key", "env:PAYER", *more, secrets=(key.hex(),), PAYER=key.hex())


# --------------------------------------------------------------------------------------------------- the three commands


def test_a_facilitator_a_shop_and_a_payer(ground: Ground) -> None:
    payer, pay_to = ground.payer(), fresh().address
    with facilitator(ground) as settles:
        assert settles.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{settles.url}/health").json() == {"status": "ok"}
        with Serving(*PRICED, "--pay-to", pay_to, "--facilitator", settles.url) as shop:
            done = pay(f"{shop.url}/any/path?x=1", payer.key, "--json")
            shop_done = shop.stop()
        stopped = settles.stop()
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["outcome"] == "paid"
    assert told["cost"]["shown"] == "$0.01"
    assert json.loads(told["body"])["path"] == "/any/path"
    assert json.loads(told["body"])["payer"].lower() == payer.address.lower()
    assert (ground.balance(payer.address), ground.balance(pay_to)) == (FUNDS - PRICE, PRICE)
    assert (shop_done.code, stopped.code) == (0, 0)


def test_a_shop_that_settles_itself(ground: Ground, tmp_path: Path) -> None:
    payer, pay_to = ground.payer(), fresh().address
    with self_settling(ground, pay_to, "--ledger", f"sqlite:{tmp_path / 'shop.db'}") as shop:
        for _ in range(2):
            assert pay(f"{shop.url}/thing", payer.key).code == 0
        assert "memory" not in shop.err
    assert ground.balance(pay_to) == 2 * PRICE


def test_the_settling_account_is_paid_where_nobody_is_named(ground: Ground) -> None:
    payer, before = ground.payer(), ground.balance(RELAYER)
    own = ("--rpc", ground.url, "--key", "env:SETTLER")
    with Serving(*PRICED, *own, secrets=(SETTLER,), SETTLER=SETTLER) as shop:
        assert pay(shop.url + "/", payer.key).code == 0
    assert ground.balance(RELAYER) - before == PRICE


def test_a_plain_client_of_version_1_buys(ground: Ground) -> None:
    """The body says what to sign, ``X-PAYMENT`` carries it, ``X-PAYMENT-RESPONSE`` says that it is settled."""
    payer, pay_to = ground.payer(), fresh().address
    with self_settling(ground, pay_to) as shop:
        url = f"{shop.url}/old"
        asked = httpx.get(url)
        assert asked.status_code == 402
        (offer,) = [each for each in asked.json()["accepts"] if each["network"] == "base-sepolia"]
        assert offer["resource"].endswith("/old")
        assert (offer["maxAmountRequired"], offer["payTo"].lower()) == (str(PRICE), pay_to.lower())
        answer = httpx.get(url, headers={"X-PAYMENT": x_payment(offer, payer.key)}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert run_apart("inspect", f"X-PAYMENT-RESPONSE: {answer.headers['X-PAYMENT-RESPONSE']}").code == 0
    assert ground.balance(pay_to) == PRICE


def test_settled_before_it_is_served(ground: Ground) -> None:
    payer, pay_to = ground.payer(), fresh().address
    with self_settling(ground, pay_to, "--settle", "before") as shop:
        told = json.loads(pay(shop.url + "/x", payer.key).out)
    assert re.fullmatch(r"0x[0-9a-f]{64}", told["transaction"])
    assert ground.balance(pay_to) == PRICE


def test_what_is_free_is_free_as_it_is_spelled(ground: Ground) -> None:
    with self_settling(ground, fresh().address, "--free", "/health") as shop:
        assert httpx.get(f"{shop.url}/health").status_code == 200
        for other in ("/Health", "/health/", "//health", "/x/..%2Fhealth", "/healthy", "/"):
            assert httpx.get(f"{shop.url}{other}").status_code == 402, other


def test_a_payer_with_a_lower_limit_pays_nothing(ground: Ground) -> None:
    payer, pay_to = ground.payer(), fresh().address
    with self_settling(ground, pay_to) as shop:
        assert pay(shop.url + "/x", payer.key, "--max", "$0.001").code == 4
        assert pay(shop.url + "/x", b"\x07" * 32).code == 4  # has no money
    assert ground.balance(pay_to) == 0


def test_only_who_brings_a_token_is_answered(ground: Ground) -> None:
    payer, pay_to = ground.payer(), fresh().address
    token = "the-token-of-a-customer-0123456789"
    command = ("facilitator", "--rpc", ground.url, "--key", "env:SETTLER", "--token", "env:CUSTOMER")
    with Serving(*command, secrets=(SETTLER, token), SETTLER=SETTLER, CUSTOMER=token) as settles:
        assert httpx.post(f"{settles.url}/settle", content=b"{}").status_code == 401
        assert httpx.get(f"{settles.url}/supported").status_code == 200
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.post(f"{settles.url}/settle", content=b"{}", headers=headers).status_code == 400
        with Serving(*PRICED, "--pay-to", pay_to, "--facilitator", settles.url) as shop:
            assert pay(shop.url + "/x", payer.key).code != 0
    assert ground.balance(payer.address) == FUNDS


# -------------------------------------------------------------------------------------------------------- tokens at large


GOLD, NOTHING = ("0x" + digit * 40 for digit in "cd")


def test_a_token_that_is_not_known_here_is_asked_of_the_chain(ground: Ground) -> None:
    assert ground.devnet is not None
    token = place(ground.devnet.chain, GOLD, name="Gold", version="7", symbol="GLD", decimals=18)
    payer, pay_to = ground.payer(), fresh().address
    token.mint(payer.address, 10**18)
    with self_settling(ground, pay_to, "--asset", GOLD) as shop:
        assert "'Gold' version '7', 18 decimals, paid by eip3009 or eip2612" in shop.err
        (offer,) = httpx.get(f"{shop.url}/x").json()["accepts"]
        assert (offer["asset"].lower(), offer["maxAmountRequired"]) == (GOLD, str(10**16))
        answer = httpx.get(f"{shop.url}/x", headers={"X-PAYMENT": x_payment(offer, payer.key)}, timeout=30)
        assert answer.status_code == 200, answer.text
    assert token.balance_of(pay_to) == 10**16


def test_a_token_that_cannot_be_sold_is_refused_with_what_to_do(ground: Ground) -> None:
    asked = (*PRICED, "--pay-to", PAYEE, "--asset")
    node = ("--rpc", ground.url, "--key", "env:K")
    without = run_apart(*asked, GOLD, *REMOTE)
    assert (without.code, "--asset: not a token known here" in without.err, "give --rpc" in without.err) == (2, True, True)
    nobody = run_apart(*asked, NOTHING, *node, K=SETTLER)
    assert (nobody.code, "--asset: no token is at 0x" in nobody.err) == (2, True)


# ------------------------------------------------------------------------------------------------- what is said at first


def test_what_is_asked_is_said_a_line_a_network() -> None:
    asked = ("serve", "--price", "$0.01", "--network", "base-sepolia", "--network", "base", "--pay-to", PAYEE, *REMOTE)
    with Serving(*asked) as shop:
        until(lambda: len(shop.lines["err"]) > 2)
        said = [line for line in shop.lines["err"] if "a request on" in line]
        assert len(shop.lines["out"]) == 1
    assert said == [
        f"x402 serve: $0.01 (USDC, 10000 atomic units) a request on {network}, paid to {checksum(Address(PAYEE))}\n"
        for network in ("Base Sepolia (eip155:84532), play money", "Base (eip155:8453)")
    ]


def test_a_token_not_known_here_is_asked_in_its_own_units(ground: Ground) -> None:
    assert ground.devnet is not None
    place(ground.devnet.chain, "0x" + "e" * 40, name="Silver", version="1", symbol="SLV", decimals=18)
    with self_settling(ground, PAYEE, "--asset", "0x" + "e" * 40) as shop:
        until(lambda: f"$0.01 (SLV, {10**16} atomic units) a request on Base Sepolia" in shop.err)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_of_version_6_is_printed_as_a_url_has_it(ground: Ground, host: str) -> None:
    with (
        facilitator(ground, "--host", host) as settles,
        Serving(*PRICED, "--pay-to", PAYEE, "--facilitator", settles.url, "--host", host) as shop,
    ):
        assert re.fullmatch(r"http://\[::1\]:[0-9]+", settles.url)
        assert re.fullmatch(r"http://\[::1\]:[0-9]+", shop.url)
        assert httpx.get(f"{settles.url}/health").status_code == 200
        assert httpx.get(f"{shop.url}/x").status_code == 402


def test_an_address_of_version_6_is_in_what_is_signed_for(ground: Ground) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = str(taken.getsockname()[1])
    with Serving(*PRICED, "--pay-to", PAYEE, *REMOTE, "--host", "[::1]", "--port", port) as shop:
        url = f"http://[::1]:{port}/x"
        assert shop.url + "/x" == url
        assert httpx.get(url).json()["accepts"][0]["resource"] == url


@pytest.mark.parametrize("host", ["", " ", "[]"])
def test_a_host_that_is_none_is_refused(host: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    done = run_here(capfdbinary, *PRICED, "--pay-to", PAYEE, *REMOTE, "--host", host)
    assert (done.code, "write an address" in done.err) == (2, True)


# ------------------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_when_told_to(ground: Ground, how: int) -> None:
    with self_settling(ground, fresh().address) as shop, httpx.Client() as idle:
        assert idle.get(f"{shop.url}/x").status_code == 402  # its connection stays open
        done = shop.stop(how)
    assert done.code == (0 if how == signal.SIGINT else -signal.SIGTERM)


def test_what_is_in_memory_is_said_to_be_forgotten(ground: Ground) -> None:
    with self_settling(ground, fresh().address) as shop:
        until(lambda: "--ledger sqlite:FILE" in shop.err)
    with facilitator(ground) as settles:
        until(lambda: "--ledger sqlite:FILE" in settles.err)


def test_a_port_that_is_taken_is_said(ground: Ground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        pair = ("--rpc", ground.url, "--key", "env:K")
        done = run_apart(*PRICED, *pair, "--port", port, K=SETTLER, secrets=(SETTLER,))
    assert done.code == 1
    assert "address already in use" in done.err


def test_a_node_of_another_chain_stops_the_start(ground: Ground) -> None:
    done = run_apart("facilitator", "--rpc", f"base={ground.url}", "--key", "env:K", "--port", "0", K=SETTLER)
    assert done.code == 1
    assert "the node serves chain 84532" in done.err
    assert b"http" not in done.out


# -------------------------------------------------------------------------------------------------------- wrong options

WRONG = {
    "price": ("serve", "--price", "cheap", "--network", "base-sepolia", "--pay-to", PAYEE, *REMOTE),
    "network": ("serve", "--price", "$0.01", "--network", "nowhere", "--pay-to", PAYEE, *REMOTE),
    "pay-to": (*PRICED, "--pay-to", "0x12", *REMOTE),
    "pay-to ": (*PRICED, *REMOTE),
    "facilitator": (*PRICED, "--pay-to", PAYEE),
    "facilitator ": (*PRICED, "--pay-to", PAYEE, "--facilitator", "ftp://x"),
    "rpc": (*PRICED, "--pay-to", PAYEE, "--rpc", "nonsense", "--key", "env:K"),
    "rpc ": (*PRICED, "--pay-to", PAYEE, "--rpc", "base=http://127.0.0.1:9", "--key", "env:K"),
    "key": (*PRICED, "--pay-to", PAYEE, "--rpc", "http://127.0.0.1:9"),
    "key ": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--key", "env:K"),
    "proxy": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--proxy", "localhost:80"),
    "proxy ": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--proxy", "http://user:secret@127.0.0.1:9"),
    "port": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--port", "99999"),
    "ledger": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--ledger", "postgres"),
    "ledger ": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--ledger", "sqlite:/no/such/folder/x.db"),
    "free": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--free", "health"),
    "url": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--url", "shop.example"),
    "asset": (*PRICED, "--pay-to", PAYEE, *REMOTE, "--asset", "USDC"),
    "rpc f": ("facilitator", "--rpc", "http://127.0.0.1:9/secret", "--key", "env:K"),
    "payee": ("facilitator", "--rpc", "base-sepolia=http://127.0.0.1:9", "--key", "env:K", "--payee", "0x1"),
    "asset f": ("facilitator", "--rpc", "base-sepolia=http://127.0.0.1:9", "--key", "env:K", "--asset", "gold"),
    "code": ("facilitator", "--rpc", "base-sepolia=http://127.0.0.1:9", "--key", "env:K", "--code", "A B"),
    "token": ("facilitator", "--rpc", "base-sepolia=http://127.0.0.1:9", "--key", "env:K", "--token", "env:NOPE"),
    "most-per-payer": ("facilitator", "--rpc", "base-sepolia=http://127.0.0.1:9", "--key", "env:K", "--most-per-payer", "0"),
}


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_option_is_named_in_one_line(
    option: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("K", SETTLER)
    done = run_here(capfdbinary, *WRONG[option], secrets=(SETTLER, "secret"))
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert f": --{option.split()[0]}: " in line


def test_a_key_where_it_does_not_belong_is_not_repeated(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for arguments in ((*PRICED, "--pay-to", SETTLER, *REMOTE), (*PRICED, "--pay-to", PAYEE, "--facilitator", SETTLER)):
        assert run_here(capfdbinary, *arguments, secrets=(SETTLER,)).code == 2
