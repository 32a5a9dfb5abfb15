"""The page for browsers: who gets it, that no text in it becomes code, that the 402 stays a 402, what things cost."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from x402bind.paywall import Paywall, browsing
from x402core.errors import Reason, Refusal, Reply
from x402core.events import Dialect, Headers, Method, Offer, Resource
from x402core.machines import answers
from x402core.money import AssetAmount
from x402core.policy import Terms, offers
from x402core.registry import KNOWN, Asset
from x402core.schemes import of
from x402core.values import Address, Amount, Hash32, Network, Seconds
from x402core.wire import v2
from x402core.wire.headers import decode_header, find_all, single
from x402core.wire.json import Json

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
NAVIGATES = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
BROWSER: Headers = (("user-agent", CHROME), ("accept", NAVIGATES))
PAYEE = "0x1111111111111111111111111111111111111111"
EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>&amp;\u2028\u2029\"'{{nonce}}"
NOW = 1_800_000_000


def terms(*made: Offer, resource: Resource | None = None, **more: Any) -> Terms:
    made = made or offers("$0.01", "base-sepolia", PAYEE, dialects=(Dialect.V2,))
    return Terms(made, resource or Resource("https://shop.example/premium", "The premium report"), **more)


def challenge(priced: Terms, error: str = Reason.PAYMENT_REQUIRED) -> Reply:
    return answers.challenge(priced, error)


def shown(priced: Terms, reply: Reply | None = None, **options: Any) -> tuple[Reply, str]:
    made = Paywall(clock=lambda: NOW, **options).page(priced, BROWSER, reply or challenge(priced))
    return made, made.body.decode()


class Reader(html.parser.HTMLParser):
    """What a browser would find: every element, the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: dict[str, str | None] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._open = dict(attrs)

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = None


def data_of(text: str) -> Any:
    (found,) = [data for attributes, data in Reader(text).scripts if attributes.get("id") == "x402-data"]
    return json.loads(found)


def nonce_of(reply: Reply) -> str:
    policy = single(reply.headers, "Content-Security-Policy")
    found = re.search(r"script-src 'nonce-([A-Za-z0-9_-]+)'", policy or "")
    assert found is not None
    return found[1]


# ------------------------------------------------------------------------------------------------- who is a browser


@pytest.mark.parametrize(
    ("accept", "agent", "is_one"),
    [
        (NAVIGATES, CHROME, True),
        ("text/html", "Mozilla/4.0", True),
        ("application/json;q=0.9, text/html; level=1 ;q=0.1", CHROME, True),
        ("TEXT/HTML", CHROME, True),
        ("text/*", CHROME, True),
        ("text/*;q=0, text/html", CHROME, True),
        ("*/*", CHROME, False),
        ("", CHROME, False),
        ("application/json, */*", CHROME, False),
        ("text/html;q=0, */*", CHROME, False),
        ("text/html;q=0.000", CHROME, False),
        ("text/*, text/html;q=0", CHROME, False),
        ("text/html;q=nan", CHROME, False),
        ("text/html;q=1e3", CHROME, False),
        ("text/htmlx, application/text/html", CHROME, False),
        (NAVIGATES, "python-httpx/0.28", False),
        (NAVIGATES, "", False),
    ],
)
def test_who_is_a_browser(accept: str, agent: str, is_one: bool) -> None:
    headers: Headers = (("Accept", accept), ("User-Agent", agent))
    assert browsing(headers) is is_one
    priced = terms()
    reply = challenge(priced)
    assert (Paywall().page(priced, headers, reply) is not reply) is is_one


def test_accept_may_come_in_several_headers() -> None:
    assert browsing((("accept", "application/json"), ("ACCEPT", "text/html"), ("User-Agent", CHROME)))


@pytest.mark.parametrize("name", [v2.PAYMENT_SIGNATURE, "X-PAYMENT"])
def test_who_brings_a_payment_is_told_in_json(name: str) -> None:
    priced = terms()
    reply = challenge(priced, "insufficient_funds")
    assert Paywall().page(priced, (*BROWSER, (name, "e30=")), reply) is reply


