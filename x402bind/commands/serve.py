"""``x402 serve``: put a price in front of any HTTP service, or of an echo at every path."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from x402core.errors import LocalProtocolError

from . import MISUSE, Subparsers
from .keys import add_key, read_key
from .listening import add_listening, listen, nodes_of

__all__ = ["add", "run"]


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "serve",
        help="put a price in front of an HTTP service",
        description="Sell every path of a service (or of an echo) at one price, to x402 v2 and v1 clients.",
    )
    put = parser.add_argument
    put("--price", required=True, metavar="PRICE", help="what a request costs, such as '$0.01'")
    put("--network", action="append", required=True, metavar="NAME", help="a network to be paid on; repeat it for others")
    put("--pay-to", metavar="ADDRESS", help="who is paid (default, with --key: that account)")
    put("--asset", metavar="ADDRESS", help="the token to be paid in, one that is known here (default: what the price means)")
    put("--proxy", metavar="URL", help="the service to sell (default: an echo of the request)")
    put("--facilitator", action="append", default=[], metavar="URL", help="have this facilitator settle; repeat it for others")
    put("--rpc", action="append", default=[], metavar="[NETWORK=]URL", help="a node; with --key to settle, else to prove")
    add_key(parser, whose="with --rpc and no --facilitator: the account that settles and pays for the gas")
    put("--settle", choices=("after", "before"), default="after", help="when money moves (default: %(default)s the answer)")
    put("--free", action="append", default=[], metavar="PATH", help="a path that costs nothing; repeat it for others")
    put("--url", default="", help="the public base URL, as payers see it")
    add_listening(parser, 4021)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    try:
        app = _app(options)
    except ImportError as error:
        sys.stderr.write(f"x402 serve: {error.name} is not installed: pip install 'x402core[demo]'\n")
        return MISUSE
    except LocalProtocolError as error:
        sys.stderr.write(f"x402 serve: {error}\n")
        return MISUSE
    return listen(app, options.host, options.port, "serve")


def _app(options: argparse.Namespace) -> Any:
    from x402bind.seller import Seller
    from x402bind.servers.asgi import PaymentMiddleware
    from x402bind.servers.proxy import Proxy, echo
    from x402core.money import AssetAmount, atomic
    from x402core.registry import KNOWN
    from x402core.values import local, parse_address

    only = options.network[0] if len(options.network) == 1 else None
    rpc = nodes_of(options.rpc, only)
    if not options.facilitator and not rpc:
        raise LocalProtocolError("who settles? give --facilitator URL, or --rpc URL and --key KEY", field="rpc")
    seller = Seller(
        key=None if options.facilitator else read_key(options.key),
        facilitator=tuple(options.facilitator) or None,
        networks=tuple(options.network),
        rpc=rpc,
        ledger=options.ledger,
        pay_to=options.pay_to,
        settle=options.settle,
        url=options.url,
    )
    price: Any = options.price
    if options.asset is not None:
        if only is None:
            raise LocalProtocolError("a token is of one network: give one --network", field="asset")
        network = KNOWN.resolve(only)
        asset = KNOWN.asset(network, local(parse_address, options.asset, "asset"))
        if asset is None:
            raise LocalProtocolError(f"not a token known here on {network}", field="asset")
        registry = KNOWN.with_asset(asset, default=True, default_for_symbol=bool(asset.symbol))
        amount, _ = atomic(options.price, network, registry)
        price = AssetAmount(amount, asset.address)
    behind = echo if options.proxy is None else Proxy(options.proxy)
    middleware = PaymentMiddleware(behind, seller, {}, default=price, free=tuple(options.free))
    return _closing(middleware, behind) if isinstance(behind, Proxy) else middleware


def _closing(app: Any, proxy: Any) -> Any:
    """Let the proxy's connections go with the lifespan."""

    @asynccontextmanager
    async def closed() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await proxy.aclose()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        async with closed():
            await app(scope, receive, send)

    return serve
