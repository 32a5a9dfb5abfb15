"""Facilitators that list x402 v1 alone: asked in v1 whatever the payer speaks, believed as any other, and never of the rest."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.compat.y402.relay import FirstVersionOnly
from tests.facilitator.desk import Desk, Served
from tests.facilitator.relay import Relay, selling
from tests.facilitator.script import TX, Script, settled
from tests.facilitator.test_hostile_facilitators import PAYER, asked, sync, verified
from tests.shop import FUNDS, NETWORK, PRICE, Ground, Shop, client, fresh, until
from x402bind.seller import Seller
from x402bind.servers.lifespan import unproved
from x402bind.translate.facilitator import Facilitators, FacilitatorUnavailable
from x402core.errors import LocalProtocolError, Reason, Refusal
from x402core.events import Dialect, Settled
from x402core.registry import KNOWN, NetworkInfo
from x402core.schemes.judge import Verified
from x402core.values import Network

FIRST = {"kinds": [{"x402Version": 1, "scheme": "exact", "network": "base-sepolia"}]}
SECOND = {"kinds": [{"x402Version": 2, "scheme": "exact", "network": str(NETWORK)}]}
V1, V2 = Dialect.V1, Dialect.V2


@pytest.fixture
def front(desk: Desk) -> Iterator[FirstVersionOnly]:
    """Our facilitator, which nobody hears from but in v1."""
    front = FirstVersionOnly(desk.url)
    with Served(front) as served:
        front.url = served.url  # type: ignore[attr-defined]
        yield front


@pytest.fixture
def relay(desk: Desk) -> Iterator[Relay]:
    """The same, which can be told to be in trouble."""
    with Relay(desk.url) as relay:
        relay.lie["/supported"] = FIRST
        yield relay


def versions(relay: Script) -> set[int]:
    return {body["x402Version"] for path, body, _ in relay.asked if path != "/supported"}


def buy(shop: Shop, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(shop.paid, headers=headers, timeout=30)


def receipt(response: httpx.Response) -> Any:
    name = "PAYMENT-RESPONSE" if "PAYMENT-RESPONSE" in response.headers else "X-PAYMENT-RESPONSE"
    return json.loads(base64.b64decode(response.headers[name]))


# ------------------------------------------------------------------------------------------------------- as it should be


@pytest.mark.parametrize("settle", ["after", "before"])
@pytest.mark.parametrize("dialect", [V2, V1])
def test_paid_in_either_version_and_settled_in_v1(
    ground: Ground, desk: Desk, front: Any, tmp_path: Path, settle: str, dialect: Dialect
) -> None:
    payer = ground.payer()
    extensions = {"bazaar": {"info": {"input": {"type": "http", "method": "GET"}}, "schema": {}}, "x": {"info": 1}}
    with (
        selling(ground, tmp_path, front.url, settle=settle, extensions=extensions) as shop,
        client(payer.purse(ground, dialect)) as (http, _),
    ):
        response = http.get(shop.paid)
        assert (response.status_code, response.json()["run"]) == (200, 1)
        assert (shop.earned, ground.balance(payer.address), desk.sent) == (PRICE, FUNDS - PRICE, 1)
        assert receipt(response)["network"] == (str(NETWORK) if dialect is V2 else "base-sepolia")
        assert (front.unheard, set(front.asked)) == ([], {"/verify", "/settle"})
        for body in front.bodies:
            required, paid = body["paymentRequirements"], body["paymentPayload"]
            assert set(body) == {"x402Version", "paymentPayload", "paymentRequirements"}
            assert set(paid) == {"x402Version", "scheme", "network", "payload"}
            assert (required["network"], required["maxAmountRequired"]) == ("base-sepolia", str(PRICE))
            assert (required["resource"], required["outputSchema"]["input"]["method"]) == (shop.paid, "GET")
        (entry,) = shop.settled()
        assert ground.calls(entry.transactions) == ("transferWithAuthorization",)


def test_the_same_payment_again_is_answered_and_paid_once(ground: Ground, desk: Desk, front: Any, tmp_path: Path) -> None:
    with selling(ground, tmp_path, front.url) as shop:
        headers = ground.payer().header(shop.offer(), ground)
        one, two = buy(shop, headers), buy(shop, headers)
        assert (one.status_code, two.status_code, two.content) == (200, 200, one.content)
        assert (shop.api.runs, shop.earned, desk.sent) == (1, PRICE, 1)


def test_it_is_proved_as_any_other(ground: Ground, front: Any, tmp_path: Path) -> None:
    with selling(ground, tmp_path, front.url, rpc=ground.url, prove=True) as shop:
        response = buy(shop, ground.payer().header(shop.offer(), ground))
        assert (response.status_code, shop.earned) == (200, PRICE)


# ---------------------------------------------------------------------------------------------------- several of them


@pytest.mark.parametrize("first", [True, False], ids=["v1-down", "v2-down"])
def test_one_is_down_and_the_other_asked_in_its_own_version(
    ground: Ground, desk: Desk, relay: Relay, tmp_path: Path, first: bool
) -> None:
    with Relay(desk.url) as second:
        second.lie["/supported"] = SECOND
        down, up = (relay, second) if first else (second, relay)
        with selling(ground, tmp_path, down.url, up.url) as shop:
            for number, gone in enumerate((set(), {"/verify", "/settle"}), 1):
                down.down = gone
                assert buy(shop, ground.payer().header(shop.offer(), ground)).status_code == 200
                assert (shop.earned, desk.sent) == (number * PRICE, number)
            assert (versions(relay), versions(second)) == ({1}, {2})
            assert (up.paths.count("/verify"), up.paths.count("/settle")) == (1, 1)


def test_what_v1_has_no_word_for_is_asked_of_the_one_that_has(ground: Ground, front: Any, tmp_path: Path) -> None:
    with Script(SECOND) as second:
        url = {"facilitator": (front.url, second.url), "networks": ("base-sepolia",), "ledger": "memory:"}
        seller = Seller(**url, pay_to=fresh().address, methods=("permit2",))
        seller.terms("$0.01", "/x")
        anyio.run(seller.prepare)
        group = seller.facilitators
        assert group is not None
        assert [group.version(one, "exact", method, NETWORK) for one in group.all for method in ("eip3009", "permit2")] == [
            *(1, None),
            *(2, 2),
        ]


def test_a_list_without_such_payments_is_not_asked_about_them() -> None:
    with Script({"kinds": [{"x402Version": 1, "scheme": "exact", "network": "base"}]}) as elsewhere, Script(FIRST) as here:
        here.say = lambda path, _: FIRST if path == "/supported" else settled(PAYER, network="base-sepolia") | {"isValid": True}
        assert isinstance(verified(sync, elsewhere.url, here.url), Verified)
        assert isinstance(asked(sync, elsewhere.url, here.url), Settled)
        assert (set(elsewhere.paths), versions(here)) == ({"/supported"}, {1})
        refusal = verified(sync, elsewhere.url)
        assert isinstance(refusal, Refusal)
        assert refusal.reason is asked(sync, elsewhere.url).reason is Reason.UNSUPPORTED_SCHEME


# -------------------------------------------------------------------------------------------------- as it should not be


@pytest.mark.parametrize(
    ("path", "lie"),
    [
        ("/verify", (500, {}, b"")),
        ("/verify", {"isValid": "true"}),
        ("/verify", {"isValid": True, "payer": "0x" + "11" * 20}),
        ("/verify", {"isValid": False, "invalidReason": "invalid_x402_version"}),
        ("/verify", {"isValid": False, "invalidReason": "no_word_of_ours"}),
        ("/settle", (400, {}, b"")),
        ("/settle", {"network": "base"}),
        ("/settle", {"network": "eip155:84532"}),
        ("/settle", {"payer": "0x" + "11" * 20}),
        ("/settle", {"success": "true"}),
        ("/settle", {"transaction": ""}),
        ("/settle", {"success": False, "transaction": "", "errorReason": "invalid_x402_version"}),
        ("/settle", {"success": False, "transaction": "", "errorReason": "no_word_of_ours"}),
        ("/settle", {"success": False, "transaction": TX, "errorReason": "no_word_of_ours"}),
    ],
)
def test_hostile_answers_are_trouble_and_the_payment_is_settled_later(
    ground: Ground, desk: Desk, relay: Relay, tmp_path: Path, path: str, lie: Any
) -> None:
    told = {"success": True, "transaction": TX, "network": "base-sepolia"}
    relay.lie[path] = {**told, **lie} if path == "/settle" and isinstance(lie, dict) else lie
    with selling(ground, tmp_path, relay.url, patience=0.3) as shop:
        headers = ground.payer().header(shop.offer(), ground)
        response = buy(shop, headers)
        assert (response.status_code, shop.earned) == (503, 0), response.text
        del relay.lie[path]
        if path == "/settle":
            assert shop.settled()[0].state == "settled"
        assert buy(shop, headers).status_code == 200
        assert (shop.api.runs, shop.earned, desk.sent, versions(relay)) == (1, PRICE, 1, {1})


def test_an_answer_that_was_lost_is_asked_for_again(ground: Ground, desk: Desk, relay: Relay, tmp_path: Path) -> None:
    relay.lose = {"/settle"}
    with selling(ground, tmp_path, relay.url, patience=0.3) as shop:
        headers = ground.payer().header(shop.offer(V2), ground)
        assert buy(shop, headers).status_code == 503
        assert (shop.earned, desk.sent) == (PRICE, 1)
        relay.lose = set()
        assert shop.settled()[0].state == "settled"
        assert buy(shop, headers).status_code == 200
        assert (shop.api.runs, shop.earned, desk.sent, versions(relay)) == (1, PRICE, 1, {1})


def test_a_refusal_in_v1_s_own_spelling_is_a_refusal(ground: Ground, relay: Relay, tmp_path: Path) -> None:
    relay.lie["/verify"] = {"isValid": False, "invalidReason": "invalid_exact_evm_payload_authorization_value"}
    with selling(ground, tmp_path, relay.url) as shop:
        response = buy(shop, ground.payer().header(shop.offer(), ground))
        assert (response.status_code, shop.api.runs) == (402, 0)


# ------------------------------------------------------------------------------------------------------------- its list


def test_it_was_down_at_the_start_and_is_asked_what_it_lists_before_the_first_payment(
    ground: Ground, desk: Desk, relay: Relay, tmp_path: Path
) -> None:
    relay.down = {"/supported", "/verify", "/settle"}
    del relay.lie["/supported"]
    with selling(ground, tmp_path, relay.url) as shop:
        headers = ground.payer().header(shop.offer(), ground)
        assert buy(shop, headers).status_code == 503
        relay.down, relay.lie["/supported"] = set(), FIRST
        relay.asked.clear()
        assert buy(shop, headers).status_code == 200
        assert (shop.earned, desk.sent, versions(relay)) == (PRICE, 1, {1})
        listed = relay.paths.count("/supported")
        assert buy(shop, ground.payer().header(shop.offer(), ground)).status_code == 200
        assert relay.paths.count("/supported") == listed


def test_what_it_lists_is_asked_again_after_trouble_and_kept_when_it_does_not_say() -> None:
    clock, speaks = 0.0, 1
    lists: Any = FIRST

    def say(path: str, body: dict[str, Any]) -> Any:
        if path == "/supported":
            return lists
        return {"isValid": True} if body["x402Version"] == speaks else (400, {}, b"")

    with Script(say) as script:
        group = Facilitators(script.url, clock=lambda: clock)
        assert isinstance(verified(sync, group=group), Verified)
        speaks, lists, clock = 2, SECOND, 40.0  # it has moved on
        with pytest.raises(FacilitatorUnavailable):
            verified(sync, group=group)
        assert isinstance(verified(sync, group=group), Verified)
        group.failed(group.all[0])
        clock, lists = 160.0, (404, {}, b"")
        assert isinstance(verified(sync, group=group), Verified)
        assert [body["x402Version"] for path, body, _ in script.asked if path == "/verify"] == [1, 1, 2, 2]


def test_one_that_hangs_up_on_whoever_asks_for_its_list_is_asked_in_v2() -> None:
    with Script(lambda path, _: None if path == "/supported" else settled(PAYER) | {"isValid": True}) as script:
        group = Facilitators(script.url)
        assert isinstance(verified(sync, group=group), Verified)
        assert isinstance(asked(sync, group=group), Settled)
        assert versions(script) == {2}


# ------------------------------------------------------------------------------------------------------- what is offered


def seller(url: str, **how: Any) -> Seller:
    return Seller(**{"facilitator": url, "networks": ("base-sepolia",), "ledger": "memory:", "pay_to": fresh().address, **how})


@pytest.mark.parametrize(
    ("how", "price", "said"),
    [
        ({"methods": ("permit2",)}, "$0.01", "exact by permit2 on eip155:84532"),
        ({"methods": ("eip3009", "permit2", "eip2612")}, "$0.01", "exact by eip2612 on eip155:84532, exact by permit2 on"),
        ({"networks": ("base-sepolia", "base")}, None, "does not settle on eip155:8453"),
        ({"networks": ("eip155:31338",)}, None, "does not settle on eip155:31338"),
    ],
)
def test_what_it_cannot_settle_is_named_at_the_start(front: Any, how: dict[str, Any], price: str | None, said: str) -> None:
    ours = seller(front.url, **how)
    if price is not None:
        ours.terms(price, "/x")
    for ask in (ours.prepare, ours.prove):
        with pytest.raises(LocalProtocolError, match=said) as caught:
            anyio.run(ask)
        assert caught.value.field == "facilitator"
    assert said in (anyio.run(unproved, ours) or "")


def test_what_it_cannot_settle_is_not_offered_later_either(front: Any) -> None:
    ours = seller(front.url)
    anyio.run(ours.prepare)
    dialects = [(offer.dialect, str(offer.method)) for offer in ours.terms("$0.01", "/x").offers]
    assert dialects == [(V2, "eip3009"), (V1, "eip3009")]
    with pytest.raises(LocalProtocolError, match="prepare"):
        ours.terms("$0.01", "/x", scheme="upto")
    other = seller(front.url, methods=("eip3009", "permit2"))
    anyio.run(other.prepare)
    with pytest.raises(LocalProtocolError, match="no facilitator settles exact by permit2") as caught:
        other.terms("$0.01", "/x")
    assert caught.value.field == "prices"


def test_a_network_of_one_s_own_goes_by_the_name_it_was_given() -> None:
    network = Network("eip155:31338")
    own = KNOWN.with_network(NetworkInfo(network, "Ours", v1_name="ours"))
    with Script({"kinds": [{"x402Version": 1, "scheme": "exact", "network": "ours"}]}) as script:
        anyio.run(seller(script.url, networks=("ours",), registry=own).prepare)
        with pytest.raises(LocalProtocolError, match="does not settle on eip155:31338"):
            anyio.run(seller(script.url, networks=(str(network),)).prepare)


def test_without_a_list_it_is_asked_in_v2(ground: Ground, desk: Desk, relay: Relay, tmp_path: Path) -> None:
    relay.lie["/supported"] = (404, {}, b"")
    with selling(ground, tmp_path, relay.url) as shop:
        assert buy(shop, ground.payer().header(shop.offer(), ground)).status_code == 200
        until(lambda: shop.settled())
        assert (shop.earned, versions(relay), relay.paths.count("/supported")) == (PRICE, {2}, 1)
