"""Having facilitators verify and settle, over HTTP (x402.md 1.5): coarse commands as HTTP calls, once for both worlds.

Each facilitator is asked in the x402 version that its ``/supported`` lists for the payment: v2 where it lists it, else v1.  It
is asked for the list at start-up, else before the first payment, and again after trouble; one that gives none is asked in v2.

Only a definite answer about the payment asked for is an answer: 200, well-formed, its success a JSON boolean, and network,
payer and amount those of the permit.  All else is trouble of ours or theirs, never the payer's (it is 503 to the payer, not
402), and nothing of a facilitator's text goes any further.

A facilitator that does not serve such payments (another network, scheme, asset or payee) is passed over, unasked where its
list says so: its refusal counts when no other one is left to ask.  Reading (``/verify``) goes on to the next facilitator when
one fails.  ``/settle`` does so only when not a byte had left: a request that may have arrived is asked of the same one again,
which knows what it did.  Asking twice never pays twice.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

from x402bind.leaves import HttpCall, HttpFailed, HttpReply, shown
from x402core.commands import AskFacilitator, Command, ReadChain, VerifyPayment
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Headers, Method, Offer, Settlement, Unsettled
from x402core.machines.machine import Finer, ask
from x402core.registry import KNOWN, Registry
from x402core.schemes.judge import Verified, early, vouched
from x402core.schemes.remote import NOT_HERE, settlement_of, verdict_of
from x402core.values import Millis, Network
from x402core.wire import facilitator as wire
from x402core.wire import v2

__all__ = [
    "FacilitatorUnavailable",
    "Facilitators",
    "MakeHeaders",
    "RemoteFacilitator",
    "amake_headers",
    "facilitator_table",
    "make_headers",
    "supported",
    "supported_by",
]

_log: Final = logging.getLogger("x402bind.facilitator")
_JSON: Final[Headers] = (("Content-Type", "application/json"), ("Accept", "application/json"))
_MOST: Final = 256 * 1024
_COOL_OFF: Final = 30.0
_MOST_KEPT: Final = 4096
_NO_SUCH: Final = (404, 405, 501)

Auth: TypeAlias = Headers | Callable[[str], Headers] | Callable[[str], Awaitable[Headers]]
"""What a facilitator wants to know who asks: headers, or what makes them for a path (``/verify``), async if need be."""


class FacilitatorUnavailable(Exception):
    """No facilitator gave a definite answer.  The text is ours.  On failure of a settle: it may have been done."""


@dataclass(frozen=True, slots=True)
class MakeHeaders(Command[Headers]):
    """Make the headers that tell a facilitator who asks.  On failure: nothing was sent."""

    make: Callable[[str], Headers | Awaitable[Headers]]
    path: str


def make_headers(command: MakeHeaders) -> Headers:
    """Perform :class:`MakeHeaders` without an event loop.

    Raises: LocalProtocolError for headers that only an async driver can wait for, and for what is no headers.
    """
    made = command.make(command.path)
    if inspect.isawaitable(made):
        if inspect.iscoroutine(made):
            made.close()
        raise LocalProtocolError("its headers are made by an async function: use an async client", field="auth")
    return _checked(made)


async def amake_headers(command: MakeHeaders) -> Headers:
    """Perform :class:`MakeHeaders` under any event loop.  Raises: LocalProtocolError for what is no headers."""
    made = command.make(command.path)
    return _checked(await made if inspect.isawaitable(made) else made)


def _checked(headers: object) -> Headers:
    """Return headers as the pairs they should be.  Raises: LocalProtocolError, which does not say what was there."""
    given = tuple(headers.items()) if isinstance(headers, Mapping) else headers
    pairs = tuple(given) if isinstance(given, list | tuple) else (None,)
    if not all(isinstance(pair, tuple) and len(pair) == 2 and all(_is_field(text) for text in pair) for pair in pairs):
        raise LocalProtocolError('expected pairs of name and value: (("Authorization", "Bearer ..."),)', field="auth")
    return cast("Headers", pairs)


def _is_field(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable()


@dataclass(frozen=True, slots=True, repr=False)
class RemoteFacilitator:
    """A facilitator: where, how it is to know who asks, seconds to wait for an answer.

    Raises: LocalProtocolError naming the field.
    """

    url: str
    auth: Auth = ()
    timeout: float = 30.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except (ValueError, AttributeError):  # no URL, no text
            sound = False
        if not sound or parts.query or parts.fragment:
            raise LocalProtocolError("expected the http:// or https:// base URL of a facilitator", field="url")
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise LocalProtocolError("payments go to a facilitator over https, or on this machine", field="url")
        if not self.timeout > 0:
            raise LocalProtocolError("seconds must be above zero", field="timeout")
        if not callable(self.auth):
            object.__setattr__(self, "auth", _checked(self.auth))
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def __repr__(self) -> str:
        """Show neither path nor headers."""
        return f"RemoteFacilitator({shown(self.url)})"


class Facilitators:
    """Several facilitators, in order of preference, how each has been doing lately, and what it lists.  Thread-safe.

    ``registry`` has the names that networks go by in x402 v1.
    """

    def __init__(
        self,
        given: str | RemoteFacilitator | Iterable[str | RemoteFacilitator],
        clock: Callable[[], float] = time.monotonic,
        registry: Registry = KNOWN,
    ) -> None:
        each = (given,) if isinstance(given, str | RemoteFacilitator) else tuple(given) if isinstance(given, Iterable) else ()
        self.all = tuple(RemoteFacilitator(one) if isinstance(one, str) else one for one in each)
        if not self.all or not all(isinstance(one, RemoteFacilitator) for one in self.all):
            raise LocalProtocolError("name at least one, by its URL or as a RemoteFacilitator", field="facilitator")
        self.registry = registry
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: dict[RemoteFacilitator, float] = {}
        self._lists: dict[RemoteFacilitator, tuple[float, wire.Supported | None]] = {}
        self._asked: OrderedDict[str, RemoteFacilitator] = OrderedDict()

    def order(self, key: str) -> tuple[RemoteFacilitator, ...]:
        """Return them as they are to be asked about a payment: whoever was asked first, then as preferred, the failed last."""
        with self._lock:
            since, first = self._clock() - _COOL_OFF, self._asked.get(key)
            late = {one: at for one, at in self._failed.items() if at > since}
        return tuple(sorted(self.all, key=lambda one: (one is not first, late.get(one, float("-inf")))))

    def asked(self, key: str, one: RemoteFacilitator) -> None:
        """Note that a settle may have reached a facilitator: the first of them is the one to ask again."""
        with self._lock:
            self._asked.setdefault(key, one)
            while len(self._asked) > _MOST_KEPT:
                self._asked.popitem(last=False)

    def failed(self, one: RemoteFacilitator) -> None:
        """Note that a facilitator gave no usable answer."""
        with self._lock:
            self._failed[one] = self._clock()

    def listed(self, one: RemoteFacilitator, said: wire.Supported | None) -> None:
        """Note what a facilitator lists; None for one that gives no list, or none any more: then the last one counts."""
        with self._lock:
            _, before = self._lists.get(one, (0.0, None))
            self._lists[one] = self._clock(), said or before

    def unlisted(self, one: RemoteFacilitator) -> bool:
        """Say whether a facilitator is to be asked what it lists: it has not answered that yet, or was in trouble since."""
        with self._lock:
            if one not in self._lists:
                return True
            at, _ = self._lists[one]
            return self._clock() - at > _COOL_OFF and self._failed.get(one, float("-inf")) >= at

    def version(self, one: RemoteFacilitator, scheme: str, method: Method, network: Network) -> int | None:
        """Return the x402 version to ask a facilitator in about such payments; None where its list has none of them.

        One that gives no list is asked in v2.
        """
        _, said = self._lists.get(one, (0.0, None))
        return v2.VERSION if said is None else said.version(scheme, method, network, self.registry)

    def settles(self, scheme: str, method: Method, network: Network) -> bool:
        """Say whether any of them may settle such payments, as far as they have said."""
        return any(self.version(one, scheme, method, network) is not None for one in self.all)


def _call(one: RemoteFacilitator, method: str, path: str, body: bytes = b"") -> Generator[Command[Any], Any, HttpReply]:
    headers: Headers = ()
    if callable(one.auth):
        try:
            headers = yield from ask(MakeHeaders(one.auth, path))
        except LocalProtocolError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller's own code: whatever it raises, nothing was sent
            _log.error("no headers could be made for %s: %s", shown(one.url), type(error).__name__)
            raise HttpFailed("no headers could be made", sent=False) from None
    else:
        headers = one.auth
    call = HttpCall(method, one.url + path, (*_JSON, *headers), body, one.timeout, _MOST)
    return (yield from ask(call))


def _body(reply: HttpReply, one: RemoteFacilitator) -> bytes:
    if reply.status != 200:  # what it says besides is not for us, and surely not for a payer
        raise FacilitatorUnavailable(f"{shown(one.url)} answered HTTP {reply.status}")
    return reply.body


def verify(
    command: VerifyPayment, group: Facilitators, clock: Callable[[], Millis], chains: frozenset[Network]
) -> Generator[Command[Any], Any, Verified | Refusal]:
    """Have a payment judged by the first facilitator that gives a definite answer.

    Raises: FacilitatorUnavailable when none does.
    """
    checked = command.checked
    refusal = early(checked, clock())
    if refusal is not None:
        return refusal
    block = 0
    if checked.permit.network in chains:
        block = (yield from ask(ReadChain(checked.permit.network, ()))).number
    passed: list[Refusal] = []
    for one in group.order(checked.permit.key):
        try:
            version = yield from _version(one, group, checked.offer)
            if version is None:
                passed.append(Refusal(Reason.UNSUPPORTED_SCHEME, "not listed by the facilitator"))
                continue
            body = wire.encode_request(checked.permit, checked.offer, command.note, version=version, registry=group.registry)
            reply = yield from _call(one, "POST", wire.VERIFY, body)
            said = wire.decode_verify(_body(reply, one))
            verdict = vouched(checked, verdict_of(said.valid, said.reason, said.payer, checked, block))
        except (HttpFailed, FacilitatorUnavailable, RemoteProtocolError) as error:
            _log.warning("%s could not verify: %s", shown(one.url), type(error).__name__)
            group.failed(one)
            continue
        if not (isinstance(verdict, Refusal) and verdict.reason in NOT_HERE):
            return verdict
        passed.append(verdict)
    if len(passed) == len(group.all):
        return passed[0]
    raise FacilitatorUnavailable("no facilitator verified the payment")


def settle(command: AskFacilitator, group: Facilitators) -> Generator[Command[Any], Any, Settlement]:
    """Have a payment settled; go on to the next facilitator only when the one before cannot have done it.

    Raises: FacilitatorUnavailable, HttpFailed, RemoteProtocolError without a definite answer.
    """
    record = command.record
    permit = record.permit
    passed: list[Unsettled] = []
    for one in group.order(record.key):
        try:
            version = yield from _version(one, group, record.offer)
            if version is None:
                passed.append(Unsettled(Reason.UNSUPPORTED_SCHEME, permit.network, permit.payer))
                continue
            body = wire.encode_request(permit, record.offer, record.note, version=version, registry=group.registry)
            reply = yield from _call(one, "POST", wire.SETTLE, body)
        except HttpFailed as error:
            group.failed(one)
            if error.sent:
                group.asked(record.key, one)
                raise
            continue
        try:
            said = wire.decode_settle(_body(reply, one), version=version, registry=group.registry)
            told = settlement_of(said, record)
        except (FacilitatorUnavailable, RemoteProtocolError) as error:
            _log.warning("%s did not say what it settled: %s", shown(one.url), type(error).__name__)
            group.failed(one)
            group.asked(record.key, one)
            raise
        if not (isinstance(told, Unsettled) and told.reason in NOT_HERE):
            group.asked(record.key, one)
            return told
        passed.append(told)
    if len(passed) == len(group.all):
        return passed[0]
    raise FacilitatorUnavailable("no facilitator could be reached")


def _version(one: RemoteFacilitator, group: Facilitators, offer: Offer) -> Generator[Command[Any], Any, int | None]:
    """Return the version to ask a facilitator in about a payment, as ``group.version``; ask for its list where that is due."""
    if group.unlisted(one):
        yield from _listed(one, group)
    return group.version(one, offer.scheme, offer.method, offer.network)


def _listed(one: RemoteFacilitator, group: Facilitators) -> Generator[Command[Any], Any, wire.Supported | None]:
    """Ask for a facilitator's list and keep it, or that it has none; None where it has none, or does not answer now."""
    try:
        said = yield from supported(one)
    except (HttpFailed, FacilitatorUnavailable) as error:
        _log.warning("%s does not say what it settles: %s", shown(one.url), type(error).__name__)
        return None
    group.listed(one, said)
    return said


