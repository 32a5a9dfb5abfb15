"""requests sessions that pay, against FakeSeller on real sockets: what is bought, and by whom."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.clients.fakes import KEY, NETWORK, PRICE, FakeSeller, purse, served
from tests.clients.sessions import DECLINED, FREE, PAID, Recording, paying, told
from x402bind.clients import purse as shared
from x402bind.clients import requests as edge
from x402bind.clients.purse import Budget, Purse
from x402bind.clients.requests import (
    Http402Session,
    PaymentAdapter,
    pay_with,
    paying_session,
    raise_for_payment,
)
from x402bind.errors import PaymentDeclined
from x402core.errors import LocalProtocolError, Reason
from x402core.evm.secp256k1 import public_address
from x402core.values import Millis
from x402core.wire import v2

# ------------------------------------------------------------------------------------------------------ what is bought


def test_a_free_response_is_untouched(shop: str, seller: FakeSeller) -> None:
    with paying() as session:
        response = session.get(f"{shop}/free")
    assert told(response).kind is FREE
    assert response.json()["path"] == "/free"
    assert len(seller.seen) == 1


def test_v2_is_paid(shop: str, seller: FakeSeller) -> None:
    with paying() as session:
        response = raise_for_payment(session.post(f"{shop}/v2", params={"q": "1"}, data="order"))
    outcome = told(response)
    assert (response.status_code, response.json()["body"]) == (200, "order")
    assert (outcome.kind, outcome.amount) == (PAID, PRICE)
    assert outcome.receipt is not None
    assert outcome.receipt.transaction == "0x" + "ab" * 32
    assert [seen.url for seen in seller.seen] == [f"{shop}/v2?q=1"] * 2
    assert seller.permits[0].payer == public_address(bytes.fromhex(KEY[2:]))


def test_a10_a_token_is_used_for_its_origin_and_path_until_it_expires(
    shop: str, seller: FakeSeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, shift = shared.now, [0]
    monkeypatch.setattr(shared, "now", lambda: Millis(real() + shift[0]))
    with served(seller.asgi) as other, paying() as session:
        paths = (f"{shop}/token-priced", f"{shop}/token-priced", f"{shop}/token-priced-too", f"{other}/token-priced")
        answers = [session.get(url) for url in paths]
        assert [told(each).kind for each in answers] == [PAID, FREE, PAID, PAID]
        assert not seller.seen[4].paid  # the first path's token does not go to the second
        assert not seller.seen[7].paid  # nor to another origin
        shift[0] = 3_601_000
        assert told(session.get(paths[0])).kind is PAID
        assert not seller.seen[-3].paid  # an expired one is not even sent
    assert len(seller.permits) == 4


def test_a_token_request_carries_nothing_of_the_callers(shop: str, seller: FakeSeller) -> None:
    secret = {"Authorization": "Basic c2VjcmV0", "Cookie": "session=secret", "X-Api-Key": "secret", "User-Agent": "mine/1"}
    with paying() as session:
        session.put(f"{shop}/token-priced", headers=secret, data=b"b")
    before, bought, after = seller.seen
    assert "secret" not in str(bought.headers)
    assert "Basic" not in str(bought.headers)
    assert (bought.all("Content-Type"), bought.all("User-Agent")) == (["application/json"], ["mine/1"])
    assert before.all("Authorization") == ["Basic c2VjcmV0"]
    assert after.all("Authorization") == ["Bearer tok-0"]
    assert after.all("Cookie") == ["session=secret"]
    assert (after.method, after.body) == ("PUT", b"b")


def test_a17_the_callers_headers_cookies_and_login_survive(shop: str, seller: FakeSeller) -> None:
    with paying() as session:
        session.headers["X-Default"] = "d"
        session.cookies["session"] = "1"
        response = session.post(f"{shop}/v2", headers={"Content-Type": "text/csv"}, data=b"a,b", auth=("me", "pw"))
    unpaid, paid = seller.seen
    added = [(name, value) for name, value in paid.headers if name == v2.PAYMENT_SIGNATURE.lower()]
    assert len(added) == 1
    assert [pair for pair in paid.headers if pair not in added] == list(unpaid.headers)
    assert (paid.all("Content-Type"), paid.all("Cookie"), paid.body) == (["text/csv"], ["session=1"], b"a,b")
    assert paid.all("Authorization")[0].startswith("Basic ")
    assert v2.PAYMENT_SIGNATURE not in response.request.headers
    assert session.cookies.get_dict() == {"session": "1", "a": "1", "b": "2"}


def test_credentials_in_a_url_are_not_part_of_the_resource(shop: str) -> None:
    asked: list[str] = []

    def approve(command: Any) -> bool:
        asked.append(command.url)
        return True

    with paying(purse(approve=approve)) as session:
        response = session.get(f"{shop.replace('//', '//me:pw@')}/v2#part")
    assert told(response).kind is PAID
    assert asked == [f"{shop}/v2"]


# ---------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("kind", ["text", "form", "json", "multipart", "file", "temporary file"])
@pytest.mark.parametrize("path", ["/v2", "/token-priced"])
def test_a_body_is_sent_again_whole(shop: str, seller: FakeSeller, kind: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x" * 100_000)
    with (tmp_path / "body").open("rb") as opened, paying() as session:
        bodies: dict[str, dict[str, Any]] = {
            "text": {"data": "für"},
            "form": {"data": {"a": "1"}},
            "json": {"json": [1]},
            "multipart": {"files": {"f": b"data"}},
            "file": {"data": io.BytesIO(b"x" * 70_000)},
            "temporary file": {"data": opened},
        }
        response = session.post(shop + path, **bodies[kind])
    assert (response.status_code, told(response).kind) == (200, PAID)
    first, *_, last = seller.seen
    assert first.body == last.body != b""
    assert first.all("Content-Length") == last.all("Content-Length") == [str(len(first.body))]


class Pipe(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        return 0


class NoSeek:
    """A file-like body without ``seek``, as multipart encoders are."""

    def __init__(self) -> None:
        self._left = [b"ab"]

    def read(self, _size: int = -1) -> bytes:
        return self._left.pop() if self._left else b""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._left)


@pytest.mark.parametrize("body", [lambda: iter([b"a", b"b"]), Pipe, NoSeek, lambda: os.fdopen(_pipe(), "rb")])
def test_a17_a_body_that_cannot_be_sent_again_is_refused_before_money_moves(shop: str, seller: FakeSeller, body: Any) -> None:
    with paying() as session:
        response = session.post(f"{shop}/v2", data=body())
    outcome = told(response)
    assert (response.status_code, outcome.kind, len(seller.seen)) == (402, DECLINED, 1)
    assert outcome.refusal is not None
    assert outcome.refusal.reason is Reason.NOT_REPLAYABLE
    with pytest.raises(PaymentDeclined, match="request_body_not_replayable"):
        raise_for_payment(response)


def _pipe() -> int:
    read, write = os.pipe()
    os.write(write, b"ab")
    os.close(write)
    return read


# ----------------------------------------------------------------------------------------------------------- concurrency


def test_y9_threads_share_no_state(shop: str, seller: FakeSeller) -> None:
    with paying() as session, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: session.post(f"{shop}/v2", data=str(n)), range(40)))
    assert [told(each).kind for each in answers] == [PAID] * 40
    assert [each.json()["body"] for each in answers] == [str(n) for n in range(40)]
    assert len({permit.key for permit in seller.permits}) == 40


def test_a_budget_is_never_overdrawn_by_threads(shop: str, seller: FakeSeller) -> None:
    with paying(purse(budget=Budget.up_to("$0.05", NETWORK))) as session, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: session.get(f"{shop}/v2"), range(12)))
    assert sum(told(each).kind is PAID for each in answers) == len(seller.permits) == 5


# ------------------------------------------------------------------------------------------------------------ construction


def test_one_line_and_it_pays(shop: str) -> None:
    with paying_session(KEY, "$0.05", NETWORK) as session:
        assert [session.get(shop + path).status_code for path in ("/free", "/v2", "/both")] == [200] * 3


def test_pay_with_wraps_every_adapter_in_place_and_once(shop: str) -> None:
    session, mine = requests.Session(), Recording()
    session.mount(f"{shop}/v2", mine)
    prefixes = list(session.adapters)
    assert pay_with(session, purse(rpc=False)) is session
    assert list(session.adapters) == prefixes
    assert all(isinstance(each, PaymentAdapter) for each in session.adapters.values())
    assert told(session.get(f"{shop}/v2")).kind is PAID
    assert len(mine.sent) == 2
    for again in (session, Http402Session(purse=purse())):
        with pytest.raises(LocalProtocolError, match="pays already"):
            pay_with(again, purse())


def test_a_purse_for_async_clients_only_is_refused() -> None:
    async def approve(_command: Any) -> bool:
        return True

    session = requests.Session()
    before = dict(session.adapters)
    for make in (
        lambda: PaymentAdapter(HTTPAdapter(), purse(approve=approve)),
        lambda: pay_with(session, purse(approve=approve)),
        lambda: Http402Session(purse=purse(approve=approve)),
    ):
        with pytest.raises(LocalProtocolError, match="async"):
            make()
    assert session.adapters == before


def test_a_session_shows_no_secret(shop: str) -> None:
    payer = Purse.up_to(KEY, "$0.05", NETWORK, rpc={"base-sepolia": "https://node.test/v2/secret-api-key"})
    with Http402Session(purse=payer) as session:
        response = session.get(f"{shop}/v2")
        texts = [repr(session), repr(vars(session)), repr(session.adapters), repr(response), repr(vars(response.request))]
        stored = pickle.dumps(response)
    for text in (*texts, repr(told(response)), str(stored)):
        assert "11" * 8 not in text
        assert "secret-api-key" not in text
    assert v2.PAYMENT_SIGNATURE.encode() not in stored


# ------------------------------------------------------------------------------------------------------------------ review


def test_the_edge_knows_no_protocol() -> None:
    files = list(Path(edge.__file__).parent.glob("*.py"))
    assert {file.stem for file in files} == {"__init__", "adapter", "exchange", "sessions"}
    source = "".join(file.read_text() for file in files)
    code = re.sub(r'""".*?"""|#[^\n]*', "", source, flags=re.DOTALL)
    assert not re.findall(r"(?i)HTTPStatus|\bcodes\b|\b40\d\b|raise_for_status|\.ok\b", code)
    assert not re.findall(r"(?i)payment-(required|signature|response)|x-payment|authorization|bearer|OutcomeKind|Dialect", code)
    assert not [line for line in code.splitlines() if line.startswith("from x402core.wire")]


def test_importing_the_edge_brings_no_httpx_and_no_server() -> None:
    script = "import sys, x402bind.clients.requests; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "requests" in loaded
    assert not {"httpx", "anyio", "sqlite3", "uvicorn", "x402bind.ledger", "x402bind.servers"} & set(loaded)


def test_y29_an_offer_repeats_in_json_what_was_asked(shop: str) -> None:
    """The response that is refused is the server's own: status, headers and document."""
    with paying(purse("$0.001")) as session:
        response = session.get(f"{shop}/both")
    assert response.status_code == 402
    assert json.loads(response.text) == response.json()
    assert v2.PAYMENT_REQUIRED in response.headers
