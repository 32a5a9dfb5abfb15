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
from typing import BinaryIO, TextIO

import httpx

from x402bind.clients.httpx import outcome_of, pay_with
from x402bind.clients.purse import Purse
from x402bind.errors import PaymentError
from x402core.commands import Outcome, OutcomeKind
from x402core.errors import LocalProtocolError

from .words import cost, instant, receipt_document, shown, spent

__all__ = ["Asked", "Exit", "buy"]


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
        self.outcome: Outcome | None = None
        self.response: httpx.Response | None = None
        self.body = b""  # kept for --json only
        self.trouble = ""
        self.interrupted = False

    def note(self, outcome: Outcome) -> None:
        """Keep how an exchange ended; of a chain of redirects the first that is not free counts."""
        if self.outcome is None or self.outcome.kind is OutcomeKind.FREE:
            self.outcome = outcome

    @property
    def paid(self) -> bool:
        """True when money has moved."""
        return self.outcome is not None and self.outcome.kind is OutcomeKind.PAID

    def exit(self) -> Exit:
        """Return the exit code: the money first, then the answer."""
        kind = None if self.outcome is None else self.outcome.kind
        whole = self.response is not None and self.response.is_success and not self.trouble
        if kind is OutcomeKind.UNKNOWN:
            return Exit.UNKNOWN
        if kind is OutcomeKind.PAID:
            return Exit.BOUGHT if whole else Exit.PAID_BUT_ERROR
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
    try:
        with _sink(asked.output) as sink:  # before anything is paid: what cannot be kept is not bought
            _exchange(purchase, replace(purse, on_outcome=purchase.note), sink)
    except _Unwritable as error:
        purchase.trouble = str(error)
    if asked.as_json:
        with _readers_gone(purchase):
            _write_document(purchase)
    heard = _said([*([purchase.trouble] if purchase.trouble else []), *_account(purchase)])
    code = purchase.exit()
    return Exit.PAID_BUT_ERROR if code is Exit.BOUGHT and purchase.paid and not heard else code


def _exchange(purchase: _Purchase, purse: Purse, sink: BinaryIO) -> None:
    """Do the exchange; whatever breaks is kept as words, and so is what is known of the money by then."""
    asked = purchase.asked
    try:
        with (
            _readers_gone(purchase),
            pay_with(httpx.Client(timeout=asked.timeout, follow_redirects=asked.follow), purse) as client,
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
            sink.flush()
    except PaymentError as error:
        purchase.outcome, purchase.trouble = error.outcome, _broke(error.__cause__)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        purchase.trouble = _broke(error)
    except LocalProtocolError as error:
        purchase.trouble = str(error)
    except OSError as error:
        purchase.trouble = f"the answer cannot be written: {error.strerror}"
    except KeyboardInterrupt:
        purchase.trouble, purchase.interrupted = "interrupted", True


@contextmanager
def _readers_gone(purchase: _Purchase) -> Iterator[None]:
    """Note that the output was closed, or cannot be written: whatever was paid is paid."""
    try:
        yield
    except BrokenPipeError:
        purchase.trouble = "nobody reads the output any more"
        _give_up(sys.stdout)
    except OSError as error:
        purchase.trouble = f"the output cannot be written: {error.strerror}"
        _give_up(sys.stdout)


def _give_up(stream: TextIO | None) -> None:
    """Write to it no more: Python itself would complain once more at its end, with an exit code of its own."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
def _sink(path: str | None) -> Iterator[BinaryIO]:
    """Open what the body is written to; a file that is there is emptied only by what is written to it."""
    if path is None:
        if sys.stdout is None:
            raise _Unwritable("there is no standard output, so nothing was asked for")
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
    """A file that keeps what is in it until something else is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._begun = file, False

    def write(self, part: bytes) -> None:
        self._begun = self._begun or bool(part)
        self._file.write(part)

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
    try:
        sys.stderr.write("".join([f"x402: {line}\n" for line in lines]))
        sys.stderr.flush()
    except (OSError, AttributeError):  # without a standard error there is no stream at all
        _give_up(sys.stderr)
        return False
    return True


def _account(purchase: _Purchase) -> Iterator[str]:
    """Say what became of the money."""
    outcome, response = purchase.outcome, purchase.response
    status = "no answer" if response is None else f"HTTP {response.status_code}"
    if outcome is None:
        yield f"nothing was paid; {status}"
        return
    yield f"{_verdict(outcome)}; {status}"
    if outcome.refusal is not None:
        yield shown(f"why: {outcome.refusal.reason}" + (f" ({outcome.refusal.detail})" if outcome.refusal.detail else ""))
        if "rpc={" in outcome.refusal.detail:
            yield "name a node: --rpc NETWORK=URL"
    if outcome.exposed_until is not None and outcome.kind is not OutcomeKind.PAID:
        yield f"a signed payment is out: it can be executed until {instant(outcome.exposed_until)}"
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


def _write_document(purchase: _Purchase) -> None:
    """Print everything as one JSON document; the body as text where it is text."""
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
        "receipt": None if receipt is None else receipt_document(receipt),
        "cost": None if outcome is None else cost(outcome),
        "exit": int(purchase.exit()),
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()