def supported(one: RemoteFacilitator) -> Generator[Command[Any], Any, wire.Supported | None]:
    """Ask what a facilitator settles; None for one that has no such list.  Raises: FacilitatorUnavailable, HttpFailed."""
    reply = yield from _call(one, "GET", wire.SUPPORTED)
    if reply.status in _NO_SUCH:
        return None
    try:
        return wire.decode_supported(_body(reply, one))
    except RemoteProtocolError as error:
        _log.warning("%s does not list what it settles: %s", shown(one.url), error)
        return None


def supported_by(group: Facilitators) -> Generator[Command[Any], Any, wire.Supported]:
    """Ask all of them what they settle, and keep it; the first one's word counts where two say different things.

    Raises: FacilitatorUnavailable when none answers.
    """
    kinds: list[wire.Kind] = []
    known: list[str] = []
    answered = False
    for one in group.all:
        said = yield from _listed(one, group)
        if said is None:
            continue
        answered = True
        kinds += said.kinds
        known += said.extensions
    if not answered:
        raise FacilitatorUnavailable("no facilitator says what it settles")
    return wire.Supported(tuple(kinds), tuple(dict.fromkeys(known)))


def facilitator_table(
    group: Facilitators, clock: Callable[[], Millis], chains: frozenset[Network] = frozenset()
) -> Mapping[type[Command[Any]], Finer]:
    """Return the translation table of remote facilitators; of ``chains`` the head is read, for a later proof to begin at."""
    return {
        VerifyPayment: lambda command: verify(command, group, clock, chains),
        AskFacilitator: lambda command: settle(command, group),
    }
