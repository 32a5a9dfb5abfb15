"""Signing in instead of paying again, end to end: a real client, a real server, and a chain that says who paid how often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import httpx
import pytest

from tests.shop import FUNDS, PRICE, Ground, Payer, Shop, Wire, async_client, client, fresh, paid_for
from x402bind.chain.signers import message_digest
from x402bind.clients.httpx import outcome_of
from x402bind.clients.purse import Purse
from x402core.commands import OutcomeKind, SignMessage
from x402core.errors import LocalProtocolError
from x402core.events import Dialect
from x402core.evm.secp256k1 import recover

SIGN_IN = "SIGN-IN-WITH-X"


def test_a_wallet_signs_no_text_it_does_not_see() -> None:
    """The digest is the wallet's own sum; a text of another account's is not signed at all."""
    signer, text = fresh(), "shop.example wants you to sign in"
    seen = SignMessage(signer.address, message_digest(text), text)
    assert recover(seen.digest, signer.sign(seen)) == signer.address
    for other in (replace(seen, digest=bytes(32)), replace(seen, message="I owe you"), replace(seen, account=fresh().address)):
        with pytest.raises(LocalProtocolError):
            signer.sign(other)


@pytest.fixture
def shop(ground: Ground, tmp_path: Path) -> Shop:
    return Shop(ground, tmp_path, sign_in=True)


def purse(payer: Payer, ground: Ground, *, sign_in: bool = True) -> Purse:
    """Return a purse that pays by x402 v2, and signs in where it may."""
    paying = payer.purse(ground, Dialect.V2)
    return replace(paying, policy=replace(paying.policy, sign_in=sign_in))


def signed_in(request: httpx.Request) -> bool:
    return SIGN_IN in request.headers


def counts(wire: Wire) -> tuple[int, int]:
    """Return how often was paid and how often signed in."""
    return len([each for each in wire.sent if paid_for(each)]), len([each for each in wire.sent if signed_in(each)])


def test_who_has_paid_comes_back_without_paying(shop: Shop, ground: Ground) -> None:
    payer = ground.payer()
    with shop:
        with client(purse(payer, ground)) as (paying, wire):
            first = paying.get(shop.paid)
            assert (first.status_code, outcome_of(first).kind) == (200, OutcomeKind.PAID)
        shop.settled()
        with client(purse(payer, ground)) as (paying, wire):
            for _ in range(2):
                again = paying.get(shop.paid)
                assert again.json()["paid_by"] is None or again.json()["paid_by"] == payer.address
                assert (again.status_code, outcome_of(again).kind) == (200, OutcomeKind.FREE)
        assert counts(wire) == (0, 2)
        assert shop.api.runs == 3
    assert (ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)


def test_an_async_client_comes_back_too(shop: Shop, ground: Ground) -> None:
    payer = ground.payer()

    async def visit() -> tuple[int, int]:
        paying, wire = async_client(purse(payer, ground))
        async with paying:
            assert (await paying.get(shop.paid)).status_code == 200
        return counts(wire)

    with shop:
        first = anyio.run(visit)
        shop.settled()
        assert (first[0], anyio.run(visit)) == (1, (0, 1))
    assert shop.earned == PRICE


def test_who_does_not_want_to_sign_in_pays_again(shop: Shop, ground: Ground) -> None:
    payer = ground.payer()
    with shop:
        for _ in range(2):
            with client(purse(payer, ground, sign_in=False)) as (paying, wire):
                assert paying.get(shop.paid).status_code == 200
                assert counts(wire) == (1, 0)
        shop.settled(2)
    assert shop.earned == 2 * PRICE


def test_another_account_that_signs_in_has_to_pay(shop: Shop, ground: Ground) -> None:
    payer, other = ground.payer(), ground.payer()
    with shop:
        with client(purse(payer, ground)) as (paying, _):
            assert paying.get(shop.paid).status_code == 200
        shop.settled()
        with client(purse(other, ground)) as (paying, wire):
            assert paying.get(shop.paid).status_code == 200
            assert counts(wire) == (1, 1)
        shop.settled(2)
    assert (ground.balance(other.address), shop.earned) == (FUNDS - PRICE, 2 * PRICE)


def test_what_was_bought_is_that_path_and_no_other(shop: Shop, ground: Ground) -> None:
    payer = ground.payer()
    with shop:
        with client(purse(payer, ground)) as (paying, _):
            assert paying.get(shop.paid).status_code == 200
        shop.settled()
        with client(purse(payer, ground)) as (paying, wire):
            assert paying.get(f"{shop.url}/other").status_code == 200
            assert counts(wire)[0] == 1
        shop.settled(2)
    assert shop.earned == 2 * PRICE


def test_replay_of_a_sign_in_gets_a_402(shop: Shop, ground: Ground) -> None:
    """A header is good once: whoever overheard it has to pay, here and elsewhere."""
    payer = ground.payer()
    with shop:
        with client(purse(payer, ground)) as (paying, _):
            assert paying.get(shop.paid).status_code == 200
        shop.settled()
        with client(purse(payer, ground)) as (paying, wire):
            assert paying.get(shop.paid).status_code == 200
        runs = shop.api.runs
        assert wire.again(signed_in).status_code == 402
        assert wire.again(signed_in, f"{shop.url}/other").status_code == 402
        assert shop.api.runs == runs
    assert shop.earned == PRICE


def test_hostile_sign_in_headers_are_no_payment(shop: Shop, ground: Ground) -> None:
    payer = ground.payer()
    with shop:
        with client(purse(payer, ground)) as (paying, _):
            assert paying.get(shop.paid).status_code == 200
        shop.settled()
        for text in ("", "x", "e30=", "W10=", "A" * 5000):
            assert httpx.get(shop.paid, headers={SIGN_IN: text}).status_code == 402
    assert shop.api.runs == 1


def test_a_purchase_that_failed_lets_nobody_in(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer(1)
    with Shop(ground, tmp_path, sign_in=True) as shop:
        for _ in range(2):
            with client(purse(payer, ground)) as (paying, _):
                assert paying.get(shop.paid).status_code == 402
        assert shop.api.runs == 0
