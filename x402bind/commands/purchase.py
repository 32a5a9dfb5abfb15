"""One purchase on the command line: ask, print what came, say what it cost, and turn the outcome into an exit code."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import BinaryIO, Final

import httpx

from x402bind.clients.httpx import outcome_of, pay_with
from x402bind.clients.purse import Purse
from x402bind.errors import PaymentError
from x402core.commands import Outcome, OutcomeKind
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Receipt
from x402core.registry import KNOWN
from x402core.wire import http, v1
from x402core.wire.v1 import X_PAYMENT
from x402core.wire.v2 import PAYMENT_RESPONSE, PAYMENT_SIGNATURE, decode_receipt

from .output import OutputGone, give_up, put, say, unwritable
from .words import cost, instant, receipt_document, shown, spent

__all__ = ["Asked", "Exit", "buy"]

_PAYMENTS: Final = (PAYMENT_SIGNATURE.lower(), X_PAYMENT.lower())
_OWN: Final = "the payment header that you gave"


class Exit(IntEnum):
    """The exit codes of ``x402 pay``; its ``--help`` explains them (2 is misuse)."""

    BOUGHT = 0
    NO_ANSWER = 1
    FREE_BUT_ERROR = 3
    DECLINED = 4
    UNKNOWN = 5
    PAID_BUT_ERROR = 6
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, and how the answer is printed."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    follow: bool = False
    timeout: float = 60.0
    as_json: bool = False
    head: bool = False
    output: str | None = None


class _Purchase:
    """What has come back so far; an interruption leaves it as it was."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.noted: Outcome | None = None
        self.response: httpx.Response | None = None
        self.body = b""  # kept for --json only
        self.trouble = ""
        self.interrupted = False
        self.heard = True
        self.own = any(name.lower() in _PAYMENTS for name, _ in asked.headers)  # the caller brought a payment in a header
        self.own_left = False

    def note(self, outcome: Outcome) -> None:
        """Keep how an exchange ended; of a chain of redirects the first that is not free counts."""
        if self.noted is None or self.noted.kind is OutcomeKind.FREE:
            self.noted = outcome

    @property
    def whole(self) -> bool:
        """True when a good answer was written to its end."""
        return self.response is not None and self.response.is_success and not self.trouble

    @property
    def outcome(self) -> Outcome | None:
        """What became of the money: ours, or of a payment that the caller brought, for which ours is never spent."""
        if not self.own_left:
            return self.noted
        if (receipt := _receipt(self.response)) is not None and receipt.success:
            return Outcome(OutcomeKind.PAID, receipt=receipt)
        if self.whole:
            return self.noted
        if self.response is not None and _refuses(self.response):
            return Outcome(OutcomeKind.DECLINED, refusal=Refusal(Reason.PAYMENT_REQUIRED, f"{_OWN} was refused"))
        return Outcome(OutcomeKind.UNKNOWN, refusal=Refusal(Reason.UNAVAILABLE, f"{_OWN} has left"))

    def exit(self) -> Exit:
        """Return the exit code: the money first, then the answer."""
        kind = None if self.outcome is None else self.outcome.kind
        whole = self.whole
        if kind is OutcomeKind.UNKNOWN:
            return Exit.UNKNOWN
        if kind is OutcomeKind.PAID:
            return Exit.BOUGHT if whole and self.heard else Exit.PAID_BUT_ERROR
        if self.interrupted:
            return Exit.INTERRUPTED
        if kind is OutcomeKind.DECLINED or (kind is OutcomeKind.FAILED and self.response is not None):
            return Exit.DECLINED
        if self.response is None or self.trouble:
            return Exit.NO_ANSWER
        return Exit.BOUGHT if whole else Exit.FREE_BUT_ERROR


