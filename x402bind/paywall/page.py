"""What the page is told: a 402 in words for people, and what its script needs to pay it.

Everything shown is read back from the 402 itself, so that what is shown, what is signed and what is echoed are one thing.
Names and decimals are the registry's.  The typed data comes ready from the core, but for what only the payer can say; the
documents to echo go as text, word for word, because a browser's numbers are not JSON's.
"""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError, Reply
from x402core.events import Challenge, Dialect, Method, Offer, ResponseHead
from x402core.evm import digests
from x402core.evm.address import checksum
from x402core.money import atomic_to_human, format_amount
from x402core.policy import Terms
from x402core.registry import Asset, Registry
from x402core.values import Address, Hash32, chain_id
from x402core.wire import http, identifier, v2
from x402core.wire.json import Json, dumps, loads

__all__ = ["Brand", "Parts", "described", "fields"]

_NOBODY: Final = Address("0x" + "0" * 40)
_NOTHING: Final = Hash32("0x" + "0" * 64)
_SAFE: Final = 2**53  # from where on a browser's numbers are not exact
_SHOWN: Final = 2000  # characters of a description
_KINDS: Final = {Method.EIP3009: "authorization", Method.PERMIT2: "permit2Authorization", Method.EIP2612: "permit"}
_UNSAFE: Final = re.compile("[<>&\u2028\u2029]")


class Brand(NamedTuple):
    """How a seller presents itself; ``logo`` is a ``data:`` URI."""

    title: str
    name: str
    logo: str


class Parts(NamedTuple):
    """The bundled script and style."""

    script: str
    style: str


def described(terms: Terms, reply: Reply, brand: Brand, now: int) -> dict[str, Json]:
    """Return all that a page may say of a 402; ``now`` in Unix seconds, as the payer's clock may be wrong.

    Raises: RemoteProtocolError for a reply that is no 402 of the protocol's.
    """
    challenge = http.decode_402(ResponseHead(402, reply.headers, reply.body), terms.registry)
    known = [offer for offer in challenge.offers if offer.dialect is Dialect.V2]
    resource = challenge.resource or terms.resource
    offers: list[Json] = [_offer(offer, terms) for offer in known or challenge.offers]
    networks = [terms.registry.network(offer.network).testnet for offer in challenge.offers if _listed(terms, offer)]
    return {
        "title": brand.title,
        "brand": brand.name,
        "logo": brand.logo,
        "resource": {"url": resource.url, "description": resource.description[:_SHOWN], "mime": resource.mime_type},
        "error": _error(challenge, reply),
        "offers": offers,
        "testnet": bool(networks) and all(networks),
        "echo": _echo(challenge),
        "now": now,
    }


def _listed(terms: Terms, offer: Offer) -> bool:
    try:
        terms.registry.network(offer.network)
    except LocalProtocolError:
        return False
    return True


def _error(challenge: Challenge, reply: Reply) -> Json:
    """Say what was refused, if anything was; asking for money is no refusal."""
    if not challenge.error or challenge.error == Reason.PAYMENT_REQUIRED:
        return None
    try:
        body = loads(reply.body)
    except RemoteProtocolError:
        body = None
    detail = body.get("detail") if isinstance(body, dict) else None
    if not isinstance(detail, str) or v2.PAYMENT_REQUIRED in detail:  # that one is for programs
        detail = ""
    return {"code": challenge.error, "detail": v2.printable(detail, 1024)}


def _echo(challenge: Challenge) -> Json:
    """Return what a payment repeats beside its offer, as JSON text, with a mark where the payer's identifier goes."""
    mark = secrets.token_hex(16)
    extensions = identifier.identified(challenge.extensions, mark)
    return {
        "resource": _text(v2.context_document(challenge.resource, {}).get("resource")),
        "extensions": _text(cast(Json, dict(extensions))) if extensions else "",
        "mark": mark,
    }


def _text(document: object) -> str:
    return "" if document is None else dumps(cast(Json, document)).decode()


# --- one offer -------------------------------------------------------------------------------------------------------


