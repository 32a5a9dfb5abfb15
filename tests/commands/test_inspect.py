"""``x402 inspect``: every message in words, every lie about a token called one, every malformed member named."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import subprocess
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.shop import Ground, Shop
from tests.wire.samples import CREATED_AT, PAY_TO, USDC
from x402bind.chain.signers import PrivateKeySigner
from x402core.errors import Reason
from x402core.events import Challenge, Dialect, Eip2612Permit, Eip3009Permit, Offer, Payment, Permit, Receipt, Resource
from x402core.policy import offers
from x402core.schemes import of
from x402core.values import Address, Amount, Hash32, Network, Seconds
from x402core.wire import facilitator, permit_token, v2
from x402core.wire.headers import encode_header
from x402core.wire.json import dumps

from .running import COMMAND, Done, Stand, run_apart, run_here

Capture = pytest.CaptureFixture[bytes]
WALLET = PrivateKeySigner(b"\x07" * 32)
OFFERS = {offer.dialect: offer for offer in offers("$0.01", "base-sepolia", PAY_TO)}
V2_OFFER, TOKEN_OFFER = OFFERS[Dialect.V2], OFFERS[Dialect.PERMIT_TOKEN]
CHALLENGE = Challenge((V2_OFFER,), "Payment required", Resource("https://shop.example/report", "The report"))
STRANGER = Address("0x" + "5a" * 20)


def header(*offered: Offer, **members: Any) -> str:
    """Return the base64 of a v2 challenge."""
    challenge = replace(CHALLENGE, offers=offered or (V2_OFFER,))
    return encode_header({**v2.encode_challenge(challenge), **members})


def signed(offer: Offer, *, validity: int = 290, **other: Any) -> Permit:
    """Return a permit of the wallet's; ``other`` members are changed after signing."""
    now = Seconds(int(time.time()))
    permit: Permit
    if offer.dialect is Dialect.V2:
        nonce = Hash32("0x" + secrets.token_hex(32))
        permit = of(offer).prepare(offer, WALLET.address, now=now, validity=Seconds(validity), nonce=nonce, facts=None)
    else:
        end = Seconds(now + validity)
        permit = Eip2612Permit(offer.network, offer.asset, WALLET.address, offer.pay_to, offer.amount, 3, end, b"")
    return replace(permit, **{"signature": WALLET.sign_digest(of(offer).digest(permit, offer)), **other})


def inspect(capture: Capture, what: str, *arguments: str) -> Done:
    return run_here(capture, "inspect", what, *arguments)


def words(capture: Capture, what: str) -> str:
    done = inspect(capture, what)
    assert (done.code, done.err) == (0, ""), done
    return done.out.decode()


def blocks(capture: Capture, what: str) -> dict[str, Any]:
    """Return the blocks of the one message, by name."""
    done = inspect(capture, what, "--json")
    told = json.loads(done.out)
    assert (done.code, told["ok"]) == (0, True)
    (message,) = told["messages"]
    return {block["name"]: block for block in message["blocks"]}


# ---------------------------------------------------------------------------------------------------------- challenges


def test_a_402_in_words(capfdbinary: Capture) -> None:
    for what in (header(), f"PAYMENT-REQUIRED: {header()}", f"< payment-required: {header()}\r\n"):
        told = words(capfdbinary, what)
        assert "a 402 of x402 version 2" in told
        assert "offer 1: $0.01 (USDC, 10000 atomic units) to 0x209693Bc6afc0C5328bA36FaF03C514EF312287C" in told
        assert "Base Sepolia (eip155:84532), play money" in told
        assert "exact by eip3009" in told
        assert "at most 5 min (300 s)" in told
        assert "'USDC' version '2', as known here" in told
        assert "WARNING" not in told


def test_a_402_as_json_of_either_dialect(capfdbinary: Capture) -> None:
    told = blocks(capfdbinary, dumps(v2.encode_challenge(CHALLENGE)).decode())
    assert told["challenge"]["facts"]["resource"] == "https://shop.example/report"
    assert told["offer 1"]["facts"]["atomic units"] == "10000"
    body = permit_token.encode_challenge(Challenge((TOKEN_OFFER,), token_endpoint="/token"), created_at=CREATED_AT)
    told = blocks(capfdbinary, dumps(body).decode())
    assert told["challenge"]["facts"]["permits go to"] == "/token"
    assert told["offer 1"]["says"].startswith("$0.01 (USDC")
    assert told["offer 1"]["warnings"] == []


