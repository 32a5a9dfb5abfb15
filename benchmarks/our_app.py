"""Run by our python for ``servers.py``: a FastAPI application, bare or with our price on it, its chain in memory.

our_app.py PORT bare|after|before LEDGER [LOOK_FIRST_MILLIS]
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from stub_chain import Bench, StubChain

from x402core.evm.keccak import keccak

KEY = bytes.fromhex("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6")  # a development account
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"


def application(mode: str, ledger: str, look_first: int) -> FastAPI:
    """Return the application measured."""
    app, bench = FastAPI(), Bench(StubChain(keccak))

    @app.get("/free")
    async def free() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/bench")
    async def asked(request: Request) -> dict[str, Any]:
        return bench.ask(request.query_params)

    priced: Any = _as_it_is if mode == "bare" else _payments(app, bench.chain, mode, ledger, look_first).required("$0.01")

    @app.get("/paid")
    @priced
    async def paid() -> dict[str, str]:
        bench.served += 1
        return {"hello": "payer"}

    @app.get("/stream")
    @priced
    async def stream() -> StreamingResponse:
        bench.served += 1
        return StreamingResponse(pieces(), media_type="text/plain")

    return app


def _as_it_is(endpoint: Any) -> Any:
    return endpoint


async def pieces() -> Any:
    """A second of streaming."""
    for number in range(10):
        yield f"piece {number}\n"
        await asyncio.sleep(0.1)


def _payments(app: FastAPI, chain: StubChain, mode: str, ledger: str, look_first: int) -> Any:
    from x402bind.chain.transports import AsyncHttp
    from x402bind.leaves import HttpCall, HttpReply
    from x402bind.seller import Seller
    from x402bind.servers.fastapi import Payments
    from x402core.machines.settlement import SettlementPolicy
    from x402core.values import Millis

    async def call(_self: AsyncHttp, command: HttpCall) -> HttpReply:
        if chain.delay:
            await asyncio.sleep(chain.delay)
        return HttpReply(200, (), chain.answer_document(command.body))

    AsyncHttp.call = call  # type: ignore[method-assign]
    book: Any = ledger
    if ledger.startswith("inline:"):  # for a profile, which sees only the event loop's thread
        from x402bind.ledger import open_ledger

        book = open_ledger(ledger.removeprefix("inline:"))
        book.__class__ = type("Inline", (type(book),), {"blocking": False})
    policy = SettlementPolicy(look_first=Millis(look_first)) if look_first else None
    rpc = {"base-sepolia": "http://stub.invalid"}
    return Payments(app, Seller(key=KEY, rpc=rpc, ledger=book, pay_to=PAY_TO, settle=mode, settlement=policy))


if __name__ == "__main__":
    port, mode, ledger, *rest = sys.argv[1:]
    app = application(mode, ledger, int(rest[0]) if rest else 0)
    how: Any = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    uvicorn.run(app, host="127.0.0.1", port=int(port), **how)