def _offer(offer: Offer, terms: Terms) -> Json:
    chain = chain_id(offer.network)
    typed = _typed(offer, chain) if offer.dialect is Dialect.V2 and offer.raw is not None and chain < _SAFE else None
    asset, decimals, code = _asset(offer, terms)
    exact = f"{offer.amount} atomic units" if decimals is None else _exact(offer, decimals, code)
    return {
        "price": exact if asset is None else format_amount(offer.amount, asset),
        "exact": exact,
        "amount": str(offer.amount),
        "ceiling": offer.scheme == v2.UPTO,
        "network": _network(offer, chain, terms.registry),
        "asset": {
            "address": checksum(offer.asset),
            "code": code,
            "name": offer.name if asset is None else asset.name,
            "decimals": decimals,
        },
        "payee": checksum(offer.pay_to),
        "timeout": int(offer.timeout),
        "method": str(offer.method),
        "kind": _KINDS[offer.method] if typed is not None else None,
        "typed": typed,
        "accepted": _text(offer.raw) if typed is not None else "",
    }


def _asset(offer: Offer, terms: Terms) -> tuple[Asset | None, int | None, str]:
    """Return the registry's asset, its decimals and its code; of one that is not listed, what the seller's own offer says."""
    asset = terms.registry.asset(offer.network, offer.asset)
    if asset is not None:
        return asset, asset.decimals, asset.code.upper()
    for own in terms.offers:
        if (own.network, own.asset) == (offer.network, offer.asset) and own.decimals is not None:
            return None, own.decimals, own.symbol
    return None, offer.decimals, offer.symbol


def _exact(offer: Offer, decimals: int, code: str) -> str:
    return f"{format(atomic_to_human(offer.amount, decimals), 'f')} {code or offer.name}".rstrip()


def _network(offer: Offer, chain: int, registry: Registry) -> Json:
    try:
        info = registry.network(offer.network)
    except LocalProtocolError:  # Y12: assets may sit on a network nobody listed
        return {"id": offer.network, "name": f"chain {chain}", "chain": hex(chain), "testnet": False, "explorer": None}
    return {
        "id": offer.network,
        "name": info.name,
        "chain": hex(chain),
        "testnet": info.testnet,
        "explorer": info.explorer,
    }


def _typed(offer: Offer, chain: int) -> Json:
    """Return what the wallet will be asked to sign, with nobody as payer and noughts for nonce and end; None: not here."""
    named = (offer.name, offer.version, chain, offer.asset)
    made: digests.TypedData
    match offer.method:
        case Method.EIP3009:
            made = digests.transfer_authorization_typed_data(*named, _NOBODY, offer.pay_to, offer.amount, 0, 0, _NOTHING)
        case Method.PERMIT2:
            facilitator = offer.facilitator if offer.scheme == v2.UPTO else None
            made = digests.permit2_typed_data(chain, offer.asset, offer.amount, 0, 0, offer.pay_to, 0, facilitator)
        case Method.EIP2612:
            made = digests.permit_typed_data(*named, _NOBODY, offer.spender or offer.pay_to, offer.amount, 0, 0)
        case _:  # a delegation is not made by a signature alone
            return None
    return cast(Json, made)


# --- into the template -----------------------------------------------------------------------------------------------


def fields(data: Mapping[str, Json], parts: Parts, nonce: str) -> dict[str, str]:
    """Return what a template may name, each escaped for where it goes; of no data the names alone."""
    resource, error, offers = data.get("resource"), data.get("error"), data.get("offers")
    offer = offers[0] if isinstance(offers, list) and offers else None
    return {
        "data": _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", _text(dict(data))),
        "nonce": nonce,
        "script": parts.script,
        "style": parts.style,
        **{name: _escaped(data, name) for name in ("title", "brand")},
        **{name: _escaped(resource, name) for name in ("url", "description")},
        "error": _escaped(error, "code"),
        **{name: _escaped(offer, name) for name in ("price", "payee")},
        "network": _escaped(_member(offer, "network"), "name"),
        "asset": _escaped(_member(offer, "asset"), "code"),
    }


def _member(document: Json, name: str) -> Json:
    return document.get(name) if isinstance(document, dict) else None


def _escaped(document: object, name: str) -> str:
    value = document.get(name) if isinstance(document, Mapping) else None
    return html.escape(value) if isinstance(value, str) else ""
