"""A seller with ``attest``: its offers are signed where they are advertised, its receipts however the answer is sent."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers.test_asgi import Scripted, Stand, in_loop
from tests.servers.visitor import Visit, living, visit
from tests.shop import Ground
from x402bind.chain.signers import PrivateKeySigner
from x402core.events import Dialect
from x402core.values import Seconds
from x402core.wire import v2
from x402core.wire.headers import decode_header
from x402core.wire.offer_receipt import check_offer, check_receipt, presented_offers, presented_receipt

KEY = b"\x5a" * 32
SIGNER = PrivateKeySigner(KEY).address
WAYS = {
    "after": ("after", ("start", "end"), b"."),
    "before-whole": ("before", ("start", "end"), b"."),
    "before-streaming": ("before", ("start", b"one", b"two", "end"), b"onetwo."),
}
ways = pytest.mark.parametrize(("settle", "script", "body"), WAYS.values(), ids=WAYS)


def receipt_of(answer: Visit) -> Any:
    return decode_header(answer.one(v2.PAYMENT_RESPONSE), source=v2.PAYMENT_RESPONSE)


@pytest.mark.parametrize("key", [KEY, "0x" + KEY.hex(), PrivateKeySigner(KEY)], ids=["bytes", "hex", "signer"])
@in_loop
async def test_every_offer_of_a_402_is_signed_with_the_key(ground: Ground, tmp_path: Path, key: Any) -> None:
    stand = Stand(ground, tmp_path, attest=key)
    asked = await stand.asked()
    challenge = v2.decode_challenge(decode_header(asked.one(v2.PAYMENT_REQUIRED), source=v2.PAYMENT_REQUIRED))
    offers = [offer for offer in challenge.offers if offer.dialect is Dialect.V2]
    signed = presented_offers(challenge.extensions, "402")
    now = Seconds(int(time.time()))
    assert (asked.status, len(signed) == len(offers) > 0) == (402, True)
    for each, offer in zip(signed, offers, strict=True):
        assert check_offer(each, offer, stand.shop.paid, now=now, signers=[SIGNER]) == SIGNER


@ways
@in_loop
async def test_the_receipt_of_what_was_paid_for_is_signed_with_the_key(
    ground: Ground, tmp_path: Path, settle: str, script: tuple[Any, ...], body: bytes
) -> None:
    stand, payer = Stand(ground, tmp_path, Scripted(*script), settle=settle, attest=KEY), ground.payer()
    async with living(stand.app):
        paid = await visit(stand.app, headers=stand.pay(payer))
        assert (paid.status, paid.body) == (200, body)
        document = receipt_of(paid)
        signed = presented_receipt(document["extensions"], "receipt")
        assert signed is not None
        found = check_receipt(signed, stand.shop.offer(), stand.shop.paid, payer.address, signers=[SIGNER])
        assert (found, document["success"], document["payer"].lower()) == (SIGNER, True, payer.address)
        assert await stand.shop.seller.settler.drain(10)
    stand.earned(1)


@ways
@in_loop
async def test_without_a_key_nothing_is_signed(
    ground: Ground, tmp_path: Path, settle: str, script: tuple[Any, ...], body: bytes
) -> None:
    stand = Stand(ground, tmp_path, Scripted(*script), settle=settle)
    async with living(stand.app):
        asked = json.dumps(decode_header((await visit(stand.app)).one(v2.PAYMENT_REQUIRED), source="402"))
        paid = await visit(stand.app, headers=stand.pay(ground.payer()))
        assert ("offer-receipt" in asked, "extensions" in receipt_of(paid), paid.body) == (False, False, body)
        assert await stand.shop.seller.settler.drain(10)
    stand.earned(1)
