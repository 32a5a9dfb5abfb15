"""The permit-token dialect against x402-mock 0.1.1 itself, in a process of its own, without a network.

X402_MOCK_PYTHON is the path of a python that has it: ``python -m venv v && v/bin/pip install x402-mock==0.1.1``.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from x402core.events import Challenge, Eip2612Permit, Offer, Payment, Token
from x402core.registry import KNOWN
from x402core.values import Address, Amount, Millis, Seconds
from x402core.wire import permit_token
from x402core.wire.http import encode_402
from x402core.wire.json import dumps, loads

from . import samples

pytestmark = pytest.mark.peer

KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # x402.md section 6; the payer's
NOW = Millis(1_800_000_000_000)

# Runs over there: reads {"job": name, ...} and prints the answer as JSON.
SCRIPT = """
import asyncio, json, sys
from x402_mock.adapters.adapters_hub import AdapterHub
from x402_mock.adapters.evm.adapter import EVMAdapter
from x402_mock.engine.events import Dependencies, RequestInitEvent, VerifySuccessEvent
from x402_mock.adapters.evm.schemas import EVMVerificationResult, EIP2612Permit
from x402_mock.schemas.bases import VerificationStatus
from x402_mock.schemas.https import (
    ClientTokenRequest, Server402ResponsePayload, ServerTokenResponse
)
from x402_mock.schemas.versions import ProtocalVersion
from x402_mock.servers.flows import handle_request_init, handle_verify_success

job = json.load(sys.stdin)


async def nonce(self, *args, **kwargs):
    return job.get("nonce", 7)


EVMAdapter._get_on_chain_nonce = nonce  # the one thing signing asks a chain
hub = AdapterHub(evm_private_key=job["key"], rpc_url="http://127.0.0.1:9")
for chain, amount in job.get("methods", ()):
    hub.register_payment_methods(chain, amount, "USDC")
deps = Dependencies(adapters_hub=hub, token_key="secret", token_expires_in=300)


async def challenge():
    event = await handle_request_init(RequestInitEvent(token=job["token"], token_endpoint="/token"), deps)
    return event.model_dump(mode="json")


async def pay():
    payload = Server402ResponsePayload(**json.loads(job["body"]))
    permit = await hub.signature(payload.payment_scheme.payment_components)
    request = ClientTokenRequest(version=ProtocalVersion.Version0_1, permit=permit)
    created = [str(c.created_at.utcoffset()) for c in payload.payment_scheme.payment_components]
    return {"request": request.model_dump(mode="json"), "endpoint": payload.access_token_endpoint, "created": created}


async def take_permit():
    permit = ClientTokenRequest.model_validate(json.loads(job["body"])).permit
    permit.validate_structure()
    return permit.model_dump(mode="json")


async def recover():
    permit = ClientTokenRequest.model_validate(json.loads(job["body"])).permit
    return await hub._adapter_factories["evm"]._recover_signer_address(permit)


async def mint():
    result = EVMVerificationResult(status=VerificationStatus.SUCCESS, is_valid=True, message="")
    event = await handle_verify_success(VerifySuccessEvent(verification_result=result, permit=job["permit"]), deps)
    return event.token_response.model_dump(mode="json")


async def take_token():
    reply = ServerTokenResponse(**json.loads(job["body"]))
    return {"header": f"{reply.token_type} {reply.access_token}", "expires_in": reply.expires_in}


