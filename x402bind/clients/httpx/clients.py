"""httpx's clients, made to pay: one of the caller's own, a new one, or one of a class that pays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import httpx

from x402bind.chain.nodes import NodesLike
from x402bind.chain.signers import AsyncSigner, Signer
from x402bind.clients.alike import OUTCOME, purse_of
from x402bind.clients.purse import Purse
from x402bind.errors import raise_for_outcome
from x402core.commands import Outcome
from x402core.errors import LocalProtocolError
from x402core.money import Price

from .transports import AsyncPaymentTransport, PaymentTransport

__all__ = [
    "AsyncHttp402Client",
    "Http402Client",
    "async_paying_client",
    "outcome_of",
    "pay_with",
    "paying_client",
    "raise_for_payment",
]

C = TypeVar("C", bound=httpx.Client | httpx.AsyncClient)


def pay_with(client: C, purse: Purse) -> C:
    """Make a client pay from ``purse``, in place, whichever of its transports a request takes (proxies, mounts).

    Raises: LocalProtocolError for a client that pays already, or a purse that only an async client can use.
    """
    inside: Any = client  # httpx has no public way to wrap what verify=, proxy= and the environment have made
    wrap: Callable[..., Any] = PaymentTransport if isinstance(client, httpx.Client) else AsyncPaymentTransport
    if isinstance(inside._transport, PaymentTransport | AsyncPaymentTransport):
        raise LocalProtocolError("this client pays already", field="client")
    first = wrap(inside._transport, purse)
    mounts = {
        pattern: None if inner is None else wrap(inner, purse, chain=first.chain) for pattern, inner in inside._mounts.items()
    }
    inside._transport, inside._mounts = first, mounts
    return client


def paying_client(
    key: str | bytes | Signer,
    most: Price,
    *networks: str,
    rpc: Mapping[str, NodesLike] | None = None,
    **options: Any,
) -> httpx.Client:
    """Return an ``httpx.Client(**options)`` that pays at most ``most`` per payment on these networks.

    ``key`` is a private key or a signer; ``rpc`` names a node for each network where EIP-2612 permits are signed.  For
    anything more, :func:`pay_with` and a :class:`~x402bind.clients.purse.Purse`.  Raises: LocalProtocolError.
    """
    purse = Purse.up_to(key, most, *networks, rpc=rpc)
    purse.check_sync()
    return pay_with(httpx.Client(**options), purse)


def async_paying_client(
    key: str | bytes | Signer | AsyncSigner,
    most: Price,
    *networks: str,
    rpc: Mapping[str, NodesLike] | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """Return an ``httpx.AsyncClient(**options)`` that pays, as :func:`paying_client`."""
    purse = Purse.up_to(key, most, *networks, rpc=rpc)
    return pay_with(httpx.AsyncClient(**options), purse)


class Http402Client(httpx.Client):
    """An ``httpx.Client`` that pays: every argument of httpx's own, and a purse, or what a simple one is made of.

    ``key`` is a private key or a signer, ``max_price`` the most per payment, ``network`` one name or several; ``rpc`` as for
    :func:`paying_client`.  Raises: LocalProtocolError naming the argument.
    """

    def __init__(
        self,
        *,
        purse: Purse | None = None,
        key: str | bytes | Signer | None = None,
        max_price: Price | None = None,
        network: str | Iterable[str] | None = None,
        rpc: Mapping[str, NodesLike] | None = None,
        **options: Any,
    ) -> None:
        funds = purse_of(purse, key, max_price, network, rpc)
        funds.check_sync()
        super().__init__(**options)
        pay_with(self, funds)


class AsyncHttp402Client(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` that pays, as :class:`Http402Client`."""

    def __init__(
        self,
        *,
        purse: Purse | None = None,
        key: str | bytes | Signer | AsyncSigner | None = None,
        max_price: Price | None = None,
        network: str | Iterable[str] | None = None,
        rpc: Mapping[str, NodesLike] | None = None,
        **options: Any,
    ) -> None:
        funds = purse_of(purse, key, max_price, network, rpc)
        super().__init__(**options)
        pay_with(self, funds)


def outcome_of(response: httpx.Response) -> Outcome | None:
    """Return what became of the money for this response; None when it did not come through a paying client."""
    outcome: Outcome | None = response.extensions.get(OUTCOME)
    return outcome


def raise_for_payment(response: httpx.Response) -> httpx.Response:
    """Return a response that was free or is paid for.  Raises: PaymentDeclined, PaymentOutcomeUnknown."""
    raise_for_outcome(outcome_of(response))
    return response
