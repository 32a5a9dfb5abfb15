"""One request of a y402 client, between our transport and the caller's: what a selector chooses, and what names mean.

Our transport sees a 402 in which only what may be paid is left; the caller sees the server's.  The call is found by a context
variable, as everything that one request causes happens in one task or thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from x402bind.compat.y402.core.types.requirements import PaymentRequirements
from x402core.commands import ApprovePayment, Outcome, OutcomeKind
from x402core.errors import RemoteProtocolError
from x402core.events import Headers
from x402core.evm.address import checksum
from x402core.wire import v1, v2
from x402core.wire.headers import decode_header, encode_header, find_all
from x402core.wire.json import dumps, loads

from .common import Y402Client
from .errors import PaymentError, UnsupportedSchemeException, refused
from .naming import decode_x_payment_networks

__all__ = ["Call", "Seen", "approve", "calling", "current", "entries_of"]

_CALL: Final[ContextVar[Call | None]] = ContextVar("y402_call", default=None)
_X_PAYMENT_ASSET: Final = "X-Payment-Asset"


class Seen(NamedTuple):
    """A 402 as our transport is to see it: its headers without any encoding or length of the body, and its body."""

    headers: Headers
    body: bytes


class Call:
    """One request.  ``client`` is who pays for it."""

    def __init__(self, client: Y402Client) -> None:
        self.client = client
        self.paid = False
        self.asset = ""
        self._theirs: dict[str, str] = {}  # our name of a network to the server's

    # ---------------------------------------------------------------------------------------------------------- outward

    def outgoing(self, headers: Headers) -> Headers:
        """Return the headers that a request needs besides: none, or, of a payment, replaced and further ones."""
        if find_all(headers, v2.PAYMENT_SIGNATURE):
            self.paid = True
        found = find_all(headers, v1.X_PAYMENT)
        if not found:
            return ()
        self.paid = True
        document: Any = decode_header(found[0], source=v1.X_PAYMENT, most=1 << 16)
        more: Headers = ((_X_PAYMENT_ASSET, self.asset),) if self.asset else ()
        theirs = self._theirs.get(document["network"], document["network"])
        return (
            (*more, (v1.X_PAYMENT, encode_header({**document, "network": theirs}))) if theirs != document["network"] else more
        )

    # ---------------------------------------------------------------------------------------------------------- inward

    def incoming(self, headers: Headers, body: bytes) -> Seen | None:
        """Return a 402 as our transport is to see it, None where that is as it came.

        Raises: what the selector raises; PaymentError for a choice that was not offered.
        """
        if self.paid:
            return None
        try:
            document: Any = loads(body)
        except RemoteProtocolError:
            document = None  # some page: there may still be a header
        first = isinstance(document, dict) and document.get("x402Version") == 1 and isinstance(document.get("accepts"), list)
        if first:
            return self._first(headers, document)
        return self._second(headers, body) if self.client.selector is not None else None

    def _first(self, headers: Headers, document: dict[str, Any]) -> Seen | None:
        """Read x402 v1: name its networks as we do, and leave what is selected."""
        told = _told(headers)
        entries = [each for each in document["accepts"] if isinstance(each, dict)]
        if self.client.selector is not None:
            entries = [self._selected(entries, [_read(each) for each in entries])]
            headers = tuple(pair for pair in headers if pair[0].lower() != v2.PAYMENT_REQUIRED.lower())
        elif entries and all(each.get("scheme") != "exact" for each in entries):
            raise UnsupportedSchemeException("the server offers no scheme that is spoken here")
        renamed = [self._ours(each, told) for each in entries]
        return Seen(headers, dumps({**document, "accepts": renamed}))

    def _ours(self, entry: dict[str, Any], told: Mapping[str, int]) -> dict[str, Any]:
        said = entry.get("network")
        network = self.client.names.network(said, told) if isinstance(said, str) else None
        ours = None if network is None else self.client.policy.registry.v1_name(network)
        if network is None or ours is None:
            return (
                {**entry, "network": f"unknown-{said}"} if isinstance(said, str) else entry
            )  # never what our registry makes of it
        if self._theirs.setdefault(ours, str(said)) != said:
            return {**entry, "network": f"unknown-{said}"}  # one chain by two names: the first counts
        return {**entry, "network": ours}

    def _second(self, headers: Headers, body: bytes) -> Seen | None:
        """Read x402 v2: leave what is selected."""
        found = find_all(headers, v2.PAYMENT_REQUIRED)
        try:
            document: Any = decode_header(found[0], source=v2.PAYMENT_REQUIRED, most=1 << 17) if len(found) == 1 else None
        except RemoteProtocolError:
            return None
        if not isinstance(document, dict) or not isinstance(document.get("accepts"), list):
            return None
        entries = [each for each in document["accepts"] if isinstance(each, dict)]
        resource = document.get("resource")
        chosen = self._selected(entries, [_read({**_flat(resource), **each}) for each in entries])
        kept = tuple(pair for pair in headers if pair[0].lower() != v2.PAYMENT_REQUIRED.lower())
        return Seen((*kept, (v2.PAYMENT_REQUIRED, encode_header({**document, "accepts": [chosen]}))), body)

    def _selected(self, entries: list[dict[str, Any]], shown: list[PaymentRequirements | None]) -> dict[str, Any]:
        offered = [(each, entry) for each, entry in zip(shown, entries, strict=True) if each is not None]
        choice = self.client.select_payment_requirements([each for each, _ in offered])
        for each, entry in offered:
            if each is choice or each == choice:
                return entry
        raise PaymentError("the selector chose what was not offered")

    # ---------------------------------------------------------------------------------------------------------- the end

    def judge(self, response: Any, outcome: Outcome | None) -> None:
        """Raise what y402 raises, where nothing was paid because we would not."""
        if outcome is None or self.paid or outcome.kind is not OutcomeKind.DECLINED:
            return
        raise refused(outcome.refusal, response, outcome)


def _told(headers: Headers) -> Mapping[str, int]:
    """Return the server's map of networks; one that cannot be read teaches nothing."""
    found = find_all(headers, "X-Payment-Networks")
    try:
        return decode_x_payment_networks(found[0]) if len(found) == 1 else {}
    except RemoteProtocolError:
        return {}


