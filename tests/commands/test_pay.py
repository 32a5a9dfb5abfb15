"""``x402 pay`` against a real shop on a chain in a box: what is bought, what is said, and the exit codes."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.shop import FUNDS, NETWORK, PRICE, Ground, Payer, Shop
from x402bind.commands.pay import payer_policy
from x402core.events import Challenge, Dialect, Method, Receipt
from x402core.policy import offers
from x402core.values import Network
from x402core.wire import v2
from x402core.wire.headers import encode_header

from .running import COMMAND, Done, Stand, checked, run_apart, run_here

Capture = pytest.CaptureFixture[bytes]
PAYEE = "0x209693bc6afc0c5328ba36faf03c514ef312287c"
STRANGER = "11" * 32
"""A key without money, for what is never paid."""


def asking(price: str) -> dict[str, str]:
    """Return the head of a 402."""
    offer = next(offer for offer in offers(price, NETWORK, PAYEE) if offer.method is Method.EIP3009)
    return {v2.PAYMENT_REQUIRED: encode_header(v2.encode_challenge(Challenge((offer,))))}


def pay(capture: Capture, url: str, *arguments: str, key: str = STRANGER) -> Done:
    return run_here(capture, "pay", url, "--key", key, *arguments, secrets=(key,))


@pytest.fixture
def payer(ground: Ground) -> Payer:
    return ground.payer()


# ---------------------------------------------------------------------------------------------------------------- bought


def test_bought_in_a_process_of_its_own(ground: Ground, shop: Shop, payer: Payer) -> None:
    key = payer.key.hex()
    done = run_apart("pay", shop.paid, "--network", "base-sepolia", secrets=(key,), X402_PRIVATE_KEY=key)
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"run": 1, "paid_by": payer.address}
    assert "paid: $0.01 (USDC, 10000 atomic units) to 0x" in done.err
    assert "Base Sepolia (eip155:84532)" in done.err
    (entry,) = shop.settled()
    assert entry.state == "settled"
    assert "https://sepolia.basescan.org/tx/0x" in done.err
    assert '"success": true' in done.err
    assert ground.balance(payer.address) == FUNDS - PRICE


def test_bought_on_whatever_network_is_known(ground: Ground, shop: Shop, payer: Payer, capfdbinary: Capture) -> None:
    done = pay(capfdbinary, shop.paid, key=payer.key.hex())
    assert done.code == 0
    assert "can be seen by other users" in done.err
    assert ground.balance(payer.address) == FUNDS - PRICE


def test_the_whole_story_as_one_document(shop: Shop, payer: Payer, capfdbinary: Capture) -> None:
    done = pay(capfdbinary, shop.paid, "--json", key=payer.key.hex())
    told = json.loads(done.out)
    assert (done.code, told["exit"], told["status"], told["outcome"]) == (0, 0, 200, "paid")
    assert (json.loads(told["body"])["paid_by"], told["body_encoding"]) == (payer.address, "utf-8")
    assert [value for name, value in told["headers"] if name == "set-cookie"] == ["a=1", "b=2"]
    receipt, cost = told["receipt"], told["cost"]
    assert receipt["success"] is True
    assert receipt["payer"].lower() == payer.address
    assert (cost["amount"], cost["shown"], cost["code"], cost["network"]) == ("10000", "$0.01", "USDC", NETWORK)
    assert cost["pay_to"].lower() == shop.pay_to
    assert cost["link"] == f"https://sepolia.basescan.org/tx/{receipt['transaction']}"


def test_the_permit_token_flow_with_a_node(ground: Ground, tmp_path: Path, payer: Payer, capfdbinary: Capture) -> None:
    with Shop(ground, tmp_path) as shop:
        shelf = shop.app.paths.find("/paid")
        assert shelf is not None
        assert shelf.fixed is not None
        only = tuple(offer for offer in shelf.fixed.offers if offer.dialect is Dialect.PERMIT_TOKEN)
        shelf.fixed = replace(shelf.fixed, offers=only)
        done = pay(capfdbinary, shop.paid, key=payer.key.hex())
        assert done.code == 4
        assert "--rpc NETWORK=URL" in done.err
        done = pay(capfdbinary, shop.paid, "--rpc", f"base-sepolia={ground.url}", key=payer.key.hex())
        assert (done.code, json.loads(done.out)["paid_by"]) == (0, payer.address)
        shop.settled()


# ------------------------------------------------------------------------------------------------------- not bought


def test_dearer_than_the_payer_likes(ground: Ground, shop: Shop, payer: Payer, capfdbinary: Capture) -> None:
    done = pay(capfdbinary, shop.paid, "--max", "$0.009", key=payer.key.hex())
    assert done.code == 4
    assert "not paid" in done.err
    assert "over_payment_cap" in done.err
    assert (shop.api.runs, ground.balance(payer.address)) == (0, FUNDS)


def test_on_a_network_the_payer_did_not_name(shop: Shop, payer: Payer, capfdbinary: Capture) -> None:
    done = pay(capfdbinary, shop.paid, "--network", "base", "--json", key=payer.key.hex())
    told = json.loads(done.out)
    assert (done.code, told["exit"], told["outcome"], told["reason"]) == (4, 4, "declined", "network_not_allowed")
    assert (told["status"], told["cost"], told["receipt"]) == (402, None, None)


def test_without_money(ground: Ground, shop: Shop, capfdbinary: Capture) -> None:
    done = pay(capfdbinary, shop.paid, key=ground.payer(0).key.hex())
    assert done.code == 4
    assert "a signed payment is out: it can be executed until" in done.err


def test_a_402_that_makes_no_sense(capfdbinary: Capture) -> None:
    with Stand(lambda *_: (402, {v2.PAYMENT_REQUIRED: "e30="}, b"")) as stand:
        done = pay(capfdbinary, stand.url)
    assert done.code == 4
    assert "not paid" in done.err


def test_nobody_is_there(capfdbinary: Capture) -> None:
    with Stand(lambda *_: None) as stand:
        url = stand.url
    done = pay(capfdbinary, url, "--json")
    assert done.code == 1
    assert "ConnectError" in json.loads(done.out)["detail"]
    assert json.loads(done.out)["status"] is None


def test_the_answer_never_comes_after_the_payment_left(capfdbinary: Capture) -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes] | None:
        return None if v2.PAYMENT_SIGNATURE in request.headers else (402, asking("$0.01"), b"{}")

    with Stand(answer) as stand:
        done = pay(capfdbinary, stand.url)
        assert done.code == 5
        assert "UNKNOWN whether this was paid: $0.01" in done.err
        assert "it can be executed until" in done.err
        assert len(stand.asked) == 2
        told = json.loads(pay(capfdbinary, stand.url, "--json").out)
    assert (told["exit"], told["outcome"], told["cost"]["shown"]) == (5, "unknown", "$0.01")
    assert told["exposed_until"] > 0


def test_interrupted_after_the_payment_left(tmp_path: Path) -> None:
    """Control-C says nothing about the money: the code is the one for unknown."""
    sent, release = threading.Event(), threading.Event()

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes] | None:
        if v2.PAYMENT_SIGNATURE not in request.headers:
            return 402, asking("$0.01"), b"{}"
        sent.set()
        release.wait(30)
        return None

    with Stand(answer) as stand:
        env = {**os.environ, "X402_PRIVATE_KEY": STRANGER}
        process = subprocess.Popen([*COMMAND, "pay", stand.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        assert sent.wait(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        release.set()
    done = checked(Done(process.returncode, out, err.decode()), (STRANGER,))
    assert done.code == 5
    assert "interrupted" in done.err
    assert "UNKNOWN" in done.err


# ------------------------------------------------------------------------------------------------------ free, and errors


def echo(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
    told = {"method": request.command, "body": body.decode("latin-1"), "headers": dict(request.headers.items())}
    return 200, {"X-Mood": "good"}, json.dumps(told).encode()


def test_free_things_are_free(capfdbinary: Capture) -> None:
    with Stand(echo) as stand:
        done = pay(capfdbinary, stand.url, "-H", "X-One: 1", "-H", "Accept: text/plain")
    told = json.loads(done.out)
    assert (done.code, told["method"]) == (0, "GET")
    assert (told["headers"]["X-One"], told["headers"]["Accept"]) == ("1", "text/plain")
    assert told["headers"]["Accept-Encoding"] == "identity"
    assert "free; HTTP 200" in done.err


def test_a_body_like_curls(tmp_path: Path, capfdbinary: Capture) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"line\nline\xff\n")
    with Stand(echo) as stand:
        told = json.loads(pay(capfdbinary, stand.url, "-d", "a=1").out)
        assert (told["method"], told["body"]) == ("POST", "a=1")
        assert told["headers"]["Content-Type"] == "application/x-www-form-urlencoded"
        told = json.loads(pay(capfdbinary, stand.url, "-X", "PUT", "-d", f"@{file}", "-H", "content-type: x/y").out)
        assert (told["method"], told["body"], told["headers"]["content-type"]) == ("PUT", "line\nline\xff\n", "x/y")
        done = run_apart("pay", stand.url, "-d", "@-", stdin=b"from afar", X402_PRIVATE_KEY=STRANGER)
        assert json.loads(done.out)["body"] == "from afar"


def test_bytes_as_they_are_and_where_they_are_wanted(tmp_path: Path, capfdbinary: Capture) -> None:
    body, file = b"\x89PNG\x00\xff\r\n", tmp_path / "picture"
    file.write_bytes(b"what was there before, and was longer")
    with Stand(lambda *_: (200, {"X-Mood": "good"}, body)) as stand:
        assert pay(capfdbinary, stand.url).out == body
        done = pay(capfdbinary, stand.url, "-i")
        head, _, rest = done.out.partition(b"\r\n\r\n")
        assert rest == body
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"X-Mood: good" in head
        assert pay(capfdbinary, stand.url, "-o", str(file)).out == b""
        assert file.read_bytes() == body
        told = json.loads(pay(capfdbinary, stand.url, "--json").out)
        assert (base64.b64decode(told["body"]), told["body_encoding"]) == (body, "base64")
        told = json.loads(pay(capfdbinary, stand.url, "--json", "-o", str(file)).out)
        assert (told["body"], told["body_file"], file.read_bytes()) == (None, str(file), body)


def test_what_cannot_be_kept_is_not_bought(shop: Shop, tmp_path: Path, payer: Payer, capfdbinary: Capture) -> None:
    done = pay(capfdbinary, shop.paid, "-o", str(tmp_path / "no" / "such" / "place"), key=payer.key.hex())
    assert done.code == 1
    assert "nothing was asked for" in done.err
    assert shop.api.runs == 0


def test_free_but_not_there(capfdbinary: Capture) -> None:
    with Stand(lambda *_: (404, {}, b"no")) as stand:
        done = pay(capfdbinary, stand.url)
    assert (done.code, done.out) == (3, b"no")


def test_a_redirect_is_followed_when_asked(capfdbinary: Capture) -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        return (302, {"Location": "/there"}, b"") if request.path == "/thing" else (200, {}, b"here")

    with Stand(answer) as stand:
        assert pay(capfdbinary, stand.url).code == 3
        done = pay(capfdbinary, stand.url, "-L")
    assert (done.code, done.out) == (0, b"here")


def test_paid_and_then_an_error(ground: Ground, tmp_path: Path, payer: Payer, capfdbinary: Capture) -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"sorry"})  # type: ignore[operator]

    with Shop(ground, tmp_path, app=broken, settle="before") as shop:
        done = pay(capfdbinary, shop.paid, key=payer.key.hex())
    assert (done.code, done.out) == (6, b"sorry")
    assert "paid: $0.01" in done.err


def test_paid_and_then_the_answer_breaks_off(ground: Ground, tmp_path: Path, payer: Payer, capfdbinary: Capture) -> None:
    async def breaking(scope: object, receive: object, send: object) -> None:
        head = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": head})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"half", "more_body": True})  # type: ignore[operator]
        raise RuntimeError("broke")

    with Shop(ground, tmp_path, app=breaking, settle="before") as shop:
        done = pay(capfdbinary, shop.paid, key=payer.key.hex())
    assert done.code == 6, done
    assert "no whole answer" in done.err, done


# --------------------------------------------------------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("shop.example",), "URL"),
        (("ftp://shop.example/",), "URL"),
        (("https://shop.example/", "--max", "free"), "price"),
        (("https://shop.example/", "--max", "$0"), "price"),
        (("https://shop.example/", "--network", "narnia"), "network"),
        (("https://shop.example/", "--rpc", "base-sepolia"), "rpc"),
        (("https://shop.example/", "--rpc", "narnia=http://127.0.0.1"), "network"),
        (("https://shop.example/", "-H", "no colon"), "header"),
        (("https://shop.example/", "-H", "X: a\nY: b"), "header"),
        (("https://shop.example/", "-X", "GET /"), "request"),
        (("https://shop.example/", "-d", "@/no/such/file"), "data"),
        (("https://shop.example/", "--timeout", "nan"), "timeout"),
    ],
)
def test_misuse_is_named_before_anything_is_sent(arguments: tuple[str, ...], named: str, capfdbinary: Capture) -> None:
    done = pay(capfdbinary, *arguments)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"x402 pay: {named}: ")


def test_no_key_is_misuse(capfdbinary: Capture) -> None:
    done = run_here(capfdbinary, "pay", "https://shop.example/")
    assert done.code == 2
    assert "X402_PRIVATE_KEY" in done.err


@pytest.mark.parametrize(
    "slip", [("--ke", STRANGER), ("--key", "env:X", STRANGER), (f"--key-{STRANGER}",), ("--timeout", STRANGER)]
)
def test_a_slip_of_the_hand_does_not_print_the_key(slip: tuple[str, ...], capfdbinary: Capture) -> None:
    assert run_here(capfdbinary, "pay", "https://shop.example/", *slip, secrets=(STRANGER,)).code == 2
    assert run_here(capfdbinary, STRANGER, secrets=(STRANGER,)).code == 2


def test_the_help_says_what_the_codes_mean(capfdbinary: Capture) -> None:
    done = run_here(capfdbinary, "pay", "--help")
    assert done.code == 0
    for code in range(7):
        assert f"  {code}  ".encode() in done.out


def test_play_money_is_preferred_and_every_network_is_there() -> None:
    policy = payer_policy("$0.05", ())
    networks = [cap.asset.network for cap in policy.caps]
    assert {"eip155:8453", "eip155:84532"} <= set(networks)
    assert networks.index("eip155:84532") < networks.index("eip155:8453")  # type: ignore[arg-type]
    euros = {cap.asset.code for cap in payer_policy("€1", ()).caps}
    assert euros == {"eurc"}


# ------------------------------------------------------------------------------------------- what is said cannot be read


@pytest.mark.parametrize("spoilt", ["2>/dev/full >/dev/null", "2>&- >/dev/null", "--json >/dev/full 2>/dev/null"])
def test_money_that_left_is_never_an_exit_code_of_nothing_paid(ground: Ground, tmp_path: Path, spoilt: str) -> None:
    """A script that tries again on 1 would pay twice."""
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop:
        line = f"{shlex.join([*COMMAND, 'pay', shop.paid, '--network', 'base-sepolia'])} {spoilt}"
        environ = {**os.environ, "X402_PRIVATE_KEY": payer.key.hex()}
        done = subprocess.run(["bash", "-c", line], env=environ, timeout=60, check=False)
        assert (done.returncode, shop.earned) == (6, PRICE)


def test_a_file_that_is_there_stays_when_nothing_is_bought(ground: Ground, tmp_path: Path, capfdbinary: Capture) -> None:
    kept = tmp_path / "kept"
    kept.write_text("precious")
    with Shop(ground, tmp_path) as shop:
        refused = pay(capfdbinary, shop.paid, "-o", str(kept), "--max", "$0.001", "--network", "base-sepolia", key=STRANGER)
        assert refused.code == 4
    gone = pay(capfdbinary, "http://127.0.0.1:9/a", "-o", str(kept), key=STRANGER)
    assert (gone.code, kept.read_text()) == (1, "precious")


@pytest.mark.parametrize(
    ("status", "length", "code", "left"),
    [(200, "0", 0, ""), (204, "0", 0, ""), (404, "0", 3, "yesterday's"), (200, "5", 1, "yesterday's")],
)
def test_a_good_whole_answer_without_a_body_empties_the_file(
    tmp_path: Path, capfdbinary: Capture, status: int, length: str, code: int, left: str
) -> None:
    file = tmp_path / "file"
    for more in ((), ("--json",)):
        file.write_text("yesterday's")
        with Stand(lambda *_: (status, {"Content-Length": length}, b"")) as stand:
            assert pay(capfdbinary, stand.url, "-o", str(file), *more).code == code
        assert file.read_text() == left


def test_a_bare_number_is_no_price(capfdbinary: Capture) -> None:
    done = pay(capfdbinary, "http://127.0.0.1:9/a", "--max", "10000", key=STRANGER)
    assert done.code == 2
    assert "does not say of what" in done.err


def test_a_document_is_printed_though_the_body_cannot_be_kept(capfdbinary: Capture) -> None:
    with Stand(lambda *_: (200, {}, b"a body")) as stand:
        done = pay(capfdbinary, stand.url, "--json", "-o", "/dev/full")
    assert (done.code, json.loads(done.out)["exit"]) == (1, 1)
    assert "No space left" in json.loads(done.out)["detail"]


def test_nothing_is_bought_where_its_document_cannot_be_printed(shop: Shop, tmp_path: Path, payer: Payer) -> None:
    line = f"{shlex.join([*COMMAND, 'pay', shop.paid, '--json', '-o', str(tmp_path / 'kept')])} >&-"
    environ = {**os.environ, "X402_PRIVATE_KEY": payer.key.hex()}
    done = subprocess.run(["bash", "-c", line], env=environ, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, shop.api.runs) == (1, 0)
    assert "Traceback" not in done.stderr


def test_a_document_says_the_exit_code_there_is(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop:
        line = f"{shlex.join([*COMMAND, 'pay', shop.paid, '--network', 'base-sepolia', '--json'])} 2>/dev/full"
        environ = {**os.environ, "X402_PRIVATE_KEY": payer.key.hex()}
        done = subprocess.run(["bash", "-c", line], env=environ, stdout=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, json.loads(done.stdout)["exit"]) == (6, 6)


# ----------------------------------------------------------------------------------------------- a payment of the caller's

OWN = ("-H", "PAYMENT-SIGNATURE: abc")


@pytest.mark.parametrize(("status", "head"), [(400, {}), (402, {}), (412, {}), (402, asking("$0.01"))])
@pytest.mark.parametrize("own", [OWN, ("-H", "x-payment: abc")])
def test_a_payment_header_of_the_callers_was_refused(
    status: int, head: dict[str, str], own: tuple[str, str], capfdbinary: Capture
) -> None:
    """It is not called free, and nothing else is paid instead of it."""
    with Stand(lambda *_: (status, head, b"no")) as stand:
        done = pay(capfdbinary, stand.url, *own)
        assert (done.code, "free" in done.err, "the payment header that you gave was refused" in done.err) == (4, False, True)
        assert f"not paid; HTTP {status}" in done.err
        assert len(stand.asked) == 1
        told = json.loads(pay(capfdbinary, stand.url, *own, "--json").out)
    assert (told["exit"], told["outcome"], told["cost"]) == (4, "declined", None)
    assert told["detail"] == "the payment header that you gave was refused"


@pytest.mark.parametrize(("status", "code"), [(200, 0), (500, 6)])
def test_a_payment_header_of_the_callers_that_was_charged_is_called_paid(status: int, code: int, capfdbinary: Capture) -> None:
    receipt = v2.encode_receipt(Receipt(True, Network(NETWORK), None, "0x" + "ab" * 32))
    with Stand(lambda *_: (status, {v2.PAYMENT_RESPONSE: receipt}, b".")) as stand:
        done = pay(capfdbinary, stand.url, *OWN)
        told = json.loads(pay(capfdbinary, stand.url, *OWN, "--json").out)
    assert (done.code, f"paid; HTTP {status}" in done.err, "0x" + "ab" * 32 in done.err) == (code, True, True)
    assert (told["exit"], told["outcome"], told["receipt"]["transaction"]) == (code, "paid", "0x" + "ab" * 32)


def test_what_was_paid_for_and_not_had_can_be_asked_for_with_the_same_payment(
    ground: Ground, tmp_path: Path, payer: Payer, capfdbinary: Capture
) -> None:
    broken = [True]

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        if broken:
            raise ValueError("late")
        await send({"type": "http.response.body", "body": b"last"})

    with Shop(ground, tmp_path, app=app, settle="before") as shop:
        done = pay(capfdbinary, shop.paid, key=payer.key.hex())
        said = re.search(r"not charged twice: -H '(PAYMENT-SIGNATURE: [^']+)'", done.err)
        assert (done.code, said is not None) == (6, True)
        broken.clear()
        assert said is not None
        again = pay(capfdbinary, shop.paid, "-H", said[1], key=payer.key.hex())
        assert (again.code, again.out, shop.earned) == (0, b"firstlast", PRICE)


def test_a_payment_header_of_the_callers_is_refused_by_a_shop(
    ground: Ground, shop: Shop, payer: Payer, capfdbinary: Capture
) -> None:
    done = pay(capfdbinary, shop.paid, *OWN, key=payer.key.hex())
    assert (done.code, "that you gave was refused" in done.err, ground.balance(payer.address)) == (4, True, FUNDS)


@pytest.mark.parametrize("answer", [None, (500, {}, b""), (404, {}, b""), (400, {v2.PAYMENT_RESPONSE: "e30="}, b"")])
def test_a_payment_header_of_the_callers_without_a_definite_answer_is_not_called_unpaid(
    answer: tuple[int, dict[str, str], bytes] | None, capfdbinary: Capture
) -> None:
    with Stand(lambda *_: answer) as stand:
        done = pay(capfdbinary, stand.url, *OWN)
    assert (done.code, "UNKNOWN whether this was paid" in done.err) == (5, True)
    assert "the payment header that you gave has left" in done.err


def test_a_payment_header_of_the_callers_that_was_redirected_may_be_charged_for(capfdbinary: Capture) -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        return (302, {"Location": "/there"}, b"") if request.path == "/thing" else (402, {}, b"")

    with Stand(answer) as stand:
        assert pay(capfdbinary, stand.url, *OWN).code == 5
        assert pay(capfdbinary, stand.url, *OWN, "-L").code == 5


def test_a_payment_header_of_the_callers_that_was_taken_or_never_left(capfdbinary: Capture) -> None:
    with Stand(echo) as stand:
        done = pay(capfdbinary, stand.url, *OWN)
    assert (done.code, "free" in done.err, "that you gave went along" in done.err) == (0, False, True)
    gone = pay(capfdbinary, stand.url, *OWN)
    assert (gone.code, "UNKNOWN" in gone.err) == (1, False)


# ------------------------------------------------------------------------------------------------------ what is missing


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("httpx", ("pay", "http://127.0.0.1:9/", "--key", "env:K"), "httpx"),
        ("anyio", ("pay", "http://127.0.0.1:9/", "--key", "env:K"), "httpx"),
        ("httpx", ("inspect", "http://127.0.0.1:9/"), "httpx"),
        *(
            (
                name,
                ("serve", "--price", "$1", "--network", "base", "--pay-to", PAYEE, "--facilitator", "http://127.0.0.1:9"),
                "demo",
            )
            for name in ("httpx", "anyio", "uvicorn")
        ),
        ("uvicorn", ("facilitator", "--rpc", "base=http://127.0.0.1:9", "--key", "env:K"), "demo"),
    ],
)
def test_what_is_not_installed_is_said_in_a_line(missing: str, arguments: tuple[str, ...], extra: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from x402bind.cli import main; sys.exit(main({arguments!r}))"
    environ = {**os.environ, "K": STRANGER}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=60, check=False)
    said = f"x402 {arguments[0]}: {missing} is not installed: pip install 'x402core[{extra}]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
