"""requests sessions that pay, end to end: a real session, a shop behind uvicorn, and a chain that says who has what."""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.shop import FUNDS, PRICE, Ground, Payer, Shop
from x402bind.clients.purse import Budget
from x402bind.clients.requests import Http402Session, outcome_of, pay_with, paying_session, raise_for_payment
from x402bind.errors import PaymentDeclined
from x402bind.servers.held import Receive, Scope, Send
from x402core.commands import OutcomeKind
from x402core.errors import Reason
from x402core.events import Dialect
from x402core.wire import v2


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, and say which type it had."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    kind = dict(scope["headers"]).get(b"content-type", b"")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


def kinds(*responses: requests.Response) -> list[OutcomeKind | None]:
    outcomes = [outcome_of(response) for response in responses]
    return [outcome and outcome.kind for outcome in outcomes]


def exactly(shop: Shop, payer: Payer, payments: int = 1) -> None:
    """Demand that the payer paid and the seller got exactly so many payments."""
    assert (shop.ground.balance(payer.address), shop.earned) == (FUNDS - payments * PRICE, payments * PRICE)


def test_one_line_and_the_money_moves(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop, paying_session(payer.key, "$0.05", "base-sepolia") as session:
        response = raise_for_payment(session.get(shop.paid, timeout=30))
        assert response.json()["paid_by"] == payer.address
        assert session.cookies.get_dict() == {"a": "1", "b": "2"}
        outcome = response.x402  # type: ignore[attr-defined]
        assert (outcome.kind, outcome.amount) == (OutcomeKind.PAID, PRICE)
        assert outcome.receipt.transaction in shop.entries()[0].transactions
        assert v2.PAYMENT_SIGNATURE not in response.request.headers
        exactly(shop, payer)


@pytest.mark.parametrize("what", ["bytes", "file"])
def test_a17_a_paid_post_keeps_its_body_and_its_type(ground: Ground, tmp_path: Path, what: str) -> None:
    payer = ground.payer()
    body = b"a,b\n" * 5000
    with Shop(ground, tmp_path, app=echo) as shop, Http402Session(purse=payer.purse(ground, Dialect.V2)) as session:
        file = io.BytesIO(b"skipped" + body)
        file.seek(7)
        data = body if what == "bytes" else file
        response = session.post(shop.paid, data=data, headers={"Content-Type": "text/csv"}, timeout=30)
        assert (response.status_code, response.content) == (200, body)
        assert response.headers["X-Content-Type"] == "text/csv"
        exactly(shop, payer)


def test_a_body_that_cannot_be_sent_again_moves_no_money(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path, app=echo) as shop, Http402Session(purse=payer.purse(ground)) as session:
        response = session.post(shop.paid, data=iter([b"a", b"b"]), timeout=30)
        assert response.status_code == 402
        with pytest.raises(PaymentDeclined, match=Reason.NOT_REPLAYABLE):
            raise_for_payment(response)
        exactly(shop, payer, 0)


def test_a10_a_token_is_bought_once_and_used_again(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop, Http402Session(purse=payer.purse(ground, Dialect.PERMIT_TOKEN)) as session:
        answers = [session.get(url, timeout=30) for url in (shop.paid, shop.paid)]
        shop.settled()  # one EIP-2612 permit at a time: the next one's nonce is the chain's
        answers += [session.get(url, timeout=30) for url in (f"{shop.url}/other", shop.paid)]
        assert [each.status_code for each in answers] == [200] * 4
        free, paid = OutcomeKind.FREE, OutcomeKind.PAID
        assert kinds(*answers) == [paid, free, paid, free]
        shop.settled(2)
        exactly(shop, payer, 2)


def test_y9_every_request_of_a_session_is_paid(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop, Http402Session(purse=payer.purse(ground, Dialect.V2)) as session:
        answers = [session.get(shop.paid, timeout=30) for _ in range(4)]
        assert [each.status_code for each in answers] == [200] * 4
        exactly(shop, payer, 4)


def test_y9_eight_threads_share_a_session_and_pay_once_each(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    gate = threading.Barrier(8)
    with Shop(ground, tmp_path, app=echo) as shop, Http402Session(purse=payer.purse(ground, Dialect.V2)) as session:

        def one(number: int) -> requests.Response:
            gate.wait(10)
            return session.post(shop.paid, data=str(number), timeout=60)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one, range(8)))
        assert [each.text for each in answers] == [str(number) for number in range(8)]
        assert kinds(*answers) == [OutcomeKind.PAID] * 8
        nonces = {outcome.receipt.transaction for each in answers if (outcome := outcome_of(each)) and outcome.receipt}
        assert nonces
        exactly(shop, payer, 8)


def test_a_budget_ends(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    plain = payer.purse(ground, Dialect.V2)
    funds = type(plain)(plain.signer, plain.policy, plain.rpc, budget=Budget.up_to("$0.025", "base-sepolia"))
    with Shop(ground, tmp_path) as shop, pay_with(requests.Session(), funds) as session:
        answers = [session.get(shop.paid, timeout=30) for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 402]
        with pytest.raises(PaymentDeclined, match=r"the budget has \$0.005 left"):
            raise_for_payment(answers[-1])
        exactly(shop, payer, 2)


def test_y3_no_more_than_the_cap_is_ever_signed(ground: Ground, tmp_path: Path) -> None:
    """An offer over the cap, and one on a network that was not named, move nothing."""
    payer = ground.payer()
    with Shop(ground, tmp_path) as shop:
        for most, network in (("$0.009", "base-sepolia"), ("$1", "base")):
            with Http402Session(key=payer.key, max_price=most, network=network) as session:
                response = session.get(shop.paid, timeout=30)
                assert (response.status_code, kinds(response)) == (402, [OutcomeKind.DECLINED])
                assert json.loads(response.content) is not None
        exactly(shop, payer, 0)


def test_y8_an_endpoint_that_fails_is_not_charged_for(ground: Ground, tmp_path: Path) -> None:
    async def missing(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"no such thing"})

    payer = ground.payer()
    with Shop(ground, tmp_path, app=missing) as shop, Http402Session(purse=payer.purse(ground, Dialect.V2)) as session:
        response = session.get(shop.paid, timeout=30)
        assert (response.status_code, response.text) == (404, "no such thing")
        exactly(shop, payer, 0)