def _flat(resource: Any) -> dict[str, Any]:
    told = resource if isinstance(resource, dict) else {}
    return {"resource": told.get("url", ""), "description": told.get("description", ""), "mimeType": told.get("mimeType", "")}


def _read(entry: dict[str, Any]) -> PaymentRequirements | None:
    """Return an entry as a selector is shown it, of either version; None for what is none."""
    amount = entry.get("maxAmountRequired", entry.get("amount"))
    texts = [entry.get(name) for name in ("scheme", "network", "payTo", "asset")]
    seconds = entry.get("maxTimeoutSeconds")
    if not isinstance(amount, str) or not all(isinstance(each, str) for each in texts) or type(seconds) is not int:
        return None
    return PaymentRequirements(
        scheme=entry["scheme"],
        network=entry["network"],
        max_amount_required=amount,
        resource=str(entry.get("resource") or ""),
        description=str(entry.get("description") or ""),
        mime_type=str(entry.get("mimeType") or ""),
        output_schema=entry.get("outputSchema"),
        pay_to=entry["payTo"],
        max_timeout_seconds=seconds,
        asset=entry["asset"],
        extra=entry.get("extra") if isinstance(entry.get("extra"), dict) else None,
    )


def entries_of(document: Any) -> list[PaymentRequirements]:
    """Return what a v1 402 offers, as a selector is shown it."""
    accepts = document.get("accepts") if isinstance(document, dict) and document.get("x402Version") == 1 else None
    entries = [each for each in accepts if isinstance(each, dict)] if isinstance(accepts, list) else []
    return [shown for shown in map(_read, entries) if shown is not None]


@contextmanager
def calling(client: Y402Client) -> Iterator[Call]:
    """Be one request of a client."""
    call = Call(client)
    token = _CALL.set(call)
    try:
        yield call
    finally:
        _CALL.reset(token)


def approve(command: ApprovePayment) -> bool:
    """Note what is paid with, for the header that tells y402's servers; what may be paid, policy has decided."""
    call = _CALL.get()
    if call is not None:
        call.asset = checksum(command.offer.asset)
    return True


def current() -> Call:
    """Return the request that is being made."""
    call = _CALL.get()
    assert call is not None, "only below a y402 client's own transport"
    return call
