"""A seller without a key, to be killed: prints its URL, serves, settles through a facilitator, with a short lease and poll."""

from __future__ import annotations

import json
import socket
import sys

import uvicorn

from tests.shop import Api
from x402bind.seller import Seller
from x402bind.servers.asgi import PaymentMiddleware


def main() -> None:
    config = json.loads(sys.argv[1])
    seller = Seller(
        facilitator=config["facilitator"],
        networks=["base-sepolia"],
        ledger=f"sqlite:{config['ledger']}",
        pay_to=config["pay_to"],
        settle=config["settle"],
        url="http://127.0.0.1",
        patience=20.0,
    )
    seller.settler.lease, seller.settler.poll = 300, 0.05
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    app = PaymentMiddleware(Api(), seller, {"/paid": "$0.01"})
    uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none")).run(sockets=[listener])


if __name__ == "__main__":
    main()
