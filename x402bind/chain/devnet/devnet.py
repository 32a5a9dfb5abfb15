"""A chain of one's own, with its node: start it, point any Ethereum client at ``url``, stop it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Self

from x402core.values import Address

from .chain import Chain
from .presets import install
from .server import Server

__all__ = ["Devnet"]


class Devnet:
    """An embedded chain behind JSON-RPC on 127.0.0.1.

    ``accounts`` are funded with 10,000 ether each (default: the ten public development accounts); ``port`` 0 picks a free
    one; ``block_time`` mines every so many seconds instead of at once.
    Raises: DevnetUnavailable when pyrevm is missing; OSError when the port is taken.
    """

    def __init__(
        self,
        chain_id: int = 84532,
        accounts: Sequence[Address] | None = None,
        *,
        port: int = 0,
        block_time: float | None = None,
    ) -> None:
        self.chain = Chain(chain_id, accounts)
        self.chain.automine = block_time is None
        install(self.chain)
        self._server = Server(self.chain, port)
        self._block_time = block_time
        self._stopped = Event()
        self._miner = Thread(target=self._mine, name="devnet-miner", daemon=True)

    @property
    def url(self) -> str:
        """Where the node answers."""
        return self._server.url

    def start(self) -> Self:
        """Begin to answer; return self."""
        self._server.start()
        if self._block_time is not None:
            self._miner.start()
        return self

    def stop(self) -> None:
        """Stop mining and answering; may be called twice."""
        self._stopped.set()
        if self._miner.is_alive():
            self._miner.join()
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _mine(self) -> None:
        while not self._stopped.wait(self._block_time):
            self.chain.mine()
