"""A page for people: the 402 that a browser shows, on which a wallet pays.

    paywall = Paywall(brand="Example News")
    reply = paywall.page(terms, request_headers, reply)     # for every 402 the core made

Programs get the 402 as it is.  A browser that navigates gets the same 402, every header of the protocol kept, with one
self-contained page as its body: nothing is loaded from anywhere, nothing but the page's own script runs (a nonce per page).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Final

from x402core.errors import LocalProtocolError, RemoteProtocolError, Reply
from x402core.events import Headers
from x402core.policy import Terms
from x402core.wire.headers import find_all
from x402core.wire.http import carries_payment
from x402core.wire.json import Json

from .page import Brand, Parts, described, fields

__all__ = ["Paywall", "browsing"]

_FOLDER: Final = files(__name__)
_FIELD: Final = re.compile(r"\{\{\s*([a-z]+)\s*\}\}", re.ASCII)
_LOGO: Final = re.compile(r"data:image/[a-z0-9.+-]+[;,]\S*", re.ASCII | re.IGNORECASE)
_LONGEST_LOGO: Final = 16_384  # characters
_QUALITY: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)
_RANGES: Final = {"text/html": 2, "text/*": 1}
_REPLACED: Final = frozenset(
    (
        *("content-type", "content-length", "content-encoding", "content-security-policy"),
        *("x-content-type-options", "referrer-policy", "vary"),
    )
)
_VARY: Final = ("Accept", "User-Agent")
Template = str | Callable[[Mapping[str, Json]], str]


class Paywall:
    """Make the page that a browser is shown instead of a 402's JSON.

    ``title`` is its heading, ``brand`` the seller's name and ``logo`` a picture as a ``data:image/...`` URI (no other place
    is ever asked for one).

    ``template`` is a page of your own.  A string is filled in at ``{{name}}``, once, and refused here for an unknown name:

    * ``{{data}}``: everything below as JSON, escaped for ``<script type="application/json" id="x402-data">{{data}}</script>``
      and for no other place;
    * ``{{nonce}}``: for each ``<script nonce="{{nonce}}">`` and ``<style nonce="{{nonce}}">``; nothing without it runs;
    * ``{{script}}``, ``{{style}}``: the bundled ones, which work on the ids of the bundled ``page.html``;
    * ``{{title}}``, ``{{brand}}``, ``{{description}}``, ``{{url}}``, ``{{error}}``, and of the first offer ``{{price}}``,
      ``{{network}}``, ``{{asset}}``, ``{{payee}}``: escaped for text and for attributes in quotes.

    A function is given all that as one mapping and returns the page.  ``data``, ``script`` and ``style`` are as above, and so
    is ``nonce``; the others are *not* escaped: ``title``, ``brand``, ``logo``, ``testnet``, ``now`` (Unix seconds),
    ``resource`` (``url``, ``description``, ``mime``), ``error`` (``code``, ``detail``; None when nothing was refused),
    ``offers`` (each: ``price`` for people, ``amount`` in atomic units, ``exact`` with the asset's code, ``ceiling``,
    ``network`` (``id``, ``name``, ``chain``, ``testnet``, ``explorer``), ``asset`` (``address``, ``code``, ``name``,
    ``decimals``), ``payee``, ``timeout`` in seconds, and what the script signs and sends: ``kind``, ``typed``, ``accepted``)
    and ``echo``.

    Raises: LocalProtocolError naming the argument.
    """

    def __init__(
        self,
        template: Template | None = None,
        *,
        title: str = "Payment required",
        brand: str = "",
        logo: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if logo and (len(logo) > _LONGEST_LOGO or _LOGO.fullmatch(logo) is None):
            raise LocalProtocolError(f"write a data:image/ URI of at most {_LONGEST_LOGO} characters", field="logo")
        self._brand = Brand(title, brand, logo)
        self._clock = clock
        self._parts = Parts(_read("page.js"), _read("page.css"))
        template = _read("page.html") if template is None else template
        self._made: Callable[[Mapping[str, Json]], str] | None = None
        self._pieces: list[str] = []
        if isinstance(template, str):
            self._pieces = _FIELD.split(template)
            known = fields({}, self._parts, "")
            if unknown := [name for name in self._pieces[1::2] if name not in known]:
                raise LocalProtocolError(f"{{{{{unknown[0]}}}}} is none of {', '.join(sorted(known))}", field="template")
        else:
            self._made = template

    def page(self, terms: Terms, headers: Headers, reply: Reply, method: str = "GET") -> Reply:
        """Return the reply as a page when it is a 402 and its request (``headers``) a browser's; else as it is.

        Only for what the page can ask for again: a form that was posted would be lost, and something else be paid for.
        A request that brings a payment is a script's, the page's own among them: it is told in JSON what became of it.
        """
        if reply.status != 402 or method not in ("GET", "HEAD") or not browsing(headers):
            return reply
        try:
            data = described(terms, reply, self._brand, int(self._clock()))
        except RemoteProtocolError:  # not a 402 of the core's: leave it alone
            return reply
        nonce = secrets.token_urlsafe(18)
        return Reply(reply.status, _headers(reply.headers, nonce), self._render(data, nonce).encode("utf-8", "replace"))

    def _render(self, data: Mapping[str, Json], nonce: str) -> str:
        known = fields(data, self._parts, nonce)
        if self._made is not None:
            given: dict[str, Json] = {name: known[name] for name in ("data", "nonce", "script", "style")}
            return self._made({**given, **data})
        pieces = self._pieces.copy()
        pieces[1::2] = [known[name] for name in pieces[1::2]]  # what is filled in is not looked at again
        return "".join(pieces)


def _read(name: str) -> str:
    return _FOLDER.joinpath(name).read_text("utf-8")


def browsing(headers: Headers) -> bool:
    """Say whether a request is a browser's that navigates: it names HTML, says it is a Mozilla, and brings no payment."""
    if carries_payment(headers) or not any("Mozilla" in value for value in find_all(headers, "User-Agent")):
        return False
    return _takes_html(",".join(find_all(headers, "Accept")))


def _takes_html(accept: str) -> bool:
    """Say whether ``Accept`` takes HTML by a range of its own (RFC 9110 12.5.1): the most specific one counts, not ``*/*``."""
    best = (0, False)
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        if (specific := _RANGES.get(kind)) is not None:
            best = max(best, (specific, _wanted(parameters)))
    return best[1]


def _wanted(parameters: list[str]) -> bool:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return _QUALITY.fullmatch(value.strip()) is not None and float(value) > 0
    return True


def _headers(headers: Headers, nonce: str) -> Headers:
    """Return a 402's headers for its page: all of the protocol's, in order, and what a browser is to keep to."""
    kept = tuple((name, value) for name, value in headers if name.lower() not in _REPLACED)
    names = [name.strip() for value in find_all(headers, "Vary") for name in value.split(",") if name.strip()]
    told = {name.lower() for name in names}
    vary = ["*"] if "*" in told else names + [name for name in _VARY if name.lower() not in told]
    policy = (
        "default-src 'none'",
        f"script-src 'nonce-{nonce}'",
        f"style-src 'nonce-{nonce}'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return (
        ("Content-Type", "text/html; charset=utf-8"),
        *kept,
        ("Vary", ", ".join(vary)),
        ("Content-Security-Policy", "; ".join(policy)),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    )
