"""A relay before a facilitator that can be told to be down, to lose answers, or to say something else; and a shop behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.facilitator.script import Script
from tests.shop import Ground, Shop
from x402core.machines.remote import RemotePolicy
from x402core.values import Millis, Seconds


class Relay(Script):
    """``down`` paths are not even handed on, ``lose`` paths are answered by silence, ``lie`` paths by what stands there."""

    def __init__(self, target: str) -> None:
        super().__init__(self._relayed)
        self.target = target
        self.down: set[str] = set()
        self.lose: set[str] = set()
        self.lie: dict[str, Any] = {}
        self.held: set[str] = set()

    def _relayed(self, path: str, body: dict[str, Any]) -> Any:
        if path in self.held:
            self.hold.wait(20)
            return None
        if path in self.down:
            return None
        if path in self.lie and path not in self.lose:
            lie = self.lie[path]
            return lie(body) if callable(lie) else lie
        method = "POST" if body else "GET"
        response = httpx.request(method, self.target + path, json=body or None, timeout=30)
        return None if path in self.lose else (response.status_code, {}, response.content)


@contextmanager
def selling(
    ground: Ground, folder: Path, *urls: Any, patience: float = 10.0, grace: int = 30, **options: Any
) -> Iterator[Shop]:
    """Run a shop that settles through facilitators; with ``rpc`` it asks the chain too."""
    given = {"rpc": "", "key": None, "networks": ("base-sepolia",), "facilitator": urls, "patience": patience, **options}
    shop = Shop(ground, folder, **given)
    policy = shop.seller.settler.policy
    shop.seller.settler.policy = RemotePolicy(
        chain=policy.chain, prove=policy.prove, ask_first=Millis(20), ask_most=Millis(200), grace=Seconds(grace)
    )
    shop.seller.settler.poll = 0.05
    with shop:
        yield shop
