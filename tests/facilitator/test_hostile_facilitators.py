"""What a facilitator may answer, and what of it is believed: the same in both worlds, and never a word of its text."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.facilitator.script import TX, Script, failed, settled
from tests.shop import PRICE, fresh, offer_of
from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.drive import adispatch, arun, dispatch, run
from x402bind.leaves import HttpFailed
from x402bind.translate.facilitator import (
    Facilitators,
    FacilitatorUnavailable,
    MakeHeaders,
    RemoteFacilitator,
    amake_headers,
    make_headers,
    settle,
    supported_by,
    verify,
)
from x402core.commands import AskFacilitator, VerifyPayment
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Eip3009Permit, Method, Offer, Pending, Settled, Unsettled
from x402core.evm.secp256k1 import public_address, sign
from x402core.ledger import SettlementRecord
from x402core.schemes import of
from x402core.schemes.judge import Checked, Verified, check
from x402core.values import Amount, Hash32, Millis, Seconds

KEY = b"\x51" * 32
PAYER = public_address(KEY)
SECRET = "s3cr3t-internal-host.corp"
UNCLEAR = (FacilitatorUnavailable, HttpFailed, RemoteProtocolError)
Drive = Callable[..., Any]


def now() -> Millis:
    return Millis(int(time.time() * 1000))


def bought() -> tuple[Eip3009Permit, Offer]:
    offer = offer_of(Method.EIP3009, fresh().address)
    clock, nonce = Seconds(now() // 1000), Hash32("0x" + "42" * 32)
    permit = of(offer).prepare(offer, PAYER, now=clock, validity=Seconds(300), nonce=nonce, facts=None)
    signature = sign(of(offer).digest(permit, offer), KEY)
    return Eip3009Permit(**{name: getattr(permit, name) for name in permit.__slots__} | {"signature": signature}), offer


def recorded() -> SettlementRecord:
    return SettlementRecord(*bought(), since=0, created=now())


def sync(generator: Any) -> Any:
    with SyncHttp() as http:
        return run(generator, dispatch({**http.table, MakeHeaders: make_headers}))


def under_a_loop(generator: Any) -> Any:
    async def main() -> Any:
        async with AsyncHttp() as http:
            return await arun(generator, adispatch({**http.table, MakeHeaders: amake_headers}))

    return anyio.run(main)


@pytest.fixture(params=[sync, under_a_loop], ids=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Drive:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as script:
        yield script


def verified(drive: Drive, *urls: str | RemoteFacilitator, group: Facilitators | None = None) -> Verified | Refusal:
    checked = check(*bought())
    assert isinstance(checked, Checked)
    return drive(verify(VerifyPayment(checked), group or Facilitators(urls), now, frozenset()))  # type: ignore[no-any-return]


def asked(drive: Drive, *urls: str | RemoteFacilitator, group: Facilitators | None = None) -> Any:
    record = recorded()
    return drive(settle(AskFacilitator(record), group or Facilitators(urls)))


# ------------------------------------------------------------------------------------------------------ definite answers


def test_valid(drive: Drive, script: Script) -> None:
    script.say = {"isValid": True, "payer": PAYER.upper().replace("0X", "0x")}
    assert isinstance(verified(drive, script.url + "/base/"), Verified)
    assert script.paths == ["/base/verify"]
    assert script.asked[0][1]["x402Version"] == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("insufficient_funds", Reason.INSUFFICIENT_FUNDS),
        ("invalid_exact_evm_insufficient_balance", Reason.INSUFFICIENT_FUNDS),
        ("invalid_exact_evm_nonce_already_used", Reason.NONCE_USED),
        ("invalid_exact_evm_token_name_mismatch", Reason.INVALID_REQUIREMENTS),
        ("", Reason.INVALID_PAYLOAD),
    ],
)
def test_invalid(drive: Drive, script: Script, code: str, reason: Reason) -> None:
    script.say = {"isValid": False, "invalidReason": code, "invalidMessage": SECRET}
    refusal = verified(drive, script.url)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is reason
    assert SECRET not in repr(refusal)


def test_settled(drive: Drive, script: Script) -> None:
    script.say = settled(PAYER)
    told = asked(drive, script.url)
    assert (type(told), told.transaction, told.amount) == (Settled, TX, PRICE)
    script.say = settled(PAYER, amount=..., payer=...)  # the older answer: nothing there that speaks against it
    assert isinstance(asked(drive, script.url), Settled)


def test_refused_and_pending(drive: Drive, script: Script) -> None:
    script.say = failed(PAYER, "insufficient_funds", errorMessage=SECRET)
    told = asked(drive, script.url)
    assert (type(told), told.reason, told.final) == (Unsettled, Reason.INSUFFICIENT_FUNDS, True)
    script.say = failed(PAYER, "settlement_pending", transaction=TX)
    told = asked(drive, script.url)
    assert (type(told), told.transactions) == (Pending, (TX,))
    script.say = failed(PAYER, "confirmation_timed_out_somehow", transaction=TX)  # it moved something, and may move more
    assert isinstance(asked(drive, script.url), Pending)
    for code in ("transaction_failed", "invalid_exact_evm_transfer_event_mismatch"):
        script.say = failed(PAYER, code)
        assert asked(drive, script.url).reason is Reason.TRANSACTION_FAILED


# ---------------------------------------------------------------------------------------------------- no answers at all

VERIFY_LIES: list[Any] = [
    {"isValid": "yes", "payer": PAYER},
    {"isValid": "true", "payer": PAYER},
    {"isValid": 1},
    {"isValid": None},
    {"valid": True},
    {},
    [],
    {"isValid": True, "payer": fresh().address},
    {"isValid": False, "invalidReason": "insufficient_funds", "payer": fresh().address},
    {"isValid": False, "invalidReason": "unexpected_verify_error"},
    {"isValid": False, "invalidReason": 7},
    {"isValid": False, "invalidReason": SECRET},
    (200, {}, b'{"isValid": false, "isValid": true}'),
]
SETTLE_LIES: list[Any] = [
    settled(PAYER, success="true"),
    settled(PAYER, success=1),
    settled(PAYER, success=...),
    settled(PAYER, transaction=...),
    settled(PAYER, transaction=""),
    settled(PAYER, transaction="0x"),
    settled(PAYER, transaction="0x" + "zz" * 32),
    settled(PAYER, network="eip155:8453"),
    settled(PAYER, network=...),
    settled(PAYER, payer=fresh().address),
    settled(PAYER, amount=str(PRICE - 1)),
    settled(PAYER, amount=PRICE),
    settled(PAYER, amount="1e4"),
    failed(PAYER, "insufficient_funds", network="eip155:1"),
    failed(fresh().address, "insufficient_funds"),
    failed(PAYER, "unexpected_settle_error"),
    failed(PAYER, SECRET),
    failed(PAYER, ""),
]
EITHER_LIES: list[Any] = [
    (200, {"Content-Type": "text/html"}, b"<html>" + SECRET.encode()),
    (200, {}, b""),
    (200, {}, b"\xff\xfe{}"),
    (200, {}, b"[" * 100_000),
    (500, {}, json.dumps({"error": SECRET}).encode()),
    (402, {}, json.dumps(settled(PAYER)).encode()),
    (401, {"WWW-Authenticate": f"Bearer realm={SECRET}"}, b"{}"),
    (201, {}, json.dumps(settled(PAYER) | {"isValid": True}).encode()),
    (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
    None,
]


def quiet(caught: pytest.ExceptionInfo[Exception], caplog: pytest.LogCaptureFixture) -> None:
    """Demand that nothing of the facilitator's text is in an exception or the log."""
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error) + str(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in caplog.text


@pytest.mark.parametrize("lie", VERIFY_LIES + EITHER_LIES)
def test_hostile_answers_to_verify(script: Script, lie: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "x402bind")
    script.say = lie
    with pytest.raises(FacilitatorUnavailable) as caught:
        verified(sync, script.url)
    quiet(caught, caplog)


@pytest.mark.parametrize("lie", SETTLE_LIES + EITHER_LIES)
def test_hostile_answers_to_settle(script: Script, lie: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "x402bind")
    script.say = lie
    with pytest.raises(UNCLEAR) as caught:
        asked(sync, script.url)
    quiet(caught, caplog)


def test_hostile_redirects_are_not_followed(drive: Drive, script: Script) -> None:
    with Script(settled(PAYER) | {"isValid": True}) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            script.say = (status, {"Location": elsewhere.url + "/settle"}, b"")
            with pytest.raises(UNCLEAR):
                asked(drive, script.url)
            with pytest.raises(UNCLEAR):
                verified(drive, script.url)
        assert elsewhere.asked == []


def test_hostile_bodies_without_end(drive: Drive, script: Script) -> None:
    script.say = (200, {}, b'{"isValid": true, "x": "' + b"x" * 300_000 + b'"}')
    with pytest.raises(FacilitatorUnavailable):
        verified(drive, script.url)
    with pytest.raises(HttpFailed):
        asked(drive, script.url)


def test_a_facilitator_that_never_answers(drive: Drive, script: Script) -> None:
    def hang(*_: object) -> Any:
        script.hold.wait(10)

    script.say = hang
    with pytest.raises(HttpFailed) as caught:
        asked(drive, RemoteFacilitator(script.url, timeout=0.2))
    assert caught.value.sent
    with Script({"isValid": True}) as other:
        assert isinstance(verified(drive, RemoteFacilitator(script.url, timeout=0.2), other.url), Verified)


# -------------------------------------------------------------------------------------------------- several, and their health

NOBODY = "http://127.0.0.1:9"  # the discard port: refused


def test_verify_goes_on_to_the_next(drive: Drive, script: Script) -> None:
    with Script((500, {}, b"")) as broken, Script({"isValid": "yes"}) as liar:
        script.say = {"isValid": True}
        group = Facilitators((NOBODY, broken.url, liar.url, script.url))
        assert isinstance(verified(drive, group=group), Verified)
        assert isinstance(verified(drive, group=group), Verified)
        assert (len(broken.asked), len(liar.asked), len(script.asked)) == (1, 1, 2)  # the failed ones come last for a while


def test_settle_goes_on_only_where_nothing_was_sent(drive: Drive, script: Script) -> None:
    script.say = settled(PAYER)
    assert isinstance(asked(drive, NOBODY, script.url), Settled)
    with Script(None) as loses:
        group = Facilitators((loses.url, script.url))
        before = len(script.asked)
        for _ in range(3):  # it may have settled: it is asked again, and nobody else
            with pytest.raises(HttpFailed):
                asked(drive, group=group)
        assert (len(loses.asked), len(script.asked)) == (3, before)
        loses.say = settled(PAYER)
        assert isinstance(asked(drive, group=group), Settled)


def test_whoever_may_have_settled_is_asked_first_also_after_an_outage() -> None:
    """He was asked, then could not be reached, and the next one said "used": the first still is the one who knows."""
    record = recorded()
    first, second = RemoteFacilitator("https://one.example"), RemoteFacilitator("https://two.example")
    group = Facilitators((first, second))
    group.asked(record.key, first)
    group.failed(first)
    assert group.order("another") == (second, first)
    assert group.order(record.key) == (first, second)
    group.asked(record.key, second)
    assert group.order(record.key) == (first, second)


def test_health_comes_back_with_time() -> None:
    clock = 0.0
    first, second = RemoteFacilitator("https://one.example"), RemoteFacilitator("https://two.example")
    group = Facilitators((first, second), clock=lambda: clock)
    group.failed(first)
    assert group.order("k") == (second, first)
    clock = 10.0
    group.failed(second)
    assert group.order("k") == (first, second)  # who failed longest ago is tried first
    clock = 41.0
    assert group.order("k") == (first, second)


def test_one_that_does_not_serve_such_payments_is_passed_over(drive: Drive, script: Script) -> None:
    """Another is who settles it, and his momentary trouble must not turn into a refusal of the payer's."""
    with Script() as narrow:
        narrow.say = lambda path, _: (
            failed(PAYER, "upto_facilitator_mismatch")
            if path == "/settle"
            else {"isValid": False, "invalidReason": "invalid_network"}
        )
        script.say = settled(PAYER) | {"isValid": True}
        group = Facilitators((narrow.url, script.url))
        assert isinstance(verified(drive, group=group), Verified)
        assert isinstance(asked(drive, group=group), Settled)
        script.say = None
        with pytest.raises(UNCLEAR):
            verified(drive, narrow.url, script.url)
        with pytest.raises(UNCLEAR):
            asked(drive, narrow.url, script.url)
        with pytest.raises(UNCLEAR):
            asked(drive, NOBODY, narrow.url)
        refusal = verified(drive, narrow.url)  # nobody else to ask: then it is what it says
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.INVALID_NETWORK
        assert asked(drive, narrow.url, narrow.url + "/").reason is Reason.UPTO_FACILITATOR


def test_what_all_of_them_support(drive: Drive, script: Script) -> None:
    kinds = [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]
    script.say = {"kinds": kinds, "extensions": [], "signers": {}}
    with Script((500, {}, b"")) as broken:
        said = drive(supported_by(Facilitators((broken.url, script.url))))
        assert said.takes("exact", "eip155:84532")
        with pytest.raises(FacilitatorUnavailable):
            drive(supported_by(Facilitators((broken.url,))))


def test_more_than_was_asked_is_not_settled(drive: Drive, script: Script) -> None:
    record = recorded()
    script.say = settled(PAYER, amount=str(record.amount + 1))
    with pytest.raises(RemoteProtocolError) as caught:
        drive(settle(AskFacilitator(record), Facilitators(script.url)))
    assert caught.value.pointer == "/amount"
    assert Amount(PRICE) == record.amount


# --------------------------------------------------------------------------------------------------------- who asks


def test_headers_that_say_who_asks(drive: Drive, script: Script) -> None:
    script.say = {"isValid": True}
    told: list[str] = []

    def made(path: str) -> tuple[tuple[str, str], ...]:
        told.append(path)
        return (("Authorization", f"Bearer for-{path[1:]}"),)

    for auth in ((("Authorization", "Bearer for-verify"),), {"Authorization": "Bearer for-verify"}, made):
        verified(drive, RemoteFacilitator(script.url, auth))  # type: ignore[arg-type]
        assert script.asked[-1][2]["authorization"] == "Bearer for-verify"
    assert told == ["/supported", "/verify"]


async def from_afar(path: str) -> tuple[tuple[str, str], ...]:
    await anyio.lowlevel.checkpoint()
    return (("Authorization", f"Bearer for-{path[1:]}"),)


class FromAfar:
    """An object is no coroutine function, and yet has to be awaited."""

    async def __call__(self, path: str) -> tuple[tuple[str, str], ...]:
        return await from_afar(path)


@pytest.mark.parametrize("auth", [from_afar, FromAfar()])
def test_headers_made_by_an_async_function_need_a_loop(script: Script, auth: Any) -> None:
    script.say = settled(PAYER) | {"isValid": True}
    one = RemoteFacilitator(script.url, auth)
    assert isinstance(verified(under_a_loop, one), Verified)
    assert script.asked[-1][2]["authorization"] == "Bearer for-verify"
    for ask in (verified, asked):
        with pytest.raises(LocalProtocolError) as caught:
            ask(sync, one)
        assert caught.value.field == "auth"
    assert len(script.asked) == 1


def test_headers_that_cannot_be_made_send_nothing(drive: Drive, script: Script, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_path: str) -> Any:
        raise OSError(SECRET)

    with Script({"isValid": True} | settled(PAYER)) as other:
        pair = (RemoteFacilitator(script.url, broken), other.url)
        assert isinstance(verified(drive, *pair), Verified)
        assert isinstance(asked(drive, *pair), Settled)
    assert script.asked == []
    assert SECRET not in caplog.text


@pytest.mark.parametrize("auth", ["Bearer x", (("Authorization", 1),), ("Authorization",), (("A", "b\r\nX: y"),), 7, None])
def test_headers_that_are_none(auth: Any) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        RemoteFacilitator("https://f.example", auth)
    assert caught.value.field == "auth"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "f.example",
        "ftp://f.example",
        "http://f.example",
        "https://f.example/?key=1",
        "https://f.example/#x",
        "https://[",
        7,
    ],
)
def test_a_url_that_is_none(url: Any) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        RemoteFacilitator(url)
    assert caught.value.field == "url"


def test_nothing_secret_is_shown() -> None:
    one = RemoteFacilitator(f"https://f.example/{SECRET}", (("Authorization", SECRET),))
    assert SECRET not in repr(one) + str(one) + repr(Facilitators(one).all)
