"""``x402 facilitator``: settle other people's payments, over HTTP."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from x402core.errors import LocalProtocolError
from x402core.registry import KNOWN

from . import Subparsers, need
from .keys import add_key, read_key
from .listening import EXIT_CODES, SERVING, add_listening, check_listening, forgets, listen, misuse, naming, nodes_of
from .output import say

if TYPE_CHECKING:
    from x402bind.facilitator.app import FacilitatorApp

__all__ = ["add", "run"]


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "facilitator",
        help="verify and settle payments for others",
        description="Serve /verify, /settle, /supported, /discovery/resources, /discovery/search, /health and /metrics.",
        epilog=EXIT_CODES,
    )
    put = parser.add_argument
    put(
        "--rpc",
        metavar="[NETWORK=]URL",
        action="append",
        required=True,
        help="a node; repeat it for other networks, or more nodes of one. Without NETWORK the node is asked what it serves",
    )
    add_key(parser, whose="the account that settles and pays for the gas")
    put("--asset", action="append", default=[], metavar="ASSET", help="settle only this: usdc, or eip155:84532/0x...; repeat")
    put("--any-asset", action="store_true", help="settle any token, known here or not")
    put("--payee", action="append", default=[], metavar="ADDRESS", help="settle only payments to this account; repeat it")
    put("--factory", action="append", default=[], metavar="ADDRESS", help="deploy payers' wallets of this factory; repeat it")
    put(
        "--manager",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="take delegations (ERC-7710) of this manager; repeat it",
    )
    put("--token", action="append", default=[], metavar="SECRET", help="answer only to who brings one of these; or env:NAME")
    put("--most-per-payer", type=int, default=600, metavar="N", help="settlements of one payer an hour (default: %(default)s)")
    put("--code", default="", help="our ERC-8021 builder code")
    add_listening(parser, 4020)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    need("demo", *SERVING)
    from x402bind.ledger.contract import LedgerUnavailable

    try:
        check_listening(options)
        app = _app(options)
    except LocalProtocolError as error:
        return misuse("facilitator", error)
    except LedgerUnavailable as error:
        return misuse("facilitator", LocalProtocolError(str(error), field="ledger"))
    forgets("facilitator", options.ledger)
    return listen(app, options.host, options.port, "facilitator")


def _app(options: argparse.Namespace) -> FacilitatorApp:
    from x402bind.chain.nodes import nodes
    from x402bind.facilitator.app import FacilitatorApp
    from x402bind.facilitator.quota import Quota
    from x402bind.facilitator.service import Facilitator
    from x402bind.translate.ask_chain import named

    key, tokens = read_key(options.key), tuple(map(_secret, options.token))
    with naming("rpc"):
        rpc = nodes_of(named(options.rpc))
        for name, urls in rpc.items():
            nodes(urls, KNOWN.resolve(name))
    with naming("most-per-payer"):
        quota = Quota(settlements=options.most_per_payer)
    facilitator = Facilitator(
        key=key,
        rpc=rpc,
        ledger=options.ledger,
        assets=None if options.any_asset else tuple(options.asset) or ("known",),
        payees=tuple(options.payee) or None,
        factories=tuple(options.factory),
        managers=tuple(options.manager),
        quota=quota,
        code=options.code,
    )
    return FacilitatorApp(facilitator, tokens=tokens)


def _secret(text: str) -> str:
    kind, _, name = text.partition(":")
    if kind != "env":
        say("x402 facilitator: a token on the command line can be seen by other users: env:NAME cannot\n")
        return text
    value = os.environ.get(name)
    if not value:
        raise LocalProtocolError("the environment has no such variable", field="token")
    return value
