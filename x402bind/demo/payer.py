"""The demo's payer: an httpx client with a purse, in a process of its own.

It reads its configuration from standard input and writes, one JSON document a line, what went over the wire and what came
of it.  The private key stays in this process: the seller and the node never see it.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from x402bind.chain.signers import PrivateKeySigner
from x402bind.clients.httpx import PaymentTransport
from x402bind.clients.purse import Purse
from x402bind.demo.node import demo_registry
from x402core.commands import ApprovePayment, Outcome
from x402core.events import Dialect
from x402core.evm.address import checksum
from x402core.policy import PayerPolicy
from x402core.values import Address, Network
from x402core.wire.v2 import PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE

__all__ = ["main"]

MOST = "$0.05"
_SHOWN = (PAYMENT_REQUIRED, PAYMENT_SIGNATURE, PAYMENT_RESPONSE)


def tell(event: str, **facts: object) -> None:
    """Write one line of the transcript."""
    sys.stdout.write(json.dumps({"event": event, **facts}, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class Wire(httpx.BaseTransport):
    """The ordinary transport, writing down what passes: it stands below the paying one, so it sees everything."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass one request on."""
        request.read()
        began = time.perf_counter()
        response = self._inner.handle_request(request)
        response.read()
        self.sent.append(request)
        tell(
            "http",
            method=request.method,
            path=request.url.raw_path.decode(),
            status=response.status_code,
            ms=round(1000 * (time.perf_counter() - began), 1),
            authorized="authorization" in request.headers,
            headers={
                name: _decoded(message.headers[name])
                for message in (request, response)
                for name in _SHOWN
                if name in message.headers
            },
            request=_json(request.content),
            response=_json(response.content),
        )
        return response

    def close(self) -> None:
        """Close the connection pool."""
        self._inner.close()


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _decoded(header: str) -> object:
    return _json(base64.b64decode(header))


def _outcome(outcome: Outcome) -> dict[str, object]:
    receipt, refusal = outcome.receipt, outcome.refusal
    return {
        "kind": outcome.kind.value,
        "amount": outcome.amount,
        "transaction": None if receipt is None else receipt.transaction,
        "refusal": None if refusal is None else f"{refusal.reason}: {refusal.detail}",
    }


def pay(config: Mapping[str, Any], dialect: Dialect) -> None:
    """Buy the resource once in one dialect, then present the very same payment again."""
    network = Network(config["network"])
    policy = PayerPolicy.up_to(MOST, network, registry=demo_registry(network, Address(config["asset"])))
    seen: list[Outcome] = []

    def approve(command: ApprovePayment) -> bool:
        offer = command.offer
        tell("chosen", dialect=offer.dialect, method=offer.method, amount=offer.amount, pay_to=checksum(offer.pay_to))
        return True

    purse = Purse(
        PrivateKeySigner(config["key"]),
        replace(policy, dialects=(dialect,)),
        rpc={network: config["rpc"]},
        approve=approve,
        on_outcome=seen.append,
    )
    wire = Wire()
    with httpx.Client(transport=PaymentTransport(wire, purse)) as client:
        tell("flow", dialect=dialect)
        began = time.perf_counter()
        response = client.get(config["url"])
        tell(
            "done", status=response.status_code, ms=round(1000 * (time.perf_counter() - began), 1), body=_json(response.content)
        )
        tell("outcome", **_outcome(seen[-1]))
        sys.stdin.readline()  # the narrator looks at the chain, then says to go on
        _replay(wire, dialect, response)


def _replay(wire: Wire, dialect: Dialect, first: httpx.Response) -> None:
    """Send what carried the payment once more, byte for byte, without a purse."""
    carried = [r for r in wire.sent if r.method == "POST" or PAYMENT_SIGNATURE in r.headers][-1]
    original = json.loads(first.content) if dialect is Dialect.V2 else None
    with httpx.Client() as plain:
        again = plain.send(httpx.Request(carried.method, carried.url, headers=carried.headers, content=carried.content))
    body = again.json()
    if dialect is Dialect.V2:
        same = body == original and again.headers.get(PAYMENT_RESPONSE) == first.headers.get(PAYMENT_RESPONSE)
    else:
        token = body.get("access_token")
        same = any(r.headers.get("authorization") == f"Bearer {token}" for r in wire.sent)
    tell("replay", status=again.status_code, same_answer=same)


def main() -> int:
    """Pay twice, in two dialects."""
    config = json.loads(sys.stdin.readline())
    for dialect in (Dialect.PERMIT_TOKEN, Dialect.V2):
        pay(config, dialect)
        sys.stdin.readline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