def test_offers_nobody_here_understands_are_named(capfdbinary: Capture) -> None:
    document = v2.encode_challenge(CHALLENGE)
    document["accepts"] = [{"scheme": "carrier-pigeon", "network": "sky:1"}]
    told = blocks(capfdbinary, encode_header(document))
    assert "in no way known here" in told["challenge"]["says"]
    assert "carrier-pigeon" in told["challenge"]["facts"]["not understood"]


def warned(capture: Capture, offer: Offer, **extra: object) -> str:
    document = v2.encode_challenge(Challenge((offer,)))
    document["accepts"][0]["extra"] |= extra  # type: ignore[index, call-overload, operator]
    return " ".join(blocks(capture, encode_header(document))["offer 1"]["warnings"])


def test_lies_about_a_token_are_loud(capfdbinary: Capture) -> None:
    assert "DESCRIBED OTHERWISE THAN IT IS" in warned(capfdbinary, replace(V2_OFFER, name="USD Coin"))
    assert "DESCRIBED OTHERWISE THAN IT IS" in warned(capfdbinary, replace(V2_OFFER, version="1"))
    assert "THE DECIMALS ARE WRONG: it says 18, the token has 6" in warned(capfdbinary, V2_OFFER, decimals=18)
    assert warned(capfdbinary, V2_OFFER, decimals=6) == ""
    told = warned(capfdbinary, replace(V2_OFFER, asset=STRANGER))
    assert "NOT A TOKEN KNOWN HERE" in told
    assert "CALLS ITSELF LIKE USDC, WHICH IS ANOTHER CONTRACT: 0x036CbD53842c5426634e7929541eC2318f3dCF7e" in told
    assert "IS NOT A NETWORK KNOWN HERE" in warned(capfdbinary, replace(V2_OFFER, network=Network("eip155:999999")))
    assert "PAYEE IS NOBODY" in warned(capfdbinary, replace(V2_OFFER, pay_to=Address("0x" + "00" * 20)))


def test_an_unknown_tokens_price_is_not_made_to_look_like_dollars(capfdbinary: Capture) -> None:
    says = blocks(capfdbinary, header(replace(V2_OFFER, asset=STRANGER)))["offer 1"]["says"]
    assert says.startswith("10000 atomic units of 0x")
    assert "$" not in says


def test_a_peers_text_is_safe_on_a_terminal(capfdbinary: Capture) -> None:
    evil = "\x1b]0;owned\x07\x1b[31m\u202egnp.exe\r\nWARNING: none"
    document = v2.encode_challenge(
        replace(CHALLENGE, error=evil, resource=Resource("https://shop.example/" + evil, evil, evil))
    )
    document["accepts"].append({"scheme": evil, "network": evil})  # type: ignore[union-attr]
    document["accepts"][0]["extra"]["name"] = evil  # type: ignore[index, call-overload]
    document["extensions"] = {evil: {}}
    for arguments in ((), ("--json",)):
        done = inspect(capfdbinary, encode_header(document), *arguments)
        assert done.code == 0
        text = done.out.decode()
        assert all(char == "\n" or char.isprintable() for char in text)
        assert not any(line.startswith("WARNING: none") for line in text.splitlines())


# ------------------------------------------------------------------------------------------------------------- payments


def test_a_payment_in_words(capfdbinary: Capture) -> None:
    permit = signed(V2_OFFER)
    text = v2.encode_payment(Payment(permit, V2_OFFER))
    for what in (text, f"PAYMENT-SIGNATURE: {text}"):
        told = words(capfdbinary, what)
        assert "pays $0.01 (USDC, 10000 atomic units) to 0x209693Bc6afc0C5328bA36FaF03C514EF312287C, by eip3009" in told
        assert "(in 4 min" in told
        assert "recovers to the payer" in told
        assert "0x" + of(V2_OFFER).digest(permit, V2_OFFER).hex() in told
        assert "WARNING" not in told


def of_payment(capture: Capture, permit: Permit, offer: Offer = V2_OFFER) -> tuple[dict[str, str], str]:
    block = blocks(capture, v2.encode_payment(Payment(permit, offer)))["payment"]
    return block["facts"], " ".join(block["warnings"])


