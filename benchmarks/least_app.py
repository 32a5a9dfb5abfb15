"""The least that a payment takes: one straight function, for ``servers.py`` to compare with.

It reads the payment, recovers its signer, asks the stub chain what we ask it, signs and sends the transaction, reads its
receipt and answers.  It has no ledger, no journal, no state machine and no way to fail: what it is asked twice it does twice,
and of whatever goes wrong on its way it forgets the money.  What lies between it and us is what those cost.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from our_app import KEY, PAY_TO
from stub_chain import CHAIN, NAME, TOKEN, VERSION, Bench, StubChain

from x402core.evm import digests
from x402core.evm.address import checksum
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import recover, signer
from x402core.evm.transaction import Transaction
from x402core.values import Address, Hash32

ASSET = Address("0x" + TOKEN)
DOMAIN = digests.domain(NAME, VERSION, CHAIN, ASSET)
OFFER = {
    "scheme": "exact",
    "network": f"eip155:{CHAIN}",
    "amount": "10000",
    "asset": checksum(ASSET),
    "payTo": PAY_TO,
    "maxTimeoutSeconds": 300,
    "extra": {"name": NAME, "version": VERSION},
}
ASKED = {"x402Version": 2, "error": "Payment required", "resource": {"url": "/paid"}, "accepts": [OFFER]}


def encoded(document: Any) -> str:
    """Return a document as a header has it."""
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


def application() -> FastAPI:
    """Return the application measured."""
    app, bench, sign, sent = FastAPI(), Bench(StubChain(keccak)), signer(KEY), 0

    async def rpc(*calls: tuple[str, list[Any]]) -> list[Any]:
        asked = [{"jsonrpc": "2.0", "id": at, "method": method, "params": each} for at, (method, each) in enumerate(calls)]
        if bench.chain.delay:
            await asyncio.sleep(bench.chain.delay)
        return [each["result"] for each in json.loads(bench.chain.answer_document(json.dumps(asked).encode()))]

    @app.get("/free")
    async def free() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/bench")
    async def asked(request: Request) -> dict[str, Any]:
        return bench.ask(request.query_params)

    @app.get("/paid")
    async def paid(request: Request) -> JSONResponse:
        nonlocal sent
        header = request.headers.get("payment-signature")
        if header is None:
            return JSONResponse({}, 402, {"PAYMENT-REQUIRED": encoded(ASKED)})
        payment = json.loads(binascii.a2b_base64(header))
        said, signature = payment["payload"]["authorization"], bytes.fromhex(payment["payload"]["signature"][2:])
        payer, pay_to, nonce = Address(said["from"].lower()), Address(said["to"].lower()), Hash32(said["nonce"])
        numbers = [int(said[name]) for name in ("value", "validAfter", "validBefore")]
        digest = digests.transfer_authorization_digest(DOMAIN, payer, pay_to, numbers[0], numbers[1], numbers[2], nonce)
        assert payment["accepted"] == OFFER
        assert recover(digest, signature) == payer
        words = [payer[2:].zfill(64), pay_to[2:].zfill(64), *(f"{each:064x}" for each in numbers), nonce[2:]]
        data = "0xe3ee160e" + "".join(words) + f"{signature[64]:064x}{signature[:64].hex()}"
        views = ("0x70a08231" + words[0], "0xe94a0102" + words[0] + words[5], data)
        reads = [("eth_call", [{"to": ASSET, "data": each}, "latest"]) for each in views]
        _, balance, used, _ = await rpc(("eth_blockNumber", []), *reads)
        assert int(balance, 16) >= numbers[0]
        assert not int(used, 16)
        transaction = Transaction(CHAIN, sent, 10**6, 3 * 10**6, 100_000, ASSET, 0, bytes.fromhex(data[2:]))
        sent += 1
        raw = transaction.sign_with(sign(transaction.signing_hash()))
        (name,) = await rpc(("eth_sendRawTransaction", ["0x" + raw.hex()]))
        _, receipt = await rpc(("eth_blockNumber", []), ("eth_getTransactionReceipt", [name]))
        assert receipt["status"] == "0x1"
        bench.served += 1
        settled = {"success": True, "transaction": name, "network": OFFER["network"], "payer": payer}
        return JSONResponse({"hello": "payer"}, headers={"PAYMENT-RESPONSE": encoded(settled)})

    return app


if __name__ == "__main__":
    how: Any = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    uvicorn.run(application(), host="127.0.0.1", port=int(sys.argv[1]), **how)