json.dump(asyncio.run(globals()[job["job"]]()), sys.stdout)
"""


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> str:
    path = os.environ.get("X402_MOCK_PYTHON")
    if path:
        return path
    why = "set X402_MOCK_PYTHON to the path of a python that has x402-mock 0.1.1"
    if "peer" in request.config.getoption("markexpr"):
        pytest.fail(why)
    pytest.skip(why)


def ask(python: str, job: str, **given: object) -> Any:
    done = subprocess.run(
        [python, "-c", SCRIPT],
        input=dumps({"job": job, "key": KEY, **given}),  # type: ignore[dict-item]
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def offer(amount: int) -> Offer:
    usdc = KNOWN.by_code("eip155:11155111", "usdc")
    return replace(samples.TOKEN_OFFER, asset=usdc.address, name=usdc.name, version=usdc.version, amount=Amount(amount))


def test_their_challenge_reads_as_it_was_meant(python: str) -> None:
    methods = [["eip155:1", Decimal("0.5")], ["eip155:11155111", Decimal("1.000001")]]
    body = ask(python, "challenge", methods=methods, token="Basic x")
    challenge = permit_token.decode_challenge(loads(json.dumps(body).encode()))
    assert challenge.error == "Invalid authorization header format"
    assert challenge.token_endpoint == "/token"
    assert challenge.skipped == ()
    assert [(one.network, one.amount, one.pay_to) for one in challenge.offers] == [
        ("eip155:1", 500000, samples.PAYER),
        ("eip155:11155111", 1000001, samples.PAYER),
    ]
    for one in challenge.offers:
        asset = KNOWN.asset(one.network, one.asset)
        assert asset is not None
        assert (one.decimals, one.name, one.version) == (asset.decimals, asset.name, asset.version)


@pytest.mark.parametrize("amount", [500000, 1, 1000000, 123456789012, 5 * 10**6 + 1])
def test_their_client_pays_our_challenge(python: str, amount: int) -> None:
    """A16, A19: an exact amount, whole or not, and an aware time are fine by its models."""
    challenge = Challenge((samples.V2_OFFER, offer(amount)), token_endpoint="/token", error="Missing authorization token")
    reply = encode_402(challenge, created_at=permit_token.timestamp(NOW))
    done = ask(python, "pay", body=reply.body.decode(), methods=[["eip155:11155111", Decimal(10**9) + Decimal("0.5")]])
    assert done["endpoint"] == "/token"
    assert done["created"] == ["0:00:00"]
    payment = permit_token.decode_token_request(json.dumps(done["request"]).encode())
    permit = payment.permit
    assert isinstance(permit, Eip2612Permit)
    assert (permit.network, permit.asset, permit.amount) == (samples.SEPOLIA, samples.SEPOLIA_USDC, amount)
    assert (permit.payer, permit.spender, permit.nonce) == (samples.PAYER, samples.PAY_TO, 7)
    assert payment.accepted is None
    # and back again: their own verifier recovers the payer from our spelling of the same permit
    body = permit_token.encode_token_request(permit, created_at=permit_token.timestamp(NOW))
    assert ask(python, "recover", body=body.decode()).lower() == samples.PAYER


def test_their_client_permits_our_spender(python: str) -> None:
    spender = Address("0x" + "5e" * 20)
    challenge = Challenge((replace(offer(500000), spender=spender),), token_endpoint="/token")
    reply = encode_402(challenge, created_at=permit_token.timestamp(NOW))
    done = ask(python, "pay", body=reply.body.decode(), methods=[["eip155:11155111", Decimal("0.5")]])
    assert permit_token.decode_token_request(json.dumps(done["request"]).encode()).permit == Eip2612Permit(
        network=samples.SEPOLIA,
        asset=samples.SEPOLIA_USDC,
        payer=samples.PAYER,
        spender=spender,
        amount=Amount(500000),
        nonce=7,
        deadline=Seconds(done["request"]["permit"]["deadline"]),
        signature=_vrs(done["request"]["permit"]["signature"]),
    )


def _vrs(signature: dict[str, Any]) -> bytes:
    return bytes.fromhex(signature["r"][2:] + signature["s"][2:]) + bytes((signature["v"],))


def test_a_largest_permit_travels(python: str) -> None:
    permit = replace(samples.PERMIT_2612, amount=Amount(2**256 - 1), nonce=2**200, deadline=Seconds(2**256 - 1))
    body = permit_token.encode_token_request(permit, created_at=permit_token.timestamp(NOW))
    taken = ask(python, "take_permit", body=body.decode())
    assert (taken["value"], taken["nonce"], taken["deadline"]) == (2**256 - 1, 2**200, 2**256 - 1)
    assert (taken["owner"].lower(), taken["chain_id"]) == (samples.PAYER, 11155111)
    assert permit_token.decode_token_request(body) == Payment(permit)


def test_their_token_is_read(python: str) -> None:
    permit = json.loads(permit_token.encode_token_request(samples.PERMIT_2612, created_at=samples.CREATED_AT))["permit"]
    body = ask(python, "mint", permit=permit)
    token = permit_token.decode_token_reply(200, json.dumps(body).encode(), Seconds(1_800_000_000))
    assert (token.value, token.expires_at) == (body["access_token"], 1_800_000_300)


def test_our_token_is_read(python: str) -> None:
    token = Token("k1.abc_-~", Seconds(1_800_000_300))
    reply = permit_token.encode_token_reply(token, Seconds(1_800_000_000), {"payment": "x"})
    taken = ask(python, "take_token", body=reply.body.decode())
    assert taken == {"header": "Bearer k1.abc_-~", "expires_in": 300}