def buy(asked: Asked, purse: Purse) -> Exit:
    """Buy it, print it, and return the exit code."""
    purchase = _Purchase(asked)
    purse = replace(purse, on_outcome=purchase.note)
    if purchase.own:  # one request is paid for once
        purse = replace(purse, approve=lambda _: False)
    try:
        with _sink(asked) as sink:  # before anything is paid: what cannot be kept is not bought
            _exchange(purchase, purse, sink)
    except _Unwritable as error:
        purchase.trouble = str(error)
    purchase.heard = _said([*([purchase.trouble] if purchase.trouble else []), *_account(purchase)])
    if asked.as_json:
        try:
            put(_document(purchase))
        except OutputGone as error:
            purchase.trouble = str(error)
            _said([purchase.trouble])
    return purchase.exit()


def _exchange(purchase: _Purchase, purse: Purse, sink: BinaryIO) -> None:
    """Do the exchange; whatever breaks is kept as words, and so is what is known of the money by then."""
    asked = purchase.asked
    try:
        client = pay_with(httpx.Client(timeout=asked.timeout, follow_redirects=asked.follow), purse)
        purchase.own_left = purchase.own
        with (
            client,
            client.stream(asked.method, asked.url, headers=_encoded(asked.headers), content=asked.body) as response,
        ):
            purchase.response = response
            last = outcome_of(response)
            if last is not None:
                purchase.note(last)
            if asked.head and not asked.as_json and (asked.output is None or response.is_success):
                sink.write(_head(response))
            for part in response.iter_raw():
                if asked.as_json and asked.output is None:
                    purchase.body += part
                elif asked.output is None or response.is_success:  # what was refused takes nobody's file away
                    sink.write(part)
            if asked.output is not None and response.is_success:
                sink.truncate()  # of an empty answer nothing was written
            sink.flush()
    except PaymentError as error:
        purchase.noted, purchase.trouble = error.outcome, _broke(error.__cause__)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        purchase.trouble = _broke(error)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and not asked.follow:
            purchase.own_left = False
    except LocalProtocolError as error:
        purchase.trouble = str(error)
    except OSError as error:
        purchase.trouble = unwritable(error)
        if asked.output is None:
            give_up(sys.stdout)
    except KeyboardInterrupt:
        purchase.trouble, purchase.interrupted = "interrupted", True


def _refuses(response: httpx.Response) -> bool:
    """Say whether an answer can only mean a refusal: a redirect before it, or a receipt with it, may have been charged for."""
    if response.history:
        return False
    receipt = http.carries_receipt(tuple(response.headers.items()))
    return response.status_code == 402 or (response.status_code in (400, 412) and not receipt)


def _receipt(response: httpx.Response | None) -> Receipt | None:
    """Return the receipt that answers a payment of the caller's, if it can be read."""
    if response is None or response.history:
        return None
    try:
        if (said := response.headers.get(PAYMENT_RESPONSE)) is not None:
            return decode_receipt(said)
        if (said := response.headers.get(v1.X_PAYMENT_RESPONSE)) is not None:
            return v1.decode_receipt(said, KNOWN)
    except RemoteProtocolError:
        pass
    return None


def _broke(error: BaseException | None) -> str:
    return "" if error is None else f"no whole answer: {type(error).__name__}: {shown(str(error))}".rstrip(": ")


def _encoded(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers]


def _head(response: httpx.Response) -> bytes:
    lines = [f"{response.http_version} {response.status_code} {response.reason_phrase}".encode()]
    lines += [name + b": " + value for name, value in response.headers.raw]
    return b"\r\n".join([*lines, b"", b""])


# ------------------------------------------------------------------------------------------------------ where it goes


class _Unwritable(Exception):
    """The output cannot be opened; nothing was asked yet."""


@contextmanager
def _sink(asked: Asked) -> Iterator[BinaryIO]:
    """Open what the body is written to; a file that is there is emptied only by an answer that is good, or begun."""
    path = asked.output
    if sys.stdout is None and (path is None or asked.as_json):
        raise _Unwritable("there is no standard output, so nothing was asked for")
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise _Unwritable(f"cannot write to the output, so nothing was asked for: {why}") from None
    sink = _Late(file)
    try:
        yield sink  # type: ignore[misc]
    finally:
        with suppress(OSError):  # said already, when it was written
            sink.close()


