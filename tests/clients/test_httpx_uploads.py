"""Uploads of httpx clients that pay: what can be kept is sent twice and paid for once, what cannot moves no money.

A real shop that echoes what it was sent, on a chain that says who has what; the odd streams against FakeSeller.
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.clients.fakes import WORLDS, FakeNode, FakeSeller, in_world, purse
from tests.clients.test_requests_money import echo
from tests.shop import FUNDS, PRICE, Ground, Payer, Shop, async_client, client, paid_for
from x402bind.clients.httpx import outcome_of, raise_for_payment
from x402bind.clients.httpx.uploads import akeep, keep
from x402bind.clients.purse import MOST_KEPT
from x402bind.compat.x402_mock.clients.transport import MockTransport
from x402bind.errors import PaymentDeclined
from x402core.commands import OutcomeKind
from x402core.errors import Reason
from x402core.events import Dialect

ASYNC = ("asyncio", "trio")
SHOP = "https://shop.test/v2"
every_world = pytest.mark.parametrize("world", WORLDS)


def parts() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


async def aparts() -> AsyncIterator[bytes]:
    for part in parts():
        yield part


def kind_of(response: httpx.Response) -> OutcomeKind | None:
    outcome = outcome_of(response)
    return outcome and outcome.kind


def send(world: str, payer: Payer, ground: Ground, url: str, call: dict[str, Any]) -> tuple[httpx.Response, Any]:
    """POST from one of the worlds, through a paying transport over a real socket; return what stood below it as well."""
    funds = payer.purse(ground, Dialect.V2)
    if world == "sync":
        with client(funds) as (paying, wire):
            return paying.post(url, **call), wire

    async def main() -> tuple[httpx.Response, Any]:
        paying, wire = async_client(funds)
        async with paying:
            return await paying.post(url, **call), wire

    return anyio.run(main, backend=world)


def exactly(shop: Shop, payer: Payer, payments: int) -> None:
    """Demand that the payer paid and the seller got exactly so many payments."""
    assert (shop.ground.balance(payer.address), shop.earned) == (FUNDS - payments * PRICE, payments * PRICE)


def _keepable() -> list[Any]:
    calls: dict[str, tuple[tuple[str, ...], Any, Any]] = {
        "multipart of bytes": (WORLDS, lambda file: {"files": {"f": b"x" * 70_000}}, b"x" * 70_000),
        "multipart of an open file": (WORLDS, lambda file: {"files": {"f": file}, "data": {"a": "b"}}, b"line\n" * 20_000),
        "an open file": (("sync",), lambda file: {"content": file}, b"line\n" * 20_000),
        "a form": (WORLDS, lambda file: {"data": {"a": "b", "c": "d"}}, b"a=b&c=d"),
        "a generator with a length": (
            ("sync",),
            lambda file: {"content": parts(), "headers": {"Content-Length": "7"}},
            b"one two",
        ),
        "an async one": (ASYNC, lambda file: {"content": aparts(), "headers": {"Content-Length": "7"}}, b"one two"),
    }
    return [
        pytest.param(world, make, part, id=f"{name}-{world}")
        for name, (worlds, make, part) in calls.items()
        for world in worlds
    ]


@pytest.mark.parametrize(("world", "make", "part"), _keepable())
def test_what_can_be_kept_arrives_whole_and_is_paid_once(
    world: str, make: Any, part: bytes, ground: Ground, tmp_path: Path
) -> None:
    payer = ground.payer()
    (tmp_path / "upload").write_bytes(b"line\n" * 20_000)
    with Shop(ground, tmp_path, app=echo) as shop, (tmp_path / "upload").open("rb") as file:
        response, wire = send(world, payer, ground, shop.paid, make(file))
        raise_for_payment(response)
        assert (response.status_code, kind_of(response)) == (200, OutcomeKind.PAID)
        unpaid, paid = wire.sent
        assert part in response.content
        assert response.content == unpaid.content == paid.content
        assert int(paid.headers["Content-Length"]) == len(response.content)
        assert response.headers["X-Content-Type"] == unpaid.headers.get("Content-Type", "")
        assert [paid_for(each) for each in wire.sent] == [False, True]
        exactly(shop, payer, 1)


def _streams() -> list[Any]:
    def long_file(folder: Path) -> io.BufferedReader:
        path = folder / "long"
        path.write_bytes(b"x" * (MOST_KEPT + 1))
        return path.open("rb")

    calls: dict[str, tuple[tuple[str, ...], Any]] = {
        "a generator": (("sync",), lambda folder: {"content": parts()}),
        "an async generator": (ASYNC, lambda folder: {"content": aparts()}),
        "a long file": (("sync",), lambda folder: {"content": long_file(folder)}),
        "a form with a long file": (WORLDS, lambda folder: {"files": {"f": long_file(folder)}}),
    }
    return [pytest.param(world, make, id=f"{name}-{world}") for name, (worlds, make) in calls.items() for world in worlds]


@pytest.mark.parametrize(("world", "make"), _streams())
def test_what_cannot_be_kept_is_sent_once_and_moves_no_money(world: str, make: Any, ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with Shop(ground, tmp_path, app=echo) as shop:
        response, wire = send(world, payer, ground, shop.paid, make(tmp_path))
        assert (response.status_code, len(wire.sent)) == (402, 1)
        with pytest.raises(PaymentDeclined, match=Reason.NOT_REPLAYABLE) as declined:
            raise_for_payment(response)
        for advice in ("pass bytes", "request.read()", f"{MOST_KEPT >> 20} MiB"):
            assert advice in str(declined.value)
        assert shop.entries() == ()
        exactly(shop, payer, 0)


def test_the_advice_is_good(ground: Ground, tmp_path: Path) -> None:
    """``request.read()`` before sending makes a payable request of a generator."""
    payer = ground.payer()
    with Shop(ground, tmp_path, app=echo) as shop, client(payer.purse(ground, Dialect.V2)) as (paying, _):
        request = paying.build_request("POST", shop.paid, content=parts())
        request.read()
        assert raise_for_payment(paying.send(request)).content == b"one two"
        exactly(shop, payer, 1)


@pytest.mark.parametrize(("length", "kind"), [({"Content-Length": "7"}, OutcomeKind.PAID), ({}, OutcomeKind.DECLINED)])
def test_x402_mocks_client_keeps_as_much(length: dict[str, str], kind: OutcomeKind) -> None:
    seller = FakeSeller()

    async def main() -> httpx.Response:
        transport = MockTransport(seller.mock(), purse, chain=FakeNode().anyio())
        async with httpx.AsyncClient(transport=transport) as paying:
            return await paying.post(SHOP, content=aparts(), headers=length)

    response = anyio.run(main)
    assert kind_of(response) is kind
    assert {seen.body for seen in seller.seen} == {b"one two"}
    outcome = outcome_of(response)
    if kind is OutcomeKind.DECLINED:
        assert outcome is not None
        assert outcome.refusal is not None
        assert "request.read()" in outcome.refusal.detail


# -------------------------------------------------------------------------------------------------- what is left as it is


@every_world
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_nothing_to_send_stays_nothing(world: str, method: str) -> None:
    seller = FakeSeller()
    (response,) = in_world(world, purse(), seller.mock(), {"url": SHOP, "method": method})
    assert (response.status_code, kind_of(response)) == (200, OutcomeKind.PAID)
    assert [seen.body for seen in seller.seen] == [b"", b""]


@pytest.mark.parametrize(("world", "content"), [("sync", aparts), ("asyncio", parts), ("trio", parts)])
def test_a_stream_of_the_other_world_is_httpxs_to_refuse(world: str, content: Any) -> None:
    seller = FakeSeller()
    call = {"url": SHOP, "method": "POST", "content": content(), "headers": {"Content-Length": "7"}}
    with pytest.raises(RuntimeError, match="Attempted to send an"):
        in_world(world, purse(), seller.mock(), call)
    assert seller.seen == []


def test_a_stream_of_the_other_world_is_not_touched() -> None:
    """Not even where nobody has refused it: a transport that is used by itself."""
    for content, of_other in ((aparts(), keep), (parts(), None)):
        request = httpx.Request("POST", SHOP, content=content, headers={"Content-Length": "7"})
        stream = request.stream
        if of_other is not None:
            of_other(request)
        else:
            anyio.run(akeep, request)
        assert request.stream is stream


def test_a_stream_that_is_used_up_fails_as_ever() -> None:
    seller, used = FakeSeller(), parts()
    call = {"url": SHOP, "method": "POST", "content": used, "headers": {"Content-Length": "7"}}
    request = httpx.Request(**call)
    assert b"".join(request.stream) == b"one two"  # type: ignore[arg-type]
    with pytest.raises(httpx.StreamConsumed):
        keep(request)
    assert seller.seen == []


@every_world
@pytest.mark.parametrize("stated", ["3", "0", "-7", "7, 7", "\u0667", str(MOST_KEPT + 1), "9" * 5000])
def test_a_length_that_is_none_or_too_short_loses_nothing(world: str, stated: str) -> None:
    """What was read of a body that is longer than it said is sent all the same; it is for the wire to refuse."""
    seller = FakeSeller()
    content = parts() if world == "sync" else aparts()
    call = {"url": SHOP, "method": "POST", "content": content, "headers": [(b"Content-Length", stated.encode())]}
    (response,) = in_world(world, purse(), seller.mock(), call)
    assert (response.status_code, kind_of(response)) == (402, OutcomeKind.DECLINED)
    assert [seen.body for seen in seller.seen] == [b"one two"]


def test_a_body_that_was_put_back_is_sent_once() -> None:
    request = httpx.Request("POST", SHOP, content=parts(), headers={"Content-Length": "3"})
    keep(request)
    assert b"".join(request.stream) == b"one two"  # type: ignore[arg-type]
    with pytest.raises(httpx.StreamConsumed):
        list(request.stream)  # type: ignore[arg-type]

    async def main() -> None:
        request = httpx.Request("POST", SHOP, content=aparts(), headers={"Content-Length": "3"})
        await akeep(request)
        assert [part async for part in request.stream] == [b"one ", b"two"]  # type: ignore[union-attr]
        with pytest.raises(httpx.StreamConsumed):
            [part async for part in request.stream]  # type: ignore[union-attr]

    anyio.run(main)


def test_a_pipe_says_no_length_that_is_true(tmp_path: Path) -> None:
    """httpx takes a pipe for an empty file; its bytes are neither lost nor waited for beyond what comes."""
    reading, writing = os.pipe()
    os.write(writing, b"piped")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        request = httpx.Request("POST", SHOP, content=pipe)
        assert request.headers["Content-Length"] == "0"
        keep(request)
        assert b"".join(request.stream) == b"piped"  # type: ignore[arg-type]


@every_world
def test_a_stream_that_breaks_breaks_before_anything_is_sent(world: str) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one "
        raise OSError("the disk is gone")

    async def abroken() -> AsyncIterator[bytes]:
        for part in broken():
            yield part

    seller = FakeSeller()
    content = broken() if world == "sync" else abroken()
    call = {"url": SHOP, "method": "POST", "content": content, "headers": {"Content-Length": "7"}}
    with pytest.raises(OSError, match="the disk is gone"):
        in_world(world, purse(), seller.mock(), call)
    assert seller.seen == []