def test_a_signature_that_is_not_the_payers(capfdbinary: Capture) -> None:
    facts, warnings = of_payment(capfdbinary, signed(V2_OFFER, nonce=Hash32("0x" + "01" * 32)))
    assert "which is not the payer" in facts["signature"]
    assert "NOT MADE BY THE PAYER'S KEY" in warnings
    facts, warnings = of_payment(capfdbinary, signed(V2_OFFER, signature=b"\x01" * 64 + b"\x00"))
    assert "no key's" in facts["signature"]
    assert Reason.SIGNATURE in warnings
    facts, warnings = of_payment(capfdbinary, signed(V2_OFFER, signature=b"\x01" * 96))
    assert "only a chain can judge it" in facts["signature"]
    assert "NOT MADE BY" not in warnings


def test_a_payment_that_is_over_or_for_another_offer(capfdbinary: Capture) -> None:
    facts, warnings = of_payment(capfdbinary, signed(V2_OFFER, validity=-7200))
    assert "2 h ago" in facts["valid until"]
    assert Reason.VALID_BEFORE in warnings
    _, warnings = of_payment(capfdbinary, signed(replace(V2_OFFER, amount=Amount(1))))
    assert Reason.VALUE_MISMATCH in warnings
    _, warnings = of_payment(capfdbinary, signed(replace(V2_OFFER, pay_to=STRANGER)))
    assert Reason.RECIPIENT_MISMATCH in warnings


def test_a_permit_for_a_token(capfdbinary: Capture) -> None:
    permit = signed(TOKEN_OFFER)
    assert isinstance(permit, Eip2612Permit)
    told = words(capfdbinary, permit_token.encode_token_request(permit, created_at=CREATED_AT).decode())
    assert "lets 0x209693Bc6afc0C5328bA36FaF03C514EF312287C take $0.01 (USDC, 10000 atomic units), by eip2612" in told
    assert "recovers to the payer" in told
    assert "WARNING" not in told
    strange = replace(permit, asset=STRANGER)
    told = words(capfdbinary, permit_token.encode_token_request(strange, created_at=CREATED_AT).decode())
    assert "NOT A TOKEN KNOWN HERE" in told
    assert "recovers" not in told


def test_a_receipt_and_a_token(capfdbinary: Capture) -> None:
    hash_ = Hash32("0x" + "ab" * 32)
    told = words(capfdbinary, v2.encode_receipt(Receipt(True, V2_OFFER.network, WALLET.address, hash_, Amount(10000))))
    assert "the payment is settled" in told
    assert f"https://sepolia.basescan.org/tx/{hash_}" in told
    told = words(capfdbinary, v2.encode_receipt(Receipt(False, V2_OFFER.network, None, reason="insufficient_funds")))
    assert "was not settled" in told
    assert "insufficient_funds" in told
    told = words(capfdbinary, '{"access_token": "sesame", "token_type": "Bearer", "expires_in": 60}')
    assert "in 1 min" in told
    assert "sesame" not in told


# ------------------------------------------------------------------------------------------------------------ malformed


def member(document: dict[str, Any], at: str, value: object) -> dict[str, Any]:
    """Return a document with one member changed."""
    found = json.loads(json.dumps(document))
    *path, last = at[1:].split("/")
    place = found
    for name in path:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[last] = value
    return found


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("/x402Version", 3),
        ("/accepts/0/amount", "+1"),
        ("/accepts/0/amount", 10000),
        ("/accepts/0/payTo", "0x12"),
        ("/accepts/0/maxTimeoutSeconds", 0),
        ("/accepts/0/extra/name", None),
    ],
)
def test_what_is_malformed_is_named_by_its_pointer(at: str, value: object, capfdbinary: Capture) -> None:
    text = encode_header(member(v2.encode_challenge(CHALLENGE), at, value))
    done = inspect(capfdbinary, text)
    assert done.code == 1
    assert f"malformed PAYMENT-REQUIRED, at {at}: ".encode() in done.out
    told = json.loads(inspect(capfdbinary, text, "--json").out)
    assert (told["ok"], told["error"]["pointer"], told["error"]["source"]) == (False, at, "PAYMENT-REQUIRED")


@pytest.mark.parametrize(
    "what",
    [
        "eyJ4",
        "e30",
        "e30=",
        "{",
        "{}",
        '{"a": 1, "a": 2}',
        "[1]",
        "nonsense words",
        "Cookie: a=1",
        "PAYMENT-RESPONSE: e30=",
        "\x1b[31m",
    ],
)
def test_what_is_no_message_is_said_to_be_none(what: str, capfdbinary: Capture) -> None:
    done = inspect(capfdbinary, what)
    assert done.code == 1
    assert done.out.startswith(b"malformed ")
    assert done.out.decode().strip().isprintable()