@pytest.mark.parametrize("status", [200, 400, 409, 500, 503])
def test_only_a_402_is_a_page(status: int) -> None:
    reply = Reply(status, (), b"{}")
    assert Paywall().page(terms(), BROWSER, reply) is reply


def test_a_402_that_is_not_the_protocols_is_let_be() -> None:
    reply = Reply(402, (("PAYMENT-REQUIRED", "?"),), b"{}")
    assert Paywall().page(terms(), BROWSER, reply) is reply


# ------------------------------------------------------------------------------------------------------ the headers


def test_the_402_keeps_its_headers_and_gets_a_strict_policy() -> None:
    priced = terms()
    plain = challenge(priced)
    made, _ = shown(priced, Reply(402, (*plain.headers, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "9"))))
    assert made.status == 402
    for name in ("PAYMENT-REQUIRED", "Cache-Control", "Access-Control-Expose-Headers"):
        assert find_all(made.headers, name) == find_all(plain.headers, name) != []
    assert find_all(made.headers, "Set-Cookie") == ["a=1", "b=2"]
    assert find_all(made.headers, "Content-Length") == []
    assert find_all(made.headers, "Content-Type") == ["text/html; charset=utf-8"]
    assert find_all(made.headers, "X-Content-Type-Options") == ["nosniff"]
    assert find_all(made.headers, "Referrer-Policy") == ["no-referrer"]
    assert find_all(made.headers, "Vary") == [f"{single(plain.headers, 'Vary')}, Accept, User-Agent"]
    nonce = nonce_of(made)
    assert find_all(made.headers, "Content-Security-Policy") == [
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ]


def test_vary_is_said_once_and_names_nothing_twice() -> None:
    plain = challenge(terms())
    headers = tuple((name, value) for name, value in plain.headers if name != "Vary")
    for given, told in ((("accept, Origin", "X"), "accept, Origin, X, User-Agent"), (("*",), "*"), ((), "Accept, User-Agent")):
        made, _ = shown(terms(), Reply(402, (*headers, *(("vary", each) for each in given)), plain.body))
        assert find_all(made.headers, "Vary") == [told]


def test_every_page_has_a_nonce_of_its_own_and_nothing_inline_without_it() -> None:
    paywall, priced = Paywall(), terms()
    pages = [paywall.page(priced, BROWSER, challenge(priced)) for _ in range(20)]
    nonces = {nonce_of(page) for page in pages}
    assert len(nonces) == 20
    assert min(map(len, nonces)) >= 22  # 128 bits and more
    tags = Reader(pages[0].body.decode()).tags
    for tag, attributes in tags:
        if tag == "style" or (tag == "script" and attributes.get("type") != "application/json"):
            assert attributes.get("nonce") == nonce_of(pages[0])
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert all(not (value or "").startswith(("http", "//")) for value in attributes.values())
    assert not [name for name, _ in tags if name in ("iframe", "object", "embed", "base", "form")]


def test_a_page_is_small() -> None:
    made, text = shown(terms(*offers("$0.01", "base-sepolia", PAYEE, dialects=(Dialect.V2, Dialect.V1))))
    assert len(made.body) < 60_000
    assert "@import" not in text
    assert "fonts." not in text


# ----------------------------------------------------------------------------------------------------------- escaping


def told(priced: Terms, refusal: Refusal) -> Reply:
    return answers.refused(priced, refusal)


