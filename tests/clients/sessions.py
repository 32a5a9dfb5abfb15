"""Sessions of requests that pay, to test with."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from tests.clients.fakes import FakeNode, purse
from x402bind.clients.purse import Purse
from x402bind.clients.requests import (
    PaymentAdapter,
    outcome_of,
)
from x402core.commands import Outcome, OutcomeKind

PAID, FREE, DECLINED, UNKNOWN = OutcomeKind.PAID, OutcomeKind.FREE, OutcomeKind.DECLINED, OutcomeKind.UNKNOWN


def paying(payer: Purse | None = None, **adapters: BaseAdapter) -> requests.Session:
    """Return a session that pays, asking a made-up node; an adapter given is the one for http."""
    session, node = requests.Session(), FakeNode()
    session.trust_env = False
    for scheme, inner in ({"http": HTTPAdapter(), "https": HTTPAdapter()} | adapters).items():
        session.mount(f"{scheme}://", PaymentAdapter(inner, payer or purse(), chain=node.sync()))
    return session


def told(response: requests.Response) -> Outcome:
    outcome = outcome_of(response)
    assert outcome is not None
    assert response.x402 is outcome  # type: ignore[attr-defined]
    return outcome


class Recording(HTTPAdapter):
    """The caller's own adapter: remembers every request it was asked to send, and how."""

    def __init__(self, **options: Any) -> None:
        self.sent: list[tuple[requests.PreparedRequest, dict[str, Any]]] = []
        self.closed = 0
        super().__init__(**options)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        self.sent.append((request, options))
        return super().send(request, **options)

    def close(self) -> None:
        self.closed += 1
        super().close()
