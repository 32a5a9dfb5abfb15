"""The facilitator's paths, methods, tokens and bodies: what is answered before any payment is looked at, and how it feels."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.facilitator.desk import Desk, Sale
from tests.shop import NETWORK, Ground
from x402bind.chain.transports import SyncHttp
from x402bind.drive import dispatch, run
from x402bind.facilitator.app import FacilitatorApp
from x402bind.translate.facilitator import RemoteFacilitator, supported
from x402core.errors import LocalProtocolError
from x402core.wire.builder_code import Codes, parse_suffix


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    return response.json()  # type: ignore[no-any-return]


# ----------------------------------------------------------------------------------------------------- paths and methods


@pytest.mark.parametrize("path", ["/", "/settle/x", "/verify2", "/.env", "//settle"])
def test_no_such_path(desk: Desk, path: str) -> None:
    problem(desk.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/settle", "POST"),
        ("PUT", "/verify", "POST"),
        ("HEAD", "/verify", "POST"),
        ("POST", "/supported", "GET"),
        ("DELETE", "/discovery/resources", "GET"),
    ],
)
def test_no_such_method(desk: Desk, method: str, path: str, allowed: str) -> None:
    response = httpx.request(method, desk.url + path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/supported", "/health", "/metrics", "/discovery/resources", "/discovery/search?query=a"])
def test_head_says_what_get_says_without_a_body(desk: Desk, path: str) -> None:
    asked, head = desk.get(path), httpx.head(desk.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == asked.headers["content-type"]
    assert (head.headers["content-length"] == asked.headers["content-length"]) or path == "/metrics"


def test_a_slash_at_the_end_changes_nothing(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    assert _json(desk.post("/verify/", sale.body))["isValid"] is True
    assert _json(desk.post("/settle/", sale.body))["success"] is True
    assert desk.get("/supported/").status_code == 200


# ---------------------------------------------------------------------------------------------------------------- tokens


def test_only_customers_are_answered(ground: Ground, tmp_path: Path) -> None:
    sale = Sale(ground)
    with Desk(ground, tmp_path, app={"tokens": ("first-customer", "second-customer")}) as desk:
        for headers in ({}, {"Authorization": "Bearer nobody"}, {"Authorization": "Basic first-customer"}):
            for path in ("/verify", "/settle"):
                response = desk.post(path, sale.body, headers=headers)
                assert problem(response, 401)["source"] == "Authorization"
                assert response.headers["www-authenticate"] == "Bearer"
        prefix = desk.post("/settle", sale.body, headers={"Authorization": "Bearer first-custome"})
        assert prefix.status_code == 401
        twice = [("Authorization", "Bearer first-customer"), ("Authorization", "Bearer second-customer")]
        assert problem(desk.post("/settle", sale.body, headers=twice), 400)["source"] == "Authorization"
        assert desk.sent == 0
        assert desk.get("/supported").status_code == desk.get("/health").status_code == 200
        told = [desk.settle(sale.body, headers={"Authorization": f"bearer {name}-customer"}) for name in ("first", "second")]
        assert [each["success"] for each in told] == [True, True]
        assert desk.outcomes()["/settle unauthorized"] == 4


@pytest.mark.parametrize("token", ["", "clé"])
def test_a_token_that_no_header_can_carry(token: str, desk: Desk) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        FacilitatorApp(desk.facilitator, tokens=(token,))
    assert caught.value.field == "tokens"


# ---------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("path", ["/verify", "/settle"])
def test_hostile_bodies_are_told_what_is_wrong_with_them(desk: Desk, ground: Ground, path: str) -> None:
    good = Sale(ground).body

    def without(*names: str) -> dict[str, Any]:
        body = json.loads(json.dumps(good))
        at = body
        for name in names[:-1]:
            at = at[name]
        del at[names[-1]]
        return body  # type: ignore[no-any-return]

    twice = json.dumps(good).replace('"x402Version": 2', '"x402Version": 2, "x402Version": 2', 1).encode()
    for body, pointer in (
        (b"", ""),
        (b"\xff\xfe", ""),
        (b"[]", ""),
        (b"[" * 100_00, ""),
        (twice, "/x402Version"),
        ({**good, "x402Version": "2"}, "/x402Version"),
        ({**good, "x402Version": 3}, "/x402Version"),
        ({**good, "x402Version": 1}, "/paymentPayload/x402Version"),
        (without("paymentPayload"), "/paymentPayload"),
        (without("paymentRequirements"), "/paymentRequirements"),
        (without("paymentRequirements", "payTo"), "/paymentRequirements/payTo"),
        (without("paymentPayload", "payload", "authorization", "nonce"), "/paymentPayload/payload/authorization/nonce"),
        (without("paymentPayload", "payload", "signature"), "/paymentPayload/payload/signature"),
    ):
        document = problem(desk.post(path, body), 400)
        assert document["source"] == "body", document
        assert document.get("pointer", "") == pointer, (body, document)
    assert desk.sent == 0
    assert desk.outcomes()[f"{path} malformed"] == 13


def test_a_body_too_large_is_not_read_to_its_end(ground: Ground, tmp_path: Path) -> None:
    with Desk(ground, tmp_path, app={"body_most": 10_000}) as desk:
        assert problem(desk.post("/settle", b" " * 10_001), 413)["source"] == "body"
        connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=10)
        connection.putrequest("POST", "/settle")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"2711\r\n" + b" " * 10_001 + b"\r\n")  # and no end
        assert connection.getresponse().status == 413
        connection.close()
        assert desk.outcomes() == {"/settle too_large": 2}


# ------------------------------------------------------------------------------------------------- what it says of itself


def test_our_own_client_reads_what_is_supported(desk: Desk) -> None:
    with SyncHttp() as http:
        said = run(supported(RemoteFacilitator(desk.url)), dispatch(http.table))
    assert said.takes("exact", NETWORK)
    assert said.takes("upto", NETWORK)
    assert said.facilitator(NETWORK) == desk.account
    assert {(kind.version, kind.network) for kind in said.kinds} == {(1, "base-sepolia"), (2, NETWORK)}
    assert [each.lower() for each in said.signers["eip155:*"]] == [desk.account]
    assert {"eip2612GasSponsoring", "bazaar", "builder-code"} <= set(said.extensions)


def test_metrics_in_the_text_format(desk: Desk, ground: Ground) -> None:
    sale = Sale(ground)
    desk.verify(sale.body)
    desk.settle(sale.body)
    desk.settle(sale.body)
    desk.settle(Sale(ground, payer=ground.payer(0)).body)
    response = desk.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.text.endswith("\n")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    assert all(len(line.rsplit(" ", 1)) == 2 and float(line.rsplit(" ", 1)[1]) >= 0 for line in lines)
    assert 'x402_request_seconds_count{path="/settle"} 3' in lines
    assert 'x402_request_seconds_bucket{path="/settle",le="+Inf"} 3' in lines
    assert "x402_requests_open 1" in lines  # this one
    assert desk.outcomes() == {"/verify verified": 1, "/settle settled": 1, "/settle stored": 1, "/settle refused": 1}


def test_health_is_503_while_nobody_settles(desk: Desk) -> None:
    assert _json(desk.get("/health")) == {"status": "ok"}
    tasks, desk.facilitator.settler._tasks = desk.facilitator.settler._tasks, None
    assert desk.get("/health").status_code == 503
    desk.facilitator.settler._tasks = tasks
    assert desk.get("/health").status_code == 200
    desk.facilitator.ledger.close()
    assert desk.get("/health").status_code == 503


def test_our_codes_stand_behind_the_calldata(ground: Ground, tmp_path: Path) -> None:
    sale = Sale(ground)
    with Desk(ground, tmp_path, code="our_desk", service="our_service") as desk:
        body = sale.body
        seller = {"info": {"a": "the_seller", "s": ["an_agent"]}, "schema": {"type": "object"}}
        body["paymentPayload"]["extensions"] = {"builder-code": seller}
        told = desk.settle(body)
    calldata = bytes.fromhex(ground.rpc("eth_getTransactionByHash", told["transaction"])["input"][2:])
    assert parse_suffix(calldata) == Codes("the_seller", "our_desk", ("an_agent", "our_service"))
    assert ground.calls((told["transaction"],)) == ("transferWithAuthorization",)


@pytest.mark.parametrize("name", ["code", "service"])
def test_a_code_that_cannot_be_written_is_refused_at_start_up(ground: Ground, tmp_path: Path, name: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Desk(ground, tmp_path, **{name: "Not A Code"})
    assert caught.value.field == name


def _json(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]