def test_nothing_at_all_is_misuse(capfdbinary: Capture) -> None:
    assert inspect(capfdbinary, " ").code == 2


# ------------------------------------------------------------------------------------------------------------- version 1

V1_OFFER = {
    "scheme": "exact",
    "network": "base-sepolia",
    "maxAmountRequired": "10000",
    "asset": USDC,
    "payTo": PAY_TO,
    "resource": "https://shop.example/report",
    "description": "",
    "mimeType": "",
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USDC", "version": "2"},
}
V1: Any = {"x402Version": 1, "error": "X-PAYMENT header is required", "accepts": [V1_OFFER]}


def v1_payment() -> str:
    """Return an X-PAYMENT header, which names no token."""
    permit = signed(V2_OFFER)
    payload = json.loads(base64.b64decode(v2.encode_payment(Payment(permit, V2_OFFER))))["payload"]
    return encode_header({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload})


def test_a_402_of_version_1(capfdbinary: Capture) -> None:
    told = blocks(capfdbinary, json.dumps(V1))
    assert told["offer 1"]["says"].startswith("$0.01 (USDC, 10000 atomic units)")
    assert told["offer 1"]["warnings"] == []
    told = blocks(capfdbinary, json.dumps({**V1, "accepts": [{**V1_OFFER, "extra": {"name": "Gold", "version": "2"}}]}))
    assert "DESCRIBED OTHERWISE THAN IT IS" in told["offer 1"]["warnings"][0]
    done = inspect(capfdbinary, json.dumps(member(V1, "/accepts/0/maxAmountRequired", "+1")))
    assert (done.code, b"/accepts/0/maxAmountRequired" in done.out) == (1, True)
    with Stand(lambda *_: (402, {"Content-Type": "application/json"}, json.dumps(V1).encode())) as stand:
        assert "offer 1: $0.01" in words(capfdbinary, stand.url)


def test_a_payment_of_version_1_whose_token_is_found_by_its_signature(capfdbinary: Capture) -> None:
    for what in (v1_payment(), f"X-PAYMENT: {v1_payment()}"):
        told = words(capfdbinary, what)
        assert "a payment of x402 version 1" in told
        assert "pays $0.01 (USDC, 10000 atomic units)" in told
        assert "recovers to the payer" in told
        assert "WARNING" not in told


def test_a_receipt_of_version_1(capfdbinary: Capture) -> None:
    document = {"success": True, "transaction": "0x" + "ab" * 32, "network": "base-sepolia", "payer": PAY_TO}
    told = words(capfdbinary, encode_header(document))
    assert "a receipt of x402 version 1" in told
    assert "https://sepolia.basescan.org/tx/0xab" in told


# ------------------------------------------------------------------------------------------------------- facilitators


def v2_request(offer: Offer = V2_OFFER) -> Any:
    """Return what a facilitator is asked, of a payment by one offer."""
    return json.loads(facilitator.encode_request(signed(V2_OFFER), offer))


def test_what_a_facilitator_is_asked(capfdbinary: Capture) -> None:
    told = blocks(capfdbinary, json.dumps(v2_request()))
    assert told["request"]["says"].endswith("of x402 version 2")
    assert "pays $0.01" in told["payment"]["says"]
    assert "recovers to the payer" in told["payment"]["facts"]["signature"]
    assert told["requirements"]["says"].startswith("$0.01")


def test_what_a_facilitator_is_asked_in_version_1(capfdbinary: Capture) -> None:
    payment = json.loads(base64.b64decode(v1_payment()))
    document = {"x402Version": 1, "paymentPayload": payment, "paymentRequirements": V1_OFFER}
    told = blocks(capfdbinary, json.dumps(document))
    assert told["request"]["says"].endswith("of x402 version 1")
    assert "recovers to the payer" in told["payment"]["facts"]["signature"]
    done = inspect(capfdbinary, json.dumps({**document, "x402Version": 2}))
    assert (done.code, b"x402Version" in done.out) == (1, True)


