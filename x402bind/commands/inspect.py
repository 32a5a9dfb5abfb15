"""``x402 inspect``: explain a 402 or a payment header in words.  It never signs and never pays.

What it is given is found out in this order: a URL (whose answer is looked at), lines of headers as curl prints them, JSON,
base64.  A message in JSON or base64 without a name is known by its members.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Final

from . import MISUSE, need
from .output import put, say

if TYPE_CHECKING:
    from . import Subparsers
    from .explain import Block
    from .messages import Found

__all__ = ["add", "run"]

_MOST: Final = 1 << 20  # bytes of standard input
_WIDTH: Final = 15
_URL = re.compile(r"https?://", re.ASCII | re.IGNORECASE)
_LONGEST: Final = 2000  # characters of a line: a URL may have as many


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "inspect",
        help="explain a 402 or a payment header in words; never signs, never pays",
        description="Explain a 402, a payment or a receipt: x402 v2 and v1 headers and bodies, and the permit-token flow's.",
        epilog="exit codes: 0 explained, 1 malformed (the member at fault is named by its JSON pointer) or no answer, "
        "2 misuse, or a package is not installed, 3 the output cannot be written",
    )
    parser.add_argument(
        "what", metavar="HEADER|URL|-", help="'Name: value', base64, JSON, a URL to GET, or - for standard input"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--timeout", metavar="S", type=float, default=30.0, help="seconds to wait for a URL (default: %(default)g)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Explain it; ``x402 inspect --help`` lists the exit codes."""
    from x402bind.leaves import HttpFailed
    from x402core.errors import LocalProtocolError, RemoteProtocolError

    show = _as_json if options.json else _as_text
    if not 0 < options.timeout < 86400:
        say("x402 inspect: timeout: write a number of seconds\n")
        return MISUSE
    text = options.what
    if text == "-":
        text = sys.stdin.buffer.read(_MOST + 1).decode("utf-8", "replace")
    text = text.strip()
    if not text or len(text) > _MOST:
        say(f"x402 inspect: {'there is nothing' if not text else 'there is too much'} to explain\n")
        return MISUSE
    try:
        found = _fetched(text, options.timeout) if _URL.match(text) else _read(text)
    except RemoteProtocolError as error:
        return _malformed(error, options.json)
    except HttpFailed as error:
        say(f"x402 inspect: no answer: {error}\n")
        return 1
    except LocalProtocolError as error:
        say(f"x402 inspect: {error}\n")
        return MISUSE
    except KeyboardInterrupt:
        return 130
    show(found)
    return 0


def _read(text: str) -> tuple[Found, ...]:
    from .messages import read

    return read(text, _now())


def _fetched(url: str, timeout: float) -> tuple[Found, ...]:
    need("httpx", "httpx")
    from x402bind.chain.transports import SyncHttp
    from x402bind.leaves import HttpCall

    from .messages import read_answer

    with SyncHttp() as http:
        reply = http.call(HttpCall("GET", url, timeout=timeout, most=_MOST))
    return read_answer(reply.status, reply.headers, reply.body, _now())


def _now() -> int:
    return int(time.time())


# ------------------------------------------------------------------------------------------------------------ printing


def _malformed(error: Exception, as_json: bool) -> int:
    from x402core.errors import RemoteProtocolError

    assert isinstance(error, RemoteProtocolError)
    fault = {"source": error.source, "pointer": error.pointer, "why": error.text, "reason": str(error.reason)}
    fault = {name: _shown(value) for name, value in fault.items()}
    if as_json:
        put(json.dumps({"ok": False, "error": fault}, indent=2) + "\n")
        return 1
    at = fault["pointer"] or "the whole of it"
    put(f"malformed {fault['source'] or 'message'}, at {at}: {fault['why']}\n")
    return 1


def _shown(text: str) -> str:
    from .words import shown

    return shown(text, _LONGEST)


def _as_json(found: tuple[Found, ...]) -> None:
    messages = [
        {"kind": _shown(each.kind), "version": each.version, "blocks": [_block(block) for block in each.blocks]}
        for each in found
    ]
    put(json.dumps({"ok": True, "messages": messages}, indent=2) + "\n")


def _block(block: Block) -> dict[str, object]:
    return {
        "name": block.name,
        "says": _shown(block.says),
        "facts": {_shown(name): _shown(value) for name, value in block.facts},
        "warnings": [_shown(text) for text in block.warnings],
    }


def _as_text(found: tuple[Found, ...]) -> None:
    lines: list[str] = []
    for number, each in enumerate(found):
        if number:
            lines.append("")
        lines.append(each.kind)
        for block in each.blocks:
            lines.append("")
            lines.append(f"{block.name}: {block.says}")
            for text in block.warnings:
                lines.append(f"  WARNING: {text}")
            for name, value in block.facts:
                lines.append(f"  {name.ljust(_WIDTH)} {value}")
    put("".join([_shown(line) + "\n" for line in lines]))
