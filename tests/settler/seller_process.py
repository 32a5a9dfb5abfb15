"""A seller to be killed: prints its URL, serves, settles, with a lease and a poll so short that its successor need not wait."""

from __future__ import annotations

import json
import socket
import sys

import uvicorn

from tests.shop import RELAYER_KEY, Api
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware
from x402bind.settler import Settler


def main() -> None:
    config = json.loads(sys.argv[1])
    seller = Seller(
        key=RELAYER_KEY,
        rpc={"base-sepolia": config["rpc"]},
        ledger=f"sqlite:{config['ledger']}",
        pay_to=config["pay_to"],
        token_key=b"k" * 32,
        url="http://127.0.0.1",
    )
    seller.settler = Settler(seller.ledger, seller.signer, seller.endpoints, seller.http, lease=300, poll=0.05, patience=20.0)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    app = PaymentMiddleware(Api(), seller, {"/paid": "$0.01", "/other": "$0.01"})
    uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none")).run(sockets=[listener])


if __name__ == "__main__":
    main()
