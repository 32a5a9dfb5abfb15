"""The caller's own adapter under a session that pays: called for everything, with its TLS, its proxy and its pool."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

from tests.clients.fakes import FakeSeller, Seen, purse
from tests.clients.sessions import DECLINED, FREE, PAID, Recording, paying, told
from tests.clients.wires import client_tls, on_wire, server_tls
from x402bind.clients.held_requests import HeldBody
from x402bind.clients.purse import MOST_BODY
from x402bind.clients.requests import (
    outcome_of,
    pay_with,
    raise_for_payment,
)
from x402core.commands import OutcomeKind
from x402core.errors import Reply
from x402core.events import Dialect

# ------------------------------------------------------------------------------------------------- the caller's own adapter


def test_y10_every_request_goes_through_the_callers_adapter_with_its_arguments(shop: str, tmp_path: Path) -> None:
    inner, mine = Recording(), tmp_path / "mine.pem"
    mine.touch()
    with paying(http=inner) as session:
        session.verify, session.cert = False, str(mine)
        session.get(f"{shop}/token-priced", timeout=(3, 4), stream=True).close()
    assert [urllib3.util.parse_url(request.url or "").path for request, _ in inner.sent] == [
        "/token-priced",
        "/token",
        "/token-priced",
    ]
    options = {"timeout": (3, 4), "verify": False, "cert": str(mine), "stream": True}
    assert [how for _, how in inner.sent] == [{**options, "proxies": inner.sent[0][1]["proxies"]}] * 3
    assert inner.closed


def test_y10_the_callers_tls_stays(seller: FakeSeller, tmp_path: Path) -> None:
    """An adapter that trusts one certificate: it makes every connection, and without it there is none."""

    class Pinned(Recording):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, ssl_context=client_tls(), **options)

    inner = Pinned()
    with on_wire(seller, server_tls(tmp_path)) as url:
        with paying(https=inner) as session:
            assert told(session.get(f"{url}/v2")).kind is PAID
            assert told(session.get(f"{url}/token-priced")).kind is PAID
        assert len(inner.sent) == 5
        with paying() as session, pytest.raises(requests.exceptions.SSLError):
            session.get(f"{url}/v2")


def test_y10_a_proxy_stays(shop: str, seller: FakeSeller) -> None:
    with paying() as session:
        response = session.get("http://127.0.0.1:9/token-priced", proxies={"http": shop})  # nobody listens there
    assert told(response).kind is PAID
    assert seller.paths == ["/token-priced", "/token", "/token-priced"]


def test_y10_the_adapters_own_retries_stay(shop: str, seller: FakeSeller) -> None:
    """A retry below the payment sends the very same bytes again: one permit."""
    retry = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0)
    seller.script = lambda seen: Reply(503, ()) if len(seller.seen) in (1, 3) else None
    with paying(http=HTTPAdapter(max_retries=retry)) as session:
        assert told(session.get(f"{shop}/v2")).kind is PAID
    assert [seen.paid for seen in seller.seen] == [False, False, True, True]
    assert seller.seen[2].headers == seller.seen[3].headers


def test_an_adapter_that_reads_bodies_itself(shop: str, seller: FakeSeller) -> None:
    class Reading(HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> requests.Response:
            response = super().send(*args, **options)
            assert response.content is not None
            return response

    for most, kind in (("$0.05", PAID), ("$0.001", DECLINED)):
        with paying(purse(most), http=Reading()) as session:
            response = session.get(f"{shop}/token-priced")
            assert told(response).kind is kind
            assert response.json()


def test_an_adapter_that_has_no_urllib3(seller: FakeSeller) -> None:
    class Plain(BaseAdapter):
        def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
            body = request.body if isinstance(request.body, bytes) else b""
            reply = seller(Seen(request.method or "", request.url or "", tuple(request.headers.items()), body))
            response = requests.Response()
            response.status_code, response.url = reply.status, request.url or ""
            response.headers.update(dict(reply.headers))
            response.raw = io.BytesIO(reply.body)
            return response

        def close(self) -> None:
            pass

    with paying(https=Plain()) as session:
        assert told(session.get("https://shop.test/token-priced")).kind is PAID
    with paying(purse("$0.001"), https=Plain()) as session:
        assert session.get("https://shop.test/token-priced").json()["payment_scheme"]


def test_hooks_are_called_once_and_see_the_outcome(shop: str) -> None:
    seen: list[OutcomeKind] = []
    with paying() as session:
        session.hooks["response"].append(lambda response, **_: seen.append(told(response).kind))
        session.get(f"{shop}/v2")
    assert seen == [PAID]


def test_a_digest_login_is_paid_for_too(shop: str, seller: FakeSeller) -> None:
    """The login answers below the session, by the connection it finds on the response: that has to be the one that pays."""
    challenge = Reply(401, (("WWW-Authenticate", 'Digest realm="x", nonce="y", qop="auth"'),), b"")
    seller.script = lambda seen: None if seen.all("Authorization") else challenge
    with paying() as session:
        response = session.get(f"{shop}/v2", auth=requests.auth.HTTPDigestAuth("me", "pw"))
    assert (response.status_code, told(response).kind) == (200, PAID)
    assert [told(hop).kind for hop in response.history] == [FREE]
    assert [seen.paid for seen in seller.seen] == [False, False, True]


def test_what_has_no_origin_passes_through() -> None:
    class Anything(BaseAdapter):
        def send(self, *_: Any, **__: Any) -> requests.Response:
            response = requests.Response()
            response.status_code, response.raw = 402, io.BytesIO()
            return response

        def close(self) -> None:
            pass

    session = requests.Session()
    session.mount("ftp://", Anything())
    response = pay_with(session, purse(rpc=False)).get("ftp://shop.test/")
    assert outcome_of(response) is None
    assert raise_for_payment(response) is response


# ---------------------------------------------------------------------------------------------------------- connections


def test_a_402_gives_its_connection_back(shop: str, seller: FakeSeller) -> None:
    """A pool of one that blocks: a 402 that was not given back would make the payment wait for its own connection."""
    inner = HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True)
    big = Reply(402, seller.challenge(Dialect.V2).headers, b"x" * MOST_BODY * 4)
    seller.script = lambda seen: None if seen.path != "/big" else seller._v2(seen, Dialect.V2) if seen.paid else big
    with paying(http=inner) as session:
        for path in ("/v2", "/token-priced", "/v2"):
            assert session.get(shop + path, timeout=5).status_code == 200
        pools = inner.poolmanager.pools
        assert [pools[key].num_connections for key in list(pools.keys())] == [1]  # and it is kept alive
        assert told(session.get(f"{shop}/big", timeout=5)).kind is PAID
        assert session.get(f"{shop}/free", timeout=5).status_code == 200


@pytest.mark.parametrize("size", [1000, MOST_BODY * 2])
def test_the_rest_of_a_page_given_up_cannot_be_taken_for_its_end(size: int) -> None:
    """After the connection was given back, what was read stays; reading on to what was not fails, loudly."""
    response = requests.Response()
    response.raw = urllib3.HTTPResponse(io.BytesIO(b"x" * size), status=402, preload_content=False)
    held = HeldBody(response)
    response.raw = held.wrapped()
    held.release()
    if size <= MOST_BODY:
        assert response.content == b"x" * size
    else:
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="given up"):
            _ = response.content