@pytest.mark.parametrize("where", ["description", "url", "error", "brand", "title", "asset", "extension"])
def test_y20_no_text_becomes_code(where: str) -> None:
    """Y20: what a server says of itself, or of a request, stands in the page as data, whatever it is."""
    priced = terms()
    options: dict[str, str] = {}
    reply = None
    match where:
        case "description":
            priced = terms(resource=Resource("https://shop.example/premium", EVIL))
        case "url":
            priced = terms(resource=Resource("https://shop.example/?a=" + EVIL))
        case "error":
            reply = challenge(priced, EVIL)
        case "asset":
            priced = terms(replace(priced.offers[0], name=EVIL))
        case "extension":
            priced = terms(extensions={EVIL: {"info": {EVIL: EVIL}}})
        case _:
            options = {where: EVIL}
    made, text = shown(priced, reply, **options)
    nonce = nonce_of(made)
    reader = Reader(text)
    assert [attributes for attributes, _ in reader.scripts] == [
        {"type": "application/json", "id": "x402-data"},
        {"nonce": nonce},
    ]
    assert not [attributes for _, attributes in reader.tags if "onerror" in attributes]
    assert "alert(1)" in text
    assert EVIL[:9] + "<script>" not in text
    assert text.count(nonce) == 2  # the page's own style and script; "{{nonce}}" in a text is a text
    raw = text.split('id="x402-data">')[1].split("</script>")[0]
    assert not set(raw) & set("<>&\u2028\u2029")
    found = json.dumps(data_of(text), ensure_ascii=False)
    assert "</script><script>alert(1)</script>" in found


def test_y20_a_host_header_is_not_believed() -> None:
    priced = terms()
    evil = (*BROWSER, ("Host", "evil.example"), ("X-Forwarded-Host", "evil.example"), ("Referer", "https://evil.example/"))
    assert b"evil.example" not in Paywall().page(priced, evil, challenge(priced)).body


def test_a_refusal_is_told_with_its_detail() -> None:
    priced = terms()
    _, text = shown(priced, told(priced, Refusal(Reason.INSUFFICIENT_FUNDS, "the payer's balance is below the amount")))
    assert data_of(text)["error"] == {"code": "insufficient_funds", "detail": "the payer's balance is below the amount"}
    assert data_of(shown(priced, challenge(priced, "insufficient_funds"))[1])["error"]["detail"] == ""
    assert data_of(shown(priced)[1])["error"] is None


# -------------------------------------------------------------------------------------------------- prices and networks


def token(decimals: int, sign: str = "") -> Asset:
    address = Address("0x" + f"{decimals + 1:02x}" * 20)
    return Asset(Network("eip155:8453"), address, f"tok{decimals}", sign, "Token", "1", decimals, ("eip3009",))


@pytest.mark.parametrize(
    ("decimals", "sign", "amount", "price", "exact"),
    [
        (6, "$", 10_000, "$0.01", "0.01 TOK6"),
        (6, "", 1, "0.000001 TOK6", "0.000001 TOK6"),
        (18, "", 10_000_000_000_000_000, "0.01 TOK18", "0.01 TOK18"),
        (18, "€", 2 * 10**18 + 1, "€2.000000000000000001", "2.000000000000000001 TOK18"),
        (0, "", 10_000, "10000 TOK0", "10000 TOK0"),
        (0, "$", 3, "$3", "3 TOK0"),
    ],
)
def test_y28_decimals_are_the_assets_own(decimals: int, sign: str, amount: int, price: str, exact: str) -> None:
    """Y28: the amount is not assumed to have six decimals."""
    asset = token(decimals, sign)
    registry = KNOWN.with_asset(asset)
    made = offers(AssetAmount(amount, asset), "base", PAYEE, dialects=(Dialect.V2,), registry=registry)
    _, text = shown(terms(*made, registry=registry))
    (offer,) = data_of(text)["offers"]
    assert (offer["price"], offer["exact"], offer["amount"]) == (price, exact, str(amount))
    assert offer["asset"]["decimals"] == decimals


def test_an_asset_nobody_listed_is_told_as_the_seller_tells_it_or_in_atomic_units() -> None:
    asset = token(3)
    made = offers(AssetAmount(1500, asset), "base", PAYEE, dialects=(Dialect.V2,))
    assert data_of(shown(terms(*made))[1])["offers"][0]["price"] == "1.5 TOK3"
    bare = replace(made[0], decimals=None, symbol="")
    assert data_of(shown(terms(bare))[1])["offers"][0]["price"] == "1500 atomic units"


