"""Run by the official SDK's own python: buy one resource with its released client; print what came as one JSON line.

    official_client.py URL KEY httpx|requests [1|2] [--rpc URL] [--method eip3009|permit2|upto] [--verb GET]

Without any of these it reads them from standard input, as a JSON list on each line, and answers line by line: importing the
SDK takes longer than buying.
Without a version the client is set up for both.  ``--rpc`` lets it read the chain, which it needs to sign EIP-2612 permits and
approvals; ``--method`` is its own policy hook, for a 402 that offers several.  What it refuses to pay is told as ``error``.
"""

import argparse
import asyncio
import base64
import json
import sys

import httpx
import requests
from eth_account import Account
from x402 import x402Client, x402ClientSync
from x402.http.clients.httpx import x402AsyncTransport
from x402.http.clients.requests import x402HTTPAdapter
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.exact.v1.client import ExactEvmSchemeV1
from x402.mechanisms.evm.signers import EthAccountSigner, EthAccountSignerWithRPC
from x402.mechanisms.evm.upto.client import UptoEvmScheme
from x402.mechanisms.evm.v1.constants import V1_NETWORKS

RECEIPTS = ("payment-response", "x-payment-response")
PAYMENTS = ("payment-signature", "x-payment")


def arguments(words):
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("kind", choices=("httpx", "requests"))
    parser.add_argument("version", nargs="?", type=int, choices=(1, 2))
    parser.add_argument("--rpc")
    parser.add_argument("--method", choices=("eip3009", "permit2", "upto"))
    parser.add_argument("--verb", default="GET")
    return parser.parse_args(words)


def method_of(requirements):
    """Name the way of paying that an entry of ``accepts`` asks for."""
    if requirements.scheme == "upto":
        return "upto"
    return (requirements.get_extra() or {}).get("assetTransferMethod", "eip3009")


def set_up(client, asked):
    """Register every scheme of the wanted versions, without caps: what a test pays is the test's to say."""
    account = Account.from_key(asked.key)
    signer = EthAccountSignerWithRPC(account, asked.rpc) if asked.rpc else EthAccountSigner(account)
    if asked.version in (None, 2):
        client.register("eip155:*", ExactEvmScheme(signer))
        client.register("eip155:*", UptoEvmScheme(signer))
    if asked.version in (None, 1):
        for name in V1_NETWORKS:
            client.register_v1(name, ExactEvmSchemeV1(signer))
    client.set_spend_controls(False)
    if asked.method:
        client.register_policy(lambda version, entries: [entry for entry in entries if method_of(entry) == asked.method])
    return client


class Recorder(httpx.AsyncHTTPTransport):
    """The ordinary transport, below the paying one, remembering what passed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        await response.aread()
        self.seen.append((dict(request.headers), response.status_code, dict(response.headers), response.text))
        return response


class RecordingAdapter(x402HTTPAdapter):
    """The paying adapter, remembering what its own base sends."""

    def __init__(self, client):
        super().__init__(client)
        self.seen = []

    def build_response(self, request, raw):
        response = super().build_response(request, raw)
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer = {name.lower(): value for name, value in response.headers.items()}
        self.seen.append((headers, response.status_code, answer, response.text))
        return response


def with_httpx(asked):
    recorder = Recorder()

    async def buy():
        paying = x402AsyncTransport(set_up(x402Client(), asked), recorder)
        async with httpx.AsyncClient(transport=paying, timeout=60) as client:
            await client.request(asked.verb, asked.url)

    return recorder, lambda: asyncio.run(buy())


def with_requests(asked):
    adapter = RecordingAdapter(set_up(x402ClientSync(), asked))
    session = requests.Session()
    session.mount("http://", adapter)
    return adapter, lambda: session.request(asked.verb, asked.url, timeout=60)


def decoded(headers, names):
    """Return the first of the headers that is there and what it carries."""
    for name in names:
        if name in headers:
            return {"header": name, "value": json.loads(base64.b64decode(headers[name]))}
    return None


def told(recorder, error):
    """Return all there is to say about a purchase: the last answer, and what was demanded and sent on the way."""
    line = {"error": error, "status": None, "body": None, "receipt": None, "sent": None, "required": None}
    line["requests"] = len(recorder.seen)
    if recorder.seen:
        _, status, headers, body = recorder.seen[-1]
        line |= {"status": status, "body": body, "headers": headers, "receipt": decoded(headers, RECEIPTS)}
    for sent, status, headers, body in recorder.seen:
        line["sent"] = decoded(sent, PAYMENTS) or line["sent"]
        if status == 402 and line["required"] is None:
            line["required"] = decoded(headers, ("payment-required",)) or {"header": None, "value": json.loads(body or "null")}
    return line


def main(words):
    asked = arguments(words)
    recorder, buy = {"httpx": with_httpx, "requests": with_requests}[asked.kind](asked)
    error = None
    try:
        buy()
    except Exception as failure:  # noqa: BLE001 - whatever it raises is what is told
        error = f"{type(failure).__name__}: {failure}"
    sys.stdout.write(json.dumps(told(recorder, error)) + "\n")
    sys.stdout.flush()


if sys.argv[1:]:
    main(sys.argv[1:])
else:
    for line in sys.stdin:
        main(json.loads(line))
