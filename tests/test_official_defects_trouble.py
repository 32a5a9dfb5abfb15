"""The official SDK's server when its node or its facilitator is in trouble, or lies (official-sdk.md 5, probes 7 to 10): ours.

Our trouble and theirs is 503, the payment stays good, and nothing that a facilitator wrote reaches a payer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lying_facilitator import SECRET, TRANSACTION, Facilitator, Said, settled, valid
from tests.odd_shop import App, everything, get, receipt, remote, selling
from tests.shop import NETWORK, PRICE, Ground, TroubledNode, on_devnet, until
from x402core.errors import Reason


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with on_devnet() as ground:
        yield ground


# ----------------------------------------------------------------------------------------- 7, 9: when others are in trouble


@pytest.mark.parametrize("trouble", ["down", "rate limit exceeded", "header not found"])
def test_7_trouble_with_the_node_is_503_and_says_nothing_of_it(ground: Ground, tmp_path: Path, trouble: str) -> None:
    """Probe 7 (was: 402 failed_to_verify_signature or simulation_failed, as if the payer were at fault)."""
    with TroubledNode(ground.url) as node, selling(ground, tmp_path, rpc=node.url) as shop:
        header = ground.payer().header(shop.offer(), ground)
        node.down = trouble == "down"
        node.filter = lambda call: f"{trouble}: {SECRET}"
        answer = get(shop.paid, header)
        assert (answer.status_code, answer.json()["title"]) == (503, Reason.UNAVAILABLE)
        assert not any(word in everything(answer) for word in (SECRET, "limit", "not found", node.url))
        node.down, node.filter = False, lambda call: None
        assert (get(shop.paid, header).status_code, shop.earned) == (200, PRICE)  # the same payment is still good


def _said(status: int, body: str) -> Callable[[str], Said]:
    return lambda _: (status, body.encode())


_YES = {"isValid": True, "success": True, "transaction": TRANSACTION, "network": NETWORK}
TROUBLE: dict[str, Callable[[str], Said]] = {
    "500": _said(500, f"Traceback: db password={SECRET}"),
    "401": _said(401, json.dumps({"error": SECRET})),
    "403": _said(403, SECRET),
    "404": _said(404, SECRET),
    "429": _said(429, SECRET),
    "302": _said(302, SECRET),
    "500 with a yes": lambda payer: (500, json.dumps({**_YES, "payer": payer}).encode()),
    "202 with a yes": lambda payer: (202, json.dumps({**_YES, "payer": payer}).encode()),
    "HTML": _said(200, f"<html>{SECRET}</html>"),
    "nothing": _said(200, ""),
    "null": _said(200, "null"),
    "a list": _said(200, f'["{SECRET}"]'),
    "a string": _said(200, f'"{SECRET}"'),
    "hung up": lambda _: None,
    "its own trouble": lambda payer: valid(
        payer, isValid=False, invalidReason="unexpected_verify_error", invalidMessage=SECRET
    ),
    "its own trouble at settling": lambda payer: settled(
        payer, success=False, errorReason="unexpected_settle_error", transaction=""
    ),
    "too much": _said(200, json.dumps({"isValid": True, "success": True, "x": "y" * 300_000})),
}


@pytest.mark.parametrize("path", ["/verify", "/settle"])
@pytest.mark.parametrize("row", TROUBLE)
def test_7_trouble_with_the_facilitator_is_503_and_says_nothing_of_it(
    ground: Ground, tmp_path: Path, row: str, path: str
) -> None:
    """Probe 7 (was: 402, "Facilitator verify failed (500): Traceback: db password=hunter2", or an exception's own text)."""
    with Facilitator() as facilitator, remote(ground, tmp_path, facilitator, app := App()) as shop:
        facilitator.says[path] = TROUBLE[row]
        header = ground.payer().header(shop.offer(), ground)
        answer = get(shop.paid, header)
        assert (answer.status_code, answer.json()["title"]) == (503, Reason.UNAVAILABLE)
        assert not any(word in everything(answer) for word in (SECRET, "Traceback", "html", "Error", facilitator.url, "served"))
        facilitator.says[path] = {"/verify": valid, "/settle": settled}[path]
        until(lambda: get(shop.paid, header).status_code == 200)  # the same payment, once it is over
        assert app.runs == 1


def test_8_a_facilitator_that_breaks_off_is_asked_again_about_the_same_payment(ground: Ground, tmp_path: Path) -> None:
    """Probe 8 (was: the failure hook of settle was not called when the facilitator raised): nothing is lost here."""
    with Facilitator() as facilitator, remote(ground, tmp_path, facilitator, app := App(), patience=10) as shop:
        breaks = [None, None]
        facilitator.says["/settle"] = lambda payer: breaks.pop() if breaks else settled(payer)
        answer = get(shop.paid, ground.payer().header(shop.offer(), ground))
        assert (answer.status_code, receipt(answer)["transaction"], app.runs) == (200, TRANSACTION, 1)
        asked = [body["paymentPayload"]["payload"] for body in facilitator.bodies[1:]]
        assert (len(asked), facilitator.asked.count("/settle"), asked.count(asked[0])) == (3, 3, 3)


def test_8_who_paid_and_was_not_served_is_told_to_the_seller(ground: Ground, tmp_path: Path) -> None:
    """Probe 8, and "Handler outcome": charged "upfront", the handler failed, PAYMENT-RESPONSE attached."""
    due: list[Any] = []
    payer = ground.payer()
    with selling(ground, tmp_path, App(500), settle="before", on_refund_due=due.append) as shop:
        answer = get(shop.paid, payer.header(shop.offer(), ground))
        assert (answer.status_code, receipt(answer)["success"], shop.earned) == (500, True, PRICE)
        assert [each.payer for each in due] == [payer.address]


LOOSE: dict[str, tuple[str, Callable[[str], Said]]] = {
    "isValid yes": ("/verify", lambda payer: valid(payer, isValid="yes")),
    "isValid 1": ("/verify", lambda payer: valid(payer, isValid=1)),
    "isValid null": ("/verify", lambda payer: valid(payer, isValid=None)),
    "valid for another payer": ("/verify", lambda _: valid("0x" + "66" * 20)),
    "success yes": ("/settle", lambda payer: settled(payer, success="yes")),
    "success without a transaction": ("/settle", lambda payer: settled(payer, transaction="")),
    "success with a word for a transaction": ("/settle", lambda payer: settled(payer, transaction="done")),
    "success, the transaction left out": ("/settle", lambda payer: settled(payer, transaction=None)),
    "success on another network": ("/settle", lambda payer: settled(payer, network="eip155:1")),
    "success, the network left out": ("/settle", lambda payer: settled(payer, network=None)),
    "success for another payer": ("/settle", lambda _: settled("0x" + "66" * 20)),
    "success of another amount": ("/settle", lambda payer: settled(payer, amount="1")),
}


@pytest.mark.parametrize("row", LOOSE)
def test_9_a_facilitator_s_loose_yes_is_no_yes(ground: Ground, tmp_path: Path, row: str) -> None:
    """Probe 9 (was: success without a transaction, or on another network, and "isValid": "yes": served)."""
    path, says = LOOSE[row]
    with Facilitator() as facilitator, remote(ground, tmp_path, facilitator, app := App()) as shop:
        facilitator.says[path] = says
        answer = get(shop.paid, ground.payer().header(shop.offer(), ground))
        assert (answer.status_code, b"served" in answer.content) == (503, False)
        assert (app.runs, "/settle" in facilitator.asked) == ((0, False) if path == "/verify" else (1, True))


@pytest.mark.parametrize("path", ["/verify", "/settle"])
def test_9_what_a_facilitator_says_in_words_goes_no_further(ground: Ground, tmp_path: Path, path: str) -> None:
    """Rows "CRLF in facilitator errorReason" (safe), and probe 7: its codes are taken, its sentences are not."""
    evil = f"nope\r\nSet-Cookie: a=b\r\n\r\n<script>{SECRET}</script>"
    with Facilitator() as facilitator, remote(ground, tmp_path, facilitator) as shop:
        for code, reason in ((evil, None), ("insufficient_funds", Reason.INSUFFICIENT_FUNDS)):
            facilitator.says["/verify"] = valid
            if path == "/verify":
                facilitator.says[path] = lambda p, code=code: valid(p, isValid=False, invalidReason=code, invalidMessage=evil)  # type: ignore[misc]
            else:
                facilitator.says[path] = lambda p, code=code: settled(  # type: ignore[misc]
                    p, success=False, errorReason=code, errorMessage=evil, transaction=""
                )
            answer = get(shop.paid, ground.payer().header(shop.offer(), ground))
            # no word of the specification's is no word about the payment, but trouble of the facilitator's
            assert (answer.status_code, "set-cookie" in answer.headers) == (402 if reason else 503, False)
            assert not any(word in everything(answer) for word in (SECRET, "<script", "Set-Cookie", "nope"))
            assert reason is None or answer.json()["error"] == reason


def test_10_a_facilitator_that_always_says_yes_sells_each_payment_once(ground: Ground, tmp_path: Path) -> None:
    """Probe 10 (was: one header served any number of times)."""
    with Facilitator() as facilitator, remote(ground, tmp_path, facilitator, app := App()) as shop:
        header = ground.payer().header(shop.offer(), ground)
        assert [get(shop.paid, header).status_code for _ in range(5)] == [200] * 5
        assert (app.runs, facilitator.asked.count("/settle")) == (1, 1)
        others = [get(f"{shop.url}/other", header), get(shop.paid, header, method="POST"), get(shop.paid + "?page=2", header)]
        assert {(each.status_code, each.json()["error"]) for each in others} == {(402, Reason.PAYMENT_SPENT)}
        assert (app.runs, facilitator.asked.count("/settle")) == (1, 1)
    with remote(ground, tmp_path, facilitator, App(), url="http://shop.test") as restarted:
        assert restarted.entries()  # the ledger is a file: the next process knows it too