@pytest.mark.parametrize(
    ("network", "name", "testnet", "chain"),
    [
        ("base-sepolia", "Base Sepolia", True, "0x14a34"),
        ("base", "Base", False, "0x2105"),
        ("polygon-amoy", "Polygon Amoy", True, "0x13882"),
        ("avalanche-fuji", "Avalanche Fuji", True, "0xa869"),
    ],
)
def test_y28_testnets_are_the_registrys(network: str, name: str, testnet: bool, chain: str) -> None:
    """Y28: a test network is one by the registry, not by being called base-sepolia."""
    data = data_of(shown(terms(*offers("$0.01", network, PAYEE, dialects=(Dialect.V2,))))[1])
    found = data["offers"][0]["network"]
    assert (found["name"], found["testnet"], found["chain"], data["testnet"]) == (name, testnet, chain, testnet)


def test_a_network_nobody_listed_has_its_number() -> None:
    unlisted = replace(terms().offers[0], network=Network("eip155:424242"))
    data = data_of(shown(terms(unlisted))[1])
    assert data["offers"][0]["network"]["name"] == "chain 424242"
    assert data["testnet"] is False


# ------------------------------------------------------------------------------------------------ what is signed and sent


def with_method(method: Method, scheme: str = "exact") -> Offer:
    made = offers("$0.01", "base-sepolia", PAYEE, dialects=(Dialect.V2,), methods=(method,), scheme=scheme, facilitator=PAYEE)
    return made[0]


@pytest.mark.parametrize(("method", "scheme"), [(Method.EIP3009, "exact"), (Method.PERMIT2, "exact"), (Method.PERMIT2, "upto")])
def test_the_typed_data_is_the_schemes_own(method: Method, scheme: str) -> None:
    offer = with_method(method, scheme)
    data = data_of(shown(terms(offer))[1])["offers"][0]
    permit = of(offer).prepare(
        offer,
        Address("0x" + "0" * 40),
        now=Seconds(0),
        validity=Seconds(0),
        nonce=Hash32("0x" + "0" * 64),
        facts=None,
    )
    assert data["typed"] == of(offer).typed_data(permit, offer)
    assert data["ceiling"] is (scheme == "upto")
    assert json.loads(data["accepted"]) == v2.encode_offer(offer)


def test_a_delegation_cannot_be_paid_here() -> None:
    both = terms(with_method(Method.ERC7710), with_method(Method.EIP2612))
    delegated, permitted = data_of(shown(both)[1])["offers"]
    assert (delegated["kind"], delegated["typed"]) == (None, None)
    assert permitted["kind"] == "permit"


def test_the_echo_is_the_402s_word_for_word_with_one_mark_for_the_identifier() -> None:
    """A browser's numbers are not JSON's, so what is echoed travels as text."""
    extra: dict[str, Json] = {"big": {"info": {"number": 2**60 + 1}}}
    priced = terms(extensions=extra)
    reply = challenge(priced)
    header = single(reply.headers, "PAYMENT-REQUIRED")
    assert header is not None
    document: Any = decode_header(header, source="PAYMENT-REQUIRED")
    echo = data_of(shown(priced, reply)[1])["echo"]
    assert json.loads(echo["resource"]) == document["resource"]
    assert '"number":1152921504606846977' in echo["extensions"]
    assert echo["extensions"].count(echo["mark"]) == 1
    sent = json.loads(echo["extensions"].replace(echo["mark"], "0" * 32))
    assert sent["payment-identifier"]["info"] == {"required": False, "id": "0" * 32}
    del sent["payment-identifier"]["info"]["id"]
    assert sent == document["extensions"]


def test_offers_of_other_dialects_are_shown_only_where_there_is_no_other() -> None:
    both = terms(*offers("$0.01", "base-sepolia", PAYEE, dialects=(Dialect.V2, Dialect.V1)))
    assert [each["kind"] for each in data_of(shown(both)[1])["offers"]] == ["authorization"]
    old = terms(*offers("$0.01", "base-sepolia", PAYEE, dialects=(Dialect.V1,)))
    (offer,) = data_of(shown(old)[1])["offers"]
    assert (offer["kind"], offer["price"]) == (None, "$0.01")


def test_an_amount_is_never_a_javascript_number() -> None:
    huge = replace(terms().offers[0], amount=Amount(2**200))
    offer = data_of(shown(terms(huge))[1])["offers"][0]
    assert offer["amount"] == offer["typed"]["message"]["value"] == str(2**200)
