"""Run by the official SDK's own python for ``servers.py``: a FastAPI application, bare or behind its released middleware.

    official_app.py PORT bare|after|before [signer]

Its facilitator is in process, its signatures are real; web3 talks to the chain in memory in place of a node.  With ``signer``
the SDK's signer talks to it directly: no web3, and no transaction is ever encoded or signed.
"""

import asyncio
import sys
import time

import uvicorn
from eth_utils import keccak
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from stub_chain import Bench, Reverted, StubChain

KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"  # a development account
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
NETWORK = "eip155:84532"


def application(mode, shallow):
    """Return the application measured."""
    app, bench = FastAPI(), Bench(StubChain(keccak))

    @app.get("/free")
    async def free() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/bench")
    async def asked(request: Request):
        return bench.ask(request.query_params)

    if mode != "bare":
        app.middleware("http")(middleware(bench.chain, mode, shallow))  # built once: its docstring builds it for every request

    @app.get("/paid")
    async def paid() -> dict[str, str]:
        bench.served += 1
        return {"hello": "payer"}

    @app.get("/stream")
    async def stream():
        bench.served += 1
        return StreamingResponse(pieces(), media_type="text/plain")

    return app


async def pieces():
    """A second of streaming."""
    for number in range(10):
        yield f"piece {number}\n"
        await asyncio.sleep(0.1)


def middleware(chain, mode, shallow):
    from web3.providers import BaseProvider
    from x402 import x402Facilitator, x402ResourceServer
    from x402.http import PaymentOption, RouteConfig
    from x402.http.middleware.fastapi import payment_middleware
    from x402.mechanisms.evm.exact import register_exact_evm_facilitator
    from x402.mechanisms.evm.exact.server import ExactEvmScheme
    from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
    from x402.mechanisms.evm.types import TransactionReceipt

    class Stub(BaseProvider):
        def make_request(self, method, params):
            chain.requests += 1
            if chain.delay:
                time.sleep(chain.delay)  # a node's answer, awaited as its HTTPProvider does: in the calling thread
            try:
                return {"jsonrpc": "2.0", "id": 1, "result": chain.answer(method, params, time.time())}
            except Reverted as why:
                return {"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": f"execution reverted: {why}", "data": "0x"}}

    class Direct(FacilitatorWeb3Signer):
        def get_code(self, address):
            self.asked()
            return bytes.fromhex(chain.answer("eth_getCode", [address], time.time())[2:])

        def read_contract(self, address, abi, function_name, *args):
            self.asked()
            assert function_name == "transferWithAuthorization", function_name
            chain.asked["read_contract"] += 1
            if word(args[0]) + args[5].hex() in chain.used:
                raise Reverted("authorization is used")

        def write_contract(self, address, abi, function_name, *args, data_suffix=None):
            self.asked()
            chain.asked["write_contract"] += 1
            name = f"0x{chain.sent + 1:064x}"
            chain.execute(name, (word(args[0]), word(args[1]), f"{args[2]:064x}", args[5].hex()), time.time())
            return name

        def wait_for_transaction_receipt(self, tx_hash):
            self.asked()
            found = chain.answer("eth_getTransactionReceipt", [tx_hash], time.time())
            return TransactionReceipt(int(found["status"], 16), int(found["blockNumber"], 16), tx_hash, found["logs"])

        def asked(self):
            chain.requests += 1
            if chain.delay:
                time.sleep(chain.delay)

    signer = (Direct if shallow else FacilitatorWeb3Signer)(KEY, "http://stub.invalid")
    signer._w3.provider = Stub()
    facilitator = x402Facilitator()
    register_exact_evm_facilitator(facilitator, signer, NETWORK)
    server = x402ResourceServer(facilitator)
    server.register(NETWORK, ExactEvmScheme())
    extra = {"paymentFlow": "upfront"} if mode == "before" else None
    option = PaymentOption(scheme="exact", pay_to=PAY_TO, price="$0.01", network=NETWORK, extra=extra)
    return payment_middleware({"GET /paid": RouteConfig(accepts=option), "GET /stream": RouteConfig(accepts=option)}, server)


def word(address):
    """Return an address as 64 hex digits."""
    return address[2:].lower().zfill(64)


if __name__ == "__main__":
    port, mode, *rest = sys.argv[1:]
    how = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    uvicorn.run(application(mode, rest == ["signer"]), host="127.0.0.1", port=int(port), **how)
