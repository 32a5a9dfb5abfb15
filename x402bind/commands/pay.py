"""``x402 pay``: fetch a URL like curl would, and pay for it if it takes that.

The body goes to standard output as it came, what it cost to standard error; the exit code says what became of the money.
What the exchange is, and every decision in it, is the paying client's (``x402bind.clients.httpx``).
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Final

from . import MISUSE, need, price
from .keys import KeySource, add_key, read_key
from .output import say

if TYPE_CHECKING:
    from x402bind.chain.nodes import NodesLike
    from x402bind.clients.purse import Purse
    from x402core.policy import PayerPolicy

    from . import Subparsers
    from .purchase import Asked

__all__ = ["ASSUMED_MOST", "add", "payer_policy", "purse_of", "run"]

ASSUMED_MOST: Final = "$0.05"
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)
_FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")
_EPILOG: Final = """\
exit codes:
  0  paid for, or free, and the server answered 2xx
  1  nothing was paid and there is no answer (no connection, no such file to write)
  2  misuse: the options make no sense, or a package is not installed
  3  free, but the server answered something else than 2xx
  4  not paid: the offer is over the limits, or the server refused the payment, one given with -H too
  5  unknown: a signed payment left and no definite answer came back. Do not simply ask again: that is a new payment
  6  paid for, but the server answered something else than 2xx, or the answer broke off
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "pay",
        help="fetch a URL, and pay for it if it takes that",
        description="Fetch a URL like curl would, and pay for it if it takes that; what it cost goes to standard error.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    put = parser.add_argument
    put("url", metavar="URL", help="https, or http to this machine: nothing is paid over anything else")
    add_key(parser, whose="the account that pays")
    put(
        "--max",
        type=price,
        metavar="PRICE",
        default=ASSUMED_MOST,
        help="the most to pay, such as '$0.05' or '0.05 USDC' (default: %(default)s)",
    )
    put(
        "--network",
        metavar="NAME",
        action="append",
        default=[],
        help="pay on this network only, by name or CAIP-2 id; repeat it, preferred first. Default: every network known here "
        "that has an asset --max can mean, mainnets too, those with play money first",
    )
    put(
        "--rpc",
        metavar="NETWORK=URL",
        action="append",
        default=[],
        help="a node, for payments that state a number the chain counts; repeat it for other networks, or more nodes of one",
    )
    _add_curls(parser)
    parser.set_defaults(run=run)


def _add_curls(parser: argparse.ArgumentParser) -> None:
    """Declare what curl has too, mostly by curl's names."""
    put = parser.add_argument
    put("-X", "--request", metavar="METHOD", help="the HTTP method (default: GET, or POST with -d)")
    put("-H", "--header", metavar="'Name: value'", action="append", default=[], help="a header to send; repeat it for more")
    put("-d", "--data", metavar="DATA", help="a body to send; @FILE for a file's bytes as they are, @- for standard input's")
    put("--json", action="store_true", help="print one JSON document: status, headers, body, outcome, receipt, cost")
    put("-i", "--include", action="store_true", help="print the answer's head before its body")
    put("-o", "--output", metavar="FILE", help="write the body there")
    put("-L", "--location", action="store_true", help="follow redirects (only the origin asked is ever paid)")
    put("--timeout", metavar="S", type=float, default=60.0, help="seconds to wait for each step (default: %(default)g)")


def run(options: argparse.Namespace) -> int:
    """Buy it; ``x402 pay --help`` lists the exit codes."""
    from x402core.errors import LocalProtocolError

    need("httpx", "httpx", "anyio")
    from .purchase import buy

    try:
        asked = _asked(options)
        purse = purse_of(options.key, payer_policy(options.max, tuple(options.network)), tuple(options.rpc))
    except LocalProtocolError as error:
        return _misuse(str(error))
    except KeyboardInterrupt:
        return 130
    return buy(asked, purse)


def _misuse(message: str) -> int:
    say(f"x402 pay: {message}\n")
    return MISUSE


def payer_policy(most: str, networks: tuple[str, ...]) -> PayerPolicy:
    """Return the policy of ``--max`` and ``--network``; without networks, all that have an asset ``most`` can mean.

    Play money comes first: no real money is spent where a server takes the other too.  Raises: LocalProtocolError.
    """
    from x402core.errors import LocalProtocolError
    from x402core.policy import PayerPolicy
    from x402core.registry import KNOWN

    if networks:
        return PayerPolicy.up_to(most, *networks)
    policy, trouble = PayerPolicy(), None
    for info in sorted(KNOWN.networks(), key=lambda info: not info.testnet):
        if not KNOWN.assets(info.network):
            continue
        try:
            policy = policy.also(most, info.network)
        except LocalProtocolError as error:  # another asset's sign or code, or more decimals than it has
            trouble = error if trouble is None else trouble
    if not policy.caps and trouble is not None:
        raise trouble
    return policy


def purse_of(key: KeySource | None, policy: PayerPolicy, rpc: tuple[str, ...]) -> Purse:
    """Return what is paid from.  Raises: LocalProtocolError naming the option."""
    from x402bind.clients.purse import Purse
    from x402core.errors import LocalProtocolError

    nodes: dict[str, NodesLike] = {}
    for each in rpc:
        network, equals, url = each.partition("=")
        if not equals or not url.startswith(("http://", "https://")):
            raise LocalProtocolError("write NETWORK=URL, such as base-sepolia=https://...", field="rpc")
        before = nodes.get(network)
        nodes[network] = url if before is None else (*(before if isinstance(before, tuple) else (str(before),)), url)
    return Purse(read_key(key), policy, nodes)


def _asked(options: argparse.Namespace) -> Asked:
    """Check what is to be sent.  Raises: LocalProtocolError naming the option."""
    from x402bind.clients.purse import origin_of
    from x402core.errors import LocalProtocolError

    from .purchase import Asked

    if origin_of(options.url) is None:
        raise LocalProtocolError("write a whole URL: https://...", field="URL")
    if not 0 < options.timeout < 86400:
        raise LocalProtocolError("write a number of seconds", field="timeout")
    method = options.request or ("GET" if options.data is None else "POST")
    if _METHOD.fullmatch(method) is None:
        raise LocalProtocolError("write an HTTP method", field="request")
    headers = [_header(each) for each in options.header]
    names = {name.lower() for name, _ in headers}
    if "accept-encoding" not in names:  # the body is printed as it comes
        headers.append(("Accept-Encoding", "identity"))
    body = None if options.data is None else _data(options.data)
    if body is not None and "content-type" not in names:
        headers.append(_FORM)
    return Asked(
        url=options.url,
        method=method,
        headers=tuple(headers),
        body=body,
        follow=options.location,
        timeout=options.timeout,
        as_json=options.json,
        head=options.include,
        output=options.output,
    )


def _header(text: str) -> tuple[str, str]:
    from x402core.errors import LocalProtocolError

    match = _HEADER.fullmatch(text)
    if match is None:  # not repeated: it may hold a credential
        raise LocalProtocolError("write 'Name: value'", field="header")
    return match[1], match[2]


def _data(text: str) -> bytes:
    from x402core.errors import LocalProtocolError

    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        with open(text[1:], "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise LocalProtocolError(f"cannot read the file: {getattr(error, 'strerror', None) or error}", field="data") from None