def test_what_a_facilitator_answers(capfdbinary: Capture) -> None:
    assert "says the payment is valid" in words(capfdbinary, json.dumps({"isValid": True, "payer": PAY_TO}))
    told = words(capfdbinary, json.dumps({"isValid": False, "invalidReason": "insufficient_funds", "payer": PAY_TO}))
    assert "refuses the payment: insufficient_funds" in told
    assert inspect(capfdbinary, json.dumps({"isValid": "true"})).code == 1
    settled = {"success": False, "errorReason": "insufficient_funds", "transaction": "", "network": "eip155:84532"}
    assert "was not settled" in words(capfdbinary, json.dumps(settled))
    kinds = {"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}], "extensions": [], "signers": {}}
    assert "exact on Base Sepolia (eip155:84532), play money" in words(capfdbinary, json.dumps(kinds))


# --------------------------------------------------------------------------------------------------- from where it comes


def test_from_standard_input_as_curl_prints_it() -> None:
    answer = f"HTTP/1.1 402 Payment Required\r\nserver: x\r\npayment-required: {header()}\r\n\r\n{{}}"
    done = run_apart("inspect", "-", stdin=answer.encode())
    assert done.code == 0, done.err
    assert b"offer 1: $0.01" in done.out
    receipt = v2.encode_receipt(Receipt(True, V2_OFFER.network, None, "0x" + "ab" * 32))
    done = run_apart("inspect", "-", "--json", stdin=f"HTTP/1.1 200 OK\npayment-response: {receipt}\n\nbody".encode())
    kinds = [message["kind"] for message in json.loads(done.out)["messages"]]
    assert kinds[1].startswith("PAYMENT-RESPONSE")


def test_a_shops_402_and_nothing_is_paid(ground: Ground, shop: Shop, capfdbinary: Capture) -> None:
    told = words(capfdbinary, shop.paid)
    assert "HTTP 402, spoken: permit-token, x402-v1, x402-v2" in told
    assert "offer 2: $0.01" in told
    assert "permits go to" in told
    assert (shop.api.runs, shop.entries(), shop.earned) == (0, (), 0)


def test_a_url_that_asks_for_nothing_or_is_not_there(capfdbinary: Capture) -> None:
    with Stand(lambda *_: (200, {}, b"free")) as stand:
        assert "this is no 402" in words(capfdbinary, stand.url)
        assert stand.asked == ["GET"]
    done = inspect(capfdbinary, stand.url)
    assert (done.code, done.out) == (1, b"")
    assert "no answer" in done.err
    with Stand(lambda *_: (402, {v2.PAYMENT_REQUIRED: "e30="}, b"")) as stand:
        assert inspect(capfdbinary, stand.url).code == 1


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "-inf"])
@pytest.mark.parametrize("what", ["http://127.0.0.1:9/", "{}"])
def test_a_timeout_that_is_none_is_misuse(seconds: str, what: str, capfdbinary: Capture) -> None:
    done = inspect(capfdbinary, what, f"--timeout={seconds}")
    assert (done.code, done.out, done.err) == (2, b"", "x402 inspect: timeout: write a number of seconds\n")


# --------------------------------------------------------------------------------------------- nobody reads what is said


@pytest.mark.parametrize("what", [(header(),), (header(), "--json"), ("{}",), ("{}", "--json")])
def test_an_output_that_is_full_is_said(what: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "inspect", *what], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, b"x402 inspect: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("arguments", [("inspect", "--help"), ("inspect", header())])
def test_an_output_that_nobody_reads_is_no_traceback(arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *arguments], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(write)
    gone = (3, b"x402 inspect: nobody reads the output any more\n")
    assert (done.returncode, done.stderr) == ((0, b"") if "--help" in arguments else gone)


def test_one_line_of_it_is_enough_for_a_reader() -> None:
    line = f"{shlex.join([*COMMAND, 'inspect', header()])} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False)
    assert done.stdout.startswith(b"PAYMENT-REQUIRED")
    assert (done.returncode, b"Traceback" in done.stderr) in ((0, False), (3, False))


def test_usdc_is_the_registrys() -> None:
    """The samples speak of the token the registry knows, or the warnings above would prove nothing."""
    assert V2_OFFER.asset == USDC
    assert isinstance(signed(V2_OFFER), Eip3009Permit)


@pytest.mark.parametrize("command", ["demo", "serve", "pay", "facilitator", "inspect"])
def test_every_help_says_what_the_exit_codes_mean(command: str, capfdbinary: Capture) -> None:
    done = run_here(capfdbinary, command, "--help")
    assert (done.code, b"exit codes:" in done.out) == (0, True)
