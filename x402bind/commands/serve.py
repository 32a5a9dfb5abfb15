"""``x402 serve``: put a price in front of any HTTP service, or of an echo at every path."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from x402core.errors import LocalProtocolError
from x402core.registry import KNOWN, Asset, Registry
from x402core.values import Address, Network, local, parse_address

from . import Subparsers, need, price
from .keys import add_key, read_key
from .listening import (
    EXIT_CODES,
    LOOPBACK,
    SERVING,
    add_listening,
    authority,
    check_listening,
    forgets,
    listen,
    misuse,
    naming,
    nodes_of,
)
from .output import say
from .words import amount_words, in_words, network_words, shown

if TYPE_CHECKING:
    from x402bind.seller import Seller
    from x402core.events import Payer

__all__ = ["add", "run"]


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "serve",
        help="put a price in front of an HTTP service",
        description="Sell every path of a service (or of an echo) at one price, to x402 v2 and v1 clients.",
        epilog=EXIT_CODES,
    )
    put = parser.add_argument
    put("--price", type=price, required=True, metavar="PRICE", help="what a request costs, such as '$0.01'")
    put("--network", action="append", required=True, metavar="NAME", help="a network to be paid on; repeat it for others")
    put("--pay-to", metavar="ADDRESS", help="who is paid (default, with --key: that account)")
    put(
        "--asset",
        metavar="ADDRESS",
        help="the token to be paid in; --rpc is asked of one not known here (default: what the price means)",
    )
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
    need("demo", *SERVING)
    from x402bind.ledger.contract import LedgerUnavailable

    try:
        check_listening(options)
        app = _app(options)
    except LocalProtocolError as error:
        return misuse("serve", error)
    except LedgerUnavailable as error:
        return misuse("serve", LocalProtocolError(str(error), field="ledger"))
    forgets("serve", options.ledger)
    return listen(app, options.host, options.port, "serve")


def _app(options: argparse.Namespace) -> Any:
    from x402bind.servers.asgi import PaymentMiddleware
    from x402bind.servers.proxy import Proxy, echo
    from x402core.evm.address import checksum
    from x402core.money import AssetAmount, atomic

    networks, rpc = _chains(options)
    registry, price = KNOWN, options.price
    if options.asset is not None:
        registry, asset = _asset(options, networks, rpc)
        with naming("price"):
            price = AssetAmount(atomic(options.price, asset.network, registry)[0], asset.address)
    else:
        with naming("price"):
            for network in networks:
                atomic(price, network, registry)
    seller = _seller(options, networks, rpc, registry)
    behind = echo if options.proxy is None else Proxy(options.proxy)
    middleware = PaymentMiddleware(behind, seller, {}, default=price, free=tuple(options.free))
    for network in seller.networks:
        money = shown(in_words(*atomic(price, network, registry)))
        say(f"x402 serve: {money} a request on {network_words(network)}, paid to {checksum(Address(seller.pay_to))}\n")
    return _closing(middleware, behind) if isinstance(behind, Proxy) else middleware


def _chains(options: argparse.Namespace) -> tuple[tuple[Network, ...], Mapping[str, tuple[str, ...]]]:
    """Return the networks to be paid on, and the nodes for them."""
    from x402bind.chain.nodes import nodes
    from x402bind.translate.ask_chain import named

    with naming("network"):
        networks = tuple(dict.fromkeys(map(KNOWN.resolve, options.network)))
    with naming("rpc"):
        only = networks[0] if len(networks) == 1 else None
        rpc = nodes_of(options.rpc if only is not None else named(options.rpc), only)
        for name, urls in rpc.items():
            network = KNOWN.resolve(name)
            nodes(urls, network)
            if network not in networks:
                raise LocalProtocolError(f"a node for {network}, which --network does not name", field="rpc")
    if not options.facilitator and not rpc:
        raise LocalProtocolError("who settles? give --facilitator URL, or --rpc URL and --key KEY", field="facilitator")
    return networks, rpc


def _asset(
    options: argparse.Namespace, networks: tuple[Network, ...], rpc: Mapping[str, tuple[str, ...]]
) -> tuple[Registry, Asset]:
    """Return a token, as known here or else as the chain has it, and a registry in which prices mean it."""
    from x402bind.translate.ask_chain import token_at

    if len(networks) != 1:
        raise LocalProtocolError("a token is of one network: give one --network", field="asset")
    address = local(parse_address, options.asset, "asset")
    sign = options.price[:1] if options.price and not options.price[:1].isdigit() else ""
    asset = KNOWN.asset(networks[0], address)
    if asset is None:
        if not rpc:
            raise LocalProtocolError(f"not a token known here on {networks[0]}: give --rpc, to ask the chain", field="asset")
        asset = token_at(networks[0], address, next(iter(rpc.values()))[0], sign)
        says = f"{asset.name!r} version {asset.version!r}, {asset.decimals} decimals, paid by {' or '.join(asset.methods)}"
        say(f"x402 serve: the token is not known here; the chain says: {shown(says)}\n")
    with naming("asset"):
        return KNOWN.with_asset(asset, default=True, default_for_symbol=bool(asset.symbol)), asset


def _seller(
    options: argparse.Namespace, networks: tuple[Network, ...], rpc: Mapping[str, tuple[str, ...]], registry: Registry
) -> Seller:
    from x402bind.seller import Seller
    from x402bind.translate.facilitator import Facilitators

    if options.facilitator:
        if options.key is not None:
            raise LocalProtocolError("the facilitator settles: it takes no key of yours", field="key")
        with naming("facilitator"):
            Facilitators(tuple(options.facilitator))
    near = options.port and options.host in (LOOPBACK, "::1")
    url = options.url or (f"http://{authority(options.host, options.port)}" if near else "")
    return Seller(
        key=None if options.facilitator else read_key(options.key),
        facilitator=tuple(options.facilitator) or None,
        networks=networks,
        rpc=rpc,
        ledger=options.ledger,
        pay_to=options.pay_to,
        settle=options.settle,
        url=url,
        registry=registry,
    )


def _closing(app: Any, proxy: Any) -> Any:
    """Let the proxy's connections go with the lifespan, and say in a line where the service behind breaks off."""
    from x402bind.servers.proxy import Broken

    @asynccontextmanager
    async def closed() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await proxy.aclose()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            try:
                await app(scope, receive, send)
            except Broken as error:  # what has not been sent is a 500, what streams is cut off
                say(f"x402 serve: the service behind broke off its answer: {error}{_owed(scope.get('x402'))}\n")
            return
        async with closed():
            await app(scope, receive, send)

    return serve


def _owed(payer: Payer | None) -> str:
    """Say what a payer gave for an answer that broke off: nothing, unless the money moved before."""
    if payer is None or payer.transaction is None:
        return ""
    money = amount_words(payer.amount, payer.network, payer.asset)
    return f"; {payer.payer} had paid {money} for it, a refund is due: payment {payer.payment}, transaction {payer.transaction}"
