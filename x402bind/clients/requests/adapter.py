"""The adapter that pays, around any other."""

from __future__ import annotations

import time
from typing import Any, Final

import requests
from requests.adapters import BaseAdapter

from x402bind.chain.transports import SyncHttp
from x402bind.clients.alike import Leaf, Read, Release, Send
from x402bind.clients.held_requests import read, release
from x402bind.clients.purse import Purse
from x402bind.drive import dispatch, run
from x402bind.leaves import Sleep

from .exchange import RequestsCall, trail_of

__all__ = ["PaymentAdapter"]

_CONNECTION: Final = "connection"


class PaymentAdapter(BaseAdapter):
    """Pay for what ``inner`` is asked to pay for; ``chain`` asks nodes (default: a client of its own, if nodes are named).

    Any number of threads may share one.  Raises: LocalProtocolError for a purse that only an async client can use.
    """

    def __init__(self, inner: BaseAdapter, purse: Purse, *, chain: SyncHttp | None = None) -> None:
        super().__init__()
        purse.check_sync()
        self.inner = inner
        self._purse = purse
        self.chain = SyncHttp() if chain is None and purse.rpc else chain
        self._leaves: Leaf = {
            **({} if self.chain is None else self.chain.table),
            Read: read,
            Release: lambda command: release(command.response),
            Sleep: lambda command: time.sleep(command.seconds),
        }

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request, and pay if it takes that.

        Raises: what the inner adapter raises; PaymentOutcomeUnknown instead, from it, once a permit had left.
        """
        url, trail = trail_of(request)
        if trail is None:
            return self.inner.send(request, *args, **options)
        call = RequestsCall(self._purse, request, trail, url)
        leaves: Leaf = {**self._leaves, Send: lambda command: self.inner.send(command.request, *args, **options)}
        try:
            run(call.steps(), dispatch({**leaves, **call.table}))
            response = call.deliver()
        except BaseException:
            if call.open is not None:
                release(call.open)
            raise
        response.request = request
        setattr(response, _CONNECTION, self)  # an auth hook sends again by it
        return response

    def close(self) -> None:
        """Close the inner adapter and the client that asks nodes."""
        self.inner.close()
        if self.chain is not None:
            self.chain.close()