class _Late:
    """A file that keeps what is in it until something else is written to it, or it is to be as short as that is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._begun = file, False

    def write(self, part: bytes) -> None:
        self._begun = self._begun or bool(part)
        self._file.write(part)

    def truncate(self) -> None:
        self._begun = True

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        try:
            if self._begun and self._file.seekable():
                self._file.truncate()
        finally:
            self._file.close()


# ------------------------------------------------------------------------------------------------------- what is said


def _said(lines: list[str]) -> bool:
    """Write lines to standard error; False when nobody can read them there."""
    return say("".join([f"x402: {line}\n" for line in lines]))


def _account(purchase: _Purchase) -> Iterator[str]:
    """Say what became of the money."""
    outcome, response = purchase.outcome, purchase.response
    status = "no answer" if response is None else f"HTTP {response.status_code}"
    if outcome is None:
        yield f"nothing was paid; {status}"
        return
    if purchase.own_left and purchase.whole and outcome.kind is not OutcomeKind.PAID:
        yield f"{_OWN} went along, nothing else was paid; {status}"
    else:
        yield f"{_verdict(outcome)}; {status}"
    if outcome.refusal is not None:
        yield shown(f"why: {outcome.refusal.reason}" + (f" ({outcome.refusal.detail})" if outcome.refusal.detail else ""))
        if "rpc={" in outcome.refusal.detail:
            yield "name a node: --rpc NETWORK=URL"
    if outcome.exposed_until is not None and outcome.kind is not OutcomeKind.PAID:
        yield f"a signed payment is out: it can be executed until {instant(outcome.exposed_until)}"
    if outcome.presented and purchase.exit() in (Exit.UNKNOWN, Exit.PAID_BUT_ERROR):
        for name, value in outcome.presented:
            yield f"to ask again with the same payment, which is not charged twice: -H '{name}: {value}'"
    charge = cost(outcome)
    if charge is not None and charge["transaction"]:
        yield f"transaction {charge['transaction']}" + (f" {charge['link']}" if charge["link"] else "")
    if outcome.receipt is not None:
        known = {name: value for name, value in receipt_document(outcome.receipt).items() if value not in (None, "")}
        yield shown("receipt " + json.dumps(known, ensure_ascii=False), 2000)


def _verdict(outcome: Outcome) -> str:
    offer = outcome.offer
    kinds = {
        OutcomeKind.FREE: "free",
        OutcomeKind.PAID: "paid",
        OutcomeKind.UNKNOWN: "UNKNOWN whether this was paid",
    }
    verdict = kinds.get(outcome.kind, "not paid")
    if offer is None:
        return verdict
    return f"{verdict}: {spent(outcome)}"


def _document(purchase: _Purchase) -> str:
    """Return everything as one JSON document; the body as text where it is text."""
    outcome, response, asked = purchase.outcome, purchase.response, purchase.asked
    body: str | None = None
    encoding: str | None = None
    if response is not None and asked.output is None:
        try:
            body, encoding = purchase.body.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            body, encoding = base64.b64encode(purchase.body).decode(), "base64"
    refusal = None if outcome is None else outcome.refusal
    receipt = None if outcome is None else outcome.receipt
    headers = () if response is None else response.headers.raw
    document = {
        "url": asked.url if response is None else str(response.url),
        "status": None if response is None else response.status_code,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers],
        "body": body,
        "body_encoding": encoding,
        "body_file": asked.output,
        "outcome": None if outcome is None else outcome.kind.value,
        "reason": None if refusal is None else str(refusal.reason),
        "detail": purchase.trouble or (None if refusal is None else refusal.detail),
        "exposed_until": None if outcome is None else outcome.exposed_until,
        "presented": {} if outcome is None else dict(outcome.presented),
        "receipt": None if receipt is None else receipt_document(receipt),
        "cost": None if outcome is None else cost(outcome),
        "exit": int(purchase.exit()),
    }
    return json.dumps(document, indent=2) + "\n"
